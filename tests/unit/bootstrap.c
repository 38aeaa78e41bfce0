// SPDX-License-Identifier: MIT
/* Requests and responses of the bootstrap: whole, in pieces, malformed; no descriptor leaks. */
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "backend_device.h"
#include "link.h"
#include "unit_test.h"

#define MAX_FDS 253

FIXTURE(bootstrap) {
	int host, guest;
	int files[INVITATION_FDS];	/* distinct, to be told apart */
	struct invitation got;
	struct voxshm_error error;
	int fds;
};

FIXTURE_SETUP(bootstrap)
{
	int sockets[2], i;

	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	self->host = sockets[0];
	self->guest = sockets[1];
	for (i = 0; i < INVITATION_FDS; i++) {
		self->files[i] = memfd_create("test", 0);
		ASSERT_GE(self->files[i], 0);
	}
	invitation_init(&self->got);
	self->fds = count_fds();
}

FIXTURE_TEARDOWN(bootstrap)
{
	int i;

	invitation_deinit(&self->got);
	for (i = 0; i < INVITATION_FDS; i++)
		close(self->files[i]);
	close(self->host);
	close(self->guest);
	EXPECT_EQ(count_fds(), self->fds - 2 - INVITATION_FDS);
}

static bool is_same_file(int a, int b)
{
	struct stat left, right;

	return fstat(a, &left) == 0 && fstat(b, &right) == 0 && left.st_ino == right.st_ino &&
	       left.st_dev == right.st_dev;
}

/* Sends bytes with copies of descriptors. Return: 0 or -errno. */
static int send_raw(int socket, const void *bytes, size_t size, const int *fds, int count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (count) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, (size_t)count * sizeof(int));
	}
	return sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -errno;
}

/* Builds a response as the documentation has it. Return: its size. */
static size_t make_response(uint8_t *bytes, uint8_t status, uint32_t peer_id, const char *payload,
			    uint16_t length)
{
	memcpy(bytes, "RSP0", 4);
	bytes[4] = status;
	memcpy(bytes + 5, &peer_id, 4);
	memcpy(bytes + 9, &length, 2);
	memcpy(bytes + 11, payload, strlen(payload));
	return 11 + strlen(payload);
}

#define RECEIVE(deadline) bootstrap_receive(self->guest, &self->got, deadline, &self->error)
#define NOW clock_now()

/* Requests -------------------------------------------------------------------------- */

TEST_F(bootstrap, request_is_sent_byte_by_byte_as_documented)
{
	uint8_t bytes[32];

	ASSERT_EQ(bootstrap_request(self->guest, "hello", &self->error), 0);
	ASSERT_EQ(recv(self->host, bytes, sizeof(bytes), 0), 11);
	EXPECT_EQ(memcmp(bytes, "RSH0\005\0hello", 11), 0);
	ASSERT_EQ(bootstrap_request(self->guest, NULL, &self->error), 0);
	ASSERT_EQ(recv(self->host, bytes, sizeof(bytes), 0), 6);
	EXPECT_EQ(memcmp(bytes, "RSH0\0\0", 6), 0);
}

TEST_F(bootstrap, request_is_understood_when_it_is_whole)
{
	static const uint8_t bytes[] = "RSH0\005\0hello";
	const char *session = NULL;
	size_t size, session_size = 0;

	for (size = 0; size < 11; size++)
		ASSERT_EQ(bootstrap_parse_request(bytes, size, &session, &session_size), 0);
	ASSERT_EQ(session, NULL);
	ASSERT_EQ(bootstrap_parse_request(bytes, 11, &session, &session_size), 11);
	EXPECT_EQ(session_size, 5);
	EXPECT_EQ(memcmp(session, "hello", 5), 0);
}

TEST_F(bootstrap, request_without_a_session_is_understood)
{
	const char *session = NULL;
	size_t session_size = 99;

	EXPECT_EQ(bootstrap_parse_request((const uint8_t *)"RSH0\0\0", 6, &session, &session_size),
		  6);
	EXPECT_EQ(session_size, 0);
	EXPECT_NE(session, NULL);
}

