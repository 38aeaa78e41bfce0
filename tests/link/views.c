// SPDX-License-Identifier: MIT
/* views.c - a borrowed view stays as it is until its release, which may come late and in any order. */
#include "helpers.h"

static const struct voxshm_class classes[] = { { 1024, 64 }, { 16384, 16 } };
#define CLASSES .num_classes = ARRAY_SIZE(classes), .classes = classes

FIXTURE(views)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(views)

FIXTURE_SETUP(views)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, CLASSES));
}

FIXTURE_TEARDOWN(views)
{
	pair_close(_metadata, &self->pair);
}

static uint32_t smallest_ring(enum voxshm_format format)
{
	return format == VOXSHM_FORMAT_NATIVE ? 192 : 72;
}

static uint32_t ring_step(enum voxshm_format format)
{
	return format == VOXSHM_FORMAT_NATIVE ? 64 : 8;
}

/* Sends, receives and releases in random turns, the views in random order. */
struct shuffle {
	struct voxshm_link *from, *to;
	uint64_t sent, received, released, random;
	unsigned int held, most_held;
	struct {
		struct voxshm_view view;
		uint64_t seed;
	} views[40];
};

/* Sizes that fit inline, in slots and in mappings. */
static size_t shuffle_size(uint64_t seed)
{
	uint64_t random = mix(seed ^ 0xabcdef);
	uint32_t kind = random % 100;

	random >>= 32;
	return kind < 80 ? random % 70 : kind < 90 ? random % 900 : kind < 98 ? random % 15000
		: random % 50000;
}

static int shuffle_send(struct shuffle *shuffle)
{
	int ret = send_pattern(shuffle->from, shuffle_size(shuffle->sent), shuffle->sent, 0);

	if (ret == 0)
		shuffle->sent++;
	return ret;
}

static int shuffle_recv(struct shuffle *shuffle)
{
	struct voxshm_view *view = &shuffle->views[shuffle->held].view;
	int ret;

	if (shuffle->held == ARRAY_SIZE(shuffle->views))
		return -ENOBUFS;
	ret = voxshm_try_recv(shuffle->to, view);
	if (ret)
		return ret;
	REQUIRE_EQ(shuffle_size(shuffle->received), view->size);
	shuffle->views[shuffle->held++].seed = shuffle->received++;
	if (shuffle->held > shuffle->most_held)
		shuffle->most_held = shuffle->held;
	return 0;
}

static void shuffle_release(struct shuffle *shuffle)
{
	unsigned int i = random_next(&shuffle->random) % shuffle->held;
	struct voxshm_view *view = &shuffle->views[i].view;

	REQUIRE(pattern_is(view->data, view->size, shuffle->views[i].seed));
	REQUIRE_EQ(0, voxshm_release(shuffle->to, view));
	shuffle->views[i] = shuffle->views[--shuffle->held];
	shuffle->released++;
}

static void shuffle_run(struct shuffle *shuffle, uint64_t total)
{
	while (shuffle->released < total) {
		uint32_t turn = random_next(&shuffle->random) % 100;
		int ret = 0;

		if (turn < 40 && shuffle->sent < total)
			ret = shuffle_send(shuffle);
		else if (turn < 75)
			ret = shuffle_recv(shuffle);
		else if (shuffle->held)
			shuffle_release(shuffle);
		REQUIRE(ret == 0 || ret == -EAGAIN || ret == -ENOBUFS);
		/* With nothing on the way and nothing held, any message finds room. */
		if (shuffle->released == shuffle->sent && shuffle->sent < total &&
		    shuffle_recv(shuffle) == -EAGAIN)
			REQUIRE_EQ(0, shuffle_send(shuffle));
	}
}

TEST_F_TIMEOUT(views, random_release_order_in_rings_of_many_sizes, 60)
{
	uint32_t step = ring_step(variant->choice.format);
	uint32_t capacities[] = { 0, 1, 2, 3, 7, 50, 511 };

	for (size_t i = 0; i < ARRAY_SIZE(capacities); i++) {
		uint32_t capacity = smallest_ring(variant->choice.format) + capacities[i] * step;
		struct shuffle shuffle = { .random = capacity };

		pair_renew(_metadata, &self->pair,
			   &CONFIG(variant, CLASSES, .ring_capacity = capacity));
		shuffle.from = SENDER;
		shuffle.to = RECEIVER;
		shuffle_run(&shuffle, amount(8000));
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &shuffle.views[0].view));
		EXPECT_LT(1, shuffle.most_held);
	}
}

TEST_F(views, every_permutation_of_five_releases)
{
	struct voxshm_view views[5];

	for (unsigned int permutation = 0; permutation < 120; permutation++) {
		unsigned int left[] = { 0, 1, 2, 3, 4 }, code = permutation;

		for (uint64_t i = 0; i < 5; i++) {
			ASSERT_EQ(0, send_pattern(SENDER, 100 * i, i + permutation, PATIENCE));
		}
		for (uint64_t i = 0; i < 5; i++) {
			ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &views[i]));
		}
		for (unsigned int n = 5; n; n--) {
			unsigned int pick = code % n, i = left[pick];

			code /= n;
			ASSERT_EQ(100 * i, views[i].size);
			ASSERT_TRUE(pattern_is(views[i].data, views[i].size, i + permutation));
			ASSERT_EQ(0, voxshm_release(RECEIVER, &views[i]));
			left[pick] = left[n - 1];
		}
	}
}

