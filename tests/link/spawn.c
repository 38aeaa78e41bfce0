// SPDX-License-Identifier: MIT
/* spawn.c - guests that the host starts or invites: spawned, and with a ticket. */
#include "processes.h"

FIXTURE(spawn)
{
	struct inbox inbox;
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(spawn)

FIXTURE_SETUP(spawn)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 2));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(spawn)
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

/* Sends each message back until the host leaves. */
static void echo(struct voxshm_link *link, void *argument)
{
	struct voxshm_view view;
	int ret;

	while ((ret = voxshm_recv(link, &view, PATIENCE)) == 0) {
		REQUIRE_EQ(0, voxshm_send(link, view.data, view.size, PATIENCE));
		REQUIRE_EQ(0, voxshm_release(link, &view));
	}
	REQUIRE_EQ(-EPIPE, ret);
	voxshm_link_close(link);
}

static int program_echo(int argc, char **argv)
{
	echo(guest_inherit(), NULL);
	return 0;
}

static void expect_echo(struct __test_metadata *_metadata, struct voxshm_link *link)
{
	for (uint64_t i = 0; i < 50; i++) {
		size_t size = mixed_size(i);

		ASSERT_EQ(0, send_pattern(link, size, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(link, size, i, PATIENCE));
	}
}

TEST_F(spawn, spawned_guest_echoes)
{
	struct voxshm_link *link = guest_spawn(_metadata, self->host, "echo", NULL);

	expect_echo(_metadata, link);
	EXPECT_EQ(VOXSHM_LINK_ATTACHED, status_of(link).state);
	EXPECT_LT(0, status_of(link).pid);
	EXPECT_NE(getpid(), status_of(link).pid);
	EXPECT_EQ(geteuid(), status_of(link).uid);
	voxshm_link_close(link);
}

TEST_F(spawn, link_can_be_written_to_before_the_guest_is_there)
{
	struct voxshm_link *link = guest_spawn(_metadata, self->host, "echo", NULL);

	for (uint64_t i = 0; i < 20; i++) {
		ASSERT_EQ(0, send_pattern(link, i * 100, i, 0));
	}
	for (uint64_t i = 0; i < 20; i++) {
		ASSERT_EQ(0, recv_pattern(link, i * 100, i, PATIENCE));
	}
}

/* Tells what a spawned process finds. */
struct findings {
	int ticket_in_environment, second_inherit, blocked_signals, ignored_signals, fds;
	pid_t parent;
	char argument[32];
};

static int program_report(int argc, char **argv)
{
	struct findings findings = { .parent = getppid() };
	struct voxshm_link *link, *again;
	struct sigaction action;
	sigset_t mask;

	findings.fds = count_fds();
	link = guest_inherit();
	findings.ticket_in_environment = getenv("VOXSHM_TICKET") != NULL;
	findings.second_inherit = voxshm_guest_inherit(&again, NULL);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int signal = 1; signal < 32; signal++) {
		findings.blocked_signals += sigismember(&mask, signal);
		sigaction(signal, NULL, &action);
		findings.ignored_signals += action.sa_handler == SIG_IGN;
	}
	snprintf(findings.argument, sizeof(findings.argument), "%s", argv[1]);
	REQUIRE_EQ(0, voxshm_send(link, &findings, sizeof(findings), PATIENCE));
	voxshm_link_close(link);
	return 0;
}

TEST_F(spawn, guest_starts_with_its_arguments_and_default_signals)
{
	struct findings findings;
	struct voxshm_link *link;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	link = guest_spawn(_metadata, self->host, "report", "a word");
	ASSERT_EQ(sizeof(findings), voxshm_recv_copy(link, &findings, sizeof(findings), PATIENCE));
	EXPECT_STREQ("a word", findings.argument);
	EXPECT_EQ(getpid(), findings.parent);
	EXPECT_EQ(0, findings.blocked_signals);
	EXPECT_EQ(0, findings.ignored_signals);
	EXPECT_EQ(0, findings.ticket_in_environment);
	EXPECT_EQ(-ENOENT, findings.second_inherit);
}

TEST_F(spawn, guest_inherits_the_ticket_and_nothing_of_the_host)
{
	struct voxshm_link *first = guest_spawn(_metadata, self->host, "echo", NULL), *second;
	struct findings findings;
	int own = 0;

	/* What is not the library's: descriptors of ours without close-on-exec. */
	for (int fd = 0; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		own += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	expect_echo(_metadata, first);
	second = guest_spawn(_metadata, self->host, "report", "");
	ASSERT_EQ(sizeof(findings), voxshm_recv_copy(second, &findings, sizeof(findings), PATIENCE));
	EXPECT_EQ(own + 1, findings.fds);
}

TEST_F(spawn, program_is_searched_in_path)
{
	char *argv[] = { "true", NULL };
	struct voxshm_link *link;

	ASSERT_EQ(0, voxshm_host_spawn(self->host, "true", argv, &link, NULL));
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, link));
}

