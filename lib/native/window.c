/* SPDX-License-Identifier: MIT */
/* native/window.c - geometry of windows and of the main object; see window.h. */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "error.h"
#include "native/window.h"

#define PAGE 4096u
#define MAX_SLOT_COUNT (1u << 20)
#define MAX_SLOT_SIZE (1u << 30)
#define MAX_MAPPINGS 4096u
#define MAX_WINDOW (1ull << 38)

static int check_classes(const struct native_parameters *parameters, struct voxshm_error *error)
{
	const struct voxshm_class *classes = parameters->classes;
	uint32_t i;

	if (parameters->num_classes < 1 || parameters->num_classes > VOXSHM_MAX_CLASSES)
		return error_set(error, -EINVAL, "num_classes is %u, not within 1..%u",
				 parameters->num_classes, VOXSHM_MAX_CLASSES);
	for (i = 0; i < parameters->num_classes; i++) {
		if (classes[i].slot_size < CACHE_LINE || classes[i].slot_size > MAX_SLOT_SIZE ||
		    !is_aligned(classes[i].slot_size, CACHE_LINE))
			return error_set(error, -EINVAL,
					 "slot_size of class %u is %u, not a multiple of 64 within 64..%u",
					 i, classes[i].slot_size, MAX_SLOT_SIZE);
		if (i && classes[i].slot_size <= classes[i - 1].slot_size)
			return error_set(error, -EINVAL,
					 "slot_size of class %u is %u, not larger than that of class %u",
					 i, classes[i].slot_size, i - 1);
		if (classes[i].slot_count < 1 || classes[i].slot_count > MAX_SLOT_COUNT)
			return error_set(error, -EINVAL,
					 "slot_count of class %u is %u, not within 1..%u",
					 i, classes[i].slot_count, MAX_SLOT_COUNT);
	}
	return 0;
}

static int check_parameters(const struct native_parameters *parameters,
			    struct voxshm_error *error)
{
	if (parameters->max_guests < 1 || parameters->max_guests > VOXSHM_MAX_GUESTS)
		return error_set(error, -EINVAL, "max_guests is %u, not within 1..%u",
				 parameters->max_guests, VOXSHM_MAX_GUESTS);
	if (parameters->ring_capacity < NATIVE_RING_MIN_CAPACITY ||
	    parameters->ring_capacity > NATIVE_RING_MAX_CAPACITY ||
	    !is_aligned(parameters->ring_capacity, CACHE_LINE))
		return error_set(error, -EINVAL,
				 "ring_capacity is %u, not a multiple of 64 within %u..%u",
				 parameters->ring_capacity, NATIVE_RING_MIN_CAPACITY,
				 NATIVE_RING_MAX_CAPACITY);
	if (parameters->max_payload < 1)
		return error_set(error, -EINVAL, "max_payload is 0");
	if (parameters->inline_threshold > SEGMENT_MAX_INLINE_THRESHOLD)
		return error_set(error, -EINVAL, "inline_threshold is %u, above %u",
				 parameters->inline_threshold, SEGMENT_MAX_INLINE_THRESHOLD);
	if (parameters->max_mappings < 1 || parameters->max_mappings > MAX_MAPPINGS)
		return error_set(error, -EINVAL, "max_mappings is %u, not within 1..%u",
				 parameters->max_mappings, MAX_MAPPINGS);
	return check_classes(parameters, error);
}

/* An entry is inline when header and payload fit the threshold and the ring. */
static void compute_entries(struct native_geometry *geometry)
{
	const struct native_parameters *parameters = &geometry->parameters;
	uint32_t largest = native_ring_max_entry(parameters->ring_capacity);
	uint32_t threshold = parameters->inline_threshold;

	if (threshold == 0)
		threshold = SEGMENT_DEFAULT_INLINE_THRESHOLD;
	if (threshold > largest)
		threshold = largest;
	if (threshold < FRAME_HEADER_SIZE)
		threshold = FRAME_HEADER_SIZE;
	geometry->inline_limit = threshold - FRAME_HEADER_SIZE;
	if (geometry->inline_limit > parameters->max_payload)
		geometry->inline_limit = parameters->max_payload;
	geometry->max_entry = native_entry_size(geometry->inline_limit);
}

