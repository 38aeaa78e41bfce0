/* SPDX-License-Identifier: MIT */
/*
 * unit_test.h - what the tests of the native format and of the common parts
 * share: how much to run, choices that are the same in every run, what must
 * not leak, and a pair of links in one process.
 *
 * ASSERT_ and EXPECT_ belong to the test's own thread; threads and child
 * processes use REQUIRE, which ends the whole process.
 */
#ifndef UNIT_TEST_H
#define UNIT_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <kselftest_harness.h>
#include <voxshm.h>

#define REQUIRE(condition) do {								\
	if (!(condition)) {								\
		fprintf(stderr, "# %s:%d: pid %d: not true: %s\n", __FILE__, __LINE__,	\
			(int)getpid(), #condition);					\
		_exit(97);								\
	}										\
} while (0)

/* How much, and how long ------------------------------------------------------ */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static inline long environment_number(const char *name, long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? atol(value) : otherwise;
}

/* Everything may take so many times as long: valgrind sets it, sanitizers count as 4. */
static inline long slowness(void)
{
	long given = environment_number("VOXSHM_TEST_SLOW", 0);

	return given > 0 ? given : SANITIZED ? 4 : 1;
}

/* TEST_LONG asks for ten times as much; a slow run gets less. */
static inline unsigned long amount(unsigned long normal)
{
	long slow = slowness();

	if (environment_number("TEST_LONG", 0))
		normal *= 10;
	if (slow > 1)
		normal /= SANITIZED ? 10 : 10 * slow;
	return normal ? normal : 1;
}

/* Valgrind does not enforce every limit, nor know every system call. */
static inline bool under_valgrind(void)
{
	return slowness() > 4;
}

#define MS 1000000ll
#define SECOND 1000000000ll
/* Longer than anything that works takes; shorter than a test's time limit. */
#define PATIENCE (5 * SECOND * (slowness() > 2 ? 2 : 1))

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

/* splitmix64: a test's choices, the same in every run. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t value = *state += 0x9e3779b97f4a7c15ull;

	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)(random_next(state) % bound);
}

/* What must not leak ------------------------------------------------------------ */

static inline int count_entries(const char *directory)
{
	DIR *dir = opendir(directory);
	int count = -2;

	if (!dir)
		return -errno;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
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

/* Is the descriptor open? */
static inline bool fd_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static inline bool memory_leaks(void)
{
	return __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check();
}

/* Threads and processes ------------------------------------------------------------ */

/* The child dies with the test, also when that is stopped for its time. */
static inline pid_t fork_child(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* In a child: a fault ends it as it ends any program, without a core. */
static inline void die_by_fault(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

/* Waits for a child. Return: its exit code, or 128 + the signal that ended it. */
static inline int wait_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline pthread_t thread_start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	REQUIRE(pthread_create(&thread, NULL, run, argument) == 0);
	return thread;
}

/*
 * Joins a thread whose call a signal is to end. One signal may come just before
 * the system call that it should end, so they are sent until the thread is gone.
 */
static inline void thread_interrupt(pthread_t thread, int signal_number)
{
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		pthread_kill(thread, signal_number);
		sleep_ms(2);
	}
}

/* Memory that forked children share. */
static inline void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A pair: host's and guest's end of a native link, in one process --------------------- */

#define NATIVE_CONFIG(...)								\
	(&(struct voxshm_config){ .struct_size = sizeof(struct voxshm_config),		\
				  .format = VOXSHM_FORMAT_NATIVE,			\
				  .backend = VOXSHM_BACKEND_FILE, __VA_ARGS__ })

struct pair {
	struct voxshm_host *host;
	struct voxshm_link *host_end, *guest_end;
	int fds_before;
};

static inline int pair_join(struct voxshm_host *host, struct voxshm_link **host_end,
			    struct voxshm_link **guest_end)
{
	int ticket, ret;

	ret = voxshm_host_ticket(host, &ticket, host_end, NULL);
	return ret ? ret : voxshm_guest_claim(guest_end, ticket, NULL);
}

static inline int pair_open(struct pair *pair, const struct voxshm_config *config)
{
	int ret;

	*pair = (struct pair){ .fds_before = count_fds() };
	ret = voxshm_host_new(&pair->host, config, NULL);
	return ret ? ret : pair_join(pair->host, &pair->host_end, &pair->guest_end);
}

/* Return: how many descriptors are missing or left over. */
static inline int pair_close(struct pair *pair)
{
	voxshm_link_close(pair->guest_end);
	voxshm_host_free(pair->host);
	return count_fds() - pair->fds_before;
}

/* main() of a program that as a whole needs what may be missing: a reason, or NULL. */
#define TEST_HARNESS_MAIN_UNLESS(missing)						\
	static void __attribute__((constructor)) __constructor_order_last(void)		\
	{										\
		if (!__constructor_order)						\
			__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD;		\
	}										\
	int main(int argc, char **argv)							\
	{										\
		const char *reason = missing;						\
											\
		if (!reason)								\
			return test_harness_run(argc, argv);				\
		printf("TAP version 13\n1..0 # SKIP %s\n", reason);			\
		return KSFT_SKIP;							\
	}

#endif
