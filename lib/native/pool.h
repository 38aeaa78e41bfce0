/* SPDX-License-Identifier: MIT */
/*
 * native/pool.h - the half pool that one side sends from.
 *
 * The sender owns every slot and keeps the book of them in private memory:
 * nothing in shared memory could be corrupted to mislead it. The receiver
 * gives a slot back by storing the slot's generation in its return word. A
 * return counts only for a slot in flight with that generation.
 *
 * Barrier pairs:
 *   D  return/reuse a slot: native_slot_return() stores the return word after
 *      the payload was read; collect() loads it before the slot is written.
 *   C  sleep/wake: D again, against the sleep word for space; see link.h.
 */
#ifndef NATIVE_POOL_H
#define NATIVE_POOL_H

#include "native/window.h"

enum native_slot_state {
	SLOT_FREE,
	SLOT_LOANED,		/* being written */
	SLOT_IN_FLIGHT,		/* sent, not yet returned */
};

struct native_slot {
	uint32_t generation;
	enum native_slot_state state;
};

struct native_slot_class {
	uint8_t *base;
	shared_u32 *returns;
	uint32_t slot_size;
	uint32_t slot_count;
	uint32_t free_count;
	uint32_t in_flight;
	uint32_t warm, ask_at;		/* with so many in flight the oldest is looked at */
	uint32_t oldest;		/* of the ring of those in flight, in the order sent */
	uint32_t *sent_slots;
	uint32_t *free_slots;		/* a stack: the warmest slot first */
	struct native_slot *slots;
};

struct native_pool {
	uint32_t num_classes;
	struct native_slot_class classes[VOXSHM_MAX_CLASSES];
};

/* Return: 0 or -ENOMEM. */
int native_pool_init(struct native_pool *pool, const struct native_geometry *geometry,
		     enum native_side sender, uint8_t *window);
void native_pool_deinit(struct native_pool *pool);

static inline uint32_t native_pool_largest(const struct native_pool *pool)
{
	return pool->classes[pool->num_classes - 1].slot_size;
}

/*
 * Takes a slot of the smallest class that fits, or of a larger one.
 * Return: 0 and the reference (without length), or -EAGAIN.
 */
int native_pool_alloc(struct native_pool *pool, size_t size, struct slot_ref *ref);

/* Would native_pool_alloc() find one? */
bool native_pool_available(struct native_pool *pool, size_t size);

/* The slot was sent. */
void native_pool_sent(struct native_pool *pool, const struct slot_ref *ref);

/* The slot was not sent after all. Return: 0, or -EINVAL when it was not loaned. */
int native_pool_unalloc(struct native_pool *pool, const struct slot_ref *ref);

/* Is this a slot that is being written? */
bool native_pool_loaned(const struct native_pool *pool, const struct slot_ref *ref);

static inline uint8_t *native_pool_data(const struct native_pool *pool, const struct slot_ref *ref)
{
	const struct native_slot_class *class = &pool->classes[ref->class_index];

	return class->base + (uint64_t)ref->slot * class->slot_size;
}

/* The receiving side of the other's half pool, with what it has borrowed. */
struct native_pool_view {
	uint32_t num_classes;
	struct {
		const uint8_t *base;
		shared_u32 *returns;
		uint32_t *borrowed;	/* by slot: its generation, 0 = not borrowed */
		uint32_t slot_size;
		uint32_t slot_count;
	} classes[VOXSHM_MAX_CLASSES];
};

/* Return: 0 or -ENOMEM. */
int native_pool_view_init(struct native_pool_view *view, const struct native_geometry *geometry,
			  enum native_side sender, uint8_t *window);
void native_pool_view_deinit(struct native_pool_view *view);

/*
 * Borrows a slot that was received. Return: its payload, or NULL when the
 * reference is not one: out of bounds, or a slot that is borrowed already.
 */
static inline const uint8_t *native_slot_borrow(struct native_pool_view *view,
						const struct slot_ref *ref)
{
	if (ref->class_index >= view->num_classes || ref->extent != 0 || ref->generation == 0 ||
	    ref->slot >= view->classes[ref->class_index].slot_count ||
	    ref->length > view->classes[ref->class_index].slot_size ||
	    view->classes[ref->class_index].borrowed[ref->slot])
		return NULL;
	view->classes[ref->class_index].borrowed[ref->slot] = ref->generation;
	return view->classes[ref->class_index].base +
	       (uint64_t)ref->slot * view->classes[ref->class_index].slot_size;
}

/* Gives a borrowed slot back. Return: 0, or -EINVAL when it is not borrowed. */
static inline int native_slot_return(struct native_pool_view *view, uint32_t class_index,
				     uint32_t slot, uint32_t generation)
{
	if (class_index >= view->num_classes || slot >= view->classes[class_index].slot_count ||
	    view->classes[class_index].borrowed[slot] != generation || generation == 0)
		return -EINVAL;
	view->classes[class_index].borrowed[slot] = 0;
	shared_store_fenced_u32(&view->classes[class_index].returns[slot], generation); /* D, C */
	return 0;
}

#endif
