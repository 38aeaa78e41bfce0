// SPDX-License-Identifier: MIT
/* deaths.c - a guest that ends, in whatever way, costs nothing but itself. */
#include "processes.h"

FIXTURE(deaths)
{
	struct inbox inbox;
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(deaths)

FIXTURE_SETUP(deaths)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 4));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(deaths)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

static struct voxshm_status status_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status;
}

/* A size of every kind: inside the ring, in a slot, in a mapping. */
static const size_t kinds[] = { 0, 40, 900, 15000, 100000, 300000 };
#define MESSAGES (4 * ARRAY_SIZE(kinds))

/* The host may close the link at any time: then that is that. */
static void send_all(struct voxshm_link *link, uint64_t seed)
{
	for (uint64_t i = 0; i < MESSAGES; i++) {
		int ret = send_pattern(link, kinds[i % ARRAY_SIZE(kinds)], seed + i, PATIENCE);

		if (ret == -EPIPE)
			_exit(0);
		REQUIRE_EQ(0, ret);
	}
}

static void expect_sent(struct __test_metadata *_metadata, struct voxshm_link *link, uint64_t seed)
{
	for (uint64_t i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, recv_pattern(link, kinds[i % ARRAY_SIZE(kinds)], seed + i, PATIENCE))
			TH_LOG("message %d", (int)i);
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
}

/* How a guest may end; the number is the spawned program's argument. */
enum ending {
	KILLED,
	SEGFAULTED,
	ABORTED,
	RETURNED,
	EXITED_7,
	EXECUTED,
	LEFT_THEN_EXITED_3,
	ENDINGS,
};

/* No report of a sanitizer's and no core file. */
static void die_of(int signal_number)
{
	prctl(PR_SET_DUMPABLE, 0);
	signal(signal_number, SIG_DFL);
	raise(signal_number);
	pause();
}

static int end_as(enum ending ending, struct voxshm_link *link)
{
	switch (ending) {
	case KILLED:
		die_of(SIGKILL);
		break;
	case SEGFAULTED:
		die_of(SIGSEGV);
		break;
	case ABORTED:
		die_of(SIGABRT);
		break;
	case EXITED_7:
		_exit(7);
	case EXECUTED:
		execl("/bin/sh", "sh", "-c", "exit 9", NULL);
		break;
	case LEFT_THEN_EXITED_3:
		voxshm_link_close(link);
		_exit(3);
	default:
		break;
	}
	_exit(0);
}

static const struct {
	enum voxshm_event_type event;
	enum voxshm_exit_kind kind;
	int value;
} records[ENDINGS] = {
	[KILLED] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_SIGNAL, SIGKILL },
	[SEGFAULTED] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_SIGNAL, SIGSEGV },
	[ABORTED] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_SIGNAL, SIGABRT },
	[RETURNED] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_CODE, 0 },
	[EXITED_7] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_CODE, 7 },
	[EXECUTED] = { VOXSHM_EVENT_DIED, VOXSHM_EXIT_CODE, 9 },
	[LEFT_THEN_EXITED_3] = { VOXSHM_EVENT_LEFT, VOXSHM_EXIT_CODE, 3 },
};

static int program_end(int argc, char **argv)
{
	struct voxshm_link *link = guest_inherit();

	send_all(link, 100);
	return end_as(atoi(argv[1]), link);
}

/* Waits for the last event; every message must be received before. */
static enum voxshm_event_type drain_to_end(struct __test_metadata *_metadata, struct inbox *inbox,
					   struct voxshm_link *link, uint64_t seed)
{
	int64_t until = now_ns() + PATIENCE;
	uint64_t received = 0;

