/* SPDX-License-Identifier: MIT */
/* backend.c - chooses a backend; see backend.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "error.h"

static int backend_wanted(enum voxshm_backend *wanted, struct voxshm_error *error)
{
	const char *name = getenv("VOXSHM_BACKEND");

	if (*wanted != VOXSHM_BACKEND_DEFAULT || !name || !*name)
		return 0;
	if (strcmp(name, "file") == 0)
		*wanted = VOXSHM_BACKEND_FILE;
	else if (strcmp(name, "device") == 0)
		*wanted = VOXSHM_BACKEND_DEVICE;
	else
		return error_set(error, -EINVAL,
				 "VOXSHM_BACKEND is \"%s\", neither \"file\" nor \"device\"", name);
	return 0;
}

int backend_choose(enum voxshm_backend wanted, const struct backend **backend,
		   struct voxshm_error *error)
{
	int ret;

	ret = backend_wanted(&wanted, error);
	if (ret)
		return ret;
	switch (wanted) {
	case VOXSHM_BACKEND_DEFAULT:
	case VOXSHM_BACKEND_FILE:
		*backend = &file_backend;
		return file_backend.probe(error);
	case VOXSHM_BACKEND_DEVICE:
		return error_set(error, -ENODEV,
				 "this build of the library has no device backend");
	}
	return error_set(error, -EINVAL, "backend %d is unknown", (int)wanted);
}
