/* SPDX-License-Identifier: MIT */
/* frames.h - entries that no honest guest writes, for attacks.h; by format. */
#ifndef FRAMES_H
#define FRAMES_H

#include "attacks.h"

#define CAPACITY (16 * KIB)	/* of a ring, in WORLD_CONFIG */

/* Native ------------------------------------------------------------------------------ */

static const uint64_t native_headers[] = {
	0xffffffc0ull,				/* lengths that no ring has */
	CAPACITY + 64,
	CAPACITY,
	7,
	72 | 64ull << 48,			/* not a whole line */
	64 | 65535ull << 48,			/* a payload longer than its entry */
	128 | 8ull << 48,			/* or much shorter */
	64 | 57ull << 48,
	64 | 3ull << 32,			/* slot and mapping at once */
	64 | 0x10ull << 32,			/* flags that do not exist */
	64 | 1ull << 40 | 8ull << 48,		/* reserved bits */
	64 | 0x81ull << 32,			/* a wrap that is a slot */
	128 | 0x80ull << 32,			/* a wrap of two lines */
	64 | 0x80ull << 32 | 1ull << 48,	/* a wrap with a payload */
	64 | 0x80ull << 32,			/* a wrap to itself: the first entry of all */
	UINT64_MAX,
};
#define NATIVE_HEADERS ((int)ARRAY_SIZE(native_headers))

static const struct slot_ref native_slots[] = {
	{ .class_index = 3, .generation = 1, .length = 1 },
	{ .class_index = 255, .generation = 1, .length = 1 },
	{ .extent = 1, .generation = 1, .length = 1 },
	{ .slot = 32, .generation = 1, .length = 1 },
	{ .slot = UINT32_MAX, .generation = 1, .length = 1 },
	{ .generation = 1, .length = 1025 },
	{ .generation = 1, .length = UINT32_MAX },
	{ .class_index = 2, .slot = 1, .generation = 1, .length = 65537 },
};
#define NATIVE_SLOTS ((int)ARRAY_SIZE(native_slots))

static inline void native_attack_frames(struct voxshm_link *link, int kind)
{
	if (kind < NATIVE_HEADERS)
		native_frame_raw(link, native_headers[kind], 0, 0, 0);
	else
		native_slot_raw(link, &native_slots[kind - NATIVE_HEADERS]);
}

/* Vox --------------------------------------------------------------------------------- */

/* total, flags | length << 16, and what follows; the entry in the ring has 8 words. */
static const uint32_t vox_frames[][5] = {
	{ 0 },					/* lengths that no entry has */
	{ 4 },
	{ 9 },
	{ 33 },
	{ 36, 0 },				/* more than is there */
	{ UINT32_MAX - 3 },
	{ CAPACITY },
	{ 32, 25u << 16 },			/* a payload longer than its entry */
	{ 32, 65535u << 16 },
	{ 32, 3 },				/* slot and mapping at once */
	{ 32, 0x80 },				/* flags that do not exist */
	{ 32, 0xff },
	{ 32, FRAME_SLOT_REF },			/* lengths of another kind of entry */
	{ 20, FRAME_MAPPING_REF },
	{ 20, FRAME_SLOT_REF, 3, 0, 1 },	/* a class, an extent, slots that are not there */
	{ 20, FRAME_SLOT_REF, 255, 0, 1 },
	{ 20, FRAME_SLOT_REF, 1 << 8, 0, 1 },
	{ 20, FRAME_SLOT_REF, 63 << 8, 0, 1 },
	{ 20, FRAME_SLOT_REF, 255 << 8, 0, 1 },
	{ 20, FRAME_SLOT_REF, 0, 32, 1 },
	{ 20, FRAME_SLOT_REF, 0, UINT32_MAX, 1 },
	{ 20, FRAME_SLOT_REF, 0, 0, 0 },	/* a generation that it never had */
	{ 20, FRAME_SLOT_REF, 0, 0, UINT32_MAX },
};
#define VOX_FRAMES ((int)ARRAY_SIZE(vox_frames))

/* Indices that no producer stores: {write, watermark}. */
static const uint64_t vox_indices[] = {
	UINT32_MAX, CAPACITY + 4, 6, 1ull << 32 | 8, 8ull << 32 | UINT32_MAX,
	(uint64_t)UINT32_MAX << 32 | 4, (CAPACITY + 8ull) << 32 | 4, 6ull << 32 | 4,
};
#define VOX_INDICES ((int)ARRAY_SIZE(vox_indices))

/* Slots that are there, and are not the attacker's to send. */
enum vox_theft {
	THEFT_OF_THE_HOST, THEFT_OF_A_GUEST, THEFT_OF_NOBODY, THEFT_TWICE, THEFT_TOO_LONG,
	VOX_THEFTS,
};

