/* SPDX-License-Identifier: MIT */
/* vox/doorbell.c - see doorbell.h. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "link.h"
#include "vox/doorbell.h"

/* More rings of one byte than the socket holds. */
#define READS_PER_DRAIN 2
#define BYTES_PER_READ 256
/* Each costs about as much as 16 rings. */
#define OFFERS_PER_DRAIN 4
#define OFFERS_AT_MOST 64

/* What is sent with each memory. */
struct control_message {
	uint32_t map_id;
	uint32_t generation;
	uint64_t size;
};

_Static_assert(sizeof(struct control_message) == 16, "control message");

/* Ring ------------------------------------------------------------------------------- */

static void ring(struct end *end)
{
	/* A full queue is a doorbell that rings already; a dead peer needs none. */
	(void)!send(vox_end(end)->doorbell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The kernel says whose process rang. */
static void find_credentials(struct msghdr *header, struct ucred *ringer)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS)
			memcpy(ringer, CMSG_DATA(cmsg), sizeof(*ringer));
}

int vox_doorbell_drain(int doorbell, struct ucred *ringer)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char bytes[BYTES_PER_READ];
	int reads = 0, rung = 0;

	while (reads < READS_PER_DRAIN) {
		struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
		/* Room for credentials alone: descriptors are not expected, and dropped. */
		struct msghdr header = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = ringer ? control.bytes : NULL,
			.msg_controllen = ringer ? sizeof(control.bytes) : 0,
		};
		ssize_t size = recvmsg(doorbell, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		/*
		 * Reset, once: the peer closed with rings of ours unread; its own still
		 * wait here, and its hang-up behind them.
		 */
		if (size < 0 && errno == ECONNRESET)
			continue;
		reads++;
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN)
			break;
		if (size <= 0)
			return -EPIPE;
		rung += (int)size;
		if (ringer)
			find_credentials(&header, ringer);
	}
	return rung;
}

/* Memory ------------------------------------------------------------------------------ */

bool vox_is_hung_up(int doorbell)
{
	struct pollfd pollfd = { .fd = doorbell, .events = POLLRDHUP };

	return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & (POLLRDHUP | POLLHUP));
}

/*
 * A send to a datagram socket that the peer has closed throws away what still
 * waits in our own. So that is taken first; and the peer hangs up its doorbell
 * before it closes this socket, so a send that comes later is not tried.
 */
static int prepare_offer(struct vox_end *end)
{
	struct voxshm_link *link = end->link;
	int ret;

	pthread_mutex_lock(&link->waiters.lock);
	ret = vox_end_take_offers(end, link);
	pthread_mutex_unlock(&link->waiters.lock);
	if (ret)
		return link_fail(link, "it sent a malformed control message");
	return vox_is_hung_up(end->doorbell) ? -EPIPE : 0;
}

static int offer(struct end *end, uint32_t map_id, uint32_t generation,
		 const struct memory *memory)
{
	struct control_message message = { map_id, generation, memory->size };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
	int ret;

	ret = prepare_offer(vox_end(end));
	if (ret)
		return ret;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &memory->fd, sizeof(int));
	if (sendmsg(vox_end(end)->control, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
	case ETOOMANYREFS:
		return -ENOBUFS;
	case ECONNRESET:
	case ECONNREFUSED:
	case ENOTCONN:
		return -EPIPE;
	default:
		return -errno;
	}
}

bool vox_end_can_offer(const struct vox_end *end)
{
	struct pollfd pollfd = { .fd = end->control, .events = POLLOUT };

	return poll(&pollfd, 1, 0) > 0;
}

/*
 * The descriptors of a message; all but one alone are a fault, and closed.
 * Return: -EMFILE when there may be one, and this process has no number for it;
 * -EBADMSG.
 */
static int take_fd(struct msghdr *header)
{
	struct cmsghdr *cmsg;
	size_t count, i;
	int fd = -1, next, taken = 0;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++, taken++) {
			memcpy(&next, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(next));
			if (fd >= 0)
				close(fd);
			fd = next;
		}
	}
	if (taken == 0 && (header->msg_flags & MSG_CTRUNC))
		return -EMFILE;
	if (fd >= 0 && (taken != 1 || (header->msg_flags & MSG_CTRUNC))) {
		close(fd);
		fd = -1;
	}
	return fd < 0 ? -EBADMSG : fd;
}

/*
 * Looks at an offer first, with a descriptor of its own, because what cannot be
 * taken now must not be lost. Return: 1 when there may be more, 0 when not, -EBADMSG.
 */
