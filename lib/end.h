/* SPDX-License-Identifier: MIT */
/*
 * end.h - one end of a link as the kernel sees it: the doorbell, the way for
 * further memory, and news of the other end's end.
 *
 * The link owns its end. A backend provides the operations; what is common
 * (who the peer is, how its process ended) is in end.c.
 */
#ifndef END_H
#define END_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memory.h"
#include "voxshm.h"

struct end;
struct voxshm_link;

/* Memory that is offered costs as many doorbells. */
#define END_KNOCKS_OF_OFFER 4u

struct end_ops {
	const char *backend_name;

	/* Wakes the peer. Never blocks; a peer that is gone is not an error. */
	void (*ring)(struct end *end);

	/*
	 * Takes what has come: doorbells, memory (given to link_object()), the
	 * peer's claim and farewell (flags below). Never blocks, and does a
	 * bounded amount of work. Memory that cannot be taken now, for want of a
	 * descriptor of our own, stays where it is. Return: 0 or -EBADMSG.
	 */
	int (*drain)(struct end *end, struct voxshm_link *link);

	/*
	 * Memory that one side writes and the other reads, under a number. It must
	 * be there before the frame that speaks of it.
	 *
	 * File backend: it is made like any other and given to the peer, whose
	 * drain() takes it. Return: 0, -EAGAIN, -EPIPE, -EMFILE, ...
	 */
	int (*offer)(struct end *end, uint32_t map_id, uint32_t generation,
		     const struct memory *memory);

	/*
	 * Device (NULL elsewhere): it is made at the end, and the peer maps it
	 * there by its number. A number must be dropped before it is made
	 * again; what is mapped stays.
	 * Return: 0, -ENOMEM, -EDQUOT, -EPIPE, ...; object_map(): -EBADMSG
	 * (there is no such object, or it is smaller than size).
	 */
	int (*object_new)(struct end *end, uint32_t map_id, size_t size, struct memory *memory);
	void (*object_drop)(struct end *end, uint32_t map_id);
	int (*object_map)(struct end *end, uint32_t map_id, size_t size, struct memory *memory);

	/* Tells the peer that the coming end is meant. */
	void (*leave)(struct end *end);

	/*
	 * Device (NULL elsewhere): ends this end in the kernel's eyes, which gives
	 * the peer id back. What is mapped stays, and drain() still tells news.
	 */
	void (*detach)(struct end *end);

	/* Closes what the backend opened and frees the end. */
	void (*free)(struct end *end);
};

struct end {
	const struct end_ops *ops;
	int wake_fd;		/* readable: drain() has work */
	int pidfd;		/* readable: the peer's process has ended; or -1 */
	bool child;		/* the peer is our child: we reap it */
	bool claimed;		/* the peer has come */
	bool left;		/* the peer said farewell */
	bool hangup;		/* the peer's end is closed */
	bool exit_awaited;	/* drain() will tell how the peer's process ends */
	uint32_t knocks;	/* doorbells that drain() took; link.c counts them off */
	bool more;		/* the last drain() left some for the next one */
	int shortage;		/* why the last drain() left memory where it was (-EMFILE), or 0 */
	_Atomic bool deaf;	/* that lies before all else: wake_fd tells nothing meanwhile */
	pid_t pid;		/* 0: not known */
	uid_t uid;
	gid_t gid;
	enum voxshm_exit_kind exit_kind;
	int exit_value;
	bool core_dumped;
};

void end_init(struct end *end, const struct end_ops *ops);

/* Closes the pidfd. The backend's free() calls it. */
void end_deinit(struct end *end);

/* Is a descriptor that a peer gave a UNIX socket of that type? */
bool end_is_socket(int fd, int type);

/* Learns the peer's process; replaces what was known. */
void end_set_peer(struct end *end, pid_t pid, uid_t uid, gid_t gid);

/* The peer is a child of ours. */
void end_set_child(struct end *end, pid_t pid);

/* Has the peer's process ended? Fills exit_kind and reaps our own child. */
bool end_check_exit(struct end *end);

#endif
