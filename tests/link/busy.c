// SPDX-License-Identifier: MIT
/* busy.c - between ends that are awake the kernel is not asked. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "processes.h"

FIXTURE(busy)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(busy)

FIXTURE_SETUP(busy)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES));
}

FIXTURE_TEARDOWN(busy)
{
	pair_close(_metadata, &self->pair);
}

/* Inline and slot messages; a mapping is made with a system call. */
static size_t busy_size(uint64_t seed)
{
	return mix(seed) % 10 ? mix(seed) % 300 : mix(seed) % 5000;
}

static uint64_t kernel_calls(const struct voxshm_link *link)
{
	struct voxshm_counters counters;

	voxshm_link_counters(link, &counters);
	return counters.doorbells_rung + counters.sleeps;
}

static void round_trips(struct voxshm_link *from, struct voxshm_link *to, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		REQUIRE_EQ(0, send_pattern(from, busy_size(i), i, VOXSHM_FOREVER));
		REQUIRE_EQ(0, recv_pattern(to, busy_size(i), i, VOXSHM_FOREVER));
	}
}

TEST_F(busy, messages_that_wait_for_nobody_ring_no_doorbell)
{
	uint64_t before = kernel_calls(SENDER) + kernel_calls(RECEIVER);

	round_trips(SENDER, RECEIVER, amount(100000));
	EXPECT_EQ(before, kernel_calls(SENDER) + kernel_calls(RECEIVER));
}

TEST_F(busy, process_that_never_waits_is_never_put_to_sleep)
{
	long before = process_status("voluntary_ctxt_switches:");
	uint64_t count = amount(50000);

	ASSERT_LE(0, before);
	round_trips(SENDER, RECEIVER, count);
	EXPECT_GT(before + (long)count / 100, process_status("voluntary_ctxt_switches:"));
}

/* Two threads that only ever try: neither tells the other that it sleeps. */
struct trier {
	struct voxshm_link *link;
	uint64_t count;
};

static void *try_sender(void *argument)
{
	struct trier *trier = argument;
	int ret;

	for (uint64_t i = 0; i < trier->count;) {
		ret = send_pattern(trier->link, busy_size(i), i, 0);
		REQUIRE(ret == 0 || ret == -EAGAIN);
		i += ret == 0;
		if (ret)
			sched_yield();
	}
	return NULL;
}

static void *try_receiver(void *argument)
{
	struct trier *trier = argument;
	int ret;

	for (uint64_t i = 0; i < trier->count;) {
		ret = recv_pattern(trier->link, busy_size(i), i, 0);
		REQUIRE(ret == 0 || ret == -EAGAIN);
		i += ret == 0;
		if (ret)
			sched_yield();
	}
	return NULL;
}

TEST_F_TIMEOUT(busy, threads_that_only_try_ring_no_doorbell, 60)
{
	struct trier sender = { SENDER, amount(100000) }, receiver = { RECEIVER, sender.count };
	uint64_t before = kernel_calls(SENDER) + kernel_calls(RECEIVER);
	pthread_t threads[2];

	threads[0] = thread_start(try_sender, &sender);
	threads[1] = thread_start(try_receiver, &receiver);
	thread_join(threads[0]);
	thread_join(threads[1]);
	EXPECT_EQ(before, kernel_calls(SENDER) + kernel_calls(RECEIVER));
}

TEST_F(busy, armed_receiver_is_rung_once_not_for_each_message)
{
	struct voxshm_counters counters;

	ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	for (uint64_t i = 0; i < 50; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, 10, i, 0));
	}
	voxshm_link_counters(SENDER, &counters);
	EXPECT_EQ(1, counters.doorbells_rung);
}

/* Processor time of this thread; it does not depend on who else is busy. */
static int64_t used_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return used.tv_sec * SECOND + used.tv_nsec;
}

TEST_F(busy, waiting_uses_no_processor)
{
	struct voxshm_event events[4];
	int64_t start, until;

	start = used_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(RECEIVER, &(struct voxshm_view){ 0 }, 300 * MS));
	EXPECT_GT(60 * MS * slowness(), used_ns() - start);

	while (voxshm_try_send(SENDER, "x", 1) == 0)
		;
	start = used_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(SENDER, "x", 1, 300 * MS));
	EXPECT_GT(60 * MS * slowness(), used_ns() - start);

	/* The host has told of everything once its links are drained. */
	drain(RECEIVER);
	while (voxshm_host_wait(self->pair.host, events, 4, 20 * MS) > 0)
		;
	start = used_ns();
	until = now_ns() + 300 * MS;
	while (now_ns() < until) {
		EXPECT_EQ(0, voxshm_host_wait(self->pair.host, events, 4, 100 * MS));
	}
	EXPECT_GT(60 * MS * slowness(), used_ns() - start);
}

#define NO_FILTER 3

/* Any system call but exit ends the process with SIGSYS. */
static void forbid_system_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(NO_FILTER);
}

/* Both ends in one process, which the kernel kills at its first system call. */
TEST_F(busy, no_system_call_at_all)
{
	static uint8_t buffer[4096];
	struct voxshm_host *host;
	struct pair pair;
	int status;
	pid_t pid;

	if (SANITIZED)
		SKIP(return, "a sanitizer makes system calls of its own");
	pid = child_fork();
	if (pid == 0) {
		struct voxshm_view view;
		int ticket;

		REQUIRE_EQ(0, voxshm_host_new(&host, &CONFIG(variant, SMALL_CLASSES), NULL));
		REQUIRE_EQ(0, voxshm_host_ticket(host, &ticket, &pair.host_end, NULL));
		REQUIRE_EQ(0, voxshm_guest_claim(&pair.guest_end, ticket, NULL));
		pair.host = host;
		round_trips(pair_sender(&pair, variant->choice.from_host),
			    pair_receiver(&pair, variant->choice.from_host), 20000);
		forbid_system_calls();
		for (uint64_t i = 0; i < 200000; i++) {
			struct voxshm_link *from = pair_sender(&pair, variant->choice.from_host);
			struct voxshm_link *to = pair_receiver(&pair, variant->choice.from_host);
			size_t size = busy_size(i) % sizeof(buffer);

			if (voxshm_send(from, buffer, size, VOXSHM_FOREVER) ||
			    voxshm_recv(to, &view, VOXSHM_FOREVER) ||
			    view.size != size || voxshm_release(to, &view))
				_exit(1);
		}
		_exit(0);
	}
	status = child_wait(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTER)
		SKIP(return, "seccomp filters are not allowed here");
	EXPECT_EQ(0, status);
}

LINK_TEST_MAIN(NULL)
