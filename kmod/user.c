// SPDX-License-Identifier: GPL-2.0-only
/*
 * The account of one user (kuid): what is held in its name, and how
 * much may be. Lives as long as something is held.
 */
#include <linux/cred.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "module.h"

static DEFINE_SPINLOCK(users_lock);
static LIST_HEAD(users);

unsigned long long voxshm_limits[VOXSHM_RESOURCES] = {
	[VOXSHM_BYTES] = 0,	/* set by voxshm_init() */
	[VOXSHM_SEGMENTS] = 256,
	[VOXSHM_LINKS] = 4096,
	[VOXSHM_TICKETS] = 1024,
};

module_param_named(max_bytes, voxshm_limits[VOXSHM_BYTES], ullong, 0644);
MODULE_PARM_DESC(max_bytes, "shared memory of one user in bytes (default: a quarter of the RAM)");
module_param_named(max_segments, voxshm_limits[VOXSHM_SEGMENTS], ullong, 0644);
MODULE_PARM_DESC(max_segments, "segments of one user (256)");
module_param_named(max_links, voxshm_limits[VOXSHM_LINKS], ullong, 0644);
MODULE_PARM_DESC(max_links, "links of one user's hosts (4096)");
module_param_named(max_tickets, voxshm_limits[VOXSHM_TICKETS], ullong, 0644);
MODULE_PARM_DESC(max_tickets, "links of one user's hosts that no guest has claimed yet (1024)");

static struct voxshm_user *find(kuid_t uid)
{
	struct voxshm_user *user;

	lockdep_assert_held(&users_lock);
	list_for_each_entry(user, &users, list)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

struct voxshm_user *voxshm_user_get_current(void)
{
	struct voxshm_user *user, *new;
	kuid_t uid = current_uid();

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return ERR_PTR(-ENOMEM);
	new->uid = uid;
	ratelimit_state_init(&new->uevents, HZ, 100);
	ratelimit_set_flags(&new->uevents, RATELIMIT_MSG_ON_RELEASE);
	spin_lock(&users_lock);
	user = find(uid);
	if (!user) {
		user = new;
		new = NULL;
		list_add(&user->list, &users);
	}
	user->users++;
	spin_unlock(&users_lock);
	kfree(new);
	return user;
}

struct voxshm_user *voxshm_user_get(struct voxshm_user *user)
{
	spin_lock(&users_lock);
	user->users++;
	spin_unlock(&users_lock);
	return user;
}

void voxshm_user_put(struct voxshm_user *user)
{
	bool last;

	spin_lock(&users_lock);
	last = --user->users == 0;
	if (last)
		list_del(&user->list);
	spin_unlock(&users_lock);
	if (last)
		kfree(user);
}

int voxshm_user_charge(struct voxshm_user *user, enum voxshm_resource resource, u64 amount)
{
	u64 limit = READ_ONCE(voxshm_limits[resource]), *used = &user->used[resource];
	int ret = -EDQUOT;

	spin_lock(&users_lock);
	if (*used <= limit && amount <= limit - *used) {
		*used += amount;
		ret = 0;
	}
	spin_unlock(&users_lock);
	return ret;
}

void voxshm_user_uncharge(struct voxshm_user *user, enum voxshm_resource resource, u64 amount)
{
	spin_lock(&users_lock);
	user->used[resource] -= amount;
	spin_unlock(&users_lock);
}
