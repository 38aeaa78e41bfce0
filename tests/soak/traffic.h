/* SPDX-License-Identifier: MIT */
/*
 * traffic.h - one end of a link, and how it is used: each send and each receive
 * takes one of the library's ways at random, keeps some views and loans for a
 * while and gives them back in any order.
 *
 * Host and guests use the same.
 */
#ifndef SOAK_TRAFFIC_H
#define SOAK_TRAFFIC_H

#include <voxshm.h>

#include "soak/ledger.h"
#include "soak/message.h"

#define MOST_HELD 6u
#define MOST_LOANS 3u
#define MOST_IN_BATCH 4u

struct held {
	struct voxshm_view view;
	uint64_t number;
};

struct traffic {
	struct voxshm_link *link;
	struct stream out, in;
	uint64_t random;
	struct counts *counts;
	_Atomic uint32_t *doing;
	uint32_t keeps;			/* per cent of views that are kept */
	struct held held[MOST_HELD];
	uint32_t num_held;
	struct voxshm_loan loans[MOST_LOANS];
	uint32_t num_loans;
	char fault[256];		/* empty: nothing was wrong */
};

/*
 * One call of some kind. Return: how many messages went or came, maybe none;
 * -EPIPE when the other end is gone; any other error leaves a fault.
 */
int traffic_send(struct traffic *traffic, int64_t timeout);
int traffic_receive(struct traffic *traffic, int64_t timeout);

/* Gives one of the kept views back, whichever. */
void traffic_release(struct traffic *traffic);

/* All views; each must still have its bytes. */
void traffic_release_all(struct traffic *traffic);
void traffic_abort_all(struct traffic *traffic);

/* Touches all memory of its own that it will ever need. */
void traffic_warm_up(void);

#endif
