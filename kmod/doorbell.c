// SPDX-License-Identifier: GPL-2.0-only
/*
 * The eventfd by which an end is told of news. It is its owner's
 * alone: the other end cannot drain it, fill it, or make it block.
 *
 * Who signals an eventfd runs the wake-ups of all who wait for it, with
 * interrupts off; its owner can make them many. So a doorbell that has been slow
 * is signalled from a workqueue; a ringer pays for it once in a thousand times.
 */
#include <linux/ktime.h>
#include <linux/slab.h>

#include "compat.h"
#include "module.h"

#define SLOW_NS (200 * NSEC_PER_USEC)
#define SLOW_SIGNALS 1000

struct voxshm_doorbell {
	struct kref kref;
	struct eventfd_ctx *eventfd;
	atomic_t slow;			/* signals that are still to be left to the workqueue */
	struct work_struct work;
};

static void signal_timed(struct voxshm_doorbell *doorbell)
{
	u64 start = ktime_get_ns();

	compat_eventfd_signal(doorbell->eventfd);
	if (ktime_get_ns() - start > SLOW_NS)
		atomic_set(&doorbell->slow, SLOW_SIGNALS);
	else
		atomic_add_unless(&doorbell->slow, -1, 0);
}

static void signal_work(struct work_struct *work)
{
	struct voxshm_doorbell *doorbell = container_of(work, struct voxshm_doorbell, work);

	signal_timed(doorbell);
	voxshm_doorbell_put(doorbell);
}

struct voxshm_doorbell *voxshm_doorbell_new(int fd)
{
	struct voxshm_doorbell *doorbell = kzalloc(sizeof(*doorbell), GFP_KERNEL_ACCOUNT);
	struct eventfd_ctx *eventfd;

	if (!doorbell)
		return ERR_PTR(-ENOMEM);
	eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(eventfd)) {
		kfree(doorbell);
		return ERR_CAST(eventfd);
	}
	kref_init(&doorbell->kref);
	doorbell->eventfd = eventfd;
	INIT_WORK(&doorbell->work, signal_work);
	return doorbell;
}

static void doorbell_free(struct kref *kref)
{
	struct voxshm_doorbell *doorbell = container_of(kref, struct voxshm_doorbell, kref);

	eventfd_ctx_put(doorbell->eventfd);
	kfree(doorbell);
}

struct voxshm_doorbell *voxshm_doorbell_get(struct voxshm_doorbell *doorbell)
{
	kref_get(&doorbell->kref);
	return doorbell;
}

/* Accepts NULL. */
void voxshm_doorbell_put(struct voxshm_doorbell *doorbell)
{
	if (doorbell)
		kref_put(&doorbell->kref, doorbell_free);
}

void voxshm_doorbell_signal(struct voxshm_doorbell *doorbell)
{
	if (!atomic_read(&doorbell->slow)) {
		signal_timed(doorbell);
		return;
	}
	voxshm_doorbell_get(doorbell);
	if (!queue_work(voxshm_workqueue, &doorbell->work))
		voxshm_doorbell_put(doorbell);
}
