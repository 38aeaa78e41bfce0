// SPDX-License-Identifier: MIT
/*
 * Sleep and wake, step by step: a link of a format and an end of our own, whose
 * looks and doorbells the tests can hold at any point.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "link.h"
#include "unit_test.h"

/* A side whose two threads wait for data and for space. */
struct side {
	struct voxshm_link link;	/* first: the hooks get this */
	struct end end;
	struct link_traffic sent, received;
	shared_u32 data, space;		/* what there is */
	shared_u32 data_word, space_word;
	atomic_int drains;
	/* Called in a look for space that finds none, before it says so. */
	void (*in_look)(struct side *side);
	atomic_bool hold;		/* no look for data ends */
	atomic_bool stuck;		/* what has come cannot be taken for want of a descriptor */
};

static struct side *side_of(struct voxshm_link *link)
{
	return (struct side *)link;
}

static bool readable(struct voxshm_link *link)
{
	while (atomic_load(&side_of(link)->hold))
		sleep_ms(1);
	return shared_load_fenced_u32(&side_of(link)->data) != 0;
}

static bool writable(struct voxshm_link *link)
{
	struct side *side = side_of(link);
	bool space = shared_load_fenced_u32(&side->space) != 0;

	if (!space && side->in_look)
		side->in_look(side);
	return space;
}

static void arm(struct voxshm_link *link, unsigned int interest)
{
	if (interest & VOXSHM_READABLE)
		shared_store_fenced_u32(&side_of(link)->data_word, 1);
	if (interest & VOXSHM_WRITABLE)
		shared_store_fenced_u32(&side_of(link)->space_word, 1);
}

static bool disarm(struct voxshm_link *link, unsigned int interest)
{
	bool rung = false;

	if (interest & VOXSHM_READABLE)
		rung |= shared_exchange_u32(&side_of(link)->data_word, 0) == 0;
	if (interest & VOXSHM_WRITABLE)
		rung |= shared_exchange_u32(&side_of(link)->space_word, 0) == 0;
	return rung;
}

static const struct format fake_format = {
	.readable = readable, .writable = writable, .arm = arm, .disarm = disarm,
};

static int drain(struct end *end, struct voxshm_link *link)
{
	eventfd_t value;

	atomic_store(&end->deaf, atomic_load(&side_of(link)->stuck));
	if (!end->deaf)
		eventfd_read(end->wake_fd, &value);
	atomic_fetch_add(&side_of(link)->drains, 1);
	return 0;
}

static void end_free(struct end *end)
{
	close(end->wake_fd);
	end_deinit(end);
}

static const struct end_ops fake_ops = { .backend_name = "fake", .drain = drain, .free = end_free };

/* What the peer does: publish, then ring if it took the sleep word. */
static void publish(struct side *side, unsigned int interest)
{
	bool data = interest == VOXSHM_READABLE;

	shared_store_fenced_u32(data ? &side->data : &side->space, 1);
	if (shared_exchange_u32(data ? &side->data_word : &side->space_word, 0))
		REQUIRE(eventfd_write(side->end.wake_fd, 1) == 0);
}

/* A thread that waits as send and recv do, until it has what it wants. */
struct waiter {
	struct side *side;
	unsigned int interest;
	int64_t timeout;
	int ret;
	atomic_int waits;		/* how often link_wait() came back */
	pthread_t thread;
};

static void *wait_for_it(void *argument)
{
	struct waiter *waiter = argument;
	struct voxshm_link *link = &waiter->side->link;
	int64_t deadline = clock_deadline(waiter->timeout);
	int ret = 0;

	while (ret == 0 && !(waiter->interest == VOXSHM_READABLE ? readable(link) :
			     shared_load_fenced_u32(&waiter->side->space) != 0)) {
		ret = link_wait(link, waiter->interest, deadline);
		atomic_fetch_add(&waiter->waits, 1);
	}
	waiter->ret = ret;
	return NULL;
}

static void waiter_start(struct waiter *waiter, struct side *side, unsigned int interest,
			 int64_t timeout)
{
	*waiter = (struct waiter){ .side = side, .interest = interest, .timeout = timeout };
	waiter->thread = thread_start(wait_for_it, waiter);
}

static int waiter_join(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->ret;
}

