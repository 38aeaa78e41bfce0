/* SPDX-License-Identifier: MIT */
/*
 * backend.h - where a native link's memory, doorbells and news of a death come
 * from. (Links of the vox format bring sockets of their own: vox/.)
 *
 * A link is made like a socketpair: the host gets an end and a window at
 * once, the guest's part waits in an invitation until somebody claims it. An
 * object lives as long as somebody holds it; closing is its destructor.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "bootstrap.h"
#include "end.h"
#include "memory.h"

struct backend {
	const char *name;
	enum voxshm_backend id;

	/* Can a host be made here? Return: 0, -ENODEV, -EACCES, ... */
	int (*probe)(struct voxshm_error *error);

	/* Host: the main object; guests will be able to read it only. */
	int (*main_new)(struct memory *memory, size_t size, struct voxshm_error *error);
	int (*main_seal)(const struct memory *memory);

	/*
	 * Host: a fresh window and the host's end of a link. Fills the
	 * invitation, but for the peer id.
	 */
	int (*link_new)(const struct memory *main, size_t window_size, struct memory *window,
			struct end **end, struct invitation *invitation);

	/*
	 * Guest: takes the invitation's doorbell over on success; the caller
	 * closes the rest.
	 */
	int (*claim)(const struct invitation *invitation, size_t window_size,
		     struct memory *window, struct end **end);
};

extern const struct backend file_backend;

/*
 * The backend that was asked for, by the environment where the configuration
 * leaves it open, or the best there is.
 * Return: 0, -EINVAL (unknown name), -ENODEV, -EACCES, ...
 */
int backend_choose(enum voxshm_backend wanted, const struct backend **backend,
		   struct voxshm_error *error);

#endif
