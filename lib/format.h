/* SPDX-License-Identifier: MIT */
/*
 * format.h - what a memory format does for a link and for a host.
 *
 * Nothing here waits: an operation that has no room or no message returns
 * -EAGAIN and notes what it lacked, so that writable() can look for just that.
 * link.c does the waiting.
 */
#ifndef FORMAT_H
#define FORMAT_H

#include "bootstrap.h"
#include "end.h"
#include "voxshm.h"

struct voxshm_host;

struct format {
	enum voxshm_format id;

	/*
	 * voxshm_send() and voxshm_recv() of a link that neither ended nor failed:
	 * link_send() and link_recv(), or something quicker that ends in these.
	 */
	int (*send)(struct voxshm_link *link, const void *data, size_t size, int64_t timeout);
	int (*recv)(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout);
	/*
	 * Of a batch, as many as go quickly, with `more`; maybe none. NULL: there is
	 * no quick way. Return: how many.
	 */
	unsigned int (*send_some)(struct voxshm_link *link, const struct iovec *messages,
				  unsigned int count);
	unsigned int (*recv_some)(struct voxshm_link *link, struct voxshm_view *views,
				  unsigned int count);

	/* Sending thread. `more`: no doorbell now; flush() comes after the last one. */
	int (*try_send)(struct voxshm_link *link, const void *data, size_t size, bool more);
	void (*flush)(struct voxshm_link *link);
	int (*try_loan)(struct voxshm_link *link, size_t size, struct voxshm_loan *loan);
	int (*try_commit)(struct voxshm_link *link, struct voxshm_loan *loan, size_t size);
	void (*abort)(struct voxshm_link *link, struct voxshm_loan *loan);
	/* Is there now what the last -EAGAIN lacked? */
	bool (*writable)(struct voxshm_link *link);

	/* Receiving thread. */
	int (*try_recv)(struct voxshm_link *link, struct voxshm_view *view);
	int (*release)(struct voxshm_link *link, struct voxshm_view *view);
	bool (*readable)(struct voxshm_link *link);

	/*
	 * Sets or clears the sleep words for VOXSHM_READABLE, VOXSHM_WRITABLE.
	 * disarm() returns whether the peer took one back: then a doorbell has
	 * come or is coming.
	 */
	void (*arm)(struct voxshm_link *link, unsigned int interest);
	bool (*disarm)(struct voxshm_link *link, unsigned int interest);

	/*
	 * The peer offered memory; takes the descriptor over in any case. Either
	 * thread, under waiters.lock.
	 */
	int (*object)(struct voxshm_link *link, uint32_t map_id, uint32_t generation,
		      uint64_t size, int fd);

	/* Unmaps, frees the end and the link. */
	void (*link_free)(struct voxshm_link *link);

	/* Host: the segment; config has its defaults filled in and is checked. */
	int (*host_init)(struct voxshm_host *host, struct voxshm_error *error);
	void (*host_goodbye)(struct voxshm_host *host);
	void (*host_deinit)(struct voxshm_host *host);
	/* NULL: the format has no shared pool that could grow. */
	int (*host_grow)(struct voxshm_host *host, uint64_t bytes, struct voxshm_error *error);

	/*
	 * Host: a link at a free peer slot, and what its guest needs. The
	 * invitation's descriptors are the caller's to close.
	 */
	int (*link_new)(struct voxshm_host *host, struct voxshm_link **link,
			struct invitation *invitation, struct voxshm_error *error);
	/* Host: the guest has come; the guest has ended, and its slot is free. */
	void (*link_attached)(struct voxshm_link *link);
	void (*link_ended)(struct voxshm_link *link);

	/*
	 * Guest: takes part in what it was invited to, and on success out of the
	 * invitation what it keeps.
	 */
	int (*join)(struct voxshm_link **link, struct invitation *invitation,
		    struct voxshm_error *error);
};

extern const struct format native_format;
extern const struct format vox_format;

#endif