static int drain_offer(struct vox_end *end, struct voxshm_link *link)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct control_message message;
	struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t size = recvmsg(end->control, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd, ret;

	/* This socket shows no hang-up; the doorbell does. What was sent before is still there. */
	if (size < 0)
		return errno == ECONNRESET;
	fd = take_fd(&header);
	if (fd == -EBADMSG)
		return -EBADMSG;
	if (size != sizeof(message) || (header.msg_flags & MSG_TRUNC)) {
		if (fd >= 0)
			close(fd);
		return -EBADMSG;
	}
	ret = fd < 0 ? fd : link_object(link, message.map_id, message.generation, message.size, fd);
	if (ret == -EBADMSG)
		return -EBADMSG;
	if (ret) {
		end->end.shortage = ret;
		return 0;
	}
	(void)!recv(end->control, NULL, 0, MSG_DONTWAIT | MSG_TRUNC);
	return 1;
}

static int take_offers(struct vox_end *end, struct voxshm_link *link, int most)
{
	int offers, ret = 1;

	end->end.shortage = 0;
	/* How an offer is filed depends on whose it is; until that is known it waits. */
	if (vox_end_kind(end) == VOX_PEER_UNKNOWN)
		vox_end_learn_kind(end);
	if (vox_end_kind(end) == VOX_PEER_UNKNOWN)
		return 0;
	for (offers = 0; offers < most && ret > 0; offers++) {
		ret = drain_offer(end, link);
		if (ret > 0)
			end->end.knocks += END_KNOCKS_OF_OFFER;
	}
	end->end.more = ret > 0;
	return ret < 0 ? ret : 0;
}

int vox_end_take_offers(struct vox_end *end, struct voxshm_link *link)
{
	return take_offers(end, link, OFFERS_AT_MOST);
}

/* Who has come and gone ----------------------------------------------------------------- */

static uint64_t peer_word_now(const struct vox_end *end)
{
	shared_look_again();
	return shared_load_u64(&vox_peer(end->segment, end->peer_id)->state_epoch);
}

/* One of ours says so before it says that it has come. */
static bool learn_kind(struct vox_end *end, uint64_t word)
{
	int kind, unknown = VOX_PEER_UNKNOWN;

	if (!vox_end_has_come(end, word))
		return false;
	kind = vox_peer_is_plain(end->segment, end->peer_id) ? VOX_PEER_PLAIN : VOX_PEER_OURS;
	/* Once: a guest that says now this, now that is what both our threads took it for. */
	atomic_compare_exchange_strong(&end->kind, &unknown, kind);
	return vox_end_kind(end) == VOX_PEER_OURS;
}

bool vox_end_learn_kind(struct vox_end *end)
{
	return learn_kind(end, peer_word_now(end));
}

static void look_at_guest(struct vox_end *end, const struct ucred *ringer)
{
	uint64_t word = peer_word_now(end);
	uint32_t state = peer_word_state(word);

	/* Once it was buried, the slot is another guest's. */
	if (peer_word_epoch(word) != end->epoch)
		return;
	if (state == PEER_ATTACHED) {
		if (vox_end_kind(end) == VOX_PEER_UNKNOWN)
			learn_kind(end, word);
		/* Who rings once the guest has come is the guest. One of ours does it at once. */
		if (!end->end.child && end->end.pid == 0 && ringer->pid > 0)
			end_set_peer(&end->end, ringer->pid, ringer->uid, ringer->gid);
		end->end.claimed |= end->end.pid || end->end.hangup ||
				    vox_end_kind(end) != VOX_PEER_OURS;
	} else if (state == PEER_GOODBYE) {
		/* It may still touch shared memory, until it hangs up. */
		end->end.claimed = true;
		end->end.left = end->end.hangup;
	}
}

/* A slot that is not this life's any more was taken away by the host. */
static void look_at_host(struct vox_end *end)
{
	uint64_t word = peer_word_now(end);

	if (shared_load_u32(&vox_header(end->segment)->host_goodbye) ||
	    peer_word_epoch(word) != end->epoch || peer_word_state(word) != PEER_ATTACHED)
		end->end.left = true;
}

/* vox-shm rings for each message that lies in its ring, and twice for each in ours. */
static void be_patient(struct vox_end *end, struct voxshm_link *link)
{
	int32_t more = (int32_t)(end->segment->geometry.ring_capacity / VOX_RING_MIN_ENTRY) * 3;

	if (end->patient || vox_end_kind(end) != VOX_PEER_PLAIN)
		return;
	end->patient = true;
	if (more > INT32_MAX - link->most_patience)
		more = INT32_MAX - link->most_patience;
	link->most_patience += more;
	link->patience += more;
}

