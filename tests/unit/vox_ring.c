// SPDX-License-Identifier: GPL-2.0
/* The vox ring: entries, wraps, releases out of order, and a hostile other side. */
#include "vox_ring_test.h"
#include "kselftest_harness.h"

/* A ring with both its ends, in memory of its own size. */
struct both {
	struct vox_ring *ring;
	struct vox_ring_producer producer;
	struct vox_ring_consumer consumer;
	uint32_t *early;
	uint32_t capacity;
};

static int both_init(struct both *both, uint32_t capacity)
{
	both->capacity = capacity;
	both->ring = aligned_alloc(64, vox_ring_stride(capacity));
	both->early = calloc(vox_ring_early_words(capacity), sizeof(uint32_t));
	if (!both->ring || !both->early)
		return -ENOMEM;
	memset(both->ring, 0xee, vox_ring_stride(capacity));
	vox_ring_init(both->ring, capacity);
	if (vox_producer_init(&both->producer, both->ring, capacity))
		return -EBADMSG;
	return vox_consumer_init(&both->consumer, both->ring, capacity, both->early);
}

static void both_deinit(struct both *both)
{
	free(both->ring);
	free(both->early);
}

/* Leaves an empty ring whose indices stand at `position`. */
static void both_move(struct both *both, uint32_t position)
{
	shared_poke_u32(&both->ring->read, position);
	shared_poke_u64(&both->ring->write_watermark, position);
	vox_producer_init(&both->producer, both->ring, both->capacity);
	vox_consumer_init(&both->consumer, both->ring, both->capacity, both->early);
}

FIXTURE(ring) {
	struct both both;
};

FIXTURE_SETUP(ring)
{
	ASSERT_EQ(both_init(&self->both, 256), 0);
}

FIXTURE_TEARDOWN(ring)
{
	both_deinit(&self->both);
}

TEST_F(ring, entry_comes_out_as_it_went_in)
{
	EXPECT_EQ(put(&self->both.producer, 24, 7), 0);
	EXPECT_EQ(get(&self->both.consumer, 7), 24);
	EXPECT_EQ(vox_ring_peek(&self->both.consumer), 0);
}

TEST_F(ring, grant_publishes_nothing)
{
	int64_t position = vox_ring_grant(&self->both.producer, 64);

	ASSERT_EQ(position, 0);
	memset(vox_ring_entry(&self->both.producer, position), 0x55, 64);
	EXPECT_EQ(vox_ring_peek(&self->both.consumer), 0);
	EXPECT_EQ(shared_peek_u64(&self->both.ring->write_watermark), 0);
}

TEST_F(ring, full_ring_refuses_and_changes_nothing)
{
	uint64_t words;
	uint32_t i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(put(&self->both.producer, 64, i), 0);
	words = shared_peek_u64(&self->both.ring->write_watermark);
	EXPECT_EQ(put(&self->both.producer, 8, 9), -EAGAIN);
	EXPECT_EQ(shared_peek_u64(&self->both.ring->write_watermark), words);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(get(&self->both.consumer, i), 64);
}

TEST_F(ring, refused_wrap_publishes_nothing)
{
	ASSERT_EQ(put(&self->both.producer, 120, 0), 0);
	ASSERT_EQ(put(&self->both.producer, 120, 1), 0);
	ASSERT_EQ(get(&self->both.consumer, 0), 120);
	/* 16 bytes at the end, 119 usable at the front. */
	EXPECT_EQ(put(&self->both.producer, 120, 2), -EAGAIN);
	EXPECT_EQ(shared_peek_u64(&self->both.ring->write_watermark), 240);
	EXPECT_EQ(put(&self->both.producer, 116, 2), 0);
	EXPECT_EQ(shared_peek_u64(&self->both.ring->write_watermark), 240ull << 32 | 116);
	EXPECT_EQ(get(&self->both.consumer, 1), 120);
	EXPECT_EQ(get(&self->both.consumer, 2), 116);
}

