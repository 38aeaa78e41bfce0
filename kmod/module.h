/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's objects.
 *
 *   file (segment) --> segment --> main, pools
 *   file (host end) -> end --+
 *                            +-> link --> segment, window, objects
 *   file (guest end) > end --+
 *
 * An arrow is a reference. A mapping holds its file, so a link outlives the
 * mappings made through its ends. Ends are parts of their link.
 *
 * Locks, all of them spinlocks that are never nested: accounts_lock (user.c),
 * segment->lock, link->lock, the objects' xa_lock. Under none of them is
 * memory allocated, user memory touched, a file or an eventfd put, or an
 * eventfd signalled: whoever holds one can be slowed by nobody. segment->grow
 * is a mutex that only the host takes. pid->wait_pidfd.lock, under which we
 * learn of a death, is taken inside tasklist_lock; nothing of ours is taken
 * there.
 */
#ifndef VOXSHM_MODULE_H
#define VOXSHM_MODULE_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/voxshm.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

extern struct workqueue_struct *voxshm_workqueue;

/* user.c: what one user (kuid) may hold ------------------------------------- */

enum voxshm_resource {
	VOXSHM_BYTES,
	VOXSHM_SEGMENTS,
	VOXSHM_LINKS,
	VOXSHM_TICKETS,
	VOXSHM_RESOURCES,
};

extern unsigned long long voxshm_limits[VOXSHM_RESOURCES];

/* Return: 0, -EDQUOT, -ENOMEM. */
int voxshm_charge(kuid_t uid, enum voxshm_resource resource, u64 amount);
void voxshm_uncharge(kuid_t uid, enum voxshm_resource resource, u64 amount);
/* May there be a uevent about what this user, who holds something, does? */
bool voxshm_may_tell(kuid_t uid);

/* object.c: memory of the module's own pages -------------------------------- */

struct voxshm_object {
	struct kref kref;
	kuid_t user;			/* who pays */
	atomic64_t *guest_bytes;	/* the guest's share of it, or NULL */
	u64 size;
	unsigned long num_pages;
	struct page *pages[];		/* NULL: not allocated yet; set once */
};

/* Charged to the caller; without pages. */
struct voxshm_object *voxshm_object_new(u64 size);
/* Allocates all pages that are missing, or none. Return: 0, -ENOMEM, -EINTR. */
int voxshm_object_fill(struct voxshm_object *object);
/* Both. */
struct voxshm_object *voxshm_object_new_filled(u64 size);
void voxshm_object_put(struct voxshm_object *object);
int voxshm_object_mmap(struct voxshm_object *object, struct vm_area_struct *vma, bool writable,
		       const struct vm_operations_struct *ops);

/* For vm_ops; those of a window add to open and close. */
extern const struct vm_operations_struct voxshm_object_vm_ops;
vm_fault_t voxshm_object_fault(struct vm_fault *vmf);
void voxshm_object_open(struct vm_area_struct *vma);
void voxshm_object_close(struct vm_area_struct *vma);

static inline unsigned int voxshm_object_id(const struct vm_area_struct *vma)
{
	return min_t(unsigned long, vma->vm_pgoff >> (VOXSHM_OBJECT_SHIFT - PAGE_SHIFT), U32_MAX);
}

/* doorbell.c: the eventfd by which an end is told of news -------------------- */

struct voxshm_doorbell;

struct voxshm_doorbell *voxshm_doorbell_new(int fd);
struct voxshm_doorbell *voxshm_doorbell_get(struct voxshm_doorbell *doorbell);
void voxshm_doorbell_put(struct voxshm_doorbell *doorbell);
/* Signals the eventfd, from a workqueue if that has been slow. */
void voxshm_doorbell_signal(struct voxshm_doorbell *doorbell);

/* segment.c: what one host shares with all its guests ------------------------ */

struct voxshm_link;

struct voxshm_segment {
	struct kref kref;
	kuid_t user;
	struct pid *host;
	struct voxshm_object *main;
	u64 window_size;
	u64 guest_bytes;
	u32 guest_objects;
	u32 max_guests;
	char label[VOXSHM_LABEL_MAX];

	struct mutex grow;		/* held by the host while it adds a pool */
	spinlock_t lock;
	/* The following fields are protected by lock. */
	u32 num_pools;
	struct voxshm_object *pools[VOXSHM_POOLS_MAX];
	struct voxshm_link *links[VOXSHM_GUESTS_MAX + 1];	/* by peer id; not counted */
	u32 epochs[VOXSHM_GUESTS_MAX + 1];
};