	while (now_ns() < until) {
		const struct voxshm_event *event = inbox_next(inbox, 100 * MS);

		if (!event || event->link != link)
			continue;
		if (event->type >= VOXSHM_EVENT_LEFT) {
			EXPECT_EQ(MESSAGES, received);
			return event->type;
		}
		if (event->type != VOXSHM_EVENT_READABLE)
			continue;
		ASSERT_EQ(0, recv_pattern(link, kinds[received % ARRAY_SIZE(kinds)],
					  seed + received, 0))
			TH_LOG("message %d", (int)received);
		received++;
	}
	return EVENT_TYPES;
}

TEST_F(deaths, spawned_guest_is_told_with_its_exit_record)
{
	for (int ending = 0; ending < ENDINGS; ending++) {
		char number[16];
		struct voxshm_link *link;
		struct voxshm_status status;
		int64_t until;

		snprintf(number, sizeof(number), "%d", ending);
		link = guest_spawn(_metadata, self->host, "end", number);
		EXPECT_EQ(records[ending].event,
			  drain_to_end(_metadata, &self->inbox, link, 100))
			TH_LOG("ending %d", ending);
		/* One that left may take its time to exit. */
		until = now_ns() + PATIENCE;
		do {
			status = status_of(link);
		} while (status.exit_kind == VOXSHM_EXIT_NONE && now_ns() < until);
		EXPECT_EQ(ending == LEFT_THEN_EXITED_3 ? VOXSHM_LINK_LEFT : VOXSHM_LINK_DIED,
			  status.state);
		EXPECT_EQ(records[ending].kind, status.exit_kind)
			TH_LOG("ending %d", ending);
		EXPECT_EQ(records[ending].value, status.exit_value);
		EXPECT_EQ(0, status.core_dumped);
		voxshm_link_close(link);
	}
}

/* The same for guests that are not the library's children. */

static void expect_record(struct __test_metadata *_metadata, struct voxshm_link *link,
			  enum ending ending)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_status status;

	/* What has not ended yet, files may never tell. */
	if (!knows_every_exit(link) && ending == LEFT_THEN_EXITED_3)
		return;
	do {
		status = status_of(link);
	} while (status.exit_kind == VOXSHM_EXIT_NONE && now_ns() < until);
	if (knows_every_exit(link)) {
		EXPECT_EQ(records[ending].kind, status.exit_kind)
			TH_LOG("ending %d", ending);
		EXPECT_EQ(records[ending].value, status.exit_value);
	} else {
		EXPECT_EQ(VOXSHM_EXIT_UNKNOWN, status.exit_kind)
			TH_LOG("ending %d", ending);
	}
	EXPECT_EQ(0, status.core_dumped);
}

static void guest_end(struct voxshm_link *link, void *argument)
{
	send_all(link, 100);
	end_as(*(enum ending *)argument, link);
}

TEST_F(deaths, walk_in_guest_is_told_with_what_the_backend_knows_of_its_end)
{
	char address[64];

	ASSERT_EQ(0, voxshm_host_listen(self->host, abstract_address(address), 0, NULL, NULL, NULL));
	for (enum ending ending = 0; ending < ENDINGS; ending++) {
		pid_t pid = walk_in_fork(address, guest_end, &ending);
		struct voxshm_link *link = inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, NULL);

		ASSERT_NE(NULL, link);
		EXPECT_EQ(records[ending].event,
			  drain_to_end(_metadata, &self->inbox, link, 100))
			TH_LOG("ending %d", ending);
		EXPECT_EQ(pid, status_of(link).pid)
			TH_LOG("ending %d", ending);
		expect_record(_metadata, link, ending);
		/* It is ours to reap. */
		EXPECT_NE(-1, child_wait(pid));
		voxshm_link_close(link);
	}
}

TEST_F(deaths, ticket_guest_is_told_and_left_to_us_to_reap)
{
	for (enum ending ending = 0; ending < ENDINGS; ending++) {
		struct voxshm_link *link;
		pid_t pid = guest_fork(_metadata, self->host, guest_end, &ending, &link);

		EXPECT_EQ(records[ending].event,
			  drain_to_end(_metadata, &self->inbox, link, 100))
			TH_LOG("ending %d", ending);
		expect_record(_metadata, link, ending);
		EXPECT_NE(-1, child_wait(pid));
		voxshm_link_close(link);
	}
}

