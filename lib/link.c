/* SPDX-License-Identifier: MIT */
/*
 * link.c - the public calls of a link: tries, and where that is refused, waits.
 *
 * The format does the work (format.h), wait.c the waiting. The link's state
 * only moves forward: waiting, attached, then one of left, died, failed.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "host.h"
#include "link.h"

/* Fruitless tries between two questions to the kernel whether the peer lives. */
#define TRIES_PER_DRAIN 4096
/* As many as take all that a socket holds. */
#define DRAINS_AT_MOST 128

int link_init(struct voxshm_link *link, const struct format *format, struct end *end,
	      struct link_traffic *sent, struct link_traffic *taken)
{
	link->format = format;
	link->end = end;
	link->spin_ns = LINK_DEFAULT_SPIN_NS;
	link->poll_fd = -1;
	link->kick_fd = -1;
	link->polled_pidfd = -1;
	link->waiters.fail_fd = -1;
	link->patience = LINK_PATIENCE;
	link->most_patience = LINK_PATIENCE;
	link->sent = sent;
	link->taken = taken;
	return -pthread_mutex_init(&link->waiters.lock, NULL);
}

void link_deinit(struct voxshm_link *link)
{
	if (link->poll_fd >= 0)
		close(link->poll_fd);
	if (link->kick_fd >= 0)
		close(link->kick_fd);
	if (link->waiters.fail_fd >= 0)
		close(link->waiters.fail_fd);
	pthread_mutex_destroy(&link->waiters.lock);
	link->end->ops->free(link->end);
}

/* The first end counts; a failure also overrides a mere end. */
static void set_state(struct voxshm_link *link, int state)
{
	int old = atomic_load_explicit(&link->state, memory_order_relaxed);

	while (old < state && (old <= VOXSHM_LINK_ATTACHED || state == VOXSHM_LINK_FAILED))
		if (atomic_compare_exchange_weak(&link->state, &old, state))
			break;
}

/* Makes the application's own descriptor readable, until unarm(). */
static void kick(struct voxshm_link *link)
{
	int kick_fd = atomic_load(&link->kick_fd);

	if (kick_fd >= 0)
		eventfd_write(kick_fd, 1);
}

int link_fail(struct voxshm_link *link, const char *reason)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&link->failure, &none, reason);
	set_state(link, VOXSHM_LINK_FAILED);
	/* Its peer may never ring for the other thread again. */
	waiters_fail(&link->waiters);
	kick(link);
	/* A cold link is looked at by nobody, and its guest need not ring again. */
	if (link->host)
		host_heat(link);
	return -EBADMSG;
}

int link_object(struct voxshm_link *link, uint32_t map_id, uint32_t generation, uint64_t size,
		int fd)
{
	return link->format->object(link, map_id, generation, size, fd);
}

static int watch_pidfd(struct voxshm_link *link);

void link_ask_to_be_rung(struct voxshm_link *link, unsigned int interest)
{
	atomic_fetch_add_explicit(&link->arms, 1, memory_order_relaxed);
	link->format->arm(link, interest);
}

/* What comes unasked costs this side time that others wait for; under waiters.lock. */
static void count_knocks(struct voxshm_link *link)
{
	uint32_t arms = atomic_load_explicit(&link->arms, memory_order_relaxed);
	int64_t patience = link->patience + 2ll * (arms - link->arms_counted) - link->end->knocks;

	if (patience > link->most_patience)
		patience = link->most_patience;
	link->end->knocks = 0;
	link->arms_counted = arms;
	link->patience = (int32_t)patience;
	if (patience < 0) {
		link->patience = 0;
		link_fail(link, "it rings without end");
	}
}

static void drain(struct voxshm_link *link)
{
	if (link->end->ops->drain(link->end, link))
		link_fail(link, "it sent a malformed control message");
	count_knocks(link);
}

/* All that has come: one that has ended said farewell last. */
static void drain_to_end(struct voxshm_link *link)
{
	int drains = 0;

	do {
		drain(link);
	} while (link->end->more && ++drains < DRAINS_AT_MOST);
}

