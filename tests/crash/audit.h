/* SPDX-License-Identifier: MIT */
/* audit.h - is anything missing: descriptors, mappings, memory, slots? */
#ifndef AUDIT_H
#define AUDIT_H

#include "crash/allocations.h"
#include "crash/side.h"
#include "host.h"
#include "vox/vox.h"

/* What a process has ------------------------------------------------------------------------ */

struct holdings {
	int fds;
	int shared_maps;	/* the library's memory */
	uint64_t mapped;	/* bytes, but for the heap: neighbours may be shown as one */
	long blocks;
};

static inline struct holdings holdings_now(void)
{
	struct holdings now = { .fds = count_fds(), .blocks = live_blocks };
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long begin, end;
	char line[512];

	REQUIRE(maps);
	while (fgets(line, sizeof(line), maps)) {
		now.shared_maps += strstr(line, "voxshm") && !strstr(line, program_path());
		if (!strstr(line, "[heap]") && sscanf(line, "%lx-%lx", &begin, &end) == 2)
			now.mapped += end - begin;
	}
	fclose(maps);
	return now;
}

static inline bool holdings_same(const struct holdings *before)
{
	struct holdings now = holdings_now();

	return holds(now.fds == before->fds, "%d descriptors, there were %d", now.fds,
		     before->fds) &&
	       holds(now.shared_maps == before->shared_maps, "%d mappings, there were %d",
		     now.shared_maps, before->shared_maps) &&
	       holds(now.mapped == before->mapped, "%lld more bytes are mapped",
		     (long long)(now.mapped - before->mapped)) &&
	       holds(now.blocks == before->blocks, "%ld blocks of memory, there were %ld",
		     now.blocks, before->blocks);
}

/* The vox pool -------------------------------------------------------------------------------- */

static inline bool audit_list(const struct vox_class *class, uint32_t index)
{
	uint32_t slot = (uint32_t)shared_load_u64(&class->header->free_head);
	bool *seen = calloc(class->slot_count, sizeof(*seen));
	uint32_t count = 0;
	bool right = true;

	REQUIRE(seen);
	for (; right && slot != VOX_NO_SLOT; count++) {
		right = holds(slot < class->slot_count, "class %u: the list leads to slot %u",
			      index, slot) &&
			holds(!seen[slot], "class %u: slot %u is on the list twice", index, slot);
		if (!right)
			break;
		seen[slot] = true;
		slot = shared_load_u32(&class->slots[slot].next_free);
	}
	right = right && holds(count == class->slot_count, "class %u: %u of %u slots on the list",
			       index, count, class->slot_count);
	free(seen);
	return right;
}

static inline bool audit_slots(const struct vox_class *class, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < class->slot_count; i++) {
		uint64_t word = shared_load_u64(&class->slots[i].generation_state);
		uint32_t owner = shared_load_u32(&class->slots[i].owner);

		if (!holds(vox_slot_word_state(word) == VOX_SLOT_FREE,
			   "class %u: slot %u is not free: owner %u, in hand 0x%llx", index, i, owner,
			   (unsigned long long)class->holders[i]) ||
		    !holds(owner == 0, "class %u: slot %u is free and owned by %u", index, i,
			   owner) ||
		    !holds(!class->holders[i], "class %u: slot %u is held", index, i) ||
		    !holds(!class->suspects || !vox_bit_test(class->suspects, i),
			   "class %u: slot %u is suspected", index, i))
			return false;
	}
	return true;
}

static inline bool audit_intents(const struct voxshm_segment *segment)
{
	uint32_t peer, side, thread;

	for (thread = 0; thread < VOX_THREADS; thread++)
		if (!holds(!shared_load_u64(&vox_directory(segment)->host_intents[thread]),
			   "an intent of the host's stands"))
			return false;
	for (peer = 1; peer <= segment->geometry.max_guests; peer++)
		for (side = 0; side < VOX_SIDES; side++)
			for (thread = 0; thread < VOX_THREADS; thread++)
				if (!holds(!shared_load_u64(&vox_link_block(segment, peer)->
					   side[side].intents[thread]),
					   "an intent of peer %u stands", peer))
					return false;
	return true;
}

/* Nobody has a slot in hand now: is every one of them in its place? */
static inline bool audit_pool(const struct voxshm_segment *segment)
{
	const struct vox_pool *pool = &segment->pool;
	uint32_t extent, i;

	for (extent = 0; extent < vox_pool_num_extents(pool); extent++)
		for (i = 0; i < pool->num_classes; i++)
			if (!audit_slots(vox_pool_class(pool, extent, i), i) ||
			    !audit_list(vox_pool_class(pool, extent, i), i))
				return false;
	return audit_intents(segment);
}

/* The segment of a vox host, or NULL. */
static inline struct voxshm_segment *host_segment(const struct voxshm_host *host)
{
	if (host->format->id != VOXSHM_FORMAT_VOX)
		return NULL;
	return ((const struct vox_host *)host->segment)->segment;
}

/*
 * `parked`: some slots may have been named by a guest that lives, and are tried
 * again now, as a sender that finds none would do.
 */
static inline bool audit_host(const struct voxshm_host *host, bool parked)
{
	struct voxshm_segment *segment = host_segment(host);

	if (segment && parked)
		vox_search_lost(segment);
	return !segment || audit_pool(segment);
}

#endif
