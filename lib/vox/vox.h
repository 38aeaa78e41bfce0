/* SPDX-License-Identifier: MIT */
/*
 * vox/vox.h - a link over a peer slot of a vox segment.
 *
 * The guest's link owns its view of the segment; the host's borrows the
 * host's. All guests send from one pool, so what a guest leaves behind must be
 * put in order before its slot is used again: the host *buries* it.
 *
 *	link_ended	the slot says Goodbye; nobody new can have it
 *	gone		the guest's process has ended, or hung its doorbell up
 *			(device: detached): it does not touch shared memory any more
 *	buried		vox_recover() was done; the slot is free. What was unread
 *			is in the link's private memory
 *
 * A guest that ended its link but is not gone yet is waited for; so is the
 * application, while it has inline views that lie in the ring. A link that is
 * closed before that leaves the rest to the host: struct vox_departed.
 */
#ifndef VOX_H
#define VOX_H

#include "link.h"
#include "vox/doorbell.h"
#include "vox/mapping.h"

/* What the last refused send lacked. */
enum vox_lack {
	VOX_LACK_NOTHING,
	VOX_LACK_RING,
	VOX_LACK_SLOT,
	VOX_LACK_MAPPING,
	VOX_LACK_CONTROL,	/* room in the control socket: only time tells */
};

/* A guest that has not gone yet, or whose link has inline views out. */
struct vox_departed {
	struct vox_departed *next;
	struct vox_link *link;		/* NULL: closed */
	uint32_t peer_id;
	uint32_t epoch;
	int doorbell;			/* copies of the link's; device: of its end */
	int pidfd;
};

struct vox_host {
	struct watch watch;
	struct voxshm_segment *segment;
	struct memory main;		/* device: its segment; else MEMORY_NONE */
	/* Links are independent: the receiving threads of two may bury at once. */
	pthread_mutex_t burial;
	struct vox_departed *departed;	/* under burial */
	int epoll_fd;			/* of their descriptors; the host watches it */
	char path[BOOTSTRAP_MAX_PAYLOAD + 1];	/* what guests are told */
};

struct vox_link {
	struct voxshm_link link;
	struct voxshm_segment *segment;
	struct vox_end *end;
	uint32_t holder;			/* our number in the pool's book */
	/* Timed waits, under waiters.lock: */
	int64_t nap;			/* how long the next one lasts */
	uint64_t sent_at_nap, received_at_nap;
	unsigned int napping;		/* interests that one is set for */
	_Atomic bool timer_set;

	/* the sending thread's */
	_Alignas(CACHE_LINE) struct link_traffic sent;
	struct vox_ring_producer producer;
	shared_u64 *sender_intent;
	struct vox_mappings mappings;
	uint32_t inline_end;		/* payloads below this many bytes travel in the ring */
	uint32_t slot_end;		/* and below this many, in a slot */
	enum vox_lack lack;
	bool offer_rung;		/* an offer was refused, and the peer rung for it */
	uint32_t lack_size;

	/* the receiving thread's */
	_Alignas(CACHE_LINE) struct link_traffic taken;
	struct vox_ring_consumer consumer;
	shared_u64 *receiver_intent;
	struct vox_received received;

	/* the host's */
	struct vox_departed *departed;
	struct vox_unread unread;
	shared_u32 *last_released;	/* instead of the link block's, once buried */
	_Atomic bool buried;		/* by either thread; the other one may be in a call */
};

static inline struct vox_link *vox_link(struct voxshm_link *link)
{
	return (struct vox_link *)(void *)link;
}

/* Does the peer know sleep words and link block, as far as is known now? */
static inline bool vox_is_ours(const struct vox_link *vox)
{
	enum vox_peer_kind kind = vox_end_kind(vox->end);

	if (__builtin_expect(kind == VOX_PEER_OURS, 1))
		return true;
	return kind == VOX_PEER_UNKNOWN && vox_end_learn_kind(vox->end);
}

/*
 * A message was sent or received. vox-shm knows no sleep words: it rings for each
 * message that it sends, and for each that it reads and lets go of.
 */
static inline void vox_expect_rings(struct vox_link *vox)
{
	if (__builtin_expect(vox_end_kind(vox->end) == VOX_PEER_PLAIN, 0))
		atomic_fetch_add_explicit(&vox->link.arms, 1, memory_order_relaxed);
}

/*
 * Wakes the peer, after a fenced store: ours if its sleep word says so, any
 * other in any case.
 */
void vox_ring_stranger(struct vox_link *vox);

static inline void vox_wake_data(struct vox_link *vox)
{
	if (vox_is_ours(vox))
		link_wake(&vox->link, &vox->link.theirs->data);
	else
		vox_ring_stranger(vox);
}

static inline void vox_wake_space(struct vox_link *vox)
{
	if (vox_is_ours(vox))
		link_wake(&vox->link, &vox->link.theirs->space);
	else
		vox_ring_stranger(vox);
}

/*
 * Makes the link of one side; takes the end over on success, and the guest's
 * takes the segment. Return: 0, -ENOMEM, -EBADMSG (the rings are corrupt).
 */
int vox_link_new(struct vox_link **out, struct voxshm_segment *segment, struct vox_end *end);

/* Frees a slot that this side holds, whatever became of the link. Return: as vox_pool_free(). */
int vox_link_free_slot(struct vox_link *vox, const struct vox_slot_ref *ref,
		       enum vox_thread thread);

/* vox/send.c */
int vox_try_send(struct voxshm_link *link, const void *data, size_t size, bool more);
void vox_flush(struct voxshm_link *link);
int vox_try_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan);
int vox_try_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size);
void vox_abort(struct voxshm_link *link, struct voxshm_loan *loan);
bool vox_writable(struct voxshm_link *link);

/* vox/recv.c */
int vox_try_recv(struct voxshm_link *link, struct voxshm_view *view);
int vox_release(struct voxshm_link *link, struct voxshm_view *view);
bool vox_readable(struct voxshm_link *link);
int vox_object(struct voxshm_link *link, uint32_t map_id, uint32_t generation, uint64_t size,
	       int fd);

/* vox/host.c */
int vox_host_init(struct voxshm_host *host, struct voxshm_error *error);
void vox_host_goodbye(struct voxshm_host *host);
void vox_host_deinit(struct voxshm_host *host);
int vox_host_grow(struct voxshm_host *host, uint64_t bytes, struct voxshm_error *error);
int vox_host_link_new(struct voxshm_host *host, struct voxshm_link **link,
		      struct invitation *invitation, struct voxshm_error *error);
void vox_host_link_attached(struct voxshm_link *link);
void vox_host_link_ended(struct voxshm_link *link);
/* The link is closed: who waits for its guest to go waits without it. */
void vox_host_link_forget(struct vox_link *vox);
/* An inline view was given back: perhaps it was the last that the burial waits for. */
void vox_host_try_bury(struct vox_link *vox);

/* vox/guest.c */
int vox_join(struct voxshm_link **link, struct invitation *invitation,
	     struct voxshm_error *error);

#endif