static bool someone_polls(struct side *side)
{
	bool polling;

	pthread_mutex_lock(&side->link.waiters.lock);
	polling = side->link.waiters.polling;
	pthread_mutex_unlock(&side->link.waiters.lock);
	return polling;
}

/* Until so many sleeps have begun, and a moment more. */
static void await_sleeps(struct side *side, uint64_t sleeps)
{
	int64_t deadline = now_ns() + PATIENCE;

	while (atomic_load(&side->link.sleeps) < sleeps || !someone_polls(side)) {
		REQUIRE(now_ns() < deadline);
		sleep_ms(1);
	}
	sleep_ms(20);
}

FIXTURE(wait) {
	struct side side;
};

FIXTURE_SETUP(wait)
{
	end_init(&self->side.end, &fake_ops);
	self->side.end.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_GE(self->side.end.wake_fd, 0);
	ASSERT_EQ(link_init(&self->side.link, &fake_format, &self->side.end, &self->side.sent,
			    &self->side.received), 0);
	self->side.link.spin_ns = 0;
}

FIXTURE_TEARDOWN(wait)
{
	link_deinit(&self->side.link);
}

/* One sleeper ----------------------------------------------------------------------- */

TEST_F(wait, what_is_there_needs_no_sleep)
{
	shared_poke_u32(&self->side.data, 1);
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, -1), 0);
	EXPECT_EQ(atomic_load(&self->side.link.sleeps), 0);
	EXPECT_EQ(shared_peek_u32(&self->side.data_word), 0);
}

TEST_F(wait, sleeper_is_woken)
{
	struct waiter waiter;

	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	EXPECT_EQ(shared_peek_u32(&self->side.data_word), 1);
	EXPECT_EQ(shared_peek_u32(&self->side.space_word), 0);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
	EXPECT_EQ(shared_peek_u32(&self->side.data_word), 0);
}

/* It looks now and then, as it cannot hear the doorbell, and keeps to its timeout. */
TEST_F(wait, sleeper_bears_with_what_cannot_be_taken)
{
	struct waiter waiter;

	atomic_store(&self->side.stuck, true);
	REQUIRE(eventfd_write(self->side.end.wake_fd, 1) == 0);
	waiter_start(&waiter, &self->side, VOXSHM_READABLE, 200 * MS);
	EXPECT_EQ(waiter_join(&waiter), -ETIMEDOUT);
	EXPECT_LT(atomic_load(&self->side.drains), 100);
	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 2);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
}

/* The peer waits for an answer: whoever has what it slept for drains nothing before that. */
TEST_F(wait, woken_with_data_drains_only_before_the_next_sleep)
{
	struct waiter waiter;
	int64_t before;

	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
	EXPECT_TRUE(atomic_load(&self->side.drains) == 0);
	shared_poke_u32(&self->side.data, 0);
	before = now_ns();
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, before + 20 * MS), -ETIMEDOUT);
	EXPECT_GE(now_ns() - before, 20 * MS);
	EXPECT_TRUE(atomic_load(&self->side.drains) == 2);
}

/* What is not there cannot be answered: it may be something else that the peer says. */
TEST_F(wait, woken_without_data_drains_at_once)
{
	struct waiter waiter;

	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	REQUIRE(eventfd_write(self->side.end.wake_fd, 1) == 0);
	await_sleeps(&self->side, 2);
	EXPECT_TRUE(atomic_load(&self->side.drains) == 1);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
}

TEST_F(wait, woken_by_an_end_drains_at_once)
{
	struct waiter waiter;

	self->side.end.pidfd = eventfd(0, EFD_CLOEXEC);
	ASSERT_GE(self->side.end.pidfd, 0);
	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	shared_store_fenced_u32(&self->side.data, 1);
	REQUIRE(eventfd_write(self->side.end.pidfd, 1) == 0);
	EXPECT_EQ(waiter_join(&waiter), 0);
	EXPECT_TRUE(atomic_load(&self->side.drains) > 0);
}

static void publish_in_look(struct side *side)
{
	side->in_look = NULL;
	publish(side, VOXSHM_WRITABLE);
}

TEST_F(wait, doorbell_between_the_last_look_and_the_sleep_is_not_lost)
{
	struct waiter waiter;

	self->side.in_look = publish_in_look;
	waiter_start(&waiter, &self->side, VOXSHM_WRITABLE, PATIENCE);
	EXPECT_EQ(waiter_join(&waiter), 0);
}

