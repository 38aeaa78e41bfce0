/* SPDX-License-Identifier: MIT */
/*
 * voxshm.c - the voxshm command: a table of subcommands, one file each.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const struct {
	const char *name;
	int (*function)(int argc, char **argv);
	const char *description;	/* NULL: not for people */
} subcommands[] = {
	{ "serve", cmd_serve, "Be a host: store files and print messages of many guests" },
	{ "recv", cmd_recv, "Be a host: receive one file, or a stream to standard output" },
	{ "send", cmd_send, "Be a guest: send a file, standard input, or a message" },
	{ "monitor", cmd_monitor, "Tell when the module's device comes and goes, and what it says" },
	{ "demo", cmd_demo, "Show a host and its guests at work, one of them being killed" },
	{ "demo-guest", cmd_demo_guest, NULL },
};

#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static void show_help(FILE *stream)
{
	size_t i;

	fputs("Usage: voxshm SUBCOMMAND [OPTION]... [ARGUMENT]...\n"
	      "\n"
	      "Messages between processes through shared memory.\n"
	      "\n", stream);
	for (i = 0; i < SUBCOMMANDS; i++)
		if (subcommands[i].description)
			fprintf(stream, "  %-7s %s\n", subcommands[i].name,
				subcommands[i].description);
	fputs("\n"
	      "  voxshm SUBCOMMAND --help tells more; so does man voxshm.\n"
	      "  voxshm --version tells the version.\n", stream);
}

/* What could not be written was not told: that must not look like success. */
static int finish(int status)
{
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_SUCCESS)
		return fail("cannot write to standard output; look where it leads");
	return status;
}

int main(int argc, char **argv)
{
	size_t i;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		show_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0) {
		show_help(stdout);
		return finish(EXIT_SUCCESS);
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("voxshm %d.%d.%d\n", VOXSHM_VERSION_MAJOR, VOXSHM_VERSION_MINOR,
		       VOXSHM_VERSION_PATCH);
		return finish(EXIT_SUCCESS);
	}
	for (i = 0; i < SUBCOMMANDS; i++) {
		if (strcmp(argv[1], subcommands[i].name) != 0)
			continue;
		command_set(subcommands[i].name);
		return finish(subcommands[i].function(argc - 1, argv + 1));
	}
	return misuse("there is no subcommand \"%s\"", argv[1]);
}
