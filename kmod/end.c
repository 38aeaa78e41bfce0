// SPDX-License-Identifier: GPL-2.0-only
/*
 * One end of a link: who owns it, how it ends, and the calls on it.
 *
 * An end ends once, by the first of: DETACH; the last close() of its file; the
 * last unmapping of its window by an owner that lives (exec, munmap); the death of
 * the owner's process. The death is told, with how it came, whatever ended the
 * end before.
 *
 * A death is seen in two ways. Mostly first: the dying process closes its
 * files, when nobody else shares its table. For certain: the notification of
 * pidfds; it comes under tasklist_lock, so it only records and queues work.
 */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "events.h"
#include "module.h"

/* Making and freeing ----------------------------------------------------------- */

static void death_work(struct work_struct *work)
{
	struct voxshm_end *end = container_of(work, struct voxshm_end, death_work);

	voxshm_end_finish(end, VOXSHM_HOW_DIED, end->dead_code);
	voxshm_link_put(end->link);
}

/* As wait() would tell it, for a process whose last thread is exiting. */
static int exit_code_of(struct task_struct *task)
{
	if (task->signal->flags & SIGNAL_GROUP_EXIT)
		return task->signal->group_exit_code;
	return task->group_leader->exit_code;
}

/* Under tasklist_lock. From 6.9 on also called when only the leader has exited. */
static int owner_exits(wait_queue_entry_t *wait, unsigned int mode, int flags, void *key)
{
	struct voxshm_end *end = container_of(wait, struct voxshm_end, death_wait);
	struct task_struct *task;
	bool dead = true;
	int code = 0;

	rcu_read_lock();
	task = pid_task(end->owner, PIDTYPE_TGID);
	if (task) {
		dead = !atomic_read(&task->signal->live);
		code = exit_code_of(task);
	}
	rcu_read_unlock();
	if (!dead || atomic_xchg(&end->dead, 1) || !kref_get_unless_zero(&end->link->kref))
		return 0;
	end->dead_code = code;
	queue_work(voxshm_workqueue, &end->death_work);
	return 0;
}

void voxshm_end_init(struct voxshm_end *end, struct voxshm_link *link, bool is_host)
{
	end->link = link;
	end->is_host = is_host;
	init_waitqueue_head(&end->wait);
	INIT_WORK(&end->death_work, death_work);
	init_waitqueue_func_entry(&end->death_wait, owner_exits);
}

void voxshm_end_attach(struct voxshm_end *end)
{
	struct pid *owner = get_pid(task_tgid(current));

	spin_lock(&end->link->lock);
	end->owner = owner;
	current_uid_gid(&end->uid, &end->gid);
	end->claiming = false;
	if (end->state == VOXSHM_STATE_WAITING)
		end->state = VOXSHM_STATE_ATTACHED;
	spin_unlock(&end->link->lock);
	/* The caller lives, so its process has not ended yet. */
	add_wait_queue(&owner->wait_pidfd, &end->death_wait);
}

void voxshm_end_deinit(struct voxshm_end *end)
{
	if (end->owner) {
		remove_wait_queue(&end->owner->wait_pidfd, &end->death_wait);
		put_pid(end->owner);
	}
	voxshm_doorbell_put(end->doorbell);
}

/* News ----------------------------------------------------------------------------- */

void voxshm_end_ring(struct voxshm_end *end)
{
	struct voxshm_link *link = end->link;
	struct voxshm_doorbell *doorbell = NULL;

	spin_lock(&link->lock);
	if (end->doorbell)
		doorbell = voxshm_doorbell_get(end->doorbell);
	else
		end->rung = true;
	spin_unlock(&link->lock);
	if (doorbell) {
		voxshm_doorbell_signal(doorbell);
		voxshm_doorbell_put(doorbell);
	}
}

