/* SPDX-License-Identifier: MIT */
/* bare.h - traffic through the rings and slots of a segment, without a link. */
#ifndef BARE_H
#define BARE_H

#include <sched.h>
#include <voxshm_segment.h>

#include "crate.h"
#include "vox/entry.h"

#define PREFIX 4u	/* a slot's first bytes: its message's length */

/* One ring of a peer, as both sides name it. */
struct bare {
	struct voxshm_segment *segment;
	uint32_t peer;
	enum voxshm_ring_direction direction;
};

static inline const char *bare_name(const struct bare *bare)
{
	return bare->direction == VOXSHM_GUEST_TO_HOST ? "up" : "down";
}

/* Who we are when we send on it, or receive. */
static inline uint32_t bare_self(const struct bare *bare, bool sends)
{
	return (bare->direction == VOXSHM_GUEST_TO_HOST) == sends ? bare->peer : VOXSHM_PEER_HOST;
}

/* Spins, and now and then lets others run. Return: is it time to give up? */
static inline bool bare_pause(unsigned int *tries, int64_t until)
{
	if (++*tries % 256)
		return false;
	sched_yield();
	return now_ns() > until;
}

/* Return: 0 or the first error, -ETIMEDOUT when nothing moves. */
static inline int bare_grant(struct voxshm_segment_ring *ring, uint32_t size, void **data)
{
	int64_t until = now_ns() + PATIENCE;
	unsigned int tries = 0;
	int ret;

	while ((ret = voxshm_segment_ring_grant(ring, size, data)) == -EAGAIN)
		if (bare_pause(&tries, until))
			return -ETIMEDOUT;
	return ret;
}

static inline int bare_send_slot(const struct bare *bare, struct voxshm_segment_ring *ring,
				 const void *bytes, uint32_t size)
{
	int64_t until = now_ns() + PATIENCE;
	uint32_t self = bare_self(bare, true);
	unsigned int tries = 0;
	struct voxshm_slot slot;
	uint8_t *data;
	void *entry;
	int ret;

	while ((ret = voxshm_segment_slot_alloc(bare->segment, self, PREFIX + size, &slot)))
		if (ret != -EAGAIN || bare_pause(&tries, until))
			return ret;
	data = voxshm_segment_slot_data(bare->segment, &slot, NULL);
	memcpy(data, &size, PREFIX);
	memcpy(data + PREFIX, bytes, size);
	ret = bare_grant(ring, VOX_SLOT_ENTRY, &entry);
	if (ret)
		return ret;
	vox_entry_write_slot(entry, &(struct vox_slot_ref){ slot.class_index, slot.extent,
							    slot.slot, slot.generation });
	return voxshm_segment_ring_commit(ring, VOX_SLOT_ENTRY);
}

static inline int bare_send_inline(struct voxshm_segment_ring *ring, const void *bytes,
				   uint32_t size)
{
	void *entry;
	int ret = bare_grant(ring, vox_entry_size(size), &entry);

	if (ret)
		return ret;
	memcpy(vox_entry_write_inline(entry, size), bytes, size);
	return voxshm_segment_ring_commit(ring, vox_entry_size(size));
}

/* Return: 0 or the first error. */
static inline int bare_produce(const struct bare *bare, const struct traffic *traffic,
			       struct digest *digest)
{
	void *buffer = traffic_buffer(traffic);
	struct voxshm_segment_info info;
	struct voxshm_segment_ring *ring;
	uint64_t i;
	int ret;

	voxshm_segment_get_info(bare->segment, &info);
	ret = voxshm_segment_ring_open(&ring, bare->segment, bare->peer, bare->direction,
				       VOXSHM_PRODUCER);
	for (i = 0; i < traffic->count && ret == 0; i++) {
		uint32_t size = (uint32_t)traffic_size(traffic, i);

		traffic_fill(traffic, i, buffer, size);
		digest_add(digest, buffer, size);
		ret = size <= info.inline_threshold ?
			bare_send_inline(ring, buffer, size) :
			bare_send_slot(bare, ring, buffer, size);
	}
	voxshm_segment_ring_close(ring);
	free(buffer);
	return ret;
}

/* Return: bytes that can be read, or an error, -ETIMEDOUT when nothing comes. */
static inline ssize_t bare_read(struct voxshm_segment_ring *ring, const void **data)
{
	int64_t until = now_ns() + PATIENCE;
	unsigned int tries = 0;
	ssize_t ret;

	while ((ret = voxshm_segment_ring_read(ring, data)) == 0)
		if (bare_pause(&tries, until))
			return -ETIMEDOUT;
	return ret;
}

