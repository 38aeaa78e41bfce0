/* SPDX-License-Identifier: MIT */
/* bootstrap.c - requests and responses on a UNIX socket; see bootstrap.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bootstrap.h"
#include "end.h"
#include "error.h"
#include "link.h"

enum {
	STATUS_SUCCESS = 0,
	STATUS_ERROR = 1,
};

void invitation_init(struct invitation *invitation)
{
	int i;

	invitation->peer_id = 0;
	invitation->end = NULL;
	invitation->main = MEMORY_NONE;
	invitation->payload[0] = '\0';
	for (i = 0; i < INVITATION_FDS; i++)
		invitation->fds[i] = -1;
}

void invitation_deinit(struct invitation *invitation)
{
	int i;

	for (i = 0; i < INVITATION_FDS; i++) {
		if (invitation->fds[i] >= 0)
			close(invitation->fds[i]);
		invitation->fds[i] = -1;
	}
	memory_free(&invitation->main);
	if (invitation->end)
		invitation->end->ops->free(invitation->end);
	invitation->end = NULL;
}

/* Guest -------------------------------------------------------------------- */

int bootstrap_request(int socket, const char *session, struct voxshm_error *error)
{
	size_t session_size = session ? strlen(session) : 0, sent = 0, size;
	uint16_t length = (uint16_t)session_size;
	uint8_t *bytes;
	ssize_t ret = 0;

	if (session_size > BOOTSTRAP_MAX_SESSION)
		return error_set(error, -ENAMETOOLONG, "the session is longer than %u bytes",
				 BOOTSTRAP_MAX_SESSION);
	size = BOOTSTRAP_REQUEST_HEADER + session_size;
	bytes = malloc(size);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, "RSH0", 4);
	memcpy(bytes + 4, &length, sizeof(length));
	if (session_size)
		memcpy(bytes + BOOTSTRAP_REQUEST_HEADER, session, session_size);
	while (sent < size) {
		ret = send(socket, bytes + sent, size - sent, MSG_NOSIGNAL);
		if (ret < 0)
			break;
		sent += (size_t)ret;
	}
	ret = ret < 0 ? -errno : 0;
	free(bytes);
	return ret ? error_errno(error, (int)ret, "cannot send to the host") : 0;
}

/* What came so far of a response. */
struct response {
	uint8_t bytes[BOOTSTRAP_RESPONSE_HEADER + BOOTSTRAP_MAX_PAYLOAD];
	size_t size;
	int fds[INVITATION_FDS];
	int num_fds;
	bool bad;
};

static void take_fds(struct response *response, struct msghdr *header)
{
	struct cmsghdr *cmsg;
	size_t count, i;
	int fd;

	/* All come with one message, or the answer makes no sense. */
	if ((header->msg_flags & MSG_CTRUNC) || (header->msg_controllen && response->num_fds))
		response->bad = true;
	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (response->num_fds < INVITATION_FDS) {
				response->fds[response->num_fds++] = fd;
			} else {
				close(fd);
				response->bad = true;
			}
		}
	}
}

static int wait_readable(int socket, int64_t deadline)
{
	struct pollfd pollfd = { .fd = socket, .events = POLLIN };
	int64_t left;
	int ret, ms;

	do {
		ms = -1;
		if (deadline >= 0) {
			left = (deadline - clock_now() + 999999) / 1000000;
			ms = left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
		}
		ret = poll(&pollfd, 1, ms);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret ? 0 : -ETIMEDOUT;
}

/* Receives until `wanted` bytes are there. */
static int receive_bytes(int socket, struct response *response, size_t wanted, int64_t deadline)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE((INVITATION_FDS + 1) * sizeof(int))];
	} control;
	ssize_t size;
	int ret;

	while (response->size < wanted) {
		struct iovec iov = {
			.iov_base = response->bytes + response->size,
			.iov_len = wanted - response->size,
		};
		struct msghdr header = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};

		ret = wait_readable(socket, deadline);
		if (ret)
			return ret;
		size = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (size < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		if (size == 0)
			return -EPIPE;
		take_fds(response, &header);
		response->size += (size_t)size;
	}
	return 0;
}

static int receive_response(int socket, struct response *response, int64_t deadline,
			    uint16_t *length)
{
	int ret;

	ret = receive_bytes(socket, response, BOOTSTRAP_RESPONSE_HEADER, deadline);
	if (ret)
		return ret;
	if (memcmp(response->bytes, "RSP0", 4))
		return -EPROTO;
	memcpy(length, response->bytes + 9, sizeof(*length));
	if (*length > BOOTSTRAP_MAX_PAYLOAD)
		return -EPROTO;
	return receive_bytes(socket, response, BOOTSTRAP_RESPONSE_HEADER + *length, deadline);
}

