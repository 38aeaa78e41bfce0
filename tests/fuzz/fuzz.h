/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzzers share.
 *
 * A fuzzer's input is a program: a byte says what is done next, the bytes
 * behind it with what. It runs in one process, without forks, and as far as
 * that goes without system calls.
 *
 * The peer under the fuzzer's pen is hostile in three ways: it writes anything
 * into the memory it shares, between two calls of its victim; it changes a word
 * just before the victim loads it (fuzz_mutate(), through the hooks of
 * shared_hook.h); and in the race variants a second thread keeps writing while
 * the victim reads.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* What must hold whatever the peer does. */
#define FUZZ_CHECK(condition) do {							\
	if (!(condition)) {								\
		fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
		abort();								\
	}										\
} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input --------------------------------------------------------------------- */

struct fuzz_input {
	const uint8_t *bytes;
	size_t left;
};

/* Takes up to 8 bytes; what is missing is 0. */
static inline uint64_t fuzz_take(struct fuzz_input *input, unsigned int count)
{
	uint64_t value = 0;
	unsigned int i;

	for (i = 0; i < count && input->left; i++, input->left--)
		value |= (uint64_t)*input->bytes++ << 8 * i;
	return value;
}

static inline uint32_t fuzz_below(struct fuzz_input *input, uint32_t bound)
{
	return (uint32_t)fuzz_take(input, bound > 256 ? 4 : 1) % bound;
}

/* Copies as many bytes as there are, at most size. Return: how many. */
size_t fuzz_take_bytes(struct fuzz_input *input, void *bytes, size_t size);

/* The shared memory ---------------------------------------------------------------- */

/* Memory between pages that nobody may touch; ends the process when there is none. */
uint8_t *fuzz_memory_new(size_t size);

/* A peer that has not meddled yet, and shares no memory. */
void fuzz_peer_begin(void);

/* Memory that the peer shares; the same memory may be there several times. */
void fuzz_memory_add(const uint8_t *base, size_t size);
void fuzz_memory_remove(const uint8_t *base);

/* From now on it only writes when it is told to: no mutations and no race go on. */
void fuzz_peer_end(void);

/*
 * The peer changes memory on its own: the `countdown`th load from now on (1:
 * the next one after those asked for already) finds another value there.
 */
void fuzz_mutate(struct fuzz_input *input);

/* Loads and exchanges of words in the memory, since fuzz_peer_begin(). */
extern uint64_t fuzz_loads;

/* The peer has changed something at all, by the hooks or by the race. */
extern bool fuzz_meddled;

/* A thread that keeps changing what the input says --------------------------------------- */

#ifdef FUZZ_RACE
#define FUZZ_RACES true
#else
#define FUZZ_RACES false
#endif

/* One more word, which changes between two values from now on. */
void fuzz_race_add(uint8_t *near, uint64_t value, uint64_t other);

/* What must not leak ------------------------------------------------------------------ */

/* Open descriptors, as far as they are numbered below MOST_FDS. */
int fuzz_count_fds(void);

/* Mappings of this process; for now and then, as it is slow. */
int fuzz_count_maps(void);

/* Memory to offer to a victim, made once; the caller does not close it. */
enum fuzz_file {
	FUZZ_FILE_GOOD,		/* FUZZ_FILE_SIZE bytes, sealed against shrinking */
	FUZZ_FILE_UNSEALED,
	FUZZ_FILE_SHORT,	/* a page */
	FUZZ_FILE_EMPTY,
	FUZZ_FILE_PIPE,		/* no memory at all */
	FUZZ_FILE_OBJECTS,	/* FUZZ_OBJECTS times FUZZ_OBJECT_SIZE bytes, for a test's own use */
	FUZZ_FILES,
};

#define FUZZ_FILE_SIZE (2u << 20)
#define FUZZ_OBJECTS 8u
#define FUZZ_OBJECT_SIZE (1u << 20)

int fuzz_file(enum fuzz_file kind);

#endif
