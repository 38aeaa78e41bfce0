/* SPDX-License-Identifier: MIT */
/*
 * vox/recv.c - from a published entry to a borrowed view, and back.
 *
 * All that comes from the peer is loaded once and bounded here. A frame that
 * breaks a rule fails the link. When the guest was buried, its last messages
 * come from private memory.
 */
#include "vox/vox.h"

enum view_kind {
	VIEW_RELEASED,
	VIEW_INLINE,		/* entry's number above; token: position, entry size */
	VIEW_SLOT,		/* class, extent above; token: slot, generation */
	VIEW_MAPPING,		/* token: map id, number of the borrow */
	VIEW_COPY,		/* token: number of the copy */
	VIEW_PRIVATE,		/* nothing to give back: memory of the link's own */
};

#define VIEW_KIND_BITS 8
#define VIEW_CLASS_SHIFT 8
#define VIEW_EXTENT_SHIFT 16

static void publish_space(struct vox_link *vox)
{
	vox_ring_publish_read(&vox->consumer);
	vox_wake_space(vox);
}

/* Releases ring bytes; what that frees goes back at once. */
static int release_bytes(struct vox_link *vox, struct vox_ring_taken taken)
{
	int ret = vox_ring_release(&vox->consumer, taken);

	if (ret)
		return ret;
	if (vox->consumer.unpublished)
		publish_space(vox);
	return 0;
}

/* Slots ------------------------------------------------------------------------------------ */

/*
 * The slot must be the sender's: a guest's own, or from our host the guest's
 * already. A vox-shm host leaves it its own; then we take it, so that the host
 * gets it back should we die.
 */
static int hold_slot(struct vox_link *vox, const struct vox_slot_ref *ref)
{
	struct vox_pool *pool = &vox->segment->pool;
	uint32_t owner = vox->link.peer_id;

	if (ref->extent >= vox_pool_num_extents(pool) && !vox->link.is_host)
		voxshm_segment_remap(vox->segment);
	if (!vox->link.is_host && vox_is_plain(vox->segment)) {
		if (!vox_pool_is_current(pool, ref))
			return -EBADMSG;
		vox_pool_set_owner(pool, ref, owner);
		shared_look_again();
	}
	return vox_pool_hold(pool, ref, owner, vox->holder);
}

static int view_slot(struct vox_link *vox, const struct vox_slot_ref *ref,
		     struct voxshm_view *view)
{
	const uint8_t *message = NULL;
	int64_t length = vox_pool_message(&vox->segment->pool, ref, &message);

	if (length < 0 || (uint64_t)length > vox->link.max_payload)
		return link_fail(&vox->link, "it sent a slot whose length does not fit");
	view->data = message;
	view->size = (size_t)length;
	view->token = (uint64_t)ref->generation << 32 | ref->slot;
	view->kind = VIEW_SLOT | (uint32_t)ref->class_index << VIEW_CLASS_SHIFT |
		     (uint32_t)ref->extent << VIEW_EXTENT_SHIFT;
	return 0;
}

static int recv_slot(struct vox_link *vox, const struct vox_slot_ref *ref,
		     struct voxshm_view *view)
{
	if (hold_slot(vox, ref))
		return link_fail(&vox->link, "it referred to a slot that is not its to send");
	return view_slot(vox, ref, view);
}

static int release_slot(struct vox_link *vox, const struct voxshm_view *view)
{
	struct vox_slot_ref ref = {
		.class_index = (uint8_t)(view->kind >> VIEW_CLASS_SHIFT),
		.extent = (uint8_t)(view->kind >> VIEW_EXTENT_SHIFT),
		.slot = (uint32_t)view->token,
		.generation = (uint32_t)(view->token >> 32),
	};
	int ret = vox_link_free_slot(vox, &ref, VOX_RECEIVER);

	if (ret == -ESTALE || ret == -EINVAL)
		return -EINVAL;
	if (ret)
		return link_fail(&vox->link, "the slot pool is corrupt");
	if (!vox->buried)
		vox_wake_space(vox);
	return 0;
}

/* Mappings ---------------------------------------------------------------------------------- */

/* A peer of ours gives memory under our numbers alone, and seals it. */
static bool is_counted(const struct vox_link *vox)
{
	return vox_end_kind(vox->end) != VOX_PEER_PLAIN;
}

int vox_object(struct voxshm_link *link, uint32_t map_id, uint32_t generation, uint64_t size,
	       int fd)
{
	struct vox_link *vox = vox_link(link);
	int ret;

	if (is_counted(vox))
		ret = received_offer(&vox->received.ours, map_id, generation, size, fd);
	else
		ret = vox_plain_received(&vox->received, map_id, generation, size, fd);
	return ret == -EBADMSG ? link_fail(link, MAPPING_NOT_AS_SAID) : ret;
}