TEST_F(ring, consumer_clears_the_watermark)
{
	ASSERT_EQ(put(&self->both.producer, 120, 0), 0);
	ASSERT_EQ(put(&self->both.producer, 120, 1), 0);
	ASSERT_EQ(get(&self->both.consumer, 0), 120);
	ASSERT_EQ(put(&self->both.producer, 64, 2), 0);
	ASSERT_EQ(get(&self->both.consumer, 1), 120);
	ASSERT_EQ(get(&self->both.consumer, 2), 64);
	EXPECT_EQ(shared_peek_u64(&self->both.ring->write_watermark), 64);
	EXPECT_EQ(shared_peek_u32(&self->both.ring->read), 64);
}

TEST_F(ring, second_end_goes_on_where_the_first_stopped)
{
	struct both *both = &self->both;

	ASSERT_EQ(put(&both->producer, 120, 0), 0);
	ASSERT_EQ(put(&both->producer, 120, 1), 0);
	ASSERT_EQ(get(&both->consumer, 0), 120);
	ASSERT_EQ(put(&both->producer, 64, 2), 0);
	ASSERT_EQ(vox_producer_init(&both->producer, both->ring, 256), 0);
	ASSERT_EQ(vox_consumer_init(&both->consumer, both->ring, 256, both->early), 0);
	EXPECT_EQ(put(&both->producer, 48, 3), 0);
	EXPECT_EQ(put(&both->producer, 48, 4), -EAGAIN);
	EXPECT_EQ(get(&both->consumer, 1), 120);
	EXPECT_EQ(get(&both->consumer, 2), 64);
	EXPECT_EQ(get(&both->consumer, 3), 48);
	EXPECT_EQ(get(&both->consumer, 4), 0);
}

TEST(empty_ring_takes_the_longest_entry_wherever_it_stands)
{
	uint32_t capacity, position;

	for (capacity = 72; capacity <= 264; capacity += 8) {
		struct both both;

		ASSERT_EQ(both_init(&both, capacity), 0);
		for (position = 0; position <= capacity; position += 4) {
			both_move(&both, position);
			ASSERT_EQ(put(&both.producer, vox_ring_max_entry(capacity), 1), 0);
			ASSERT_EQ(get(&both.consumer, 1), vox_ring_max_entry(capacity));
		}
		both_deinit(&both);
	}
}

/* Every position, and every pair of sizes that then wraps or not. */
TEST(every_wrap_keeps_order_and_bytes)
{
	uint32_t capacity, position, first, second;

	for (capacity = 72; capacity <= 88; capacity += 8) {
		uint32_t longest = vox_ring_max_entry(capacity);
		struct both both;

		ASSERT_EQ(both_init(&both, capacity), 0);
		for (position = 0; position <= capacity; position += 4) {
			for (first = 8; first <= longest; first += 4) {
				for (second = 8; second <= longest; second += 4) {
					int ret;

					both_move(&both, position);
					ASSERT_EQ(put(&both.producer, first, 1), 0);
					ret = put(&both.producer, second, 2);
					ASSERT_EQ(get(&both.consumer, 1), first);
					if (ret == -EAGAIN)
						ASSERT_EQ(put(&both.producer, second, 2), 0);
					ASSERT_EQ(put(&both.producer, 8, 3), 0);
					ASSERT_EQ(get(&both.consumer, 2), second);
					ASSERT_EQ(get(&both.consumer, 3), 8);
					ASSERT_EQ(get(&both.consumer, 4), 0);
				}
			}
		}
		both_deinit(&both);
	}
}

/*
 * Random sizes, any number read ahead, released in any order: every entry
 * comes once and whole, and a borrowed one keeps its bytes.
 */
