/* SPDX-License-Identifier: MIT */
/*
 * vox/recover.c - a guest has ended; what it had is put back in order.
 *
 * In this order, and after it nothing of the dead is left in shared memory:
 *
 *	its slot says Goodbye
 *	what it had sent and we had not read is copied, its slots marked held
 *	what we had sent and it had not read is freed
 *	what it owns, and we do not hold, is freed
 *	what it was taking or giving when it died is found (pool_search.c says why
 *		that is safe while others go on)
 *	its rings, link block and peer entry are emptied
 *	its slot says Empty
 *
 * The host may be killed here too; then the segment ends with it. A step that
 * lacks memory leaves the slot in Goodbye, and all of it can be done again.
 *
 * Barrier pair G: see peers.c.
 */
#include <stdlib.h>
#include <string.h>

#include "vox/segment.h"

#define MAX_INTENTS (VOXSHM_MAX_GUESTS * VOX_SIDES * VOX_THREADS + VOX_THREADS)

struct voxshm_segment_unread {
	struct vox_unread unread;
	struct voxshm_segment *segment;
};

/* The guest's unread messages ------------------------------------------------------- */

int vox_unread_next(struct vox_unread *unread, struct vox_entry *entry)
{
	if (unread->cursor == unread->size ||
	    vox_entry_parse(entry, unread->bytes + unread->cursor,
			    unread->size - unread->cursor) < 0)
		return 0;
	unread->cursor += entry->size;
	return 1;
}

void vox_unread_deinit(struct vox_unread *unread)
{
	free(unread->bytes);
	*unread = (struct vox_unread){ 0 };
}

void vox_free_all_held(struct voxshm_segment *segment, uint32_t holder)
{
	pthread_mutex_lock(&segment->lock);
	vox_pool_free_all_held(&segment->pool, holder,
			       &vox_directory(segment)->host_intents[VOX_RECEIVER]);
	pthread_mutex_unlock(&segment->lock);
}

/*
 * Writes an entry anew from what was parsed: the copy is as good as what was
 * checked. A slot that is not the sender's to send is left out.
 */
static void keep_entry(struct vox_unread *unread, const struct vox_entry *entry,
		       struct vox_pool *pool, uint32_t peer)
{
	uint8_t *copy = unread->bytes + unread->size;

	switch (entry->kind) {
	case VOX_ENTRY_INLINE:
		memcpy(vox_entry_write_inline(copy, entry->length), entry->payload,
		       entry->length);
		break;
	case VOX_ENTRY_SLOT:
		if (vox_pool_hold(pool, &entry->slot, peer, unread->holder) < 0)
			return;
		vox_entry_write_slot(copy, &entry->slot);
		break;
	case VOX_ENTRY_MAPPING:
		vox_entry_write_mapping(copy, &entry->mapping);
		break;
	}
	unread->size += entry->size;
}

/* A ring that makes no sense ends where that begins. */
static int copy_unread(struct voxshm_segment *segment, uint32_t peer,
		       const struct vox_ring_consumer *known, struct vox_unread *unread)
{
	struct vox_ring_consumer consumer;
	struct vox_entry entry;
	int64_t readable;

	*unread = (struct vox_unread){ .holder = unread->holder };
	if (known)
		consumer = *known;
	else if (vox_consumer_init(&consumer, vox_peer_ring(segment, peer, VOX_GUEST),
				   segment->geometry.ring_capacity, NULL) < 0)
		return 0;
	shared_look_again();
	readable = vox_ring_peek(&consumer);
	if (readable <= 0)
		return 0;
	unread->bytes = malloc(segment->geometry.ring_capacity);
	if (!unread->bytes)
		return -ENOMEM;
	while (readable > 0 &&
	       vox_entry_parse(&entry, vox_ring_at(&consumer), (uint32_t)readable) == 0 &&
	       entry.size <= segment->geometry.ring_capacity - unread->size) {
		keep_entry(unread, &entry, &segment->pool, peer);
		vox_ring_take(&consumer, entry.size);
		shared_look_again();
		readable = vox_ring_peek(&consumer);
	}
	return 0;
}

