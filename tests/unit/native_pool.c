// SPDX-License-Identifier: MIT
/* The half pool: the sender's private book, the receiver's return words, and lies in them. */
#include "native/pool.h"
#include "unit_test.h"

static const struct native_parameters small = {
	.max_guests = 1, .ring_capacity = 192, .max_payload = 1 << 20, .max_mappings = 1,
	.num_classes = 3, .classes = { { 64, 4 }, { 192, 3 }, { 4096, 2 } },
};

FIXTURE(pool) {
	struct native_geometry geometry;
	uint8_t *window;
	struct native_pool pool;
	struct native_pool_view view;
};

FIXTURE_SETUP(pool)
{
	ASSERT_EQ(native_geometry(&self->geometry, &small, NULL), 0);
	self->window = aligned_alloc(4096, self->geometry.window_size);
	ASSERT_NE(self->window, NULL);
	memset(self->window, 0, self->geometry.window_size);
	ASSERT_EQ(native_pool_init(&self->pool, &self->geometry, NATIVE_GUEST, self->window), 0);
	ASSERT_EQ(native_pool_view_init(&self->view, &self->geometry, NATIVE_GUEST, self->window),
		  0);
}

FIXTURE_TEARDOWN(pool)
{
	native_pool_view_deinit(&self->view);
	native_pool_deinit(&self->pool);
	free(self->window);
	EXPECT_FALSE(memory_leaks());
}

/* Allocates, and sends. */
static int send_slot(struct native_pool *pool, size_t size, struct slot_ref *ref)
{
	int ret = native_pool_alloc(pool, size, ref);

	if (ret == 0)
		native_pool_sent(pool, ref);
	return ret;
}

static void set_return(struct native_pool *pool, const struct slot_ref *ref, uint32_t word)
{
	shared_store_u32(&pool->classes[ref->class_index].returns[ref->slot], word);
}

/* Takes everything a class has. Return: how many slots; -1 when one came twice. */
static int exhaust(struct native_pool *pool, uint32_t class_index, struct slot_ref *refs)
{
	bool seen[64] = { false };
	struct slot_ref ref;
	int count = 0;

	while (native_pool_alloc(pool, pool->classes[class_index].slot_size, &ref) == 0) {
		if (ref.class_index != class_index) {
			native_pool_unalloc(pool, &ref);
			break;
		}
		if (seen[ref.slot])
			return -1;
		seen[ref.slot] = true;
		refs[count++] = ref;
	}
	return count;
}

/* Slots ---------------------------------------------------------------------- */

TEST_F(pool, slots_are_distinct_aligned_and_in_bounds)
{
	uint8_t *window = self->window;
	struct native_pool host;
	struct slot_ref ref;
	uint32_t side, i;

	ASSERT_EQ(native_pool_init(&host, &self->geometry, NATIVE_HOST, window), 0);
	for (side = 0; side < NATIVE_SIDES; side++) {
		struct native_pool *pool = side == NATIVE_HOST ? &host : &self->pool;
		unsigned int count = 0;

		while (native_pool_alloc(pool, 1, &ref) == 0) {
			uint32_t size = small.classes[ref.class_index].slot_size;
			uint8_t *data = native_pool_data(pool, &ref);

			EXPECT_EQ((uintptr_t)data % 64, 0);
			ASSERT_GE(data, window + self->geometry.pool);
			ASSERT_LE(data + size, window + self->geometry.window_size);
			/* Nobody else's, of either half. */
			for (i = 0; i < size; i++)
				ASSERT_EQ(data[i], 0);
			memset(data, 0xff, size);
			count++;
		}
		EXPECT_EQ(count, 4 + 3 + 2);
	}
	native_pool_deinit(&host);
}

TEST_F(pool, smallest_class_that_fits_is_taken)
{
	static const struct { size_t size; uint8_t class_index; } cases[] = {
		{ 0, 0 }, { 1, 0 }, { 64, 0 }, { 65, 1 }, { 192, 1 }, { 193, 2 }, { 4096, 2 },
	};
	struct slot_ref ref;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_EQ(native_pool_alloc(&self->pool, cases[i].size, &ref), 0);
		EXPECT_EQ(ref.class_index, cases[i].class_index);
		ASSERT_EQ(native_pool_unalloc(&self->pool, &ref), 0);
	}
	EXPECT_EQ(native_pool_alloc(&self->pool, 4097, &ref), -EAGAIN);
	EXPECT_EQ(native_pool_alloc(&self->pool, SIZE_MAX, &ref), -EAGAIN);
	EXPECT_FALSE(native_pool_available(&self->pool, 4097));
}