/* Has the peer come, or ended? Under waiters.lock. */
void link_update_state(struct voxshm_link *link)
{
	struct end *end = link->end;
	bool exited = end_check_exit(end);

	/* It may have said farewell after the last drain and before it ended. */
	if (exited && link_state(link) <= VOXSHM_LINK_ATTACHED)
		drain_to_end(link);
	if (end->claimed)
		set_state(link, VOXSHM_LINK_ATTACHED);
	if (end->left)
		set_state(link, VOXSHM_LINK_LEFT);
	if (exited || end->hangup)
		set_state(link, VOXSHM_LINK_DIED);
	/* Killed before it said who it was: nobody will learn more. */
	if (link_state(link) == VOXSHM_LINK_DIED && end->claimed && end->pid == 0 &&
	    !end->exit_awaited && end->exit_kind == VOXSHM_EXIT_NONE)
		end->exit_kind = VOXSHM_EXIT_UNKNOWN;
	watch_pidfd(link);
}

/*
 * What is drained may have been meant for another thread: for one that sleeps
 * or is about to (it sees the count of wakes move), for a poll of the
 * application's own (the kick makes its descriptor readable), for the host.
 */
static void drain_and_tell(struct voxshm_link *link, unsigned int pollers)
{
	drain(link);
	atomic_store_explicit(&link->waiters.undrained, false, memory_order_relaxed);
	link_update_state(link);
	waiters_wake(&link->waiters);
	if (pollers) {
		link->kicked |= pollers;
		kick(link);
	}
	if (link->host)
		host_heat(link);
}

void link_drain_locked(struct voxshm_link *link)
{
	drain_and_tell(link, link->armed);
}

void link_drain(struct voxshm_link *link)
{
	pthread_mutex_lock(&link->waiters.lock);
	if (link->waiters.polling)
		link_update_state(link);
	else
		link_drain_locked(link);
	pthread_mutex_unlock(&link->waiters.lock);
}

bool link_ready(struct voxshm_link *link, unsigned int interest)
{
	shared_look_again();
	if (link_state(link) > VOXSHM_LINK_ATTACHED)
		return true;
	if ((interest & VOXSHM_READABLE) && (link->has_kept || link->format->readable(link)))
		return true;
	return (interest & VOXSHM_WRITABLE) && link->format->writable(link);
}

void link_ring(struct voxshm_link *link, shared_u32 *sleep_word)
{
	if (shared_exchange_u32(sleep_word, 0) == 0)
		return;
	atomic_fetch_add_explicit(&link->doorbells_rung, 1, memory_order_relaxed);
	link->end->ops->ring(link->end);
}

/* A try found nothing, or no room: now and then, does the peer still live? */
static void tried_in_vain(struct voxshm_link *link)
{
	if (atomic_fetch_add_explicit(&link->vain_tries, 1, memory_order_relaxed) %
	    TRIES_PER_DRAIN == TRIES_PER_DRAIN - 1)
		link_drain(link);
}

/* The deadline of one call: read from the clock when it first has to wait. */
struct patience {
	int64_t timeout;
	int64_t deadline;
	bool started;
};

/* A try was refused. Return: 0 to try again, else what the call returns. */
static int try_again(struct voxshm_link *link, unsigned int interest, struct patience *patience)
{
	if (link->host)
		host_heat(link);
	if (patience->timeout == 0) {
		tried_in_vain(link);
		return -EAGAIN;
	}
	if (!patience->started) {
		patience->deadline = clock_deadline(patience->timeout);
		patience->started = true;
	}
	return link_wait(link, interest, patience->deadline);
}

/* Sending ------------------------------------------------------------------ */

static int try_send(struct voxshm_link *link, const void *data, size_t size, bool more)
{
	int ret = link_send_error(link);

	return ret ? ret : link->format->try_send(link, data, size, more);
}