TEST_F(bootstrap, longest_session_arrives_whole_and_a_longer_one_is_refused)
{
	char *session = malloc(BOOTSTRAP_MAX_SESSION + 2);
	uint8_t *bytes = malloc(BOOTSTRAP_REQUEST_HEADER + BOOTSTRAP_MAX_SESSION);
	const size_t whole = BOOTSTRAP_REQUEST_HEADER + BOOTSTRAP_MAX_SESSION;
	const char *seen;
	size_t seen_size;

	memset(session, 's', BOOTSTRAP_MAX_SESSION + 1);
	session[BOOTSTRAP_MAX_SESSION + 1] = '\0';
	EXPECT_EQ(bootstrap_request(self->guest, session, &self->error), -ENAMETOOLONG);
	EXPECT_NE(self->error.text[0], '\0');
	EXPECT_EQ(recv(self->host, bytes, 1, MSG_DONTWAIT), -1);
	session[BOOTSTRAP_MAX_SESSION] = '\0';
	ASSERT_EQ(bootstrap_request(self->guest, session, &self->error), 0);
	ASSERT_EQ(recv(self->host, bytes, whole, MSG_WAITALL), (ssize_t)whole);
	EXPECT_EQ(bootstrap_parse_request(bytes, whole - 1, &seen, &seen_size), 0);
	EXPECT_EQ(bootstrap_parse_request(bytes, whole, &seen, &seen_size), (int)whole);
	EXPECT_EQ(seen_size, BOOTSTRAP_MAX_SESSION);
	free(bytes);
	free(session);
}

/* At its first wrong byte already, however little has come. */
TEST_F(bootstrap, request_with_a_wrong_magic_is_refused)
{
	const char *session;
	size_t session_size, size;
	int byte, value;

	for (byte = 0; byte < 4; byte++)
		for (value = 0; value < 256; value++) {
			uint8_t bytes[] = "RSH0\005\0hello";

			if (bytes[byte] == value)
				continue;
			bytes[byte] = (uint8_t)value;
			for (size = 1; size <= 11; size++)
				ASSERT_EQ(bootstrap_parse_request(bytes, size, &session,
								  &session_size),
					  size > (size_t)byte ? -EPROTO : 0);
		}
}

TEST_F(bootstrap, request_with_more_behind_it_is_refused)
{
	static const uint8_t bytes[] = "RSH0\005\0hello!";
	const char *session;
	size_t session_size;

	EXPECT_EQ(bootstrap_parse_request(bytes, 12, &session, &session_size), -EPROTO);
	EXPECT_EQ(bootstrap_parse_request((const uint8_t *)"RSH0\0\0x", 7, &session, &session_size),
		  -EPROTO);
}

TEST_F(bootstrap, request_to_nobody_is_no_signal)
{
	close(self->host);
	self->host = dup(self->guest);
	EXPECT_EQ(bootstrap_request(self->guest, "hello", &self->error), -EPIPE);
	EXPECT_NE(self->error.text[0], '\0');
}

/* Invitations -------------------------------------------------------------------------- */

TEST_F(bootstrap, invitation_arrives_with_its_descriptors_in_order)
{
	struct invitation sent;
	int i;

	invitation_init(&sent);
	sent.peer_id = 255;
	strcpy(sent.payload, "/dev/shm/x");
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	ASSERT_EQ(bootstrap_invite(self->host, &sent), 0);
	ASSERT_EQ(RECEIVE(NOW), 0);
	EXPECT_EQ(self->got.peer_id, 255);
	EXPECT_EQ(strcmp(self->got.payload, "/dev/shm/x"), 0);
	for (i = 0; i < INVITATION_FDS; i++) {
		EXPECT_TRUE(is_same_file(self->got.fds[i], self->files[i]));
		EXPECT_TRUE(fcntl(self->got.fds[i], F_GETFD) & FD_CLOEXEC);
	}
	EXPECT_EQ(count_fds(), self->fds + INVITATION_FDS);
	invitation_deinit(&self->got);
	EXPECT_EQ(count_fds(), self->fds);
	invitation_deinit(&self->got);
}

/* What a host on the device sends. */
TEST_F(bootstrap, invitation_with_the_guests_end_alone_arrives)
{
	struct invitation sent;
	int i;

	invitation_init(&sent);
	sent.peer_id = 3;
	sent.fds[INVITATION_END] = self->files[1];
	EXPECT_TRUE(invitation_is_device(&sent));
	ASSERT_EQ(bootstrap_invite(self->host, &sent), 0);
	ASSERT_EQ(RECEIVE(NOW), 0);
	EXPECT_EQ(self->got.peer_id, 3);
	EXPECT_TRUE(invitation_is_device(&self->got));
	EXPECT_TRUE(is_same_file(self->got.fds[INVITATION_END], self->files[1]));
	EXPECT_TRUE(fcntl(self->got.fds[INVITATION_END], F_GETFD) & FD_CLOEXEC);
	for (i = INVITATION_END + 1; i < INVITATION_FDS; i++)
		EXPECT_EQ(self->got.fds[i], -1);
	EXPECT_EQ(count_fds(), self->fds + 1);
	invitation_deinit(&self->got);
	EXPECT_EQ(count_fds(), self->fds);
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	EXPECT_FALSE(invitation_is_device(&sent));
}

