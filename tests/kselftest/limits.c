/* SPDX-License-Identifier: MIT */
/*
 * limits.c - what one user, one guest and one memory cgroup may have, that it is
 * given back, and that others do not feel it.
 */
#include "processes.h"

static const char *const names[] = { "max_segments", "max_links", "max_tickets", "max_bytes" };

FIXTURE(limits) {
	char node[64];
	uid_t uid;
	uint64_t before[ARRAY_SIZE(names)];
};

FIXTURE_SETUP(limits)
{
	size_t i;

	node_make(self->node, sizeof(self->node), 0666, 0);
	self->uid = fresh_user();
	for (i = 0; i < ARRAY_SIZE(names); i++)
		self->before[i] = parameter_get(names[i]);
}

FIXTURE_TEARDOWN(limits)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		EXPECT_EQ(0, parameter_set(names[i], self->before[i]));
	EXPECT_TRUE(user_uses_nothing(self->node, self->uid));
	unlink(self->node);
}

/* Of a user of its own; the test's limits are set already. */
static int user_open(void *argument)
{
	FIXTURE_DATA(limits) *self = argument;
	int fd;

	become(self->uid, self->uid);
	fd = open(self->node, O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	return fd;
}

static int user_segment(FIXTURE_DATA(limits) *self, size_t main_pages, size_t window_pages)
{
	struct voxshm_ioc_create create = create_default();
	int fd = open(self->node, O_RDWR | O_CLOEXEC), ret;

	REQUIRE(fd >= 0);
	create.main_size = main_pages * page_size();
	create.window_size = window_pages * page_size();
	create.guest_bytes = 1024 * MIB;
	ret = call(fd, VOXSHM_IOC_CREATE, &create);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

/* Nobody else is short of anything: the child's argument is its own user. */
static int another_user(int socket, void *argument)
{
	struct link link;
	int segment;

	close(user_open(argument));
	segment = user_segment(argument, 1, 1);
	REQUIRE(segment >= 0);
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	return 0;
}

#define LIMITS struct __test_metadata *_metadata, FIXTURE_DATA(limits) *self

/* Runs it as the user; when it says 'f' its user has no more, but another has. */
static void run_as_user(LIMITS, int (*run)(int socket, void *argument))
{
	FIXTURE_DATA(limits) other = *self;
	struct child child = child_start(run, self);

	EXPECT_EQ('f', hear(child.socket));
	other.uid = fresh_user();
	EXPECT_EQ(0, in_child(another_user, &other));
	say(child.socket, 'g');
	EXPECT_EQ(0, child_reap(&child));
}

static void full(int socket)
{
	say(socket, 'f');
	REQUIRE_EQ('g', hear(socket));
}

static int segments_run(int socket, void *argument)
{
	int segments[3], i;

	close(user_open(argument));
	for (i = 0; i < 3; i++)
		REQUIRE((segments[i] = user_segment(argument, 1, 1)) >= 0);
	REQUIRE_EQ(-EDQUOT, user_segment(argument, 1, 1));
	full(socket);
	close(segments[1]);
	REQUIRE(user_segment(argument, 1, 1) >= 0);
	REQUIRE_EQ(-EDQUOT, user_segment(argument, 1, 1));
	return 0;
}

TEST_F_TIMEOUT(limits, segments_of_a_user, 60)
{
	ASSERT_EQ(0, parameter_set("max_segments", 3));
	run_as_user(_metadata, self, segments_run);
}

static int links_run(int socket, void *argument)
{
	struct link links[2], link;
	int segment, bell = doorbell_new();
	char *window;

	close(user_open(argument));
	segment = user_segment(argument, 1, 1);
	REQUIRE_EQ(0, link_at(segment, 0, &links[0]));
	REQUIRE_EQ(0, link_at(segment, 0, &links[1]));
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &link));
	full(socket);
	/* A link counts as long as either end or a mapping is there. */
	REQUIRE_EQ(0, claim_with(links[0].guest, bell, NULL));
	window = map_object(links[0].host, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ);
	REQUIRE(window);
	close(links[0].guest);
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &link));
	close(links[0].host);
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &link));
	munmap(window, page_size());
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	return 0;
}

TEST_F_TIMEOUT(limits, links_of_a_user, 60)
{
	ASSERT_EQ(0, parameter_set("max_links", 2));
	run_as_user(_metadata, self, links_run);
}

