/* SPDX-License-Identifier: MIT */
/* backend_file.c - memfds, socketpairs and pidfds; see backend.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend.h"
#include "backend_file.h"
#include "error.h"
#include "link.h"

/* How much is taken at once: a doorbell costs 1, memory about as much as 16. */
#define COST_PER_DRAIN 64
#define COST_OF_OFFER 16
/*
 * A socket with the kernel's default buffer takes 277 messages: the offers of all, some
 * doorbells, and a farewell.
 */
#define MAPPINGS_MAX 256u

static void ring(struct end *end)
{
	/* A full queue is a doorbell that rings already; a dead peer needs none. */
	(void)!send(end->wake_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int send_message(int socket, const struct file_message *message, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)message, .iov_len = sizeof(*message) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	if (sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EAGAIN ? -ENOBUFS : errno == ECONNRESET ? -EPIPE : -errno;
	return 0;
}

static int offer(struct end *end, uint32_t map_id, uint32_t generation,
		 const struct memory *memory)
{
	struct file_message message = {
		.kind = FILE_MESSAGE_OFFER,
		.map_id = map_id,
		.generation = generation,
		.size = memory->size,
	};

	return send_message(end->wake_fd, &message, memory->fd);
}

static void leave(struct end *end)
{
	struct file_message message = { .kind = FILE_MESSAGE_LEAVE };

	send_message(end->wake_fd, &message, -1);
}

/* What came beside a message: at most one descriptor is of use. */
struct ancillary {
	int fd;
	bool bad;
	bool has_credentials;
	struct ucred credentials;
};

static void parse_fds(const struct cmsghdr *cmsg, struct ancillary *ancillary)
{
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	size_t i;
	int fd;

	for (i = 0; i < count; i++) {
		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
		if (ancillary->fd < 0) {
			ancillary->fd = fd;
		} else {
			close(fd);
			ancillary->bad = true;
		}
	}
}

static void parse_ancillary(struct msghdr *header, struct ancillary *ancillary)
{
	struct cmsghdr *cmsg;

	*ancillary = (struct ancillary){ .fd = -1, .bad = header->msg_flags & MSG_CTRUNC };
	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS) {
			parse_fds(cmsg, ancillary);
		} else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&ancillary->credentials, CMSG_DATA(cmsg),
			       sizeof(ancillary->credentials));
			ancillary->has_credentials = true;
		}
	}
}

/* The claim names the process for good; later ones are not listened to. */
static void claimed(struct end *end, const struct ancillary *ancillary)
{
	const struct ucred *credentials = &ancillary->credentials;

	if (end->claimed)
		return;
	end->claimed = true;
	if (!end->child && ancillary->has_credentials)
		end_set_peer(end, credentials->pid, credentials->uid, credentials->gid);
	setsockopt(end->wake_fd, SOL_SOCKET, SO_PASSCRED, &(int){ 0 }, sizeof(int));
}

/* Return: 0, -EBADMSG, or as link_object(). The descriptor is taken over. */
static int handle_message(struct end *end, struct voxshm_link *link,
			  const struct file_message *message, struct ancillary *ancillary)
{
	int fd = ancillary->fd;

	if (ancillary->bad || message->reserved || (fd >= 0) != (message->kind == FILE_MESSAGE_OFFER)) {
		if (fd >= 0)
			close(fd);
		return -EBADMSG;
	}
	switch (message->kind) {
	case FILE_MESSAGE_CLAIM:
		claimed(end, ancillary);
		return 0;
	case FILE_MESSAGE_LEAVE:
		end->left = true;
		return 0;
	case FILE_MESSAGE_OFFER:
		return link_object(link, message->map_id, message->generation, message->size, fd);
	default:
		return -EBADMSG;
	}
}

/* An offer came without its descriptor: this process may have no more. */
static bool lacks_descriptor(const struct msghdr *header, ssize_t size,
			     const struct file_message *message, const struct ancillary *ancillary)
{
	return size == sizeof(*message) && message->kind == FILE_MESSAGE_OFFER &&
	       ancillary->fd < 0 && (header->msg_flags & MSG_CTRUNC);
}

/* The message that was looked at is done with. */
static void take_message(struct end *end)
{
	(void)!recv(end->wake_fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC);
}

/*
 * Looks at a message first, with a descriptor of its own of what comes with it,
 * because what cannot be taken now must not be lost.
 * Return: what it cost when there may be more, 0 when not, -EBADMSG.
 */
