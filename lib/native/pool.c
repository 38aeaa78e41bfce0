/* SPDX-License-Identifier: MIT */
/* native/pool.c - the sender's book of its half pool; see pool.h. */
#include <stdlib.h>

#include "native/pool.h"

/*
 * Payload that stays in a processor's cache. Slots are taken back as soon as so
 * much of a class is in flight, not when it runs dry: a fresh slot is a cold one.
 */
#define WARM_BYTES (2048u * 1024)

static int class_init(struct native_slot_class *class)
{
	uint32_t i;

	class->warm = WARM_BYTES / class->slot_size ? WARM_BYTES / class->slot_size : 1;
	class->ask_at = class->warm;
	class->sent_slots = malloc(class->slot_count * sizeof(*class->sent_slots));
	class->free_slots = malloc(class->slot_count * sizeof(*class->free_slots));
	class->slots = calloc(class->slot_count, sizeof(*class->slots));
	if (!class->sent_slots || !class->free_slots || !class->slots)
		return -ENOMEM;
	for (i = 0; i < class->slot_count; i++)
		class->free_slots[i] = class->slot_count - 1 - i;
	class->free_count = class->slot_count;
	return 0;
}

int native_pool_init(struct native_pool *pool, const struct native_geometry *geometry,
		     enum native_side sender, uint8_t *window)
{
	const struct native_parameters *parameters = &geometry->parameters;
	uint32_t i;
	int ret;

	*pool = (struct native_pool){ .num_classes = parameters->num_classes };
	for (i = 0; i < parameters->num_classes; i++) {
		pool->classes[i] = (struct native_slot_class){
			.base = window + geometry->slots[sender][i],
			.returns = (shared_u32 *)(void *)(window + geometry->returns[sender][i]),
			.slot_size = parameters->classes[i].slot_size,
			.slot_count = parameters->classes[i].slot_count,
		};
		ret = class_init(&pool->classes[i]);
		if (ret) {
			native_pool_deinit(pool);
			return ret;
		}
	}
	return 0;
}

void native_pool_deinit(struct native_pool *pool)
{
	uint32_t i;

	for (i = 0; i < pool->num_classes; i++) {
		free(pool->classes[i].sent_slots);
		free(pool->classes[i].free_slots);
		free(pool->classes[i].slots);
		pool->classes[i].sent_slots = NULL;
		pool->classes[i].free_slots = NULL;
		pool->classes[i].slots = NULL;
	}
}

static void make_free(struct native_slot_class *class, uint32_t slot)
{
	class->slots[slot].state = SLOT_FREE;
	class->free_slots[class->free_count++] = slot;
}

static uint32_t *sent_slot(const struct native_slot_class *class, uint32_t index)
{
	index += class->oldest;
	return &class->sent_slots[index < class->slot_count ? index : index - class->slot_count];
}

static bool was_returned(const struct native_slot_class *class, uint32_t slot)
{
	return shared_load_fenced_u32(&class->returns[slot]) == class->slots[slot].generation; /* D, C */
}

/*
 * Takes back the oldest in flight, as far as they were returned. A look costs a
 * cache line's way, so the next one comes after as many sends again.
 */
static void collect_oldest(struct native_slot_class *class)
{
	uint32_t slot;

	while (class->in_flight && was_returned(class, slot = *sent_slot(class, 0))) {
		class->oldest = class->oldest + 1 < class->slot_count ? class->oldest + 1 : 0;
		class->in_flight--;
		make_free(class, slot);
	}
	class->ask_at = class->in_flight + class->warm;
}

/* The class has run dry: takes back every slot that was returned. */
static bool collect(struct native_slot_class *class)
{
	uint32_t i, slot, kept = 0;

	shared_look_again();
	for (i = 0; i < class->in_flight; i++) {
		slot = *sent_slot(class, i);
		if (was_returned(class, slot))
			make_free(class, slot);
		else
			*sent_slot(class, kept++) = slot;
	}
	class->in_flight = kept;
	class->ask_at = kept + class->warm;
	return class->free_count > 0;
}

static struct native_slot_class *find_class(struct native_pool *pool, size_t size)
{
	uint32_t i;

	for (i = 0; i < pool->num_classes; i++) {
		struct native_slot_class *class = &pool->classes[i];

		if (size > class->slot_size)
			continue;
		if (class->in_flight >= class->ask_at)
			collect_oldest(class);
		if (class->free_count > 0 || collect(class))
			return class;
	}
	return NULL;
}

int native_pool_alloc(struct native_pool *pool, size_t size, struct slot_ref *ref)
{
	struct native_slot_class *class = find_class(pool, size);
	struct native_slot *slot;
	uint32_t index;

	if (!class)
		return -EAGAIN;
	index = class->free_slots[--class->free_count];
	slot = &class->slots[index];
	slot->state = SLOT_LOANED;
	/* Return words start as 0, so that is never a generation in use. */
	if (++slot->generation == 0)
		slot->generation = 1;
	*ref = (struct slot_ref){
		.class_index = (uint8_t)(class - pool->classes),
		.slot = index,
		.generation = slot->generation,
	};
	return 0;
}

bool native_pool_available(struct native_pool *pool, size_t size)
{
	return find_class(pool, size) != NULL;
}

void native_pool_sent(struct native_pool *pool, const struct slot_ref *ref)
{
	struct native_slot_class *class = &pool->classes[ref->class_index];

	class->slots[ref->slot].state = SLOT_IN_FLIGHT;
	*sent_slot(class, class->in_flight++) = ref->slot;
}

bool native_pool_loaned(const struct native_pool *pool, const struct slot_ref *ref)
{
	const struct native_slot *slot;

	if (ref->class_index >= pool->num_classes ||
	    ref->slot >= pool->classes[ref->class_index].slot_count)
		return false;
	slot = &pool->classes[ref->class_index].slots[ref->slot];
	return slot->state == SLOT_LOANED && slot->generation == ref->generation;
}

int native_pool_unalloc(struct native_pool *pool, const struct slot_ref *ref)
{
	if (!native_pool_loaned(pool, ref))
		return -EINVAL;
	make_free(&pool->classes[ref->class_index], ref->slot);
	return 0;
}

int native_pool_view_init(struct native_pool_view *view, const struct native_geometry *geometry,
			  enum native_side sender, uint8_t *window)
{
	const struct native_parameters *parameters = &geometry->parameters;
	uint32_t i;

	*view = (struct native_pool_view){ .num_classes = parameters->num_classes };
	for (i = 0; i < parameters->num_classes; i++) {
		view->classes[i].base = window + geometry->slots[sender][i];
		view->classes[i].returns =
			(shared_u32 *)(void *)(window + geometry->returns[sender][i]);
		view->classes[i].slot_size = parameters->classes[i].slot_size;
		view->classes[i].slot_count = parameters->classes[i].slot_count;
		view->classes[i].borrowed = calloc(view->classes[i].slot_count, sizeof(uint32_t));
		if (!view->classes[i].borrowed) {
			native_pool_view_deinit(view);
			return -ENOMEM;
		}
	}
	return 0;
}

void native_pool_view_deinit(struct native_pool_view *view)
{
	uint32_t i;

	for (i = 0; i < view->num_classes; i++) {
		free(view->classes[i].borrowed);
		view->classes[i].borrowed = NULL;
	}
}
