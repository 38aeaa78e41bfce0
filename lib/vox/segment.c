/* SPDX-License-Identifier: MIT */
/* vox/segment.c - a segment object is made, asked and freed; see segment.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vox/segment.h"

/*
 * Address space kept behind a segment of a vox-shm host, which does not say
 * how large it may become.
 */
#define PLAIN_HEADROOM (256ull << 20)

int voxshm_segment_compute(const struct voxshm_segment_config *config,
			   struct voxshm_segment_layout *layout, struct voxshm_error *error)
{
	static const struct voxshm_segment_config defaults = VOXSHM_SEGMENT_CONFIG_INIT;
	struct voxshm_segment segment;
	int ret;

	ret = vox_geometry_compute(&segment.geometry, config ? config : &defaults, error);
	if (!ret)
		voxshm_segment_get_layout(&segment, layout);
	return ret;
}

static struct voxshm_segment *segment_alloc(bool is_host)
{
	struct voxshm_segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	segment->file = VOX_FILE_NONE;
	segment->is_host = is_host;
	pthread_mutex_init(&segment->lock, NULL);
	return segment;
}

void voxshm_segment_free(struct voxshm_segment *segment)
{
	if (!segment)
		return;
	vox_pool_deinit(&segment->pool);
	vox_file_deinit(&segment->file);
	pthread_mutex_destroy(&segment->lock);
	free(segment);
}

/* Create ------------------------------------------------------------------------- */

static int create_file(struct voxshm_segment *segment, const struct voxshm_segment_config *config,
		       struct voxshm_error *error)
{
	const struct vox_geometry *geometry = &segment->geometry;
	int ret;

	ret = vox_file_create(&segment->file, config->path, config->mode ? config->mode : 0600,
			      geometry->total_size, geometry->max_size);
	if (ret)
		return error_errno(error, ret, "cannot make a segment of %llu bytes%s%s",
				   (unsigned long long)geometry->total_size,
				   config->path ? " at " : "",
				   config->path ? config->path : "");
	return 0;
}

/* Writes all but the magic. */
static int write_segment(struct voxshm_segment *segment, struct voxshm_error *error)
{
	const struct vox_geometry *geometry = &segment->geometry;
	int ret;

	vox_geometry_write(geometry, segment->file.base);
	vox_pool_init(&segment->pool, geometry->num_classes, true);
	ret = vox_pool_add_extent(&segment->pool, segment->file.base + geometry->pool,
				  geometry->classes);
	return ret < 0 ? error_errno(error, ret, "cannot make a segment") : 0;
}

int vox_segment_create_in(struct voxshm_segment **result, struct vox_file *file,
			  const struct voxshm_segment_config *config, struct voxshm_error *error)
{
	struct voxshm_segment *segment = segment_alloc(true);
	int ret;

	*result = NULL;
	if (!segment) {
		vox_file_deinit(file);
		return error_errno(error, -ENOMEM, "cannot make a segment");
	}
	segment->file = *file;
	ret = vox_geometry_compute(&segment->geometry, config, error);
	if (!ret)
		ret = write_segment(segment, error);
	if (ret) {
		voxshm_segment_free(segment);
		return ret;
	}
	shared_store_u64(&vox_header(segment)->magic, SEGMENT_MAGIC);
	*result = segment;
	return 0;
}

int voxshm_segment_create(struct voxshm_segment **result,
			  const struct voxshm_segment_config *config, struct voxshm_error *error)
{
	static const struct voxshm_segment_config defaults = VOXSHM_SEGMENT_CONFIG_INIT;
	struct voxshm_segment *segment = segment_alloc(true);
	int ret;

	*result = NULL;
	if (!segment)
		return error_errno(error, -ENOMEM, "cannot make a segment");
	if (!config)
		config = &defaults;
	ret = vox_geometry_compute(&segment->geometry, config, error);
	if (!ret)
		ret = create_file(segment, config, error);
	if (!ret)
		ret = write_segment(segment, error);
	if (ret)
		goto free_segment;
	if (config->cleanup == VOXSHM_CLEANUP_AUTO) {
		ret = vox_file_unlink(&segment->file);
		if (ret) {
			error_errno(error, ret, "cannot remove %s", config->path);
			goto free_segment;
		}
	}
	shared_store_u64(&vox_header(segment)->magic, SEGMENT_MAGIC);
	*result = segment;
	return 0;

free_segment:
	voxshm_segment_free(segment);
	return ret;
}

