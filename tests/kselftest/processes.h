/* SPDX-License-Identifier: MIT */
/*
 * processes.h - the kselftests' other processes: children that speak with the
 * test byte by byte, descriptors passed over a socket, other users, small
 * memory cgroups.
 */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <grp.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "voxshm_test.h"

/* Ends the process when nobody listens: a child does not outlive its test. */
static inline void say(int socket, char word)
{
	REQUIRE_EQ(1, send(socket, &word, 1, MSG_NOSIGNAL));
}

/* The next byte; 0 when the other side is gone. */
static inline char hear(int socket)
{
	char word = 0;
	ssize_t got;

	do {
		got = recv(socket, &word, 1, 0);
	} while (got < 0 && errno == EINTR);
	return got == 1 ? word : 0;
}

static inline void fd_send(int socket, int fd)
{
	char word = 'f', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec data = { &word, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	REQUIRE_EQ(1, sendmsg(socket, &message, MSG_NOSIGNAL));
}

static inline int fd_receive(int socket)
{
	char word, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = { &word, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	int fd;

	REQUIRE_EQ(1, recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
	header = CMSG_FIRSTHDR(&message);
	REQUIRE(header && header->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

/* Closes all descriptors from 3 on but these; the list ends with -1. */
static inline void keep_only(const int *keep)
{
	int fd, i, last = 4096;

	for (fd = 3; fd < last; fd++) {
		for (i = 0; keep[i] >= 0 && keep[i] != fd; i++)
			;
		if (keep[i] < 0)
			close(fd);
	}
}
#define KEEP_ONLY(...) keep_only((const int[]){ __VA_ARGS__, -1 })

struct child {
	pid_t pid;
	int socket;
};

/*
 * Forks; in the child, run() gets its side of the socket and the argument, and
 * the process exits with what it returns. It dies with the test.
 */
static inline struct child child_start(int (*run)(int socket, void *argument), void *argument)
{
	pid_t parent = getpid();
	struct child child;
	int sockets[2];

	REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	fflush(stdout);
	child.pid = fork();
	REQUIRE(child.pid >= 0);
	if (child.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(99);
		close(sockets[0]);
		_exit(run(sockets[1], argument));
	}
	close(sockets[1]);
	child.socket = sockets[0];
	return child;
}

/* The wait status. */
static inline int child_reap(struct child *child)
{
	int status;

	close(child->socket);
	REQUIRE_EQ(child->pid, waitpid(child->pid, &status, 0));
	return status;
}

static inline int child_kill(struct child *child)
{
	kill(child->pid, SIGKILL);
	return child_reap(child);
}

/* True once the process is waiting to be reaped, which it then still is. */
static inline bool child_ended(pid_t pid, int ms)
{
	siginfo_t info = { .si_pid = 0 };
	int64_t until = now_ns() + ms * MS;

	do {
		if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    info.si_pid == pid)
			return true;
		sleep_ms(1);
	} while (now_ns() < until);
	return false;
}

/* Runs a function in a process of its own; what it returned, or -signal. */
static inline int in_child(int (*run)(int socket, void *argument), void *argument)
{
	struct child child = child_start(run, argument);
	int status = child_reap(&child);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Who reads or writes at an address: 0, or the signal that it ended with. */
struct touch {
	volatile char *address;
	bool write;
};

static inline int touch_run(int socket, void *argument)
{
	struct touch *touch = argument;

	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	prctl(PR_SET_DUMPABLE, 0);
	if (touch->write)
		*touch->address = 1;
	else
		(void)*touch->address;
	return 0;
}

/* The signal that a forked child gets from it. */
static inline int fork_touches(void *address, bool write)
{
	struct touch touch = { address, write };

	return -in_child(touch_run, &touch);
}

/*
 * The signal that this process would get from it, by asking the kernel to do it:
 * reading or writing a pipe takes the same page faults. 0 or SIGSEGV.
 */
static inline int touches(void *address, bool write)
{
	int pipes[2], ret;
	char byte = 1;

	REQUIRE_EQ(0, pipe2(pipes, O_CLOEXEC));
	if (write) {
		REQUIRE_EQ(1, (int)syscall(SYS_write, pipes[1], &byte, 1));
		ret = syscall(SYS_read, pipes[0], address, 1);
	} else {
		ret = syscall(SYS_write, pipes[1], address, 1);
	}
	close(pipes[0]);
	close(pipes[1]);
	return ret == 1 ? 0 : SIGSEGV;
}

/* Users ----------------------------------------------------------------------- */

/* A node of the same device with a mode of our own: the real one is left alone. */
static inline void node_make(char *path, size_t size, mode_t mode, gid_t group)
{
	struct stat status;

	REQUIRE_EQ(0, stat(DEVICE, &status));
	snprintf(path, size, "/dev/voxshm-kselftest.%d", (int)getpid());
	unlink(path);
	REQUIRE_EQ(0, mknod(path, S_IFCHR | 0600, status.st_rdev));
	REQUIRE_EQ(0, chown(path, 0, group));
	REQUIRE_EQ(0, chmod(path, mode));
}

/* For good: a child's. No capability is left. */
static inline void become(uid_t uid, gid_t group)
{
	REQUIRE_EQ(0, setgroups(0, NULL));
	REQUIRE_EQ(0, setresgid(group, group, group));
	REQUIRE_EQ(0, setresuid(uid, uid, uid));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
}

/* A user that no other test has used since boot, as far as chance goes. */
static inline uid_t fresh_user(void)
{
	static unsigned int count;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return 100000 + (now.tv_nsec / 7 + now.tv_sec * 1009 + ++count) % 1000000;
}

/* Uses the smallest limits there are: false if anything is still counted for the user. */
struct user_check {
	const char *node;
	uid_t uid;
};

static inline int user_makes_one_of_each(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	struct user_check *check = argument;
	struct link link;
	int fd;

	become(check->uid, check->uid);
	fd = open(check->node, O_RDWR);
	REQUIRE(fd >= 0);
	create.main_size = create.window_size = page_size();
	if (call(fd, VOXSHM_IOC_CREATE, &create) < 0)
		return 1;
	return link_at(fd, 0, &link) < 0 ? 2 : 0;
}

static inline bool user_uses_nothing(const char *node, uid_t uid)
{
	static const char *const names[] = { "max_segments", "max_links", "max_tickets",
					     "max_bytes" };
	struct user_check check = { node, uid };
	uint64_t before[ARRAY_SIZE(names)];
	bool nothing;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		before[i] = parameter_get(names[i]);
		REQUIRE_EQ(0, parameter_set(names[i], i < 3 ? 1 : 2 * page_size()));
	}
	nothing = EVENTUALLY(in_child(user_makes_one_of_each, &check) == 0);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		REQUIRE_EQ(0, parameter_set(names[i], before[i]));
	return nothing;
}

/* Memory cgroups -------------------------------------------------------------- */

struct cgroup {
	char path[PATH_MAX];
};

static inline int cgroup_write(struct cgroup *cgroup, const char *file, const char *text)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, file);
	return write_text(path, text);
}

static inline uint64_t cgroup_read(struct cgroup *cgroup, const char *file, const char *key)
{
	char path[PATH_MAX + 64], text[8192], *value = text;

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, file);
	REQUIRE(read_text(path, text, sizeof(text)) >= 0);
	if (*key) {
		/* At a line's start: oom_kill is not oom_group_kill. */
		for (value = text; value; value = strchr(value, '\n')) {
			value += *value == '\n';
			if (!strncmp(value, key, strlen(key)) && value[strlen(key)] == ' ')
				break;
		}
		REQUIRE(value);
		value += strlen(key);
	}
	return strtoull(value, NULL, 10);
}

/* A new cgroup with this memory.max; false if this kernel has no such thing. */
static inline bool cgroup_new(struct cgroup *cgroup, uint64_t max)
{
	char root[] = "/sys/fs/cgroup", path[PATH_MAX], text[4096];
	static unsigned int count;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	if (access(path, F_OK) < 0 && mount("cgroup2", root, "cgroup2", 0, NULL) < 0)
		return false;
	read_text(path, text, sizeof(text));
	if (!strstr(text, "memory"))
		return false;
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
	if (write_text(path, "+memory") < 0)
		return false;
	snprintf(cgroup->path, sizeof(cgroup->path), "%s/voxshm-kselftest.%d.%u", root,
		 (int)getpid(), ++count);
	REQUIRE_EQ(0, mkdir(cgroup->path, 0755));
	snprintf(text, sizeof(text), "%" PRIu64, max);
	REQUIRE_EQ(0, cgroup_write(cgroup, "memory.max", text));
	cgroup_write(cgroup, "memory.swap.max", "0");
	return true;
}

static inline void cgroup_enter(struct cgroup *cgroup)
{
	REQUIRE_EQ(0, cgroup_write(cgroup, "cgroup.procs", "0"));
}

static inline void cgroup_free(struct cgroup *cgroup)
{
	EVENTUALLY(rmdir(cgroup->path) == 0);
}

#endif /* PROCESSES_H */
