/* SPDX-License-Identifier: MIT */
/* backend_device.c - /dev/voxshm: its calls are in linux/voxshm.h; see backend_device.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/voxshm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend_device.h"
#include "device.h"
#include "error.h"
#include "layout.h"
#include "link.h"

_Static_assert(sizeof(off_t) == 8, "an object's id stands above bit 32 of the offset");
_Static_assert(VOXSHM_GUESTS_MAX == VOXSHM_MAX_GUESTS, "peer ids");

struct device_end {
	struct end end;
	int fd;
	uint32_t peer_objects;		/* id of the peer's object 0 */
	uint64_t window_size;		/* guest: as CLAIM told it */
};

static struct device_end *device_end(struct end *end)
{
	return (struct device_end *)(void *)end;
}

int device_end_fd(const struct end *end)
{
	return ((const struct device_end *)(const void *)end)->fd;
}

static int call(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

/* Memory ------------------------------------------------------------------- */

int device_map(int fd, uint32_t object, size_t size, int protection, struct memory *memory)
{
	void *base = mmap(NULL, size, protection, MAP_SHARED, fd, (off_t)VOXSHM_OFFSET(object));

	if (base == MAP_FAILED)
		return -errno;
	*memory = (struct memory){ .base = base, .size = size, .fd = -1 };
	return 0;
}

static int object_new(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	struct voxshm_ioc_object object = { .size = size, .index = map_id };
	struct voxshm_ioc_drop drop = { .index = map_id };
	struct device_end *device = device_end(end);
	uint32_t mine = device->peer_objects == VOXSHM_OBJECT_GUEST ? VOXSHM_OBJECT_HOST :
								      VOXSHM_OBJECT_GUEST;
	int ret;

	ret = call(device->fd, VOXSHM_IOC_OBJECT_CREATE, &object);
	if (ret)
		return ret;
	ret = device_map(device->fd, mine + map_id, size, PROT_READ | PROT_WRITE, memory);
	if (ret)
		call(device->fd, VOXSHM_IOC_OBJECT_DROP, &drop);
	return ret;
}

static void object_drop(struct end *end, uint32_t map_id)
{
	struct voxshm_ioc_drop drop = { .index = map_id };

	call(device_end(end)->fd, VOXSHM_IOC_OBJECT_DROP, &drop);
}

static int object_map(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	struct device_end *device = device_end(end);
	int ret = device_map(device->fd, device->peer_objects + map_id, size, PROT_READ, memory);

	return ret == -ENXIO || ret == -EINVAL ? -EBADMSG : ret;
}

/* Doorbell and news ---------------------------------------------------------- */

static void ring(struct end *end)
{
	/* A dead peer needs none. */
	(void)!write(device_end(end)->fd, "", 1);
}

static void tell_exit(struct end *told, const struct voxshm_ioc_status *status)
{
	bool exited = status->exit != VOXSHM_EXITED_NOT;

	/* Our own child we reap ourselves, unless somebody else did. */
	if (told->child && (status->pid != told->pid ||
			    (told->pidfd >= 0 && told->exit_kind != VOXSHM_EXIT_UNKNOWN)))
		return;
	told->exit_awaited = told->claimed && !exited;
	if (!exited)
		return;
	told->exit_kind = status->exit == VOXSHM_EXITED_SIGNAL ? VOXSHM_EXIT_SIGNAL :
								 VOXSHM_EXIT_CODE;
	told->exit_value = status->exit_value;
	told->core_dumped = status->core_dumped;
}

static void tell(struct end *told, const struct voxshm_ioc_status *status)
{
	if (status->state != VOXSHM_STATE_WAITING && status->how != VOXSHM_HOW_UNCLAIMED)
		told->claimed = true;
	if (told->claimed && !told->child) {
		told->pid = status->pid;
		told->uid = status->uid;
		told->gid = status->gid;
	}
	if (status->how == VOXSHM_HOW_DETACHED)
		told->left = true;
	else if (status->state == VOXSHM_STATE_ENDED)
		told->hangup = true;
	tell_exit(told, status);
}

/* All that there is to ask about rings too. */
void device_end_drain(struct end *end, struct end *told)
{
	struct voxshm_ioc_status status = { 0 };
	eventfd_t rings;

	if (eventfd_read(end->wake_fd, &rings))
		return;
	told->knocks += rings < UINT32_MAX / 2 ? (uint32_t)rings : UINT32_MAX / 2;
	if (call(device_end(end)->fd, VOXSHM_IOC_STATUS, &status) == 0)
		tell(told, &status);
}

static int drain(struct end *end, struct voxshm_link *link)
{
	(void)link;
	device_end_drain(end, end);
	return 0;
}

static void detach(struct end *end)
{
	struct voxshm_ioc_detach none = { 0 };

	call(device_end(end)->fd, VOXSHM_IOC_DETACH, &none);
}

/*
 * A copy in a process that was forked must not keep the end alive. A guest's end
 * that could not be claimed is another one's to end.
 */
static void end_free(struct end *end)
{
	if (device_end(end)->peer_objects != VOXSHM_OBJECT_HOST || end->claimed)
		detach(end);
	close(device_end(end)->fd);
	close(end->wake_fd);
	end_deinit(end);
	free(end);
}

static const struct end_ops device_ops = {
	.backend_name = "device",
	.ring = ring,
	.drain = drain,
	.object_new = object_new,
	.object_drop = object_drop,
	.object_map = object_map,
	.leave = detach,
	.detach = detach,
	.free = end_free,
};

/* Takes the descriptor over on success. */
static int end_new(struct end **out, int fd, uint32_t peer_objects)
{
	struct device_end *device = calloc(1, sizeof(*device));
	int ret;

	if (!device)
		return -ENOMEM;
	end_init(&device->end, &device_ops);
	device->fd = fd;
	device->peer_objects = peer_objects;
	device->end.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->end.wake_fd < 0) {
		ret = -errno;
		free(device);
		return ret;
	}
	*out = &device->end;
	return 0;
}

