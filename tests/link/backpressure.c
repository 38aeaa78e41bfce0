// SPDX-License-Identifier: MIT
/* backpressure.c - a full ring or an empty pool makes a sender wait, no longer than it asked. */
#include "helpers.h"

/* Few of everything, so that each runs out soon. */
static const struct voxshm_class few[] = { { 1024, 4 } };
#define FEW_CLASSES .num_classes = ARRAY_SIZE(few), .classes = few

FIXTURE(backpressure)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(backpressure)

FIXTURE_SETUP(backpressure)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, FEW_CLASSES, .ring_capacity = 4096, .max_mappings = 2));
}

FIXTURE_TEARDOWN(backpressure)
{
	pair_close(_metadata, &self->pair);
}

/* A smaller one might still find room in a ring that is full for these. */
static const char thirty[30];

/* Sends messages of one size until there is no room. Return: how many. */
static uint64_t fill(struct voxshm_link *link, size_t size)
{
	uint64_t count = 0;
	int ret;

	while ((ret = send_pattern(link, size, count, 0)) == 0) {
		count++;
		REQUIRE(count < 1000000);
	}
	REQUIRE_EQ(-EAGAIN, ret);
	return count;
}

static void expect_all(struct __test_metadata *_metadata, struct voxshm_link *link, size_t size,
		       uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		ASSERT_EQ(0, recv_pattern(link, size, i, 0));
	}
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(link, &(struct voxshm_view){ 0 }));
}

#define EXPECT_LASTED(start, least) do {					\
	int64_t lasted_ = now_ns() - (start);					\
	EXPECT_LE(least, lasted_);						\
	EXPECT_GE((least) + 5 * SECOND * slowness(), lasted_);			\
} while (0)

TEST_F(backpressure, full_ring_refuses_and_takes_again_after_release)
{
	for (int round = 0; round < 20; round++) {
		uint64_t count = fill(SENDER, 30);

		EXPECT_LT(10, count);
		EXPECT_EQ(-EAGAIN, voxshm_try_send(SENDER, thirty, 30));
		EXPECT_EQ(-EAGAIN, voxshm_send(SENDER, thirty, 30, 0));
		expect_all(_metadata, RECEIVER, 30, 0, count);
	}
}

TEST_F(backpressure, full_ring_keeps_every_size_in_order)
{
	for (size_t size = 0; size < 600; size += 23) {
		uint64_t count = fill(SENDER, size);

		EXPECT_LT(0, count);
		expect_all(_metadata, RECEIVER, size, 0, count);
	}
}

TEST_F(backpressure, borrowed_views_keep_the_ring_full)
{
	uint64_t count = fill(SENDER, 30);
	struct voxshm_view *views = calloc(count, sizeof(*views));

	ASSERT_NE(NULL, views);
	for (uint64_t i = 0; i < count; i++) {
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &views[i]));
	}
	EXPECT_EQ(-EAGAIN, voxshm_try_send(SENDER, thirty, 30));
	for (uint64_t i = 0; i < count; i++) {
		EXPECT_TRUE(views[i].size == 30 && pattern_is(views[i].data, 30, i));
		ASSERT_EQ(0, voxshm_release(RECEIVER, &views[i]));
	}
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &views[0]));
	EXPECT_EQ(0, voxshm_try_send(SENDER, thirty, 30));
	free(views);
}

TEST_F(backpressure, send_times_out_not_before_its_time)
{
	int64_t start;

	fill(SENDER, 30);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(SENDER, thirty, 30, 50 * MS));
	EXPECT_LASTED(start, 50 * MS);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(SENDER, thirty, 30, 1));
	EXPECT_LASTED(start, 1);
	voxshm_link_set_spin(SENDER, 0);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(SENDER, thirty, 30, 50 * MS));
	EXPECT_LASTED(start, 50 * MS);
}

TEST_F(backpressure, timed_out_send_sent_nothing)
{
	uint64_t count = fill(SENDER, 30);

	EXPECT_EQ(-ETIMEDOUT, voxshm_send(SENDER, thirty, 30, MS));
	expect_all(_metadata, RECEIVER, 30, 0, count);
	count = fill(SENDER, 30);
	expect_all(_metadata, RECEIVER, 30, 0, count);
}

