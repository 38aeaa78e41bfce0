/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * voxshm.h - /dev/voxshm: shared memory, doorbells and news of a death for one
 * host process and up to 255 guests.
 *
 * A link is made like a socketpair, an fd is an object, closing it is its
 * destructor. There are three kinds of descriptor:
 *
 *   device    open("/dev/voxshm", O_RDWR)                     INFO, CREATE
 *   segment   the device's, after CREATE; its caller is the   INFO, LINK, GROW, mmap()
 *             host
 *   end       two for each LINK: the host's, and the guest's  BIND, CLAIM, STATUS,
 *             (the ticket: whoever claims it is the guest)    OBJECT_CREATE, OBJECT_DROP,
 *                                                             DETACH, write(), poll(), mmap()
 *
 * The owner of an end is a process, not whoever holds a copy of the fd: of a
 * segment and of its host ends the process that called CREATE, of a guest's end
 * the one that called CLAIM. Every call but INFO, CREATE, CLAIM, STATUS and
 * poll() is the owner's alone; others, also its forked children, get EPERM.
 *
 * Arguments. Each call takes a struct whose size is part of its number. The
 * structs may grow: a shorter one than the kernel's is read as if zeros
 * followed, of a longer one the rest must be zero (E2BIG). INFO and STATUS only
 * answer: nothing is read, and what the kernel does not know is zeroed. Unknown
 * flags and reserved fields that are not zero: EINVAL. Errors of all calls:
 * EFAULT, ENOTTY (not a call of this kind of descriptor), EINVAL (the struct
 * is shorter than its first version). A call that fails changes nothing.
 */
#ifndef _UAPI_LINUX_VOXSHM_H
#define _UAPI_LINUX_VOXSHM_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/types.h>

#define VOXSHM_ABI_VERSION	1

#define VOXSHM_GUESTS_MAX	255	/* peer ids are 1..255 */
#define VOXSHM_LABEL_MAX	64	/* with its NUL */

/*
 * mmap(): the object's id stands above bit 32 of the offset. MAP_SHARED only,
 * not inherited by fork, not in a core dump, cannot grow. What lies past the
 * object's end, or what the caller may not have, is refused: EINVAL (not such a
 * range, not MAP_SHARED), ENXIO (no such object), EACCES (writing to what is
 * read-only for the caller), EPERM (not the owner, or PROT_EXEC).
 *
 *   main          segment, host end: read-write; guest end: read-only
 *   window        the ends of its link: read-write
 *   pool n        segment and all its ends: read-write
 *   object n      its maker: read-write; the other end: read-only
 *
 * An object lives until nobody maps it and it can no longer be asked for.
 */
#define VOXSHM_OBJECT_SHIFT	32
#define VOXSHM_OBJECT_MAIN	0
#define VOXSHM_OBJECT_WINDOW	1
#define VOXSHM_OBJECT_POOL	2	/* + n of GROW */
#define VOXSHM_OBJECT_HOST	1024	/* + n of OBJECT_CREATE on the host's end */
#define VOXSHM_OBJECT_GUEST	2048	/* + n of OBJECT_CREATE on the guest's end */
#define VOXSHM_POOLS_MAX	255
#define VOXSHM_OBJECTS_MAX	1024	/* of each end of a link */
#define VOXSHM_SIZE_MAX		_BITULL(VOXSHM_OBJECT_SHIFT)

#define VOXSHM_OFFSET(id)	((__u64)(id) << VOXSHM_OBJECT_SHIFT)

/*
 * INFO: what this kernel can do. Device and segment; anybody.
 */
struct voxshm_ioc_info {
	__u32 abi_version;		/* out: VOXSHM_ABI_VERSION */
	__u32 reserved;
	__u64 features;			/* out: none is defined yet */
	/* out: limits of one user, the module's parameters of these names */
	__u64 max_bytes;
	__u32 max_segments;
	__u32 max_links;
	__u32 max_tickets;		/* links that no guest has claimed yet */
	__u32 page_size;		/* sizes are multiples of it */
};

