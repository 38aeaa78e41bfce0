/* SPDX-License-Identifier: MIT */
/* native/link.c - puts a link together over its window; see native.h. */
#include <stdlib.h>

#include "native/native.h"

static int init_parts(struct native_link *native, enum native_side side)
{
	const struct native_geometry *geometry = &native->geometry;
	enum native_side peer = side == NATIVE_HOST ? NATIVE_GUEST : NATIVE_HOST;
	uint32_t capacity = geometry->parameters.ring_capacity;
	uint32_t max_mappings = geometry->parameters.max_mappings;
	uint8_t *window = native->window.base;
	int ret;

	native->link.mine = (void *)(window + geometry->sleep[side]);
	native->link.theirs = (void *)(window + geometry->sleep[peer]);
	native_producer_init(&native->producer, (void *)(window + geometry->ring[side]), capacity);
	ret = native_pool_view_init(&native->peer_pool, geometry, peer, window);
	if (ret)
		return ret;
	ret = native_pool_init(&native->pool, geometry, side, window);
	if (ret)
		goto deinit_peer_pool;
	ret = mappings_init(&native->mappings, max_mappings,
			    (void *)(window + geometry->released[side]));
	if (ret)
		goto deinit_pool;
	ret = received_init(&native->received, max_mappings, geometry->parameters.max_payload,
			    (void *)(window + geometry->released[peer]));
	if (ret)
		goto deinit_mappings;
	ret = native_consumer_init(&native->consumer, (void *)(window + geometry->ring[peer]),
				   capacity, geometry->max_entry);
	if (ret)
		goto deinit_received;
	return 0;

deinit_received:
	received_deinit(&native->received);
deinit_mappings:
	mappings_deinit(&native->mappings);
deinit_pool:
	native_pool_deinit(&native->pool);
deinit_peer_pool:
	native_pool_view_deinit(&native->peer_pool);
	return ret;
}

static void deinit_parts(struct native_link *native)
{
	native_consumer_deinit(&native->consumer);
	received_deinit(&native->received);
	mappings_deinit(&native->mappings);
	native_pool_deinit(&native->pool);
	native_pool_view_deinit(&native->peer_pool);
}

static size_t small_sizes(uint32_t inline_limit)
{
	uint32_t largest = inline_limit < NATIVE_SMALL_MAX ? inline_limit : NATIVE_SMALL_MAX;

	return largest < NATIVE_SMALL_MIN ? 0 : largest - NATIVE_SMALL_MIN + 1;
}

int native_link_new(struct native_link **out, const struct native_geometry *geometry,
		    enum native_side side, struct memory *window, struct end *end)
{
	struct native_link *native;
	int ret;

	native = aligned_alloc(CACHE_LINE, align_up(sizeof(*native), CACHE_LINE));
	if (!native)
		return -ENOMEM;
	memset(native, 0, sizeof(*native));
	native->geometry = *geometry;
	native->window = *window;
	ret = init_parts(native, side);
	if (ret)
		goto free_native;
	ret = link_init(&native->link, &native_format, end, &native->sent, &native->taken);
	if (ret)
		goto deinit;
	native->link.max_payload = geometry->parameters.max_payload;
	native_scratch_init(&native->scratch, geometry->inline_limit);
	native->small_sizes = small_sizes(geometry->inline_limit);
	native->link.is_host = side == NATIVE_HOST;
	*window = MEMORY_NONE;
	*out = native;
	return 0;

deinit:
	deinit_parts(native);
free_native:
	free(native);
	return ret;
}

void native_link_free(struct voxshm_link *link)
{
	struct native_link *native = native_link(link);

	link_deinit(link);
	deinit_parts(native);
	memory_free(&native->window);
	free(native);
}

static void arm(struct voxshm_link *link, unsigned int interest)
{
	struct native_link *native = native_link(link);

	/* A producer that waits for room must not wait for our sleep to end. */
	native_publish_space(native);
	if (interest & VOXSHM_READABLE)
		shared_store_fenced_u32(&native->link.mine->data, 1);	/* C */
	if (interest & VOXSHM_WRITABLE)
		shared_store_fenced_u32(&native->link.mine->space, 1);	/* C */
}

static bool disarm(struct voxshm_link *link, unsigned int interest)
{
	struct native_link *native = native_link(link);
	bool rung = false;

	if (interest & VOXSHM_READABLE)
		rung |= shared_exchange_u32(&native->link.mine->data, 0) == 0;
	if (interest & VOXSHM_WRITABLE)
		rung |= shared_exchange_u32(&native->link.mine->space, 0) == 0;
	return rung;
}

static int object(struct voxshm_link *link, uint32_t map_id, uint32_t generation, uint64_t size,
		  int fd)
{
	int ret = received_offer(&native_link(link)->received, map_id, generation, size, fd);

	return ret == -EBADMSG ? link_fail(link, MAPPING_NOT_AS_SAID) : ret;
}

const struct format native_format = {
	.id = VOXSHM_FORMAT_NATIVE,
	.send = native_send,
	.recv = native_recv,
	.send_some = native_send_some,
	.recv_some = native_recv_some,
	.try_send = native_try_send,
	.flush = native_flush,
	.try_loan = native_try_loan,
	.try_commit = native_try_commit,
	.abort = native_abort,
	.writable = native_writable,
	.try_recv = native_try_recv,
	.release = native_release,
	.readable = native_readable,
	.arm = arm,
	.disarm = disarm,
	.object = object,
	.link_free = native_link_free,
	.host_init = native_host_init,
	.host_goodbye = native_host_goodbye,
	.host_deinit = native_host_deinit,
	.link_new = native_host_link_new,
	.link_attached = native_host_link_attached,
	.link_ended = native_host_link_ended,
	.join = native_join,
};
