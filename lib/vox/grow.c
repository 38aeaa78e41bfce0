/* SPDX-License-Identifier: MIT */
/*
 * vox/grow.c - a segment becomes larger, and nothing in it moves.
 *
 * The host allocates the bytes, maps them behind the others, builds an extent
 * of the pool there, lists it, and only then publishes the new size. A host
 * that dies on the way leaves a file that is longer than what it says.
 *
 * Barrier pair:
 *   H  publish/see an extent: voxshm_segment_grow() stores current_size after
 *      the extent and its entry in the directory; voxshm_segment_remap() loads
 *      it before it reads them.
 */
#include "vox/segment.h"

/* Builds and lists an extent in [offset, end) of what is mapped. */
static int add_extent(struct voxshm_segment *segment, uint64_t offset, uint64_t end)
{
	struct vox_geometry *geometry = &segment->geometry;
	struct vox_directory *directory = vox_directory(segment);
	struct voxshm_class classes[VOX_MAX_CLASSES];
	uint8_t *base = segment->file.base + offset;
	uint64_t slots = 0;
	uint32_t i;
	int number;

	if (end <= offset)
		return 0;
	vox_geometry_fit_extent(geometry, end - offset, classes);
	for (i = 0; i < geometry->num_classes; i++)
		slots += classes[i].slot_count;
	if (slots == 0)
		return 0;	/* too little for one slot: it stays slack */
	vox_extent_init(base, classes, geometry->num_classes);
	number = vox_pool_add_extent(&segment->pool, base, classes);
	if (number < 0)
		return number;
	directory->extents[number - 1] = (struct vox_extent){
		.offset = offset,
		.size = end - offset,
	};
	shared_store_u32(&directory->count, (uint32_t)number);
	return 0;
}

/* What a pool of the device's is not listed for, guests could not find. */
static bool is_too_little(const struct voxshm_segment *segment, uint64_t new_size)
{
	uint64_t offset = align_up(segment->file.size, CACHE_LINE), slots = 0;
	struct voxshm_class classes[VOX_MAX_CLASSES];
	uint32_t i;

	if (segment->file.device < 0)
		return false;
	if (new_size > offset)
		vox_geometry_fit_extent(&segment->geometry, new_size - offset, classes);
	for (i = 0; new_size > offset && i < segment->geometry.num_classes; i++)
		slots += classes[i].slot_count;
	return slots == 0;
}

static int grow(struct voxshm_segment *segment, uint64_t new_size, struct voxshm_error *error)
{
	uint64_t old_size = segment->file.size;
	int ret;

	if (new_size < old_size)
		return error_set(error, -EINVAL, "the segment has %llu bytes; it cannot shrink",
				 (unsigned long long)old_size);
	if (new_size == old_size)
		return 0;
	if (new_size > segment->geometry.max_size)
		return error_set(error, -EFBIG, "the segment may grow to %llu bytes, not to %llu",
				 (unsigned long long)segment->geometry.max_size,
				 (unsigned long long)new_size);
	if (vox_pool_num_extents(&segment->pool) == VOX_MAX_EXTENTS)
		return error_set(error, -ENOSPC, "the segment has grown %u times, the most it can",
				 VOX_MAX_EXTENTS - 1);
	if (is_too_little(segment, new_size))
		return error_set(error, -EINVAL, "%llu bytes more hold no slot",
				 (unsigned long long)(new_size - old_size));
	if (vox_has_plain_peer(segment, 0))
		return error_set(error, -EBUSY,
				 "a vox-shm guest is attached, which cannot follow growth");
	ret = vox_file_extend(&segment->file, new_size);
	if (!ret)
		ret = vox_file_map_more(&segment->file, new_size);
	if (!ret)
		ret = add_extent(segment, align_up(old_size, CACHE_LINE), new_size);
	if (ret)
		return error_errno(error, ret, "cannot grow the segment to %llu bytes",
				   (unsigned long long)new_size);
	shared_store_u64(&vox_header(segment)->current_size, new_size);		/* H */
	return 0;
}

