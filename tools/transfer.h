/* SPDX-License-Identifier: MIT */
/*
 * transfer.h - how a file travels in messages between voxshm send and
 * voxshm recv or serve.
 *
 *   sender → receiver:   BEGIN  DATA*  END          a whole file, or
 *                        BEGIN  DATA*  ABORT        given up; says why
 *   receiver → sender:   RESULT                     after END, or as soon as
 *                                                   the receiver gives up
 *
 * Each message opens with its type. DATA carries the offset of its bytes, so
 * that a receiver sees if one were missing or came twice. END carries total
 * and SHA-256 of all bytes; the file gets its name only if both are right.
 * After RESULT the sender may BEGIN again. A message that does not open with
 * a BEGIN, when no transfer is under way, is a plain message.
 *
 * The receiver believes nothing: sizes are exact, offsets follow on each
 * other, reserved fields are zero, texts are cleaned before they are used.
 * Numbers are in the machine's byte order: both ends are on one machine.
 */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <assert.h>
#include <stdint.h>

#include "digest.h"

#define TRANSFER_TYPE(letter) ('V' | 'X' << 8 | 'F' << 16 | (uint32_t)(letter) << 24)
#define TRANSFER_BEGIN	TRANSFER_TYPE('B')
#define TRANSFER_DATA	TRANSFER_TYPE('D')
#define TRANSFER_END	TRANSFER_TYPE('E')
#define TRANSFER_ABORT	TRANSFER_TYPE('A')
#define TRANSFER_RESULT	TRANSFER_TYPE('R')

#define TRANSFER_MAX_NAME 255u
#define TRANSFER_MAX_TEXT 255u
#define TRANSFER_SIZE_UNKNOWN UINT64_MAX
#define TRANSFER_MAX_SIZE ((uint64_t)INT64_MAX)

/*
 * The largest DATA message that send makes: fits the largest slots that a host
 * has by default, a pipe's buffer, and a core's own cache.
 */
#define TRANSFER_CHUNK (64u << 10)
/* The host's max_payload must be at least this for a transfer. */
#define TRANSFER_LEAST_PAYLOAD 1024u

/* The file's name without folders; empty when it has none. */
struct transfer_begin {
	uint32_t type;
	uint32_t mode;		/* permission bits, at most 0777 */
	uint64_t size;		/* or TRANSFER_SIZE_UNKNOWN */
	uint32_t name_size;	/* at most TRANSFER_MAX_NAME */
	uint32_t reserved;
	/* then the name */
};

struct transfer_data {
	uint32_t type;
	uint32_t reserved;
	uint64_t offset;
	/* then at least one byte */
};

struct transfer_end {
	uint32_t type;
	uint32_t reserved;
	uint64_t total;
	uint8_t sha256[DIGEST_SIZE];
};

struct transfer_abort {
	uint32_t type;
	uint32_t text_size;	/* at most TRANSFER_MAX_TEXT */
	/* then the text */
};

struct transfer_result {
	uint32_t type;
	uint32_t failed;	/* 0: the file is stored; 1: it is not, text says why */
	uint64_t total;		/* bytes received */
	uint8_t sha256[DIGEST_SIZE];	/* of them; zero when failed */
	uint32_t text_size;	/* at most TRANSFER_MAX_TEXT */
	uint32_t reserved;
	/* then the text */
};

static_assert(sizeof(struct transfer_begin) == 24, "layout");
static_assert(sizeof(struct transfer_data) == 16, "layout");
static_assert(sizeof(struct transfer_end) == 48, "layout");
static_assert(sizeof(struct transfer_abort) == 8, "layout");
static_assert(sizeof(struct transfer_result) == 56, "layout");

#endif
