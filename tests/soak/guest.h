/* SPDX-License-Identifier: MIT */
/* guest.h - a guest's process: joins, sends and receives in its manner, ends as it is told. */
#ifndef SOAK_GUEST_H
#define SOAK_GUEST_H

#include <stdbool.h>
#include <stdint.h>

enum way { SPAWNED, TICKETED, WALKED_IN, WAYS };

/* What the host tells a guest's program by its arguments, behind "--guest". */
#define GUEST_ARGUMENTS 6
struct guest_order {
	uint32_t number, life;
	enum way way;
	uint64_t seed;
	int ledger;		/* descriptor of all ledgers */
	const char *host;	/* a ticket's number or an address */
};

struct manner {
	uint32_t sends, receives;	/* of a hundred turns */
	uint32_t rest;			/* microseconds at most, now and then */
	uint32_t patience;		/* microseconds of one call */
	uint32_t keeps;			/* per cent of views */
	bool answered;			/* the host answers each message at once */
};

const struct manner *manner_of(uint64_t seed, uint32_t number, uint32_t life);

int guest_main(const struct guest_order *order);

#endif