/* The doorbell of a sleep that was given up must not keep a later one awake for ever. */
TEST_F(wait, stale_doorbell_is_drained_by_the_next_sleep)
{
	int64_t before = now_ns();

	REQUIRE(eventfd_write(self->side.end.wake_fd, 1) == 0);
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, now_ns() + PATIENCE), 0);
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, now_ns() + 20 * MS), -ETIMEDOUT);
	EXPECT_GE(now_ns() - before, 20 * MS);
}

TEST_F(wait, timeout_is_neither_early_nor_for_ever)
{
	static const int64_t timeouts[] = { 1, 1000, MS, 50 * MS };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(timeouts); i++) {
		int64_t before = now_ns();

		EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, before + timeouts[i]),
			  -ETIMEDOUT);
		EXPECT_GE(now_ns() - before, timeouts[i]);
		EXPECT_LT(now_ns() - before, timeouts[i] + PATIENCE);
		EXPECT_EQ(shared_peek_u32(&self->side.data_word), 0);
	}
	/* Also when it has passed already. */
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, 0), -ETIMEDOUT);
}

TEST_F(wait, looking_keeps_to_the_deadline_and_the_budget)
{
	int64_t before = now_ns();

	self->side.link.spin_ns = UINT32_MAX;
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, before + 20 * MS), -ETIMEDOUT);
	EXPECT_LT(now_ns() - before, PATIENCE / 2);
	self->side.link.spin_ns = 5 * MS;
	before = now_ns();
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, before + 20 * MS), -ETIMEDOUT);
	EXPECT_EQ(atomic_load(&self->side.link.sleeps), 2);
}

static void *publish_soon(void *argument)
{
	sleep_ms(5);
	publish(argument, VOXSHM_READABLE);
	return NULL;
}

TEST_F(wait, looking_finds_what_comes_without_a_sleep)
{
	pthread_t thread = thread_start(publish_soon, &self->side);

	self->side.link.spin_ns = UINT32_MAX;
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, -1), 0);
	EXPECT_EQ(atomic_load(&self->side.link.sleeps), 0);
	pthread_join(thread, NULL);
}

/* Where waits are long, looking is in vain. */
TEST_F(wait, long_waits_make_the_looks_shorter_and_a_short_one_long_again)
{
	uint8_t *halved = self->side.link.spin_halved;
	struct waiter waiter;
	int i;

	self->side.link.spin_ns = 1000;
	for (i = 1; i <= SPIN_HALVINGS + 1; i++) {
		waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
		await_sleeps(&self->side, (uint64_t)i);
		publish(&self->side, VOXSHM_READABLE);
		ASSERT_EQ(waiter_join(&waiter), 0);
		EXPECT_EQ(halved[1], i < SPIN_HALVINGS ? i : SPIN_HALVINGS);
		shared_poke_u32(&self->side.data, 0);
	}
	/* Nothing came: that says nothing. */
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, now_ns()), -ETIMEDOUT);
	EXPECT_EQ(halved[1], SPIN_HALVINGS);
	/* The other thread's waits are others. */
	EXPECT_EQ(halved[0], 0);
	/* Looks for an eighth of a second, and may take eight in all. */
	self->side.link.spin_ns = UINT32_MAX;
	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, SPIN_HALVINGS + 3);
	publish(&self->side, VOXSHM_READABLE);
	ASSERT_EQ(waiter_join(&waiter), 0);
	EXPECT_EQ(halved[1], 0);
}

TEST_F(wait, sleeping_costs_no_processor_time)
{
	struct timespec before, after;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	EXPECT_EQ(link_wait(&self->side.link, VOXSHM_READABLE, now_ns() + 300 * MS), -ETIMEDOUT);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	EXPECT_LT((after.tv_sec - before.tv_sec) * SECOND + after.tv_nsec - before.tv_nsec,
		  100 * MS);
}

TEST(deadline_does_not_overflow)
{
	EXPECT_EQ(clock_deadline(-1), -1);
	EXPECT_EQ(clock_deadline(INT64_MIN), -1);
	EXPECT_EQ(clock_deadline(INT64_MAX), INT64_MAX);
	EXPECT_LE(clock_deadline(0), clock_now());
	EXPECT_GE(clock_deadline(SECOND), clock_now());
}

