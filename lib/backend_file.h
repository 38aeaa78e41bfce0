/* SPDX-License-Identifier: MIT */
/*
 * backend_file.h - what the ends of a native link say to each other on the file
 * backend, over the SOCK_SEQPACKET socketpair that joins them.
 *
 * A one-byte message is a doorbell; the longer ones are below. Each side has
 * a queue of its own that the other can neither drain nor switch to blocking,
 * and the kernel shows a hang-up when the last copy of an end is closed.
 */
#ifndef BACKEND_FILE_H
#define BACKEND_FILE_H

#include <stdint.h>

enum file_message_kind {
	FILE_MESSAGE_CLAIM = 1,		/* the guest has come */
	FILE_MESSAGE_LEAVE = 2,		/* the coming end is meant */
	FILE_MESSAGE_OFFER = 3,		/* memory; with one descriptor */
};

struct file_message {
	uint32_t kind;
	uint32_t map_id;
	uint32_t generation;
	uint32_t reserved;
	uint64_t size;
};

#endif
