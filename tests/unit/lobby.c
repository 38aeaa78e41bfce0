// SPDX-License-Identifier: MIT
/* The lobby: callers that dawdle or hang up, who is let in, and the path it listens at. */
#include <grp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "address.h"
#include "bootstrap.h"
#include "host.h"
#include "unit_test.h"

FIXTURE(lobby) {
	struct voxshm_host *host;
	char directory[32], path[64];
	struct voxshm_error error;
	int fds_before;
	mode_t old_umask;
};

FIXTURE_SETUP(lobby)
{
	self->fds_before = count_fds();
	self->old_umask = umask(022);
	strcpy(self->directory, "/tmp/voxshm-test-XXXXXX");
	ASSERT_NE(mkdtemp(self->directory), NULL);
	snprintf(self->path, sizeof(self->path), "%s/socket", self->directory);
	ASSERT_EQ(voxshm_host_new(&self->host, NATIVE_CONFIG(.max_guests = 4,
							     .ring_capacity = 4096), NULL), 0);
}

FIXTURE_TEARDOWN(lobby)
{
	voxshm_host_free(self->host);
	unlink(self->path);
	EXPECT_EQ(rmdir(self->directory), 0);
	umask(self->old_umask);
	EXPECT_EQ(count_fds(), self->fds_before);
	EXPECT_FALSE(memory_leaks());
}

#define LISTEN() voxshm_host_listen(self->host, self->path, 0, NULL, NULL, &self->error)

/* Lets the host work until it has nothing to do; links that ended are closed. */
static void pump(struct voxshm_host *host)
{
	struct pollfd pollfd = { .fd = voxshm_host_fd(host), .events = POLLIN };
	struct voxshm_event event;
	int rounds;

	for (rounds = 0; rounds < 10000; rounds++) {
		if (voxshm_host_wait(host, &event, 1, 0) != 1) {
			if (poll(&pollfd, 1, 0) == 0)
				return;
		} else if (event.type == VOXSHM_EVENT_LEFT || event.type == VOXSHM_EVENT_DIED ||
			   event.type == VOXSHM_EVENT_FAILED) {
			voxshm_link_close(event.link);
		}
	}
}

