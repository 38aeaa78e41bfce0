// SPDX-License-Identifier: MIT
/* strangers.c - whatever answers at an address, a guest that comes there fails cleanly. */
#include "processes.h"

/* The header of a response; see the memory formats' bootstrap. */
struct response {
	char magic[4];
	uint8_t status;
	uint32_t peer_id;
	uint16_t length;
} __attribute__((packed));

#define MOST_FDS 8

struct stranger;
typedef void answer_fn(struct stranger *stranger, int socket);

/* Somebody who listens at an address and answers in his own way. */
struct stranger {
	char address[64];
	int listener;
	answer_fn *answer;
	const void *argument;
	size_t size;
	pthread_t thread;
	_Atomic bool done;
};

static int abstract_socket(const char *address, bool listening)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	REQUIRE(fd >= 0);
	memcpy(un.sun_path + 1, address + 1, strlen(address + 1));
	if (listening) {
		REQUIRE_EQ(0, bind(fd, (struct sockaddr *)&un, size));
		REQUIRE_EQ(0, listen(fd, 0));
	} else {
		REQUIRE_EQ(0, connect(fd, (struct sockaddr *)&un, size));
	}
	return fd;
}

static void *stranger_run(void *argument)
{
	struct stranger *stranger = argument;
	char request[64];
	int socket = accept4(stranger->listener, NULL, NULL, SOCK_CLOEXEC);

	REQUIRE(socket >= 0);
	REQUIRE(read(socket, request, sizeof(request)) >= 6);
	REQUIRE(!memcmp(request, "RSH0", 4));
	stranger->answer(stranger, socket);
	while (!stranger->done)
		sleep_ms(1);
	close(socket);
	return NULL;
}

/* Connects to such a one. Return: what voxshm_guest_connect() returned. */
static int connect_to(struct __test_metadata *_metadata, answer_fn *answer, const void *argument,
		      size_t size, int64_t timeout)
{
	struct stranger stranger = { .answer = answer, .argument = argument, .size = size };
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;
	int ret;

	abstract_address(stranger.address);
	stranger.listener = abstract_socket(stranger.address, true);
	stranger.thread = thread_start(stranger_run, &stranger);
	ret = voxshm_guest_connect(&link, stranger.address, NULL, timeout, &error);
	EXPECT_TRUE((ret < 0) == (*error.text != 0));
	if (ret == 0)
		voxshm_link_close(link);
	stranger.done = true;
	thread_join(stranger.thread);
	close(stranger.listener);
	return ret;
}

static void send_fds(int socket, const void *bytes, size_t size, const int *fds, int count)
{
	char control[CMSG_SPACE(MOST_FDS * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)bytes, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header;

	if (count) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	REQUIRE_EQ(size, sendmsg(socket, &message, MSG_NOSIGNAL));
}

FIXTURE(strangers)
{
	int fds_before;
};

FIXTURE_SETUP(strangers)
{
	self->fds_before = count_fds();
}

FIXTURE_TEARDOWN(strangers)
{
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

static void answer_bytes(struct stranger *stranger, int socket)
{
	if (stranger->size)
		REQUIRE_EQ(stranger->size, send(socket, stranger->argument, stranger->size,
						MSG_NOSIGNAL));
}

static void answer_bytes_and_close(struct stranger *stranger, int socket)
{
	answer_bytes(stranger, socket);
	shutdown(socket, SHUT_RDWR);
}

#define EXPECT_ENDED(call) do {							\
	int came_ = (call);							\
	EXPECT_TRUE(came_ == -EPROTO || came_ == -EPIPE)			\
		TH_LOG("came %d", came_);					\
} while (0)

TEST_F(strangers, silence_is_etimedout)
{
	int64_t start = now_ns();

	EXPECT_EQ(-ETIMEDOUT, connect_to(_metadata, answer_bytes, NULL, 0, 50 * MS));
	EXPECT_LE(50 * MS, now_ns() - start);
	EXPECT_GT(5 * SECOND * slowness(), now_ns() - start);
}

TEST_F(strangers, hanging_up_is_an_error)
{
	EXPECT_ENDED(connect_to(_metadata, answer_bytes_and_close, NULL, 0, PATIENCE));
	EXPECT_ENDED(connect_to(_metadata, answer_bytes_and_close, "RSP0\0\1", 6, PATIENCE));
}

TEST_F(strangers, half_an_answer_is_etimedout)
{
	struct response refusal = { "RSP0", 1, 0, 100 };

	EXPECT_EQ(-ETIMEDOUT, connect_to(_metadata, answer_bytes, "RSP", 3, 20 * MS));
	EXPECT_EQ(-ETIMEDOUT, connect_to(_metadata, answer_bytes, &refusal, sizeof(refusal),
					 20 * MS));
}

TEST_F(strangers, another_protocol_is_eproto)
{
	static const char http[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
	static const char zeros[4096];
	uint8_t ones[64];

	memset(ones, 0xff, sizeof(ones));
	EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_bytes, http, sizeof(http), PATIENCE));
	EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_bytes, zeros, sizeof(zeros), PATIENCE));
	EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_bytes, ones, sizeof(ones), PATIENCE));
	EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_bytes_and_close, http, sizeof(http),
				      PATIENCE));
}