TEST_F(backpressure, receive_on_empty_fails_at_once_or_in_time)
{
	struct voxshm_view view = { 0 };
	char byte;
	int64_t start;

	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &view));
	EXPECT_EQ(-EAGAIN, voxshm_recv(RECEIVER, &view, 0));
	EXPECT_EQ(-EAGAIN, voxshm_recv_batch(RECEIVER, &view, 1, 0));
	EXPECT_EQ(-EAGAIN, voxshm_recv_copy(RECEIVER, &byte, 1, 0));
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(RECEIVER, &view, 30 * MS));
	EXPECT_LASTED(start, 30 * MS);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv_batch(RECEIVER, &view, 1, 30 * MS));
	EXPECT_LASTED(start, 30 * MS);
	start = now_ns();
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv_copy(RECEIVER, &byte, 1, 30 * MS));
	EXPECT_LASTED(start, 30 * MS);
	EXPECT_EQ(0, send_pattern(SENDER, 5, 1, 0));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 5, 1, 0));
}

/* A thread that sends one message and waits for room as long as it takes. */
struct blocked {
	struct voxshm_link *link;
	size_t size;
	int64_t timeout;
	_Atomic int ret;	/* 1: still at it */
};

static void *send_blocked(void *argument)
{
	struct blocked *blocked = argument;

	blocked->ret = send_pattern(blocked->link, blocked->size, 99999, blocked->timeout);
	return NULL;
}

static int wait_returned(const struct blocked *blocked, int64_t timeout)
{
	int64_t until = now_ns() + timeout;

	while (blocked->ret == 1 && now_ns() < until)
		sleep_ms(1);
	return blocked->ret;
}

/* Fills the link, lets a thread block in send, releases `share` percent. */
static void unblock(struct __test_metadata *_metadata, struct voxshm_link *sender,
		    struct voxshm_link *receiver, size_t size, int64_t timeout, unsigned int share)
{
	struct blocked blocked = { .link = sender, .size = size, .timeout = timeout, .ret = 1 };
	uint64_t count = fill(sender, size), take = (count * share + 99) / 100;
	pthread_t thread = thread_start(send_blocked, &blocked);

	EXPECT_EQ(1, wait_returned(&blocked, 10 * MS));
	for (uint64_t i = 0; i < take; i++) {
		ASSERT_EQ(0, recv_pattern(receiver, size, i, 0));
	}
	EXPECT_EQ(0, wait_returned(&blocked, PATIENCE));
	thread_join(thread);
	for (uint64_t i = take; i < count; i++) {
		ASSERT_EQ(0, recv_pattern(receiver, size, i, 0));
	}
	ASSERT_EQ(0, recv_pattern(receiver, size, 99999, 0));
}

TEST_F(backpressure, blocked_send_is_woken_when_the_ring_was_emptied)
{
	for (int i = 0; i < 10; i++) {
		voxshm_link_set_spin(SENDER, i % 2 ? 0 : 20000);
		unblock(_metadata, SENDER, RECEIVER, 30, VOXSHM_FOREVER, 100);
		unblock(_metadata, SENDER, RECEIVER, 30, PATIENCE, 100);
	}
}

TEST_F(backpressure, blocked_send_is_woken_when_half_the_ring_was_released)
{
	for (int i = 0; i < 10; i++) {
		voxshm_link_set_spin(SENDER, i % 2 ? 0 : 20000);
		unblock(_metadata, SENDER, RECEIVER, 30, VOXSHM_FOREVER, 50);
		unblock(_metadata, SENDER, RECEIVER, 100, PATIENCE, 50);
	}
}

TEST_F(backpressure, blocked_send_is_woken_when_one_slot_was_released)
{
	for (int i = 0; i < 10; i++) {
		voxshm_link_set_spin(SENDER, i % 2 ? 0 : 20000);
		unblock(_metadata, SENDER, RECEIVER, 900, VOXSHM_FOREVER, 1);
	}
}

