/* SPDX-License-Identifier: MIT */
/*
 * vox/segment.h - the inside of a segment object: one process's view of a vox
 * segment.
 *
 * The application owns it (a host, through its struct voxshm_host). The file
 * and the geometry do not change while it lives, but that the file grows; the
 * pool's view gains extents. What always holds: every offset in the geometry
 * lies in what is mapped.
 *
 * `lock` orders growth, remapping and recovery within the process; nothing on
 * the way of a message takes it.
 */
#ifndef VOX_SEGMENT_H
#define VOX_SEGMENT_H

#include <pthread.h>

#include "vox/file.h"
#include "vox/geometry.h"

/* struct peer_entry's features: the peer is ours, and keeps to the link block. */
#define VOX_FEATURE_LINK_BLOCK 0x1u

struct voxshm_segment {
	struct vox_file file;
	struct vox_geometry geometry;
	struct vox_pool pool;
	pthread_mutex_t lock;
	bool is_host;
};

static inline struct segment_header *vox_header(const struct voxshm_segment *segment)
{
	return (struct segment_header *)(void *)segment->file.base;
}

/*
 * Claims a reserved peer slot as it was when `word` was loaded from it: another
 * life of the slot is not taken. Return: 0 or -ESTALE.
 */
int vox_peer_claim_word(struct voxshm_segment *segment, uint32_t peer, uint64_t word);


/* peer: 1..max_guests, checked. */
static inline struct peer_entry *vox_peer(const struct voxshm_segment *segment, uint32_t peer)
{
	return (struct peer_entry *)(void *)(segment->file.base +
					     segment->geometry.peer_table) + (peer - 1);
}

static inline bool vox_peer_exists(const struct voxshm_segment *segment, uint32_t peer)
{
	return peer >= 1 && peer <= segment->geometry.max_guests;
}

/* The ring of a peer that `producer` writes. */
static inline struct vox_ring *vox_peer_ring(const struct voxshm_segment *segment, uint32_t peer,
					     enum vox_side producer)
{
	uint64_t offset = segment->geometry.rings[peer - 1];

	if (producer == VOX_HOST)
		offset += vox_ring_stride(segment->geometry.ring_capacity);
	return (struct vox_ring *)(void *)(segment->file.base + offset);
}

static inline bool vox_is_plain(const struct voxshm_segment *segment)
{
	return segment->geometry.link_blocks == 0;
}

/* NULL in a plain segment. */
static inline struct vox_link_block *vox_link_block(const struct voxshm_segment *segment,
						    uint32_t peer)
{
	const struct vox_geometry *geometry = &segment->geometry;

	if (vox_is_plain(segment))
		return NULL;
	return (struct vox_link_block *)(void *)(segment->file.base + geometry->link_blocks +
						 (peer - 1) * geometry->link_block_stride);
}

/* NULL in a plain segment. */
static inline struct vox_directory *vox_directory(const struct voxshm_segment *segment)
{
	if (vox_is_plain(segment))
		return NULL;
	return (struct vox_directory *)(void *)(segment->file.base +
						segment->geometry.directory);
}

/* How often each mapping was given back by `receiver`; NULL in a plain segment. */
static inline shared_u32 *vox_released(const struct voxshm_segment *segment, uint32_t peer,
				       enum vox_side receiver)
{
	struct vox_link_block *block = vox_link_block(segment, peer);
	uint64_t table = vox_released_table_size(segment->geometry.max_mappings);

	return block ? (shared_u32 *)(void *)(block->tables + receiver * table) : NULL;
}

/*
 * Host: takes a peer slot from its guest: from now on it says Goodbye, unless
 * it was empty. epoch, if not NULL, is filled with the slot's. Return: what it
 * said before; a guest may still be there if that was Attached or Goodbye.
 */
enum peer_state vox_say_goodbye(struct voxshm_segment *segment, uint32_t peer,
				uint32_t *epoch);

/*
 * Host: an Empty that it did not write itself, of a guest that is gone but not
 * yet recovered, becomes Goodbye.
 */
void vox_take_back(struct voxshm_segment *segment, uint32_t peer, uint32_t epoch);

/* Is a guest attached there that is not one of ours? */
bool vox_peer_is_plain(const struct voxshm_segment *segment, uint32_t peer);

/* Is there any such guest, or one that left and was not recovered, but for `except`? */
bool vox_has_plain_peer(const struct voxshm_segment *segment, uint32_t except);

/*
 * A new segment in memory that is mapped and zeroed; and a segment that is there in
 * memory that is mapped. The file is taken over in any case.
 * Return: as voxshm_segment_create(), voxshm_segment_attach().
 */
int vox_segment_create_in(struct voxshm_segment **result, struct vox_file *file,
			  const struct voxshm_segment_config *config, struct voxshm_error *error);
int vox_segment_attach_in(struct voxshm_segment **result, struct vox_file *file,
			  const struct vox_geometry *geometry, struct voxshm_error *error);

/* Has the host listed extents that this guest does not know yet? */
bool vox_has_grown(const struct voxshm_segment *segment);

/* Recovery --------------------------------------------------------------------- */

/*
 * What a dead guest had sent and the host had not read: entries as they lay
 * in the ring, in private memory; their slots are in the hands of `holder`.
 */
struct vox_unread {
	uint8_t *bytes;
	uint32_t size;
	uint32_t cursor;
	uint32_t holder;
};

/* Return: 1 and the next entry, 0 when there is none. */
int vox_unread_next(struct vox_unread *unread, struct vox_entry *entry);

/* Frees the bytes; the slots are still the holder's. */
void vox_unread_deinit(struct vox_unread *unread);

/* Host: frees what is in the holder's hands, outside of any link. */
void vox_free_all_held(struct voxshm_segment *segment, uint32_t holder);

/*
 * The whole recovery of a guest that has ended. consumer: the host's view of
 * the guest's ring, ahead of what is released, or NULL: all that is not
 * released counts as unread. unread: its holder is set; or NULL: that is
 * dropped. Return: as voxshm_segment_recover().
 */
int vox_recover(struct voxshm_segment *segment, uint32_t peer,
		const struct vox_ring_consumer *consumer, struct vox_unread *unread);

/* Searches for suspects that had to be left the last time. Return: slots found. */
int vox_search_lost(struct voxshm_segment *segment);

#endif
