/* SPDX-License-Identifier: MIT */
/* voxshm_rows.c - what is measured: voxshm, through its public calls alone. */
#include <sys/uio.h>
#include <unistd.h>

#include "loops.h"
#include "pair.h"
#include "voxshm.h"

enum variant {
	VARIANT_SPINNING,	/* looks for as long as it takes */
	VARIANT_ADAPTIVE,	/* the default: looks, then sleeps */
	VARIANT_SLEEPING,	/* sleeps at once */
	VARIANT_VOX,		/* the vox format, spinning */
};

#define SPIN_LONG_NS 4000000000u
/* What 8 Ki and less travels in the ring, so that sizes up to 4 Ki go inline. */
#define INLINE_THRESHOLD 8192u
#define BURST 64u
#define BURST_REST_NS 500000

struct voxshm_side {
	struct voxshm_host *host;	/* NULL in the guest */
	struct voxshm_link *link;
	int ticket;
	struct iovec batch[BATCH];
	struct voxshm_view views[BATCH];
};

static const char *explain(const char *what, const struct voxshm_error *error)
{
	static char text[sizeof(error->text) + 40];

	snprintf(text, sizeof(text), "%s: %s", what, error->text);
	return text;
}

static const char *voxshm_open(struct side *side)
{
	const struct voxshm_class classes[] = { { 64 * KI, 64 }, { MI, 16 } };
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error = { "" };
	struct voxshm_side *state = calloc(1, sizeof(*state));
	/* vox: the payload's length lies in the slot, before the payload. */
	const struct voxshm_class vox_classes[] = { { 64 * KI + 64, 64 }, { MI + 64, 16 } };

	if (!state)
		return "no memory";
	side->state = state;
	config.ring_capacity = (uint32_t)side->ring;
	config.max_guests = 1;
	config.inline_threshold = INLINE_THRESHOLD;
	config.num_classes = 2;
	config.classes = classes;
	if (side->transport->variant == VARIANT_VOX) {
		config.format = VOXSHM_FORMAT_VOX;
		config.classes = vox_classes;
	}
	if (voxshm_host_new(&state->host, &config, &error))
		return explain("host", &error);
	if (voxshm_host_ticket(state->host, &state->ticket, &state->link, &error))
		return explain("ticket", &error);
	return NULL;
}

static const char *voxshm_join(struct side *side)
{
	struct voxshm_side *state = side->state;
	struct voxshm_error error = { "" };
	unsigned int i;

	if (side->leads) {
		close(state->ticket);
	} else {
		state->host = NULL;
		if (voxshm_guest_claim(&state->link, state->ticket, &error))
			return explain("claim", &error);
	}
	switch (side->transport->variant) {
	case VARIANT_SPINNING:
	case VARIANT_VOX:
		voxshm_link_set_spin(state->link, SPIN_LONG_NS);
		break;
	case VARIANT_SLEEPING:
		voxshm_link_set_spin(state->link, 0);
		break;
	}
	for (i = 0; i < BATCH; i++)
		state->batch[i] = (struct iovec){ batch_buffer(side, i), side->size };
	return NULL;
}

static void voxshm_close(struct side *side)
{
	struct voxshm_side *state = side->state;

	if (state->host)
		voxshm_host_free(state->host);
	else
		voxshm_link_close(state->link);
}

static inline void copy_send(struct side *side, uint64_t value)
{
	struct voxshm_side *state = side->state;
	int ret;

	payload_fill(side->buffer, side->size, value);
	ret = voxshm_send(state->link, side->buffer, side->size, VOXSHM_FOREVER);
	if (__builtin_expect(ret, 0))
		side_fail(side, "voxshm_send", ret);
}

static inline void loan(struct side *side, uint64_t value, bool touch)
{
	struct voxshm_side *state = side->state;
	struct voxshm_loan loan;
	int ret;

	ret = voxshm_loan(state->link, side->size, &loan, VOXSHM_FOREVER);
	if (__builtin_expect(ret, 0))
		side_fail(side, "voxshm_loan", ret);
	if (touch)
		payload_fill(loan.data, side->size, value);
	ret = voxshm_commit(state->link, &loan, side->size, VOXSHM_FOREVER);
	if (__builtin_expect(ret, 0))
		side_fail(side, "voxshm_commit", ret);
}

static inline void loan_send(struct side *side, uint64_t value)
{
	loan(side, value, true);
}

static inline void untouched_send(struct side *side, uint64_t value)
{
	loan(side, value, false);
}

