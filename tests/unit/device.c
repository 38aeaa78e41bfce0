// SPDX-License-Identifier: MIT
/*
 * The device's node, found and waited for: in namespaces of the test's own, with
 * a sysfs that the test writes, and /dev/null's node in the place of the device's.
 */
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "device.h"
#include "uevent.h"
#include "unit_test.h"

#define SYSFS "/sys/devices/virtual/misc/voxshm"
#define REAL_UEVENT "/sys/devices/virtual/mem/null/uevent"

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	REQUIRE(file);
	REQUIRE(fputs(text, file) >= 0);
	REQUIRE(fclose(file) == 0);
}

/* Return: whether there are namespaces to be had. */
static bool enter_namespaces(void)
{
	unsigned int uid = getuid(), gid = getgid();
	char map[32];

	if (uid != 0) {
		if (unshare(CLONE_NEWUSER) < 0)
			return false;
		write_file("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		write_file("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		write_file("/proc/self/gid_map", map);
	}
	return unshare(CLONE_NEWNS | CLONE_NEWNET) == 0;
}

static void module_load(void)
{
	REQUIRE(mkdir("/sys/class/misc", 0755) == 0 || errno == EEXIST);
	REQUIRE(mkdir("/sys/devices/virtual/misc/voxshm", 0755) == 0);
	write_file(SYSFS "/uevent", "MAJOR=1\nMINOR=3\nDEVNAME=voxshm\n");
	REQUIRE(symlink("../../../../class/misc", SYSFS "/subsystem") == 0);
	REQUIRE(symlink("../../devices/virtual/misc/voxshm", "/sys/class/misc/voxshm") == 0);
}

static void node_make(const char *origin)
{
	write_file("/dev/voxshm", "");
	REQUIRE(mount(origin, "/dev/voxshm", "none", MS_BIND, NULL) == 0);
}

static void udevd_start(void)
{
	REQUIRE(mkdir("/run/udev", 0755) == 0 && mkdir("/run/udev/data", 0755) == 0);
	write_file("/run/udev/control", "");
}

static void udevd_finish(void)
{
	static const char *const none[] = { NULL };

	write_file("/run/udev/data/c1:3", "I:1\n");
	REQUIRE(uevent_send("ACTION=add", none) == 0);
}

FIXTURE(device) {
	struct voxshm_error error;
	char path[64];
	int fds_before, real_uevent;
	bool root;
};

FIXTURE_SETUP(device)
{
	self->fds_before = count_fds();
	self->root = getuid() == 0;
	self->real_uevent = open(REAL_UEVENT, O_WRONLY | O_CLOEXEC);
	if (!enter_namespaces())
		SKIP(return, "no namespaces are to be had here");
	ASSERT_EQ(mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL), 0);
	ASSERT_EQ(mount("none", "/sys", "tmpfs", 0, NULL), 0);
	ASSERT_EQ(mount("none", "/run", "tmpfs", 0, NULL), 0);
	write_file("/run/null", "");
	ASSERT_EQ(mount("/dev/null", "/run/null", "none", MS_BIND, NULL), 0);
	write_file("/run/zero", "");
	ASSERT_EQ(mount("/dev/zero", "/run/zero", "none", MS_BIND, NULL), 0);
	ASSERT_EQ(mount("none", "/dev", "tmpfs", 0, NULL), 0);
	ASSERT_EQ(mkdir("/sys/class", 0755), 0);
	ASSERT_EQ(mkdir("/sys/devices", 0755), 0);
	ASSERT_EQ(mkdir("/sys/devices/virtual", 0755), 0);
	ASSERT_EQ(mkdir("/sys/devices/virtual/misc", 0755), 0);
	ASSERT_EQ(setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", 1), 0);
	strcpy(self->error.text, "untouched");
}

FIXTURE_TEARDOWN(device)
{
	if (self->real_uevent >= 0)
		close(self->real_uevent);
	EXPECT_EQ(count_fds(), self->fds_before);
	EXPECT_FALSE(memory_leaks());
}

TEST_F(device, found)
{
	module_load();
	node_make("/run/null");
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), 0);
	EXPECT_STREQ(self->path, "/dev/voxshm");
	EXPECT_EQ(device_find(self->path, 11, &self->error), -ENAMETOOLONG);
	EXPECT_EQ(voxshm_device_wait(0, &self->error), 0);
	EXPECT_STREQ(self->error.text, "");
	EXPECT_EQ(voxshm_device_wait(VOXSHM_FOREVER, NULL), 0);
}

