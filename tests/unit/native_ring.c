// SPDX-License-Identifier: MIT
/* The native ring: order, room, line heads, laziness, and a producer that dies. */
#include "native_ring_model.h"

#define EXHAUSTIVE_CAPACITY 1024u

TEST(entry_comes_out_as_it_went_in)
{
	struct both ring, *both = &ring;

	ASSERT_EQ(both_init(both, 192, 64, 0), NULL);
	STEP(try_take(both));
	STEP(try_put(both, 64));
	STEP(try_take(both));
	STEP(try_take(both));
	STEP(try_release(both, 0));
	STEP(publish(both));
	both_deinit(both);
}

/* Fills with entries of one size and empties, for some laps. */
static void laps_of(struct __test_metadata *_metadata, struct both *both, uint32_t size)
{
	uint32_t lap, count;

	for (lap = 0; lap < 4; lap++) {
		while (model_place(both, size) != NOWHERE)
			STEP(try_put(both, size));
		STEP(try_put(both, size));
		count = both->model.count;
		ASSERT_GT(count, 0);
		while (both->model.taken < both->model.count)
			STEP(try_take(both));
		while (both->model.count)
			STEP(try_release(both, 0));
		STEP(publish(both));
	}
}

TEST(every_capacity_size_and_cursor_keeps_order_and_bytes)
{
	uint32_t capacity, size, cursor, step = under_valgrind() ? 3 * LINE : LINE;

	for (capacity = NATIVE_RING_MIN_CAPACITY; capacity <= EXHAUSTIVE_CAPACITY;
	     capacity += step) {
		uint32_t max = native_ring_max_entry(capacity);

		for (size = LINE; size <= max; size += LINE) {
			for (cursor = 0; cursor < capacity; cursor += LINE) {
				struct both ring, *both = &ring;

				ASSERT_EQ(both_init(both, capacity, max, cursor), NULL);
				laps_of(_metadata, both, size);
				both_deinit(both);
			}
		}
	}
}

/* Every sequence of steps ------------------------------------------------------ */

struct snapshot {
	uint8_t ring[sizeof(struct native_ring) + 5 * LINE];
	uint32_t early_lines[5];
	struct both both;
};

static void snapshot_take(struct snapshot *snapshot, const struct both *both)
{
	memcpy(snapshot->ring, both->ring, sizeof(*both->ring) + both->capacity);
	memcpy(snapshot->early_lines, both->consumer.early_lines,
	       both->capacity / LINE * sizeof(uint32_t));
	snapshot->both = *both;
}

static void snapshot_restore(const struct snapshot *snapshot, struct both *both)
{
	*both = snapshot->both;
	memcpy(both->ring, snapshot->ring, sizeof(*both->ring) + both->capacity);
	memcpy(both->consumer.early_lines, snapshot->early_lines,
	       both->capacity / LINE * sizeof(uint32_t));
}

/* Step number `choice`, or NULL when there are no more. */
static const char *choose_step(struct both *both, uint32_t choice, bool *more)
{
	uint32_t sizes = both->max_entry / LINE;

	*more = true;
	if (choice < sizes)
		return try_put(both, (choice + 1) * LINE);
	choice -= sizes;
	if (choice == 0)
		return try_take(both);
	if (choice == 1)
		return publish(both);
	choice -= 2;
	*more = choice < both->model.taken;
	return try_release(both, choice);
}

static const char *every_sequence(struct both *both, int depth)
{
	struct snapshot snapshot;
	uint32_t choice;
	bool more = true;

	if (depth == 0)
		return NULL;
	snapshot_take(&snapshot, both);
	for (choice = 0; more; choice++) {
		const char *wrong = choose_step(both, choice, &more);

		if (!wrong && more)
			wrong = check_all(both);
		if (!wrong && more)
			wrong = every_sequence(both, depth - 1);
		if (wrong)
			return wrong;
		snapshot_restore(&snapshot, both);
	}
	return NULL;
}

