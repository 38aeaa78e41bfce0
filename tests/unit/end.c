// SPDX-License-Identifier: MIT
/* How a peer's process ended: exit code, signal and core of a child; no guess for others. */
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "end.h"
#include "unit_test.h"

FIXTURE(end) {
	struct end end;
	int fds_before;
};

FIXTURE_SETUP(end)
{
	self->fds_before = count_fds();
	end_init(&self->end, NULL);
}

FIXTURE_TEARDOWN(end)
{
	end_deinit(&self->end);
	EXPECT_EQ(count_fds(), self->fds_before);
}

/* A child that does nothing until it is killed. */
static pid_t idle_child(void)
{
	pid_t child = fork_child();

	while (child == 0)
		pause();
	return child;
}

/* Waits until the end says that the process has ended, or for too long. */
static bool await_exit(struct end *end)
{
	int64_t deadline = now_ns() + PATIENCE;

	while (!end_check_exit(end)) {
		if (now_ns() > deadline)
			return false;
		sleep_ms(1);
	}
	return true;
}

TEST_F(end, nobody_is_known_at_first)
{
	EXPECT_FALSE(end_check_exit(&self->end));
	EXPECT_EQ(self->end.pid, 0);
	EXPECT_EQ(self->end.pidfd, -1);
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_NONE);
}

/* Children ------------------------------------------------------------------------ */

TEST(exit_code_of_a_child_is_told)
{
	static const int codes[] = { 0, 1, 7, 127, 255 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		struct end end;
		pid_t child = fork_child();

		if (child == 0)
			_exit(codes[i]);
		end_init(&end, NULL);
		end_set_child(&end, child);
		ASSERT_TRUE(await_exit(&end));
		EXPECT_EQ(end.exit_kind, VOXSHM_EXIT_CODE);
		EXPECT_EQ(end.exit_value, codes[i]);
		EXPECT_FALSE(end.core_dumped);
		end_deinit(&end);
	}
}

TEST(signal_that_killed_a_child_is_told)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGHUP, SIGUSR1, SIGALRM };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		pid_t child = idle_child();
		struct end end;

		end_init(&end, NULL);
		end_set_child(&end, child);
		EXPECT_FALSE(end_check_exit(&end));
		ASSERT_EQ(kill(child, signals[i]), 0);
		ASSERT_TRUE(await_exit(&end));
		EXPECT_EQ(end.exit_kind, VOXSHM_EXIT_SIGNAL);
		EXPECT_EQ(end.exit_value, signals[i]);
		EXPECT_FALSE(end.core_dumped);
		end_deinit(&end);
	}
}

/* A child in a directory of its own that aborts, with or without leave for a core. */
static pid_t aborting_child(const char *directory, rlim_t limit)
{
	struct rlimit core = { limit, limit };
	pid_t child = fork_child();

	if (child)
		return child;
	signal(SIGABRT, SIG_DFL);
	if (chdir(directory) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
		_exit(1);
	prctl(PR_SET_DUMPABLE, limit != 0);
	kill(getpid(), SIGABRT);
	_exit(1);
}

TEST(core_of_a_child_is_told)
{
	char directory[] = "/tmp/voxshm-test-XXXXXX", command[64];
	bool can_dump;
	struct end end;
	int status;
	pid_t child;

	if (slowness() > 1)
		SKIP(return, "sanitizers and valgrind write no cores, or their own");
	ASSERT_NE(mkdtemp(directory), NULL);
	child = aborting_child(directory, RLIM_INFINITY);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	can_dump = WIFSIGNALED(status) && WCOREDUMP(status);
	if (can_dump) {
		end_init(&end, NULL);
		end_set_child(&end, aborting_child(directory, RLIM_INFINITY));
		ASSERT_TRUE(await_exit(&end));
		EXPECT_EQ(end.exit_kind, VOXSHM_EXIT_SIGNAL);
		EXPECT_EQ(end.exit_value, SIGABRT);
		EXPECT_TRUE(end.core_dumped);
		end_deinit(&end);
	}
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	EXPECT_EQ(system(command), 0);
	if (!can_dump)
		SKIP(return, "no core can be written here");
}

TEST_F(end, no_core_is_told_where_none_was_written)
{
	end_set_child(&self->end, aborting_child("/", 0));
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_SIGNAL);
	EXPECT_EQ(self->end.exit_value, SIGABRT);
	EXPECT_FALSE(self->end.core_dumped);
}

