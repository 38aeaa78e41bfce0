/* SPDX-License-Identifier: MIT */
/*
 * pair.h - two processes, each on a processor of its own, joined by a transport.
 *
 * The bench forks the first, which forks the second. Between jobs both sleep on
 * a futex, so that many pairs can stand ready and take turns. Before and after
 * each job they bounce two bare lines: when that has changed, something else
 * has (a virtual processor was moved, another program ran), and the figure in
 * between is worth nothing. What they share is in one struct pair_control.
 *
 * They die with the bench. One that fails says why in the control block.
 */
#ifndef PAIR_H
#define PAIR_H

#include <sys/types.h>

#include "bench.h"
#include "histogram.h"

/* One way is timed in so many parts: a turn has a multiple of so many messages. */
#define PAIR_CHUNKS 16

struct pair_control {
	/* the bench's: what to do next; a futex, raised with each job */
	_Alignas(LINE) _Atomic uint32_t turn;
	uint32_t job;		/* enum job; 0 ends the pair */
	uint64_t count;
	/* how many sides are done with the turn; a futex */
	_Alignas(LINE) _Atomic uint32_t done;
	_Atomic uint32_t failed;
	char failure[160];
	/* Bare lines, each written by one side: [0] by the one that leads. */
	struct {
		_Alignas(LINE) _Atomic uint64_t value;
	} meeting[2], probe[2];
	_Alignas(LINE) double probe_before, probe_after;	/* ns */
	double elapsed[2];					/* ns, of each side */
	uint64_t calls;		/* system calls of the sender so far, where it counts them */
	pid_t pids[2];
	struct histogram histogram;
};

struct pair {
	const struct transport *transport;
	struct pair_control *control;
	pid_t pid;
	char failure[160];	/* empty: it works */
};

/* What one job gave. */
struct turn {
	double probe_before, probe_after;	/* ns of a bare round trip */
	double elapsed;				/* ns of the whole job */
};

/* Starts both processes. A pair that cannot be has its failure filled in. */
void pair_start(struct pair *pair, const struct transport *transport,
		const struct shape *shape);

/* Does one job. Return: false, and the failure filled in, when it went wrong. */
bool pair_run(struct pair *pair, enum job job, uint64_t count, struct turn *turn);

/* Tells both to do it; for a bench that watches them meanwhile. */
void pair_begin(struct pair *pair, enum job job, uint64_t count);
bool pair_is_done(const struct pair *pair);

/* Ends both processes; at once: whatever they are doing. */
void pair_kill(struct pair *pair);
void pair_stop(struct pair *pair);

#endif
