/* SPDX-License-Identifier: MIT */
/*
 * basics.h - what tests need that are not tests of the harness alone: a condition
 * that ends the process, time, random numbers, patterns, how slow this run is.
 */
#ifndef BASICS_H
#define BASICS_H

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIB 1024u
#define MIB (1024u * 1024u)

#define REQUIRE(condition) do {								\
	if (!(condition)) {								\
		fprintf(stderr, "# %s:%d: pid %d: not true: %s\n", __FILE__, __LINE__,	\
			(int)getpid(), #condition);					\
		_exit(97);								\
	}										\
} while (0)

/* Like REQUIRE(call == expected), and says what came instead. */
#define REQUIRE_EQ(expected, call) do {							\
	long long came_ = (long long)(call);						\
	if (came_ != (long long)(expected)) {						\
		fprintf(stderr, "# %s:%d: pid %d: %s is %lld, not %lld\n", __FILE__,	\
			__LINE__, (int)getpid(), #call, came_, (long long)(expected));	\
		_exit(97);								\
	}										\
} while (0)

/* Time ----------------------------------------------------------------------- */

#define MS 1000000ll
#define SECOND 1000000000ll
/* Longer than anything that works takes; shorter than a test's time limit. */
#define PATIENCE (15 * SECOND * slowness())

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static inline void sleep_ms(int ms)
{
	struct timespec rest = { ms / 1000, ms % 1000 * MS };

	while (nanosleep(&rest, &rest) < 0)
		;
}

/* Payloads ------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15ull;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline uint64_t random_next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return mix(*state);
}

static inline void pattern_fill(void *data, size_t size, uint64_t seed)
{
	uint8_t *bytes = data;
	uint64_t word = mix(seed);
	size_t i;

	for (i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		memcpy(bytes + i, &word, sizeof(word));
		word = word * 5 + 0x2545f4914f6cdd1dull;
	}
	if (i < size)
		memcpy(bytes + i, &word, size - i);
}

static inline bool pattern_is(const void *data, size_t size, uint64_t seed)
{
	const uint8_t *bytes = data;
	uint64_t word = mix(seed);
	size_t i;

	for (i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		if (memcmp(bytes + i, &word, sizeof(word)))
			return false;
		word = word * 5 + 0x2545f4914f6cdd1dull;
	}
	return i == size || !memcmp(bytes + i, &word, size - i);
}

/* How slow this run is ------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* VOXSHM_TEST_SLOW=n: everything may take n times as long (valgrind). */
static inline unsigned int slowness(void)
{
	const char *given = getenv("VOXSHM_TEST_SLOW");
	int value = given ? atoi(given) : 0;

	return value > 0 ? (unsigned int)value : SANITIZED ? 4 : 1;
}

/* TEST_LONG in the environment asks for ten times as much, a slow run for less. */
static inline unsigned int amount(unsigned int normal)
{
	const char *given = getenv("TEST_LONG");

	if (given && *given && strcmp(given, "0"))
		return normal * 10;
	return slowness() > 1 ? (normal + 9) / 10 : normal;
}

/* Programs ------------------------------------------------------------------- */

/* This test's program; its path, because /proc/self/exe may be an emulator. */
static inline char *program_path(void)
{
	static char path[PATH_MAX];

	if (!*path)
		REQUIRE(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	return path;
}

#endif
