/* SPDX-License-Identifier: MIT */
/*
 * vox/parts.c - the segment level's slots and ring ends, for programs without
 * a link. Checks arguments; pool.c and ring.c do the work.
 */
#include <stdlib.h>

#include "vox/segment.h"

/* Slots -------------------------------------------------------------------------------- */

/* The word in which `who` names slots: a guest's own, or the host's outside of links. */
static int find_intent(struct voxshm_segment *segment, uint32_t who, enum vox_thread thread,
		       shared_u64 **intent)
{
	*intent = NULL;
	if (who != VOXSHM_PEER_HOST && !vox_peer_exists(segment, who))
		return -EINVAL;
	if (vox_is_plain(segment))
		return 0;
	if (who == VOXSHM_PEER_HOST)
		*intent = &vox_directory(segment)->host_intents[thread];
	else
		*intent = &vox_link_block(segment, who)->side[VOX_GUEST].intents[thread];
	return 0;
}

static struct vox_slot_ref slot_ref(const struct voxshm_slot *slot)
{
	return (struct vox_slot_ref){
		.class_index = slot->class_index,
		.extent = slot->extent,
		.slot = slot->slot,
		.generation = slot->generation,
	};
}

int voxshm_segment_slot_alloc(struct voxshm_segment *segment, uint32_t owner, uint32_t size,
			      struct voxshm_slot *slot)
{
	struct vox_slot_ref ref;
	shared_u64 *intent;
	int ret;

	ret = find_intent(segment, owner, VOX_SENDER, &intent);
	if (!ret)
		ret = vox_pool_alloc(&segment->pool, size, owner, VOX_MAX_EXTENTS, intent, &ref);
	if (ret)
		return ret;
	*slot = (struct voxshm_slot){
		.class_index = ref.class_index,
		.extent = ref.extent,
		.slot = ref.slot,
		.generation = ref.generation,
	};
	return 0;
}

int voxshm_segment_slot_free(struct voxshm_segment *segment, uint32_t who,
			     const struct voxshm_slot *slot)
{
	struct vox_slot_ref ref = slot_ref(slot);
	shared_u64 *intent;
	int ret;

	ret = find_intent(segment, who, VOX_SENDER, &intent);
	return ret ? ret : vox_pool_free(&segment->pool, &ref, intent);
}

int voxshm_segment_slot_give(struct voxshm_segment *segment, const struct voxshm_slot *slot,
			     uint32_t owner)
{
	struct vox_slot_ref ref = slot_ref(slot);

	if ((owner != VOXSHM_PEER_HOST && !vox_peer_exists(segment, owner)) ||
	    !vox_pool_find(&segment->pool, &ref))
		return -EINVAL;
	if (!vox_pool_is_current(&segment->pool, &ref))
		return -ESTALE;
	vox_pool_set_owner(&segment->pool, &ref, owner);
	return 0;
}

void *voxshm_segment_slot_data(struct voxshm_segment *segment, const struct voxshm_slot *slot,
			       size_t *size)
{
	struct vox_slot_ref ref = slot_ref(slot);
	uint32_t slot_size;
	uint8_t *data;

	if (!vox_pool_find(&segment->pool, &ref))
		return NULL;
	data = vox_pool_data(&segment->pool, &ref, &slot_size);
	if (size)
		*size = slot_size;
	return data;
}

/* Ring ends ------------------------------------------------------------------------------ */

struct voxshm_segment_ring {
	enum voxshm_ring_role role;
	union {
		struct vox_ring_producer producer;
		struct vox_ring_consumer consumer;
	};
	uint32_t granted;		/* bytes; 0: no grant */
	int64_t position;
};

int voxshm_segment_ring_open(struct voxshm_segment_ring **result, struct voxshm_segment *segment,
			     uint32_t peer, enum voxshm_ring_direction direction,
			     enum voxshm_ring_role role)
{
	uint32_t capacity = segment->geometry.ring_capacity;
	struct voxshm_segment_ring *ring;
	struct vox_ring *shared;
	int ret;

	*result = NULL;
	if (!vox_peer_exists(segment, peer) ||
	    (direction != VOXSHM_GUEST_TO_HOST && direction != VOXSHM_HOST_TO_GUEST) ||
	    (role != VOXSHM_PRODUCER && role != VOXSHM_CONSUMER))
		return -EINVAL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->role = role;
	shared = vox_peer_ring(segment, peer,
			       direction == VOXSHM_GUEST_TO_HOST ? VOX_GUEST : VOX_HOST);
	if (role == VOXSHM_PRODUCER)
		ret = vox_producer_init(&ring->producer, shared, capacity);
	else
		ret = vox_consumer_init(&ring->consumer, shared, capacity, NULL);
	if (ret) {
		free(ring);
		return ret;
	}
	*result = ring;
	return 0;
}

void voxshm_segment_ring_close(struct voxshm_segment_ring *ring)
{
	free(ring);
}

int voxshm_segment_ring_grant(struct voxshm_segment_ring *ring, uint32_t size, void **data)
{
	int64_t position;

	if (ring->role != VOXSHM_PRODUCER || size < VOX_RING_MIN_ENTRY ||
	    !is_aligned(size, VOX_RING_ALIGNMENT))
		return -EINVAL;
	if (size > vox_ring_max_entry(ring->producer.capacity))
		return -EMSGSIZE;
	ring->granted = 0;
	position = vox_ring_grant(&ring->producer, size);
	if (position < 0)
		return (int)position;
	ring->granted = size;
	ring->position = position;
	*data = vox_ring_entry(&ring->producer, position);
	return 0;
}

int voxshm_segment_ring_commit(struct voxshm_segment_ring *ring, uint32_t size)
{
	if (ring->role != VOXSHM_PRODUCER || size < VOX_RING_MIN_ENTRY ||
	    !is_aligned(size, VOX_RING_ALIGNMENT) || size > ring->granted)
		return -EINVAL;
	vox_ring_commit(&ring->producer, ring->position, size, true);
	ring->granted = 0;
	return 0;
}

ssize_t voxshm_segment_ring_read(struct voxshm_segment_ring *ring, const void **data)
{
	int64_t readable;

	if (ring->role != VOXSHM_CONSUMER)
		return -EINVAL;
	readable = vox_ring_peek(&ring->consumer);
	if (readable > 0)
		*data = vox_ring_at(&ring->consumer);
	return (ssize_t)readable;
}

int voxshm_segment_ring_release(struct voxshm_segment_ring *ring, uint32_t size)
{
	struct vox_ring_consumer *consumer = &ring->consumer;
	int ret;

	if (ring->role != VOXSHM_CONSUMER || !is_aligned(size, VOX_RING_ALIGNMENT) ||
	    size > consumer->limit - consumer->cursor)
		return -EINVAL;
	if (size == 0)
		return 0;
	ret = vox_ring_release(consumer, vox_ring_take(consumer, size));
	vox_ring_publish_read(consumer);
	return ret;
}
