// SPDX-License-Identifier: MIT
/*
 * wakeups.c - two threads of one end share its doorbell: what one of them does
 * never takes the wake-up that the other sleeps for.
 */
#include "helpers.h"

FIXTURE(wakeups)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(wakeups)

FIXTURE_SETUP(wakeups)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 2048));
	voxshm_link_set_spin(self->pair.host_end, 0);
	voxshm_link_set_spin(self->pair.guest_end, 0);
}

FIXTURE_TEARDOWN(wakeups)
{
	pair_close(_metadata, &self->pair);
}

/* One end: a thread that sends, asleep most of the time, and one that meddles. */
struct end {
	struct voxshm_link *link;
	uint64_t count;
	size_t large;		/* what the other side sends, for the mapping test */
	_Atomic bool done;
};

/* Sends until all is sent; sleeps whenever the slow reader at the other end is behind. */
static void *run_sender(void *argument)
{
	struct end *end = argument;

	for (uint64_t i = 0; i < end->count; i++)
		REQUIRE_EQ(0, send_pattern(end->link, i % 50, i, PATIENCE));
	end->done = true;
	return NULL;
}

/* The test's own thread: reads slowly enough for the sender to sleep. */
static void read_slowly(struct voxshm_link *link, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (i % 16 == 0)
			sched_yield();
		REQUIRE_EQ(0, recv_pattern(link, i % 50, i, PATIENCE));
	}
}

static void run(const struct pair *pair, bool from_host, void *(*meddle)(void *), uint64_t count,
		size_t large)
{
	struct end end = { pair_sender(pair, from_host), count, large, false };
	pthread_t threads[2];

	threads[0] = thread_start(run_sender, &end);
	threads[1] = thread_start(meddle, &end);
	read_slowly(pair_receiver(pair, from_host), count);
	thread_join(threads[0]);
	thread_join(threads[1]);
}

static void *meddle_status(void *argument)
{
	struct end *end = argument;
	struct voxshm_status status;

	while (!end->done) {
		voxshm_link_status(end->link, &status);
		REQUIRE_EQ(VOXSHM_LINK_ATTACHED, status.state);
	}
	return NULL;
}

TEST_F(wakeups, of_a_sender_survive_status)
{
	run(&self->pair, variant->choice.from_host, meddle_status, amount(3000), 0);
}

static void *meddle_try_recv(void *argument)
{
	struct end *end = argument;

	while (!end->done)
		REQUIRE_EQ(-EAGAIN, voxshm_try_recv(end->link, &(struct voxshm_view){ 0 }));
	return NULL;
}

TEST_F(wakeups, of_a_sender_survive_try_recv)
{
	run(&self->pair, variant->choice.from_host, meddle_try_recv, amount(6000), 0);
}

static void *meddle_arm(void *argument)
{
	struct end *end = argument;
	struct pollfd pollfd = { .fd = voxshm_link_fd(end->link), .events = POLLIN };

	while (!end->done) {
		REQUIRE_EQ(0, voxshm_link_arm(end->link, VOXSHM_READABLE));
		poll(&pollfd, 1, 0);
	}
	return NULL;
}

TEST_F(wakeups, of_a_sender_survive_arm)
{
	run(&self->pair, variant->choice.from_host, meddle_arm, amount(6000), 0);
}

static void *meddle_short_recv(void *argument)
{
	struct end *end = argument;

	while (!end->done) {
		int ret = voxshm_recv(end->link, &(struct voxshm_view){ 0 }, 1000);

		REQUIRE_EQ(-ETIMEDOUT, ret);
	}
	return NULL;
}

TEST_F(wakeups, of_a_sender_survive_recv_with_short_timeouts)
{
	run(&self->pair, variant->choice.from_host, meddle_short_recv, amount(6000), 0);
}

/* The other side also sends large payloads, whose descriptors come the same way. */
static void *meddle_large(void *argument)
{
	struct end *end = argument;

	for (uint64_t i = 0; !end->done; i++) {
		int ret = recv_pattern(end->link, end->large + i % 7 * 100000, i, 50 * MS);

		REQUIRE(ret == 0 || ret == -ETIMEDOUT);
		i -= ret != 0;
	}
	return NULL;
}

struct large_sender {
	struct voxshm_link *link;
	size_t large;
	_Atomic bool stop;
};

static void *run_large_sender(void *argument)
{
	struct large_sender *sender = argument;

	for (uint64_t i = 0; !sender->stop; i++) {
		int ret = send_pattern(sender->link, sender->large + i % 7 * 100000, i, 50 * MS);

		REQUIRE(ret == 0 || ret == -ETIMEDOUT);
		i -= ret != 0;
	}
	return NULL;
}

