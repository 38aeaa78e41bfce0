/* SPDX-License-Identifier: MIT */
/*
 * vox/geometry_read.c - a segment that somebody else made: what it says of
 * itself is read once, and nothing is believed before it was checked. Each
 * refusal is a sentence that says which field, and what it holds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vox/geometry.h"

/* A range of the segment that must not overlap another. */
struct part {
	uint64_t offset;
	uint64_t size;
	const char *name;
	uint32_t number;	/* of the peer, or 0 */
};

enum {
	PART_HEADER,
	PART_PEER_TABLE,
	PART_POOL,
	PART_LINK_BLOCKS,
	PART_DIRECTORY,
	FIXED_PARTS,
};

#define bad(error, ...) error_set(error, -EBADMSG, __VA_ARGS__)

static int check_identity(const struct segment_header *header, uint64_t magic,
			  struct voxshm_error *error)
{
	if (magic == 0)
		return bad(error,
			   "header: magic is 0: not a segment, or its host is still making it");
	if (magic != SEGMENT_MAGIC)
		return bad(error, "header: magic is 0x%016llx: not a segment",
			   (unsigned long long)magic);
	if (header->version == VOXSHM_FORMAT_NATIVE)
		return bad(error, "header: version 8: a segment in the native format, which is "
				  "joined through its host, not by its file");
	if (header->version != VOXSHM_FORMAT_VOX)
		return bad(error, "header: version %u is unknown; this library knows 7 (vox)",
			   header->version);
	if (header->header_size != SEGMENT_HEADER_SIZE)
		return bad(error, "header: header_size is %u, not %u", header->header_size,
			   SEGMENT_HEADER_SIZE);
	return 0;
}

static int check_sizes(const struct segment_header *header, uint64_t current_size,
		       uint64_t file_size, struct voxshm_error *error)
{
	if (header->total_size < SEGMENT_HEADER_SIZE || header->total_size > VOX_MAX_SIZE)
		return bad(error, "header: total_size is %llu",
			   (unsigned long long)header->total_size);
	if (current_size < header->total_size)
		return bad(error, "header: current_size %llu is smaller than total_size %llu",
			   (unsigned long long)current_size,
			   (unsigned long long)header->total_size);
	if (current_size > file_size)
		return bad(error, "header: current_size is %llu, but the file has %llu bytes",
			   (unsigned long long)current_size, (unsigned long long)file_size);
	return 0;
}

static int check_parameters(const struct segment_header *header, struct voxshm_error *error)
{
	if (header->max_payload_size == 0)
		return bad(error, "header: max_payload_size is 0");
	if (header->inline_threshold > SEGMENT_MAX_INLINE_THRESHOLD)
		return bad(error, "header: inline_threshold is %u, more than %u",
			   header->inline_threshold, SEGMENT_MAX_INLINE_THRESHOLD);
	if (header->max_guests == 0 || header->max_guests > VOXSHM_MAX_GUESTS)
		return bad(error, "header: max_guests is %u, not in 1..%u", header->max_guests,
			   VOXSHM_MAX_GUESTS);
	if (header->ring_capacity < VOX_RING_MIN_CAPACITY ||
	    header->ring_capacity > VOX_RING_MAX_CAPACITY ||
	    !is_aligned(header->ring_capacity, 8))
		return bad(error, "header: bipbuf_capacity is %u, not a multiple of 8 in %u..%u",
			   header->ring_capacity, VOX_RING_MIN_CAPACITY, VOX_RING_MAX_CAPACITY);
	if (header->num_classes == 0 || header->num_classes > VOX_MAX_CLASSES)
		return bad(error, "header: num_var_slot_classes is %u, not in 1..%u",
			   header->num_classes, VOX_MAX_CLASSES);
	return 0;
}

static int read_extension(struct vox_geometry *geometry, const struct segment_extension *extension,
			  uint64_t current_size, struct voxshm_error *error)
{
	if (extension->magic != EXTENSION_MAGIC)
		return bad(error, "header extension: magic is 0x%08x, which is unknown",
			   extension->magic);
	if (extension->version != EXTENSION_VERSION)
		return bad(error, "header extension: version %u is unknown", extension->version);
	if (extension->flags)
		return bad(error, "header extension: flags 0x%x are unknown", extension->flags);
	if (extension->max_mappings == 0 || extension->max_mappings > VOX_MAX_MAPPINGS)
		return bad(error, "header extension: max_mappings is %u, not in 1..%u",
			   extension->max_mappings, VOX_MAX_MAPPINGS);
	if (extension->link_block_stride < vox_link_block_size(extension->max_mappings) ||
	    !is_aligned(extension->link_block_stride, CACHE_LINE))
		return bad(error, "header extension: link block stride is %u",
			   extension->link_block_stride);
	if (extension->link_block_offset == 0)
		return bad(error, "header extension: link block offset is 0");
	if (extension->pool_offset)
		return bad(error, "header extension: pool offset is %u, not 0",
			   extension->pool_offset);
	if (extension->window_size < current_size || extension->window_size > VOX_MAX_SIZE)
		return bad(error, "header extension: the size limit is %llu, and the segment has "
				  "%llu bytes", (unsigned long long)extension->window_size,
			   (unsigned long long)current_size);
	if (extension->extent_offset == 0)
		return bad(error, "header extension: extent directory offset is 0");
	geometry->max_mappings = extension->max_mappings;
	geometry->link_blocks = (uint64_t)extension->link_block_offset * CACHE_LINE;
	geometry->link_block_stride = extension->link_block_stride;
	geometry->directory = extension->extent_offset;
	geometry->max_size = extension->window_size;
	geometry->segment_id = extension->segment_id;
	return 0;
}

