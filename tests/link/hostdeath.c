// SPDX-License-Identifier: MIT
/* hostdeath.c - a host that ends is seen by its guests at once, wherever they wait. */
#include "processes.h"

/* The host's fate. */
enum fate {
	KILLED,
	FREED,
};

FIXTURE(hostdeath)
{
	char directory[64], path[128];
	struct signal_pipe ready, go;
	int shm_files;
	pid_t host;
};
VARIANTS(hostdeath)

/* What a library might leave in /dev/shm; other tests keep their files there. */
static int count_shm_files(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	int count = 0;

	while (dir && (entry = readdir(dir)))
		count += strstr(entry->d_name, "vox") && !strstr(entry->d_name, "test");
	if (dir)
		closedir(dir);
	return count;
}

FIXTURE_SETUP(hostdeath)
{
	directory_make(self->directory);
	snprintf(self->path, sizeof(self->path), "%s/host", self->directory);
	self->ready = signal_pipe_new();
	self->go = signal_pipe_new();
	self->shm_files = count_shm_files();
}

FIXTURE_TEARDOWN(hostdeath)
{
	if (self->host > 0)
		child_kill(self->host);
	signal_pipe_free(&self->ready);
	signal_pipe_free(&self->go);
	directory_remove(self->directory);
	EXPECT_EQ(self->shm_files, count_shm_files());
}

static struct voxshm_status status_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status;
}

static const size_t kinds[] = { 0, 40, 900, 15000, 100000, 300000 };
#define MESSAGES (2 * ARRAY_SIZE(kinds))

/*
 * A host in a process of its own: lets one guest after another in, sends each
 * its messages, and reads nothing. On a sign it goes, or waits to be killed.
 */
static void host_run(FIXTURE_DATA(hostdeath) *self, const struct voxshm_config *config,
		     enum fate fate)
{
	struct inbox inbox = { 0 };
	struct pollfd go = { .fd = self->go.fds[0], .events = POLLIN };
	const struct voxshm_event *event;

	REQUIRE_EQ(0, voxshm_host_new(&inbox.host, config, NULL));
	REQUIRE_EQ(0, voxshm_host_listen(inbox.host, self->path, 0, NULL, NULL, NULL));
	signal_send(&self->ready);
	while (poll(&go, 1, 0) == 0) {
		event = inbox_next(&inbox, 2 * MS);
		if (event && event->type == VOXSHM_EVENT_ATTACHED) {
			for (uint64_t i = 0; i < MESSAGES; i++)
				REQUIRE_EQ(0, send_pattern(event->link, kinds[i % 6], i, PATIENCE));
			signal_send(&self->ready);
		} else if (event && event->type >= VOXSHM_EVENT_LEFT) {
			voxshm_link_close(event->link);
		} else if (event) {
			/* Not read, so that the guest's sends fill the ring. */
			sleep_ms(1);
		}
	}
	signal_await(&self->go);
	if (fate == KILLED)
		raise(SIGKILL);
	voxshm_host_free(inbox.host);
	_exit(0);
}

static void host_start(FIXTURE_DATA(hostdeath) *self, const struct voxshm_config *config,
		       enum fate fate)
{
	self->host = child_fork();
	if (self->host == 0)
		host_run(self, config, fate);
	signal_await(&self->ready);
}

/* Lets the host go its way, and waits for its end. */
static void host_end(struct __test_metadata *_metadata, FIXTURE_DATA(hostdeath) *self)
{
	signal_send(&self->go);
	EXPECT_NE(-1, child_wait(self->host));
	self->host = 0;
}

#define HOST_CONFIG CONFIG(variant, SMALL_CLASSES, .ring_capacity = 8192)

static struct voxshm_link *guest_connect(struct __test_metadata *_metadata,
					 FIXTURE_DATA(hostdeath) *self)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;

	ASSERT_EQ(0, voxshm_guest_connect(&link, self->path, NULL, PATIENCE, &error))
		TH_LOG("%s", error.text);
	signal_await(&self->ready);
	return link;
}

static void expect_messages(struct __test_metadata *_metadata, struct voxshm_link *link)
{
	for (uint64_t i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, recv_pattern(link, kinds[i % 6], i, PATIENCE))
			TH_LOG("message %d", (int)i);
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
}

/* A guest in a process of its own that runs the function; then the host ends. */
static void guest_watches(struct __test_metadata *_metadata, FIXTURE_DATA(hostdeath) *self,
			  guest_fn *run)
{
	pid_t guest = walk_in_fork(self->path, run, &self->ready);

	signal_await(&self->ready);	/* from the host: the messages are sent */
	signal_await(&self->ready);	/* from the guest */
	sleep_ms(20);
	host_end(_metadata, self);
	EXPECT_EQ(0, child_wait(guest));
}