TEST_F(backpressure, blocked_send_is_woken_when_one_mapping_was_released)
{
	for (int i = 0; i < 6; i++) {
		voxshm_link_set_spin(SENDER, i % 2 ? 0 : 20000);
		unblock(_metadata, SENDER, RECEIVER, 100000, VOXSHM_FOREVER, 1);
	}
}

TEST_F(backpressure, empty_pool_refuses_until_the_receiver_releases)
{
	uint64_t count = fill(SENDER, 900);
	struct voxshm_view view;

	EXPECT_LE(few[0].slot_count, count);
	EXPECT_EQ(-EAGAIN, send_pattern(SENDER, 900, 0, 0));
	/* Receiving alone gives nothing back. */
	ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
	EXPECT_EQ(-EAGAIN, send_pattern(SENDER, 900, 0, 0));
	EXPECT_TRUE(view.size == 900 && pattern_is(view.data, 900, 0));
	ASSERT_EQ(0, voxshm_release(RECEIVER, &view));
	EXPECT_EQ(0, send_pattern(SENDER, 900, count, 0));
	expect_all(_metadata, RECEIVER, 900, 1, count + 1);
}

TEST_F(backpressure, empty_pool_lets_small_messages_pass)
{
	uint64_t count = fill(SENDER, 900);

	EXPECT_EQ(0, send_pattern(SENDER, 30, count, 0));
	for (uint64_t i = 0; i < count; i++) {
		ASSERT_EQ(0, recv_pattern(RECEIVER, 900, i, 0));
	}
	ASSERT_EQ(0, recv_pattern(RECEIVER, 30, count, 0));
}

TEST_F(backpressure, mapping_limit_refuses_until_the_receiver_releases)
{
	uint64_t count = fill(SENDER, 100000);
	struct voxshm_view view;

	EXPECT_LE(1, count);
	ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
	EXPECT_EQ(-EAGAIN, send_pattern(SENDER, 100000, 0, 0));
	EXPECT_TRUE(view.size == 100000 && pattern_is(view.data, 100000, 0));
	ASSERT_EQ(0, voxshm_release(RECEIVER, &view));
	EXPECT_EQ(0, send_pattern(SENDER, 100000, count, 0));
	expect_all(_metadata, RECEIVER, 100000, 1, count + 1);
}

static void *recv_blocked(void *argument)
{
	struct blocked *blocked = argument;

	blocked->ret = recv_pattern(blocked->link, blocked->size, 7, blocked->timeout);
	return NULL;
}

TEST_F(backpressure, blocked_receive_is_woken_by_a_message_of_every_kind)
{
	static const size_t sizes[] = { 0, 30, 900, 100000 };

	for (size_t i = 0; i < 4 * ARRAY_SIZE(sizes); i++) {
		struct blocked blocked = { RECEIVER, sizes[i / 4], i % 2 ? PATIENCE : VOXSHM_FOREVER, 1 };
		pthread_t thread;

		voxshm_link_set_spin(RECEIVER, i % 4 < 2 ? 0 : 20000);
		thread = thread_start(recv_blocked, &blocked);
		EXPECT_EQ(1, wait_returned(&blocked, 5 * MS));
		ASSERT_EQ(0, send_pattern(SENDER, blocked.size, 7, 0));
		EXPECT_EQ(0, wait_returned(&blocked, PATIENCE));
		thread_join(thread);
	}
}

static void on_signal(int signal)
{
}

TEST_F(backpressure, signal_interrupts_a_wait)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct blocked blocked = { RECEIVER, 30, VOXSHM_FOREVER, 1 };
	int64_t until = now_ns() + PATIENCE;
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	thread = thread_start(recv_blocked, &blocked);
	while (blocked.ret == 1 && now_ns() < until) {
		pthread_kill(thread, SIGUSR1);
		sleep_ms(2);
	}
	EXPECT_EQ(-EINTR, wait_returned(&blocked, 0));
	thread_join(thread);

	fill(SENDER, 30);
	blocked = (struct blocked){ SENDER, 30, VOXSHM_FOREVER, 1 };
	thread = thread_start(send_blocked, &blocked);
	while (blocked.ret == 1 && now_ns() < until) {
		pthread_kill(thread, SIGUSR1);
		sleep_ms(2);
	}
	EXPECT_EQ(-EINTR, wait_returned(&blocked, 0));
	thread_join(thread);
}

