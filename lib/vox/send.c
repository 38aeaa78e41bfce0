/* SPDX-License-Identifier: MIT */
/*
 * vox/send.c - from a payload to a published entry.
 *
 * Room in the ring is granted first: it stays granted, as there is only one
 * producer, so that nothing is taken from pool or mappings in vain and the
 * commit cannot fail.
 *
 * From just before its commit a slot is the guest's, whichever way it goes, so
 * that it comes back when the guest dies. (Of what it received the host keeps
 * a book of its own.)
 */
#include "vox/vox.h"

enum loan_kind {
	LOAN_CLOSED,
	LOAN_SLOT,		/* class, extent above; token: slot, generation */
	LOAN_MAPPING,		/* token: map id, generation */
	LOAN_PLAIN_MAPPING,	/* token: map id */
};

#define LOAN_CLASS_SHIFT 8
#define LOAN_EXTENT_SHIFT 16

static int lacking(struct vox_link *vox, enum vox_lack lack, size_t size)
{
	vox->lack = lack;
	vox->lack_size = (uint32_t)size;
	vox->link.blocked = true;
	return -EAGAIN;
}

/* A plain peer knows the first extent alone. */
static uint32_t usable_extents(const struct vox_link *vox)
{
	return vox_is_ours(vox) ? VOX_MAX_EXTENTS : 1;
}

/* Who we are as the owner of a slot. */
static uint32_t self(const struct vox_link *vox)
{
	return vox->link.is_host ? VOXSHM_PEER_HOST : vox->link.peer_id;
}

static int64_t grant(struct vox_link *vox, uint32_t size)
{
	int64_t position = vox_ring_grant(&vox->producer, size);

	if (__builtin_expect(position >= 0, 1))
		return position;
	if (position == -EAGAIN)
		return lacking(vox, VOX_LACK_RING, size);
	return link_fail(&vox->link, "its read index is not an index of the ring");
}

static void committed(struct vox_link *vox, size_t size, bool more)
{
	vox->sent.messages++;
	vox->sent.bytes += size;
	vox_expect_rings(vox);
	if (!more)
		vox_wake_data(vox);
}

/* Slots ----------------------------------------------------------------------------------- */

/*
 * The pool is exhausted. Are there more slots after all: for a guest, what the
 * host has added; for the host, what a dead guest left in doubt?
 */
static bool find_more(struct vox_link *vox)
{
	return (vox->link.is_host ? vox_search_lost(vox->segment) :
				    voxshm_segment_remap(vox->segment)) > 0;
}

static int take_slot(struct vox_link *vox, size_t size, struct vox_slot_ref *ref)
{
	uint32_t needed = (uint32_t)size + VOX_LENGTH_PREFIX;
	int ret;

	ret = vox_pool_alloc(&vox->segment->pool, needed, self(vox), usable_extents(vox),
			     vox->sender_intent, ref);
	if (ret == -EAGAIN && find_more(vox)) {
		shared_look_again();
		ret = vox_pool_alloc(&vox->segment->pool, needed, self(vox), usable_extents(vox),
				     vox->sender_intent, ref);
	}
	if (ret == -EAGAIN)
		return lacking(vox, VOX_LACK_SLOT, needed);
	/* Its list may say that a slot is free which this process has lent or borrowed. */
	if (ret == 0 && vox_pool_is_held(&vox->segment->pool, ref))
		ret = -EBADMSG;
	return ret ? link_fail(&vox->link, "the slot pool is corrupt") : 0;
}

static uint8_t *slot_payload(struct vox_link *vox, const struct vox_slot_ref *ref, size_t *room)
{
	uint32_t slot_size;
	uint8_t *data = vox_pool_data(&vox->segment->pool, ref, &slot_size);

	*room = slot_size - VOX_LENGTH_PREFIX;
	return data + VOX_LENGTH_PREFIX;
}

