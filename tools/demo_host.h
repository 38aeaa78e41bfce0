/* SPDX-License-Identifier: MIT */
/*
 * demo_host.h - the demo's host: starts the guests, checks all they send.
 *
 * cmd_demo.c owns the struct demo and is told of each step, to put it in
 * words; it never has to check anything itself.
 */
#ifndef DEMO_HOST_H
#define DEMO_HOST_H

#include "demo.h"
#include "hosting.h"
#include "incoming.h"

#define DEMO_MESSAGES 200000u		/* the second guest's */
#define DEMO_MORE_MESSAGES 50000u	/* the newcomer's */
#define DEMO_KILL_AFTER 50000u		/* messages of the victim */

enum { DEMO_FILE, DEMO_STEADY, DEMO_VICTIM, DEMO_NEWCOMER, DEMO_GUESTS };

enum demo_step {
	DEMO_STEP_STARTED,	/* the member's process runs and has attached */
	DEMO_STEP_KILLED,	/* the victim has just been sent SIGKILL */
	DEMO_STEP_DIED,		/* its death was reported, all it had sent is here */
	DEMO_STEP_FINISHED,	/* all that the member was to send is here and right */
};

struct demo_member {
	uint64_t wanted;		/* messages to come; UINT64_MAX: no end to them */
	struct voxshm_link *link;	/* NULL: not yet or no more there */
	struct voxshm_status status;
	struct demo_page *page;		/* messages only */
	int page_fd;
	uint64_t received, bytes;	/* messages, checked, and their bytes */
	int64_t start;
	double seconds;			/* until it had sent all */
	bool finished;
	bool ended;
};

struct demo {
	struct hosting hosting;
	const char *path;		/* of the file to send */
	void (*tell)(struct demo *demo, enum demo_step step, struct demo_member *member);
	void *data;

	struct voxshm_host *host;
	struct demo_member members[DEMO_GUESTS];
	struct destination nowhere;
	struct incoming incoming;	/* the file */
	uint8_t sha256[DIGEST_SIZE];	/* of the file as the host reads it itself */
	uint64_t received_at_kill;
	uint64_t sent_by_victim;	/* by its own count */
	int64_t start;
	bool goodbye_said;
	struct problem problem;
};

/* Return: 0 when everything was as it must be, or -1: then the problem is set. */
int demo_open(struct demo *demo);
int demo_run(struct demo *demo);
void demo_close(struct demo *demo);

#endif
