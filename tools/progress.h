/* SPDX-License-Identifier: MIT */
/*
 * progress.h - a line on the terminal that shows how far a transfer is.
 *
 * Appears on standard error once the transfer has taken a second, if that is
 * a terminal; progress_end() wipes it away.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "tool.h"

/* Nanoseconds between two looks of the line: how long to wait at a time. */
#define PROGRESS_INTERVAL (NS_PER_SECOND / 5)

struct progress {
	bool wanted;		/* there is a terminal */
	bool shown;
	uint64_t total;		/* UINT64_MAX: not known */
	int64_t start;
	int64_t last;		/* when the line was last drawn */
};

void progress_begin(struct progress *progress, bool wanted, uint64_t total);
void progress_update(struct progress *progress, uint64_t done);
void progress_end(struct progress *progress);

/* How long a call may wait before the line must be drawn again. */
int64_t progress_wait(const struct progress *progress);

#endif
