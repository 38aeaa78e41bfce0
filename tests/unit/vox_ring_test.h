/* SPDX-License-Identifier: GPL-2.0 */
/* Entries that tell their number and length, for the vox_ring*.c tests. */
#ifndef VOX_RING_TEST_H
#define VOX_RING_TEST_H

#include "vox_test.h"

/* An entry's bytes tell its number and length. */
static inline void fill(uint8_t *bytes, uint32_t size, uint32_t number)
{
	uint32_t i;

	memcpy(bytes, &number, 4);
	memcpy(bytes + 4, &size, 4);
	for (i = 8; i < size; i++)
		bytes[i] = (uint8_t)(number * 31 + i);
}

static inline bool is_filled(const uint8_t *bytes, uint32_t size, uint32_t number)
{
	uint32_t i;

	if (memcmp(bytes, &number, 4) || memcmp(bytes + 4, &size, 4))
		return false;
	for (i = 8; i < size; i++)
		if (bytes[i] != (uint8_t)(number * 31 + i))
			return false;
	return true;
}

static inline int put(struct vox_ring_producer *producer, uint32_t size, uint32_t number)
{
	int64_t position = vox_ring_grant(producer, size);

	if (position < 0)
		return (int)position;
	fill(vox_ring_entry(producer, position), size, number);
	vox_ring_commit(producer, position, size, number % 2);
	return 0;
}

/* Takes one entry. Return: its size, 0 for none, -EBADMSG also for wrong bytes. */
static inline int64_t take(struct vox_ring_consumer *consumer, uint32_t number,
		    struct vox_ring_taken *taken)
{
	int64_t readable = vox_ring_peek(consumer);
	uint32_t size;

	if (readable <= 0)
		return readable;
	memcpy(&size, vox_ring_at(consumer) + 4, 4);
	if (size > readable || !is_filled(vox_ring_at(consumer), size, number))
		return -EBADMSG;
	*taken = vox_ring_take(consumer, size);
	return size;
}

static inline int64_t get(struct vox_ring_consumer *consumer, uint32_t number)
{
	struct vox_ring_taken taken;
	int64_t size = take(consumer, number, &taken);

	if (size > 0) {
		if (vox_ring_release(consumer, taken))
			return -EINVAL;
		vox_ring_publish_read(consumer);
	}
	return size;
}

#endif
