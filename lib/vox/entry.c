/* SPDX-License-Identifier: MIT */
/* vox/entry.c - see entry.h. */
#include "vox/entry.h"

/* inline_len 0: written by a vox-shm that did not know it, or empty. */
static int parse_inline(struct vox_entry *entry, const uint8_t *bytes, uint16_t inline_len)
{
	entry->kind = VOX_ENTRY_INLINE;
	entry->payload = bytes + FRAME_HEADER_SIZE;
	entry->length = inline_len ? inline_len : entry->size - FRAME_HEADER_SIZE;
	return vox_entry_size(entry->length) == entry->size ? 0 : -EBADMSG;
}

static int parse_slot(struct vox_entry *entry, const uint8_t *bytes)
{
	uint32_t place = vox_entry_word(bytes, 2);

	entry->kind = VOX_ENTRY_SLOT;
	entry->slot = (struct vox_slot_ref){
		.class_index = (uint8_t)place,
		.extent = (uint8_t)(place >> 8),
		.slot = vox_entry_word(bytes, 3),
		.generation = vox_entry_word(bytes, 4),
	};
	return place >> 16 == 0 ? 0 : -EBADMSG;
}

static int parse_mapping(struct vox_entry *entry, const uint8_t *bytes)
{
	entry->kind = VOX_ENTRY_MAPPING;
	entry->mapping = (struct vox_mapping_ref){
		.map_id = vox_entry_word(bytes, 2),
		.generation = vox_entry_word(bytes, 3),
		.offset = vox_entry_word(bytes, 4) | (uint64_t)vox_entry_word(bytes, 5) << 32,
		.length = vox_entry_word(bytes, 6),
	};
	return vox_entry_word(bytes, 7) == 0 ? 0 : -EBADMSG;
}

int vox_entry_parse(struct vox_entry *entry, const uint8_t *bytes, uint32_t readable)
{
	uint64_t header;
	uint32_t size;

	if (readable < FRAME_HEADER_SIZE)
		return -EBADMSG;
	header = vox_entry_word(bytes, 0) | (uint64_t)vox_entry_word(bytes, 1) << 32;
	size = frame_total_len(header);
	if (size < FRAME_HEADER_SIZE || size > readable || !is_aligned(size, 4) ||
	    frame_reserved(header))
		return -EBADMSG;
	entry->size = size;
	switch (frame_flags(header)) {
	case 0:
		return parse_inline(entry, bytes, frame_inline_len(header));
	case FRAME_SLOT_REF:
		return size == VOX_SLOT_ENTRY ? parse_slot(entry, bytes) : -EBADMSG;
	case FRAME_MAPPING_REF:
		return size == VOX_MAPPING_ENTRY ? parse_mapping(entry, bytes) : -EBADMSG;
	default:
		return -EBADMSG;
	}
}
