// SPDX-License-Identifier: MIT
/* walkin.c - guests that come to the host's address: let in, refused, told why. */
#include "processes.h"

FIXTURE(walkin)
{
	struct inbox inbox;
	struct voxshm_host *host;
	char directory[64], path[128];
	int fds_before;
};
VARIANTS(walkin)

FIXTURE_SETUP(walkin)
{
	directory_make(self->directory);
	snprintf(self->path, sizeof(self->path), "%s/host", self->directory);
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 2));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(walkin)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(-1, access(self->path, F_OK));
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
	directory_remove(self->directory);
}

static void listen_at(struct __test_metadata *_metadata, struct voxshm_host *host,
		      const char *address)
{
	struct voxshm_error error = { "" };

	ASSERT_EQ(0, voxshm_host_listen(host, address, 0, NULL, NULL, &error))
		TH_LOG("%s", error.text);
}

/* A message each way, then the guest leaves. */
static void expect_link(struct __test_metadata *_metadata, struct walker *walker)
{
	ASSERT_NE(NULL, walker->host_end);
	EXPECT_EQ(0, send_pattern(walker->host_end, 100, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(walker->guest_end, 100, 1, PATIENCE));
	EXPECT_EQ(0, send_pattern(walker->guest_end, 2000, 2, PATIENCE));
	EXPECT_EQ(0, recv_pattern(walker->host_end, 2000, 2, PATIENCE));
	voxshm_link_close(walker->guest_end);
	voxshm_link_close(walker->host_end);
}

TEST_F(walkin, by_path)
{
	struct walker walker;
	struct stat stat;

	umask(0);
	listen_at(_metadata, self->host, self->path);
	ASSERT_EQ(0, lstat(self->path, &stat));
	EXPECT_TRUE(S_ISSOCK(stat.st_mode));
	EXPECT_EQ(0600, stat.st_mode & 07777);
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	expect_link(_metadata, &walker);
}

TEST_F(walkin, by_abstract_address)
{
	struct walker walker;
	char address[64];

	listen_at(_metadata, self->host, abstract_address(address));
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, address, NULL));
	expect_link(_metadata, &walker);
}

TEST_F(walkin, path_has_the_mode_asked_for)
{
	struct stat stat;

	umask(077);
	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0666, NULL, NULL, NULL));
	ASSERT_EQ(0, lstat(self->path, &stat));
	EXPECT_EQ(0666, stat.st_mode & 07777);
}

TEST_F(walkin, from_another_process)
{
	struct voxshm_status status;
	struct voxshm_link *link;
	pid_t pid;

	listen_at(_metadata, self->host, self->path);
	pid = child_fork();
	if (pid == 0) {
		REQUIRE_EQ(0, voxshm_guest_connect(&link, self->path, NULL, PATIENCE, NULL));
		voxshm_link_status(link, &status);
		REQUIRE_EQ(getppid(), status.pid);
		REQUIRE_EQ(VOXSHM_LINK_ATTACHED, status.state);
		REQUIRE_EQ(0, send_pattern(link, 5000, 1, PATIENCE));
		REQUIRE_EQ(0, recv_pattern(link, 5000, 2, PATIENCE));
		voxshm_link_close(link);
		_exit(0);
	}
	link = inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, NULL);
	ASSERT_NE(NULL, link);
	voxshm_link_status(link, &status);
	EXPECT_EQ(pid, status.pid);
	EXPECT_EQ(geteuid(), status.uid);
	EXPECT_EQ(0, recv_pattern(link, 5000, 1, PATIENCE));
	EXPECT_EQ(0, send_pattern(link, 5000, 2, PATIENCE));
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_LEFT, link));
	EXPECT_EQ(0, child_wait(pid));
	voxshm_link_close(link);
}

/* What the accept function saw, and what it shall say. */
struct gate {
	int calls, answer;
	const char *reason;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	size_t size;
	char session[70000];
};

static int gate_accept(void *data, const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	struct gate *gate = data;

	gate->calls++;
	gate->pid = caller->pid;
	gate->uid = caller->uid;
	gate->gid = caller->gid;
	gate->size = caller->session_size;
	REQUIRE(caller->session_size <= sizeof(gate->session));
	if (caller->session_size)
		memcpy(gate->session, caller->session, caller->session_size);
	if (gate->reason)
		snprintf(reason->text, sizeof(reason->text), "%s", gate->reason);
	return gate->answer;
}

