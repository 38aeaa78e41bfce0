/* SPDX-License-Identifier: MIT */
/*
 * vox/mapping.h - memory for payloads that no slot can hold.
 *
 * Between two of ours a mapping is counted and used again exactly as in the
 * native format, with the tables of the link block (mappings.h). A plain
 * vox-shm peer tells nobody what it released: to it each payload goes in
 * memory of its own. It seals nothing, so memory from it is never mapped: it
 * could be truncated under a reader (SIGBUS). What a frame speaks of is read
 * out of the file into private memory, which is the view until its release.
 *
 * The numbers that a plain peer is told begin where ours end, so that a host
 * that does not know yet who its guest is may begin with ours.
 */
#ifndef VOX_MAPPING_H
#define VOX_MAPPING_H

#include "mappings.h"
#include "vox/segment.h"

/* The sending thread's. */
struct vox_mappings {
	struct mappings ours;	/* count 0 in a plain segment */
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
	uint64_t size;
	uint64_t used;		/* bytes that frames have spoken of */
	int fd;
	bool read;		/* by the receiving thread now */
};

/* A payload that was read out of such memory. */
struct vox_plain_copy {
	struct vox_plain_copy *next;
	uint64_t number;
	size_t size;
	uint8_t bytes[];
};

/* The receiving thread's; what is plain under waiters.lock. */
struct vox_received {
	struct received_mappings ours;
	struct vox_plain_mapping *plain;
	uint32_t num_plain;
	uint32_t most_plain;		/* each takes a descriptor */
	bool evicted;			/* one that was not used up made room */
	struct vox_plain_copy *copies;	/* not released yet; the receiving thread's alone */
	uint64_t last_copy;
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
 * in any case. Return: 0; -EBADMSG (not what was said); -ENOBUFS (max_mappings
 * of them wait already for a frame that speaks of them), ...
 */
int vox_plain_received(struct vox_received *received, uint32_t map_id, uint32_t generation,
		       uint64_t size, int fd);

/*
 * Under waiters.lock: the file with the payload, which stays open until
 * vox_plain_end(). Return: its descriptor, -ENOENT (no such memory was given),
 * -EBADMSG (it is not so large).
 */
int vox_plain_begin(struct vox_received *received, const struct vox_mapping_ref *ref);
/* Under waiters.lock. `taken`: the payload will not be asked for again. */
void vox_plain_end(struct vox_received *received, const struct vox_mapping_ref *ref, bool taken);

/*
 * Between the two, without the lock: reads the payload. *copy is the
 * receiver's until vox_plain_release(). Return: 0, -EBADMSG (the file has
 * become shorter), -ENOMEM, ...
 */
int vox_plain_copy(struct vox_received *received, int fd, const struct vox_mapping_ref *ref,
		   struct vox_plain_copy **copy);
/* Return: 0, or -EINVAL when there is no copy of that number. */
int vox_plain_release(struct vox_received *received, uint64_t number);

#endif