/* A connection to the path, or -errno. */
static int call(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;
	struct address address;

	if (fd < 0 || address_parse(&address, path, NULL))
		return -EINVAL;
	if (connect(fd, &address.any, address.size) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* A whole guest, in this thread: asks, lets the host work, reads the answer. */
static int try_guest(struct voxshm_host *host, const char *path, const char *session,
		     struct voxshm_error *error)
{
	struct invitation invitation;
	int fd = call(path), ret;

	if (fd < 0)
		return fd;
	ret = bootstrap_request(fd, session, error);
	pump(host);
	if (ret == 0)
		ret = bootstrap_receive(fd, &invitation, clock_now(), error);
	close(fd);
	invitation_deinit(&invitation);
	pump(host);
	return ret;
}

#define TRY_GUEST() try_guest(self->host, self->path, "x", &self->error)

/* Callers --------------------------------------------------------------------------- */

static void *run_host(void *argument)
{
	struct voxshm_host *host = argument;
	struct voxshm_event event;
	bool left = false;

	while (!left) {
		REQUIRE(voxshm_host_wait(host, &event, 1, PATIENCE) == 1);
		left = event.type == VOXSHM_EVENT_LEFT;
		if (left)
			voxshm_link_close(event.link);
	}
	return NULL;
}

TEST_F(lobby, guest_is_let_in)
{
	struct voxshm_link *link;
	pthread_t thread;

	ASSERT_EQ(LISTEN(), 0);
	thread = thread_start(run_host, self->host);
	ASSERT_EQ(voxshm_guest_connect(&link, self->path, "hello", PATIENCE, &self->error), 0);
	voxshm_link_close(link);
	pthread_join(thread, NULL);
	EXPECT_EQ(self->host->links, NULL);
}

TEST_F(lobby, callers_that_say_nothing_keep_no_guest_out)
{
	int silent[200], fds, i;

	ASSERT_EQ(LISTEN(), 0);
	fds = count_fds();
	for (i = 0; i < 200; i++) {
		silent[i] = call(self->path);
		if (silent[i] == -EAGAIN) {
			pump(self->host);
			silent[i] = call(self->path);
		}
		ASSERT_GE(silent[i], 0);
	}
	EXPECT_EQ(TRY_GUEST(), 0);
	/* Nor do they cost more than so many descriptors. */
	EXPECT_LE(count_fds(), fds + 200 + 64);
	for (i = 0; i < 200; i++)
		close(silent[i]);
	pump(self->host);
	EXPECT_EQ(TRY_GUEST(), 0);
	EXPECT_EQ(count_fds(), fds);
}

/* Callers of a busy host ---------------------------------------------------------------- */

#define CALLERS 60

/* A host with a guest in this process, and callers that have said what they want. */
struct busy {
	struct voxshm_host *host;
	struct voxshm_link *near, *far;
	int callers[CALLERS];
	int rest_ms;			/* how long the application thinks about a caller */
	unsigned int asked;		/* so many times */
	int64_t thought, longest;	/* ns in all, and of one */
};

static int think_and_refuse(void *data, const struct voxshm_caller *caller,
			    struct voxshm_error *reason)
{
	struct busy *busy = data;
	int64_t begin = now_ns(), used;

	sleep_ms(busy->rest_ms);
	used = now_ns() - begin;
	busy->asked++;
	busy->thought += used;
	if (used > busy->longest)
		busy->longest = used;
	return -EACCES;
}

static void busy_open(struct __test_metadata *_metadata, FIXTURE_DATA(lobby) *self,
		      struct busy *busy, unsigned int callers, int rest_ms)
{
	struct voxshm_event event;
	unsigned int i;
	int ticket;

	*busy = (struct busy){ .host = self->host, .rest_ms = rest_ms };
	for (i = 0; i < CALLERS; i++)
		busy->callers[i] = -1;
	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0, think_and_refuse, busy, NULL), 0);
	ASSERT_EQ(voxshm_host_ticket(self->host, &ticket, &busy->near, NULL), 0);
	ASSERT_EQ(voxshm_guest_claim(&busy->far, ticket, NULL), 0);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, PATIENCE), 1);
	for (i = 0; i < callers; i++) {
		busy->callers[i] = call(self->path);
		ASSERT_GE(busy->callers[i], 0);
		ASSERT_EQ(bootstrap_request(busy->callers[i], "", NULL), 0);
	}
}

static void busy_close(const struct busy *busy)
{
	unsigned int i;

	voxshm_link_close(busy->far);
	for (i = 0; i < CALLERS; i++)
		if (busy->callers[i] >= 0)
			close(busy->callers[i]);
}

/* One wait that finds a message at once. */
static void busy_turn(const struct busy *busy)
{
	struct voxshm_event event;
	struct voxshm_view view;

	REQUIRE(voxshm_send(busy->far, "x", 1, 0) == 0);
	REQUIRE(voxshm_host_wait(busy->host, &event, 1, PATIENCE) == 1);
	REQUIRE(event.link == busy->near && event.type == VOXSHM_EVENT_READABLE);
	REQUIRE(voxshm_try_recv(busy->near, &view) == 0);
	REQUIRE(voxshm_release(busy->near, &view) == 0);
}

/* Reckoned by the same clock as the lobby reckons, so that a slow machine is no matter. */
TEST_F(lobby, callers_have_a_sixteenth_of_a_busy_hosts_time)
{
	struct busy busy;
	int64_t begin;

	busy_open(_metadata, self, &busy, CALLERS, 2);
	begin = now_ns();
	while (now_ns() - begin < 500 * MS)
		busy_turn(&busy);
	EXPECT_GT(busy.asked, 0);
	EXPECT_LE(busy.thought, (now_ns() - begin) / 16 + 5 * MS + 4 * busy.longest)
		TH_LOG("%u callers, %lld us", busy.asked, (long long)(busy.thought / 1000));
	busy_close(&busy);
}

