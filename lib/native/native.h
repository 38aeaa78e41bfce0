/* SPDX-License-Identifier: MIT */
/*
 * native/native.h - a link over a window, and the host's part of the format.
 *
 * The link owns its window: made with it, unmapped with it, whatever became
 * of the peer. So views outlive the peer, and nothing of a dead guest needs
 * to be cleaned.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include "link.h"
#include "mappings.h"
#include "native/pool.h"
#include "native/scratch.h"
#include "native/window.h"

/* What the last refused send lacked. */
enum native_lack {
	LACK_NOTHING,
	LACK_RING,
	LACK_SLOT,
	LACK_MAPPING,
};

struct native_link {
	struct voxshm_link link;
	struct native_geometry geometry;
	struct memory window;

	/* the sending thread's */
	_Alignas(CACHE_LINE) struct link_traffic sent;
	struct native_producer producer;
	size_t small_sizes;		/* so many, from NATIVE_SMALL_MIN on, travel inline */
	struct native_pool pool;
	struct mappings mappings;
	struct native_scratch scratch;
	enum native_lack lack;
	size_t lack_size;

	/* the receiving thread's */
	_Alignas(CACHE_LINE) struct link_traffic taken;
	struct native_consumer consumer;
	struct native_pool_view peer_pool;
	struct received_mappings received;
};

/* Payloads that native_send() copies by itself. */
#define NATIVE_SMALL_MIN 8u
#define NATIVE_SMALL_MAX 64u

struct native_host {
	struct native_geometry geometry;
	struct memory main;
	bool taken[VOXSHM_MAX_GUESTS];		/* private; the table mirrors it */
	uint32_t epoch[VOXSHM_MAX_GUESTS];
};

static inline struct native_link *native_link(struct voxshm_link *link)
{
	return (struct native_link *)(void *)link;
}

/*
 * Makes the link of one side over a window; takes window and end over on
 * success. Return: 0 or -ENOMEM.
 */
int native_link_new(struct native_link **out, const struct native_geometry *geometry,
		    enum native_side side, struct memory *window, struct end *end);
void native_link_free(struct voxshm_link *link);

/* native/send.c */
int native_send(struct voxshm_link *link, const void *data, size_t size, int64_t timeout);
unsigned int native_send_some(struct voxshm_link *link, const struct iovec *messages,
			      unsigned int count);
int native_try_send(struct voxshm_link *link, const void *data, size_t size, bool more);
void native_flush(struct voxshm_link *link);
int native_try_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan);
int native_try_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size);
void native_abort(struct voxshm_link *link, struct voxshm_loan *loan);
bool native_writable(struct voxshm_link *link);

/* native/recv.c */
int native_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout);
unsigned int native_recv_some(struct voxshm_link *link, struct voxshm_view *views,
			      unsigned int count);
int native_try_recv(struct voxshm_link *link, struct voxshm_view *view);
int native_release(struct voxshm_link *link, struct voxshm_view *view);
bool native_readable(struct voxshm_link *link);

/* Gives released ring space to the producer now. */
void native_publish_space(struct native_link *native);

/* native/segment.c */
int native_host_init(struct voxshm_host *host, struct voxshm_error *error);
void native_host_goodbye(struct voxshm_host *host);
void native_host_deinit(struct voxshm_host *host);
int native_host_link_new(struct voxshm_host *host, struct voxshm_link **link,
			 struct invitation *invitation, struct voxshm_error *error);
void native_host_link_attached(struct voxshm_link *link);
void native_host_link_ended(struct voxshm_link *link);
int native_join(struct voxshm_link **link, struct invitation *invitation,
		struct voxshm_error *error);

#endif