/* Descriptors that are no end of a link, as a malicious host may send them. */
TEST_F(bootstrap, descriptor_that_is_no_end_is_refused_by_the_claim)
{
	int pipes[2], fds[4], i;

	ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
	fds[0] = pipes[0];
	fds[1] = self->files[0];
	fds[2] = self->host;
	fds[3] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (i = 0; i < 4; i++) {
		struct invitation invitation;
		int before = count_fds();

		invitation_init(&invitation);
		invitation.peer_id = 1;
		invitation.fds[INVITATION_END] = dup(fds[i]);
		self->error.text[0] = '\0';
		EXPECT_EQ(device_claim(&invitation, &self->error), -EPROTO)
			TH_LOG("descriptor %d", i);
		EXPECT_NE(self->error.text[0], '\0');
		EXPECT_EQ(invitation.end, NULL);
		invitation_deinit(&invitation);
		EXPECT_EQ(count_fds(), before);
	}
	close(pipes[0]);
	close(pipes[1]);
	close(fds[3]);
}

TEST_F(bootstrap, invitation_is_sent_byte_by_byte_as_documented)
{
	struct invitation sent;
	uint8_t bytes[32];

	invitation_init(&sent);
	sent.peer_id = 0x04;
	strcpy(sent.payload, "ab");
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	ASSERT_EQ(bootstrap_invite(self->host, &sent), 0);
	ASSERT_EQ(recv(self->guest, bytes, sizeof(bytes), 0), 13);
	EXPECT_EQ(memcmp(bytes, "RSP0\0\004\0\0\0\002\0ab", 13), 0);
	ASSERT_EQ(bootstrap_refuse(self->host, "no"), 0);
	ASSERT_EQ(recv(self->guest, bytes, sizeof(bytes), 0), 13);
	EXPECT_EQ(memcmp(bytes, "RSP0\001\0\0\0\0\002\0no", 13), 0);
}

TEST_F(bootstrap, longest_payload_arrives_whole)
{
	struct invitation sent;

	invitation_init(&sent);
	sent.peer_id = 1;
	memset(sent.payload, 'p', BOOTSTRAP_MAX_PAYLOAD);
	sent.payload[BOOTSTRAP_MAX_PAYLOAD] = '\0';
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	ASSERT_EQ(bootstrap_invite(self->host, &sent), 0);
	ASSERT_EQ(RECEIVE(NOW), 0);
	EXPECT_EQ(strlen(self->got.payload), BOOTSTRAP_MAX_PAYLOAD);
}

