/* SPDX-License-Identifier: MIT */
/*
 * vox/pool_search.c - the host finds what a dead peer left behind in the pool:
 * slots that it owned, and slots that are in nobody's hands.
 *
 * A slot is in nobody's hands when a peer died between popping it and making
 * it its own, or between marking it free and pushing it. A dead peer of ours
 * named such a slot in an intent word; a plain vox-shm peer named nothing, so
 * then every slot is a suspect. A suspect is given back only when it is proved
 * that no living thread has it:
 *
 *	{generation, state} says free
 *	no living intent names it
 *	take the whole free list: it is not on it
 *	no living intent names it, still
 *	{generation, state} is unchanged
 *
 * A living thread that popped the slot before the list was taken either still
 * names it at the second look, or has changed {generation, state}. One that
 * marked it free but has not pushed it yet named it before: either it still
 * does at the first look, or the slot is on the list. One that names it only
 * after the first look cannot pop it any more, as it is not on the list, and
 * cannot free it, as it is free. A successor in the dead one's place is a
 * living thread like any other; its intent words are among those looked at.
 * (tests/model/vox_search.pml tries all of this in every order. Sequence
 * counters instead of intents do not work: vox_pool.pml.)
 *
 * What is named by a living thread stays a suspect and is tried again with
 * the next search; so does everything while a plain vox-shm peer lives, which
 * is asked for again at the end: it may have come while the list was taken.
 */
#include <stdlib.h>

#include "vox/pool.h"

static bool reclaim_slot(struct vox_pool *pool, struct vox_class *class, struct vox_slot_ref *ref,
			 uint32_t peer)
{
	uint64_t word = shared_load_u64(&class->slots[ref->slot].generation_state);	/* E */

	ref->generation = vox_slot_word_generation(word);
	return vox_slot_word_state(word) == VOX_SLOT_ALLOCATED &&
	       shared_load_u32(&class->slots[ref->slot].owner) == peer &&
	       !vox_pool_is_held(pool, ref) && vox_pool_free(pool, ref, NULL) == 0;
}

uint32_t vox_pool_reclaim(struct vox_pool *pool, uint32_t peer)
{
	uint32_t extents = vox_pool_num_extents(pool);
	uint32_t extent, i, reclaimed = 0;

	for (extent = 0; extent < extents; extent++) {
		for (i = 0; i < pool->num_classes; i++) {
			struct vox_class *class = vox_pool_class(pool, extent, i);
			struct vox_slot_ref ref = {
				.class_index = (uint8_t)i,
				.extent = (uint8_t)extent,
			};

			for (; ref.slot < class->slot_count; ref.slot++) {
				shared_look_again();
				reclaimed += reclaim_slot(pool, class, &ref, peer);
			}
		}
	}
	return reclaimed;
}

void vox_pool_suspect(struct vox_pool *pool, uint64_t intent)
{
	struct vox_slot_ref ref;

	if (vox_intent_parse(pool, intent, &ref))
		vox_bit_set(vox_pool_class(pool, ref.extent, ref.class_index)->suspects, ref.slot);
}

void vox_pool_suspect_all(struct vox_pool *pool)
{
	uint32_t extents = vox_pool_num_extents(pool);
	uint32_t extent, i, slot;

	for (extent = 0; extent < extents; extent++) {
		for (i = 0; i < pool->num_classes; i++) {
			struct vox_class *class = vox_pool_class(pool, extent, i);

			for (slot = 0; slot < class->slot_count; slot++)
				vox_bit_set(class->suspects, slot);
		}
	}
}

/* One class being searched. */
struct search {
	struct vox_class *class;
	uint64_t place;			/* the intent of slot 0 */
	const struct vox_living *living;
	uint64_t *words;		/* {generation, state} of each suspect */
	uint64_t *named;		/* bits: named by a living intent */
	uint64_t *listed;		/* bits: on the list that was taken */
	uint32_t first, last;		/* the list that was taken, then what was found */
};

static bool class_has_suspects(const struct vox_class *class)
{
	size_t i, words = vox_bit_words(class->slot_count);

	for (i = 0; i < words; i++)
		if (class->suspects[i])
			return true;
	return false;
}

