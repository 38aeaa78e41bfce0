// SPDX-License-Identifier: MIT
/*
 * What is done for speed: the quick way of a small message, the release that is
 * parked, the slots that stay warm, the loans that are copied. What goes in comes
 * out, no room is missed.
 */
#include "native/native.h"
#include "unit_test.h"

#define MAX_CAPACITY 1024u
#define THRESHOLD 128u

static const struct voxshm_class classes[] = { { 128, 4 }, { 4096, 2 } };

#define CONFIG(capacity, threshold) NATIVE_CONFIG(.max_guests = 1, .num_classes = 2,	\
						  .ring_capacity = capacity,		\
						  .inline_threshold = threshold,	\
						  .classes = classes)

FIXTURE(quick) {
	struct pair pair;
	uint8_t sent[4096];
	uint32_t number;
};

FIXTURE_SETUP(quick)
{
	self->number = 0;
}

FIXTURE_TEARDOWN(quick)
{
	EXPECT_FALSE(memory_leaks());
}

static uint32_t inline_limit(struct pair *pair)
{
	return native_link(pair->host_end)->geometry.inline_limit;
}

/* Return: what voxshm_try_send() does. */
static int put(struct _test_data_quick *self, size_t size)
{
	size_t i;

	self->number++;
	for (i = 0; i < size; i++)
		self->sent[i] = (uint8_t)(self->number * 31 + i * 7) | 1;
	return voxshm_try_send(self->pair.host_end, self->sent, size);
}

static bool is_parked(struct _test_data_quick *self)
{
	return native_link(self->pair.guest_end)->consumer.parked != 0;
}

/* Return: was it the last message that was put, whole? */
static bool take(struct _test_data_quick *self, size_t size, struct voxshm_view *view)
{
	return voxshm_try_recv(self->pair.guest_end, view) == 0 && view->size == size &&
	       memcmp(view->data, self->sent, size) == 0;
}

TEST_F(quick, messages_of_every_small_size_arrive_whole)
{
	struct voxshm_view view;
	size_t size;
	int lap;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(MAX_CAPACITY, THRESHOLD)), 0);
	for (lap = 0; lap < 5; lap++) {
		for (size = 0; size <= 200; size++) {
			ASSERT_EQ(put(self, size), 0);
			ASSERT_TRUE(take(self, size, &view))
				TH_LOG("%zu bytes", size);
			ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
			EXPECT_EQ(view.data, NULL);
			EXPECT_EQ(voxshm_try_recv(self->pair.guest_end, &view), -EAGAIN);
		}
	}
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* Small limits, below which nothing or little is quick. */
TEST_F(quick, messages_above_the_largest_are_refused)
{
	struct voxshm_view view;
	uint32_t limit;

	for (limit = 1; limit <= 70; limit++) {
		ASSERT_EQ(pair_open(&self->pair, NATIVE_CONFIG(.max_guests = 1,
			.ring_capacity = MAX_CAPACITY, .max_payload = limit, .num_classes = 2,
			.classes = classes)), 0);
		ASSERT_EQ(put(self, limit), 0);
		ASSERT_TRUE(take(self, limit, &view));
		EXPECT_EQ(put(self, limit + 1), -EMSGSIZE);
		EXPECT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
		EXPECT_EQ(pair_close(&self->pair), 0);
	}
}

/* Nobody receives again: what was released must be enough room, wherever the cursor stands. */
static void release_and_refill(struct __test_metadata *_metadata, struct _test_data_quick *self,
			       uint64_t *random, unsigned long *parked)
{
	uint32_t limit = inline_limit(&self->pair);
	size_t size = random_below(random, limit + 1);
	struct voxshm_view view;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(put(self, size), 0)
			TH_LOG("%zu bytes of at most %u", size, limit);
		ASSERT_TRUE(take(self, size, &view));
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
		*parked += is_parked(self);
		size = limit;
	}
}