/* Takes the reference over. What was rung before, or on the old one, is not lost. */
static void set_doorbell(struct voxshm_end *end, struct voxshm_doorbell *doorbell)
{
	struct voxshm_doorbell *old;
	bool rung;

	spin_lock(&end->link->lock);
	old = end->doorbell;
	end->doorbell = doorbell;
	rung = end->rung || old;
	end->rung = false;
	spin_unlock(&end->link->lock);
	voxshm_doorbell_put(old);
	if (rung)
		voxshm_end_ring(end);
}

void voxshm_end_finish(struct voxshm_end *end, enum voxshm_end_how how, int exit_code)
{
	struct voxshm_end *other = voxshm_end_other(end);
	struct voxshm_link *link = end->link;
	bool ended, exited, attached;

	spin_lock(&link->lock);
	attached = end->state == VOXSHM_STATE_ATTACHED;
	ended = end->state != VOXSHM_STATE_ENDED;
	if (ended) {
		end->state = VOXSHM_STATE_ENDED;
		end->how = end->owner ? how : VOXSHM_HOW_UNCLAIMED;
	}
	exited = exit_code >= 0 && !end->exited;
	if (exited) {
		end->exited = true;
		end->exit_code = exit_code;
	}
	spin_unlock(&link->lock);
	if (!ended && !exited)
		return;
	trace_voxshm_end(link->peer_id, link->epoch, end->is_host, how, exit_code);
	if (ended) {
		voxshm_segment_remove(link->segment, link);
		voxshm_link_ticket_used(link);
		if (attached && !end->is_host)
			voxshm_uevent(link->segment, "ended", link->peer_id, end->owner);
	}
	voxshm_end_ring(other);
	voxshm_end_ring(end);
	wake_up_interruptible_all(&other->wait);
}

/* Calls ------------------------------------------------------------------------------ */

static bool is_owner(const struct voxshm_end *end)
{
	/* Set once; whoever it is set to sees it. */
	return READ_ONCE(end->owner) == task_tgid(current);
}

static enum voxshm_end_state end_state(struct voxshm_end *end)
{
	return READ_ONCE(end->state);
}

static long end_bind(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data;
	struct voxshm_doorbell *doorbell;

	if (!end->is_host)
		return -ENOTTY;
	if (!is_owner(end))
		return -EPERM;
	if (call->args.bind.flags)
		return -EINVAL;
	doorbell = voxshm_doorbell_new(call->args.bind.eventfd);
	if (IS_ERR(doorbell))
		return PTR_ERR(doorbell);
	set_doorbell(end, doorbell);
	return 0;
}

/* Only one claims at a time; who fails leaves the ticket to others. */
static int claim_begin(struct voxshm_end *end)
{
	struct voxshm_link *link = end->link;
	int ret = 0;

	spin_lock(&link->lock);
	if (end->state == VOXSHM_STATE_ATTACHED || end->claiming)
		ret = -EBUSY;
	else if (end->state == VOXSHM_STATE_ENDED || link->host.state == VOXSHM_STATE_ENDED)
		ret = end->owner ? -EBUSY : -EPIPE;
	else
		end->claiming = true;
	spin_unlock(&link->lock);
	return ret;
}

static void claim_abort(struct voxshm_end *end)
{
	spin_lock(&end->link->lock);
	end->claiming = false;
	spin_unlock(&end->link->lock);
}

