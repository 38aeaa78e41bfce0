/* SPDX-License-Identifier: MIT */
/*
 * vox/host.c - the host's part of the format: the segment, peer slots, and
 * burying guests that have ended; see vox.h.
 *
 * The host's thread alone takes and ends; it buries, unless a view lies in the
 * ring: then the release of the last one does, in the link's receiving thread.
 * A burial that must wait is kept in a list, and watched through copies of the link's descriptors, so
 * that it outlives the link. They have an epoll of their own, of which one
 * event at a time is handled: any of them may be freed at any time.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "backend_device.h"
#include "error.h"
#include "host.h"
#include "vox/device.h"

#define EVENTS_PER_VISIT 16

static struct vox_host *vox_host(struct voxshm_host *host)
{
	return host->segment;
}

/* Departed guests ------------------------------------------------------------------------- */

/* A copy in a process that was just forked would keep the watch alive. */
static void stop_watching(struct voxshm_host *host, const struct vox_departed *departed)
{
	if (departed->doorbell >= 0)
		epoll_ctl(vox_host(host)->epoll_fd, EPOLL_CTL_DEL, departed->doorbell, NULL);
	if (departed->pidfd >= 0)
		epoll_ctl(vox_host(host)->epoll_fd, EPOLL_CTL_DEL, departed->pidfd, NULL);
}

static void departed_free(struct voxshm_host *host, struct vox_departed *departed)
{
	struct vox_departed **place = &vox_host(host)->departed;

	while (*place != departed)
		place = &(*place)->next;
	*place = departed->next;
	if (departed->link)
		departed->link->departed = NULL;
	stop_watching(host, departed);
	if (departed->doorbell >= 0)
		close(departed->doorbell);
	if (departed->pidfd >= 0)
		close(departed->pidfd);
	free(departed);
}

/* What was freed may be what others wait for. */
static void wake_waiters(struct voxshm_host *host)
{
	struct voxshm_link *link;

	for (link = host->links; link; link = link->next)
		if (link_state(link) <= VOXSHM_LINK_ATTACHED)
			link_wake(link, &link->theirs->space);
}

/* Under burial: the guest is gone, and no view lies in its ring. Return: is it done? */
static bool bury(struct voxshm_host *host, uint32_t peer_id, uint32_t epoch, struct vox_link *vox)
{
	struct voxshm_segment *segment = vox_host(host)->segment;
	int ret;

	vox_take_back(segment, peer_id, epoch);
	ret = vox_recover(segment, peer_id, vox ? &vox->consumer : NULL,
			  vox ? &vox->unread : NULL);
	if (ret == -ENOMEM)
		return false;
	if (vox) {
		vox->received.ours.released = vox->last_released;
		vox->buried = true;
	}
	wake_waiters(host);
	return true;
}

static bool is_gone(const struct vox_departed *departed)
{
	struct pollfd pollfd = { .fd = departed->pidfd, .events = POLLIN };

	return (departed->doorbell >= 0 && vox_is_hung_up(departed->doorbell)) ||
	       (departed->pidfd >= 0 && poll(&pollfd, 1, 0) > 0);
}

static void try_bury(struct voxshm_host *host, struct vox_departed *departed)
{
	struct vox_link *vox = departed->link;

	if (!is_gone(departed))
		return;
	if (vox && vox_ring_borrowed(&vox->consumer)) {
		/* The last release comes back here; the hang-up need not tell again. */
		stop_watching(host, departed);
		return;
	}
	if (bury(host, departed->peer_id, departed->epoch, vox))
		departed_free(host, departed);
}

static void departures_handle(struct voxshm_host *host, struct watch *watch)
{
	struct vox_host *vox = (struct vox_host *)watch;
	struct epoll_event event;
	int visits;

	pthread_mutex_lock(&vox->burial);
	for (visits = 0; visits < EVENTS_PER_VISIT; visits++) {
		if (epoll_wait(vox->epoll_fd, &event, 1, 0) <= 0)
			break;
		try_bury(host, event.data.ptr);
	}
	pthread_mutex_unlock(&vox->burial);
}

void vox_host_try_bury(struct vox_link *vox)
{
	struct vox_host *host = vox_host(vox->link.host);

	if (vox_ring_borrowed(&vox->consumer))
		return;
	pthread_mutex_lock(&host->burial);
	try_bury(vox->link.host, vox->departed);
	pthread_mutex_unlock(&host->burial);
}

static int copy_fd(struct voxshm_host *host, int fd, uint32_t events,
		   struct vox_departed *departed)
{
	struct epoll_event event = { .events = events, .data.ptr = departed };
	int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy >= 0 && epoll_ctl(vox_host(host)->epoll_fd, EPOLL_CTL_ADD, copy, &event) < 0) {
		close(copy);
		return -1;
	}
	return copy;
}

