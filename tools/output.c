/* SPDX-License-Identifier: MIT */
/*
 * output.c - where the bytes of one transfer go; see output.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"

#define NO_DESTINATION { .stream = -1, .folder = -1 }

static int taken(const char *name, struct problem *problem)
{
	return problem_set(problem, "%s is there already; choose another name, or let --force "
			   "replace it", name);
}

/* An existing path that is no regular file (a pipe, a device) is written to as it is. */
static int open_special(struct destination *destination, const char *path, const struct stat *stat,
			struct problem *problem)
{
	if (S_ISDIR(stat->st_mode))
		return problem_set(problem, "%s is a folder; name a file in it", path);
	destination->stream = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (destination->stream < 0)
		return problem_set(problem, "cannot write to %s: %s", path, strerror(errno));
	return 0;
}

int destination_open_file(struct destination *destination, const char *path, bool force,
			  struct problem *problem)
{
	const char *slash, *folder = ".";
	char folder_text[4096];
	struct stat stat_buffer;

	*destination = (struct destination)NO_DESTINATION;
	destination->force = force;
	if (!path || strcmp(path, "-") == 0) {
		destination->stream = STDOUT_FILENO;
		return 0;
	}
	if (stat(path, &stat_buffer) == 0) {
		if (!S_ISREG(stat_buffer.st_mode))
			return open_special(destination, path, &stat_buffer, problem);
		if (!force)
			return taken(path, problem);
	}
	slash = strrchr(path, '/');
	if (slash) {
		if ((size_t)(slash - path) + 2 > sizeof(folder_text))
			return problem_set(problem, "the name of FILE is too long; shorten it");
		snprintf(folder_text, sizeof(folder_text), "%.*s", (int)(slash - path) + 1, path);
		folder = folder_text;
	}
	destination->name = slash ? slash + 1 : path;
	if (!*destination->name || strlen(destination->name) > 255)
		return problem_set(problem, "%s names no file; give FILE a name of 1 to 255 bytes",
				   path);
	destination->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (destination->folder < 0)
		return problem_set(problem, "cannot open the folder %s: %s; make it first", folder,
				   strerror(errno));
	return 0;
}

int destination_open_folder(struct destination *destination, const char *path, bool force,
			    struct problem *problem)
{
	*destination = (struct destination)NO_DESTINATION;
	destination->force = force;
	if (!path)
		return 0;
	destination->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (destination->folder < 0)
		return problem_set(problem, "cannot open the folder %s: %s; make it first", path,
				   strerror(errno));
	return 0;
}

void destination_close(struct destination *destination)
{
	if (destination->stream > STDOUT_FILENO)
		close(destination->stream);
	if (destination->folder >= 0)
		close(destination->folder);
	*destination = (struct destination)NO_DESTINATION;
}

/* The last part of the name, not hidden, nothing that a terminal would obey. */
static void safe_name(char to[256], const char *name)
{
	const char *slash = strrchr(name, '/');

	if (slash)
		name = slash + 1;
	clean_text(to, 256, name, strlen(name), '_');
	if (*to == '.')
		*to = '_';
	if (!*to)
		strcpy(to, "unnamed");
}

int output_open(struct output *output, const struct destination *destination, const char *name,
		struct problem *problem)
{
	static unsigned int number;
	struct stat stat_buffer;

	*output = (struct output){ .fd = -1, .folder = -1, .force = destination->force };
	if (destination->stream >= 0) {
		output->fd = destination->stream;
		return 0;
	}
	if (destination->folder < 0)
		return problem_set(problem, "this host stores no files; start it with --directory");
	if (destination->name)
		snprintf(output->name, sizeof(output->name), "%s", destination->name);
	else
		safe_name(output->name, name);
	/* To say so early; what counts is output_finish(). */
	if (!output->force && fstatat(destination->folder, output->name, &stat_buffer,
				      AT_SYMLINK_NOFOLLOW) == 0)
		return taken(output->name, problem);
	do {
		snprintf(output->temporary, sizeof(output->temporary), ".voxshm-%d-%u.part",
			 (int)getpid(), number++);
		output->fd = openat(destination->folder, output->temporary,
				    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	} while (output->fd < 0 && errno == EEXIST && number < 100000);
	if (output->fd < 0)
		return problem_set(problem, "cannot make a file for %s: %s", output->name,
				   strerror(errno));
	output->folder = destination->folder;
	return 0;
}

static int write_failed(const struct output *output, struct problem *problem)
{
	const char *what = output->name[0] ? output->name : "the output";

	if (errno == ENOSPC || errno == EDQUOT)
		return problem_set(problem, "no space left for %s; free some, then send again",
				   what);
	if (errno == EPIPE)
		return problem_set(problem, "whoever read the output has gone; nothing more can "
				   "be written to it");
	return problem_set(problem, "cannot write %s: %s", what, strerror(errno));
}

static int write_all(struct output *output, const char *data, size_t size, struct problem *problem)
{
	struct pollfd pollfd = { .fd = output->fd, .events = POLLOUT };
	ssize_t written;

	while (size) {
		written = write(output->fd, data, size);
		if (written >= 0) {
			data += written;
			size -= (size_t)written;
		} else if (errno == EAGAIN) {
			poll(&pollfd, 1, -1);
		} else if (errno != EINTR) {
			return write_failed(output, problem);
		}
		if (stop_signal())
			return problem_set(problem, "stopped by a signal before the end");
	}
	return 0;
}

static bool is_zero(const char *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

int output_write(struct output *output, const void *data, size_t size, struct problem *problem)
{
	/* A chunk of zeros becomes a hole of the file. */
	if (output->folder >= 0 && is_zero(data, size)) {
		if (lseek(output->fd, (off_t)size, SEEK_CUR) < 0)
			return write_failed(output, problem);
	} else if (write_all(output, data, size, problem) < 0) {
		return -1;
	}
	output->size += size;
	return 0;
}

/* Gives the file its name, without replacing another one unless it may. */
static int publish(const struct output *output)
{
	if (output->force)
		return renameat(output->folder, output->temporary, output->folder, output->name);
	if (renameat2(output->folder, output->temporary, output->folder, output->name,
		      RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without that flag: a link does not replace either. */
	if (linkat(output->folder, output->temporary, output->folder, output->name, 0) < 0)
		return -1;
	unlinkat(output->folder, output->temporary, 0);
	return 0;
}

int output_finish(struct output *output, mode_t mode, struct problem *problem)
{
	mode_t mask = umask(0);
	int fd = output->fd;

	umask(mask);
	if (output->folder < 0)
		return 0;
	if (ftruncate(fd, (off_t)output->size) < 0 || fchmod(fd, mode & 0777 & ~mask) < 0)
		goto failed;
	output->fd = -1;
	if (close(fd) < 0 || publish(output) < 0)
		goto failed;
	output->folder = -1;
	return 0;

failed:
	if (errno == EEXIST)
		taken(output->name, problem);
	else
		write_failed(output, problem);
	output_discard(output);
	return -1;
}

void output_discard(struct output *output)
{
	if (output->folder < 0)
		return;
	if (output->fd >= 0)
		close(output->fd);
	unlinkat(output->folder, output->temporary, 0);
	output->fd = -1;
	output->folder = -1;
}
