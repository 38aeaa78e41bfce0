/* SPDX-License-Identifier: MIT */
/*
 * vox/entry.h - one entry of a vox ring: the frame header, then the payload
 * or a reference to it.
 *
 * A producer writes an entry while nobody else may look at it. A consumer
 * parses it while the producer, if hostile, may still change it: every word
 * is loaded once into struct vox_entry, and only that is judged and used. A
 * frame that breaks a rule is never skipped: -EBADMSG.
 */
#ifndef VOX_ENTRY_H
#define VOX_ENTRY_H

#include <errno.h>
#include <string.h>

#include "frame.h"

#define VOX_SLOT_ENTRY (FRAME_HEADER_SIZE + VOX_SLOT_REF_SIZE)
#define VOX_MAPPING_ENTRY (FRAME_HEADER_SIZE + (uint32_t)sizeof(struct mapping_ref))

_Static_assert(VOX_SLOT_ENTRY == 20, "slot reference entry");
_Static_assert(VOX_MAPPING_ENTRY == 32, "mapping reference entry");

enum vox_entry_kind {
	VOX_ENTRY_INLINE,
	VOX_ENTRY_SLOT,
	VOX_ENTRY_MAPPING,
};

struct vox_slot_ref {
	uint8_t class_index;
	uint8_t extent;
	uint32_t slot;
	uint32_t generation;
};

struct vox_mapping_ref {
	uint32_t map_id;
	uint32_t generation;
	uint64_t offset;
	uint32_t length;
};

/* What a consumer found; nothing in it is shared memory but payload's target. */
struct vox_entry {
	enum vox_entry_kind kind;
	uint32_t size;		/* bytes in the ring */
	const uint8_t *payload;	/* inline */
	uint32_t length;	/* inline */
	union {
		struct vox_slot_ref slot;
		struct vox_mapping_ref mapping;
	};
};

/* Bytes in the ring of an inline payload. */
static inline uint32_t vox_entry_size(uint32_t length)
{
	return (uint32_t)align_up(FRAME_HEADER_SIZE + (uint64_t)length, 4);
}

/* The 32-bit word at a 4-byte aligned position. */
static inline uint32_t vox_entry_word(const uint8_t *entry, unsigned int index)
{
	return shared_peek_u32((const shared_u32 *)(const void *)entry + index);
}

static inline void vox_entry_store(uint8_t *entry, unsigned int index, uint32_t value)
{
	shared_poke_u32((shared_u32 *)(void *)entry + index, value);
}

static inline void vox_entry_store_header(uint8_t *entry, uint64_t header)
{
	vox_entry_store(entry, 0, (uint32_t)header);
	vox_entry_store(entry, 1, (uint32_t)(header >> 32));
}

/* Writers; entry has room for the whole entry. ----------------------------- */

/* Header and padding of an inline entry. Return: where its payload goes. */
static inline uint8_t *vox_entry_write_inline(uint8_t *entry, uint32_t length)
{
	uint32_t size = vox_entry_size(length);

	/* The last word holds the padding; the payload then covers its rest. */
	if (length)
		vox_entry_store(entry, size / 4 - 1, 0);
	vox_entry_store_header(entry, frame_header(size, 0, (uint16_t)length));
	return entry + FRAME_HEADER_SIZE;
}

static inline void vox_entry_write_slot(uint8_t *entry, const struct vox_slot_ref *ref)
{
	vox_entry_store_header(entry, frame_header(VOX_SLOT_ENTRY, FRAME_SLOT_REF, 0));
	vox_entry_store(entry, 2, ref->class_index | (uint32_t)ref->extent << 8);
	vox_entry_store(entry, 3, ref->slot);
	vox_entry_store(entry, 4, ref->generation);
}

static inline void vox_entry_write_mapping(uint8_t *entry, const struct vox_mapping_ref *ref)
{
	vox_entry_store_header(entry, frame_header(VOX_MAPPING_ENTRY, FRAME_MAPPING_REF, 0));
	vox_entry_store(entry, 2, ref->map_id);
	vox_entry_store(entry, 3, ref->generation);
	vox_entry_store(entry, 4, (uint32_t)ref->offset);
	vox_entry_store(entry, 5, (uint32_t)(ref->offset >> 32));
	vox_entry_store(entry, 6, ref->length);
	vox_entry_store(entry, 7, 0);
}

/* Reader -------------------------------------------------------------------- */

/*
 * Parses the entry at the start of `readable` bytes (more than 0).
 * Return: 0 or -EBADMSG.
 */
int vox_entry_parse(struct vox_entry *entry, const uint8_t *bytes, uint32_t readable);

#endif
