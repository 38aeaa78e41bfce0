// SPDX-License-Identifier: GPL-2.0
/* The slot pool of the vox format: allocation, double frees, corruption, search. */
#include "vox_test.h"
#include "kselftest_harness.h"

static const struct voxshm_class classes[] = { { 64, 6 }, { 256, 3 }, { 1024, 2 } };

#define NUM_CLASSES 3u

static uint8_t *new_extent(const struct voxshm_class *table)
{
	uint64_t size = vox_extent_size(table, NUM_CLASSES);
	uint8_t *base = test_shared(size);

	if (base)
		vox_extent_init(base, table, NUM_CLASSES);
	return base;
}

FIXTURE(pool) {
	struct vox_pool pool;
	uint8_t *base;
	shared_u64 intent;
};

FIXTURE_SETUP(pool)
{
	self->base = new_extent(classes);
	ASSERT_NE(self->base, NULL);
	vox_pool_init(&self->pool, NUM_CLASSES, true);
	ASSERT_EQ(vox_pool_add_extent(&self->pool, self->base, classes), 0);
	shared_poke_u64(&self->intent, 0);
}

FIXTURE_TEARDOWN(pool)
{
	vox_pool_deinit(&self->pool);
	munmap(self->base, vox_extent_size(classes, NUM_CLASSES));
}

static int alloc(struct vox_pool *pool, uint32_t size, struct vox_slot_ref *ref)
{
	return vox_pool_alloc(pool, size, 1, VOX_MAX_EXTENTS, NULL, ref);
}

static struct vox_slot *slot_of(const struct vox_pool *pool, const struct vox_slot_ref *ref)
{
	return &vox_pool_class(pool, ref->extent, ref->class_index)->slots[ref->slot];
}

static uint32_t count_free(const struct vox_pool *pool)
{
	uint32_t extent, i, count = 0;

	for (extent = 0; extent < vox_pool_num_extents(pool); extent++)
		for (i = 0; i < pool->num_classes; i++)
			count += vox_pool_count_free(pool, extent, i);
	return count;
}

/* Allocate and free -------------------------------------------------------------- */

TEST_F(pool, smallest_class_that_fits_is_taken)
{
	struct vox_slot_ref ref;

	ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
	EXPECT_EQ(ref.class_index, 0);
	ASSERT_EQ(alloc(&self->pool, 65, &ref), 0);
	EXPECT_EQ(ref.class_index, 1);
	ASSERT_EQ(alloc(&self->pool, 1024, &ref), 0);
	EXPECT_EQ(ref.class_index, 2);
}

TEST_F(pool, exhausted_class_falls_back_to_the_next_larger)
{
	struct vox_slot_ref ref;
	uint32_t i;

	for (i = 0; i < 6 + 3 + 2; i++) {
		ASSERT_EQ(alloc(&self->pool, 10, &ref), 0);
		EXPECT_EQ(ref.class_index, i < 6 ? 0 : i < 9 ? 1 : 2);
	}
	EXPECT_EQ(alloc(&self->pool, 10, &ref), -EAGAIN);
	EXPECT_EQ(count_free(&self->pool), 0);
}

TEST_F(pool, size_beyond_the_largest_class_is_refused)
{
	struct vox_slot_ref ref;

	EXPECT_EQ(alloc(&self->pool, 1025, &ref), -EMSGSIZE);
}

TEST_F(pool, allocation_sets_owner_and_raises_generation)
{
	struct vox_slot_ref first, second;

	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 7, 1, &self->intent, &first), 0);
	EXPECT_EQ(vox_pool_owner(&self->pool, &first), 7);
	EXPECT_EQ(first.generation, 1);
	EXPECT_EQ(shared_peek_u64(&self->intent), 0);
	ASSERT_EQ(vox_pool_free(&self->pool, &first, &self->intent), 0);
	EXPECT_EQ(vox_pool_owner(&self->pool, &first), 0);
	EXPECT_EQ(shared_peek_u64(&self->intent), 0);
	ASSERT_EQ(alloc(&self->pool, 64, &second), 0);
	EXPECT_EQ(second.slot, first.slot);
	EXPECT_EQ(second.generation, 2);
}