TEST_F(pool, exhausted_class_falls_back_to_larger_ones)
{
	static const uint8_t expected[] = { 0, 0, 0, 0, 1, 1, 1, 2, 2 };
	struct slot_ref ref;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(expected); i++) {
		EXPECT_TRUE(native_pool_available(&self->pool, 64));
		ASSERT_EQ(native_pool_alloc(&self->pool, 64, &ref), 0);
		EXPECT_EQ(ref.class_index, expected[i]);
	}
	EXPECT_FALSE(native_pool_available(&self->pool, 64));
	EXPECT_EQ(native_pool_alloc(&self->pool, 64, &ref), -EAGAIN);
}

TEST_F(pool, exhausted_pool_refuses_until_a_slot_is_returned)
{
	struct slot_ref refs[9], ref;
	int i;

	for (i = 0; i < 9; i++)
		ASSERT_EQ(send_slot(&self->pool, 1, &refs[i]), 0);
	for (i = 0; i < 9; i++) {
		ASSERT_EQ(native_pool_alloc(&self->pool, 1, &ref), -EAGAIN);
		set_return(&self->pool, &refs[i], refs[i].generation);
		EXPECT_TRUE(native_pool_available(&self->pool, 1));
		ASSERT_EQ(send_slot(&self->pool, 1, &ref), 0);
		EXPECT_EQ(ref.class_index, refs[i].class_index);
		EXPECT_EQ(ref.slot, refs[i].slot);
		EXPECT_NE(ref.generation, refs[i].generation);
	}
}

TEST_F(pool, one_collection_takes_all_that_was_returned)
{
	struct slot_ref refs[4], again[4];
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(send_slot(&self->pool, 1, &refs[i]), 0);
	for (i = 0; i < 4; i++)
		set_return(&self->pool, &refs[i], refs[i].generation);
	EXPECT_EQ(exhaust(&self->pool, 0, again), 4);
	EXPECT_EQ(self->pool.classes[0].in_flight, 0);
}

TEST_F(pool, last_slot_given_up_is_the_first_used_again)
{
	struct slot_ref refs[4], ref;
	int i;

	ASSERT_EQ(exhaust(&self->pool, 0, refs), 4);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(native_pool_unalloc(&self->pool, &refs[i]), 0);
	for (i = 3; i >= 0; i--) {
		ASSERT_EQ(native_pool_alloc(&self->pool, 1, &ref), 0);
		EXPECT_EQ(ref.slot, refs[i].slot);
	}
}

/* A slot that goes round alone stays the warm one, as long as there are others. */
TEST_F(pool, ping_pong_uses_one_class_only)
{
	struct slot_ref ref;
	int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(send_slot(&self->pool, 1, &ref), 0);
		EXPECT_EQ(ref.class_index, 0);
		set_return(&self->pool, &ref, ref.generation);
	}
}

/* Generations ------------------------------------------------------------------- */

TEST_F(pool, every_use_of_a_slot_has_a_generation_of_its_own)
{
	uint32_t last[4] = { 0 };
	struct slot_ref ref;
	int i;

	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(native_pool_alloc(&self->pool, 1, &ref), 0);
		EXPECT_EQ(ref.generation, last[ref.slot] + 1);
		last[ref.slot] = ref.generation;
		ASSERT_EQ(native_pool_unalloc(&self->pool, &ref), 0);
	}
}

TEST_F(pool, generation_wraps_over_zero)
{
	struct slot_ref refs[4];
	int i;

	for (i = 0; i < 4; i++)
		self->pool.classes[0].slots[i].generation = UINT32_MAX;
	ASSERT_EQ(exhaust(&self->pool, 0, refs), 4);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(refs[i].generation, 1);
		native_pool_sent(&self->pool, &refs[i]);
	}
	/* The return words hold 0 since the window was made. */
	EXPECT_EQ(exhaust(&self->pool, 0, refs), 0);
}

/* Return words ---------------------------------------------------------------------- */

TEST_F(pool, return_counts_only_with_its_generation)
{
	struct slot_ref refs[4], again[4];
	int i;

	self->pool.classes[0].slots[0].generation = 100;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(send_slot(&self->pool, 1, &refs[i]), 0);
	for (i = 0; i < 4; i++) {
		uint32_t right = refs[i].generation;
		uint32_t wrong[] = { 0, right - 1, right + 1, ~right, right | 1u << 31 };
		size_t j;

		for (j = 0; j < ARRAY_SIZE(wrong); j++) {
			set_return(&self->pool, &refs[i], wrong[j]);
			EXPECT_EQ(exhaust(&self->pool, 0, again), 0);
		}
	}
	EXPECT_EQ(self->pool.classes[0].in_flight, 4);
	set_return(&self->pool, &refs[2], refs[2].generation);
	ASSERT_EQ(exhaust(&self->pool, 0, again), 1);
	EXPECT_EQ(again[0].slot, refs[2].slot);
}

