/* SPDX-License-Identifier: MIT */
/* vox/geometry.c - a segment's layout, computed and written; see geometry.h. */
#include <string.h>
#include <sys/random.h>

#include "vox/geometry.h"

/* A link block's offset is stored in lines, in 32 bits. */
#define MAX_LINK_BLOCK_OFFSET ((uint64_t)UINT32_MAX * CACHE_LINE)

static const struct voxshm_class default_classes[] = {
	{ .slot_size = 1024, .slot_count = 1024 },
	{ .slot_size = 16384, .slot_count = 256 },
	{ .slot_size = 262144, .slot_count = 32 },
};

static int check_classes(const struct voxshm_class *classes, uint32_t count,
			 struct voxshm_error *error)
{
	uint32_t i;

	if (count > VOXSHM_MAX_CLASSES)
		return error_set(error, -EINVAL, "num_classes is %u, more than %u", count,
				 VOXSHM_MAX_CLASSES);
	for (i = 0; i < count; i++) {
		if (classes[i].slot_size < 8)
			return error_set(error, -EINVAL,
					 "class %u: slot_size is %u, less than 8", i,
					 classes[i].slot_size);
		if (i > 0 && classes[i].slot_size <= classes[i - 1].slot_size)
			return error_set(error, -EINVAL,
					 "class %u: slot_size %u is not larger than the %u before it",
					 i, classes[i].slot_size, classes[i - 1].slot_size);
		if (classes[i].slot_count == 0 || classes[i].slot_count > VOX_MAX_SLOTS)
			return error_set(error, -EINVAL,
					 "class %u: slot_count is %u, not in 1..%u", i,
					 classes[i].slot_count, VOX_MAX_SLOTS);
	}
	return 0;
}

static int check_config(const struct voxshm_segment_config *config, struct voxshm_error *error)
{
	uint32_t capacity = config->ring_capacity;

	if (config->struct_size != sizeof(*config))
		return error_set(error, -EINVAL,
				 "config.struct_size is %zu, not %zu: use VOXSHM_SEGMENT_CONFIG_INIT",
				 config->struct_size, sizeof(*config));
	if (config->max_guests > VOXSHM_MAX_GUESTS)
		return error_set(error, -EINVAL, "max_guests is %u, more than %u",
				 config->max_guests, VOXSHM_MAX_GUESTS);
	if (capacity && (capacity < VOX_RING_MIN_CAPACITY || capacity > VOX_RING_MAX_CAPACITY ||
			 !is_aligned(capacity, 8)))
		return error_set(error, -EINVAL,
				 "ring_capacity is %u, not a multiple of 8 in %u..%u", capacity,
				 VOX_RING_MIN_CAPACITY, VOX_RING_MAX_CAPACITY);
	if (config->inline_threshold > SEGMENT_MAX_INLINE_THRESHOLD)
		return error_set(error, -EINVAL, "inline_threshold is %u, more than %u",
				 config->inline_threshold, SEGMENT_MAX_INLINE_THRESHOLD);
	if (config->max_mappings > VOX_MAX_MAPPINGS)
		return error_set(error, -EINVAL, "max_mappings is %u, more than %u",
				 config->max_mappings, VOX_MAX_MAPPINGS);
	if (config->cleanup != VOXSHM_CLEANUP_MANUAL && config->cleanup != VOXSHM_CLEANUP_AUTO)
		return error_set(error, -EINVAL, "cleanup is %d, which is unknown",
				 (int)config->cleanup);
	if (config->mode & ~(mode_t)0777)
		return error_set(error, -EINVAL, "mode is 0%o, more than permission bits",
				 (unsigned int)config->mode);
	if (config->num_classes && !config->classes)
		return error_set(error, -EINVAL, "num_classes is %u and classes is NULL",
				 config->num_classes);
	return check_classes(config->classes, config->num_classes, error);
}

static void fill_parameters(struct vox_geometry *geometry,
			    const struct voxshm_segment_config *config)
{
	const struct voxshm_class *classes = default_classes;

	geometry->max_guests = config->max_guests ? config->max_guests : VOX_DEFAULT_GUESTS;
	geometry->ring_capacity = config->ring_capacity ? config->ring_capacity :
							  VOX_DEFAULT_RING;
	geometry->max_payload = config->max_payload ? config->max_payload : VOX_DEFAULT_PAYLOAD;
	geometry->inline_threshold = config->inline_threshold;
	geometry->max_mappings = config->max_mappings ? config->max_mappings :
							VOX_DEFAULT_MAPPINGS;
	geometry->heartbeat_interval = config->heartbeat_interval;
	geometry->num_classes = sizeof(default_classes) / sizeof(default_classes[0]);
	if (config->num_classes) {
		geometry->num_classes = config->num_classes;
		classes = config->classes;
	}
	memcpy(geometry->classes, classes, geometry->num_classes * sizeof(*classes));
}