int link_send(struct voxshm_link *link, const void *data, size_t size, int64_t timeout)
{
	struct patience patience = { .timeout = timeout };
	int ret;

	for (;;) {
		shared_look_again();
		ret = try_send(link, data, size, false);
		if (__builtin_expect(ret != -EAGAIN, 1))
			return ret;
		ret = try_again(link, VOXSHM_WRITABLE, &patience);
		if (ret)
			return ret;
	}
}

int voxshm_send(struct voxshm_link *link, const void *data, size_t size, int64_t timeout)
{
	if (__builtin_expect(link_state(link) > VOXSHM_LINK_ATTACHED, 0))
		return link_send_error(link);
	return link->format->send(link, data, size, timeout);
}

int voxshm_try_send(struct voxshm_link *link, const void *data, size_t size)
{
	return voxshm_send(link, data, size, 0);
}

int voxshm_send_batch(struct voxshm_link *link, const struct iovec *messages, unsigned int count,
		      int64_t timeout)
{
	unsigned int sent = 0;
	int ret = 0;

	if (count == 0)
		return 0;
	if (count > INT32_MAX)
		return -EINVAL;
	if (link->format->send_some && link_send_error(link) == 0)
		sent = link->format->send_some(link, messages, count);
	for (; sent < count; sent++) {
		ret = try_send(link, messages[sent].iov_base, messages[sent].iov_len, true);
		if (ret)
			break;
	}
	if (sent == 0) {
		if (ret == -EAGAIN)
			ret = voxshm_send(link, messages[0].iov_base, messages[0].iov_len,
					  timeout);
		return ret ? ret : 1;
	}
	link->format->flush(link);
	return (int)sent;
}

int voxshm_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan, int64_t timeout)
{
	struct patience patience = { .timeout = timeout };
	int ret;

	*loan = (struct voxshm_loan){ 0 };
	for (;;) {
		ret = link_send_error(link);
		if (ret == 0)
			ret = link->format->try_loan(link, size, loan);
		if (ret != -EAGAIN)
			return ret;
		ret = try_again(link, VOXSHM_WRITABLE, &patience);
		if (ret)
			return ret;
	}
}

int voxshm_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size,
		  int64_t timeout)
{
	struct patience patience = { .timeout = timeout };
	int ret;

	for (;;) {
		ret = link_send_error(link);
		if (ret == 0)
			ret = link->format->try_commit(link, loan, size);
		if (ret != -EAGAIN)
			return ret;
		ret = try_again(link, VOXSHM_WRITABLE, &patience);
		if (ret)
			return ret;
	}
}

void voxshm_abort(struct voxshm_link *link, struct voxshm_loan *loan)
{
	link->format->abort(link, loan);
}

/* Receiving ---------------------------------------------------------------- */

/* Takes the next message if it is there; -EPIPE when none will come any more. */
static int try_recv(struct voxshm_link *link, struct voxshm_view *view)
{
	int ret, state;

	if (__builtin_expect(link->has_kept, 0)) {
		*view = link->kept;
		link->has_kept = false;
		link->taken->messages++;
		link->taken->bytes += view->size;
		return 0;
	}
	state = link_state(link);
	if (__builtin_expect(state == VOXSHM_LINK_FAILED, 0))
		return -EBADMSG;
	/* The state first: what the peer committed before its end is visible now. */
	ret = link->format->try_recv(link, view);
	if (ret == -EAGAIN && state > VOXSHM_LINK_ATTACHED)
		return -EPIPE;
	return ret;
}

int link_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout)
{
	struct patience patience = { .timeout = timeout };
	int ret;

	for (;;) {
		shared_look_again();
		ret = try_recv(link, view);
		if (__builtin_expect(ret != -EAGAIN, 1))
			return ret;
		ret = try_again(link, VOXSHM_READABLE, &patience);
		if (ret)
			return ret;
	}
}

int voxshm_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout)
{
	if (__builtin_expect(link->has_kept || link_state(link) > VOXSHM_LINK_ATTACHED, 0))
		return link_recv(link, view, timeout);
	return link->format->recv(link, view, timeout);
}