static void expect_killed(struct voxshm_link *link)
{
	int64_t until = now_ns() + PATIENCE;

	REQUIRE_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	/* Its descriptors are closed a moment before the process has ended. */
	while (status_of(link).exit_kind == VOXSHM_EXIT_NONE && now_ns() < until)
		;
	if (knows_every_exit(link)) {
		REQUIRE_EQ(VOXSHM_EXIT_SIGNAL, status_of(link).exit_kind);
		REQUIRE_EQ(SIGKILL, status_of(link).exit_value);
	} else {
		REQUIRE_EQ(VOXSHM_EXIT_UNKNOWN, status_of(link).exit_kind);
	}
	REQUIRE_EQ(-EPIPE, voxshm_try_send(link, "x", 1));
	REQUIRE_EQ(-EPIPE, voxshm_try_recv(link, &(struct voxshm_view){ 0 }));
	voxshm_link_close(link);
}

static void guest_drains(struct voxshm_link *link)
{
	for (uint64_t i = 0; i < MESSAGES; i++)
		REQUIRE_EQ(0, recv_pattern(link, kinds[i % 6], i, PATIENCE));
}

static void guest_in_recv(struct voxshm_link *link, void *argument)
{
	guest_drains(link);
	signal_send(argument);
	REQUIRE_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, VOXSHM_FOREVER));
	expect_killed(link);
}

TEST_F(hostdeath, guest_blocked_in_recv)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_in_recv);
}

static void guest_in_send(struct voxshm_link *link, void *argument)
{
	int ret;

	guest_drains(link);
	while ((ret = voxshm_try_send(link, "x", 1)) == 0)
		;
	REQUIRE_EQ(-EAGAIN, ret);
	signal_send(argument);
	REQUIRE_EQ(-EPIPE, voxshm_send(link, "x", 1, VOXSHM_FOREVER));
	expect_killed(link);
}

TEST_F(hostdeath, guest_blocked_in_send)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_in_send);
}

static void guest_in_loan(struct voxshm_link *link, void *argument)
{
	struct voxshm_loan loan;
	int ret;

	guest_drains(link);
	while ((ret = voxshm_loan(link, 50000, &loan, 0)) == 0)
		;
	REQUIRE_EQ(-EAGAIN, ret);
	signal_send(argument);
	REQUIRE_EQ(-EPIPE, voxshm_loan(link, 50000, &loan, VOXSHM_FOREVER));
	expect_killed(link);
}

TEST_F(hostdeath, guest_blocked_in_loan)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_in_loan);
}

static void guest_in_poll(struct voxshm_link *link, void *argument)
{
	struct pollfd pollfd = { .fd = voxshm_link_fd(link), .events = POLLIN };

	guest_drains(link);
	REQUIRE_EQ(0, voxshm_link_arm(link, VOXSHM_READABLE));
	REQUIRE_EQ(0, poll(&pollfd, 1, 0));
	signal_send(argument);
	REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
	REQUIRE_EQ(VOXSHM_READABLE, voxshm_link_arm(link, VOXSHM_READABLE));
	REQUIRE_EQ(-EPIPE, voxshm_try_recv(link, &(struct voxshm_view){ 0 }));
	expect_killed(link);
}

TEST_F(hostdeath, guest_that_polls)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_in_poll);
}

static void guest_that_tries(struct voxshm_link *link, void *argument)
{
	int64_t until = now_ns() + PATIENCE;
	int ret = -EAGAIN;

	guest_drains(link);
	signal_send(argument);
	while (ret == -EAGAIN && now_ns() < until)
		ret = voxshm_try_recv(link, &(struct voxshm_view){ 0 });
	REQUIRE_EQ(-EPIPE, ret);
	expect_killed(link);
}

TEST_F(hostdeath, guest_that_only_tries_to_receive)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_that_tries);
}

static void guest_that_asks(struct voxshm_link *link, void *argument)
{
	int64_t until = now_ns() + PATIENCE;

	REQUIRE_EQ(VOXSHM_LINK_ATTACHED, status_of(link).state);
	signal_send(argument);
	while (status_of(link).state == VOXSHM_LINK_ATTACHED && now_ns() < until)
		sleep_ms(1);
	REQUIRE_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	/* What it sent before is still there. */
	guest_drains(link);
	expect_killed(link);
}

TEST_F(hostdeath, guest_that_asks_for_the_status)
{
	host_start(self, &HOST_CONFIG, KILLED);
	guest_watches(_metadata, self, guest_that_asks);
}

TEST_F(hostdeath, messages_of_a_killed_host_are_delivered)
{
	struct voxshm_link *link;

	host_start(self, &HOST_CONFIG, KILLED);
	link = guest_connect(_metadata, self);
	host_end(_metadata, self);
	expect_messages(_metadata, link);
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	voxshm_link_close(link);
}

TEST_F(hostdeath, messages_of_a_host_that_did_not_read_ours_are_delivered)
{
	struct voxshm_link *link;

	host_start(self, &HOST_CONFIG, KILLED);
	link = guest_connect(_metadata, self);
	ASSERT_EQ(0, send_pattern(link, 40, 1, PATIENCE));
	ASSERT_EQ(0, send_pattern(link, 300000, 1, PATIENCE));
	host_end(_metadata, self);
	expect_messages(_metadata, link);
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(link).state);
	voxshm_link_close(link);
}

