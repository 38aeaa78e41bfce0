/* SPDX-License-Identifier: MIT */
/*
 * outgoing.h - the sending end of a transfer (transfer.h).
 */
#ifndef OUTGOING_H
#define OUTGOING_H

#include <sys/stat.h>

#include "progress.h"
#include "transfer.h"

/*
 * What to send. Opened by source_open(), closed by source_close(). A file
 * must not change until it is sent; a stream (standard input, a pipe, a
 * device) is sent up to its end.
 */
struct source {
	int fd;
	bool is_stream;
	char name[TRANSFER_MAX_NAME + 1];	/* without folders; empty: none */
	struct stat stat;
};

/* Standard input when path is NULL or "-". Return: 0 or -1. */
int source_open(struct source *source, const char *path, struct problem *problem);
void source_close(struct source *source);

struct outgoing {
	uint64_t bytes;		/* sent so far */
	uint8_t sha256[DIGEST_SIZE];	/* of all, once it returned 0 */
	double seconds;		/* until the receiver said that it has all */
};

/*
 * Sends a source and waits for the receiver's word. Return: 0 when the
 * receiver has it, whole and checked, or -1.
 */
int outgoing_send(struct outgoing *outgoing, struct voxshm_link *link, struct source *source,
		  bool show_progress, struct problem *problem);

#endif
