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

/* The same for a glance at a word (shared_hint_u32()). */
uint64_t shared_hook_hint(const volatile void *word, size_t size, uint64_t value);

/* A word is about to be stored, exchanged or compared. */
void shared_hook_store(volatile void *word);
void shared_hook_update(volatile void *word, size_t size);

/* From here on all is looked at anew: told, or a word was not what it was compared with. */
void shared_hook_look_again(void);

#define SHARED_HOOK_LOAD(load, word) ({							\
	__typeof__(word) loaded_ = (word);						\
	(__typeof__(load(loaded_)))shared_hook_load(loaded_, sizeof(*loaded_),		\
						    load(loaded_), __FILE__, __LINE__);	\
})

#define SHARED_HOOK_STORE(store, word, value) ({					\
	__typeof__(word) stored_ = (word);						\
	shared_hook_store(stored_);							\
	store(stored_, value);								\
})

#define SHARED_HOOK_CAS(cas, word, expected, value) ({					\
	__typeof__(word) compared_ = (word);						\
	shared_hook_update(compared_, sizeof(*compared_));					\
	bool changed_ = cas(compared_, expected, value);					\
	if (!changed_)									\
		shared_hook_look_again();							\
	changed_;									\
})

#define shared_look_again() shared_hook_look_again()
#define shared_hint_u32(word) ({							\
	__typeof__(word) hinted_ = (word);						\
	(uint32_t)shared_hook_hint(hinted_, sizeof(*hinted_), shared_hint_u32(hinted_)); \
})
#define shared_peek_u32(word) SHARED_HOOK_LOAD(shared_peek_u32, word)
#define shared_peek_u64(word) SHARED_HOOK_LOAD(shared_peek_u64, word)
#define shared_load_u32(word) SHARED_HOOK_LOAD(shared_load_u32, word)
#define shared_load_u64(word) SHARED_HOOK_LOAD(shared_load_u64, word)
#define shared_load_fenced_u32(word) SHARED_HOOK_LOAD(shared_load_fenced_u32, word)
#define shared_load_fenced_u64(word) SHARED_HOOK_LOAD(shared_load_fenced_u64, word)
#define shared_poke_u32(word, value) SHARED_HOOK_STORE(shared_poke_u32, word, value)
#define shared_poke_u64(word, value) SHARED_HOOK_STORE(shared_poke_u64, word, value)
#define shared_store_u32(word, value) SHARED_HOOK_STORE(shared_store_u32, word, value)
#define shared_store_u64(word, value) SHARED_HOOK_STORE(shared_store_u64, word, value)
#define shared_store_fenced_u32(word, value) \
	SHARED_HOOK_STORE(shared_store_fenced_u32, word, value)
#define shared_store_fenced_u64(word, value) \
	SHARED_HOOK_STORE(shared_store_fenced_u64, word, value)
#define shared_exchange_u32(word, value) ({						\
	__typeof__(word) exchanged_ = (word);						\
	shared_hook_update(exchanged_, sizeof(*exchanged_));					\
	shared_exchange_u32(exchanged_, value);						\
})
#define shared_cas_u32(word, expected, value) SHARED_HOOK_CAS(shared_cas_u32, word, expected, value)
#define shared_cas_u64(word, expected, value) SHARED_HOOK_CAS(shared_cas_u64, word, expected, value)

#endif
