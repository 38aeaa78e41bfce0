// SPDX-License-Identifier: MIT
/*
 * share.c - how much of a host's loop an attacker can take, counted: turns of
 * voxshm_host_wait(), events, and system calls for each message of an honest
 * guest, alone and beside each attacker. No clock is read: both guests are in
 * this process, and between two turns of the host the attacker does as much as
 * it can. The system calls are those that the library makes through the
 * functions which the linker wraps below.
 */
#include "attack.h"

#define MESSAGES amount(1000)
/* What an attack costs until it is cut off is shared by no fewer than so many. */
#define SHARERS (MESSAGES > 1000 ? MESSAGES : 1000)
#define SLEEP 20000ll	/* ns: enough that the host arms its links and asks the kernel */

static uint64_t calls;

/* The C library's own, and in its place one that counts. */
#define COUNTED(type, name, parameters, arguments)	\
	type __real_##name parameters;			\
	type __wrap_##name parameters;			\
	type __wrap_##name parameters			\
	{						\
		calls++;				\
		return __real_##name arguments;		\
	}

COUNTED(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
COUNTED(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTED(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout))
COUNTED(int, epoll_pwait2, (int fd, struct epoll_event *events, int most,
			    const struct timespec *timeout, const sigset_t *mask),
	(fd, events, most, timeout, mask))
COUNTED(int, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout),
	(fd, events, most, timeout))
COUNTED(int, epoll_ctl, (int fd, int op, int other, struct epoll_event *event),
	(fd, op, other, event))
COUNTED(void *, mmap, (void *base, size_t size, int protection, int flags, int fd, off_t offset),
	(base, size, protection, flags, fd, offset))
COUNTED(int, munmap, (void *base, size_t size), (base, size))
COUNTED(int, madvise, (void *base, size_t size, int advice), (base, size, advice))
COUNTED(int, close, (int fd), (fd))
COUNTED(int, fstat, (int fd, struct stat *status), (fd, status))
COUNTED(int, eventfd_read, (int fd, eventfd_t *value), (fd, value))
COUNTED(int, eventfd_write, (int fd, eventfd_t value), (fd, value))
COUNTED(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
COUNTED(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))

/* The host's work. */
struct work {
	uint64_t turns, events, attacker_events, calls;
};

FIXTURE(share)
{
	struct voxshm_host *host;
	struct voxshm_link *host_end, *guest_end;	/* honest */
	struct voxshm_link *attacked, *attacker;
	struct work alone;
	uint64_t sent;
	bool sleeps;		/* the host has nothing to do but to wait for the honest guest */
};
VARIANTS(share)

/* The attacker's part between two turns; it makes system calls of its own. */
typedef void step_fn(struct voxshm_link *attacker);

static void handle_attacker(struct voxshm_link *link)
{
	struct voxshm_view views[16];
	int count = voxshm_recv_batch(link, views, ARRAY_SIZE(views), 0);

	for (int i = 0; i < count; i++)
		voxshm_release(link, &views[i]);
}

/* One turn of the host. Return: did the honest message come? */
static bool turn(FIXTURE_DATA(share) *self, struct work *work)
{
	struct voxshm_event events[8];
	bool came = false;
	int count = voxshm_host_wait(self->host, events, ARRAY_SIZE(events),
				     self->sleeps ? SLEEP : 0);

	REQUIRE(count >= 0);
	work->turns++;
	for (int i = 0; i < count; i++) {
		work->events++;
		if (events[i].link == self->attacked) {
			work->attacker_events++;
			if (events[i].type == VOXSHM_EVENT_READABLE)
				handle_attacker(self->attacked);
		} else if (events[i].type == VOXSHM_EVENT_READABLE) {
			REQUIRE_EQ(0, recv_pattern(self->host_end, 40, self->sent - 1, 0));
			came = true;
		}
	}
	return came;
}

/* So many honest messages, each with a step of the attacker before every turn. */
static struct work exchange(FIXTURE_DATA(share) *self, step_fn *step)
{
	struct work work = { 0 };

	for (unsigned int i = 0; i < MESSAGES; i++) {
		REQUIRE_EQ(0, send_pattern(self->guest_end, 40, self->sent++, PATIENCE));
		for (bool came = false; !came;) {
			uint64_t before;

			if (step)
				step(self->attacker);
			before = calls;
			came = turn(self, &work);
			work.calls += calls - before;
			REQUIRE(work.turns < 100ull * MESSAGES);
		}
		/* As long as there is nothing, the host arms its links. */
		for (int look = 0; self->sleeps && look < 2; look++) {
			uint64_t before;

			if (step)
				step(self->attacker);
			before = calls;
			REQUIRE(!turn(self, &work));
			work.calls += calls - before;
		}
	}
	return work;
}