static void guest_sends_much_and_leaves(struct voxshm_link *link, void *argument)
{
	(void)argument;
	for (uint64_t i = 0; i < 20; i++)
		REQUIRE_EQ(0, send_pattern(link, 300000, i, PATIENCE));
	voxshm_link_close(link);
}

TEST_F(deaths, farewell_behind_much_memory_is_told_of_one_that_has_ended)
{
	struct voxshm_host *host;
	struct voxshm_link *link;
	struct inbox inbox;
	pid_t pid;

	host_open(_metadata, &host, &CONFIG(variant, SMALL_CLASSES, .max_mappings = 64));
	inbox = (struct inbox){ .host = host };
	pid = guest_fork(_metadata, host, guest_sends_much_and_leaves, NULL, &link);
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_NE(NULL, inbox_await(&inbox, VOXSHM_EVENT_READABLE, NULL));
	for (uint64_t i = 0; i < 20; i++)
		ASSERT_EQ(0, recv_pattern(link, 300000, i, 0));
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(link).state);
	voxshm_host_free(host);
}

static void guest_dumps_core(struct voxshm_link *link, void *argument)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	send_all(link, 100);
	setrlimit(RLIMIT_CORE, &limit);
	REQUIRE_EQ(0, chdir("/tmp"));
	signal(SIGABRT, SIG_DFL);
	abort();
}

TEST_F(deaths, core_of_a_guest_is_told)
{
	struct voxshm_link *link;
	char core[32];
	int status;
	pid_t pid;

	if (variant->choice.backend == VOXSHM_BACKEND_FILE)
		SKIP(return, "files do not know how others' children end");
	pid = guest_fork(_metadata, self->host, guest_dumps_core, NULL, &link);
	EXPECT_EQ(VOXSHM_EVENT_DIED, drain_to_end(_metadata, &self->inbox, link, 100));
	status = child_wait(pid);
	snprintf(core, sizeof(core), "/tmp/core.%d", (int)pid);
	unlink(core);
	if (!WCOREDUMP(status))
		SKIP(return, "this machine writes no core");
	EXPECT_EQ(VOXSHM_EXIT_SIGNAL, status_of(link).exit_kind);
	EXPECT_EQ(SIGABRT, status_of(link).exit_value);
	EXPECT_NE(0, status_of(link).core_dumped);
}

TEST_F(deaths, blocked_receive_delivers_all_then_ends)
{
	for (enum ending ending = 0; ending < ENDINGS; ending++) {
		struct voxshm_link *link;
		pid_t pid = guest_fork(_metadata, self->host, guest_end, &ending, &link);

		expect_sent(_metadata, link, 100);
		EXPECT_NE(-1, child_wait(pid));
		voxshm_link_close(link);
	}
}

/* A guest that has unread doorbells and messages of ours when it dies. */
static void guest_deaf(struct voxshm_link *link, void *argument)
{
	REQUIRE_EQ(0, voxshm_link_arm(link, VOXSHM_READABLE));
	REQUIRE_EQ(0, send_pattern(link, 10, 1, PATIENCE));
	signal_await(argument);
	send_all(link, 100);
	die_of(SIGKILL);
}

TEST_F(deaths, messages_of_a_guest_that_did_not_read_ours_are_delivered)
{
	struct signal_pipe go = signal_pipe_new();
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_deaf, &go, &link);

	ASSERT_EQ(0, recv_pattern(link, 10, 1, PATIENCE));
	for (uint64_t i = 0; i < 10; i++) {
		ASSERT_EQ(0, send_pattern(link, i * 50, i, PATIENCE));
	}
	signal_send(&go);
	EXPECT_NE(-1, child_wait(pid));
	expect_sent(_metadata, link, 100);
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	signal_pipe_free(&go);
}

