/* SPDX-License-Identifier: MIT */
/*
 * native/window.h - where things lie in a window and in the main object.
 *
 * The main object: segment header, peer table, class headers. The host writes
 * it; guests map it read-only.
 * A window, one for each life of a link:
 *
 *	ring guest->host | ring host->guest | link block | guest's half pool |
 *	host's half pool
 *
 * Host and guest compute the same geometry from the same immutable values; it
 * is private memory and trusted, as the values were checked.
 */
#ifndef NATIVE_WINDOW_H
#define NATIVE_WINDOW_H

#include "layout.h"
#include "native/ring.h"

enum native_side {
	NATIVE_GUEST = 0,
	NATIVE_HOST = 1,
	NATIVE_SIDES = 2,
};

/* What a segment is, from its host's configuration or its header. */
struct native_parameters {
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint32_t max_payload;
	uint32_t inline_threshold;
	uint32_t max_mappings;
	uint32_t num_classes;
	struct voxshm_class classes[VOXSHM_MAX_CLASSES];
	uint64_t heartbeat_interval;
};

struct native_geometry {
	struct native_parameters parameters;
	uint32_t inline_limit;		/* largest payload that travels in the ring */
	uint32_t max_entry;		/* largest entry that either side writes */
	uint64_t ring[NATIVE_SIDES];	/* by sender */
	uint64_t sleep[NATIVE_SIDES];	/* by sleeper */
	/* By the sender of the slot or mapping; the receiver writes them. */
	uint64_t returns[NATIVE_SIDES][VOXSHM_MAX_CLASSES];
	uint64_t released[NATIVE_SIDES];
	uint64_t slots[NATIVE_SIDES][VOXSHM_MAX_CLASSES];
	uint64_t link_block;
	uint64_t pool;
	uint64_t window_size;
	uint64_t main_size;
};

/*
 * Checks the parameters and computes the geometry.
 * Return: 0, or -EINVAL with a sentence that names the value.
 */
int native_geometry(struct native_geometry *geometry, const struct native_parameters *parameters,
		    struct voxshm_error *error);

/* Writes a new main object; its magic comes last. */
void native_main_write(void *base, const struct native_geometry *geometry);

/*
 * Reads the geometry from a mapped main object that somebody else made.
 * Return: 0, or -EBADMSG with a sentence that says what and where.
 */
int native_main_read(const void *base, size_t size, struct native_geometry *geometry,
		     struct voxshm_error *error);

static inline struct segment_header *native_header(void *main_base)
{
	return main_base;
}

static inline struct peer_entry *native_peer(void *main_base, uint32_t peer_id)
{
	return (struct peer_entry *)((uint8_t *)main_base + SEGMENT_HEADER_SIZE) + (peer_id - 1);
}

#endif