/* A size each: inside the ring, in a slot, in a mapping of its own. */
static const size_t kinds[] = { 0, 40, 200, 700, 9000, 40000 };

TEST_F(views, release_clears_the_view)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_view view;

		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
		EXPECT_EQ(NULL, view.data);
	}
}

TEST_F(views, second_release_is_refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_view view;

		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
		EXPECT_EQ(-EINVAL, voxshm_release(RECEIVER, &view));
	}
	EXPECT_EQ(0, send_pattern(SENDER, 40, 1, 0));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 40, 1, 0));
}

TEST_F(views, release_of_a_stale_copy_is_refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_view view, copy;

		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
		copy = view;
		EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
		EXPECT_EQ(-EINVAL, voxshm_release(RECEIVER, &copy))
			TH_LOG("size %zu", kinds[i]);
	}
	/* And has spoiled nothing. */
	for (uint64_t i = 0; i < 2000; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, shuffle_size(i), i, 0));
		ASSERT_EQ(0, recv_pattern(RECEIVER, shuffle_size(i), i, 0));
	}
}

TEST_F(views, release_of_a_stale_copy_does_not_release_another_view)
{
	struct voxshm_view first, second, copy;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], 1, PATIENCE));
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], 2, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &first));
		copy = first;
		ASSERT_EQ(0, voxshm_release(RECEIVER, &first));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &second));
		EXPECT_EQ(-EINVAL, voxshm_release(RECEIVER, &copy))
			TH_LOG("size %zu", kinds[i]);
		EXPECT_EQ(0, voxshm_release(RECEIVER, &second));
	}
}

TEST_F(views, release_of_no_view_is_refused)
{
	struct voxshm_view none = { 0 }, view, copy;

	EXPECT_EQ(-EINVAL, voxshm_release(RECEIVER, &none));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
		/* The other end never lent it. */
		copy = view;
		EXPECT_EQ(-EINVAL, voxshm_release(SENDER, &copy));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &view));
	}
	EXPECT_EQ(0, send_pattern(SENDER, 40, 1, 0));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 40, 1, 0));
}

TEST_F(views, held_view_is_not_touched_by_later_traffic)
{
	struct voxshm_view held[ARRAY_SIZE(kinds)];
	uint64_t passed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &held[i]));
	}
	while (passed < 20000 && send_pattern(SENDER, shuffle_size(passed), passed, 0) == 0) {
		ASSERT_EQ(0, recv_pattern(RECEIVER, shuffle_size(passed), passed, 0));
		passed++;
	}
	EXPECT_LT(100, passed);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		EXPECT_EQ(kinds[i], held[i].size);
		EXPECT_TRUE(pattern_is(held[i].data, kinds[i], i));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &held[i]));
	}
	for (uint64_t i = 0; i < 20000; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, shuffle_size(i), i, 0));
		ASSERT_EQ(0, recv_pattern(RECEIVER, shuffle_size(i), i, 0));
	}
}

TEST_F(views, room_comes_back_once_the_oldest_view_is_released)
{
	struct voxshm_view oldest;
	uint64_t count = 0;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, CLASSES, .ring_capacity = 4096));
	for (int round = 0; round < 30; round++) {
		ASSERT_EQ(0, send_pattern(SENDER, 40, 1, 0));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &oldest));
		for (count = 0; count < 1000000 && send_pattern(SENDER, 40, 2, 0) == 0; count++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, 40, 2, 0));
		}
		/* A view inside the ring cannot be gone round. */
		EXPECT_GT(1000, count);
		EXPECT_TRUE(pattern_is(oldest.data, 40, 1));
		ASSERT_EQ(0, voxshm_release(RECEIVER, &oldest));
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &oldest));
	}
	EXPECT_EQ(0, send_pattern(SENDER, 40, 2, 0));
}

TEST_F(views, stay_valid_when_the_sender_leaves)
{
	struct voxshm_view held[ARRAY_SIZE(kinds)];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds) / 2; i++) {
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &held[i]));
	}
	CLOSE_SENDER();
	for (size_t i = ARRAY_SIZE(kinds) / 2; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, voxshm_recv(RECEIVER, &held[i], PATIENCE));
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(RECEIVER, &(struct voxshm_view){ 0 }, PATIENCE));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		EXPECT_TRUE(held[i].size == kinds[i] && pattern_is(held[i].data, kinds[i], i));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &held[i]));
	}
	EXPECT_EQ(-EPIPE, voxshm_recv(RECEIVER, &held[0], PATIENCE));
}

TEST_F(views, close_with_views_borrowed_gives_all_back)
{
	struct voxshm_view view;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, send_pattern(SENDER, kinds[i], i, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
	}
	CLOSE_RECEIVER();
	CLOSE_SENDER();
	/* The fixture counts descriptors and memory. */
}

LINK_TEST_MAIN(NULL)
