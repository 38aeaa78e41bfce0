// SPDX-License-Identifier: MIT
/* traffic.c - the ways to send and to receive; see traffic.h. */
#include <errno.h>
#include <stdarg.h>

#include "link/basics.h"
#include "soak/traffic.h"

static uint8_t buffer[3 * MIB];

void traffic_warm_up(void)
{
	memset(buffer, 1, sizeof(buffer));
}

static uint32_t chance(struct traffic *traffic, uint32_t below)
{
	return (uint32_t)(random_next(&traffic->random) % below);
}

/* The value of a call during which the ledger says what is done. */
#define DOING(traffic, activity, call) ({						\
	atomic_store((traffic)->doing, activity);					\
	__auto_type value_ = (call);							\
	atomic_store((traffic)->doing, IDLE);						\
	value_;										\
})

static __attribute__((format(printf, 2, 3))) void fault(struct traffic *traffic,
							const char *format, ...)
{
	va_list arguments;

	if (*traffic->fault)
		return;
	va_start(arguments, format);
	vsnprintf(traffic->fault, sizeof(traffic->fault), format, arguments);
	va_end(arguments);
}

/* Continuing after a stop may interrupt a wait. */
static int refused(struct traffic *traffic, const char *call, long ret)
{
	if (ret == -EAGAIN || ret == -ETIMEDOUT || ret == -EINTR)
		return 0;
	if (ret != -EPIPE)
		fault(traffic, "%s: %s", call, strerror((int)-ret));
	return (int)ret;
}

/* Sending ------------------------------------------------------------------------------- */

/* In this order, as death may come between any two. */
static void begin(struct traffic *traffic, uint32_t count)
{
	atomic_store(&traffic->counts->begun, traffic->out.next + count);
}

static void finish(struct traffic *traffic, uint32_t count)
{
	uint64_t bytes = 0;

	for (; count; count--)
		bytes += message_size(&traffic->out, traffic->out.next++);
	atomic_store(&traffic->counts->sent, traffic->out.next);
	atomic_store(&traffic->counts->begun, traffic->out.next);
	atomic_fetch_add(&traffic->counts->bytes, bytes);
}

static int send_copy(struct traffic *traffic, int64_t timeout)
{
	size_t size = message_size(&traffic->out, traffic->out.next);
	int ret;

	message_write(&traffic->out, traffic->out.next, buffer);
	begin(traffic, 1);
	ret = DOING(traffic, SENDING, voxshm_send(traffic->link, buffer, size, timeout));
	finish(traffic, ret == 0);
	return ret ? refused(traffic, "send", ret) : 1;
}

static int send_batch(struct traffic *traffic, int64_t timeout)
{
	struct iovec messages[MOST_IN_BATCH];
	uint32_t wanted = 1 + chance(traffic, MOST_IN_BATCH), count;
	size_t used = 0;
	int ret;

	for (count = 0; count < wanted; count++) {
		size_t size = message_size(&traffic->out, traffic->out.next + count);

		if (size > sizeof(buffer) - used)
			break;
		messages[count] = (struct iovec){ buffer + used, size };
		message_write(&traffic->out, traffic->out.next + count, buffer + used);
		used += size;
	}
	begin(traffic, count);
	ret = DOING(traffic, SENDING_BATCH,
		    voxshm_send_batch(traffic->link, messages, count, timeout));
	finish(traffic, ret > 0 ? (uint32_t)ret : 0);
	if (ret == 0 || ret > (int)count)
		fault(traffic, "send_batch of %u: %d", count, ret);
	return ret > 0 ? ret : refused(traffic, "send_batch", ret);
}

static int take_loan(struct traffic *traffic, int64_t timeout)
{
	struct voxshm_loan *loan = &traffic->loans[traffic->num_loans];
	uint64_t which = traffic->out.next + chance(traffic, 8);
	int ret;

	ret = DOING(traffic, LOANING,
		    voxshm_loan(traffic->link, message_size(&traffic->out, which), loan, timeout));
	traffic->num_loans += ret == 0;
	return refused(traffic, "loan", ret ? ret : -EAGAIN);
}

static void abort_loan(struct traffic *traffic, uint32_t which)
{
	atomic_store(traffic->doing, ABORTING);
	voxshm_abort(traffic->link, &traffic->loans[which]);
	atomic_store(traffic->doing, IDLE);
	traffic->loans[which] = traffic->loans[--traffic->num_loans];
}