void voxshm_segment_put(struct voxshm_segment *segment);
/* Return: with a reference; NULL when there is no such pool. */
struct voxshm_object *voxshm_segment_pool(struct voxshm_segment *segment, unsigned int pool);
u32 voxshm_segment_num_pools(struct voxshm_segment *segment);
/* Return: 0, -EUSERS, -EBUSY, -EINVAL. */
int voxshm_segment_add(struct voxshm_segment *segment, struct voxshm_link *link, u32 peer_id);
void voxshm_segment_remove(struct voxshm_segment *segment, struct voxshm_link *link);

/* link.c, end.c: a link, and its two ends ------------------------------------ */

struct voxshm_end {
	struct voxshm_link *link;
	bool is_host;
	wait_queue_head_t wait;		/* poll() */
	atomic_t windows;		/* mappings of the window by the owner */

	/* Set with ATTACHED, then constant. */
	struct pid *owner;		/* a process: PIDTYPE_TGID */
	kuid_t uid;
	kgid_t gid;
	wait_queue_entry_t death_wait;

	struct work_struct death_work;
	atomic_t dead;			/* death_work was queued */
	int dead_code;

	/* The following fields are protected by link->lock. */
	enum voxshm_end_state state;
	bool claiming;
	enum voxshm_end_how how;
	bool exited;
	int exit_code;			/* as wait() tells it */
	struct voxshm_doorbell *doorbell;
	bool rung;			/* before there was a doorbell */
};

struct voxshm_link {
	struct kref kref;
	struct voxshm_segment *segment;
	struct voxshm_object *window;
	struct xarray objects;		/* by id */
	atomic64_t guest_bytes;		/* in the guest's objects */
	u32 peer_id;
	u32 epoch;
	bool ticket;			/* charged as one; link->lock */
	spinlock_t lock;
	struct voxshm_end host, guest;
};

static inline struct voxshm_end *voxshm_end_other(struct voxshm_end *end)
{
	return end->is_host ? &end->link->guest : &end->link->host;
}

struct voxshm_link *voxshm_link_new(struct voxshm_segment *segment, u32 peer_id);
void voxshm_link_put(struct voxshm_link *link);
/* The guest has come, or will not come any more. */
void voxshm_link_ticket_used(struct voxshm_link *link);

extern const struct file_operations voxshm_end_fops;

void voxshm_end_init(struct voxshm_end *end, struct voxshm_link *link, bool is_host);
void voxshm_end_deinit(struct voxshm_end *end);
/* The caller's process becomes the owner. */
void voxshm_end_attach(struct voxshm_end *end);
/* Tells this end that there is news. */
void voxshm_end_ring(struct voxshm_end *end);
/* The end has ended, or (exit_code >= 0) its process has. */
void voxshm_end_finish(struct voxshm_end *end, enum voxshm_end_how how, int exit_code);

/* main.c: calls ---------------------------------------------------------------- */

union voxshm_args {
	struct voxshm_ioc_info info;
	struct voxshm_ioc_create create;
	struct voxshm_ioc_link link;
	struct voxshm_ioc_grow grow;
	struct voxshm_ioc_bind bind;
	struct voxshm_ioc_claim claim;
	struct voxshm_ioc_status status;
	struct voxshm_ioc_object object;
	struct voxshm_ioc_drop drop;
	struct voxshm_ioc_detach detach;
};

/* A call's argument: the kernel's copy, and where the caller's is. */
struct voxshm_call {
	union voxshm_args args;
	void __user *user;
	size_t user_size;
	size_t size;
};

/* What a kind of descriptor does for a call. */
struct voxshm_call_type {
	unsigned int command;
	long (*run)(struct file *file, struct voxshm_call *call);
};

long voxshm_call(struct file *file, unsigned int command, unsigned long arg,
		 const struct voxshm_call_type *types, unsigned int count);
/* Gives the caller its answer; before the call takes effect. Return: 0, -EFAULT. */
int voxshm_answer(const struct voxshm_call *call);

struct kobject *voxshm_kobject(void);	/* the device's */

long voxshm_segment_create(struct file *file, struct voxshm_call *call);
long voxshm_segment_link(struct file *file, struct voxshm_call *call);
long voxshm_segment_grow(struct file *file, struct voxshm_call *call);
int voxshm_segment_mmap(struct file *file, struct vm_area_struct *vma);
void voxshm_segment_show(struct seq_file *seq, struct voxshm_segment *segment);

/* uevent.c: news for whoever listens; off unless asked for --------------------- */

void voxshm_uevent(struct voxshm_segment *segment, const char *event, u32 peer_id,
		   struct pid *pid);

#endif