static int accept_response(const struct response *response, uint16_t length,
			   struct invitation *invitation, struct voxshm_error *error)
{
	const char *payload = (const char *)response->bytes + BOOTSTRAP_RESPONSE_HEADER;
	uint32_t peer_id;

	memcpy(&peer_id, response->bytes + 5, sizeof(peer_id));
	if (response->bad)
		return -EPROTO;
	if (response->bytes[4] == STATUS_ERROR && peer_id == 0 && response->num_fds == 0) {
		bool full = length == strlen(BOOTSTRAP_REASON_FULL) &&
			    memcmp(payload, BOOTSTRAP_REASON_FULL, length) == 0;

		return error_set(error, full ? -EUSERS : -EACCES, "the host refused: %.*s",
				 (int)length, payload);
	}
	if (response->bytes[4] != STATUS_SUCCESS || peer_id < 1 || peer_id > VOXSHM_MAX_GUESTS)
		return -EPROTO;
	if (response->num_fds != INVITATION_FDS && (response->num_fds != 1 || length))
		return -EPROTO;
	invitation->peer_id = peer_id;
	memcpy(invitation->fds, response->fds, (size_t)response->num_fds * sizeof(int));
	memcpy(invitation->payload, payload, length);
	invitation->payload[length] = '\0';
	return 0;
}

int bootstrap_receive(int socket, struct invitation *invitation, int64_t deadline,
		      struct voxshm_error *error)
{
	struct response response = { .size = 0 };
	uint16_t length = 0;
	int ret, i;

	invitation_init(invitation);
	ret = receive_response(socket, &response, deadline, &length);
	if (ret == 0) {
		ret = accept_response(&response, length, invitation, error);
		if (ret == 0)
			return 0;
	}
	for (i = 0; i < response.num_fds; i++)
		close(response.fds[i]);
	if (ret == -EPROTO)
		error_set(error, ret, "the host's answer makes no sense");
	else if (ret == -ETIMEDOUT)
		error_set(error, ret, "the host did not answer in time");
	else if (ret == -EPIPE)
		error_set(error, ret, "the host closed the connection");
	return ret;
}

/* Host --------------------------------------------------------------------- */

int bootstrap_parse_request(const uint8_t *bytes, size_t size, const char **session,
			    size_t *session_size)
{
	size_t header = size < 4 ? size : 4;
	uint16_t length;

	if (memcmp(bytes, "RSH0", header))
		return -EPROTO;
	if (size < BOOTSTRAP_REQUEST_HEADER)
		return 0;
	memcpy(&length, bytes + 4, sizeof(length));
	if (size > BOOTSTRAP_REQUEST_HEADER + (size_t)length)
		return -EPROTO;
	if (size < BOOTSTRAP_REQUEST_HEADER + (size_t)length)
		return 0;
	*session = (const char *)bytes + BOOTSTRAP_REQUEST_HEADER;
	*session_size = length;
	return (int)size;
}

static int respond(int socket, uint8_t status, uint32_t peer_id, const char *payload,
		   const int *fds, size_t num_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(INVITATION_FDS * sizeof(int))];
	} control = { 0 };
	uint8_t bytes[BOOTSTRAP_RESPONSE_HEADER + BOOTSTRAP_MAX_PAYLOAD];
	size_t length = strnlen(payload, BOOTSTRAP_MAX_PAYLOAD);
	uint16_t length16 = (uint16_t)length;
	struct iovec iov = { .iov_base = bytes, .iov_len = BOOTSTRAP_RESPONSE_HEADER + length };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	memcpy(bytes, "RSP0", 4);
	bytes[4] = status;
	memcpy(bytes + 5, &peer_id, sizeof(peer_id));
	memcpy(bytes + 9, &length16, sizeof(length16));
	memcpy(bytes + BOOTSTRAP_RESPONSE_HEADER, payload, length);
	if (num_fds) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
	}
	sent = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return -errno;
	return (size_t)sent == iov.iov_len ? 0 : -EPROTO;
}

int bootstrap_invite(int socket, const struct invitation *invitation)
{
	return respond(socket, STATUS_SUCCESS, invitation->peer_id, invitation->payload,
		       invitation->fds, invitation_is_device(invitation) ? 1 : INVITATION_FDS);
}

int bootstrap_refuse(int socket, const char *reason)
{
	return respond(socket, STATUS_ERROR, 0, reason, NULL, 0);
}
