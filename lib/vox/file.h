/* SPDX-License-Identifier: MIT */
/*
 * vox/file.h - the file under a segment, mapped so that it can grow in place;
 * or what takes its place on the device: one pool of the module's after another,
 * mapped end to end (device.c).
 *
 * The segment owns it: descriptor, name and mapping. Address space for
 * `reserved` bytes is kept from the start; the file is mapped over the front
 * of it and the rest faults. So growth never moves what is mapped, and a
 * pointer into the segment stays good as long as the segment.
 */
#ifndef VOX_FILE_H
#define VOX_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vox_file {
	int fd;			/* -1: none */
	int device;		/* where the pools are made or mapped; borrowed; or -1 */
	uint32_t pools;		/* how many are mapped */
	uint8_t *base;		/* NULL: nothing reserved */
	uint64_t size;		/* bytes mapped */
	uint64_t reserved;	/* bytes of address space */
	char *path;		/* NULL: no name */
	bool owned;		/* vox_file_deinit() removes the name */
};

#define VOX_FILE_NONE ((struct vox_file){ .fd = -1, .device = -1 })

/*
 * Makes a new file, or a memfd sealed against shrinking when path is NULL:
 * size zeroed bytes, allocated and mapped, with room to grow to max_size. On
 * failure nothing is left. Return: 0, -EEXIST, -EFBIG, -ENOSPC, -ENOMEM, ...
 */
int vox_file_create(struct vox_file *file, const char *path, mode_t mode, uint64_t size,
		    uint64_t max_size);

/* Takes the name away from the file, which lives on. Return: 0 or -errno. */
int vox_file_unlink(struct vox_file *file);

/* Opens a file without mapping it. Return: 0 or -errno. */
int vox_file_open(struct vox_file *file, const char *path);
/* The same with a copy of a descriptor. */
int vox_file_open_fd(struct vox_file *file, int fd);

/* Return: bytes of the file; -EINVAL when it is not a file that can be mapped. */
int64_t vox_file_length(const struct vox_file *file);

/* Keeps address space for max_size bytes and maps the first size. Return: 0 or -errno. */
int vox_file_map(struct vox_file *file, uint64_t size, uint64_t max_size);

/* Allocates the file's bytes up to size, which is larger than it was. */
int vox_file_extend(struct vox_file *file, uint64_t size);

/* Maps more of the file; size is at most what was reserved. Return: 0 or -errno. */
int vox_file_map_more(struct vox_file *file, uint64_t size);

/* Removes the name if it is owned, unmaps, closes; does nothing for VOX_FILE_NONE. */
void vox_file_deinit(struct vox_file *file);

#endif
