/* SPDX-License-Identifier: MIT */
/*
 * death_exec.c - ends of an end whose process lives on: exec, close, unmapping,
 * DETACH; and that its exit is told all the same, later. What children made by
 * vfork do is no end. An exit between any two calls.
 */
#include "death.h"

static void execs(int code_at)
{
	char at[16];

	snprintf(at, sizeof(at), "%d", code_at);
	execl("/proc/self/exe", "exec", "--exit-after", at, "7", NULL);
	_exit(93);
}

/* Leaves the new program the socket, and the end if asked. */
static void execs_keeping(struct owner *owner, bool keep_end)
{
	int socket = dup(owner->socket);

	if (keep_end)
		REQUIRE_EQ(0, fcntl(owner->end, F_SETFD, 0));
	say(owner->socket, 'w');
	execs(socket);
}

static void execs_closing(struct owner *owner)
{
	execs_keeping(owner, false);
}

static void execs_leaving_it_open(struct owner *owner)
{
	execs_keeping(owner, true);
}

static void forks_and_execs_closing(struct owner *owner)
{
	if (fork() == 0)
		hold(owner->leash);
	execs_keeping(owner, false);
}

static void forks_and_execs_leaving_it_open(struct owner *owner)
{
	if (fork() == 0)
		hold(owner->leash);
	execs_keeping(owner, true);
}

/* The process lives, and its exit is told with a signal of its own. */
static void expect_closed_then_exit(DEATH)
{
	EXPECT_END(VOXSHM_HOW_CLOSED);
	sleep_ms(LULL_MS);
	doorbell_drain(self->bell);
	EXPECT_EQ(0, kill(self->child.pid, 0));
	EXPECT_FALSE(child_ended(self->child.pid, 0));
	say(self->child.socket, 'g');
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	EXPECT_EXIT(VOXSHM_HOW_CLOSED, 7);
}

TEST_F_TIMEOUT(death, exec_with_close_on_exec, 60)
{
	START(execs_closing);
	expect_closed_then_exit(_metadata, self);
}

TEST_F_TIMEOUT(death, exec_without_close_on_exec, 60)
{
	START(execs_leaving_it_open);
	expect_closed_then_exit(_metadata, self);
}

TEST_F_TIMEOUT(death, exec_with_close_on_exec_and_a_forked_child, 60)
{
	START(forks_and_execs_closing);
	expect_closed_then_exit(_metadata, self);
	EXPECT_HOLDER_ALIVE();
}

TEST_F_TIMEOUT(death, exec_without_close_on_exec_and_a_forked_child, 60)
{
	START(forks_and_execs_leaving_it_open);
	expect_closed_then_exit(_metadata, self);
	EXPECT_HOLDER_ALIVE();
}

TEST_F_TIMEOUT(death, sigkill_after_exec, 60)
{
	START(execs_leaving_it_open);
	EXPECT_END(VOXSHM_HOW_CLOSED);
	doorbell_drain(self->bell);
	EXPECT_EQ(0, kill(self->child.pid, SIGKILL));
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	expect_exit(_metadata, self, VOXSHM_HOW_CLOSED, VOXSHM_EXITED_SIGNAL, SIGKILL, false);
}

static void *thread_execs(void *argument)
{
	execs_leaving_it_open(argument);
	return NULL;
}

static void execs_from_a_thread(struct owner *owner)
{
	pthread_t thread;

	REQUIRE_EQ(0, pthread_create(&thread, NULL, thread_execs, owner));
	for (;;)
		pause();
}

TEST_F_TIMEOUT(death, exec_from_a_thread_that_is_not_the_leader, 60)
{
	START(execs_from_a_thread);
	expect_closed_then_exit(_metadata, self);
}

/* vfork -------------------------------------------------------------------------- */