FIXTURE_SETUP(share)
{
	struct work attaching = { 0 };

	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_mappings = 16));
	link_make(_metadata, self->host, &self->host_end, &self->guest_end);
	link_make(_metadata, self->host, &self->attacked, &self->attacker);
	for (int i = 0; i < 10; i++)
		turn(self, &attaching);
	ASSERT_EQ(2, attaching.events);
}

FIXTURE_TEARDOWN(share)
{
	voxshm_link_close(self->guest_end);
	voxshm_link_close(self->attacker);
	voxshm_host_free(self->host);
}

/* Attacks ------------------------------------------------------------------------------ */

static void step_ring(struct voxshm_link *attacker)
{
	for (int i = 0; i < 300; i++)
		attacker->end->ops->ring(attacker->end);
}

static void step_ring_once(struct voxshm_link *attacker)
{
	attacker->end->ops->ring(attacker->end);
}

static void step_flood(struct voxshm_link *attacker)
{
	while (voxshm_try_send(attacker, "0123456789", 10) == 0)
		;
}

static void step_large(struct voxshm_link *attacker)
{
	static const uint8_t data[70000];

	for (int i = 0; i < 2; i++)
		voxshm_try_send(attacker, data, sizeof(data));
}

static void step_offer(struct voxshm_link *attacker)
{
	static int fd = -1;
	static uint32_t generation;

	if (fd < 0)
		fd = memory_make(4096, F_SEAL_SHRINK, 1);
	for (uint32_t id = 0; id < 16; id++) {
		generation++;
		if (voxshm_link_format(attacker) == VOXSHM_FORMAT_VOX)
			vox_offer_raw(vox_link(attacker)->end->control, id, generation, 4096, fd,
				      1);
		else
			native_offer_raw(attacker->end->wake_fd, id, generation, 4096, fd, 1);
	}
	step_ring_once(attacker);
}

static void step_sleep_words(struct voxshm_link *attacker)
{
	struct sleep_words *words[2] = { attacker->mine, attacker->theirs };

	for (int i = 0; i < 2; i++) {
		shared_store_u32(&words[i]->data, 1);
		shared_store_u32(&words[i]->space, 1);
	}
	voxshm_try_send(attacker, "0123456789", 10);
}

/*
 * Events: a link has at most one in each turn, so the attacker has at most half.
 * Turns: one is enough for a message, whatever the attacker does, but for those
 * at the beginning. System calls: so many more for each honest message.
 */
static void expect_share(struct __test_metadata *_metadata, FIXTURE_DATA(share) *self,
			 step_fn *step, const char *name, uint64_t more_calls)
{
	struct work alone = exchange(self, NULL), beside = exchange(self, step);
	uint64_t sharers;

	TH_LOG("%s: calls for a message %.2f alone, %.2f beside; turns %.2f, %.2f; attacker's "
	       "events %.2f", name, (double)alone.calls / MESSAGES,
	       (double)beside.calls / MESSAGES, (double)alone.turns / MESSAGES,
	       (double)beside.turns / MESSAGES, (double)beside.attacker_events / MESSAGES);
	EXPECT_GE(beside.turns, beside.attacker_events);
	/* A host that sleeps may do so again before the message is told; it pays by the turn. */
	if (!self->sleeps)
		EXPECT_GE(alone.turns + SHARERS / 10, beside.turns);
	sharers = beside.turns / 3 > SHARERS ? beside.turns / 3 : SHARERS;
	EXPECT_GE(alone.calls * beside.turns / alone.turns + more_calls * sharers, beside.calls);
}

#define SHARE(name, busy, sleeping)								\
	TEST_F_TIMEOUT(share, busy_beside_##name, 60)						\
	{											\
		expect_share(_metadata, self, step_##name, #name, busy);			\
	}											\
	TEST_F_TIMEOUT(share, sleeping_beside_##name, 60)					\
	{											\
		self->sleeps = true;								\
		voxshm_link_set_spin(self->host_end, 0);					\
		voxshm_link_set_spin(self->attacked, 0);					\
		expect_share(_metadata, self, step_##name, #name, sleeping);			\
	}

/*
 * A busy host asks the kernel once in 64 to 1024 turns, and looks at the doorbells then.
 * Who rings more than it was asked to is cut off: what it cost until then (4096 rings of
 * two calls) is shared by all the messages that are counted here. Who rings as often as the
 * host goes to sleep costs each turn, of which a message has three, a wake-up.
 */
SHARE(ring, 9, 12)
SHARE(ring_once, 3, 18)
SHARE(flood, 2, 2)
SHARE(large, 2, 2)
/* The host rings who says that it sleeps: after each turn's messages, and when they go back. */
SHARE(sleep_words, 4, 8)
SHARE(offer, 2, 18)

LINK_TEST_MAIN(NULL)