TEST_F(spawn, program_that_is_not_there_is_enoent)
{
	char *argv[] = { "none", NULL };
	struct voxshm_error error = { "" };
	struct voxshm_link *link;

	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-ENOENT, voxshm_host_spawn(self->host, "/nonexistent/program", argv,
						     &link, &error));
		EXPECT_NE(NULL, strstr(error.text, "/nonexistent/program"))
			TH_LOG("'%s'", error.text);
		EXPECT_EQ(-ENOENT, voxshm_host_spawn(self->host, "no-such-program-in-path", argv,
						     &link, NULL));
	}
	EXPECT_EQ(-EACCES, voxshm_host_spawn(self->host, "/etc/passwd", argv, &link, NULL));
	/* Neither a place nor a child is left behind. */
	EXPECT_EQ(-1, waitpid(-1, NULL, WNOHANG));
	EXPECT_EQ(ECHILD, errno);
	expect_echo(_metadata, guest_spawn(_metadata, self->host, "echo", NULL));
	expect_echo(_metadata, guest_spawn(_metadata, self->host, "echo", NULL));
}

TEST_F(spawn, program_that_never_claims_dies_without_having_attached)
{
	char *argv[] = { "sh", "-c", "exit 3", NULL };
	struct voxshm_link *link;

	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, voxshm_host_spawn(self->host, "/bin/sh", argv, &link, NULL));
		ASSERT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, link));
		EXPECT_EQ(VOXSHM_LINK_DIED, status_of(link).state);
		EXPECT_EQ(VOXSHM_EXIT_CODE, status_of(link).exit_kind);
		EXPECT_EQ(3, status_of(link).exit_value);
		voxshm_link_close(link);
	}
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_ATTACHED]);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_READABLE]);
	EXPECT_EQ(4, self->inbox.seen[VOXSHM_EVENT_DIED]);
}

TEST_F(spawn, host_reaps_its_guests)
{
	struct voxshm_link *link = guest_spawn(_metadata, self->host, "echo", NULL);
	pid_t pid = status_of(link).pid;
	char *argv[] = { "sh", "-c", "exit 7", NULL };

	ASSERT_EQ(0, voxshm_host_spawn(self->host, "/bin/sh", argv, &link, NULL));
	pid = status_of(link).pid;
	ASSERT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_DIED, link));
	EXPECT_EQ(-1, waitpid(pid, NULL, WNOHANG));
	EXPECT_EQ(ECHILD, errno);
}

static int program_leave(int argc, char **argv)
{
	voxshm_link_close(guest_inherit());
	pause();
	return 0;
}

/* How it ends is waited for, for a while; who polls for that must not be kept awake. */
TEST_F(spawn, guest_that_left_and_lives_keeps_no_poll_awake)
{
	struct voxshm_link *link = guest_spawn(_metadata, self->host, "leave", NULL);
	struct voxshm_event event = { .type = VOXSHM_EVENT_ATTACHED };
	int64_t until = now_ns() + PATIENCE;
	int turns = 0;

	while (event.type < VOXSHM_EVENT_LEFT && now_ns() < until) {
		if (voxshm_host_wait(self->host, &event, 1, 0) == 1)
			continue;
		turns++;
		if (voxshm_host_arm(self->host) == 0)
			readable(voxshm_host_fd(self->host), PATIENCE / MS);
	}
	EXPECT_EQ(VOXSHM_EVENT_LEFT, event.type);
	EXPECT_GT(1000, turns);
	kill(status_of(link).pid, SIGKILL);
}

TEST_F(spawn, ticket_over_fork)
{
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, echo, NULL, &link);

	expect_echo(_metadata, link);
	voxshm_link_close(link);
	EXPECT_EQ(0, child_wait(pid));
}

static int program_claim(int argc, char **argv)
{
	struct voxshm_link *link;

	REQUIRE_EQ(0, voxshm_guest_claim(&link, atoi(argv[1]), NULL));
	echo(link, NULL);
	return 0;
}

TEST_F(spawn, ticket_over_exec)
{
	struct voxshm_link *link;
	char number[16];
	int ticket;
	pid_t pid;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	EXPECT_NE(0, fcntl(ticket, F_GETFD) & FD_CLOEXEC);
	pid = child_fork();
	if (pid == 0) {
		snprintf(number, sizeof(number), "%d", ticket);
		REQUIRE_EQ(0, fcntl(ticket, F_SETFD, 0));
		execl(program_path(), "test", "--guest", "claim", number, NULL);
		_exit(99);
	}
	close(ticket);
	expect_echo(_metadata, link);
	voxshm_link_close(link);
	EXPECT_EQ(0, child_wait(pid));
}

static void pass_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec byte = { "t", 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	REQUIRE_EQ(1, sendmsg(socket, &message, 0));
}