int vox_geometry_read_header(struct vox_geometry *geometry, const struct segment_header *shared,
			     uint64_t file_size, struct voxshm_error *error)
{
	uint64_t magic = shared_load_u64(&shared->magic);
	struct segment_header header;
	uint64_t current_size;
	int ret;

	memset(geometry, 0, sizeof(*geometry));
	segment_header_copy(&header, shared);
	current_size = shared_peek_u64(&header.current_size);
	ret = check_identity(&header, magic, error);
	if (!ret)
		ret = check_sizes(&header, current_size, file_size, error);
	if (!ret)
		ret = check_parameters(&header, error);
	if (ret)
		return ret;

	geometry->max_guests = header.max_guests;
	geometry->ring_capacity = header.ring_capacity;
	geometry->max_payload = header.max_payload_size;
	geometry->inline_threshold = header.inline_threshold;
	geometry->num_classes = header.num_classes;
	geometry->heartbeat_interval = header.heartbeat_interval;
	geometry->peer_table = header.peer_table_offset;
	geometry->pool = header.var_pool_offset;
	geometry->total_size = header.total_size;
	geometry->max_size = current_size;
	if (header.extension.magic)
		return read_extension(geometry, &header.extension, current_size, error);
	return 0;
}

/* A part other than the header itself, alone: aligned, behind the header, in bounds. */
static int check_part(const struct vox_geometry *geometry, const struct part *part,
		      struct voxshm_error *error)
{
	unsigned long long offset = part->offset, size = part->size;
	char name[48];

	if (part->number)
		snprintf(name, sizeof(name), "peer %u: the ring pair", part->number);
	else
		snprintf(name, sizeof(name), "%s", part->name);
	if (!is_aligned(offset, CACHE_LINE))
		return bad(error, "%s at %llu is not aligned to %u bytes", name, offset,
			   CACHE_LINE);
	if (offset < SEGMENT_HEADER_SIZE)
		return bad(error, "%s at %llu lies in the header", name, offset);
	if (offset > geometry->total_size || size > geometry->total_size - offset)
		return bad(error, "%s at %llu with %llu bytes leaves the segment, which has %llu",
			   name, offset, size, (unsigned long long)geometry->total_size);
	return 0;
}

static int read_classes(struct vox_geometry *geometry, const uint8_t *base,
			struct voxshm_error *error)
{
	const struct class_header *headers = (const void *)(base + geometry->pool);
	uint64_t size;
	uint32_t i;

	for (i = 0; i < geometry->num_classes; i++) {
		const volatile struct class_header *header = &headers[i];
		struct voxshm_class class = { header->slot_size, header->slot_count };

		if (class.slot_size == 0 || class.slot_count == 0 ||
		    class.slot_count > VOX_MAX_SLOTS)
			return bad(error, "slot class %u: %u slots of %u bytes", i,
				   class.slot_count, class.slot_size);
		if (i > 0 && class.slot_size <= geometry->classes[i - 1].slot_size)
			return bad(error, "slot class %u: its slots of %u bytes are not larger "
					  "than those before", i, class.slot_size);
		geometry->classes[i] = class;
	}
	size = vox_extent_size(geometry->classes, geometry->num_classes);
	if (!size || size > geometry->total_size - geometry->pool)
		return bad(error, "slot pool at %llu with its %u classes leaves the segment, "
				  "which has %llu bytes", (unsigned long long)geometry->pool,
			   geometry->num_classes, (unsigned long long)geometry->total_size);
	geometry->pool_end = geometry->pool + size;
	return 0;
}

static int check_ring(const struct vox_geometry *geometry, const uint8_t *base,
		      const struct part *pair, struct voxshm_error *error)
{
	uint64_t stride = vox_ring_stride(geometry->ring_capacity);
	uint32_t i;

	for (i = 0; i < VOX_SIDES; i++) {
		const struct vox_ring *ring = (const void *)(base + pair->offset + i * stride);
		uint32_t capacity = *(const volatile uint32_t *)&ring->capacity;

		if (capacity != geometry->ring_capacity)
			return bad(error, "peer %u: ring %u has capacity %u, not %u",
				   pair->number, i, capacity, geometry->ring_capacity);
	}
	return 0;
}

