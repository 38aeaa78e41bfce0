/* SPDX-License-Identifier: MIT */
/*
 * soak.h - the run: one host after another, sixteen places for guests, what is
 * promised and what was found.
 *
 * All of it belongs to the host's thread. A thread of its own looks now and
 * then whether that one still goes on.
 */
#ifndef SOAK_H
#define SOAK_H

#include <stdbool.h>
#include <sys/types.h>

#include "soak/guest.h"
#include "soak/traffic.h"

/* A test each. */
enum promise {
	MESSAGES,	/* whole, in order, once */
	COMMITTED,	/* what was committed before an end arrived, and nothing else */
	GOODBYE,	/* what the host sent before it left arrived */
	RECORDS,	/* how a guest ended */
	PLACES,		/* guests come, and come again */
	GROWTH,
	LEFTOVERS,	/* of the host: descriptors, mappings, memory; of guests; processes */
	SLOTS,
	MODULE,
	RESIDENT,	/* memory stays flat */
	WAITS,		/* nothing takes for ever */
	PROMISES,
};

/* How a guest ends, or does not. */
enum fate {
	KILLED,			/* SIGKILL */
	KILLED_AT_START,
	SEGV_SENT,
	FAULTED,		/* in the middle of whatever it does */
	EXITED,
	EXITED_IN_CALL,		/* there too */
	CLOSED,			/* as it should be done */
	STOPPED_AND_KILLED,
	STOPPED_AND_CONTINUED,
	HOST_CLOSED,		/* its link, by the host */
	HOST_REPLACED,		/* with all its links */
	FATES,
};

enum state {
	EMPTY,		/* the next guest comes at `next` */
	STARTING,	/* its process runs, it has not attached */
	RUNNING,	/* its fate comes at `next` */
	STOPPED,	/* until `next` */
	ENDING,		/* its end is sure, and the host was not told yet */
	LEFT,		/* the host has closed the link */
	GONE,		/* the host was told; its process may still be there */
};

struct place {
	uint32_t number, life;
	enum state state;
	enum way way;
	enum fate fate;
	enum voxshm_exit_kind exit_kind;	/* as it must be */
	int exit_value;
	bool attached, answered, broken;
	bool neglected;			/* the host seldom reads what it sends */
	pid_t pid;
	int pidfd;
	uint32_t peer_id, epoch;
	struct ledger *ledger;
	struct counts counts;		/* the host's */
	struct traffic traffic;		/* link is NULL when there is none */
	uint64_t turns;			/* of the guest, when they were last seen to grow */
	int64_t next, deadline;
};

/* A link whose guest has ended, with views that the host still holds. */
struct ghost {
	struct traffic traffic;
	uint32_t number, life;
	int64_t next;
};

#define MOST_GHOSTS 8u

struct totals {
	uint64_t messages, bytes, guests, in_call, grown, mapped;
	uint64_t fates[FATES], ways[WAYS];
	uint64_t hosts, audits;
};

struct soak {
	uint64_t seed, random;
	int64_t begin, end;		/* the run's */
	int ledger_fd;
	struct ledger *ledgers;
	char address[64];

	uint32_t host_life;
	struct voxshm_host *host;
	bool vox, device;
	bool settled;			/* no guest comes or is made to go */
	bool full_grown;
	int64_t next_growth;
	uint32_t epochs[GUESTS + MOST_GHOSTS + 1];
	struct place places[GUESTS];
	struct ghost ghosts[MOST_GHOSTS];

	struct totals totals;
	int64_t next_report;
	long resident, resident_limit;	/* KiB; the limit is 0 before it is known */

	unsigned int failures[PROMISES];
	_Atomic uint64_t turns;		/* of the host's thread */
	_Atomic uint32_t doing;		/* enum activity */
};

extern struct soak soak;

/* A number below the limit. */
uint32_t soak_random(uint32_t limit);

/* Something is not as promised; the place is that of the guest, or NULL. */
void soak_fail(enum promise promise, const struct place *place, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
unsigned int soak_failures(void);

/* In report.c: a line of what was done; who waits for what; the tests. */
void report_begin(int64_t duration);
void report_line(void);
void report_who_waits(void);
int report_tests(void);
const char *fate_name(enum fate fate);

/* In life.c: one host, from its making to its end. */
void life_run(bool vox, bool by_links, int64_t duration);

/* In place.c. */
void place_start(struct place *place);
/* What time brings; `now` is the same for all. */
void place_step(struct place *place, int64_t now);
void place_attached(struct place *place);
void place_received(struct place *place);
void place_ended(struct place *place, enum voxshm_event_type type);
/* The host leaves it; with or without closing the link itself. */
void place_leave(struct place *place, enum fate why);
struct place *place_of_pid(pid_t pid);
void place_send(struct place *place, int64_t timeout);
void ghosts_step(int64_t now);

/* In fate.c. */
void fate_begin(struct place *place, enum fate fate, int64_t now);
void fate_choose(struct place *place, int64_t now);
void fate_continue(struct place *place, int64_t now);
/* The place's link has told how its guest ended: is it true? */
void fate_check(struct place *place, enum voxshm_event_type type);

/* Longer than anything takes. */
#define LIMIT (20 * SECOND * slowness())
/* Fates come later on a slow machine, yet often enough. */
#define PACE (slowness() > 1 ? 2 : 1)

#endif
