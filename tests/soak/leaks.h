/* SPDX-License-Identifier: MIT */
/* leaks.h - is everything given back: descriptors, mappings, memory, slots, module? */
#ifndef SOAK_LEAKS_H
#define SOAK_LEAKS_H

#include <stdbool.h>
#include <voxshm.h>

/* What this process has now is what it must have later. */
void leaks_begin(void);

/* So many of them will be closed. */
void leaks_less_descriptors(int count);

/* Return: NULL when nothing is missing or left; else what is, until the next question. */
const char *leaks_find(void);

/* Nobody has a slot in hand: is every slot of a vox host's pool in its place? */
const char *leaks_find_slots(const struct voxshm_host *host);

/* KiB of this process that are in memory. */
long leaks_resident(void);

/* Does the module hold no more than at the beginning? Waits for what it frees later. */
const char *leaks_find_in_module(void);

#endif