/* So often all that is taken at once is more than the socket holds. */
#define TAKES_FOR_OFFER 16

/* The peer offered it before it committed the frame: it has come already. */
static int map_offer(struct vox_link *vox, const struct vox_mapping_ref *ref)
{
	struct voxshm_link *link = &vox->link;
	struct received_offer offer = { .memory = MEMORY_NONE };
	int ret, takes = 0;

	pthread_mutex_lock(&link->waiters.lock);
	do {
		ret = vox_end_take_offers(vox->end, link);
		if (ret == 0)
			offer = received_take(&vox->received.ours, ref->map_id,
					      ref->generation);
	} while (ret == 0 && !offer.memory.base && vox->end->end.more && ++takes < TAKES_FOR_OFFER);
	if (offer.memory.base)
		link->patience += END_KNOCKS_OF_OFFER;
	if (ret == 0 && !offer.memory.base)
		ret = vox->end->end.shortage;
	pthread_mutex_unlock(&link->waiters.lock);
	if (ret && ret != -EBADMSG)
		return ret;
	if (!offer.memory.base)
		return link_fail(link, "it referred to a mapping that it never offered");
	if (received_map(&vox->received.ours, ref->map_id, &offer))
		return link_fail(link, "it replaced a mapping that is still in use");
	return 0;
}

/* Sees to it that the frame's mapping is mapped. */
static int find_counted(struct vox_link *vox, const struct vox_mapping_ref *ref,
			const struct mapping_ref *borrowed)
{
	struct voxshm_link *link = &vox->link;
	int ret;

	if (link->end->ops->object_map) {
		ret = received_find(&vox->received.ours, link->end, borrowed);
		if (ret == -EBADMSG)
			return link_fail(link, "it referred to a mapping that it may not");
		return ret;
	}
	if (received_has(&vox->received.ours, ref->map_id, ref->generation))
		return 0;
	return map_offer(vox, ref);
}

static int recv_counted(struct vox_link *vox, const struct vox_mapping_ref *ref,
			struct voxshm_view *view)
{
	struct mapping_ref borrowed = {
		.map_id = ref->map_id,
		.map_generation = ref->generation,
		.offset = ref->offset,
		.length = ref->length,
	};
	uint32_t number;
	int ret;

	if (ref->map_id >= vox->received.ours.count)
		return link_fail(&vox->link, "it referred to a mapping that cannot be");
	ret = find_counted(vox, ref, &borrowed);
	if (ret)
		return ret;
	view->data = received_borrow(&vox->received.ours, &borrowed, &number);
	if (!view->data)
		return link_fail(&vox->link, "it referred to bytes outside of a mapping");
	view->token = (uint64_t)number << 32 | ref->map_id;
	view->kind = VIEW_MAPPING;
	return 0;
}

static int copy_plain(struct vox_link *vox, const struct vox_mapping_ref *ref,
		      struct vox_plain_copy **copy)
{
	struct voxshm_link *link = &vox->link;
	int fd, ret = 0, shortage = 0;
	bool too_many;

	pthread_mutex_lock(&link->waiters.lock);
	fd = vox_plain_begin(&vox->received, ref);
	if (fd == -ENOENT) {
		ret = vox_end_take_offers(vox->end, link);
		shortage = vox->end->end.shortage;
		fd = vox_plain_begin(&vox->received, ref);
	}
	too_many = shortage == -ENOBUFS || vox->received.evicted;
	pthread_mutex_unlock(&link->waiters.lock);
	if (fd == -ENOENT && ret == 0 && too_many)
		return link_fail(link, "it offered more mappings at once than max_mappings");
	if (fd == -ENOENT && shortage)
		return shortage;
	if (ret < 0 || fd < 0)
		return link_fail(link, "it referred to a mapping that it never offered");
	ret = vox_plain_copy(&vox->received, fd, ref, copy);
	pthread_mutex_lock(&link->waiters.lock);
	vox_plain_end(&vox->received, ref, ret == 0);
	pthread_mutex_unlock(&link->waiters.lock);
	return ret == -EBADMSG ? link_fail(link, "it took back memory that it had offered") : ret;
}

static int recv_plain(struct vox_link *vox, const struct vox_mapping_ref *ref,
		      struct voxshm_view *view)
{
	struct vox_plain_copy *copy;
	int ret = copy_plain(vox, ref, &copy);

	if (ret)
		return ret;
	view->data = copy->bytes;
	view->token = copy->number;
	view->kind = VIEW_COPY;
	return 0;
}