TEST_F(pool, double_free_is_refused)
{
	struct vox_slot_ref ref;

	ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
	ASSERT_EQ(vox_pool_free(&self->pool, &ref, NULL), 0);
	EXPECT_EQ(vox_pool_free(&self->pool, &ref, &self->intent), -ESTALE);
	EXPECT_EQ(shared_peek_u64(&self->intent), 0);
	EXPECT_EQ(count_free(&self->pool), 11);
}

TEST_F(pool, stale_free_does_not_touch_the_new_allocation)
{
	struct vox_slot_ref stale, current;

	ASSERT_EQ(alloc(&self->pool, 64, &stale), 0);
	ASSERT_EQ(vox_pool_free(&self->pool, &stale, NULL), 0);
	ASSERT_EQ(alloc(&self->pool, 64, &current), 0);
	ASSERT_EQ(current.slot, stale.slot);
	EXPECT_EQ(vox_pool_free(&self->pool, &stale, NULL), -ESTALE);
	EXPECT_TRUE(vox_pool_is_current(&self->pool, &current));
	EXPECT_FALSE(vox_pool_is_current(&self->pool, &stale));
}

TEST_F(pool, slot_that_does_not_exist_is_refused)
{
	struct vox_slot_ref refs[] = {
		{ .class_index = 3 }, { .extent = 1 }, { .slot = 6 },
		{ .slot = UINT32_MAX }, { .class_index = 255, .extent = 255 },
	};
	size_t i;

	for (i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
		EXPECT_EQ(vox_pool_free(&self->pool, &refs[i], NULL), -EINVAL);
		EXPECT_EQ(vox_pool_hold(&self->pool, &refs[i], 0, 1), -EBADMSG);
		EXPECT_FALSE(vox_pool_is_current(&self->pool, &refs[i]));
	}
}

TEST_F(pool, slots_lie_apart)
{
	struct vox_slot_ref refs[11];
	uint32_t i, size;

	for (i = 0; i < 11; i++) {
		ASSERT_EQ(alloc(&self->pool, 10, &refs[i]), 0);
		memset(vox_pool_data(&self->pool, &refs[i], &size), 0, 64);
		memset(vox_pool_data(&self->pool, &refs[i], &size), (int)i + 1, size);
	}
	for (i = 0; i < 11; i++) {
		uint8_t *data = vox_pool_data(&self->pool, &refs[i], &size);

		EXPECT_EQ(data[0], i + 1);
		EXPECT_EQ(data[size - 1], i + 1);
		EXPECT_EQ(vox_pool_free(&self->pool, &refs[i], NULL), 0);
	}
	EXPECT_EQ(count_free(&self->pool), 11);
}

TEST_F(pool, message_longer_than_its_slot_is_refused)
{
	struct vox_slot_ref ref;
	const uint8_t *message;
	uint32_t size, length;
	uint8_t *data;

	ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
	data = vox_pool_data(&self->pool, &ref, &size);
	length = 60;
	memcpy(data, &length, 4);
	EXPECT_EQ(vox_pool_message(&self->pool, &ref, &message), 60);
	EXPECT_EQ(message, data + 4);
	length = 61;
	memcpy(data, &length, 4);
	EXPECT_EQ(vox_pool_message(&self->pool, &ref, &message), -EBADMSG);
	length = UINT32_MAX;
	memcpy(data, &length, 4);
	EXPECT_EQ(vox_pool_message(&self->pool, &ref, &message), -EBADMSG);
}

TEST_F(pool, second_extent_is_used_when_the_first_is_exhausted)
{
	struct vox_slot_ref ref;
	uint32_t i;

	ASSERT_EQ(vox_pool_add_extent(&self->pool, new_extent(classes), classes), 1);
	for (i = 0; i < 12; i++) {
		ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
		EXPECT_EQ(ref.class_index, 0);
		EXPECT_EQ(ref.extent, i / 6);
	}
	EXPECT_EQ(vox_pool_free(&self->pool, &ref, NULL), 0);
	EXPECT_EQ(vox_pool_alloc(&self->pool, 1024, 1, 1, NULL, &ref), 0);
	EXPECT_EQ(vox_pool_alloc(&self->pool, 1024, 1, 1, NULL, &ref), 0);
	EXPECT_EQ(vox_pool_alloc(&self->pool, 1024, 1, 1, NULL, &ref), -EAGAIN);
	EXPECT_EQ(vox_pool_alloc(&self->pool, 1024, 1, 2, NULL, &ref), 0);
	EXPECT_EQ(ref.extent, 1);
}

