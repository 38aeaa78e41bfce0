// SPDX-License-Identifier: MIT
/* threads.c - a sending and a receiving thread at each end, all of which may sleep: no wake-up is lost. */
#include "helpers.h"

FIXTURE(threads)
{
	struct pair pair;
};
VARIANTS(threads)

FIXTURE_SETUP(threads)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 2048));
}

FIXTURE_TEARDOWN(threads)
{
	pair_close(_metadata, &self->pair);
}

#define DEFAULT_SPIN 20000

static void set_spin(const struct pair *pair, uint32_t ns)
{
	voxshm_link_set_spin(pair->host_end, ns);
	voxshm_link_set_spin(pair->guest_end, ns);
}

/* What one thread does: messages from seed on, in one direction. */
struct work {
	struct voxshm_link *link;
	uint64_t seed, count;
	size_t (*size)(uint64_t seed);
	int64_t timeout;	/* of each call; VOXSHM_FOREVER or PATIENCE */
	uint32_t pause;		/* now and then, so that the other side sleeps */
};

static size_t tiny_size(uint64_t seed)
{
	return seed % 40;
}

static void work_pause(const struct work *work, uint64_t i)
{
	if (work->pause && mix(work->seed + i) % work->pause == 0)
		sleep_ms(1);
}

static void *run_sender(void *argument)
{
	struct work *work = argument;

	for (uint64_t i = 0; i < work->count; i++) {
		uint64_t seed = work->seed + i;

		work_pause(work, i);
		REQUIRE_EQ(0, send_pattern(work->link, work->size(seed), seed, work->timeout));
	}
	return NULL;
}

static void *run_receiver(void *argument)
{
	struct work *work = argument;

	for (uint64_t i = 0; i < work->count; i++) {
		uint64_t seed = work->seed + i;

		work_pause(work, i);
		REQUIRE_EQ(0, recv_pattern(work->link, work->size(seed), seed, work->timeout));
	}
	return NULL;
}

/* Both directions, four threads. */
static void stream_both_ways(const struct pair *pair, struct work work, uint32_t sender_pause,
			     uint32_t receiver_pause)
{
	struct work works[4] = { work, work, work, work };
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		works[i].link = i == 0 || i == 3 ? pair->host_end : pair->guest_end;
		works[i].seed = i < 2 ? 0 : 1ull << 32;
		works[i].pause = i % 2 ? receiver_pause : sender_pause;
		threads[i] = thread_start(i % 2 ? run_receiver : run_sender, &works[i]);
	}
	for (int i = 0; i < 4; i++)
		thread_join(threads[i]);
}

TEST_F_TIMEOUT(threads, streams_both_ways, 60)
{
	struct work work = { .size = tiny_size, .count = amount(100000), .timeout = VOXSHM_FOREVER };

	stream_both_ways(&self->pair, work, 0, 0);
}

TEST_F_TIMEOUT(threads, streams_both_ways_without_spinning, 60)
{
	struct work work = { .size = tiny_size, .count = amount(50000), .timeout = VOXSHM_FOREVER };

	set_spin(&self->pair, 0);
	stream_both_ways(&self->pair, work, 0, 0);
}

TEST_F_TIMEOUT(threads, streams_of_mixed_sizes_both_ways, 60)
{
	struct work work = { .size = mixed_size, .count = amount(10000), .timeout = PATIENCE };

	stream_both_ways(&self->pair, work, 0, 0);
	set_spin(&self->pair, 0);
	stream_both_ways(&self->pair, work, 0, 0);
}

TEST_F_TIMEOUT(threads, fast_sender_waits_for_slow_receiver, 60)
{
	struct work work = { .size = mixed_size, .count = amount(5000), .timeout = VOXSHM_FOREVER };

	stream_both_ways(&self->pair, work, 0, 20);
	set_spin(&self->pair, 0);
	stream_both_ways(&self->pair, work, 0, 20);
}

