/* SPDX-License-Identifier: MIT */
/*
 * memory.h - a piece of shared memory: a descriptor and where it is mapped.
 *
 * Whoever made it or took it over owns both. Nobody can take pages away from
 * under a reader (SIGBUS): the device's cannot be, and on the file backend, whose
 * functions are below, memory from a peer is sealed against shrinking, or
 * refused.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct memory {
	uint8_t *base;	/* NULL: not mapped */
	size_t size;
	int fd;		/* -1: none */
};

#define MEMORY_NONE ((struct memory){ .fd = -1 })

/*
 * Makes memory: zeroed, fully allocated, sealed against any change of size,
 * mapped read-write.
 * Return: 0, -ENOMEM, -ENOSPC, -EMFILE, ...
 */
int memory_new(struct memory *memory, const char *name, size_t size);

/*
 * Maps memory that came from a peer; takes the descriptor over on success.
 * Return: 0, -EBADMSG (smaller than size, or not sealed, or of huge pages, which
 * may be missing when they are touched), -ENOMEM, ...
 */
int memory_map(struct memory *memory, int fd, size_t size, int protection);

/*
 * The same, page by page as it is read, and without a descriptor: this one stays
 * the caller's.
 */
int memory_map_unread(struct memory *memory, int fd, size_t size);

/* The pages of that part of it now, as far as the kernel can. */
void memory_populate(const struct memory *memory, size_t offset, size_t size);

/* From now on nobody else can get a writable mapping. Return: 0 or -errno. */
int memory_seal_writes(const struct memory *memory);

/* Unmaps and closes; does nothing for MEMORY_NONE. */
void memory_free(struct memory *memory);

#endif
