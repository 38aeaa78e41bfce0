// SPDX-License-Identifier: MIT
/* intruders.c - whoever comes to the host's address, the host serves its guests. */
#include "processes.h"

FIXTURE(intruders)
{
	struct inbox inbox;
	struct voxshm_host *host;
	struct voxshm_link *host_end, *guest_end;	/* a guest that was there before */
	char address[64];
	int fds_before;
	uint64_t round;
};
VARIANTS(intruders)

FIXTURE_SETUP(intruders)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 3));
	self->inbox.host = self->host;
	ASSERT_EQ(0, voxshm_host_listen(self->host, abstract_address(self->address), 0, NULL, NULL,
					NULL));
	link_make(_metadata, self->host, &self->host_end, &self->guest_end);
	ASSERT_EQ(self->host_end, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, NULL));
}

FIXTURE_TEARDOWN(intruders)
{
	voxshm_link_close(self->guest_end);
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

static int intrude(const char *address, const void *bytes, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	REQUIRE(fd >= 0);
	memcpy(un.sun_path + 1, address + 1, strlen(address + 1));
	REQUIRE_EQ(0, connect(fd, (struct sockaddr *)&un,
			      offsetof(struct sockaddr_un, sun_path) + strlen(address)));
	if (size)
		REQUIRE_EQ(size, send(fd, bytes, size, MSG_NOSIGNAL));
	return fd;
}

/* Lets the host do its work, and closes links that have ended. */
static void serve(struct inbox *inbox, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		const struct voxshm_event *event = inbox_next(inbox, MS);

		if (event && event->type >= VOXSHM_EVENT_LEFT)
			voxshm_link_close(event->link);
	}
}

/* The old guest's link works, and a new guest is let in. */
static void expect_served(struct __test_metadata *_metadata, FIXTURE_DATA(intruders) *self)
{
	struct walker walker;
	uint64_t seed = self->round++;

	ASSERT_EQ(0, send_pattern(self->guest_end, 2000, seed, PATIENCE));
	ASSERT_EQ(0, recv_pattern(self->host_end, 2000, seed, PATIENCE));
	ASSERT_EQ(0, walk_in(&self->inbox, &walker, self->address, NULL))
		TH_LOG("%s", walker.error.text);
	ASSERT_EQ(0, send_pattern(walker.host_end, 100, seed, PATIENCE));
	ASSERT_EQ(0, recv_pattern(walker.guest_end, 100, seed, PATIENCE));
	voxshm_link_close(walker.guest_end);
	voxshm_link_close(walker.host_end);
}

static const char success[] = "RSP0";

/* What the host answers; "" when it hangs up, NULL when it says nothing. */
static const char *answer_to(FIXTURE_DATA(intruders) *self, int fd, char answer[512], bool *refused)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	int64_t until = now_ns() + PATIENCE;
	ssize_t size;

	while (poll(&pollfd, 1, 0) == 0 && now_ns() < until)
		serve(&self->inbox, 1);
	size = recv(fd, answer, 511, MSG_DONTWAIT);
	if (size < 0 && errno == EAGAIN)
		return NULL;
	answer[size < 0 ? 0 : size] = '\0';
	*refused = size >= 11 && answer[4] == 1;
	return answer;
}

TEST_F(intruders, garbage_is_refused)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: voxshm\r\n\r\n";
	static const char zeros[100000];
	char answer[512];
	bool refused;

	for (int i = 0; i < 10; i++) {
		int fd = intrude(self->address, http, sizeof(http));

		ASSERT_NE(NULL, answer_to(self, fd, answer, &refused));
		EXPECT_TRUE(refused || !*answer);
		close(fd);
		fd = intrude(self->address, zeros, sizeof(zeros));
		ASSERT_NE(NULL, answer_to(self, fd, answer, &refused));
		EXPECT_TRUE(refused || !*answer);
		close(fd);
		expect_served(_metadata, self);
	}
}

TEST_F(intruders, every_wrong_magic_is_refused_at_once)
{
	for (int byte = 0; byte < 4; byte++) {
		char request[6] = { 'R', 'S', 'H', '0', 0, 0 }, answer[512];
		bool refused;
		int fd;

		request[byte] ^= 0x20;
		fd = intrude(self->address, request, sizeof(request));
		ASSERT_NE(NULL, answer_to(self, fd, answer, &refused));
		EXPECT_TRUE(refused || !*answer);
		close(fd);
	}
	expect_served(_metadata, self);
}

TEST_F(intruders, half_a_request_keeps_nobody_waiting)
{
	static const char *halves[] = { "", "R", "RSH", "RSH0", "RSH0\xff", "RSH0\xff\xff",
					"RSH0\xff\xffhello" };
	int fds[ARRAY_SIZE(halves)];

	for (size_t i = 0; i < ARRAY_SIZE(halves); i++) {
		fds[i] = intrude(self->address, halves[i], strlen(halves[i]));
		expect_served(_metadata, self);
	}
	for (size_t i = 0; i < ARRAY_SIZE(halves); i++) {
		close(fds[i]);
		expect_served(_metadata, self);
	}
}

TEST_F(intruders, request_byte_by_byte_is_a_request)
{
	static const char request[10] = "RSH0\4\0word";
	char answer[512];
	bool refused = true;
	int fd = intrude(self->address, NULL, 0);

	for (size_t i = 0; i < sizeof(request); i++) {
		ASSERT_EQ(1, send(fd, request + i, 1, MSG_NOSIGNAL));
		serve(&self->inbox, 2);
	}
	ASSERT_NE(NULL, answer_to(self, fd, answer, &refused));
	EXPECT_EQ(0, memcmp(answer, success, 4));
	EXPECT_FALSE(refused);
	close(fd);
}