int voxshm_segment_grow(struct voxshm_segment *segment, uint64_t new_size,
			struct voxshm_error *error)
{
	int ret;

	if (!segment->is_host)
		return error_set(error, -EPERM, "only the host grows a segment");
	pthread_mutex_lock(&segment->lock);
	ret = grow(segment, new_size, error);
	pthread_mutex_unlock(&segment->lock);
	return ret;
}

/* Checks and adds one extent, whose entry may still change: it is read once. */
static int adopt_extent(struct voxshm_segment *segment, const struct vox_extent *extent,
			uint64_t lowest)
{
	struct voxshm_class classes[VOX_MAX_CLASSES];
	int ret;

	if (!is_aligned(extent->offset, CACHE_LINE) || extent->offset < lowest)
		return -EBADMSG;
	ret = vox_geometry_read_extent(&segment->geometry, segment->file.base, extent, classes);
	if (ret)
		return ret;
	return vox_pool_add_extent(&segment->pool, segment->file.base + extent->offset, classes);
}

/* On the device an extent comes with a pool of its own, which ends where it does. */
static int map_extent(struct vox_file *file, const struct vox_extent *extent)
{
	uint64_t end = extent->offset + extent->size;

	if (end < extent->offset || end > file->reserved || end <= file->size)
		return -EBADMSG;
	return vox_file_map_more(file, end);
}

/*
 * Adds the extents that this process does not know yet, as far as they are
 * mapped: the host may list one before we load its size. Return: how many.
 */
static int adopt_extents(struct voxshm_segment *segment)
{
	const struct vox_directory *directory = vox_directory(segment);
	uint64_t lowest = segment->geometry.total_size;
	struct vox_file *file = &segment->file;
	uint32_t i, count, known = vox_pool_num_extents(&segment->pool);
	int ret;

	if (!directory)
		return 0;
	count = shared_load_u32(&directory->count);				/* H */
	if (count > VOX_MAX_EXTENTS - 1)
		return -EBADMSG;
	for (i = 0; i < count; i++) {
		const volatile struct vox_extent *entry = &directory->extents[i];
		struct vox_extent extent = { entry->offset, entry->size };

		if (file->device >= 0 && i + 1 >= known) {
			ret = map_extent(file, &extent);
			if (ret)
				return ret;
		}
		if (extent.offset > file->size || extent.size > file->size - extent.offset)
			break;
		ret = i + 1 < known ? 0 : adopt_extent(segment, &extent, lowest);
		if (ret < 0)
			return ret;
		lowest = extent.offset + extent.size;
	}
	return (int)(vox_pool_num_extents(&segment->pool) - known);
}

bool vox_has_grown(const struct voxshm_segment *segment)
{
	const struct vox_directory *directory = vox_directory(segment);

	return !segment->is_host && directory &&
	       shared_load_u32(&directory->count) >= vox_pool_num_extents(&segment->pool);
}

static int remap(struct voxshm_segment *segment)
{
	uint64_t published = shared_load_u64(&vox_header(segment)->current_size);	/* H */
	bool grown = published > segment->file.size;
	int64_t file_size;
	int ret;

	if (grown && segment->file.device < 0) {
		file_size = vox_file_length(&segment->file);
		if (file_size < 0 || published > (uint64_t)file_size)
			return -EBADMSG;
		ret = vox_file_map_more(&segment->file, published);
		if (ret)
			return ret;
	}
	ret = adopt_extents(segment);
	return ret < 0 ? ret : grown || ret;
}

int voxshm_segment_remap(struct voxshm_segment *segment)
{
	int ret;

	pthread_mutex_lock(&segment->lock);
	ret = remap(segment);
	pthread_mutex_unlock(&segment->lock);
	return ret;
}
