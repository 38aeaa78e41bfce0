/* SPDX-License-Identifier: MIT */
/*
 * backend_device.h - ends of links on /dev/voxshm, for guests that have been
 * invited to one, and for formats that build on them.
 *
 * An end owns its descriptor and the eventfd that the kernel signals for it:
 * the peer can neither drain that nor fill it. The kernel tells who the peer
 * is, and how its process ended, whosesoever child it is.
 */
#ifndef BACKEND_DEVICE_H
#define BACKEND_DEVICE_H

#include "backend.h"

/*
 * Opens the device, and asks whether it is one that we know.
 * Return: a descriptor; -ENODEV, -EACCES, -ENOTTY (not the module's),
 * -EPROTONOSUPPORT (another version of the calls).
 */
int device_open(const char *path, struct voxshm_error *error);

/*
 * Guest: claims the link whose end is in the invitation, which then holds the
 * end and the main object in place of the descriptor.
 * Return: 0, -EPROTO (no such end), -EBUSY (claimed by somebody else), -EPIPE
 * (the host is gone), -ENOMEM, ...
 */
int device_claim(struct invitation *invitation, struct voxshm_error *error);

/* Host: a further pool of that size, for all. Return: its number or -errno. */
int device_grow(int segment_fd, uint64_t size);

/* Maps an object that a segment or an end can see. Return: 0 or -errno. */
int device_map(int fd, uint32_t object, size_t size, int protection, struct memory *memory);

/* The descriptor of an end: polls as hung up once the other end has ended. */
int device_end_fd(const struct end *end);

/* Drains the end, and tells what it learned to another struct end, or itself. */
void device_end_drain(struct end *end, struct end *told);

#endif