TEST_F(intruders, more_than_a_request_is_refused)
{
	char answer[512];
	bool refused;
	int fd = intrude(self->address, "RSH0\0\0RSH0\0\0", 12);

	ASSERT_NE(NULL, answer_to(self, fd, answer, &refused));
	EXPECT_TRUE(refused || !*answer);
	close(fd);
	expect_served(_metadata, self);
}

TEST_F(intruders, crowd_that_says_nothing_keeps_nobody_out)
{
	enum { CROWD = 300 };
	int fds[CROWD];

	for (int i = 0; i < CROWD; i++) {
		fds[i] = intrude(self->address, "RSH", i % 4);
		serve(&self->inbox, 1);
	}
	expect_served(_metadata, self);
	for (int i = 0; i < CROWD; i++)
		close(fds[i]);
	expect_served(_metadata, self);
}

TEST_F(intruders, coming_and_going_leaves_nothing)
{
	int fds = 0;

	for (int i = 0; i < 300; i++) {
		close(intrude(self->address, "RSH0\0\0", i % 7));
		serve(&self->inbox, 2);
		if (i == 100)
			fds = count_fds();
	}
	serve(&self->inbox, 20);
	EXPECT_GE(fds, count_fds());
	expect_served(_metadata, self);
}

/* Takes a place as a guest would, and never claims it. */
/* The device's invitation has one descriptor: the others are -1. */
static int take_place(FIXTURE_DATA(intruders) *self, int fds[3])
{
	char control[CMSG_SPACE(3 * sizeof(int))], bytes[512];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int fd = intrude(self->address, "RSH0\0\0", 6);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	int64_t until = now_ns() + PATIENCE;

	while (poll(&pollfd, 1, 0) == 0 && now_ns() < until)
		serve(&self->inbox, 1);
	REQUIRE(recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) >= 11);
	close(fd);
	if (bytes[4] != 0)
		return -EUSERS;
	REQUIRE(CMSG_FIRSTHDR(&message));
	fds[0] = fds[1] = fds[2] = -1;
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)),
	       CMSG_FIRSTHDR(&message)->cmsg_len - CMSG_LEN(0));
	return 0;
}

TEST_F(intruders, place_that_is_taken_and_thrown_away_is_free_again)
{
	int fds[3], got = 0;

	for (int i = 0; i < 50; i++) {
		if (take_place(self, fds) == 0) {
			got++;
			for (int j = 0; j < 3; j++)
				close(fds[j]);
		}
		serve(&self->inbox, 3);
	}
	EXPECT_LE(2, got);
	expect_served(_metadata, self);
}

TEST_F(intruders, walk_in_that_never_attached_is_never_told)
{
	int fds[3];

	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, take_place(self, fds));
		for (int j = 0; j < 3; j++)
			close(fds[j]);
		serve(&self->inbox, 5);
	}
	/* The one that was there before is the only one. */
	EXPECT_EQ(1, self->inbox.seen[VOXSHM_EVENT_ATTACHED]);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_LEFT]);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_DIED]);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_FAILED]);
}

TEST_F(intruders, places_that_are_kept_are_eusers_for_others)
{
	int fds[2][3], more[3];
	struct walker walker;

	ASSERT_EQ(0, take_place(self, fds[0]));
	ASSERT_EQ(0, take_place(self, fds[1]));
	EXPECT_EQ(-EUSERS, take_place(self, more));
	EXPECT_EQ(-EUSERS, walk_in(&self->inbox, &walker, self->address, NULL));
	for (int i = 0; i < 6; i++)
		close(fds[i / 3][i % 3]);
	serve(&self->inbox, 10);
	expect_served(_metadata, self);
}

TEST_F(intruders, who_never_reads_the_answer_is_no_harm)
{
	int fds[20];

	for (int i = 0; i < 20; i++) {
		fds[i] = intrude(self->address, "garbage!", 8);
		shutdown(fds[i], SHUT_RD);
		serve(&self->inbox, 2);
	}
	for (int i = 0; i < 20; i++)
		close(fds[i]);
	expect_served(_metadata, self);
}

/* The claim itself: what comes on a place's doorbell is not a claim. */
TEST_F(intruders, noise_on_a_doorbell_ends_that_link_only)
{
	for (int i = 0; i < 20; i++) {
		int64_t until = now_ns() + PATIENCE;
		uint8_t noise[64];
		int fds[3], ret;

		/* The place may not be back yet. */
		while ((ret = take_place(self, fds)) == -EUSERS && now_ns() < until)
			serve(&self->inbox, 5);
		ASSERT_EQ(0, ret);
		memset(noise, i * 13, sizeof(noise));
		for (int j = 0; j < 30; j++)
			send(fds[0], noise, 1 + (i * 7 + j) % sizeof(noise),
			     MSG_NOSIGNAL | MSG_DONTWAIT);
		serve(&self->inbox, 5);
		ASSERT_EQ(0, send_pattern(self->guest_end, 2000, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(self->host_end, 2000, i, PATIENCE));
		for (int j = 0; j < 3; j++)
			close(fds[j]);
	}
}

LINK_TEST_MAIN(NULL)
