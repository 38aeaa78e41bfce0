/* SPDX-License-Identifier: MIT */
/*
 * vox/device.h - vox segments and links on the device.
 *
 * The segment is the pools of the device's segment, end to end, which host and
 * guests map read-write: they trust each other. The first is the segment as it
 * began, each other one an extent. The main object holds a copy of the header, by
 * which a guest's library knows the format. A link has an end of
 * the device's in place of the sockets, and of its window only the mapping
 * counts: who ends by exec() gives that up. Only guests of ours come here.
 */
#ifndef VOX_DEVICE_H
#define VOX_DEVICE_H

#include "vox/vox.h"

/* Host: makes the next pool. Return: 0, -ENOSPC, -EDQUOT, -ENOMEM, ... */
int vox_device_add_pool(struct vox_file *file, uint64_t size);
/* Maps the next pool at an offset of the segment. Return: 0, -EBADMSG, -ENOMEM. */
int vox_device_map_pool(struct vox_file *file, uint64_t offset, uint64_t size);

/* Host: makes the device's segment and the vox segment in it. Return: 0 or -errno. */
int vox_device_create(struct voxshm_segment **segment, struct memory *main,
		      const struct voxshm_segment_config *config, struct voxshm_error *error);

/* Guest: maps the segment of a claimed link. Return: 0, -EBADMSG, -ENOMEM, ... */
int vox_device_attach(struct voxshm_segment **segment, const struct invitation *invitation,
		      struct voxshm_error *error);

/* Host: an end, and what its guest needs. Return: 0 or -errno. */
int vox_device_end_new(struct vox_end **end, struct voxshm_segment *segment, uint32_t peer_id,
		       uint32_t epoch, const struct memory *main, struct invitation *invitation);

/* Guest: the claimed end, which is taken out of the invitation on success. */
int vox_device_end_join(struct vox_end **end, struct voxshm_segment *segment, uint32_t epoch,
			struct invitation *invitation);

#endif
