/* SPDX-License-Identifier: MIT */
/* mappings.c - see mappings.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mappings.h"

int mappings_init(struct mappings *mappings, uint32_t count, shared_u32 *released)
{
	uint32_t i;

	mappings->count = count;
	mappings->released = released;
	mappings->table = calloc(mappings->count, sizeof(*mappings->table));
	if (!mappings->table)
		return -ENOMEM;
	for (i = 0; i < mappings->count; i++)
		mappings->table[i].memory = MEMORY_NONE;
	return 0;
}

void mappings_deinit(struct mappings *mappings)
{
	uint32_t i;

	if (!mappings->table)
		return;
	for (i = 0; i < mappings->count; i++)
		memory_free(&mappings->table[i].memory);
	free(mappings->table);
	mappings->table = NULL;
}

static bool is_idle(const struct mappings *mappings, uint32_t map_id)
{
	const struct mapping *mapping = &mappings->table[map_id];

	return !mapping->loaned &&
	       shared_load_fenced_u32(&mappings->released[map_id]) == mapping->sent; /* E, C */
}

bool mapping_available(const struct mappings *mappings)
{
	uint32_t i;

	if (mappings->used < mappings->count)
		return true;
	for (i = 0; i < mappings->used; i++)
		if (is_idle(mappings, i))
			return true;
	return false;
}

/*
 * The idle mapping that costs least: one that fits, the smallest; else a place
 * that was never used; else the smallest that is too small.
 */
static int choose(const struct mappings *mappings, size_t size)
{
	const struct mapping *table = mappings->table;
	int fits = -1, small = -1;
	uint32_t i;

	for (i = 0; i < mappings->used; i++) {
		if (!is_idle(mappings, i))
			continue;
		if (table[i].memory.size >= size) {
			if (fits < 0 || table[i].memory.size < table[fits].memory.size)
				fits = (int)i;
		} else if (small < 0 || table[i].memory.size < table[small].memory.size) {
			small = (int)i;
		}
	}
	if (fits >= 0)
		return fits;
	return mappings->used < mappings->count ? (int)mappings->used : small;
}

static int make_and_offer(const struct mapping *mapping, uint32_t map_id, struct end *end,
			  size_t size, struct memory *memory)
{
	int ret;

	ret = memory_new(memory, "voxshm-payload", size);
	if (ret)
		return ret;
	ret = end->ops->offer(end, map_id, mapping->generation + 1, memory);
	if (ret) {
		memory_free(memory);
		return ret;
	}
	/* The peer has its own: only the pages are needed from here on. */
	close(memory->fd);
	memory->fd = -1;
	return 0;
}

/* The older object makes room first: for its number, and in what we may have. */
static int make_at_end(struct mapping *mapping, uint32_t map_id, struct end *end,
		       size_t size, struct memory *memory)
{
	if (mapping->memory.base) {
		memory_free(&mapping->memory);
		end->ops->object_drop(end, map_id);
	}
	return end->ops->object_new(end, map_id, size, memory);
}

static int renew(struct mapping *mapping, uint32_t map_id, struct end *end, size_t size)
{
	struct memory memory;
	int ret;

	size = align_up(size, MAPPING_GRAIN);
	if (end->ops->object_new)
		ret = make_at_end(mapping, map_id, end, size, &memory);
	else
		ret = make_and_offer(mapping, map_id, end, size, &memory);
	if (ret)
		return ret;
	memory_free(&mapping->memory);
	mapping->memory = memory;
	mapping->generation++;
	return 0;
}

int mapping_alloc(struct mappings *mappings, struct end *end, size_t size,
		  uint64_t *made)
{
	int map_id = choose(mappings, size);
	struct mapping *mapping;
	int ret;

	if (map_id < 0)
		return -EAGAIN;
	mapping = &mappings->table[map_id];
	if (mapping->memory.size < size) {
		ret = renew(mapping, (uint32_t)map_id, end, size);
		if (ret)
			return ret;
		++*made;
		mappings->used += (uint32_t)map_id == mappings->used;
	}
	mapping->loaned = true;
	return map_id;
}

bool mapping_loaned(const struct mappings *mappings, uint32_t map_id,
		    uint32_t generation)
{
	return map_id < mappings->count && mappings->table[map_id].loaned &&
	       mappings->table[map_id].generation == generation;
}