/*
 * CREATE: the device's descriptor becomes a segment, and the caller its host.
 * Errors: EBUSY (it is a segment already), EACCES (not opened for reading and
 * writing), EINVAL (a size that is 0, or not a multiple of the page size; a bad
 * label), E2BIG (a size above VOXSHM_SIZE_MAX), EDQUOT (a limit of the user),
 * ENOMEM, EINTR (a fatal signal).
 */
struct voxshm_ioc_create {
	__u64 main_size;		/* bytes, allocated and charged now */
	__u64 window_size;		/* bytes of each link's window */
	__u64 guest_bytes;		/* limit of a guest's objects; 0: only its user's */
	__u32 guest_objects;		/* limit of their number, up to VOXSHM_OBJECTS_MAX */
	__u32 max_guests;		/* 1..VOXSHM_GUESTS_MAX */
	__u32 flags;			/* 0 */
	__u32 reserved;
	char label[VOXSHM_LABEL_MAX];	/* [A-Za-z0-9._-]*, for people: fdinfo, uevents */
};

/*
 * LINK: a fresh window at a free peer id, and both ends of a link, O_CLOEXEC.
 * Segment. The window's address range is charged to the host's user now; its
 * pages are allocated, and charged to the guest's memory cgroup, by CLAIM.
 * Pages that the host touches before are the host's.
 *
 * A peer id is free again when either end has ended.
 * Errors: EUSERS (all peer ids are taken), EBUSY (this one is), EINVAL, EDQUOT,
 * ENOMEM, EMFILE, ENFILE.
 */
struct voxshm_ioc_link {
	__u32 flags;			/* 0 */
	__u32 peer_id;			/* in: the one wanted, 0: the lowest; out */
	__s32 host_fd;			/* out */
	__s32 guest_fd;			/* out: the ticket */
	__u32 epoch;			/* out: of this life of the peer id, from 1 */
	__u32 reserved;
};

/*
 * GROW: a further pool, which the host and all guests of the segment may map.
 * Segment. Signals every guest's doorbell.
 * Errors: as CREATE; ENOSPC (VOXSHM_POOLS_MAX are there).
 */
struct voxshm_ioc_grow {
	__u64 size;			/* bytes, allocated and charged now */
	__u32 flags;			/* 0 */
	__u32 pool;			/* out: its number, from 0 */
};

/*
 * BIND: the eventfd that is signalled for the host's end. Host end. Replaces an
 * earlier one; a ring that came before is not lost.
 * Errors: EBADF, EINVAL (not an eventfd).
 */
struct voxshm_ioc_bind {
	__s32 eventfd;
	__u32 flags;			/* 0 */
};

/*
 * CLAIM: the caller becomes the guest: its eventfd is signalled from now on
 * (at once, if the host rang before), and its end is reported to the host.
 * Guest end; once. Allocates the window, for the caller's account.
 * Errors: EBADF, EINVAL (not an eventfd), EBUSY (claimed before), EPIPE (the
 * host has ended or closed its end), ENOMEM (also beyond the limit of the
 * caller's memory cgroup; nobody is killed for it), EINTR (a fatal signal).
 */
struct voxshm_ioc_claim {
	__s32 eventfd;
	__u32 flags;			/* 0 */
	__u32 peer_id;			/* out */
	__u32 epoch;			/* out */
	__u64 main_size;		/* out */
	__u64 window_size;		/* out */
	__u32 pools;			/* out: how many GROW has made so far */
	__u32 reserved;
};

/*
 * STATUS: the other end. Either end; anybody who holds it.
 *
 * A guest is WAITING until CLAIM. ENDED comes with how: DETACHED (it said so),
 * CLOSED (its descriptors are all closed, or its owner unmapped the window or
 * replaced itself by exec; the process lives), DIED (the process ended), or
 * UNCLAIMED (the ticket is gone and nobody can come any more). When the process
 * ends, also after DETACHED or CLOSED, exit tells how, and the doorbell is
 * signalled again.
 *
 * pid, uid and gid are the caller's view of them: 0 and the overflow ids where
 * the caller's namespaces do not know them.
 */
enum voxshm_end_state {
	VOXSHM_STATE_WAITING = 0,
	VOXSHM_STATE_ATTACHED = 1,
	VOXSHM_STATE_ENDED = 2,
};