TEST(every_sequence_of_steps_keeps_to_the_model)
{
	uint32_t capacity, cursor;

	for (capacity = 192; capacity <= 320; capacity += LINE) {
		for (cursor = 0; cursor < capacity; cursor += LINE) {
			int depth = slowness() == 1 ? 9 : under_valgrind() ? 5 : 7;
			const char *wrong;
			struct both both;

			ASSERT_EQ(both_init(&both, capacity, native_ring_max_entry(capacity),
					    cursor), NULL);
			wrong = every_sequence(&both, depth);
			ASSERT_EQ(wrong, NULL)
				TH_LOG("%s (capacity %u from %u, now at %u)", wrong, capacity,
				       cursor, both.model.cursor);
			both_deinit(&both);
		}
	}
}

/* Random runs ------------------------------------------------------------------- */

static const char *random_step(struct both *both, uint64_t *random)
{
	uint32_t sizes = both->max_entry / LINE, kind = random_below(random, 8);

	if (kind < 3)
		return try_put(both, (1 + random_below(random, sizes)) * LINE);
	if (kind < 5)
		return try_take(both);
	if (kind < 7)
		return both->model.taken ?
			try_release(both, random_below(random, both->model.taken)) : NULL;
	return publish(both);
}

TEST(random_runs_keep_to_the_model)
{
	uint32_t capacity;
	uint64_t random = 1;
	unsigned long i;

	for (capacity = 192; capacity <= MAX_LINES * LINE; capacity += 5 * LINE) {
		struct both ring, *both = &ring;

		ASSERT_EQ(both_init(both, capacity, native_ring_max_entry(capacity), 0), NULL);
		for (i = 0; i < amount(20000); i++)
			STEP(random_step(both, &random));
		both_deinit(both);
	}
}

/* Room -------------------------------------------------------------------------- */

TEST(empty_ring_takes_the_largest_entry_wherever_its_cursor_stands)
{
	uint32_t capacity, cursor;

	for (capacity = 192; capacity <= MAX_LINES * LINE; capacity += LINE) {
		uint32_t max = native_ring_max_entry(capacity);

		ASSERT_LE(max, (capacity - 1) / 2);
		ASSERT_GE(max, LINE);
		for (cursor = 0; cursor < capacity; cursor += LINE) {
			struct both ring, *both = &ring;

			ASSERT_EQ(both_init(both, capacity, max, cursor), NULL);
			ASSERT_NE(model_place(both, max), NOWHERE);
			STEP(try_put(both, max));
			STEP(try_take(both));
			both_deinit(both);
		}
	}
}

TEST(full_ring_refuses_and_changes_nothing)
{
	struct both ring, *both = &ring;
	uint32_t i;

	ASSERT_EQ(both_init(both, 256, 64, 0), NULL);
	for (i = 0; i < 3; i++)
		STEP(try_put(both, 64));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(model_place(both, 64), NOWHERE);
		STEP(try_put(both, 64));
	}
	for (i = 0; i < 3; i++) {
		STEP(try_take(both));
		STEP(try_release(both, 0));
	}
	ASSERT_EQ(both->model.number, 3);
	both_deinit(both);
}

/* An entry that nobody released keeps its place, however long the producer tries. */
TEST(room_comes_back_only_by_publishing)
{
	struct both ring, *both = &ring;

	ASSERT_EQ(both_init(both, 192, 64, 0), NULL);
	STEP(try_put(both, 64));
	STEP(try_put(both, 64));
	STEP(try_take(both));
	STEP(try_release(both, 0));
	EXPECT_EQ(native_ring_grant(&both->producer, 64), -EAGAIN);
	STEP(publish(both));
	EXPECT_EQ(native_ring_grant(&both->producer, 64), -EAGAIN);
	STEP(try_take(both));
	STEP(try_release(both, 0));
	STEP(publish(both));
	STEP(try_put(both, 64));
	both_deinit(both);
}

