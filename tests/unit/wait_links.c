// SPDX-License-Identifier: MIT
/*
 * Sleep and wake of native links: a sending and a receiving thread at each end,
 * and what else may happen while they sleep.
 */
#include <poll.h>

#include "host.h"
#include "native/native.h"
#include "unit_test.h"

static const struct voxshm_class small_class[] = { { 256, 4 } };

#define SMALL(...) NATIVE_CONFIG(.max_guests = 2, .num_classes = 1, .classes = small_class, \
				 __VA_ARGS__)

FIXTURE(links) {
	struct pair pair;
};

static void open_fresh(struct pair *pair)
{
	REQUIRE(pair_open(pair, SMALL(.ring_capacity = 192)) == 0);
	voxshm_link_set_spin(pair->host_end, 0);
	voxshm_link_set_spin(pair->guest_end, 0);
}

FIXTURE_SETUP(links)
{
	open_fresh(&self->pair);
}

FIXTURE_TEARDOWN(links)
{
	EXPECT_EQ(pair_close(&self->pair), 0);
	EXPECT_FALSE(memory_leaks());
}

/* One call in a thread of its own ------------------------------------------------- */

struct call {
	struct voxshm_link *link;
	bool sends;
	const void *data;
	size_t size;
	int64_t timeout;
	int ret;
	pthread_t thread;
};

static void *run_call(void *argument)
{
	struct call *call = argument;
	struct voxshm_view view;

	if (call->sends) {
		call->ret = voxshm_send(call->link, call->data, call->size, call->timeout);
	} else {
		call->ret = voxshm_recv(call->link, &view, call->timeout);
		if (call->ret == 0)
			voxshm_release(call->link, &view);
	}
	return NULL;
}

static bool is_asleep(struct voxshm_link *link)
{
	bool polling;

	pthread_mutex_lock(&link->waiters.lock);
	polling = link->waiters.polling;
	pthread_mutex_unlock(&link->waiters.lock);
	return polling;
}

/* Until one more than so many sleeps have begun, and a moment more. */
static void await_sleep(struct voxshm_link *link, uint64_t sleeps)
{
	int64_t deadline = now_ns() + PATIENCE;

	while (atomic_load(&link->sleeps) == sleeps || !is_asleep(link)) {
		REQUIRE(now_ns() < deadline);
		sched_yield();
	}
	sleep_ms(2);
}

/* Starts it, and returns when it sleeps. */
static void call_start_any(struct call *call)
{
	uint64_t sleeps = atomic_load(&call->link->sleeps);

	call->thread = thread_start(run_call, call);
	await_sleep(call->link, sleeps);
}

static void call_start(struct call *call, struct voxshm_link *link, bool sends, int64_t timeout)
{
	*call = (struct call){ .link = link, .sends = sends, .data = "x", .size = 1,
			       .timeout = timeout };
	call_start_any(call);
}

static void call_start_sized(struct call *call, struct voxshm_link *link, const void *data,
			     size_t size)
{
	*call = (struct call){ .link = link, .sends = true, .data = data, .size = size,
			       .timeout = PATIENCE / 5 };
	call_start_any(call);
}

static int call_join(struct call *call)
{
	pthread_join(call->thread, NULL);
	return call->ret;
}

static unsigned int fill(struct voxshm_link *link)
{
	unsigned int count = 0;

	while (voxshm_try_send(link, "x", 1) == 0)
		count++;
	return count;
}

static void empty(struct voxshm_link *link)
{
	struct voxshm_view view;

	while (voxshm_try_recv(link, &view) == 0)
		REQUIRE(voxshm_release(link, &view) == 0);
}

static void take_one(struct voxshm_link *link)
{
	struct voxshm_view view;

	REQUIRE(voxshm_recv(link, &view, PATIENCE) == 0);
	REQUIRE(voxshm_release(link, &view) == 0);
}

/* Streams -------------------------------------------------------------------------- */

struct stream {
	struct voxshm_link *link;
	uint64_t count;
};

