/* SPDX-License-Identifier: MIT */
/*
 * vox/geometry.h - where things lie in a vox segment.
 *
 *	header | peer table | ring pairs | pool | link blocks | extent directory
 *
 * All up to the end of the pool is as vox-shm 0.3.1 computes it; the rest is
 * ours, slack to vox-shm, and missing from a segment that vox-shm made. A
 * growth appends an extent of the pool after it.
 *
 * struct vox_geometry is the private copy of what is immutable in the header.
 * It was computed from a checked configuration, or read once from a mapped
 * header and checked, field against field and against the file's size: whoever
 * has one may rely on it.
 */
#ifndef VOX_GEOMETRY_H
#define VOX_GEOMETRY_H

#include "error.h"
#include "vox/pool.h"
#include "vox/ring.h"
#include "voxshm_segment.h"

#define VOX_MAX_MAPPINGS 4096u
#define VOX_MAX_SIZE (1ull << 46)	/* of a segment: what address spaces hold */
#define VOX_DEFAULT_GUESTS 16u
#define VOX_DEFAULT_RING (256u << 10)
#define VOX_DEFAULT_PAYLOAD (1u << 30)
#define VOX_DEFAULT_MAPPINGS 16u

/* The two ends of a link; also the index of a ring by its producer. */
enum vox_side {
	VOX_GUEST = 0,
	VOX_HOST = 1,
	VOX_SIDES = 2,
};

/* One for each thread of a side: it sends (allocates) or receives (frees). */
enum vox_thread {
	VOX_SENDER = 0,
	VOX_RECEIVER = 1,
	VOX_THREADS = 2,
};

/* What one side writes and the other reads; a line of its own. */
struct vox_side_words {
	shared_u64 intents[VOX_THREADS];	/* see pool.h */
	uint8_t reserved[48];
};

LAYOUT_ASSERT_SIZE(struct vox_side_words, CACHE_LINE);
LAYOUT_ASSERT_OFFSET(struct vox_side_words, intents, 0);

/* Link block of a peer; then two tables of released[max_mappings], by receiver. */
struct vox_link_block {
	struct sleep_words sleep[VOX_SIDES];	/* by sleeper */
	struct vox_side_words side[VOX_SIDES];
	uint8_t tables[];
};

LAYOUT_ASSERT_OFFSET(struct vox_link_block, sleep, 0);
LAYOUT_ASSERT_OFFSET(struct vox_link_block, side, 128);
LAYOUT_ASSERT_OFFSET(struct vox_link_block, tables, 256);

/* A further extent of the pool. */
struct vox_extent {
	uint64_t offset;
	uint64_t size;
};

LAYOUT_ASSERT_SIZE(struct vox_extent, 16);

struct vox_directory {
	shared_u32 count;			/* stored after the entries */
	uint32_t capacity;			/* immutable */
	shared_u64 host_intents[VOX_THREADS];	/* outside of any link */
	uint8_t reserved[40];
	struct vox_extent extents[VOX_MAX_EXTENTS - 1];
};

LAYOUT_ASSERT_OFFSET(struct vox_directory, count, 0);
LAYOUT_ASSERT_OFFSET(struct vox_directory, capacity, 4);
LAYOUT_ASSERT_OFFSET(struct vox_directory, host_intents, 8);
LAYOUT_ASSERT_OFFSET(struct vox_directory, extents, 64);

struct vox_geometry {
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint32_t max_payload;
	uint32_t inline_threshold;	/* as in the header: 0 is the default */
	uint32_t max_mappings;		/* 0: plain */
	uint32_t num_classes;
	uint64_t heartbeat_interval;
	uint64_t peer_table;
	uint64_t pool;
	uint64_t pool_end;
	uint64_t link_blocks;		/* 0: plain, made by vox-shm */
	uint64_t link_block_stride;
	uint64_t directory;		/* 0: plain */
	uint64_t total_size;
	uint64_t max_size;
	uint64_t segment_id;
	uint64_t rings[VOXSHM_MAX_GUESTS];	/* ring pair of each peer */
	struct voxshm_class classes[VOX_MAX_CLASSES];
};

/*
 * Fills a geometry from a configuration. Return: 0, -EINVAL, -EOVERFLOW, with
 * a sentence that names the value.
 */
int vox_geometry_compute(struct vox_geometry *geometry,
			 const struct voxshm_segment_config *config, struct voxshm_error *error);

/* Writes everything but the magic into zeroed memory of total_size bytes. */
void vox_geometry_write(const struct vox_geometry *geometry, uint8_t *base);

/*
 * Reads what the header says of itself, and checks it against the file's
 * size; header is the file's first SEGMENT_HEADER_SIZE bytes, mapped.
 * Return: 0 or -EBADMSG with a sentence.
 */
int vox_geometry_read_header(struct vox_geometry *geometry, const struct segment_header *header,
			     uint64_t file_size, struct voxshm_error *error);

/*
 * Reads and checks the rest, of which total_size bytes are mapped at base.
 * Return: 0, -EBADMSG with a sentence, -ENOMEM.
 */
int vox_geometry_read_tables(struct vox_geometry *geometry, const uint8_t *base,
			     struct voxshm_error *error);

/*
 * Reads and checks the class table of a further extent: the same slot sizes
 * in [offset, offset + size). Return: 0 or -EBADMSG.
 */
int vox_geometry_read_extent(const struct vox_geometry *geometry, const uint8_t *base,
			     const struct vox_extent *extent, struct voxshm_class *classes);

/* The most slots of each class, in proportion, that fit into size bytes; may be none. */
void vox_geometry_fit_extent(const struct vox_geometry *geometry, uint64_t size,
			     struct voxshm_class *classes);

static inline uint32_t vox_geometry_inline_threshold(const struct vox_geometry *geometry)
{
	return geometry->inline_threshold ? geometry->inline_threshold :
					    SEGMENT_DEFAULT_INLINE_THRESHOLD;
}

static inline uint64_t vox_released_table_size(uint32_t max_mappings)
{
	return align_up(max_mappings * sizeof(shared_u32), CACHE_LINE);
}

static inline uint64_t vox_link_block_size(uint32_t max_mappings)
{
	return sizeof(struct vox_link_block) + VOX_SIDES * vox_released_table_size(max_mappings);
}

#endif
