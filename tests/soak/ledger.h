/* SPDX-License-Identifier: MIT */
/*
 * ledger.h - what a guest has done, in memory of the test's own.
 *
 * One for each place of a guest, cleared for each life. It outlives the guest,
 * and tells the host what must have arrived and what may have: everything whose
 * commit returned, and what was under way.
 */
#ifndef SOAK_LEDGER_H
#define SOAK_LEDGER_H

#include <stdatomic.h>
#include <stdint.h>

#define GUESTS 16u

/* What one side has done on its link. */
struct counts {
	_Atomic uint64_t begun;		/* sent, and what the call under way may add */
	_Atomic uint64_t sent;		/* the call that sent it has returned */
	_Atomic uint64_t received;
	_Atomic uint64_t bytes;		/* both ways */
};

/* In which call it is, for whoever finds it dead or waiting. */
enum activity {
	IDLE, JOINING, SENDING, SENDING_BATCH, LOANING, COMMITTING, ABORTING, RECEIVING,
	RECEIVING_BATCH, RECEIVING_COPY, RELEASING, CLOSING, RESTING, ACTIVITIES,
};

enum order {
	ORDER_NONE,
	ORDER_CLOSE,		/* closes its link and exits with 0 */
	ORDER_EXIT,		/* exits between two calls */
	ORDER_EXIT_IN_CALL,	/* exits soon, wherever it is */
	ORDER_FAULT_IN_CALL,	/* touches what is not mapped, soon, wherever it is */
};

/* How it ended by itself. */
enum farewell {
	FAREWELL_NONE,
	FAREWELL_ORDERED,	/* it closed its link, as it was told */
	FAREWELL_HOST,		/* the host said goodbye, and all that it sent was received */
	FAREWELL_UNJOINED,	/* the host had gone before it had joined */
};

struct ledger {
	_Alignas(64) struct counts counts;
	_Atomic uint64_t turns;
	_Atomic uint32_t doing;		/* enum activity */
	_Atomic uint32_t farewell;	/* enum farewell */
	_Alignas(64) _Atomic uint32_t order;	/* enum order; the host's */
	_Atomic uint32_t code;		/* with which it shall exit */
	char fault[256];		/* what the guest found wrong, or empty */
};

static inline const char *activity_name(uint32_t activity)
{
	static const char *const names[ACTIVITIES] = {
		"between two calls", "joining", "send", "send_batch", "loan", "commit", "abort",
		"recv", "recv_batch", "recv_copy", "release", "close", "resting",
	};

	return activity < ACTIVITIES ? names[activity] : "nonsense";
}

#endif