TEST_F(pool, return_of_a_slot_that_is_being_written_is_ignored)
{
	struct slot_ref refs[4], again[4];
	int i;

	ASSERT_EQ(exhaust(&self->pool, 0, refs), 4);
	for (i = 0; i < 4; i++)
		set_return(&self->pool, &refs[i], refs[i].generation);
	/* Not even beside one that is in flight, which makes the sender look. */
	native_pool_sent(&self->pool, &refs[0]);
	set_return(&self->pool, &refs[0], 0);
	EXPECT_EQ(exhaust(&self->pool, 0, again), 0);
	for (i = 1; i < 4; i++)
		EXPECT_TRUE(native_pool_loaned(&self->pool, &refs[i]));
}

TEST_F(pool, return_of_a_free_slot_is_ignored)
{
	struct slot_ref refs[4], again[4];
	int i;

	ASSERT_EQ(exhaust(&self->pool, 0, refs), 4);
	for (i = 0; i < 4; i++) {
		set_return(&self->pool, &refs[i], refs[i].generation);
		if (i) {
			ASSERT_EQ(native_pool_unalloc(&self->pool, &refs[i]), 0);
		} else {
			native_pool_sent(&self->pool, &refs[i]);
		}
	}
	/* The sent one, and each of the others once. */
	EXPECT_EQ(exhaust(&self->pool, 0, again), 4);
}

TEST_F(pool, second_return_of_the_same_use_is_ignored)
{
	struct slot_ref refs[4], ref, again[4];
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(send_slot(&self->pool, 1, &refs[i]), 0);
	set_return(&self->pool, &refs[1], refs[1].generation);
	ASSERT_EQ(send_slot(&self->pool, 1, &ref), 0);
	ASSERT_EQ(ref.slot, refs[1].slot);
	set_return(&self->pool, &refs[1], refs[1].generation);
	EXPECT_EQ(exhaust(&self->pool, 0, again), 0);
	set_return(&self->pool, &ref, ref.generation);
	EXPECT_EQ(exhaust(&self->pool, 0, again), 1);
}

/* Giving up a loan --------------------------------------------------------------------- */

TEST_F(pool, giving_up_what_is_not_loaned_is_refused)
{
	struct slot_ref ref, wrong;

	ASSERT_EQ(native_pool_alloc(&self->pool, 1, &ref), 0);
	wrong = ref;
	wrong.generation++;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);
	wrong = ref;
	wrong.slot ^= 1;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);
	wrong.slot = 4;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);
	wrong.slot = UINT32_MAX;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);
	wrong = ref;
	wrong.class_index = 3;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);
	wrong.class_index = 255;
	EXPECT_EQ(native_pool_unalloc(&self->pool, &wrong), -EINVAL);

	EXPECT_EQ(native_pool_unalloc(&self->pool, &ref), 0);
	EXPECT_EQ(native_pool_unalloc(&self->pool, &ref), -EINVAL);
	ASSERT_EQ(send_slot(&self->pool, 1, &ref), 0);
	EXPECT_EQ(native_pool_unalloc(&self->pool, &ref), -EINVAL);
	EXPECT_EQ(self->pool.classes[0].free_count, 3);
}

/* The receiver's side ------------------------------------------------------------------- */

TEST_F(pool, receiver_sees_the_slot_that_the_sender_wrote)
{
	struct slot_ref ref;
	const uint8_t *seen;

	while (native_pool_alloc(&self->pool, 1, &ref) == 0) {
		ref.length = small.classes[ref.class_index].slot_size;
		seen = native_slot_borrow(&self->view, &ref);
		EXPECT_EQ(seen, native_pool_data(&self->pool, &ref));
	}
}

TEST_F(pool, reference_out_of_bounds_is_refused)
{
	const struct slot_ref good = { .class_index = 1, .slot = 2, .generation = 5, .length = 192 };
	struct slot_ref ref;
	uint32_t i;

	for (i = 3; i < 256; i++) {
		ref = good;
		ref.class_index = (uint8_t)i;
		EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	}
	for (i = 1; i < 256; i++) {
		ref = good;
		ref.extent = (uint8_t)i;
		EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	}
	for (i = 3; i; i <<= 1) {
		ref = good;
		ref.slot = i;
		EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	}
	for (i = 193; i && i >= 193; i <<= 1) {
		ref = good;
		ref.length = i;
		EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	}
	ref = good;
	ref.length = UINT32_MAX;
	EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	ref = good;
	ref.generation = 0;
	EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	EXPECT_NE(native_slot_borrow(&self->view, &good), NULL);
}

