// SPDX-License-Identifier: MIT
/* loans.c - memory lent to the sender is sent or given back, in any order, and never lost. */
#include "helpers.h"

static const struct voxshm_class classes[] = { { 1024, 8 }, { 16384, 4 } };

FIXTURE(loans)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(loans)

FIXTURE_SETUP(loans)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, .num_classes = ARRAY_SIZE(classes), .classes = classes,
			  .max_mappings = 4));
}

FIXTURE_TEARDOWN(loans)
{
	pair_close(_metadata, &self->pair);
}

/* Inside the ring if it were sent, in a slot of each class, in a mapping. */
static const size_t kinds[] = { 0, 1, 100, 800, 15000, 30000 };

/* Borrows until there is nothing left. Return: how many. */
static unsigned int loan_all(struct voxshm_link *link, size_t size, struct voxshm_loan *loans,
			     unsigned int count)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < count; i++) {
		ret = voxshm_loan(link, size, &loans[i], 0);
		if (ret)
			break;
		REQUIRE(loans[i].data && loans[i].size >= size);
	}
	REQUIRE_EQ(-EAGAIN, ret);
	return i;
}

TEST_F(loans, committed_loan_arrives)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loan;

		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		ASSERT_NE(NULL, loan.data);
		EXPECT_LE(kinds[i], loan.size);
		pattern_fill(loan.data, kinds[i], i);
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		ASSERT_EQ(0, voxshm_commit(SENDER, &loan, kinds[i], PATIENCE));
		EXPECT_EQ(NULL, loan.data);
		EXPECT_EQ(0, recv_pattern(RECEIVER, kinds[i], i, PATIENCE));
	}
}

TEST_F(loans, whole_loan_may_be_written_and_sent)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loan;
		size_t size;

		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		size = loan.size;
		EXPECT_GE(voxshm_link_max_payload(SENDER), size);
		pattern_fill(loan.data, size, i);
		ASSERT_EQ(0, voxshm_commit(SENDER, &loan, size, PATIENCE));
		EXPECT_EQ(0, recv_pattern(RECEIVER, size, i, PATIENCE));
	}
}

TEST_F(loans, may_be_committed_with_less)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t parts[] = { 0, kinds[i] / 3, kinds[i] - (kinds[i] > 0) };

		for (size_t j = 0; j < ARRAY_SIZE(parts); j++) {
			struct voxshm_loan loan;

			ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
			pattern_fill(loan.data, parts[j], j);
			ASSERT_EQ(0, voxshm_commit(SENDER, &loan, parts[j], PATIENCE));
			EXPECT_EQ(0, recv_pattern(RECEIVER, parts[j], j, PATIENCE));
		}
	}
}

TEST_F(loans, commit_of_more_than_was_lent_is_refused_and_leaves_it_open)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loan;

		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		pattern_fill(loan.data, kinds[i], i);
		EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &loan, loan.size + 1, PATIENCE));
		EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &loan, SIZE_MAX, PATIENCE));
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		ASSERT_NE(NULL, loan.data);
		EXPECT_EQ(0, voxshm_commit(SENDER, &loan, kinds[i], PATIENCE));
		EXPECT_EQ(0, recv_pattern(RECEIVER, kinds[i], i, PATIENCE));
	}
}

TEST_F(loans, commit_after_abort_is_refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loan;

		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		voxshm_abort(SENDER, &loan);
		EXPECT_EQ(NULL, loan.data);
		EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &loan, 0, 0));
	}
}

TEST_F(loans, second_commit_is_refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loan, copy;

		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		copy = loan;
		pattern_fill(loan.data, kinds[i], i);
		ASSERT_EQ(0, voxshm_commit(SENDER, &loan, kinds[i], PATIENCE));
		EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &loan, 0, PATIENCE));
		EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &copy, 0, PATIENCE))
			TH_LOG("size %zu", kinds[i]);
		/* Nor may it be given back: the receiver reads it. */
		voxshm_abort(SENDER, &copy);
		EXPECT_EQ(0, recv_pattern(RECEIVER, kinds[i], i, PATIENCE));
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
	}
}

TEST_F(loans, commit_of_no_loan_is_refused)
{
	struct voxshm_loan none = { 0 };

	EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &none, 0, 0));
	EXPECT_EQ(-EINVAL, voxshm_commit(SENDER, &none, 1, 0));
}

