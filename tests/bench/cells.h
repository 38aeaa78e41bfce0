/* SPDX-License-Identifier: MIT */
/*
 * cells.h - cells that are measured in turn.
 *
 * A group of cells stands ready at the same time. Each round does every job of
 * every cell once; so what changes on the machine from one minute to the next
 * meets all of them. A job whose bare line moved is thrown away and done again,
 * a few times.
 */
#ifndef CELLS_H
#define CELLS_H

#include "pair.h"
#include "plan.h"
#include "report.h"

#define JOBS 3		/* enum job, by bit number */

struct cell {
	const struct transport *transport;
	const char *external;		/* a program instead of a transport */
	const char *row;
	struct shape shape;
	struct pair pair;
	uint64_t count[JOBS];		/* messages in one job */
	struct series result[JOBS];	/* median of the trips, ns; messages a second */
	struct histogram *histogram;	/* of all trips */
	struct series probes;		/* of the last turns, ns */
	unsigned int turns;
	struct series tail[3];		/* external: p99, p99.9, max */
	unsigned int dropped[JOBS];
	char failure[160];
};

void cell_init(struct cell *cell, const struct transport *transport,
	       const struct shape *shape);

/* Starts them all, does the rounds, ends them. jobs: bits of enum job. */
void cells_run(struct cell *cells, unsigned int count, unsigned int jobs,
	       const struct plan *plan);

/* Adds what came out, with `at` as the place. Frees the cells' parts. */
void cells_report(struct cell *cells, unsigned int count, const char *section,
		  const char *place);

#endif