/* However long the application takes with each message. */
TEST_F(lobby, slow_busy_host_hears_its_callers_soon)
{
	struct busy busy;
	unsigned int waits;

	busy_open(_metadata, self, &busy, 12, 0);
	for (waits = 0; busy.asked < 12 && waits < 200; waits++) {
		busy_turn(&busy);
		sleep_ms(1);
	}
	EXPECT_EQ(busy.asked, 12);
	busy_close(&busy);
}

/* Answers, never so quickly that the host's next look finds the answer. */
static void *answer_later(void *argument)
{
	struct voxshm_link *link = argument;
	struct voxshm_view view;
	int64_t until;

	while (voxshm_recv(link, &view, VOXSHM_FOREVER) == 0) {
		REQUIRE(voxshm_release(link, &view) == 0);
		for (until = now_ns() + 20000; now_ns() < until;)
			;
		voxshm_send(link, "y", 1, PATIENCE);
	}
	return NULL;
}

TEST_F(lobby, host_that_finds_all_its_news_spinning_hears_its_callers)
{
	struct voxshm_event event;
	struct voxshm_view view;
	struct busy busy;
	pthread_t thread;
	int waits;

	busy_open(_metadata, self, &busy, 1, 0);
	voxshm_link_set_spin(busy.near, 1000000000);
	thread = thread_start(answer_later, busy.far);
	for (waits = 0; waits < 5000 && !busy.asked; waits++) {
		ASSERT_EQ(voxshm_send(busy.near, "x", 1, PATIENCE), 0);
		ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, PATIENCE), 1);
		ASSERT_EQ(voxshm_try_recv(busy.near, &view), 0);
		ASSERT_EQ(voxshm_release(busy.near, &view), 0);
	}
	EXPECT_EQ(busy.asked, 1);
	voxshm_link_close(busy.near);
	pthread_join(thread, NULL);
	busy_close(&busy);
}

/* Requests ------------------------------------------------------------------------------ */

TEST_F(lobby, half_request_waits_for_its_other_half)
{
	static const char request[] = "RSH0\005\0hello";
	struct invitation invitation;
	size_t cut;
	int fd;

	ASSERT_EQ(LISTEN(), 0);
	for (cut = 1; cut < 11; cut++) {
		fd = call(self->path);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(send(fd, request, cut, 0), (ssize_t)cut);
		pump(self->host);
		/* Others are let in meanwhile. */
		EXPECT_EQ(TRY_GUEST(), 0);
		EXPECT_EQ(bootstrap_receive(fd, &invitation, clock_now(), NULL), -ETIMEDOUT);
		ASSERT_EQ(send(fd, request + cut, 11 - cut, 0), (ssize_t)(11 - cut));
		pump(self->host);
		EXPECT_EQ(bootstrap_receive(fd, &invitation, clock_now(), NULL), 0);
		invitation_deinit(&invitation);
		close(fd);
		pump(self->host);
	}
}

TEST_F(lobby, caller_may_hang_up_at_every_byte)
{
	static const char request[] = "RSH0\005\0hello";
	size_t cut;
	int fds, fd;

	ASSERT_EQ(LISTEN(), 0);
	fds = count_fds();
	for (cut = 0; cut <= 11; cut++) {
		fd = call(self->path);
		ASSERT_GE(fd, 0);
		if (cut % 2)
			pump(self->host);
		ASSERT_EQ(send(fd, request, cut, 0), (ssize_t)cut);
		if (cut % 3)
			pump(self->host);
		close(fd);
		pump(self->host);
		EXPECT_EQ(count_fds(), fds)
			TH_LOG("after %zu bytes", cut);
		EXPECT_EQ(self->host->links, NULL);
	}
	EXPECT_EQ(TRY_GUEST(), 0);
}

/* "their link is first seen in VOXSHM_EVENT_ATTACHED": voxshm.h */
TEST_F(lobby, caller_that_never_claims_is_no_event)
{
	struct voxshm_event event;
	int fd, i;

	ASSERT_EQ(LISTEN(), 0);
	fd = call(self->path);
	ASSERT_EQ(bootstrap_request(fd, "x", &self->error), 0);
	EXPECT_EQ(voxshm_host_wait(self->host, &event, 1, 0), 0);
	close(fd);
	for (i = 0; i < 10; i++)
		EXPECT_EQ(voxshm_host_wait(self->host, &event, 1, 0), 0)
			TH_LOG("event %d of a link that nobody was told of", (int)event.type);
	EXPECT_EQ(self->host->links, NULL);
}

