/* SPDX-License-Identifier: MIT */
/*
 * outgoing.c - the sending end of a transfer; see outgoing.h.
 *
 * The bytes are read straight into memory that the receiver sees too. A call
 * on the link waits at most until the progress line must be drawn again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "outgoing.h"

struct sending {
	struct outgoing *outgoing;
	struct voxshm_link *link;
	struct source *source;
	struct digest *digest;
	struct progress progress;
	struct problem *problem;
	size_t chunk;		/* the largest DATA message */
	bool lost;		/* the receiver gave up or is gone */
};

int source_open(struct source *source, const char *path, struct problem *problem)
{
	const char *slash;

	*source = (struct source){ .fd = STDIN_FILENO, .is_stream = true };
	if (path && strcmp(path, "-") != 0) {
		slash = strrchr(path, '/');
		snprintf(source->name, sizeof(source->name), "%s", slash ? slash + 1 : path);
		source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	} else {
		path = "standard input";
	}
	if (source->fd < 0 || fstat(source->fd, &source->stat) < 0)
		return problem_set(problem, "cannot read %s: %s", path, strerror(errno));
	if (S_ISDIR(source->stat.st_mode)) {
		source_close(source);
		return problem_set(problem, "%s is a folder; send one file, or pipe an archive of "
				   "it (tar -c %s | voxshm send ADDRESS)", path, path);
	}
	/* Files in /proc say that they are empty: only reading them tells. */
	if (source->fd != STDIN_FILENO && S_ISREG(source->stat.st_mode) && source->stat.st_size)
		source->is_stream = false;
	return 0;
}

void source_close(struct source *source)
{
	if (source->fd > STDIN_FILENO)
		close(source->fd);
	source->fd = -1;
}

static int lost(struct sending *s)
{
	s->lost = true;
	return problem_set(s->problem, "the receiver has gone");
}

/* Whether to try again what failed; if not, the problem is set. */
static bool again(struct sending *s, int error)
{
	if (stop_signal()) {
		problem_set(s->problem, "stopped by a signal before the end");
		return false;
	}
	progress_update(&s->progress, s->outgoing->bytes);
	if (error == -ETIMEDOUT || error == -EINTR)
		return true;
	if (error == -EPIPE || error == -EBADMSG)
		lost(s);
	else
		problem_set(s->problem, "cannot send: %s", strerror(-error));
	return false;
}

static int send_message(struct sending *s, const void *message, size_t size)
{
	int error;

	do
		error = voxshm_send(s->link, message, size, progress_wait(&s->progress));
	while (error && again(s, error));
	return error ? -1 : 0;
}

static int send_begin(struct sending *s)
{
	struct {
		struct transfer_begin header;
		char name[TRANSFER_MAX_NAME];
	} message = { .header = {
		.type = TRANSFER_BEGIN,
		.mode = S_ISREG(s->source->stat.st_mode) ? s->source->stat.st_mode & 0777 : 0666,
		.size = s->source->is_stream ? TRANSFER_SIZE_UNKNOWN :
					       (uint64_t)s->source->stat.st_size,
		.name_size = (uint32_t)strlen(s->source->name),
	} };

	memcpy(message.name, s->source->name, message.header.name_size);
	return send_message(s, &message, sizeof(message.header) + message.header.name_size);
}

static int send_end(struct sending *s)
{
	struct transfer_end end = { .type = TRANSFER_END, .total = s->outgoing->bytes };

	digest_final(s->digest, end.sha256);
	memcpy(s->outgoing->sha256, end.sha256, DIGEST_SIZE);
	return send_message(s, &end, sizeof(end));
}

