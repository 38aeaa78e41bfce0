/* SPDX-License-Identifier: MIT */
/*
 * demo.h - what the demo's host and its guests agree on.
 *
 * A guest is "voxshm demo-guest file PATH" or "voxshm demo-guest messages
 * COUNT FD". It sends, then waits for a message, whatever it says, and leaves.
 *
 * Numbered messages: 1, 2, 3 ..., the size and every byte follow from the
 * number, a checksum on top. The guest notes the number of each message in a
 * page shared with the host (the FD) once the library has taken it: so the
 * host knows for certain what a killed guest had sent.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdatomic.h>
#include <stdint.h>

#define DEMO_MAX_WORDS 256u

struct demo_message {
	uint64_t number;
	uint64_t checksum;	/* of number and words */
	uint64_t words[DEMO_MAX_WORDS];
};

struct demo_page {
	_Atomic uint64_t sent;
};

static inline uint64_t demo_mix(uint64_t value)
{
	value = (value ^ value >> 31) * UINT64_C(0x9e3779b97f4a7c15);
	return value ^ value >> 29;
}

static inline uint64_t demo_word(uint64_t number, uint32_t index)
{
	return demo_mix(number << 16 | index);
}

static inline uint32_t demo_count_words(uint64_t number)
{
	return (uint32_t)(demo_mix(number) % (DEMO_MAX_WORDS + 1));
}

static inline uint64_t demo_checksum(uint64_t number, const uint64_t *words, uint32_t count)
{
	uint64_t sum = number;
	uint32_t i;

	for (i = 0; i < count; i++)
		sum = demo_mix(sum ^ words[i]);
	return sum;
}

#endif