TEST_F(loans, abort_of_no_loan_is_ignored)
{
	struct voxshm_loan loan = { 0 }, copy;

	voxshm_abort(SENDER, &loan);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, PATIENCE));
		copy = loan;
		voxshm_abort(SENDER, &loan);
		EXPECT_EQ(NULL, loan.data);
		voxshm_abort(SENDER, &loan);
		voxshm_abort(SENDER, &copy);
	}
	for (uint64_t i = 0; i < 100; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, 800, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(RECEIVER, 800, i, PATIENCE));
	}
}

TEST_F(loans, twice_aborted_memory_is_not_lent_twice)
{
	struct voxshm_loan loans[64], copy;
	unsigned int count, i, j;

	ASSERT_EQ(0, voxshm_loan(SENDER, 800, &loans[0], PATIENCE));
	copy = loans[0];
	voxshm_abort(SENDER, &loans[0]);
	voxshm_abort(SENDER, &copy);
	count = loan_all(SENDER, 800, loans, ARRAY_SIZE(loans));
	for (i = 0; i < count; i++)
		for (j = 0; j < i; j++) {
			EXPECT_NE(loans[i].data, loans[j].data);
		}
	for (i = 0; i < count; i++)
		voxshm_abort(SENDER, &loans[i]);
}

TEST_F(loans, many_open_at_once_never_overlap)
{
	struct voxshm_loan loans[64];
	unsigned int count = loan_all(SENDER, 800, loans, ARRAY_SIZE(loans)), i;

	EXPECT_LE(classes[0].slot_count, count);
	for (i = 0; i < count; i++)
		pattern_fill(loans[i].data, 800, i);
	for (i = 0; i < count; i++) {
		EXPECT_TRUE(pattern_is(loans[i].data, 800, i));
		voxshm_abort(SENDER, &loans[i]);
	}
}

TEST_F(loans, finish_in_any_order)
{
	uint64_t random = 3, seed = 0;

	for (int round = 0; round < 300; round++) {
		struct voxshm_loan loans[10];
		uint64_t sent[10];
		unsigned int open = 0, count = 0;

		while (open < ARRAY_SIZE(loans)) {
			size_t size = kinds[random_next(&random) % ARRAY_SIZE(kinds)];
			int ret = voxshm_loan(SENDER, size, &loans[open], 0);

			if (ret == -EAGAIN)
				break;
			ASSERT_EQ(0, ret);
			open++;
		}
		ASSERT_LT(0, open);
		while (open) {
			unsigned int pick = random_next(&random) % open;

			if (random_next(&random) % 3) {
				sent[count] = seed++;
				pattern_fill(loans[pick].data, loans[pick].size, sent[count]);
				ASSERT_EQ(0, voxshm_commit(SENDER, &loans[pick], loans[pick].size,
							   PATIENCE));
				count++;
			} else {
				voxshm_abort(SENDER, &loans[pick]);
			}
			loans[pick] = loans[--open];
		}
		for (unsigned int i = 0; i < count; i++) {
			struct voxshm_view view;

			ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &view));
			ASSERT_TRUE(pattern_is(view.data, view.size, sent[i]));
			ASSERT_EQ(0, voxshm_release(RECEIVER, &view));
		}
	}
}

TEST_F_TIMEOUT(loans, hundred_thousand_aborts_leak_nothing, 60)
{
	struct voxshm_loan loan;
	unsigned int i, total = amount(100000);
	int fds = 0, maps = 0;

	for (i = 0; i < total; i++) {
		if (i == total / 2) {
			fds = count_fds();
			maps = count_maps();
		}
		/* A loan that may need a mapping is dear: less often. */
		ASSERT_EQ(0, voxshm_loan(SENDER, i % 100 ? kinds[i % 5] : 30000, &loan, 0));
		voxshm_abort(SENDER, &loan);
	}
	EXPECT_EQ(fds, count_fds());
	EXPECT_GE(maps + 2, count_maps());
}

