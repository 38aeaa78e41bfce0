/* SPDX-License-Identifier: MIT */
/*
 * vox/ring.h - the ring of the vox format: bytes between two indices.
 *
 * A ring is a 128-byte header and `capacity` bytes of data. The producer owns
 * `write` and `watermark`, the consumer owns `read` (and clears `watermark`
 * when it follows a wrap). [read, write) is unread; after a wrap, first
 * [read, watermark), then [0, write). Entries are contiguous and 4-byte
 * aligned.
 *
 * The private views below say what a side knows; whoever made a view owns it,
 * one thread at a time uses it. What always holds:
 *   - a wrap is published as one 64-bit store of {write, watermark}, so no
 *     consumer and no death sees half of it;
 *   - a producer writes only between its own index and a `read` it has seen;
 *   - `read` <= `released` <= `cursor` <= `limit`, in the order of the ring;
 *   - an index from the other side is bounded before it is used, and one that
 *     no honest peer could have stored is -EBADMSG.
 *
 * Barrier pairs:
 *   A  publish/see entries: vox_ring_commit() stores `write` after the bytes;
 *      vox_consumer_look() loads it before they are read.
 *   B  free/see room: vox_ring_publish_read() stores `read` after the bytes
 *      were read; vox_producer_refresh() loads it before they are written.
 *   C  sleep/wake: A and B again, fenced, against the sleep words.
 */
#ifndef VOX_RING_H
#define VOX_RING_H

#include <errno.h>

#include "layout.h"

#define VOX_RING_HEADER_SIZE 128u
#define VOX_RING_MIN_CAPACITY 72u
#define VOX_RING_MAX_CAPACITY (1u << 30)
#define VOX_RING_ALIGNMENT 4u	/* of an entry */
#define VOX_RING_MIN_ENTRY 8u
#define VOX_RING_NUMBER_MASK 0xffffffu	/* of an entry's number, so that it fits a view */

struct vox_ring {
	/* producer's line */
	union {
		struct {
			shared_u32 write;
			shared_u32 watermark;	/* 0: no wrap to follow */
		};
		shared_u64 write_watermark;	/* both; `write` in the low half */
	};
	uint32_t capacity;			/* immutable */
	uint8_t reserved_producer[52];
	/* consumer's line */
	shared_u32 read;
	uint8_t reserved_consumer[60];
	uint8_t data[];
};

LAYOUT_ASSERT_SIZE(struct vox_ring, VOX_RING_HEADER_SIZE);
LAYOUT_ASSERT_OFFSET(struct vox_ring, write, 0);
LAYOUT_ASSERT_OFFSET(struct vox_ring, watermark, 4);
LAYOUT_ASSERT_OFFSET(struct vox_ring, write_watermark, 0);
LAYOUT_ASSERT_OFFSET(struct vox_ring, capacity, 8);
LAYOUT_ASSERT_OFFSET(struct vox_ring, read, 64);
LAYOUT_ASSERT_OFFSET(struct vox_ring, data, 128);

struct vox_ring_producer {
	struct vox_ring *ring;
	uint32_t capacity;
	uint32_t write;		/* own index */
	uint32_t read;		/* the consumer's, as last loaded */
	uint32_t watermark;	/* of the last wrap; bounds `read` while write < read */
};

struct vox_ring_consumer {
	struct vox_ring *ring;
	uint32_t capacity;
	uint32_t read;		/* own index, as published */
	uint32_t released;	/* all before it is given back, published or not */
	uint32_t cursor;	/* the next entry is here */
	uint32_t limit;		/* [cursor, limit) is known to be readable */
	uint32_t watermark;	/* the cursor has wrapped here, `read` has not; or 0 */
	bool released_wrapped;	/* and `released` has */
	uint32_t unpublished;	/* bytes between `read` and `released` */
	uint32_t taken_count;	/* number of the next entry that is taken */
	uint32_t released_count;	/* number of the oldest one that is out */
	uint32_t early_count;	/* entries released before older ones */
	uint32_t *early;	/* by position / 8: size of an early release; may be NULL */
};

/* Bytes of one ring in the segment. */
static inline uint64_t vox_ring_stride(uint32_t capacity)
{
	return align_up(VOX_RING_HEADER_SIZE + (uint64_t)capacity, CACHE_LINE);
}

/* The longest entry that an empty ring takes wherever its indices stand. */
static inline uint32_t vox_ring_max_entry(uint32_t capacity)
{
	return (capacity - 1) / 2 & ~(VOX_RING_ALIGNMENT - 1);
}

/* Makes an empty ring; nobody else may be using it. */
void vox_ring_init(struct vox_ring *ring, uint32_t capacity);

/* Producer ----------------------------------------------------------------- */

/*
 * Takes a ring over as its only producer. capacity is the segment's, not what
 * the ring says. Return: 0, or -EBADMSG when the indices make no sense.
 */
int vox_producer_init(struct vox_ring_producer *producer, struct vox_ring *ring,
		      uint32_t capacity);

/* Loads `read` anew. Return: 0 or -EBADMSG. */
int vox_producer_refresh(struct vox_ring_producer *producer);

/* Position for an entry of size bytes (0 below `write`: by a wrap), or -1. */
static inline int64_t vox_ring_place(const struct vox_ring_producer *producer, uint32_t size)
{
	uint32_t write = producer->write, read = producer->read;

	if (write < read)
		return size < read - write ? (int64_t)write : -1;
	if (producer->capacity - write >= size)
		return write;
	return size < read ? 0 : -1;
}