TEST(borrowed_entries_keep_their_bytes_until_released_in_any_order)
{
	enum { MAX_OUT = 64 };
	struct { struct vox_ring_taken taken; uint32_t number; } out[MAX_OUT];
	uint64_t random = 88172645463325252ull;
	uint32_t capacity, step;

	for (capacity = 72; capacity <= 328; capacity += 64) {
		uint32_t written = 0, read = 0, count = 0, i;
		struct both both;

		ASSERT_EQ(both_init(&both, capacity), 0);
		for (step = 0; step < 200000; step++) {
			uint64_t choice = test_random(&random);
			uint32_t longest = vox_ring_max_entry(capacity);
			uint32_t size = 8 + (uint32_t)(choice >> 8) % (longest - 4) / 4 * 4;

			switch (choice % 4) {
			case 0:
				if (put(&both.producer, size, written) == 0)
					written++;
				break;
			case 1:
				if (count == MAX_OUT)
					break;
				{
					int64_t got = take(&both.consumer, read,
							   &out[count].taken);

					ASSERT_GE(got, 0);
					if (got > 0)
						out[count++].number = read++;
				}
				break;
			case 2:
				if (!count)
					break;
				i = (uint32_t)(choice >> 40) % count;
				ASSERT_TRUE(is_filled(both.ring->data + out[i].taken.position,
						      out[i].taken.size, out[i].number));
				ASSERT_EQ(vox_ring_release(&both.consumer, out[i].taken), 0);
				ASSERT_EQ(vox_ring_release(&both.consumer, out[i].taken), -EINVAL);
				out[i] = out[--count];
				break;
			case 3:
				if (choice >> 60 == 0)
					vox_ring_publish_read(&both.consumer);
				break;
			}
		}
		EXPECT_GT(read, 1000);
		EXPECT_LE(read, written);
		while (count) {
			count--;
			ASSERT_EQ(vox_ring_release(&both.consumer, out[count].taken), 0);
		}
		vox_ring_publish_read(&both.consumer);
		while (read < written)
			ASSERT_GT(get(&both.consumer, read++), 0);
		EXPECT_EQ(both.consumer.early_count, 0);
		EXPECT_EQ(shared_peek_u32(&both.ring->read), shared_peek_u32(&both.ring->write));
		both_deinit(&both);
	}
}

TEST_F(ring, entry_that_is_not_out_is_not_released)
{
	struct vox_ring_consumer *consumer = &self->both.consumer;
	struct vox_ring_taken first, second, wrong;

	ASSERT_EQ(put(&self->both.producer, 32, 0), 0);
	ASSERT_EQ(put(&self->both.producer, 32, 1), 0);
	ASSERT_EQ(put(&self->both.producer, 32, 2), 0);
	ASSERT_EQ(take(consumer, 0, &first), 32);
	ASSERT_EQ(take(consumer, 1, &second), 32);
	wrong = (struct vox_ring_taken){ 64, 32, 2 };
	EXPECT_EQ(vox_ring_release(consumer, wrong), -EINVAL);
	wrong = (struct vox_ring_taken){ 0, 68, 0 };
	EXPECT_EQ(vox_ring_release(consumer, wrong), -EINVAL);
	wrong = (struct vox_ring_taken){ 250, 8, 1 };
	EXPECT_EQ(vox_ring_release(consumer, wrong), -EINVAL);
	EXPECT_EQ(vox_ring_release(consumer, second), 0);
	EXPECT_EQ(vox_ring_release(consumer, second), -EINVAL);
	EXPECT_EQ(vox_ring_release(consumer, first), 0);
	EXPECT_EQ(vox_ring_release(consumer, first), -EINVAL);
	EXPECT_EQ(consumer->released, 64);
}

TEST_F(ring, stale_release_of_a_place_that_is_in_use_again_is_refused)
{
	struct vox_ring_consumer *consumer = &self->both.consumer;
	struct vox_ring_taken stale, current;

	ASSERT_EQ(put(&self->both.producer, 120, 0), 0);
	ASSERT_EQ(take(consumer, 0, &stale), 120);
	ASSERT_EQ(vox_ring_release(consumer, stale), 0);
	vox_ring_publish_read(consumer);
	ASSERT_EQ(put(&self->both.producer, 120, 1), 0);
	ASSERT_EQ(get(consumer, 1), 120);
	ASSERT_EQ(put(&self->both.producer, 120, 2), 0);
	ASSERT_EQ(take(consumer, 2, &current), 120);
	ASSERT_EQ(current.position, stale.position);
	EXPECT_EQ(vox_ring_release(consumer, stale), -EINVAL);
	EXPECT_EQ(vox_ring_release(consumer, current), 0);
}