TEST_F(strangers, success_without_descriptors_is_eproto)
{
	struct response success = { "RSP0", 0, 1, 0 };

	EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_bytes, &success, sizeof(success),
				      PATIENCE));
}

static void answer_dribble(struct stranger *stranger, int socket)
{
	for (size_t i = 0; i < stranger->size; i++) {
		REQUIRE_EQ(1, send(socket, (const char *)stranger->argument + i, 1, MSG_NOSIGNAL));
		sleep_ms(1);
	}
}

TEST_F(strangers, refusal_byte_by_byte_is_a_refusal)
{
	char bytes[sizeof(struct response) + 9];
	struct response refusal = { "RSP0", 1, 0, 9 };

	memcpy(bytes, &refusal, sizeof(refusal));
	memcpy(bytes + sizeof(refusal), "not today", 9);
	EXPECT_EQ(-EACCES, connect_to(_metadata, answer_dribble, bytes, sizeof(bytes), PATIENCE));
}

/* Whole answers with descriptors of the wrong number and kind. */
struct strange_answer {
	struct response response;
	int fds;
};

static void answer_with_pipes(struct stranger *stranger, int socket)
{
	const struct strange_answer *answer = stranger->argument;
	int fds[MOST_FDS];

	for (int i = 0; i < MOST_FDS; i += 2)
		REQUIRE_EQ(0, pipe2(fds + i, O_CLOEXEC));
	send_fds(socket, &answer->response, sizeof(answer->response), fds, answer->fds);
	for (int i = 0; i < MOST_FDS; i++)
		close(fds[i]);
}

TEST_F(strangers, wrong_number_of_descriptors_is_eproto)
{
	static const int counts[] = { 1, 2, 4, 5, 8 };

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct strange_answer answer = { { "RSP0", 0, 1, 0 }, counts[i] };

		EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_with_pipes, &answer, 0, PATIENCE))
			TH_LOG("%d descriptors", counts[i]);
	}
}

TEST_F(strangers, impossible_header_is_eproto)
{
	static const struct strange_answer answers[] = {
		{ { "RSP0", 0, 0, 0 }, 3 },	/* no peer has id 0 */
		{ { "RSP0", 0, 256, 0 }, 3 },
		{ { "RSP0", 0, UINT32_MAX, 0 }, 3 },
		{ { "RSP0", 2, 1, 0 }, 3 },	/* no such status */
		{ { "RSP0", 255, 1, 0 }, 3 },
		{ { "RSP1", 0, 1, 0 }, 3 },
		{ { "RSP0", 1, 0, 0 }, 3 },	/* a refusal with descriptors */
		{ { "RSP0", 1, 5, 0 }, 0 },	/* a refusal with a peer id */
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		EXPECT_EQ(-EPROTO, connect_to(_metadata, answer_with_pipes, &answers[i], 0, PATIENCE))
			TH_LOG("answer %zu", i);
	}
}

