/* SPDX-License-Identifier: MIT */
/*
 * external.h - a row that another program measures; README.md has the protocol.
 */
#ifndef EXTERNAL_H
#define EXTERNAL_H

#include "bench.h"

struct external_result {
	char name[64];
	double main;		/* JOB_TRIPS: p50, ns; JOB_STREAM: messages a second */
	double tail[3];		/* JOB_TRIPS: p99, p99.9, max, ns; NAN: not said */
};

/* Return: false, and why, when it gave no figure. */
bool external_run(const char *program, enum job job, size_t size, double slice_ns,
		  struct external_result *result, char *failure, size_t failure_size);

/* The name, kept for as long as the bench runs. */
const char *external_name(const char *name);

#endif