TEST_F(lobby, malformed_request_is_refused_and_dropped)
{
	static const struct { const char *bytes; size_t size; } bad[] = {
		{ "GET / HTTP/1.1\r\n", 16 }, { "RSH1\0\0", 6 }, { "RSH0\1\0hello", 11 }, { "x", 1 },
	};
	struct invitation invitation;
	size_t i;
	int fd;

	ASSERT_EQ(LISTEN(), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = call(self->path);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(send(fd, bad[i].bytes, bad[i].size, 0), (ssize_t)bad[i].size);
		pump(self->host);
		EXPECT_EQ(bootstrap_receive(fd, &invitation, clock_now(), &self->error), -EACCES);
		EXPECT_EQ(bootstrap_receive(fd, &invitation, clock_now(), &self->error), -EPIPE);
		close(fd);
	}
	EXPECT_EQ(self->host->links, NULL);
}

TEST_F(lobby, full_host_refuses_and_lets_in_again)
{
	struct invitation invitations[4];
	int fds[4], i;

	ASSERT_EQ(LISTEN(), 0);
	for (i = 0; i < 4; i++) {
		fds[i] = call(self->path);
		ASSERT_EQ(bootstrap_request(fds[i], "x", &self->error), 0);
		pump(self->host);
		ASSERT_EQ(bootstrap_receive(fds[i], &invitations[i], clock_now(), NULL), 0);
		EXPECT_EQ(invitations[i].peer_id, (uint32_t)i + 1);
	}
	EXPECT_EQ(TRY_GUEST(), -EUSERS);
	invitation_deinit(&invitations[2]);
	pump(self->host);
	EXPECT_EQ(TRY_GUEST(), 0);
	for (i = 0; i < 4; i++) {
		invitation_deinit(&invitations[i]);
		close(fds[i]);
	}
	pump(self->host);
}

/* No descriptor is left for a caller: it waits, and so does the host. */
TEST_F(lobby, lack_of_descriptors_costs_no_processor_time)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd pollfd = { .events = POLLIN };
	struct timespec before, after;
	struct voxshm_event event;
	struct address address;
	struct rlimit old, few;

	ASSERT_EQ(LISTEN(), 0);
	ASSERT_EQ(address_parse(&address, self->path, NULL), 0);
	ASSERT_EQ(connect(fd, &address.any, address.size), 0);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)fd;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	EXPECT_EQ(voxshm_host_wait(self->host, &event, 1, 500 * MS), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	EXPECT_LT((after.tv_sec - before.tv_sec) * SECOND + after.tv_nsec - before.tv_nsec,
		  150 * MS);
	close(fd);
	/* A guest that comes when there are some again is let in, before long. */
	voxshm_host_arm(self->host);
	pollfd.fd = voxshm_host_fd(self->host);
	/* Under valgrind there was no lack of them, and nothing need be left to tell. */
	EXPECT_GE(poll(&pollfd, 1, 1000), under_valgrind() ? 0 : 1);
	pump(self->host);
	EXPECT_EQ(TRY_GUEST(), 0);
}

/* Who is let in ------------------------------------------------------------------------ */

struct judge {
	struct voxshm_caller seen;
	char session[64];
	int verdict;
	const char *reason;
};

static int judge_caller(void *data, const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	struct judge *judge = data;

	judge->seen = *caller;
	memcpy(judge->session, caller->session, caller->session_size);
	if (judge->reason)
		snprintf(reason->text, sizeof(reason->text), "%s", judge->reason);
	return judge->verdict;
}

