/* SPDX-License-Identifier: MIT */
/*
 * hosting.c - the options of subcommands that are a host; see hosting.h.
 */
#include <string.h>

#include "hosting.h"

static int size_option(const char *name, const char *value, uint32_t *size)
{
	uint64_t number;

	if (parse_size(value, &number) < 0 || number == 0 || number > UINT32_MAX)
		return misuse("--%s takes a number of bytes below 4G such as 4096, 64K or 1M, "
			      "not \"%s\"", name, value);
	*size = (uint32_t)number;
	return 0;
}

int hosting_option(struct hosting *hosting, int option, const char *value, const char *argument)
{
	struct voxshm_config *config = &hosting->config;

	switch (option) {
	case OPTION_FORMAT:
		if (strcmp(value, "native") == 0)
			config->format = VOXSHM_FORMAT_NATIVE;
		else if (strcmp(value, "vox") == 0)
			config->format = VOXSHM_FORMAT_VOX;
		else
			return misuse("--format is native or vox, not \"%s\"", value);
		return 0;
	case OPTION_BACKEND:
		if (strcmp(value, "file") == 0)
			config->backend = VOXSHM_BACKEND_FILE;
		else if (strcmp(value, "device") == 0)
			config->backend = VOXSHM_BACKEND_DEVICE;
		else if (strcmp(value, "any") == 0)
			config->backend = VOXSHM_BACKEND_ANY;
		else
			return misuse("--backend is file, device or any, not \"%s\"", value);
		return 0;
	case OPTION_RING_SIZE:
		return size_option("ring-size", value, &config->ring_capacity);
	case OPTION_MAX_PAYLOAD:
		return size_option("max-payload", value, &config->max_payload);
	case OPTION_ANY_USER:
		hosting->any_user = true;
		return 0;
	default:
		return misuse_option(option, argument);
	}
}