static void *send_stream(void *argument)
{
	struct stream *stream = argument;
	uint64_t i;

	for (i = 0; i < stream->count; i++)
		REQUIRE(voxshm_send(stream->link, &i, sizeof(i), VOXSHM_FOREVER) == 0);
	return NULL;
}

static void *recv_stream(void *argument)
{
	struct stream *stream = argument;
	struct voxshm_view view;
	uint64_t i;

	for (i = 0; i < stream->count; i++) {
		REQUIRE(voxshm_recv(stream->link, &view, VOXSHM_FOREVER) == 0);
		REQUIRE(view.size == sizeof(i) && !memcmp(view.data, &i, sizeof(i)));
		REQUIRE(voxshm_release(stream->link, &view) == 0);
	}
	return NULL;
}

static void stream(struct pair *pair, bool down, bool up, uint64_t count)
{
	struct stream streams[4] = {
		{ pair->host_end, count }, { pair->guest_end, count },
		{ pair->guest_end, count }, { pair->host_end, count },
	};
	pthread_t threads[4];
	int i;

	for (i = down ? 0 : 2; i < (up ? 4 : 2); i++)
		threads[i] = thread_start(i % 2 ? recv_stream : send_stream, &streams[i]);
	for (i = down ? 0 : 2; i < (up ? 4 : 2); i++)
		pthread_join(threads[i], NULL);
}

TEST_F_TIMEOUT(links, no_wake_up_is_lost_from_host_to_guest, 120)
{
	stream(&self->pair, true, false, amount(50000));
}

TEST_F_TIMEOUT(links, no_wake_up_is_lost_from_guest_to_host, 120)
{
	stream(&self->pair, false, true, amount(50000));
}

TEST_F_TIMEOUT(links, no_wake_up_is_lost_both_ways_at_once, 120)
{
	stream(&self->pair, true, true, amount(50000));
}

/* What drains the doorbell beside a sleeper ------------------------------------------- */

/* On a fresh ring: a sender that sleeps until one more of two messages is released. */
static void sleeping_sender(struct call *call, struct pair *pair, struct voxshm_view *view)
{
	struct voxshm_view first;
	uint64_t sleeps;

	REQUIRE(fill(pair->host_end) == 2);
	REQUIRE(voxshm_recv(pair->guest_end, &first, 0) == 0);
	REQUIRE(voxshm_recv(pair->guest_end, view, 0) == 0);
	call_start(call, pair->host_end, true, PATIENCE / 5);
	sleeps = atomic_load(&pair->host_end->sleeps);
	REQUIRE(voxshm_release(pair->guest_end, &first) == 0);
	/* Rung, but the line that stays spare leaves no room yet. */
	await_sleep(pair->host_end, sleeps);
}

TEST_F(links, asking_for_the_status_takes_no_wake_up_from_a_sleeping_sender)
{
	struct voxshm_status status;
	struct voxshm_view view;
	unsigned long round;
	struct call call;

	for (round = 0; round < amount(50); round++) {
		sleeping_sender(&call, &self->pair, &view);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
		voxshm_link_status(self->pair.host_end, &status);
		ASSERT_EQ(call_join(&call), 0)
			TH_LOG("round %lu", round);
		EXPECT_EQ(pair_close(&self->pair), 0);
		open_fresh(&self->pair);
	}
}

TEST_F(links, asking_for_the_status_takes_no_wake_up_from_a_sleeping_receiver)
{
	struct voxshm_status status;
	unsigned long round;
	struct call call;

	for (round = 0; round < amount(50); round++) {
		call_start(&call, self->pair.guest_end, false, PATIENCE / 5);
		ASSERT_EQ(voxshm_send(self->pair.host_end, "x", 1, 0), 0);
		voxshm_link_status(self->pair.guest_end, &status);
		ASSERT_EQ(call_join(&call), 0)
			TH_LOG("round %lu", round);
	}
}

