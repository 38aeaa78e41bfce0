/* SPDX-License-Identifier: MIT */
/*
 * allocations.h - every allocation of the library, counted.
 *
 * The programs are linked so that it calls these (-Wl,--wrap, see ../Makefile).
 * A victim takes its memory from the front of an arena and gives none back:
 * what it does then depends on nothing that happened before, and what is
 * interrupted is the library.
 */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA_SIZE (64ul << 20)

static long live_blocks;

static struct {
	char *next;	/* NULL: not a victim */
	char *end;
} arena;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_realloc(void *block, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_realloc(void *block, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

/* From now on this process is a victim. */
static inline void arena_begin(void)
{
	void *base = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t size;

	if (base == MAP_FAILED)
		_exit(94);
	/* The C library's own (posix_spawn has some) find a block that was just freed. */
	for (size = 16; size <= 1024; size += 16)
		__real_free(__real_malloc(size));
	arena.next = base;
	arena.end = arena.next + ARENA_SIZE;
}

/* Zeroed, as nothing is used twice. */
static inline void *arena_take(size_t size, size_t alignment)
{
	char *block = (char *)(((uintptr_t)arena.next + alignment - 1) & ~(alignment - 1));

	if (size > (size_t)(arena.end - block))
		_exit(94);
	arena.next = block + size;
	return block;
}

void *__wrap_malloc(size_t size)
{
	if (arena.next)
		return arena_take(size, alignof(max_align_t));
	live_blocks++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (arena.next)
		return arena_take(count * size, alignof(max_align_t));
	live_blocks++;
	return __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	if (arena.next)
		return arena_take(size, alignment);
	live_blocks++;
	return __real_aligned_alloc(alignment, size);
}

/* In a victim, what lies behind the old block is copied too: that does no harm. */
void *__wrap_realloc(void *block, size_t size)
{
	if (arena.next) {
		void *larger = arena_take(size, alignof(max_align_t));

		return block ? memcpy(larger, block, size) : larger;
	}
	live_blocks += !block;
	return __real_realloc(block, size);
}

char *__wrap_strdup(const char *text)
{
	if (arena.next)
		return strcpy(arena_take(strlen(text) + 1, 1), text);
	live_blocks++;
	return __real_strdup(text);
}

void __wrap_free(void *block)
{
	if (arena.next)
		return;
	live_blocks -= block != NULL;
	__real_free(block);
}

#endif