static int read_rings(struct vox_geometry *geometry, const uint8_t *base, struct part *pairs,
		      struct voxshm_error *error)
{
	const struct peer_entry *peers = (const void *)(base + geometry->peer_table);
	uint32_t i;
	int ret;

	for (i = 0; i < geometry->max_guests; i++) {
		geometry->rings[i] = *(const volatile uint64_t *)&peers[i].ring_offset;
		pairs[i] = (struct part){
			.offset = geometry->rings[i],
			.size = VOX_SIDES * vox_ring_stride(geometry->ring_capacity),
			.name = "a ring pair",
			.number = i + 1,
		};
		ret = check_part(geometry, &pairs[i], error);
		if (!ret)
			ret = check_ring(geometry, base, &pairs[i], error);
		if (ret)
			return ret;
	}
	return 0;
}

static int compare_parts(const void *left, const void *right)
{
	uint64_t a = ((const struct part *)left)->offset;
	uint64_t b = ((const struct part *)right)->offset;

	return (a > b) - (a < b);
}

static int check_overlap(struct part *parts, uint32_t count, struct voxshm_error *error)
{
	uint32_t i;

	qsort(parts, count, sizeof(*parts), compare_parts);
	for (i = 1; i < count; i++)
		if (parts[i].offset - parts[i - 1].offset < parts[i - 1].size)
			return bad(error, "%s at %llu overlaps %s at %llu", parts[i].name,
				   (unsigned long long)parts[i].offset, parts[i - 1].name,
				   (unsigned long long)parts[i - 1].offset);
	return 0;
}

/*
 * The parts that must be in bounds before they are read; of the pool only its
 * headers, as it is not known yet how large it is. Return: how many.
 */
static uint32_t fixed_parts(const struct vox_geometry *geometry, struct part *parts)
{
	parts[PART_HEADER] = (struct part){ 0, SEGMENT_HEADER_SIZE, "the header", 0 };
	parts[PART_PEER_TABLE] = (struct part){
		geometry->peer_table, geometry->max_guests * sizeof(struct peer_entry),
		"the peer table", 0,
	};
	parts[PART_POOL] = (struct part){
		geometry->pool, geometry->num_classes * sizeof(struct class_header),
		"the slot pool", 0,
	};
	if (!geometry->link_blocks)
		return PART_LINK_BLOCKS;
	parts[PART_LINK_BLOCKS] = (struct part){
		geometry->link_blocks, geometry->max_guests * geometry->link_block_stride,
		"the array of link blocks", 0,
	};
	parts[PART_DIRECTORY] = (struct part){
		geometry->directory, sizeof(struct vox_directory), "the extent directory", 0,
	};
	return FIXED_PARTS;
}

int vox_geometry_read_tables(struct vox_geometry *geometry, const uint8_t *base,
			     struct voxshm_error *error)
{
	struct part parts[FIXED_PARTS + VOXSHM_MAX_GUESTS];
	uint32_t i, count = fixed_parts(geometry, parts);
	const struct vox_directory *directory;
	int ret;

	for (i = PART_PEER_TABLE; i < count; i++) {
		ret = check_part(geometry, &parts[i], error);
		if (ret)
			return ret;
	}
	ret = read_classes(geometry, base, error);
	if (ret)
		return ret;
	parts[PART_POOL].size = geometry->pool_end - geometry->pool;
	ret = read_rings(geometry, base, parts + count, error);
	if (ret)
		return ret;
	directory = (const void *)(base + geometry->directory);
	if (geometry->directory &&
	    *(const volatile uint32_t *)&directory->capacity != VOX_MAX_EXTENTS - 1)
		return bad(error, "extent directory: capacity is not %u", VOX_MAX_EXTENTS - 1);
	return check_overlap(parts, count + geometry->max_guests, error);
}

int vox_geometry_read_extent(const struct vox_geometry *geometry, const uint8_t *base,
			     const struct vox_extent *extent, struct voxshm_class *classes)
{
	const struct class_header *headers = (const void *)(base + extent->offset);
	uint64_t size;
	uint32_t i;

	if (extent->size < geometry->num_classes * sizeof(*headers))
		return -EBADMSG;
	for (i = 0; i < geometry->num_classes; i++) {
		const volatile struct class_header *header = &headers[i];

		classes[i] = (struct voxshm_class){ header->slot_size, header->slot_count };
		if (classes[i].slot_size != geometry->classes[i].slot_size ||
		    classes[i].slot_count > VOX_MAX_SLOTS)
			return -EBADMSG;
	}
	size = vox_extent_size(classes, geometry->num_classes);
	return size && size <= extent->size ? 0 : -EBADMSG;
}