static void look_at_slots(struct search *search)
{
	struct vox_class *class = search->class;
	uint32_t i;

	for (i = 0; i < class->slot_count; i++) {
		if (!vox_bit_test(class->suspects, i))
			continue;
		search->words[i] = shared_load_fenced_u64(&class->slots[i].generation_state);
		if (vox_slot_word_state(search->words[i]) != VOX_SLOT_FREE)
			vox_bit_clear(class->suspects, i);
	}
}

static void look_at_intents(struct search *search)
{
	size_t i;

	for (i = 0; i < search->living->num_intents; i++) {
		uint64_t intent = shared_load_fenced_u64(search->living->intents[i]);	/* F */
		uint64_t slot = intent ^ search->place;

		if (slot < search->class->slot_count)
			vox_bit_set(search->named, (uint32_t)slot);
	}
}

/*
 * Takes the whole list and marks what is on it. A list that leads out of
 * bounds or in a circle was corrupted; what could be read of it is kept.
 */
static int take_list(struct search *search)
{
	struct vox_class *class = search->class;
	uint64_t head;
	uint32_t slot;
	int ret;

	ret = vox_class_take_all(class, &head);
	if (ret)
		return ret;
	search->first = (uint32_t)head;
	for (slot = search->first; slot != VOX_NO_SLOT;
	     slot = shared_load_u32(&class->slots[slot].next_free)) {
		if (slot >= class->slot_count || vox_bit_test(search->listed, slot)) {
			if (search->last == VOX_NO_SLOT)
				search->first = VOX_NO_SLOT;
			return -EBADMSG;
		}
		vox_bit_set(search->listed, slot);
		search->last = slot;
	}
	return 0;
}

/* Chains what is in nobody's hands before the list. Return: how many slots. */
static int find_lost(struct search *search)
{
	struct vox_class *class = search->class;
	int found = 0;
	uint32_t i;

	for (i = 0; i < class->slot_count; i++) {
		if (!vox_bit_test(class->suspects, i) || vox_bit_test(search->named, i))
			continue;
		vox_bit_clear(class->suspects, i);
		if (vox_bit_test(search->listed, i) || search->words[i] !=
		    shared_load_fenced_u64(&class->slots[i].generation_state))
			continue;
		shared_store_u32(&class->slots[i].owner, 0);
		shared_store_u32(&class->slots[i].next_free, search->first);
		search->first = i;
		if (search->last == VOX_NO_SLOT)
			search->last = i;
		found++;
	}
	return found;
}

static int search_class(struct search *search)
{
	uint32_t count = search->class->slot_count;
	size_t bits = vox_bit_words(count);
	int ret, found;

	search->words = calloc(count + 2 * bits, sizeof(uint64_t));
	if (!search->words)
		return -ENOMEM;
	search->named = search->words + count;
	search->listed = search->named + bits;

	look_at_slots(search);
	look_at_intents(search);
	ret = take_list(search);
	shared_look_again();
	look_at_intents(search);
	found = ret == -EBUSY || search->living->has_stranger(search->living) ?
			0 : find_lost(search);
	if (search->first != VOX_NO_SLOT && vox_class_push(search->class, search->first,
							   search->last) < 0)
		ret = -EBADMSG;
	free(search->words);
	return ret ? ret : found;
}

int vox_pool_search(struct vox_pool *pool, const struct vox_living *living)
{
	uint32_t extents = vox_pool_num_extents(pool);
	uint32_t extent, i;
	int found = 0, ret;

	if (living->has_stranger(living))
		return 0;
	for (extent = 0; extent < extents; extent++) {
		for (i = 0; i < pool->num_classes; i++) {
			struct search search = {
				.class = vox_pool_class(pool, extent, i),
				.place = vox_intent(extent, i, 0),
				.living = living,
				.first = VOX_NO_SLOT,
				.last = VOX_NO_SLOT,
			};

			if (!class_has_suspects(search.class))
				continue;
			shared_look_again();
			ret = search_class(&search);
			if (ret < 0)
				return ret;
			found += ret;
		}
	}
	return found;
}

uint32_t vox_pool_count_free(const struct vox_pool *pool, uint32_t extent, uint32_t class_index)
{
	const struct vox_class *class = vox_pool_class(pool, extent, class_index);
	uint32_t slot = (uint32_t)shared_load_u64(&class->header->free_head);
	uint32_t count = 0;

	while (slot < class->slot_count && count < class->slot_count) {
		count++;
		slot = shared_load_u32(&class->slots[slot].next_free);
	}
	return count;
}