/* Tells the receiver why nothing more comes, if it still listens. */
static void send_abort(struct sending *s)
{
	struct {
		struct transfer_abort header;
		char text[TRANSFER_MAX_TEXT];
	} message = { .header.type = TRANSFER_ABORT };
	size_t size = strnlen(s->problem->text, TRANSFER_MAX_TEXT);

	message.header.text_size = (uint32_t)size;
	memcpy(message.text, s->problem->text, size);
	voxshm_send(s->link, &message, sizeof(message.header) + size, NS_PER_SECOND);
}

static int poll_wait(const struct sending *s)
{
	return s->progress.wanted ? (int)(PROGRESS_INTERVAL / 1000000) : -1;
}

/* Waits until a stream has bytes, or the receiver something to say. */
static int wait_for_input(struct sending *s)
{
	struct pollfd pollfds[2] = {
		{ .fd = s->source->fd, .events = POLLIN },
		{ .fd = voxshm_link_fd(s->link), .events = POLLIN },
	};

	while (!pollfds[0].revents) {
		if (voxshm_link_arm(s->link, VOXSHM_READABLE) != 0)
			return lost(s);
		if (poll(pollfds, 2, poll_wait(s)) < 0 && errno != EINTR)
			return problem_set(s->problem, "cannot wait for input: %s",
					   strerror(errno));
		if (!again(s, -EINTR))
			return -1;
	}
	return 0;
}

/* Return: bytes read, 0 at the end, -1. */
static ssize_t fill(struct sending *s, uint8_t *bytes, size_t room)
{
	struct pollfd pollfd = { .fd = s->source->fd, .events = POLLIN };
	ssize_t size;

	for (;;) {
		size = read(s->source->fd, bytes, room);
		if (size >= 0)
			return size;
		if (errno == EAGAIN)
			poll(&pollfd, 1, poll_wait(s));
		else if (errno != EINTR)
			return problem_set(s->problem, "cannot read on: %s", strerror(errno));
		if (!again(s, -EINTR))
			return -1;
	}
}

/* Bytes that the next piece may have: of a file, no more than were announced. */
static size_t piece_room(const struct sending *s)
{
	size_t room = s->chunk - sizeof(struct transfer_data);
	uint64_t left = (uint64_t)s->source->stat.st_size - s->outgoing->bytes;

	return !s->source->is_stream && left < room ? (size_t)left : room;
}

/* One message full of bytes. Return: 1, 0 at the end, -1. */
static int send_piece(struct sending *s)
{
	struct transfer_data header = { .type = TRANSFER_DATA, .offset = s->outgoing->bytes };
	size_t room = piece_room(s);
	struct voxshm_loan loan;
	ssize_t size;
	int error;

	if (room == 0)
		return 0;
	do
		error = voxshm_loan(s->link, sizeof(header) + room, &loan,
				    progress_wait(&s->progress));
	while (error && again(s, error));
	if (error)
		return -1;
	size = fill(s, (uint8_t *)loan.data + sizeof(header), room);
	if (size <= 0) {
		voxshm_abort(s->link, &loan);
		return (int)size;
	}
	memcpy(loan.data, &header, sizeof(header));
	digest_update(s->digest, (uint8_t *)loan.data + sizeof(header), (size_t)size);
	do
		error = voxshm_commit(s->link, &loan, sizeof(header) + (size_t)size,
				      progress_wait(&s->progress));
	while (error && again(s, error));
	if (error) {
		voxshm_abort(s->link, &loan);
		return -1;
	}
	s->outgoing->bytes += (uint64_t)size;
	progress_update(&s->progress, s->outgoing->bytes);
	return 1;
}

static int send_pieces(struct sending *s)
{
	int more;

	do {
		if (stop_signal())
			return problem_set(s->problem, "stopped by a signal before the end");
		if (!S_ISREG(s->source->stat.st_mode) && wait_for_input(s) < 0)
			return -1;
		more = send_piece(s);
	} while (more > 0);
	return more;
}

