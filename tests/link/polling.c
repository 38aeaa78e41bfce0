// SPDX-License-Identifier: MIT
/* polling.c - the link's descriptor under poll and epoll: it tells what was armed, and the end. */
#include "helpers.h"

FIXTURE(polling)
{
	struct pair pair;
	int fd;
};
VARIANTS_BOTH_WAYS(polling)

static const struct voxshm_class few[] = { { 1024, 4 } };

FIXTURE_SETUP(polling)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, .num_classes = 1, .classes = few, .ring_capacity = 4096));
	self->fd = voxshm_link_fd(RECEIVER);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(polling)
{
	pair_close(_metadata, &self->pair);
}

#define PATIENT_MS ((int)(PATIENCE / MS))

static uint64_t fill(struct voxshm_link *link, size_t size)
{
	uint64_t count = 0;
	int ret;

	while ((ret = send_pattern(link, size, count, 0)) == 0)
		count++;
	REQUIRE_EQ(-EAGAIN, ret);
	return count;
}

TEST_F(polling, descriptor_is_always_the_same)
{
	EXPECT_EQ(self->fd, voxshm_link_fd(RECEIVER));
	EXPECT_NE(self->fd, voxshm_link_fd(SENDER));
	EXPECT_NE(0, fcntl(self->fd, F_GETFD) & FD_CLOEXEC);
}

TEST_F(polling, unknown_interest_is_refused)
{
	EXPECT_EQ(-EINVAL, voxshm_link_arm(RECEIVER, 4));
	EXPECT_EQ(-EINVAL, voxshm_link_arm(RECEIVER, VOXSHM_READABLE | 0x80000000u));
	EXPECT_EQ(-EINVAL, voxshm_link_arm(RECEIVER, ~0u));
}

TEST_F(polling, arm_tells_what_is_there_already)
{
	EXPECT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	ASSERT_EQ(0, send_pattern(SENDER, 10, 1, 0));
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	ASSERT_EQ(0, recv_pattern(RECEIVER, 10, 1, 0));
	EXPECT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
}

TEST_F(polling, armed_descriptor_is_quiet_until_a_message_comes)
{
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
		ASSERT_EQ(0, readable(self->fd, 0));
		ASSERT_EQ(0, send_pattern(SENDER, 10, i, 0));
		ASSERT_EQ(POLLIN, readable(self->fd, PATIENT_MS));
		ASSERT_EQ(0, recv_pattern(RECEIVER, 10, i, 0));
	}
}

TEST_F(polling, descriptor_stays_readable_until_armed_again)
{
	ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	ASSERT_EQ(0, send_pattern(SENDER, 10, 1, 0));
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(POLLIN, readable(self->fd, PATIENT_MS));
	}
	ASSERT_EQ(0, recv_pattern(RECEIVER, 10, 1, 0));
	ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	EXPECT_EQ(0, readable(self->fd, 0));
}

TEST_F(polling, messages_of_every_kind_wake_it)
{
	static const size_t sizes[] = { 0, 10, 900, 100000 };

	for (size_t i = 0; i < 3 * ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
		ASSERT_EQ(0, send_pattern(SENDER, sizes[i % 4], i, 0));
		EXPECT_EQ(POLLIN, readable(self->fd, PATIENT_MS));
		ASSERT_EQ(0, recv_pattern(RECEIVER, sizes[i % 4], i, 0));
	}
}

TEST_F(polling, room_wakes_a_refused_sender)
{
	static const size_t sizes[] = { 10, 900, 100000 };
	int fd = voxshm_link_fd(SENDER);

	for (size_t i = 0; i < 3 * ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i % 3];
		uint64_t count = fill(SENDER, size);

		ASSERT_EQ(0, voxshm_link_arm(SENDER, VOXSHM_WRITABLE));
		/* Who wants a slot looks now and then whether another guest has freed one. */
		if (variant->choice.format == VOXSHM_FORMAT_NATIVE || size == 10)
			EXPECT_EQ(0, readable(fd, 0));
		for (uint64_t j = 0; j < count; j++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, size, j, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		EXPECT_EQ(POLLIN, readable(fd, PATIENT_MS));
		EXPECT_EQ(VOXSHM_WRITABLE, voxshm_link_arm(SENDER, VOXSHM_WRITABLE));
		EXPECT_EQ(0, send_pattern(SENDER, size, 1, 0));
		EXPECT_EQ(0, recv_pattern(RECEIVER, size, 1, 0));
	}
}

