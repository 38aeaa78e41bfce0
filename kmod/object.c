// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that processes share: a counted array of the module's own
 * pages.
 *
 * The pages are never swapped, moved or taken away, so that no touch fails or
 * stalls. They are charged to the memory cgroup of whoever allocates them, and
 * the size to the account of the user who made the object, until the last
 * mapping is gone. A window alone is made without pages: CLAIM allocates them
 * for the guest; what the host touches before is the host's.
 */
#include <linux/cred.h>
#include <linux/highmem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "module.h"

#define PAGE_INDEX_MASK ((1UL << (VOXSHM_OBJECT_SHIFT - PAGE_SHIFT)) - 1)
#define GFP_PAGE (GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_HIGHMEM)
/* Fails rather than kill somebody, also at the limit of a memory cgroup. */
#define GFP_TRY (__GFP_RETRY_MAYFAIL | __GFP_NOWARN)

struct voxshm_object *voxshm_object_new(u64 size)
{
	struct voxshm_object *object;
	int ret;

	if (!size || !PAGE_ALIGNED(size))
		return ERR_PTR(-EINVAL);
	if (size > VOXSHM_SIZE_MAX)
		return ERR_PTR(-E2BIG);
	ret = voxshm_charge(current_uid(), VOXSHM_BYTES, size);
	if (ret)
		return ERR_PTR(ret);
	object = kvzalloc(struct_size(object, pages, size >> PAGE_SHIFT),
			  GFP_KERNEL_ACCOUNT | GFP_TRY);
	if (!object) {
		voxshm_uncharge(current_uid(), VOXSHM_BYTES, size);
		return ERR_PTR(-ENOMEM);
	}
	kref_init(&object->kref);
	object->user = current_uid();
	object->size = size;
	object->num_pages = size >> PAGE_SHIFT;
	return object;
}

static void free_pages_of(struct page **pages, unsigned long count)
{
	unsigned long i;

	for (i = 0; i < count; i++) {
		if (pages[i])
			put_page(pages[i]);
		if (!(i % 1024))
			cond_resched();
	}
}

static int alloc_missing(const struct voxshm_object *object, struct page **pages)
{
	unsigned long i;

	for (i = 0; i < object->num_pages; i++) {
		if (READ_ONCE(object->pages[i]))
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		pages[i] = alloc_page(GFP_PAGE | GFP_TRY);
		if (!pages[i])
			return -ENOMEM;
		cond_resched();
	}
	return 0;
}

int voxshm_object_fill(struct voxshm_object *object)
{
	struct page **pages;
	unsigned long i;
	int ret;

	pages = kvcalloc(object->num_pages, sizeof(*pages), GFP_KERNEL_ACCOUNT | GFP_TRY);
	if (!pages)
		return -ENOMEM;
	ret = alloc_missing(object, pages);
	for (i = 0; !ret && i < object->num_pages; i++)
		if (pages[i] && !cmpxchg(&object->pages[i], NULL, pages[i]))
			pages[i] = NULL;
	free_pages_of(pages, object->num_pages);
	kvfree(pages);
	return ret;
}

struct voxshm_object *voxshm_object_new_filled(u64 size)
{
	struct voxshm_object *object = voxshm_object_new(size);
	int ret;

	if (IS_ERR(object))
		return object;
	ret = voxshm_object_fill(object);
	if (ret) {
		voxshm_object_put(object);
		return ERR_PTR(ret);
	}
	return object;
}

static void object_free(struct kref *kref)
{
	struct voxshm_object *object = container_of(kref, struct voxshm_object, kref);

	free_pages_of(object->pages, object->num_pages);
	voxshm_uncharge(object->user, VOXSHM_BYTES, object->size);
	if (object->guest_bytes)
		atomic64_sub(object->size, object->guest_bytes);
	kvfree(object);
}

/* Accepts NULL. */
void voxshm_object_put(struct voxshm_object *object)
{
	if (object)
		kref_put(&object->kref, object_free);
}

/* Like any memory: at the limit of its memory cgroup the toucher is dealt with. */
static struct page *touch_page(struct voxshm_object *object, unsigned long index)
{
	struct page *page, *old;

	page = READ_ONCE(object->pages[index]);
	if (page)
		return page;
	page = alloc_page(GFP_PAGE);
	if (!page)
		return NULL;
	old = cmpxchg(&object->pages[index], NULL, page);
	if (old)
		put_page(page);
	return old ? old : page;
}

vm_fault_t voxshm_object_fault(struct vm_fault *vmf)
{
	struct voxshm_object *object = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff & PAGE_INDEX_MASK;
	struct page *page;

	if (index >= object->num_pages)
		return VM_FAULT_SIGBUS;
	page = touch_page(object, index);
	if (!page)
		return VM_FAULT_OOM;
	get_page(page);
	vmf->page = page;
	return 0;
}

void voxshm_object_open(struct vm_area_struct *vma)
{
	struct voxshm_object *object = vma->vm_private_data;

	kref_get(&object->kref);
}

void voxshm_object_close(struct vm_area_struct *vma)
{
	voxshm_object_put(vma->vm_private_data);
}

const struct vm_operations_struct voxshm_object_vm_ops = {
	.open = voxshm_object_open,
	.close = voxshm_object_close,
	.fault = voxshm_object_fault,
};

/* Maps what is there already, so that the first touch is no fault. */
static int map_pages(struct voxshm_object *object, struct vm_area_struct *vma,
		     unsigned long first)
{
	unsigned long i, run, left, count = vma_pages(vma);
	int ret;

	for (i = 0; i < count; i += max(run, 1UL)) {
		for (run = 0; i + run < count && READ_ONCE(object->pages[first + i + run]); run++)
			;
		left = run;
		if (!run)
			continue;
		ret = vm_insert_pages(vma, vma->vm_start + (i << PAGE_SHIFT),
				      &object->pages[first + i], &left);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/*
 * VM_IO keeps madvise() from undoing VM_DONTCOPY, and /proc/PID/mem and
 * process_vm_writev() away. The object is found by the offset alone: a mapping that
 * remap_file_pages() turns to another one comes here again.
 */
int voxshm_object_mmap(struct voxshm_object *object, struct vm_area_struct *vma, bool writable,
		       const struct vm_operations_struct *ops)
{
	unsigned long first = vma->vm_pgoff & PAGE_INDEX_MASK;
	int ret;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (first >= object->num_pages || vma_pages(vma) > object->num_pages - first)
		return -EINVAL;
	if (!writable && (vma->vm_flags & VM_WRITE))
		return -EACCES;
	vm_flags_mod(vma, VM_IO | VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC | (writable ? 0 : VM_MAYWRITE));
	if (vma->vm_flags & (VM_READ | VM_WRITE)) {
		ret = map_pages(object, vma, first);
		if (ret)
			return ret;
	}
	kref_get(&object->kref);
	vma->vm_private_data = object;
	vma->vm_ops = ops;
	return 0;
}
