/* SPDX-License-Identifier: MIT */
/* vox/ring.c - the rarer paths of the ring; see ring.h. */
#include "vox/ring.h"

void vox_ring_init(struct vox_ring *ring, uint32_t capacity)
{
	ring->capacity = capacity;
	shared_poke_u32(&ring->read, 0);
	shared_poke_u64(&ring->write_watermark, 0);
}

int vox_producer_init(struct vox_ring_producer *producer, struct vox_ring *ring,
		      uint32_t capacity)
{
	uint64_t both = shared_load_fenced_u64(&ring->write_watermark);
	uint32_t write = (uint32_t)both;
	uint32_t watermark = (uint32_t)(both >> 32);
	uint32_t read = shared_load_fenced_u32(&ring->read);		/* B */

	if (write > capacity || watermark > capacity || !is_aligned(write, VOX_RING_ALIGNMENT))
		return -EBADMSG;
	if (read > write && read > watermark)
		return -EBADMSG;
	*producer = (struct vox_ring_producer){
		.ring = ring,
		.capacity = capacity,
		.write = write,
		.read = read,
		.watermark = watermark,
	};
	return 0;
}

/*
 * The consumer's index moves up to ours; after a wrap, up to the watermark,
 * then from 0 up to ours. Anything else is not an index of an honest consumer.
 */
int vox_producer_refresh(struct vox_ring_producer *producer)
{
	uint32_t read = shared_load_fenced_u32(&producer->ring->read);	/* B, C */
	bool forward = read >= producer->read;

	if (producer->write >= producer->read) {
		if (!forward || read > producer->write)
			return -EBADMSG;
	} else if (read > producer->write && (!forward || read > producer->watermark)) {
		return -EBADMSG;
	}
	producer->read = read;
	return 0;
}

int vox_consumer_init(struct vox_ring_consumer *consumer, struct vox_ring *ring,
		      uint32_t capacity, uint32_t *early)
{
	uint32_t read = shared_peek_u32(&ring->read);

	if (read > capacity || !is_aligned(read, VOX_RING_ALIGNMENT))
		return -EBADMSG;
	*consumer = (struct vox_ring_consumer){
		.ring = ring,
		.capacity = capacity,
		.read = read,
		.released = read,
		.cursor = read,
		.limit = read,
		.early = early,
	};
	return vox_consumer_look(consumer);
}

/* Moves `released` to the front when it has come to the watermark. */
static void release_wrap(struct vox_ring_consumer *consumer)
{
	if (consumer->watermark && !consumer->released_wrapped &&
	    consumer->released == consumer->watermark) {
		consumer->released = 0;
		consumer->released_wrapped = true;
	}
}

/* The cursor has come to the watermark and the wrap is there: follows it. */
static void follow_wrap(struct vox_ring_consumer *consumer, uint32_t watermark, uint32_t write)
{
	consumer->watermark = watermark;
	consumer->cursor = 0;
	consumer->limit = write;
	release_wrap(consumer);
}

/*
 * One load tells both words, so what is judged here stood in the ring at one
 * moment. The watermark counts only while write < read:
 *   - a vox-shm producer wraps in two steps, {w, w} and then {0, w}; at the
 *     watermark the ring is empty until the second;
 *   - a consumer that dies between `read = 0` and `watermark = 0` leaves a
 *     watermark over bytes that it had consumed.
 */
