/* SPDX-License-Identifier: MIT */
/*
 * arguments.c - every field of every call's struct wrong once.
 */
#include "arguments.h"

/* One field wrong. */
struct wrong {
	const char *what;
	size_t offset;
	size_t size;
	uint64_t value;
	int error;
};
#define WRONG(type, field, value, error)						\
	{ #field " = " #value, offsetof(struct type, field), sizeof(((struct type *)0)->field), \
	  value, error }

static void refused_each(ARGUMENTS, int fd, unsigned long request, const void *good,
			 const struct wrong *wrongs, size_t count)
{
	size_t i, size = _IOC_SIZE(request);
	char argument[512];

	for (i = 0; i < count; i++) {
		memcpy(argument, good, size);
		memcpy(argument + wrongs[i].offset, &wrongs[i].value, wrongs[i].size);
		refused(_metadata, self, wrongs[i].what, wrongs[i].error, fd, request, argument,
			size);
	}
}
#define REFUSED_EACH(fd, request, good, wrongs) \
	refused_each(_metadata, self, fd, request, good, wrongs, ARRAY_SIZE(wrongs))

TEST_F_TIMEOUT(arguments, create_fields, 120)
{
	struct voxshm_ioc_create good = create_default();
	const size_t page = page_size();
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_create, main_size, 0, EINVAL),
		WRONG(voxshm_ioc_create, main_size, 1, EINVAL),
		WRONG(voxshm_ioc_create, main_size, page - 1, EINVAL),
		WRONG(voxshm_ioc_create, main_size, page + 1, EINVAL),
		WRONG(voxshm_ioc_create, main_size, VOXSHM_SIZE_MAX + page, E2BIG),
		WRONG(voxshm_ioc_create, main_size, 1ull << 63, E2BIG),
		WRONG(voxshm_ioc_create, main_size, 0 - (uint64_t)page, E2BIG),
		WRONG(voxshm_ioc_create, window_size, 0, EINVAL),
		WRONG(voxshm_ioc_create, window_size, 1, EINVAL),
		WRONG(voxshm_ioc_create, window_size, page + 8, EINVAL),
		WRONG(voxshm_ioc_create, window_size, VOXSHM_SIZE_MAX + page, E2BIG),
		WRONG(voxshm_ioc_create, window_size, 0 - (uint64_t)page, E2BIG),
		WRONG(voxshm_ioc_create, guest_objects, VOXSHM_OBJECTS_MAX + 1, EINVAL),
		WRONG(voxshm_ioc_create, guest_objects, UINT32_MAX, EINVAL),
		WRONG(voxshm_ioc_create, max_guests, 0, EINVAL),
		WRONG(voxshm_ioc_create, max_guests, VOXSHM_GUESTS_MAX + 1, EINVAL),
		WRONG(voxshm_ioc_create, max_guests, UINT32_MAX, EINVAL),
		WRONG(voxshm_ioc_create, flags, 1, EINVAL),
		WRONG(voxshm_ioc_create, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_create, reserved, 1, EINVAL),
		WRONG(voxshm_ioc_create, reserved, 1u << 31, EINVAL),
	};
	struct voxshm_ioc_link link = { 0 };

	REFUSED_EACH(self->device, VOXSHM_IOC_CREATE, &good, wrongs);
	/* It is no segment yet, and can still become one. */
	EXPECT_EQ(-ENOTTY, call(self->device, VOXSHM_IOC_LINK, &link));
	EXPECT_EQ(0, call(self->device, VOXSHM_IOC_CREATE, &good));
}

TEST_F_TIMEOUT(arguments, create_label, 120)
{
	static const char *const bad[] = {
		"a b", "a/b", "a:b", "a\nb", "a\tb", "a=b", "a,b", "a@b", "a[b", "a`b", "a{b",
		"a%b", "a\\b", "a\"b", "\x7f", "\x80", "\xc3\xa9", "\x01", "../x", " ",
	};
	struct voxshm_ioc_create create;
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		create = create_default();
		memset(create.label, 0, sizeof(create.label));
		snprintf(create.label, sizeof(create.label), "%s", bad[i]);
		refused(_metadata, self, bad[i], EINVAL, self->device, VOXSHM_IOC_CREATE, &create,
			sizeof(create));
	}
	create = create_default();
	memset(create.label, 'a', sizeof(create.label));
	refused(_metadata, self, "a label without its NUL", EINVAL, self->device,
		VOXSHM_IOC_CREATE, &create, sizeof(create));

	create.label[VOXSHM_LABEL_MAX - 1] = '\0';
	fd = segment_create(&create);
	EXPECT_GE(fd, 0);
	close(fd);
	memset(create.label, 0, sizeof(create.label));
	fd = segment_create(&create);
	EXPECT_GE(fd, 0);
	close(fd);
	strcpy(create.label, "AZaz09._-");
	fd = segment_create(&create);
	EXPECT_GE(fd, 0);
	close(fd);
}