/* Two sleepers on one descriptor ------------------------------------------------------ */

/* Whoever polls, and whatever comes first, each gets its own. */
static void two_sleepers(struct __test_metadata *_metadata, struct side *side,
			 unsigned int first_asleep, unsigned int first_published)
{
	const unsigned int both = VOXSHM_READABLE | VOXSHM_WRITABLE;
	struct waiter first, second;

	waiter_start(&first, side, first_asleep, PATIENCE);
	await_sleeps(side, 1);
	waiter_start(&second, side, both & ~first_asleep, PATIENCE);
	await_sleeps(side, 2);
	publish(side, first_published);
	sleep_ms(20);
	publish(side, both & ~first_published);
	EXPECT_EQ(waiter_join(&first), 0);
	EXPECT_EQ(waiter_join(&second), 0);
}

TEST_F(wait, reader_polls_and_is_served_first)
{
	two_sleepers(_metadata, &self->side, VOXSHM_READABLE, VOXSHM_READABLE);
}

TEST_F(wait, reader_polls_and_is_served_last)
{
	two_sleepers(_metadata, &self->side, VOXSHM_READABLE, VOXSHM_WRITABLE);
}

TEST_F(wait, writer_polls_and_is_served_first)
{
	two_sleepers(_metadata, &self->side, VOXSHM_WRITABLE, VOXSHM_WRITABLE);
}

TEST_F(wait, writer_polls_and_is_served_last)
{
	two_sleepers(_metadata, &self->side, VOXSHM_WRITABLE, VOXSHM_READABLE);
}

TEST_F(wait, one_doorbell_wakes_both)
{
	struct waiter reader, writer;

	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	waiter_start(&writer, &self->side, VOXSHM_WRITABLE, PATIENCE);
	await_sleeps(&self->side, 2);
	/* Both are there, and the socket tells it once. */
	shared_store_fenced_u32(&self->side.data, 1);
	shared_store_fenced_u32(&self->side.space, 1);
	REQUIRE(eventfd_write(self->side.end.wake_fd, 1) == 0);
	EXPECT_EQ(waiter_join(&reader), 0);
	EXPECT_EQ(waiter_join(&writer), 0);
}

static void *fail_it(void *argument)
{
	link_fail(argument, "a test");
	return NULL;
}

/* One polls, the other follows; a third thread sees that the peer broke the protocol. */
TEST_F(wait, failure_that_another_thread_sees_ends_all_sleep)
{
	struct waiter first, second;
	pthread_t thread;

	waiter_start(&first, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	waiter_start(&second, &self->side, VOXSHM_WRITABLE, PATIENCE);
	await_sleeps(&self->side, 2);
	thread = thread_start(fail_it, &self->side.link);
	while (!atomic_load(&first.waits) || !atomic_load(&second.waits))
		sleep_ms(1);
	pthread_join(thread, NULL);
	/* They would wait again: that fails at once, and only a message ends it. */
	publish(&self->side, VOXSHM_READABLE);
	publish(&self->side, VOXSHM_WRITABLE);
	EXPECT_EQ(waiter_join(&first), 0);
	EXPECT_EQ(waiter_join(&second), 0);
}

static bool polls_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* Two threads, each with a poll of its own: what one drains may be the other's news. */
TEST_F(wait, each_interest_keeps_its_news_on_the_applications_descriptor)
{
	struct voxshm_link *link = &self->side.link;
	int fd = voxshm_link_fd(link);

	ASSERT_EQ(voxshm_link_arm(link, VOXSHM_WRITABLE), 0);
	ASSERT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), 0);
	ASSERT_EQ(voxshm_link_arm(link, VOXSHM_WRITABLE), 0);
	EXPECT_FALSE(polls_readable(fd));
	publish(&self->side, VOXSHM_WRITABLE);
	EXPECT_TRUE(polls_readable(fd));
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), 0);
	EXPECT_TRUE(polls_readable(fd));
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_WRITABLE), VOXSHM_WRITABLE);
	EXPECT_FALSE(polls_readable(fd));
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_WRITABLE), VOXSHM_WRITABLE);
	EXPECT_TRUE(polls_readable(fd));
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), VOXSHM_READABLE);
	EXPECT_FALSE(polls_readable(fd));
}