TEST_F(polling, arm_tells_of_room_that_is_there_already)
{
	static const size_t sizes[] = { 10, 900, 100000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t count = fill(SENDER, sizes[i]);

		for (uint64_t j = 0; j < count; j++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, sizes[i], j, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		EXPECT_EQ(VOXSHM_WRITABLE,
			  voxshm_link_arm(SENDER, VOXSHM_READABLE | VOXSHM_WRITABLE));
		EXPECT_EQ(0, send_pattern(SENDER, sizes[i], 1, 0));
		EXPECT_EQ(0, recv_pattern(RECEIVER, sizes[i], 1, 0));
	}
}

TEST_F(polling, both_interests_at_once)
{
	int fd = voxshm_link_fd(SENDER);
	uint64_t count = fill(SENDER, 10);

	ASSERT_EQ(0, voxshm_link_arm(SENDER, VOXSHM_READABLE | VOXSHM_WRITABLE));
	EXPECT_EQ(0, readable(fd, 0));
	ASSERT_EQ(0, send_pattern(RECEIVER, 10, 5, 0));
	EXPECT_EQ(POLLIN, readable(fd, PATIENT_MS));
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(SENDER, VOXSHM_READABLE | VOXSHM_WRITABLE));
	ASSERT_EQ(0, recv_pattern(SENDER, 10, 5, 0));
	ASSERT_EQ(0, voxshm_link_arm(SENDER, VOXSHM_READABLE | VOXSHM_WRITABLE));
	for (uint64_t j = 0; j < count; j++) {
		ASSERT_EQ(0, recv_pattern(RECEIVER, 10, j, 0));
	}
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
	EXPECT_EQ(POLLIN, readable(fd, PATIENT_MS));
	EXPECT_EQ(VOXSHM_WRITABLE, voxshm_link_arm(SENDER, VOXSHM_READABLE | VOXSHM_WRITABLE));
}

TEST_F(polling, peer_leaving_wakes_an_armed_descriptor)
{
	ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	EXPECT_EQ(0, readable(self->fd, 0));
	CLOSE_SENDER();
	EXPECT_NE(0, readable(self->fd, PATIENT_MS) & POLLIN);
	EXPECT_EQ(VOXSHM_READABLE | VOXSHM_WRITABLE,
		  voxshm_link_arm(RECEIVER, VOXSHM_READABLE | VOXSHM_WRITABLE));
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	EXPECT_EQ(VOXSHM_WRITABLE, voxshm_link_arm(RECEIVER, VOXSHM_WRITABLE));
	EXPECT_EQ(-EPIPE, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
}

TEST_F(polling, peer_leaving_wakes_a_descriptor_that_was_never_armed)
{
	CLOSE_SENDER();
	EXPECT_NE(0, readable(self->fd, PATIENT_MS) & POLLIN);
}

TEST_F(polling, messages_before_the_end_are_readable)
{
	ASSERT_EQ(0, send_pattern(SENDER, 10, 1, 0));
	CLOSE_SENDER();
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	ASSERT_EQ(0, recv_pattern(RECEIVER, 10, 1, 0));
	EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	EXPECT_EQ(-EPIPE, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
}

/* A thread that polls, with poll() or epoll, and never sleeps elsewhere. */
struct poller {
	struct voxshm_link *link;
	uint64_t count;
	bool edge;		/* epoll, edge-triggered, instead of poll() */
	bool echo;
};

static void poller_wait(const struct poller *poller, int epoll)
{
	struct epoll_event event;

	if (poller->edge)
		REQUIRE_EQ(1, epoll_wait(epoll, &event, 1, PATIENT_MS));
	else
		REQUIRE(readable(voxshm_link_fd(poller->link), PATIENT_MS));
}

static void *poller_run(void *argument)
{
	struct poller *poller = argument;
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC), ret;
	struct voxshm_view view;

	REQUIRE(epoll >= 0);
	REQUIRE_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, voxshm_link_fd(poller->link), &event));
	for (uint64_t i = 0; i < poller->count;) {
		ret = voxshm_try_recv(poller->link, &view);
		if (ret == -EAGAIN) {
			if (voxshm_link_arm(poller->link, VOXSHM_READABLE) == 0)
				poller_wait(poller, epoll);
			continue;
		}
		REQUIRE_EQ(0, ret);
		REQUIRE(view.size == 24 && pattern_is(view.data, 24, i));
		REQUIRE_EQ(0, voxshm_release(poller->link, &view));
		if (poller->echo)
			REQUIRE_EQ(0, send_pattern(poller->link, 24, i, VOXSHM_FOREVER));
		i++;
	}
	close(epoll);
	return NULL;
}

static void poll_ping_pong(struct __test_metadata *_metadata, struct voxshm_link *sender,
			   struct voxshm_link *receiver, bool edge)
{
	struct poller poller = { receiver, amount(20000), edge, true };
	pthread_t thread = thread_start(poller_run, &poller);

	for (uint64_t i = 0; i < poller.count; i++) {
		ASSERT_EQ(0, send_pattern(sender, 24, i, VOXSHM_FOREVER));
		ASSERT_EQ(0, recv_pattern(sender, 24, i, PATIENCE));
	}
	thread_join(thread);
}

TEST_F_TIMEOUT(polling, poll_never_misses_a_message, 60)
{
	poll_ping_pong(_metadata, SENDER, RECEIVER, false);
}

TEST_F_TIMEOUT(polling, edge_triggered_epoll_never_misses_a_message, 60)
{
	poll_ping_pong(_metadata, SENDER, RECEIVER, true);
}

TEST_F_TIMEOUT(polling, polling_sender_never_misses_room, 60)
{
	struct poller poller = { RECEIVER, amount(50000), true, false };
	pthread_t thread = thread_start(poller_run, &poller);
	int fd = voxshm_link_fd(SENDER), ret;

	for (uint64_t i = 0; i < poller.count; i++) {
		while ((ret = send_pattern(SENDER, 24, i, 0)) == -EAGAIN)
			if (voxshm_link_arm(SENDER, VOXSHM_WRITABLE) == 0) {
				ASSERT_NE(0, readable(fd, PATIENT_MS));
			}
		ASSERT_EQ(0, ret);
	}
	thread_join(thread);
}

LINK_TEST_MAIN(NULL)