TEST_F(quick, released_room_is_enough_for_the_largest_message)
{
	unsigned long i, parked = 0;
	uint64_t random = 1;
	uint32_t capacity, threshold;

	for (capacity = 192; capacity <= MAX_CAPACITY; capacity += 64) {
		for (threshold = 64; threshold <= capacity; threshold += 64) {
			ASSERT_EQ(pair_open(&self->pair, CONFIG(capacity, threshold)), 0);
			for (i = 0; i < amount(200); i++)
				release_and_refill(_metadata, self, &random, &parked);
			EXPECT_EQ(pair_close(&self->pair), 0);
		}
	}
	EXPECT_GT(parked, 0);
}

TEST_F(quick, second_release_of_a_parked_message_is_refused)
{
	struct voxshm_view view, copy;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(MAX_CAPACITY, THRESHOLD)), 0);
	ASSERT_EQ(put(self, 64), 0);
	ASSERT_TRUE(take(self, 64, &view));
	copy = view;
	ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	EXPECT_TRUE(is_parked(self));
	EXPECT_EQ(voxshm_release(self->pair.guest_end, &copy), -EINVAL);
	ASSERT_EQ(put(self, 64), 0);
	ASSERT_TRUE(take(self, 64, &view));
	EXPECT_EQ(voxshm_release(self->pair.guest_end, &copy), -EINVAL);
	EXPECT_EQ(memcmp(view.data, self->sent, 64), 0);
	EXPECT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	EXPECT_EQ(voxshm_release(self->pair.guest_end, &copy), -EINVAL);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* A parked entry, then two that are held and released in the other order. */
TEST_F(quick, parked_and_held_messages_keep_apart)
{
	struct voxshm_view views[2];
	uint8_t first[64];
	int lap, parked = 0;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(MAX_CAPACITY, THRESHOLD)), 0);
	for (lap = 0; lap < 100; lap++) {
		ASSERT_EQ(put(self, 64), 0);
		ASSERT_TRUE(take(self, 64, &views[0]));
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &views[0]), 0);
		parked += is_parked(self);
		ASSERT_EQ(put(self, 64), 0);
		memcpy(first, self->sent, 64);
		ASSERT_TRUE(take(self, 64, &views[0]));
		ASSERT_EQ(put(self, 60), 0);
		ASSERT_TRUE(take(self, 60, &views[1]));
		EXPECT_EQ(memcmp(views[0].data, first, 64), 0);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &views[1]), 0);
		EXPECT_EQ(memcmp(views[0].data, first, 64), 0);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &views[0]), 0);
	}
	EXPECT_GT(parked, 0);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* A sender that waits for room is told at once, not when this side receives again. */
TEST_F(quick, release_that_is_waited_for_is_not_parked)
{
	struct voxshm_view view;
	unsigned int count = 0;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(MAX_CAPACITY, THRESHOLD)), 0);
	while (put(self, 56) == 0)
		count++;
	ASSERT_GT(count, 1);
	ASSERT_EQ(voxshm_link_arm(self->pair.host_end, VOXSHM_WRITABLE), 0);
	ASSERT_EQ(voxshm_try_recv(self->pair.guest_end, &view), 0);
	ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	EXPECT_FALSE(is_parked(self));
	EXPECT_EQ(shared_peek_u32(&self->pair.host_end->mine->space), 0);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* Batches of every length at every place of the ring, small and large messages mixed. */
