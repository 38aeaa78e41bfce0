// SPDX-License-Identifier: MIT
/*
 * answers.c - a hostile host that lets a guest in, and gives it descriptors of
 * the wrong kind: in each place of its answer each kind in turn. The guest
 * refuses with an error, or has a link that ends with one; it keeps nothing.
 */
#include "attack.h"

enum kind {
	KIND_PIPE, KIND_PIPE_END, KIND_ZERO, KIND_NULL, KIND_DIRECTORY, KIND_EVENTFD, KIND_EPOLL,
	KIND_STREAM, KIND_DATAGRAM, KIND_SEQPACKET, KIND_UDP, KIND_PROGRAM,
	KIND_EMPTY, KIND_SHORT, KIND_LESS_A_PAGE, KIND_UNSEALED, KIND_SEALED_TO_GROW_ONLY,
	KIND_READ_ONLY, KIND_WRITE_ONLY, KIND_ZEROS, KIND_RANDOM, KIND_HUGE,
	KINDS,
};

FIXTURE(answers)
{
	struct signal_pipe ready;
	char address[64];
	int fds_before;
};
VARIANTS(answers)

FIXTURE_SETUP(answers)
{
	if (variant->choice.backend != VOXSHM_BACKEND_FILE)
		SKIP(_exit(255), "on the device the answer is one descriptor of the module's");
	self->fds_before = count_fds();
	self->ready = signal_pipe_new();
}

FIXTURE_TEARDOWN(answers)
{
	signal_pipe_free(&self->ready);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* The host -------------------------------------------------------------------------- */

static int socket_of(int type, int domain)
{
	int fd = socket(domain, type | SOCK_CLOEXEC, 0);

	REQUIRE(fd >= 0);
	return fd;
}

/* A memfd of that size with what the original has at first, then sealed. */
static int copy_of(int original, off_t size, int seals)
{
	int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat status;
	uint8_t *bytes;

	REQUIRE(fd >= 0 && fstat(original, &status) == 0);
	bytes = calloc(1, (size_t)status.st_size);
	REQUIRE(bytes && pread(original, bytes, (size_t)status.st_size, 0) >= 0);
	REQUIRE_EQ(size, pwrite(fd, bytes, (size_t)size, 0));
	if (seals)
		REQUIRE_EQ(0, fcntl(fd, F_ADD_SEALS, seals));
	free(bytes);
	return fd;
}

static int reopened(int original, int flags)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", original);
	fd = open(name, flags | O_CLOEXEC);
	REQUIRE(fd >= 0);
	return fd;
}

static int filled(off_t size, bool random)
{
	int fd = memfd_create("filled", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	REQUIRE(fd >= 0 && ftruncate(fd, size) == 0);
	if (random) {
		uint8_t *bytes = malloc((size_t)size);

		REQUIRE(bytes);
		pattern_fill(bytes, (size_t)size, 1);
		REQUIRE_EQ(size, pwrite(fd, bytes, (size_t)size, 0));
		free(bytes);
	}
	REQUIRE_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	return fd;
}

static int huge(off_t size)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	/* Where there are none, any other memory that will not do. */
	if (fd < 0 || ftruncate(fd, (size + 2 * (off_t)MIB - 1) / (2 * MIB) * 2 * MIB) < 0)
		return filled(0, false);
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	return fd;
}

/* Of that kind, in place of the original, which may be a socket. */
static int make(enum kind kind, int original)
{
	const int sealed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat status;
	bool is_memory;
	int fds[2];

	REQUIRE_EQ(0, fstat(original, &status));
	is_memory = S_ISREG(status.st_mode);
	REQUIRE_EQ(0, pipe2(fds, O_CLOEXEC));
	switch (kind) {
	case KIND_PIPE:
		return fds[0];
	case KIND_PIPE_END:
		return fds[1];
	case KIND_ZERO:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case KIND_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case KIND_DIRECTORY:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case KIND_EVENTFD:
		return eventfd(0, EFD_CLOEXEC);
	case KIND_EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	case KIND_STREAM:
		return socket_of(SOCK_STREAM, AF_UNIX);
	case KIND_DATAGRAM:
		return socket_of(SOCK_DGRAM, AF_UNIX);
	case KIND_SEQPACKET:
		return socket_of(SOCK_SEQPACKET, AF_UNIX);
	case KIND_UDP:
		return socket_of(SOCK_DGRAM, AF_INET);
	case KIND_PROGRAM:
		return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	case KIND_EMPTY:
		return filled(0, false);
	case KIND_SHORT:
		return is_memory ? copy_of(original, 100, sealed) : filled(100, false);
	case KIND_LESS_A_PAGE:
		return is_memory ? copy_of(original, status.st_size - 4096, sealed) :
				   filled(4096, false);
	case KIND_UNSEALED:
		return is_memory ? copy_of(original, status.st_size, 0) : filled(1, true);
	case KIND_SEALED_TO_GROW_ONLY:
		return is_memory ? copy_of(original, status.st_size, F_SEAL_GROW) : filled(2, true);
	case KIND_READ_ONLY:
		return is_memory ? reopened(original, O_RDONLY) : filled(3, true);
	case KIND_WRITE_ONLY:
		return is_memory ? reopened(original, O_WRONLY) : filled(4, true);
	case KIND_ZEROS:
		return filled(is_memory ? status.st_size : 65536, false);
	case KIND_RANDOM:
		return filled(is_memory ? status.st_size : 65536, true);
	default:
		return huge(is_memory ? status.st_size : 65536);
	}
}