/* Host --------------------------------------------------------------------- */

int device_open(const char *path, struct voxshm_error *error)
{
	struct voxshm_ioc_info info = { 0 };
	int fd, ret;

	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		ret = errno == ENXIO || errno == ENOENT ? -ENODEV : -errno;
		if (ret == -EACCES || ret == -EPERM)
			return error_set(error, ret, "no permission to open %s: its group may, and "
					 "VOXSHM_BACKEND=any does without", path);
		return error_errno(error, ret, "cannot open %s", path);
	}
	ret = call(fd, VOXSHM_IOC_INFO, &info);
	if (ret)
		error_set(error, ret, "%s is not the device of the module voxshm; "
			  "VOXSHM_BACKEND=any does without it", path);
	else if (info.abi_version != VOXSHM_ABI_VERSION)
		ret = error_set(error, -EPROTONOSUPPORT, "the module behind %s speaks version %u, "
				"this library %u: update the older one; VOXSHM_BACKEND=any does "
				"without", path, info.abi_version, VOXSHM_ABI_VERSION);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static int find_and_open(struct voxshm_error *error)
{
	char path[PATH_MAX];
	int ret = device_find(path, sizeof(path), error);

	return ret ? ret : device_open(path, error);
}

static int probe(struct voxshm_error *error)
{
	int fd = find_and_open(error);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* For people who look at the device: the program's name. */
static void set_label(char label[VOXSHM_LABEL_MAX])
{
	char *byte;

	strncpy(label, program_invocation_short_name, VOXSHM_LABEL_MAX - 1);
	for (byte = label; *byte; byte++)
		if (!isascii(*byte) || (!isalnum(*byte) && !strchr("._-", *byte)))
			*byte = '_';
}

static int check_needs(const struct segment_needs *needs, struct voxshm_error *error)
{
	if (needs->max_mappings > VOXSHM_OBJECTS_MAX)
		return error_set(error, -EINVAL, "max_mappings is %u, above the device's %u",
				 needs->max_mappings, VOXSHM_OBJECTS_MAX);
	if (needs->window_size > VOXSHM_SIZE_MAX)
		return error_set(error, -EINVAL, "rings and classes make a window of %llu bytes, "
				 "above the device's %llu", (unsigned long long)needs->window_size,
				 (unsigned long long)VOXSHM_SIZE_MAX);
	return 0;
}

static int segment_new(struct memory *main, const struct segment_needs *needs,
		       struct voxshm_error *error)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct voxshm_ioc_create create = {
		.main_size = align_up(needs->main_size, page),
		.window_size = align_up(needs->window_size, page),
		.guest_bytes = needs->guest_bytes,
		.guest_objects = needs->max_mappings,
		.max_guests = needs->max_guests,
	};
	int fd, ret;

	ret = check_needs(needs, error);
	if (ret)
		return ret;
	fd = find_and_open(error);
	if (fd < 0)
		return fd;
	set_label(create.label);
	ret = call(fd, VOXSHM_IOC_CREATE, &create);
	if (ret == 0)
		ret = device_map(fd, VOXSHM_OBJECT_MAIN, create.main_size, PROT_READ | PROT_WRITE,
				 main);
	if (ret) {
		close(fd);
		return error_errno(error, ret, "cannot make a segment of the module voxshm%s",
				   ret == -EDQUOT ? " (see its parameters)" : "");
	}
	main->fd = fd;
	return 0;
}