TEST_F(quick, batches_arrive_whole_and_in_order)
{
	struct iovec messages[40];
	struct voxshm_view views[40];
	uint64_t random = 1;
	unsigned long lap;
	int sent, received, got, i;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(2 * MAX_CAPACITY, THRESHOLD)), 0);
	for (i = 0; i < (int)sizeof(self->sent); i++)
		self->sent[i] = (uint8_t)(i * 13 + 1);
	for (lap = 0; lap < amount(3000); lap++) {
		unsigned int count = 1 + random_below(&random, 40);

		for (i = 0; i < (int)count; i++) {
			messages[i].iov_base = self->sent + random_below(&random, 100);
			messages[i].iov_len = random_below(&random, 8) ?
					      random_below(&random, 100) : 1000;
		}
		sent = voxshm_send_batch(self->pair.host_end, messages, count, 0);
		ASSERT_GT(sent, 0);
		EXPECT_EQ(native_link(self->pair.host_end)->producer.staged, 0);
		for (received = 0; received < sent; received += got) {
			got = voxshm_recv_batch(self->pair.guest_end, views, 40, 0);
			ASSERT_GT(got, 0);
			for (i = 0; i < got; i++) {
				ASSERT_EQ(views[i].size, messages[received + i].iov_len);
				ASSERT_EQ(memcmp(views[i].data, messages[received + i].iov_base,
						 views[i].size), 0);
				ASSERT_EQ(voxshm_release(self->pair.guest_end, &views[i]), 0);
			}
		}
		ASSERT_EQ(voxshm_recv_batch(self->pair.guest_end, views, 40, 0), -EAGAIN);
	}
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* The consumer comes once for all of a batch, also where its first entry wraps. */
TEST(staged_entries_are_seen_when_they_are_published)
{
	uint8_t *memory = shared_memory(sizeof(struct native_ring) + 1024);
	struct native_ring *ring = (void *)memory;
	struct native_producer producer;
	struct native_consumer consumer;
	struct native_entry entry;
	uint32_t cursor, size;
	int64_t position;
	int i;

	ASSERT_NE(memory, NULL);
	for (cursor = 0; cursor < 1024; cursor += 64) {
		memset(memory, 0, sizeof(struct native_ring) + 1024);
		native_producer_init(&producer, ring, 1024);
		ASSERT_EQ(native_consumer_init(&consumer, ring, 1024, 192), 0);
		producer.cursor = producer.read = consumer.cursor = consumer.released = cursor;
		shared_poke_u32(&ring->read, cursor);
		for (i = 0; i < 3; i++) {
			size = 64 * (uint32_t)(3 - i);
			position = native_ring_grant(&producer, size);
			ASSERT_GE(position, 0);
			native_ring_stage(&producer, position, size, frame_header(size, 0, 1));
			EXPECT_EQ(native_ring_peek(&consumer, &entry), 0);
			EXPECT_FALSE(native_ring_readable(&consumer));
		}
		native_ring_publish_staged(&producer, cursor % 128);
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(native_ring_peek(&consumer, &entry), 1);
			EXPECT_EQ(frame_total_len(entry.header), 64 * (uint32_t)(3 - i));
			native_ring_take(&consumer, &entry);
		}
		EXPECT_EQ(native_ring_peek(&consumer, &entry), 0);
		EXPECT_EQ(shared_peek_u32(&ring->write), producer.cursor);
		native_consumer_deinit(&consumer);
	}
	munmap(memory, sizeof(struct native_ring) + 1024);
}

/* Large payloads, one at a time: they take turns in a few slots, not in all. */
TEST_F(quick, returned_slots_are_used_again_before_fresh_ones)
{
	static const struct voxshm_class large = { 256 * 1024, 32 };
	const void *seen[32];
	struct voxshm_view view;
	unsigned int count = 0, i, j;

	ASSERT_EQ(pair_open(&self->pair, NATIVE_CONFIG(.max_guests = 1, .num_classes = 1,
						       .classes = &large)), 0);
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(put(self, sizeof(self->sent)), 0);
		ASSERT_TRUE(take(self, sizeof(self->sent), &view));
		for (j = 0; j < count && seen[j] != view.data; j++)
			;
		if (j == count)
			seen[count++] = view.data;
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	}
	EXPECT_GT(count, 1);
	EXPECT_LE(count, 8);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* Held ones are left alone, and those sent after them are found when all run dry. */