TEST_F(hostdeath, messages_of_a_host_that_left_are_delivered)
{
	struct voxshm_link *link;

	host_start(self, &HOST_CONFIG, FREED);
	link = guest_connect(_metadata, self);
	host_end(_metadata, self);
	expect_messages(_metadata, link);
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(link).state);
	EXPECT_EQ(-1, access(self->path, F_OK));
	voxshm_link_close(link);
}

TEST_F(hostdeath, views_and_loans_stay_valid)
{
	struct voxshm_view views[MESSAGES];
	struct voxshm_link *link;
	struct voxshm_loan loan;

	host_start(self, &HOST_CONFIG, KILLED);
	link = guest_connect(_metadata, self);
	ASSERT_EQ(0, voxshm_loan(link, 5000, &loan, PATIENCE));
	for (size_t i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, voxshm_recv(link, &views[i], PATIENCE));
	}
	host_end(_metadata, self);
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	for (size_t i = 0; i < MESSAGES; i++) {
		EXPECT_TRUE(views[i].size == kinds[i % 6] &&
			    pattern_is(views[i].data, views[i].size, i));
		EXPECT_EQ(0, voxshm_release(link, &views[i]));
	}
	memset(loan.data, 1, loan.size);
	EXPECT_EQ(-EPIPE, voxshm_commit(link, &loan, 5000, PATIENCE));
	voxshm_abort(link, &loan);
	voxshm_link_close(link);
}

TEST_F(hostdeath, guest_goes_on_with_the_next_host)
{
	for (int life = 0; life < 4; life++) {
		struct voxshm_link *link;

		host_start(self, &HOST_CONFIG, life % 2 ? FREED : KILLED);
		link = guest_connect(_metadata, self);
		host_end(_metadata, self);
		expect_messages(_metadata, link);
		voxshm_link_close(link);
	}
}

TEST_F(hostdeath, host_is_dead_though_its_child_holds_its_descriptors)
{
	/* The host forks this guest, so all of its descriptors live on in it. */
	self->host = child_fork();
	if (self->host == 0) {
		struct voxshm_host *own;
		struct voxshm_link *link;
		struct inbox inbox;
		int ticket;

		REQUIRE_EQ(0, voxshm_host_new(&own, &HOST_CONFIG, NULL));
		REQUIRE_EQ(0, voxshm_host_ticket(own, &ticket, &link, NULL));
		if (fork() == 0) {
			struct voxshm_link *end;

			REQUIRE_EQ(0, voxshm_guest_claim(&end, ticket, NULL));
			signal_send(&self->ready);
			REQUIRE_EQ(-EPIPE, voxshm_recv(end, &(struct voxshm_view){ 0 }, PATIENCE));
			REQUIRE_EQ(VOXSHM_LINK_DIED, status_of(end).state);
			signal_send(&self->ready);
			_exit(0);
		}
		inbox = (struct inbox){ .host = own };
		inbox_await(&inbox, VOXSHM_EVENT_DIED, link);
		_exit(1);
	}
	signal_await(&self->ready);
	child_kill(self->host);
	self->host = 0;
	signal_await(&self->ready);
}

static int program_chatter(int argc, char **argv)
{
	struct voxshm_link *link = guest_inherit();
	int ret = 0;

	for (uint64_t i = 0; ret == 0; i++)
		ret = send_pattern(link, mixed_size(i), i, PATIENCE);
	return ret == -EPIPE ? 0 : 1;
}

TEST_F(hostdeath, both_dying_at_once_leave_nothing_behind)
{
	for (int round = 0; round < 5; round++) {
		struct voxshm_host *next;
		pid_t pids[2];
		int fds[2];

		ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
		self->host = child_fork();
		if (self->host == 0) {
			struct voxshm_host *host;
			struct voxshm_link *link;

			REQUIRE_EQ(0, voxshm_host_new(&host, &HOST_CONFIG, NULL));
			REQUIRE_EQ(0, voxshm_host_listen(host, self->path, 0, NULL, NULL, NULL));
			link = guest_spawn(_metadata, host, "chatter", NULL);
			pids[0] = getpid();
			pids[1] = status_of(link).pid;
			REQUIRE_EQ(sizeof(pids), write(fds[1], pids, sizeof(pids)));
			for (uint64_t i = 0;; i++)
				REQUIRE_EQ(0, recv_pattern(link, mixed_size(i), i, PATIENCE));
		}
		ASSERT_EQ(sizeof(pids), read(fds[0], pids, sizeof(pids)));
		ASSERT_LT(0, pids[1]);
		sleep_ms(10);
		kill(pids[round % 2], SIGKILL);
		kill(pids[1 - round % 2], SIGKILL);
		EXPECT_NE(-1, child_wait(self->host));
		self->host = 0;
		/* The fixture counts what is in /dev/shm; the address is free. */
		host_open(_metadata, &next, &HOST_CONFIG);
		EXPECT_EQ(0, voxshm_host_listen(next, self->path, 0, NULL, NULL, NULL));
		voxshm_host_free(next);
		close(fds[0]);
		close(fds[1]);
	}
}

static const struct guest_program programs[] = {
	{ "chatter", program_chatter },
	{ 0 },
};

LINK_TEST_MAIN(programs)