int received_init(struct received_mappings *received, uint32_t count, uint32_t max_size,
		  shared_u32 *released)
{
	uint32_t i;

	received->count = count;
	received->max_size = max_size;
	received->released = released;
	received->table = calloc(received->count, sizeof(*received->table));
	received->offers = calloc(received->count, sizeof(*received->offers));
	if (!received->table || !received->offers) {
		free(received->table);
		free(received->offers);
		received->table = NULL;
		return -ENOMEM;
	}
	for (i = 0; i < received->count; i++) {
		received->table[i].memory = MEMORY_NONE;
		received->offers[i].memory = MEMORY_NONE;
	}
	return 0;
}

void received_deinit(struct received_mappings *received)
{
	uint32_t i;

	if (!received->table)
		return;
	for (i = 0; i < received->count; i++) {
		memory_free(&received->table[i].memory);
		memory_free(&received->offers[i].memory);
	}
	free(received->table);
	free(received->offers);
	received->table = NULL;
}

int received_offer(struct received_mappings *received, uint32_t map_id,
		   uint32_t generation, uint64_t size, int fd)
{
	struct memory memory;
	int ret = -EBADMSG;

	if (map_id < received->count && size <= align_up(received->max_size, MAPPING_GRAIN))
		ret = memory_map_unread(&memory, fd, size);
	close(fd);
	if (ret)
		return ret;
	memory_free(&received->offers[map_id].memory);
	received->offers[map_id] = (struct received_offer){ generation, memory };
	return 0;
}

struct received_offer received_take(struct received_mappings *received, uint32_t map_id,
			   uint32_t generation)
{
	struct received_offer offer = { .memory = MEMORY_NONE };

	if (!received->offers[map_id].memory.base ||
	    received->offers[map_id].generation != generation)
		return offer;
	offer = received->offers[map_id];
	received->offers[map_id].memory = MEMORY_NONE;
	return offer;
}

bool received_has(const struct received_mappings *received, uint32_t map_id,
		  uint32_t generation)
{
	return received->table[map_id].memory.base &&
	       received->table[map_id].generation == generation;
}

int received_map(struct received_mappings *received, uint32_t map_id,
		 struct received_offer *offer)
{
	struct received_mapping *mapping = &received->table[map_id];

	if (mapping->borrowed) {
		memory_free(&offer->memory);
		return -EBADMSG;
	}
	memory_free(&mapping->memory);
	mapping->memory = offer->memory;
	mapping->unread = true;
	mapping->generation = offer->generation;
	return 0;
}

/* What the sender makes is whole grains, so that a few sizes need one mapping. */
int received_find(struct received_mappings *received, struct end *end,
		  const struct mapping_ref *ref)
{
	struct received_mapping *mapping = &received->table[ref->map_id];
	uint64_t limit = align_up(received->max_size, MAPPING_GRAIN), size;
	struct memory memory;
	int ret;

	if (ref->offset > limit || ref->length > limit - ref->offset)
		return -EBADMSG;
	size = align_up(ref->offset + ref->length, MAPPING_GRAIN);
	if (size == 0)
		size = MAPPING_GRAIN;
	if (received_has(received, ref->map_id, ref->map_generation) &&
	    mapping->memory.size >= size)
		return 0;
	if (mapping->borrowed)
		return -EBADMSG;
	ret = end->ops->object_map(end, ref->map_id, size, &memory);
	if (ret)
		return ret;
	memory_free(&mapping->memory);
	mapping->memory = memory;
	mapping->generation = ref->map_generation;
	return 0;
}

const uint8_t *received_borrow(struct received_mappings *received,
			       const struct mapping_ref *ref, uint32_t *number)
{
	struct received_mapping *mapping = &received->table[ref->map_id];

	if (mapping->borrowed || ref->offset > mapping->memory.size ||
	    ref->length > mapping->memory.size - ref->offset)
		return NULL;
	/* No more than the message has: the peer may have left it to us to find pages. */
	if (mapping->unread)
		memory_populate(&mapping->memory, ref->offset, ref->length);
	mapping->unread = false;
	mapping->borrowed = true;
	*number = mapping->released;
	return mapping->memory.base + ref->offset;
}

int mapping_release(struct received_mappings *received, uint32_t map_id,
		    uint32_t number)
{
	struct received_mapping *mapping;

	if (map_id >= received->count)
		return -EINVAL;
	mapping = &received->table[map_id];
	if (!mapping->borrowed || mapping->released != number)
		return -EINVAL;
	mapping->borrowed = false;
	mapping->released++;
	shared_store_fenced_u32(&received->released[map_id], mapping->released); /* E, C */
	return 0;
}
