// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells whoever listens of segments and of guests that ended. Off
 * unless the module's parameter asks, as any user may listen; so many a second
 * for each user; nothing depends on them.
 */
#include <linux/kobject.h>
#include <linux/llist.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "module.h"

static bool uevents;
module_param(uevents, bool, 0644);
MODULE_PARM_DESC(uevents, "send uevents: segments made and removed, guests ended (off)");

struct news {
	struct llist_node node;
	char *environment[5];
	char event[32], label[32 + VOXSHM_LABEL_MAX], peer[32], pid[32];
};

static LLIST_HEAD(unsent);

/* One work for all of them: they are sent in the order in which they came. */
static void send_work(struct work_struct *work)
{
	struct llist_node *list = llist_reverse_order(llist_del_all(&unsent));
	struct news *news, *next;

	llist_for_each_entry_safe(news, next, list, node) {
		news->environment[0] = news->event;
		news->environment[1] = news->label;
		news->environment[2] = news->peer;
		news->environment[3] = news->pid;
		kobject_uevent_env(voxshm_kobject(), KOBJ_CHANGE, news->environment);
		kfree(news);
	}
}

static DECLARE_WORK(send, send_work);

void voxshm_uevent(struct voxshm_segment *segment, const char *event, u32 peer_id,
		   struct pid *pid)
{
	struct news *news;

	if (!READ_ONCE(uevents) || !voxshm_may_tell(segment->user))
		return;
	news = kzalloc(sizeof(*news), GFP_KERNEL | __GFP_NOWARN);
	if (!news)
		return;
	snprintf(news->event, sizeof(news->event), "VOXSHM_EVENT=%s", event);
	snprintf(news->label, sizeof(news->label), "VOXSHM_LABEL=%s", segment->label);
	snprintf(news->peer, sizeof(news->peer), "VOXSHM_PEER=%u", peer_id);
	snprintf(news->pid, sizeof(news->pid), "VOXSHM_PID=%d", pid_nr(pid));
	llist_add(&news->node, &unsent);
	queue_work(voxshm_workqueue, &send);
}