TEST_F(end, child_is_reaped_once_and_its_end_remembered)
{
	pid_t child = fork_child();
	int i;

	if (child == 0)
		_exit(3);
	end_set_child(&self->end, child);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(waitpid(child, NULL, WNOHANG), -1);
	EXPECT_EQ(errno, ECHILD);
	for (i = 0; i < 10; i++)
		EXPECT_TRUE(end_check_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_CODE);
	EXPECT_EQ(self->end.exit_value, 3);
}

TEST_F(end, stopped_child_has_not_ended)
{
	pid_t child = idle_child();
	int status;

	end_set_child(&self->end, child);
	ASSERT_EQ(kill(child, SIGSTOP), 0);
	ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_FALSE(end_check_exit(&self->end));
	ASSERT_EQ(kill(child, SIGCONT), 0);
	EXPECT_FALSE(end_check_exit(&self->end));
	ASSERT_EQ(kill(child, SIGKILL), 0);
	EXPECT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_value, SIGKILL);
}

static int leader_left[2];

static void *outlive_the_leader(void *argument)
{
	char byte;

	/* Until the test has looked. */
	if (read(leader_left[0], &byte, 1) == 1)
		_exit(9);
	return NULL;
}

TEST_F(end, exit_of_the_first_thread_alone_is_no_end)
{
	int64_t until;
	pid_t child;

	ASSERT_EQ(pipe2(leader_left, O_CLOEXEC), 0);
	child = fork_child();
	if (child == 0) {
		/* The death signal is bound to the thread that asked for it. */
		prctl(PR_SET_PDEATHSIG, 0);
		thread_start(outlive_the_leader, NULL);
		pthread_exit(NULL);
	}
	end_set_child(&self->end, child);
	for (until = now_ns() + 300 * MS; now_ns() < until; sleep_ms(5))
		ASSERT_FALSE(end_check_exit(&self->end));
	ASSERT_EQ(write(leader_left[1], "", 1), 1);
	close(leader_left[0]);
	close(leader_left[1]);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_CODE);
	EXPECT_EQ(self->end.exit_value, 9);
}

TEST_F(end, descriptor_becomes_readable_when_the_process_ends)
{
	pid_t child = idle_child();
	struct pollfd pollfd;

	end_set_child(&self->end, child);
	pollfd = (struct pollfd){ .fd = self->end.pidfd, .events = POLLIN };
	ASSERT_GE(pollfd.fd, 0);
	EXPECT_EQ(poll(&pollfd, 1, 0), 0);
	ASSERT_EQ(kill(child, SIGKILL), 0);
	EXPECT_EQ(poll(&pollfd, 1, (int)(PATIENCE / MS)), 1);
	EXPECT_TRUE(end_check_exit(&self->end));
}

TEST_F(end, descriptor_is_not_inherited_by_programs)
{
	end_set_peer(&self->end, getpid(), 1, 2);
	ASSERT_GE(self->end.pidfd, 0);
	EXPECT_TRUE(fcntl(self->end.pidfd, F_GETFD) & FD_CLOEXEC);
}

/* How it ended is not known ------------------------------------------------------------ */

TEST_F(end, child_that_somebody_else_reaped_ended_unknown)
{
	pid_t child = idle_child();

	end_set_child(&self->end, child);
	kill(child, SIGKILL);
	ASSERT_EQ(wait_child(child), 128 + SIGKILL);
	EXPECT_TRUE(end_check_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_UNKNOWN);
}

TEST_F(end, child_that_nobody_may_wait_for_ended_unknown)
{
	pid_t child;

	signal(SIGCHLD, SIG_IGN);
	child = idle_child();
	end_set_child(&self->end, child);
	kill(child, SIGKILL);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_UNKNOWN);
}