TEST_F_TIMEOUT(arguments, create_edges_are_accepted, 120)
{
	struct voxshm_ioc_create create = create_default();
	int fd;

	create.max_guests = VOXSHM_GUESTS_MAX;
	create.guest_objects = VOXSHM_OBJECTS_MAX;
	create.main_size = create.window_size = page_size();
	fd = segment_create(&create);
	EXPECT_GE(fd, 0);
	close(fd);
	create.max_guests = 1;
	create.guest_objects = 0;
	create.guest_bytes = 0;
	fd = segment_create(&create);
	EXPECT_GE(fd, 0);
	close(fd);
}

TEST_F_TIMEOUT(arguments, create_twice, 120)
{
	struct voxshm_ioc_create create = create_default();

	refused(_metadata, self, "a segment already", EBUSY, self->pair.segment, VOXSHM_IOC_CREATE,
		&create, sizeof(create));
}

TEST_F_TIMEOUT(arguments, create_needs_reading_and_writing, 120)
{
	struct voxshm_ioc_create create = create_default();
	int reader = device_open(O_RDONLY), writer = device_open(O_WRONLY);

	ASSERT_GE(reader, 0);
	ASSERT_GE(writer, 0);
	EXPECT_EQ(-EACCES, call(reader, VOXSHM_IOC_CREATE, &create));
	EXPECT_EQ(-EACCES, call(writer, VOXSHM_IOC_CREATE, &create));
	close(reader);
	close(writer);
}

TEST_F_TIMEOUT(arguments, link_fields, 120)
{
	struct voxshm_ioc_link good = { .host_fd = POISON, .guest_fd = POISON, .epoch = POISON };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_link, flags, 1, EINVAL),
		WRONG(voxshm_ioc_link, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_link, reserved, 1, EINVAL),
		WRONG(voxshm_ioc_link, reserved, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_link, peer_id, create_default().max_guests + 1, EINVAL),
		WRONG(voxshm_ioc_link, peer_id, VOXSHM_GUESTS_MAX + 1, EINVAL),
		WRONG(voxshm_ioc_link, peer_id, UINT32_MAX, EINVAL),
		WRONG(voxshm_ioc_link, peer_id, self->pair.link.peer_id, EBUSY),
	};
	struct link others[8];
	uint32_t i, made = create_default().max_guests - 1;

	REFUSED_EACH(self->pair.segment, VOXSHM_IOC_LINK, &good, wrongs);
	for (i = 0; i < made; i++)
		others[i] = link_new(self->pair.segment);
	snapshot_take(&self->pair, &self->before);
	refused(_metadata, self, "all peer ids taken", EUSERS, self->pair.segment,
		VOXSHM_IOC_LINK, &good, sizeof(good));
	for (i = 0; i < made; i++)
		link_close(&others[i]);
}

TEST_F_TIMEOUT(arguments, link_without_free_descriptors, 120)
{
	struct voxshm_ioc_link link = { .peer_id = 5, .host_fd = POISON, .guest_fd = POISON };
	struct rlimit limit, few;
	int highest = dup(0), room;

	close(highest);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	for (room = 0; room < 2; room++) {
		/* The room is for reading /proc too: so the snapshot comes after. */
		struct voxshm_ioc_link argument = link;

		few = limit;
		few.rlim_cur = highest + room;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
		EXPECT_EQ(-EMFILE, call(self->pair.segment, VOXSHM_IOC_LINK, &argument));
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		EXPECT_EQ(0, memcmp(&link, &argument, sizeof(link)));
		EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
	}
	/* The peer id was not taken, and no life of it was counted. */
	EXPECT_EQ(0, call(self->pair.segment, VOXSHM_IOC_LINK, &link));
	EXPECT_EQ(5, link.peer_id);
}

