/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of the vox_*.c and segment_*.c tests. */
#ifndef VOX_TEST_H
#define VOX_TEST_H

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "voxshm_segment.h"
#include "vox/segment.h"

#define CONFIG(...) (&(struct voxshm_segment_config){ \
	.struct_size = sizeof(struct voxshm_segment_config), __VA_ARGS__ })

static const struct voxshm_class test_classes[] = { { 1024, 8 }, { 16384, 4 } };

/* The configuration of the reference's own tests. */
#define SMALL .max_guests = 4, .ring_capacity = 4096, .max_payload = 64 * 1024, \
	.heartbeat_interval = 1000000, .num_classes = 2, .classes = test_classes

/* xorshift64: a test's choices, the same in every run. */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* From the environment, for longer runs. */
static inline unsigned long test_count(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 10) : otherwise;
}

static inline unsigned long test_messages(void)
{
	return test_count("VOXSHM_STRESS_MESSAGES", 100000);
}

/* Memory that forked children share. */
static inline void *test_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A directory for a test's files, and a file in it. */
struct test_dir {
	char dir[64];
	char path[96];
};

static inline int test_dir_make(struct test_dir *test)
{
	strcpy(test->dir, "/dev/shm/voxshm-test-XXXXXX");
	if (!mkdtemp(test->dir))
		return -1;
	snprintf(test->path, sizeof(test->path), "%s/segment", test->dir);
	return 0;
}

static inline void test_dir_remove(struct test_dir *test)
{
	unlink(test->path);
	rmdir(test->dir);
}

/* Waits for a child. Return: its exit code, or 128 + the signal that ended it. */
static inline int test_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Makes a segment look as if vox-shm had made it. */
static inline void test_make_plain(struct voxshm_segment *segment)
{
	memset(&vox_header(segment)->extension, 0, sizeof(struct segment_extension));
}

#endif