TEST_F(device, module_is_not_loaded)
{
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), -ENODEV);
	EXPECT_NE(strstr(self->error.text, "not loaded"), NULL);
	EXPECT_EQ(device_find(self->path, sizeof(self->path), NULL), -ENODEV);
	EXPECT_EQ(voxshm_device_wait(0, &self->error), -ETIMEDOUT);
}

TEST_F(device, node_is_not_here)
{
	module_load();
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), -ENODEV);
	EXPECT_NE(strstr(self->error.text, "/dev/voxshm is not here"), NULL);
	EXPECT_EQ(voxshm_device_wait(0, &self->error), -ETIMEDOUT);
}

TEST_F(device, node_of_another_device)
{
	module_load();
	node_make("/run/zero");
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), -ENODEV);
	EXPECT_NE(strstr(self->error.text, "/dev/voxshm is not the node"), NULL);
	ASSERT_EQ(umount("/dev/voxshm"), 0);
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), -ENODEV);
	EXPECT_NE(strstr(self->error.text, "/dev/voxshm is not the node"), NULL);
}

TEST_F(device, wait_times_out)
{
	int64_t start = now_ns();

	EXPECT_EQ(voxshm_device_wait(50 * MS, &self->error), -ETIMEDOUT);
	EXPECT_GE(now_ns() - start, 50 * MS);
	EXPECT_NE(strstr(self->error.text, "not loaded"), NULL);
}

/* The timeout's last look: also where no uevent reaches. */
static void *appear_silently(void *unused)
{
	sleep_ms(30);
	module_load();
	node_make("/run/null");
	return unused;
}

TEST_F(device, wait_looks_once_more_at_its_end)
{
	pthread_t thread;

	ASSERT_EQ(pthread_create(&thread, NULL, appear_silently, NULL), 0);
	EXPECT_EQ(voxshm_device_wait(300 * MS * slowness(), &self->error), 0);
	pthread_join(thread, NULL);
}

/* A uevent of the real kernel's, of another device: it makes the wait look again. */
static void *appear_with_kernel(void *pointer)
{
	const int *uevent = pointer;

	appear_silently(NULL);
	REQUIRE(write(*uevent, "change", 6) == 6);
	return NULL;
}

TEST_F(device, wait_hears_the_kernel)
{
	pthread_t thread;

	if (!self->root)
		SKIP(return, "the kernel's uevents reach no network namespace of a user's");
	ASSERT_GE(self->real_uevent, 0);
	ASSERT_EQ(pthread_create(&thread, NULL, appear_with_kernel, &self->real_uevent), 0);
	EXPECT_EQ(voxshm_device_wait(VOXSHM_FOREVER, &self->error), 0);
	pthread_join(thread, NULL);
}

static void *finish_later(void *unused)
{
	sleep_ms(30);
	udevd_finish();
	return unused;
}

TEST_F(device, wait_lets_udevd_finish)
{
	pthread_t thread;

	module_load();
	node_make("/run/null");
	udevd_start();
	EXPECT_EQ(device_find(self->path, sizeof(self->path), &self->error), 0);
	EXPECT_EQ(voxshm_device_wait(0, &self->error), -ETIMEDOUT);
	EXPECT_NE(strstr(self->error.text, "udevd"), NULL);
	ASSERT_EQ(pthread_create(&thread, NULL, finish_later, NULL), 0);
	EXPECT_EQ(voxshm_device_wait(VOXSHM_FOREVER, &self->error), 0);
	pthread_join(thread, NULL);
}

static void on_alarm(int signal)
{
	(void)signal;
}

TEST_F(device, wait_is_ended_by_a_signal)
{
	struct itimerval timer = { .it_value.tv_usec = 30000, .it_interval.tv_usec = 30000 };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	ASSERT_EQ(sigaction(SIGALRM, &action, NULL), 0);
	ASSERT_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
	EXPECT_EQ(voxshm_device_wait(VOXSHM_FOREVER, &self->error), -EINTR);
	memset(&timer, 0, sizeof(timer));
	ASSERT_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

TEST_HARNESS_MAIN
