/* SPDX-License-Identifier: MIT */
/* vox/link.c - placeholder until the vox link is written. */
#include <errno.h>

#include "error.h"
#include "format.h"

static int host_init(struct voxshm_host *host, struct voxshm_error *error)
{
	(void)host;
	return error_set(error, -ENOSYS, "the vox format has no links yet");
}

static int join(struct voxshm_link **link, const struct invitation *invitation,
		struct voxshm_error *error)
{
	(void)link;
	(void)invitation;
	return error_set(error, -ENOSYS, "the vox format has no links yet");
}

const struct format vox_format = {
	.id = VOXSHM_FORMAT_VOX,
	.host_init = host_init,
	.join = join,
};
