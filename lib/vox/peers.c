/* SPDX-License-Identifier: MIT */
/*
 * vox/peers.c - the life of a peer slot: reserved, claimed, attached, left.
 *
 *	Empty -> Reserved -> Attached -> Goodbye -> Empty
 *	      '--------------^
 *
 * State and epoch change together in one CAS, so that whoever dies here has
 * either taken the slot, with a new epoch, or not. A vox-shm guest changes
 * them one after the other; it takes a slot by its state, and so do we.
 *
 * Barrier pair:
 *   G  a slot's new life/its guest: vox_recover() stores Empty after the rings
 *      and the link block are clean; the CAS here reads that store first.
 */
#include <unistd.h>

#include "vox/segment.h"

/* An epoch that changes under an unchanged state, time and again, is an attack. */
#define MAX_RETRIES 64u

/* Moves a slot from one state to another. Return: 0 or -ESTALE. */
static int peer_move(struct peer_entry *entry, enum peer_state from, enum peer_state to)
{
	uint64_t word = shared_load_u64(&entry->state_epoch);
	uint32_t epoch, i;

	for (i = 0; i < MAX_RETRIES && peer_word_state(word) == from; i++) {
		epoch = peer_word_epoch(word) + (from == PEER_EMPTY);
		if (shared_cas_u64(&entry->state_epoch, &word, peer_word(to, epoch)))	/* G */
			return 0;
	}
	return -ESTALE;
}

/* Takes the first free slot. Whoever loses one to another process tries the next. */
static int take_empty(struct voxshm_segment *segment, enum peer_state state)
{
	uint32_t peer;

	for (peer = 1; peer <= segment->geometry.max_guests; peer++)
		if (peer_move(vox_peer(segment, peer), PEER_EMPTY, state) == 0)
			return (int)peer;
	return -EUSERS;
}

/* Says who we are; to a vox-shm host these bytes mean nothing and stay zero. */
static void introduce(struct voxshm_segment *segment, uint32_t peer)
{
	struct peer_entry *entry = vox_peer(segment, peer);

	if (vox_is_plain(segment))
		return;
	shared_poke_u32(&entry->pid, (uint32_t)getpid());
	shared_store_u32(&entry->features, VOX_FEATURE_LINK_BLOCK);
}

/* Whose introduction may stand there never came, or came too late. */
static void forget(struct voxshm_segment *segment, uint32_t peer)
{
	struct peer_entry *entry = vox_peer(segment, peer);

	if (vox_is_plain(segment))
		return;
	shared_poke_u32(&entry->pid, 0);
	shared_store_u32(&entry->features, 0);
}

int voxshm_segment_reserve_peer(struct voxshm_segment *segment)
{
	int peer = take_empty(segment, PEER_RESERVED);

	if (peer > 0)
		forget(segment, (uint32_t)peer);
	return peer;
}

int voxshm_segment_release_peer(struct voxshm_segment *segment, uint32_t peer)
{
	int ret;

	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	ret = peer_move(vox_peer(segment, peer), PEER_RESERVED, PEER_GOODBYE);
	if (ret)
		return ret;
	forget(segment, peer);
	return peer_move(vox_peer(segment, peer), PEER_GOODBYE, PEER_EMPTY);
}

int voxshm_segment_claim_peer(struct voxshm_segment *segment, uint32_t peer)
{
	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	return vox_peer_claim_word(segment, peer,
				   shared_load_u64(&vox_peer(segment, peer)->state_epoch));
}

/* Introduced first: a host that sees it attached sees whether it is one of ours. */
int vox_peer_claim_word(struct voxshm_segment *segment, uint32_t peer, uint64_t word)
{
	shared_u64 *state_epoch = &vox_peer(segment, peer)->state_epoch;
	uint64_t claimed = peer_word(PEER_ATTACHED, peer_word_epoch(word));

	if (peer_word_state(word) != PEER_RESERVED)
		return -ESTALE;
	introduce(segment, peer);
	return shared_cas_u64(state_epoch, &word, claimed) ? 0 : -ESTALE;	/* G */
}

