/* SPDX-License-Identifier: MIT */
/* vox/link.c - puts a vox link together and takes it apart; see vox.h. */
#include <stdlib.h>

#include "vox/vox.h"

/* How long a wait that nobody may end lasts at first, and at most. */
#define FIRST_NAP_NS 1000000ll
#define LONGEST_NAP_NS 256000000ll

/* Making ----------------------------------------------------------------------------- */

/* Payload sizes below the result travel in the ring: 8 + n within the threshold. */
static uint32_t inline_end(const struct vox_geometry *geometry)
{
	uint32_t threshold = vox_geometry_inline_threshold(geometry);
	uint32_t max_entry = vox_ring_max_entry(geometry->ring_capacity);
	uint32_t largest = threshold < max_entry ? threshold : max_entry;

	return largest < FRAME_HEADER_SIZE ? 0 : largest - FRAME_HEADER_SIZE + 1;
}

static int init_ring_ends(struct vox_link *vox, uint32_t peer, enum vox_side side)
{
	const struct vox_geometry *geometry = &vox->segment->geometry;
	uint32_t capacity = geometry->ring_capacity, *early;
	enum vox_side other = side == VOX_HOST ? VOX_GUEST : VOX_HOST;
	int ret;

	ret = vox_producer_init(&vox->producer, vox_peer_ring(vox->segment, peer, side), capacity);
	if (ret)
		return ret;
	early = calloc(vox_ring_early_words(capacity), sizeof(*early));
	if (!early)
		return -ENOMEM;
	ret = vox_consumer_init(&vox->consumer, vox_peer_ring(vox->segment, peer, other),
				capacity, early);
	if (ret) {
		free(early);
		vox->consumer.early = NULL;
	}
	return ret;
}

static void init_shared_words(struct vox_link *vox, uint32_t peer, enum vox_side side)
{
	struct vox_link_block *block = vox_link_block(vox->segment, peer);

	if (!block)
		return;
	vox->link.mine = &block->sleep[side];
	vox->link.theirs = &block->sleep[side == VOX_HOST ? VOX_GUEST : VOX_HOST];
	vox->sender_intent = &block->side[side].intents[VOX_SENDER];
	vox->receiver_intent = &block->side[side].intents[VOX_RECEIVER];
}

static int init_parts(struct vox_link *vox, uint32_t peer, enum vox_side side)
{
	const struct vox_geometry *geometry = &vox->segment->geometry;
	enum vox_side other = side == VOX_HOST ? VOX_GUEST : VOX_HOST;
	int ret;

	init_shared_words(vox, peer, side);
	vox->inline_end = inline_end(geometry);
	if (vox_pool_max_slot(&vox->segment->pool) >= VOX_LENGTH_PREFIX)
		vox->slot_end = vox_pool_max_slot(&vox->segment->pool) - VOX_LENGTH_PREFIX + 1;
	vox->nap = FIRST_NAP_NS;
	vox->holder = vox_pool_new_holder(&vox->segment->pool);
	vox->unread.holder = vox->holder;
	if (side == VOX_HOST) {
		vox->last_released = calloc(geometry->max_mappings, sizeof(*vox->last_released));
		if (!vox->last_released)
			return -ENOMEM;
	}
	ret = vox_mappings_init(&vox->mappings, vox->segment, peer, side);
	if (ret)
		goto free_released;
	ret = vox_received_init(&vox->received, vox->segment, peer, other);
	if (ret)
		goto deinit_mappings;
	ret = init_ring_ends(vox, peer, side);
	if (ret)
		goto deinit_received;
	return 0;

deinit_received:
	vox_received_deinit(&vox->received);
deinit_mappings:
	vox_mappings_deinit(&vox->mappings);
free_released:
	free((void *)vox->last_released);
	return ret;
}

static void deinit_parts(struct vox_link *vox)
{
	free((void *)vox->last_released);
	free(vox->consumer.early);
	vox_received_deinit(&vox->received);
	vox_mappings_deinit(&vox->mappings);
}

/* vox-shm rings once more for each slot that it has kept. */
static int32_t most_patience(const struct vox_geometry *geometry)
{
	uint64_t most = LINK_PATIENCE + (uint64_t)END_KNOCKS_OF_OFFER * geometry->max_mappings;
	uint32_t i;

	for (i = 0; i < geometry->num_classes; i++)
		most += geometry->classes[i].slot_count;
	return most < INT32_MAX ? (int32_t)most : INT32_MAX;
}

int vox_link_new(struct vox_link **out, struct voxshm_segment *segment, struct vox_end *end)
{
	struct vox_link *vox;
	int ret;

	vox = aligned_alloc(CACHE_LINE, align_up(sizeof(*vox), CACHE_LINE));
	if (!vox)
		return -ENOMEM;
	memset(vox, 0, sizeof(*vox));
	vox->segment = segment;
	vox->end = end;
	ret = init_parts(vox, end->peer_id, end->is_host ? VOX_HOST : VOX_GUEST);
	if (ret)
		goto free_vox;
	ret = link_init(&vox->link, &vox_format, &end->end, &vox->sent, &vox->taken);
	if (ret)
		goto deinit;
	vox->link.max_payload = segment->geometry.max_payload;
	vox->link.is_host = end->is_host;
	vox->link.peer_id = end->peer_id;
	vox->link.epoch = end->epoch;
	vox->link.most_patience = most_patience(&segment->geometry);
	vox->link.patience = vox->link.most_patience;
	end->link = &vox->link;
	*out = vox;
	return 0;

deinit:
	deinit_parts(vox);
free_vox:
	free(vox);
	return ret;
}

