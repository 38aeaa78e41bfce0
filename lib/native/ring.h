/* SPDX-License-Identifier: MIT */
/*
 * native/ring.h - a ring whose entries publish themselves.
 *
 * A ring is a 128-byte header and `capacity` bytes of lines. An entry is a
 * run of lines; its first eight bytes are the frame header (frame.h), and
 * storing that non-zero word is what publishes it: one cache line moves, not
 * an index and then the data. A zero header means "nothing here yet", so
 * every line that is free begins with eight zero bytes; the consumer puts
 * them back before it frees a line.
 *
 * One producer, one consumer. The producer owns the cursor and everything
 * between it and `read`; the consumer owns the rest. Neither trusts what it
 * loads: the producer bounds `read`, the consumer bounds each header.
 *
 * The line at the producer's cursor is always free, so that the wrap marker
 * has a place: an entry fits at the end of the ring when one more line fits
 * behind it.
 *
 * Barrier pairs:
 *   A  publish/see an entry: native_ring_commit() stores the header after the
 *      payload; native_ring_peek() loads it before the payload.
 *   B  free/see room: native_ring_publish_read() stores `read` after the lines
 *      are zeroed and the payload was read; native_producer_refresh() loads it before
 *      the lines are written.
 *   C  sleep/wake: A and B again, against the sleep words; see doorbell.h.
 */
#ifndef NATIVE_RING_H
#define NATIVE_RING_H

#include <errno.h>
#include <string.h>

#include "frame.h"

#define NATIVE_RING_MIN_CAPACITY (3 * CACHE_LINE)
#define NATIVE_RING_MAX_CAPACITY (1u << 30)
#define NATIVE_ENTRY_NUMBER_MASK 0xffffffu
#define NATIVE_AHEAD (8 * CACHE_LINE)		/* producer: lines asked for early */
#define NATIVE_AHEAD_OF_BATCH (16 * CACHE_LINE)	/* consumer: the same, of a batch */

struct native_ring {
	/* producer's line */
	shared_u32 write;		/* for observers and recovery only */
	uint8_t reserved_producer[60];
	/* consumer's line */
	shared_u32 read;
	uint8_t reserved_consumer[60];
	uint8_t lines[];
};

LAYOUT_ASSERT_SIZE(struct native_ring, 128);
LAYOUT_ASSERT_OFFSET(struct native_ring, write, 0);
LAYOUT_ASSERT_OFFSET(struct native_ring, read, 64);
LAYOUT_ASSERT_OFFSET(struct native_ring, lines, 128);

struct native_producer {
	struct native_ring *ring;
	uint32_t capacity;
	uint32_t cursor;		/* where the next entry begins */
	uint32_t read;			/* the consumer's index, as last loaded */
	uint32_t staged;		/* entries that are written and not yet to be seen */
	shared_u64 *staged_head;	/* of the first of them */
	uint64_t staged_header;
};

struct native_consumer {
	/* of each message */
	struct native_ring *ring;
	uint32_t cursor;		/* where the next entry is looked for */
	uint32_t limit;			/* what no entry may pass */
	uint32_t released;		/* all before it is zeroed and free */
	uint32_t wrapped_at;		/* marker between released and cursor, or 0 */
	uint32_t taken_count;		/* entries taken, modulo 2^24 */
	uint32_t released_count;	/* of these, released in order */
	uint32_t unpublished;		/* bytes released since the last publish */
	uint32_t lazy;			/* so many may stay unpublished */
	uint32_t early;			/* entries released before older ones */
	uint32_t parked;		/* size of the oldest entry, which is to be released; or 0 */
	/* of others */
	uint32_t capacity;
	shared_u32 publishable;		/* `released`, for the other thread's eyes */
	uint32_t published;		/* what `read` says; under the link's lock */
	uint32_t *early_lines;		/* by line: bytes of an early release */
};

/* An entry as the consumer found it; the payload is still shared memory. */
struct native_entry {
	uint64_t header;
	uint32_t position;
	uint8_t *payload;
};

