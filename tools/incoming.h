/* SPDX-License-Identifier: MIT */
/*
 * incoming.h - the receiving end of transfers (transfer.h) from one sender.
 *
 * Fed with each message as it comes; checks all of it, writes the bytes where
 * they belong, and keeps what there is to tell about the last transfer until
 * the next begins.
 */
#ifndef INCOMING_H
#define INCOMING_H

#include "output.h"
#include "transfer.h"

enum incoming_step {
	INCOMING_PLAIN,		/* the message is none of a transfer's */
	INCOMING_BEGUN,
	INCOMING_MORE,
	INCOMING_STORED,	/* whole, checked, and where it belongs */
	INCOMING_FAILED,	/* see problem; nothing of it stays */
};

struct incoming {
	bool active;		/* between BEGIN and END */
	bool gave_up;		/* the sender's ABORT: it needs no RESULT */
	struct output output;
	struct digest *digest;
	char name[256];		/* the sender's name for it, cleaned; may be empty */
	mode_t mode;
	uint64_t announced;	/* size or TRANSFER_SIZE_UNKNOWN */
	uint64_t received;
	uint64_t messages;
	uint8_t sha256[DIGEST_SIZE];	/* of a stored one */
	int64_t start;
	double seconds;		/* from BEGIN to its end */
	struct problem problem;
};

/* Return: 0 or -1 (out of memory). */
int incoming_init(struct incoming *incoming);
/* Discards a transfer under way. */
void incoming_deinit(struct incoming *incoming);

/* The data must not change while the call runs, unless the sender is trusted. */
enum incoming_step incoming_feed(struct incoming *incoming,
				 const struct destination *destination, const void *data,
				 size_t size);

/* Ends a transfer under way whose sender is gone: INCOMING_FAILED in all but name. */
__attribute__((format(printf, 2, 3)))
void incoming_fail(struct incoming *incoming, const char *format, ...);

/* The RESULT of the last transfer, into a buffer. Return: its size. */
#define INCOMING_RESULT_ROOM (sizeof(struct transfer_result) + TRANSFER_MAX_TEXT)
size_t incoming_result(const struct incoming *incoming, enum incoming_step step, void *message);

#endif