TEST_F(walkin, accept_function_sees_who_asks_and_the_session_word)
{
	static struct gate gate;
	struct walker walker;

	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0, gate_accept, &gate, NULL));
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, "open sesame"));
	EXPECT_EQ(1, gate.calls);
	EXPECT_EQ(getpid(), gate.pid);
	EXPECT_EQ(geteuid(), gate.uid);
	EXPECT_EQ(getegid(), gate.gid);
	EXPECT_EQ(11, gate.size);
	EXPECT_EQ(0, memcmp("open sesame", gate.session, 11));
	expect_link(_metadata, &walker);
}

TEST_F(walkin, session_word_may_be_empty_or_long)
{
	static struct gate gate;
	char *word = malloc(65537);
	struct walker walker;

	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0, gate_accept, &gate, NULL));
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	EXPECT_EQ(0, gate.size);
	expect_link(_metadata, &walker);
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, ""));
	EXPECT_EQ(0, gate.size);
	expect_link(_metadata, &walker);
	for (size_t i = 0; i < 65536; i++)
		word[i] = "abcdefg"[i % 7];
	word[65535] = '\0';
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, word));
	EXPECT_EQ(65535, gate.size);
	EXPECT_EQ(0, memcmp(word, gate.session, 65535));
	expect_link(_metadata, &walker);
	word[65535] = 'x';
	word[65536] = '\0';
	EXPECT_GT(0, voxshm_guest_connect(&walker.guest_end, self->path, word, SECOND,
					  &walker.error));
	EXPECT_EQ(3, gate.calls);
	free(word);
}

TEST_F(walkin, refusal_reaches_the_guest_with_its_reason)
{
	static struct gate gate = { .answer = -1, .reason = "we are closed on Mondays" };
	struct walker walker;

	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0, gate_accept, &gate, NULL));
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-EACCES, walk_in(&self->inbox, &walker, self->path, NULL));
		EXPECT_NE(NULL, strstr(walker.error.text, gate.reason))
			TH_LOG("'%s'", walker.error.text);
	}
	/* The places are still free, and nothing was told. */
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_ATTACHED]);
	gate = (struct gate){ 0 };
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	expect_link(_metadata, &walker);
}

TEST_F(walkin, any_answer_but_zero_refuses)
{
	static const int answers[] = { 1, -1, -EAGAIN, 42, INT_MIN };
	static struct gate gate;
	struct walker walker;

	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0, gate_accept, &gate, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		gate.answer = answers[i];
		EXPECT_EQ(-EACCES, walk_in(&self->inbox, &walker, self->path, NULL));
		EXPECT_STRNE("", walker.error.text);
	}
}

TEST_F(walkin, longest_reason_arrives)
{
	static struct gate gate = { .answer = 1 };
	struct walker walker;
	char reason[256];

	memset(reason, 'r', 200);
	reason[200] = '\0';
	gate.reason = reason;
	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0, gate_accept, &gate, NULL));
	EXPECT_EQ(-EACCES, walk_in(&self->inbox, &walker, self->path, NULL));
	EXPECT_NE(NULL, strstr(walker.error.text, reason));
	memset(reason, 'r', 255);
	reason[255] = '\0';
	EXPECT_EQ(-EACCES, walk_in(&self->inbox, &walker, self->path, NULL));
	EXPECT_NE(NULL, strstr(walker.error.text, "rrrrrrrr"));
}

TEST_F(walkin, other_users_are_refused_by_default)
{
	struct voxshm_link *link;
	int64_t until = now_ns() + PATIENCE;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		SKIP(return, "only root can become another user");
	ASSERT_EQ(0, chmod(self->directory, 0711));
	ASSERT_EQ(0, voxshm_host_listen(self->host, self->path, 0666, NULL, NULL, NULL));
	pid = child_fork();
	if (pid == 0) {
		struct voxshm_error error = { "" };

		REQUIRE_EQ(0, setgid(65534));
		REQUIRE_EQ(0, setuid(65534));
		REQUIRE_EQ(-EACCES, voxshm_guest_connect(&link, self->path, NULL, PATIENCE, &error));
		REQUIRE(*error.text);
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0 && now_ns() < until) {
		EXPECT_EQ(NULL, inbox_next(&self->inbox, 5 * MS));
	}
	EXPECT_EQ(0, status);
}

