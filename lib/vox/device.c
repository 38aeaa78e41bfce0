/* SPDX-License-Identifier: MIT */
/* vox/device.c - see device.h. */
#include <linux/voxshm.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend_device.h"
#include "vox/device.h"

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The segment ---------------------------------------------------------------- */

/* One more than are mapped was made by a growth that failed: that was the last. */
int vox_device_add_pool(struct vox_file *file, uint64_t size)
{
	int pool = device_grow(file->device, size);

	if (pool < 0)
		return pool;
	return (uint32_t)pool == file->pools ? 0 : -ENOSPC;
}

/* Mapped elsewhere first: what fails leaves no hole in the address space kept. */
int vox_device_map_pool(struct vox_file *file, uint64_t offset, uint64_t size)
{
	struct memory pool;
	int ret;

	ret = device_map(file->device, VOXSHM_OBJECT_POOL + file->pools, size,
			 PROT_READ | PROT_WRITE, &pool);
	if (ret)
		return ret == -EINVAL || ret == -ENXIO ? -EBADMSG : ret;
	if (mremap(pool.base, pool.size, pool.size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   file->base + offset) == MAP_FAILED) {
		ret = -errno;
		memory_free(&pool);
		return ret;
	}
	file->pools++;
	return 0;
}

static int make_file(struct vox_file *file, int fd, const struct vox_geometry *geometry)
{
	int ret;

	*file = VOX_FILE_NONE;
	file->device = fd;
	ret = vox_file_extend(file, geometry->total_size);
	if (ret == 0)
		ret = vox_file_map(file, geometry->total_size, geometry->max_size);
	if (ret)
		vox_file_deinit(file);
	return ret;
}

int vox_device_create(struct voxshm_segment **segment, struct memory *main,
		      const struct voxshm_segment_config *config, struct voxshm_error *error)
{
	struct segment_needs needs = {
		.main_size = page_size(),
		.window_size = page_size(),
		.max_guests = config->max_guests,
		.max_mappings = config->max_mappings,
		.guest_bytes = mappings_bytes(config->max_mappings, config->max_payload),
	};
	struct vox_geometry geometry;
	struct vox_file file;
	int ret;

	if (config->path)
		return error_set(error, -EINVAL, "path is set: the device has no file");
	ret = vox_geometry_compute(&geometry, config, error);
	if (ret)
		return ret;
	ret = device_backend.segment_new(main, &needs, error);
	if (ret)
		return ret;
	ret = make_file(&file, main->fd, &geometry);
	if (ret) {
		error_errno(error, ret, "cannot make a segment of %llu bytes",
			    (unsigned long long)geometry.total_size);
		goto free_main;
	}
	ret = vox_segment_create_in(segment, &file, config, error);
	if (ret)
		goto free_main;
	memcpy(main->base, vox_header(*segment), SEGMENT_HEADER_SIZE);
	return 0;

free_main:
	memory_free(main);
	return ret;
}

int vox_device_attach(struct voxshm_segment **segment, const struct invitation *invitation,
		      struct voxshm_error *error)
{
	const struct segment_header *header = (const void *)invitation->main.base;
	struct vox_file file = VOX_FILE_NONE;
	struct vox_geometry geometry;
	int ret;

	ret = vox_geometry_read_header(&geometry, header, VOXSHM_SIZE_MAX, error);
	if (ret)
		return ret;
	file.device = device_end_fd(invitation->end);
	ret = vox_file_map(&file, geometry.total_size, geometry.max_size);
	if (ret) {
		vox_file_deinit(&file);
		return error_errno(error, ret, "cannot map %llu bytes of the segment",
				   (unsigned long long)geometry.total_size);
	}
	return vox_segment_attach_in(segment, &file, &geometry, error);
}

/* Ends ----------------------------------------------------------------------- */

static struct end *carrier(struct end *end)
{
	return vox_end(end)->carrier;
}

static void ring(struct end *end)
{
	carrier(end)->ops->ring(carrier(end));
}