TEST_F_TIMEOUT(threads, fast_receiver_waits_for_slow_sender, 60)
{
	struct work work = { .size = mixed_size, .count = amount(5000), .timeout = VOXSHM_FOREVER };

	stream_both_ways(&self->pair, work, 20, 0);
	set_spin(&self->pair, 0);
	stream_both_ways(&self->pair, work, 20, 0);
}

static void *run_echo(void *argument)
{
	struct work *work = argument;

	for (uint64_t i = 0; i < work->count; i++) {
		struct voxshm_view view;

		REQUIRE_EQ(0, voxshm_recv(work->link, &view, work->timeout));
		REQUIRE_EQ(0, voxshm_send(work->link, view.data, view.size, work->timeout));
		REQUIRE_EQ(0, voxshm_release(work->link, &view));
	}
	return NULL;
}

static void ping_pong(struct __test_metadata *_metadata, const struct pair *pair, struct work work)
{
	pthread_t thread;

	work.link = pair->guest_end;
	thread = thread_start(run_echo, &work);
	for (uint64_t i = 0; i < work.count; i++) {
		size_t size = work.size(i);

		ASSERT_EQ(0, send_pattern(pair->host_end, size, i, work.timeout));
		ASSERT_EQ(0, recv_pattern(pair->host_end, size, i, work.timeout));
	}
	thread_join(thread);
}

TEST_F_TIMEOUT(threads, ping_pong_without_spinning, 60)
{
	struct work work = { .size = tiny_size, .count = amount(50000), .timeout = VOXSHM_FOREVER };

	set_spin(&self->pair, 0);
	ping_pong(_metadata, &self->pair, work);
}

/* Fewer, because it is slow where there is no free processor to spin on. */
TEST_F_TIMEOUT(threads, ping_pong_with_spinning, 60)
{
	struct work work = { .size = tiny_size, .count = amount(10000), .timeout = PATIENCE };

	ping_pong(_metadata, &self->pair, work);
}

TEST_F_TIMEOUT(threads, ping_pong_with_one_side_spinning, 60)
{
	struct work work = { .size = tiny_size, .count = amount(30000), .timeout = VOXSHM_FOREVER };

	voxshm_link_set_spin(self->pair.host_end, 0);
	ping_pong(_metadata, &self->pair, work);
	set_spin(&self->pair, 0);
	voxshm_link_set_spin(self->pair.host_end, DEFAULT_SPIN);
	ping_pong(_metadata, &self->pair, work);
}

TEST_F_TIMEOUT(threads, ping_pong_of_mixed_sizes, 60)
{
	struct work work = { .size = mixed_size, .count = amount(10000), .timeout = PATIENCE };

	set_spin(&self->pair, 0);
	ping_pong(_metadata, &self->pair, work);
}

TEST_F_TIMEOUT(threads, ping_pong_through_the_smallest_ring, 60)
{
	struct work work = { .size = mixed_size, .count = amount(10000), .timeout = VOXSHM_FOREVER };

	pair_renew(_metadata, &self->pair,
		   &CONFIG(variant, SMALL_CLASSES, .ring_capacity =
				   variant->choice.format == VOXSHM_FORMAT_VOX ? 72 : 192));
	ping_pong(_metadata, &self->pair, work);
	set_spin(&self->pair, 0);
	stream_both_ways(&self->pair, work, 0, 0);
}

/* Short timeouts that pass now and then must not lose what comes just then. */
static void *run_impatient_receiver(void *argument)
{
	struct work *work = argument;

	for (uint64_t i = 0; i < work->count;) {
		uint64_t seed = work->seed + i;
		int ret = recv_pattern(work->link, work->size(seed), seed, 1 + mix(seed) % 100000);

		REQUIRE(ret == 0 || ret == -ETIMEDOUT);
		i += ret == 0;
	}
	return NULL;
}

static void *run_impatient_sender(void *argument)
{
	struct work *work = argument;

	for (uint64_t i = 0; i < work->count;) {
		uint64_t seed = work->seed + i;
		int ret = send_pattern(work->link, work->size(seed), seed, 1 + mix(seed) % 100000);

		REQUIRE(ret == 0 || ret == -ETIMEDOUT);
		i += ret == 0;
		work_pause(work, i);
	}
	return NULL;
}

