/* SPDX-License-Identifier: MIT */
/*
 * processes.h - guests and hosts in processes of their own, and a host's
 * events one at a time.
 *
 * Every child dies with the test that started it (PR_SET_PDEATHSIG), so that
 * a failed test leaves nothing behind.
 */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "helpers.h"

/* Children -------------------------------------------------------------------- */

/* fork() whose child dies with its parent. */
static inline pid_t child_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(98);
	}
	return pid;
}

/* Return: waitpid()'s status; -1, and the child killed, when it does not end. */
static inline int child_wait(pid_t pid)
{
	int64_t until = now_ns() + PATIENCE;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_ns() > until) {
			fprintf(stderr, "# process %d did not end\n", (int)pid);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
		sleep_ms(1);
	}
	return status;
}

static inline void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A byte from one process to another: "I am there". */
struct signal_pipe {
	int fds[2];
};

static inline struct signal_pipe signal_pipe_new(void)
{
	struct signal_pipe signal;

	REQUIRE_EQ(0, pipe2(signal.fds, O_CLOEXEC));
	return signal;
}

static inline void signal_send(const struct signal_pipe *signal)
{
	REQUIRE_EQ(1, write(signal->fds[1], "!", 1));
}

static inline void signal_await(const struct signal_pipe *signal)
{
	struct pollfd pollfd = { .fd = signal->fds[0], .events = POLLIN };
	char byte;

	REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
	REQUIRE_EQ(1, read(signal->fds[0], &byte, 1));
}

static inline void signal_pipe_free(const struct signal_pipe *signal)
{
	close(signal->fds[0]);
	close(signal->fds[1]);
}

/* Guests ----------------------------------------------------------------------- */

typedef void guest_fn(struct voxshm_link *link, void *argument);

static inline void host_open(struct __test_metadata *_metadata, struct voxshm_host **host,
			     const struct voxshm_config *config)
{
	struct voxshm_error error = { "" };

	ASSERT_EQ(0, voxshm_host_new(host, config, &error))
		TH_LOG("%s", error.text);
}

/* Claims the ticket in a forked process, which runs the function and exits with 0. */
static inline pid_t ticket_fork(int ticket, guest_fn *run, void *argument)
{
	pid_t pid = child_fork();

	if (pid == 0) {
		struct voxshm_error error = { "" };
		struct voxshm_link *link;
		int ret = voxshm_guest_claim(&link, ticket, &error);

		if (ret)
			fprintf(stderr, "# claim: %s\n", error.text);
		REQUIRE_EQ(0, ret);
		run(link, argument);
		_exit(0);
	}
	return pid;
}

static inline pid_t guest_fork(struct __test_metadata *_metadata, struct voxshm_host *host,
			       guest_fn *run, void *argument, struct voxshm_link **link)
{
	struct voxshm_error error = { "" };
	int ticket = -1;
	pid_t pid;

	ASSERT_EQ(0, voxshm_host_ticket(host, &ticket, link, &error))
		TH_LOG("%s", error.text);
	pid = ticket_fork(ticket, run, argument);
	close(ticket);
	return pid;
}

/* Walks in from a forked process, which runs the function and exits with 0. */
static inline pid_t walk_in_fork(const char *address, guest_fn *run, void *argument)
{
	pid_t pid = child_fork();

	if (pid == 0) {
		struct voxshm_error error = { "" };
		struct voxshm_link *link;
		int ret = voxshm_guest_connect(&link, address, NULL, PATIENCE, &error);

		if (ret)
			fprintf(stderr, "# connect: %s\n", error.text);
		REQUIRE_EQ(0, ret);
		run(link, argument);
		_exit(0);
	}
	return pid;
}

/* Starts it again as the guest of that name. */
static inline int guest_try_spawn(struct voxshm_host *host, const char *name,
				  const char *argument, struct voxshm_link **link,
				  struct voxshm_error *error)
{
	char *argv[] = { program_path(), "--guest", (char *)name, (char *)argument, NULL };

	return voxshm_host_spawn(host, program_path(), argv, link, error);
}

static inline struct voxshm_link *guest_spawn(struct __test_metadata *_metadata,
					      struct voxshm_host *host, const char *name,
					      const char *argument)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;

	ASSERT_EQ(0, guest_try_spawn(host, name, argument, &link, &error))
		TH_LOG("%s", error.text);
	return link;
}

