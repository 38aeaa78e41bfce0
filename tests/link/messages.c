// SPDX-License-Identifier: MIT
/* messages.c - what is sent arrives, whole and in order, whatever its size. */
#include "helpers.h"

static const struct voxshm_class classes[] = { { 1024, 16 }, { 16384, 8 }, { 262144, 4 } };

FIXTURE(messages)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(messages)

FIXTURE_SETUP(messages)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, .num_classes = ARRAY_SIZE(classes), .classes = classes,
			  .max_payload = 64 * MIB));
}

FIXTURE_TEARDOWN(messages)
{
	pair_close(_metadata, &self->pair);
}

#define EXPECT_ARRIVES(size, seed) do {							\
	ASSERT_EQ(0, send_pattern(SENDER, size, seed, PATIENCE))			\
		TH_LOG("size %zu", (size_t)(size));					\
	ASSERT_EQ(0, recv_pattern(RECEIVER, size, seed, PATIENCE))			\
		TH_LOG("size %zu", (size_t)(size));					\
} while (0)

TEST_F(messages, empty_message_is_a_message)
{
	struct voxshm_view view;

	ASSERT_EQ(0, voxshm_send(SENDER, NULL, 0, PATIENCE));
	ASSERT_EQ(0, voxshm_send(SENDER, "", 0, PATIENCE));
	ASSERT_EQ(0, voxshm_recv(RECEIVER, &view, PATIENCE));
	EXPECT_EQ(0, view.size);
	EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
	ASSERT_EQ(0, voxshm_recv(RECEIVER, &view, PATIENCE));
	EXPECT_EQ(0, view.size);
	EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &view));
}

TEST_F(messages, sizes_at_line_and_threshold_borders_arrive_intact)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 15, 16, 55, 56, 57, 63, 64, 65, 119, 120,
					121, 247, 248, 249, 255, 256, 257 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_ARRIVES(sizes[i], i);
	}
}

TEST_F(messages, every_small_size_arrives_intact)
{
	for (size_t size = 0; size <= 1100; size++) {
		EXPECT_ARRIVES(size, size);
	}
}

TEST_F(messages, sizes_around_each_slot_class_arrive_intact)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		for (size_t size = classes[i].slot_size - 10; size <= classes[i].slot_size + 10; size++) {
			EXPECT_ARRIVES(size, size);
		}
}

TEST_F(messages, payload_larger_than_any_slot_arrives_intact)
{
	static const size_t sizes[] = { 262145, MIB - 1, MIB, MIB + 1, 4 * MIB + 4095, 5000001 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_ARRIVES(sizes[i], i);
	}
}

TEST_F(messages, sixteen_mebibytes_arrive_intact)
{
	EXPECT_ARRIVES(16 * MIB, 16);
	EXPECT_ARRIVES(16 * MIB, 17);
	EXPECT_ARRIVES(3, 18);
}

TEST_F(messages, largest_payload_is_taken_and_one_more_byte_is_not)
{
	size_t limit = 3 * MIB + 13;
	char *data = calloc(1, limit + 1);
	struct voxshm_loan loan = { 0 };

	ASSERT_NE(NULL, data);
	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .max_payload = limit));
	EXPECT_EQ(limit, voxshm_link_max_payload(SENDER));
	EXPECT_EQ(limit, voxshm_link_max_payload(RECEIVER));
	EXPECT_ARRIVES(limit, 1);
	EXPECT_EQ(-EMSGSIZE, voxshm_send(SENDER, data, limit + 1, VOXSHM_FOREVER));
	EXPECT_EQ(-EMSGSIZE, voxshm_send(SENDER, data, limit + 1, SECOND));
	EXPECT_EQ(-EMSGSIZE, voxshm_try_send(SENDER, data, limit + 1));
	EXPECT_EQ(-EMSGSIZE, voxshm_send(SENDER, data, SIZE_MAX, 0));
	EXPECT_EQ(-EMSGSIZE, voxshm_send(SENDER, data, (size_t)UINT32_MAX + 1, 0));
	EXPECT_EQ(-EMSGSIZE, voxshm_loan(SENDER, limit + 1, &loan, VOXSHM_FOREVER));
	EXPECT_EQ(-EMSGSIZE, voxshm_loan(SENDER, SIZE_MAX, &loan, 0));
	EXPECT_EQ(0, drain(RECEIVER));
	EXPECT_ARRIVES(100, 2);
	EXPECT_ARRIVES(limit, 3);
	free(data);
}

