/* SPDX-License-Identifier: MIT */
/*
 * vox/pool.h - the slot pool that all peers of a vox segment share.
 *
 * The pool is a list of extents; extent 0 lies at var_pool_offset and is all
 * that vox-shm knows. An extent has a header for each size class, then for
 * each class its slots' metadata and their data. Free slots form a stack per
 * extent and class, popped and pushed by CAS on a head with a counter.
 *
 * struct vox_pool is one process's view; the segment owns it. Any thread may
 * allocate and free at any time; each has an intent word of its own, in shared
 * memory, in which it names the slot it is about to take or give:
 *
 *   alloc:  intent = slot, pop, owner, {generation + 1, ALLOCATED}, intent = 0
 *   free:   intent = slot, {generation, FREE} by CAS, owner = 0, push, intent = 0
 *
 * So a thread that dies anywhere leaves each slot on the stack, or allocated
 * with its owner set, or named by its intent. What always holds besides:
 *   - a slot that is popped is FREE, or the pool is corrupt: -EBADMSG;
 *   - a slot is freed only with the generation it was allocated with, by one
 *     CAS on {generation, state}: a double or stale free changes nothing;
 *   - an index from shared memory is bounded before use; retries and walks
 *     are bounded, whatever the other peers do.
 *
 * The peers trust each other with their slots (a slot is writable by all),
 * but not with this process: whatever they write, it neither crashes nor
 * hangs.
 *
 * Barrier pairs:
 *   D  push/pop: the CAS on free_head in vox_class_push() after the slot was last
 *      written; the one in class_pop() before it is written again.
 *   E  allocate/free: vox_pool_alloc() stores {generation, ALLOCATED} after
 *      owner; reclaim loads it before owner.
 *   F  intent/search: an intent is stored before the CAS that takes or gives
 *      the slot, cleared after the last store; vox_pool_search() loads the
 *      intents on both sides of taking the whole stack.
 */
#ifndef VOX_POOL_H
#define VOX_POOL_H

#include <errno.h>

#include "layout.h"
#include "vox/entry.h"

#define VOX_MAX_CLASSES 255u	/* a slot reference's class is one byte */
#define VOX_MAX_EXTENTS 64u
#define VOX_MAX_SLOTS 0x7fffffffu
#define VOX_NO_SLOT 0xffffffffu	/* end of a free list */
#define VOX_LENGTH_PREFIX 4u	/* a slot's first bytes: its message's length */

enum vox_slot_state {
	VOX_SLOT_FREE = 0,
	VOX_SLOT_ALLOCATED = 1,
};

/* Metadata of one slot. */
struct vox_slot {
	shared_u64 generation_state;	/* generation in the low half */
	shared_u32 owner;		/* peer id; 0 = host */
	shared_u32 next_free;
};

LAYOUT_ASSERT_SIZE(struct vox_slot, 16);
LAYOUT_ASSERT_OFFSET(struct vox_slot, generation_state, 0);
LAYOUT_ASSERT_OFFSET(struct vox_slot, owner, 8);
LAYOUT_ASSERT_OFFSET(struct vox_slot, next_free, 12);

static inline uint64_t vox_slot_word(uint32_t generation, enum vox_slot_state state)
{
	return (uint64_t)state << 32 | generation;
}

static inline uint32_t vox_slot_word_generation(uint64_t word)
{
	return (uint32_t)word;
}

