/* SPDX-License-Identifier: MIT */
/*
 * native/recv.c - from a published entry to a borrowed view, and back.
 *
 * All that comes from the peer is loaded once and bounded here. A frame that
 * breaks a rule fails the link.
 */
#include "native/native.h"

enum view_kind {
	VIEW_RELEASED,
	VIEW_INLINE,		/* entry's number above; token: position, entry size */
	VIEW_SLOT,		/* class index above; token: slot, generation */
	VIEW_MAPPING,		/* token: map id, number of the borrow */
};

#define VIEW_KIND_BITS 8

void native_publish_space(struct native_link *native)
{
	bool published;

	pthread_mutex_lock(&native->link.waiters.lock);
	published = native_ring_publish(&native->consumer);
	pthread_mutex_unlock(&native->link.waiters.lock);
	if (published)
		link_wake(&native->link, &native->theirs->space);
}

/* Releases ring lines; the room goes back when enough of it is due or waited for. */
static int release_lines(struct native_link *native, uint32_t position, uint32_t size,
			 uint32_t number)
{
	int ret = native_ring_release(&native->consumer, position, size, number);

	if (__builtin_expect(ret, 0))
		return ret;
	if (native_ring_due(&native->consumer) ||
	    __builtin_expect(shared_hint_u32(&native->theirs->space) != 0, 0)) {
		native->consumer.unpublished = 0;
		native_publish_space(native);
	}
	return 0;
}

static inline uint64_t body_word(const struct native_entry *entry, unsigned int index)
{
	return shared_peek_u64((const shared_u64 *)(const void *)entry->payload + index);
}

static int recv_slot(struct native_link *native, const struct native_entry *entry,
		     struct voxshm_view *view)
{
	uint64_t first = body_word(entry, 0), second = body_word(entry, 1);
	struct slot_ref ref = {
		.class_index = (uint8_t)first,
		.extent = (uint8_t)(first >> 8),
		.slot = (uint32_t)(first >> 32),
		.generation = (uint32_t)second,
		.length = (uint32_t)(second >> 32),
	};
	const uint8_t *data;

	if (ref.length > native->link.max_payload)
		return link_fail(&native->link, "it sent more than max_payload");
	if ((uint16_t)(first >> 16))
		return link_fail(&native->link, "it sent a malformed slot reference");
	data = native_slot_borrow(&native->peer_pool, &ref);
	if (!data)
		return link_fail(&native->link, "it referred to a slot that is not there");
	*view = (struct voxshm_view){
		.data = data,
		.size = ref.length,
		.token = (uint64_t)ref.generation << 32 | ref.slot,
		.kind = VIEW_SLOT | (uint32_t)ref.class_index << VIEW_KIND_BITS,
	};
	return 0;
}

static struct native_offer take_offer(struct native_link *native, const struct mapping_ref *ref)
{
	struct waiters *waiters = &native->link.waiters;
	struct native_offer offer;

	pthread_mutex_lock(&waiters->lock);
	offer = native_received_take(&native->received, ref->map_id, ref->map_generation);
	pthread_mutex_unlock(&waiters->lock);
	return offer;
}

/* The peer offered it before it committed the frame: it has come already. */
static int map_offer(struct native_link *native, const struct mapping_ref *ref)
{
	struct voxshm_link *link = &native->link;
	struct native_offer offer = take_offer(native, ref);
	int ret;

	if (offer.fd < 0) {
		link_drain_wait(link);
		offer = take_offer(native, ref);
	}
	if (offer.fd < 0)
		return link_fail(link, "it referred to a mapping that it never offered");
	ret = native_received_map(&native->received, ref->map_id, &offer);
	if (ret == -EBADMSG)
		return link_fail(link, "it offered a mapping that is not what it said");
	if (ret) {
		pthread_mutex_lock(&link->waiters.lock);
		native_received_put_back(&native->received, ref->map_id, &offer);
		pthread_mutex_unlock(&link->waiters.lock);
	}
	return ret;
}

/* Sees to it that the frame's mapping is mapped. */
static int find_mapping(struct native_link *native, const struct mapping_ref *ref)
{
	struct voxshm_link *link = &native->link;
	int ret;

	if (link->end->ops->object_map) {
		ret = native_received_find(&native->received, link->end, ref);
		if (ret == -EBADMSG)
			return link_fail(link, "it referred to a mapping that it may not");
		return ret;
	}
	if (native_received_has(&native->received, ref->map_id, ref->map_generation))
		return 0;
	return map_offer(native, ref);
}