TEST_F(messages, max_payload_below_the_inline_threshold_holds)
{
	char data[64] = { 0 };

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .max_payload = 20));
	EXPECT_ARRIVES(20, 1);
	EXPECT_EQ(-EMSGSIZE, voxshm_try_send(SENDER, data, 21));
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
}

TEST_F(messages, default_max_payload_is_a_gibibyte)
{
	pair_renew(_metadata, &self->pair, &CONFIG(variant));
	EXPECT_EQ(1024 * MIB, voxshm_link_max_payload(SENDER));
	EXPECT_EQ(1024 * MIB, voxshm_link_max_payload(RECEIVER));
	EXPECT_EQ(-EMSGSIZE, voxshm_try_send(SENDER, "", 1024 * MIB + 1));
}

TEST_F(messages, every_inline_threshold_carries_every_size)
{
	static const uint32_t thresholds[] = { 1, 8, 9, 64, 100, 4096, 65535 };

	for (size_t i = 0; i < ARRAY_SIZE(thresholds); i++) {
		pair_renew(_metadata, &self->pair,
			   &CONFIG(variant, SMALL_CLASSES, .inline_threshold = thresholds[i]));
		for (size_t size = 0; size < 300; size += 7) {
			EXPECT_ARRIVES(size, size);
		}
		for (size_t size = 3901; size < 4200; size += 13) {
			EXPECT_ARRIVES(size, size);
		}
		for (size_t size = 65520; size < 65545; size++) {
			EXPECT_ARRIVES(size, size);
		}
	}
}

TEST_F(messages, one_class_of_one_slot_is_enough)
{
	static const struct voxshm_class one[] = { { 4096, 1 } };

	pair_renew(_metadata, &self->pair, &CONFIG(variant, .num_classes = 1, .classes = one));
	for (size_t size = 0; size < 12000; size += 97) {
		EXPECT_ARRIVES(size, size);
	}
}

TEST_F(messages, eight_classes_work)
{
	static const struct voxshm_class eight[] = {
		{ 512, 4 }, { 1024, 4 }, { 2048, 4 }, { 4096, 4 },
		{ 8192, 4 }, { 16384, 4 }, { 32768, 4 }, { 65536, 4 },
	};

	pair_renew(_metadata, &self->pair, &CONFIG(variant, .num_classes = 8, .classes = eight));
	for (size_t size = 0; size < 70000; size = size * 9 / 8 + 1) {
		EXPECT_ARRIVES(size, size);
	}
}

TEST_F(messages, sender_may_reuse_its_buffer_at_once)
{
	static const size_t sizes[] = { 20, 900, 200000, 600000 };
	char *data = malloc(600000);

	ASSERT_NE(NULL, data);
	for (uint64_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		pattern_fill(data, sizes[i], i);
		ASSERT_EQ(0, voxshm_send(SENDER, data, sizes[i], PATIENCE));
		memset(data, 0xee, sizes[i]);
	}
	for (uint64_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(0, recv_pattern(RECEIVER, sizes[i], i, PATIENCE));
	}
	free(data);
}

TEST_F(messages, recv_copy_gives_bytes_of_every_kind)
{
	static const size_t sizes[] = { 0, 1, 248, 249, 1000, 5000, 262145, MIB };
	char *data = malloc(MIB);

	ASSERT_NE(NULL, data);
	for (uint64_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, sizes[i], i, PATIENCE));
		EXPECT_EQ((ssize_t)sizes[i], voxshm_recv_copy(RECEIVER, data, MIB, PATIENCE));
		EXPECT_TRUE(pattern_is(data, sizes[i], i));
		ASSERT_EQ(0, send_pattern(SENDER, sizes[i], i, PATIENCE));
		EXPECT_EQ((ssize_t)sizes[i], voxshm_recv_copy(RECEIVER, data, sizes[i], PATIENCE));
		EXPECT_TRUE(pattern_is(data, sizes[i], i));
	}
	free(data);
}