static void vforks(struct owner *owner)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0)
		_exit(3);
	REQUIRE_EQ(pid, waitpid(pid, &status, 0));
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, a_vforked_childs_exit_is_none, 60)
{
	START(vforks);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

/* The new program holds the end too. */
static void vforks_and_execs(struct owner *owner)
{
	int leash = dup(owner->leash);
	char at[16];

	REQUIRE_EQ(0, fcntl(owner->end, F_SETFD, 0));
	snprintf(at, sizeof(at), "%d", leash);
	if (vfork() == 0) {
		execl("/proc/self/exe", "exec", "--exit-after", at, "7", NULL);
		_exit(93);
	}
	owner_waits(owner);
}

TEST_F_TIMEOUT(death, a_vforked_childs_exec_is_none, 60)
{
	START(vforks_and_execs);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
}

/* While the child borrows the memory, the parent sleeps, and can be killed there. */
static void vforked_child_waits(struct owner *owner)
{
	if (vfork() == 0) {
		say(owner->socket, 'w');
		hold(owner->leash);
	}
	_exit(92);
}

TEST_F_TIMEOUT(death, sigkill_while_a_vforked_child_has_the_memory, 60)
{
	START(vforked_child_waits);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	KILL_OWNER();
	EXPECT_HOLDER_ALIVE();
}

/* Closing and detaching ------------------------------------------------------------ */

static void exits_when_told(struct owner *owner)
{
	say(owner->socket, 'w');
	hear(owner->socket);
	_exit(7);
}

static void closes_everything(struct owner *owner)
{
	REQUIRE_EQ(0, munmap(owner->window, page_size()));
	KEEP_ONLY(owner->socket);
	exits_when_told(owner);
}

TEST_F_TIMEOUT(death, close_and_later_exit, 60)
{
	START(closes_everything);
	expect_closed_then_exit(_metadata, self);
}

static void unmaps_its_window(struct owner *owner)
{
	REQUIRE_EQ(0, munmap(owner->window, page_size()));
	exits_when_told(owner);
}

TEST_F_TIMEOUT(death, unmapping_and_later_exit, 60)
{
	START(unmaps_its_window);
	expect_closed_then_exit(_metadata, self);
}

static void closes_with_the_window_mapped(struct owner *owner)
{
	KEEP_ONLY(owner->socket);
	exits_when_told(owner);
}

TEST_F_TIMEOUT(death, close_is_no_end_while_the_window_is_mapped, 60)
{
	START(closes_with_the_window_mapped);
	sleep_ms(LULL_MS);
	EXPECT_ALIVE();
	say(self->child.socket, 'g');
	EXPECT_DEATH(VOXSHM_EXITED_CODE, 7, false);
}

static void detaches(struct owner *owner)
{
	REQUIRE_EQ(0, detach(owner->end));
	exits_when_told(owner);
}

TEST_F_TIMEOUT(death, detach_and_later_exit, 60)
{
	START(detaches);
	EXPECT_END(VOXSHM_HOW_DETACHED);
	sleep_ms(LULL_MS);
	doorbell_drain(self->bell);
	say(self->child.socket, 'g');
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	EXPECT_EXIT(VOXSHM_HOW_DETACHED, 7);
}

static void detaches_and_closes(struct owner *owner)
{
	REQUIRE_EQ(0, detach(owner->end));
	closes_everything(owner);
}

TEST_F_TIMEOUT(death, detach_close_and_later_sigkill, 60)
{
	START(detaches_and_closes);
	EXPECT_END(VOXSHM_HOW_DETACHED);
	sleep_ms(LULL_MS);
	doorbell_drain(self->bell);
	EXPECT_EQ(0, kill(self->child.pid, SIGKILL));
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	expect_exit(_metadata, self, VOXSHM_HOW_DETACHED, VOXSHM_EXITED_SIGNAL, SIGKILL, false);
}

/* Exit between any two calls ------------------------------------------------------- */

FIXTURE(sweep) {
	int segment;
};

FIXTURE_SETUP(sweep)
{
	self->segment = segment_new();
}

FIXTURE_TEARDOWN(sweep)
{
	close(self->segment);
}

#define GUEST_CALLS	10
#define GUEST_DETACHES	8	/* the number of calls after which it has detached */

/* Makes the first so many calls, then exits with that number. */
static int guest_exits_after(int socket, void *argument)
{
	const size_t page = page_size();
	int calls = *(int *)argument, bell = doorbell_new(), ticket;
	char *window;

	KEEP_ONLY(socket, bell);
	ticket = fd_receive(socket);
#define STEP(number, condition) do {							\
	if (calls < (number))								\
		return calls;								\
	REQUIRE(condition);								\
} while (0)
	STEP(1, claim_with(ticket, bell, NULL) == 0);
	STEP(2, (window = map_object(ticket, VOXSHM_OBJECT_WINDOW, page,
				     PROT_READ | PROT_WRITE)));
	STEP(3, map_object(ticket, VOXSHM_OBJECT_MAIN, page, PROT_READ));
	STEP(4, ring(ticket) == 0);
	STEP(5, object_create(ticket, 0, page) == 0);
	STEP(6, map_object(ticket, VOXSHM_OBJECT_GUEST, page, PROT_READ | PROT_WRITE));
	STEP(7, object_drop(ticket, 0) == 0);
	STEP(8, detach(ticket) == 0);
	STEP(9, close(ticket) == 0);
	STEP(10, munmap(window, page) == 0);
	return calls;
}