/* Without memory or descriptors the slot is lost to this host: it stays in Goodbye. */
static void wait_for_departure(struct voxshm_host *host, struct vox_link *vox)
{
	struct vox_departed *departed = calloc(1, sizeof(*departed));
	struct end *carrier = vox->end->carrier;

	if (!departed)
		return;
	departed->link = vox;
	departed->peer_id = vox->link.peer_id;
	departed->epoch = vox->link.epoch;
	/* Its rings are nothing to us any more. */
	departed->doorbell = copy_fd(host, carrier ? device_end_fd(carrier) : vox->end->doorbell,
				     EPOLLRDHUP, departed);
	departed->pidfd = copy_fd(host, vox->link.end->pidfd, EPOLLIN, departed);
	departed->next = vox_host(host)->departed;
	vox_host(host)->departed = departed;
	vox->departed = departed;
	try_bury(host, departed);
}

/* The segment ------------------------------------------------------------------------- */

/*
 * What a vox-shm guest opens: the file's absolute path; without a file, the
 * host's descriptor, as the kernel shows it to the same user; nothing on the
 * device.
 */
static int set_path(struct vox_host *vox, struct voxshm_error *error)
{
	const char *path = voxshm_segment_path(vox->segment);
	char *absolute;

	if (vox->main.base)
		return 0;
	if (!*path) {
		snprintf(vox->path, sizeof(vox->path), "/proc/%d/fd/%d", (int)getpid(),
			 voxshm_segment_fd(vox->segment));
		return 0;
	}
	absolute = realpath(path, NULL);
	if (!absolute)
		return error_errno(error, -errno, "cannot find %s", path);
	if (strlen(absolute) >= sizeof(vox->path)) {
		free(absolute);
		return error_set(error, -ENAMETOOLONG, "the path of %s is too long", path);
	}
	strcpy(vox->path, absolute);
	free(absolute);
	return 0;
}

static int watch_departures(struct voxshm_host *host, struct vox_host *vox)
{
	int ret;

	vox->watch.handle = departures_handle;
	vox->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (vox->epoll_fd < 0)
		return -errno;
	ret = host_watch(host, vox->epoll_fd, &vox->watch);
	if (ret)
		close(vox->epoll_fd);
	return ret;
}

int vox_host_init(struct voxshm_host *host, struct voxshm_error *error)
{
	const struct voxshm_segment_config config = {
		.struct_size = sizeof(config),
		.max_guests = host->config.max_guests,
		.ring_capacity = host->config.ring_capacity,
		.max_payload = host->config.max_payload,
		.inline_threshold = host->config.inline_threshold,
		.max_mappings = host->config.max_mappings,
		.num_classes = host->config.num_classes,
		.heartbeat_interval = host->config.heartbeat_interval,
		.classes = host->config.classes,
		.path = host->config.path,
		.mode = host->config.mode,
		.max_size = host->config.max_size,
	};
	struct vox_host *vox;
	int ret;

	vox = calloc(1, sizeof(*vox));
	if (!vox)
		return -ENOMEM;
	vox->main = MEMORY_NONE;
	if (host->backend->id == VOXSHM_BACKEND_DEVICE)
		ret = vox_device_create(&vox->segment, &vox->main, &config, error);
	else
		ret = voxshm_segment_create(&vox->segment, &config, error);
	if (ret)
		goto free_vox;
	ret = set_path(vox, error);
	if (ret)
		goto free_segment;
	ret = watch_departures(host, vox);
	if (ret) {
		error_errno(error, ret, "cannot watch for guests that go");
		goto free_segment;
	}
	pthread_mutex_init(&vox->burial, NULL);
	host->segment = vox;
	return 0;

free_segment:
	voxshm_segment_free(vox->segment);
	memory_free(&vox->main);
free_vox:
	free(vox);
	return ret;
}

int vox_host_grow(struct voxshm_host *host, uint64_t bytes, struct voxshm_error *error)
{
	struct voxshm_segment *segment = vox_host(host)->segment;
	/* What is mapped, as guests can write what the header says. */
	uint64_t size = segment->file.size;
	int ret;

	if (bytes > UINT64_MAX - size)
		return error_set(error, -EFBIG, "the segment has %llu bytes, and cannot get %llu more",
				 (unsigned long long)size, (unsigned long long)bytes);
	ret = voxshm_segment_grow(segment, size + bytes, error);
	if (ret == 0)
		wake_waiters(host);
	return ret;
}

void vox_host_goodbye(struct voxshm_host *host)
{
	voxshm_segment_set_goodbye(vox_host(host)->segment);
}

void vox_host_deinit(struct voxshm_host *host)
{
	struct vox_host *vox = vox_host(host);

	while (vox->departed)
		departed_free(host, vox->departed);
	pthread_mutex_destroy(&vox->burial);
	host_unwatch(host, vox->epoll_fd);
	close(vox->epoll_fd);
	voxshm_segment_free(vox->segment);
	memory_free(&vox->main);
	free(vox);
	host->segment = NULL;
}

