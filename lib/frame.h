/* SPDX-License-Identifier: MIT */
/*
 * frame.h - what lies in a ring: an 8-byte header, then the payload or a
 * reference to it. Both formats share this vocabulary.
 */
#ifndef FRAME_H
#define FRAME_H

#include "layout.h"

#define FRAME_HEADER_SIZE 8u
#define FRAME_SLOT_REF 0x01u
#define FRAME_MAPPING_REF 0x02u
#define FRAME_WRAP 0x80u	/* native only */
#define FRAME_MAX_INLINE 65535u

/* The header as one word: total_len u32, flags u8, reserved u8, inline_len u16. */
static inline uint64_t frame_header(uint32_t total_len, uint8_t flags, uint16_t inline_len)
{
	return (uint64_t)inline_len << 48 | (uint64_t)flags << 32 | total_len;
}

static inline uint32_t frame_total_len(uint64_t header)
{
	return (uint32_t)header;
}

static inline uint8_t frame_flags(uint64_t header)
{
	return (uint8_t)(header >> 32);
}

static inline uint8_t frame_reserved(uint64_t header)
{
	return (uint8_t)(header >> 40);
}

static inline uint16_t frame_inline_len(uint64_t header)
{
	return (uint16_t)(header >> 48);
}

/* Body of a slot reference. */
struct slot_ref {
	uint8_t class_index;
	uint8_t extent;
	uint8_t reserved[2];
	uint32_t slot;
	uint32_t generation;
	uint32_t length;	/* native only; vox: in the slot's first 4 bytes */
};

#define VOX_SLOT_REF_SIZE 12u
#define NATIVE_SLOT_REF_SIZE 16u

LAYOUT_ASSERT_SIZE(struct slot_ref, NATIVE_SLOT_REF_SIZE);
LAYOUT_ASSERT_OFFSET(struct slot_ref, slot, 4);
LAYOUT_ASSERT_OFFSET(struct slot_ref, generation, 8);
LAYOUT_ASSERT_OFFSET(struct slot_ref, length, 12);

/* Body of a mapping reference; 4-byte aligned in the vox format. */
struct mapping_ref {
	uint32_t map_id;
	uint32_t map_generation;
	uint64_t offset;
	uint32_t length;
	uint32_t reserved;
} __attribute__((packed, aligned(4)));

LAYOUT_ASSERT_SIZE(struct mapping_ref, 24);
LAYOUT_ASSERT_OFFSET(struct mapping_ref, offset, 8);
LAYOUT_ASSERT_OFFSET(struct mapping_ref, length, 16);

#endif