static int take_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int fd;

	REQUIRE_EQ(1, recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
	REQUIRE(CMSG_FIRSTHDR(&message));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

TEST_F(spawn, ticket_over_a_socket_to_a_process_that_was_there_before)
{
	struct voxshm_link *host_end, *link;
	int sockets[2], ticket;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	pid = child_fork();
	if (pid == 0) {
		close(sockets[0]);
		REQUIRE_EQ(0, voxshm_guest_claim(&link, take_fd(sockets[1]), NULL));
		echo(link, NULL);
		_exit(0);
	}
	close(sockets[1]);
	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &host_end, NULL));
	pass_fd(sockets[0], ticket);
	close(ticket);
	expect_echo(_metadata, host_end);
	ASSERT_EQ(host_end, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, NULL));
	EXPECT_EQ(pid, status_of(host_end).pid);
	voxshm_link_close(host_end);
	EXPECT_EQ(0, child_wait(pid));
	close(sockets[0]);
}

TEST_F(spawn, ticket_that_nobody_has_any_more_ends_the_link)
{
	struct voxshm_link *link;
	int64_t until = now_ns() + PATIENCE;
	const struct voxshm_event *event;
	bool ended = false;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	close(ticket);
	while (!ended && now_ns() < until) {
		event = inbox_next(&self->inbox, 100 * MS);
		ended = event && (event->type == VOXSHM_EVENT_LEFT ||
				  event->type == VOXSHM_EVENT_DIED);
	}
	EXPECT_TRUE(ended);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_ATTACHED]);
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	voxshm_link_close(link);
}

TEST_F(spawn, ticket_is_closed_by_the_claim)
{
	struct voxshm_link *host_end, *guest_end;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &host_end, NULL));
	ASSERT_EQ(0, voxshm_guest_claim(&guest_end, ticket, NULL));
	voxshm_link_close(guest_end);
	EXPECT_EQ(-1, fcntl(ticket, F_GETFD));
	voxshm_link_close(host_end);
}

TEST_F(spawn, ticket_is_good_once)
{
	struct voxshm_link *host_end, *guest_end, *second;
	struct voxshm_error error = { "" };
	int ticket, copy;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &host_end, NULL));
	copy = fcntl(ticket, F_DUPFD_CLOEXEC, 0);
	ASSERT_EQ(0, voxshm_guest_claim(&guest_end, ticket, NULL));
	EXPECT_GT(0, voxshm_guest_claim(&second, copy, &error));
	EXPECT_STRNE("", error.text);
	ASSERT_EQ(0, send_pattern(host_end, 100, 1, PATIENCE));
	ASSERT_EQ(0, recv_pattern(guest_end, 100, 1, PATIENCE));
	voxshm_link_close(guest_end);
	voxshm_link_close(host_end);
}

TEST_F(spawn, ticket_of_a_host_that_is_gone_is_epipe)
{
	struct voxshm_link *link;
	struct voxshm_error error = { "" };
	int ticket, ret;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	voxshm_host_free(self->host);
	self->host = NULL;
	ret = voxshm_guest_claim(&link, ticket, &error);
	if (ret == 0) {
		/* The invitation was there already: then the link has ended. */
		EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
		voxshm_link_close(link);
	} else {
		EXPECT_EQ(-EPIPE, ret);
		EXPECT_STRNE("", error.text);
	}
}

/* What a descriptor that is no ticket may be. */
static int no_ticket(int kind)
{
	int fds[2] = { -1, -1 };

	switch (kind) {
	case 0:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 1:
		REQUIRE_EQ(0, pipe2(fds, O_CLOEXEC));
		close(fds[1]);
		return fds[0];
	case 2:
		REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
		close(fds[1]);
		return fds[0];
	case 3:
		REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
		REQUIRE_EQ(20, write(fds[1], "this is not a ticket", 20));
		close(fds[1]);
		return fds[0];
	default:
		return memfd_create("none", MFD_CLOEXEC);
	}
}

TEST_F(spawn, what_is_no_ticket_is_refused_and_closed)
{
	struct voxshm_link *link;

	for (int kind = 0; kind < 5; kind++) {
		struct voxshm_error error = { "" };
		int fd = no_ticket(kind), ret = voxshm_guest_claim(&link, fd, &error);

		EXPECT_TRUE(ret == -EPROTO || ret == -EBADMSG || ret == -EPIPE)
			TH_LOG("kind %d: %d %s", kind, ret, error.text);
		EXPECT_STRNE("", error.text);
		EXPECT_EQ(-1, fcntl(fd, F_GETFD));
	}
	EXPECT_GT(0, voxshm_guest_claim(&link, -1, NULL));
}

TEST_F(spawn, inherit_without_a_host_is_enoent)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;

	unsetenv("VOXSHM_TICKET");
	EXPECT_EQ(-ENOENT, voxshm_guest_inherit(&link, &error));
	EXPECT_STRNE("", error.text);
	setenv("VOXSHM_TICKET", "not a number", 1);
	EXPECT_GT(0, voxshm_guest_inherit(&link, NULL));
	EXPECT_EQ(NULL, getenv("VOXSHM_TICKET"));
	setenv("VOXSHM_TICKET", "99999999", 1);
	EXPECT_GT(0, voxshm_guest_inherit(&link, NULL));
}

static const struct guest_program programs[] = {
	{ "echo", program_echo },
	{ "report", program_report },
	{ "claim", program_claim },
	{ "leave", program_leave },
	{ 0 },
};

LINK_TEST_MAIN(programs)