/* The largest entry that an empty ring takes wherever its cursor stands. */
static inline uint32_t native_ring_max_entry(uint32_t capacity)
{
	return (capacity - 1) / 2 & ~(CACHE_LINE - 1);
}

static inline uint32_t native_entry_size(size_t body)
{
	return (uint32_t)align_up(FRAME_HEADER_SIZE + body, CACHE_LINE);
}

static inline shared_u64 *native_line(struct native_ring *ring, uint32_t position)
{
	return (shared_u64 *)(void *)(ring->lines + position);
}

/* Producer ----------------------------------------------------------------- */

void native_producer_init(struct native_producer *producer, struct native_ring *ring,
			  uint32_t capacity);

/* Loads `read` anew. Return: 0 or -EBADMSG when it is not an index. */
int native_producer_refresh(struct native_producer *producer);

/* Position for an entry of size bytes (0: the front, by a wrap), or -1. */
static inline int64_t native_ring_place(const struct native_producer *producer, uint32_t size)
{
	uint32_t cursor = producer->cursor, read = producer->read;

	if (cursor < read)
		return cursor + size + CACHE_LINE <= read ? (int64_t)cursor : -1;
	if (cursor + size + CACHE_LINE <= producer->capacity)
		return cursor;
	return size + CACHE_LINE <= read ? 0 : -1;
}

/*
 * Finds room for an entry of size bytes (a multiple of the line, at most
 * native_ring_max_entry()). Nothing is changed until the commit.
 * Return: the entry's position, -EAGAIN or -EBADMSG.
 */
static inline int64_t native_ring_grant(struct native_producer *producer, uint32_t size)
{
	int64_t position = native_ring_place(producer, size);
	int ret;

	if (__builtin_expect(position >= 0, 1))
		return position;
	ret = native_producer_refresh(producer);
	if (ret)
		return ret;
	position = native_ring_place(producer, size);
	return position >= 0 ? position : -EAGAIN;
}

static inline uint8_t *native_ring_payload(const struct native_producer *producer,
					   int64_t position)
{
	return producer->ring->lines + position + FRAME_HEADER_SIZE;
}

/*
 * Publishes the entry of size bytes that was granted at position. `fenced`: as
 * the first half of a full barrier, so that the consumer's sleep word may be
 * looked at next; without it the entry is visible all the same.
 */
static inline void native_ring_commit(struct native_producer *producer, int64_t position,
				      uint32_t size, uint64_t header, bool fenced)
{
	struct native_ring *ring = producer->ring;
	shared_u64 *head = native_line(ring, (uint32_t)position);

	if (__builtin_expect(position != producer->cursor, 0)) {
		/* Wrapped: the entry first, then the marker that leads to it. */
		shared_store_u64(head, header);				/* A */
		head = native_line(ring, producer->cursor);
		header = frame_header(CACHE_LINE, FRAME_WRAP, 0);
	}
	producer->cursor = (uint32_t)position + size;
	if (fenced)
		shared_store_fenced_u64(head, header);			/* A, C */
	else
		shared_store_u64(head, header);				/* A */
	shared_poke_u32(&ring->write, producer->cursor);
}

/*
 * The same, but nobody sees it yet: the entries of a batch, whose first header
 * is stored last. The consumer cannot look past that one, so it comes once for
 * all of them. native_ring_publish_staged() must follow before any commit.
 */
static inline void native_ring_stage(struct native_producer *producer, int64_t position,
				     uint32_t size, uint64_t header)
{
	struct native_ring *ring = producer->ring;
	shared_u64 *head = native_line(ring, (uint32_t)position);

	if (__builtin_expect(position != producer->cursor, 0)) {
		shared_store_u64(head, header);				/* A */
		head = native_line(ring, producer->cursor);
		header = frame_header(CACHE_LINE, FRAME_WRAP, 0);
	}
	producer->cursor = (uint32_t)position + size;
	if (producer->staged++)
		shared_store_u64(head, header);				/* A */
	else {
		producer->staged_head = head;
		producer->staged_header = header;
	}
}