static long end_claim(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data;
	struct voxshm_ioc_claim *args = &call->args.claim;
	struct voxshm_link *link = end->link;
	struct voxshm_doorbell *doorbell;
	int ret;

	if (end->is_host)
		return -ENOTTY;
	if (args->flags || args->reserved)
		return -EINVAL;
	doorbell = voxshm_doorbell_new(args->eventfd);
	if (IS_ERR(doorbell))
		return PTR_ERR(doorbell);
	ret = claim_begin(end);
	if (ret)
		goto put_doorbell;
	ret = voxshm_object_fill(link->window);
	if (ret)
		goto abort;
	args->peer_id = link->peer_id;
	args->epoch = link->epoch;
	args->main_size = link->segment->main->size;
	args->window_size = link->window->size;
	args->pools = voxshm_segment_num_pools(link->segment);
	ret = voxshm_answer(call);
	if (ret)
		goto abort;
	voxshm_end_attach(end);
	voxshm_link_ticket_used(link);
	trace_voxshm_claim(link->peer_id, link->epoch, false);
	set_doorbell(end, doorbell);
	voxshm_end_ring(end);
	voxshm_end_ring(&link->host);
	return 0;

abort:
	claim_abort(end);
put_doorbell:
	voxshm_doorbell_put(doorbell);
	return ret;
}

static void fill_exit(const struct voxshm_end *end, struct voxshm_ioc_status *status)
{
	int signal = end->exit_code & 0x7f;

	if (!end->exited)
		return;
	status->exit = signal ? VOXSHM_EXITED_SIGNAL : VOXSHM_EXITED_CODE;
	status->exit_value = signal ? signal : end->exit_code >> 8 & 0xff;
	status->core_dumped = !!(end->exit_code & 0x80);
}

static long end_status(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data, *other = voxshm_end_other(end);
	struct voxshm_ioc_status *status = &call->args.status;
	struct user_namespace *ns = current_user_ns();
	struct voxshm_link *link = end->link;

	status->peer_id = link->peer_id;
	status->epoch = link->epoch;
	status->pools = voxshm_segment_num_pools(link->segment);
	spin_lock(&link->lock);
	status->state = other->state;
	status->how = other->how;
	fill_exit(other, status);
	if (other->owner) {
		status->pid = pid_vnr(other->owner);
		status->uid = from_kuid_munged(ns, other->uid);
		status->gid = from_kgid_munged(ns, other->gid);
	}
	spin_unlock(&link->lock);
	return voxshm_answer(call);
}

static u32 own_objects(const struct voxshm_end *end)
{
	return end->is_host ? VOXSHM_OBJECT_HOST : VOXSHM_OBJECT_GUEST;
}

/* Counts the size as the guest's until the object is freed. */
static int charge_guest(struct voxshm_link *link, u64 size)
{
	u64 limit = link->segment->guest_bytes;

	if (size > VOXSHM_SIZE_MAX)
		return -E2BIG;
	if (atomic64_add_return(size, &link->guest_bytes) > limit && limit) {
		atomic64_sub(size, &link->guest_bytes);
		return -EDQUOT;
	}
	return 0;
}

static int object_make(struct voxshm_end *end, u32 id, u64 size)
{
	struct voxshm_link *link = end->link;
	struct voxshm_object *object;
	int ret;

	if (xa_load(&link->objects, id))
		return -EEXIST;
	ret = end->is_host ? 0 : charge_guest(link, size);
	if (ret)
		return ret;
	object = voxshm_object_new_filled(size);
	if (IS_ERR(object)) {
		if (!end->is_host)
			atomic64_sub(size, &link->guest_bytes);
		return PTR_ERR(object);
	}
	if (!end->is_host)
		object->guest_bytes = &link->guest_bytes;
	ret = xa_insert(&link->objects, id, object, GFP_KERNEL_ACCOUNT);
	if (ret)
		voxshm_object_put(object);
	return ret == -EBUSY ? -EEXIST : ret;
}

static long end_object_create(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data;
	const struct voxshm_ioc_object *args = &call->args.object;
	u32 limit = end->is_host ? VOXSHM_OBJECTS_MAX : end->link->segment->guest_objects;

	if (!is_owner(end))
		return -EPERM;
	if (args->flags || args->index >= limit)
		return -EINVAL;
	if (end_state(end) == VOXSHM_STATE_ENDED ||
	    end_state(voxshm_end_other(end)) == VOXSHM_STATE_ENDED)
		return -EPIPE;
	return object_make(end, own_objects(end) + args->index, args->size);
}

