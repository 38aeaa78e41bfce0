/* SPDX-License-Identifier: MIT */
/*
 * bootstrap.h - the words that bring host and guest together over a UNIX
 * stream socket, as vox-shm 0.3.1 speaks them.
 *
 *   request:  "RSH0", u16 length, session
 *   response: "RSP0", u8 status, u32 peer id, u16 length, payload; on success
 *             with three descriptors: doorbell, segment, and
 *             vox: mapping control; native: the guest's window
 *             or, from a host on the device, without a payload and with
 *             one: the guest's end of the link
 *
 * A ticket is a socket on which the response already waits.
 */
#ifndef BOOTSTRAP_H
#define BOOTSTRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"
#include "voxshm.h"

struct end;

#define BOOTSTRAP_REQUEST_HEADER 6u
#define BOOTSTRAP_RESPONSE_HEADER 11u
#define BOOTSTRAP_MAX_SESSION 65535u
#define BOOTSTRAP_MAX_PAYLOAD 4095u /* ours; enough for a path */

/* The refusal that the guest's library must know from others: -EUSERS. */
#define BOOTSTRAP_REASON_FULL "all guest places are taken"

enum {
	INVITATION_END = 0,		/* device: the only one */
	INVITATION_DOORBELL = 0,
	INVITATION_SEGMENT,
	INVITATION_THIRD,
	INVITATION_FDS,
};

/* All that a guest needs to take part. */
struct invitation {
	uint32_t peer_id;
	int fds[INVITATION_FDS];	/* -1: none */
	/* The guest's: what the descriptors have become on the way to a link. */
	struct memory main;
	struct end *end;		/* device: claimed */
	char payload[BOOTSTRAP_MAX_PAYLOAD + 1];	/* vox: the segment's path */
};

void invitation_init(struct invitation *invitation);

/* Frees what is still there. */
void invitation_deinit(struct invitation *invitation);

/* Did it come from a host on the device? */
static inline bool invitation_is_device(const struct invitation *invitation)
{
	return invitation->fds[INVITATION_SEGMENT] < 0;
}

/*
 * Guest: sends a request / waits for a response until the deadline
 * (CLOCK_MONOTONIC ns, negative: none). On refusal error holds the host's
 * text. Return: 0, -EPROTO, -EPIPE, -ETIMEDOUT, the host's refusal as
 * -EACCES or -EUSERS, ...
 */
int bootstrap_request(int socket, const char *session, struct voxshm_error *error);
int bootstrap_receive(int socket, struct invitation *invitation, int64_t deadline,
		      struct voxshm_error *error);

/*
 * Host: is a whole request in the buffer? Return: its size, 0 when more must
 * come, -EPROTO.
 */
int bootstrap_parse_request(const uint8_t *bytes, size_t size, const char **session,
			    size_t *session_size);
/* Host: sends one response; never blocks. Return: 0 or -errno. */
int bootstrap_invite(int socket, const struct invitation *invitation);
int bootstrap_refuse(int socket, const char *reason);

#endif
