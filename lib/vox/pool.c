/* SPDX-License-Identifier: MIT */
/* vox/pool.c - the slot pool: allocate, free, hand over; see pool.h. */
#include <stdlib.h>

#include "vox/pool.h"

/* A CAS fails only when another one succeeded; so many in a row is an attack. */
#define MAX_RETRIES 65536u

/* Words of the shared memory ------------------------------------------------- */

static uint64_t head_word(uint32_t slot, uint32_t counter)
{
	return (uint64_t)counter << 32 | slot;
}

static uint32_t head_slot(uint64_t head)
{
	return (uint32_t)head;
}

static uint32_t head_counter(uint64_t head)
{
	return (uint32_t)(head >> 32);
}

/* An intent: bit 63 set, extent in 40..47, class in 32..39, slot below. */
uint64_t vox_intent(uint32_t extent, uint32_t class_index, uint32_t slot)
{
	return 1ull << 63 | (uint64_t)extent << 40 | (uint64_t)class_index << 32 | slot;
}

bool vox_intent_parse(const struct vox_pool *pool, uint64_t intent, struct vox_slot_ref *ref)
{
	ref->extent = (uint8_t)(intent >> 40);
	ref->class_index = (uint8_t)(intent >> 32);
	ref->slot = (uint32_t)intent;
	ref->generation = 0;
	return intent >> 48 == 1u << 15 && vox_pool_find(pool, ref);
}

static void intent_name(shared_u64 *intent, uint32_t extent, uint32_t class_index, uint32_t slot)
{
	if (intent)
		shared_store_u64(intent, vox_intent(extent, class_index, slot));	/* F */
}

static void intent_clear(shared_u64 *intent)
{
	if (intent)
		shared_store_u64(intent, 0);						/* F */
}

/* Layout of one extent ------------------------------------------------------- */

static uint64_t metadata_size(uint32_t slot_count)
{
	return align_up((uint64_t)slot_count * sizeof(struct vox_slot), CACHE_LINE);
}

static uint64_t data_size(uint32_t slot_size, uint32_t slot_count)
{
	return align_up((uint64_t)slot_size * slot_count, CACHE_LINE);
}

uint64_t vox_extent_size(const struct voxshm_class *classes, uint32_t num_classes)
{
	uint64_t size = (uint64_t)num_classes * sizeof(struct class_header);
	uint32_t i;

	for (i = 0; i < num_classes; i++) {
		if ((uint64_t)classes[i].slot_size * classes[i].slot_count >
		    UINT64_MAX - CACHE_LINE)
			return 0;
		if (__builtin_add_overflow(size, metadata_size(classes[i].slot_count), &size) ||
		    __builtin_add_overflow(size, data_size(classes[i].slot_size,
							   classes[i].slot_count), &size))
			return 0;
	}
	return size;
}

void vox_extent_init(uint8_t *base, const struct voxshm_class *classes, uint32_t num_classes)
{
	struct class_header *headers = (struct class_header *)(void *)base;
	uint8_t *next = base + num_classes * sizeof(*headers);
	struct vox_slot *slots;
	uint32_t i, slot;

	for (i = 0; i < num_classes; i++) {
		uint32_t count = classes[i].slot_count;

		slots = (struct vox_slot *)(void *)next;
		for (slot = 0; slot < count; slot++)
			shared_poke_u32(&slots[slot].next_free,
					slot + 1 < count ? slot + 1 : VOX_NO_SLOT);
		headers[i].slot_size = classes[i].slot_size;
		headers[i].slot_count = count;
		shared_poke_u64(&headers[i].free_head, head_word(count ? 0 : VOX_NO_SLOT, 0));
		next += metadata_size(count) + data_size(classes[i].slot_size, count);
	}
}

/* The view ------------------------------------------------------------------- */

void vox_pool_init(struct vox_pool *pool, uint32_t num_classes, bool is_host)
{
	*pool = (struct vox_pool){ .num_classes = num_classes, .is_host = is_host };
}

static void extent_free(struct vox_class *classes, uint32_t num_classes)
{
	uint32_t i;

	if (!classes)
		return;
	for (i = 0; i < num_classes; i++) {
		free((void *)classes[i].holders);
		free(classes[i].suspects);
	}
	free(classes);
}