/* The host's unread messages ---------------------------------------------------------- */

/*
 * Only slots that are the guest's or the host's own: the guest may have
 * written into this ring.
 */
static uint32_t free_unread(struct voxshm_segment *segment, uint32_t peer)
{
	struct vox_pool *pool = &segment->pool;
	struct vox_ring_consumer consumer;
	struct vox_entry entry;
	uint64_t seen = 0;
	uint32_t owner, freed = 0;
	int64_t readable;

	if (vox_consumer_init(&consumer, vox_peer_ring(segment, peer, VOX_HOST),
			      segment->geometry.ring_capacity, NULL) < 0)
		return 0;
	shared_look_again();
	while ((readable = vox_ring_peek(&consumer)) > 0 && seen < segment->geometry.ring_capacity &&
	       vox_entry_parse(&entry, vox_ring_at(&consumer), (uint32_t)readable) == 0) {
		seen += entry.size;
		vox_ring_take(&consumer, entry.size);
		shared_look_again();
		if (entry.kind != VOX_ENTRY_SLOT || !vox_pool_is_current(pool, &entry.slot) ||
		    vox_pool_is_held(pool, &entry.slot))
			continue;
		owner = vox_pool_owner(pool, &entry.slot);
		if ((owner == peer || owner == VOXSHM_PEER_HOST) &&
		    vox_pool_free(pool, &entry.slot, NULL) == 0)
			freed++;
	}
	return freed;
}

/* Slots in nobody's hands -------------------------------------------------------------- */

struct living {
	struct vox_living living;
	const struct voxshm_segment *segment;
	uint32_t dead;			/* whose place does not count; 0: none */
};

static bool has_stranger(const struct vox_living *living)
{
	const struct living *all = (const struct living *)living;

	return vox_has_plain_peer(all->segment, all->dead);
}

static int search_lost(struct voxshm_segment *segment, uint32_t dead)
{
	const shared_u64 *intents[MAX_INTENTS];
	struct vox_directory *directory = vox_directory(segment);
	struct living living = {
		.living = { .intents = intents, .has_stranger = has_stranger },
		.segment = segment,
		.dead = dead,
	};
	size_t count = 0;
	uint32_t peer, side, thread;

	for (thread = 0; thread < VOX_THREADS; thread++)
		intents[count++] = &directory->host_intents[thread];
	for (peer = 1; peer <= segment->geometry.max_guests; peer++)
		for (side = 0; side < VOX_SIDES; side++)
			for (thread = 0; thread < VOX_THREADS; thread++)
				intents[count++] =
					&vox_link_block(segment, peer)->side[side].intents[thread];
	living.living.num_intents = count;
	return vox_pool_search(&segment->pool, &living.living);
}

int vox_search_lost(struct voxshm_segment *segment)
{
	int ret;

	pthread_mutex_lock(&segment->lock);
	ret = search_lost(segment, 0);
	pthread_mutex_unlock(&segment->lock);
	return ret;
}

static void suspect_slots(struct voxshm_segment *segment, uint32_t peer)
{
	struct vox_side_words *words = &vox_link_block(segment, peer)->side[VOX_GUEST];
	uint32_t thread;

	if (vox_peer_is_plain(segment, peer))
		vox_pool_suspect_all(&segment->pool);
	for (thread = 0; thread < VOX_THREADS; thread++) {
		vox_pool_suspect(&segment->pool, shared_load_u64(&words->intents[thread]));
		shared_store_u64(&words->intents[thread], 0);
	}
}

/* The peer slot -------------------------------------------------------------------------- */