TEST_F(pool, slot_is_borrowed_once_until_it_goes_back)
{
	struct slot_ref ref = { .class_index = 2, .slot = 1, .generation = 7, .length = 9 };

	ASSERT_NE(native_slot_borrow(&self->view, &ref), NULL);
	EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	ref.generation++;
	EXPECT_EQ(native_slot_borrow(&self->view, &ref), NULL);
	ref.generation--;
	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 7), 0);
	EXPECT_NE(native_slot_borrow(&self->view, &ref), NULL);
}

TEST_F(pool, return_of_what_is_not_borrowed_is_refused_and_writes_nothing)
{
	struct slot_ref ref = { .class_index = 2, .slot = 1, .generation = 7, .length = 9 };
	shared_u32 *word = &self->pool.classes[2].returns[1];

	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 7), -EINVAL);
	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 0), -EINVAL);
	ASSERT_NE(native_slot_borrow(&self->view, &ref), NULL);
	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 6), -EINVAL);
	EXPECT_EQ(native_slot_return(&self->view, 2, 2, 7), -EINVAL);
	EXPECT_EQ(native_slot_return(&self->view, 3, 1, 7), -EINVAL);
	EXPECT_EQ(native_slot_return(&self->view, UINT32_MAX, UINT32_MAX, 7), -EINVAL);
	EXPECT_EQ(shared_peek_u32(word), 0);
	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 7), 0);
	EXPECT_EQ(shared_peek_u32(word), 7);
	shared_poke_u32(word, 0);
	EXPECT_EQ(native_slot_return(&self->view, 2, 1, 7), -EINVAL);
	EXPECT_EQ(shared_peek_u32(word), 0);
}

/* Random runs --------------------------------------------------------------------------- */

enum use { USE_FREE, USE_LOANED, USE_SENT, USE_RETURNED };

struct uses {
	enum use use[3][4];
	struct slot_ref refs[3][4];
};

/* Return: what is wrong, or NULL. */
static const char *check_alloc(struct uses *uses, const struct slot_ref *ref, size_t size)
{
	enum use *use = &uses->use[ref->class_index][ref->slot];

	if (ref->slot >= small.classes[ref->class_index].slot_count)
		return "a slot is out of bounds";
	if (small.classes[ref->class_index].slot_size < size)
		return "a slot is too small";
	if (*use == USE_LOANED || *use == USE_SENT)
		return "a slot in use was given out";
	*use = USE_LOANED;
	uses->refs[ref->class_index][ref->slot] = *ref;
	return NULL;
}

static bool any_returnable(const struct uses *uses, size_t size)
{
	uint32_t i, j;

	for (i = 0; i < 3; i++)
		for (j = 0; j < small.classes[i].slot_count; j++)
			if (small.classes[i].slot_size >= size &&
			    (uses->use[i][j] == USE_FREE || uses->use[i][j] == USE_RETURNED))
				return true;
	return false;
}

/* An honest receiver, and beside it one that stores anything into other words. */
TEST_F(pool, random_runs_give_out_no_slot_twice)
{
	struct uses uses = { 0 };
	uint64_t random = 29;
	unsigned long i;

	for (i = 0; i < amount(300000); i++) {
		uint32_t class_index = random_below(&random, 3);
		uint32_t slot = random_below(&random, small.classes[class_index].slot_count);
		struct slot_ref ref = uses.refs[class_index][slot];
		enum use *use = &uses.use[class_index][slot];
		size_t size = random_below(&random, 4097);

		switch (random_below(&random, 5)) {
		case 0:
			if (native_pool_alloc(&self->pool, size, &ref)) {
				ASSERT_FALSE(any_returnable(&uses, size));
			} else {
				ASSERT_EQ(check_alloc(&uses, &ref, size), NULL);
			}
			break;
		case 1:
			if (*use == USE_LOANED) {
				native_pool_sent(&self->pool, &ref);
				*use = USE_SENT;
			}
			break;
		case 2:
			ASSERT_EQ(native_pool_unalloc(&self->pool, &ref),
				  *use == USE_LOANED ? 0 : -EINVAL);
			if (*use == USE_LOANED)
				*use = USE_FREE;
			break;
		case 3:
			if (*use == USE_SENT) {
				set_return(&self->pool, &ref, ref.generation);
				*use = USE_RETURNED;
			}
			break;
		default:
			if (*use != USE_RETURNED)
				shared_poke_u32(&self->pool.classes[class_index].returns[slot],
						random_below(&random, ref.generation ?: 1));
			break;
		}
	}
}

TEST_HARNESS_MAIN
