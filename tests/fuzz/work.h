/* SPDX-License-Identifier: MIT */
/*
 * work.h - the honest work of an end of a link, one call at a time as the
 * input says, and what must hold after each call.
 */
#ifndef FUZZ_WORK_H
#define FUZZ_WORK_H

#include "fuzz.h"
#include "link.h"

#define WORK_MAX_VIEWS 12u
#define WORK_MAX_LOANS 4u
#define WORK_MAX_PAYLOAD 100000u

struct work_loan {
	struct voxshm_loan loan;
	bool open;
};

struct work {
	struct voxshm_link *link;
	struct work *peer;
	/* May the view lie there? */
	bool (*is_inside)(const struct work *work, const struct voxshm_view *view);
	/* The peer can make it impossible to give this back: after that the link has failed. */
	bool release_may_fail;
	size_t largest_slot;		/* longer payloads go in mappings, which are slow to make */
	unsigned int mappings_left;
	uint64_t max_loads;		/* of any one call, however hostile the peer is */

	struct voxshm_view views[WORK_MAX_VIEWS];
	unsigned int num_views;
	struct work_loan loans[WORK_MAX_LOANS];
	uint64_t sent, received;	/* tell something while nobody meddles */
	bool failed;
};

/* Kinds of work; those that are more important have several numbers. */
enum work_kind {
	WORK_SEND = 0,
	WORK_SEND_BATCH = 4,
	WORK_RECV = 5,
	WORK_RECV_BATCH = 10,
	WORK_RECV_COPY = 11,
	WORK_RELEASE = 12,
	WORK_LOAN = 15,		/* or commits, or aborts */
	WORK_WAIT = 17,
	WORK_KINDS = 18,
};

void work_do(struct work *work, struct fuzz_input *input, uint32_t kind);

/* The state of the link, and what a call has just returned. */
void work_check(struct work *work, int ret);

/* Gives back all that is in hand; the link can be closed. */
void work_finish(struct work *work);

/* Do size bytes lie within the area? */
bool work_is_within(const void *data, size_t size, const void *area, uint64_t area_size);

#endif