int vox_consumer_look(struct vox_ring_consumer *consumer)
{
	uint64_t both = shared_load_fenced_u64(&consumer->ring->write_watermark); /* A, C */
	uint32_t write = (uint32_t)both;
	uint32_t watermark = (uint32_t)(both >> 32);
	bool wrapped = write < consumer->read;

	if (write > consumer->capacity || watermark > consumer->capacity ||
	    !is_aligned(write, VOX_RING_ALIGNMENT) ||
	    !is_aligned(watermark, VOX_RING_ALIGNMENT))
		return -EBADMSG;
	if (consumer->watermark) {
		/* The producer cannot wrap again before `read` has followed. */
		if (watermark != consumer->watermark || !wrapped || write < consumer->cursor)
			return -EBADMSG;
		consumer->limit = write;
		return 0;
	}
	if (!wrapped) {
		if (write < consumer->cursor)
			return -EBADMSG;
		consumer->limit = write;
		return 0;
	}
	if (watermark < consumer->cursor)
		return -EBADMSG;
	if (watermark != consumer->cursor) {
		consumer->limit = watermark;
		return 0;
	}
	follow_wrap(consumer, watermark, write);
	/* vox-shm wraps before there is room at the front, and may wait for just this. */
	if (write == 0 && consumer->released_wrapped)
		vox_ring_publish_read(consumer);
	return 0;
}

bool vox_ring_readable(const struct vox_ring_consumer *consumer)
{
	uint32_t write;

	if (consumer->cursor != consumer->limit)
		return true;
	write = (uint32_t)shared_load_fenced_u64(&consumer->ring->write_watermark); /* C */
	/* Either there is more behind the cursor, or a wrap to follow. */
	return write != consumer->cursor;
}

/* Are these bytes, under this number, out and not given back? */
static bool is_out(const struct vox_ring_consumer *consumer, struct vox_ring_taken taken)
{
	uint32_t outstanding = consumer->taken_count - consumer->released_count;
	uint32_t age = taken.number - consumer->released_count;
	uint32_t begin = consumer->released, end = consumer->cursor;

	if ((age & VOX_RING_NUMBER_MASK) >= (outstanding & VOX_RING_NUMBER_MASK) ||
	    (age == 0) != (taken.position == consumer->released) || taken.size == 0 ||
	    !is_aligned(taken.position | taken.size, VOX_RING_ALIGNMENT))
		return false;
	if (consumer->watermark && !consumer->released_wrapped) {
		if (taken.position < consumer->released)
			begin = 0;
		else
			end = consumer->watermark;
	}
	return taken.position >= begin && taken.position <= end &&
	       taken.size <= end - taken.position;
}

/* Moves `released` over the oldest entry. */
static void release_oldest(struct vox_ring_consumer *consumer, uint32_t size)
{
	consumer->released += size;
	consumer->unpublished += size;
	consumer->released_count = (consumer->released_count + 1) & VOX_RING_NUMBER_MASK;
	release_wrap(consumer);
}

int vox_consumer_release_slow(struct vox_ring_consumer *consumer, struct vox_ring_taken taken)
{
	uint32_t *early = consumer->early;
	uint32_t place = taken.position / VOX_RING_MIN_ENTRY;

	if (!is_out(consumer, taken))
		return -EINVAL;
	if (taken.position != consumer->released) {
		if (!early || taken.size < VOX_RING_MIN_ENTRY || early[place])
			return -EINVAL;
		early[place] = taken.size;
		consumer->early_count++;
		return 0;
	}
	release_oldest(consumer, taken.size);
	while (consumer->early_count) {
		place = consumer->released / VOX_RING_MIN_ENTRY;
		if (!early[place])
			break;
		taken.size = early[place];
		early[place] = 0;
		consumer->early_count--;
		release_oldest(consumer, taken.size);
	}
	return 0;
}

/*
 * After a wrap: `read` first, then `watermark`. A death between the two leaves a
 * watermark that does not count, as `write` is not below `read`.
 */
void vox_ring_publish_read(struct vox_ring_consumer *consumer)
{
	struct vox_ring *ring = consumer->ring;

	if (consumer->released_wrapped) {
		shared_store_u32(&ring->read, 0);			/* B */
		shared_store_u32(&ring->watermark, 0);
		consumer->watermark = 0;
		consumer->released_wrapped = false;
	}
	shared_store_fenced_u32(&ring->read, consumer->released);	/* B, C */
	consumer->read = consumer->released;
	consumer->unpublished = 0;
}