static int recv_mapping(struct native_link *native, const struct native_entry *entry,
			struct voxshm_view *view)
{
	uint64_t first = body_word(entry, 0), third = body_word(entry, 2);
	struct mapping_ref ref = {
		.map_id = (uint32_t)first,
		.map_generation = (uint32_t)(first >> 32),
		.offset = body_word(entry, 1),
		.length = (uint32_t)third,
	};
	const uint8_t *data;
	uint32_t number;
	int ret;

	if (third >> 32)
		return link_fail(&native->link, "it sent a malformed mapping reference");
	if (ref.map_id >= native->received.count || ref.length > native->link.max_payload)
		return link_fail(&native->link, "it referred to a mapping that cannot be");
	ret = find_mapping(native, &ref);
	if (ret)
		return ret;
	data = native_received_borrow(&native->received, &ref, &number);
	if (!data)
		return link_fail(&native->link, "it referred to a mapping that it may not");
	*view = (struct voxshm_view){
		.data = data,
		.size = ref.length,
		.token = (uint64_t)number << 32 | ref.map_id,
		.kind = VIEW_MAPPING,
	};
	return 0;
}

static int recv_reference(struct native_link *native, const struct native_entry *entry,
			  struct voxshm_view *view)
{
	int ret;

	if (frame_total_len(entry->header) != CACHE_LINE || frame_reserved(entry->header) ||
	    frame_inline_len(entry->header))
		return link_fail(&native->link, "it sent a malformed reference");
	switch (frame_flags(entry->header)) {
	case FRAME_SLOT_REF:
		ret = recv_slot(native, entry, view);
		break;
	case FRAME_MAPPING_REF:
		ret = recv_mapping(native, entry, view);
		break;
	default:
		return link_fail(&native->link, "it sent a frame with unknown flags");
	}
	if (ret)
		return ret;
	return release_lines(native, entry->position, frame_total_len(entry->header),
			     native_ring_take(&native->consumer, entry));
}

int native_try_recv(struct voxshm_link *link, struct voxshm_view *view)
{
	struct native_link *native = native_link(link);
	struct native_entry entry;
	uint32_t length, total;
	int ret;

	ret = native_ring_peek(&native->consumer, &entry);
	if (__builtin_expect(ret <= 0, 0)) {
		if (ret)
			return link_fail(link, "it sent a malformed frame");
		return -EAGAIN;
	}
	if (__builtin_expect(frame_flags(entry.header) != 0, 0)) {
		ret = recv_reference(native, &entry, view);
		if (ret)
			return ret;
	} else {
		length = frame_inline_len(entry.header);
		total = frame_total_len(entry.header);
		if (__builtin_expect(native_entry_size(length) != total ||
				     frame_reserved(entry.header) != 0 ||
				     length > link->max_payload, 0))
			return link_fail(link, "it sent a frame whose lengths do not agree");
		view->data = entry.payload;
		view->size = length;
		view->token = (uint64_t)total << 32 | entry.position;
		view->kind = VIEW_INLINE |
			     native_ring_take(&native->consumer, &entry) << VIEW_KIND_BITS;
	}
	link->messages_received++;
	link->bytes_received += view->size;
	return 0;
}

int native_release(struct voxshm_link *link, struct voxshm_view *view)
{
	struct native_link *native = native_link(link);
	uint32_t low = (uint32_t)view->token, high = (uint32_t)(view->token >> 32);
	uint32_t detail = view->kind >> VIEW_KIND_BITS;
	int ret;

	switch (view->kind & ((1u << VIEW_KIND_BITS) - 1)) {
	case VIEW_INLINE:
		ret = release_lines(native, low, high, detail);
		if (ret)
			return ret;
		break;
	case VIEW_SLOT:
		ret = native_slot_return(&native->peer_pool, detail, low, high);
		if (ret)
			return ret;
		link_wake(link, &native->theirs->space);
		break;
	case VIEW_MAPPING:
		ret = native_mapping_release(&native->received, low, high);
		if (ret)
			return ret;
		link_wake(link, &native->theirs->space);
		break;
	default:
		return -EINVAL;
	}
	view->data = NULL;
	view->kind = VIEW_RELEASED;
	return 0;
}

bool native_readable(struct voxshm_link *link)
{
	return native_ring_readable(&native_link(link)->consumer);
}