TEST_F(walkin, full_house_is_eusers_until_a_guest_leaves)
{
	struct walker first, second, third;

	listen_at(_metadata, self->host, self->path);
	ASSERT_EQ(0, walk_in(&self->inbox, &first, self->path, NULL));
	ASSERT_EQ(0, walk_in(&self->inbox, &second, self->path, NULL));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EUSERS, walk_in(&self->inbox, &third, self->path, NULL));
		EXPECT_STRNE("", third.error.text);
	}
	voxshm_link_close(first.guest_end);
	EXPECT_EQ(first.host_end, inbox_await(&self->inbox, VOXSHM_EVENT_LEFT, first.host_end));
	ASSERT_EQ(0, walk_in(&self->inbox, &third, self->path, NULL));
	expect_link(_metadata, &second);
	expect_link(_metadata, &third);
	voxshm_link_close(first.host_end);
}

TEST_F(walkin, house_of_one)
{
	struct walker first, second;

	voxshm_host_free(self->host);
	host_open(_metadata, &self->host, &CONFIG(variant, .max_guests = 1));
	self->inbox = (struct inbox){ .host = self->host };
	listen_at(_metadata, self->host, self->path);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, walk_in(&self->inbox, &first, self->path, NULL));
		EXPECT_EQ(-EUSERS, walk_in(&self->inbox, &second, self->path, NULL));
		expect_link(_metadata, &first);
	}
}

TEST_F(walkin, nobody_at_the_address)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	char address[64], path[256];

	EXPECT_EQ(-ENOENT, voxshm_guest_connect(&link, self->path, NULL, SECOND, &error));
	EXPECT_NE(NULL, strstr(error.text, self->path))
		TH_LOG("'%s'", error.text);
	EXPECT_EQ(-ECONNREFUSED, voxshm_guest_connect(&link, abstract_address(address), NULL,
						      SECOND, &error));
	EXPECT_STRNE("", error.text);
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[255] = '\0';
	EXPECT_EQ(-ENAMETOOLONG, voxshm_guest_connect(&link, path, NULL, SECOND, &error));
	EXPECT_EQ(-ENAMETOOLONG, voxshm_host_listen(self->host, path, 0, NULL, NULL, &error));
	path[0] = '@';
	EXPECT_EQ(-ENAMETOOLONG, voxshm_guest_connect(&link, path, NULL, SECOND, &error));
	EXPECT_EQ(-ENAMETOOLONG, voxshm_host_listen(self->host, path, 0, NULL, NULL, &error));
	EXPECT_STRNE("", error.text);
}

TEST_F(walkin, host_that_does_not_answer_is_etimedout)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	int64_t start;

	listen_at(_metadata, self->host, self->path);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_guest_connect(&link, self->path, NULL, 50 * MS, &error));
	EXPECT_LE(50 * MS, now_ns() - start);
	EXPECT_GT(5 * SECOND * slowness(), now_ns() - start);
	EXPECT_STRNE("", error.text);
	/* Whom the host now finds has gone: no guest, and no harm. */
	for (int i = 0; i < 10; i++)
		inbox_next(&self->inbox, MS);
	EXPECT_EQ(self->inbox.seen[VOXSHM_EVENT_ATTACHED],
		  self->inbox.seen[VOXSHM_EVENT_LEFT] + self->inbox.seen[VOXSHM_EVENT_DIED]);
}