TEST(wrap_leaves_a_marker_that_the_consumer_clears)
{
	struct both ring, *both = &ring;

	ASSERT_EQ(both_init(both, 256, 64, 192), NULL);
	STEP(try_put(both, 64));
	EXPECT_EQ(line_head(both, 192), WRAP_MARKER);
	EXPECT_EQ(both->model.out[0].position, 0);
	STEP(try_take(both));
	EXPECT_EQ(line_head(both, 192), 0);
	both_deinit(both);
}

/* Order of release ---------------------------------------------------------------- */

/* All orders of the entries still borrowed, by depth. */
static const char *every_order(struct both *both, uint32_t left)
{
	struct snapshot snapshot;
	uint32_t i;

	if (left == 0)
		return both->model.count ? "not everything came back" : NULL;
	snapshot_take(&snapshot, both);
	for (i = 0; i < both->model.taken; i++) {
		const char *wrong;

		if (both->model.out[i].released)
			continue;
		wrong = try_release(both, i);
		publish(both);
		if (!wrong)
			wrong = check_all(both);
		if (!wrong)
			wrong = every_order(both, left - 1);
		if (wrong)
			return wrong;
		snapshot_restore(&snapshot, both);
	}
	return NULL;
}

TEST(released_in_any_order_room_returns_in_order)
{
	uint32_t cursor, size;

	for (size = 64; size <= 128; size += 64) {
		for (cursor = 0; cursor < 320; cursor += LINE) {
			struct both ring, *both = &ring;

			ASSERT_EQ(both_init(both, 320, 128, cursor), NULL);
			while (model_place(both, size) != NOWHERE)
				STEP(try_put(both, size));
			while (both->model.taken < both->model.count)
				STEP(try_take(both));
			ASSERT_EQ(every_order(both, both->model.count), NULL);
			both_deinit(both);
		}
	}
}

TEST(random_orders_of_release_return_all_room)
{
	uint64_t random = 7;
	unsigned long round;

	for (round = 0; round < amount(2000); round++) {
		uint32_t capacity = 192 + LINE * random_below(&random, 60);
		uint32_t max = native_ring_max_entry(capacity);
		struct both ring, *both = &ring;

		ASSERT_EQ(both_init(both, capacity, max,
				    LINE * random_below(&random, capacity / LINE)), NULL);
		while (model_place(both, LINE) != NOWHERE)
			STEP(try_put(both, LINE));
		while (both->model.taken < both->model.count)
			STEP(try_take(both));
		while (both->model.count)
			STEP(try_release(both, random_below(&random, both->model.taken)));
		EXPECT_EQ(both->consumer.early, 0);
		STEP(publish(both));
		STEP(try_put(both, max));
		both_deinit(both);
	}
}

/* Also of an entry whose lines were used again since. */
TEST(second_release_is_refused)
{
	struct both ring, *both = &ring;
	struct message first;
	uint32_t i, lap;

	ASSERT_EQ(both_init(both, 256, 64, 0), NULL);
	both->consumer.taken_count = NATIVE_ENTRY_NUMBER_MASK - 9;
	both->consumer.released_count = both->consumer.taken_count;
	STEP(try_put(both, 64));
	STEP(try_take(both));
	first = both->model.out[0];
	STEP(try_release(both, 0));
	for (lap = 0; lap < 10; lap++) {
		EXPECT_EQ(native_ring_release(&both->consumer, first.position, first.size,
					      first.ticket), -EINVAL);
		STEP(publish(both));
		for (i = 0; i < 2; i++) {
			STEP(try_put(both, 64));
			STEP(try_take(both));
			EXPECT_EQ(native_ring_release(&both->consumer, first.position, first.size,
						      first.ticket), -EINVAL);
		}
		STEP(try_release(both, 1));
		STEP(try_release(both, 1));
		STEP(try_release(both, 0));
	}
	both_deinit(both);
}

/* Line heads ------------------------------------------------------------------------ */