static void commit_slot(struct vox_link *vox, int64_t position, const struct vox_slot_ref *ref,
			size_t size, bool more)
{
	uint32_t length = (uint32_t)size, slot_size;

	memcpy(vox_pool_data(&vox->segment->pool, ref, &slot_size), &length, sizeof(length));
	vox_pool_set_owner(&vox->segment->pool, ref, vox->link.peer_id);
	vox_entry_write_slot(vox_ring_entry(&vox->producer, position), ref);
	vox_ring_commit(&vox->producer, position, VOX_SLOT_ENTRY, !more);
	committed(vox, size, more);
}

static int send_slot(struct vox_link *vox, const void *data, size_t size, bool more)
{
	int64_t position = grant(vox, VOX_SLOT_ENTRY);
	struct vox_slot_ref ref;
	size_t room;
	int ret;

	if (position < 0)
		return (int)position;
	ret = take_slot(vox, size, &ref);
	if (ret)
		return ret;
	if (size)
		memcpy(slot_payload(vox, &ref, &room), data, size);
	commit_slot(vox, position, &ref, size, more);
	return 0;
}

/* Mappings -------------------------------------------------------------------------------- */

static void commit_mapping(struct vox_link *vox, int64_t position, uint32_t map_id,
			   uint32_t generation, size_t size, bool more)
{
	struct vox_mapping_ref ref = {
		.map_id = map_id,
		.generation = generation,
		.length = (uint32_t)size,
	};

	vox_entry_write_mapping(vox_ring_entry(&vox->producer, position), &ref);
	vox_ring_commit(&vox->producer, position, VOX_MAPPING_ENTRY, !more);
	committed(vox, size, more);
}

/* An offer did not get through; the peer takes some out when it is woken. */
static int offer_refused(struct vox_link *vox, int ret, size_t size)
{
	if (ret != -ENOBUFS)
		return ret;
	/* Once: who rings without end is cut off, and it may have reasons not to look. */
	if (!vox->offer_rung)
		vox->link.end->ops->ring(vox->link.end);
	vox->offer_rung = true;
	return lacking(vox, VOX_LACK_CONTROL, size);
}

/* One of our mappings for a peer of ours. Return: its index or -errno. */
static int take_mapping(struct vox_link *vox, size_t size)
{
	int map_id = mapping_alloc(&vox->mappings.ours, vox->link.end, size,
				   &vox->link.mappings_made);

	if (map_id == -EAGAIN)
		return lacking(vox, VOX_LACK_MAPPING, size);
	if (map_id < 0)
		return offer_refused(vox, map_id, size);
	vox->offer_rung = false;
	return map_id;
}

static uint32_t our_generation(const struct vox_link *vox, uint32_t map_id)
{
	return vox->mappings.ours.table[map_id].generation;
}

static bool sends_plain_mappings(const struct vox_link *vox)
{
	return vox_end_kind(vox->end) == VOX_PEER_PLAIN;
}

static int commit_plain(struct vox_link *vox, struct vox_plain_loan *loan, size_t size, bool more)
{
	int64_t position = grant(vox, VOX_MAPPING_ENTRY);
	int ret;

	if (position < 0)
		return (int)position;
	ret = vox->link.end->ops->offer(vox->link.end, loan->map_id, 0, &loan->memory);
	if (ret)
		return offer_refused(vox, ret, size);
	vox->offer_rung = false;
	vox->link.mappings_made++;
	commit_mapping(vox, position, loan->map_id, 0, size, more);
	vox_plain_free(&vox->mappings, loan);
	return 0;
}