TEST_F(lobby, application_sees_who_asks_and_decides)
{
	struct judge judge = { .verdict = 0 };

	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0, judge_caller, &judge, NULL), 0);
	EXPECT_EQ(try_guest(self->host, self->path, "open sesame", &self->error), 0);
	EXPECT_EQ(judge.seen.pid, getpid());
	EXPECT_EQ(judge.seen.uid, geteuid());
	EXPECT_EQ(judge.seen.gid, getegid());
	EXPECT_EQ(judge.seen.session_size, 11);
	EXPECT_EQ(memcmp(judge.session, "open sesame", 11), 0);
	judge.verdict = 1;
	EXPECT_EQ(TRY_GUEST(), -EACCES);
	judge.reason = "not on a monday";
	EXPECT_EQ(TRY_GUEST(), -EACCES);
	EXPECT_NE(strstr(self->error.text, "not on a monday"), NULL);
	EXPECT_EQ(self->host->links, NULL);
}

TEST_F(lobby, who_is_listed_is_let_in_and_nobody_else)
{
	gid_t groups[] = { 12, getegid() };
	uid_t other = 4712, users[] = { 12, geteuid() };
	struct voxshm_allowed allowed = { .users = &other, .num_users = 1 };

	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0, voxshm_accept_listed, &allowed,
				     NULL), 0);
	EXPECT_EQ(TRY_GUEST(), -EACCES);
	EXPECT_NE(strstr(self->error.text, "is not on the host's list"), NULL);
	allowed = (struct voxshm_allowed){ .users = users, .num_users = 2 };
	EXPECT_EQ(TRY_GUEST(), 0);
	allowed = (struct voxshm_allowed){ .groups = groups, .num_groups = 2 };
	EXPECT_EQ(TRY_GUEST(), 0);
	groups[1] = 4711;
	EXPECT_EQ(TRY_GUEST(), -EACCES);
}

TEST_F(lobby, supplementary_groups_count)
{
	gid_t mine[] = { 4000, 4711 }, groups[] = { 12, 4711 };
	struct voxshm_allowed allowed = { .groups = groups, .num_groups = 2 };

	if (geteuid() != 0)
		SKIP(return, "needs root, to be in other groups");
	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0, voxshm_accept_listed, &allowed,
				     NULL), 0);
	EXPECT_EQ(TRY_GUEST(), -EACCES);
	ASSERT_EQ(setgroups(2, mine), 0);
	EXPECT_EQ(TRY_GUEST(), 0);
}

enum { LET_IN = 0, REFUSED = 1, NOT_CONNECTED = 2 };

/* What another user's process comes to, while the host works. */
static int other_user_tries(struct voxshm_host *host, const char *path)
{
	int status;
	pid_t child = fork_child();

	if (child == 0) {
		struct invitation invitation;
		int fd;

		REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
		fd = call(path);
		if (fd == -EACCES)
			_exit(NOT_CONNECTED);
		REQUIRE(bootstrap_request(fd, "x", NULL) == 0);
		if (bootstrap_receive(fd, &invitation, now_ns() + PATIENCE, NULL) == -EACCES)
			_exit(REFUSED);
		REQUIRE(invitation.peer_id);
		_exit(LET_IN);
	}
	while (waitpid(child, &status, WNOHANG) == 0) {
		pump(host);
		sleep_ms(1);
	}
	pump(host);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(lobby, other_users_are_not_let_in_unless_the_application_says_so)
{
	struct judge judge = { .verdict = 0 };

	if (geteuid() != 0)
		SKIP(return, "needs root, to become another user");
	ASSERT_EQ(chmod(self->directory, 0755), 0);
	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0666, NULL, NULL, NULL), 0);
	EXPECT_EQ(other_user_tries(self->host, self->path), REFUSED);
	lobby_free(self->host->lobby);
	self->host->lobby = NULL;
	ASSERT_EQ(voxshm_host_listen(self->host, self->path, 0666, judge_caller, &judge, NULL), 0);
	EXPECT_EQ(other_user_tries(self->host, self->path), LET_IN);
	EXPECT_EQ(judge.seen.uid, 65534);
	EXPECT_EQ(judge.seen.gid, 65534);
}

TEST_F(lobby, mode_of_the_path_keeps_other_users_out)
{
	if (geteuid() != 0)
		SKIP(return, "needs root, to become another user");
	ASSERT_EQ(chmod(self->directory, 0755), 0);
	ASSERT_EQ(LISTEN(), 0);
	EXPECT_EQ(other_user_tries(self->host, self->path), NOT_CONNECTED);
}

