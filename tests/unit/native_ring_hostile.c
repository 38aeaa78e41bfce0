// SPDX-License-Identifier: MIT
/* The native ring beside a hostile other side: refused, or harmless; never out of bounds. */
#include "native_ring_model.h"

/* A consumer whose cursor and first unreleased entry are where a test wants them. */
static const char *consumer_at(struct both *both, uint32_t capacity, uint32_t released,
			       uint32_t cursor)
{
	const char *wrong = both_init(both, capacity, native_ring_max_entry(capacity), cursor);

	both->consumer.released = released;
	return wrong;
}

static void put_head(struct both *both, uint32_t position, uint64_t head)
{
	shared_store_u64(native_line(both->ring, position), head);
}

static int peek(struct both *both)
{
	struct native_entry entry;

	return native_ring_peek(&both->consumer, &entry);
}

TEST(read_index_that_is_none_is_refused)
{
	uint32_t capacity, read;

	for (capacity = 192; capacity <= 512; capacity += LINE) {
		for (read = 0; read < 2 * capacity; read++) {
			struct both both;
			int expected = read % LINE || read >= capacity ? -EBADMSG : 0;

			ASSERT_EQ(both_init(&both, capacity, 64, 64), NULL);
			shared_poke_u32(&both.ring->read, read);
			ASSERT_EQ(native_producer_refresh(&both.producer), expected);
			if (expected)
				EXPECT_EQ(both.producer.read, 64);
			both_deinit(&both);
		}
	}
}

TEST(extreme_read_index_is_refused_by_a_grant_that_needs_it)
{
	static const uint32_t bad[] = { 1, 63, 65, 320, 384, 0x7fffffc0, 0x80000000, 0xffffffc0,
					0xffffffff };
	struct both both;
	size_t i;

	ASSERT_EQ(both_init(&both, 320, 128, 64), NULL);
	/* What fits without another look does not care. */
	shared_poke_u32(&both.ring->read, 1);
	EXPECT_EQ(native_ring_grant(&both.producer, 64), 64);
	native_ring_commit(&both.producer, 64, 64, frame_header(64, 0, 1), true);
	EXPECT_EQ(native_ring_grant(&both.producer, 128), 128);
	native_ring_commit(&both.producer, 128, 128, frame_header(128, 0, 1), true);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		shared_poke_u32(&both.ring->read, bad[i]);
		EXPECT_EQ(native_ring_grant(&both.producer, 128), -EBADMSG);
		EXPECT_EQ(both.producer.cursor, 256);
	}
	both_deinit(&both);
}

/* A consumer that lies about `read` ruins its own ring, and nothing beyond. */
TEST(lying_read_index_leads_no_store_out_of_bounds)
{
	uint64_t random = 11;
	unsigned long i;
	uint32_t capacity;

	for (capacity = 192; capacity <= 1024; capacity += LINE) {
		uint32_t sizes = native_ring_max_entry(capacity) / LINE;
		struct both both;

		ASSERT_EQ(both_init(&both, capacity, sizes * LINE, 0), NULL);
		for (i = 0; i < amount(5000); i++) {
			uint32_t size = LINE + LINE * random_below(&random, sizes);
			int64_t position;

			shared_poke_u32(&both.ring->read,
					random_below(&random, 8) ?
					LINE * random_below(&random, capacity / LINE) :
					(uint32_t)random_next(&random));
			position = native_ring_grant(&both.producer, size);
			ASSERT_TRUE(position >= 0 || position == -EAGAIN || position == -EBADMSG);
			if (position < 0)
				continue;
			ASSERT_LE(position + size + LINE, capacity);
			memset(native_ring_payload(&both.producer, position), 0xff,
			       size - FRAME_HEADER_SIZE);
			native_ring_commit(&both.producer, position, size,
					   frame_header(size, 0, 9), i % 2);
			ASSERT_LE(both.producer.cursor, capacity - LINE);
		}
		both_deinit(&both);
	}
}

TEST(header_of_every_size_is_seen_or_refused)
{
	uint32_t capacity, cursor, released, size;

	for (capacity = 192; capacity <= 448; capacity += LINE)
		for (cursor = 0; cursor < capacity; cursor += LINE)
			for (released = 0; released <= cursor; released += LINE)
				for (size = 0; size <= capacity + 128; size += 4) {
					bool good = size && size % LINE == 0 &&
						    cursor + size <= capacity - LINE;
					struct both both;

					ASSERT_EQ(consumer_at(&both, capacity, released, cursor),
						  NULL);
					put_head(&both, cursor, frame_header(size, 0, 1));
					ASSERT_EQ(peek(&both), good ? 1 : -EBADMSG);
					both_deinit(&both);
				}
}