TEST_F(pool, extents_are_limited)
{
	uint32_t i;

	for (i = 1; i < VOX_MAX_EXTENTS; i++)
		ASSERT_EQ(vox_pool_add_extent(&self->pool, self->base, classes), (int)i);
	EXPECT_EQ(vox_pool_add_extent(&self->pool, self->base, classes), -ENOSPC);
}

/* A corrupted pool ------------------------------------------------------------------ */

TEST_F(pool, head_out_of_bounds_is_refused)
{
	struct class_header *header = vox_pool_class(&self->pool, 0, 0)->header;
	struct vox_slot_ref ref, victim;

	ASSERT_EQ(alloc(&self->pool, 64, &victim), 0);
	shared_poke_u64(&header->free_head, 6);
	EXPECT_EQ(vox_pool_alloc(&self->pool, 64, 1, 1, &self->intent, &ref), -EBADMSG);
	EXPECT_EQ(shared_peek_u64(&self->intent), 0);
	EXPECT_EQ(vox_pool_free(&self->pool, &victim, NULL), -EBADMSG);
}

TEST_F(pool, link_out_of_bounds_is_refused)
{
	struct vox_class *class = vox_pool_class(&self->pool, 0, 0);
	struct vox_slot_ref ref;

	shared_poke_u32(&class->slots[0].next_free, 77);
	EXPECT_EQ(alloc(&self->pool, 64, &ref), -EBADMSG);
}

TEST_F(pool, allocated_slot_on_the_list_is_not_handed_out)
{
	struct vox_class *class = vox_pool_class(&self->pool, 0, 0);
	struct vox_slot_ref ref, mine;

	ASSERT_EQ(alloc(&self->pool, 64, &mine), 0);
	shared_poke_u64(&class->header->free_head, mine.slot);
	EXPECT_EQ(alloc(&self->pool, 64, &ref), -EBADMSG);
	EXPECT_TRUE(vox_pool_is_current(&self->pool, &mine));
}

/* Held by the host -------------------------------------------------------------------- */

TEST_F(pool, slot_is_held_only_from_its_owner_and_once)
{
	struct vox_slot_ref ref, stale;

	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 5, 1, NULL, &ref), 0);
	stale = ref;
	stale.generation++;
	EXPECT_EQ(vox_pool_hold(&self->pool, &ref, 6, 1), -EBADMSG);
	EXPECT_EQ(vox_pool_hold(&self->pool, &stale, 5, 1), -EBADMSG);
	EXPECT_EQ(vox_pool_hold(&self->pool, &ref, 5, 1), 0);
	EXPECT_TRUE(vox_pool_is_held(&self->pool, &ref));
	EXPECT_EQ(vox_pool_hold(&self->pool, &ref, 5, 1), -EBADMSG);
	EXPECT_EQ(vox_pool_free_held(&self->pool, &ref, 2, NULL), -ESTALE);
	EXPECT_EQ(vox_pool_free_held(&self->pool, &stale, 1, NULL), -ESTALE);
	EXPECT_EQ(vox_pool_free_held(&self->pool, &ref, 1, NULL), 0);
	EXPECT_FALSE(vox_pool_is_held(&self->pool, &ref));
}

/* What this process has in hand it knows by its own book, whatever the others write. */
TEST_F(pool, slot_in_hand_whose_words_were_changed_is_told_as_corrupt)
{
	struct vox_slot_ref ref;
	struct vox_class *class = vox_pool_class(&self->pool, 0, 0);

	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 5, 1, NULL, &ref), 0);
	ASSERT_EQ(vox_pool_hold(&self->pool, &ref, 5, 1), 0);
	shared_poke_u64(&class->slots[ref.slot].generation_state,
			vox_slot_word(ref.generation + 1, VOX_SLOT_ALLOCATED));
	EXPECT_TRUE(vox_pool_is_held_by(&self->pool, &ref, 1));
	EXPECT_EQ(vox_pool_free_held(&self->pool, &ref, 1, NULL), -EBADMSG);
	EXPECT_FALSE(vox_pool_is_held(&self->pool, &ref));
	EXPECT_EQ(vox_pool_free_held(&self->pool, &ref, 1, NULL), -ESTALE);
}