TEST_F(ring, without_a_table_releases_come_in_order)
{
	struct vox_ring_consumer consumer;
	struct vox_ring_taken first, second;

	ASSERT_EQ(put(&self->both.producer, 32, 0), 0);
	ASSERT_EQ(put(&self->both.producer, 32, 1), 0);
	ASSERT_EQ(vox_consumer_init(&consumer, self->both.ring, 256, NULL), 0);
	ASSERT_EQ(take(&consumer, 0, &first), 32);
	ASSERT_EQ(take(&consumer, 1, &second), 32);
	EXPECT_EQ(vox_ring_release(&consumer, second), -EINVAL);
	EXPECT_EQ(vox_ring_release(&consumer, first), 0);
	EXPECT_EQ(vox_ring_release(&consumer, second), 0);
}

/* The other side breaks the rules ------------------------------------------------- */

TEST_F(ring, reader_waits_for_a_vox_shm_writers_second_store)
{
	struct both *both = &self->both;

	ASSERT_EQ(put(&both->producer, 120, 0), 0);
	ASSERT_EQ(put(&both->producer, 120, 1), 0);
	ASSERT_EQ(get(&both->consumer, 0), 120);
	shared_store_u32(&both->ring->watermark, 240);		/* the first of two */
	EXPECT_EQ(get(&both->consumer, 1), 120);
	EXPECT_EQ(vox_ring_peek(&both->consumer), 0);
	EXPECT_EQ(shared_peek_u32(&both->ring->read), 240);
	shared_store_u32(&both->ring->write, 0);		/* the second */
	EXPECT_EQ(vox_ring_peek(&both->consumer), 0);
	fill(both->ring->data, 16, 2);
	shared_store_u32(&both->ring->write, 16);
	EXPECT_EQ(get(&both->consumer, 2), 16);
}

/*
 * A vox-shm writer moves to the front also when its entry does not fit there
 * yet, and waits. With an entry above half the ring that is for the wrap to be
 * followed, not for more to be read.
 */
TEST_F(ring, reader_follows_a_vox_shm_writers_wrap_to_nothing)
{
	struct both *both = &self->both;

	both_move(both, 120);
	shared_store_u32(&both->ring->watermark, 120);
	shared_store_u32(&both->ring->write, 0);
	EXPECT_EQ(vox_ring_peek(&both->consumer), 0);
	EXPECT_EQ(shared_peek_u32(&both->ring->read), 0);
	EXPECT_EQ(shared_peek_u32(&both->ring->watermark), 0);
	fill(both->ring->data, 200, 1);
	shared_store_u32(&both->ring->write, 200);
	EXPECT_EQ(get(&both->consumer, 1), 200);
	EXPECT_EQ(vox_ring_peek(&both->consumer), 0);
}

TEST_F(ring, wrap_to_nothing_waits_for_what_is_borrowed_before_it)
{
	struct vox_ring_taken taken;
	struct both *both = &self->both;

	both_move(both, 16);
	ASSERT_EQ(put(&both->producer, 120, 0), 0);
	ASSERT_EQ(take(&both->consumer, 0, &taken), 120);
	shared_store_u32(&both->ring->watermark, 136);
	shared_store_u32(&both->ring->write, 0);
	EXPECT_EQ(vox_ring_peek(&both->consumer), 0);
	EXPECT_EQ(shared_peek_u32(&both->ring->read), 16);
	EXPECT_EQ(shared_peek_u32(&both->ring->watermark), 136);
	EXPECT_EQ(vox_ring_release(&both->consumer, taken), 0);
	vox_ring_publish_read(&both->consumer);
	EXPECT_EQ(shared_peek_u32(&both->ring->read), 0);
	EXPECT_EQ(shared_peek_u32(&both->ring->watermark), 0);
}

