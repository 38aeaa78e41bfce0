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
		link_wake(&native->link, &native->link.theirs->space);
}

/* Releases ring lines; the room goes back when enough of it is due or waited for. */
static inline int release_lines(struct native_link *native, uint32_t position, uint32_t size,
			 uint32_t number)
{
	int ret = native_ring_release(&native->consumer, position, size, number);

	if (__builtin_expect(ret, 0))
		return ret;
	if (native_ring_due(&native->consumer) ||
	    __builtin_expect(shared_hint_u32(&native->link.theirs->space) != 0, 0)) {
		native->consumer.unpublished = 0;
		native_publish_space(native);
	}
	return 0;
}

/*
 * Releases what is parked. Nobody needs to be woken: the producer never waits for
 * room that may wait.
 */
static inline void unpark(struct native_link *native)
{
	native_ring_release_only(&native->consumer, native->consumer.parked);
	native->consumer.parked = 0;
}

/*
 * Where nothing else is held, an entry is parked, and released when this thread
 * receives again. Zeroing its lines takes them out of the producer's cache, and
 * an answer to the message could not be seen before that is done. The producer
 * does not lack the room meanwhile: lazy_room() allows for it.
 * Return: was it parked?
 */
static inline bool park(struct native_link *native, uint32_t position, uint32_t size,
			uint32_t number)
{
	if (__builtin_expect(native->consumer.parked ||
			     !native_ring_only(&native->consumer, position, number) ||
			     !native_ring_can_wait(&native->consumer, size) ||
			     shared_hint_u32(&native->link.theirs->space) != 0, 0))
		return false;
	native->consumer.parked = size;
	return true;
}

static int release_later(struct native_link *native, uint32_t position, uint32_t size,
			 uint32_t number)
{
	if (park(native, position, size, number))
		return 0;
	if (native->consumer.parked)
		unpark(native);
	return release_lines(native, position, size, number);
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

/* More than a socket has room for offers, at the least that a drain takes. */
#define DRAINS_FOR_OFFER 1024

/*
 * Return: 0; -ENOENT (it has not come), -EAGAIN (nor all that has), or why it
 * could not be taken.
 */
static int take_offer(struct native_link *native, const struct mapping_ref *ref,
		      struct received_offer *offer)
{
	struct waiters *waiters = &native->link.waiters;
	int ret = 0;

	pthread_mutex_lock(&waiters->lock);
	*offer = received_take(&native->received, ref->map_id, ref->map_generation);
	if (offer->memory.base)
		native->link.patience += END_KNOCKS_OF_OFFER;
	else if (native->link.end->shortage)
		ret = native->link.end->shortage;
	else
		ret = native->link.end->more ? -EAGAIN : -ENOENT;
	pthread_mutex_unlock(&waiters->lock);
	return ret;
}

/* The peer offered it before it committed the frame: it has come already. */
static int map_offer(struct native_link *native, const struct mapping_ref *ref)
{
	struct voxshm_link *link = &native->link;
	struct received_offer offer;
	int ret = take_offer(native, ref, &offer), drains = 0;

	while (ret && drains++ < DRAINS_FOR_OFFER) {
		link_drain_wait(link);
		ret = take_offer(native, ref, &offer);
		if (ret != -EAGAIN)
			break;
	}
	if (ret == -ENOENT || ret == -EAGAIN)
		return link_fail(link, "it referred to a mapping that it never offered");
	if (ret)
		return ret;
	if (received_map(&native->received, ref->map_id, &offer))
		return link_fail(link, "it replaced a mapping that is still in use");
	return 0;
}

/* Sees to it that the frame's mapping is mapped. */
static int find_mapping(struct native_link *native, const struct mapping_ref *ref)
{
	struct voxshm_link *link = &native->link;
	int ret;

	if (link->end->ops->object_map) {
		ret = received_find(&native->received, link->end, ref);
		if (ret == -EBADMSG)
			return link_fail(link, "it referred to a mapping that it may not");
		return ret;
	}
	if (received_has(&native->received, ref->map_id, ref->map_generation))
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
	data = received_borrow(&native->received, &ref, &number);
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
	return release_later(native, entry->position, frame_total_len(entry->header),
			     native_ring_take(&native->consumer, entry));
}

/* One that recv_quick() found no good, or behind a wrap. */
static int recv_inline(struct native_link *native, const struct native_entry *entry,
		       struct voxshm_view *view)
{
	uint32_t length = frame_inline_len(entry->header);
	uint32_t total = frame_total_len(entry->header);

	if (native_entry_size(length) != total || frame_reserved(entry->header) != 0 ||
	    length > native->link.max_payload)
		return link_fail(&native->link, "it sent a frame whose lengths do not agree");
	view->data = entry->payload;
	view->size = length;
	view->token = (uint64_t)total << 32 | entry->position;
	view->kind = VIEW_INLINE | native_ring_take(&native->consumer, entry) << VIEW_KIND_BITS;
	return 0;
}

/*
 * The usual case in a few instructions. Return: false when it is another one;
 * then nothing has changed but for the parked entry.
 */
static inline bool recv_quick(struct native_link *native, struct voxshm_view *view)
{
	struct native_consumer *consumer = &native->consumer;
	uint32_t cursor, number, length, total;
	uint64_t header;

	if (native->consumer.parked)
		unpark(native);
	cursor = consumer->cursor;
	header = shared_load_u64(native_line(consumer->ring, cursor));	/* A */
	length = frame_inline_len(header);
	total = frame_total_len(header);
	/* An inline frame, and nothing else, has these lengths and no flag. */
	if (__builtin_expect(header != frame_header(native_entry_size(length), 0,
						    (uint16_t)length) ||
			     total > consumer->limit - cursor ||
			     length > native->link.max_payload, 0))
		return false;
	number = consumer->taken_count;
	consumer->cursor = cursor + total;
	consumer->taken_count = (number + 1) & NATIVE_ENTRY_NUMBER_MASK;
	view->data = (uint8_t *)native_line(consumer->ring, cursor) + FRAME_HEADER_SIZE;
	view->size = length;
	view->token = (uint64_t)total << 32 | cursor;
	view->kind = VIEW_INLINE | number << VIEW_KIND_BITS;
	native->taken.messages++;
	native->taken.bytes += length;
	return true;
}

int native_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout)
{
	if (__builtin_expect(recv_quick(native_link(link), view), 1))
		return 0;
	return link_recv(link, view, timeout);
}