static int tickets_run(int socket, void *argument)
{
	struct link links[2], link;
	int segment, bell = doorbell_new();

	close(user_open(argument));
	segment = user_segment(argument, 1, 1);
	REQUIRE_EQ(0, link_at(segment, 0, &links[0]));
	REQUIRE_EQ(0, link_at(segment, 0, &links[1]));
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &link));
	full(socket);
	/* Claimed, it is none any more. */
	REQUIRE_EQ(0, claim_with(links[0].guest, bell, NULL));
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &links[0]));
	/* Nor when it is closed. */
	close(link.guest);
	REQUIRE_EQ(0, link_at(segment, 0, &links[0]));
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &link));
	/* Nor when the host is gone. */
	close(links[0].host);
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	return 0;
}

TEST_F_TIMEOUT(limits, tickets_of_a_user, 60)
{
	ASSERT_EQ(0, parameter_set("max_tickets", 2));
	run_as_user(_metadata, self, tickets_run);
}

/* 16 pages: 4 of main, 4 of a window, 4 of a pool, and objects of both ends. */
static int bytes_run(int socket, void *argument)
{
	const size_t page = page_size();
	int segment, bell = doorbell_new();
	struct link link, more;
	char *object;

	close(user_open(argument));
	REQUIRE_EQ(-EDQUOT, user_segment(argument, 17, 1));
	segment = user_segment(argument, 4, 4);
	REQUIRE(segment >= 0);
	REQUIRE_EQ(-EDQUOT, user_segment(argument, 13, 1));
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	REQUIRE_EQ(0, claim_with(link.guest, bell, NULL));
	REQUIRE_EQ(-EDQUOT, grow(segment, 9 * page, NULL));
	REQUIRE_EQ(0, grow(segment, 4 * page, NULL));
	REQUIRE_EQ(-EDQUOT, object_create(link.host, 0, 5 * page));
	REQUIRE_EQ(0, object_create(link.host, 0, 2 * page));
	REQUIRE_EQ(-EDQUOT, object_create(link.guest, 0, 3 * page));
	REQUIRE_EQ(0, object_create(link.guest, 0, 2 * page));
	REQUIRE_EQ(-EDQUOT, object_create(link.guest, 1, page));
	REQUIRE_EQ(-EDQUOT, link_at(segment, 0, &more));
	full(socket);
	/* Given back when the pages are freed, and that is when nobody maps them. */
	object = map_object(link.host, VOXSHM_OBJECT_GUEST, 2 * page, PROT_READ);
	REQUIRE(object);
	REQUIRE_EQ(0, object_drop(link.guest, 0));
	REQUIRE_EQ(-EDQUOT, object_create(link.guest, 1, page));
	munmap(object, 2 * page);
	REQUIRE_EQ(0, object_create(link.guest, 1, page));
	REQUIRE_EQ(0, object_create(link.guest, 2, page));
	REQUIRE_EQ(-EDQUOT, object_create(link.guest, 3, page));
	/* A link's end gives back its window and its objects. */
	link_close(&link);
	REQUIRE_EQ(0, link_at(segment, 0, &more));
	REQUIRE_EQ(0, grow(segment, 4 * page, NULL));
	REQUIRE_EQ(-EDQUOT, grow(segment, page, NULL));
	return 0;
}

TEST_F_TIMEOUT(limits, bytes_of_a_user, 60)
{
	ASSERT_EQ(0, parameter_set("max_bytes", 16 * page_size()));
	run_as_user(_metadata, self, bytes_run);
}

static int nothing_allowed(int socket, void *argument)
{
	close(user_open(argument));
	REQUIRE_EQ(-EDQUOT, user_segment(argument, 1, 1));
	return 0;
}

TEST_F_TIMEOUT(limits, a_limit_of_nothing, 60)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i += 3) {
		ASSERT_EQ(0, parameter_set(names[i], 0));
		EXPECT_EQ(0, in_child(nothing_allowed, self));
		ASSERT_EQ(0, parameter_set(names[i], self->before[i]));
	}
}

/* What was allowed stays when the limit is lowered below it. */
static int keeps_what_it_has(int socket, void *argument)
{
	int segment, bell = doorbell_new();
	struct link link;

	close(user_open(argument));
	segment = user_segment(argument, 4, 4);
	REQUIRE_EQ(0, link_at(segment, 0, &link));
	full(socket);
	REQUIRE_EQ(-EDQUOT, grow(segment, page_size(), NULL));
	REQUIRE_EQ(0, claim_with(link.guest, bell, NULL));
	REQUIRE_EQ(0, ring(link.host));
	REQUIRE(map_object(link.guest, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ));
	return 0;
}