/* What a reader leaves that dies between `read = 0` and `watermark = 0`. */
TEST_F(ring, watermark_of_a_wrap_that_was_followed_does_not_count)
{
	struct vox_ring_consumer heir;
	struct both *both = &self->both;

	ASSERT_EQ(put(&both->producer, 120, 0), 0);
	ASSERT_EQ(put(&both->producer, 120, 1), 0);
	ASSERT_EQ(get(&both->consumer, 0), 120);
	ASSERT_EQ(put(&both->producer, 40, 2), 0);
	ASSERT_EQ(get(&both->consumer, 1), 120);
	shared_poke_u64(&both->ring->write_watermark, 240ull << 32 | 40);
	shared_poke_u32(&both->ring->read, 0);

	ASSERT_EQ(vox_consumer_init(&heir, both->ring, both->ring->capacity, NULL), 0);
	EXPECT_EQ(get(&heir, 2), 40);
	EXPECT_EQ(vox_ring_peek(&heir), 0);
}

TEST_F(ring, impossible_write_is_refused)
{
	static const uint64_t words[] = {
		257, 260, UINT32_MAX, 66,			/* write */
		260ull << 32 | 64, 66ull << 32 | 64,		/* watermark */
		60, 32ull << 32 | 16,				/* behind the cursor */
	};
	struct both *both = &self->both;
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		both_move(both, 64);
		shared_poke_u64(&both->ring->write_watermark, words[i]);
		EXPECT_EQ(vox_ring_peek(&both->consumer), -EBADMSG)
			TH_LOG("word %zu: %#llx", i, (unsigned long long)words[i]);
	}
}

TEST_F(ring, impossible_read_is_refused)
{
	static const uint32_t reads[] = { 260, UINT32_MAX, 248, 16 };
	struct both *both = &self->both;
	size_t i;

	for (i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		both_move(both, 64);
		ASSERT_EQ(put(&both->producer, 120, 0), 0);
		shared_poke_u32(&both->ring->read, reads[i]);
		EXPECT_EQ(put(&both->producer, 120, 1), -EBADMSG) TH_LOG("read %u", reads[i]);
	}
}

TEST_F(ring, second_wrap_before_the_first_is_given_back_is_refused)
{
	struct both *both = &self->both;
	struct vox_ring_taken taken;

	ASSERT_EQ(put(&both->producer, 120, 0), 0);
	ASSERT_EQ(put(&both->producer, 120, 1), 0);
	ASSERT_EQ(get(&both->consumer, 0), 120);
	ASSERT_EQ(put(&both->producer, 64, 2), 0);
	ASSERT_EQ(take(&both->consumer, 1, &taken), 120);
	ASSERT_EQ(take(&both->consumer, 2, &taken), 64);
	shared_poke_u64(&both->ring->write_watermark, 64ull << 32 | 8);
	EXPECT_EQ(vox_ring_peek(&both->consumer), -EBADMSG);
	shared_poke_u64(&both->ring->write_watermark, 240ull << 32 | 240);
	EXPECT_EQ(vox_ring_peek(&both->consumer), -EBADMSG);
}

TEST(garbage_never_leads_out_of_the_ring)
{
	uint64_t random = 0x9e3779b97f4a7c15ull;
	struct both both;
	uint32_t i, k;

	ASSERT_EQ(both_init(&both, 128), 0);
	for (i = 0; i < 300000; i++) {
		uint64_t choice = test_random(&random);

		if (choice % 8 == 0)
			both_move(&both, (uint32_t)(choice >> 8) % 33 * 4);
		shared_poke_u32(&both.ring->write, (uint32_t)(choice >> 16) % 160);
		shared_poke_u32(&both.ring->watermark, (uint32_t)(choice >> 24) % 160);
		shared_poke_u32(&both.ring->read, (uint32_t)(choice >> 32) % 160);
		for (k = 0; k < 4; k++) {
			int64_t readable = vox_ring_peek(&both.consumer);
			int64_t place = vox_ring_grant(&both.producer, 8 + k * 4);

			if (place >= 0) {
				ASSERT_LE(place + 8 + k * 4, 128);
				vox_ring_commit(&both.producer, place, 8 + k * 4, true);
			}
			if (readable > 0) {
				ASSERT_LE(both.consumer.cursor + readable, 128);
				vox_ring_release(&both.consumer, vox_ring_take(&both.consumer, 4));
				vox_ring_publish_read(&both.consumer);
			}
		}
	}
	both_deinit(&both);
}

TEST_HARNESS_MAIN