/* The path -------------------------------------------------------------------------------- */

TEST_F(lobby, path_has_the_mode_that_was_asked_for)
{
	static const mode_t modes[] = { 0, 0600, 0660, 0666, 0640 };
	struct stat stat;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		ASSERT_EQ(voxshm_host_listen(self->host, self->path, modes[i], NULL, NULL, NULL), 0);
		ASSERT_EQ(lstat(self->path, &stat), 0);
		EXPECT_TRUE(S_ISSOCK(stat.st_mode));
		EXPECT_EQ(stat.st_mode & 07777, modes[i] ?: 0600);
		lobby_free(self->host->lobby);
		self->host->lobby = NULL;
		EXPECT_EQ(lstat(self->path, &stat), -1);
	}
}

/* A socket of a process that is gone. */
static int leave_stale_socket(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), ret;
	struct address address;

	address_parse(&address, path, NULL);
	ret = bind(fd, &address.any, address.size);
	if (ret == 0)
		ret = listen(fd, 1);
	close(fd);
	return ret;
}

TEST_F(lobby, path_of_a_dead_host_is_taken_over)
{
	ASSERT_EQ(leave_stale_socket(self->path), 0);
	ASSERT_EQ(LISTEN(), 0);
	EXPECT_EQ(TRY_GUEST(), 0);
}

struct racer {
	pthread_barrier_t *barrier;
	const char *path;
	struct voxshm_host *host;
	int ret;
};

static void *race(void *argument)
{
	struct racer *racer = argument;

	racer->ret = voxshm_host_new(&racer->host, NATIVE_CONFIG(.max_guests = 1), NULL);
	pthread_barrier_wait(racer->barrier);
	if (racer->ret == 0)
		racer->ret = voxshm_host_listen(racer->host, racer->path, 0, NULL, NULL, NULL);
	return NULL;
}

TEST_F(lobby, of_two_hosts_that_begin_at_once_one_gets_the_path)
{
	pthread_barrier_t barrier;
	pthread_t thread;
	int64_t until = clock_now() + 3000000000;
	int round, fd;

	ASSERT_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	/* About one round in a thousand shows a host that does not wait for its turn. */
	for (round = 0; round < 5000 && clock_now() < until; round++) {
		struct racer racers[2] = { { &barrier, self->path, NULL, 0 },
					   { &barrier, self->path, NULL, 0 } };

		ASSERT_EQ(leave_stale_socket(self->path), 0);
		ASSERT_EQ(pthread_create(&thread, NULL, race, &racers[0]), 0);
		race(&racers[1]);
		pthread_join(thread, NULL);
		EXPECT_EQ(racers[0].ret + racers[1].ret, -EADDRINUSE) TH_LOG("round %d", round);
		fd = call(self->path);
		EXPECT_GE(fd, 0);
		close(fd);
		voxshm_host_free(racers[0].host);
		voxshm_host_free(racers[1].host);
		ASSERT_EQ(access(self->path, F_OK), -1);
	}
	pthread_barrier_destroy(&barrier);
}

TEST_F(lobby, path_of_a_living_host_is_not_taken_over)
{
	struct voxshm_host *second;

	ASSERT_EQ(LISTEN(), 0);
	ASSERT_EQ(voxshm_host_new(&second, NATIVE_CONFIG(.max_guests = 1), NULL), 0);
	EXPECT_EQ(voxshm_host_listen(second, self->path, 0, NULL, NULL, &self->error), -EADDRINUSE);
	EXPECT_NE(strstr(self->error.text, self->path), NULL);
	voxshm_host_free(second);
	EXPECT_EQ(access(self->path, F_OK), 0);
	pump(self->host);
	EXPECT_EQ(TRY_GUEST(), 0);
}

/* Also one whose queue of callers is full. */
TEST_F(lobby, path_of_a_busy_host_is_not_taken_over)
{
	int callers[200], count = 0;
	struct voxshm_host *second;

	ASSERT_EQ(LISTEN(), 0);
	while (count < 200 && (callers[count] = call(self->path)) >= 0)
		count++;
	ASSERT_LT(count, 200);
	ASSERT_EQ(voxshm_host_new(&second, NATIVE_CONFIG(.max_guests = 1), NULL), 0);
	EXPECT_EQ(voxshm_host_listen(second, self->path, 0, NULL, NULL, &self->error), -EADDRINUSE);
	voxshm_host_free(second);
	while (count)
		close(callers[--count]);
	pump(self->host);
	EXPECT_EQ(TRY_GUEST(), 0);
}