static inline void native_ring_publish_staged(struct native_producer *producer, bool fenced)
{
	if (producer->staged == 0)
		return;
	producer->staged = 0;
	if (fenced)
		shared_store_fenced_u64(producer->staged_head, producer->staged_header); /* A, C */
	else
		shared_store_u64(producer->staged_head, producer->staged_header);	/* A */
	shared_poke_u32(&producer->ring->write, producer->cursor);
}

/* Is there room at the cursor? As far as is known: `read` is not loaded. */
static inline bool native_ring_fits(const struct native_producer *producer, uint32_t size)
{
	uint32_t cursor = producer->cursor, read = producer->read;

	return cursor + size + CACHE_LINE <= (cursor < read ? read : producer->capacity);
}

/*
 * Publishes the entry of size bytes that was written at the cursor; fenced. Lines
 * some way ahead are asked for: the consumer's cache has them, and the fence of a
 * later entry would wait for them.
 */
static inline void native_ring_commit_here(struct native_producer *producer, uint32_t size,
					   uint64_t header)
{
	struct native_ring *ring = producer->ring;
	uint32_t cursor = producer->cursor, ahead = cursor + size + NATIVE_AHEAD;

	producer->cursor = cursor + size;
	if (__builtin_expect(ahead < producer->capacity, 1)) {
		shared_prefetch_for_write(native_line(ring, ahead));
		if (size > CACHE_LINE)
			shared_prefetch_for_write(native_line(ring, ahead - CACHE_LINE));
	}
	shared_store_fenced_u64(native_line(ring, cursor), header);	/* A, C */
	shared_poke_u32(&ring->write, cursor + size);
}

/* Consumer ----------------------------------------------------------------- */

/* max_entry: the largest entry the producer writes. Return: 0 or -ENOMEM. */
int native_consumer_init(struct native_consumer *consumer, struct native_ring *ring,
			 uint32_t capacity, uint32_t max_entry);
void native_consumer_deinit(struct native_consumer *consumer);

/* Follows the wrap marker that the cursor has come to. Return: 1, or -EBADMSG. */
int native_ring_follow_wrap(struct native_consumer *consumer, uint64_t marker,
			    struct native_entry *entry);

/*
 * Looks at the next entry.
 * Return: 1 and the entry, 0 when there is none, -EBADMSG.
 */
static inline int native_ring_peek(struct native_consumer *consumer, struct native_entry *entry)
{
	struct native_ring *ring = consumer->ring;
	uint64_t header = shared_load_u64(native_line(ring, consumer->cursor));	/* A */
	uint32_t size = frame_total_len(header);

	if (header == 0)
		return 0;
	if (__builtin_expect(frame_flags(header) & FRAME_WRAP, 0))
		return native_ring_follow_wrap(consumer, header, entry);
	if (__builtin_expect(size == 0 || !is_aligned(size, CACHE_LINE) ||
			     size > consumer->limit - consumer->cursor, 0))
		return -EBADMSG;
	entry->header = header;
	entry->position = consumer->cursor;
	entry->payload = ring->lines + consumer->cursor + FRAME_HEADER_SIZE;
	return 1;
}

/*
 * Takes the entry that was peeked: the next peek looks behind it.
 * Return: its number, for the release; the entries are numbered as they come.
 */
static inline uint32_t native_ring_take(struct native_consumer *consumer,
					const struct native_entry *entry)
{
	uint32_t number = consumer->taken_count;

	consumer->cursor = entry->position + frame_total_len(entry->header);
	consumer->taken_count = (number + 1) & NATIVE_ENTRY_NUMBER_MASK;
	return number;
}

/*
 * Asks for lines that a batch will come to. It is read as a whole and zeroed
 * later: without this each line would come twice, to be read and to be written.
 */