static inline uint32_t vox_slot_word_state(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

/* One class of one extent, as this process sees it; sizes are private copies. */
struct vox_class {
	struct class_header *header;
	struct vox_slot *slots;
	uint8_t *data;
	uint32_t slot_size;
	uint32_t slot_count;
	/* For each slot, in private memory: */
	_Atomic uint64_t *holders;	/* who in this process has it in hand, and of which
					 * generation it is (in the high half), or 0 */
	uint64_t *suspects;		/* the host's, bits: perhaps lost; see pool_search.c */
};

struct vox_pool {
	uint32_t num_classes;
	bool is_host;
	_Atomic uint32_t num_extents;	/* grows; extents[] below it are complete */
	_Atomic uint32_t last_holder;
	struct vox_class *extents[VOX_MAX_EXTENTS];
};

/* Layout of one extent ------------------------------------------------------ */

/* Bytes of an extent, or 0 when they overflow. */
uint64_t vox_extent_size(const struct voxshm_class *classes, uint32_t num_classes);

/* Writes headers, metadata and free lists into zeroed memory nobody else uses. */
void vox_extent_init(uint8_t *base, const struct voxshm_class *classes, uint32_t num_classes);

/* The view ------------------------------------------------------------------ */

void vox_pool_init(struct vox_pool *pool, uint32_t num_classes, bool is_host);
void vox_pool_deinit(struct vox_pool *pool);

/*
 * Adds a view of the extent at base, whose class table was checked. Not two
 * threads at a time. Return: its number, -ENOMEM, -ENOSPC (VOX_MAX_EXTENTS).
 */
int vox_pool_add_extent(struct vox_pool *pool, uint8_t *base,
			const struct voxshm_class *classes);

static inline uint32_t vox_pool_num_extents(const struct vox_pool *pool)
{
	return atomic_load_explicit(&pool->num_extents, memory_order_acquire);
}

static inline struct vox_class *vox_pool_class(const struct vox_pool *pool, uint32_t extent,
					       uint32_t class_index)
{
	return &pool->extents[extent][class_index];
}

/* Return: the class a reference speaks of, NULL when there is no such slot. */
struct vox_class *vox_pool_find(const struct vox_pool *pool, const struct vox_slot_ref *ref);

/* Where a slot's bytes are; ref must be one that vox_pool_find() accepts. */
uint8_t *vox_pool_data(const struct vox_pool *pool, const struct vox_slot_ref *ref,
		       uint32_t *slot_size);

/*
 * The message in a slot: its length, then its bytes.
 * Return: its length, or -EBADMSG when it is longer than the slot.
 */
int64_t vox_pool_message(const struct vox_pool *pool, const struct vox_slot_ref *ref,
			 const uint8_t **message);

/* Largest slot of all classes. */
uint32_t vox_pool_max_slot(const struct vox_pool *pool);

/* Slots ---------------------------------------------------------------------- */

/*
 * Takes a slot of at least size bytes from the smallest class that has one,
 * from the first `extents` extents. intent: the thread's own word, or NULL.
 * Return: 0; -EAGAIN (none free), -EMSGSIZE (no class is so large), -EBADMSG
 * (the pool is corrupt).
 */
int vox_pool_alloc(struct vox_pool *pool, uint32_t size, uint32_t owner, uint32_t extents,
		   shared_u64 *intent, struct vox_slot_ref *ref);

/* Would vox_pool_alloc() find one now? */
bool vox_pool_available(const struct vox_pool *pool, uint32_t size, uint32_t extents);

/*
 * Gives a slot back.
 * Return: 0; -EINVAL (no such slot), -ESTALE (not allocated with that
 * generation: freed twice, or long ago), -EBUSY (retries ran out; the slot is
 * free but off the list until vox_pool_search()), -EBADMSG (corrupt).
 */
int vox_pool_free(struct vox_pool *pool, const struct vox_slot_ref *ref, shared_u64 *intent);

/* Makes a slot of ours another peer's, before it is sent there. */
void vox_pool_set_owner(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t owner);

uint32_t vox_pool_owner(const struct vox_pool *pool, const struct vox_slot_ref *ref);

/* Is the slot allocated, in the generation that ref says? */
bool vox_pool_is_current(const struct vox_pool *pool, const struct vox_slot_ref *ref);

/* A number for somebody in this process who takes slots in hand; never 0. */
uint32_t vox_pool_new_holder(struct vox_pool *pool);

/*
 * Notes that a slot is in the holder's hands: received and not released, or
 * lent to the application. The host's stay out of a reclaim.
 * Return: 0; -EBADMSG (no such slot, not the owner's, not allocated so, or in
 * somebody's hands already).
 */
int vox_pool_hold(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t owner,
		  uint32_t holder);

/* Is the slot, in that generation, in the holder's hands? By our own book alone. */
bool vox_pool_is_held_by(const struct vox_pool *pool, const struct vox_slot_ref *ref,
			 uint32_t holder);

/* A slot that is held is about to be sent. */
void vox_pool_unhold(struct vox_pool *pool, const struct vox_slot_ref *ref);

/*
 * Frees a slot that is held; one that is not, in that generation, is left as
 * it is (-ESTALE). Return: as vox_pool_free(), but -EBADMSG when the slot is no
 * longer allocated in the generation in which it was taken in hand.
 */
int vox_pool_free_held(struct vox_pool *pool, const struct vox_slot_ref *ref, uint32_t holder,
		       shared_u64 *intent);

/* Frees all that is still in the holder's hands. */
void vox_pool_free_all_held(struct vox_pool *pool, uint32_t holder, shared_u64 *intent);

bool vox_pool_is_held(const struct vox_pool *pool, const struct vox_slot_ref *ref);

/* Recovery: the host's, one thread at a time --------------------------------- */

/* Frees all that the dead peer owns and the host does not hold. Return: how many. */
uint32_t vox_pool_reclaim(struct vox_pool *pool, uint32_t peer);

/* Notes what an intent word of the dead names; nonsense is ignored. */
void vox_pool_suspect(struct vox_pool *pool, uint64_t intent);
/* Notes all slots: the dead kept no intents. */
void vox_pool_suspect_all(struct vox_pool *pool);

/* Who else may have a slot in its hands. */
struct vox_living {
	const shared_u64 *const *intents;	/* the intent words of all of ours */
	size_t num_intents;
	/* Is there a peer that keeps no intents? Then nothing can be proved. */
	bool (*has_stranger)(const struct vox_living *living);
};

/*
 * Puts suspects that are in nobody's hands back on their lists; those that a
 * living thread names stay suspects. While a list is searched, allocations
 * from it find it empty.
 * Return: how many slots were found; -ENOMEM or -EBUSY (they stay suspects),
 * -EBADMSG (the pool is corrupt).
 */
int vox_pool_search(struct vox_pool *pool, const struct vox_living *living);

/* Counts the slots on the free list of a class, for observers. */
uint32_t vox_pool_count_free(const struct vox_pool *pool, uint32_t extent,
			     uint32_t class_index);

/* Internal to pool.c and pool_search.c --------------------------------------- */

uint64_t vox_intent(uint32_t extent, uint32_t class_index, uint32_t slot);
/* Return: does the word name a slot that exists? */
bool vox_intent_parse(const struct vox_pool *pool, uint64_t intent, struct vox_slot_ref *ref);

/* Pushes the chain first..last, already linked. Return: 0, -EBUSY, -EBADMSG. */
int vox_class_push(struct vox_class *class, uint32_t first, uint32_t last);
/* Takes the whole free list; its first slot is in the low half. Return: 0, -EBUSY. */
int vox_class_take_all(struct vox_class *class, uint64_t *head);

static inline bool vox_bit_test(const uint64_t *bits, uint32_t index)
{
	return bits[index / 64] >> index % 64 & 1;
}

static inline void vox_bit_set(uint64_t *bits, uint32_t index)
{
	bits[index / 64] |= 1ull << index % 64;
}

static inline void vox_bit_clear(uint64_t *bits, uint32_t index)
{
	bits[index / 64] &= ~(1ull << index % 64);
}

static inline size_t vox_bit_words(uint32_t count)
{
	return count / 64 + 1;
}

#endif
