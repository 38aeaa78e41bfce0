/* SPDX-License-Identifier: MIT */
/*
 * wait.c - looks for a while, then sleeps.
 *
 * To sleep: set the sleep word (format->arm), full barrier, look once more,
 * wait on the end's descriptor. The peer publishes, full barrier, and rings
 * only if it took the sleep word back. The doorbell is drained before the last
 * look of a sleep, never after. Who wakes and has what it slept for leaves that to
 * its next sleep: the peer waits for an answer, not for a drained doorbell. (Not where
 * the application polls, too: it would take what is left for news.)
 *
 * Both threads of a side may sleep on the one descriptor. One of them polls;
 * the other waits for it on a futex and looks again whenever the
 * first came back, because the doorbell that was drained may have been meant
 * for it. For the same reason a thread counts how often that happened before it
 * arms, and does not wait when the count has moved. (tests/model/sleep_words.pml
 * shows what is lost otherwise.)
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "link.h"

#define NS_PER_S 1000000000ll
#define LOOKS_PER_CLOCK 64
/* How long a sleep lasts that cannot be told of a failure. */
#define LOOK_NS 100000000ll

int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_deadline(int64_t timeout)
{
	int64_t now;

	if (timeout < 0)
		return -1;
	now = clock_now();
	return timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

void waiters_wake(struct waiters *waiters)
{
	shared_store_u32(&waiters->wakes, shared_peek_u32(&waiters->wakes) + 1);
	/* Who comes to follow later finds the count moved. */
	if (atomic_load_explicit(&waiters->followers, memory_order_relaxed))
		syscall(SYS_futex, &waiters->wakes, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* Looks until it is ready or the budget or the deadline is used up. */
static bool spin(struct voxshm_link *link, unsigned int interest, int64_t until,
		 int64_t deadline)
{
	int looks;

	if (deadline >= 0 && deadline < until)
		until = deadline;
	do {
		for (looks = 0; looks < LOOKS_PER_CLOCK; looks++) {
			if (link_ready(link, interest))
				return true;
			shared_pause();
		}
	} while (clock_now() < until);
	return false;
}

void waiters_fail(struct waiters *waiters)
{
	int fail_fd = atomic_load(&waiters->fail_fd);

	if (fail_fd >= 0)
		eventfd_write(fail_fd, 1);
}

/*
 * Polls as the only thread of this side, without the lock. Another one may see the
 * link fail meanwhile; without a descriptor for that this one looks now and then, as
 * it does where the doorbell tells nothing.
 * `rung`: was it the doorbell, and nothing else?
 */
static int poll_end(struct voxshm_link *link, int64_t deadline, bool *rung)
{
	bool deaf = atomic_load(&link->end->deaf);
	struct pollfd pollfds[3] = {
		{ .fd = deaf ? -1 : link->end->wake_fd, .events = POLLIN },
		{ .fd = link->end->pidfd, .events = POLLIN },
		{ .fd = link->waiters.fail_fd, .events = POLLIN },
	};
	int64_t left = INT64_MAX, most = INT64_MAX;
	struct timespec timeout;
	int ret;

	if (pollfds[2].fd < 0) {
		pollfds[2].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		atomic_store(&link->waiters.fail_fd, pollfds[2].fd);
	}
	/* Whoever failed it before had nothing to write to. */
	if (atomic_load(&link->state) > VOXSHM_LINK_ATTACHED)
		return 0;
	if (deadline >= 0)
		left = deadline - clock_now();
	/* However often it is rung for nothing. */
	if (left <= 0)
		return -ETIMEDOUT;
	if (deaf)
		most = DEAF_LOOK_NS;
	else if (pollfds[2].fd < 0)
		most = LOOK_NS;
	timeout = to_timespec(left < most ? left : most);
	ret = ppoll(pollfds, 3, left == INT64_MAX && most == INT64_MAX ? NULL : &timeout, NULL);
	if (ret < 0)
		return -errno;
	*rung = ret == 1 && pollfds[0].revents == POLLIN;
	return ret || left > most ? 0 : -ETIMEDOUT;
}

/*
 * Gives the lock back and waits until somebody has drained since `wakes` was read. A
 * futex, as a condition variable would not let a signal end the wait; always until
 * some time, as without one a signal with SA_RESTART would not.
 */
static int unlock_and_follow(struct waiters *waiters, uint32_t wakes, int64_t deadline)
{
	struct timespec until = to_timespec(deadline < 0 ? INT64_MAX : deadline);
	int ret = 0;

	atomic_fetch_add_explicit(&waiters->followers, 1, memory_order_relaxed);
	pthread_mutex_unlock(&waiters->lock);
	if (syscall(SYS_futex, &waiters->wakes, FUTEX_WAIT_BITSET_PRIVATE, wakes, &until, NULL,
		    FUTEX_BITSET_MATCH_ANY) < 0 && errno != EAGAIN)
		ret = -errno;
	atomic_fetch_sub_explicit(&waiters->followers, 1, memory_order_relaxed);
	return ret;
}

/*
 * Sleeps until there may be news. The sleep words are set already; `wakes` was
 * counted before that.
 */
static int sleep_for_news(struct voxshm_link *link, unsigned int interest, uint32_t wakes,
			  int64_t deadline)
{
	struct waiters *waiters = &link->waiters;
	bool rung = false;
	int ret;

	atomic_fetch_add_explicit(&link->sleeps, 1, memory_order_relaxed);
	pthread_mutex_lock(&waiters->lock);
	if (waiters->polling || shared_peek_u32(&waiters->wakes) != wakes)
		return unlock_and_follow(waiters, wakes, deadline);
	waiters->polling = true;
	pthread_mutex_unlock(&waiters->lock);
	ret = poll_end(link, deadline, &rung);
	rung = rung && link_ready(link, interest);
	pthread_mutex_lock(&waiters->lock);
	waiters->polling = false;
	/* Also one that gives up hands over: another has to poll now. */
	if (rung && link->poll_fd < 0 &&
	    atomic_load_explicit(&waiters->followers, memory_order_relaxed) == 0)
		atomic_store_explicit(&waiters->undrained, true, memory_order_relaxed);
	else
		link_drain_locked(link);
	pthread_mutex_unlock(&waiters->lock);
	return ret;
}

/*
 * A thread that polls has not drained yet, and will as long as there is
 * something: its poll cannot miss that.
 */
void link_drain_wait(struct voxshm_link *link)
{
	struct pollfd pollfd = { .fd = link->end->wake_fd, .events = POLLIN };
	struct waiters *waiters = &link->waiters;
	uint32_t wakes;
	bool wait;

	pthread_mutex_lock(&waiters->lock);
	wakes = shared_peek_u32(&waiters->wakes);
	wait = waiters->polling;
	if (!wait)
		link_drain_locked(link);
	else if (poll(&pollfd, 1, 0) <= 0)
		wait = false;
	link_update_state(link);
	/* A signal may end the wait too soon; who polls may meanwhile have left the doorbell. */
	while (wait && waiters->polling && shared_peek_u32(&waiters->wakes) == wakes) {
		unlock_and_follow(waiters, wakes, -1);
		pthread_mutex_lock(&waiters->lock);
	}
	if (wait && shared_peek_u32(&waiters->wakes) == wakes)
		link_drain_locked(link);
	pthread_mutex_unlock(&waiters->lock);
}

int link_wait(struct voxshm_link *link, unsigned int interest, int64_t deadline)
{
	uint8_t *halved = &link->spin_halved[interest == VOXSHM_READABLE];
	int64_t begun = link->spin_ns ? clock_now() : 0;
	uint32_t wakes;
	bool slept = false;
	int ret = 0;

	if (link->spin_ns && spin(link, interest, begun + (link->spin_ns >> *halved), deadline))
		return 0;
	if (atomic_load_explicit(&link->waiters.undrained, memory_order_relaxed))
		link_drain(link);
	wakes = shared_load_u32(&link->waiters.wakes);
	link_ask_to_be_rung(link, interest);
	if (!link_ready(link, interest)) {
		ret = sleep_for_news(link, interest, wakes, deadline);
		slept = true;
		if (ret == 0 && link->spin_ns)
			spin_learn(halved, link->spin_ns, clock_now() - begun);
	}
	/* A doorbell that nobody waits for must not pile up. */
	if (link->format->disarm(link, interest) && !slept)
		link_drain(link);
	return ret;
}
