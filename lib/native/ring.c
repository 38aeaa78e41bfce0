/* SPDX-License-Identifier: MIT */
/* native/ring.c - the rare paths of the ring; see ring.h. */
#include <stdlib.h>

#include "native/ring.h"

void native_producer_init(struct native_producer *producer, struct native_ring *ring,
			  uint32_t capacity)
{
	*producer = (struct native_producer){ .ring = ring, .capacity = capacity };
}

int native_producer_refresh(struct native_producer *producer)
{
	uint32_t read = shared_load_fenced_u32(&producer->ring->read);	/* B, C */

	if (!is_aligned(read, CACHE_LINE) || read >= producer->capacity)
		return -EBADMSG;
	producer->read = read;
	return 0;
}

/*
 * How much released room may stay unpublished. A quarter of the ring, so that
 * the index line moves seldom; but never so much that the producer could wait
 * for an empty ring: an entry of max_entry that fits neither behind nor before
 * the occupied lines would need capacity < occupied + 2 * (max_entry + line).
 * Before a thread of this side sleeps, all of it is published (link.c).
 */
static uint32_t lazy_room(uint32_t capacity, uint32_t max_entry)
{
	uint32_t quarter = capacity / 4;
	uint32_t needed = 2 * (max_entry + CACHE_LINE);

	if (needed >= capacity)
		return 0;
	return capacity - needed < quarter ? capacity - needed : quarter;
}

int native_consumer_init(struct native_consumer *consumer, struct native_ring *ring,
			 uint32_t capacity, uint32_t max_entry)
{
	*consumer = (struct native_consumer){
		.ring = ring,
		.capacity = capacity,
		.limit = capacity - CACHE_LINE,
		.lazy = lazy_room(capacity, max_entry),
		.early_lines = calloc(capacity / CACHE_LINE, sizeof(uint32_t)),
	};
	return consumer->early_lines ? 0 : -ENOMEM;
}

void native_consumer_deinit(struct native_consumer *consumer)
{
	free(consumer->early_lines);
	consumer->early_lines = NULL;
}

/* Moves `released` to the front when it has come to the wrap marker. */
static void release_wrap(struct native_consumer *consumer)
{
	if (!consumer->wrapped_at)
		return;
	if (consumer->released == consumer->wrapped_at) {
		consumer->unpublished += consumer->capacity - consumer->wrapped_at;
		consumer->released = 0;
		consumer->wrapped_at = 0;
		consumer->limit = consumer->capacity - CACHE_LINE;
	} else {
		consumer->limit = consumer->released - CACHE_LINE;
	}
}

/*
 * The entry at the front was published before the marker that leads to it, so
 * it must be there. A second wrap, or a wrap before anything was released,
 * would lead over entries that are still borrowed.
 */
int native_ring_follow_wrap(struct native_consumer *consumer, uint64_t marker,
			    struct native_entry *entry)
{
	int ret;

	if (marker != frame_header(CACHE_LINE, FRAME_WRAP, 0) || consumer->cursor == 0 ||
	    consumer->wrapped_at || consumer->released == 0)
		return -EBADMSG;
	shared_poke_u64(native_line(consumer->ring, consumer->cursor), 0);
	consumer->wrapped_at = consumer->cursor;
	consumer->cursor = 0;
	release_wrap(consumer);
	shared_store_u32(&consumer->publishable, consumer->released);	/* B */
	ret = native_ring_peek(consumer, entry);
	return ret ? ret : -EBADMSG;
}

/* Was the number given to an entry that is not yet released in order? */
static bool is_outstanding(const struct native_consumer *consumer, uint32_t number)
{
	uint32_t mask = NATIVE_ENTRY_NUMBER_MASK;

	return ((number - consumer->released_count) & mask) <
	       ((consumer->taken_count - consumer->released_count) & mask);
}

int native_ring_release_slow(struct native_consumer *consumer, uint32_t position, uint32_t size,
			     uint32_t number)
{
	if (!is_outstanding(consumer, number) ||
	    (number == consumer->released_count && position != consumer->released) ||
	    !is_aligned(position | size, CACHE_LINE) ||
	    size == 0 || position >= consumer->capacity || size > consumer->capacity - position ||
	    consumer->early_lines[position / CACHE_LINE])
		return -EINVAL;
	native_ring_clear(consumer, position, size);
	consumer->early_lines[position / CACHE_LINE] = size;
	consumer->early++;
	while ((size = consumer->early_lines[consumer->released / CACHE_LINE])) {
		consumer->early_lines[consumer->released / CACHE_LINE] = 0;
		consumer->early--;
		consumer->released += size;
		consumer->released_count = (consumer->released_count + 1) &
					   NATIVE_ENTRY_NUMBER_MASK;
		consumer->unpublished += size;
		release_wrap(consumer);
	}
	shared_store_u32(&consumer->publishable, consumer->released);	/* B */
	return 0;
}