TEST_F(strangers, descriptors_that_are_no_memory_are_refused)
{
	static const struct strange_answer answer = { { "RSP0", 0, 1, 0 }, 3 };
	int ret = connect_to(_metadata, answer_with_pipes, &answer, 0, PATIENCE);

	EXPECT_TRUE(ret == -EPROTO || ret == -EBADMSG)
		TH_LOG("came %d", ret);
}

TEST_F(strangers, crowded_address_is_etimedout)
{
	struct voxshm_link *link = NULL;
	char address[64];
	int listener = abstract_socket(abstract_address(address), true), waiting[2];
	int64_t start = now_ns();

	/* The queue is full: even connect() would wait. */
	for (int i = 0; i < 2; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };

		waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		memcpy(un.sun_path + 1, address + 1, strlen(address + 1));
		if (connect(waiting[i], (struct sockaddr *)&un,
			    offsetof(struct sockaddr_un, sun_path) + strlen(address)) < 0)
			EXPECT_EQ(EAGAIN, errno);
	}
	EXPECT_EQ(-ETIMEDOUT, voxshm_guest_connect(&link, address, NULL, 50 * MS, NULL));
	EXPECT_GT(5 * SECOND * slowness(), now_ns() - start);
	close(waiting[0]);
	close(waiting[1]);
	close(listener);
}

/* A real host's answer, with one thing about its memory changed --------------------- */

FIXTURE(impostor)
{
	struct signal_pipe ready;
	char address[64];
	pid_t host;
	int fds_before;
};
VARIANTS(impostor)

FIXTURE_SETUP(impostor)
{
	if (variant->choice.backend != VOXSHM_BACKEND_FILE)
		SKIP(_exit(255), "only the file backend passes memory as files");
	abstract_address(self->address);
	self->ready = signal_pipe_new();
	self->host = child_fork();
	if (self->host == 0) {
		struct inbox inbox = { 0 };
		const struct voxshm_event *event;

		/* Many places: that of a guest which never claims may be free late. */
		REQUIRE_EQ(0, voxshm_host_new(&inbox.host,
					      &CONFIG(variant, SMALL_CLASSES, .max_guests = 255,
						      .ring_capacity = 4096), NULL));
		REQUIRE_EQ(0, voxshm_host_listen(inbox.host, self->address, 0, NULL, NULL, NULL));
		signal_send(&self->ready);
		for (;;) {
			event = inbox_next(&inbox, SECOND);
			if (event && event->type >= VOXSHM_EVENT_LEFT)
				voxshm_link_close(event->link);
		}
	}
	signal_await(&self->ready);
	self->fds_before = count_fds();
}

FIXTURE_TEARDOWN(impostor)
{
	EXPECT_EQ(self->fds_before, count_fds());
	child_kill(self->host);
	signal_pipe_free(&self->ready);
}

/* What to change: a file (1 segment, 2 third) and how. */
struct change {
	const char *address;
	int file;
	enum { NOTHING, EMPTY, SHORT, UNSEALED, BYTE, READ_ONLY } kind;
	size_t offset;
	uint8_t mask;
};