static int recv_mapping(struct vox_link *vox, const struct vox_mapping_ref *ref,
			struct voxshm_view *view)
{
	if (ref->length > vox->link.max_payload)
		return link_fail(&vox->link, "it sent more than max_payload");
	if (vox_end_kind(vox->end) == VOX_PEER_UNKNOWN)
		vox_end_learn_kind(vox->end);
	view->size = ref->length;
	return is_counted(vox) ? recv_counted(vox, ref, view) : recv_plain(vox, ref, view);
}

/* Receiving ----------------------------------------------------------------------------------- */

/* The guest was buried: what it left lies in private memory, its slots held already. */
static int recv_unread(struct vox_link *vox, struct voxshm_view *view)
{
	struct vox_entry entry;

	if (!vox_unread_next(&vox->unread, &entry))
		return -EAGAIN;
	switch (entry.kind) {
	case VOX_ENTRY_SLOT:
		return view_slot(vox, &entry.slot, view);
	case VOX_ENTRY_MAPPING:
		return recv_mapping(vox, &entry.mapping, view);
	case VOX_ENTRY_INLINE:
		break;
	}
	view->data = entry.payload;
	view->size = entry.length;
	view->token = 0;
	view->kind = VIEW_PRIVATE;
	return 0;
}

static int recv_reference(struct vox_link *vox, const struct vox_entry *entry,
			  struct voxshm_view *view)
{
	int ret;

	if (entry->kind == VOX_ENTRY_SLOT)
		ret = recv_slot(vox, &entry->slot, view);
	else
		ret = recv_mapping(vox, &entry->mapping, view);
	if (ret)
		return ret;
	return release_bytes(vox, vox_ring_take(&vox->consumer, entry->size));
}

/* Return: 0 with a view, -EAGAIN, -EBADMSG, ... */
static int recv_next(struct vox_link *vox, struct voxshm_view *view)
{
	struct voxshm_link *link = &vox->link;
	struct vox_ring_taken taken;
	struct vox_entry entry;
	int64_t readable;

	if (__builtin_expect(vox->buried, 0))
		return recv_unread(vox, view);
	readable = vox_ring_peek(&vox->consumer);
	if (readable <= 0) {
		if (readable)
			return link_fail(link, "its ring makes no sense");
		return -EAGAIN;
	}
	if (vox_entry_parse(&entry, vox_ring_at(&vox->consumer), (uint32_t)readable))
		return link_fail(link, "it sent a malformed frame");
	if (entry.kind != VOX_ENTRY_INLINE)
		return recv_reference(vox, &entry, view);
	if (entry.length > link->max_payload)
		return link_fail(link, "it sent more than max_payload");
	taken = vox_ring_take(&vox->consumer, entry.size);
	view->data = entry.payload;
	view->size = entry.length;
	view->token = (uint64_t)taken.size << 32 | taken.position;
	view->kind = VIEW_INLINE | taken.number << VIEW_KIND_BITS;
	return 0;
}

int vox_try_recv(struct voxshm_link *link, struct voxshm_view *view)
{
	struct vox_link *vox = vox_link(link);
	int ret = recv_next(vox, view);

	if (ret == 0) {
		vox->taken.messages++;
		vox->taken.bytes += view->size;
		vox_expect_rings(vox);
	}
	return ret;
}

static int release_inline(struct vox_link *vox, const struct voxshm_view *view)
{
	struct vox_ring_taken taken = {
		.position = (uint32_t)view->token,
		.size = (uint32_t)(view->token >> 32),
		.number = view->kind >> VIEW_KIND_BITS,
	};
	int ret = release_bytes(vox, taken);

	if (ret == 0 && vox->departed)
		vox_host_try_bury(vox);
	return ret;
}

int vox_release(struct voxshm_link *link, struct voxshm_view *view)
{
	struct vox_link *vox = vox_link(link);
	int ret = -EINVAL;

	switch (view->kind & ((1u << VIEW_KIND_BITS) - 1)) {
	case VIEW_INLINE:
		ret = vox->buried ? -EINVAL : release_inline(vox, view);
		break;
	case VIEW_SLOT:
		ret = release_slot(vox, view);
		break;
	case VIEW_MAPPING:
		ret = mapping_release(&vox->received.ours, (uint32_t)view->token,
				      (uint32_t)(view->token >> 32));
		if (ret == 0 && !vox->buried)
			vox_wake_space(vox);
		break;
	case VIEW_COPY:
		ret = vox_plain_release(&vox->received, view->token);
		break;
	case VIEW_PRIVATE:
		ret = 0;
		break;
	}
	if (ret)
		return ret;
	view->data = NULL;
	view->kind = VIEW_RELEASED;
	return 0;
}

bool vox_readable(struct voxshm_link *link)
{
	struct vox_link *vox = vox_link(link);

	if (__builtin_expect(vox->buried, 0))
		return vox->unread.cursor != vox->unread.size;
	return vox_ring_readable(&vox->consumer);
}
