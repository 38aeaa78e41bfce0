// SPDX-License-Identifier: GPL-2.0-only
/*
 * What one host shares with all its guests: the main object, the
 * pools, the peer ids. Made of the device's descriptor by CREATE; lives as long
 * as that, its mappings, and its links.
 */
#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "events.h"
#include "module.h"

static void segment_free(struct kref *kref)
{
	struct voxshm_segment *segment = container_of(kref, struct voxshm_segment, kref);
	u32 i;

	voxshm_uevent(segment, "removed", 0, segment->host);
	for (i = 0; i < segment->num_pools; i++)
		voxshm_object_put(segment->pools[i]);
	voxshm_object_put(segment->main);
	voxshm_uncharge(segment->user, VOXSHM_SEGMENTS, 1);
	put_pid(segment->host);
	mutex_destroy(&segment->grow);
	kfree(segment);
}

void voxshm_segment_put(struct voxshm_segment *segment)
{
	kref_put(&segment->kref, segment_free);
}

static struct voxshm_segment *segment_new(const struct voxshm_ioc_create *create)
{
	struct voxshm_segment *segment;
	int ret;

	ret = voxshm_charge(current_uid(), VOXSHM_SEGMENTS, 1);
	if (ret)
		return ERR_PTR(ret);
	segment = kzalloc(sizeof(*segment), GFP_KERNEL_ACCOUNT);
	if (!segment) {
		ret = -ENOMEM;
		goto uncharge;
	}
	segment->main = voxshm_object_new_filled(create->main_size);
	if (IS_ERR(segment->main)) {
		ret = PTR_ERR(segment->main);
		goto free_segment;
	}
	kref_init(&segment->kref);
	segment->user = current_uid();
	segment->host = get_pid(task_tgid(current));
	segment->window_size = create->window_size;
	segment->guest_bytes = create->guest_bytes;
	segment->guest_objects = create->guest_objects;
	segment->max_guests = create->max_guests;
	memcpy(segment->label, create->label, sizeof(segment->label));
	mutex_init(&segment->grow);
	spin_lock_init(&segment->lock);
	return segment;

free_segment:
	kfree(segment);
uncharge:
	voxshm_uncharge(current_uid(), VOXSHM_SEGMENTS, 1);
	return ERR_PTR(ret);
}

static bool label_is_good(const char *label)
{
	size_t i, length = strnlen(label, VOXSHM_LABEL_MAX);

	if (length == VOXSHM_LABEL_MAX || memchr_inv(label + length, 0, VOXSHM_LABEL_MAX - length))
		return false;
	for (i = 0; i < length; i++)
		if (!isascii(label[i]) || (!isalnum(label[i]) && !strchr("._-", label[i])))
			return false;
	return true;
}

long voxshm_segment_create(struct file *file, struct voxshm_call *call)
{
	const struct voxshm_ioc_create *create = &call->args.create;
	struct voxshm_segment *segment;

	if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) != (FMODE_READ | FMODE_WRITE))
		return -EACCES;
	if (create->flags || create->reserved || !create->max_guests ||
	    create->max_guests > VOXSHM_GUESTS_MAX ||
	    create->guest_objects > VOXSHM_OBJECTS_MAX || !create->window_size ||
	    !PAGE_ALIGNED(create->window_size) || !label_is_good(create->label))
		return -EINVAL;
	if (create->window_size > VOXSHM_SIZE_MAX)
		return -E2BIG;
	if (READ_ONCE(file->private_data))
		return -EBUSY;
	segment = segment_new(create);
	if (IS_ERR(segment))
		return PTR_ERR(segment);
	if (cmpxchg(&file->private_data, NULL, segment)) {
		voxshm_segment_put(segment);
		return -EBUSY;
	}
	voxshm_uevent(segment, "created", 0, segment->host);
	return 0;
}

/* Peer ids ------------------------------------------------------------------- */

int voxshm_segment_add(struct voxshm_segment *segment, struct voxshm_link *link, u32 peer_id)
{
	u32 id = peer_id ? peer_id : 1;

	if (id > segment->max_guests)
		return -EINVAL;
	id = array_index_nospec(id, VOXSHM_GUESTS_MAX + 1);
	spin_lock(&segment->lock);
	while (!peer_id && id < segment->max_guests && segment->links[id])
		id++;
	if (segment->links[id]) {
		spin_unlock(&segment->lock);
		return peer_id ? -EBUSY : -EUSERS;
	}
	segment->links[id] = link;
	link->peer_id = id;
	link->epoch = ++segment->epochs[id];
	spin_unlock(&segment->lock);
	return 0;
}

/* A second time does nothing. */
void voxshm_segment_remove(struct voxshm_segment *segment, struct voxshm_link *link)
{
	spin_lock(&segment->lock);
	if (segment->links[link->peer_id] == link)
		segment->links[link->peer_id] = NULL;
	spin_unlock(&segment->lock);
}

/* The link was never seen by anybody. */
static void segment_forget(struct voxshm_segment *segment, struct voxshm_link *link)
{
	spin_lock(&segment->lock);
	segment->links[link->peer_id] = NULL;
	segment->epochs[link->peer_id]--;
	spin_unlock(&segment->lock);
}

/* Return: with a reference. */
static struct voxshm_link *segment_link(struct voxshm_segment *segment, u32 peer_id)
{
	struct voxshm_link *link;

	spin_lock(&segment->lock);
	link = segment->links[peer_id];
	if (link && !kref_get_unless_zero(&link->kref))
		link = NULL;
	spin_unlock(&segment->lock);
	return link;
}

