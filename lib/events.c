/* SPDX-License-Identifier: MIT */
/* events.c - one wait for the events of all guests; see host.h. */
#include <errno.h>
#include <sys/epoll.h>

#include "host.h"

/* Fruitless looks at a hot link before it is armed. */
#define LOOKS_UNTIL_COLD 64
/* Waits that found something hot before the kernel is asked about the rest, or so long. */
#define WAITS_PER_POLL 1024
#define WAITS_PER_CLOCK 64
#define NS_PER_POLL 1000000
#define EVENTS_PER_POLL 32
/* How long an end may stay unexplained before it is told as it is. */
#define EXPLAIN_NS 1000000000ll
#define EXPLAIN_POLL_NS 10000000ll

/* The hot list --------------------------------------------------------------- */

void host_hot_append(struct voxshm_host *host, struct voxshm_link *link)
{
	link->hot_next = NULL;
	link->hot_previous = host->hot_last;
	if (host->hot_last)
		host->hot_last->hot_next = link;
	else
		host->hot = link;
	host->hot_last = link;
	atomic_store_explicit(&link->hot, true, memory_order_relaxed);
}

void host_hot_remove(struct voxshm_host *host, struct voxshm_link *link)
{
	atomic_store_explicit(&link->hot, false, memory_order_relaxed);
	if (link->hot_previous)
		link->hot_previous->hot_next = link->hot_next;
	else
		host->hot = link->hot_next;
	if (link->hot_next)
		link->hot_next->hot_previous = link->hot_previous;
	else
		host->hot_last = link->hot_previous;
}

/* From any thread of the link, while none is in a call of the host's. */
void host_heat(struct voxshm_link *link)
{
	struct voxshm_host *host = link->host;

	if (atomic_load_explicit(&link->hot, memory_order_relaxed))
		return;
	pthread_mutex_lock(&host->hot_lock);
	/* Its sleep words stay: a thread that waits on the link needs them. */
	if (!link->hot && !link->end_told) {
		link->idle_looks = 0;
		host_hot_append(host, link);
	}
	pthread_mutex_unlock(&host->hot_lock);
}

static unsigned int interest(const struct voxshm_link *link)
{
	return link->blocked ? VOXSHM_READABLE | VOXSHM_WRITABLE : VOXSHM_READABLE;
}

/* Return: true when the link is cold now, false when it has news after all. */
static bool cool(struct voxshm_host *host, struct voxshm_link *link)
{
	if (link->ended)
		return true;
	link_ask_to_be_rung(link, interest(link));
	if (link_ready(link, interest(link))) {
		link->format->disarm(link, VOXSHM_READABLE | VOXSHM_WRITABLE);
		return false;
	}
	host_hot_remove(host, link);
	atomic_fetch_add_explicit(&link->sleeps, 1, memory_order_relaxed);
	return true;
}

/* Waiting ----------------------------------------------------------------------- */

/* Is how it ended as well known as it will be? */
static bool explained(struct voxshm_link *link)
{
	struct end *end = link->end;

	if (end_check_exit(end) || (end->pidfd < 0 && !end->exit_awaited))
		return true;
	if (link_state(link) == VOXSHM_LINK_FAILED)
		return true;
	if (link_state(link) == VOXSHM_LINK_LEFT && !end->child)
		return true;
	return clock_now() - link->end_time >= EXPLAIN_NS;
}

static bool tell_end(struct voxshm_link *link, struct voxshm_event *event)
{
	if (!link->ended || !explained(link))
		return false;
	switch (link_state(link)) {
	case VOXSHM_LINK_LEFT:
		event->type = VOXSHM_EVENT_LEFT;
		break;
	case VOXSHM_LINK_DIED:
		event->type = VOXSHM_EVENT_DIED;
		break;
	default:
		event->type = VOXSHM_EVENT_FAILED;
		break;
	}
	link->end_told = true;
	link->host->ending--;
	host_hot_remove(link->host, link);
	host_rewatch(link);
	return true;
}

/* Return: has the guest come? */
static bool tell_attached(struct voxshm_link *link, bool readable)
{
	/* What a guest sends may be seen before its claim, which came first, or never comes. */
	if (!link->end->claimed && readable) {
		link_drain_wait(link);
		pthread_mutex_lock(&link->waiters.lock);
		link->end->claimed = true;
		link_update_state(link);
		pthread_mutex_unlock(&link->waiters.lock);
	}
	if (!link->end->claimed)
		return false;
	link->attached_told = true;
	link->known = true;
	host_rewatch(link);
	if (!link->ended)
		link->format->link_attached(link);
	return true;
}

/* What there is to tell of one link. Return: was an event filled? */
static bool tell(struct voxshm_link *link, struct voxshm_event *event)
{
	bool failed = link_state(link) == VOXSHM_LINK_FAILED;
	/* Once: what comes after the look at the claim must not be told before it. */
	bool readable = link->has_kept || link->format->readable(link);

	event->link = link;
	if (__builtin_expect(!link->attached_told, 0) && tell_attached(link, readable)) {
		event->type = VOXSHM_EVENT_ATTACHED;
		return true;
	}
	if (!failed && readable) {
		event->type = VOXSHM_EVENT_READABLE;
		return true;
	}
	if (link_state(link) <= VOXSHM_LINK_ATTACHED) {
		if (!link->blocked || !link->format->writable(link))
			return false;
		link->blocked = false;
		event->type = VOXSHM_EVENT_WRITABLE;
		return true;
	}
	/* A failure, or an end seen by a call of the application's. */
	host_notice_end(link);
	return tell_end(link, event);
}

/*
 * Looks once at each hot link; those with news go to the end of the list.
 * `cooling`: those that long had none are armed, so that a busy link does not
 * pay for idle ones.
 */