unsigned int native_recv_some(struct voxshm_link *link, struct voxshm_view *views,
			      unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count && recv_quick(native_link(link), &views[i]); i++)
		native_ring_ask_ahead(&native_link(link)->consumer);
	return i;
}

static __attribute__((noinline)) int recv_other(struct native_link *native,
						struct voxshm_view *view)
{
	struct native_entry entry;
	int ret;

	shared_look_again();
	ret = native_ring_peek(&native->consumer, &entry);
	if (ret == 0)
		return -EAGAIN;
	if (ret < 0)
		return link_fail(&native->link, "it sent a malformed frame");
	ret = frame_flags(entry.header) ? recv_reference(native, &entry, view) :
	      recv_inline(native, &entry, view);
	if (ret)
		return ret;
	native->taken.messages++;
	native->taken.bytes += view->size;
	return 0;
}

int native_try_recv(struct voxshm_link *link, struct voxshm_view *view)
{
	if (__builtin_expect(recv_quick(native_link(link), view), 1))
		return 0;
	return recv_other(native_link(link), view);
}

static int release_any(struct native_link *native, const struct voxshm_view *view)
{
	uint32_t low = (uint32_t)view->token, high = (uint32_t)(view->token >> 32);
	uint32_t detail = view->kind >> VIEW_KIND_BITS;
	int ret;

	switch (view->kind & ((1u << VIEW_KIND_BITS) - 1)) {
	case VIEW_INLINE:
		return release_later(native, low, high, detail);
	case VIEW_SLOT:
		ret = native_slot_return(&native->peer_pool, detail, low, high);
		break;
	case VIEW_MAPPING:
		ret = mapping_release(&native->received, low, high);
		break;
	default:
		return -EINVAL;
	}
	if (ret == 0)
		link_wake(&native->link, &native->link.theirs->space);
	return ret;
}

static __attribute__((noinline)) int release_view(struct native_link *native,
						  struct voxshm_view *view)
{
	int ret;

	if ((uint8_t)view->kind == VIEW_INLINE && !native->consumer.parked)
		ret = release_lines(native, (uint32_t)view->token, (uint32_t)(view->token >> 32),
				    view->kind >> VIEW_KIND_BITS);
	else
		ret = release_any(native, view);
	if (__builtin_expect(ret, 0))
		return ret;
	view->data = NULL;
	view->kind = VIEW_RELEASED;
	return 0;
}

int native_release(struct voxshm_link *link, struct voxshm_view *view)
{
	struct native_link *native = native_link(link);
	uint32_t kind = view->kind;

	if ((uint8_t)kind != VIEW_INLINE ||
	    !park(native, (uint32_t)view->token, (uint32_t)(view->token >> 32),
		  kind >> VIEW_KIND_BITS))
		return release_view(native, view);
	view->data = NULL;
	view->kind = VIEW_RELEASED;
	return 0;
}

bool native_readable(struct voxshm_link *link)
{
	return native_ring_readable(&native_link(link)->consumer);
}