TEST_F(backpressure, closing_the_receiver_ends_a_blocked_send)
{
	struct blocked blocked = { SENDER, 30, VOXSHM_FOREVER, 1 };
	pthread_t thread;

	fill(SENDER, 30);
	thread = thread_start(send_blocked, &blocked);
	EXPECT_EQ(1, wait_returned(&blocked, 10 * MS));
	CLOSE_RECEIVER();
	EXPECT_EQ(-EPIPE, wait_returned(&blocked, PATIENCE));
	thread_join(thread);
}

TEST_F(backpressure, closing_the_sender_ends_a_blocked_receive)
{
	struct blocked blocked = { RECEIVER, 30, VOXSHM_FOREVER, 1 };
	pthread_t thread;

	voxshm_link_set_spin(RECEIVER, 0);
	thread = thread_start(recv_blocked, &blocked);
	EXPECT_EQ(1, wait_returned(&blocked, 10 * MS));
	CLOSE_SENDER();
	EXPECT_EQ(-EPIPE, wait_returned(&blocked, PATIENCE));
	thread_join(thread);
}

/*
 * One thread does all of an end's work: it releases a little, less than it may
 * care to tell of at once, and then sleeps. The peer must see the room.
 */
struct sleeper {
	struct voxshm_link *link;
	uint64_t seed;
	bool in_poll;		/* else in the send itself */
	_Atomic bool released;
};

static void *release_and_sleep(void *argument)
{
	struct sleeper *sleeper = argument;
	struct pollfd pollfd = { .fd = voxshm_link_fd(sleeper->link), .events = POLLIN };

	for (uint64_t i = 0; i < 3; i++)
		REQUIRE_EQ(0, recv_pattern(sleeper->link, 30, i, 0));
	REQUIRE_EQ(-EAGAIN, voxshm_try_send(sleeper->link, thirty, 30));
	sleeper->released = true;
	if (sleeper->in_poll && voxshm_link_arm(sleeper->link, VOXSHM_WRITABLE) == 0)
		REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
	REQUIRE_EQ(0, send_pattern(sleeper->link, 30, sleeper->seed, PATIENCE));
	return NULL;
}

static void release_then_sleep(struct __test_metadata *_metadata, struct voxshm_link *here,
			       struct voxshm_link *there, bool in_poll)
{
	uint64_t count = fill(there, 30);
	struct sleeper sleeper = { .link = here, .seed = fill(here, 30), .in_poll = in_poll };
	pthread_t thread;

	thread = thread_start(release_and_sleep, &sleeper);
	while (!sleeper.released)
		sleep_ms(1);
	sleep_ms(10);
	EXPECT_EQ(0, send_pattern(there, 30, count, PATIENCE));
	for (uint64_t i = 0; i <= sleeper.seed; i++) {
		ASSERT_EQ(0, recv_pattern(there, 30, i, PATIENCE));
	}
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(there, &(struct voxshm_view){ 0 }));
	thread_join(thread);
	for (uint64_t i = 3; i <= count; i++) {
		ASSERT_EQ(0, recv_pattern(here, 30, i, PATIENCE));
	}
}

TEST_F(backpressure, room_released_before_sleeping_in_send_is_seen)
{
	for (int i = 0; i < 5; i++)
		release_then_sleep(_metadata, SENDER, RECEIVER, false);
}

TEST_F(backpressure, room_released_before_sleeping_in_poll_is_seen)
{
	for (int i = 0; i < 5; i++)
		release_then_sleep(_metadata, SENDER, RECEIVER, true);
}

LINK_TEST_MAIN(NULL)
