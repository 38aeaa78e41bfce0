/* SPDX-License-Identifier: MIT */
/*
 * shared_hook.h - a hook behind every load of a shared word, so that a test
 * can play the peer that changes memory just then.
 *
 * The variants `fuzz` and `fickle` compile it in front of each file
 * (cc -include); lib/shared.h itself knows nothing of it. Whoever links such
 * objects provides the hooks: tests/fuzz/fuzz.c, tests/fickle.c.
 */
#ifndef SHARED_HOOK_H
#define SHARED_HOOK_H

#include <stddef.h>

#include "../lib/shared.h"

/* A word was loaded. Return: what the loader gets to see. */
uint64_t shared_hook_load(const volatile void *word, size_t size, uint64_t value,
			  const char *file, int line);

/* A word is about to be exchanged or compared. */
void shared_hook_update(volatile void *word, size_t size);

#define SHARED_HOOK_LOAD(load, word) ({							\
	__typeof__(word) hooked_ = (word);						\
	(__typeof__(load(hooked_)))shared_hook_load(hooked_, sizeof(*hooked_),		\
						    load(hooked_), __FILE__, __LINE__);	\
})

#define SHARED_HOOK_UPDATE(update, word, ...) ({					\
	__typeof__(word) hooked_ = (word);						\
	shared_hook_update(hooked_, sizeof(*hooked_));					\
	update(hooked_, __VA_ARGS__);							\
})

#define shared_peek_u32(word) SHARED_HOOK_LOAD(shared_peek_u32, word)
#define shared_peek_u64(word) SHARED_HOOK_LOAD(shared_peek_u64, word)
#define shared_load_u32(word) SHARED_HOOK_LOAD(shared_load_u32, word)
#define shared_load_u64(word) SHARED_HOOK_LOAD(shared_load_u64, word)
#define shared_load_fenced_u32(word) SHARED_HOOK_LOAD(shared_load_fenced_u32, word)
#define shared_load_fenced_u64(word) SHARED_HOOK_LOAD(shared_load_fenced_u64, word)
#define shared_exchange_u32(word, value) \
	SHARED_HOOK_UPDATE(shared_exchange_u32, word, value)
#define shared_cas_u32(word, expected, value) \
	SHARED_HOOK_UPDATE(shared_cas_u32, word, expected, value)
#define shared_cas_u64(word, expected, value) \
	SHARED_HOOK_UPDATE(shared_cas_u64, word, expected, value)

#endif