/* Up to pool_end nothing here can overflow but the pool's own size. */
static int place_parts(struct vox_geometry *geometry, struct voxshm_error *error)
{
	uint64_t stride = vox_ring_stride(geometry->ring_capacity);
	uint64_t ring_base, pool_size;
	uint32_t i;

	geometry->peer_table = SEGMENT_HEADER_SIZE;
	ring_base = geometry->peer_table +
		    geometry->max_guests * (uint64_t)sizeof(struct peer_entry);
	for (i = 0; i < geometry->max_guests; i++)
		geometry->rings[i] = ring_base + i * VOX_SIDES * stride;
	geometry->pool = ring_base + geometry->max_guests * VOX_SIDES * stride;
	pool_size = vox_extent_size(geometry->classes, geometry->num_classes);
	if (!pool_size || pool_size > INT64_MAX ||
	    geometry->pool + pool_size > MAX_LINK_BLOCK_OFFSET)
		return error_set(error, -EOVERFLOW,
				 "the slot pool would end beyond %llu bytes",
				 (unsigned long long)MAX_LINK_BLOCK_OFFSET);
	geometry->pool_end = geometry->pool + pool_size;
	geometry->link_blocks = geometry->pool_end;
	geometry->link_block_stride = vox_link_block_size(geometry->max_mappings);
	geometry->directory = geometry->link_blocks +
			      geometry->max_guests * geometry->link_block_stride;
	geometry->total_size = geometry->directory + sizeof(struct vox_directory);
	return 0;
}

int vox_geometry_compute(struct vox_geometry *geometry,
			 const struct voxshm_segment_config *config, struct voxshm_error *error)
{
	int ret;

	memset(geometry, 0, sizeof(*geometry));
	ret = check_config(config, error);
	if (ret)
		return ret;
	fill_parameters(geometry, config);
	ret = place_parts(geometry, error);
	if (ret)
		return ret;
	geometry->max_size = config->max_size ? config->max_size : geometry->total_size;
	if (geometry->max_size < geometry->total_size || geometry->max_size > VOX_MAX_SIZE)
		return error_set(error, -EINVAL,
				 "max_size is %llu, and the segment begins with %llu bytes",
				 (unsigned long long)geometry->max_size,
				 (unsigned long long)geometry->total_size);
	if (getrandom(&geometry->segment_id, sizeof(geometry->segment_id), GRND_NONBLOCK) < 0)
		geometry->segment_id = 0;
	return 0;
}

static void write_header(const struct vox_geometry *geometry, struct segment_header *header)
{
	header->version = VOXSHM_FORMAT_VOX;
	header->header_size = SEGMENT_HEADER_SIZE;
	header->total_size = geometry->total_size;
	header->max_payload_size = geometry->max_payload;
	header->inline_threshold = geometry->inline_threshold;
	header->max_guests = geometry->max_guests;
	header->ring_capacity = geometry->ring_capacity;
	header->peer_table_offset = geometry->peer_table;
	header->var_pool_offset = geometry->pool;
	header->heartbeat_interval = geometry->heartbeat_interval;
	header->num_classes = geometry->num_classes;
	shared_poke_u64(&header->current_size, geometry->total_size);
	header->extension = (struct segment_extension){
		.magic = EXTENSION_MAGIC,
		.version = EXTENSION_VERSION,
		.max_mappings = geometry->max_mappings,
		.link_block_offset = (uint32_t)(geometry->link_blocks / CACHE_LINE),
		.link_block_stride = (uint32_t)geometry->link_block_stride,
		.window_size = geometry->max_size,
		.extent_offset = geometry->directory,
		.segment_id = geometry->segment_id,
	};
}

void vox_geometry_write(const struct vox_geometry *geometry, uint8_t *base)
{
	uint64_t stride = vox_ring_stride(geometry->ring_capacity);
	struct peer_entry *peers = (struct peer_entry *)(void *)(base + geometry->peer_table);
	struct vox_directory *directory =
		(struct vox_directory *)(void *)(base + geometry->directory);
	uint32_t i;

	write_header(geometry, (struct segment_header *)(void *)base);
	for (i = 0; i < geometry->max_guests; i++) {
		uint8_t *ring = base + geometry->rings[i];

		peers[i].ring_offset = geometry->rings[i];
		vox_ring_init((struct vox_ring *)(void *)ring, geometry->ring_capacity);
		vox_ring_init((struct vox_ring *)(void *)(ring + stride),
			      geometry->ring_capacity);
	}
	vox_extent_init(base + geometry->pool, geometry->classes, geometry->num_classes);
	directory->capacity = VOX_MAX_EXTENTS - 1;
}

/* The slot counts of the first extent, scaled by numerator / 2^16. */
static uint64_t scale_classes(const struct vox_geometry *geometry, uint64_t numerator,
			      struct voxshm_class *classes)
{
	uint32_t i;

	for (i = 0; i < geometry->num_classes; i++) {
		uint64_t count = geometry->classes[i].slot_count * numerator >> 16;

		classes[i].slot_size = geometry->classes[i].slot_size;
		classes[i].slot_count = count < VOX_MAX_SLOTS ? (uint32_t)count : VOX_MAX_SLOTS;
	}
	return vox_extent_size(classes, geometry->num_classes);
}

void vox_geometry_fit_extent(const struct vox_geometry *geometry, uint64_t size,
			     struct voxshm_class *classes)
{
	uint64_t low = 0, high = (uint64_t)UINT32_MAX;

	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		uint64_t needed = scale_classes(geometry, middle, classes);

		if (needed && needed <= size)
			low = middle;
		else
			high = middle;
	}
	scale_classes(geometry, low, classes);
}