/* Attach ------------------------------------------------------------------------- */

/*
 * Maps just the header to learn how much there is to map. The host may grow
 * the file meanwhile, and says so in the header afterwards: what the header
 * says is held against the length that the file has then.
 */
static int read_header(struct voxshm_segment *segment, struct voxshm_error *error)
{
	struct segment_header copy, *header;
	int64_t file_size;
	uint64_t magic;

	header = mmap(NULL, SEGMENT_HEADER_SIZE, PROT_READ, MAP_SHARED, segment->file.fd, 0);
	if (header == MAP_FAILED)
		return error_errno(error, -errno, "cannot map the segment's header");
	/* The last that a host writes when it makes a segment. */
	magic = shared_load_u64(&header->magic);
	segment_header_copy(&copy, header);
	shared_poke_u64(&copy.magic, magic);
	munmap(header, SEGMENT_HEADER_SIZE);
	file_size = vox_file_length(&segment->file);
	if (file_size < 0)
		return error_errno(error, (int)file_size, "cannot look at the segment");
	return vox_geometry_read_header(&segment->geometry, &copy, (uint64_t)file_size, error);
}

/* The segment is mapped, and its header read: checks all else that is in it. */
static int attach_mapped(struct voxshm_segment *segment, struct voxshm_error *error)
{
	struct vox_geometry *geometry = &segment->geometry;
	int ret;

	ret = vox_geometry_read_tables(geometry, segment->file.base, error);
	if (ret)
		return ret;
	vox_pool_init(&segment->pool, geometry->num_classes, false);
	ret = vox_pool_add_extent(&segment->pool, segment->file.base + geometry->pool,
				  geometry->classes);
	if (ret < 0)
		return error_errno(error, ret, "cannot attach to the segment");
	ret = voxshm_segment_remap(segment);
	if (ret < 0)
		return error_errno(error, ret, "cannot map what the segment has grown by");
	return 0;
}

/* The file is open: maps and checks all that is in it. */
static int attach_file(struct voxshm_segment *segment, struct voxshm_error *error)
{
	struct vox_geometry *geometry = &segment->geometry;
	int64_t file_size = vox_file_length(&segment->file);
	int ret;

	if (file_size < 0)
		return error_set(error, file_size == -EINVAL ? -EBADMSG : (int)file_size,
				 "not a regular file, so not a segment");
	if (file_size < (int64_t)SEGMENT_HEADER_SIZE)
		return error_set(error, -EBADMSG,
				 "the file has %lld bytes, less than a segment header",
				 (long long)file_size);
	ret = read_header(segment, error);
	if (ret)
		return ret;
	/* What was added since is mapped by voxshm_segment_remap(), below. */
	if (vox_is_plain(segment))
		geometry->max_size += PLAIN_HEADROOM;
	ret = vox_file_map(&segment->file, geometry->total_size, geometry->max_size);
	if (ret)
		return error_errno(error, ret, "cannot map %llu bytes of the segment",
				   (unsigned long long)geometry->total_size);
	return attach_mapped(segment, error);
}

int vox_segment_attach_in(struct voxshm_segment **result, struct vox_file *file,
			  const struct vox_geometry *geometry, struct voxshm_error *error)
{
	struct voxshm_segment *segment = segment_alloc(false);
	int ret;

	*result = NULL;
	if (!segment) {
		vox_file_deinit(file);
		return error_errno(error, -ENOMEM, "cannot attach to the segment");
	}
	segment->file = *file;
	segment->geometry = *geometry;
	if (vox_is_plain(segment))
		ret = error_set(error, -EBADMSG, "segment header: no extension at byte 80");
	else
		ret = attach_mapped(segment, error);
	if (ret) {
		voxshm_segment_free(segment);
		return ret;
	}
	*result = segment;
	return 0;
}