/* In a spawned guest. Exits when the host has closed the link already. */
static inline struct voxshm_link *guest_inherit(void)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;
	int ret = voxshm_guest_inherit(&link, &error);

	if (ret == -EPIPE)
		_exit(0);
	if (ret)
		fprintf(stderr, "# inherit: %s\n", error.text);
	REQUIRE_EQ(0, ret);
	return link;
}

/* Events ------------------------------------------------------------------------- */

#define EVENT_TYPES (VOXSHM_EVENT_FAILED + 1)

/* A host's events, taken one by one; seen[] counts all that came. */
struct inbox {
	struct voxshm_host *host;
	struct voxshm_event events[32];
	int next, count;
	unsigned int seen[EVENT_TYPES];
};

/* Return: the next event, or NULL when none comes in time. */
static inline const struct voxshm_event *inbox_next(struct inbox *inbox, int64_t timeout)
{
	const struct voxshm_event *event;

	if (inbox->next == inbox->count) {
		int ret = voxshm_host_wait(inbox->host, inbox->events, ARRAY_SIZE(inbox->events),
					   timeout);

		REQUIRE(ret >= 0 && ret <= (int)ARRAY_SIZE(inbox->events));
		inbox->next = 0;
		inbox->count = ret;
		if (ret == 0)
			return NULL;
	}
	event = &inbox->events[inbox->next++];
	REQUIRE(event->type < EVENT_TYPES && event->link);
	inbox->seen[event->type]++;
	return event;
}

/*
 * Takes events until one of that type comes, for that link or, when it is
 * NULL, any. Return: the event's link; NULL when patience ends.
 */
static inline struct voxshm_link *inbox_await(struct inbox *inbox, enum voxshm_event_type type,
					      const struct voxshm_link *link)
{
	int64_t until = now_ns() + PATIENCE;
	const struct voxshm_event *event;

	while (now_ns() < until) {
		event = inbox_next(inbox, 100 * MS);
		if (event && event->type == type && (!link || link == event->link))
			return event->link;
	}
	fprintf(stderr, "# no event %d; seen %u %u %u %u %u %u\n", type, inbox->seen[0],
		inbox->seen[1], inbox->seen[2], inbox->seen[3], inbox->seen[4], inbox->seen[5]);
	return NULL;
}

/* Walking in from a thread ------------------------------------------------------- */

/* The test's thread is the host, another one of this process connects. */
struct walker {
	const char *address, *session;
	int64_t timeout;
	pthread_t thread;
	struct voxshm_link *guest_end, *host_end;
	struct voxshm_error error;
	_Atomic int ret;	/* 1: not back yet */
};

static inline void *walker_run(void *argument)
{
	struct walker *walker = argument;

	walker->ret = voxshm_guest_connect(&walker->guest_end, walker->address, walker->session,
					   walker->timeout, &walker->error);
	return NULL;
}

/*
 * Connects, and serves the host until that is done and, on success, told by
 * VOXSHM_EVENT_ATTACHED. Return: the connect's result.
 */
static inline int walk_in(struct inbox *inbox, struct walker *walker, const char *address,
			  const char *session)
{
	int64_t until = now_ns() + PATIENCE;
	const struct voxshm_event *event;

	*walker = (struct walker){ address, session, PATIENCE, .ret = 1 };
	walker->thread = thread_start(walker_run, walker);
	while (now_ns() < until && (walker->ret == 1 || (walker->ret == 0 && !walker->host_end))) {
		event = inbox_next(inbox, 5 * MS);
		if (event && event->type == VOXSHM_EVENT_ATTACHED)
			walker->host_end = event->link;
	}
	thread_join(walker->thread);
	return walker->ret;
}

/* Addresses ---------------------------------------------------------------------- */

/* An abstract address of this process's own. */
static inline const char *abstract_address(char address[64])
{
	static unsigned int count;

	snprintf(address, 64, "@voxshm-test-%d-%u", (int)getpid(), count++);
	return address;
}

/* A fresh directory for sockets and files; directory_remove() also empties it. */
static inline void directory_make(char directory[64])
{
	snprintf(directory, 64, "/tmp/voxshm-test-XXXXXX");
	REQUIRE(mkdtemp(directory));
}

static inline void directory_remove(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(directory);
}

#endif
