/* SPDX-License-Identifier: MIT */
/*
 * lobby.c - where walk-in guests wait to be let in.
 *
 * The lobby owns the listening socket and the callers that have connected but
 * not finished their request. It never waits for a caller: what one sends is
 * taken as it comes, and when the lobby is full the one that came first goes.
 * Callers without end do not stop a host that is busy with its guests: beside
 * those the lobby has a share of the thread's time, and all of it when they rest.
 * It has an epoll of its own, watched by the host's, and handles one event at
 * a time, so that any caller may be dropped at any time.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "address.h"
#include "bootstrap.h"
#include "error.h"
#include "host.h"

#define MAX_CALLERS 64
#define EVENTS_PER_VISIT 4
/* Of a busy host's time one part in SHARE, and so much of it at once. */
#define SHARE 16
#define MOST_CREDIT_NS 5000000
#define BACKLOG 128
#define PAUSE_NS 20000000
#define LOCK_TRIES 100
#define MAX_GROUPS 64

struct caller {
	int fd;
	struct caller *next;		/* came later */
	size_t size;
	uint8_t request[BOOTSTRAP_REQUEST_HEADER + BOOTSTRAP_MAX_SESSION];
};

struct lobby {
	struct watch watch;
	int epoll_fd;
	int listen_fd;
	struct address address;
	dev_t device;			/* of the path, to remove only our own */
	ino_t inode;
	voxshm_accept_fn accept;
	void *data;
	struct caller *first, *last;
	unsigned int callers;
	int pause_fd;			/* a timer: how long the door is not watched */
	int64_t credit_ns;		/* may be spent while the host is busy */
	int64_t credited;		/* when that was reckoned last */
};

static void caller_drop(struct lobby *lobby, struct caller *caller)
{
	struct caller **place = &lobby->first, *previous = NULL;

	while (*place != caller) {
		previous = *place;
		place = &previous->next;
	}
	*place = caller->next;
	if (lobby->last == caller)
		lobby->last = previous;
	lobby->callers--;
	/* A copy in a process that was just forked would keep the watch alive. */
	epoll_ctl(lobby->epoll_fd, EPOLL_CTL_DEL, caller->fd, NULL);
	close(caller->fd);
	free(caller);
}