TEST_F(walkin, address_in_use_is_refused)
{
	struct voxshm_error error = { "" };
	struct voxshm_host *second;
	struct walker walker;
	char address[64];

	host_open(_metadata, &second, &CONFIG(variant));
	listen_at(_metadata, self->host, self->path);
	EXPECT_EQ(-EADDRINUSE, voxshm_host_listen(second, self->path, 0, NULL, NULL, &error));
	EXPECT_STRNE("", error.text);
	listen_at(_metadata, second, abstract_address(address));
	EXPECT_EQ(-EBUSY, voxshm_host_listen(second, self->path, 0, NULL, NULL, &error));
	EXPECT_STRNE("", error.text);
	voxshm_host_free(second);
	/* The first still has its path. */
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	expect_link(_metadata, &walker);
	/* And an abstract address is as good. */
	host_open(_metadata, &second, &CONFIG(variant));
	voxshm_host_free(self->host);
	host_open(_metadata, &self->host, &CONFIG(variant));
	listen_at(_metadata, self->host, abstract_address(address));
	EXPECT_EQ(-EADDRINUSE, voxshm_host_listen(second, address, 0, NULL, NULL, &error));
	voxshm_host_free(second);
}

TEST_F(walkin, address_of_a_freed_host_is_free)
{
	for (int i = 0; i < 3; i++) {
		struct walker walker;

		listen_at(_metadata, self->host, self->path);
		ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
		expect_link(_metadata, &walker);
		voxshm_host_free(self->host);
		EXPECT_EQ(-1, access(self->path, F_OK));
		host_open(_metadata, &self->host, &CONFIG(variant));
		self->inbox = (struct inbox){ .host = self->host };
	}
}

TEST_F(walkin, address_left_by_a_killed_host_is_taken_over)
{
	struct signal_pipe ready = signal_pipe_new();
	struct voxshm_link *link;
	struct walker walker;
	pid_t pid = child_fork();

	if (pid == 0) {
		struct voxshm_host *host;

		REQUIRE_EQ(0, voxshm_host_new(&host, &CONFIG(variant), NULL));
		REQUIRE_EQ(0, voxshm_host_listen(host, self->path, 0, NULL, NULL, NULL));
		signal_send(&ready);
		pause();
	}
	signal_await(&ready);
	child_kill(pid);
	EXPECT_EQ(0, access(self->path, F_OK));
	EXPECT_EQ(-ECONNREFUSED, voxshm_guest_connect(&link, self->path, NULL, SECOND, NULL));
	listen_at(_metadata, self->host, self->path);
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	expect_link(_metadata, &walker);
	signal_pipe_free(&ready);
}

TEST_F(walkin, what_is_not_a_socket_is_left_alone)
{
	struct voxshm_error error = { "" };
	char file[192], link[192], bytes[16] = "";
	int fd;

	snprintf(file, sizeof(file), "%s/file", self->directory);
	snprintf(link, sizeof(link), "%s/link", self->directory);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(5, write(fd, "mine\n", 5));
	EXPECT_EQ(-EEXIST, voxshm_host_listen(self->host, file, 0, NULL, NULL, &error));
	EXPECT_NE(NULL, strstr(error.text, file))
		TH_LOG("'%s'", error.text);
	EXPECT_EQ(0, access(file, F_OK));
	EXPECT_EQ(5, pread(fd, bytes, sizeof(bytes), 0));
	EXPECT_STREQ("mine\n", bytes);
	close(fd);
	/* Nor is a directory, or what a link points to. */
	EXPECT_EQ(-EEXIST, voxshm_host_listen(self->host, self->directory, 0, NULL, NULL, NULL));
	ASSERT_EQ(0, symlink("file", link));
	EXPECT_GT(0, voxshm_host_listen(self->host, link, 0, NULL, NULL, NULL));
	EXPECT_EQ(0, access(link, F_OK));
	listen_at(_metadata, self->host, self->path);
}

TEST_F(walkin, host_free_leaves_a_path_that_is_no_longer_its_own)
{
	struct voxshm_host *second;
	struct walker walker;

	listen_at(_metadata, self->host, self->path);
	ASSERT_EQ(0, unlink(self->path));
	host_open(_metadata, &second, &CONFIG(variant));
	listen_at(_metadata, second, self->path);
	voxshm_host_free(self->host);
	EXPECT_EQ(0, access(self->path, F_OK));
	self->host = second;
	self->inbox = (struct inbox){ .host = second };
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->path, NULL));
	expect_link(_metadata, &walker);
}

LINK_TEST_MAIN(NULL)
