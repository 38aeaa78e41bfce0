/* SPDX-License-Identifier: MIT */
/*
 * memcg.c - memory is charged to the memory cgroup of whoever asks for it; what
 * does not fit there is ENOMEM, and nobody is killed for it.
 */
#include "processes.h"

#define SMALL		(24 * MIB)
#define LARGE		(64 * MIB)
/* What a process and the kernel's own batching may add. */
#define SLACK		(4 * MIB)

FIXTURE(memcg) {
	struct cgroup cgroup;
	bool missing;
	uint64_t limit;
	int segment;
	int bell;
};

FIXTURE_SETUP(memcg)
{
	self->limit = parameter_get("max_bytes");
	ASSERT_EQ(0, parameter_set("max_bytes", 16 * 1024 * MIB));
	self->bell = doorbell_new();
	self->missing = !cgroup_new(&self->cgroup, SMALL);
}

FIXTURE_TEARDOWN(memcg)
{
	EXPECT_EQ(0, parameter_set("max_bytes", self->limit));
	if (!self->missing)
		cgroup_free(&self->cgroup);
}

#define NEED_CGROUP() do {								\
	if (self->missing)								\
		SKIP(return, "no memory cgroups (v2) here");				\
} while (0)

static int segment_with_window(uint64_t size)
{
	struct voxshm_ioc_create create = create_default();
	int fd;

	create.window_size = size;
	fd = segment_create(&create);
	REQUIRE(fd >= 0);
	return fd;
}

/* A guest in the cgroup: says what CLAIM returned, and stays. */
static int claims_there(int socket, void *argument)
{
	FIXTURE_DATA(memcg) *self = argument;
	int ticket, ret;

	KEEP_ONLY(socket);
	cgroup_enter(&self->cgroup);
	ticket = fd_receive(socket);
	ret = claim_with(ticket, doorbell_new(), NULL);
	REQUIRE_EQ(sizeof(ret), write(socket, &ret, sizeof(ret)));
	hear(socket);
	return 0;
}

static struct child start_claim(FIXTURE_DATA(memcg) *self, int ticket, int *ret)
{
	struct child child = child_start(claims_there, self);

	fd_send(child.socket, ticket);
	REQUIRE_EQ(sizeof(*ret), recv(child.socket, ret, sizeof(*ret), MSG_WAITALL));
	return child;
}

TEST_F_TIMEOUT(memcg, a_guest_that_cannot_pay_for_its_window, 100)
{
	struct child child;
	struct link link;
	uint64_t killed;
	char *window;
	int segment, ret;

	NEED_CGROUP();
	segment = segment_with_window(LARGE);
	link = link_new(segment);
	ASSERT_EQ(0, bind_to(link.host, self->bell));
	killed = cgroup_read(&self->cgroup, "memory.events", "oom_kill");
	child = start_claim(self, link.guest, &ret);
	EXPECT_EQ(-ENOMEM, ret);
	/* It lives, and so does everybody else. */
	EXPECT_EQ(killed, cgroup_read(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(link.host));
	EXPECT_EQ(0, doorbell_take(self->bell));
	say(child.socket, 'q');
	EXPECT_EQ(0, child_reap(&child));
	/* Nothing of it is left in the cgroup's account. */
	EXPECT_TRUE(EVENTUALLY(cgroup_read(&self->cgroup, "memory.current", "") < SLACK));
	/* The host's window works, and somebody richer can claim the ticket. */
	window = map_object(link.host, VOXSHM_OBJECT_WINDOW, LARGE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, window);
	window[LARGE - 1] = 'h';
	EXPECT_EQ(0, claim_with(link.guest, self->bell, NULL));
	EXPECT_EQ('h', window[LARGE - 1]);
	window[LARGE / 2] = 'h';
	link_close(&link);
	close(segment);
}

TEST_F_TIMEOUT(memcg, the_window_is_charged_to_the_claimer, 100)
{
	const uint64_t size = 12 * MIB;
	uint64_t before, now;
	struct child child;
	struct link link;
	int segment, ret;

	NEED_CGROUP();
	segment = segment_with_window(size);
	link = link_new(segment);
	before = cgroup_read(&self->cgroup, "memory.current", "");
	child = start_claim(self, link.guest, &ret);
	ASSERT_EQ(0, ret);
	close(link.guest);
	now = cgroup_read(&self->cgroup, "memory.current", "");
	EXPECT_GE(now, before + size);
	EXPECT_LE(now, before + size + SLACK);
	/* The host keeps the dead guest's window, and the guest's cgroup pays for it. */
	child_kill(&child);
	EXPECT_TRUE(EVENTUALLY(state_beyond(link.host) == VOXSHM_STATE_ENDED));
	EXPECT_GE(cgroup_read(&self->cgroup, "memory.current", ""), size);
	close(link.host);
	EXPECT_TRUE(EVENTUALLY(cgroup_read(&self->cgroup, "memory.current", "") <
			       before + SLACK));
	close(segment);
}

/* A host in the cgroup ---------------------------------------------------------------- */

static int hosts_there(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	FIXTURE_DATA(memcg) *self = argument;
	struct link link;
	uint64_t start;
	int segment;

	cgroup_enter(&self->cgroup);
	create.main_size = LARGE;
	REQUIRE_EQ(-ENOMEM, segment_create(&create));
	create.main_size = page_size();
	create.window_size = LARGE;
	create.guest_bytes = 2 * LARGE;
	segment = segment_create(&create);
	REQUIRE(segment >= 0);
	REQUIRE_EQ(-ENOMEM, grow(segment, LARGE, NULL));
	/* A window costs the host nothing. */
	start = cgroup_read(&self->cgroup, "memory.current", "");
	link = link_new(segment);
	REQUIRE(cgroup_read(&self->cgroup, "memory.current", "") < start + SLACK);
	fd_send(socket, link.guest);
	REQUIRE_EQ('c', hear(socket));
	REQUIRE(cgroup_read(&self->cgroup, "memory.current", "") < start + SLACK);
	REQUIRE_EQ(-ENOMEM, object_create(link.host, 0, LARGE));
	REQUIRE_EQ(0, object_create(link.host, 0, page_size()));
	REQUIRE_EQ(0, grow(segment, page_size(), NULL));
	/* Touching what the guest has paid for is no charge either. */
	memset(map_object(link.host, VOXSHM_OBJECT_WINDOW, LARGE, PROT_READ | PROT_WRITE), 1,
	       LARGE);
	REQUIRE(cgroup_read(&self->cgroup, "memory.current", "") < start + SLACK);
	return 0;
}

TEST_F_TIMEOUT(memcg, a_host_that_cannot_pay, 100)
{
	struct child child;
	uint64_t killed;
	int ticket;

	NEED_CGROUP();
	killed = cgroup_read(&self->cgroup, "memory.events", "oom_kill");
	child = child_start(hosts_there, self);
	ticket = fd_receive(child.socket);
	ASSERT_EQ(0, claim_with(ticket, self->bell, NULL));
	say(child.socket, 'c');
	EXPECT_EQ(0, child_reap(&child));
	EXPECT_EQ(killed, cgroup_read(&self->cgroup, "memory.events", "oom_kill"));
	close(ticket);
	EXPECT_TRUE(EVENTUALLY(cgroup_read(&self->cgroup, "memory.current", "") < SLACK));
}

VOXSHM_TEST_MAIN