static int watch_fd(struct lobby *lobby, int fd, void *pointer)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = pointer };

	return epoll_ctl(lobby->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void watch_door(struct lobby *lobby, bool watched)
{
	struct epoll_event event = { .events = watched ? EPOLLIN : 0, .data.ptr = lobby };

	epoll_ctl(lobby->epoll_fd, EPOLL_CTL_MOD, lobby->listen_fd, &event);
}

/* Without descriptors the door would be readable all the time. */
static void pause_begin(struct lobby *lobby)
{
	static const struct itimerspec once = { .it_value.tv_nsec = PAUSE_NS };

	if (timerfd_settime(lobby->pause_fd, 0, &once, NULL) == 0)
		watch_door(lobby, false);
}

static void pause_end(struct lobby *lobby)
{
	uint64_t expirations;

	if (read(lobby->pause_fd, &expirations, sizeof(expirations)) > 0)
		watch_door(lobby, true);
}

static void caller_new(struct lobby *lobby)
{
	struct caller *caller;
	int fd;

	fd = accept4(lobby->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			pause_begin(lobby);
		return;
	}
	if (lobby->callers == MAX_CALLERS)
		caller_drop(lobby, lobby->first);
	caller = malloc(sizeof(*caller));
	if (!caller || watch_fd(lobby, fd, caller)) {
		free(caller);
		close(fd);
		return;
	}
	caller->fd = fd;
	caller->size = 0;
	caller->next = NULL;
	if (lobby->last)
		lobby->last->next = caller;
	else
		lobby->first = caller;
	lobby->last = caller;
	lobby->callers++;
}

/* Without a function of the application's: the host's own user, and root. */
static int accept_own_user(const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	if (caller->uid == geteuid() || caller->uid == 0)
		return 0;
	return error_set(reason, -EACCES, "only user %u is let in", (unsigned int)geteuid());
}

static bool is_listed(const void *list, size_t count, uint32_t id)
{
	const uint32_t *ids = list;
	size_t i;

	for (i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

_Static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t),
	       "is_listed() reads both");

int voxshm_accept_listed(void *data, const struct voxshm_caller *caller,
			 struct voxshm_error *reason)
{
	const struct voxshm_allowed *allowed = data;
	size_t i;

	if (is_listed(allowed->users, allowed->num_users, caller->uid) ||
	    is_listed(allowed->groups, allowed->num_groups, caller->gid))
		return 0;
	for (i = 0; i < caller->num_groups; i++)
		if (is_listed(allowed->groups, allowed->num_groups, caller->groups[i]))
			return 0;
	return error_set(reason, -EACCES, "user %u is not on the host's list",
			 (unsigned int)caller->uid);
}

static int judge(const struct lobby *lobby, struct caller *caller, const char *session,
		 size_t session_size, struct voxshm_error *reason)
{
	struct voxshm_caller who = { .session = session, .session_size = session_size };
	socklen_t size = sizeof(struct ucred);
	struct ucred credentials;
	gid_t groups[MAX_GROUPS];

	reason->text[0] = '\0';
	if (getsockopt(caller->fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return error_errno(reason, -errno, "cannot tell who asks");
	who.pid = credentials.pid;
	who.uid = credentials.uid;
	who.gid = credentials.gid;
	who.groups = groups;
	size = sizeof(groups);
	if (getsockopt(caller->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		who.num_groups = size / sizeof(*groups);
	if (!lobby->accept)
		return accept_own_user(&who, reason);
	if (lobby->accept(lobby->data, &who, reason) == 0)
		return 0;
	return reason->text[0] ? -EACCES : error_set(reason, -EACCES, "not let in");
}

static void answer(struct voxshm_host *host, struct lobby *lobby, struct caller *caller,
		   const char *session, size_t session_size)
{
	struct invitation invitation;
	struct voxshm_error reason;
	struct voxshm_link *link;

	if (judge(lobby, caller, session, session_size, &reason)) {
		bootstrap_refuse(caller->fd, reason.text);
		return;
	}
	if (host_link_new(host, &link, &invitation, &reason)) {
		bootstrap_refuse(caller->fd, reason.text);
		return;
	}
	if (bootstrap_invite(caller->fd, &invitation))
		voxshm_link_close(link);
	invitation_deinit(&invitation);
}

static void caller_handle(struct voxshm_host *host, struct lobby *lobby, struct caller *caller)
{
	const char *session;
	size_t session_size;
	ssize_t size;
	int ret;

	size = recv(caller->fd, caller->request + caller->size,
		    sizeof(caller->request) - caller->size, 0);
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size > 0) {
		caller->size += (size_t)size;
		ret = bootstrap_parse_request(caller->request, caller->size, &session,
					      &session_size);
		if (ret == 0)
			return;
		if (ret < 0)
			bootstrap_refuse(caller->fd, "this is not a request");
		else
			answer(host, lobby, caller, session, session_size);
	}
	caller_drop(lobby, caller);
}

/* Return: false when there was no more to do. */
static bool visit(struct voxshm_host *host, struct lobby *lobby)
{
	struct epoll_event event;
	int visits;

	for (visits = 0; visits < EVENTS_PER_VISIT; visits++) {
		if (epoll_wait(lobby->epoll_fd, &event, 1, 0) <= 0)
			return false;
		if (event.data.ptr == lobby)
			caller_new(lobby);
		else if (event.data.ptr == &lobby->pause_fd)
			pause_end(lobby);
		else
			caller_handle(host, lobby, event.data.ptr);
	}
	return true;
}

static void earn(struct lobby *lobby)
{
	int64_t now = clock_now();

	lobby->credit_ns += (now - lobby->credited) / SHARE;
	if (lobby->credit_ns > MOST_CREDIT_NS)
		lobby->credit_ns = MOST_CREDIT_NS;
	lobby->credited = now;
}

static void lobby_handle(struct voxshm_host *host, struct watch *watch)
{
	struct lobby *lobby = (struct lobby *)watch;
	bool more = true;
	int64_t now;

	earn(lobby);
	if (!host->busy) {
		visit(host, lobby);
		return;
	}
	while (more && lobby->credit_ns >= 0) {
		more = visit(host, lobby);
		now = clock_now();
		lobby->credit_ns -= now - lobby->credited;
		lobby->credited = now;
	}
}

/* Is there a socket at the path on which nobody listens any more? */
static int check_stale(const struct address *address, struct voxshm_error *error)
{
	const char *path = address->un.sun_path;
	struct stat stat;
	int fd, ret = 0;

	if (lstat(path, &stat) < 0)
		return error_errno(error, -errno, "cannot look at %s", path);
	if (!S_ISSOCK(stat.st_mode))
		return error_set(error, -EEXIST, "%s exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(error, -errno, "cannot make a socket");
	if (connect(fd, &address->any, address->size) == 0 || errno != ECONNREFUSED)
		ret = error_set(error, -EADDRINUSE, "another host listens at %s", path);
	close(fd);
	return ret;
}

static int bind_address(int fd, const struct address *address, const char *text,
			struct voxshm_error *error)
{
	int ret;

	if (bind(fd, &address->any, address->size) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return error_errno(error, -errno, "cannot listen at %s", text);
	if (!address->is_path)
		return error_set(error, -EADDRINUSE, "another host listens at %s", text);
	ret = check_stale(address, error);
	if (ret)
		return ret;
	unlink(address->un.sun_path);
	if (bind(fd, &address->any, address->size) < 0)
		return error_errno(error, -errno, "cannot listen at %s", text);
	return 0;
}

/*
 * Hosts that begin in one directory take turns, as a socket that is bound and not
 * yet listened on looks like one that was left. A directory that cannot be
 * locked, or that somebody keeps locked, is done without. Return: what to close.
 */
static int lock_directory(const struct address *address)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	char path[sizeof(address->un.sun_path) + 2];
	int fd, tries;

	strcpy(path, address->un.sun_path);
	fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (tries = 0; fd >= 0 && tries < LOCK_TRIES; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		nanosleep(&pause, NULL);
	}
	return fd;
}

/* Binds, and sets the path's mode before anybody can connect. */
static int bind_and_listen(struct lobby *lobby, const char *text, mode_t mode,
			   struct voxshm_error *error)
{
	const char *path = lobby->address.un.sun_path;
	struct stat stat;
	int ret;

	ret = bind_address(lobby->listen_fd, &lobby->address, text, error);
	if (ret)
		return ret;
	if (lobby->address.is_path) {
		if (chmod(path, mode ? mode : 0600) < 0 || lstat(path, &stat) < 0) {
			ret = error_errno(error, -errno, "cannot set the mode of %s", text);
			unlink(path);
			return ret;
		}
		lobby->device = stat.st_dev;
		lobby->inode = stat.st_ino;
	}
	if (listen(lobby->listen_fd, BACKLOG) < 0)
		return error_errno(error, -errno, "cannot listen at %s", text);
	return 0;
}

static int open_address(struct lobby *lobby, const char *text, mode_t mode,
			struct voxshm_error *error)
{
	int lock = lobby->address.is_path ? lock_directory(&lobby->address) : -1;
	int ret = bind_and_listen(lobby, text, mode, error);

	if (lock >= 0)
		close(lock);
	return ret;
}

int voxshm_host_listen(struct voxshm_host *host, const char *address, mode_t mode,
		       voxshm_accept_fn accept, void *data, struct voxshm_error *error)
{
	struct lobby *lobby;
	int ret;

	error_set(error, 0, "%s", "");
	if (host->lobby)
		return error_set(error, -EBUSY, "this host listens already");
	lobby = calloc(1, sizeof(*lobby));
	if (!lobby)
		return -ENOMEM;
	lobby->watch.handle = lobby_handle;
	lobby->accept = accept;
	lobby->data = data;
	lobby->listen_fd = -1;
	lobby->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	lobby->pause_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (lobby->epoll_fd < 0 || lobby->pause_fd < 0) {
		ret = error_errno(error, -errno, "cannot make a descriptor to wait on");
		goto free_lobby;
	}
	ret = address_parse(&lobby->address, address, error);
	if (ret)
		goto free_lobby;
	lobby->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (lobby->listen_fd < 0) {
		ret = error_errno(error, -errno, "cannot make a socket");
		goto free_lobby;
	}
	ret = open_address(lobby, address, mode, error);
	if (ret)
		goto free_lobby;
	ret = watch_fd(lobby, lobby->listen_fd, lobby);
	if (ret == 0)
		ret = watch_fd(lobby, lobby->pause_fd, &lobby->pause_fd);
	if (ret == 0)
		ret = host_watch(host, lobby->epoll_fd, &lobby->watch);
	if (ret) {
		error_errno(error, ret, "cannot watch %s", address);
		goto free_lobby;
	}
	host->lobby = lobby;
	return 0;

free_lobby:
	lobby_free(lobby);
	return ret;
}

/* Accepts a lobby that is half built. The path goes only if it is still ours. */
void lobby_free(struct lobby *lobby)
{
	struct stat stat;

	if (!lobby)
		return;
	while (lobby->first)
		caller_drop(lobby, lobby->first);
	if (lobby->inode && lstat(lobby->address.un.sun_path, &stat) == 0 &&
	    stat.st_dev == lobby->device && stat.st_ino == lobby->inode)
		unlink(lobby->address.un.sun_path);
	if (lobby->listen_fd >= 0)
		close(lobby->listen_fd);
	if (lobby->pause_fd >= 0)
		close(lobby->pause_fd);
	if (lobby->epoll_fd >= 0)
		close(lobby->epoll_fd);
	free(lobby);
}