static int look(struct voxshm_host *host, struct voxshm_event *events, int count, bool cooling)
{
	struct voxshm_link *link = host->hot, *next, *last = host->hot_last;
	int found = 0;

	for (; link && found < count; link = next) {
		next = link == last ? NULL : link->hot_next;
		/* A caller that was invited and never came: nobody knows the link. */
		if (!link->known && !link->end->claimed &&
		    link_state(link) > VOXSHM_LINK_ATTACHED)
			voxshm_link_close(link);
		else if (tell(link, &events[found])) {
			found++;
			link->idle_looks = 0;
			if (link->hot) {
				host_hot_remove(host, link);
				host_hot_append(host, link);
			}
		} else if (cooling && ++link->idle_looks >= LOOKS_UNTIL_COLD) {
			link->idle_looks = 0;
			cool(host, link);
		}
	}
	return found;
}

static int to_milliseconds(int64_t ns)
{
	int64_t ms = (ns + 999999) / 1000000;

	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* Asks the kernel for news, waiting for it until the deadline. */
static int poll_kernel(struct voxshm_host *host, int64_t deadline)
{
	struct epoll_event events[EVENTS_PER_POLL];
	struct timespec timeout = { 0 };
	int64_t now, left;
	int count, i;

	host->waits_since_poll = 0;
	now = clock_now();
	host->polled = now;
	if (host->ending && (deadline < 0 || deadline > now + EXPLAIN_POLL_NS))
		deadline = now + EXPLAIN_POLL_NS;
	left = deadline > now ? deadline - now : 0;
	timeout.tv_sec = left / 1000000000;
	timeout.tv_nsec = left % 1000000000;
	count = epoll_pwait2(host->epoll_fd, events, EVENTS_PER_POLL,
			     deadline < 0 ? NULL : &timeout, NULL);
	if (count < 0 && errno == ENOSYS)	/* before Linux 5.11: milliseconds */
		count = epoll_wait(host->epoll_fd, events, EVENTS_PER_POLL,
				   deadline < 0 ? -1 : to_milliseconds(left));
	if (count < 0)
		return -errno;
	for (i = 0; i < count; i++) {
		struct watch *watch = events[i].data.ptr;

		watch->handle(host, watch);
	}
	return count;
}

/* Arms all hot links. Return: true when none has news. */
static bool cool_all(struct voxshm_host *host)
{
	struct voxshm_link *link, *next;
	bool quiet = true;

	for (link = host->hot; link; link = next) {
		next = link->hot_next;
		quiet &= cool(host, link);
	}
	return quiet;
}

/* The longest of the hot links' budgets. */
static uint32_t longest_spin(const struct voxshm_host *host)
{
	uint32_t longest = 0;
	struct voxshm_link *link;

	for (link = host->hot; link; link = link->hot_next)
		if (link->spin_ns > longest && !link->ended)
			longest = link->spin_ns;
	return longest;
}

static int spin(struct voxshm_host *host, struct voxshm_event *events, int count,
		uint32_t budget, int64_t deadline)
{
	int64_t until;
	int found;

	if (budget == 0)
		return look(host, events, count, false);
	until = clock_now() + budget;
	if (deadline >= 0 && deadline < until)
		until = deadline;
	do {
		found = look(host, events, count, false);
		if (found)
			return found;
		shared_pause();
	} while (host->hot && clock_now() < until);
	return 0;
}

/* However much is hot, the rest gets its turn. */
static void poll_when_due(struct voxshm_host *host)
{
	if (host->waits_since_poll % WAITS_PER_CLOCK || host->waits_since_poll == 0)
		return;
	if (host->waits_since_poll < WAITS_PER_POLL && clock_now() - host->polled < NS_PER_POLL)
		return;
	host->busy = true;
	poll_kernel(host, 0);
	host->busy = false;
}

/* A wait that found so much without the kernel. */
static int found(struct voxshm_host *host, int count)
{
	host->waits_since_poll++;
	return count;
}

int voxshm_host_wait(struct voxshm_host *host, struct voxshm_event *events, int count,
		     int64_t timeout)
{
	int64_t deadline, begun;
	uint32_t budget;
	int ret;

	if (count < 1)
		return -EINVAL;
	poll_when_due(host);
	ret = look(host, events, count, true);
	if (ret)
		return found(host, ret);
	deadline = clock_deadline(timeout);
	if (timeout == 0) {
		ret = poll_kernel(host, 0);
		return ret < 0 ? ret : look(host, events, count, false);
	}
	budget = longest_spin(host);
	begun = budget ? clock_now() : 0;
	for (;;) {
		ret = spin(host, events, count, budget >> host->spin_halved, deadline);
		if (ret)
			return found(host, ret);
		if (!cool_all(host))
			continue;
		ret = poll_kernel(host, deadline);
		if (ret < 0)
			return ret;
		ret = look(host, events, count, false);
		if (ret && budget)
			spin_learn(&host->spin_halved, budget, clock_now() - begun);
		if (ret)
			return ret;
		if (deadline >= 0 && clock_now() >= deadline)
			return 0;
	}
}

int voxshm_host_arm(struct voxshm_host *host)
{
	struct voxshm_link *link;

	if (poll_kernel(host, 0) > 0)
		return 1;
	for (link = host->hot; link; link = link->hot_next) {
		if (!link->ended)
			continue;
		if (explained(link))
			return 1;
		host_look_later(host, link->end_time + EXPLAIN_NS);
	}
	return cool_all(host) ? 0 : 1;
}

int voxshm_host_fd(const struct voxshm_host *host)
{
	return host->epoll_fd;
}