int voxshm_segment_attach_peer(struct voxshm_segment *segment)
{
	int peer = take_empty(segment, PEER_ATTACHED);

	if (peer > 0)
		introduce(segment, (uint32_t)peer);
	return peer;
}

int voxshm_segment_detach_peer(struct voxshm_segment *segment, uint32_t peer)
{
	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	return peer_move(vox_peer(segment, peer), PEER_ATTACHED, PEER_GOODBYE);
}

enum peer_state vox_say_goodbye(struct voxshm_segment *segment, uint32_t peer, uint32_t *epoch)
{
	struct peer_entry *entry = vox_peer(segment, peer);
	uint64_t word = shared_load_u64(&entry->state_epoch);
	uint32_t state, i;

	for (i = 0; i < MAX_RETRIES; i++) {
		state = peer_word_state(word);
		if (epoch)
			*epoch = peer_word_epoch(word);
		if (state == PEER_EMPTY || state == PEER_GOODBYE)
			return state;
		if (shared_cas_u64(&entry->state_epoch, &word,
				   peer_word(PEER_GOODBYE, peer_word_epoch(word))))
			return state == PEER_RESERVED ? PEER_RESERVED : PEER_ATTACHED;
	}
	return PEER_ATTACHED;
}

void vox_take_back(struct voxshm_segment *segment, uint32_t peer, uint32_t epoch)
{
	shared_u64 *state_epoch = &vox_peer(segment, peer)->state_epoch;
	uint64_t word;

	shared_look_again();
	word = shared_load_u64(state_epoch);
	if (peer_word_state(word) == PEER_EMPTY)
		shared_cas_u64(state_epoch, &word, peer_word(PEER_GOODBYE, epoch));	/* G */
}

int voxshm_segment_peer(const struct voxshm_segment *segment, uint32_t peer,
			struct voxshm_peer *info)
{
	const struct peer_entry *entry;
	uint64_t word;

	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	entry = vox_peer(segment, peer);
	word = shared_load_u64(&entry->state_epoch);
	*info = (struct voxshm_peer){
		.state = peer_word_state(word),
		.epoch = peer_word_epoch(word),
		.last_heartbeat = shared_load_u64(&entry->last_heartbeat),
		.features = shared_load_u32(&entry->features),
		.pid = (pid_t)shared_peek_u32(&entry->pid),
	};
	return 0;
}

bool vox_peer_is_plain(const struct voxshm_segment *segment, uint32_t peer)
{
	return !(shared_load_u32(&vox_peer(segment, peer)->features) & VOX_FEATURE_LINK_BLOCK);
}

bool vox_has_plain_peer(const struct voxshm_segment *segment, uint32_t except)
{
	uint32_t peer, state;

	shared_look_again();
	for (peer = 1; peer <= segment->geometry.max_guests; peer++) {
		state = peer_word_state(shared_load_u64(&vox_peer(segment, peer)->state_epoch));
		if (peer != except && state != PEER_EMPTY && state != PEER_RESERVED &&
		    vox_peer_is_plain(segment, peer))
			return true;
	}
	return false;
}

void voxshm_segment_set_goodbye(struct voxshm_segment *segment)
{
	shared_store_u32(&vox_header(segment)->host_goodbye, 1);
}

int voxshm_segment_beat(struct voxshm_segment *segment, uint32_t peer, uint64_t now)
{
	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	shared_store_u64(&vox_peer(segment, peer)->last_heartbeat, now);
	return 0;
}

int voxshm_segment_is_stale(const struct voxshm_segment *segment, uint32_t peer, uint64_t now)
{
	uint64_t interval = segment->geometry.heartbeat_interval;
	uint64_t last;

	if (!vox_peer_exists(segment, peer))
		return -EINVAL;
	last = shared_load_u64(&vox_peer(segment, peer)->last_heartbeat);
	if (interval == 0 || interval > UINT64_MAX / 2 || now < last)
		return 0;
	return now - last > 2 * interval;
}
