/* SPDX-License-Identifier: MIT */
/*
 * attack.h - what the attackers need: the insides of a link, memory of every
 * wrong kind, and the sockets' messages in any shape.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "link/processes.h"

#include "backend_file.h"
#include "bootstrap.h"
#include "host.h"
#include "native/native.h"
#include "vox/entry.h"
#include "vox/vox.h"

/* What goes over vox's control socket with each memory. */
struct vox_control_message {
	uint32_t map_id, generation;
	uint64_t size;
};

#define MOST_DESCRIPTORS 4

/* One message with so many copies of a descriptor. Return: 0 or -errno. */
static inline int send_with_fds(int socket, const void *bytes, size_t size, int fd, int count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)bytes, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header;

	if (count) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		for (int i = 0; i < count; i++)
			memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(int));
	}
	return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Offers memory over a vox control socket. */
static inline int vox_offer_raw(int control, uint32_t map_id, uint32_t generation, uint64_t size,
				int fd, int count)
{
	struct vox_control_message message = { map_id, generation, size };

	return send_with_fds(control, &message, sizeof(message), fd, count);
}

/* The same over the socket of a native link on the file backend. */
static inline int native_offer_raw(int socket, uint32_t map_id, uint32_t generation, uint64_t size,
				   int fd, int count)
{
	struct file_message message = { .kind = FILE_MESSAGE_OFFER, .map_id = map_id,
					.generation = generation, .size = size };

	return send_with_fds(socket, &message, sizeof(message), fd, count);
}

/* Anonymous memory filled from a seed, with these seals. */
static inline int memory_make(size_t size, int seals, uint64_t seed)
{
	int fd = memfd_create("voxshm-attack", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes = malloc(size);

	REQUIRE(fd >= 0 && bytes);
	pattern_fill(bytes, size, seed);
	REQUIRE_EQ(size, pwrite(fd, bytes, size, 0));
	free(bytes);
	if (seals)
		REQUIRE_EQ(0, fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* Frames ------------------------------------------------------------------------ */

/* One line of a native ring, as hostile as it may be; waits for room, and rings. */
static inline void native_frame_raw(struct voxshm_link *link, uint64_t header, uint64_t first,
				    uint64_t second, uint64_t third)
{
	struct native_producer *producer = &native_link(link)->producer;
	uint64_t words[3] = { first, second, third };
	int64_t position;

	while ((position = native_ring_grant(producer, CACHE_LINE)) < 0)
		sched_yield();
	memcpy(native_ring_payload(producer, position), words, sizeof(words));
	native_ring_commit(producer, position, CACHE_LINE, header, true);
	link->end->ops->ring(link->end);
}

static inline void native_refer_raw(struct voxshm_link *link, const struct mapping_ref *ref)
{
	native_frame_raw(link, frame_header(CACHE_LINE, FRAME_MAPPING_REF, 0),
			 ref->map_id | (uint64_t)ref->map_generation << 32, ref->offset,
			 ref->length | (uint64_t)ref->reserved << 32);
}

static inline void native_slot_raw(struct voxshm_link *link, const struct slot_ref *ref)
{
	native_frame_raw(link, frame_header(CACHE_LINE, FRAME_SLOT_REF, 0),
			 ref->class_index | (uint64_t)ref->extent << 8 |
			 (uint64_t)ref->slot << 32,
			 ref->generation | (uint64_t)ref->length << 32, 0);
}

/* The same in a vox ring: so many words of an entry. */
static inline void vox_frame_raw(struct voxshm_link *link, const uint32_t *words, uint32_t count)
{
	struct vox_ring_producer *producer = &vox_link(link)->producer;
	int64_t position;

	while ((position = vox_ring_grant(producer, count * 4)) < 0)
		sched_yield();
	memcpy(vox_ring_entry(producer, position), words, count * 4);
	vox_ring_commit(producer, position, count * 4, true);
	link->end->ops->ring(link->end);
}

static inline void vox_refer_raw(struct voxshm_link *link, const struct mapping_ref *ref)
{
	const uint32_t words[8] = {
		VOX_MAPPING_ENTRY, FRAME_MAPPING_REF, ref->map_id, ref->map_generation,
		(uint32_t)ref->offset, (uint32_t)(ref->offset >> 32), ref->length, ref->reserved,
	};

	vox_frame_raw(link, words, 8);
}

static inline void vox_slot_raw(struct voxshm_link *link, const struct vox_slot_ref *ref)
{
	const uint32_t words[5] = {
		VOX_SLOT_ENTRY, FRAME_SLOT_REF, ref->class_index | (uint32_t)ref->extent << 8,
		ref->slot, ref->generation,
	};

	vox_frame_raw(link, words, 5);
}

static inline const char *reason_of(struct voxshm_link *link)
{
	static struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status.state == VOXSHM_LINK_FAILED ? status.reason : "";
}

#endif