static inline void view_take(struct side *side, uint64_t value, bool touch)
{
	struct voxshm_side *state = side->state;
	struct voxshm_view view;
	int ret;

	ret = voxshm_recv(state->link, &view, VOXSHM_FOREVER);
	if (__builtin_expect(ret, 0))
		side_fail(side, "voxshm_recv", ret);
	if (__builtin_expect(view.size != side->size, 0))
		side_fail(side, "a message came with another size", EBADMSG);
	if (touch)
		payload_check(side, view.data, value);
	voxshm_release(state->link, &view);
}

static inline void view_recv(struct side *side, uint64_t value)
{
	view_take(side, value, true);
}

static inline void untouched_recv(struct side *side, uint64_t value)
{
	view_take(side, value, false);
}

static void send_batches(struct side *side, uint64_t count)
{
	struct voxshm_side *state = side->state;
	unsigned int wanted, filled = 0, sent = 0;
	int ret;

	while (count) {
		if (sent == filled) {
			filled = count < BATCH ? (unsigned int)count : BATCH;
			for (sent = 0; sent < filled; sent++)
				payload_fill(batch_buffer(side, sent), side->size, side->sent++);
			sent = 0;
		}
		wanted = filled - sent;
		ret = voxshm_send_batch(state->link, state->batch + sent, wanted, VOXSHM_FOREVER);
		if (__builtin_expect(ret < 0, 0))
			side_fail(side, "voxshm_send_batch", ret);
		sent += (unsigned int)ret;
		count -= (unsigned int)ret;
	}
}

static void recv_batches(struct side *side, uint64_t count)
{
	struct voxshm_side *state = side->state;
	int ret, i;

	while (count) {
		ret = voxshm_recv_batch(state->link, state->views,
					count < BATCH ? (unsigned int)count : BATCH,
					VOXSHM_FOREVER);
		if (__builtin_expect(ret < 0, 0))
			side_fail(side, "voxshm_recv_batch", ret);
		for (i = 0; i < ret; i++) {
			payload_check(side, state->views[i].data, side->received++);
			voxshm_release(state->link, &state->views[i]);
		}
		count -= (unsigned int)ret;
	}
}

/* Bursts to a reader that sleeps between them; see section_syscalls.c. */
static void bursts_stream(struct side *side, uint64_t count)
{
	const struct timespec rest = { .tv_nsec = BURST_REST_NS };
	struct voxshm_side *state = side->state;
	struct voxshm_counters counters;

	for (; count; count--) {
		copy_send(side, side->sent++);
		if (side->sent % BURST == 0)
			nanosleep(&rest, NULL);
	}
	voxshm_link_counters(state->link, &counters);
	side->control->calls = counters.doorbells_rung + counters.sleeps;
}

DEFINE_TRIPS(copy, copy_send, view_recv)
DEFINE_STREAM(copy, copy_send, view_recv)
DEFINE_TRIPS(loan, loan_send, view_recv)
DEFINE_STREAM(loan, loan_send, view_recv)
DEFINE_TRIPS(untouched, untouched_send, untouched_recv)
DEFINE_STREAM(untouched, untouched_send, untouched_recv)

#define ROW(row, loops, title, way, extra_jobs) \
	const struct transport row = { \
		.name = title, .family = "voxshm", .variant = way, \
		.jobs = JOB_TRIPS | JOB_STREAM | (extra_jobs), \
		.open = voxshm_open, .join = voxshm_join, .close = voxshm_close, \
		USE_TRIPS(loops), USE_STREAM(loops), \
		.stream_batches = send_batches, .sink_batches = recv_batches, \
	}

ROW(voxshm_copy, copy, "voxshm copy, spinning", VARIANT_SPINNING, JOB_BATCHES);
ROW(voxshm_loan_spinning, loan, "voxshm loan, spinning", VARIANT_SPINNING, 0);
ROW(voxshm_untouched, untouched, "voxshm loan, untouched", VARIANT_SPINNING, 0);
ROW(voxshm_adaptive, copy, "voxshm copy, spin then sleep", VARIANT_ADAPTIVE, JOB_BATCHES);
ROW(voxshm_sleeping, copy, "voxshm copy, sleeping", VARIANT_SLEEPING, JOB_BATCHES);
ROW(voxshm_loan_sleeping, loan, "voxshm loan, sleeping", VARIANT_SLEEPING, 0);
ROW(voxshm_vox, copy, "voxshm vox format, spinning", VARIANT_VOX, JOB_BATCHES);

const struct transport voxshm_bursts = {
	.name = "voxshm bursts", .family = "voxshm", .variant = VARIANT_SLEEPING,
	.jobs = JOB_STREAM, .open = voxshm_open, .join = voxshm_join, .close = voxshm_close,
	.stream = bursts_stream, .sink = copy_sink,
};