static int drain(struct end *end, struct voxshm_link *link)
{
	struct vox_end *vox = vox_end(end);
	struct ucred ringer = { .pid = 0 };
	int rung, ret;

	if (vox_end_take_timer(vox) && vox_end_kind(vox) != VOX_PEER_OURS)
		ring(end);
	rung = vox_doorbell_drain(vox->doorbell, vox->is_host ? &ringer : NULL);
	if (rung < 0)
		end->hangup = true;
	ret = take_offers(vox, link, OFFERS_PER_DRAIN);
	if (vox->is_host)
		look_at_guest(vox, &ringer);
	else
		look_at_host(vox);
	be_patient(vox, link);
	end->knocks += rung > 0 ? (uint32_t)rung : 0;
	return ret;
}

/*
 * The guest leaves by its own slot, and hangs up when it has let go of shared
 * memory. The host takes the slot away; the guest is rung to see that.
 */
static void leave(struct end *end)
{
	struct vox_end *vox = vox_end(end);

	if (!vox->is_host) {
		voxshm_segment_detach_peer(vox->segment, vox->peer_id);
		return;
	}
	vox->nobody_came = vox_say_goodbye(vox->segment, vox->peer_id, NULL) == PEER_RESERVED;
	ring(end);
}

/* Making and freeing ---------------------------------------------------------------------- */

void vox_end_dispose(struct vox_end *end)
{
	if (end->timer >= 0)
		close(end->timer);
	close(end->end.wake_fd);
	end_deinit(&end->end);
	free(end);
}

static void end_free(struct end *end)
{
	struct vox_end *vox = vox_end(end);

	/* A copy of the socket, kept to see the guest go, must not keep the guest waiting. */
	shutdown(vox->doorbell, SHUT_WR);
	close(vox->doorbell);
	close(vox->control);
	vox_end_dispose(vox);
}

static const struct end_ops vox_ops = {
	.backend_name = "file",
	.ring = ring,
	.drain = drain,
	.offer = offer,
	.leave = leave,
	.free = end_free,
};

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int vox_end_new(struct vox_end **out, struct voxshm_segment *segment, uint32_t peer_id,
		uint32_t epoch, bool is_host, int doorbell, int control)
{
	struct vox_end values = {
		.segment = segment,
		.peer_id = peer_id,
		.epoch = epoch,
		.is_host = is_host,
		.doorbell = doorbell,
		.control = control,
		.window = MEMORY_NONE,
		.kind = is_host ? VOX_PEER_UNKNOWN :
			vox_is_plain(segment) ? VOX_PEER_PLAIN : VOX_PEER_OURS,
	};

	return vox_end_copy(out, &values, &vox_ops, doorbell);
}

int vox_end_copy(struct vox_end **out, const struct vox_end *values, const struct end_ops *ops,
		 int wake_source)
{
	struct vox_end *end = malloc(sizeof(*end));
	int ret;

	if (!end)
		return -ENOMEM;
	*end = *values;
	end_init(&end->end, ops);
	end->timer = -1;
	end->end.wake_fd = epoll_create1(EPOLL_CLOEXEC);
	ret = end->end.wake_fd < 0 ? -errno : watch(end->end.wake_fd, wake_source);
	if (ret) {
		if (end->end.wake_fd >= 0)
			close(end->end.wake_fd);
		free(end);
		return ret;
	}
	*out = end;
	return 0;
}

void vox_end_set_timer(struct vox_end *end, int64_t nanoseconds)
{
	struct itimerspec time = {
		.it_value = { .tv_sec = nanoseconds / 1000000000,
			      .tv_nsec = nanoseconds % 1000000000 },
	};

	if (end->timer < 0) {
		end->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (end->timer < 0)
			return;
		if (watch(end->end.wake_fd, end->timer)) {
			close(end->timer);
			end->timer = -1;
			return;
		}
	}
	timerfd_settime(end->timer, 0, &time, NULL);
	end->timer_runs = nanoseconds > 0;
}

bool vox_end_take_timer(struct vox_end *end)
{
	uint64_t expirations;

	if (end->timer < 0 || read(end->timer, &expirations, sizeof(expirations)) <= 0)
		return false;
	end->timer_runs = false;
	return true;
}

int vox_sockets_new(int doorbells[2], int controls[2])
{
	int ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, doorbells) < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, controls) < 0) {
		ret = -errno;
		close(doorbells[0]);
		close(doorbells[1]);
		return ret;
	}
	setsockopt(doorbells[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int));
	return 0;
}

int vox_sockets_check(int doorbell, int control)
{
	return end_is_socket(doorbell, SOCK_STREAM) && end_is_socket(control, SOCK_DGRAM) ?
		0 : -EPROTO;
}