TEST_F(lobby, what_is_no_socket_is_left_alone)
{
	char target[64];
	struct stat stat;
	int fd;

	fd = open(self->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	ASSERT_EQ(write(fd, "precious", 8), 8);
	close(fd);
	EXPECT_EQ(LISTEN(), -EEXIST);
	EXPECT_NE(strstr(self->error.text, self->path), NULL);
	ASSERT_EQ(lstat(self->path, &stat), 0);
	EXPECT_EQ(stat.st_size, 8);
	EXPECT_EQ(stat.st_mode & 07777, 0644);
	unlink(self->path);

	/* Nor what a link points to, be it a dead socket. */
	snprintf(target, sizeof(target), "%s/target", self->directory);
	ASSERT_EQ(leave_stale_socket(target), 0);
	ASSERT_EQ(symlink(target, self->path), 0);
	EXPECT_EQ(LISTEN(), -EEXIST);
	EXPECT_EQ(lstat(target, &stat), 0);
	EXPECT_EQ(lstat(self->path, &stat), 0);
	unlink(target);
}

TEST_F(lobby, only_its_own_path_is_removed)
{
	struct stat stat;
	int fd;

	ASSERT_EQ(LISTEN(), 0);
	ASSERT_EQ(unlink(self->path), 0);
	fd = open(self->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	ASSERT_GE(fd, 0);
	close(fd);
	lobby_free(self->host->lobby);
	self->host->lobby = NULL;
	EXPECT_EQ(lstat(self->path, &stat), 0);
	unlink(self->path);
	/* And none at all when it is gone. */
	ASSERT_EQ(LISTEN(), 0);
	ASSERT_EQ(unlink(self->path), 0);
}

TEST_F(lobby, path_is_removed_with_the_host)
{
	ASSERT_EQ(LISTEN(), 0);
	EXPECT_EQ(access(self->path, F_OK), 0);
	voxshm_host_free(self->host);
	self->host = NULL;
	EXPECT_EQ(access(self->path, F_OK), -1);
}

TEST_F(lobby, address_that_cannot_be_used_is_refused_and_another_may_be_tried)
{
	char too_long[200];
	int fds = count_fds();

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	EXPECT_EQ(voxshm_host_listen(self->host, "", 0, NULL, NULL, NULL), -EINVAL);
	EXPECT_EQ(voxshm_host_listen(self->host, too_long, 0, NULL, NULL, NULL), -ENAMETOOLONG);
	EXPECT_EQ(voxshm_host_listen(self->host, "/nowhere/at/all", 0, NULL, NULL, NULL), -ENOENT);
	EXPECT_EQ(count_fds(), fds);
	ASSERT_EQ(LISTEN(), 0);
	EXPECT_EQ(LISTEN(), -EBUSY);
	EXPECT_EQ(TRY_GUEST(), 0);
}

TEST_F(lobby, abstract_name_is_taken_once_and_leaves_nothing)
{
	struct voxshm_host *second;
	char name[64];

	snprintf(name, sizeof(name), "@voxshm-test-%d", (int)getpid());
	ASSERT_EQ(voxshm_host_listen(self->host, name, 0, NULL, NULL, NULL), 0);
	EXPECT_EQ(try_guest(self->host, name, "x", &self->error), 0);
	ASSERT_EQ(voxshm_host_new(&second, NATIVE_CONFIG(.max_guests = 1), NULL), 0);
	EXPECT_EQ(voxshm_host_listen(second, name, 0, NULL, NULL, NULL), -EADDRINUSE);
	lobby_free(self->host->lobby);
	self->host->lobby = NULL;
	EXPECT_EQ(voxshm_host_listen(second, name, 0, NULL, NULL, NULL), 0);
	voxshm_host_free(second);
}

TEST_HARNESS_MAIN
