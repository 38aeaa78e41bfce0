/* SPDX-License-Identifier: MIT */
/* backend.c - chooses a backend; see backend.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "error.h"

#define VARIABLE "VOXSHM_BACKEND"

static int backend_wanted(enum voxshm_backend *wanted, struct voxshm_error *error)
{
	const char *name = getenv(VARIABLE);

	if (*wanted != VOXSHM_BACKEND_DEFAULT || !name || !*name)
		return 0;
	if (strcmp(name, "file") == 0)
		*wanted = VOXSHM_BACKEND_FILE;
	else if (strcmp(name, "device") == 0)
		*wanted = VOXSHM_BACKEND_DEVICE;
	else if (strcmp(name, "any") == 0)
		*wanted = VOXSHM_BACKEND_ANY;
	else
		return error_set(error, -EINVAL, VARIABLE " is \"%s\", not \"file\", \"device\" or "
				 "\"any\"", name);
	return 0;
}

int backend_choose(enum voxshm_backend wanted, const struct backend *device,
		   const struct backend **backend, struct voxshm_error *error)
{
	int ret;

	ret = backend_wanted(&wanted, error);
	if (ret)
		return ret;
	switch (wanted) {
	case VOXSHM_BACKEND_FILE:
		*backend = &file_backend;
		return 0;
	case VOXSHM_BACKEND_DEFAULT:
	case VOXSHM_BACKEND_DEVICE:
	case VOXSHM_BACKEND_ANY:
		*backend = device;
		ret = device->probe(error);
		break;
	default:
		return error_set(error, -EINVAL, "backend %d is unknown", (int)wanted);
	}
	/* A device that refuses is an error to be seen, unless one asked not to. */
	if ((ret == -ENODEV && wanted != VOXSHM_BACKEND_DEVICE) ||
	    (ret && wanted == VOXSHM_BACKEND_ANY)) {
		*backend = &file_backend;
		return error_set(error, 0, "%s", "");
	}
	return ret;
}
