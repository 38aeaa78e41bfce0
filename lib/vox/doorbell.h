/* SPDX-License-Identifier: MIT */
/*
 * vox/doorbell.h - the end of a vox link: the two sockets that vox-shm knows,
 * and a timer for what they cannot tell. (On the device an end of that is in
 * place of the sockets: device.h.)
 *
 *	doorbell	SOCK_STREAM: a byte is a ring; a hang-up is an end
 *	control		SOCK_DGRAM: memory, a descriptor with each message
 *	timer		made when a wait first needs it
 *
 * The link owns its end. What vox-shm has no message for is told by the peer
 * table: a guest has come when its slot says Attached, either side has left on
 * purpose when it says something else again (or the host says goodbye to all).
 *
 * wake_fd is an epoll over doorbell and timer. Control is drained with them,
 * and when a frame speaks of memory: it needs no wake-up of its own.
 */
#ifndef VOX_DOORBELL_H
#define VOX_DOORBELL_H

#include <sys/socket.h>

#include "end.h"
#include "vox/segment.h"

/* What the peer speaks, as far as this end knows. */
enum vox_peer_kind {
	VOX_PEER_UNKNOWN,	/* nobody has come yet */
	VOX_PEER_OURS,		/* knows sleep words and link block */
	VOX_PEER_PLAIN,		/* vox-shm: rung for everything */
};

struct vox_end {
	struct end end;
	struct voxshm_link *link;	/* whose end it is */
	struct voxshm_segment *segment;
	uint32_t peer_id;
	uint32_t epoch;
	bool is_host;
	int doorbell;			/* -1: device */
	int control;			/* -1: device */
	struct end *carrier;		/* device: the end in the kernel's eyes, owned */
	struct memory window;		/* device: held mapped */
	int timer;			/* -1: not made yet; under waiters.lock */
	bool timer_runs;		/* under waiters.lock */
	bool patient;			/* see be_patient(); under waiters.lock */
	_Atomic int kind;		/* enum vox_peer_kind; leaves UNKNOWN once */
	bool nobody_came;		/* host: it left before any guest had come */
};

static inline struct vox_end *vox_end(struct end *end)
{
	return (struct vox_end *)(void *)end;
}

/* Makes the two socketpairs: [0] is the host's, [1] the guest's. Return: 0 or -errno. */
int vox_sockets_new(int doorbells[2], int controls[2]);

/* Are these what a vox host gives its guest? Return: 0 or -EPROTO. */
int vox_sockets_check(int doorbell, int control);

/*
 * Makes an end over two sockets of a socketpair each; takes them over on
 * success. Return: 0, -ENOMEM, -EMFILE, ...
 */
int vox_end_new(struct vox_end **out, struct voxshm_segment *segment, uint32_t peer_id,
		uint32_t epoch, bool is_host, int doorbell, int control);

/*
 * The same from values that are given, woken by one descriptor: what all ends
 * have in common.
 */
int vox_end_copy(struct vox_end **out, const struct vox_end *values, const struct end_ops *ops,
		 int wake_source);

/* Frees what vox_end_copy() made. */
void vox_end_dispose(struct vox_end *end);

/* Wakes a wait that lasts longer than that, 0: none; the caller holds waiters.lock. */
void vox_end_set_timer(struct vox_end *end, int64_t nanoseconds);

/* Has the timer fired since it was set? The caller holds waiters.lock. */
bool vox_end_take_timer(struct vox_end *end);

/*
 * Host, while the kind is unknown: looks whether the guest has come, and has
 * introduced itself. Return: is it ours?
 */
bool vox_end_learn_kind(struct vox_end *end);

/*
 * Takes the memory that has come, and leaves the doorbell alone: another
 * thread may sleep for it. The caller holds waiters.lock. Return: 0 or -EBADMSG.
 */
int vox_end_take_offers(struct vox_end *end, struct voxshm_link *link);

/* Is there room for an offer? */
bool vox_end_can_offer(const struct vox_end *end);

/* Is the other end of a doorbell closed, or that of a link on the device? Takes nothing. */
bool vox_is_hung_up(int doorbell);

/*
 * Takes the bytes out of a doorbell; ringer, if not NULL, is filled with who
 * sent the last of them, where the socket tells (pid 0: nobody).
 * Return: how many it took, 0, -EPIPE (hang-up).
 */
int vox_doorbell_drain(int doorbell, struct ucred *ringer);

/* Does the peer's word say that the guest of this life has come? It may have left again. */
static inline bool vox_end_has_come(const struct vox_end *end, uint64_t word)
{
	uint32_t state = peer_word_state(word);

	return (state == PEER_ATTACHED || state == PEER_GOODBYE) &&
	       peer_word_epoch(word) == end->epoch;
}

static inline enum vox_peer_kind vox_end_kind(const struct vox_end *end)
{
	return (enum vox_peer_kind)atomic_load_explicit(&end->kind, memory_order_relaxed);
}

#endif