/* The payload of an entry; a slot must be freed then. Return: 0 or -EBADMSG. */
static inline int bare_open(const struct bare *bare, const struct vox_entry *entry,
			    struct voxshm_slot *slot, const uint8_t **bytes, uint32_t *size)
{
	size_t slot_size;

	*bytes = entry->payload;
	*size = entry->length;
	if (entry->kind == VOX_ENTRY_INLINE)
		return 0;
	*slot = (struct voxshm_slot){ entry->slot.class_index, entry->slot.extent,
				      entry->slot.slot, entry->slot.generation };
	*bytes = voxshm_segment_slot_data(bare->segment, slot, &slot_size);
	if (entry->kind != VOX_ENTRY_SLOT || !*bytes)
		return -EBADMSG;
	memcpy(size, *bytes, PREFIX);
	*bytes += PREFIX;
	return *size <= slot_size - PREFIX ? 0 : -EBADMSG;
}

/* Return: 0, -ENOMSG for wrong bytes, or the first error. */
static inline int bare_consume(const struct bare *bare, const struct traffic *traffic,
			       struct digest *digest)
{
	struct voxshm_segment_ring *ring;
	uint64_t i;
	int ret;

	ret = voxshm_segment_ring_open(&ring, bare->segment, bare->peer, bare->direction,
				       VOXSHM_CONSUMER);
	for (i = 0; i < traffic->count && ret == 0; i++) {
		struct voxshm_slot slot;
		struct vox_entry entry;
		const uint8_t *bytes;
		const void *data;
		ssize_t readable = bare_read(ring, &data);
		uint32_t size;

		if (readable < 0 || vox_entry_parse(&entry, data, (uint32_t)readable) ||
		    bare_open(bare, &entry, &slot, &bytes, &size)) {
			ret = readable < 0 ? (int)readable : -EBADMSG;
			break;
		}
		digest_add(digest, bytes, size);
		if (!traffic_check(traffic, i, bytes, size))
			ret = -ENOMSG;
		else if (entry.kind == VOX_ENTRY_SLOT)
			ret = voxshm_segment_slot_free(bare->segment, bare_self(bare, false),
						       &slot);
		if (ret == 0)
			ret = voxshm_segment_ring_release(ring, entry.size);
	}
	if (ret)
		fprintf(stderr, "# consuming message %ju: %s\n", (uintmax_t)i, strerror(-ret));
	voxshm_segment_ring_close(ring);
	return ret;
}

/* From one side to the other, through a ring that the direction names. */
static inline void bare_send_to_crate(struct __test_metadata *_metadata, struct crate *crate,
				      const struct bare *bare, const struct traffic *traffic)
{
	struct digest digest = { 0 };
	char text[128];

	crate_say(crate, "consume %s %u " TRAFFIC_FORMAT, bare_name(bare), bare->peer,
		  TRAFFIC_WORDS(traffic));
	ASSERT_EQ(0, bare_produce(bare, traffic, &digest));
	ASSERT_STREQ(digest_text(&digest, text), crate_hear(crate));
}

static inline void bare_recv_from_crate(struct __test_metadata *_metadata, struct crate *crate,
					const struct bare *bare, const struct traffic *traffic)
{
	struct digest digest = { 0 };
	char text[128];

	crate_say(crate, "produce %s %u " TRAFFIC_FORMAT, bare_name(bare), bare->peer,
		  TRAFFIC_WORDS(traffic));
	ASSERT_EQ(0, bare_consume(bare, traffic, &digest));
	ASSERT_STREQ(digest_text(&digest, text), crate_hear(crate));
}

/* Both ways between a host and its guest of that number, of whom we are the one. */
static inline void bare_exchange(struct __test_metadata *_metadata, struct crate *crate,
				 struct voxshm_segment *segment, uint32_t peer, bool our_host,
				 const struct traffic *traffic)
{
	struct bare up = { segment, peer, VOXSHM_GUEST_TO_HOST };
	struct bare down = { segment, peer, VOXSHM_HOST_TO_GUEST };

	bare_send_to_crate(_metadata, crate, our_host ? &down : &up, traffic);
	bare_recv_from_crate(_metadata, crate, our_host ? &up : &down, traffic);
}

#endif
