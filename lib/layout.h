/* SPDX-License-Identifier: MIT */
/*
 * layout.h - what both formats share of the memory, byte by byte.
 *
 * Native-endian; every position is an offset, never a pointer. What is
 * immutable is checked once at attach, copied to private memory, and never
 * read from shared memory again.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stddef.h>
#include <string.h>

#include "shared.h"
#include "voxshm.h"

#define LAYOUT_ASSERT_OFFSET(type, field, offset) \
	_Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define LAYOUT_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)

/* Segment header, at offset 0 ------------------------------------------- */

#define SEGMENT_MAGIC 0x07425548584c4554ull /* "TELXHUB", 0x07 */
#define SEGMENT_HEADER_SIZE 128u
#define SEGMENT_DEFAULT_INLINE_THRESHOLD 256u
#define SEGMENT_MAX_INLINE_THRESHOLD 65535u

#define EXTENSION_MAGIC 0x4d485358u /* "XSHM" */
#define EXTENSION_VERSION 1u

/*
 * The extension fills the 48 bytes that vox-shm 0.3.1 leaves zero.
 * magic 0: a plain vox-shm segment, nothing of the rest holds.
 */
struct segment_extension {
	uint32_t magic;
	uint16_t version;
	uint16_t flags;			/* unknown ones refuse the attach */
	uint32_t max_mappings;		/* per direction of a link */
	uint32_t link_block_offset;	/* native: in a window; vox: of peer 1's, in lines */
	uint32_t link_block_stride;	/* vox: to the next peer's; native: 0 */
	uint32_t pool_offset;		/* native: of the guest's half, in a window */
	uint64_t window_size;		/* native: of a window; vox: the segment's limit */
	uint64_t extent_offset;		/* vox: of the extent directory, 0 = none */
	uint64_t segment_id;		/* random */
};

struct segment_header {
	shared_u64 magic;		/* written last: "ready" */
	uint32_t version;		/* enum voxshm_format */
	uint32_t header_size;
	uint64_t total_size;		/* at creation */
	uint32_t max_payload_size;
	uint32_t inline_threshold;	/* 0: SEGMENT_DEFAULT_INLINE_THRESHOLD */
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint64_t peer_table_offset;
	uint64_t var_pool_offset;	/* class headers; vox: then the shared pool */
	uint64_t heartbeat_interval;	/* ns, 0 = off */
	shared_u32 host_goodbye;
	uint32_t num_classes;
	shared_u64 current_size;	/* grows, never shrinks */
	struct segment_extension extension;
};

LAYOUT_ASSERT_SIZE(struct segment_header, SEGMENT_HEADER_SIZE);
LAYOUT_ASSERT_OFFSET(struct segment_header, magic, 0);
LAYOUT_ASSERT_OFFSET(struct segment_header, version, 8);
LAYOUT_ASSERT_OFFSET(struct segment_header, header_size, 12);
LAYOUT_ASSERT_OFFSET(struct segment_header, total_size, 16);
LAYOUT_ASSERT_OFFSET(struct segment_header, max_payload_size, 24);
LAYOUT_ASSERT_OFFSET(struct segment_header, inline_threshold, 28);
LAYOUT_ASSERT_OFFSET(struct segment_header, max_guests, 32);
LAYOUT_ASSERT_OFFSET(struct segment_header, ring_capacity, 36);
LAYOUT_ASSERT_OFFSET(struct segment_header, peer_table_offset, 40);
LAYOUT_ASSERT_OFFSET(struct segment_header, var_pool_offset, 48);
LAYOUT_ASSERT_OFFSET(struct segment_header, heartbeat_interval, 56);
LAYOUT_ASSERT_OFFSET(struct segment_header, host_goodbye, 64);
LAYOUT_ASSERT_OFFSET(struct segment_header, num_classes, 68);
LAYOUT_ASSERT_OFFSET(struct segment_header, current_size, 72);
LAYOUT_ASSERT_OFFSET(struct segment_header, extension, 80);
LAYOUT_ASSERT_SIZE(struct segment_extension, 48);
LAYOUT_ASSERT_OFFSET(struct segment_extension, magic, 0);
LAYOUT_ASSERT_OFFSET(struct segment_extension, version, 4);
LAYOUT_ASSERT_OFFSET(struct segment_extension, flags, 6);
LAYOUT_ASSERT_OFFSET(struct segment_extension, max_mappings, 8);
LAYOUT_ASSERT_OFFSET(struct segment_extension, link_block_offset, 12);
LAYOUT_ASSERT_OFFSET(struct segment_extension, link_block_stride, 16);
LAYOUT_ASSERT_OFFSET(struct segment_extension, pool_offset, 20);
LAYOUT_ASSERT_OFFSET(struct segment_extension, window_size, 24);
LAYOUT_ASSERT_OFFSET(struct segment_extension, extent_offset, 32);
LAYOUT_ASSERT_OFFSET(struct segment_extension, segment_id, 40);

