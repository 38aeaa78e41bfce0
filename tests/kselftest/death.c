/* SPDX-License-Identifier: MIT */
/*
 * death.c - processes that own an end and die: what the other end is told, and
 * when. Ends that are no death of the process stand in death_exec.c.
 */
#include "death.h"

TEST_F_TIMEOUT(death, sigkill, 60)
{
	START(owner_waits);
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void exits(struct owner *owner)
{
	say(owner->socket, 'w');
	hear(owner->socket);
	exit(42);
}

TEST_F_TIMEOUT(death, exit_code, 60)
{
	START(exits);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 42, false);
}

static void exits_with_zero(struct owner *owner)
{
	say(owner->socket, 'w');
	hear(owner->socket);
	_exit(0);
}

TEST_F_TIMEOUT(death, exit_code_zero, 60)
{
	START(exits_with_zero);
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 0, false);
}

TEST_F_TIMEOUT(death, a_signal_that_is_not_caught, 60)
{
	START(owner_waits);
	EXPECT_EQ(0, kill(self->child.pid, SIGTERM));
	EXPECT_DEATH(VOXSHM_EXITED_SIGNAL, SIGTERM, false);
}

/* Other holders of the descriptor -------------------------------------------------- */

static void forks(struct owner *owner)
{
	if (fork() == 0)
		hold(owner->leash);
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, sigkill_while_a_forked_child_holds_the_descriptors, 60)
{
	START(forks);
	EXPECT_HOLDER_ALIVE();
	KILL_OWNER();
	EXPECT_HOLDER_ALIVE();
}

static void forks_and_exits(struct owner *owner)
{
	if (fork() == 0)
		hold(owner->leash);
	exits(owner);
}

TEST_F_TIMEOUT(death, exit_while_a_forked_child_holds_the_descriptors, 60)
{
	START(forks_and_exits);
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 42, false);
	EXPECT_HOLDER_ALIVE();
}

