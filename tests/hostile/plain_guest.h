/* SPDX-License-Identifier: MIT */
/*
 * plain_guest.h - a vox-shm guest that a test plays itself: the segment, the
 * ring it writes, and the two sockets, each to be used as the test likes.
 */
#ifndef PLAIN_GUEST_H
#define PLAIN_GUEST_H

#include "attack.h"

struct plain_guest {
	struct voxshm_segment *segment;
	struct vox_ring_producer producer;
	uint32_t peer;
	int doorbell, control;
};

static inline void plain_ring(const struct plain_guest *guest)
{
	(void)!send(guest->doorbell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Takes the place of an invitation, and says nothing yet. */
static inline void plain_join(struct plain_guest *guest, struct invitation *invitation)
{
	*guest = (struct plain_guest){
		.peer = invitation->peer_id,
		.doorbell = invitation->fds[INVITATION_DOORBELL],
		.control = invitation->fds[INVITATION_THIRD],
	};
	REQUIRE_EQ(0, voxshm_segment_attach_fd(&guest->segment,
					       invitation->fds[INVITATION_SEGMENT], NULL));
	close(invitation->fds[INVITATION_SEGMENT]);
	REQUIRE_EQ(0, voxshm_segment_claim_peer(guest->segment, guest->peer));
	/* That introduced us as one of ours. */
	shared_poke_u32(&vox_peer(guest->segment, guest->peer)->features, 0);
	shared_poke_u32(&vox_peer(guest->segment, guest->peer)->pid, 0);
	REQUIRE_EQ(0, vox_producer_init(&guest->producer,
					vox_peer_ring(guest->segment, guest->peer, VOX_GUEST),
					guest->segment->geometry.ring_capacity));
}

static inline void plain_leave(struct plain_guest *guest)
{
	if (!guest->segment)
		return;
	voxshm_segment_free(guest->segment);
	close(guest->doorbell);
	close(guest->control);
	guest->segment = NULL;
}

/* Sends size bytes. Return: 0 or -EAGAIN. */
static inline int plain_send(struct plain_guest *guest, uint32_t size)
{
	int64_t position = vox_ring_grant(&guest->producer, vox_entry_size(size));

	if (position < 0)
		return (int)position;
	memset(vox_entry_write_inline(vox_ring_entry(&guest->producer, position), size), 'p', size);
	vox_ring_commit(&guest->producer, position, vox_entry_size(size), true);
	plain_ring(guest);
	return 0;
}

/* Commits a reference to a mapping, and rings if asked to. */
static inline int plain_refer(struct plain_guest *guest, const struct vox_mapping_ref *ref,
			      bool ring)
{
	int64_t position = vox_ring_grant(&guest->producer, VOX_MAPPING_ENTRY);

	if (position < 0)
		return (int)position;
	vox_entry_write_mapping(vox_ring_entry(&guest->producer, position), ref);
	vox_ring_commit(&guest->producer, position, VOX_MAPPING_ENTRY, true);
	if (ring)
		plain_ring(guest);
	return 0;
}

#endif
