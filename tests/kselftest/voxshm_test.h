/* SPDX-License-Identifier: MIT */
/*
 * voxshm_test.h - what the kselftests share: the calls of <linux/voxshm.h> as
 * functions that return 0 or -errno, a segment and its links made in one line,
 * eventfds awaited with a timeout, and what a refused call must leave as it was.
 *
 * ASSERT_ and EXPECT_ belong to the test's own process and thread; helpers,
 * threads and child processes use REQUIRE, which ends the process: a test that
 * it ends has failed.
 */
#ifndef VOXSHM_TEST_H
#define VOXSHM_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/voxshm.h>

#include "kselftest_harness.h"

#define DEVICE		"/dev/voxshm"
#define PARAMETERS	"/sys/module/voxshm/parameters/"
#define KIB		1024ull
#define MIB		(1024ull * KIB)

#define REQUIRE_FAILED	97
#define REQUIRE(condition) do {								\
	if (!(condition)) {								\
		int errno_ = errno;							\
		fprintf(stderr, "# %s:%d: pid %d: not true: %s (errno %d)\n", __FILE__,	\
			__LINE__, (int)getpid(), #condition, errno_);			\
		_exit(REQUIRE_FAILED);							\
	}										\
} while (0)

/* Like REQUIRE(call == expected), and says what came instead. */
#define REQUIRE_EQ(expected, call) do {							\
	long long came_ = (long long)(call);						\
	if (came_ != (long long)(expected)) {						\
		fprintf(stderr, "# %s:%d: pid %d: %s is %lld, not %lld (errno %d)\n",	\
			__FILE__, __LINE__, (int)getpid(), #call, came_,		\
			(long long)(expected), errno);					\
		_exit(REQUIRE_FAILED);							\
	}										\
} while (0)

/* A line for people to read in the test's output. */
#define DIAG(...) do {									\
	char line_[256];								\
	snprintf(line_, sizeof(line_), __VA_ARGS__);					\
	printf("# %s\n", line_);							\
	fflush(stdout);									\
} while (0)

/*
 * A program can be called by its own tests as "PROGRAM --exit-after FD CODE", to
 * have something to exec: it exits with CODE once FD has a byte or its end.
 */
static inline int exit_after(char **argv)
{
	char byte;

	if (read(atoi(argv[2]), &byte, 1) < 0)
		return 98;
	return atoi(argv[3]);
}

/* Instead of TEST_HARNESS_MAIN: without the device there is nothing to test. */
#define VOXSHM_TEST_MAIN								\
static void __attribute__((constructor)) __constructor_order_last(void)			\
{											\
	if (!__constructor_order)							\
		__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD;			\
}											\
int main(int argc, char **argv)								\
{											\
	if (argc == 4 && !strcmp(argv[1], "--exit-after"))				\
		return exit_after(argv);						\
	if (access(DEVICE, F_OK) < 0) {							\
		puts("TAP version 13\n1..0 # SKIP no " DEVICE);				\
		return KSFT_SKIP;							\
	}										\
	if (geteuid() != 0) {								\
		puts("TAP version 13\n1..0 # SKIP needs root");				\
		return KSFT_SKIP;							\
	}										\
	signal(SIGPIPE, SIG_IGN);							\
	return test_harness_run(argc, argv);						\
}

/* Time ------------------------------------------------------------------------ */

#define MS	1000000ll
#define SECOND	1000000000ll
/* Longer than anything that works takes, on an emulated processor too. */
#define PATIENCE_MS	20000
/* Long enough to see that something does not come. */
#define LULL_MS		200

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static inline void sleep_ms(int ms)
{
	struct timespec rest = { ms / 1000, ms % 1000 * MS };

	while (nanosleep(&rest, &rest) < 0)
		;
}

static inline bool test_long(void)
{
	const char *value = getenv("TEST_LONG");

	return value && *value && strcmp(value, "0");
}

/* Waits until the condition holds; false if it never does. */
#define EVENTUALLY(condition) ({							\
	int64_t until_ = now_ns() + PATIENCE_MS * MS;					\
	bool held_;									\
	while (!(held_ = (condition)) && now_ns() < until_)				\
		sleep_ms(1);								\
	held_;										\
})