void vox_pool_deinit(struct vox_pool *pool)
{
	uint32_t i, extents = vox_pool_num_extents(pool);

	for (i = 0; i < extents; i++)
		extent_free(pool->extents[i], pool->num_classes);
	vox_pool_init(pool, 0, false);
}

static int class_init_private(struct vox_class *class, bool is_host)
{
	class->holders = calloc((size_t)class->slot_count + 1, sizeof(*class->holders));
	if (is_host)
		class->suspects = calloc(vox_bit_words(class->slot_count),
					 sizeof(*class->suspects));
	return class->holders && (class->suspects || !is_host) ? 0 : -ENOMEM;
}

int vox_pool_add_extent(struct vox_pool *pool, uint8_t *base, const struct voxshm_class *classes)
{
	uint32_t i, number = vox_pool_num_extents(pool);
	struct class_header *headers = (struct class_header *)(void *)base;
	uint8_t *next = base + pool->num_classes * sizeof(*headers);
	struct vox_class *views;
	int ret;

	if (number == VOX_MAX_EXTENTS)
		return -ENOSPC;
	views = calloc(pool->num_classes, sizeof(*views));
	if (!views)
		return -ENOMEM;
	for (i = 0; i < pool->num_classes; i++) {
		views[i].header = &headers[i];
		views[i].slot_size = classes[i].slot_size;
		views[i].slot_count = classes[i].slot_count;
		views[i].slots = (struct vox_slot *)(void *)next;
		views[i].data = next + metadata_size(classes[i].slot_count);
		next = views[i].data + data_size(classes[i].slot_size, classes[i].slot_count);
		ret = class_init_private(&views[i], pool->is_host);
		if (ret) {
			extent_free(views, pool->num_classes);
			return ret;
		}
	}
	pool->extents[number] = views;
	atomic_store_explicit(&pool->num_extents, number + 1, memory_order_release);
	return (int)number;
}

struct vox_class *vox_pool_find(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	struct vox_class *class;

	if (ref->extent >= vox_pool_num_extents(pool) || ref->class_index >= pool->num_classes)
		return NULL;
	class = vox_pool_class(pool, ref->extent, ref->class_index);
	return ref->slot < class->slot_count ? class : NULL;
}

uint8_t *vox_pool_data(const struct vox_pool *pool, const struct vox_slot_ref *ref,
		       uint32_t *slot_size)
{
	const struct vox_class *class = vox_pool_class(pool, ref->extent, ref->class_index);

	*slot_size = class->slot_size;
	return class->data + (uint64_t)class->slot_size * ref->slot;
}

int64_t vox_pool_message(const struct vox_pool *pool, const struct vox_slot_ref *ref,
			 const uint8_t **message)
{
	uint32_t slot_size, length;
	const volatile uint8_t *data = vox_pool_data(pool, ref, &slot_size);

	if (slot_size < VOX_LENGTH_PREFIX)
		return -EBADMSG;
	/* By bytes: vox-shm allows slots of any size, so any alignment. */
	length = data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
	*message = (const uint8_t *)data + VOX_LENGTH_PREFIX;
	return length <= slot_size - VOX_LENGTH_PREFIX ? (int64_t)length : -EBADMSG;
}

uint32_t vox_pool_max_slot(const struct vox_pool *pool)
{
	return vox_pool_class(pool, 0, pool->num_classes - 1)->slot_size;
}

/* Allocate and free ---------------------------------------------------------- */

/* Pops a slot, named in the intent before it is ours. Return: 0, -EAGAIN, -EBADMSG. */
static int class_pop(struct vox_class *class, uint64_t place, shared_u64 *intent, uint32_t *slot)
{
	uint64_t head = shared_load_u64(&class->header->free_head);		/* D */
	uint32_t first, next, i;

	for (i = 0; i < MAX_RETRIES; i++) {
		first = head_slot(head);
		if (first == VOX_NO_SLOT)
			return -EAGAIN;
		if (first >= class->slot_count)
			return -EBADMSG;
		next = shared_load_u32(&class->slots[first].next_free);
		if (next != VOX_NO_SLOT && next >= class->slot_count)
			return -EBADMSG;
		if (intent)
			shared_store_u64(intent, place | first);		/* F */
		if (shared_cas_u64(&class->header->free_head, &head,
				   head_word(next, head_counter(head) + 1))) {	/* D */
			*slot = first;
			return 0;
		}
	}
	return -EAGAIN;
}