/* It tells of what was asked for, not of what another call has had. */
TEST_F(wait, sleep_in_a_call_leaves_the_applications_descriptor_quiet)
{
	int fd = voxshm_link_fd(&self->side.link);
	struct waiter waiter;

	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
	EXPECT_FALSE(polls_readable(fd));
}

/* A call of another thread has found that the peer broke the protocol. */
TEST_F(wait, failure_ends_a_poll_of_the_applications_own)
{
	struct voxshm_link *link = &self->side.link;
	int fd = voxshm_link_fd(link);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), 0);
	ASSERT_FALSE(polls_readable(fd));
	link_fail(link, "a test");
	EXPECT_TRUE(polls_readable(fd));
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), VOXSHM_READABLE);
	/* The other thread's poll has not seen it yet. */
	EXPECT_TRUE(polls_readable(fd));
}

TEST_F(wait, failure_before_the_descriptor_was_asked_for_makes_it_readable)
{
	struct voxshm_link *link = &self->side.link;

	link_fail(link, "a test");
	EXPECT_TRUE(polls_readable(voxshm_link_fd(link)));
}

/* No sleep is long that nobody could end. */
TEST_F(wait, failure_is_seen_without_a_descriptor_for_it)
{
	struct rlimit limit, none;
	struct waiter waiter;
	int free_fd = dup(0);

	close(free_fd);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)free_fd;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	waiter_start(&waiter, &self->side, VOXSHM_READABLE, PATIENCE);
	while (!atomic_load(&waiter.waits))
		sleep_ms(1);
	EXPECT_EQ(atomic_load(&self->side.link.waiters.fail_fd), -1);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&waiter), 0);
}

TEST_F(wait, sleeper_that_gives_up_hands_the_doorbell_over)
{
	struct waiter reader, writer;

	waiter_start(&reader, &self->side, VOXSHM_READABLE, 100 * MS);
	await_sleeps(&self->side, 1);
	waiter_start(&writer, &self->side, VOXSHM_WRITABLE, PATIENCE);
	EXPECT_EQ(waiter_join(&reader), -ETIMEDOUT);
	await_sleeps(&self->side, 2);
	publish(&self->side, VOXSHM_WRITABLE);
	EXPECT_EQ(waiter_join(&writer), 0);
}

TEST_F(wait, sleeper_behind_another_keeps_to_its_own_timeout)
{
	struct waiter reader, writer;

	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	waiter_start(&writer, &self->side, VOXSHM_WRITABLE, 50 * MS);
	EXPECT_EQ(waiter_join(&writer), -ETIMEDOUT);
	EXPECT_EQ(shared_peek_u32(&self->side.space_word), 0);
	EXPECT_EQ(shared_peek_u32(&self->side.data_word), 1);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&reader), 0);
}

/*
 * The writer has looked and found no space. Before it goes to sleep, space is
 * published and its doorbell rung, and the reader, who polls, drains that and
 * goes to sleep again. The writer must look again: nobody will ring for it.
 */
static struct waiter *polling_reader;

static void ring_and_let_the_reader_drain(struct side *side)
{
	int waits = atomic_load(&polling_reader->waits);
	int64_t deadline = now_ns() + PATIENCE;

	side->in_look = NULL;
	publish(side, VOXSHM_WRITABLE);
	while (atomic_load(&polling_reader->waits) == waits || !someone_polls(side)) {
		REQUIRE(now_ns() < deadline);
		sleep_ms(1);
	}
}

TEST_F(wait, doorbell_drained_by_the_other_thread_before_the_sleep_is_not_lost)
{
	struct waiter reader, writer;

	polling_reader = &reader;
	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	self->side.in_look = ring_and_let_the_reader_drain;
	waiter_start(&writer, &self->side, VOXSHM_WRITABLE, PATIENCE / 5);
	EXPECT_EQ(waiter_join(&writer), 0);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&reader), 0);
}

/* A thread that does not sleep drains too: to ask for the status, or before it maps an offer. */
TEST_F(wait, doorbell_drained_by_a_thread_that_is_awake_is_not_lost)
{
	unsigned long round;

	for (round = 0; round < amount(100); round++) {
		struct waiter writer;
		int64_t deadline = now_ns() + PATIENCE;

		shared_poke_u32(&self->side.space, 0);
		waiter_start(&writer, &self->side, VOXSHM_WRITABLE, PATIENCE / 5);
		while (!someone_polls(&self->side))
			REQUIRE(now_ns() < deadline);
		sleep_ms(1);
		publish(&self->side, VOXSHM_WRITABLE);
		link_drain(&self->side.link);
		ASSERT_EQ(waiter_join(&writer), 0)
			TH_LOG("round %lu", round);
	}
}