TEST_F_TIMEOUT(arguments, grow_fields, 120)
{
	const size_t page = page_size();
	struct voxshm_ioc_grow good = { .size = page, .pool = POISON };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_grow, size, 0, EINVAL),
		WRONG(voxshm_ioc_grow, size, 1, EINVAL),
		WRONG(voxshm_ioc_grow, size, page + 1, EINVAL),
		WRONG(voxshm_ioc_grow, size, VOXSHM_SIZE_MAX + page, E2BIG),
		WRONG(voxshm_ioc_grow, size, 0 - (uint64_t)page, E2BIG),
		WRONG(voxshm_ioc_grow, flags, 1, EINVAL),
		WRONG(voxshm_ioc_grow, flags, 1u << 31, EINVAL),
	};

	REFUSED_EACH(self->pair.segment, VOXSHM_IOC_GROW, &good, wrongs);
}

/* Descriptors that are no eventfd. */
struct others {
	int pipes[2], socket[2], file, epoll, closed;
};

static void others_open(struct others *others)
{
	REQUIRE_EQ(0, pipe2(others->pipes, O_CLOEXEC));
	REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others->socket));
	others->file = memfd_create("file", MFD_CLOEXEC);
	others->epoll = epoll_create1(EPOLL_CLOEXEC);
	others->closed = dup(0);
	close(others->closed);
}

static void others_close(struct others *others)
{
	close(others->pipes[0]);
	close(others->pipes[1]);
	close(others->socket[0]);
	close(others->socket[1]);
	close(others->file);
	close(others->epoll);
}

/* BIND and CLAIM have the same wrongs: their structs begin alike. */
static void refuses_other_than_eventfds(ARGUMENTS, int end, unsigned long request, void *argument)
{
	int *eventfd = argument;
	struct others others;
	size_t i;

	others_open(&others);
	snapshot_take(&self->pair, &self->before);
	{
		const int none[] = { -1, others.closed, INT_MAX, INT_MIN };
		const int bad[] = { others.pipes[0], others.pipes[1], others.socket[0],
				    others.file, others.epoll, end, self->pair.segment,
				    self->device, self->pair.link.host, self->pair.link.guest };

		for (i = 0; i < ARRAY_SIZE(none); i++) {
			*eventfd = none[i];
			refused(_metadata, self, "no open descriptor", EBADF, end, request,
				argument, _IOC_SIZE(request));
		}
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			*eventfd = bad[i];
			refused(_metadata, self, "not an eventfd", EINVAL, end, request, argument,
				_IOC_SIZE(request));
		}
	}
	others_close(&others);
}

TEST_F_TIMEOUT(arguments, bind_fields, 120)
{
	struct voxshm_ioc_bind good = { .eventfd = self->pair.host_bell };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_bind, flags, 1, EINVAL),
		WRONG(voxshm_ioc_bind, flags, 1u << 31, EINVAL),
	};

	REFUSED_EACH(self->pair.link.host, VOXSHM_IOC_BIND, &good, wrongs);
	refuses_other_than_eventfds(_metadata, self, self->pair.link.host, VOXSHM_IOC_BIND, &good);
	/* The doorbell from before is still the one. */
	EXPECT_EQ(0, ring(self->pair.link.guest));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
}

TEST_F_TIMEOUT(arguments, claim_fields, 120)
{
	struct voxshm_ioc_claim good = { .eventfd = self->pair.guest_bell, .peer_id = POISON,
					 .epoch = POISON, .main_size = POISON,
					 .window_size = POISON, .pools = POISON };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_claim, flags, 1, EINVAL),
		WRONG(voxshm_ioc_claim, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_claim, reserved, 1, EINVAL),
		WRONG(voxshm_ioc_claim, reserved, 1u << 31, EINVAL),
	};
	struct link link = link_new(self->pair.segment);

	snapshot_take(&self->pair, &self->before);
	REFUSED_EACH(link.guest, VOXSHM_IOC_CLAIM, &good, wrongs);
	refuses_other_than_eventfds(_metadata, self, link.guest, VOXSHM_IOC_CLAIM, &good);
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(link.host));
	good.eventfd = self->pair.guest_bell;
	EXPECT_EQ(0, call(link.guest, VOXSHM_IOC_CLAIM, &good));
	EXPECT_EQ(link.peer_id, good.peer_id);
	EXPECT_EQ(link.epoch, good.epoch);
	EXPECT_EQ(create_default().main_size, good.main_size);
	EXPECT_EQ(create_default().window_size, good.window_size);
	EXPECT_EQ(0, good.pools);
	link_close(&link);
	doorbell_drain(self->pair.guest_bell);
}