TEST_F(quick, held_slots_are_not_used_again)
{
	static const struct voxshm_class large = { 256 * 1024, 32 };
	struct voxshm_view held, view;
	uint8_t first[4096];
	unsigned int i;

	ASSERT_EQ(pair_open(&self->pair, NATIVE_CONFIG(.max_guests = 1, .num_classes = 1,
						       .classes = &large)), 0);
	ASSERT_EQ(put(self, sizeof(self->sent)), 0);
	memcpy(first, self->sent, sizeof(first));
	ASSERT_TRUE(take(self, sizeof(first), &held));
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(put(self, sizeof(self->sent)), 0);
		ASSERT_TRUE(take(self, sizeof(self->sent), &view));
		EXPECT_NE(view.data, held.data);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	}
	EXPECT_EQ(memcmp(held.data, first, sizeof(first)), 0);
	EXPECT_EQ(voxshm_release(self->pair.guest_end, &held), 0);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

/* More small loans than there is scratch memory for: the others are slots; all keep apart. */
TEST_F(quick, small_loans_keep_apart_and_arrive_in_order_of_commit)
{
	struct voxshm_loan loans[SCRATCH_COUNT + 4], stale;
	struct voxshm_view view;
	int i, j, n = SCRATCH_COUNT + 4;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(4 * MAX_CAPACITY, THRESHOLD)), 0);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(voxshm_loan(self->pair.host_end, 64, &loans[i], 0), 0);
		ASSERT_GE(loans[i].size, 64);
		memset(loans[i].data, 'a' + i, loans[i].size);
	}
	for (i = n - 1; i >= 0; i--) {
		for (j = 0; j < 64; j++)
			ASSERT_EQ(((char *)loans[i].data)[j], 'a' + i);
		stale = loans[i];
		ASSERT_EQ(voxshm_commit(self->pair.host_end, &loans[i], 64, 0), 0);
		EXPECT_EQ(loans[i].data, NULL);
		EXPECT_EQ(voxshm_commit(self->pair.host_end, &stale, 64, 0), -EINVAL);
		ASSERT_EQ(voxshm_try_recv(self->pair.guest_end, &view), 0);
		EXPECT_EQ(view.size, 64);
		EXPECT_EQ(((const char *)view.data)[63], 'a' + i);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	}
	/* A stale loan does not give back what was lent anew. */
	ASSERT_EQ(voxshm_loan(self->pair.host_end, 64, &loans[0], 0), 0);
	ASSERT_EQ(loans[0].data, stale.data);
	voxshm_abort(self->pair.host_end, &stale);
	ASSERT_EQ(voxshm_loan(self->pair.host_end, 64, &loans[1], 0), 0);
	EXPECT_NE(loans[1].data, loans[0].data);
	voxshm_abort(self->pair.host_end, &loans[0]);
	voxshm_abort(self->pair.host_end, &loans[1]);
	EXPECT_EQ(native_link(self->pair.host_end)->scratch.lent, 0);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

TEST_F(quick, small_loan_that_finds_no_room_stays_open)
{
	struct voxshm_loan loan;
	struct voxshm_view view;

	ASSERT_EQ(pair_open(&self->pair, CONFIG(512, THRESHOLD)), 0);
	ASSERT_EQ(voxshm_loan(self->pair.host_end, 56, &loan, 0), 0);
	memset(loan.data, 'x', 56);
	EXPECT_EQ(voxshm_commit(self->pair.host_end, &loan, loan.size + 1, 0), -EINVAL);
	while (put(self, 56) == 0)
		;
	ASSERT_EQ(voxshm_commit(self->pair.host_end, &loan, 56, 0), -EAGAIN);
	while (voxshm_try_recv(self->pair.guest_end, &view) == 0)
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	ASSERT_EQ(voxshm_commit(self->pair.host_end, &loan, 56, PATIENCE), 0);
	ASSERT_EQ(voxshm_try_recv(self->pair.guest_end, &view), 0);
	EXPECT_EQ(((const char *)view.data)[55], 'x');
	ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
	EXPECT_EQ(pair_close(&self->pair), 0);
}

TEST_HARNESS_MAIN