TEST_F(messages, recv_copy_too_small_keeps_the_message)
{
	static const size_t sizes[] = { 1, 100, 1000, 100000, 500000 };
	char *data = malloc(MIB);

	ASSERT_NE(NULL, data);
	for (uint64_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i];

		ASSERT_EQ(0, send_pattern(SENDER, size, i, PATIENCE));
		ASSERT_EQ(0, send_pattern(SENDER, 5, ~i, PATIENCE));
		memset(data, 0x5a, size);
		EXPECT_EQ(-EMSGSIZE, voxshm_recv_copy(RECEIVER, data, size - 1, PATIENCE));
		EXPECT_EQ(-EMSGSIZE, voxshm_recv_copy(RECEIVER, data, 0, VOXSHM_FOREVER));
		EXPECT_EQ(0x5a, data[size - 1]);
		if (i % 2) {
			EXPECT_EQ(0, recv_pattern(RECEIVER, size, i, PATIENCE));
		} else {
			EXPECT_EQ((ssize_t)size, voxshm_recv_copy(RECEIVER, data, MIB, PATIENCE));
		}
		EXPECT_EQ(0, recv_pattern(RECEIVER, 5, ~i, PATIENCE));
	}
	EXPECT_EQ(-EAGAIN, voxshm_recv_copy(RECEIVER, data, MIB, 0));
	free(data);
}

TEST_F(messages, recv_copy_gives_the_room_back)
{
	char data[1000];

	for (uint64_t i = 0; i < amount(20000); i++) {
		size_t size = mix(i) % sizeof(data);

		ASSERT_EQ(0, send_pattern(SENDER, size, i, 0));
		ASSERT_EQ((ssize_t)size, voxshm_recv_copy(RECEIVER, data, sizeof(data), 0));
		ASSERT_TRUE(pattern_is(data, size, i));
	}
}

TEST_F(messages, received_message_can_be_sent_on)
{
	struct voxshm_view view;

	for (uint64_t i = 0; i < 200; i++) {
		size_t size = mixed_size(i);

		ASSERT_EQ(0, send_pattern(SENDER, size, i, PATIENCE));
		ASSERT_EQ(0, voxshm_recv(RECEIVER, &view, PATIENCE));
		ASSERT_EQ(0, voxshm_send(RECEIVER, view.data, view.size, PATIENCE));
		ASSERT_EQ(0, voxshm_release(RECEIVER, &view));
		ASSERT_EQ(0, recv_pattern(SENDER, size, i, PATIENCE));
	}
}

/* One direction of a stream of mixed messages, a few steps at a time. */
struct stream {
	struct voxshm_link *from, *to;
	uint64_t salt, sent, received, total;
};

static bool stream_step(struct stream *stream, uint64_t *random)
{
	bool moved = false;
	int ret;

	for (unsigned int burst = random_next(random) % 20; burst; burst--) {
		uint64_t seed = stream->salt + stream->sent;

		if (stream->sent == stream->total)
			break;
		ret = send_pattern(stream->from, mixed_size(seed), seed, 0);
		if (ret == -EAGAIN)
			break;
		REQUIRE_EQ(0, ret);
		stream->sent++;
		moved = true;
	}
	for (unsigned int burst = random_next(random) % 20; burst; burst--) {
		uint64_t seed = stream->salt + stream->received;

		ret = recv_pattern(stream->to, mixed_size(seed), seed, 0);
		if (ret == -EAGAIN) {
			REQUIRE_EQ(stream->sent, stream->received);
			break;
		}
		REQUIRE_EQ(0, ret);
		stream->received++;
		moved = true;
	}
	return moved;
}

TEST_F_TIMEOUT(messages, order_is_kept_in_both_directions_at_once, 60)
{
	uint64_t total = amount(100000), random = 1, idle = 0;
	struct stream there = { SENDER, RECEIVER, 0, 0, 0, total };
	struct stream back = { RECEIVER, SENDER, 1ull << 40, 0, 0, total };

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 8192));
	there.from = back.to = SENDER;
	there.to = back.from = RECEIVER;
	while (there.received < total || back.received < total) {
		bool moved = stream_step(&there, &random);

		moved |= stream_step(&back, &random);
		idle = moved ? 0 : idle + 1;
		ASSERT_LT(idle, 1000);
	}
	EXPECT_EQ(0, drain(there.to));
	EXPECT_EQ(0, drain(back.to));
}

LINK_TEST_MAIN(NULL)
