/* SPDX-License-Identifier: MIT */
/*
 * link.h - a link: host and one guest, each with an end.
 *
 * The application owns the link. A format embeds this struct as its first
 * member and does the work; link.c checks arguments, waits, and keeps the
 * state. What each side touches for every message lies apart, in the format's struct.
 */
#ifndef LINK_H
#define LINK_H

#include <errno.h>
#include <pthread.h>

#include "format.h"
#include "shared.h"

#define LINK_DEFAULT_SPIN_NS 50000u
#define SPIN_HALVINGS 5	/* at most: see spin_learn() */
/* How long nobody looks at an end that is deaf. */
#define DEAF_LOOK_NS 10000000ll
/*
 * How often a peer may ring, or offer memory, without having been asked to. One
 * of ours rings for a sleep word that was set, at most once for each; vox-shm for
 * messages (vox_expect_rings(); more is allowed for there). Memory that is offered is
 * spoken of, sooner or later.
 */
#define LINK_PATIENCE 4096

/* Threads of one side that sleep on one descriptor; see wait.c. */
struct waiters {
	pthread_mutex_t lock;
	bool polling;		/* one thread polls, the others wait for it */
	shared_u32 wakes;	/* times somebody drained; a futex; written under the lock */
	_Atomic uint32_t followers;	/* that wait for it; counted up under the lock */
	_Atomic int fail_fd;	/* an eventfd: the link has failed; -1 until a thread sleeps */
	_Atomic bool undrained;	/* a thread woke, had what it wanted, and left the doorbell */
};

/* What an event of the host's epoll points to. */
struct watch {
	void (*handle)(struct voxshm_host *host, struct watch *watch);
};

/* What one side of a link has done; beside what it touches for each message. */
struct link_traffic {
	uint64_t messages, bytes;
};

/*
 * By cache lines: a host that serves many links finds few of them in its cache.
 * What each format touches for a message is in lines of its own.
 */
struct voxshm_link {
	/* read by every call, seldom written */
	const struct format *format;
	struct sleep_words *mine, *theirs;	/* NULL: a plain vox segment has none */
	void *data;		/* the application's */
	size_t max_payload;
	/* enum voxshm_link_state; goes only forward, by any thread. */
	_Atomic int state;
	uint32_t spin_ns;	/* the most that a wait looks before it sleeps */
	uint32_t peer_id;	/* of the guest, on both sides */
	uint32_t epoch;
	bool is_host;
	bool has_kept;		/* the receiving thread's, see below */
	uint8_t spin_halved[2];	/* the sending thread's, the receiving thread's: see spin_learn() */

	/* the host's loop; see host.h */
	_Alignas(CACHE_LINE) struct voxshm_link *hot_next;
	struct voxshm_link *hot_previous;
	struct voxshm_host *host;
	uint32_t idle_looks;
	_Atomic bool hot;	/* in the host's list of links to look at */
	bool known;		/* to the application: closing is its task */
	bool attached_told, end_told;
	bool ended;		/* the peer slot is free again */
	bool blocked;		/* the sending thread's: a send was refused with -EAGAIN */

	/* the rest of the host's */
	struct watch watch;
	struct voxshm_link *next, *previous;
	int watched_wake_fd, watched_pidfd;	/* in the host's epoll, or -1 */
	int64_t end_time;	/* when the end was seen */

	struct end *end;
	/* 0, or why the link failed; the sentence is static. */
	_Atomic(const char *) failure;

	/* Reasons for the peer to ring, each for two times; the rest under waiters.lock. */
	_Atomic uint32_t arms;
	uint32_t arms_counted;
	int32_t patience, most_patience;

	/* Either thread's, off the hot path. */
	_Atomic uint64_t doorbells_rung, sleeps;
	_Atomic uint32_t vain_tries;

	struct waiters waiters;
	int poll_fd;		/* epoll of what can tell something; -1 until asked for */
	_Atomic int kick_fd;	/* an eventfd in it: somebody else drained, or the link failed */
	int polled_pidfd;	/* the peer's pidfd in it, or -1 */
	/* Both under waiters.lock: whose poll waits, and whose news somebody else drained. */
	unsigned int armed, kicked;

