// SPDX-License-Identifier: MIT
/*
 * The native ring between two threads and between two processes: every message
 * comes once, in order and whole.
 */
#include "native/ring.h"
#include "unit_test.h"

#define MAX_HELD 16u

/* One end's work. Memory order is what is tested: nothing else joins the two. */
struct work {
	struct native_ring *ring;
	uint32_t capacity;
	uint64_t messages;
	uint32_t held;		/* entries the consumer keeps, released in any order */
};

static uint64_t messages(uint64_t normal)
{
	normal = (uint64_t)environment_number("VOXSHM_STRESS_MESSAGES", (long)normal);
	if (environment_number("TEST_LONG", 0))
		normal *= 10;
	if (environment_number("VOXSHM_TEST_SLOW", 0) > 0)
		normal /= 100 * (uint64_t)slowness();
	else if (SANITIZED)
		normal /= 50;
	return normal ? normal : 1;
}

static uint32_t max_payload(uint32_t capacity)
{
	uint32_t max = native_ring_max_entry(capacity) - FRAME_HEADER_SIZE;

	return max < FRAME_MAX_INLINE ? max : FRAME_MAX_INLINE;
}

/* A message's size and content follow from its number. */
static uint32_t size_of(uint64_t number, uint32_t max)
{
	uint64_t state = number;

	return 16 + random_below(&state, max - 16 + 1);
}

static void fill(uint8_t *payload, uint32_t size, uint64_t number)
{
	uint64_t word = ~number;

	memcpy(payload, &number, 8);
	for (uint32_t i = 8; i + 8 <= size; i += 8, word *= 3)
		memcpy(payload + i, &word, 8);
	memset(payload + size / 8 * 8, (uint8_t)number | 1, size % 8);
}

static bool is_filled(const uint8_t *payload, uint32_t size, uint64_t number)
{
	uint64_t word = ~number;

	if (memcmp(payload, &number, 8))
		return false;
	for (uint32_t i = 8; i + 8 <= size; i += 8, word *= 3)
		if (memcmp(payload + i, &word, 8))
			return false;
	for (uint32_t i = size / 8 * 8; i < size; i++)
		if (payload[i] != ((uint8_t)number | 1))
			return false;
	return true;
}

/* Two processors may be fewer than the threads that want them. */
static void rest(unsigned int *idle)
{
	if (under_valgrind() || ++*idle % 128 == 0)
		sched_yield();
	else
		shared_pause();
}

static void *produce(void *argument)
{
	const struct work *work = argument;
	uint32_t max = max_payload(work->capacity);
	struct native_producer producer;
	unsigned int idle = 0;
	uint64_t number;

	native_producer_init(&producer, work->ring, work->capacity);
	for (number = 0; number < work->messages; number++) {
		uint32_t size = size_of(number, max), entry_size = native_entry_size(size);
		int64_t position;

		while ((position = native_ring_grant(&producer, entry_size)) == -EAGAIN)
			rest(&idle);
		REQUIRE(position >= 0);
		fill(native_ring_payload(&producer, position), size, number);
		native_ring_commit(&producer, position, entry_size,
				   frame_header(entry_size, 0, (uint16_t)size), number % 2);
	}
	return NULL;
}

struct held {
	struct native_entry entry;
	uint64_t number;
	uint32_t ticket;
};

/* The payload is still as it was, then goes back. */
static void give_back(struct native_consumer *consumer, const struct held *held)
{
	REQUIRE(is_filled(held->entry.payload, frame_inline_len(held->entry.header), held->number));
	REQUIRE(native_ring_release(consumer, held->entry.position,
				    frame_total_len(held->entry.header), held->ticket) == 0);
	if (native_ring_due(consumer))
		native_ring_publish_read(consumer);
}

static void give_all_back(struct native_consumer *consumer, struct held *held, uint32_t *count)
{
	while (*count)
		give_back(consumer, &held[--*count]);
	native_ring_publish_read(consumer);
}

static void *consume(void *argument)
{
	const struct work *work = argument;
	uint32_t max = max_payload(work->capacity), count = 0;
	uint64_t number = 0, random = 23;
	struct native_consumer consumer;
	struct held held[MAX_HELD];
	unsigned int idle = 0;

	REQUIRE(native_consumer_init(&consumer, work->ring, work->capacity,
				     native_entry_size(max)) == 0);
	while (number < work->messages) {
		struct held *next = &held[count];
		int ret = native_ring_peek(&consumer, &next->entry);

		REQUIRE(ret >= 0);
		if (ret == 0) {
			/* The producer may wait for what is held here. */
			give_all_back(&consumer, held, &count);
			rest(&idle);
			continue;
		}
		REQUIRE(frame_inline_len(next->entry.header) == size_of(number, max));
		REQUIRE(is_filled(next->entry.payload, size_of(number, max), number));
		next->number = number++;
		next->ticket = native_ring_take(&consumer, &next->entry);
		if (++count > work->held) {
			uint32_t which = random_below(&random, count);
			struct held old = held[which];

			held[which] = held[--count];
			give_back(&consumer, &old);
		}
	}
	give_all_back(&consumer, held, &count);
	native_consumer_deinit(&consumer);
	return NULL;
}

FIXTURE(stress) {
	struct work work;
	size_t size;
};

FIXTURE_VARIANT(stress) {
	uint32_t capacity;
	uint32_t held;
	uint64_t messages;
};

FIXTURE_VARIANT_ADD(stress, smallest) { 192, 0, 2000000 };
FIXTURE_VARIANT_ADD(stress, small) { 320, 0, 200000 };
FIXTURE_VARIANT_ADD(stress, small_any_order) { 448, 2, 200000 };
FIXTURE_VARIANT_ADD(stress, page_any_order) { 4096, 15, 200000 };
FIXTURE_VARIANT_ADD(stress, large) { 262144, 3, 5000 };

FIXTURE_SETUP(stress)
{
	self->size = sizeof(struct native_ring) + variant->capacity;
	self->work = (struct work){
		.ring = shared_memory(self->size),
		.capacity = variant->capacity,
		.held = variant->held,
		.messages = messages(variant->messages),
	};
	ASSERT_NE(self->work.ring, NULL);
}

FIXTURE_TEARDOWN(stress)
{
	uint32_t line;

	/* All was consumed and released: nothing is left behind. */
	for (line = 0; line < variant->capacity; line += CACHE_LINE)
		EXPECT_EQ(shared_peek_u64(native_line(self->work.ring, line)), 0);
	EXPECT_EQ(shared_peek_u32(&self->work.ring->write),
		  shared_peek_u32(&self->work.ring->read));
	munmap(self->work.ring, self->size);
}

TEST_F_TIMEOUT(stress, two_threads, 3000)
{
	pthread_t producer = thread_start(produce, &self->work);

	consume(&self->work);
	pthread_join(producer, NULL);
}

TEST_F_TIMEOUT(stress, two_processes, 3000)
{
	pid_t child;

	/* The longest run is one of threads. */
	if (self->work.messages > messages(1000000))
		self->work.messages = messages(1000000);
	child = fork_child();
	ASSERT_GE(child, 0);
	if (child == 0) {
		produce(&self->work);
		_exit(0);
	}
	consume(&self->work);
	EXPECT_EQ(wait_child(child), 0);
}

TEST_HARNESS_MAIN