struct answering {
	const char *address;
	struct variant_choice choice;
	struct signal_pipe ready;
	int place;
	enum kind kind;
};

/* Lets one guest in, with another descriptor in that place. */
static void host_run(const struct answering *self)
{
	const struct answering *variant = self;	/* for CONFIG */
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct invitation invitation;
	struct voxshm_host *host;
	struct voxshm_link *link;
	int listener, socket;
	char request[64];

	REQUIRE_EQ(0, voxshm_host_new(&host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 2,
						     .ring_capacity = 4096), NULL));
	REQUIRE_EQ(0, host_link_new(host, &link, &invitation, NULL));
	invitation.fds[self->place] = make(self->kind, invitation.fds[self->place]);
	listener = socket_of(SOCK_STREAM, AF_UNIX);
	memcpy(un.sun_path + 1, self->address + 1, strlen(self->address + 1));
	REQUIRE_EQ(0, bind(listener, (struct sockaddr *)&un,
			   offsetof(struct sockaddr_un, sun_path) + strlen(self->address)));
	REQUIRE_EQ(0, listen(listener, 1));
	signal_send(&self->ready);
	socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	REQUIRE(socket >= 0 && read(socket, request, sizeof(request)) >= 6);
	REQUIRE_EQ(0, bootstrap_invite(socket, &invitation));
	for (;;)
		pause();
}

/* The guest --------------------------------------------------------------------------- */

/* Was it let in? Then every call returns, and nothing it reads or writes is not there. */
static void use(struct __test_metadata *_metadata, struct voxshm_link *link)
{
	static const uint8_t data[30000];
	struct voxshm_view view;

	for (size_t size = 10; size <= sizeof(data); size *= 10) {
		EXPECT_GE(0, voxshm_send(link, data, size, MS));
		EXPECT_GT(0, voxshm_recv(link, &view, MS));
	}
	voxshm_link_close(link);
}

/* Return: 0, or what voxshm_guest_connect() returned. */
static int meet(struct __test_metadata *_metadata, FIXTURE_DATA(answers) *self,
		const struct variant_choice *choice, int place, enum kind kind)
{
	struct answering host = { abstract_address(self->address), *choice, self->ready, place,
				  kind };
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;
	pid_t pid = child_fork();
	int ret;

	if (pid == 0)
		host_run(&host);
	signal_await(&self->ready);
	ret = voxshm_guest_connect(&link, self->address, NULL, PATIENCE, &error);
	EXPECT_EQ(ret == 0, link != NULL);
	if (ret == 0)
		use(_metadata, link);
	else
		EXPECT_NE(0, *error.text);
	child_kill(pid);
	return ret;
}

/* Is what the guest gets of any use to it? Then it may be let in. */
static bool will_do(const struct variant_choice *choice, int place, enum kind kind)
{
	bool vox = choice->format == VOXSHM_FORMAT_VOX;

	if (place == INVITATION_DOORBELL)
		return kind == KIND_STREAM && vox;	/* that nobody holds the other end of */
	if (place == INVITATION_SEGMENT)
		return !vox && kind == KIND_READ_ONLY;	/* it writes nothing there */
	return vox ? kind == KIND_DATAGRAM : kind == KIND_ZEROS || kind == KIND_RANDOM;
}

static void meet_all(struct __test_metadata *_metadata, FIXTURE_DATA(answers) *self,
		     const struct variant_choice *choice, int place)
{
	for (int kind = 0; kind < KINDS; kind++) {
		int ret = meet(_metadata, self, choice, place, (enum kind)kind);

		if (!will_do(choice, place, (enum kind)kind))
			EXPECT_TRUE(ret == -EPROTO || ret == -EBADMSG || ret == -EPIPE ||
				    ret == -EACCES)
				TH_LOG("kind %d: %d", kind, ret);
	}
}

TEST_F_TIMEOUT(answers, in_place_of_the_doorbell, 60)
{
	meet_all(_metadata, self, &variant->choice, INVITATION_DOORBELL);
}

TEST_F_TIMEOUT(answers, in_place_of_the_segment, 60)
{
	meet_all(_metadata, self, &variant->choice, INVITATION_SEGMENT);
}

TEST_F_TIMEOUT(answers, in_place_of_the_third, 60)
{
	meet_all(_metadata, self, &variant->choice, INVITATION_THIRD);
}

LINK_TEST_MAIN(NULL)