	/* the sending thread's */
	struct link_traffic *sent;
	uint64_t mappings_made;

	/* the receiving thread's */
	struct link_traffic *taken;
	struct voxshm_view kept;	/* if has_kept: taken by recv_copy(), did not fit */
};

/* The traffic is part of what the format's link is. Return: 0, -ENOMEM. */
int link_init(struct voxshm_link *link, const struct format *format, struct end *end,
	      struct link_traffic *sent, struct link_traffic *taken);
void link_deinit(struct voxshm_link *link);

/* The peer broke the protocol. The first reason stays. Return: -EBADMSG. */
int link_fail(struct voxshm_link *link, const char *reason);

/*
 * The peer offered memory; from end_ops.drain(). The descriptor is taken over.
 * Return: 0; -EBADMSG; what may pass, and then the offer is made again: -ENOMEM, ...
 */
int link_object(struct voxshm_link *link, uint32_t map_id, uint32_t generation, uint64_t size,
		int fd);

/*
 * Drains the end and looks whether it ended. While a thread polls it is left to
 * that thread: its poll returns as long as there is something to drain.
 */
void link_drain(struct voxshm_link *link);

/* The same for the thread that polls, under waiters.lock. */
void link_drain_locked(struct voxshm_link *link);

/* Has the peer come, or ended? Under waiters.lock. */
void link_update_state(struct voxshm_link *link);

/* Drains, or waits until the thread that polls has done it. */
void link_drain_wait(struct voxshm_link *link);

/* Asks to be rung: sets sleep words. */
void link_ask_to_be_rung(struct voxshm_link *link, unsigned int interest);

/* Is there now what the thread waits for (VOXSHM_READABLE, VOXSHM_WRITABLE)? */
bool link_ready(struct voxshm_link *link, unsigned int interest);

/*
 * wait.c: looks, then sleeps, until link_ready() may be true or the peer ended.
 * Return: 0 (look again), -ETIMEDOUT, -EINTR.
 */
int link_wait(struct voxshm_link *link, unsigned int interest, int64_t deadline);

/* Tries, and waits where that is refused. Return: as voxshm_send(), voxshm_recv(). */
int link_send(struct voxshm_link *link, const void *data, size_t size, int64_t timeout)
	__attribute__((noinline));
int link_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout)
	__attribute__((noinline));

/* Counts a drain, and wakes those that follow; under the lock. */
void waiters_wake(struct waiters *waiters);

/* The link's state says that it has failed: ends all sleep. */
void waiters_fail(struct waiters *waiters);

/* CLOCK_MONOTONIC, ns; and the deadline for a timeout, negative for none. */
int64_t clock_now(void);
int64_t clock_deadline(int64_t timeout);

/*
 * Looking pays where waits are short, and a wait of a peer that has to wake up first
 * (some 50 us) is still one. After a longer one the next look takes half as long as
 * before it, after a short one as long as it may.
 */
static inline void spin_learn(uint8_t *halved, uint32_t spin_ns, int64_t waited)
{
	if (waited < 2ll * spin_ns)
		*halved = 0;
	else if (*halved < SPIN_HALVINGS)
		++*halved;
}

static inline int link_state(const struct voxshm_link *link)
{
	return atomic_load_explicit(&link->state, memory_order_acquire);
}

/* 0 while the peer may still read what is sent, -EPIPE or -EBADMSG after. */
static inline int link_send_error(const struct voxshm_link *link)
{
	int state = link_state(link);

	if (__builtin_expect(state <= VOXSHM_LINK_ATTACHED, 1))
		return 0;
	return state == VOXSHM_LINK_FAILED ? -EBADMSG : -EPIPE;
}

/* Wakes the peer if its sleep word says that it sleeps; after a fenced store. */
void link_ring(struct voxshm_link *link, shared_u32 *sleep_word);

static inline void link_wake(struct voxshm_link *link, shared_u32 *sleep_word)
{
	if (__builtin_expect(shared_load_fenced_u32(sleep_word) != 0, 0))	/* C */
		link_ring(link, sleep_word);
}

#endif
