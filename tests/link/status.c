// SPDX-License-Identifier: MIT
/* status.c - what a link tells about its other end and about itself. */
#include "processes.h"

FIXTURE(status)
{
	struct pair pair;
};
VARIANTS(status)

FIXTURE_SETUP(status)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .max_guests = 3));
}

FIXTURE_TEARDOWN(status)
{
	pair_close(_metadata, &self->pair);
}

static struct voxshm_status status_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	memset(&status, 0xa5, sizeof(status));
	voxshm_link_status(link, &status);
	REQUIRE(status.reason);
	return status;
}

TEST_F(status, waits_until_a_guest_claims)
{
	struct voxshm_link *host_end, *guest_end;
	struct voxshm_status status;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->pair.host, &ticket, &host_end, NULL));
	status = status_of(host_end);
	EXPECT_EQ(VOXSHM_LINK_WAITING, status.state);
	EXPECT_EQ(VOXSHM_EXIT_NONE, status.exit_kind);
	EXPECT_TRUE(status.peer_id == 2 || status.peer_id == 3);
	ASSERT_EQ(0, voxshm_guest_claim(&guest_end, ticket, NULL));
	EXPECT_EQ(VOXSHM_LINK_ATTACHED, status_of(host_end).state);
	voxshm_link_close(guest_end);
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(host_end).state);
	voxshm_link_close(host_end);
}

TEST_F(status, each_end_tells_of_the_other)
{
	struct voxshm_status guest = status_of(self->pair.host_end);
	struct voxshm_status host = status_of(self->pair.guest_end);

	EXPECT_EQ(VOXSHM_LINK_ATTACHED, guest.state);
	EXPECT_EQ(VOXSHM_LINK_ATTACHED, host.state);
	EXPECT_EQ(1, guest.peer_id);
	EXPECT_EQ(VOXSHM_PEER_HOST, host.peer_id);
	EXPECT_EQ(guest.epoch, host.epoch);
	EXPECT_EQ(getpid(), host.pid);
	EXPECT_EQ(getpid(), guest.pid);
	EXPECT_EQ(geteuid(), host.uid);
	EXPECT_EQ(getegid(), host.gid);
	EXPECT_EQ(geteuid(), guest.uid);
	EXPECT_EQ(getegid(), guest.gid);
	EXPECT_EQ(VOXSHM_EXIT_NONE, guest.exit_kind);
	EXPECT_EQ(VOXSHM_EXIT_NONE, host.exit_kind);
	EXPECT_STREQ("", guest.reason);
	EXPECT_STREQ("", host.reason);
}

TEST_F(status, guest_leaving_is_told_to_the_host)
{
	pair_close_end(&self->pair, false);
	EXPECT_EQ(-EPIPE, voxshm_recv(self->pair.host_end, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.host_end).state);
	EXPECT_EQ(-EPIPE, voxshm_send(self->pair.host_end, "x", 1, PATIENCE));
	EXPECT_EQ(-EPIPE, voxshm_try_send(self->pair.host_end, "x", 1));
	EXPECT_EQ(-EPIPE, voxshm_try_recv(self->pair.host_end, &(struct voxshm_view){ 0 }));
}

TEST_F(status, host_leaving_is_told_to_the_guest)
{
	pair_close_end(&self->pair, true);
	EXPECT_EQ(-EPIPE, voxshm_recv(self->pair.guest_end, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.guest_end).state);
	EXPECT_EQ(-EPIPE, voxshm_send(self->pair.guest_end, "x", 1, PATIENCE));
}

TEST_F(status, host_free_says_goodbye)
{
	ASSERT_EQ(0, send_pattern(self->pair.host_end, 1000, 1, PATIENCE));
	voxshm_host_free(self->pair.host);
	self->pair.host = NULL;
	self->pair.host_end = NULL;
	EXPECT_EQ(0, recv_pattern(self->pair.guest_end, 1000, 1, PATIENCE));
	EXPECT_EQ(-EPIPE, voxshm_recv(self->pair.guest_end, &(struct voxshm_view){ 0 }, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.guest_end).state);
	EXPECT_EQ(VOXSHM_EXIT_NONE, status_of(self->pair.guest_end).exit_kind);
}

TEST_F(status, leaving_is_noticed_without_sending_or_receiving)
{
	int64_t until = now_ns() + PATIENCE;

	pair_close_end(&self->pair, false);
	while (status_of(self->pair.host_end).state == VOXSHM_LINK_ATTACHED && now_ns() < until)
		sleep_ms(1);
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.host_end).state);
}