static int end_file(struct voxshm_end *end, const char *name, struct file **file)
{
	*file = anon_inode_getfile(name, &voxshm_end_fops, end, O_RDWR);
	if (IS_ERR(*file))
		return PTR_ERR(*file);
	kref_get(&end->link->kref);
	return get_unused_fd_flags(O_CLOEXEC);
}

long voxshm_segment_link(struct file *file, struct voxshm_call *call)
{
	struct voxshm_segment *segment = file->private_data;
	struct voxshm_ioc_link *args = &call->args.link;
	struct file *host_file = NULL, *guest_file = NULL;
	int host_fd, guest_fd = 0;
	struct voxshm_link *link;
	int ret;

	if (segment->host != task_tgid(current))
		return -EPERM;
	if (args->flags || args->reserved)
		return -EINVAL;
	link = voxshm_link_new(segment, args->peer_id);
	if (IS_ERR(link))
		return PTR_ERR(link);
	host_fd = end_file(&link->host, "[voxshm-host]", &host_file);
	if (host_fd >= 0)
		guest_fd = end_file(&link->guest, "[voxshm-guest]", &guest_file);
	ret = min(host_fd, guest_fd);
	if (ret >= 0) {
		args->peer_id = link->peer_id;
		args->host_fd = host_fd;
		args->guest_fd = guest_fd;
		args->epoch = link->epoch;
		ret = voxshm_answer(call);
	}
	if (ret < 0)
		goto put_files;
	trace_voxshm_link(link->peer_id, link->epoch, true);
	voxshm_link_put(link);
	fd_install(host_fd, host_file);
	fd_install(guest_fd, guest_file);
	return 0;

put_files:
	if (guest_fd > 0)
		put_unused_fd(guest_fd);
	if (host_fd >= 0)
		put_unused_fd(host_fd);
	if (!IS_ERR_OR_NULL(guest_file))
		fput(guest_file);
	if (!IS_ERR_OR_NULL(host_file))
		fput(host_file);
	segment_forget(segment, link);
	voxshm_link_put(link);
	return ret;
}

/* Pools ---------------------------------------------------------------------- */

u32 voxshm_segment_num_pools(struct voxshm_segment *segment)
{
	return READ_ONCE(segment->num_pools);
}

struct voxshm_object *voxshm_segment_pool(struct voxshm_segment *segment, unsigned int pool)
{
	struct voxshm_object *object = NULL;

	spin_lock(&segment->lock);
	if (pool < segment->num_pools) {
		object = segment->pools[array_index_nospec(pool, VOXSHM_POOLS_MAX)];
		kref_get(&object->kref);
	}
	spin_unlock(&segment->lock);
	return object;
}

static int add_pool(struct voxshm_segment *segment, struct voxshm_call *call)
{
	struct voxshm_object *pool;
	int ret;

	lockdep_assert_held(&segment->grow);
	if (segment->num_pools == VOXSHM_POOLS_MAX)
		return -ENOSPC;
	pool = voxshm_object_new_filled(call->args.grow.size);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	call->args.grow.pool = segment->num_pools;
	ret = voxshm_answer(call);
	if (ret) {
		voxshm_object_put(pool);
		return ret;
	}
	spin_lock(&segment->lock);
	segment->pools[segment->num_pools] = pool;
	WRITE_ONCE(segment->num_pools, segment->num_pools + 1);
	spin_unlock(&segment->lock);
	return 0;
}

long voxshm_segment_grow(struct file *file, struct voxshm_call *call)
{
	struct voxshm_segment *segment = file->private_data;
	struct voxshm_link *link;
	long ret;
	u32 id;

	if (segment->host != task_tgid(current))
		return -EPERM;
	if (call->args.grow.flags)
		return -EINVAL;
	mutex_lock(&segment->grow);
	ret = add_pool(segment, call);
	mutex_unlock(&segment->grow);
	for (id = 1; !ret && id <= segment->max_guests; id++) {
		link = segment_link(segment, id);
		if (!link)
			continue;
		voxshm_end_ring(&link->guest);
		voxshm_end_ring(&link->host);
		voxshm_link_put(link);
	}
	return ret;
}

int voxshm_segment_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct voxshm_segment *segment = file->private_data;
	unsigned int id = voxshm_object_id(vma);
	struct voxshm_object *object = NULL;
	int ret;

	if (segment->host != task_tgid(current))
		return -EPERM;
	if (id == VOXSHM_OBJECT_MAIN)
		return voxshm_object_mmap(segment->main, vma, true, &voxshm_object_vm_ops);
	if (id >= VOXSHM_OBJECT_POOL)
		object = voxshm_segment_pool(segment, id - VOXSHM_OBJECT_POOL);
	if (!object)
		return -ENXIO;
	ret = voxshm_object_mmap(object, vma, true, &voxshm_object_vm_ops);
	voxshm_object_put(object);
	return ret;
}

void voxshm_segment_show(struct seq_file *seq, struct voxshm_segment *segment)
{
	struct pid_namespace *ns = proc_pid_ns(file_inode(seq->file)->i_sb);
	u32 id, links = 0;

	spin_lock(&segment->lock);
	for (id = 1; id <= segment->max_guests; id++)
		links += !!segment->links[id];
	spin_unlock(&segment->lock);
	seq_printf(seq, "voxshm-role:\tsegment\nvoxshm-label:\t%s\n", segment->label);
	seq_printf(seq, "voxshm-pid:\t%d\n", pid_nr_ns(segment->host, ns));
	seq_printf(seq, "voxshm-links:\t%u/%u\nvoxshm-pools:\t%u\n", links, segment->max_guests,
		   voxshm_segment_num_pools(segment));
	seq_printf(seq, "voxshm-main-bytes:\t%llu\nvoxshm-window-bytes:\t%llu\n",
		   segment->main->size, segment->window_size);
}