/* Signals --------------------------------------------------------------------------------- */

static void ignore(int signal_number)
{
	(void)signal_number;
}

static void catch_signal(int flags)
{
	struct sigaction action = { .sa_handler = ignore, .sa_flags = flags };

	REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
}

TEST_F(wait, signal_ends_a_sleep)
{
	struct waiter reader;

	catch_signal(0);
	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	thread_interrupt(reader.thread, SIGUSR1);
	EXPECT_EQ(reader.ret, -EINTR);
	EXPECT_EQ(shared_peek_u32(&self->side.data_word), 0);
	/* And the next one is as good as any. */
	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 2);
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&reader), 0);
}

/*
 * One that waits for a drain is called away by a signal just when the one that polls
 * has what it wants, sees nobody behind it, and leaves the doorbell.
 */
struct drainer {
	struct side *side;
	atomic_bool done;
};

static void *wait_for_drain(void *argument)
{
	struct drainer *drainer = argument;

	link_drain_wait(&drainer->side->link);
	atomic_store(&drainer->done, true);
	return NULL;
}

TEST_F(wait, who_waits_for_a_drain_is_not_forgotten_when_a_signal_comes)
{
	struct waiters *waiters = &self->side.link.waiters;
	struct drainer drainer = { .side = &self->side };
	int64_t deadline = now_ns() + PATIENCE;
	struct waiter reader;
	pthread_t thread;

	catch_signal(0);
	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	atomic_store(&self->side.hold, true);
	publish(&self->side, VOXSHM_READABLE);
	thread = thread_start(wait_for_drain, &drainer);
	while (atomic_load(&waiters->followers) == 0)
		sleep_ms(1);
	/* The reader gets the lock first. */
	pthread_mutex_lock(&waiters->lock);
	atomic_store(&self->side.hold, false);
	sleep_ms(20);
	while (atomic_load(&waiters->followers)) {
		pthread_kill(thread, SIGUSR1);
		sleep_ms(1);
	}
	sleep_ms(20);
	pthread_mutex_unlock(&waiters->lock);
	EXPECT_EQ(waiter_join(&reader), 0);
	while (!atomic_load(&drainer.done) && now_ns() < deadline)
		sleep_ms(1);
	EXPECT_TRUE(atomic_load(&drainer.done));
	link_drain(&self->side.link);
	pthread_join(thread, NULL);
}

TEST_F(wait, signal_to_the_one_that_polls_hands_the_doorbell_over)
{
	struct waiter reader, writer;

	catch_signal(0);
	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	waiter_start(&writer, &self->side, VOXSHM_WRITABLE, PATIENCE);
	await_sleeps(&self->side, 2);
	thread_interrupt(reader.thread, SIGUSR1);
	EXPECT_EQ(reader.ret, -EINTR);
	publish(&self->side, VOXSHM_WRITABLE);
	EXPECT_EQ(waiter_join(&writer), 0);
}

/* However long it would wait, and whatever flags the handler has. */
TEST_F(wait, signal_ends_the_sleep_of_the_one_that_does_not_poll_too)
{
	const int64_t timeouts[] = { PATIENCE / 5, VOXSHM_FOREVER };
	static const int flags[] = { 0, SA_RESTART };
	struct waiter reader, writer;

	waiter_start(&reader, &self->side, VOXSHM_READABLE, PATIENCE);
	await_sleeps(&self->side, 1);
	for (uint64_t i = 0; i < 4; i++) {
		catch_signal(flags[i / 2]);
		waiter_start(&writer, &self->side, VOXSHM_WRITABLE, timeouts[i % 2]);
		await_sleeps(&self->side, 2 + i);
		thread_interrupt(writer.thread, SIGUSR1);
		EXPECT_EQ(writer.ret, -EINTR);
	}
	publish(&self->side, VOXSHM_READABLE);
	EXPECT_EQ(waiter_join(&reader), 0);
}

TEST_HARNESS_MAIN