TEST_F(deaths, borrowed_views_stay_valid_while_others_use_the_place)
{
	struct voxshm_view views[MESSAGES];
	enum ending ending = KILLED;
	struct voxshm_link *link, *next;

	pid_t pid = guest_fork(_metadata, self->host, guest_end, &ending, &link);

	for (size_t i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, voxshm_recv(link, &views[i], PATIENCE));
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, link));
	EXPECT_NE(-1, child_wait(pid));
	/* Others come and go, and write over all that is free. */
	for (int i = 0; i < 8; i++) {
		pid = guest_fork(_metadata, self->host, guest_end, &ending, &next);
		expect_sent(_metadata, next, 100);
		EXPECT_NE(-1, child_wait(pid));
		voxshm_link_close(next);
	}
	for (size_t i = 0; i < MESSAGES; i++) {
		EXPECT_EQ(kinds[i % ARRAY_SIZE(kinds)], views[i].size);
		EXPECT_TRUE(pattern_is(views[i].data, views[i].size, 100 + i));
		EXPECT_EQ(0, voxshm_release(link, &views[i]));
	}
	voxshm_link_close(link);
}

TEST_F(deaths, open_loans_stay_writable)
{
	struct voxshm_loan loans[ARRAY_SIZE(kinds)];
	struct signal_pipe go = signal_pipe_new();
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_deaf, &go, &link);

	ASSERT_EQ(0, recv_pattern(link, 10, 1, PATIENCE));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, voxshm_loan(link, kinds[i], &loans[i], PATIENCE));
	}
	signal_send(&go);
	expect_sent(_metadata, link, 100);
	EXPECT_NE(-1, child_wait(pid));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		pattern_fill(loans[i].data, loans[i].size, i);
		EXPECT_TRUE(pattern_is(loans[i].data, loans[i].size, i));
		EXPECT_EQ(-EPIPE, voxshm_commit(link, &loans[i], kinds[i], PATIENCE));
		voxshm_abort(link, &loans[i]);
	}
	voxshm_link_close(link);
	signal_pipe_free(&go);
}

TEST_F(deaths, new_guest_takes_the_place_while_the_old_link_is_undrained)
{
	struct voxshm_link *old, *new;
	enum ending ending = KILLED;
	pid_t pid;

	voxshm_host_free(self->host);
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 1));
	self->inbox.host = self->host;
	pid = guest_fork(_metadata, self->host, guest_end, &ending, &old);
	EXPECT_NE(-1, child_wait(pid));
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(old).state);
	pid = guest_fork(_metadata, self->host, guest_end, &ending, &new);
	EXPECT_NE(-1, child_wait(pid));
	EXPECT_EQ(status_of(old).peer_id, status_of(new).peer_id);
	EXPECT_LT(status_of(old).epoch, status_of(new).epoch);
	/* Interleaved: neither takes from the other. */
	for (uint64_t i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, recv_pattern(new, kinds[i % ARRAY_SIZE(kinds)], 100 + i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(old, kinds[i % ARRAY_SIZE(kinds)], 100 + i, PATIENCE));
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(old, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(-EPIPE, voxshm_recv(new, &(struct voxshm_view){ 0 }, PATIENCE));
	voxshm_link_close(old);
	voxshm_link_close(new);
}

static void guest_silent(struct voxshm_link *link, void *argument)
{
	REQUIRE_EQ(0, send_pattern(link, 10, 1, PATIENCE));
	for (;;)
		pause();
}

TEST_F(deaths, kill_ends_a_blocked_send)
{
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_silent, NULL, &link);
	int ret;

	ASSERT_EQ(0, recv_pattern(link, 10, 1, PATIENCE));
	while ((ret = voxshm_try_send(link, "x", 1)) == 0)
		;
	ASSERT_EQ(-EAGAIN, ret);
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(link, "x", 1, 20 * MS));
	kill(pid, SIGKILL);
	EXPECT_EQ(-EPIPE, voxshm_send(link, "x", 1, PATIENCE));
	EXPECT_NE(-1, child_wait(pid));
	voxshm_link_close(link);
}

