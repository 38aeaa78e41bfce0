/* SPDX-License-Identifier: MIT */
/* host.c - a host and its links, from their making to their end; see host.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "host.h"

static const struct voxshm_class default_classes[] = {
	{ .slot_size = 1024, .slot_count = 64 },
	{ .slot_size = 8192, .slot_count = 32 },
	{ .slot_size = 65536, .slot_count = 16 },
};

/* Making and freeing --------------------------------------------------------- */

static int fill_config(struct voxshm_config *config, const struct voxshm_config *wanted,
		       struct voxshm_error *error)
{
	*config = (struct voxshm_config){ 0 };
	if (wanted) {
		if (wanted->struct_size != sizeof(*wanted))
			return error_set(error, -EINVAL,
					 "struct_size is %zu: use VOXSHM_CONFIG_INIT",
					 wanted->struct_size);
		*config = *wanted;
	}
	if (!config->format)
		config->format = VOXSHM_FORMAT_NATIVE;
	if (!config->max_guests)
		config->max_guests = 16;
	if (!config->ring_capacity)
		config->ring_capacity = 256 * 1024;
	if (!config->max_payload)
		config->max_payload = 1u << 30;
	if (!config->max_mappings)
		config->max_mappings = 16;
	if (!config->mode)
		config->mode = 0600;
	if (config->num_classes && !config->classes)
		return error_set(error, -EINVAL, "num_classes is %u and classes is NULL",
				 config->num_classes);
	if (!config->num_classes) {
		config->classes = default_classes;
		config->num_classes = sizeof(default_classes) / sizeof(*default_classes);
	}
	return 0;
}

/* A path asks for a file. */
static enum voxshm_backend backend_wanted(const struct voxshm_config *config)
{
	bool open = config->backend == VOXSHM_BACKEND_DEFAULT ||
		    config->backend == VOXSHM_BACKEND_ANY;

	return open && config->path ? VOXSHM_BACKEND_FILE : config->backend;
}

static int choose_format(enum voxshm_format id, const struct format **format,
			 struct voxshm_error *error)
{
	if (id == VOXSHM_FORMAT_NATIVE)
		*format = &native_format;
	else if (id == VOXSHM_FORMAT_VOX)
		*format = &vox_format;
	else
		return error_set(error, -EINVAL, "format %d is unknown", (int)id);
	return 0;
}

static void handle_later(struct voxshm_host *host, struct watch *watch);

static void close_fds(struct voxshm_host *host)
{
	if (host->later_fd >= 0)
		close(host->later_fd);
	if (host->epoll_fd >= 0)
		close(host->epoll_fd);
}

static int make_fds(struct voxshm_host *host)
{
	int ret;

	host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	host->later_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	host->later_watch.handle = handle_later;
	if (host->epoll_fd < 0 || host->later_fd < 0)
		ret = -errno;
	else
		ret = host_watch(host, host->later_fd, &host->later_watch);
	if (ret)
		close_fds(host);
	return ret;
}

int voxshm_host_new(struct voxshm_host **out, const struct voxshm_config *config,
		    struct voxshm_error *error)
{
	struct voxshm_host *host;
	int ret;

	*out = NULL;
	error_set(error, 0, "%s", "");
	host = calloc(1, sizeof(*host));
	if (!host)
		return -ENOMEM;
	ret = fill_config(&host->config, config, error);
	if (ret == 0)
		ret = choose_format(host->config.format, &host->format, error);
	if (ret == 0)
		ret = backend_choose(backend_wanted(&host->config), &device_backend, &host->backend,
				     error);
	if (ret)
		goto free_host;
	ret = make_fds(host);
	if (ret) {
		error_errno(error, ret, "cannot make a descriptor to wait on");
		goto free_host;
	}
	ret = host->format->host_init(host, error);
	if (ret)
		goto close_fds;
	pthread_mutex_init(&host->hot_lock, NULL);
	host->config.classes = NULL;
	host->config.path = NULL;
	*out = host;
	return 0;

close_fds:
	close_fds(host);
free_host:
	free(host);
	return ret;
}

void voxshm_host_free(struct voxshm_host *host)
{
	if (!host)
		return;
	host->format->host_goodbye(host);
	lobby_free(host->lobby);
	while (host->links)
		voxshm_link_close(host->links);
	orphans_free(host);
	host->format->host_deinit(host);
	close_fds(host);
	pthread_mutex_destroy(&host->hot_lock);
	free(host);
}

int voxshm_host_grow(struct voxshm_host *host, uint64_t bytes, struct voxshm_error *error)
{
	error_set(error, 0, "%s", "");
	if (!host->format->host_grow)
		return error_set(error, -EOPNOTSUPP,
				 "only the vox format has a shared pool that grows");
	return host->format->host_grow(host, bytes, error);
}

const char *voxshm_backend_name(const struct voxshm_host *host)
{
	return host->backend->name;
}

/* Links ------------------------------------------------------------------------ */

