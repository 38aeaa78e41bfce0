// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/voxshm: the device's descriptor, which CREATE turns into a segment
 * (segment.c), and how calls are taken apart for all kinds of descriptor.
 */
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#include "events.h"
#include "module.h"

struct workqueue_struct *voxshm_workqueue;

static_assert(sizeof(struct voxshm_ioc_info) == 40);
static_assert(sizeof(struct voxshm_ioc_create) == 104);
static_assert(sizeof(struct voxshm_ioc_link) == 24);
static_assert(sizeof(struct voxshm_ioc_grow) == 16);
static_assert(sizeof(struct voxshm_ioc_bind) == 8);
static_assert(sizeof(struct voxshm_ioc_claim) == 40);
static_assert(sizeof(struct voxshm_ioc_status) == 48);
static_assert(sizeof(struct voxshm_ioc_object) == 16);
static_assert(sizeof(struct voxshm_ioc_drop) == 8);
static_assert(sizeof(struct voxshm_ioc_detach) == 8);

/* Calls -------------------------------------------------------------------------- */

long voxshm_call(struct file *file, unsigned int command, unsigned long arg,
		 const struct voxshm_call_type *types, unsigned int count)
{
	struct voxshm_call call = { .user = (void __user *)arg, .user_size = _IOC_SIZE(command) };
	const struct voxshm_call_type *type;
	int ret;

	if (_IOC_TYPE(command) != VOXSHM_IOC_MAGIC || _IOC_NR(command) >= count)
		return -ENOTTY;
	type = &types[array_index_nospec(_IOC_NR(command), count)];
	if (!type->run || _IOC_DIR(command) != _IOC_DIR(type->command))
		return -ENOTTY;
	call.size = _IOC_SIZE(type->command);
	if (call.user_size < call.size)
		return -EINVAL;
	if (_IOC_DIR(command) & _IOC_WRITE) {
		ret = copy_struct_from_user(&call.args, call.size, call.user, call.user_size);
		if (ret)
			return ret;
	}
	return type->run(file, &call);
}

int voxshm_answer(const struct voxshm_call *call)
{
	size_t size = min(call->size, call->user_size);

	if (copy_to_user(call->user, &call->args, size))
		return -EFAULT;
	if (clear_user(call->user + size, call->user_size - size))
		return -EFAULT;
	return 0;
}

/* The device and the segment ----------------------------------------------------- */

static struct voxshm_segment *segment_of(struct file *file)
{
	return READ_ONCE(file->private_data);
}

static long device_info(struct file *file, struct voxshm_call *call)
{
	call->args.info = (struct voxshm_ioc_info){
		.abi_version = VOXSHM_ABI_VERSION,
		.max_bytes = voxshm_limits[VOXSHM_BYTES],
		.max_segments = min_t(u64, voxshm_limits[VOXSHM_SEGMENTS], U32_MAX),
		.max_links = min_t(u64, voxshm_limits[VOXSHM_LINKS], U32_MAX),
		.max_tickets = min_t(u64, voxshm_limits[VOXSHM_TICKETS], U32_MAX),
		.page_size = PAGE_SIZE,
	};
	return voxshm_answer(call);
}

static const struct voxshm_call_type device_calls[] = {
	[_IOC_NR(VOXSHM_IOC_INFO)] = { VOXSHM_IOC_INFO, device_info },
	[_IOC_NR(VOXSHM_IOC_CREATE)] = { VOXSHM_IOC_CREATE, voxshm_segment_create },
};

static const struct voxshm_call_type segment_calls[] = {
	[_IOC_NR(VOXSHM_IOC_INFO)] = { VOXSHM_IOC_INFO, device_info },
	[_IOC_NR(VOXSHM_IOC_CREATE)] = { VOXSHM_IOC_CREATE, voxshm_segment_create },
	[_IOC_NR(VOXSHM_IOC_LINK)] = { VOXSHM_IOC_LINK, voxshm_segment_link },
	[_IOC_NR(VOXSHM_IOC_GROW)] = { VOXSHM_IOC_GROW, voxshm_segment_grow },
};

static long device_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	if (!segment_of(file))
		return voxshm_call(file, command, arg, device_calls, ARRAY_SIZE(device_calls));
	return voxshm_call(file, command, arg, segment_calls, ARRAY_SIZE(segment_calls));
}

static int device_mmap(struct file *file, struct vm_area_struct *vma)
{
	return segment_of(file) ? voxshm_segment_mmap(file, vma) : -ENXIO;
}

static int device_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;	/* misc_open() has put the device there */
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	if (segment_of(file))
		voxshm_segment_put(segment_of(file));
	return 0;
}

static void device_show_fdinfo(struct seq_file *seq, struct file *file)
{
	if (segment_of(file))
		voxshm_segment_show(seq, segment_of(file));
	else
		seq_puts(seq, "voxshm-role:\tdevice\n");
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.open = device_open,
	.release = device_release,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = device_mmap,
	.show_fdinfo = device_show_fdinfo,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "voxshm",
	.fops = &device_fops,
	.mode = 0600,
};

struct kobject *voxshm_kobject(void)
{
	return &device.this_device->kobj;
}

static int __init voxshm_init(void)
{
	int ret;

	if (!voxshm_limits[VOXSHM_BYTES])
		voxshm_limits[VOXSHM_BYTES] = (u64)totalram_pages() * PAGE_SIZE / 4;
	voxshm_workqueue = alloc_workqueue("voxshm", WQ_UNBOUND | WQ_HIGHPRI, 0);
	if (!voxshm_workqueue)
		return -ENOMEM;
	ret = misc_register(&device);
	if (ret)
		destroy_workqueue(voxshm_workqueue);
	return ret;
}

/* Nothing is open any more; work that was queued is done before the device goes. */
static void __exit voxshm_exit(void)
{
	drain_workqueue(voxshm_workqueue);
	misc_deregister(&device);
	destroy_workqueue(voxshm_workqueue);
}

module_init(voxshm_init);
module_exit(voxshm_exit);
MODULE_DESCRIPTION("shared memory, doorbells and news of a death for voxshm");
MODULE_AUTHOR("the voxshm developers");
MODULE_LICENSE("GPL");