/* The receiving thread takes the offer off the socket, and with it what else is there. */
TEST_F(links, receiving_a_mapping_takes_no_wake_up_from_a_sleeping_sender)
{
	static char payload[100000];
	struct voxshm_view view;
	unsigned long round;
	struct call call;

	for (round = 0; round < amount(50); round++) {
		sleeping_sender(&call, &self->pair, &view);
		ASSERT_EQ(voxshm_send(self->pair.guest_end, payload, sizeof(payload), 0), 0);
		sleep_ms(2);
		ASSERT_EQ(voxshm_release(self->pair.guest_end, &view), 0);
		ASSERT_EQ(voxshm_recv(self->pair.host_end, &view, 0), 0);
		ASSERT_EQ(call_join(&call), 0)
			TH_LOG("round %lu", round);
		EXPECT_EQ(pair_close(&self->pair), 0);
		open_fresh(&self->pair);
	}
}

/* A peer that sends just before the last look of one that is about to sleep. */
static struct voxshm_link *late_sender;

static bool send_before_the_look(struct voxshm_link *link)
{
	REQUIRE(voxshm_send(late_sender, "x", 1, 0) == 0);
	return native_readable(link);
}

/* Doorbells of sleeps that did not come about must not pile up, and keep an offer out. */
TEST_F(links, doorbells_of_sleeps_that_were_not_needed_keep_no_mapping_out)
{
	static char payload[100000];
	struct voxshm_link *link = self->pair.guest_end;
	struct format format = native_format;
	struct voxshm_counters counters;
	int i;

	format.readable = send_before_the_look;
	late_sender = self->pair.host_end;
	for (i = 0; i < 2000; i++) {
		link->format = &format;
		ASSERT_EQ(link_wait(link, VOXSHM_READABLE, -1), 0);
		link->format = &native_format;
		take_one(link);
	}
	voxshm_link_counters(self->pair.host_end, &counters);
	EXPECT_EQ(counters.doorbells_rung, 2000);
	EXPECT_EQ(voxshm_send(self->pair.host_end, payload, sizeof(payload), 0), 0);
	take_one(link);
}

/* Room ---------------------------------------------------------------------------------- */

/*
 * "Release: [...] before any wait." The guest has released some of what it
 * holds, too little to tell at once, and then waits for room itself: what it
 * released is the host's to use, whichever of its threads waits.
 */
static void release_then_wait(struct __test_metadata *_metadata, bool in_another_thread)
{
	struct voxshm_view views[16];
	struct call host, guest;
	unsigned int count, i;
	struct pair pair;

	ASSERT_EQ(pair_open(&pair, SMALL(.ring_capacity = 1024)), 0);
	count = fill(pair.host_end);
	ASSERT_EQ(count, 15);
	for (i = 0; i < count; i++)
		ASSERT_EQ(voxshm_recv(pair.guest_end, &views[i], 0), 0);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(voxshm_release(pair.guest_end, &views[i]), 0);
	fill(pair.guest_end);
	call_start(&host, pair.host_end, true, PATIENCE / 5);
	if (in_another_thread) {
		call_start(&guest, pair.guest_end, true, PATIENCE / 10);
		EXPECT_EQ(call_join(&guest), -ETIMEDOUT);
	} else {
		EXPECT_EQ(voxshm_send(pair.guest_end, "x", 1, PATIENCE / 10), -ETIMEDOUT);
	}
	EXPECT_EQ(call_join(&host), 0);
	EXPECT_EQ(pair_close(&pair), 0);
}

TEST(room_released_before_a_wait_for_room_reaches_the_sleeping_sender)
{
	release_then_wait(_metadata, false);
}

TEST(room_released_before_the_other_thread_waits_reaches_the_sleeping_sender)
{
	release_then_wait(_metadata, true);
}

TEST_F(links, room_released_before_a_wait_for_data_reaches_the_sleeping_sender)
{
	struct call sender, receiver;

	fill(self->pair.host_end);
	call_start(&sender, self->pair.host_end, true, PATIENCE);
	empty(self->pair.guest_end);
	EXPECT_EQ(call_join(&sender), 0);
	empty(self->pair.guest_end);
	call_start(&receiver, self->pair.guest_end, false, PATIENCE);
	ASSERT_EQ(voxshm_send(self->pair.host_end, "x", 1, PATIENCE), 0);
	EXPECT_EQ(call_join(&receiver), 0);
}