/* The largest entries, whose every line could be a header, then the smallest ones. */
TEST(payload_of_many_lines_leaves_no_false_headers)
{
	uint32_t capacity, cursor;

	for (capacity = 192; capacity <= EXHAUSTIVE_CAPACITY; capacity += LINE) {
		for (cursor = 0; cursor < capacity; cursor += LINE) {
			struct both ring, *both = &ring;
			struct native_entry entry;
			uint32_t i;

			ASSERT_EQ(both_init(both, capacity, native_ring_max_entry(capacity),
					    cursor), NULL);
			STEP(try_put(both, both->max_entry));
			STEP(try_take(both));
			/* The heads go to zero with the release, before the room is shown. */
			STEP(try_release(both, 0));
			EXPECT_EQ(native_ring_peek(&both->consumer, &entry), 0);
			STEP(publish(both));
			for (i = 0; i < 2 * capacity / LINE; i++) {
				STEP(try_put(both, LINE));
				STEP(try_take(both));
				STEP(try_take(both));
				STEP(try_release(both, 0));
				STEP(publish(both));
			}
			both_deinit(both);
		}
	}
}

/* Laziness -------------------------------------------------------------------------- */

/* An empty ring of which `unpublished` bytes before the cursor were not given back yet. */
static const char *lazy_init(struct both *both, uint32_t capacity, uint32_t max_entry,
			     uint32_t cursor, uint32_t unpublished)
{
	const char *wrong = both_init(both, capacity, max_entry, cursor);
	uint32_t read = (cursor + capacity - unpublished) % capacity;

	both->consumer.unpublished = unpublished;
	both->producer.read = read;
	shared_poke_u32(&both->ring->read, read);
	return wrong;
}

TEST(unpublished_room_never_keeps_the_largest_entry_out_of_an_empty_ring)
{
	uint32_t capacity, max, cursor, unpublished;

	for (capacity = 192; capacity <= 2 * EXHAUSTIVE_CAPACITY; capacity += LINE)
		for (max = LINE; max <= native_ring_max_entry(capacity); max += LINE)
			for (cursor = 0; cursor < capacity; cursor += LINE)
				for (unpublished = 0; unpublished < capacity; unpublished += LINE) {
					struct both both;
					bool due;

					ASSERT_EQ(lazy_init(&both, capacity, max, cursor,
							    unpublished), NULL);
					due = native_ring_due(&both.consumer);
					if (!due)
						ASSERT_GE(native_ring_grant(&both.producer, max), 0)
							TH_LOG("capacity %u, entry %u, at %u, kept %u",
							       capacity, max, cursor, unpublished);
					both_deinit(&both);
					if (due)
						break;
				}
}

/* The same by the way a link goes: published only when due. */
TEST(producer_never_starves_beside_a_lazy_consumer)
{
	uint32_t capacity, max;
	uint64_t random = 3;
	unsigned long i;

	for (capacity = 192; capacity <= 1536; capacity += LINE) {
		for (max = LINE; max <= native_ring_max_entry(capacity); max += 2 * LINE) {
			struct both ring, *both = &ring;

			ASSERT_EQ(both_init(both, capacity, max, 0), NULL);
			for (i = 0; i < amount(300); i++) {
				uint32_t count = 1 + random_below(&random, 3);

				STEP(try_put(both, max));
				while (count--)
					STEP(try_put(both, LINE + LINE * random_below(&random,
										max / LINE)));
				while (both->model.taken < both->model.count)
					STEP(try_take(both));
				while (both->model.count) {
					STEP(try_release(both, random_below(&random,
									    both->model.taken)));
					if (native_ring_due(&both->consumer))
						STEP(publish(both));
				}
				ASSERT_NE(model_place(both, max), NOWHERE);
			}
			both_deinit(both);
		}
	}
}

TEST(read_index_moves_at_most_every_quarter_of_a_ring)
{
	struct both ring, *both = &ring;
	uint32_t i, moves = 0;

	ASSERT_EQ(both_init(both, 4096, 64, 0), NULL);
	for (i = 0; i < 1000; i++) {
		STEP(try_put(both, 64));
		STEP(try_take(both));
		STEP(try_release(both, 0));
		if (native_ring_due(&both->consumer)) {
			STEP(publish(both));
			moves++;
		}
	}
	EXPECT_LE(moves, 1000 / 16);
	EXPECT_GE(moves, 1000 / 64);
	both_deinit(both);
}