/* Rings that neither has taken, and memory that was offered, must not hide it. */
TEST_F(status, leaving_is_noticed_behind_all_that_came_before)
{
	static const size_t sizes[] = { 10, 300000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES,
							   .max_mappings = 64));
		ASSERT_EQ(0, voxshm_link_arm(self->pair.host_end, VOXSHM_READABLE));
		ASSERT_EQ(0, voxshm_link_arm(self->pair.guest_end, VOXSHM_READABLE));
		ASSERT_EQ(0, send_pattern(self->pair.host_end, 10, 1, 0));
		for (uint64_t j = 0; j < 20; j++)
			ASSERT_EQ(0, send_pattern(self->pair.guest_end, sizes[i], j, 0));
		pair_close_end(&self->pair, false);
		EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.host_end).state);
		for (uint64_t j = 0; j < 20; j++)
			ASSERT_EQ(0, recv_pattern(self->pair.host_end, sizes[i], j, 0));
	}
}

/* The host has looked at none of it, and its ring has room for more. */
TEST_F(status, leaving_is_noticed_behind_as_much_memory_as_there_may_be)
{
	const uint32_t most = 256;	/* that may be had with native links on files */
	static const struct voxshm_class small = { 1024, 8 };
	const size_t size = 20000;
	uint32_t count = 0;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, .num_classes = 1, .classes = &small,
						   .max_mappings = most, .max_payload = size));
	while (count < most && send_pattern(self->pair.guest_end, size, count, 0) == 0)
		count++;
	if (variant->choice.format == VOXSHM_FORMAT_NATIVE)
		EXPECT_EQ(most, count);
	pair_close_end(&self->pair, false);
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.host_end).state);
	for (uint32_t i = 0; i < count; i++)
		ASSERT_EQ(0, recv_pattern(self->pair.host_end, size, i, 0));
}

TEST_F(status, try_recv_alone_notices_the_end)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_view view;
	int ret = -EAGAIN;

	pair_close_end(&self->pair, false);
	while (ret == -EAGAIN && now_ns() < until)
		ret = voxshm_try_recv(self->pair.host_end, &view);
	EXPECT_EQ(-EPIPE, ret);
}

TEST_F(status, free_place_is_taken_again_with_a_higher_epoch)
{
	uint32_t epoch;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, .max_guests = 1));
	epoch = status_of(self->pair.host_end).epoch;
	for (int i = 0; i < 20; i++) {
		pair_close_end(&self->pair, false);
		pair_close_end(&self->pair, true);
		link_make(_metadata, self->pair.host, &self->pair.host_end, &self->pair.guest_end);
		EXPECT_EQ(1, status_of(self->pair.host_end).peer_id);
		EXPECT_LT(epoch, status_of(self->pair.host_end).epoch);
		epoch = status_of(self->pair.host_end).epoch;
	}
}

TEST_F(status, place_of_a_guest_that_left_is_free_before_the_link_is_closed)
{
	struct voxshm_link *host_end, *guest_end;
	struct inbox inbox = { 0 };

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .max_guests = 1));
	inbox.host = self->pair.host;
	for (uint64_t i = 0; i < 5; i++) {
		ASSERT_EQ(0, send_pattern(self->pair.guest_end, 100 << (2 * i), i, PATIENCE));
	}
	pair_close_end(&self->pair, false);
	ASSERT_NE(NULL, inbox_await(&inbox, VOXSHM_EVENT_READABLE, self->pair.host_end));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->pair.host_end).state);
	link_make(_metadata, self->pair.host, &host_end, &guest_end);
	EXPECT_EQ(1, status_of(host_end).peer_id);
	EXPECT_LT(status_of(self->pair.host_end).epoch, status_of(host_end).epoch);
	for (uint64_t i = 0; i < 5; i++) {
		ASSERT_EQ(0, send_pattern(guest_end, 100 << (2 * i), 50 + i, PATIENCE));
	}
	/* Both links deliver their own. */
	for (uint64_t i = 0; i < 5; i++) {
		EXPECT_EQ(0, recv_pattern(self->pair.host_end, 100 << (2 * i), i, PATIENCE));
		EXPECT_EQ(0, recv_pattern(host_end, 100 << (2 * i), 50 + i, PATIENCE));
	}
	EXPECT_EQ(-EPIPE, voxshm_try_recv(self->pair.host_end, &(struct voxshm_view){ 0 }));
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(host_end, &(struct voxshm_view){ 0 }));
	voxshm_link_close(guest_end);
	voxshm_link_close(host_end);
}