/* A sender that lacks a slot, or a mapping: the last one is the only one. */
static void release_the_last(struct __test_metadata *_metadata, size_t size)
{
	static const struct voxshm_class one[] = { { 1024, 1 } };
	static char payload[100000];
	struct voxshm_view view;
	unsigned long round;
	struct call call;
	struct pair pair;

	ASSERT_EQ(pair_open(&pair, NATIVE_CONFIG(.max_guests = 1, .num_classes = 1, .classes = one,
						 .max_mappings = 1)), 0);
	for (round = 0; round < amount(50); round++) {
		ASSERT_EQ(voxshm_send(pair.host_end, payload, size, 0), 0);
		ASSERT_EQ(voxshm_send(pair.host_end, payload, size, 0), -EAGAIN);
		ASSERT_EQ(voxshm_recv(pair.guest_end, &view, 0), 0);
		call_start_sized(&call, pair.host_end, payload, size);
		ASSERT_EQ(voxshm_release(pair.guest_end, &view), 0);
		ASSERT_EQ(call_join(&call), 0)
			TH_LOG("round %lu", round);
		take_one(pair.guest_end);
	}
	EXPECT_EQ(pair_close(&pair), 0);
}

TEST(returned_slot_wakes_the_sleeping_sender)
{
	release_the_last(_metadata, 1000);
}

TEST(released_mapping_wakes_the_sleeping_sender)
{
	release_the_last(_metadata, 100000);
}

/* Ends, timeouts, signals ------------------------------------------------------------------ */

TEST_F(links, end_of_the_peer_wakes_both_sleepers)
{
	struct call sender, receiver;

	fill(self->pair.host_end);
	call_start(&sender, self->pair.host_end, true, VOXSHM_FOREVER);
	call_start(&receiver, self->pair.host_end, false, VOXSHM_FOREVER);
	voxshm_link_close(self->pair.guest_end);
	self->pair.guest_end = NULL;
	EXPECT_EQ(call_join(&sender), -EPIPE);
	EXPECT_EQ(call_join(&receiver), -EPIPE);
}

TEST_F(links, timeouts_are_told_to_both_threads)
{
	struct call sender, receiver;
	int64_t before = now_ns();

	fill(self->pair.guest_end);
	call_start(&sender, self->pair.guest_end, true, 100 * MS);
	call_start(&receiver, self->pair.guest_end, false, 50 * MS);
	EXPECT_EQ(call_join(&receiver), -ETIMEDOUT);
	EXPECT_EQ(call_join(&sender), -ETIMEDOUT);
	EXPECT_GE(now_ns() - before, 100 * MS);
	EXPECT_LT(now_ns() - before, PATIENCE);
	/* Nothing was sent, and nothing is broken. */
	empty(self->pair.host_end);
	EXPECT_EQ(voxshm_send(self->pair.guest_end, "x", 1, 0), 0);
	take_one(self->pair.host_end);
}

static void ignore(int signal_number)
{
	(void)signal_number;
}

TEST_F(links, signal_ends_a_wait_of_either_role)
{
	struct sigaction action = { .sa_handler = ignore };
	struct call call;

	ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	call_start(&call, self->pair.host_end, false, PATIENCE);
	thread_interrupt(call.thread, SIGUSR1);
	EXPECT_EQ(call.ret, -EINTR);
	fill(self->pair.host_end);
	call_start(&call, self->pair.host_end, true, PATIENCE);
	thread_interrupt(call.thread, SIGUSR1);
	EXPECT_EQ(call.ret, -EINTR);
}

TEST_F(links, peer_that_is_awake_is_not_rung)
{
	struct voxshm_counters counters;
	int i;

	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(voxshm_send(self->pair.host_end, "x", 1, 0), 0);
		take_one(self->pair.guest_end);
	}
	voxshm_link_counters(self->pair.host_end, &counters);
	EXPECT_EQ(counters.doorbells_rung, 0);
	voxshm_link_counters(self->pair.guest_end, &counters);
	EXPECT_EQ(counters.doorbells_rung, 0);
	EXPECT_EQ(counters.sleeps, 0);
}