/* Guests cannot get a writable mapping anyway. */
static int main_seal(const struct memory *main)
{
	(void)main;
	return 0;
}

int device_grow(int segment_fd, uint64_t size)
{
	struct voxshm_ioc_grow grow = { .size = size };
	int ret = call(segment_fd, VOXSHM_IOC_GROW, &grow);

	return ret ? ret : (int)grow.pool;
}

/* The window has no pages before the guest has come, but for those that are touched. */
static int link_new(const struct memory *main, uint32_t peer_id, size_t window_size,
		    struct memory *window, struct end **end, struct invitation *invitation)
{
	struct voxshm_ioc_link link = { .peer_id = peer_id };
	struct voxshm_ioc_bind bind = { 0 };
	int ret;

	ret = call(main->fd, VOXSHM_IOC_LINK, &link);
	if (ret)
		return ret;
	ret = end_new(end, link.host_fd, VOXSHM_OBJECT_GUEST);
	if (ret) {
		close(link.host_fd);
		goto close_guest;
	}
	bind.eventfd = (*end)->wake_fd;
	ret = call(link.host_fd, VOXSHM_IOC_BIND, &bind);
	if (ret == 0)
		ret = device_map(link.host_fd, VOXSHM_OBJECT_WINDOW, window_size,
				 PROT_READ | PROT_WRITE, window);
	if (ret)
		goto free_end;
	invitation->fds[INVITATION_END] = link.guest_fd;
	return 0;

free_end:
	(*end)->ops->free(*end);
close_guest:
	close(link.guest_fd);
	return ret;
}

/* Guest -------------------------------------------------------------------- */

static int claim_error(int ret, struct voxshm_error *error)
{
	switch (ret) {
	case -ENOTTY:
	case -EINVAL:
		return error_set(error, -EPROTO,
				 "the host's answer holds a descriptor that is no end of a link");
	case -EBUSY:
		return error_set(error, ret, "another process has claimed this place already");
	case -EPIPE:
		return error_set(error, ret, "the host has gone, or taken the invitation back");
	case -ENOMEM:
		return error_set(error, ret, "the window does not fit into the memory that this "
				 "process may use");
	default:
		return error_errno(error, ret, "cannot claim the host's link");
	}
}

static int claim_end(struct invitation *invitation, struct end *end, struct voxshm_error *error)
{
	struct voxshm_ioc_claim claim = { .eventfd = end->wake_fd };
	int fd = invitation->fds[INVITATION_END], ret;

	ret = call(fd, VOXSHM_IOC_CLAIM, &claim);
	if (ret)
		return claim_error(ret, error);
	end->claimed = true;
	if (claim.peer_id != invitation->peer_id)
		return error_set(error, -EPROTO, "the link is that of peer %u, not %u",
				 claim.peer_id, invitation->peer_id);
	ret = device_map(fd, VOXSHM_OBJECT_MAIN, claim.main_size, PROT_READ, &invitation->main);
	if (ret)
		return error_errno(error, ret, "cannot map the host's segment");
	device_end(end)->window_size = claim.window_size;
	/* Who the host is: CLAIM has rung. */
	device_end_drain(end, end);
	return 0;
}

int device_claim(struct invitation *invitation, struct voxshm_error *error)
{
	struct end *end;
	int ret;

	ret = end_new(&end, invitation->fds[INVITATION_END], VOXSHM_OBJECT_HOST);
	if (ret)
		return error_errno(error, ret, "cannot make an end of a link");
	ret = claim_end(invitation, end, error);
	/* Taken over in any case. */
	invitation->fds[INVITATION_END] = -1;
	if (ret) {
		end->ops->free(end);
		return ret;
	}
	invitation->end = end;
	return 0;
}

static int claim(struct invitation *invitation, size_t window_size, struct memory *window,
		 struct end **end)
{
	struct device_end *device = device_end(invitation->end);
	int ret;

	if (window_size > device->window_size)
		return -EBADMSG;
	ret = device_map(device->fd, VOXSHM_OBJECT_WINDOW, window_size, PROT_READ | PROT_WRITE,
			 window);
	if (ret)
		return ret;
	*end = invitation->end;
	invitation->end = NULL;
	return 0;
}

const struct backend device_backend = {
	.name = "device",
	.id = VOXSHM_BACKEND_DEVICE,
	.probe = probe,
	.segment_new = segment_new,
	.main_seal = main_seal,
	.link_new = link_new,
	.claim = claim,
};