TEST_F(status, link_keeps_a_pointer)
{
	int mine, yours;

	EXPECT_EQ(NULL, voxshm_link_data(self->pair.host_end));
	EXPECT_EQ(NULL, voxshm_link_data(self->pair.guest_end));
	voxshm_link_set_data(self->pair.host_end, &mine);
	voxshm_link_set_data(self->pair.guest_end, &yours);
	EXPECT_EQ(&mine, voxshm_link_data(self->pair.host_end));
	EXPECT_EQ(&yours, voxshm_link_data(self->pair.guest_end));
	voxshm_link_set_data(self->pair.host_end, NULL);
	EXPECT_EQ(NULL, voxshm_link_data(self->pair.host_end));
}

static struct voxshm_counters counters_of(const struct voxshm_link *link)
{
	struct voxshm_counters counters;

	memset(&counters, 0xa5, sizeof(counters));
	voxshm_link_counters(link, &counters);
	return counters;
}

TEST_F(status, counters_begin_at_zero)
{
	struct voxshm_counters counters = counters_of(self->pair.host_end);

	EXPECT_EQ(0, counters.messages_sent);
	EXPECT_EQ(0, counters.bytes_sent);
	EXPECT_EQ(0, counters.messages_received);
	EXPECT_EQ(0, counters.bytes_received);
	EXPECT_EQ(0, counters.sleeps);
	EXPECT_EQ(0, counters.mappings_made);
}

TEST_F(status, counters_count_messages_and_bytes_of_every_way)
{
	static const size_t sizes[] = { 0, 10, 900, 10000, 200000 };
	struct iovec batch[] = { { "abc", 3 }, { "de", 2 } };
	struct voxshm_link *from = self->pair.guest_end, *to = self->pair.host_end;
	struct voxshm_view views[2];
	struct voxshm_loan loan;
	uint64_t bytes = 0;
	char copy[4];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, send_pattern(from, sizes[i], i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(to, sizes[i], i, PATIENCE));
		bytes += sizes[i];
	}
	ASSERT_EQ(0, voxshm_loan(from, 500, &loan, PATIENCE));
	ASSERT_EQ(0, voxshm_commit(from, &loan, 4, PATIENCE));
	ASSERT_EQ(4, voxshm_recv_copy(to, copy, sizeof(copy), PATIENCE));
	ASSERT_EQ(2, voxshm_send_batch(from, batch, 2, PATIENCE));
	ASSERT_EQ(2, voxshm_recv_batch(to, views, 2, PATIENCE));
	ASSERT_EQ(0, voxshm_loan(from, 500, &loan, PATIENCE));
	voxshm_abort(from, &loan);
	EXPECT_EQ(0, voxshm_release(to, &views[0]));
	EXPECT_EQ(0, voxshm_release(to, &views[1]));
	EXPECT_EQ(ARRAY_SIZE(sizes) + 3, counters_of(from).messages_sent);
	EXPECT_EQ(bytes + 9, counters_of(from).bytes_sent);
	EXPECT_EQ(ARRAY_SIZE(sizes) + 3, counters_of(to).messages_received);
	EXPECT_EQ(bytes + 9, counters_of(to).bytes_received);
	EXPECT_EQ(0, counters_of(to).messages_sent);
	EXPECT_EQ(0, counters_of(from).messages_received);
}

TEST_F(status, refused_calls_are_not_counted)
{
	char byte;

	ASSERT_EQ(0, send_pattern(self->pair.host_end, 100, 1, PATIENCE));
	EXPECT_EQ(-EMSGSIZE, voxshm_recv_copy(self->pair.guest_end, &byte, 1, 0));
	EXPECT_EQ(0, counters_of(self->pair.guest_end).messages_received);
	EXPECT_EQ(-EMSGSIZE, voxshm_try_send(self->pair.host_end, "", SIZE_MAX));
	EXPECT_EQ(1, counters_of(self->pair.host_end).messages_sent);
	EXPECT_EQ(100, counters_of(self->pair.host_end).bytes_sent);
}

TEST_F(status, sleeps_are_counted)
{
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(self->pair.host_end, &(struct voxshm_view){ 0 }, 5 * MS));
	EXPECT_LE(1, counters_of(self->pair.host_end).sleeps);
}

LINK_TEST_MAIN(NULL)
