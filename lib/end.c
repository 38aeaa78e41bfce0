/* SPDX-License-Identifier: MIT */
/* end.c - who the peer is and how its process ended; see end.h. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "end.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

void end_init(struct end *end, const struct end_ops *ops)
{
	*end = (struct end){ .ops = ops, .wake_fd = -1, .pidfd = -1 };
}

void end_deinit(struct end *end)
{
	if (end->pidfd >= 0)
		close(end->pidfd);
	end->pidfd = -1;
}

bool end_is_socket(int fd, int type)
{
	int domain = -1, found = -1;
	socklen_t size = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &found, &size) == 0 &&
	       domain == AF_UNIX && found == type;
}

void end_set_peer(struct end *end, pid_t pid, uid_t uid, gid_t gid)
{
	int pidfd = -1;

	end->uid = uid;
	end->gid = gid;
	if (pid == end->pid)
		return;
	if (pid > 0) {
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0 && errno == ESRCH)
			end->exit_kind = VOXSHM_EXIT_UNKNOWN;
	}
	/* The old one goes last, so that the new one has a number of its own. */
	end_deinit(end);
	end->pid = pid;
	end->pidfd = pidfd;
	end->child = false;
}

void end_set_child(struct end *end, pid_t pid)
{
	end_set_peer(end, pid, geteuid(), getegid());
	end->child = true;
}

static void record_child_exit(struct end *end)
{
	siginfo_t info = { 0 };

	/* Somebody else may have reaped it: then how it ended is not known. */
	if (waitid(P_PIDFD, (id_t)end->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0) {
		end->exit_kind = VOXSHM_EXIT_UNKNOWN;
		return;
	}
	end->exit_kind = info.si_code == CLD_EXITED ? VOXSHM_EXIT_CODE : VOXSHM_EXIT_SIGNAL;
	end->exit_value = info.si_status;
	end->core_dumped = info.si_code == CLD_DUMPED;
}

bool end_check_exit(struct end *end)
{
	struct pollfd pollfd = { .fd = end->pidfd, .events = POLLIN };

	if (end->exit_kind != VOXSHM_EXIT_NONE)
		return true;
	if (end->pidfd < 0 || poll(&pollfd, 1, 0) <= 0)
		return false;
	if (end->child)
		record_child_exit(end);
	else
		end->exit_kind = VOXSHM_EXIT_UNKNOWN;
	return true;
}
