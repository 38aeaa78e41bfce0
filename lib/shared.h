/* SPDX-License-Identifier: MIT */
/*
 * shared.h - the only way to touch a word that the other side may change.
 *
 * Every access is one load or one store of one aligned word. What was loaded
 * is kept in a local, bounded, then used; it is never loaded again for the
 * same decision. Each use in a .c file bears the letter of its barrier pair,
 * listed at the top of that file.
 */
#ifndef SHARED_H
#define SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CACHE_LINE 64u

typedef _Atomic uint32_t shared_u32;
typedef _Atomic uint64_t shared_u64;

_Static_assert(sizeof(shared_u32) == 4 && sizeof(shared_u64) == 8, "lock-free words");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "lock-free words");

/* A word whose order with others does not matter here. */
static inline uint32_t shared_peek_u32(const shared_u32 *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint64_t shared_peek_u64(const shared_u64 *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* A glance: decides nothing but whether to look properly. */
static inline uint32_t shared_hint_u32(const shared_u32 *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void shared_poke_u32(shared_u32 *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void shared_poke_u64(shared_u64 *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Sees all that was written before the store it reads from. */
static inline uint32_t shared_load_u32(const shared_u32 *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static inline uint64_t shared_load_u64(const shared_u64 *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

/* Shows all that was written before it. */
static inline void shared_store_u32(shared_u32 *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

static inline void shared_store_u64(shared_u64 *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

/*
 * The two halves of a full barrier: each side stores one word with _fenced,
 * then loads the other's with _fenced; at least one of them sees the other's
 * store. (Sequentially consistent operations rather than a bare fence: the
 * store is the barrier, one instruction on x86, and the thread sanitizer
 * understands it.)
 */
static inline void shared_store_fenced_u32(shared_u32 *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_seq_cst);
}

static inline void shared_store_fenced_u64(shared_u64 *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_seq_cst);
}

static inline uint32_t shared_load_fenced_u32(const shared_u32 *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static inline uint64_t shared_load_fenced_u64(const shared_u64 *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static inline uint32_t shared_exchange_u32(shared_u32 *word, uint32_t value)
{
	return atomic_exchange_explicit(word, value, memory_order_seq_cst);
}

/* Stores value if *word is *expected; else loads *word into *expected. */
static inline bool shared_cas_u32(shared_u32 *word, uint32_t *expected, uint32_t value)
{
	return atomic_compare_exchange_strong_explicit(word, expected, value,
						       memory_order_seq_cst,
						       memory_order_acquire);
}

static inline bool shared_cas_u64(shared_u64 *word, uint64_t *expected, uint64_t value)
{
	return atomic_compare_exchange_strong_explicit(word, expected, value,
						       memory_order_seq_cst,
						       memory_order_acquire);
}

/*
 * What was loaded before is not relied on any more: the same words may be
 * loaded again from here on. Does nothing. Without it the tests' fickle peer
 * (tests/fickle.c) takes a second load within one call for a mistake.
 */
static inline void shared_look_again(void)
{
}

/* Asks for the line of a word that will be stored to, without waiting for it. */
static inline void shared_prefetch_for_write(const void *word)
{
#if defined(__x86_64__)
	/* gcc's builtin is this only where it may assume the processor to be new. */
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)word));
#else
	__builtin_prefetch(word, 1);
#endif
}

/* Says to the processor that this is a loop that waits for the other side. */
static inline void shared_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