TEST_F(links, sleeper_is_rung_once_for_many_messages)
{
	struct voxshm_counters counters;

	ASSERT_EQ(voxshm_link_arm(self->pair.guest_end, VOXSHM_READABLE), 0);
	EXPECT_EQ(fill(self->pair.host_end), 2);
	voxshm_link_counters(self->pair.host_end, &counters);
	EXPECT_EQ(counters.doorbells_rung, 1);
}

/* Threads of a host's links -------------------------------------------------------------------- */

static unsigned int hot_links(const struct voxshm_host *host)
{
	const struct voxshm_link *link, *last = NULL;
	unsigned int count = 0;

	for (link = host->hot; link && count < 100; link = link->hot_next) {
		REQUIRE(link->hot_previous == last);
		last = link;
		count++;
	}
	REQUIRE(host->hot_last == last);
	return count;
}

/* A thread that tries its link once in each round. */
struct trier {
	struct voxshm_link *link;
	atomic_ulong *round, *tried;
	unsigned long rounds;
};

static void *try_each_round(void *argument)
{
	struct trier *trier = argument;
	unsigned long i, looks = 0;
	struct voxshm_view view;

	for (i = 1; i <= trier->rounds; i++) {
		while (atomic_load(trier->round) < i)
			if (++looks % 1024 == 0)
				sched_yield();
		REQUIRE(voxshm_try_recv(trier->link, &view) == -EAGAIN);
		atomic_fetch_add(trier->tried, 1);
	}
	return NULL;
}

/* "different links are independent": also when the host has just put them to rest. */
TEST_F(links, threads_of_different_links_may_find_nothing_at_once)
{
	struct voxshm_link *host_end, *guest_end;
	struct voxshm_event events[8];
	unsigned long i, rounds = amount(20000);
	atomic_ulong round = 0, tried = 0;
	struct trier triers[2];
	pthread_t threads[2];

	ASSERT_EQ(pair_join(self->pair.host, &host_end, &guest_end), 0);
	triers[0] = (struct trier){ self->pair.host_end, &round, &tried, rounds };
	triers[1] = (struct trier){ host_end, &round, &tried, rounds };
	while (voxshm_host_wait(self->pair.host, events, ARRAY_SIZE(events), 0) > 0)
		;
	for (i = 0; i < 2; i++)
		threads[i] = thread_start(try_each_round, &triers[i]);
	for (i = 1; i <= rounds; i++) {
		ASSERT_EQ(voxshm_host_arm(self->pair.host), 0);
		ASSERT_EQ(hot_links(self->pair.host), 0);
		atomic_store(&round, i);
		while (atomic_load(&tried) < 2 * i)
			sched_yield();
		ASSERT_EQ(hot_links(self->pair.host), 2)
			TH_LOG("round %lu", i);
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	voxshm_link_close(guest_end);
}

static void *ask_for_status(void *argument)
{
	struct voxshm_link *link = argument;
	struct voxshm_status status;
	int64_t deadline = now_ns() + PATIENCE;

	do {
		voxshm_link_status(link, &status);
		REQUIRE(now_ns() < deadline);
	} while (status.state == VOXSHM_LINK_WAITING);
	return NULL;
}

/* The sender waits on what it knows of the peer, as the other thread learns of it. */
TEST_F(links, status_may_be_asked_while_the_sender_waits_for_the_guest)
{
	struct voxshm_link *host_end, *guest_end;
	struct call call;
	pthread_t thread;
	int ticket;

	ASSERT_EQ(voxshm_host_ticket(self->pair.host, &ticket, &host_end, NULL), 0);
	voxshm_link_set_spin(host_end, 0);
	fill(host_end);
	call_start(&call, host_end, true, PATIENCE);
	thread = thread_start(ask_for_status, host_end);
	ASSERT_EQ(voxshm_guest_claim(&guest_end, ticket, NULL), 0);
	pthread_join(thread, NULL);
	take_one(guest_end);
	take_one(guest_end);
	EXPECT_EQ(call_join(&call), 0);
	voxshm_link_close(guest_end);
}

TEST_HARNESS_MAIN