TEST(header_of_extreme_size_is_refused)
{
	static const uint32_t bad[] = { 0x7fffffc0, 0x80000000, 0xfffffe00, 0xffffff00, 0xffffff80,
					0xffffffc0, 0xffffffff };
	uint32_t cursor;
	size_t i;

	for (cursor = 0; cursor < 512; cursor += LINE)
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			struct both both;

			ASSERT_EQ(consumer_at(&both, 512, cursor, cursor), NULL);
			put_head(&both, cursor, frame_header(bad[i], 0, 0));
			EXPECT_EQ(peek(&both), -EBADMSG);
			both_deinit(&both);
		}
}

TEST(wrap_marker_that_is_not_exactly_one_is_refused)
{
	static const uint64_t bad[] = {
		(uint64_t)FRAME_WRAP << 32,
		(uint64_t)FRAME_WRAP << 32 | 128,
		(uint64_t)FRAME_WRAP << 32 | 63,
		(uint64_t)(FRAME_WRAP | FRAME_SLOT_REF) << 32 | 64,
		(uint64_t)0xff << 32 | 64,
		(uint64_t)FRAME_WRAP << 32 | 64 | 1ull << 40,
		(uint64_t)FRAME_WRAP << 32 | 64 | 1ull << 48,
		UINT64_MAX,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct both both;

		ASSERT_EQ(consumer_at(&both, 320, 192, 192), NULL);
		put_head(&both, 0, frame_header(64, 0, 1));
		put_head(&both, 192, bad[i]);
		EXPECT_EQ(peek(&both), -EBADMSG);
		EXPECT_EQ(both.consumer.cursor, 192);
		put_head(&both, 192, WRAP_MARKER);
		EXPECT_EQ(peek(&both), 1);
		both_deinit(&both);
	}
}

TEST(wrap_at_the_front_is_refused)
{
	struct both both;

	ASSERT_EQ(consumer_at(&both, 320, 0, 0), NULL);
	put_head(&both, 0, WRAP_MARKER);
	EXPECT_EQ(peek(&both), -EBADMSG);
	both_deinit(&both);
}

TEST(wrap_before_anything_was_released_is_refused)
{
	uint32_t cursor;

	for (cursor = LINE; cursor < 320; cursor += LINE) {
		struct both both;

		ASSERT_EQ(consumer_at(&both, 320, 0, cursor), NULL);
		put_head(&both, 0, frame_header(64, 0, 1));
		put_head(&both, cursor, WRAP_MARKER);
		EXPECT_EQ(peek(&both), -EBADMSG);
		both_deinit(&both);
	}
}

TEST(wrap_to_nothing_is_refused)
{
	struct both both;

	ASSERT_EQ(consumer_at(&both, 320, 192, 192), NULL);
	put_head(&both, 192, WRAP_MARKER);
	EXPECT_EQ(peek(&both), -EBADMSG);
	both_deinit(&both);
}

TEST(wrap_to_a_wrap_is_refused)
{
	uint32_t released;

	for (released = LINE; released <= 192; released += LINE) {
		struct both both;

		ASSERT_EQ(consumer_at(&both, 320, released, 192), NULL);
		put_head(&both, 0, WRAP_MARKER);
		put_head(&both, 192, WRAP_MARKER);
		EXPECT_EQ(peek(&both), -EBADMSG);
		both_deinit(&both);
	}
}

/* Behind the first wrap an entry borrowed before it still lies at 128. */
TEST(second_wrap_over_a_borrowed_entry_is_refused)
{
	struct native_entry entry;
	struct both both;

	ASSERT_EQ(consumer_at(&both, 512, 128, 256), NULL);
	put_head(&both, 256, WRAP_MARKER);
	put_head(&both, 0, frame_header(64, 0, 1));
	put_head(&both, 64, WRAP_MARKER);
	ASSERT_EQ(native_ring_peek(&both.consumer, &entry), 1);
	native_ring_take(&both.consumer, &entry);
	EXPECT_EQ(peek(&both), -EBADMSG);
	both_deinit(&both);
}

TEST(entry_that_laps_a_borrowed_one_is_refused)
{
	uint32_t released, size;

	for (released = LINE; released <= 384; released += LINE)
		for (size = LINE; size <= 512; size += LINE) {
			/* The marker's line, if nothing is borrowed: all room is free. */
			uint32_t limit = released == 384 ? 512 - LINE : released - LINE;
			struct both both;

			ASSERT_EQ(consumer_at(&both, 512, released, 384), NULL);
			put_head(&both, 384, WRAP_MARKER);
			put_head(&both, 0, frame_header(size, 0, 1));
			ASSERT_EQ(peek(&both), size <= limit ? 1 : -EBADMSG);
			both_deinit(&both);
		}
}

/* A hostile producer that writes what it likes, as the consumer goes on ---------- */

struct borrowed {
	uint32_t position, size, ticket;
};

