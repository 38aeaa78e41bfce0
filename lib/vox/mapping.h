/* SPDX-License-Identifier: MIT */
/*
 * vox/mapping.h - memory for payloads that no slot can hold.
 *
 * Between two of ours a mapping is counted and used again exactly as in the
 * native format, with the tables of the link block (native/mapping.h). A plain
 * vox-shm peer tells nobody what it released: to it each payload goes in
 * memory of its own, and memory from it is kept until the link ends.
 *
 * The numbers that a plain peer is told begin where ours end, so that a host
 * that does not know yet who its guest is may begin with ours.
 */
#ifndef VOX_MAPPING_H
#define VOX_MAPPING_H

#include "native/mapping.h"
#include "vox/segment.h"

/* More than a plain peer can fill with 1 MiB each in 4 TiB. */
#define VOX_MAX_PLAIN_MAPPINGS (1u << 22)

/* The sending thread's. */
struct vox_mappings {
	struct native_mappings ours;	/* count 0 in a plain segment */
	uint32_t next_id;		/* for a plain peer */
	struct vox_plain_loan *loans;	/* open ones */
};

struct vox_plain_loan {
	struct vox_plain_loan *next;
	struct memory memory;
	uint32_t map_id;
};

struct vox_plain_mapping {
	uint32_t map_id;
	uint32_t generation;
	struct memory memory;
};

/* The receiving thread's; what is plain under waiters.lock. */
struct vox_received {
	struct native_received_table ours;
	struct vox_plain_mapping *plain;
	uint32_t num_plain;
	uint32_t room;
};

/* Return: 0 or -ENOMEM. */
int vox_mappings_init(struct vox_mappings *mappings, const struct voxshm_segment *segment,
		      uint32_t peer, enum vox_side sender);
void vox_mappings_deinit(struct vox_mappings *mappings);

/* Memory for one payload to a plain peer, not offered yet. Return: 0 or -errno. */
int vox_plain_alloc(struct vox_mappings *mappings, size_t size, struct vox_plain_loan **loan);
/* The open loan of that number, or NULL. */
struct vox_plain_loan *vox_plain_find(struct vox_mappings *mappings, uint32_t map_id);
/* After it was sent, or not after all: from here on only the peer has it. */
void vox_plain_free(struct vox_mappings *mappings, struct vox_plain_loan *loan);

int vox_received_init(struct vox_received *received, const struct voxshm_segment *segment,
		      uint32_t peer, enum vox_side sender);
void vox_received_deinit(struct vox_received *received);

/*
 * Under waiters.lock: memory from a plain peer; the descriptor is taken over
 * in any case. Return: 0, -EBADMSG (not what was said), -ENOMEM, ...
 */
int vox_plain_received(struct vox_received *received, uint32_t map_id, uint32_t generation,
		       uint64_t size, int fd);
/* Under waiters.lock: the payload, or NULL when no such bytes were given. */
const uint8_t *vox_plain_resolve(const struct vox_received *received,
				 const struct vox_mapping_ref *ref);

#endif