static void empty_slot(struct voxshm_segment *segment, uint32_t peer, uint32_t epoch)
{
	struct vox_link_block *block = vox_link_block(segment, peer);
	struct peer_entry *entry = vox_peer(segment, peer);
	uint32_t capacity = segment->geometry.ring_capacity;
	uint32_t i, side;

	for (side = 0; side < VOX_SIDES; side++) {
		shared_u32 *released = vox_released(segment, peer, side);

		vox_ring_init(vox_peer_ring(segment, peer, side), capacity);
		shared_poke_u32(&block->sleep[side].data, 0);
		shared_poke_u32(&block->sleep[side].space, 0);
		for (i = 0; i < segment->geometry.max_mappings; i++)
			shared_poke_u32(&released[i], 0);
	}
	shared_poke_u64(&entry->last_heartbeat, 0);
	shared_poke_u32(&entry->features, 0);
	shared_poke_u32(&entry->pid, 0);
	shared_poke_u32(&entry->exit_status, 0);
	memset(entry->reserved, 0, sizeof(entry->reserved));
	shared_store_u64(&entry->state_epoch, peer_word(PEER_EMPTY, epoch));	/* G */
}

static int recover(struct voxshm_segment *segment, uint32_t peer,
		   const struct vox_ring_consumer *consumer, struct vox_unread *unread)
{
	uint32_t epoch;
	int ret, freed;

	shared_look_again();
	if (vox_say_goodbye(segment, peer, &epoch) == PEER_EMPTY)
		return -ESTALE;
	if (unread) {
		ret = copy_unread(segment, peer, consumer, unread);
		if (ret)
			return ret;
	}
	freed = (int)free_unread(segment, peer);
	freed += (int)vox_pool_reclaim(&segment->pool, peer);
	shared_look_again();
	suspect_slots(segment, peer);
	ret = search_lost(segment, peer);
	empty_slot(segment, peer, epoch);
	return ret > 0 ? freed + ret : freed;
}

int vox_recover(struct voxshm_segment *segment, uint32_t peer,
		const struct vox_ring_consumer *consumer, struct vox_unread *unread)
{
	int ret;

	if (!segment->is_host)
		return -EPERM;
	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	pthread_mutex_lock(&segment->lock);
	ret = recover(segment, peer, consumer, unread);
	pthread_mutex_unlock(&segment->lock);
	return ret;
}

/* Public ------------------------------------------------------------------------------------ */

int voxshm_segment_recover(struct voxshm_segment *segment, uint32_t peer,
			   struct voxshm_segment_unread **result, struct voxshm_error *error)
{
	struct voxshm_segment_unread *object = NULL;
	int ret;

	if (result) {
		*result = NULL;
		object = calloc(1, sizeof(*object));
		if (!object)
			return error_errno(error, -ENOMEM, "cannot recover peer %u", peer);
		object->segment = segment;
		object->unread.holder = vox_pool_new_holder(&segment->pool);
	}
	ret = vox_recover(segment, peer, NULL, object ? &object->unread : NULL);
	if (ret < 0) {
		free(object);
		return error_errno(error, ret, "cannot recover peer %u", peer);
	}
	if (result)
		*result = object;
	return ret;
}

int voxshm_segment_unread_next(struct voxshm_segment_unread *unread, const void **data,
			       size_t *size)
{
	struct vox_entry entry;
	const uint8_t *message;
	int64_t length;

	while (vox_unread_next(&unread->unread, &entry)) {
		if (entry.kind == VOX_ENTRY_MAPPING)
			continue;
		message = entry.payload;
		length = entry.length;
		if (entry.kind == VOX_ENTRY_SLOT)
			length = vox_pool_message(&unread->segment->pool, &entry.slot, &message);
		if (length < 0)
			continue;
		*data = message;
		*size = (size_t)length;
		return 1;
	}
	return 0;
}

void voxshm_segment_unread_free(struct voxshm_segment_unread *unread)
{
	if (!unread)
		return;
	vox_free_all_held(unread->segment, unread->unread.holder);
	vox_unread_deinit(&unread->unread);
	free(unread);
}