static long end_object_drop(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data;
	const struct voxshm_ioc_drop *args = &call->args.drop;
	struct voxshm_object *object;

	if (!is_owner(end))
		return -EPERM;
	if (args->flags || args->index >= VOXSHM_OBJECTS_MAX)
		return -EINVAL;
	object = xa_erase(&end->link->objects, own_objects(end) + args->index);
	if (!object)
		return -ENOENT;
	voxshm_object_put(object);
	return 0;
}

static long end_detach(struct file *file, struct voxshm_call *call)
{
	struct voxshm_end *end = file->private_data;

	if (!is_owner(end))
		return -EPERM;
	if (call->args.detach.flags || call->args.detach.reserved)
		return -EINVAL;
	voxshm_end_finish(end, VOXSHM_HOW_DETACHED, -1);
	return 0;
}

static const struct voxshm_call_type end_calls[] = {
	[_IOC_NR(VOXSHM_IOC_BIND)] = { VOXSHM_IOC_BIND, end_bind },
	[_IOC_NR(VOXSHM_IOC_CLAIM)] = { VOXSHM_IOC_CLAIM, end_claim },
	[_IOC_NR(VOXSHM_IOC_STATUS)] = { VOXSHM_IOC_STATUS, end_status },
	[_IOC_NR(VOXSHM_IOC_OBJECT_CREATE)] = { VOXSHM_IOC_OBJECT_CREATE, end_object_create },
	[_IOC_NR(VOXSHM_IOC_OBJECT_DROP)] = { VOXSHM_IOC_OBJECT_DROP, end_object_drop },
	[_IOC_NR(VOXSHM_IOC_DETACH)] = { VOXSHM_IOC_DETACH, end_detach },
};

static long end_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	return voxshm_call(file, command, arg, end_calls, ARRAY_SIZE(end_calls));
}

static ssize_t end_write(struct file *file, const char __user *data, size_t count, loff_t *offset)
{
	struct voxshm_end *end = file->private_data, *other = voxshm_end_other(end);

	if (!is_owner(end))
		return -EPERM;
	if (!count)
		return -EINVAL;
	if (end_state(other) == VOXSHM_STATE_ENDED)
		return -EPIPE;
	trace_voxshm_ring(end->link->peer_id, end->link->epoch, end->is_host);
	voxshm_end_ring(other);
	return count;
}

static __poll_t end_poll(struct file *file, poll_table *table)
{
	struct voxshm_end *end = file->private_data;

	poll_wait(file, &end->wait, table);
	return end_state(voxshm_end_other(end)) == VOXSHM_STATE_ENDED ? EPOLLHUP : 0;
}

/* Memory -------------------------------------------------------------------------- */

static void window_open(struct vm_area_struct *vma)
{
	struct voxshm_end *end = vma->vm_file->private_data;

	atomic_inc(&end->windows);
	voxshm_object_open(vma);
}

/*
 * Nobody holds the window, or the file, any more. Where a dying owner let go of
 * it, the death follows, and with it how it came.
 */
static void end_let_go(struct voxshm_end *end)
{
	struct task_struct *task;
	bool dying = false;

	rcu_read_lock();
	if (end->owner) {
		task = pid_task(end->owner, PIDTYPE_TGID);
		dying = !task || !atomic_read(&task->signal->live);
	}
	rcu_read_unlock();
	if (!dying)
		voxshm_end_finish(end, VOXSHM_HOW_CLOSED, -1);
}

static void window_close(struct vm_area_struct *vma)
{
	struct voxshm_end *end = vma->vm_file->private_data;

	if (atomic_dec_and_test(&end->windows))
		end_let_go(end);
	voxshm_object_close(vma);
}

static const struct vm_operations_struct window_vm_ops = {
	.open = window_open,
	.close = window_close,
	.fault = voxshm_object_fault,
};