static void link_free(struct voxshm_link *link)
{
	struct vox_link *vox = vox_link(link);

	if (link->is_host) {
		vox_host_link_forget(vox);
		vox_free_all_held(vox->segment, vox->holder);
		vox_unread_deinit(&vox->unread);
	} else {
		vox_pool_free_all_held(&vox->segment->pool, vox->holder, vox->receiver_intent);
	}
	deinit_parts(vox);
	if (!link->is_host)
		voxshm_segment_free(vox->segment);
	/* The end last: its hang-up says that this side touches nothing any more. */
	link_deinit(link);
	free(vox);
}

int vox_link_free_slot(struct vox_link *vox, const struct vox_slot_ref *ref,
		       enum vox_thread thread)
{
	struct voxshm_segment *segment = vox->segment;
	int ret;

	if (!vox->buried)
		return vox_pool_free_held(&segment->pool, ref, vox->holder,
					  thread == VOX_SENDER ? vox->sender_intent :
								 vox->receiver_intent);
	/* The link block is the next life's now. */
	pthread_mutex_lock(&segment->lock);
	ret = vox_pool_free_held(&segment->pool, ref, vox->holder,
				 &vox_directory(segment)->host_intents[VOX_RECEIVER]);
	pthread_mutex_unlock(&segment->lock);
	return ret;
}

void vox_ring_stranger(struct vox_link *vox)
{
	atomic_fetch_add_explicit(&vox->link.doorbells_rung, 1, memory_order_relaxed);
	vox->link.end->ops->ring(vox->link.end);
}

/* Waiting ------------------------------------------------------------------------------- */

/*
 * Some news comes without a ring: a slot that another guest freed, room in the
 * control socket, a vox-shm guest that has come, a vox-shm peer one of whose
 * threads took the other's ring (drain() then rings it again). A wait for
 * these looks again after a while, which grows while nothing happens.
 */
static bool must_nap(const struct vox_link *vox, unsigned int interest)
{
	if (!vox_is_ours(vox))
		return true;
	return (interest & VOXSHM_WRITABLE) &&
	       (vox->lack == VOX_LACK_SLOT || vox->lack == VOX_LACK_CONTROL);
}

/* Each thread looks at what it did itself. */
static bool has_progressed(struct vox_link *vox, unsigned int interest)
{
	bool progressed = false;

	if ((interest & VOXSHM_READABLE) &&
	    vox->received_at_nap != vox->taken.messages) {
		vox->received_at_nap = vox->taken.messages;
		progressed = true;
	}
	if ((interest & VOXSHM_WRITABLE) && vox->sent_at_nap != vox->sent.messages) {
		vox->sent_at_nap = vox->sent.messages;
		progressed = true;
	}
	return progressed;
}

/*
 * One that runs already goes on: a peer that rings all the time would put it
 * off for ever. One that nobody waits for any more would be taken for news.
 */
static void set_nap(struct vox_link *vox, unsigned int interest, bool must)
{
	struct voxshm_link *link = &vox->link;
	bool progressed;

	pthread_mutex_lock(&link->waiters.lock);
	if (must) {
		vox->napping |= interest;
		progressed = has_progressed(vox, interest);
		if (progressed || !vox->end->timer_runs) {
			vox->nap = progressed ? FIRST_NAP_NS : 2 * vox->nap;
			if (vox->nap > LONGEST_NAP_NS)
				vox->nap = LONGEST_NAP_NS;
			vox_end_set_timer(vox->end, vox->nap);
		}
	} else {
		vox->napping &= ~interest;
		if (!vox->napping)
			vox_end_set_timer(vox->end, 0);
	}
	atomic_store_explicit(&vox->timer_set, vox->napping != 0, memory_order_relaxed);
	pthread_mutex_unlock(&link->waiters.lock);
}

static void arm(struct voxshm_link *link, unsigned int interest)
{
	struct vox_link *vox = vox_link(link);
	bool must;

	if (link_state(link) > VOXSHM_LINK_ATTACHED)
		return;
	if (vox->link.mine && (interest & VOXSHM_READABLE))
		shared_store_fenced_u32(&vox->link.mine->data, 1);		/* C */
	if (vox->link.mine && (interest & VOXSHM_WRITABLE))
		shared_store_fenced_u32(&vox->link.mine->space, 1);		/* C */
	must = must_nap(vox, interest);
	if (must || atomic_load_explicit(&vox->timer_set, memory_order_relaxed))
		set_nap(vox, interest, must);
}

static bool disarm(struct voxshm_link *link, unsigned int interest)
{
	struct vox_link *vox = vox_link(link);
	bool rung = false;

	if (!vox->link.mine || link_state(link) > VOXSHM_LINK_ATTACHED)
		return true;
	if (interest & VOXSHM_READABLE)
		rung |= shared_exchange_u32(&vox->link.mine->data, 0) == 0;
	if (interest & VOXSHM_WRITABLE)
		rung |= shared_exchange_u32(&vox->link.mine->space, 0) == 0;
	return rung;
}

const struct format vox_format = {
	.id = VOXSHM_FORMAT_VOX,
	.send = link_send,
	.recv = link_recv,
	.try_send = vox_try_send,
	.flush = vox_flush,
	.try_loan = vox_try_loan,
	.try_commit = vox_try_commit,
	.abort = vox_abort,
	.writable = vox_writable,
	.try_recv = vox_try_recv,
	.release = vox_release,
	.readable = vox_readable,
	.arm = arm,
	.disarm = disarm,
	.object = vox_object,
	.link_free = link_free,
	.host_init = vox_host_init,
	.host_goodbye = vox_host_goodbye,
	.host_deinit = vox_host_deinit,
	.host_grow = vox_host_grow,
	.link_new = vox_host_link_new,
	.link_attached = vox_host_link_attached,
	.link_ended = vox_host_link_ended,
	.join = vox_join,
};
