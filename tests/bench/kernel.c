/* SPDX-License-Identifier: MIT */
/* kernel.c - peers: what the kernel itself offers to pass messages or wake-ups. */
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loops.h"

#define MQ_MESSAGES 10	/* what an unprivileged user may have */

enum variant {
	VARIANT_BLOCKING,
	VARIANT_SPINNING,	/* descriptors that do not block, tried again and again */
	VARIANT_MESSAGES,	/* a send is a message, not bytes of a stream */
};

/* Streams: pipe and UNIX stream socket -------------------------------------------- */

struct descriptors {
	int lead_in, lead_out, other_in, other_out;
};

static const char *descriptors_keep(struct side *side, const struct descriptors *kept)
{
	side->state = malloc(sizeof(*kept));
	if (!side->state)
		return "no memory";
	*(struct descriptors *)side->state = *kept;
	return NULL;
}

static void widen_pipe(int fd, size_t size)
{
	/* Only root may exceed the system's limit; as large as it gets. */
	while (size >= 4096 && fcntl(fd, F_SETPIPE_SZ, (int)size) < 0)
		size /= 2;
}

static const char *pipe_open(struct side *side)
{
	int flags = side->transport->variant == VARIANT_SPINNING ? O_NONBLOCK : 0;
	int there[2], back[2];

	if (pipe2(there, flags) < 0 || pipe2(back, flags) < 0)
		return strerror(errno);
	widen_pipe(there[1], side->ring);
	widen_pipe(back[1], side->ring);
	return descriptors_keep(side, &(struct descriptors){ back[0], there[1], there[0], back[1] });
}