static int mmap_object(struct voxshm_end *end, unsigned int id, struct vm_area_struct *vma)
{
	struct voxshm_object *object;
	bool writable = true;
	int ret;

	if (id >= VOXSHM_OBJECT_HOST) {
		writable = (id >= VOXSHM_OBJECT_GUEST) != end->is_host;
		xa_lock(&end->link->objects);
		object = xa_load(&end->link->objects, id);
		if (object)
			kref_get(&object->kref);
		xa_unlock(&end->link->objects);
	} else {
		object = voxshm_segment_pool(end->link->segment, id - VOXSHM_OBJECT_POOL);
	}
	if (!object)
		return -ENXIO;
	ret = voxshm_object_mmap(object, vma, writable, &voxshm_object_vm_ops);
	voxshm_object_put(object);
	return ret;
}

static int end_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct voxshm_end *end = file->private_data;
	struct voxshm_link *link = end->link;
	unsigned int id = voxshm_object_id(vma);
	int ret;

	if (!is_owner(end))
		return -EPERM;
	switch (id) {
	case VOXSHM_OBJECT_MAIN:
		return voxshm_object_mmap(link->segment->main, vma, end->is_host,
					  &voxshm_object_vm_ops);
	case VOXSHM_OBJECT_WINDOW:
		ret = voxshm_object_mmap(link->window, vma, true, &window_vm_ops);
		if (!ret)
			atomic_inc(&end->windows);
		return ret;
	default:
		return mmap_object(end, id, vma);
	}
}

/* Closing --------------------------------------------------------------------------- */

/* Each close() comes here: also those of a process that is exiting. */
static int end_flush(struct file *file, fl_owner_t id)
{
	struct voxshm_end *end = file->private_data;

	if ((current->flags & PF_EXITING) && is_owner(end) &&
	    !atomic_read(&current->signal->live))
		voxshm_end_finish(end, VOXSHM_HOW_DIED, exit_code_of(current));
	return 0;
}

static int end_release(struct inode *inode, struct file *file)
{
	struct voxshm_end *end = file->private_data;

	end_let_go(end);
	voxshm_link_put(end->link);
	return 0;
}

static void end_show_fdinfo(struct seq_file *seq, struct file *file)
{
	static const char *const states[] = { "waiting", "attached", "ended" };
	static const char *const hows[] = { "-", "detached", "closed", "died",
					    "unclaimed" };
	struct pid_namespace *ns = proc_pid_ns(file_inode(seq->file)->i_sb);
	struct voxshm_end *end = file->private_data;
	struct voxshm_link *link = end->link;
	enum voxshm_end_state state;
	enum voxshm_end_how how;
	struct pid *owner;

	spin_lock(&link->lock);
	state = end->state;
	how = end->how;
	owner = end->owner;
	spin_unlock(&link->lock);
	seq_printf(seq, "voxshm-role:\t%s\nvoxshm-label:\t%s\n", end->is_host ? "host" : "guest",
		   link->segment->label);
	seq_printf(seq, "voxshm-peer:\t%u\nvoxshm-epoch:\t%u\n", link->peer_id, link->epoch);
	seq_printf(seq, "voxshm-state:\t%s\nvoxshm-how:\t%s\n", states[state], hows[how]);
	seq_printf(seq, "voxshm-pid:\t%d\n", owner ? pid_nr_ns(owner, ns) : 0);
	seq_printf(seq, "voxshm-window-bytes:\t%llu\nvoxshm-guest-bytes:\t%llu\n",
		   link->window->size, (u64)atomic64_read(&link->guest_bytes));
}

const struct file_operations voxshm_end_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = end_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.write = end_write,
	.poll = end_poll,
	.mmap = end_mmap,
	.flush = end_flush,
	.release = end_release,
	.show_fdinfo = end_show_fdinfo,
	.llseek = noop_llseek,
};