/*
 * Finds room for an entry of size bytes (a multiple of 4, not 0, at most
 * vox_ring_max_entry()). Nothing is changed until the commit.
 * Return: the entry's position, -EAGAIN or -EBADMSG.
 */
static inline int64_t vox_ring_grant(struct vox_ring_producer *producer, uint32_t size)
{
	int64_t position = vox_ring_place(producer, size);
	int ret;

	if (__builtin_expect(position >= 0, 1))
		return position;
	ret = vox_producer_refresh(producer);
	if (ret)
		return ret;
	position = vox_ring_place(producer, size);
	return position >= 0 ? position : -EAGAIN;
}

static inline uint8_t *vox_ring_entry(const struct vox_ring_producer *producer, int64_t position)
{
	return producer->ring->data + position;
}

/*
 * Publishes the entry of size bytes that was granted at position. `fenced`: as
 * the first half of a full barrier, so that the consumer's sleep word may be
 * looked at next; without it the entry is visible all the same.
 */
static inline void vox_ring_commit(struct vox_ring_producer *producer, int64_t position,
				   uint32_t size, bool fenced)
{
	struct vox_ring *ring = producer->ring;
	uint32_t end = (uint32_t)position + size;

	if (__builtin_expect(position != producer->write, 0)) {
		uint64_t both = (uint64_t)producer->write << 32 | end;

		producer->watermark = producer->write;
		producer->write = end;
		shared_store_fenced_u64(&ring->write_watermark, both);	/* A, C */
		return;
	}
	producer->write = end;
	if (fenced)
		shared_store_fenced_u32(&ring->write, end);		/* A, C */
	else
		shared_store_u32(&ring->write, end);			/* A */
}

/* Consumer ----------------------------------------------------------------- */

/* Words that vox_consumer_init() needs to allow releases out of order. */
static inline size_t vox_ring_early_words(uint32_t capacity)
{
	return capacity / VOX_RING_MIN_ENTRY + 1;
}

/*
 * Takes a ring over as its only consumer, from its first unread byte. early:
 * vox_ring_early_words() zeroed words, the caller's, or NULL: then releases
 * must come in order. Return: 0, or -EBADMSG when the indices make no sense.
 */
int vox_consumer_init(struct vox_ring_consumer *consumer, struct vox_ring *ring,
		      uint32_t capacity, uint32_t *early);

/* Loads the producer's words anew and moves `limit`. Return: 0 or -EBADMSG. */
int vox_consumer_look(struct vox_ring_consumer *consumer);

/*
 * Looks at what lies at the cursor.
 * Return: contiguous readable bytes there, 0 when there are none, -EBADMSG.
 */
static inline int64_t vox_ring_peek(struct vox_ring_consumer *consumer)
{
	int ret;

	if (__builtin_expect(consumer->cursor == consumer->limit, 0)) {
		ret = vox_consumer_look(consumer);
		if (ret)
			return ret;
	}
	return consumer->limit - consumer->cursor;
}

static inline const uint8_t *vox_ring_at(const struct vox_ring_consumer *consumer)
{
	return consumer->ring->data + consumer->cursor;
}

/* An entry that was taken; what its release needs. */
struct vox_ring_taken {
	uint32_t position;
	uint32_t size;
	uint32_t number;	/* in the order of taking, by VOX_RING_NUMBER_MASK */
};

/* Takes size bytes that were peeked at. */
static inline struct vox_ring_taken vox_ring_take(struct vox_ring_consumer *consumer,
						  uint32_t size)
{
	struct vox_ring_taken taken = { consumer->cursor, size, consumer->taken_count };

	consumer->cursor += size;
	consumer->taken_count = (taken.number + 1) & VOX_RING_NUMBER_MASK;
	return taken;
}

/* Return: is there something to peek at, or a fault? For waits: the second half of C. */
bool vox_ring_readable(const struct vox_ring_consumer *consumer);

/* Are entries out that were taken and not given back? */
static inline bool vox_ring_borrowed(const struct vox_ring_consumer *consumer)
{
	return consumer->released != consumer->cursor ||
	       (consumer->watermark && !consumer->released_wrapped);
}

int vox_consumer_release_slow(struct vox_ring_consumer *consumer, struct vox_ring_taken taken);

/*
 * Gives an entry back. Room returns to the producer in order, and only with
 * vox_ring_publish_read().
 * Return: 0; -EINVAL when that entry is not out (any more), or, without
 * `early`, not the oldest one.
 */
static inline int vox_ring_release(struct vox_ring_consumer *consumer,
				   struct vox_ring_taken taken)
{
	if (__builtin_expect(taken.position != consumer->released || consumer->watermark ||
			     consumer->early_count ||
			     taken.number != consumer->released_count ||
			     taken.size > consumer->cursor - consumer->released, 0))
		return vox_consumer_release_slow(consumer, taken);
	consumer->released = taken.position + taken.size;
	consumer->unpublished += taken.size;
	consumer->released_count = (taken.number + 1) & VOX_RING_NUMBER_MASK;
	return 0;
}

/* Lets the producer see the room; the first half of C. */
void vox_ring_publish_read(struct vox_ring_consumer *consumer);

#endif