/* The kernel tells of a claim before the guest has its place in the peer table; then it rings. */
static bool has_come(const struct vox_end *vox)
{
	return vox_end_has_come(vox, shared_load_u64(&vox_peer(vox->segment, vox->peer_id)->
						     state_epoch));
}

static int drain(struct end *end, struct voxshm_link *link)
{
	bool claimed = end->claimed;

	(void)link;
	vox_end_take_timer(vox_end(end));
	device_end_drain(carrier(end), end);
	if (vox_end(end)->is_host && !claimed && !end->left && !end->hangup)
		end->claimed = end->claimed && has_come(vox_end(end));
	return 0;
}

static int object_new(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	return carrier(end)->ops->object_new(carrier(end), map_id, size, memory);
}

static void object_drop(struct end *end, uint32_t map_id)
{
	carrier(end)->ops->object_drop(carrier(end), map_id);
}

static int object_map(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	return carrier(end)->ops->object_map(carrier(end), map_id, size, memory);
}

/*
 * The kernel tells that an end was meant. A guest's comes only when it has let
 * go of shared memory, and that is in end_free().
 */
static void leave(struct end *end)
{
	struct vox_end *vox = vox_end(end);

	if (!vox->is_host) {
		voxshm_segment_detach_peer(vox->segment, vox->peer_id);
		return;
	}
	vox->nobody_came = vox_say_goodbye(vox->segment, vox->peer_id, NULL) == PEER_RESERVED;
	carrier(end)->ops->leave(carrier(end));
}

static void detach(struct end *end)
{
	carrier(end)->ops->detach(carrier(end));
}

static void end_free(struct end *end)
{
	struct vox_end *vox = vox_end(end);

	vox->carrier->ops->free(vox->carrier);
	memory_free(&vox->window);
	vox_end_dispose(vox);
}

static const struct end_ops vox_device_ops = {
	.backend_name = "device",
	.ring = ring,
	.drain = drain,
	.object_new = object_new,
	.object_drop = object_drop,
	.object_map = object_map,
	.leave = leave,
	.detach = detach,
	.free = end_free,
};

/* Takes carrier and window over on success. */
static int carry(struct vox_end **end, struct vox_end *values, struct end *carrier_end,
		 const struct memory *window)
{
	int ret;

	values->carrier = carrier_end;
	values->window = *window;
	ret = vox_end_copy(end, values, &vox_device_ops, carrier_end->wake_fd);
	if (ret)
		return ret;
	(*end)->end.claimed = carrier_end->claimed;
	(*end)->end.pid = carrier_end->pid;
	(*end)->end.uid = carrier_end->uid;
	(*end)->end.gid = carrier_end->gid;
	return 0;
}

int vox_device_end_new(struct vox_end **end, struct voxshm_segment *segment, uint32_t peer_id,
		       uint32_t epoch, const struct memory *main, struct invitation *invitation)
{
	struct vox_end values = {
		.segment = segment, .peer_id = peer_id, .epoch = epoch, .is_host = true,
		.doorbell = -1, .control = -1, .kind = VOX_PEER_OURS,
	};
	struct memory window;
	struct end *host_end;
	int ret;

	ret = device_backend.link_new(main, peer_id, page_size(), &window, &host_end, invitation);
	if (ret)
		return ret;
	ret = carry(end, &values, host_end, &window);
	if (ret) {
		host_end->ops->free(host_end);
		memory_free(&window);
	}
	return ret;
}

int vox_device_end_join(struct vox_end **end, struct voxshm_segment *segment, uint32_t epoch,
			struct invitation *invitation)
{
	struct vox_end values = {
		.segment = segment, .peer_id = invitation->peer_id, .epoch = epoch,
		.doorbell = -1, .control = -1, .kind = VOX_PEER_OURS,
	};
	struct memory window;
	struct end *guest_end;
	int ret;

	ret = device_backend.claim(invitation, page_size(), &window, &guest_end);
	if (ret)
		return ret;
	ret = carry(end, &values, guest_end, &window);
	if (ret) {
		guest_end->ops->free(guest_end);
		memory_free(&window);
	}
	return ret;
}