static void forks_a_child_that_ends(struct owner *owner)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(1);
	REQUIRE_EQ(pid, waitpid(pid, &status, 0));
	pid = fork();
	if (pid == 0)
		raise(SIGKILL);
	REQUIRE_EQ(pid, waitpid(pid, &status, 0));
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, a_forked_childs_death_is_none, 60)
{
	START(forks_a_child_that_ends);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void duplicates(struct owner *owner)
{
	REQUIRE(dup(owner->end) >= 0);
	REQUIRE(dup(owner->end) >= 0);
	close(owner->end);
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, dup, 60)
{
	START(duplicates);
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void sends_its_end(struct owner *owner)
{
	fd_send(owner->leash, owner->end);
	close(owner->end);
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, a_descriptor_in_flight, 60)
{
	START(sends_its_end);
	/* It is in the leash's queue all the time. */
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void shares_its_files(struct owner *owner)
{
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	REQUIRE(pid >= 0);
	if (pid == 0)
		hold(owner->leash);
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, sharers_of_the_descriptor_table_live_on, 60)
{
	START(shares_its_files);
	EXPECT_HOLDER_ALIVE();
	EXPECT_ALIVE();
	KILL_OWNER();
	EXPECT_HOLDER_ALIVE();
}

static void shares_its_files_with_one_that_ends(struct owner *owner)
{
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	int status;

	if (pid == 0)
		_exit(3);
	REQUIRE_EQ(pid, waitpid(pid, &status, 0));
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, a_sharer_of_the_descriptor_table_ends, 60)
{
	START(shares_its_files_with_one_that_ends);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

/* Threads -------------------------------------------------------------------------- */

static void *thread_waits(void *argument)
{
	struct owner *owner = argument;

	say(owner->socket, 'w');
	hear(owner->socket);
	syscall(SYS_exit_group, 5);
	return NULL;
}

static void *thread_with_files_of_its_own(void *argument)
{
	REQUIRE_EQ(0, unshare(CLONE_FILES));
	return thread_waits(argument);
}

static void leader_exits(struct owner *owner, void *(*run)(void *argument), int code)
{
	pthread_t thread;

	REQUIRE_EQ(0, pthread_create(&thread, NULL, run, owner));
	syscall(SYS_exit, code);
}

static void leader_exits_first(struct owner *owner)
{
	leader_exits(owner, thread_waits, 3);
}

static void leader_exits_from_an_unshared_thread(struct owner *owner)
{
	leader_exits(owner, thread_with_files_of_its_own, 3);
}

/* Only now the leader is a zombie, and its files are closed. */
static bool leader_is_dead(pid_t pid)
{
	char path[64], text[512], *after;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	REQUIRE(read_text(path, text, sizeof(text)) > 0);
	after = strrchr(text, ')');
	return after && after[2] == 'Z';
}

TEST_F_TIMEOUT(death, the_leader_exits_before_other_threads, 60)
{
	START(leader_exits_first);
	EXPECT_TRUE(EVENTUALLY(leader_is_dead(self->child.pid)));
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 5, false);
}

TEST_F_TIMEOUT(death, the_leader_exits_before_a_thread_with_its_own_files, 60)
{
	START(leader_exits_from_an_unshared_thread);
	EXPECT_TRUE(EVENTUALLY(leader_is_dead(self->child.pid)));
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 5, false);
}

TEST_F_TIMEOUT(death, sigkill_after_the_leader_exited, 60)
{
	START(leader_exits_first);
	EXPECT_TRUE(EVENTUALLY(leader_is_dead(self->child.pid)));
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void *last_thread_exits(void *argument)
{
	struct owner *owner = argument;

	say(owner->socket, 'w');
	hear(owner->socket);
	syscall(SYS_exit, 9);
	return NULL;
}

static void threads_exit_one_by_one(struct owner *owner)
{
	leader_exits(owner, last_thread_exits, 3);
}

TEST_F_TIMEOUT(death, threads_exit_one_by_one_without_exit_group, 60)
{
	struct voxshm_ioc_status status;
	int waited;

	START(threads_exit_one_by_one);
	EXPECT_TRUE(EVENTUALLY(leader_is_dead(self->child.pid)));
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_END(VOXSHM_HOW_DIED);
	status = status_awaited(_metadata, self, true);
	waited = child_reap(&self->child);
	/* Whose code counts is the kernel's affair: that which wait() tells. */
	EXPECT_TRUE(WIFEXITED(waited));
	EXPECT_EQ(VOXSHM_EXITED_CODE, status.exit);
	EXPECT_EQ(WEXITSTATUS(waited), status.exit_value);
}

static void *thread_ends(void *argument)
{
	return argument;
}

static void a_thread_ends(struct owner *owner)
{
	pthread_t thread;

	REQUIRE_EQ(0, pthread_create(&thread, NULL, thread_ends, NULL));
	REQUIRE_EQ(0, pthread_join(thread, NULL));
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, another_threads_end_is_none, 60)
{
	START(a_thread_ends);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

/* Manners of dying ------------------------------------------------------------------- */

TEST_F_TIMEOUT(death, stopped_and_then_killed, 60)
{
	START(owner_waits);
	EXPECT_EQ(0, kill(self->child.pid, SIGSTOP));
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

static void eats_memory(struct owner *owner)
{
	const size_t size = 64 * MIB;
	struct cgroup *cgroup = owner->argument;
	char *memory;

	cgroup_enter(cgroup);
	say(owner->socket, 'w');
	hear(owner->socket);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(memory != MAP_FAILED);
	memset(memory, 1, size);
	_exit(94);
}

TEST_F_TIMEOUT(death, the_oom_killer, 100)
{
	struct cgroup cgroup;

	if (!cgroup_new(&cgroup, 16 * MIB))
		SKIP(return, "no memory cgroups (v2) here");
	start(_metadata, self, eats_memory, &cgroup);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_SIGNAL, SIGKILL, false);
	EXPECT_GE(cgroup_read(&cgroup, "memory.events", "oom_kill"), 1);
	cgroup_free(&cgroup);
}

static void dumps_core(struct owner *owner)
{
	struct rlimit limit = { *(int *)owner->argument ? RLIM_INFINITY : 0, RLIM_INFINITY };

	REQUIRE_EQ(0, setrlimit(RLIMIT_CORE, &limit));
	prctl(PR_SET_DUMPABLE, 1);
	signal(SIGABRT, SIG_DFL);
	say(owner->socket, 'w');
	hear(owner->socket);
	abort();
}

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"

TEST_F_TIMEOUT(death, a_core_dump, 100)
{
	char pattern[256], path[64];
	int allowed = 1;

	ASSERT_GT(read_text(CORE_PATTERN, pattern, sizeof(pattern)), 0);
	ASSERT_EQ(0, write_text(CORE_PATTERN, "/tmp/voxshm-kselftest-core.%p"));
	start(_metadata, self, dumps_core, &allowed);
	snprintf(path, sizeof(path), "/tmp/voxshm-kselftest-core.%d", (int)self->child.pid);
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_SIGNAL, SIGABRT, true);
	EXPECT_EQ(0, write_text(CORE_PATTERN, pattern));
	/* It is complete when the death is told. */
	EXPECT_EQ(0, access(path, F_OK));
	unlink(path);
}

TEST_F_TIMEOUT(death, a_fatal_signal_without_core_dump, 60)
{
	int allowed = 0;

	start(_metadata, self, dumps_core, &allowed);
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_SIGNAL, SIGABRT, false);
}

static void faults(struct owner *owner)
{
	volatile char *nowhere = owner->argument;
	struct rlimit limit = { 0, 0 };

	setrlimit(RLIMIT_CORE, &limit);
	say(owner->socket, 'w');
	hear(owner->socket);
	*nowhere = 0;
}

TEST_F_TIMEOUT(death, a_segmentation_fault, 60)
{
	START(faults);
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_SIGNAL, SIGSEGV, false);
}

/* A parent that does not wait: the process is gone at once. */
TEST_F_TIMEOUT(death, nobody_waits_for_the_process, 60)
{
	struct voxshm_ioc_status status;

	signal(SIGCHLD, SIG_IGN);
	START(exits);
	say(self->child.socket, 'g');
	status = status_awaited(_metadata, self, true);
	EXPECT_EQ(VOXSHM_HOW_DIED, status.how);
	EXPECT_EQ(VOXSHM_EXITED_CODE, status.exit);
	EXPECT_EQ(42, status.exit_value);
}

static void has_many_copies(struct owner *owner)
{
	int i;

	for (i = 0; i < 20; i++)
		if (fork() == 0)
			hold(owner->leash);
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, sigkill_among_many_forked_children, 60)
{
	START(has_many_copies);
	EXPECT_ALIVE();
	KILL_OWNER();
	EXPECT_HOLDER_ALIVE();
}

VOXSHM_TEST_MAIN