static uint64_t place_link_block(struct native_geometry *geometry, uint64_t offset)
{
	const struct native_parameters *parameters = &geometry->parameters;
	uint32_t i;
	int side;

	geometry->link_block = offset;
	for (side = 0; side < NATIVE_SIDES; side++) {
		geometry->sleep[side] = offset;
		offset += sizeof(struct sleep_words);
	}
	for (side = 0; side < NATIVE_SIDES; side++) {
		geometry->released[side] = offset;
		offset = align_up(offset + 4ull * parameters->max_mappings, CACHE_LINE);
		for (i = 0; i < parameters->num_classes; i++) {
			geometry->returns[side][i] = offset;
			offset = align_up(offset + 4ull * parameters->classes[i].slot_count,
					  CACHE_LINE);
		}
	}
	return offset;
}

static uint64_t place_pools(struct native_geometry *geometry, uint64_t offset)
{
	const struct native_parameters *parameters = &geometry->parameters;
	uint32_t i;
	int side;

	geometry->pool = offset;
	for (side = 0; side < NATIVE_SIDES; side++)
		for (i = 0; i < parameters->num_classes; i++) {
			geometry->slots[side][i] = offset;
			offset += (uint64_t)parameters->classes[i].slot_size *
				  parameters->classes[i].slot_count;
		}
	return offset;
}

int native_geometry(struct native_geometry *geometry, const struct native_parameters *parameters,
		    struct voxshm_error *error)
{
	uint64_t stride = sizeof(struct native_ring) + parameters->ring_capacity;
	uint64_t end;
	int ret;

	ret = check_parameters(parameters, error);
	if (ret)
		return ret;
	*geometry = (struct native_geometry){ .parameters = *parameters };
	compute_entries(geometry);
	geometry->ring[NATIVE_GUEST] = 0;
	geometry->ring[NATIVE_HOST] = stride;
	end = place_link_block(geometry, 2 * stride);
	end = place_pools(geometry, align_up(end, PAGE));
	geometry->window_size = align_up(end, PAGE);
	if (geometry->window_size > MAX_WINDOW || geometry->pool > UINT32_MAX)
		return error_set(error, -EINVAL,
				 "rings and classes make a window of %llu bytes, above %llu",
				 (unsigned long long)geometry->window_size, MAX_WINDOW);
	geometry->main_size = align_up(SEGMENT_HEADER_SIZE +
				       parameters->max_guests * sizeof(struct peer_entry) +
				       parameters->num_classes * sizeof(struct class_header), PAGE);
	return 0;
}

static uint64_t class_table_offset(const struct native_parameters *parameters)
{
	return SEGMENT_HEADER_SIZE + parameters->max_guests * sizeof(struct peer_entry);
}

void native_main_write(void *base, const struct native_geometry *geometry)
{
	const struct native_parameters *parameters = &geometry->parameters;
	struct segment_header *header = base;
	struct class_header *class_headers;
	uint64_t segment_id = 0;
	uint32_t i;

	if (getrandom(&segment_id, sizeof(segment_id), GRND_NONBLOCK) < 0)
		segment_id = (uint64_t)time(NULL);
	header->version = VOXSHM_FORMAT_NATIVE;
	header->header_size = SEGMENT_HEADER_SIZE;
	header->total_size = geometry->main_size;
	header->max_payload_size = parameters->max_payload;
	header->inline_threshold = parameters->inline_threshold;
	header->max_guests = parameters->max_guests;
	header->ring_capacity = parameters->ring_capacity;
	header->peer_table_offset = SEGMENT_HEADER_SIZE;
	header->var_pool_offset = class_table_offset(parameters);
	header->heartbeat_interval = parameters->heartbeat_interval;
	header->num_classes = parameters->num_classes;
	shared_poke_u64(&header->current_size, geometry->main_size);
	header->extension = (struct segment_extension){
		.magic = EXTENSION_MAGIC,
		.version = EXTENSION_VERSION,
		.max_mappings = parameters->max_mappings,
		.link_block_offset = (uint32_t)geometry->link_block,
		.pool_offset = (uint32_t)geometry->pool,
		.window_size = geometry->window_size,
		.segment_id = segment_id,
	};
	class_headers = (void *)((uint8_t *)base + class_table_offset(parameters));
	for (i = 0; i < parameters->num_classes; i++) {
		class_headers[i].slot_size = parameters->classes[i].slot_size;
		class_headers[i].slot_count = parameters->classes[i].slot_count;
	}
	shared_store_u64(&header->magic, SEGMENT_MAGIC);
}

