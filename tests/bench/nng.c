/* SPDX-License-Identifier: MIT */
/* nng.c - peer: nng, a pair of sockets over ipc://. */
#include <unistd.h>

#include "loops.h"

#if __has_include(<nng/nng.h>)
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

static const char *address(void)
{
	static char text[80];

	if (!text[0])
		snprintf(text, sizeof(text), "abstract://voxshm-bench-nng-%d", (int)getpid());
	return text;
}

static const char *nng_row_open(struct side *side)
{
	(void)side;
	address();	/* the same in both processes */
	return NULL;
}

static nng_socket socket_of(const struct side *side)
{
	return *(nng_socket *)side->state;
}

/* It has threads: made in each process, after the fork. */
static const char *nng_row_join(struct side *side)
{
	nng_socket *socket = calloc(1, sizeof(*socket));
	int ret;

	if (!socket)
		return "no memory";
	side->state = socket;
	ret = nng_pair0_open(socket);
	if (ret == 0)
		ret = nng_socket_set_size(*socket, NNG_OPT_RECVMAXSZ, 0);
	if (ret == 0 && side->leads)
		ret = nng_listen(*socket, address(), NULL, 0);
	else if (ret == 0)
		ret = nng_dial(*socket, address(), NULL, NNG_FLAG_NONBLOCK);
	return ret ? nng_strerror(ret) : NULL;
}

static inline void nng_row_send(struct side *side, uint64_t value)
{
	payload_fill(side->buffer, side->size, value);
	if (nng_send(socket_of(side), side->buffer, side->size, 0))
		side_fail(side, "nng_send", EIO);
}

static inline void nng_row_recv(struct side *side, uint64_t value)
{
	size_t size = side->size;

	if (nng_recv(socket_of(side), side->buffer, &size, 0) || size != side->size)
		side_fail(side, "nng_recv", EIO);
	payload_check(side, side->buffer, value);
}

DEFINE_TRIPS(nng_row, nng_row_send, nng_row_recv)
DEFINE_STREAM(nng_row, nng_row_send, nng_row_recv)

const struct transport peer_nng = {
	.name = "nng", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = nng_row_open, .join = nng_row_join, USE_TRIPS(nng_row), USE_STREAM(nng_row),
};

#else

static const char *not_there(struct side *side)
{
	(void)side;
	return "not installed (libnng-dev)";
}

const struct transport peer_nng = {
	.name = "nng", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM, .open = not_there,
};

#endif