int voxshm_try_recv(struct voxshm_link *link, struct voxshm_view *view)
{
	return voxshm_recv(link, view, 0);
}

int voxshm_recv_batch(struct voxshm_link *link, struct voxshm_view *views, unsigned int count,
		      int64_t timeout)
{
	unsigned int received;
	int ret;

	if (count == 0)
		return 0;
	if (count > INT32_MAX)
		return -EINVAL;
	ret = voxshm_recv(link, &views[0], timeout);
	if (ret)
		return ret;
	received = 1;
	if (link->format->recv_some && !link->has_kept &&
	    link_state(link) <= VOXSHM_LINK_ATTACHED)
		received += link->format->recv_some(link, views + 1, count - 1);
	for (; received < count; received++)
		if (try_recv(link, &views[received]))
			break;
	return (int)received;
}

ssize_t voxshm_recv_copy(struct voxshm_link *link, void *data, size_t size, int64_t timeout)
{
	struct voxshm_view view;
	int ret;

	ret = voxshm_recv(link, &view, timeout);
	if (ret)
		return ret;
	if (view.size > size) {
		link->kept = view;
		link->has_kept = true;
		link->taken->messages--;
		link->taken->bytes -= view.size;
		return -EMSGSIZE;
	}
	if (view.size)
		memcpy(data, view.data, view.size);
	link->format->release(link, &view);
	return (ssize_t)view.size;
}

int voxshm_release(struct voxshm_link *link, struct voxshm_view *view)
{
	if (__builtin_expect(!view->data, 0))
		return -EINVAL;
	return link->format->release(link, view);
}

/* Waiting ------------------------------------------------------------------ */

