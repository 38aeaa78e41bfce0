/* SPDX-License-Identifier: MIT */
/* vox/mapping.c - see mapping.h. */
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vox/mapping.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* Sending ------------------------------------------------------------------------------ */

int vox_mappings_init(struct vox_mappings *mappings, const struct voxshm_segment *segment,
		      uint32_t peer, enum vox_side sender)
{
	enum vox_side receiver = sender == VOX_HOST ? VOX_GUEST : VOX_HOST;

	*mappings = (struct vox_mappings){ .next_id = segment->geometry.max_mappings };
	if (vox_is_plain(segment))
		return 0;
	return mappings_init(&mappings->ours, segment->geometry.max_mappings,
			     vox_released(segment, peer, receiver));
}

void vox_mappings_deinit(struct vox_mappings *mappings)
{
	while (mappings->loans)
		vox_plain_free(mappings, mappings->loans);
	mappings_deinit(&mappings->ours);
}

int vox_plain_alloc(struct vox_mappings *mappings, size_t size, struct vox_plain_loan **out)
{
	struct vox_plain_loan *loan = malloc(sizeof(*loan));
	int ret;

	if (!loan)
		return -ENOMEM;
	ret = memory_new(&loan->memory, "voxshm-payload", size);
	if (ret) {
		free(loan);
		return ret;
	}
	loan->map_id = mappings->next_id++;
	loan->next = mappings->loans;
	mappings->loans = loan;
	*out = loan;
	return 0;
}

struct vox_plain_loan *vox_plain_find(struct vox_mappings *mappings, uint32_t map_id)
{
	struct vox_plain_loan *loan = mappings->loans;

	while (loan && loan->map_id != map_id)
		loan = loan->next;
	return loan;
}

void vox_plain_free(struct vox_mappings *mappings, struct vox_plain_loan *loan)
{
	struct vox_plain_loan **place = &mappings->loans;

	while (*place != loan)
		place = &(*place)->next;
	*place = loan->next;
	memory_free(&loan->memory);
	free(loan);
}

/* Receiving ----------------------------------------------------------------------------- */

int vox_received_init(struct vox_received *received, const struct voxshm_segment *segment,
		      uint32_t peer, enum vox_side sender)
{
	enum vox_side receiver = sender == VOX_HOST ? VOX_GUEST : VOX_HOST;
	int ret;

	*received = (struct vox_received){
		.most_plain = vox_is_plain(segment) ? VOX_DEFAULT_MAPPINGS :
						      segment->geometry.max_mappings,
	};
	received->plain = calloc(received->most_plain, sizeof(*received->plain));
	if (!received->plain)
		return -ENOMEM;
	if (vox_is_plain(segment))
		return 0;
	ret = received_init(&received->ours, segment->geometry.max_mappings,
			    segment->geometry.max_payload,
			    vox_released(segment, peer, receiver));
	if (ret)
		vox_received_deinit(received);
	return ret;
}

void vox_received_deinit(struct vox_received *received)
{
	uint32_t i;

	for (i = 0; i < received->num_plain; i++)
		close(received->plain[i].fd);
	free(received->plain);
	received->plain = NULL;
	received->num_plain = 0;
	while (received->copies)
		vox_plain_release(received, received->copies->number);
	received_deinit(&received->ours);
}

/*
 * vox-shm's memory is an unlinked file of any file system but one on which its
 * sender could keep a reader waiting for ever.
 */
static int check_file(int fd, uint64_t size)
{
	struct statfs system;
	struct stat status;

	if (fstat(fd, &status) < 0 || fstatfs(fd, &system) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || system.f_type == FUSE_SUPER_MAGIC || size == 0 ||
	    status.st_size < 0 || (uint64_t)status.st_size < size)
		return -EBADMSG;
	return 0;
}

static struct vox_plain_mapping *find_plain(const struct vox_received *received, uint32_t map_id,
					    uint32_t generation)
{
	uint32_t i = received->num_plain;

	/* The newest is the likeliest. */
	while (i-- > 0)
		if (received->plain[i].map_id == map_id &&
		    received->plain[i].generation == generation)
			return &received->plain[i];
	return NULL;
}

