/* SPDX-License-Identifier: MIT */
/*
 * rings.c - bare rings of fixed slots, one producer and one consumer: as little
 * as can be done. They check nothing, never sleep, and know only one size.
 *
 * The index ring publishes a separate index; in the sequence ring each slot
 * carries its number and publishes itself. In both the consumer gives room back
 * when it finds the ring empty, or a quarter of it is free again.
 */
#include <sys/mman.h>

#include "loops.h"

#define MIN_SLOTS 4

enum ring_kind {
	RING_INDEX,
	RING_SEQUENCE,
	RING_SEQUENCE_IN_PLACE,	/* written into the slot, not copied there */
};

struct shared_ring {
	struct {
		_Alignas(LINE) _Atomic uint64_t value;
	} write, read;
	_Alignas(LINE) uint8_t slots[];
};

struct ring_end {
	struct shared_ring *ring;
	uint64_t slots, stride;
	uint64_t mine;		/* slots written or read by this end */
	uint64_t theirs;	/* as last seen of the other end */
	uint64_t published;	/* consumer: what `read` says */
	uint8_t *at, *last;	/* slot number mine; the last slot of the ring */
};

struct rings {
	struct ring_end out, in;
};

static size_t ring_stride(const struct side *side)
{
	size_t head = side->transport->variant == RING_INDEX ? 0 : sizeof(uint64_t);

	return (head + side->size + LINE - 1) & ~(size_t)(LINE - 1);
}

static size_t ring_slots(const struct side *side)
{
	size_t slots = side->ring / ring_stride(side);

	return slots < MIN_SLOTS ? MIN_SLOTS : slots;
}

static size_t ring_bytes(const struct side *side)
{
	return sizeof(struct shared_ring) + ring_slots(side) * ring_stride(side);
}