TEST_F(wakeups, of_a_sender_survive_large_payloads_the_other_way)
{
	struct large_sender sender = { RECEIVER, 70000, false };
	pthread_t thread = thread_start(run_large_sender, &sender);

	run(&self->pair, variant->choice.from_host, meddle_large, amount(3000), sender.large);
	sender.stop = true;
	thread_join(thread);
}

/* The same the other way round: a receiver sleeps while the sender meddles. */
struct receiver {
	struct voxshm_link *link;
	uint64_t count;
	_Atomic bool done;
};

static void *run_receiver(void *argument)
{
	struct receiver *receiver = argument;

	for (uint64_t i = 0; i < receiver->count; i++)
		REQUIRE_EQ(0, recv_pattern(receiver->link, i % 50, i, PATIENCE));
	receiver->done = true;
	return NULL;
}

/* The third thread: sends now and then, so that the receiver sleeps in between. */
static void *run_slow_sender(void *argument)
{
	struct end *end = argument;

	for (uint64_t i = 0; i < end->count; i++) {
		for (int spin = 0; spin < (int)(mix(i) % 2000); spin++)
			atomic_thread_fence(memory_order_seq_cst);
		REQUIRE_EQ(0, send_pattern(end->link, i % 50, i, PATIENCE));
	}
	return NULL;
}

TEST_F(wakeups, of_a_receiver_survive_status_and_refused_sends)
{
	struct receiver receiver = { RECEIVER, amount(6000), false };
	struct end end = { SENDER, receiver.count, 0, false };
	struct voxshm_status status;
	pthread_t threads[2];

	/* The receiver's own sends are refused: nobody reads them. */
	while (voxshm_try_send(RECEIVER, "x", 1) == 0)
		;
	threads[0] = thread_start(run_receiver, &receiver);
	threads[1] = thread_start(run_slow_sender, &end);
	while (!receiver.done) {
		REQUIRE_EQ(-EAGAIN, voxshm_try_send(RECEIVER, "x", 1));
		voxshm_link_status(RECEIVER, &status);
		ASSERT_EQ(VOXSHM_LINK_ATTACHED, status.state);
	}
	thread_join(threads[0]);
	thread_join(threads[1]);
}

/* A thread that sleeps in poll() beside one that sleeps in a call. */
static void *run_polling_receiver(void *argument)
{
	struct receiver *receiver = argument;
	struct pollfd pollfd = { .fd = voxshm_link_fd(receiver->link), .events = POLLIN };

	for (uint64_t i = 0; i < receiver->count;) {
		int ret = recv_pattern(receiver->link, i % 50, i, 0);

		if (ret == -EAGAIN && voxshm_link_arm(receiver->link, VOXSHM_READABLE) == 0)
			REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
		REQUIRE(ret == 0 || ret == -EAGAIN);
		i += ret == 0;
	}
	return NULL;
}

static void *run_polling_sender(void *argument)
{
	struct end *end = argument;
	struct pollfd pollfd = { .fd = voxshm_link_fd(end->link), .events = POLLIN };

	for (uint64_t i = 0; i < end->count;) {
		int ret = send_pattern(end->link, i % 50, i, 0);

		if (ret == -EAGAIN && voxshm_link_arm(end->link, VOXSHM_WRITABLE) == 0)
			REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
		REQUIRE(ret == 0 || ret == -EAGAIN);
		i += ret == 0;
	}
	return NULL;
}

TEST_F(wakeups, of_a_receiver_in_poll_survive_a_sleeping_sender)
{
	uint64_t count = amount(6000);
	struct end here = { SENDER, count, 0, false }, there = { RECEIVER, count, 0, false };
	struct receiver receiver = { SENDER, count, false };
	pthread_t threads[3];

	threads[0] = thread_start(run_sender, &here);
	threads[1] = thread_start(run_polling_receiver, &receiver);
	threads[2] = thread_start(run_slow_sender, &there);
	read_slowly(RECEIVER, count);
	for (int i = 0; i < 3; i++)
		thread_join(threads[i]);
}

TEST_F(wakeups, of_a_sender_in_poll_survive_a_sleeping_receiver)
{
	uint64_t count = amount(6000);
	struct end here = { SENDER, count, 0, false }, there = { RECEIVER, count, 0, false };
	struct receiver receiver = { SENDER, count, false };
	pthread_t threads[3];

	threads[0] = thread_start(run_polling_sender, &here);
	threads[1] = thread_start(run_receiver, &receiver);
	threads[2] = thread_start(run_slow_sender, &there);
	read_slowly(RECEIVER, count);
	for (int i = 0; i < 3; i++)
		thread_join(threads[i]);
}

LINK_TEST_MAIN(NULL)