TEST_F(deaths, stopped_guest_harms_nobody)
{
	struct voxshm_link *stopped, *other;
	pid_t pid = guest_fork(_metadata, self->host, guest_silent, NULL, &stopped);
	enum ending ending = KILLED;
	pid_t other_pid;

	ASSERT_EQ(stopped, inbox_await(&self->inbox, VOXSHM_EVENT_READABLE, stopped));
	ASSERT_EQ(0, recv_pattern(stopped, 10, 1, 0));
	kill(pid, SIGSTOP);
	while (voxshm_try_send(stopped, "x", 1) == 0)
		;
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(stopped, "x", 1, 20 * MS));
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(stopped, &(struct voxshm_view){ 0 }, 20 * MS));
	EXPECT_EQ(VOXSHM_LINK_ATTACHED, status_of(stopped).state);
	other_pid = guest_fork(_metadata, self->host, guest_end, &ending, &other);
	EXPECT_EQ(VOXSHM_EVENT_DIED, drain_to_end(_metadata, &self->inbox, other, 100));
	EXPECT_NE(-1, child_wait(other_pid));
	voxshm_link_close(other);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_LEFT]);
	kill(pid, SIGKILL);
	EXPECT_EQ(stopped, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, stopped));
	EXPECT_NE(-1, child_wait(pid));
	voxshm_link_close(stopped);
}

TEST_F(deaths, place_of_a_stopped_guest_can_be_taken_by_closing_its_link)
{
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_silent, NULL, &link);
	enum ending ending = KILLED;
	pid_t next;

	ASSERT_EQ(0, recv_pattern(link, 10, 1, PATIENCE));
	kill(pid, SIGSTOP);
	voxshm_link_close(link);
	for (int i = 0; i < 6; i++) {
		next = guest_fork(_metadata, self->host, guest_end, &ending, &link);
		expect_sent(_metadata, link, 100);
		EXPECT_NE(-1, child_wait(next));
		voxshm_link_close(link);
	}
	kill(pid, SIGKILL);
	EXPECT_NE(-1, child_wait(pid));
}

/* A guest whose child keeps copies of all its descriptors, and outlives it. */
static void guest_forks(struct voxshm_link *link, void *argument)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		for (;;)
			pause();
	}
	REQUIRE(pid > 0);
	REQUIRE_EQ(0, voxshm_send(link, &pid, sizeof(pid), PATIENCE));
	die_of(SIGKILL);
}

TEST_F(deaths, guest_is_dead_though_its_child_holds_its_descriptors)
{
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_forks, NULL, &link), grandchild = 0;

	ASSERT_EQ(sizeof(grandchild),
		  voxshm_recv_copy(link, &grandchild, sizeof(grandchild), PATIENCE));
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, link));
	EXPECT_EQ(0, kill(grandchild, 0));
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(-EPIPE, voxshm_send(link, "x", 1, PATIENCE));
	expect_record(_metadata, link, KILLED);
	EXPECT_NE(-1, child_wait(pid));
	kill(grandchild, SIGKILL);
	voxshm_link_close(link);
}

TEST_F(deaths, link_closed_before_the_spawned_guest_ends_leaves_no_zombie)
{
	struct voxshm_event event;
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_link *link = guest_spawn(_metadata, self->host, "end", "3");
	pid_t pid = status_of(link).pid;

	voxshm_link_close(link);
	while (kill(pid, 0) == 0 && now_ns() < until)
		voxshm_host_wait(self->host, &event, 1, 5 * MS);
	EXPECT_EQ(-1, kill(pid, 0));
}

static const struct guest_program programs[] = {
	{ "end", program_end },
	{ 0 },
};

LINK_TEST_MAIN(programs)
