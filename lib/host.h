/* SPDX-License-Identifier: MIT */
/*
 * host.h - a host: its segment, its links, the socket on which it listens.
 *
 * The application owns the host and closes the links it was told of; what it
 * left open is closed with the host.
 *
 * A link is hot or cold. A hot one is looked at by every wait. A cold one is
 * armed: its guest rings when there is news, and nobody looks at it before.
 */
#ifndef HOST_H
#define HOST_H

#include "backend.h"
#include "link.h"

struct lobby;
struct orphan;

struct voxshm_host {
	const struct format *format;
	const struct backend *backend;
	struct voxshm_config config;	/* defaults filled in; strings not kept */
	void *segment;			/* the format's */

	int epoll_fd;
	struct voxshm_link *links;
	/* Other threads may heat their links: appends are under the lock. */
	pthread_mutex_t hot_lock;
	struct voxshm_link *hot, *hot_last;
	uint32_t undrained;		/* links that ended and are not closed yet */
	uint32_t ending;		/* of these: how they ended is not known yet */
	uint32_t waits_since_poll;	/* that found something hot */
	int64_t polled;			/* when the kernel was asked last */
	int later_fd;			/* a timer: see host_look_later() */
	int64_t later;			/* when it fires, or 0 */
	struct watch later_watch;
	uint8_t spin_halved;		/* see spin_learn() */
	bool busy;			/* asks the kernel though a hot link may have news */
	struct lobby *lobby;		/* NULL: does not listen */
	struct orphan *orphans;		/* children whose link was closed */
};

/* Makes a link at a free peer slot. Return: 0 or -errno. */
int host_link_new(struct voxshm_host *host, struct voxshm_link **link,
		  struct invitation *invitation, struct voxshm_error *error);

/* events.c: the list of hot links. Under hot_lock, or in a call of the host's. */
void host_hot_append(struct voxshm_host *host, struct voxshm_link *link);
void host_hot_remove(struct voxshm_host *host, struct voxshm_link *link);

/* The link must be looked at by the next wait. */
void host_heat(struct voxshm_link *link);

/* Takes the link out of the host; from voxshm_link_close(). */
void host_forget(struct voxshm_link *link);

/*
 * Return: 0 or -errno. Unwatch before you close: a process that was just forked
 * may still hold a copy, which would keep the watch alive.
 */
int host_watch(struct voxshm_host *host, int fd, struct watch *watch);
void host_unwatch(struct voxshm_host *host, int fd);

/* Some things tell nothing when their time has come: wakes the next wait at that time. */
void host_look_later(struct voxshm_host *host, int64_t time);

/* Watches what can still tell something of the link. Return: 0 or -errno. */
int host_rewatch(struct voxshm_link *link);

/* If the link has ended: its peer slot is free at once. */
void host_notice_end(struct voxshm_link *link);

/* The link's guest is a child of this process. Return: 0 or -errno. */
int host_link_spawned(struct voxshm_link *link, pid_t pid);

/* lobby.c: the listening socket, and callers that were not answered yet. */
void lobby_free(struct lobby *lobby);

/* spawn.c: keeps a child that outlives its link until it can be reaped. */
void orphan_adopt(struct voxshm_host *host, int pidfd);
void orphans_free(struct voxshm_host *host);

#endif
