/* SPDX-License-Identifier: MIT */
/*
 * output.h - where the bytes of one transfer go.
 *
 * A destination says what may become of transfers; the subcommand owns it. An
 * output is one transfer's: opened, written, then finished or discarded.
 * A file is written under a hidden name (.voxshm-PID-N.part) beside its place
 * and gets its own name only in output_finish(): under that name it is whole,
 * or it is not there. Nothing is ever made outside the destination's folder.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <sys/types.h>

#include "tool.h"

/*
 * One of: a descriptor to write to; else a folder, with the one name that
 * files get or NULL to let the sender name them; else none: files are refused.
 */
struct destination {
	int stream;		/* -1: none */
	int folder;		/* -1: none */
	const char *name;
	bool force;		/* replace what has the name already */
};

struct output {
	int fd;			/* -1: not open */
	int folder;		/* -1: fd is the destination's stream */
	char temporary[48];
	char name[256];		/* of the file; empty: none */
	bool force;
	uint64_t size;		/* bytes written so far */
};

/*
 * Opens a place for good: a file, or standard output when path is NULL or "-".
 * Free it by destination_close(). Return: 0, or -1 (taken, not writable, ...).
 */
int destination_open_file(struct destination *destination, const char *path, bool force,
			  struct problem *problem);
/* A folder for files named by their senders; NULL for none. Return: 0 or -1. */
int destination_open_folder(struct destination *destination, const char *path, bool force,
			    struct problem *problem);
void destination_close(struct destination *destination);

/* The name is the sender's word; it is made safe here. Return: 0 or -1. */
int output_open(struct output *output, const struct destination *destination, const char *name,
		struct problem *problem);
int output_write(struct output *output, const void *data, size_t size, struct problem *problem);
/* Return: 0, or -1: then the output is discarded. */
int output_finish(struct output *output, mode_t mode, struct problem *problem);
void output_discard(struct output *output);

#endif
