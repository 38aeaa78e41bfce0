// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is held in the name of a user (kuid), and how much may be. An account lives
 * as long as something is held.
 */
#include <linux/moduleparam.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>

#include "module.h"

struct account {
	struct list_head list;
	kuid_t uid;
	struct ratelimit_state uevents;
	u64 used[VOXSHM_RESOURCES];
};

static DEFINE_SPINLOCK(accounts_lock);
static LIST_HEAD(accounts);

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

static struct account *find(kuid_t uid)
{
	struct account *account;

	lockdep_assert_held(&accounts_lock);
	list_for_each_entry(account, &accounts, list)
		if (uid_eq(account->uid, uid))
			return account;
	return NULL;
}

int voxshm_charge(kuid_t uid, enum voxshm_resource resource, u64 amount)
{
	u64 used, limit = READ_ONCE(voxshm_limits[resource]);
	struct account *account, *new;
	int ret = -EDQUOT;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	new->uid = uid;
	ratelimit_state_init(&new->uevents, HZ, 100);
	ratelimit_set_flags(&new->uevents, RATELIMIT_MSG_ON_RELEASE);
	spin_lock(&accounts_lock);
	account = find(uid);
	used = account ? account->used[resource] : 0;
	if (used <= limit && amount <= limit - used) {
		if (!account) {
			list_add(&new->list, &accounts);
			swap(account, new);
		}
		account->used[resource] += amount;
		ret = 0;
	}
	spin_unlock(&accounts_lock);
	kfree(new);
	return ret;
}

void voxshm_uncharge(kuid_t uid, enum voxshm_resource resource, u64 amount)
{
	struct account *account;

	spin_lock(&accounts_lock);
	account = find(uid);
	account->used[resource] -= amount;
	if (memchr_inv(account->used, 0, sizeof(account->used)))
		account = NULL;
	else
		list_del(&account->list);
	spin_unlock(&accounts_lock);
	kfree(account);
}

bool voxshm_may_tell(kuid_t uid)
{
	struct account *account;
	bool may;

	spin_lock(&accounts_lock);
	account = find(uid);
	may = account && __ratelimit(&account->uevents);
	spin_unlock(&accounts_lock);
	return may;
}