/* A producer that dies ----------------------------------------------------------------- */

TEST(payload_without_a_commit_leaves_nothing_to_read)
{
	uint32_t cursor, size;

	for (cursor = 0; cursor < 512; cursor += LINE)
		for (size = LINE; size <= native_ring_max_entry(512); size += LINE) {
			struct native_consumer successor;
			struct native_entry entry;
			struct both both;
			int64_t position;

			ASSERT_EQ(both_init(&both, 512, 192, cursor), NULL);
			position = native_ring_grant(&both.producer, size);
			ASSERT_GE(position, 0);
			memset(native_ring_payload(&both.producer, position), 0xff,
			       size - FRAME_HEADER_SIZE);
			EXPECT_EQ(native_ring_peek(&both.consumer, &entry), 0);
			EXPECT_FALSE(native_ring_readable(&both.consumer));
			/* Nor for one that looks anew. */
			ASSERT_EQ(native_consumer_init(&successor, both.ring, 512, 192), 0);
			successor.cursor = cursor;
			successor.released = cursor;
			EXPECT_EQ(native_ring_peek(&successor, &entry), 0);
			native_consumer_deinit(&successor);
			both_deinit(&both);
		}
}

/*
 * A ring of two pages of lines, and the commit of an entry that wraps from the
 * second to the first: a process of its own dies at its first store into `page`.
 */
static void die_in_a_wrapped_commit(struct __test_metadata *_metadata, int page)
{
	uint8_t *pages = shared_memory(3 * 4096);
	struct native_ring *ring = (void *)(pages + 4096 - sizeof(*ring));
	struct native_producer producer;
	struct native_consumer consumer;
	struct native_entry entry;
	pid_t child;

	ASSERT_NE(pages, NULL);
	native_producer_init(&producer, ring, 8192);
	producer.cursor = producer.read = 8192 - LINE;
	ASSERT_EQ(native_consumer_init(&consumer, ring, 8192, 256), 0);
	consumer.cursor = consumer.released = 8192 - LINE;
	child = fork_child();
	if (child == 0) {
		die_by_fault();
		REQUIRE(native_ring_grant(&producer, 256) == 0);
		memset(native_ring_payload(&producer, 0), 0xff, 256 - FRAME_HEADER_SIZE);
		REQUIRE(mprotect(pages + 4096 * page, 4096, PROT_READ) == 0);
		native_ring_commit(&producer, 0, 256, frame_header(256, 0, 240), true);
		_exit(0);
	}
	ASSERT_EQ(wait_child(child), 128 + SIGSEGV);
	EXPECT_NE(native_ring_payload(&producer, 0)[0], 0);
	EXPECT_EQ(native_ring_peek(&consumer, &entry), 0);
	EXPECT_EQ(shared_peek_u64(native_line(ring, 8192 - LINE)), 0);
	native_consumer_deinit(&consumer);
	munmap(pages, 3 * 4096);
}

TEST(producer_that_dies_before_the_wrapped_entry_leaves_nothing_to_read)
{
	die_in_a_wrapped_commit(_metadata, 1);
}

TEST(producer_that_dies_before_the_wrap_marker_leaves_nothing_to_read)
{
	die_in_a_wrapped_commit(_metadata, 2);
}

TEST(producer_that_dies_right_after_a_wrap_leaves_its_entry)
{
	struct both ring, *both = &ring;
	struct native_entry entry;

	/* Everything but the index for observers. */
	ASSERT_EQ(both_init(both, 256, 64, 192), NULL);
	ASSERT_EQ(try_put(both, 64), NULL);
	shared_poke_u32(&both->ring->write, 192);
	EXPECT_EQ(native_ring_peek(&both->consumer, &entry), 1);
	EXPECT_EQ(entry.position, 0);
	both_deinit(both);
}

TEST_HARNESS_MAIN