static int send_mapping(struct vox_link *vox, const void *data, size_t size, bool more)
{
	struct vox_plain_loan *loan;
	int64_t position;
	int ret;

	position = grant(vox, VOX_MAPPING_ENTRY);
	if (position < 0)
		return (int)position;
	if (sends_plain_mappings(vox)) {
		ret = vox_plain_alloc(&vox->mappings, size, &loan);
		if (ret)
			return ret;
		memcpy(loan->memory.base, data, size);
		ret = commit_plain(vox, loan, size, more);
		if (ret)
			vox_plain_free(&vox->mappings, loan);
		return ret;
	}
	ret = take_mapping(vox, size);
	if (ret < 0)
		return ret;
	memcpy(vox->mappings.ours.table[ret].memory.base, data, size);
	mapping_sent(&vox->mappings.ours, (uint32_t)ret);
	commit_mapping(vox, position, (uint32_t)ret, our_generation(vox, (uint32_t)ret), size,
		       more);
	return 0;
}

/* Sending --------------------------------------------------------------------------------- */

int vox_try_send(struct voxshm_link *link, const void *data, size_t size, bool more)
{
	struct vox_link *vox = vox_link(link);
	uint32_t entry_size;
	int64_t position;
	uint8_t *payload;

	if (size > link->max_payload)
		return -EMSGSIZE;
	if (__builtin_expect(size >= vox->inline_end, 0))
		return size < vox->slot_end ? send_slot(vox, data, size, more) :
						 send_mapping(vox, data, size, more);
	entry_size = vox_entry_size((uint32_t)size);
	position = grant(vox, entry_size);
	if (__builtin_expect(position < 0, 0))
		return (int)position;
	payload = vox_entry_write_inline(vox_ring_entry(&vox->producer, position),
					 (uint32_t)size);
	if (size)
		memcpy(payload, data, size);
	vox_ring_commit(&vox->producer, position, entry_size, !more);
	committed(vox, size, more);
	return 0;
}

/* The fenced half of C for all that was committed with `more`. */
void vox_flush(struct voxshm_link *link)
{
	struct vox_link *vox = vox_link(link);

	shared_store_fenced_u32(&vox->producer.ring->write, vox->producer.write);	/* C */
	vox_wake_data(vox);
}

/* Loans ------------------------------------------------------------------------------------- */

static int loan_slot(struct vox_link *vox, size_t size, struct voxshm_loan *loan)
{
	struct vox_slot_ref ref;
	int ret = take_slot(vox, size, &ref);

	if (ret)
		return ret;
	if (vox_pool_hold(&vox->segment->pool, &ref, self(vox), vox->holder))
		return link_fail(&vox->link, "the slot pool is corrupt");
	loan->data = slot_payload(vox, &ref, &loan->size);
	loan->token = (uint64_t)ref.generation << 32 | ref.slot;
	loan->kind = LOAN_SLOT | (uint32_t)ref.class_index << LOAN_CLASS_SHIFT |
		     (uint32_t)ref.extent << LOAN_EXTENT_SHIFT;
	return 0;
}

static int loan_mapping(struct vox_link *vox, size_t size, struct voxshm_loan *loan)
{
	struct vox_plain_loan *plain;
	struct memory *memory;
	int ret;

	if (sends_plain_mappings(vox)) {
		ret = vox_plain_alloc(&vox->mappings, size, &plain);
		if (ret)
			return ret;
		memory = &plain->memory;
		loan->token = plain->map_id;
		loan->kind = LOAN_PLAIN_MAPPING;
	} else {
		ret = take_mapping(vox, size);
		if (ret < 0)
			return ret;
		memory = &vox->mappings.ours.table[ret].memory;
		loan->token = (uint64_t)our_generation(vox, (uint32_t)ret) << 32 | (uint32_t)ret;
		loan->kind = LOAN_MAPPING;
	}
	loan->data = memory->base;
	loan->size = memory->size;
	return 0;
}

int vox_try_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan)
{
	struct vox_link *vox = vox_link(link);
	int ret;

	if (size > link->max_payload)
		return -EMSGSIZE;
	ret = size < vox->slot_end ? loan_slot(vox, size, loan) :
					loan_mapping(vox, size, loan);
	if (ret == 0 && loan->size > link->max_payload)
		loan->size = link->max_payload;
	return ret;
}

