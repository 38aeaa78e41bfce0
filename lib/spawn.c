/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - tickets, and guests that the host starts itself.
 *
 * A ticket is a socket on which the invitation already waits: whoever holds
 * it becomes the guest, and when its last copy is closed unread the kernel
 * closes what the invitation held, so that the host sees the link end.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "host.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define TICKET_VARIABLE "VOXSHM_TICKET"

extern char **environ;

int voxshm_host_ticket(struct voxshm_host *host, int *ticket, struct voxshm_link **link,
		       struct voxshm_error *error)
{
	struct invitation invitation;
	int sockets[2], ret;

	*ticket = -1;
	*link = NULL;
	error_set(error, 0, "%s", "");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return error_errno(error, -errno, "cannot make a ticket");
	ret = host_link_new(host, link, &invitation, error);
	if (ret)
		goto close_sockets;
	ret = bootstrap_invite(sockets[0], &invitation);
	invitation_deinit(&invitation);
	if (ret) {
		voxshm_link_close(*link);
		*link = NULL;
		error_errno(error, ret, "cannot write a ticket");
		goto close_sockets;
	}
	close(sockets[0]);
	(*link)->known = true;
	*ticket = sockets[1];
	return 0;

close_sockets:
	close(sockets[0]);
	close(sockets[1]);
	return ret;
}

/* A copy of the environment's pointers with the ticket's number first. */
static char **environment_with(char *ticket_text)
{
	size_t prefix = strlen(TICKET_VARIABLE "="), count = 0, used = 0, i;
	char **environment;

	while (environ && environ[count])
		count++;
	environment = malloc((count + 2) * sizeof(*environment));
	if (!environment)
		return NULL;
	environment[used++] = ticket_text;
	for (i = 0; i < count; i++)
		if (strncmp(environ[i], TICKET_VARIABLE "=", prefix) != 0)
			environment[used++] = environ[i];
	environment[used] = NULL;
	return environment;
}

static int set_default_signals(posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	int ret;

	sigfillset(&all);
	sigemptyset(&none);
	ret = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	if (ret == 0)
		ret = posix_spawnattr_setsigdefault(attributes, &all);
	if (ret == 0)
		ret = posix_spawnattr_setsigmask(attributes, &none);
	return ret;
}

/* Return: 0 and the child's pid, or -errno; also when it cannot be executed. */
static int spawn_with_ticket(const char *path, char *const argv[], int ticket, pid_t *pid)
{
	char ticket_text[sizeof(TICKET_VARIABLE "=") + 12];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char **environment;
	int ret;

	snprintf(ticket_text, sizeof(ticket_text), TICKET_VARIABLE "=%d", ticket);
	environment = environment_with(ticket_text);
	if (!environment)
		return -ENOMEM;
	ret = posix_spawnattr_init(&attributes);
	if (ret)
		goto free_environment;
	ret = posix_spawn_file_actions_init(&actions);
	if (ret)
		goto destroy_attributes;
	/* dup2 onto itself clears close-on-exec, in the child alone. */
	ret = posix_spawn_file_actions_adddup2(&actions, ticket, ticket);
	if (ret == 0)
		ret = set_default_signals(&attributes);
	if (ret == 0)
		ret = posix_spawnp(pid, path, &actions, &attributes, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
destroy_attributes:
	posix_spawnattr_destroy(&attributes);
free_environment:
	free(environment);
	return -ret;
}

int voxshm_host_spawn(struct voxshm_host *host, const char *path, char *const argv[],
		      struct voxshm_link **link, struct voxshm_error *error)
{
	int ticket, ret;
	pid_t pid;

	ret = voxshm_host_ticket(host, &ticket, link, error);
	if (ret)
		return ret;
	ret = spawn_with_ticket(path, argv, ticket, &pid);
	close(ticket);
	if (ret) {
		voxshm_link_close(*link);
		*link = NULL;
		return error_errno(error, ret, "cannot start %s", path);
	}
	ret = host_link_spawned(*link, pid);
	if (ret)
		return error_errno(error, ret, "cannot watch %s", path);
	return 0;
}

/* Children that outlive their link ------------------------------------------- */

struct orphan {
	struct watch watch;
	int pidfd;
	struct orphan *next;
};

static void orphan_handle(struct voxshm_host *host, struct watch *watch)
{
	struct orphan *orphan = (struct orphan *)watch, **place = &host->orphans;
	siginfo_t info;

	waitid(P_PIDFD, (id_t)orphan->pidfd, &info, WEXITED | WNOHANG);
	host_unwatch(host, orphan->pidfd);
	while (*place != orphan)
		place = &(*place)->next;
	*place = orphan->next;
	close(orphan->pidfd);
	free(orphan);
}

void orphan_adopt(struct voxshm_host *host, int pidfd)
{
	struct orphan *orphan = malloc(sizeof(*orphan));

	if (!orphan || host_watch(host, pidfd, &orphan->watch)) {
		free(orphan);
		close(pidfd);
		return;
	}
	orphan->watch.handle = orphan_handle;
	orphan->pidfd = pidfd;
	orphan->next = host->orphans;
	host->orphans = orphan;
}

void orphans_free(struct voxshm_host *host)
{
	struct orphan *orphan;
	siginfo_t info;

	while ((orphan = host->orphans)) {
		host->orphans = orphan->next;
		waitid(P_PIDFD, (id_t)orphan->pidfd, &info, WEXITED | WNOHANG);
		close(orphan->pidfd);
		free(orphan);
	}
}