static int drain_message(struct end *end, struct voxshm_link *link)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct file_message message;
	struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct ancillary ancillary;
	ssize_t size;
	int ret;

	size = recvmsg(end->wake_fd, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* The peer closed with messages of ours unread; its own still wait here. */
	if (size < 0 && errno == ECONNRESET)
		return 1;
	if (size < 0) {
		end->hangup = true;
		return 0;
	}
	parse_ancillary(&header, &ancillary);
	/* An empty message is no end of file if something came beside it. */
	if (size == 0 && ancillary.fd < 0 && !ancillary.bad) {
		end->hangup = true;
		return 0;
	}
	if (size == 1 && ancillary.fd < 0 && !ancillary.bad) {
		take_message(end);
		end->knocks++;
		return 1;
	}
	if (lacks_descriptor(&header, size, &message, &ancillary)) {
		end->shortage = -EMFILE;
		return 0;
	}
	if (size != sizeof(message) || (header.msg_flags & MSG_TRUNC)) {
		if (ancillary.fd >= 0)
			close(ancillary.fd);
		return -EBADMSG;
	}
	ret = handle_message(end, link, &message, &ancillary);
	if (ret == 0) {
		take_message(end);
		end->knocks += message.kind == FILE_MESSAGE_OFFER ? END_KNOCKS_OF_OFFER : 1;
		return message.kind == FILE_MESSAGE_OFFER ? COST_OF_OFFER : 1;
	}
	if (ret == -EBADMSG)
		return -EBADMSG;
	end->shortage = ret;
	return 0;
}

static int drain(struct end *end, struct voxshm_link *link)
{
	int cost = 0, ret = 1;

	end->shortage = 0;
	while (cost < COST_PER_DRAIN && ret > 0) {
		ret = drain_message(end, link);
		cost += ret;
	}
	end->more = ret > 0;
	atomic_store(&end->deaf, end->shortage != 0);
	return ret < 0 ? ret : 0;
}

static void end_free(struct end *end)
{
	close(end->wake_fd);
	end_deinit(end);
	free(end);
}

static const struct end_ops file_ops = {
	.backend_name = "file",
	.ring = ring,
	.drain = drain,
	.offer = offer,
	.leave = leave,
	.free = end_free,
};

static int end_new(struct end **out, int socket)
{
	struct end *end = malloc(sizeof(*end));

	if (!end)
		return -ENOMEM;
	end_init(end, &file_ops);
	end->wake_fd = socket;
	*out = end;
	return 0;
}

static int end_pair(struct end **host_end, int *guest_socket)
{
	int sockets[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	setsockopt(sockets[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int));
	ret = end_new(host_end, sockets[0]);
	if (ret) {
		close(sockets[0]);
		close(sockets[1]);
		return ret;
	}
	*guest_socket = sockets[1];
	return 0;
}

/* Becomes the guest of the host that made the socketpair, and tells it. */
static int end_claim(struct end **out, int socket)
{
	struct file_message message = { .kind = FILE_MESSAGE_CLAIM };
	struct ucred host = { 0 };
	socklen_t size = sizeof(host);
	struct end *end;
	int ret;

	if (!end_is_socket(socket, SOCK_SEQPACKET))
		return -EPROTO;
	ret = end_new(&end, socket);
	if (ret)
		return ret;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &host, &size) == 0)
		end_set_peer(end, host.pid, host.uid, host.gid);
	end->claimed = true;
	ret = send_message(socket, &message, -1);
	if (ret == -ENOTCONN)
		ret = -EPROTO;
	if (ret) {
		end_deinit(end);
		free(end);
		return ret;
	}
	*out = end;
	return 0;
}

static int probe(struct voxshm_error *error)
{
	(void)error;
	return 0;
}

/* Each link brings its own window, and each mapping its memory. */
static int segment_new(struct memory *main, const struct segment_needs *needs,
		       struct voxshm_error *error)
{
	int ret;

	if (needs->max_mappings > MAPPINGS_MAX)
		return error_set(error, -EINVAL, "max_mappings is %u, above the file backend's %u",
				 needs->max_mappings, MAPPINGS_MAX);
	ret = memory_new(main, "voxshm-main", needs->main_size);
	return ret ? error_errno(error, ret, "cannot make the segment's main object") : 0;
}

static int link_new(const struct memory *main, uint32_t peer_id, size_t window_size,
		    struct memory *window, struct end **end, struct invitation *invitation)
{
	int ret;

	(void)peer_id;
	ret = memory_new(window, "voxshm-window", window_size);
	if (ret)
		return ret;
	invitation->fds[INVITATION_SEGMENT] = fcntl(main->fd, F_DUPFD_CLOEXEC, 0);
	if (invitation->fds[INVITATION_SEGMENT] < 0) {
		ret = -errno;
		goto free_window;
	}
	ret = end_pair(end, &invitation->fds[INVITATION_DOORBELL]);
	if (ret)
		goto free_window;
	/* On this side only the pages are needed from here on. */
	invitation->fds[INVITATION_THIRD] = window->fd;
	window->fd = -1;
	return 0;

free_window:
	memory_free(window);
	return ret;
}

static int claim(struct invitation *invitation, size_t window_size, struct memory *window,
		 struct end **end)
{
	int ret;

	ret = memory_map(window, invitation->fds[INVITATION_THIRD], window_size,
			 PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	/* Only the pages are needed from here on. */
	window->fd = -1;
	ret = end_claim(end, invitation->fds[INVITATION_DOORBELL]);
	if (ret) {
		memory_free(window);
		return ret;
	}
	invitation->fds[INVITATION_DOORBELL] = -1;
	return 0;
}

const struct backend file_backend = {
	.name = "file",
	.id = VOXSHM_BACKEND_FILE,
	.probe = probe,
	.segment_new = segment_new,
	.main_seal = memory_seal_writes,
	.link_new = link_new,
	.claim = claim,
};
