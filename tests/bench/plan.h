/* SPDX-License-Identifier: MIT */
/*
 * plan.h - what a run is made of: its sections, and how long each may take.
 */
#ifndef PLAN_H
#define PLAN_H

#include "bench.h"

struct plan {
	unsigned int rounds;
	double slice_ns;	/* how long one job takes */
	bool quick;		/* everything once, just to see that it works */
	const char *sections;	/* comma-separated names, or NULL: all */
	const char *rows;	/* comma-separated parts of rows' names, or NULL: all */
	size_t only_size;	/* or 0 */
	const char *const *externals;	/* programs, ended by NULL; see external.h */
	const char *self;	/* this program, to be started as a guest */
	bool guest;		/* so it was */
};

/* The sections; each adds its records to the report. */
void section_pairs(const struct plan *plan);
void section_rings(const struct plan *plan);
void section_guests(const struct plan *plan);
void section_idle(const struct plan *plan);
void section_life(const struct plan *plan);
void section_growth(const struct plan *plan);
void section_syscalls(const struct plan *plan);

/* What the program does when section_life started it as a guest. */
int spawned_guest(void);

/* targets.c: the goals beside what was measured. */
void print_targets(FILE *out);

/* One short line of progress, on stderr. */
void progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The sizes of messages, ended by 0. */
extern const size_t plan_sizes[];

#endif
