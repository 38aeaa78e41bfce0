/* SPDX-License-Identifier: MIT */
/*
 * section_pairs.c - every transport by size of message; and the rings by their
 * own size.
 */
#include "cells.h"

#define MAX_CELLS 64
#define DEFAULT_RING MI

const size_t plan_sizes[] = { 8, 64, 256, KI, 4 * KI, 64 * KI, MI, 0 };

static const size_t ring_sizes[] = { 16 * KI, 64 * KI, 256 * KI, MI, 4 * MI, 16 * MI, 0 };

const struct transport *const transports[] = {
	&limit_one_line, &limit_two_lines, &limit_flag_copy, &limit_memcpy,
	&limit_index_ring, &limit_sequence_ring, &limit_sequence_ring_in_place,
	&voxshm_copy, &voxshm_loan_spinning, &voxshm_untouched, &voxshm_adaptive,
	&voxshm_sleeping, &voxshm_loan_sleeping, &voxshm_vox,
	&peer_pipe, &peer_pipe_spinning, &peer_stream, &peer_seqpacket, &peer_eventfd,
	&peer_futex, &peer_mq, &peer_zeromq, &peer_nng, &peer_iceoryx, NULL
};

/* Those whose rate depends on the ring's size. */
static const struct transport *const ringed[] = {
	&limit_memcpy, &limit_index_ring, &limit_sequence_ring, &limit_sequence_ring_in_place,
	&voxshm_copy, &voxshm_adaptive, NULL
};

static bool wanted(const struct plan *plan, const char *row)
{
	const char *part, *end;

	/* A row's own name may have a comma. */
	if (!plan->rows || !strcmp(plan->rows, row))
		return true;
	for (part = plan->rows; *part; part = *end ? end + 1 : end) {
		end = strchrnul(part, ',');
		if (memmem(row, strlen(row), part, (size_t)(end - part)))
			return true;
	}
	return false;
}

static unsigned int gather(struct cell *cells, const struct transport *const *list,
			   const struct shape *shape, const struct plan *plan)
{
	unsigned int count = 0;

	for (; *list && count < MAX_CELLS; list++)
		if (wanted(plan, (*list)->name) &&
		    (!(*list)->max_size || shape->size <= (*list)->max_size))
			cell_init(&cells[count++], *list, shape);
	return count;
}

void section_pairs(const struct plan *plan)
{
	struct shape shape = { .ring = DEFAULT_RING, .guests = 1 };
	const char *const *external;
	struct cell cells[MAX_CELLS];
	const size_t *size;
	unsigned int count;

	for (size = plan_sizes; *size; size++) {
		if (plan->only_size && *size != plan->only_size)
			continue;
		progress("messages of %s bytes", report_size(*size));
		shape.size = *size;
		count = gather(cells, transports, &shape, plan);
		for (external = plan->externals; *external && count < MAX_CELLS; external++) {
			cell_init(&cells[count], NULL, &shape);
			cells[count].external = *external;
			cells[count++].row = *external;
		}
		cells_run(cells, count, JOB_TRIPS | JOB_STREAM | JOB_BATCHES, plan);
		cells_report(cells, count, "pairs", "size");
	}
}

void section_rings(const struct plan *plan)
{
	struct shape shape = { .size = 64, .guests = 1 };
	struct cell cells[MAX_CELLS];
	const size_t *ring;
	unsigned int count;

	for (ring = ring_sizes; *ring; ring++) {
		progress("rings of %s bytes", report_size(*ring));
		shape.ring = *ring;
		count = gather(cells, ringed, &shape, plan);
		cells_run(cells, count, JOB_TRIPS | JOB_STREAM | JOB_BATCHES, plan);
		cells_report(cells, count, "rings", "ring");
	}
}