int host_watch(struct voxshm_host *host, int fd, struct watch *watch)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	return epoll_ctl(host->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void host_unwatch(struct voxshm_host *host, int fd)
{
	epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static int rewatch(struct voxshm_link *link, int *watched, int fd)
{
	int ret = 0;

	if (*watched == fd)
		return 0;
	if (*watched >= 0)
		host_unwatch(link->host, *watched);
	if (fd >= 0)
		ret = host_watch(link->host, fd, &link->watch);
	*watched = ret ? -1 : fd;
	return ret;
}

/*
 * Watches what can still tell something: the doorbell until the end and, where
 * it tells that too, until the process has ended; else the process.
 */
int host_rewatch(struct voxshm_link *link)
{
	struct end *end = link->end;
	bool listen = link_state(link) <= VOXSHM_LINK_ATTACHED ||
		      (link_state(link) != VOXSHM_LINK_FAILED && end->exit_awaited);
	int ret;

	if (listen && atomic_load(&end->deaf)) {
		listen = false;
		host_look_later(link->host, clock_now() + DEAF_LOOK_NS);
	}
	ret = rewatch(link, &link->watched_wake_fd, listen ? end->wake_fd : -1);
	if (ret == 0)
		ret = rewatch(link, &link->watched_pidfd,
			      end->exit_kind == VOXSHM_EXIT_NONE ? end->pidfd : -1);
	return ret;
}

/* Gives the peer slot back. */
static void end_link(struct voxshm_link *link)
{
	if (link->end->ops->detach)
		link->end->ops->detach(link->end);
	link->format->link_ended(link);
}

/* The slot is free at once; the link keeps what it has until it is closed. */
void host_notice_end(struct voxshm_link *link)
{
	if (link->ended || link_state(link) <= VOXSHM_LINK_ATTACHED)
		return;
	link->ended = true;
	link->end_time = clock_now();
	link->host->undrained++;
	link->host->ending++;
	end_link(link);
	/* Our own end's end has rung for us too. */
	link_drain(link);
}

/* Guests that have ended since the last wait make room too. */
static void notice_all_ends(struct voxshm_host *host)
{
	struct voxshm_link *link;

	for (link = host->links; link; link = link->next) {
		link_drain(link);
		host_notice_end(link);
	}
}

static void handle_link(struct voxshm_host *host, struct watch *watch)
{
	struct voxshm_link *link =
		(struct voxshm_link *)((char *)watch - offsetof(struct voxshm_link, watch));

	(void)host;
	link_drain(link);
	host_notice_end(link);
	host_rewatch(link);
	host_heat(link);
}

void host_look_later(struct voxshm_host *host, int64_t time)
{
	struct itimerspec at = {
		.it_value = { .tv_sec = time / 1000000000, .tv_nsec = time % 1000000000 },
	};

	if (host->later && host->later <= time)
		return;
	host->later = time;
	timerfd_settime(host->later_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* Those that cannot hear are looked at; who ended is hot anyway. */
static void handle_later(struct voxshm_host *host, struct watch *watch)
{
	struct voxshm_link *link;
	uint64_t expirations;

	(void)watch;
	if (read(host->later_fd, &expirations, sizeof(expirations)) < 0)
		return;
	host->later = 0;
	for (link = host->links; link; link = link->next)
		if (link->watched_wake_fd < 0 && link_state(link) <= VOXSHM_LINK_ATTACHED)
			handle_link(host, &link->watch);
}

int host_link_new(struct voxshm_host *host, struct voxshm_link **out,
		  struct invitation *invitation, struct voxshm_error *error)
{
	struct voxshm_link *link;
	int ret;

	invitation_init(invitation);
	if (host->undrained > host->config.max_guests)
		return error_set(error, -EBUSY, "%u ended links are waiting to be closed",
				 host->undrained);
	ret = host->format->link_new(host, &link, invitation, error);
	if (ret == -EUSERS) {
		notice_all_ends(host);
		ret = host->format->link_new(host, &link, invitation, error);
	}
	if (ret)
		goto deinit;
	link->host = host;
	link->watch.handle = handle_link;
	link->watched_wake_fd = -1;
	link->watched_pidfd = -1;
	link->next = host->links;
	if (link->next)
		link->next->previous = link;
	host->links = link;
	host_hot_append(host, link);
	ret = host_rewatch(link);
	if (ret) {
		voxshm_link_close(link);
		error_errno(error, ret, "cannot watch a link");
		goto deinit;
	}
	*out = link;
	return 0;

deinit:
	invitation_deinit(invitation);
	return ret;
}

/* A child without a pidfd is still noticed when its end closes. */
int host_link_spawned(struct voxshm_link *link, pid_t pid)
{
	end_set_child(link->end, pid);
	return host_rewatch(link);
}

void host_forget(struct voxshm_link *link)
{
	struct voxshm_host *host = link->host;
	struct end *end = link->end;

	rewatch(link, &link->watched_wake_fd, -1);
	rewatch(link, &link->watched_pidfd, -1);
	if (link->hot)
		host_hot_remove(host, link);
	if (link->previous)
		link->previous->next = link->next;
	else
		host->links = link->next;
	if (link->next)
		link->next->previous = link->previous;
	if (link->ended) {
		host->undrained--;
		host->ending -= !link->end_told;
	} else {
		end_link(link);
	}
	if (end->child && !end_check_exit(end)) {
		orphan_adopt(host, end->pidfd);
		end->pidfd = -1;
	}
}

void voxshm_link_close(struct voxshm_link *link)
{
	if (!link)
		return;
	if (link_state(link) <= VOXSHM_LINK_ATTACHED)
		link->end->ops->leave(link->end);
	if (link->host)
		host_forget(link);
	link->format->link_free(link);
}
