/* SPDX-License-Identifier: MIT */
/*
 * device.c - the node of the module's device, found and waited for.
 *
 * What is there is read from sysfs and /dev alone, so no udevd need run. Uevents
 * only say when to look again: the kernel's, because the node is there from then
 * on, and udevd's, because only then it has its group and mode. The listening
 * begins before the look that is to be the last, so that no appearance is missed.
 */
#include <errno.h>
#include <libudev.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "error.h"
#include "link.h"

#define SUBSYSTEM "misc"
#define NAME "voxshm"
#define NS_PER_S 1000000000ll

enum { FROM_KERNEL, FROM_UDEVD, MONITORS };

static int check_node(struct udev_device *device, const char *node, struct voxshm_error *error)
{
	struct stat stat_buffer;

	if (!node || stat(node, &stat_buffer) < 0)
		return error_set(error, -ENODEV, "the module voxshm is loaded, but its node %s is "
				 "not here", node ? node : "");
	if (!S_ISCHR(stat_buffer.st_mode) ||
	    stat_buffer.st_rdev != udev_device_get_devnum(device))
		return error_set(error, -ENODEV, "%s is not the node of the module voxshm", node);
	return 0;
}

/*
 * The device with its node, to be given back by udev_device_unref().
 * Return: 0, -ENODEV, -ENOMEM.
 */
static int device_get(struct udev *udev, struct udev_device **device, struct voxshm_error *error)
{
	int ret;

	*device = udev_device_new_from_subsystem_sysname(udev, SUBSYSTEM, NAME);
	if (!*device && errno == ENOMEM)
		return error_errno(error, -ENOMEM, "cannot look for the module voxshm");
	if (!*device)
		return error_set(error, -ENODEV, "the module voxshm is not loaded: modprobe "
				 "voxshm loads it once it is installed; VOXSHM_BACKEND=file does "
				 "without");
	ret = check_node(*device, udev_device_get_devnode(*device), error);
	if (ret)
		udev_device_unref(*device);
	return ret;
}

static int context_new(struct udev **udev, struct voxshm_error *error)
{
	*udev = udev_new();
	return *udev ? 0 : error_errno(error, -ENOMEM, "cannot use libudev");
}

int device_find(char *path, size_t size, struct voxshm_error *error)
{
	struct udev_device *device;
	struct udev *udev;
	int ret;

	ret = context_new(&udev, error);
	if (ret)
		return ret;
	ret = device_get(udev, &device, error);
	if (ret == 0) {
		if ((size_t)snprintf(path, size, "%s", udev_device_get_devnode(device)) >= size)
			ret = error_set(error, -ENAMETOOLONG, "the path of the node is too long");
		udev_device_unref(device);
	}
	udev_unref(udev);
	return ret;
}

/* Is the node there, and udevd, if it runs, done with it? Return: as device_get(). */
static int device_look(struct udev *udev, struct voxshm_error *error)
{
	struct udev_device *device;
	int ret;

	ret = device_get(udev, &device, error);
	if (ret)
		return ret;
	if (access("/run/udev/control", F_OK) == 0 && !udev_device_get_is_initialized(device))
		ret = error_set(error, -ENODEV, "udevd has not set the permissions of %s yet",
				udev_device_get_devnode(device));
	udev_device_unref(device);
	return ret;
}

static void monitors_deinit(struct udev_monitor *monitors[MONITORS])
{
	int i;

	for (i = 0; i < MONITORS; i++)
		udev_monitor_unref(monitors[i]);
}

static int monitors_init(struct udev *udev, struct udev_monitor *monitors[MONITORS],
			 struct voxshm_error *error)
{
	static const char *const sources[] = { [FROM_KERNEL] = "kernel", [FROM_UDEVD] = "udev" };
	int i, ret = 0;

	memset(monitors, 0, MONITORS * sizeof(*monitors));
	for (i = 0; i < MONITORS && ret >= 0; i++) {
		monitors[i] = udev_monitor_new_from_netlink(udev, sources[i]);
		if (!monitors[i])
			ret = -errno;
		else if (udev_monitor_filter_add_match_subsystem_devtype(monitors[i], SUBSYSTEM,
									 NULL) < 0)
			ret = -ENOMEM;
		else
			ret = udev_monitor_enable_receiving(monitors[i]);
	}
	if (ret >= 0)
		return 0;
	monitors_deinit(monitors);
	return error_errno(error, ret, "cannot listen to uevents");
}

static int poll_until(struct pollfd *pollfds, nfds_t count, int64_t deadline)
{
	struct timespec timeout = { 0 };
	int64_t left;
	int ret;

	if (deadline >= 0) {
		left = deadline - clock_now();
		if (left > 0)
			timeout = (struct timespec){ left / NS_PER_S, left % NS_PER_S };
	}
	ret = ppoll(pollfds, count, deadline >= 0 ? &timeout : NULL, NULL);
	if (ret < 0)
		return -errno;
	return ret ? 0 : -ETIMEDOUT;
}

/* Return: 0 (something came, or was lost), -ETIMEDOUT, -EINTR. */
static int monitors_wait(struct udev_monitor *monitors[MONITORS], int64_t deadline)
{
	struct pollfd pollfds[MONITORS];
	struct udev_device *device;
	int i, ret;

	for (i = 0; i < MONITORS; i++)
		pollfds[i] = (struct pollfd){ .fd = udev_monitor_get_fd(monitors[i]),
					      .events = POLLIN };
	ret = poll_until(pollfds, MONITORS, deadline);
	if (ret)
		return ret;
	for (i = 0; i < MONITORS; i++)
		while ((device = udev_monitor_receive_device(monitors[i])))
			udev_device_unref(device);
	return 0;
}

static int wait_listening(struct udev *udev, int64_t deadline, struct voxshm_error *error)
{
	struct udev_monitor *monitors[MONITORS];
	int ret, waited = 0;

	ret = monitors_init(udev, monitors, error);
	if (ret)
		return ret;
	/* Looks once more when the time is over. */
	while ((ret = device_look(udev, error)) == -ENODEV && waited == 0)
		waited = monitors_wait(monitors, deadline);
	monitors_deinit(monitors);
	if (ret == -ENODEV && waited)
		return waited;
	return ret;
}

int voxshm_device_wait(int64_t timeout, struct voxshm_error *error)
{
	int64_t deadline = clock_deadline(timeout);
	struct udev *udev;
	int ret;

	ret = context_new(&udev, error);
	if (ret)
		return ret;
	ret = device_look(udev, error);
	if (ret == -ENODEV)
		ret = timeout ? wait_listening(udev, deadline, error) : -ETIMEDOUT;
	if (ret == 0 && error)
		error->text[0] = '\0';
	udev_unref(udev);
	return ret;
}
