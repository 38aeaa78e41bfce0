/* SPDX-License-Identifier: MIT */
/*
 * backend.h - where a link's memory, doorbells and news of a death come from.
 *
 * A link is made like a socketpair: the host gets an end and a window at
 * once, the guest's part waits in an invitation until somebody claims it. An
 * object lives as long as somebody holds it; closing is its destructor.
 *
 * On the file backend the vox format brings a file and sockets of its own, as
 * vox-shm knows them (vox/).
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "bootstrap.h"
#include "end.h"
#include "memory.h"

/* What a host's segment needs. */
struct segment_needs {
	uint64_t main_size;
	uint64_t window_size;
	uint64_t guest_bytes;	/* the most that a guest has in payload mappings */
	uint32_t max_mappings;	/* the most payload mappings of either end */
	uint32_t max_guests;
};

struct backend {
	const char *name;
	enum voxshm_backend id;

	/*
	 * Can a host be made here?
	 * Return: 0, -ENODEV (not there), else why it may not be used: -EACCES, ...
	 */
	int (*probe)(struct voxshm_error *error);

	/*
	 * Host: the segment, with the main object, which guests will be able to
	 * read only. Its descriptor is the segment's.
	 */
	int (*segment_new)(struct memory *main, const struct segment_needs *needs,
			   struct voxshm_error *error);
	int (*main_seal)(const struct memory *main);

	/*
	 * Host: a fresh window and the host's end of a link, for a peer id that
	 * is free. Fills the invitation's descriptors.
	 */
	int (*link_new)(const struct memory *main, uint32_t peer_id, size_t window_size,
			struct memory *window, struct end **end, struct invitation *invitation);

	/*
	 * Guest: the window, and the guest's end, which is taken out of the
	 * invitation on success.
	 */
	int (*claim)(struct invitation *invitation, size_t window_size, struct memory *window,
		     struct end **end);
};

extern const struct backend file_backend;
extern const struct backend device_backend;

/*
 * The backend that was asked for, by the environment where the configuration
 * leaves it open, or the best there is: the device if it is there, and then it
 * must be usable too. The device is an argument for the sake of tests.
 * Return: 0, -EINVAL (unknown name), -ENODEV, -EACCES, ...
 */
int backend_choose(enum voxshm_backend wanted, const struct backend *device,
		   const struct backend **backend, struct voxshm_error *error);

#endif