int vox_class_push(struct vox_class *class, uint32_t first, uint32_t last)
{
	uint64_t head = shared_load_u64(&class->header->free_head);
	uint32_t i;

	for (i = 0; i < MAX_RETRIES; i++) {
		if (head_slot(head) != VOX_NO_SLOT && head_slot(head) >= class->slot_count)
			return -EBADMSG;
		shared_store_u32(&class->slots[last].next_free, head_slot(head));
		if (shared_cas_u64(&class->header->free_head, &head,
				   head_word(first, head_counter(head) + 1)))	/* D */
			return 0;
	}
	return -EBUSY;
}

int vox_class_take_all(struct vox_class *class, uint64_t *head)
{
	uint32_t i;

	*head = shared_load_fenced_u64(&class->header->free_head);
	for (i = 0; i < MAX_RETRIES; i++)
		if (shared_cas_u64(&class->header->free_head, head,
				   head_word(VOX_NO_SLOT, head_counter(*head) + 1)))	/* D */
			return 0;
	return -EBUSY;
}

static int class_alloc(struct vox_class *class, uint32_t owner, shared_u64 *intent,
		       struct vox_slot_ref *ref)
{
	uint64_t word;
	int ret;

	ret = class_pop(class, vox_intent(ref->extent, ref->class_index, 0), intent, &ref->slot);
	if (ret)
		goto out;
	word = shared_load_u64(&class->slots[ref->slot].generation_state);
	if (vox_slot_word_state(word) != VOX_SLOT_FREE) {
		ret = -EBADMSG;
		goto out;
	}
	ref->generation = vox_slot_word_generation(word) + 1;
	shared_store_u32(&class->slots[ref->slot].owner, owner);
	shared_store_u64(&class->slots[ref->slot].generation_state,
			 vox_slot_word(ref->generation, VOX_SLOT_ALLOCATED));	/* E */
out:
	intent_clear(intent);							/* F */
	return ret;
}

int vox_pool_alloc(struct vox_pool *pool, uint32_t size, uint32_t owner, uint32_t extents,
		   shared_u64 *intent, struct vox_slot_ref *ref)
{
	uint32_t known = vox_pool_num_extents(pool);
	uint32_t class_index = 0, extent;
	int ret;

	while (class_index < pool->num_classes &&
	       vox_pool_class(pool, 0, class_index)->slot_size < size)
		class_index++;
	if (class_index == pool->num_classes)
		return -EMSGSIZE;
	for (; class_index < pool->num_classes; class_index++) {
		for (extent = 0; extent < known && extent < extents; extent++) {
			ref->class_index = (uint8_t)class_index;
			ref->extent = (uint8_t)extent;
			ret = class_alloc(vox_pool_class(pool, extent, class_index), owner,
					  intent, ref);
			if (ret != -EAGAIN)
				return ret;
		}
	}
	return -EAGAIN;
}

bool vox_pool_available(const struct vox_pool *pool, uint32_t size, uint32_t extents)
{
	uint32_t known = vox_pool_num_extents(pool);
	uint32_t extent, i;

	for (extent = 0; extent < known && extent < extents; extent++) {
		for (i = 0; i < pool->num_classes; i++) {
			const struct vox_class *class = vox_pool_class(pool, extent, i);

			if (class->slot_size >= size &&
			    head_slot(shared_load_fenced_u64(&class->header->free_head)) !=
			    VOX_NO_SLOT)						/* C */
				return true;
		}
	}
	return false;
}

int vox_pool_free(struct vox_pool *pool, const struct vox_slot_ref *ref, shared_u64 *intent)
{
	struct vox_class *class = vox_pool_find(pool, ref);
	uint64_t word = vox_slot_word(ref->generation, VOX_SLOT_ALLOCATED);
	struct vox_slot *slot;
	int ret = -ESTALE;

	if (!class)
		return -EINVAL;
	slot = &class->slots[ref->slot];
	intent_name(intent, ref->extent, ref->class_index, ref->slot);		/* F */
	if (shared_cas_u64(&slot->generation_state, &word,
			   vox_slot_word(ref->generation, VOX_SLOT_FREE))) {	/* E */
		shared_store_u32(&slot->owner, 0);
		ret = vox_class_push(class, ref->slot, ref->slot);
	}
	intent_clear(intent);							/* F */
	return ret;
}

