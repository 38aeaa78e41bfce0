/* SPDX-License-Identifier: MIT */
/*
 * mappings.h - memory for payloads that no slot can hold.
 *
 * The sender owns a table of mappings, each a memory object that the peer can
 * map under its index in the table: on the file backend the peer got it once,
 * through end_ops.offer(); on the device it finds it by that number. A
 * generation tells an object from the next one under the same index. The sender
 * counts what it sent from each, privately and before the commit; the receiver
 * alone counts what it released, in its table in the link block. When the two
 * are equal the mapping is idle: it is used again as it is or, if it is too
 * small, replaced under the next generation. So a stream of large payloads needs
 * no system call once it runs.
 *
 * Barrier pairs:
 *   E  release/reuse a mapping: mapping_release() stores the count after
 *      the payload was read; is_idle() loads it before the payload is written.
 *   C  sleep/wake: E again, against the sleep word for space; see link.h.
 */
#ifndef MAPPINGS_H
#define MAPPINGS_H

#include "end.h"
#include "frame.h"
#include "memory.h"
#include "shared.h"

struct mapping {
	struct memory memory;	/* MEMORY_NONE: this place was never used */
	uint32_t generation;
	uint32_t sent;		/* deliveries since the link was made */
	bool loaned;
};

struct mappings {
	uint32_t count;
	uint32_t used;		/* places from here on were never used */
	shared_u32 *released;
	struct mapping *table;
};

#define MAPPING_NOT_AS_SAID "it offered a mapping that is not what it said"

/* Payload mappings are made in multiples of this. */
#define MAPPING_GRAIN (1u << 20)

/*
 * The most bytes that the mappings of a side take: twice each, as a renewed one
 * stays mapped by the peer until it meets its successor.
 */
static inline uint64_t mappings_bytes(uint32_t max_mappings, uint32_t max_payload)
{
	return 2ull * max_mappings * align_up(max_payload, MAPPING_GRAIN);
}

/* `released`: the peer's counts, one for each of `count` mappings. Return: 0 or -ENOMEM. */
int mappings_init(struct mappings *mappings, uint32_t count, shared_u32 *released);
void mappings_deinit(struct mappings *mappings);

/*
 * Takes an idle mapping of at least size bytes, made or renewed if need be
 * (*made counts those).
 * Return: its index; -EAGAIN (all are in use), -ENOMEM, -EMFILE, -EPIPE.
 */
int mapping_alloc(struct mappings *mappings, struct end *end, size_t size,
		  uint64_t *made);

/* Would mapping_alloc() find one? */
bool mapping_available(const struct mappings *mappings);

bool mapping_loaned(const struct mappings *mappings, uint32_t map_id,
		    uint32_t generation);

/* The mapping's payload is about to be committed, or is not after all. */
static inline void mapping_sent(struct mappings *mappings, uint32_t map_id)
{
	mappings->table[map_id].sent++;
	mappings->table[map_id].loaned = false;
}

static inline void mapping_unalloc(struct mappings *mappings, uint32_t map_id)
{
	mappings->table[map_id].loaned = false;
}

/*
 * The receiver's side. An offer may be taken from the socket by either thread
 * of the link, so it waits in a place of its own, under the link's lock, until
 * the receiving thread meets a frame that speaks of it. It waits mapped, and not
 * yet read: descriptors are few, and those of a peer that offers and sends no
 * frame would be missing elsewhere.
 */
struct received_offer {
	uint32_t generation;
	struct memory memory;	/* MEMORY_NONE: none */
};

struct received_mapping {
	struct memory memory;
	uint32_t generation;
	bool borrowed;		/* by one view: it is sent again only when idle */
	bool unread;		/* its pages were not asked for yet */
	uint32_t released;	/* private copy of the shared count */
};

struct received_mappings {
	uint32_t count;
	uint32_t max_size;	/* of what a payload may be */
	shared_u32 *released;
	struct received_mapping *table;
	struct received_offer *offers;
};

/* `released`: our counts. Return: 0 or -ENOMEM. */
int received_init(struct received_mappings *received, uint32_t count, uint32_t max_size,
		  shared_u32 *released);
void received_deinit(struct received_mappings *received);

/*
 * Under the link's lock: the peer offers memory; the descriptor is taken over
 * in any case. Return: 0; -EBADMSG (not what was said, or it could shrink); what
 * may pass: -ENOMEM, ...
 */
int received_offer(struct received_mappings *received, uint32_t map_id,
		   uint32_t generation, uint64_t size, int fd);

/*
 * Under the link's lock: takes the offer out, if there is one of that
 * generation; its memory is MEMORY_NONE otherwise.
 */
struct received_offer received_take(struct received_mappings *received, uint32_t map_id,
			   uint32_t generation);

/* Is the mapping there in that generation? */
bool received_has(const struct received_mappings *received, uint32_t map_id,
		  uint32_t generation);

/*
 * Device: maps the peer's object as far as the frame needs it, unless it is so
 * mapped already.
 * Return: as received_map().
 */
int received_find(struct received_mappings *received, struct end *end,
		  const struct mapping_ref *ref);

/*
 * What was offered takes the place of what was there before; it is taken over in
 * any case. Return: 0, or -EBADMSG (that is borrowed still).
 */
int received_map(struct received_mappings *received, uint32_t map_id,
		 struct received_offer *offer);

/*
 * Borrows a mapping that is there. *number is for the release.
 * Return: the payload, or NULL when it lies outside or is borrowed already.
 */
const uint8_t *received_borrow(struct received_mappings *received,
			       const struct mapping_ref *ref, uint32_t *number);

/* Return: 0, or -EINVAL when it is not borrowed under that number. */
int mapping_release(struct received_mappings *received, uint32_t map_id,
		    uint32_t number);

#endif