static int changed_copy(int original, const struct change *change)
{
	int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes;
	struct stat stat;
	off_t size;

	REQUIRE_EQ(0, fstat(original, &stat));
	size = change->kind == EMPTY ? 0 : change->kind == SHORT ? 100 : stat.st_size;
	bytes = malloc(stat.st_size);
	REQUIRE(bytes && pread(original, bytes, stat.st_size, 0) == stat.st_size);
	if (change->kind == BYTE)
		bytes[change->offset] ^= change->mask;
	REQUIRE_EQ(size, write(copy, bytes, size));
	free(bytes);
	if (change->kind != UNSEALED)
		REQUIRE_EQ(0, fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	return copy;
}

/* Gets a place from the real host and passes it on, changed. */
static void answer_changed(struct stranger *stranger, int socket)
{
	const struct change *change = stranger->argument;
	char control[CMSG_SPACE(3 * sizeof(int))], bytes[512];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int fds[3], to_host;
	ssize_t size;

	/* A place may still be on its way back. */
	for (;;) {
		to_host = abstract_socket(change->address, false);
		REQUIRE_EQ(6, write(to_host, "RSH0\0\0", 6));
		size = recvmsg(to_host, &message, MSG_CMSG_CLOEXEC);
		REQUIRE(size >= (ssize_t)sizeof(struct response));
		close(to_host);
		if (bytes[4] == 0)
			break;
		message.msg_controllen = sizeof(control);
		sleep_ms(1);
	}
	REQUIRE(CMSG_FIRSTHDR(&message));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
	if (change->kind != NOTHING) {
		int copy = changed_copy(fds[change->file], change);

		close(fds[change->file]);
		fds[change->file] = copy;
	}
	send_fds(socket, bytes, size, fds, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static int connect_changed(struct __test_metadata *_metadata, const char *address,
			   struct change change)
{
	change.address = address;
	return connect_to(_metadata, answer_changed, &change, 0, PATIENCE);
}

#define EXPECT_NO_HOST(...) do {							\
	int came_ = connect_changed(_metadata, self->address,				\
				    (struct change){ __VA_ARGS__ });			\
	EXPECT_TRUE(came_ == -EPROTO || came_ == -EBADMSG)				\
		TH_LOG("came %d", came_);						\
} while (0)

TEST_F(impostor, unchanged_answer_works)
{
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(0, connect_changed(_metadata, self->address,
					     (struct change){ .kind = NOTHING }));
	}
}

TEST_F(impostor, memory_that_could_shrink_is_refused)
{
	if (variant->choice.format == VOXSHM_FORMAT_VOX)
		SKIP(return, "a vox segment may be a file, which cannot be sealed");
	EXPECT_NO_HOST(.file = 1, .kind = UNSEALED);
	EXPECT_NO_HOST(.file = 2, .kind = UNSEALED);
}

TEST_F(impostor, memory_that_is_too_short_is_refused)
{
	EXPECT_NO_HOST(.file = 1, .kind = EMPTY);
	EXPECT_NO_HOST(.file = 1, .kind = SHORT);
	if (variant->choice.format == VOXSHM_FORMAT_NATIVE) {
		EXPECT_NO_HOST(.file = 2, .kind = EMPTY);
		EXPECT_NO_HOST(.file = 2, .kind = SHORT);
	}
}

TEST_F(impostor, wrong_magic_version_or_header_size_is_refused)
{
	for (size_t offset = 0; offset < 16; offset++)
		EXPECT_NO_HOST(.file = 1, .kind = BYTE, .offset = offset, .mask = 0x10);
}

TEST_F_TIMEOUT(impostor, no_single_wrong_byte_in_the_header_does_harm, 60)
{
	static const uint8_t masks[] = { 0xff, 0x80, 0x01 };

	for (size_t offset = 16; offset < 128; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
			int ret = connect_changed(_metadata, self->address, (struct change){
				.file = 1, .kind = BYTE, .offset = offset, .mask = masks[i] });

			/* A vox segment may claim to grow beyond all address space. */
			EXPECT_TRUE(ret == 0 || ret == -EPROTO || ret == -EBADMSG ||
				    ret == -ENOMEM)
				TH_LOG("offset %zu mask %02x: %d", offset, masks[i], ret);
		}
	}
}

LINK_TEST_MAIN(NULL)
