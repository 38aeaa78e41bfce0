/* SPDX-License-Identifier: MIT */
/* pens.h - nonsense of several kinds, written over memory that others use. */
#ifndef PENS_H
#define PENS_H

#include "processes.h"

struct area {
	uint8_t *start;
	size_t size;
};

/* How to scribble. */
enum pen { ONES, ZEROS, RANDOM, FLIPS, COPIES, PENS };

static inline void scribble(const struct area *area, enum pen pen, uint64_t *random)
{
	uint64_t *words = (uint64_t *)area->start;
	size_t count = area->size / sizeof(*words);

	for (int i = 0; i < 3000; i++) {
		/* Mostly where the rings and the link block are likely to be. */
		size_t at = random_next(random) % (i % 4 ? count < 1024 ? count : 1024 : count);

		switch (pen) {
		case ONES:
			words[at] = UINT64_MAX;
			break;
		case ZEROS:
			words[at] = 0;
			break;
		case RANDOM:
			words[at] = random_next(random) >> random_next(random) % 64;
			break;
		case FLIPS:
			words[at] ^= 1ull << random_next(random) % 64;
			break;
		default:
			words[at] = words[random_next(random) % count];
		}
	}
}

#endif