static inline void native_ring_ask_ahead(const struct native_consumer *consumer)
{
	uint32_t ahead = consumer->cursor + NATIVE_AHEAD_OF_BATCH;

	if (__builtin_expect(ahead >= consumer->capacity, 0))
		return;
	shared_prefetch_for_write(native_line(consumer->ring, ahead - CACHE_LINE));
	shared_prefetch_for_write(native_line(consumer->ring, ahead));
}

/* Return: is there something to peek at? For waits: the second half of C. */
static inline bool native_ring_readable(const struct native_consumer *consumer)
{
	return shared_load_fenced_u64(native_line(consumer->ring, consumer->cursor)) != 0; /* C */
}

/* Zeroes the line heads of a released entry. */
static inline void native_ring_clear(struct native_consumer *consumer, uint32_t position,
				     uint32_t size)
{
	struct native_ring *ring = consumer->ring;
	uint32_t end = position + size;

	for (; position < end; position += CACHE_LINE)
		shared_poke_u64(native_line(ring, position), 0);
}

int native_ring_release_slow(struct native_consumer *consumer, uint32_t position, uint32_t size,
			     uint32_t number);

/*
 * Gives an entry back, in any order; position, size and number as they were
 * when it was taken. Room returns to the producer in order, and only with
 * native_ring_publish_read().
 * Return: 0, or -EINVAL when the entry is not a taken one.
 */
static inline int native_ring_release(struct native_consumer *consumer, uint32_t position,
				      uint32_t size, uint32_t number)
{
	if (__builtin_expect(position != consumer->released ||
			     number != consumer->released_count ||
			     number == consumer->taken_count ||
			     (consumer->early | consumer->wrapped_at), 0))
		return native_ring_release_slow(consumer, position, size, number);
	native_ring_clear(consumer, position, size);
	consumer->released = position + size;
	shared_store_u32(&consumer->publishable, consumer->released);	/* B */
	consumer->released_count = (number + 1) & NATIVE_ENTRY_NUMBER_MASK;
	consumer->unpublished += size;
	return 0;
}

/* Is it the only entry that was taken and not yet released? */
static inline bool native_ring_only(const struct native_consumer *consumer, uint32_t position,
				    uint32_t number)
{
	return position == consumer->released && number == consumer->released_count &&
	       ((number + 1) & NATIVE_ENTRY_NUMBER_MASK) == consumer->taken_count;
}

/* May the producer do without size bytes more of released room? See lazy_room() in ring.c. */
static inline bool native_ring_can_wait(const struct native_consumer *consumer, uint32_t size)
{
	return consumer->unpublished + size <= consumer->lazy;
}

/* Releases the only entry, whose size is known. */
static inline void native_ring_release_only(struct native_consumer *consumer, uint32_t size)
{
	uint32_t released = consumer->released + size;

	native_ring_clear(consumer, consumer->released, size);
	consumer->released = released;
	shared_store_u32(&consumer->publishable, released);	/* B */
	consumer->released_count = consumer->taken_count;
	consumer->unpublished += size;
}

/* Is it time to publish? See lazy_room() in ring.c for why not earlier. */
static inline bool native_ring_due(const struct native_consumer *consumer)
{
	return consumer->unpublished > consumer->lazy;
}

/*
 * Lets the producer see the room; the first half of C. Either thread of the
 * link, under its lock, so that `read` never goes back.
 * Return: was there anything to publish?
 */
static inline bool native_ring_publish(struct native_consumer *consumer)
{
	uint32_t released = shared_load_u32(&consumer->publishable);	/* B */

	if (released == consumer->published)
		return false;
	consumer->published = released;
	shared_store_fenced_u32(&consumer->ring->read, released);	/* B, C */
	return true;
}

/* The same for the receiving thread. */
static inline bool native_ring_publish_read(struct native_consumer *consumer)
{
	consumer->unpublished = 0;
	return native_ring_publish(consumer);
}

#endif