static void drop_plain(struct vox_received *received, struct vox_plain_mapping *mapping)
{
	close(mapping->fd);
	*mapping = received->plain[--received->num_plain];
}

static uint64_t unused(const struct vox_plain_mapping *mapping)
{
	return mapping->size - mapping->used;
}

/*
 * vox-shm takes a payload's place from memory that still has enough, so the one
 * with least is the likeliest that no frame will speak of again.
 */
static struct vox_plain_mapping *least_useful(const struct vox_received *received)
{
	struct vox_plain_mapping *least = NULL;
	uint32_t i;

	for (i = 0; i < received->num_plain; i++) {
		struct vox_plain_mapping *mapping = &received->plain[i];

		if (mapping->used && !mapping->read && (!least || unused(mapping) < unused(least)))
			least = mapping;
	}
	return least;
}

static int make_room(struct vox_received *received)
{
	struct vox_plain_mapping *least;

	if (received->num_plain < received->most_plain)
		return 0;
	least = least_useful(received);
	if (!least)
		return -ENOBUFS;
	drop_plain(received, least);
	received->evicted = true;
	return 0;
}

int vox_plain_received(struct vox_received *received, uint32_t map_id, uint32_t generation,
		       uint64_t size, int fd)
{
	int ret;

	/* Said twice: the first counts, as it does for vox-shm. */
	ret = find_plain(received, map_id, generation) ? -EEXIST : make_room(received);
	if (!ret)
		ret = check_file(fd, size);
	if (ret) {
		close(fd);
		return ret == -EEXIST ? 0 : ret;
	}
	received->plain[received->num_plain++] = (struct vox_plain_mapping){
		.map_id = map_id,
		.generation = generation,
		.size = size,
		.fd = fd,
	};
	return 0;
}

int vox_plain_begin(struct vox_received *received, const struct vox_mapping_ref *ref)
{
	struct vox_plain_mapping *mapping = find_plain(received, ref->map_id, ref->generation);

	if (!mapping)
		return -ENOENT;
	if (ref->offset > mapping->size || ref->length > mapping->size - ref->offset)
		return -EBADMSG;
	mapping->read = true;
	return mapping->fd;
}

/* vox-shm gives each byte to one payload: when all were, there is nothing more to read. */
void vox_plain_end(struct vox_received *received, const struct vox_mapping_ref *ref, bool taken)
{
	struct vox_plain_mapping *mapping = find_plain(received, ref->map_id, ref->generation);

	mapping->read = false;
	if (!taken)
		return;
	mapping->used += ref->length;
	if (mapping->used >= mapping->size)
		drop_plain(received, mapping);
}

/* Return: 0, -EBADMSG (the file ends before), ... */
static int read_all(int fd, uint8_t *bytes, size_t size, uint64_t offset)
{
	ssize_t count;

	while (size > 0) {
		count = pread(fd, bytes, size, (off_t)offset);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return errno == ENOMEM ? -ENOMEM : -EBADMSG;
		if (count == 0)
			return -EBADMSG;
		bytes += count;
		size -= (size_t)count;
		offset += (uint64_t)count;
	}
	return 0;
}

int vox_plain_copy(struct vox_received *received, int fd, const struct vox_mapping_ref *ref,
		   struct vox_plain_copy **out)
{
	struct vox_plain_copy *copy = malloc(sizeof(*copy) + ref->length);
	int ret;

	if (!copy)
		return -ENOMEM;
	ret = read_all(fd, copy->bytes, ref->length, ref->offset);
	if (ret) {
		free(copy);
		return ret;
	}
	copy->number = ++received->last_copy;
	copy->size = ref->length;
	copy->next = received->copies;
	received->copies = copy;
	*out = copy;
	return 0;
}

int vox_plain_release(struct vox_received *received, uint64_t number)
{
	struct vox_plain_copy **place = &received->copies, *copy;

	while (*place && (*place)->number != number)
		place = &(*place)->next;
	copy = *place;
	if (!copy)
		return -EINVAL;
	*place = copy->next;
	free(copy);
	return 0;
}