TEST_F(bootstrap, response_in_two_pieces_is_taken_at_every_cut)
{
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 7, "payload", 7), cut;

	for (cut = 1; cut < size; cut++) {
		ASSERT_EQ(send_raw(self->host, bytes, cut, self->files, INVITATION_FDS), 0);
		ASSERT_EQ(send_raw(self->host, bytes + cut, size - cut, NULL, 0), 0);
		ASSERT_EQ(RECEIVE(NOW), 0);
		EXPECT_EQ(self->got.peer_id, 7);
		EXPECT_EQ(strcmp(self->got.payload, "payload"), 0);
		invitation_deinit(&self->got);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

TEST_F(bootstrap, invitation_to_nobody_is_no_signal)
{
	struct invitation sent;

	invitation_init(&sent);
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	close(self->guest);
	self->guest = dup(self->host);
	EXPECT_EQ(bootstrap_invite(self->host, &sent), -EPIPE);
	EXPECT_EQ(bootstrap_refuse(self->host, "no"), -EPIPE);
}

TEST_F(bootstrap, invitation_never_waits_for_a_guest_that_does_not_read)
{
	struct invitation sent;
	char noise[4096] = "";

	invitation_init(&sent);
	memcpy(sent.fds, self->files, sizeof(sent.fds));
	while (send(self->host, noise, sizeof(noise), MSG_DONTWAIT) > 0)
		;
	EXPECT_LT(bootstrap_invite(self->host, &sent), 0);
	EXPECT_LT(bootstrap_refuse(self->host, "no"), 0);
	EXPECT_EQ(count_fds(), self->fds);
}

/* Refusals ------------------------------------------------------------------------------ */

TEST_F(bootstrap, refusal_tells_its_reason)
{
	ASSERT_EQ(bootstrap_refuse(self->host, "you smell"), 0);
	EXPECT_EQ(RECEIVE(NOW), -EACCES);
	EXPECT_NE(strstr(self->error.text, "you smell"), NULL);
	ASSERT_EQ(bootstrap_refuse(self->host, ""), 0);
	EXPECT_EQ(RECEIVE(NOW), -EACCES);
	/* Nobody has to want it. */
	ASSERT_EQ(bootstrap_refuse(self->host, "you smell"), 0);
	EXPECT_EQ(bootstrap_receive(self->guest, &self->got, NOW, NULL), -EACCES);
}

TEST_F(bootstrap, refusal_for_want_of_a_place_is_told_apart)
{
	ASSERT_EQ(bootstrap_refuse(self->host, BOOTSTRAP_REASON_FULL), 0);
	EXPECT_EQ(RECEIVE(NOW), -EUSERS);
	ASSERT_EQ(bootstrap_refuse(self->host, BOOTSTRAP_REASON_FULL "!"), 0);
	EXPECT_EQ(RECEIVE(NOW), -EACCES);
}

TEST_F(bootstrap, long_reason_is_cut)
{
	char *reason = malloc(100000);

	memset(reason, 'r', 99999);
	reason[99999] = '\0';
	ASSERT_EQ(bootstrap_refuse(self->host, reason), 0);
	EXPECT_EQ(RECEIVE(NOW), -EACCES);
	EXPECT_EQ(strlen(self->error.text), sizeof(self->error.text) - 1);
	EXPECT_EQ(recv(self->guest, reason, 1, MSG_DONTWAIT), -1);
	free(reason);
}

/* Malformed responses ---------------------------------------------------------------------- */

static const struct {
	const char *name;
	uint8_t status;
	uint32_t peer_id;
	uint16_t length;	/* of the payload "abc", or "" */
	int fds;
} malformed[] = {
	{ "status 2", 2, 1, 3, 3 },
	{ "status 255", 255, 1, 3, 3 },
	{ "status 2, no descriptors", 2, 0, 3, 0 },
	{ "peer 0", 0, 0, 3, 3 },
	{ "peer 256", 0, 256, 3, 3 },
	{ "peer 2^32 - 1", 0, UINT32_MAX, 3, 3 },
	{ "payload too long", 0, 1, BOOTSTRAP_MAX_PAYLOAD + 1, 3 },
	{ "payload far too long", 0, 1, 65535, 3 },
	{ "refusal too long", 1, 0, 65535, 0 },
	{ "refusal with a peer", 1, 1, 3, 0 },
	{ "refusal with a descriptor", 1, 0, 3, 1 },
	{ "refusal with all descriptors", 1, 0, 3, 3 },
	{ "no descriptor", 0, 1, 3, 0 },
	{ "one descriptor and a path", 0, 1, 3, 1 },
	{ "one descriptor, peer 0", 0, 0, 0, 1 },
	{ "two descriptors", 0, 1, 3, 2 },
	{ "four descriptors", 0, 1, 3, 4 },
	{ "five descriptors", 0, 1, 3, 5 },
	{ "all the kernel lets through", 0, 1, 3, MAX_FDS },
};

TEST_F(bootstrap, malformed_response_is_refused_and_leaks_no_descriptor)
{
	int fds[MAX_FDS];
	uint8_t bytes[64];
	size_t i, size;

	for (i = 0; i < MAX_FDS; i++)
		fds[i] = self->files[i % INVITATION_FDS];
	for (i = 0; i < ARRAY_SIZE(malformed); i++) {
		int sockets[2];

		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
		size = make_response(bytes, malformed[i].status, malformed[i].peer_id,
				     malformed[i].length ? "abc" : "",
				     malformed[i].length);
		ASSERT_EQ(send_raw(sockets[0], bytes, size, fds, malformed[i].fds), 0);
		memset(&self->error, 0, sizeof(self->error));
		EXPECT_EQ(bootstrap_receive(sockets[1], &self->got, NOW, &self->error), -EPROTO)
			TH_LOG("%s", malformed[i].name);
		EXPECT_NE(self->error.text[0], '\0');
		EXPECT_EQ(self->got.fds[0], -1);
		close(sockets[0]);
		close(sockets[1]);
		EXPECT_EQ(count_fds(), self->fds)
			TH_LOG("%s", malformed[i].name);
	}
}

TEST_F(bootstrap, response_with_a_wrong_magic_is_refused)
{
	uint8_t bytes[64];
	int byte;

	for (byte = 0; byte < 4; byte++) {
		size_t size = make_response(bytes, 0, 1, "", 0);

		bytes[byte] ^= 1;
		ASSERT_EQ(send_raw(self->host, bytes, size, self->files, INVITATION_FDS), 0);
		EXPECT_EQ(RECEIVE(NOW), -EPROTO);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

/* "in one SCM_RIGHTS message": wire-format.md */
TEST_F(bootstrap, descriptors_in_two_messages_are_refused)
{
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 1, "abc", 3);

	ASSERT_EQ(send_raw(self->host, bytes, 5, self->files, 1), 0);
	ASSERT_EQ(send_raw(self->host, bytes + 5, size - 5, self->files + 1, 2), 0);
	EXPECT_EQ(RECEIVE(NOW), -EPROTO);
	EXPECT_EQ(count_fds(), self->fds);
}

TEST_F(bootstrap, surplus_descriptors_in_a_second_message_are_refused)
{
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 1, "abc", 3), cut;

	for (cut = 1; cut < size; cut++) {
		ASSERT_EQ(send_raw(self->host, bytes, cut, self->files, INVITATION_FDS), 0);
		ASSERT_EQ(send_raw(self->host, bytes + cut, size - cut, self->files, 1), 0);
		EXPECT_EQ(RECEIVE(NOW), -EPROTO);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

/* Half responses ------------------------------------------------------------------------------ */

TEST_F(bootstrap, host_that_hangs_up_is_told_at_every_byte)
{
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 1, "abc", 3), sent;

	for (sent = 0; sent < size; sent++) {
		int sockets[2];

		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
		if (sent)
			ASSERT_EQ(send_raw(sockets[0], bytes, sent, self->files, INVITATION_FDS), 0);
		close(sockets[0]);
		self->error.text[0] = '\0';
		EXPECT_EQ(bootstrap_receive(sockets[1], &self->got, VOXSHM_FOREVER, &self->error),
			  -EPIPE);
		EXPECT_NE(self->error.text[0], '\0');
		close(sockets[1]);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

TEST_F(bootstrap, silence_ends_with_the_deadline_at_every_byte)
{
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 1, "abc", 3), sent;

	for (sent = 0; sent < size; sent++) {
		int64_t before = now_ns();
		int sockets[2];

		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
		if (sent)
			ASSERT_EQ(send_raw(sockets[0], bytes, sent, self->files, INVITATION_FDS), 0);
		self->error.text[0] = '\0';
		EXPECT_EQ(bootstrap_receive(sockets[1], &self->got, NOW + 5 * MS, &self->error),
			  -ETIMEDOUT);
		EXPECT_GE(now_ns() - before, 5 * MS);
		EXPECT_NE(self->error.text[0], '\0');
		close(sockets[0]);
		close(sockets[1]);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

struct slow_host {
	int socket, file;
};

static void *send_slowly(void *argument)
{
	const struct slow_host *host = argument;
	int fds[INVITATION_FDS] = { host->file, host->file, host->file };
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 9, "slow", 4), i;

	REQUIRE(send_raw(host->socket, bytes, 1, fds, INVITATION_FDS) == 0);
	for (i = 1; i < size; i++) {
		sleep_ms(1);
		REQUIRE(send_raw(host->socket, bytes + i, 1, NULL, 0) == 0);
	}
	return NULL;
}

TEST_F(bootstrap, slow_response_is_waited_for)
{
	struct slow_host host = { self->host, self->files[0] };
	pthread_t thread = thread_start(send_slowly, &host);

	EXPECT_EQ(RECEIVE(VOXSHM_FOREVER), 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(self->got.peer_id, 9);
}

TEST_F(bootstrap, lack_of_descriptors_leaks_none)
{
	struct rlimit old, few;
	uint8_t bytes[64];
	size_t size = make_response(bytes, 0, 1, "abc", 3);
	int lowest, room;

	if (under_valgrind())
		SKIP(return, "valgrind does not enforce the limit here");
	lowest = dup(0);
	close(lowest);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (room = 0; room < INVITATION_FDS; room++) {
		int ret;

		ASSERT_EQ(send_raw(self->host, bytes, size, self->files, INVITATION_FDS), 0);
		few = old;
		few.rlim_cur = (rlim_t)(lowest + room);
		ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
		ret = RECEIVE(NOW);
		ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
		EXPECT_LT(ret, 0);
		EXPECT_EQ(count_fds(), self->fds);
	}
}

TEST_HARNESS_MAIN