static int watch(int poll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* The peer's process may become known, or known better, later. Under waiters.lock. */
static int watch_pidfd(struct voxshm_link *link)
{
	int pidfd = link->end->pidfd;

	if (link->poll_fd < 0 || pidfd == link->polled_pidfd)
		return 0;
	link->polled_pidfd = pidfd;
	return pidfd < 0 ? 0 : watch(link->poll_fd, pidfd);
}

/* Under waiters.lock. */
static int make_poll_fd(struct voxshm_link *link)
{
	int poll_fd, kick_fd, ret;

	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (poll_fd < 0)
		return -errno;
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = kick_fd < 0 ? -errno : watch(poll_fd, kick_fd);
	if (ret == 0)
		ret = watch(poll_fd, link->end->wake_fd);
	if (ret == 0) {
		link->poll_fd = poll_fd;
		ret = watch_pidfd(link);
	}
	if (ret) {
		if (kick_fd >= 0)
			close(kick_fd);
		close(poll_fd);
		link->poll_fd = -1;
		link->polled_pidfd = -1;
		return ret;
	}
	atomic_store(&link->kick_fd, kick_fd);
	/* Whoever failed it before had nothing to write to. */
	if (atomic_load(&link->state) == VOXSHM_LINK_FAILED)
		kick(link);
	return 0;
}

int voxshm_link_fd(struct voxshm_link *link)
{
	int ret = 0;

	pthread_mutex_lock(&link->waiters.lock);
	if (link->poll_fd < 0)
		ret = make_poll_fd(link);
	if (ret == 0)
		ret = link->poll_fd;
	pthread_mutex_unlock(&link->waiters.lock);
	return ret;
}

/* Who waits for nothing else waits for the end. */
#define ARMED_FOR_END 4u

static unsigned int arming(unsigned int interest)
{
	return interest ? interest : ARMED_FOR_END;
}

/* Under waiters.lock: none waits for these any more, nor needs their kick. */
static void unarm(struct voxshm_link *link, unsigned int interest)
{
	eventfd_t kicks;

	link->armed &= ~arming(interest);
	link->kicked &= ~arming(interest);
	if (link->kick_fd < 0 || link->kicked)
		return;
	eventfd_read(link->kick_fd, &kicks);
	/* That was everybody's news, and stays. */
	if (atomic_load(&link->state) == VOXSHM_LINK_FAILED)
		kick(link);
}

/*
 * Two threads may poll the one descriptor, each for an interest of its own. What one
 * drains here is kept for the other; only if there is something, or they would wake
 * each other for ever.
 */
static void prepare_arm(struct voxshm_link *link, unsigned int interest)
{
	struct pollfd pollfd = { .fd = link->end->wake_fd, .events = POLLIN };

	pthread_mutex_lock(&link->waiters.lock);
	unarm(link, interest);
	if (link->waiters.polling)
		link_update_state(link);
	else
		drain_and_tell(link, link->armed && poll(&pollfd, 1, 0) > 0 ? link->armed : 0);
	link->armed |= arming(interest);
	pthread_mutex_unlock(&link->waiters.lock);
}

int voxshm_link_arm(struct voxshm_link *link, unsigned int interest)
{
	unsigned int ready = 0;

	if (interest & ~(VOXSHM_READABLE | VOXSHM_WRITABLE))
		return -EINVAL;
	prepare_arm(link, interest);
	link_ask_to_be_rung(link, interest);
	if ((interest & VOXSHM_READABLE) && link_ready(link, VOXSHM_READABLE))
		ready |= VOXSHM_READABLE;
	if ((interest & VOXSHM_WRITABLE) && link_ready(link, VOXSHM_WRITABLE))
		ready |= VOXSHM_WRITABLE;
	if (ready) {
		link->format->disarm(link, interest);
		pthread_mutex_lock(&link->waiters.lock);
		unarm(link, interest);
		pthread_mutex_unlock(&link->waiters.lock);
	}
	return (int)ready;
}

void voxshm_link_set_spin(struct voxshm_link *link, uint32_t nanoseconds)
{
	link->spin_ns = nanoseconds;
}

/* The link itself ------------------------------------------------------------ */

void voxshm_link_status(struct voxshm_link *link, struct voxshm_status *status)
{
	const char *failure;
	struct end *end = link->end;
	int drains;

	link_drain_wait(link);
	pthread_mutex_lock(&link->waiters.lock);
	for (drains = 1; end->more && !link->waiters.polling && drains < DRAINS_AT_MOST; drains++)
		link_drain_locked(link);
	failure = atomic_load(&link->failure);
	*status = (struct voxshm_status){
		.state = (enum voxshm_link_state)link_state(link),
		.peer_id = link->is_host ? link->peer_id : VOXSHM_PEER_HOST,
		.epoch = link->epoch,
		.pid = end->pid,
		.uid = end->uid,
		.gid = end->gid,
		.exit_kind = end->exit_kind,
		.exit_value = end->exit_value,
		.core_dumped = end->core_dumped,
		.reason = failure ? failure : "",
	};
	pthread_mutex_unlock(&link->waiters.lock);
}

void voxshm_link_counters(const struct voxshm_link *link, struct voxshm_counters *counters)
{
	*counters = (struct voxshm_counters){
		.messages_sent = link->sent->messages,
		.bytes_sent = link->sent->bytes,
		.messages_received = link->taken->messages,
		.bytes_received = link->taken->bytes,
		.doorbells_rung = atomic_load_explicit(&link->doorbells_rung,
						       memory_order_relaxed),
		.sleeps = atomic_load_explicit(&link->sleeps, memory_order_relaxed),
		.mappings_made = link->mappings_made,
	};
}

size_t voxshm_link_max_payload(const struct voxshm_link *link)
{
	return link->max_payload;
}

enum voxshm_format voxshm_link_format(const struct voxshm_link *link)
{
	return link->format->id;
}

const char *voxshm_link_backend_name(const struct voxshm_link *link)
{
	return link->end->ops->backend_name;
}

void voxshm_link_set_data(struct voxshm_link *link, void *data)
{
	link->data = data;
}

void *voxshm_link_data(const struct voxshm_link *link)
{
	return link->data;
}