/* A file must be what it was when it was opened, or the receiver would have a mixture. */
static int check_unchanged(struct sending *s)
{
	const struct stat *was = &s->source->stat;
	struct stat now;

	if (s->source->is_stream)
		return 0;
	if (fstat(s->source->fd, &now) == 0 && s->outgoing->bytes == (uint64_t)was->st_size &&
	    now.st_size == was->st_size && now.st_mtim.tv_sec == was->st_mtim.tv_sec &&
	    now.st_mtim.tv_nsec == was->st_mtim.tv_nsec)
		return 0;
	return problem_set(s->problem, "the file changed while it was sent; send it again when it "
			   "is at rest, or pipe it to standard input");
}

static int check_result(struct sending *s, const struct voxshm_view *view)
{
	struct transfer_result result;
	char text[TRANSFER_MAX_TEXT + 1];

	if (view->size < sizeof(result))
		return problem_set(s->problem, "the receiver's answer makes no sense");
	memcpy(&result, view->data, sizeof(result));
	if (result.type != TRANSFER_RESULT || result.reserved || result.failed > 1 ||
	    result.text_size > TRANSFER_MAX_TEXT ||
	    view->size != sizeof(result) + result.text_size)
		return problem_set(s->problem, "the receiver's answer makes no sense");
	if (result.failed) {
		clean_text(text, sizeof(text), (const char *)view->data + sizeof(result),
			   result.text_size, '.');
		return problem_set(s->problem, "the receiver refused it: %s", text);
	}
	if (result.total != s->outgoing->bytes ||
	    memcmp(result.sha256, s->outgoing->sha256, DIGEST_SIZE) != 0)
		return problem_set(s->problem, "the receiver has something else than was sent; "
				   "send it again");
	return 0;
}

/* Return: 0 when the receiver has said that it has it all, or -1. */
static int wait_for_result(struct sending *s)
{
	char text[STATUS_TEXT];
	struct voxshm_status status;
	struct voxshm_view view;
	int error;

	do
		error = voxshm_recv(s->link, &view, progress_wait(&s->progress));
	while (error && again(s, error));
	if (error == 0) {
		error = check_result(s, &view);
		voxshm_release(s->link, &view);
		return error;
	}
	if (error == -EPIPE || error == -EBADMSG) {
		voxshm_link_status(s->link, &status);
		problem_set(s->problem, "the receiver %s before it had all of it; send it again",
			    status_text(text, &status));
	}
	return -1;
}

static int send_all(struct sending *s)
{
	if (send_begin(s) == 0 && send_pieces(s) == 0 && check_unchanged(s) == 0 &&
	    send_end(s) == 0)
		return wait_for_result(s);
	/* If the receiver gave up, it says why better than we can. */
	if (s->lost)
		wait_for_result(s);
	else
		send_abort(s);
	return -1;
}

int outgoing_send(struct outgoing *outgoing, struct voxshm_link *link, struct source *source,
		  bool show_progress, struct problem *problem)
{
	struct sending s = {
		.outgoing = outgoing,
		.link = link,
		.source = source,
		.problem = problem,
		.chunk = TRANSFER_CHUNK,
	};
	int64_t start = now_ns();
	int result;

	*outgoing = (struct outgoing){ 0 };
	if (voxshm_link_max_payload(link) < TRANSFER_LEAST_PAYLOAD)
		return problem_set(problem, "the host takes messages of at most %zu bytes, too "
				   "small for a file; it needs a larger --max-payload",
				   voxshm_link_max_payload(link));
	if (s.chunk > voxshm_link_max_payload(link))
		s.chunk = voxshm_link_max_payload(link);
	s.digest = digest_new();
	if (!s.digest)
		return problem_set(problem, "out of memory");
	progress_begin(&s.progress, show_progress, source->is_stream ? UINT64_MAX :
				    (uint64_t)source->stat.st_size);
	result = send_all(&s);
	progress_end(&s.progress);
	digest_free(s.digest);
	outgoing->seconds = seconds_since(start);
	return result;
}
