/* SPDX-License-Identifier: MIT */
/*
 * hosting.h - the options of subcommands that are a host.
 */
#ifndef HOSTING_H
#define HOSTING_H

#include <getopt.h>

#include "tool.h"

struct hosting {
	struct voxshm_config config;
	bool any_user;		/* not only the host's own user and root */
};

#define HOSTING_INIT { .config = VOXSHM_CONFIG_INIT }

enum {
	OPTION_FORMAT = 0x100,
	OPTION_BACKEND,
	OPTION_RING_SIZE,
	OPTION_MAX_PAYLOAD,
	OPTION_ANY_USER,
	OPTION_OWN,		/* the first that a subcommand may use */
};

#define HOSTING_SEGMENT_OPTIONS \
	{ "format", required_argument, NULL, OPTION_FORMAT }, \
	{ "backend", required_argument, NULL, OPTION_BACKEND }

#define HOSTING_OPTIONS \
	HOSTING_SEGMENT_OPTIONS, \
	{ "ring-size", required_argument, NULL, OPTION_RING_SIZE }, \
	{ "max-payload", required_argument, NULL, OPTION_MAX_PAYLOAD }, \
	{ "any-user", no_argument, NULL, OPTION_ANY_USER }

#define HOSTING_SEGMENT_HELP \
	"  --format native|vox    memory layout (default native; vox: that of vox-shm 0.3.1)\n" \
	"  --backend NAME         where memory comes from: device, file, or any (the device,\n" \
	"                         else files; default: files only where there is no device)\n"

#define HOSTING_HELP \
	HOSTING_SEGMENT_HELP \
	"  --ring-size SIZE       bytes of each ring (default 256K)\n" \
	"  --max-payload SIZE     largest message (default 1G)\n" \
	"  --any-user             let in every user, not only your own and root\n"

/*
 * For each option that is not the subcommand's own; argument is where it
 * stood. Return: 0, or EXIT_USAGE after saying what is wrong.
 */
int hosting_option(struct hosting *hosting, int option, const char *value, const char *argument);

#endif