static int attach(struct voxshm_segment **result, const char *path, int fd,
		  struct voxshm_error *error)
{
	struct voxshm_segment *segment = segment_alloc(false);
	int ret;

	*result = NULL;
	if (!segment)
		return error_errno(error, -ENOMEM, "cannot attach to the segment");
	ret = path ? vox_file_open(&segment->file, path) : vox_file_open_fd(&segment->file, fd);
	if (ret)
		error_errno(error, ret, "cannot open %s", path ? path : "the descriptor");
	else
		ret = attach_file(segment, error);
	if (ret) {
		voxshm_segment_free(segment);
		return ret;
	}
	*result = segment;
	return 0;
}

int voxshm_segment_attach(struct voxshm_segment **segment, const char *path,
			  struct voxshm_error *error)
{
	return attach(segment, path, -1, error);
}

int voxshm_segment_attach_fd(struct voxshm_segment **segment, int fd, struct voxshm_error *error)
{
	return attach(segment, NULL, fd, error);
}

/* Getters ------------------------------------------------------------------------ */

void voxshm_segment_own_file(struct voxshm_segment *segment, int own)
{
	segment->file.owned = own && segment->file.path;
}

void voxshm_segment_get_info(const struct voxshm_segment *segment,
			     struct voxshm_segment_info *info)
{
	const struct vox_geometry *geometry = &segment->geometry;
	const struct segment_header *header = vox_header(segment);
	pthread_mutex_t *lock = (pthread_mutex_t *)&segment->lock;

	pthread_mutex_lock(lock);
	*info = (struct voxshm_segment_info){
		.max_guests = geometry->max_guests,
		.ring_capacity = geometry->ring_capacity,
		.max_payload = geometry->max_payload,
		.inline_threshold = vox_geometry_inline_threshold(geometry),
		.max_mappings = geometry->max_mappings,
		.num_classes = geometry->num_classes,
		.heartbeat_interval = geometry->heartbeat_interval,
		.total_size = geometry->total_size,
		.current_size = shared_load_u64(&header->current_size),
		.mapped_size = segment->file.size,
		.max_size = geometry->max_size,
		.segment_id = geometry->segment_id,
		.num_extents = vox_pool_num_extents(&segment->pool),
		.is_host = segment->is_host,
		.is_plain = vox_is_plain(segment),
		.host_goodbye = shared_load_u32(&header->host_goodbye) != 0,
	};
	pthread_mutex_unlock(lock);
}

void voxshm_segment_get_layout(const struct voxshm_segment *segment,
			       struct voxshm_segment_layout *layout)
{
	const struct vox_geometry *geometry = &segment->geometry;

	*layout = (struct voxshm_segment_layout){
		.peer_table_offset = geometry->peer_table,
		.ring_offset = geometry->rings[0],
		.ring_stride = vox_ring_stride(geometry->ring_capacity),
		.pool_offset = geometry->pool,
		.pool_end = geometry->pool_end,
		.link_block_offset = geometry->link_blocks,
		.link_block_stride = geometry->link_block_stride,
		.extent_offset = geometry->directory,
		.total_size = geometry->total_size,
	};
}

int voxshm_segment_class(const struct voxshm_segment *segment, uint32_t extent, uint32_t index,
			 struct voxshm_class *result, uint32_t *free_slots)
{
	const struct vox_class *class;

	if (extent >= vox_pool_num_extents(&segment->pool) || index >= segment->pool.num_classes)
		return -EINVAL;
	class = vox_pool_class(&segment->pool, extent, index);
	result->slot_size = class->slot_size;
	result->slot_count = class->slot_count;
	if (free_slots)
		*free_slots = vox_pool_count_free(&segment->pool, extent, index);
	return 0;
}

int voxshm_segment_fd(const struct voxshm_segment *segment)
{
	return segment->file.fd;
}

const char *voxshm_segment_path(const struct voxshm_segment *segment)
{
	return segment->file.path ? segment->file.path : "";
}