TEST_F(loans, exhausted_pool_refuses_until_an_abort)
{
	for (size_t i = 3; i < ARRAY_SIZE(kinds); i++) {
		struct voxshm_loan loans[64], more;
		unsigned int count = loan_all(SENDER, kinds[i], loans, ARRAY_SIZE(loans));

		EXPECT_LT(0, count);
		EXPECT_EQ(-ETIMEDOUT, voxshm_loan(SENDER, kinds[i], &more, MS));
		voxshm_abort(SENDER, &loans[count / 2]);
		EXPECT_EQ(0, voxshm_loan(SENDER, kinds[i], &loans[count / 2], 0));
		for (unsigned int j = 0; j < count; j++)
			voxshm_abort(SENDER, &loans[j]);
	}
}

TEST_F(loans, exhausted_pool_refuses_until_the_receiver_releases)
{
	struct voxshm_loan loans[64], more;
	unsigned int count = loan_all(SENDER, 800, loans, ARRAY_SIZE(loans)), i;

	for (i = 0; i < count; i++) {
		pattern_fill(loans[i].data, 800, i);
		ASSERT_EQ(0, voxshm_commit(SENDER, &loans[i], 800, 0));
	}
	EXPECT_EQ(-EAGAIN, voxshm_loan(SENDER, 800, &more, 0));
	ASSERT_EQ(0, recv_pattern(RECEIVER, 800, 0, 0));
	EXPECT_EQ(0, voxshm_loan(SENDER, 800, &more, 0));
	voxshm_abort(SENDER, &more);
	for (i = 1; i < count; i++) {
		ASSERT_EQ(0, recv_pattern(RECEIVER, 800, i, 0));
	}
}

TEST_F(loans, refused_commit_stays_open_and_succeeds_later)
{
	struct voxshm_loan loan;
	uint64_t count;

	pair_renew(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 1024));
	for (size_t i = 3; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loan, 0));
		pattern_fill(loan.data, kinds[i], 77);
		for (count = 0; send_pattern(SENDER, 1, count, 0) == 0; count++) {
			ASSERT_LT(count, 10000);
		}
		EXPECT_EQ(-EAGAIN, voxshm_commit(SENDER, &loan, kinds[i], 0));
		EXPECT_EQ(-ETIMEDOUT, voxshm_commit(SENDER, &loan, kinds[i], MS));
		ASSERT_NE(NULL, loan.data);
		for (uint64_t j = 0; j < count; j++) {
			ASSERT_EQ(0, recv_pattern(RECEIVER, 1, j, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
		EXPECT_EQ(0, voxshm_commit(SENDER, &loan, kinds[i], 0));
		EXPECT_EQ(0, recv_pattern(RECEIVER, kinds[i], 77, 0));
	}
}

TEST_F(loans, stay_writable_after_the_peer_left)
{
	struct voxshm_loan loans[ARRAY_SIZE(kinds)];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, voxshm_loan(SENDER, kinds[i], &loans[i], PATIENCE));
	}
	CLOSE_RECEIVER();
	EXPECT_EQ(-EPIPE, voxshm_recv(SENDER, &(struct voxshm_view){ 0 }, PATIENCE));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		pattern_fill(loans[i].data, loans[i].size, i);
		EXPECT_TRUE(pattern_is(loans[i].data, loans[i].size, i));
		EXPECT_EQ(-EPIPE, voxshm_commit(SENDER, &loans[i], kinds[i], PATIENCE));
		ASSERT_NE(NULL, loans[i].data);
		voxshm_abort(SENDER, &loans[i]);
		EXPECT_EQ(NULL, loans[i].data);
	}
	EXPECT_EQ(-EPIPE, voxshm_loan(SENDER, 10, &loans[0], PATIENCE));
}

TEST_F(loans, sends_pass_open_loans)
{
	struct voxshm_loan loan;

	ASSERT_EQ(0, voxshm_loan(SENDER, 500, &loan, PATIENCE));
	pattern_fill(loan.data, 500, 1);
	for (uint64_t i = 0; i < 5000; i++) {
		ASSERT_EQ(0, send_pattern(SENDER, i % 700, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(RECEIVER, i % 700, i, PATIENCE));
	}
	EXPECT_EQ(0, voxshm_commit(SENDER, &loan, 500, PATIENCE));
	EXPECT_EQ(0, recv_pattern(RECEIVER, 500, 1, PATIENCE));
}

LINK_TEST_MAIN(NULL)
