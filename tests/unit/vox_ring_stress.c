// SPDX-License-Identifier: GPL-2.0
/* The vox ring between two threads and two processes, ours and vox-shm's protocol mixed. */
#include <pthread.h>

#include "vox_ring_test.h"
#include "kselftest_harness.h"

#define MAX_CAPACITY 4096u

/* vox-shm's published protocol, for the other side of ours. */
static int old_put(struct vox_ring *ring, uint32_t size, uint32_t number)
{
	uint32_t write = shared_peek_u32(&ring->write);
	uint32_t read = shared_load_u32(&ring->read);

	if (write >= read && ring->capacity - write < size) {
		if (read == 0)
			return -EAGAIN;
		shared_store_u32(&ring->watermark, write);
		shared_store_u32(&ring->write, 0);
		write = 0;
		if (size >= read)
			return -EAGAIN;
	} else if (write < read && size >= read - write) {
		return -EAGAIN;
	}
	fill(ring->data + write, size, number);
	shared_store_u32(&ring->write, write + size);
	return 0;
}

static int64_t old_get(struct vox_ring *ring, uint32_t number)
{
	uint32_t read = shared_peek_u32(&ring->read);
	uint32_t write = shared_load_u32(&ring->write);
	uint32_t watermark = shared_load_u32(&ring->watermark);
	uint32_t size;

	/* Changes nothing: the thread sanitizer knows a 64-bit store by its first word alone. */
	(void)shared_load_u32(&ring->write);
	if (watermark && read >= watermark) {
		shared_store_u32(&ring->read, 0);
		shared_store_u32(&ring->watermark, 0);
		read = 0;
		watermark = 0;
		write = shared_load_u32(&ring->write);
	}
	if (!watermark && read >= write)
		return 0;
	memcpy(&size, ring->data + read + 4, 4);
	if (size > MAX_CAPACITY || !is_filled(ring->data + read, size, number))
		return -EBADMSG;
	watermark = shared_load_u32(&ring->watermark);
	if (watermark && read + size >= watermark) {
		shared_store_u32(&ring->read, 0);
		shared_store_u32(&ring->watermark, 0);
	} else {
		shared_store_u32(&ring->read, read + size);
	}
	return size;
}

struct run {
	struct vox_ring *ring;
	uint32_t capacity;
	unsigned long messages;
	bool old;
	int ret;
};

static void *produce(void *data)
{
	uint64_t random = 0x2545f4914f6cdd1dull;
	struct run *run = data;
	struct vox_ring_producer producer;
	uint32_t longest = vox_ring_max_entry(run->capacity);
	unsigned long i;

	run->ret = vox_producer_init(&producer, run->ring, run->capacity);
	for (i = 0; i < run->messages && !run->ret; i++) {
		uint32_t size = 8 + (uint32_t)(test_random(&random) >> 20) % (longest - 4) / 4 * 4;

		do {
			run->ret = run->old ? old_put(run->ring, size, (uint32_t)i) :
					      put(&producer, size, (uint32_t)i);
			if (run->ret == -EAGAIN)
				sched_yield();
		} while (run->ret == -EAGAIN);
	}
	return NULL;
}

static int consume(struct run *run)
{
	struct vox_ring_consumer consumer;
	unsigned long i;
	int64_t size;

	if (vox_consumer_init(&consumer, run->ring, run->capacity, NULL))
		return -EBADMSG;
	for (i = 0; i < run->messages; i++) {
		do {
			size = run->old ? old_get(run->ring, (uint32_t)i) :
					  get(&consumer, (uint32_t)i);
			if (size == 0)
				sched_yield();
		} while (size == 0);
		if (size < 0)
			return (int)size;
	}
	return 0;
}

FIXTURE(stress) {
	struct run writer, reader;
};

FIXTURE_VARIANT(stress) {
	uint32_t capacity;
	bool old_writer, old_reader;
};

FIXTURE_VARIANT_ADD(stress, smallest) { .capacity = 72 };
FIXTURE_VARIANT_ADD(stress, small) { .capacity = 104 };
FIXTURE_VARIANT_ADD(stress, page) { .capacity = 4096 };
FIXTURE_VARIANT_ADD(stress, old_writer_smallest) { .capacity = 72, .old_writer = true };
FIXTURE_VARIANT_ADD(stress, old_writer_page) { .capacity = 4096, .old_writer = true };
FIXTURE_VARIANT_ADD(stress, old_reader_smallest) { .capacity = 72, .old_reader = true };
FIXTURE_VARIANT_ADD(stress, old_reader_page) { .capacity = 4096, .old_reader = true };

FIXTURE_SETUP(stress)
{
	struct vox_ring *ring = test_shared(vox_ring_stride(variant->capacity));

	ASSERT_NE(ring, NULL);
	vox_ring_init(ring, variant->capacity);
	self->writer = (struct run){ .ring = ring, .capacity = variant->capacity,
				     .messages = test_messages(), .old = variant->old_writer };
	self->reader = self->writer;
	self->reader.old = variant->old_reader;
}

FIXTURE_TEARDOWN(stress)
{
	munmap(self->writer.ring, vox_ring_stride(variant->capacity));
}

TEST_F_TIMEOUT(stress, two_threads, 300)
{
	pthread_t thread;

	ASSERT_EQ(pthread_create(&thread, NULL, produce, &self->writer), 0);
	EXPECT_EQ(consume(&self->reader), 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(self->writer.ret, 0);
}

/* Of the smallest ring, so many that every interleaving is met: 10^7, or 10^8. */
static unsigned long many(const struct run *run)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return run->messages;
#else
	if (run->capacity != VOX_RING_MIN_CAPACITY || getenv("VOXSHM_TEST_SLOW"))
		return run->messages;
	return run->messages * (getenv("TEST_LONG") ? 1000 : 100);
#endif
}

TEST_F_TIMEOUT(stress, two_processes, 3600)
{
	pid_t child;

	if (!self->writer.old && !self->reader.old)
		self->writer.messages = self->reader.messages = many(&self->writer);
	child = fork();
	ASSERT_GE(child, 0);
	if (child == 0) {
		produce(&self->writer);
		_exit(self->writer.ret ? 1 : 0);
	}
	EXPECT_EQ(consume(&self->reader), 0);
	EXPECT_EQ(test_wait(child), 0);
}

TEST_HARNESS_MAIN