static const char *socket_open(struct side *side)
{
	bool messages = side->transport->variant == VARIANT_MESSAGES;
	int fds[2], i, size = (int)side->ring;

	if (socketpair(AF_UNIX, messages ? SOCK_SEQPACKET : SOCK_STREAM, 0, fds) < 0)
		return strerror(errno);
	for (i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return descriptors_keep(side, &(struct descriptors){ fds[0], fds[0], fds[1], fds[1] });
}

static const char *fd_join(struct side *side)
{
	struct descriptors *all = side->state;

	side->in = side->leads ? all->lead_in : all->other_in;
	side->out = side->leads ? all->lead_out : all->other_out;
	close(side->leads ? all->other_in : all->lead_in);
	if (all->lead_in != all->lead_out)
		close(side->leads ? all->other_out : all->lead_out);
	return NULL;
}

/* Return: should it be tried again? */
static inline bool again(ssize_t ret)
{
	if (ret >= 0 || errno != EAGAIN)
		return false;
	spin_pause();
	return true;
}

static inline void fd_send(struct side *side, uint64_t value)
{
	size_t done = 0;
	ssize_t ret;

	payload_fill(side->buffer, side->size, value);
	while (done < side->size) {
		ret = write(side->out, (char *)side->buffer + done, side->size - done);
		if (again(ret))
			continue;
		if (ret <= 0)
			side_fail(side, "write", errno);
		done += (size_t)ret;
	}
}

static inline void fd_recv(struct side *side, uint64_t value)
{
	size_t done = 0;
	ssize_t ret;

	while (done < side->size) {
		ret = read(side->in, (char *)side->buffer + done, side->size - done);
		if (again(ret))
			continue;
		if (ret <= 0)
			side_fail(side, ret ? "read" : "read: closed", ret ? errno : 0);
		done += (size_t)ret;
	}
	payload_check(side, side->buffer, value);
}

/* Wake-ups: eventfd and futex ------------------------------------------------------- */

static const char *eventfd_open(struct side *side)
{
	int there = eventfd(0, 0), back = eventfd(0, 0);

	if (there < 0 || back < 0)
		return strerror(errno);
	return descriptors_keep(side, &(struct descriptors){ back, there, there, back });
}

static const char *eventfd_join(struct side *side)
{
	struct descriptors *all = side->state;

	side->in = side->leads ? all->lead_in : all->other_in;
	side->out = side->leads ? all->lead_out : all->other_out;
	return NULL;
}

static inline void eventfd_send(struct side *side, uint64_t value)
{
	(void)value;
	if (eventfd_write(side->out, 1) < 0)
		side_fail(side, "eventfd_write", errno);
}

static inline void eventfd_recv(struct side *side, uint64_t value)
{
	eventfd_t count;

	(void)value;
	if (eventfd_read(side->in, &count) < 0)
		side_fail(side, "eventfd_read", errno);
}

struct shared_words {
	struct {
		_Alignas(LINE) _Atomic uint32_t value;
	} word[2];
};

static const char *futex_open(struct side *side)
{
	side->state = mmap(NULL, sizeof(struct shared_words), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return side->state == MAP_FAILED ? "cannot map memory" : NULL;
}

static inline void futex_send(struct side *side, uint64_t value)
{
	_Atomic uint32_t *word = &((struct shared_words *)side->state)->word[!side->leads].value;

	atomic_store(word, (uint32_t)value + 1);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void futex_recv(struct side *side, uint64_t value)
{
	_Atomic uint32_t *word = &((struct shared_words *)side->state)->word[side->leads].value;
	uint32_t seen;

	while ((seen = atomic_load(word)) != (uint32_t)value + 1)
		syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

/* POSIX message queue ------------------------------------------------------------------ */

static int queue_new(const struct side *side, const char *which)
{
	struct mq_attr attr = { .mq_maxmsg = MQ_MESSAGES, .mq_msgsize = (long)side->size };
	char name[64];
	int queue;

	snprintf(name, sizeof(name), "/voxshm-bench-%d-%s", (int)getpid(), which);
	queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	if (queue >= 0)
		mq_unlink(name);
	return queue;
}

static const char *mq_rows_open(struct side *side)
{
	int there = queue_new(side, "there");
	int back = there < 0 ? -1 : queue_new(side, "back");

	if (back < 0)
		return errno == EINVAL || errno == EMFILE ? "beyond the system's limits" :
			strerror(errno);
	return descriptors_keep(side, &(struct descriptors){ back, there, there, back });
}

static inline void mq_row_send(struct side *side, uint64_t value)
{
	payload_fill(side->buffer, side->size, value);
	if (mq_send(side->out, side->buffer, side->size, 0) < 0)
		side_fail(side, "mq_send", errno);
}

static inline void mq_row_recv(struct side *side, uint64_t value)
{
	if (mq_receive(side->in, side->buffer, side->size, NULL) != (ssize_t)side->size)
		side_fail(side, "mq_receive", errno);
	payload_check(side, side->buffer, value);
}

DEFINE_TRIPS(fd, fd_send, fd_recv)
DEFINE_STREAM(fd, fd_send, fd_recv)
DEFINE_TRIPS(eventfd, eventfd_send, eventfd_recv)
DEFINE_TRIPS(futex, futex_send, futex_recv)
DEFINE_TRIPS(mq, mq_row_send, mq_row_recv)
DEFINE_STREAM(mq, mq_row_send, mq_row_recv)

const struct transport peer_pipe = {
	.name = "pipe", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = pipe_open, .join = fd_join, USE_TRIPS(fd), USE_STREAM(fd),
};

const struct transport peer_pipe_spinning = {
	.name = "pipe, spinning", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.variant = VARIANT_SPINNING,
	.open = pipe_open, .join = fd_join, USE_TRIPS(fd), USE_STREAM(fd),
};

const struct transport peer_stream = {
	.name = "UNIX stream socket", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = socket_open, .join = fd_join, USE_TRIPS(fd), USE_STREAM(fd),
};

const struct transport peer_seqpacket = {
	.name = "UNIX seqpacket socket", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.variant = VARIANT_MESSAGES,
	.open = socket_open, .join = fd_join, USE_TRIPS(fd), USE_STREAM(fd),
};

const struct transport peer_eventfd = {
	.name = "eventfd (no payload)", .family = "peer", .jobs = JOB_TRIPS, .max_size = LINE,
	.open = eventfd_open, .join = eventfd_join, USE_TRIPS(eventfd),
};

const struct transport peer_futex = {
	.name = "futex (no payload)", .family = "peer", .jobs = JOB_TRIPS, .max_size = LINE,
	.open = futex_open, USE_TRIPS(futex),
};

const struct transport peer_mq = {
	.name = "POSIX message queue", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = mq_rows_open, .join = eventfd_join, USE_TRIPS(mq), USE_STREAM(mq),
};