static const char *rings_open(struct side *side)
{
	side->state = mmap(NULL, 2 * ring_bytes(side), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return side->state == MAP_FAILED ? "cannot map memory" : NULL;
}

static void end_init(struct ring_end *end, const struct side *side, void *ring)
{
	end->ring = ring;
	end->slots = ring_slots(side);
	end->stride = ring_stride(side);
	end->at = end->ring->slots;
	end->last = end->at + (end->slots - 1) * end->stride;
}

static const char *rings_join(struct side *side)
{
	struct rings *rings = aligned_alloc(LINE, (sizeof(*rings) + LINE - 1) / LINE * LINE);
	uint8_t *first = side->state, *second = first + ring_bytes(side);

	if (!rings)
		return "no memory";
	memset(rings, 0, sizeof(*rings));
	end_init(&rings->out, side, side->leads ? first : second);
	end_init(&rings->in, side, side->leads ? second : first);
	side->state = rings;
	return NULL;
}

static inline void end_next(struct ring_end *end)
{
	end->mine++;
	end->at = end->at == end->last ? end->ring->slots : end->at + end->stride;
}

/* Waits until the slot at the end is free. */
static inline void await_room(struct ring_end *out)
{
	while (__builtin_expect(out->mine - out->theirs == out->slots, 0)) {
		out->theirs = atomic_load_explicit(&out->ring->read.value, memory_order_acquire);
		if (out->mine - out->theirs == out->slots)
			spin_pause();
	}
}

static inline void publish_read(struct ring_end *in)
{
	if (in->published == in->mine)
		return;
	in->published = in->mine;
	atomic_store_explicit(&in->ring->read.value, in->mine, memory_order_release);
}

static inline void give_back(struct ring_end *in)
{
	end_next(in);
	if (in->mine - in->published > in->slots / 4)
		publish_read(in);
}

/* Index ------------------------------------------------------------------------- */

static inline void index_publish(struct ring_end *out)
{
	atomic_store_explicit(&out->ring->write.value, out->mine, memory_order_release);
}

static inline void index_put(struct side *side, struct ring_end *out, uint64_t value)
{
	await_room(out);
	payload_fill(side->buffer, side->size, value);
	memcpy(out->at, side->buffer, side->size);
	end_next(out);
}

static inline void index_send(struct side *side, uint64_t value)
{
	struct rings *rings = side->state;

	index_put(side, &rings->out, value);
	index_publish(&rings->out);
}

static inline void index_recv(struct side *side, uint64_t value)
{
	struct ring_end *in = &((struct rings *)side->state)->in;

	while (in->mine == in->theirs) {
		in->theirs = atomic_load_explicit(&in->ring->write.value, memory_order_acquire);
		if (in->mine != in->theirs)
			break;
		publish_read(in);
		spin_pause();
	}
	payload_check(side, in->at, value);
	give_back(in);
}

/* A batch may not need more room than there is: it is published in parts then. */
static void index_stream_batches(struct side *side, uint64_t count)
{
	struct ring_end *out = &((struct rings *)side->state)->out;

	for (; count; count--) {
		if (out->mine - out->theirs == out->slots)
			index_publish(out);
		index_put(side, out, side->sent++);
		if (side->sent % BATCH == 0 || count == 1)
			index_publish(out);
	}
}

/* Sequence ------------------------------------------------------------------------ */

static inline void sequence_send(struct side *side, uint64_t value)
{
	struct ring_end *out = &((struct rings *)side->state)->out;
	uint8_t *slot = out->at;

	await_room(out);
	payload_fill(side->buffer, side->size, value);
	memcpy(slot + sizeof(uint64_t), side->buffer, side->size);
	end_next(out);
	atomic_store_explicit((_Atomic uint64_t *)(void *)slot, out->mine, memory_order_release);
}

static inline void in_place_send(struct side *side, uint64_t value)
{
	struct ring_end *out = &((struct rings *)side->state)->out;
	uint8_t *slot = out->at;

	await_room(out);
	payload_fill(slot + sizeof(uint64_t), side->size, value);
	end_next(out);
	atomic_store_explicit((_Atomic uint64_t *)(void *)slot, out->mine, memory_order_release);
}

static inline void sequence_recv(struct side *side, uint64_t value)
{
	struct ring_end *in = &((struct rings *)side->state)->in;
	_Atomic uint64_t *slot = (_Atomic uint64_t *)(void *)in->at;

	while (atomic_load_explicit(slot, memory_order_acquire) != in->mine + 1) {
		publish_read(in);
		spin_pause();
	}
	payload_check(side, in->at + sizeof(uint64_t), value);
	give_back(in);
}

DEFINE_TRIPS(index, index_send, index_recv)
DEFINE_STREAM(index, index_send, index_recv)
DEFINE_TRIPS(sequence, sequence_send, sequence_recv)
DEFINE_STREAM(sequence, sequence_send, sequence_recv)
DEFINE_TRIPS(in_place, in_place_send, sequence_recv)
DEFINE_STREAM(in_place, in_place_send, sequence_recv)

const struct transport limit_index_ring = {
	.name = "bare ring, index", .family = "limit",
	.jobs = JOB_TRIPS | JOB_STREAM | JOB_BATCHES, .variant = RING_INDEX,
	.open = rings_open, .join = rings_join, USE_TRIPS(index), USE_STREAM(index),
	.stream_batches = index_stream_batches, .sink_batches = index_sink,
};

const struct transport limit_sequence_ring = {
	.name = "bare ring, sequence", .family = "limit",
	.jobs = JOB_TRIPS | JOB_STREAM, .variant = RING_SEQUENCE,
	.open = rings_open, .join = rings_join, USE_TRIPS(sequence), USE_STREAM(sequence),
};

const struct transport limit_sequence_ring_in_place = {
	.name = "bare ring, sequence, in place", .family = "limit",
	.jobs = JOB_TRIPS | JOB_STREAM, .variant = RING_SEQUENCE_IN_PLACE,
	.open = rings_open, .join = rings_join, USE_TRIPS(in_place), USE_STREAM(in_place),
};
