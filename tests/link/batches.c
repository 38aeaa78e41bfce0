// SPDX-License-Identifier: MIT
/* batches.c - several messages in one call: in order, as many as fit, for one doorbell. */
#include "helpers.h"

FIXTURE(batches)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(batches)

FIXTURE_SETUP(batches)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .max_payload = MIB));
}

FIXTURE_TEARDOWN(batches)
{
	pair_close(_metadata, &self->pair);
}

#define MOST 64

/* Messages seed, seed + 1, ... of the given sizes, in memory of their own. */
struct batch {
	struct iovec messages[MOST];
	unsigned int count;
};

static void batch_fill(struct batch *batch, const size_t *sizes, unsigned int count, uint64_t seed)
{
	batch->count = count;
	for (unsigned int i = 0; i < count; i++) {
		batch->messages[i] = (struct iovec){ malloc(sizes[i] + 1), sizes[i] };
		REQUIRE(batch->messages[i].iov_base);
		pattern_fill(batch->messages[i].iov_base, sizes[i], seed + i);
	}
}

static void batch_free(struct batch *batch)
{
	for (unsigned int i = 0; i < batch->count; i++)
		free(batch->messages[i].iov_base);
	batch->count = 0;
}

static const size_t mixed[] = { 0, 10, 900, 50, 10000, 300000, 1, 0, 60000, 400000, 255, 256 };

TEST_F(batches, of_no_messages_do_nothing)
{
	struct voxshm_view view;
	struct iovec message = { "x", 1 };

	EXPECT_EQ(0, voxshm_send_batch(SENDER, &message, 0, VOXSHM_FOREVER));
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &view));
	EXPECT_EQ(0, voxshm_recv_batch(RECEIVER, &view, 0, 0));
	EXPECT_EQ(0, send_pattern(SENDER, 10, 1, 0));
	EXPECT_EQ(0, voxshm_recv_batch(RECEIVER, &view, 0, VOXSHM_FOREVER));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 10, 1, 0));
}

TEST_F(batches, of_mixed_kinds_arrive_in_order)
{
	struct batch batch;

	for (uint64_t round = 0; round < 20; round++) {
		batch_fill(&batch, mixed, ARRAY_SIZE(mixed), round);
		ASSERT_EQ(ARRAY_SIZE(mixed),
			  voxshm_send_batch(SENDER, batch.messages, batch.count, PATIENCE));
		for (size_t i = 0; i < ARRAY_SIZE(mixed); i++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, mixed[i], round + i, PATIENCE));
		}
		batch_free(&batch);
	}
}

TEST_F(batches, are_received_as_batches)
{
	struct voxshm_view views[MOST];
	struct batch batch;

	batch_fill(&batch, mixed, ARRAY_SIZE(mixed), 0);
	ASSERT_EQ(ARRAY_SIZE(mixed),
		  voxshm_send_batch(SENDER, batch.messages, batch.count, PATIENCE));
	ASSERT_EQ(5, voxshm_recv_batch(RECEIVER, views, 5, PATIENCE));
	ASSERT_EQ(ARRAY_SIZE(mixed) - 5, voxshm_recv_batch(RECEIVER, views + 5, MOST - 5, PATIENCE));
	EXPECT_EQ(-EAGAIN, voxshm_recv_batch(RECEIVER, views + 12, 1, 0));
	for (size_t i = ARRAY_SIZE(mixed); i-- > 0;) {
		EXPECT_EQ(mixed[i], views[i].size);
		EXPECT_TRUE(pattern_is(views[i].data, mixed[i], i));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &views[i]));
	}
	batch_free(&batch);
}

TEST_F(batches, receive_does_not_wait_for_more_than_one)
{
	struct voxshm_view views[MOST];

	ASSERT_EQ(0, send_pattern(SENDER, 10, 1, 0));
	EXPECT_EQ(1, voxshm_recv_batch(RECEIVER, views, MOST, VOXSHM_FOREVER));
	EXPECT_TRUE(views[0].size == 10 && pattern_is(views[0].data, 10, 1));
	EXPECT_EQ(0, voxshm_release(RECEIVER, &views[0]));
}

TEST_F(batches, send_as_many_as_there_is_room_for)
{
	size_t sizes[MOST];
	struct batch batch;
	uint64_t sent = 0;
	int ret;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 1024));
	for (int i = 0; i < MOST; i++)
		sizes[i] = 40;
	batch_fill(&batch, sizes, MOST, 0);
	ret = voxshm_send_batch(SENDER, batch.messages, MOST, VOXSHM_FOREVER);
	ASSERT_LT(0, ret);
	ASSERT_GT(MOST, ret);
	EXPECT_EQ(-EAGAIN, voxshm_send_batch(SENDER, batch.messages + ret, 1, 0));
	EXPECT_EQ(-ETIMEDOUT, voxshm_send_batch(SENDER, batch.messages + ret, 1, MS));
	while (sent < MOST) {
		sent += ret;
		for (uint64_t i = sent - ret; i < sent; i++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, 40, i, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		if (sent == MOST)
			break;
		ret = voxshm_send_batch(SENDER, batch.messages + sent, MOST - sent, 0);
		ASSERT_LT(0, ret);
	}
	batch_free(&batch);
}