/*
 * A private copy of a header that somebody else may still write: only the copy
 * is looked at, whatever becomes of the original (and the compiler may not go
 * back to it).
 */
static inline void segment_header_copy(struct segment_header *copy, const void *shared)
{
	memcpy((void *)copy, shared, sizeof(*copy));
	__asm__ volatile("" ::: "memory");
}

/* Peer table: one entry per guest; peer id = 1 + index ------------------- */

enum peer_state {
	PEER_EMPTY = 0,
	PEER_ATTACHED = 1,
	PEER_GOODBYE = 2,
	PEER_RESERVED = 3,
};

/*
 * state and epoch change together, as one 64-bit word: a death between two
 * stores would reuse an epoch.
 */
struct peer_entry {
	shared_u64 state_epoch;		/* state in the low half */
	shared_u64 last_heartbeat;	/* CLOCK_MONOTONIC, ns */
	uint64_t ring_offset;
	shared_u32 features;		/* of ours; 0 = a plain vox-shm peer */
	shared_u32 pid;
	shared_u32 exit_status;		/* of the last life, as waitid() tells */
	uint8_t reserved[28];
};

LAYOUT_ASSERT_SIZE(struct peer_entry, 64);
LAYOUT_ASSERT_OFFSET(struct peer_entry, state_epoch, 0);
LAYOUT_ASSERT_OFFSET(struct peer_entry, last_heartbeat, 8);
LAYOUT_ASSERT_OFFSET(struct peer_entry, ring_offset, 16);
LAYOUT_ASSERT_OFFSET(struct peer_entry, features, 24);
LAYOUT_ASSERT_OFFSET(struct peer_entry, pid, 28);
LAYOUT_ASSERT_OFFSET(struct peer_entry, exit_status, 32);

static inline uint64_t peer_word(enum peer_state state, uint32_t epoch)
{
	return (uint64_t)epoch << 32 | state;
}

static inline uint32_t peer_word_state(uint64_t word)
{
	return (uint32_t)word;
}

static inline uint32_t peer_word_epoch(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

/* Class headers, at var_pool_offset -------------------------------------- */

struct class_header {
	uint32_t slot_size;
	uint32_t slot_count;
	shared_u64 free_head;		/* vox only */
	uint8_t reserved[48];
};

LAYOUT_ASSERT_SIZE(struct class_header, 64);
LAYOUT_ASSERT_OFFSET(struct class_header, slot_size, 0);
LAYOUT_ASSERT_OFFSET(struct class_header, slot_count, 4);
LAYOUT_ASSERT_OFFSET(struct class_header, free_head, 8);

/* Sleep words: a line for each side, written by the sleeper and the ringer - */

struct sleep_words {
	shared_u32 data;		/* "I sleep for data" */
	shared_u32 space;		/* "I sleep for space" */
	uint8_t reserved[56];
};

LAYOUT_ASSERT_SIZE(struct sleep_words, CACHE_LINE);
LAYOUT_ASSERT_OFFSET(struct sleep_words, data, 0);
LAYOUT_ASSERT_OFFSET(struct sleep_words, space, 4);

/* Arithmetic --------------------------------------------------------------- */

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
	return (value & (alignment - 1)) == 0;
}

#endif