/* The calls ------------------------------------------------------------------- */

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static inline int call(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

static inline int device_open(int flags)
{
	int fd = open(DEVICE, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline struct voxshm_ioc_create create_default(void)
{
	struct voxshm_ioc_create create = {
		.main_size = 4 * page_size(),
		.window_size = 4 * page_size(),
		.guest_bytes = MIB,
		.guest_objects = 8,
		.max_guests = 8,
		.label = "kselftest",
	};

	return create;
}

static inline int segment_create(const struct voxshm_ioc_create *create)
{
	struct voxshm_ioc_create argument = *create;
	int fd = device_open(O_RDWR), ret;

	if (fd < 0)
		return fd;
	ret = call(fd, VOXSHM_IOC_CREATE, &argument);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	return fd;
}

static inline int segment_new(void)
{
	struct voxshm_ioc_create create = create_default();
	int fd = segment_create(&create);

	REQUIRE(fd >= 0);
	return fd;
}

struct link {
	int host;
	int guest;
	uint32_t peer_id;
	uint32_t epoch;
};

static inline int link_at(int segment, uint32_t peer_id, struct link *link)
{
	struct voxshm_ioc_link argument = { .peer_id = peer_id, .host_fd = -1, .guest_fd = -1 };
	int ret = call(segment, VOXSHM_IOC_LINK, &argument);

	if (ret == 0)
		*link = (struct link){ argument.host_fd, argument.guest_fd, argument.peer_id,
				       argument.epoch };
	return ret;
}

static inline struct link link_new(int segment)
{
	struct link link = { -1, -1, 0, 0 };

	REQUIRE_EQ(0, link_at(segment, 0, &link));
	return link;
}

static inline void link_close(struct link *link)
{
	close(link->host);
	close(link->guest);
}

static inline int doorbell_new(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	REQUIRE(fd >= 0);
	return fd;
}

static inline int bind_to(int host_end, int doorbell)
{
	struct voxshm_ioc_bind argument = { .eventfd = doorbell };

	return call(host_end, VOXSHM_IOC_BIND, &argument);
}

static inline int claim_with(int ticket, int doorbell, struct voxshm_ioc_claim *out)
{
	struct voxshm_ioc_claim argument = { .eventfd = doorbell };
	int ret = call(ticket, VOXSHM_IOC_CLAIM, &argument);

	if (out)
		*out = argument;
	return ret;
}

static inline int status_of(int end, struct voxshm_ioc_status *out)
{
	*out = (struct voxshm_ioc_status){ .flags = 0 };
	return call(end, VOXSHM_IOC_STATUS, out);
}

/* The state of the end that is not this one. */
static inline uint32_t state_beyond(int end)
{
	struct voxshm_ioc_status status;

	REQUIRE_EQ(0, status_of(end, &status));
	return status.state;
}

static inline int object_create(int end, uint32_t index, uint64_t size)
{
	struct voxshm_ioc_object argument = { .size = size, .index = index };

	return call(end, VOXSHM_IOC_OBJECT_CREATE, &argument);
}

static inline int object_drop(int end, uint32_t index)
{
	struct voxshm_ioc_drop argument = { .index = index };

	return call(end, VOXSHM_IOC_OBJECT_DROP, &argument);
}

static inline int grow(int segment, uint64_t size, uint32_t *pool)
{
	struct voxshm_ioc_grow argument = { .size = size };
	int ret = call(segment, VOXSHM_IOC_GROW, &argument);

	if (pool)
		*pool = argument.pool;
	return ret;
}

static inline int detach(int end)
{
	struct voxshm_ioc_detach argument = { .flags = 0 };

	return call(end, VOXSHM_IOC_DETACH, &argument);
}

static inline int ring(int end)
{
	return write(end, "!", 1) < 0 ? -errno : 0;
}

/* Returns the address, or NULL with errno. */
static inline void *map_object(int fd, uint32_t id, size_t size, int prot)
{
	void *address = mmap(NULL, size, prot, MAP_SHARED, fd, (off_t)VOXSHM_OFFSET(id));

	return address == MAP_FAILED ? NULL : address;
}

/* 0, or the error of trying to map. */
static inline int map_error(int fd, uint64_t offset, size_t size, int prot, int flags)
{
	void *address = mmap(NULL, size, prot, flags, fd, (off_t)offset);

	if (address == MAP_FAILED)
		return -errno;
	munmap(address, size);
	return 0;
}

/* A segment, a link of it, and both its ends in this process. */
struct pair {
	int segment;
	int host_bell;
	int guest_bell;
	struct link link;
	struct voxshm_ioc_claim claim;
};

/* Takes all that a doorbell has, and what is still on its way. */
static inline void doorbell_drain(int doorbell)
{
	struct pollfd entry = { .fd = doorbell, .events = POLLIN };
	uint64_t count;

	while (poll(&entry, 1, 20) == 1)
		REQUIRE_EQ(sizeof(count), read(doorbell, &count, sizeof(count)));
}

static inline void pair_open(struct pair *pair, const struct voxshm_ioc_create *create)
{
	pair->segment = segment_create(create);
	REQUIRE(pair->segment >= 0);
	pair->link = link_new(pair->segment);
	pair->host_bell = doorbell_new();
	pair->guest_bell = doorbell_new();
	REQUIRE_EQ(0, bind_to(pair->link.host, pair->host_bell));
	REQUIRE_EQ(0, claim_with(pair->link.guest, pair->guest_bell, &pair->claim));
	doorbell_drain(pair->host_bell);
	doorbell_drain(pair->guest_bell);
}

static inline void pair_new(struct pair *pair)
{
	struct voxshm_ioc_create create = create_default();

	pair_open(pair, &create);
}

static inline void pair_free(struct pair *pair)
{
	link_close(&pair->link);
	close(pair->segment);
	close(pair->host_bell);
	close(pair->guest_bell);
}

/* Waiting --------------------------------------------------------------------- */

static inline bool readable_within(int fd, int ms)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };

	return poll(&entry, 1, ms) == 1 && entry.revents & POLLIN;
}

/* Takes what the doorbell has; 0 if it has nothing. */
static inline uint64_t doorbell_take(int doorbell)
{
	uint64_t count = 0;

	return read(doorbell, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* Waits for the doorbell, then takes what it has; 0 if nothing came. */
static inline uint64_t doorbell_wait(int doorbell, int ms)
{
	return readable_within(doorbell, ms) ? doorbell_take(doorbell) : 0;
}

static inline bool hung_up(int end)
{
	struct pollfd entry = { .fd = end };

	return poll(&entry, 1, 0) == 1 && entry.revents & POLLHUP;
}

/* What a refused call leaves as it was ---------------------------------------- */

static inline int count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	REQUIRE(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static inline long read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long got, length = 0;

	text[0] = '\0';
	if (fd < 0)
		return -errno;
	while ((got = read(fd, text + length, size - 1 - length)) > 0)
		length += got;
	close(fd);
	text[length] = '\0';
	return length;
}

static inline int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The number that stands after the key. */
static inline uint64_t number_in(const char *path, const char *key)
{
	static char text[32768];
	char *at;

	REQUIRE(read_text(path, text, sizeof(text)) > 0);
	at = strstr(text, key);
	REQUIRE(at);
	return strtoull(at + strlen(key), NULL, 10);
}

static inline uint64_t memory_total(void)
{
	return number_in("/proc/meminfo", "MemTotal:") * KIB;
}

static inline uint64_t memory_available(void)
{
	return number_in("/proc/meminfo", "MemAvailable:") * KIB;
}

static inline void fdinfo_read(int fd, char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	REQUIRE(read_text(path, text, size) > 0);
}

/* All that can be seen of a pair from outside. */
struct snapshot {
	struct voxshm_ioc_status host;
	struct voxshm_ioc_status guest;
	struct voxshm_ioc_info info;
	char fdinfo[3][1024];
	int fds;
};

static inline void snapshot_take(const struct pair *pair, struct snapshot *out)
{
	memset(out, 0, sizeof(*out));
	REQUIRE_EQ(0, status_of(pair->link.host, &out->host));
	REQUIRE_EQ(0, status_of(pair->link.guest, &out->guest));
	REQUIRE_EQ(0, call(pair->segment, VOXSHM_IOC_INFO, &out->info));
	fdinfo_read(pair->segment, out->fdinfo[0], sizeof(out->fdinfo[0]));
	fdinfo_read(pair->link.host, out->fdinfo[1], sizeof(out->fdinfo[1]));
	fdinfo_read(pair->link.guest, out->fdinfo[2], sizeof(out->fdinfo[2]));
	out->fds = count_fds();
}

static inline bool snapshot_same(const struct pair *pair, const struct snapshot *before)
{
	struct snapshot after;

	snapshot_take(pair, &after);
	return !memcmp(&after, before, sizeof(after));
}

/* The module's parameters ----------------------------------------------------- */

static inline uint64_t parameter_get(const char *name)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	REQUIRE(read_text(path, text, sizeof(text)) > 0);
	return strtoull(text, NULL, 10);
}

static inline int parameter_set(const char *name, uint64_t value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return write_text(path, text);
}

#endif /* VOXSHM_TEST_H */