enum voxshm_end_how {
	VOXSHM_HOW_NONE = 0,
	VOXSHM_HOW_DETACHED = 1,
	VOXSHM_HOW_CLOSED = 2,
	VOXSHM_HOW_DIED = 3,
	VOXSHM_HOW_UNCLAIMED = 4,
};

enum voxshm_exit {
	VOXSHM_EXITED_NOT = 0,		/* not as far as the kernel has seen */
	VOXSHM_EXITED_CODE = 1,		/* exit_value is the exit code */
	VOXSHM_EXITED_SIGNAL = 2,	/* exit_value is the signal */
};

struct voxshm_ioc_status {
	__u32 state;			/* out: enum voxshm_end_state */
	__u32 how;			/* out: enum voxshm_end_how */
	__u32 exit;			/* out: enum voxshm_exit */
	__s32 exit_value;		/* out */
	__u32 core_dumped;		/* out: 0 or 1 */
	__s32 pid;			/* out: of the process */
	__u32 uid;			/* out */
	__u32 gid;			/* out */
	__u32 peer_id;			/* out: the guest's, on both ends */
	__u32 epoch;			/* out */
	__u32 pools;			/* out: how many GROW has made so far */
	__u32 flags;			/* 0 */
};

/*
 * OBJECT_CREATE: memory that the caller's end writes and the other one reads.
 * The host's end, and the guest's once it is claimed. The caller picks the
 * number, so that both ends can speak of it without a further word.
 * Errors: EEXIST (the number is taken), EINVAL, E2BIG, EDQUOT (a limit of the
 * user, or of the guest), ENOMEM, EINTR, EPIPE (the link has ended).
 */
struct voxshm_ioc_object {
	__u64 size;			/* bytes, allocated and charged now */
	__u32 index;			/* below VOXSHM_OBJECTS_MAX (guest: guest_objects) */
	__u32 flags;			/* 0 */
};

/*
 * OBJECT_DROP: the number is free again; mappings stay.
 * Either end; its own objects. Errors: ENOENT.
 */
struct voxshm_ioc_drop {
	__u32 index;
	__u32 flags;			/* 0 */
};

/*
 * DETACH: this end ends now, and it is meant. Either end. What is mapped stays
 * so. A second time does nothing.
 *
 * write() of one byte or more, whatever it says, rings the other end: its
 * eventfd is signalled. Never blocks. Return: the count, or -EPIPE once the other
 * end has ended. Both ends are also signalled at CLAIM, at an end and at GROW.
 *
 * poll(): POLLHUP once the other end has ended.
 */
struct voxshm_ioc_detach {
	__u32 flags;			/* 0 */
	__u32 reserved;
};

#define VOXSHM_IOC_MAGIC		0xB5
#define VOXSHM_IOC_INFO			_IOR(VOXSHM_IOC_MAGIC, 0, struct voxshm_ioc_info)
#define VOXSHM_IOC_CREATE		_IOW(VOXSHM_IOC_MAGIC, 1, struct voxshm_ioc_create)
#define VOXSHM_IOC_LINK			_IOWR(VOXSHM_IOC_MAGIC, 2, struct voxshm_ioc_link)
#define VOXSHM_IOC_GROW			_IOWR(VOXSHM_IOC_MAGIC, 3, struct voxshm_ioc_grow)
#define VOXSHM_IOC_BIND			_IOW(VOXSHM_IOC_MAGIC, 4, struct voxshm_ioc_bind)
#define VOXSHM_IOC_CLAIM		_IOWR(VOXSHM_IOC_MAGIC, 5, struct voxshm_ioc_claim)
#define VOXSHM_IOC_STATUS		_IOR(VOXSHM_IOC_MAGIC, 6, struct voxshm_ioc_status)
#define VOXSHM_IOC_OBJECT_CREATE	_IOW(VOXSHM_IOC_MAGIC, 7, struct voxshm_ioc_object)
#define VOXSHM_IOC_OBJECT_DROP		_IOW(VOXSHM_IOC_MAGIC, 8, struct voxshm_ioc_drop)
#define VOXSHM_IOC_DETACH		_IOW(VOXSHM_IOC_MAGIC, 9, struct voxshm_ioc_detach)

#endif /* _UAPI_LINUX_VOXSHM_H */
