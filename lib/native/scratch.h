/* SPDX-License-Identifier: MIT */
/*
 * native/scratch.h - the private memory that small loans are made of.
 *
 * A commit copies it into the ring. For a few lines that is quicker than a slot:
 * the receiver fetches the entry alone, and nothing has to be given back. When
 * all is lent, small loans are slots too. The sending thread's own.
 */
#ifndef NATIVE_SCRATCH_H
#define NATIVE_SCRATCH_H

#include "native/ring.h"

#define SCRATCH_SIZE 256u
#define SCRATCH_COUNT 8u

struct native_scratch {
	_Alignas(CACHE_LINE) uint8_t memory[SCRATCH_COUNT][SCRATCH_SIZE];
	uint32_t size;			/* what is lent: as much as travels inline */
	uint32_t lent;			/* a bit for each */
	uint32_t generations[SCRATCH_COUNT];
};

static inline void native_scratch_init(struct native_scratch *scratch, uint32_t inline_limit)
{
	scratch->size = inline_limit < SCRATCH_SIZE ? inline_limit : SCRATCH_SIZE;
	scratch->lent = 0;
}

/* Return: its index, or -1 when all are lent. */
static inline int native_scratch_alloc(struct native_scratch *scratch)
{
	uint32_t available = ~scratch->lent & ((1u << SCRATCH_COUNT) - 1);
	int index;

	if (!available)
		return -1;
	index = __builtin_ctz(available);
	scratch->lent |= 1u << index;
	scratch->generations[index]++;
	return index;
}

static inline bool native_scratch_is_lent(const struct native_scratch *scratch, uint32_t index,
					  uint32_t generation)
{
	return index < SCRATCH_COUNT && (scratch->lent & 1u << index) &&
	       scratch->generations[index] == generation;
}

static inline void native_scratch_free(struct native_scratch *scratch, uint32_t index)
{
	scratch->lent &= ~(1u << index);
}

#endif