TEST_F(pool, all_of_one_holder_come_back_and_no_others)
{
	struct vox_slot_ref mine[3], other;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(vox_pool_alloc(&self->pool, 64u << i, 3, 1, NULL, &mine[i]), 0);
		ASSERT_EQ(vox_pool_hold(&self->pool, &mine[i], 3, 7), 0);
	}
	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 3, 1, NULL, &other), 0);
	ASSERT_EQ(vox_pool_hold(&self->pool, &other, 3, 8), 0);
	vox_pool_free_all_held(&self->pool, 7, &self->intent);
	EXPECT_EQ(count_free(&self->pool), 10);
	EXPECT_TRUE(vox_pool_is_held_by(&self->pool, &other, 8));
	for (i = 0; i < 3; i++)
		EXPECT_FALSE(vox_pool_is_held(&self->pool, &mine[i]));
}

TEST_F(pool, reclaim_frees_what_the_dead_owns_and_the_host_does_not_hold)
{
	struct vox_slot_ref dead[4], living, held;
	uint32_t i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(vox_pool_alloc(&self->pool, 64u << i, 3, 1, NULL, &dead[i]), 0);
	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 4, 1, NULL, &living), 0);
	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 3, 1, NULL, &held), 0);
	ASSERT_EQ(vox_pool_hold(&self->pool, &held, 3, 1), 0);
	EXPECT_EQ(vox_pool_reclaim(&self->pool, 3), 4);
	EXPECT_EQ(count_free(&self->pool), 9);
	EXPECT_TRUE(vox_pool_is_current(&self->pool, &living));
	EXPECT_TRUE(vox_pool_is_current(&self->pool, &held));
	EXPECT_EQ(vox_pool_reclaim(&self->pool, 3), 0);
}

TEST_F(pool, reclaim_takes_what_was_given_to_the_dead)
{
	struct vox_slot_ref ref;

	ASSERT_EQ(vox_pool_alloc(&self->pool, 64, 0, 1, NULL, &ref), 0);
	vox_pool_set_owner(&self->pool, &ref, 9);
	EXPECT_EQ(vox_pool_reclaim(&self->pool, 9), 1);
	EXPECT_FALSE(vox_pool_is_current(&self->pool, &ref));
}

/* Slots in nobody's hands ---------------------------------------------------------------- */

static bool stranger;

static bool has_stranger(const struct vox_living *living)
{
	return stranger;
}

static int search(struct vox_pool *pool, const shared_u64 *intent)
{
	const shared_u64 *intents[] = { intent };
	struct vox_living living = {
		.intents = intents, .num_intents = intent ? 1 : 0,
		.has_stranger = has_stranger,
	};

	return vox_pool_search(pool, &living);
}

/* What a death between pop and {generation, ALLOCATED} leaves. */
static struct vox_slot_ref lose_popped(struct vox_pool *pool)
{
	struct vox_class *class = vox_pool_class(pool, 0, 0);
	uint64_t head = shared_peek_u64(&class->header->free_head);
	struct vox_slot_ref ref = { .slot = (uint32_t)head };

	shared_poke_u64(&class->header->free_head, (head & ~0xffffffffull) + (1ull << 32) +
			shared_peek_u32(&class->slots[ref.slot].next_free));
	return ref;
}

/* What a death between {generation, FREE} and push leaves. */
static struct vox_slot_ref lose_freed(struct vox_pool *pool)
{
	struct vox_slot_ref ref;

	if (vox_pool_alloc(pool, 64, 1, 1, NULL, &ref) == 0)
		shared_poke_u64(&slot_of(pool, &ref)->generation_state,
				vox_slot_word(ref.generation, VOX_SLOT_FREE));
	return ref;
}

TEST_F(pool, slot_lost_while_popping_is_found)
{
	struct vox_slot_ref ref = lose_popped(&self->pool);

	vox_pool_suspect(&self->pool, vox_intent(0, 0, ref.slot));
	EXPECT_EQ(count_free(&self->pool), 10);
	EXPECT_EQ(search(&self->pool, NULL), 1);
	EXPECT_EQ(count_free(&self->pool), 11);
	EXPECT_EQ(search(&self->pool, NULL), 0);
}