TEST_F(end, process_that_is_no_child_ended_unknown)
{
	pid_t *grandchild = shared_memory(4096), child;

	ASSERT_NE(grandchild, NULL);
	child = fork_child();
	if (child == 0) {
		*grandchild = idle_child();
		_exit(wait_child(*grandchild) == 128 + SIGKILL ? 0 : 1);
	}
	while (*(volatile pid_t *)grandchild == 0)
		sleep_ms(1);
	end_set_peer(&self->end, *grandchild, 1, 2);
	EXPECT_FALSE(end_check_exit(&self->end));
	ASSERT_EQ(kill(*grandchild, SIGKILL), 0);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_UNKNOWN);
	EXPECT_EQ(wait_child(child), 0);
	munmap(grandchild, 4096);
}

/* Also a child of ours, when the link's peer did not come by the library's spawn. */
TEST_F(end, child_that_is_not_known_as_one_is_left_to_be_reaped)
{
	pid_t child = idle_child();

	end_set_peer(&self->end, child, 1, 2);
	kill(child, SIGKILL);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_UNKNOWN);
	EXPECT_EQ(wait_child(child), 128 + SIGKILL);
}

TEST_F(end, process_that_is_gone_already_ended_unknown)
{
	pid_t child = fork_child();

	if (child == 0)
		_exit(0);
	ASSERT_EQ(wait_child(child), 0);
	end_set_peer(&self->end, child, 1, 2);
	EXPECT_EQ(self->end.pidfd, -1);
	EXPECT_TRUE(end_check_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_UNKNOWN);
}

/* Learning who it is --------------------------------------------------------------------- */

TEST_F(end, peer_is_told_with_its_credentials)
{
	end_set_peer(&self->end, getpid(), 17, 18);
	EXPECT_EQ(self->end.pid, getpid());
	EXPECT_EQ(self->end.uid, 17);
	EXPECT_EQ(self->end.gid, 18);
	EXPECT_FALSE(end_check_exit(&self->end));
}

TEST_F(end, peer_that_replaces_another_closes_its_descriptor)
{
	pid_t child = idle_child();
	int first;

	end_set_child(&self->end, child);
	EXPECT_TRUE(self->end.child);
	first = self->end.pidfd;
	end_set_peer(&self->end, getpid(), 1, 2);
	EXPECT_FALSE(self->end.child);
	EXPECT_EQ(count_fds(), self->fds_before + 1);
	EXPECT_EQ(self->end.pid, getpid());
	EXPECT_GE(first, 0);
	kill(child, SIGKILL);
	wait_child(child);
	EXPECT_FALSE(end_check_exit(&self->end));
}

/* The claim of a spawned child names it a second time. */
TEST_F(end, peer_named_again_stays_a_child)
{
	pid_t child = idle_child();
	int pidfd;

	end_set_child(&self->end, child);
	pidfd = self->end.pidfd;
	end_set_peer(&self->end, child, 5, 6);
	EXPECT_EQ(self->end.pidfd, pidfd);
	EXPECT_TRUE(self->end.child);
	EXPECT_EQ(self->end.uid, 5);
	kill(child, SIGKILL);
	ASSERT_TRUE(await_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_SIGNAL);
}

TEST_F(end, peer_without_a_number_never_ends)
{
	end_set_peer(&self->end, 0, 1, 2);
	EXPECT_EQ(self->end.pidfd, -1);
	EXPECT_FALSE(end_check_exit(&self->end));
	EXPECT_EQ(self->end.exit_kind, VOXSHM_EXIT_NONE);
}

TEST_F(end, peer_learned_without_a_free_descriptor_has_not_ended)
{
	struct rlimit old, few;
	int lowest = dup(0);

	ASSERT_GE(lowest, 0);
	close(lowest);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)lowest;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
	errno = ESRCH;
	end_set_peer(&self->end, getpid(), 1, 2);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	EXPECT_EQ(self->end.pidfd, -1);
	EXPECT_FALSE(end_check_exit(&self->end));
}

static const char *missing_pidfd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (pidfd < 0 && errno == ENOSYS)
		return "no pidfd_open() here";
	close(pidfd);
	return NULL;
}

TEST_HARNESS_MAIN_UNLESS(missing_pidfd())