TEST_F_TIMEOUT(sweep, a_guest_exits_between_any_two_calls, 100)
{
	struct voxshm_ioc_status status;
	struct child child;
	struct link link;
	int calls, bell = doorbell_new();

	for (calls = 0; calls <= GUEST_CALLS; calls++) {
		ASSERT_EQ(0, link_at(self->segment, 3, &link));
		EXPECT_EQ(calls + 1, link.epoch);
		ASSERT_EQ(0, bind_to(link.host, bell));
		child = child_start(guest_exits_after, &calls);
		fd_send(child.socket, link.guest);
		close(link.guest);
		EXPECT_EQ(calls << 8, child_reap(&child));
		do {
			ASSERT_EQ(0, status_of(link.host, &status));
		} while ((status.state != VOXSHM_STATE_ENDED || (calls && !status.exit)) &&
			 doorbell_wait(bell, PATIENCE_MS));
		EXPECT_EQ(VOXSHM_STATE_ENDED, status.state);
		if (calls == 0) {
			/* Nobody was the guest: the ticket was closed. */
			EXPECT_EQ(VOXSHM_HOW_UNCLAIMED, status.how);
			EXPECT_EQ(0, status.pid);
		} else {
			EXPECT_EQ(calls < GUEST_DETACHES ? VOXSHM_HOW_DIED : VOXSHM_HOW_DETACHED,
				  status.how)
				TH_LOG("after %d calls", calls);
			EXPECT_EQ(VOXSHM_EXITED_CODE, status.exit);
			EXPECT_EQ(calls, status.exit_value);
			EXPECT_EQ(0, status.core_dumped);
		}
		EXPECT_TRUE(hung_up(link.host));
		close(link.host);
		doorbell_drain(bell);
	}
}

#define HOST_CALLS	10
#define HOST_DETACHES	9
/* The guest's end is sent off after this many. */
#define HOST_LINKS	2

static int host_exits_after(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	const size_t page = page_size();
	int calls = *(int *)argument, segment = device_open(O_RDWR);
	struct link link;

	STEP(1, call(segment, VOXSHM_IOC_CREATE, &create) == 0);
	STEP(HOST_LINKS, link_at(segment, 0, &link) == 0);
	fd_send(socket, link.guest);
	close(link.guest);
	REQUIRE_EQ('c', hear(socket));
	STEP(3, bind_to(link.host, doorbell_new()) == 0);
	STEP(4, map_object(link.host, VOXSHM_OBJECT_WINDOW, page, PROT_READ | PROT_WRITE));
	STEP(5, ring(link.host) == 0);
	STEP(6, object_create(link.host, 0, page) == 0);
	STEP(7, grow(segment, page, NULL) == 0);
	STEP(8, close(segment) == 0);
	STEP(9, detach(link.host) == 0);
	STEP(10, close(link.host) == 0);
	return calls;
}

TEST_F_TIMEOUT(sweep, a_host_exits_between_any_two_calls, 100)
{
	struct voxshm_ioc_status status;
	struct child child;
	int calls, ticket, bell = doorbell_new();

	for (calls = 0; calls <= HOST_CALLS; calls++) {
		child = child_start(host_exits_after, &calls);
		if (calls < HOST_LINKS) {
			EXPECT_EQ(calls << 8, child_reap(&child));
			continue;
		}
		ticket = fd_receive(child.socket);
		ASSERT_EQ(0, claim_with(ticket, bell, NULL));
		say(child.socket, 'c');
		EXPECT_EQ(calls << 8, child_reap(&child));
		do {
			ASSERT_EQ(0, status_of(ticket, &status));
		} while ((status.state != VOXSHM_STATE_ENDED || !status.exit) &&
			 doorbell_wait(bell, PATIENCE_MS));
		EXPECT_EQ(VOXSHM_STATE_ENDED, status.state);
		EXPECT_EQ(calls < HOST_DETACHES ? VOXSHM_HOW_DIED : VOXSHM_HOW_DETACHED,
			  status.how)
			TH_LOG("after %d calls", calls);
		EXPECT_EQ(VOXSHM_EXITED_CODE, status.exit);
		EXPECT_EQ(calls, status.exit_value);
		EXPECT_EQ(child.pid, status.pid);
		close(ticket);
		doorbell_drain(bell);
	}
}

VOXSHM_TEST_MAIN