TEST_F(batches, stop_before_a_message_that_is_too_large)
{
	size_t sizes[] = { 10, 20, MIB + 1, 30 };
	struct batch batch;

	batch_fill(&batch, sizes, ARRAY_SIZE(sizes), 0);
	EXPECT_EQ(2, voxshm_send_batch(SENDER, batch.messages, batch.count, PATIENCE));
	EXPECT_EQ(-EMSGSIZE, voxshm_send_batch(SENDER, batch.messages + 2, 2, PATIENCE));
	EXPECT_EQ(1, voxshm_send_batch(SENDER, batch.messages + 3, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 10, 0, 0));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 20, 1, 0));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 30, 3, 0));
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
	batch_free(&batch);
}

TEST_F(batches, ring_at_most_one_doorbell)
{
	struct voxshm_counters before, after;
	struct batch batch;

	batch_fill(&batch, mixed, ARRAY_SIZE(mixed), 0);
	for (int round = 0; round < 10; round++) {
		drain(RECEIVER);
		ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
		voxshm_link_counters(SENDER, &before);
		ASSERT_EQ(ARRAY_SIZE(mixed),
			  voxshm_send_batch(SENDER, batch.messages, batch.count, PATIENCE));
		voxshm_link_counters(SENDER, &after);
		EXPECT_EQ(before.doorbells_rung + 1, after.doorbells_rung);
		EXPECT_EQ(VOXSHM_READABLE, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
	}
	batch_free(&batch);
}

TEST_F(batches, partly_sent_wake_the_receiver)
{
	size_t sizes[] = { 10, MIB + 1 };
	struct pollfd pollfd = { .fd = voxshm_link_fd(RECEIVER), .events = POLLIN };
	struct batch batch;

	ASSERT_LE(0, pollfd.fd);
	batch_fill(&batch, sizes, 2, 0);
	for (int round = 0; round < 5; round++) {
		ASSERT_EQ(0, voxshm_link_arm(RECEIVER, VOXSHM_READABLE));
		EXPECT_EQ(0, poll(&pollfd, 1, 0));
		EXPECT_EQ(1, voxshm_send_batch(SENDER, batch.messages, 2, PATIENCE));
		EXPECT_EQ(1, poll(&pollfd, 1, PATIENCE / MS));
		EXPECT_EQ(0, recv_pattern(RECEIVER, 10, 0, 0));
	}
	batch_free(&batch);
}

TEST_F(batches, random_sizes_keep_order_through_a_small_ring)
{
	uint64_t total = amount(20000), sent = 0, received = 0, random = 9;
	struct voxshm_view views[MOST];
	size_t sizes[MOST];
	struct batch batch;
	int ret;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 2048));
	while (received < total) {
		unsigned int count = random_next(&random) % MOST;

		for (unsigned int i = 0; i < count; i++)
			sizes[i] = mixed_size(sent + i) % 20000;
		batch_fill(&batch, sizes, count, sent);
		ret = voxshm_send_batch(SENDER, batch.messages, count, 0);
		ASSERT_TRUE(ret >= 0 || ret == -EAGAIN);
		if (ret > 0)
			sent += ret;
		batch_free(&batch);
		ret = voxshm_recv_batch(RECEIVER, views, 1 + random_next(&random) % (MOST - 1), 0);
		ASSERT_TRUE(ret > 0 || (ret == -EAGAIN && sent == received));
		for (int i = 0; i < ret; i++) {
			ASSERT_EQ(mixed_size(received) % 20000, views[i].size);
			ASSERT_TRUE(pattern_is(views[i].data, views[i].size, received));
			ASSERT_EQ(0, voxshm_release(RECEIVER, &views[i]));
			received++;
		}
	}
}

TEST_F(batches, receive_delivers_all_before_the_end)
{
	struct voxshm_view views[MOST];

	for (uint64_t i = 0; i < 6; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, 10, i, 0));
	}
	CLOSE_SENDER();
	ASSERT_EQ(4, voxshm_recv_batch(RECEIVER, views, 4, PATIENCE));
	ASSERT_EQ(2, voxshm_recv_batch(RECEIVER, views + 4, MOST - 4, PATIENCE));
	EXPECT_EQ(-EPIPE, voxshm_recv_batch(RECEIVER, views + 6, 1, PATIENCE));
	for (int i = 0; i < 6; i++) {
		EXPECT_TRUE(pattern_is(views[i].data, 10, i));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &views[i]));
	}
}

LINK_TEST_MAIN(NULL)
