/* SPDX-License-Identifier: MIT */
/*
 * helpers.h - what the tests of links and hosts share: payload patterns,
 * pairs of ends in one process, guests in processes of their own, and
 * counting what must not leak.
 *
 * ASSERT_ and EXPECT_ belong to the test's own thread; threads and child
 * processes use REQUIRE, which ends the whole process.
 */
#ifndef HELPERS_H
#define HELPERS_H

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "basics.h"
#include "variants.h"

/* Payloads ------------------------------------------------------------------- */

/* A size for message number seed: mostly small, some for slots, few for mappings. */
#define MIXED_MAX (300 * KIB)
static inline size_t mixed_size(uint64_t seed)
{
	uint64_t random = mix(~seed);
	uint32_t kind = random % 1000;

	random >>= 32;
	if (kind < 700)
		return random % 65;
	if (kind < 940)
		return random % 1200;
	if (kind < 995)
		return random % (20 * KIB);
	return random % MIXED_MAX;
}

/* Classes under which MIXED_MAX needs a mapping. */
static const struct voxshm_class small_classes[] = { { 1024, 32 }, { 16384, 8 }, { 65536, 2 } };
#define SMALL_CLASSES .num_classes = ARRAY_SIZE(small_classes), .classes = small_classes

/* Is it readable within the time? Return: poll()'s events, 0 when not. */
static inline int readable(int fd, int ms)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	REQUIRE(poll(&pollfd, 1, ms) >= 0);
	return pollfd.revents;
}

/* A whole message from a pattern, in one call each. The buffer is the thread's own. */
static inline int send_pattern(struct voxshm_link *link, size_t size, uint64_t seed,
			       int64_t timeout)
{
	uint8_t small[2048], *data = small;
	int ret;

	if (size > sizeof(small))
		data = malloc(size);
	REQUIRE(data);
	pattern_fill(data, size, seed);
	ret = voxshm_send(link, data, size, timeout);
	if (data != small)
		free(data);
	return ret;
}

/* Return: 0, the error of recv or release, or -ENOMSG when the bytes are wrong. */
static inline int recv_pattern(struct voxshm_link *link, size_t size, uint64_t seed,
			       int64_t timeout)
{
	struct voxshm_view view;
	bool right;
	int ret;

	ret = voxshm_recv(link, &view, timeout);
	if (ret)
		return ret;
	right = view.size == size && pattern_is(view.data, size, seed);
	ret = voxshm_release(link, &view);
	return ret ? ret : right ? 0 : -ENOMSG;
}

/* What must not leak ----------------------------------------------------------- */

static inline int count_entries(const char *directory)
{
	DIR *dir = opendir(directory);
	int count = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static inline int count_fds(void)
{
	return count_entries("/proc/self/fd") - 1;
}

static inline int count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int count = 0, byte;

	if (!maps)
		return -errno;
	while ((byte = fgetc(maps)) != EOF)
		count += byte == '\n';
	fclose(maps);
	return count;
}

/* Of shared memory alone: a sanitizer has maps of its own beside each. */
static inline int count_shared_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], rights[5];
	int count = 0;

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps))
		count += sscanf(line, "%*s %4s", rights) == 1 && rights[3] == 's';
	fclose(maps);
	return count;
}

/* A number from /proc/self/status ("VmRSS:", "voluntary_ctxt_switches:"), or -1. */
static inline long process_status(const char *field)
{
	FILE *status = fopen("/proc/self/status", "re");
	long value = -1;
	char line[256];

	while (status && value < 0 && fgets(line, sizeof(line), status))
		if (!strncmp(line, field, strlen(field)))
			value = atol(line + strlen(field));
	if (status)
		fclose(status);
	return value;
}

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static inline bool memory_leaks(void)
{
	return __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check();
}

/* A pair: both ends in one process ---------------------------------------------- */

struct pair {
	struct voxshm_host *host;
	struct voxshm_link *host_end, *guest_end;
	int fds_before;
};

/* Joins a guest's end in this process to the host. */
static inline void link_make(struct __test_metadata *_metadata, struct voxshm_host *host,
			     struct voxshm_link **host_end, struct voxshm_link **guest_end)
{
	struct voxshm_error error = { "" };
	int ticket = -1;

	ASSERT_EQ(0, voxshm_host_ticket(host, &ticket, host_end, &error))
		TH_LOG("%s", error.text);
	ASSERT_EQ(0, voxshm_guest_claim(guest_end, ticket, &error))
		TH_LOG("%s", error.text);
}

static inline void pair_open(struct __test_metadata *_metadata, struct pair *pair,
			     const struct voxshm_config *config)
{
	struct voxshm_error error = { "" };

	*pair = (struct pair){ .fds_before = count_fds() };
	ASSERT_EQ(0, voxshm_host_new(&pair->host, config, &error))
		TH_LOG("%s", error.text);
	link_make(_metadata, pair->host, &pair->host_end, &pair->guest_end);
}

/* Also says whether everything was given back. */
static inline void pair_close(struct __test_metadata *_metadata, struct pair *pair)
{
	voxshm_link_close(pair->guest_end);
	voxshm_host_free(pair->host);
	if (pair->host)
		EXPECT_EQ(pair->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
	*pair = (struct pair){ 0 };
}

/* Closes the pair and opens it anew with another configuration. */
static inline void pair_renew(struct __test_metadata *_metadata, struct pair *pair,
			      const struct voxshm_config *config)
{
	pair_close(_metadata, pair);
	pair_open(_metadata, pair, config);
}

static inline struct voxshm_link *pair_sender(const struct pair *pair, bool from_host)
{
	return from_host ? pair->host_end : pair->guest_end;
}

static inline struct voxshm_link *pair_receiver(const struct pair *pair, bool from_host)
{
	return from_host ? pair->guest_end : pair->host_end;
}

/* Closes one end; the fixture closes the rest. */
static inline void pair_close_end(struct pair *pair, bool host_end)
{
	struct voxshm_link **end = host_end ? &pair->host_end : &pair->guest_end;

	voxshm_link_close(*end);
	*end = NULL;
}

/* For fixtures with a `pair` under VARIANTS_BOTH_WAYS. */
#define SENDER pair_sender(&self->pair, variant->choice.from_host)
#define RECEIVER pair_receiver(&self->pair, variant->choice.from_host)
#define CLOSE_SENDER() pair_close_end(&self->pair, variant->choice.from_host)
#define CLOSE_RECEIVER() pair_close_end(&self->pair, !variant->choice.from_host)

/* Receives and releases until the link is empty. Return: how many came, or the error. */
static inline int drain(struct voxshm_link *link)
{
	struct voxshm_view view;
	int count = 0, ret;

	while ((ret = voxshm_try_recv(link, &view)) == 0) {
		voxshm_release(link, &view);
		count++;
	}
	return ret == -EAGAIN || ret == -EPIPE ? count : ret;
}

/* Threads ------------------------------------------------------------------------ */

/* Joins, or ends the process when the thread does not end. */
static inline void thread_join(pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20 * slowness();
	REQUIRE_EQ(0, pthread_timedjoin_np(thread, NULL, &until));
}

static inline pthread_t thread_start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	REQUIRE_EQ(0, pthread_create(&thread, NULL, run, argument));
	return thread;
}

#endif
