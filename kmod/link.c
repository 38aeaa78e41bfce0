// SPDX-License-Identifier: GPL-2.0-only
/*
 * One life of a peer id: a window, the objects of both sides, and two
 * ends (end.c). It lives as long as the file of either end, which their mappings
 * hold too.
 */
#include <linux/slab.h>

#include "module.h"

static void link_free(struct kref *kref)
{
	struct voxshm_link *link = container_of(kref, struct voxshm_link, kref);
	struct voxshm_object *object;
	unsigned long id;

	voxshm_segment_remove(link->segment, link);
	voxshm_end_deinit(&link->guest);
	voxshm_end_deinit(&link->host);
	voxshm_link_ticket_used(link);
	xa_for_each(&link->objects, id, object)
		voxshm_object_put(object);
	xa_destroy(&link->objects);
	voxshm_object_put(link->window);
	voxshm_uncharge(link->segment->user, VOXSHM_LINKS, 1);
	voxshm_segment_put(link->segment);
	kfree(link);
}

void voxshm_link_put(struct voxshm_link *link)
{
	kref_put(&link->kref, link_free);
}

void voxshm_link_ticket_used(struct voxshm_link *link)
{
	bool ticket;

	spin_lock(&link->lock);
	ticket = link->ticket;
	link->ticket = false;
	spin_unlock(&link->lock);
	if (ticket)
		voxshm_uncharge(link->segment->user, VOXSHM_TICKETS, 1);
}

/* Made by the host, whose end is attached. */
struct voxshm_link *voxshm_link_new(struct voxshm_segment *segment, u32 peer_id)
{
	kuid_t user = segment->user;
	struct voxshm_link *link;
	int ret;

	link = kzalloc(sizeof(*link), GFP_KERNEL_ACCOUNT);
	if (!link)
		return ERR_PTR(-ENOMEM);
	ret = voxshm_charge(user, VOXSHM_LINKS, 1);
	if (ret)
		goto free_link;
	ret = voxshm_charge(user, VOXSHM_TICKETS, 1);
	if (ret)
		goto uncharge_link;
	link->window = voxshm_object_new(segment->window_size);
	if (IS_ERR(link->window)) {
		ret = PTR_ERR(link->window);
		goto uncharge_ticket;
	}
	kref_init(&link->kref);
	xa_init(&link->objects);
	spin_lock_init(&link->lock);
	link->ticket = true;
	link->segment = segment;
	voxshm_end_init(&link->host, link, true);
	voxshm_end_init(&link->guest, link, false);
	ret = voxshm_segment_add(segment, link, peer_id);
	if (ret)
		goto put_window;
	kref_get(&segment->kref);
	voxshm_end_attach(&link->host);
	return link;

put_window:
	voxshm_object_put(link->window);
uncharge_ticket:
	voxshm_uncharge(user, VOXSHM_TICKETS, 1);
uncharge_link:
	voxshm_uncharge(user, VOXSHM_LINKS, 1);
free_link:
	kfree(link);
	return ERR_PTR(ret);
}
