/* SPDX-License-Identifier: MIT */
/*
 * crowd.h - a host and many guests, for the sections that need them.
 */
#ifndef CROWD_H
#define CROWD_H

#include <sys/types.h>

#include "bench.h"
#include "voxshm.h"

#define CROWD_MAX VOXSHM_MAX_GUESTS

struct crowd {
	struct voxshm_host *host;
	unsigned int guests;
	struct voxshm_link *links[CROWD_MAX];	/* the host's ends */
	int tickets[CROWD_MAX];
};

/* A host with a ticket for each guest. Return: NULL, or why not. */
const char *crowd_init(struct crowd *crowd, unsigned int guests, enum voxshm_format format);

/* In the host's process, after the guests have their tickets. */
void crowd_close_tickets(struct crowd *crowd);

/*
 * Becomes one of the guests. Return: the link; NULL, and why not.
 */
struct voxshm_link *crowd_claim(const struct crowd *crowd, unsigned int index,
				const char **failure);

/* Memory that forked processes share. Return: NULL when there is none. */
void *crowd_shared(size_t size);

/* Forks a process that dies with its parent. Return: as fork(). */
pid_t crowd_fork(void);

#endif
