/* SPDX-License-Identifier: MIT */
/*
 * roles.c - who may make which call: the owner of an end is a process, and a copy
 * of the descriptor, inherited or passed on, makes nobody an owner.
 */
#include "processes.h"

FIXTURE(roles) {
	struct pair pair;
	struct snapshot before;
};

FIXTURE_SETUP(roles)
{
	pair_new(&self->pair);
	ASSERT_EQ(0, object_create(self->pair.link.host, 0, page_size()));
	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, page_size()));
	ASSERT_EQ(0, grow(self->pair.segment, page_size(), NULL));
	doorbell_drain(self->pair.host_bell);
	doorbell_drain(self->pair.guest_bell);
	snapshot_take(&self->pair, &self->before);
}

FIXTURE_TEARDOWN(roles)
{
	EXPECT_EQ(0, doorbell_take(self->pair.host_bell));
	EXPECT_EQ(0, doorbell_take(self->pair.guest_bell));
	pair_free(&self->pair);
}

static void require_no_mapping(int fd)
{
	static const uint32_t ids[] = { VOXSHM_OBJECT_MAIN, VOXSHM_OBJECT_WINDOW,
					VOXSHM_OBJECT_POOL, VOXSHM_OBJECT_HOST,
					VOXSHM_OBJECT_GUEST };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		REQUIRE_EQ(-EPERM, map_error(fd, VOXSHM_OFFSET(ids[i]), page_size(), PROT_READ,
					     MAP_SHARED));
		REQUIRE_EQ(-EPERM, map_error(fd, VOXSHM_OFFSET(ids[i]), page_size(), PROT_NONE,
					     MAP_SHARED));
	}
}

/* Everything that an end's owner may do is refused; what anybody may is not. */
static void require_no_owner(int end, bool is_host)
{
	int doorbell = doorbell_new();

	REQUIRE_EQ(-EPERM, ring(end));
	REQUIRE_EQ(-EPERM, object_create(end, 1, page_size()));
	REQUIRE_EQ(-EPERM, object_drop(end, 0));
	REQUIRE_EQ(-EPERM, detach(end));
	if (is_host)
		REQUIRE_EQ(-EPERM, bind_to(end, doorbell));
	require_no_mapping(end);
	REQUIRE_EQ(VOXSHM_STATE_ATTACHED, state_beyond(end));
	REQUIRE(!hung_up(end));
	close(doorbell);
}

static void require_no_host(int segment)
{
	struct voxshm_ioc_info info;
	struct voxshm_ioc_create create = create_default();
	struct link link;

	REQUIRE_EQ(-EPERM, link_at(segment, 0, &link));
	REQUIRE_EQ(-EPERM, grow(segment, page_size(), NULL));
	REQUIRE_EQ(-EBUSY, call(segment, VOXSHM_IOC_CREATE, &create));
	require_no_mapping(segment);
	REQUIRE_EQ(0, call(segment, VOXSHM_IOC_INFO, &info));
}

static int forked_child(int socket, void *argument)
{
	struct pair *pair = argument;

	require_no_host(pair->segment);
	require_no_owner(pair->link.host, true);
	require_no_owner(pair->link.guest, false);
	return 0;
}

TEST_F_TIMEOUT(roles, forked_children_own_nothing, 60)
{
	EXPECT_EQ(0, in_child(forked_child, &self->pair));
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
	/* And the owner is one as before. */
	EXPECT_EQ(0, ring(self->pair.link.host));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
}

static int receiver(int socket, void *argument)
{
	struct pair pair;

	KEEP_ONLY(socket);
	pair.segment = fd_receive(socket);
	pair.link.host = fd_receive(socket);
	pair.link.guest = fd_receive(socket);
	return forked_child(socket, &pair);
}

TEST_F_TIMEOUT(roles, who_got_the_descriptors_by_message_owns_nothing, 60)
{
	struct child child = child_start(receiver, NULL);

	fd_send(child.socket, self->pair.segment);
	fd_send(child.socket, self->pair.link.host);
	fd_send(child.socket, self->pair.link.guest);
	EXPECT_EQ(0, child_reap(&child));
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
}

static void *thread_calls(void *argument)
{
	struct pair *pair = argument;
	struct link link;
	char *window;

	REQUIRE_EQ(0, ring(pair->link.host));
	REQUIRE_EQ(0, ring(pair->link.guest));
	REQUIRE_EQ(0, object_create(pair->link.host, 1, page_size()));
	REQUIRE_EQ(0, object_drop(pair->link.host, 1));
	REQUIRE_EQ(0, bind_to(pair->link.host, pair->host_bell));
	window = map_object(pair->link.guest, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ);
	REQUIRE(window);
	REQUIRE_EQ(0, link_at(pair->segment, 0, &link));
	link_close(&link);
	return window;
}