/* Links ------------------------------------------------------------------------------------ */

static void bury_all(struct voxshm_host *host)
{
	struct vox_departed *departed, *next;

	pthread_mutex_lock(&vox_host(host)->burial);
	for (departed = vox_host(host)->departed; departed; departed = next) {
		next = departed->next;
		try_bury(host, departed);
	}
	pthread_mutex_unlock(&vox_host(host)->burial);
}

static int reserve(struct voxshm_host *host, uint32_t *epoch)
{
	struct voxshm_segment *segment = vox_host(host)->segment;
	struct voxshm_peer info;
	int peer;

	peer = voxshm_segment_reserve_peer(segment);
	if (peer == -EUSERS) {
		bury_all(host);
		shared_look_again();
		peer = voxshm_segment_reserve_peer(segment);
	}
	if (peer > 0) {
		voxshm_segment_peer(segment, (uint32_t)peer, &info);
		*epoch = info.epoch;
	}
	return peer;
}

/* The host's end over sockets, of which the guest's go into the invitation. */
static int socket_end_new(struct vox_end **end, struct voxshm_segment *segment, uint32_t peer,
			  uint32_t epoch, struct invitation *invitation)
{
	int doorbells[2], controls[2], segment_fd, ret;

	ret = vox_sockets_new(doorbells, controls);
	if (ret)
		return ret;
	segment_fd = fcntl(voxshm_segment_fd(segment), F_DUPFD_CLOEXEC, 0);
	if (segment_fd < 0) {
		ret = -errno;
		goto close_sockets;
	}
	ret = vox_end_new(end, segment, peer, epoch, true, doorbells[0], controls[0]);
	if (ret)
		goto close_segment;
	invitation->fds[INVITATION_DOORBELL] = doorbells[1];
	invitation->fds[INVITATION_SEGMENT] = segment_fd;
	invitation->fds[INVITATION_THIRD] = controls[1];
	return 0;

close_segment:
	close(segment_fd);
close_sockets:
	close(doorbells[0]);
	close(doorbells[1]);
	close(controls[0]);
	close(controls[1]);
	return ret;
}

int vox_host_link_new(struct voxshm_host *host, struct voxshm_link **link,
		      struct invitation *invitation, struct voxshm_error *error)
{
	struct voxshm_segment *segment = vox_host(host)->segment;
	const struct memory *main = &vox_host(host)->main;
	struct vox_link *vox;
	struct vox_end *end;
	uint32_t epoch = 0;
	int peer, ret;

	peer = reserve(host, &epoch);
	if (peer < 0)
		return error_set(error, -EUSERS, BOOTSTRAP_REASON_FULL);
	if (main->base)
		ret = vox_device_end_new(&end, segment, (uint32_t)peer, epoch, main, invitation);
	else
		ret = socket_end_new(&end, segment, (uint32_t)peer, epoch, invitation);
	if (ret)
		goto release_peer;
	ret = vox_link_new(&vox, segment, end);
	if (ret)
		goto free_end;
	invitation->peer_id = (uint32_t)peer;
	strcpy(invitation->payload, vox_host(host)->path);
	*link = &vox->link;
	return 0;

free_end:
	end->end.ops->free(&end->end);
release_peer:
	voxshm_segment_release_peer(segment, (uint32_t)peer);
	return error_errno(error, ret, "cannot make a link");
}

void vox_host_link_attached(struct voxshm_link *link)
{
	/* The guest wrote itself into the peer table. */
	(void)link;
}

/* Nobody came, or nobody is there any more: at once. Else when it has gone. */
void vox_host_link_ended(struct voxshm_link *link)
{
	struct vox_link *vox = vox_link(link);
	enum peer_state before = vox_say_goodbye(vox->segment, link->peer_id, NULL);
	bool gone = before == PEER_RESERVED || vox->end->nobody_came || link->end->hangup ||
		    link->end->left || link->end->exit_kind != VOXSHM_EXIT_NONE;

	pthread_mutex_lock(&vox_host(link->host)->burial);
	if (!gone || vox_ring_borrowed(&vox->consumer) ||
	    !bury(link->host, link->peer_id, link->epoch, vox))
		wait_for_departure(link->host, vox);
	pthread_mutex_unlock(&vox_host(link->host)->burial);
}

void vox_host_link_forget(struct vox_link *vox)
{
	struct vox_departed *departed = vox->departed;

	if (!departed)
		return;
	pthread_mutex_lock(&vox_host(vox->link.host)->burial);
	departed->link = NULL;
	vox->departed = NULL;
	try_bury(vox->link.host, departed);
	pthread_mutex_unlock(&vox_host(vox->link.host)->burial);
}
