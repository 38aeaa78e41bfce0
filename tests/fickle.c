// SPDX-License-Identifier: MIT
/*
 * fickle.c - a peer that has changed its mind whenever a word is loaded again.
 *
 * In the variant `fickle` every load of a shared word comes here (see
 * shared_hook.h), and gcc tells when a function of lib/native/, lib/vox/ or
 * lib/mappings.c is entered and left. Between entering the outermost one and leaving it, a word
 * that is loaded for the second time has another value. So what is checked and
 * then loaded again to be used is used unchecked, and a test shows it.
 *
 * FICKLE_LOG=FILE appends where that happened: file:line, again at file:line.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN 4096u	/* a power of 2; more words in one call: the oldest are forgotten */

struct seen {
	const volatile void *word;
	uint64_t call;
	const char *file;
	int line;
};

static _Thread_local struct seen seen[SEEN];
static _Thread_local unsigned int depth;
static _Thread_local uint64_t call;
static _Thread_local uint64_t changes;

#define UNWATCHED __attribute__((no_instrument_function))

void __cyg_profile_func_enter(void *function, void *site) UNWATCHED;
void __cyg_profile_func_exit(void *function, void *site) UNWATCHED;
uint64_t shared_hook_load(const volatile void *word, size_t size, uint64_t value,
			  const char *file, int line) UNWATCHED;
uint64_t shared_hook_hint(const volatile void *word, size_t size, uint64_t value) UNWATCHED;
void shared_hook_store(volatile void *word) UNWATCHED;
void shared_hook_update(volatile void *word, size_t size) UNWATCHED;
void shared_hook_look_again(void) UNWATCHED;

void __cyg_profile_func_enter(void *function, void *site)
{
	(void)function;
	(void)site;
	if (depth++ == 0)
		call++;
}

void __cyg_profile_func_exit(void *function, void *site)
{
	(void)function;
	(void)site;
	depth--;
}

UNWATCHED static void report(const struct seen *first, const char *file, int line)
{
	const char *path = getenv("FICKLE_LOG");
	FILE *log = path ? fopen(path, "ae") : NULL;

	if (!log)
		return;
	fprintf(log, "%s:%d, again at %s:%d\n", first->file, first->line, file, line);
	fclose(log);
}

/* One of the values that a peer would choose. */
UNWATCHED static uint64_t another(uint64_t value)
{
	switch (changes++ % 6) {
	case 0:
		return ~value;
	case 1:
		return value ^ 1;
	case 2:
		return value + 64;
	case 3:
		return value ^ 1ull << 32 ^ 4;
	case 4:
		return value ? 0 : 64;
	default:
		return value - 64;
	}
}

static struct seen *place_of(const volatile void *word) UNWATCHED;
static struct seen *place_of(const volatile void *word)
{
	uintptr_t address = (uintptr_t)word;

	return &seen[(address >> 2 ^ address >> 14) % SEEN];
}

uint64_t shared_hook_load(const volatile void *word, size_t size, uint64_t value,
			  const char *file, int line)
{
	struct seen *place = place_of(word);

	/* What lib/wait.c keeps is not shared with anybody else. */
	if (!depth || strcmp(file, "lib/wait.c") == 0)
		return value;
	if (place->word == word && place->call == call) {
		report(place, file, line);
		value = another(value);
		return size == sizeof(uint32_t) ? (uint32_t)value : value;
	}
	*place = (struct seen){ word, call, file, line };
	return value;
}

/* Whatever it says, nothing is lost by it but time. */
uint64_t shared_hook_hint(const volatile void *word, size_t size, uint64_t value)
{
	(void)word;
	(void)size;
	return value;
}

/* What this side has stored itself it may look at. */
void shared_hook_store(volatile void *word)
{
	place_of(word)->word = NULL;
}

void shared_hook_update(volatile void *word, size_t size)
{
	(void)size;
	place_of(word)->word = NULL;
}

void shared_hook_look_again(void)
{
	call++;
}