TEST_F_TIMEOUT(arguments, object_create_fields, 120)
{
	const size_t page = page_size();
	struct voxshm_ioc_object good = { .size = page, .index = 1 };
	const struct wrong both[] = {
		WRONG(voxshm_ioc_object, size, 0, EINVAL),
		WRONG(voxshm_ioc_object, size, 1, EINVAL),
		WRONG(voxshm_ioc_object, size, page + 1, EINVAL),
		WRONG(voxshm_ioc_object, flags, 1, EINVAL),
		WRONG(voxshm_ioc_object, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_object, index, VOXSHM_OBJECTS_MAX, EINVAL),
		WRONG(voxshm_ioc_object, index, UINT32_MAX, EINVAL),
		WRONG(voxshm_ioc_object, index, 0, EEXIST),
	};
	const struct wrong host[] = {
		WRONG(voxshm_ioc_object, size, VOXSHM_SIZE_MAX + page, E2BIG),
		WRONG(voxshm_ioc_object, size, 0 - (uint64_t)page, E2BIG),
	};
	const struct wrong guest[] = {
		WRONG(voxshm_ioc_object, index, create_default().guest_objects, EINVAL),
		WRONG(voxshm_ioc_object, size, create_default().guest_bytes, EDQUOT),
	};

	REFUSED_EACH(self->pair.link.host, VOXSHM_IOC_OBJECT_CREATE, &good, both);
	REFUSED_EACH(self->pair.link.guest, VOXSHM_IOC_OBJECT_CREATE, &good, both);
	REFUSED_EACH(self->pair.link.host, VOXSHM_IOC_OBJECT_CREATE, &good, host);
	REFUSED_EACH(self->pair.link.guest, VOXSHM_IOC_OBJECT_CREATE, &good, guest);
	EXPECT_EQ(-ENXIO, map_error(self->pair.link.host, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST + 1),
				    page, PROT_READ, MAP_SHARED));
}

TEST_F_TIMEOUT(arguments, object_drop_fields, 120)
{
	struct voxshm_ioc_drop good = { .index = 0 };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_drop, flags, 1, EINVAL),
		WRONG(voxshm_ioc_drop, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_drop, index, 1, ENOENT),
		WRONG(voxshm_ioc_drop, index, create_default().guest_objects - 1, ENOENT),
	};
	struct voxshm_ioc_drop beyond = { .index = UINT32_MAX };
	int ret;

	REFUSED_EACH(self->pair.link.host, VOXSHM_IOC_OBJECT_DROP, &good, wrongs);
	REFUSED_EACH(self->pair.link.guest, VOXSHM_IOC_OBJECT_DROP, &good, wrongs);
	ret = call(self->pair.link.host, VOXSHM_IOC_OBJECT_DROP, &beyond);
	EXPECT_TRUE(ret == -ENOENT || ret == -EINVAL);
	EXPECT_EQ(0, map_error(self->pair.link.host, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST),
			       page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(0, map_error(self->pair.link.host, VOXSHM_OFFSET(VOXSHM_OBJECT_GUEST),
			       page_size(), PROT_READ, MAP_SHARED));
}

TEST_F_TIMEOUT(arguments, detach_fields, 120)
{
	struct voxshm_ioc_detach good = { .flags = 0 };
	const struct wrong wrongs[] = {
		WRONG(voxshm_ioc_detach, flags, 1, EINVAL),
		WRONG(voxshm_ioc_detach, flags, 1u << 31, EINVAL),
		WRONG(voxshm_ioc_detach, reserved, 1, EINVAL),
		WRONG(voxshm_ioc_detach, reserved, 1u << 31, EINVAL),
	};

	REFUSED_EACH(self->pair.link.host, VOXSHM_IOC_DETACH, &good, wrongs);
	REFUSED_EACH(self->pair.link.guest, VOXSHM_IOC_DETACH, &good, wrongs);
}

VOXSHM_TEST_MAIN