void vox_pool_set_owner(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t owner)
{
	struct vox_class *class = vox_pool_class(pool, ref->extent, ref->class_index);

	shared_store_u32(&class->slots[ref->slot].owner, owner);
}

uint32_t vox_pool_owner(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	const struct vox_class *class = vox_pool_class(pool, ref->extent, ref->class_index);

	return shared_load_u32(&class->slots[ref->slot].owner);
}

bool vox_pool_is_current(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	struct vox_class *class = vox_pool_find(pool, ref);

	return class && shared_load_u64(&class->slots[ref->slot].generation_state) ==
			vox_slot_word(ref->generation, VOX_SLOT_ALLOCATED);	/* E */
}

/* In this process's hands ------------------------------------------------------ */

static uint64_t hand_word(uint32_t holder, uint32_t generation)
{
	return (uint64_t)generation << 32 | holder;
}

static _Atomic uint64_t *hand_of(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	return &vox_pool_class(pool, ref->extent, ref->class_index)->holders[ref->slot];
}

uint32_t vox_pool_new_holder(struct vox_pool *pool)
{
	uint32_t holder;

	do
		holder = atomic_fetch_add_explicit(&pool->last_holder, 1, memory_order_relaxed) + 1;
	while (holder == 0);
	return holder;
}

int vox_pool_hold(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t owner,
		  uint32_t holder)
{
	uint64_t nobody = 0;

	if (!vox_pool_is_current(pool, ref) || vox_pool_owner(pool, ref) != owner ||
	    !atomic_compare_exchange_strong(hand_of(pool, ref), &nobody,
					    hand_word(holder, ref->generation)))
		return -EBADMSG;
	return 0;
}

bool vox_pool_is_held(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	return atomic_load_explicit(hand_of(pool, ref), memory_order_acquire) != 0;
}

bool vox_pool_is_held_by(const struct vox_pool *pool, const struct vox_slot_ref *ref,
			 uint32_t holder)
{
	return atomic_load_explicit(hand_of(pool, ref), memory_order_acquire) ==
	       hand_word(holder, ref->generation);
}

void vox_pool_unhold(struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	atomic_store_explicit(hand_of(pool, ref), 0, memory_order_release);
}

int vox_pool_free_held(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t holder,
		       shared_u64 *intent)
{
	int ret;

	if (!vox_pool_find(pool, ref))
		return -EINVAL;
	if (!vox_pool_is_held_by(pool, ref, holder))
		return -ESTALE;
	vox_pool_unhold(pool, ref);
	ret = vox_pool_free(pool, ref, intent);
	return ret == -ESTALE ? -EBADMSG : ret;
}

static void class_free_all_held(struct vox_pool *pool, struct vox_slot_ref ref, uint32_t holder,
				shared_u64 *intent)
{
	struct vox_class *class = vox_pool_class(pool, ref.extent, ref.class_index);
	uint64_t hand;

	for (ref.slot = 0; ref.slot < class->slot_count; ref.slot++) {
		hand = atomic_load_explicit(hand_of(pool, &ref), memory_order_acquire);
		if ((uint32_t)hand != holder)
			continue;
		ref.generation = (uint32_t)(hand >> 32);
		shared_look_again();
		vox_pool_unhold(pool, &ref);
		vox_pool_free(pool, &ref, intent);
	}
}

void vox_pool_free_all_held(struct vox_pool *pool, uint32_t holder, shared_u64 *intent)
{
	uint32_t extents = vox_pool_num_extents(pool);
	uint32_t extent, i;

	for (extent = 0; extent < extents; extent++)
		for (i = 0; i < pool->num_classes; i++)
			class_free_all_held(pool, (struct vox_slot_ref){
					    .class_index = (uint8_t)i,
					    .extent = (uint8_t)extent }, holder, intent);
}