TEST_F_TIMEOUT(roles, threads_of_the_owner_are_the_owner, 60)
{
	pthread_t thread;
	void *window;

	ASSERT_EQ(0, pthread_create(&thread, NULL, thread_calls, &self->pair));
	ASSERT_EQ(0, pthread_join(thread, &window));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
}

TEST_F_TIMEOUT(roles, a_copy_of_the_descriptor_serves_the_owner, 60)
{
	int copy = dup(self->pair.link.host);

	EXPECT_EQ(0, ring(copy));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
	close(copy);
	EXPECT_EQ(0, ring(self->pair.link.host));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
}

static int second_claim(int socket, void *argument)
{
	return -claim_with(*(int *)argument, doorbell_new(), NULL);
}

TEST_F_TIMEOUT(roles, a_ticket_is_claimed_once, 60)
{
	EXPECT_EQ(-EBUSY, claim_with(self->pair.link.guest, self->pair.guest_bell, NULL));
	EXPECT_EQ(EBUSY, in_child(second_claim, &self->pair.link.guest));
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
}

static int claiming_child(int socket, void *argument)
{
	struct link *link = argument;

	REQUIRE_EQ(0, claim_with(link->guest, doorbell_new(), NULL));
	say(socket, 'c');
	return hear(socket);
}

TEST_F_TIMEOUT(roles, the_claimer_is_the_guest_and_nobody_else, 60)
{
	struct link link = link_new(self->pair.segment);
	struct child child = child_start(claiming_child, &link);
	struct voxshm_ioc_status status;

	ASSERT_EQ('c', hear(child.socket));
	/* The segment's host holds the guest's end too, and is not its owner. */
	require_no_owner(link.guest, false);
	EXPECT_EQ(-EBUSY, claim_with(link.guest, self->pair.guest_bell, NULL));
	EXPECT_EQ(0, status_of(link.host, &status));
	EXPECT_EQ(child.pid, status.pid);
	EXPECT_EQ(0, status_of(link.guest, &status));
	EXPECT_EQ(getpid(), status.pid);
	child_kill(&child);
	link_close(&link);
}

TEST_F_TIMEOUT(roles, before_the_claim_a_ticket_has_no_owner, 60)
{
	struct link link = link_new(self->pair.segment);

	EXPECT_EQ(-EPERM, ring(link.guest));
	EXPECT_EQ(-EPERM, object_create(link.guest, 0, page_size()));
	EXPECT_EQ(-EPERM, object_drop(link.guest, 0));
	EXPECT_EQ(-EPERM, detach(link.guest));
	require_no_mapping(link.guest);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(link.guest));
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(link.host));
	/* The host's own end has an owner: it may prepare what the guest will find. */
	EXPECT_EQ(0, object_create(link.host, 0, page_size()));
	link_close(&link);
}

TEST_F_TIMEOUT(roles, host_and_guest_in_one_process, 60)
{
	char *host = map_object(self->pair.link.host, VOXSHM_OBJECT_WINDOW, page_size(),
				PROT_READ | PROT_WRITE);
	char *guest = map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page_size(),
				 PROT_READ | PROT_WRITE);
	struct voxshm_ioc_status status;

	ASSERT_NE(NULL, host);
	ASSERT_NE(NULL, guest);
	host[0] = 'h';
	EXPECT_EQ('h', guest[0]);
	EXPECT_EQ(0, status_of(self->pair.link.host, &status));
	EXPECT_EQ(getpid(), status.pid);
	EXPECT_EQ(0, ring(self->pair.link.guest));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_EQ(0, doorbell_take(self->pair.guest_bell));
}

TEST_F_TIMEOUT(roles, no_other_file_operations, 60)
{
	const int fds[] = { self->pair.segment, self->pair.link.host, self->pair.link.guest };
	char byte;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, read(fds[i], &byte, 1));
		EXPECT_EQ(-1, lseek(fds[i], 1, SEEK_SET) > 0 ? 0 : -1);
		EXPECT_EQ(-1, ftruncate(fds[i], 0));
		EXPECT_EQ(-1, fallocate(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					page_size()));
	}
	EXPECT_EQ(-1, write(self->pair.segment, "!", 1));
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
}

VOXSHM_TEST_MAIN
