/* SPDX-License-Identifier: MIT */
/* zeromq.c - peer: ZeroMQ, a PAIR of sockets over ipc://. */
#include <unistd.h>

#include "loops.h"

#if __has_include(<zmq.h>)
#include <zmq.h>

static const char *address(void)
{
	static char text[80];

	if (!text[0])
		snprintf(text, sizeof(text), "ipc://@voxshm-bench-zeromq-%d", (int)getpid());
	return text;
}

static const char *zeromq_open(struct side *side)
{
	(void)side;
	address();	/* the same in both processes */
	return NULL;
}

/* Its context has threads: made in each process, after the fork. */
static const char *zeromq_join(struct side *side)
{
	void *context = zmq_ctx_new();
	int none = 0;

	side->state = context ? zmq_socket(context, ZMQ_PAIR) : NULL;
	if (!side->state)
		return zmq_strerror(zmq_errno());
	zmq_setsockopt(side->state, ZMQ_LINGER, &none, sizeof(none));
	if ((side->leads ? zmq_bind : zmq_connect)(side->state, address()) < 0)
		return zmq_strerror(zmq_errno());
	return NULL;
}

static inline void zeromq_send(struct side *side, uint64_t value)
{
	payload_fill(side->buffer, side->size, value);
	if (zmq_send(side->state, side->buffer, side->size, 0) < 0)
		side_fail(side, "zmq_send", zmq_errno());
}

static inline void zeromq_recv(struct side *side, uint64_t value)
{
	if (zmq_recv(side->state, side->buffer, side->size, 0) != (int)side->size)
		side_fail(side, "zmq_recv", zmq_errno());
	payload_check(side, side->buffer, value);
}

DEFINE_TRIPS(zeromq, zeromq_send, zeromq_recv)
DEFINE_STREAM(zeromq, zeromq_send, zeromq_recv)

const struct transport peer_zeromq = {
	.name = "ZeroMQ", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = zeromq_open, .join = zeromq_join, USE_TRIPS(zeromq), USE_STREAM(zeromq),
};

#else

static const char *not_there(struct side *side)
{
	(void)side;
	return "not installed (libzmq3-dev)";
}

const struct transport peer_zeromq = {
	.name = "ZeroMQ", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM, .open = not_there,
};

#endif