TEST_F_TIMEOUT(threads, short_timeouts_lose_and_double_nothing, 60)
{
	struct work work = { .size = tiny_size, .count = amount(30000), .pause = 500 };

	set_spin(&self->pair, 0);
	for (int down = 0; down < 2; down++) {
		struct work sender = work, receiver = work;
		pthread_t threads[2];

		sender.link = pair_sender(&self->pair, down);
		receiver.link = pair_receiver(&self->pair, down);
		threads[0] = thread_start(run_impatient_sender, &sender);
		threads[1] = thread_start(run_impatient_receiver, &receiver);
		thread_join(threads[0]);
		thread_join(threads[1]);
		EXPECT_EQ(0, drain(receiver.link));
	}
}

/* A batching pair: the batch's one doorbell must be enough. */
static void *run_batch_receiver(void *argument)
{
	struct work *work = argument;
	struct voxshm_view views[16];
	uint64_t received = 0;

	while (received < work->count) {
		int ret = voxshm_recv_batch(work->link, views, ARRAY_SIZE(views), VOXSHM_FOREVER);

		REQUIRE(ret > 0);
		for (int i = 0; i < ret; i++) {
			REQUIRE_EQ(sizeof(received), views[i].size);
			REQUIRE(!memcmp(views[i].data, &received, sizeof(received)));
			REQUIRE_EQ(0, voxshm_release(work->link, &views[i]));
			received++;
		}
		work_pause(work, received);
	}
	return NULL;
}

TEST_F_TIMEOUT(threads, batches_both_asleep_and_awake, 60)
{
	struct work work = { self->pair.guest_end, .count = amount(100000), .pause = 200 };
	uint64_t numbers[24], sent = 0, random = 1;
	struct iovec messages[ARRAY_SIZE(numbers)];
	pthread_t thread;

	set_spin(&self->pair, 0);
	thread = thread_start(run_batch_receiver, &work);
	while (sent < work.count) {
		uint64_t count = 1 + random_next(&random) % ARRAY_SIZE(numbers);
		int ret;

		if (count > work.count - sent)
			count = work.count - sent;
		for (uint64_t i = 0; i < count; i++) {
			numbers[i] = sent + i;
			messages[i] = (struct iovec){ &numbers[i], sizeof(numbers[i]) };
		}
		ret = voxshm_send_batch(self->pair.host_end, messages, count, VOXSHM_FOREVER);
		ASSERT_LT(0, ret);
		sent += ret;
	}
	thread_join(thread);
}

/* Views given back late keep a sleeping sender waiting, then wake it. */
static void *run_late_releaser(void *argument)
{
	struct work *work = argument;
	struct voxshm_view views[12];
	unsigned int held = 0;
	uint64_t random = 5;

	for (uint64_t i = 0; i < work->count || held;) {
		int ret = -EAGAIN;

		if (i < work->count && held < ARRAY_SIZE(views))
			ret = voxshm_recv(work->link, &views[held], held ? 0 : VOXSHM_FOREVER);
		REQUIRE(ret == 0 || ret == -EAGAIN);
		if (ret == 0) {
			held++;
			i++;
		}
		if (held && (ret || random_next(&random) % 2)) {
			unsigned int pick = random_next(&random) % held;

			REQUIRE_EQ(0, voxshm_release(work->link, &views[pick]));
			views[pick] = views[--held];
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(threads, late_random_releases_wake_the_sender, 60)
{
	struct work work = { .size = mixed_size, .count = amount(20000), .timeout = VOXSHM_FOREVER };

	set_spin(&self->pair, 0);
	for (int down = 0; down < 2; down++) {
		struct work sender = work, receiver = work;
		pthread_t threads[2];

		sender.link = pair_sender(&self->pair, down);
		receiver.link = pair_receiver(&self->pair, down);
		threads[0] = thread_start(run_sender, &sender);
		threads[1] = thread_start(run_late_releaser, &receiver);
		thread_join(threads[0]);
		thread_join(threads[1]);
	}
}

LINK_TEST_MAIN(NULL)