/* The loan's slot; false when the loan is not an open one of this link. */
static bool find_slot(const struct vox_link *vox, const struct voxshm_loan *loan,
		      struct vox_slot_ref *ref)
{
	*ref = (struct vox_slot_ref){
		.class_index = (uint8_t)(loan->kind >> LOAN_CLASS_SHIFT),
		.extent = (uint8_t)(loan->kind >> LOAN_EXTENT_SHIFT),
		.slot = (uint32_t)loan->token,
		.generation = (uint32_t)(loan->token >> 32),
	};
	return (loan->kind & 0xff) == LOAN_SLOT && vox_pool_find(&vox->segment->pool, ref) &&
	       vox_pool_is_held_by(&vox->segment->pool, ref, vox->holder);
}

static bool find_mapping(const struct vox_link *vox, const struct voxshm_loan *loan)
{
	return loan->kind == LOAN_MAPPING &&
	       mapping_loaned(&vox->mappings.ours, (uint32_t)loan->token,
			      (uint32_t)(loan->token >> 32));
}

static struct vox_plain_loan *find_plain(struct vox_link *vox, const struct voxshm_loan *loan)
{
	return loan->kind == LOAN_PLAIN_MAPPING ?
		vox_plain_find(&vox->mappings, (uint32_t)loan->token) : NULL;
}

static int commit_loan(struct vox_link *vox, struct voxshm_loan *loan, size_t size)
{
	struct vox_plain_loan *plain = find_plain(vox, loan);
	struct vox_slot_ref ref;
	bool slot = find_slot(vox, loan, &ref);
	int64_t position;

	if (!plain && !slot && !find_mapping(vox, loan))
		return -EINVAL;
	if (size > loan->size)
		return -EINVAL;
	if (plain)
		return commit_plain(vox, plain, size, false);
	position = grant(vox, slot ? VOX_SLOT_ENTRY : VOX_MAPPING_ENTRY);
	if (position < 0)
		return (int)position;
	if (slot) {
		vox_pool_unhold(&vox->segment->pool, &ref);
		commit_slot(vox, position, &ref, size, false);
	} else {
		mapping_sent(&vox->mappings.ours, (uint32_t)loan->token);
		commit_mapping(vox, position, (uint32_t)loan->token,
			       (uint32_t)(loan->token >> 32), size, false);
	}
	return 0;
}

int vox_try_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size)
{
	int ret = commit_loan(vox_link(link), loan, size);

	if (ret == 0)
		*loan = (struct voxshm_loan){ .kind = LOAN_CLOSED };
	return ret;
}

void vox_abort(struct voxshm_link *link, struct voxshm_loan *loan)
{
	struct vox_link *vox = vox_link(link);
	struct vox_plain_loan *plain = find_plain(vox, loan);
	struct vox_slot_ref ref;

	if (find_slot(vox, loan, &ref))
		vox_link_free_slot(vox, &ref, VOX_SENDER);
	else if (find_mapping(vox, loan))
		mapping_unalloc(&vox->mappings.ours, (uint32_t)loan->token);
	else if (plain)
		vox_plain_free(&vox->mappings, plain);
	*loan = (struct voxshm_loan){ .kind = LOAN_CLOSED };
}

bool vox_writable(struct voxshm_link *link)
{
	struct vox_link *vox = vox_link(link);

	switch (vox->lack) {
	case VOX_LACK_RING:
		return vox_producer_refresh(&vox->producer) ||
		       vox_ring_place(&vox->producer, vox->lack_size) >= 0;
	case VOX_LACK_SLOT:
		return vox_pool_available(&vox->segment->pool, vox->lack_size,
					  usable_extents(vox)) ||
		       vox_has_grown(vox->segment);
	case VOX_LACK_MAPPING:
		return mapping_available(&vox->mappings.ours);
	case VOX_LACK_CONTROL:
		return vox_end_can_offer(vox->end);
	case VOX_LACK_NOTHING:
		break;
	}
	return true;
}