/* A private copy of the header; what was read once is not read again. */
static int read_header(const void *base, size_t size, struct segment_header *header,
		       struct voxshm_error *error)
{
	if (size < sizeof(*header))
		return error_set(error, -EBADMSG, "segment is truncated: %zu bytes, header needs %zu",
				 size, sizeof(*header));
	if (shared_load_u64(&((const struct segment_header *)base)->magic) != SEGMENT_MAGIC)
		return error_set(error, -EBADMSG, "segment header: wrong magic at byte 0");
	segment_header_copy(header, base);
	if (header->version != VOXSHM_FORMAT_NATIVE)
		return error_set(error, -EBADMSG, "segment header: version %u at byte 8, not %u",
				 header->version, VOXSHM_FORMAT_NATIVE);
	if (header->header_size != SEGMENT_HEADER_SIZE)
		return error_set(error, -EBADMSG, "segment header: header_size %u at byte 12, not %u",
				 header->header_size, SEGMENT_HEADER_SIZE);
	if (header->extension.magic != EXTENSION_MAGIC ||
	    header->extension.version != EXTENSION_VERSION)
		return error_set(error, -EBADMSG, "segment header: unknown extension at byte 80");
	if (header->extension.flags)
		return error_set(error, -EBADMSG,
				 "segment header: unknown extension flags 0x%x at byte 86",
				 header->extension.flags);
	if (header->extension.link_block_stride || header->extension.extent_offset)
		return error_set(error, -EBADMSG,
				 "segment header: fields of the vox format at bytes 96 and 112 are not 0");
	return 0;
}

static int read_parameters(const void *base, size_t size, const struct segment_header *header,
			   struct native_parameters *parameters, struct voxshm_error *error)
{
	const struct class_header *class_headers;
	uint32_t i;

	*parameters = (struct native_parameters){
		.max_guests = header->max_guests,
		.ring_capacity = header->ring_capacity,
		.max_payload = header->max_payload_size,
		.inline_threshold = header->inline_threshold,
		.max_mappings = header->extension.max_mappings,
		.num_classes = header->num_classes,
		.heartbeat_interval = header->heartbeat_interval,
	};
	if (header->max_guests < 1 || header->max_guests > VOXSHM_MAX_GUESTS)
		return error_set(error, -EBADMSG, "segment header: max_guests %u at byte 32",
				 header->max_guests);
	if (header->num_classes < 1 || header->num_classes > VOXSHM_MAX_CLASSES)
		return error_set(error, -EBADMSG, "segment header: num_classes %u at byte 68",
				 header->num_classes);
	if (header->peer_table_offset != SEGMENT_HEADER_SIZE)
		return error_set(error, -EBADMSG, "segment header: peer_table_offset at byte 40");
	if (header->var_pool_offset != class_table_offset(parameters))
		return error_set(error, -EBADMSG, "segment header: var_pool_offset at byte 48");
	if (size < header->var_pool_offset + header->num_classes * sizeof(*class_headers))
		return error_set(error, -EBADMSG, "segment is truncated: %zu bytes, tables need more",
				 size);
	class_headers = (const void *)((const uint8_t *)base + header->var_pool_offset);
	for (i = 0; i < header->num_classes; i++) {
		const volatile struct class_header *class = &class_headers[i];

		parameters->classes[i].slot_size = class->slot_size;
		parameters->classes[i].slot_count = class->slot_count;
	}
	return 0;
}

int native_main_read(const void *base, size_t size, struct native_geometry *geometry,
		     struct voxshm_error *error)
{
	struct native_parameters parameters;
	struct segment_header header;
	int ret;

	ret = read_header(base, size, &header, error);
	if (ret)
		return ret;
	ret = read_parameters(base, size, &header, &parameters, error);
	if (ret)
		return ret;
	if (native_geometry(geometry, &parameters, error))
		return -EBADMSG;
	if (header.total_size != geometry->main_size || size < geometry->main_size ||
	    shared_peek_u64(&header.current_size) < geometry->main_size)
		return error_set(error, -EBADMSG,
				 "segment header: sizes at bytes 16 and 72 do not fit %zu mapped bytes",
				 size);
	if (header.extension.link_block_offset != geometry->link_block ||
	    header.extension.pool_offset != geometry->pool ||
	    header.extension.window_size != geometry->window_size)
		return error_set(error, -EBADMSG,
				 "segment header: window layout at bytes 92..112 is not that of the geometry");
	return 0;
}