TEST_F(pool, slot_lost_while_freeing_is_found)
{
	struct vox_slot_ref ref = lose_freed(&self->pool);

	vox_pool_suspect(&self->pool, vox_intent(0, 0, ref.slot));
	EXPECT_EQ(search(&self->pool, NULL), 1);
	EXPECT_EQ(count_free(&self->pool), 11);
	EXPECT_EQ(vox_pool_owner(&self->pool, &ref), 0);
}

TEST_F(pool, last_slot_lost_is_found)
{
	struct vox_slot_ref ref;
	int i;

	for (i = 0; i < 5; i++)
		ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
	ref = lose_popped(&self->pool);
	vox_pool_suspect_all(&self->pool);
	EXPECT_EQ(search(&self->pool, NULL), 1);
	EXPECT_EQ(vox_pool_count_free(&self->pool, 0, 0), 1);
	EXPECT_EQ(alloc(&self->pool, 64, &ref), 0);
}

TEST_F(pool, suspects_that_are_in_order_are_left_alone)
{
	struct vox_slot_ref ref;
	uint32_t i;

	ASSERT_EQ(alloc(&self->pool, 64, &ref), 0);
	for (i = 0; i < 6; i++)
		vox_pool_suspect(&self->pool, vox_intent(0, 0, i));
	EXPECT_EQ(search(&self->pool, NULL), 0);
	EXPECT_EQ(count_free(&self->pool), 10);
	EXPECT_TRUE(vox_pool_is_current(&self->pool, &ref));
}

TEST_F(pool, slot_that_a_living_thread_names_waits_for_the_next_search)
{
	struct vox_slot_ref ref = lose_popped(&self->pool);

	self->intent = vox_intent(0, 0, ref.slot);
	vox_pool_suspect(&self->pool, self->intent);
	EXPECT_EQ(search(&self->pool, &self->intent), 0);
	EXPECT_EQ(count_free(&self->pool), 10);
	shared_poke_u64(&self->intent, 0);
	EXPECT_EQ(search(&self->pool, &self->intent), 1);
	EXPECT_EQ(count_free(&self->pool), 11);
}

TEST_F(pool, all_suspects_wait_while_a_stranger_lives)
{
	struct vox_slot_ref ref = lose_popped(&self->pool);

	vox_pool_suspect(&self->pool, vox_intent(0, 0, ref.slot));
	stranger = true;
	EXPECT_EQ(search(&self->pool, NULL), 0);
	stranger = false;
	EXPECT_EQ(search(&self->pool, NULL), 1);
}

TEST_F(pool, intent_that_names_nothing_is_ignored)
{
	static const uint64_t words[] = {
		0, 1, UINT64_MAX, 1ull << 63 | 6, 1ull << 63 | 3ull << 32,
		1ull << 63 | 1ull << 40, 1ull << 63 | 1ull << 48, 1ull << 62,
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		vox_pool_suspect(&self->pool, words[i]);
	EXPECT_EQ(search(&self->pool, NULL), 0);
	EXPECT_EQ(count_free(&self->pool), 11);
}

TEST_F(pool, list_in_a_circle_ends_the_search)
{
	struct vox_class *class = vox_pool_class(&self->pool, 0, 0);

	shared_poke_u32(&class->slots[3].next_free, 1);
	vox_pool_suspect_all(&self->pool);
	EXPECT_EQ(search(&self->pool, NULL), -EBADMSG);
	/* 0..3 were on it, 4 and 5 were found: all are back, once. */
	EXPECT_EQ(vox_pool_count_free(&self->pool, 0, 0), 6);
}

TEST_F(pool, list_out_of_bounds_ends_the_search)
{
	struct vox_class *class = vox_pool_class(&self->pool, 0, 0);

	shared_poke_u64(&class->header->free_head, 1234);
	vox_pool_suspect_all(&self->pool);
	EXPECT_EQ(search(&self->pool, NULL), -EBADMSG);
	EXPECT_EQ(vox_pool_count_free(&self->pool, 0, 0), 6);
}

TEST_HARNESS_MAIN