/* Mostly what may be right, so that the consumer comes far. */
static uint64_t hostile_head(uint64_t *random, uint32_t capacity)
{
	switch (random_below(random, 32)) {
	case 0:
		return random_next(random);
	case 1:
		return frame_header((uint32_t)random_next(random), 0, 0);
	case 2 ... 7:
		return 0;
	case 8 ... 11:
		return WRAP_MARKER;
	default:
		return frame_header(LINE * (1 + random_below(random, capacity / LINE / 3)),
				    (uint8_t)random_below(random, 3), (uint16_t)random_next(random));
	}
}

static bool overlaps(const struct borrowed *borrowed, uint32_t count,
		     const struct native_entry *entry)
{
	uint32_t size = frame_total_len(entry->header), i;

	for (i = 0; i < count; i++)
		if (entry->position < borrowed[i].position + borrowed[i].size &&
		    borrowed[i].position < entry->position + size)
			return true;
	return false;
}

/* Return: what is wrong, or NULL when the consumer ran, or gave up with -EBADMSG. */
static const char *run_against_hostile(struct both *both, uint64_t *random, unsigned int *seen)
{
	struct borrowed borrowed[MAX_LINES];
	struct native_entry entry;
	uint32_t count = 0, step, i;
	int ret;

	for (step = 0; step < 200; step++) {
		put_head(both, random_below(random, 2) ? both->consumer.cursor :
			       LINE * random_below(random, both->capacity / LINE),
			 hostile_head(random, both->capacity));
		if (count && random_below(random, 2)) {
			i = random_below(random, count);
			if (native_ring_release(&both->consumer, borrowed[i].position,
						borrowed[i].size, borrowed[i].ticket))
				return "a release was refused";
			borrowed[i] = borrowed[--count];
			native_ring_publish_read(&both->consumer);
		}
		ret = native_ring_peek(&both->consumer, &entry);
		if (ret == -EBADMSG)
			return NULL;
		if (both->consumer.cursor >= both->capacity ||
		    both->consumer.released >= both->capacity)
			return "an index is out of bounds";
		if (ret == 0)
			continue;
		if (entry.position + frame_total_len(entry.header) > both->capacity - LINE)
			return "an entry is out of bounds";
		if (overlaps(borrowed, count, &entry))
			return "an entry lies over a borrowed one";
		borrowed[count++] = (struct borrowed){
			entry.position, frame_total_len(entry.header),
			native_ring_take(&both->consumer, &entry),
		};
		++*seen;
	}
	return NULL;
}

TEST(hostile_heads_are_refused_or_harmless)
{
	uint64_t random = 13;
	unsigned long round;
	unsigned int seen = 0;

	for (round = 0; round < amount(60000); round++) {
		uint32_t capacity = 192 + LINE * random_below(&random, 20);
		uint32_t cursor = LINE * random_below(&random, capacity / LINE);
		const char *wrong;
		struct both both;

		ASSERT_EQ(both_init(&both, capacity, native_ring_max_entry(capacity), cursor), NULL);
		wrong = run_against_hostile(&both, &random, &seen);
		ASSERT_EQ(wrong, NULL)
			TH_LOG("%s (round %lu, capacity %u)", wrong, round, capacity);
		both_deinit(&both);
	}
	EXPECT_GT(seen, amount(60000));
}

/* The same bytes, changed while the consumer looks: each is loaded once. */
struct scribbler {
	struct native_ring *ring;
	uint32_t capacity;
	atomic_bool stop;
};

static void *scribble(void *argument)
{
	struct scribbler *scribbler = argument;
	uint64_t random = 17;

	while (!atomic_load(&scribbler->stop)) {
		shared_store_u64(native_line(scribbler->ring, LINE * random_below(&random,
								scribbler->capacity / LINE)),
				 hostile_head(&random, scribbler->capacity));
		if (under_valgrind())
			sched_yield();
	}
	return NULL;
}

TEST(heads_that_change_under_the_consumer_are_refused_or_harmless)
{
	struct scribbler scribbler = { .capacity = 512 };
	uint64_t random = 19;
	unsigned long round;
	unsigned int seen = 0;
	pthread_t thread;
	struct both both;

	ASSERT_EQ(both_init(&both, 512, 192, 0), NULL);
	scribbler.ring = both.ring;
	thread = thread_start(scribble, &scribbler);
	for (round = 0; round < amount(100000); round++) {
		uint32_t cursor = LINE * random_below(&random, 512 / LINE);
		const char *wrong;

		native_consumer_deinit(&both.consumer);
		ASSERT_EQ(native_consumer_init(&both.consumer, both.ring, 512, 192), 0);
		both.consumer.cursor = both.consumer.released = cursor;
		wrong = run_against_hostile(&both, &random, &seen);
		ASSERT_EQ(wrong, NULL)
			TH_LOG("%s (round %lu)", wrong, round);
	}
	atomic_store(&scribbler.stop, true);
	pthread_join(thread, NULL);
	both_deinit(&both);
}

TEST_HARNESS_MAIN