/* A loan that is too small for the next message goes back. */
static int commit_loan(struct traffic *traffic, int64_t timeout)
{
	uint32_t which = chance(traffic, traffic->num_loans);
	struct voxshm_loan *loan = &traffic->loans[which];
	size_t size = message_size(&traffic->out, traffic->out.next);
	int ret;

	if (size > loan->size || chance(traffic, 16) == 0) {
		abort_loan(traffic, which);
		return 0;
	}
	message_write(&traffic->out, traffic->out.next, loan->data);
	begin(traffic, 1);
	ret = DOING(traffic, COMMITTING, voxshm_commit(traffic->link, loan, size, timeout));
	finish(traffic, ret == 0);
	if (ret)
		return refused(traffic, "commit", ret);
	traffic->loans[which] = traffic->loans[--traffic->num_loans];
	return 1;
}

int traffic_send(struct traffic *traffic, int64_t timeout)
{
	switch (chance(traffic, 8)) {
	case 0:
	case 1:
		return send_batch(traffic, timeout);
	case 2:
		if (traffic->num_loans < MOST_LOANS)
			return take_loan(traffic, timeout);
		/* fall through */
	case 3:
	case 4:
		if (traffic->num_loans)
			return commit_loan(traffic, timeout);
		/* fall through */
	default:
		return send_copy(traffic, timeout);
	}
}

void traffic_abort_all(struct traffic *traffic)
{
	while (traffic->num_loans)
		abort_loan(traffic, 0);
}

/* Receiving ----------------------------------------------------------------------------- */

static void count_received(struct traffic *traffic, const void *data, size_t size)
{
	char text[200];

	if (!*traffic->fault && !message_is_next(&traffic->in, data, size, text, sizeof(text)))
		fault(traffic, "%s", text);
	traffic->in.next++;
	atomic_store(&traffic->counts->received, traffic->in.next);
	atomic_fetch_add(&traffic->counts->bytes, size);
}

static void release(struct traffic *traffic, struct voxshm_view *view)
{
	int ret = DOING(traffic, RELEASING, voxshm_release(traffic->link, view));

	if (ret)
		fault(traffic, "release: %s", strerror(-ret));
}

static void take(struct traffic *traffic, struct voxshm_view *view)
{
	uint64_t number = traffic->in.next;

	count_received(traffic, view->data, view->size);
	if (traffic->num_held < MOST_HELD && chance(traffic, 100) < traffic->keeps)
		traffic->held[traffic->num_held++] = (struct held){ *view, number };
	else
		release(traffic, view);
}

static int receive_batch(struct traffic *traffic, int64_t timeout)
{
	struct voxshm_view views[MOST_IN_BATCH];
	int ret, i;

	ret = DOING(traffic, RECEIVING_BATCH,
		    voxshm_recv_batch(traffic->link, views, MOST_IN_BATCH, timeout));
	if (ret <= 0)
		return refused(traffic, "recv_batch", ret ? ret : -EPROTO);
	for (i = 0; i < ret; i++)
		take(traffic, &views[i]);
	return ret;
}

/* Into too little room first, sometimes: then it stays. */
static int receive_copy(struct traffic *traffic, int64_t timeout)
{
	size_t room = chance(traffic, 4) ? sizeof(buffer) : 16;
	ssize_t ret;

	ret = DOING(traffic, RECEIVING_COPY,
		    voxshm_recv_copy(traffic->link, buffer, room, timeout));
	if (ret == -EMSGSIZE && room < sizeof(buffer))
		ret = DOING(traffic, RECEIVING_COPY,
			    voxshm_recv_copy(traffic->link, buffer, sizeof(buffer), 0));
	if (ret < 0)
		return refused(traffic, "recv_copy", ret);
	count_received(traffic, buffer, (size_t)ret);
	return 1;
}

int traffic_receive(struct traffic *traffic, int64_t timeout)
{
	struct voxshm_view view;
	int ret;

	switch (chance(traffic, 6)) {
	case 0:
		return receive_batch(traffic, timeout);
	case 1:
		return receive_copy(traffic, timeout);
	default:
		ret = DOING(traffic, RECEIVING, voxshm_recv(traffic->link, &view, timeout));
		if (ret)
			return refused(traffic, "recv", ret);
		take(traffic, &view);
		return 1;
	}
}

void traffic_release(struct traffic *traffic)
{
	struct held *held;

	if (!traffic->num_held)
		return;
	held = &traffic->held[chance(traffic, traffic->num_held)];
	if (!*traffic->fault &&
	    !message_is(&traffic->in, held->number, held->view.data, held->view.size))
		fault(traffic, "the bytes of message %" PRIu64 " changed while it was borrowed",
		      held->number);
	release(traffic, &held->view);
	*held = traffic->held[--traffic->num_held];
}

void traffic_release_all(struct traffic *traffic)
{
	while (traffic->num_held)
		traffic_release(traffic);
}