TEST_F_TIMEOUT(limits, a_limit_lowered_below_what_is_used, 60)
{
	struct child child = child_start(keeps_what_it_has, self);

	EXPECT_EQ('f', hear(child.socket));
	ASSERT_EQ(0, parameter_set("max_bytes", page_size()));
	say(child.socket, 'g');
	EXPECT_EQ(0, child_reap(&child));
}

static int parameters_are_roots(int socket, void *argument)
{
	size_t i;

	close(user_open(argument));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		REQUIRE(parameter_get(names[i]) > 0);
		REQUIRE_EQ(-EACCES, parameter_set(names[i], 1));
	}
	return 0;
}

TEST_F_TIMEOUT(limits, only_root_sets_them, 60)
{
	EXPECT_EQ(0, in_child(parameters_are_roots, self));
}

/* A user is a kuid: one in another user namespace's clothes is the same. */
static int hides_in_a_namespace(int socket, void *argument)
{
	FIXTURE_DATA(limits) *self = argument;

	close(user_open(argument));
	REQUIRE(user_segment(argument, 1, 1) >= 0);
	if (unshare(CLONE_NEWUSER) < 0)
		return 77;
	REQUIRE_EQ(-EDQUOT, user_segment(self, 1, 1));
	return 0;
}

TEST_F_TIMEOUT(limits, a_user_namespace_is_no_second_account, 60)
{
	int ret;

	ASSERT_EQ(0, parameter_set("max_segments", 1));
	ret = in_child(hides_in_a_namespace, self);
	if (ret == 77)
		SKIP(return, "no user namespaces for users here");
	EXPECT_EQ(0, ret);
}

/* Of a guest ----------------------------------------------------------------------- */

TEST_F_TIMEOUT(limits, bytes_and_objects_of_a_guest, 60)
{
	struct voxshm_ioc_create create = create_default();
	const size_t page = page_size();
	struct link second;
	struct pair pair;
	char *map;

	create.guest_bytes = 4 * page;
	create.guest_objects = 3;
	pair_open(&pair, &create);
	EXPECT_EQ(-EDQUOT, object_create(pair.link.guest, 0, 5 * page));
	EXPECT_EQ(0, object_create(pair.link.guest, 0, 2 * page));
	EXPECT_EQ(-EDQUOT, object_create(pair.link.guest, 1, 3 * page));
	EXPECT_EQ(0, object_create(pair.link.guest, 1, page));
	EXPECT_EQ(0, object_create(pair.link.guest, 2, page));
	EXPECT_EQ(-EINVAL, object_create(pair.link.guest, 3, page));
	/* The host has no such limits, and another guest has its own. */
	EXPECT_EQ(0, object_create(pair.link.host, 3, 5 * page));
	second = link_new(pair.segment);
	ASSERT_EQ(0, claim_with(second.guest, pair.guest_bell, NULL));
	EXPECT_EQ(0, object_create(second.guest, 0, 4 * page));
	/* Given back when nobody maps it any more. */
	map = map_object(pair.link.host, VOXSHM_OBJECT_GUEST, page, PROT_READ);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(0, object_drop(pair.link.guest, 0));
	EXPECT_EQ(-EDQUOT, object_create(pair.link.guest, 0, page));
	munmap(map, page);
	EXPECT_EQ(0, object_create(pair.link.guest, 0, 2 * page));
	EXPECT_EQ(-EEXIST, object_create(pair.link.guest, 0, page));
	link_close(&second);
	pair_free(&pair);
}

TEST_F_TIMEOUT(limits, a_guest_without_objects, 60)
{
	struct voxshm_ioc_create create = create_default();
	struct pair pair;

	create.guest_objects = 0;
	pair_open(&pair, &create);
	EXPECT_EQ(-EINVAL, object_create(pair.link.guest, 0, page_size()));
	EXPECT_EQ(0, object_create(pair.link.host, 0, page_size()));
	pair_free(&pair);
}

/* Then the user's limit is the only one. */
TEST_F_TIMEOUT(limits, a_guest_without_a_limit_of_bytes, 60)
{
	struct voxshm_ioc_create create = create_default();
	struct pair pair;

	create.guest_bytes = 0;
	create.guest_objects = 2;
	pair_open(&pair, &create);
	EXPECT_EQ(0, object_create(pair.link.guest, 0, 4 * MIB));
	EXPECT_EQ(0, object_create(pair.link.guest, 1, page_size()));
	EXPECT_EQ(-EINVAL, object_create(pair.link.guest, 2, page_size()));
	pair_free(&pair);
}

VOXSHM_TEST_MAIN