static inline void vox_attack_thefts(struct voxshm_link *link, enum vox_theft kind)
{
	struct vox_link *vox = vox_link(link);
	struct vox_pool *pool = &vox->segment->pool;
	uint32_t length = 1025, slot_size;
	struct vox_slot_ref ref;

	REQUIRE_EQ(0, vox_pool_alloc(pool, 1000, link->peer_id, 1, vox->sender_intent, &ref));
	if (kind == THEFT_OF_THE_HOST)
		vox_pool_set_owner(pool, &ref, VOXSHM_PEER_HOST);
	if (kind == THEFT_OF_A_GUEST)
		vox_pool_set_owner(pool, &ref, link->peer_id == 1 ? 2 : 1);
	if (kind == THEFT_TOO_LONG)
		memcpy(vox_pool_data(pool, &ref, &slot_size), &length, sizeof(length));
	if (kind == THEFT_OF_NOBODY)
		REQUIRE_EQ(0, vox_pool_free(pool, &ref, vox->sender_intent));
	vox_slot_raw(link, &ref);
	/* The host may have released the first by then; so as many as a batch has. */
	for (int i = 0; kind == THEFT_TWICE && i < 2 * BATCH; i++)
		vox_slot_raw(link, &ref);
}

static inline void vox_attack_frames(struct voxshm_link *link, int kind)
{
	uint32_t words[8] = { 0 };

	if (kind < VOX_FRAMES) {
		memcpy(words, vox_frames[kind], sizeof(vox_frames[kind]));
		vox_frame_raw(link, words, words[0] == 20 ? 5 : 8);
	} else if (kind < VOX_FRAMES + VOX_INDICES) {
		shared_store_u64(&vox_link(link)->producer.ring->write_watermark,
				 vox_indices[kind - VOX_FRAMES]);
		ring(link);
	} else {
		vox_attack_thefts(link, (enum vox_theft)(kind - VOX_FRAMES - VOX_INDICES));
	}
}

/* What all guests share, and only guests that trust each other should. */
enum vox_corruption {
	CORRUPT_HEADS, CORRUPT_CYCLES, CORRUPT_STATES, CORRUPT_OWNERS, CORRUPT_EMPTY,
	CORRUPT_INTENTS, CORRUPT_OWN_PEER, CORRUPT_CLASSES, CORRUPT_HEADER, CORRUPT_EXTENTS,
	VOX_CORRUPTIONS,
};

static inline void vox_corrupt_class(struct vox_class *class, enum vox_corruption kind,
				     uint64_t *random)
{
	for (uint32_t i = 0; i < class->slot_count; i++) {
		struct vox_slot *slot = &class->slots[i];

		if (kind == CORRUPT_CYCLES)
			shared_store_u32(&slot->next_free, i & ~1u);
		if (kind == CORRUPT_STATES)
			shared_store_u64(&slot->generation_state, random_next(random));
		if (kind == CORRUPT_OWNERS)
			shared_store_u32(&slot->owner, (uint32_t)random_next(random) % 6);
	}
	if (kind == CORRUPT_HEADS)
		shared_store_u64(&class->header->free_head, random_next(random));
	if (kind == CORRUPT_EMPTY)
		shared_store_u64(&class->header->free_head, UINT64_MAX);
	if (kind == CORRUPT_CLASSES) {
		class->header->slot_size = UINT32_MAX;
		class->header->slot_count = UINT32_MAX;
	}
}

static inline void vox_corrupt(struct voxshm_segment *segment, uint32_t peer,
			       enum vox_corruption kind, uint64_t *random)
{
	struct vox_link_block *block = vox_link_block(segment, peer);
	struct vox_directory *directory = vox_directory(segment);
	struct segment_header *header = vox_header(segment);

	for (uint32_t i = 0; i < segment->pool.num_classes; i++)
		vox_corrupt_class(vox_pool_class(&segment->pool, 0, i), kind, random);
	if (kind == CORRUPT_INTENTS)
		for (int i = 0; i < VOX_SIDES * VOX_THREADS; i++)
			shared_store_u64(&block->side[i / 2].intents[i % 2], random_next(random));
	if (kind == CORRUPT_OWN_PEER) {
		shared_store_u64(&vox_peer(segment, peer)->state_epoch, random_next(random));
		vox_peer(segment, peer)->ring_offset = random_next(random);
	}
	if (kind == CORRUPT_HEADER) {
		header->total_size = random_next(random);
		header->max_guests = header->ring_capacity = header->num_classes = UINT32_MAX;
		header->peer_table_offset = header->var_pool_offset = random_next(random);
		shared_store_u64(&header->current_size, random_next(random));
		memset(&header->extension, 0xff, sizeof(header->extension));
	}
	if (kind == CORRUPT_EXTENTS) {
		memset(directory->extents, 0xee, sizeof(directory->extents));
		directory->capacity = UINT32_MAX;
		shared_store_u32(&directory->count, (uint32_t)random_next(random));
	}
}

/* Again and again, while the host works with it, and uses it, too. */
static inline void attack_shared(struct voxshm_link *link, struct board *board, int kind)
{
	uint64_t random = (uint64_t)kind;

	for (;;) {
		vox_corrupt(vox_link(link)->segment, link->peer_id, (enum vox_corruption)kind,
			    &random);
		voxshm_try_send(link, "0123456789", 10);
		ring(link);
		attack_note(board);
	}
}

/* Either -------------------------------------------------------------------------------- */

static inline void attack_frames(struct voxshm_link *link, struct board *board, int kind)
{
	if (is_vox(link))
		vox_attack_frames(link, kind);
	else
		native_attack_frames(link, kind);
	attack_note(board);
}

static inline int count_frames(enum voxshm_format format)
{
	return format == VOXSHM_FORMAT_VOX ? VOX_FRAMES + VOX_INDICES + VOX_THEFTS :
					     NATIVE_HEADERS + NATIVE_SLOTS;
}

#endif
