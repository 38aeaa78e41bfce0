/* SPDX-License-Identifier: MIT */
/*
 * guest.c - the ways to become a guest: connect to a host's address, claim a
 * ticket, inherit one. All end in an invitation; what it holds tells the
 * backend, and the header of the host's segment the format.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "backend_device.h"
#include "error.h"
#include "layout.h"
#include "link.h"

/* Return: bytes of the header that are there, or -errno. */
static ssize_t read_header(const struct invitation *invitation, struct segment_header *header)
{
	const struct memory *main = &invitation->main;
	ssize_t size;

	if (invitation->end) {
		if (main->size < sizeof(*header))
			return (ssize_t)main->size;
		segment_header_copy(header, main->base);
		return sizeof(*header);
	}
	size = pread(invitation->fds[INVITATION_SEGMENT], header, sizeof(*header), 0);
	return size < 0 ? -errno : size;
}

static int find_format(const struct invitation *invitation, const struct format **format,
		       struct voxshm_error *error)
{
	struct segment_header header;
	ssize_t size = read_header(invitation, &header);

	if (size < 0)
		return error_set(error, -EBADMSG, "the host's segment is not memory: %s",
				 strerrordesc_np((int)-size));
	if ((size_t)size < sizeof(header))
		return error_set(error, -EBADMSG, "the host's segment is truncated: %zd bytes",
				 size);
	if (shared_peek_u64(&header.magic) != SEGMENT_MAGIC)
		return error_set(error, -EBADMSG,
				 "segment header: wrong magic at byte 0");
	if (header.version == VOXSHM_FORMAT_NATIVE)
		*format = &native_format;
	else if (header.version == VOXSHM_FORMAT_VOX)
		*format = &vox_format;
	else
		return error_set(error, -EBADMSG,
				 "segment header: unsupported version %u at byte 8",
				 header.version);
	return 0;
}

/* Waits for the invitation on the socket, and takes part. */
static int join(struct voxshm_link **link, int socket, int64_t deadline,
		struct voxshm_error *error)
{
	struct invitation invitation;
	const struct format *format = NULL;
	int ret;

	ret = bootstrap_receive(socket, &invitation, deadline, error);
	if (ret)
		return ret;
	if (invitation_is_device(&invitation))
		ret = device_claim(&invitation, error);
	if (ret == 0)
		ret = find_format(&invitation, &format, error);
	if (ret == 0)
		ret = format->join(link, &invitation, error);
	invitation_deinit(&invitation);
	return ret;
}

static int set_send_timeout(int socket, int64_t timeout)
{
	struct timeval limit = {
		.tv_sec = timeout / 1000000000,
		.tv_usec = timeout % 1000000000 / 1000,
	};

	if (timeout < 0)
		return 0;
	if (limit.tv_sec == 0 && limit.tv_usec == 0)
		limit.tv_usec = 1;
	return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

int voxshm_guest_connect(struct voxshm_link **link, const char *address, const char *session,
			 int64_t timeout, struct voxshm_error *error)
{
	int64_t deadline = clock_deadline(timeout);
	struct address where;
	int fd, ret;

	*link = NULL;
	error_set(error, 0, "%s", "");
	ret = address_parse(&where, address, error);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(error, -errno, "cannot make a socket");
	ret = set_send_timeout(fd, timeout);
	if (ret)
		goto close_fd;
	if (connect(fd, &where.any, where.size) < 0) {
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
		error_errno(error, ret, "no host answers at %s", address);
		goto close_fd;
	}
	ret = bootstrap_request(fd, session, error);
	/* A host that refuses does so before it has read a long request. */
	if (ret == 0 || ret == -EPIPE)
		ret = join(link, fd, deadline, error);
close_fd:
	close(fd);
	return ret;
}

int voxshm_guest_claim(struct voxshm_link **link, int ticket, struct voxshm_error *error)
{
	struct stat stat;
	int ret;

	*link = NULL;
	error_set(error, 0, "%s", "");
	if (fstat(ticket, &stat) < 0)
		return error_errno(error, -errno, "descriptor %d is not a ticket", ticket);
	if (S_ISSOCK(stat.st_mode))
		ret = join(link, ticket, clock_now(), error);
	else
		ret = error_set(error, -EPROTO, "descriptor %d is not a ticket", ticket);
	/* A ticket waits with its answer: an empty one is no ticket. */
	if (ret == -ETIMEDOUT)
		ret = error_set(error, -EPROTO, "descriptor %d holds no invitation", ticket);
	close(ticket);
	return ret;
}

int voxshm_guest_inherit(struct voxshm_link **link, struct voxshm_error *error)
{
	const char *text = getenv("VOXSHM_TICKET");
	char *end;
	long fd;

	*link = NULL;
	if (!text)
		return error_set(error, -ENOENT,
				 "VOXSHM_TICKET is not set: a host did not start this program");
	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno || *text == '\0' || *end || fd < 0 || fd > INT_MAX) {
		error_set(error, -EINVAL, "VOXSHM_TICKET is not a descriptor: %s", text);
		unsetenv("VOXSHM_TICKET");
		return -EINVAL;
	}
	unsetenv("VOXSHM_TICKET");
	return voxshm_guest_claim(link, (int)fd, error);
}
