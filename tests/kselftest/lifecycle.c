/* SPDX-License-Identifier: MIT */
/*
 * lifecycle.c - a link lives like a socketpair: its ends are closed in any order,
 * copied, sent about; a peer id is free again with a higher epoch; memory lives
 * while it is mapped.
 */
#include "processes.h"

FIXTURE(lifecycle) {
	struct pair pair;
	struct link link;	/* a second one, unclaimed */
	int bell;
};

FIXTURE_SETUP(lifecycle)
{
	pair_new(&self->pair);
	self->link = link_new(self->pair.segment);
	self->bell = doorbell_new();
}

FIXTURE_TEARDOWN(lifecycle)
{
	close(self->bell);
	link_close(&self->link);
	pair_free(&self->pair);
}

static struct voxshm_ioc_status status_beyond(int end)
{
	struct voxshm_ioc_status status;

	REQUIRE_EQ(0, status_of(end, &status));
	return status;
}

TEST_F_TIMEOUT(lifecycle, the_states_of_a_link, 60)
{
	struct voxshm_ioc_status status = status_beyond(self->link.host);
	struct voxshm_ioc_claim claim;

	EXPECT_EQ(VOXSHM_STATE_WAITING, status.state);
	EXPECT_EQ(VOXSHM_HOW_NONE, status.how);
	EXPECT_EQ(VOXSHM_EXITED_NOT, status.exit);
	EXPECT_EQ(0, status.pid);
	EXPECT_EQ(self->link.peer_id, status.peer_id);
	EXPECT_EQ(self->link.epoch, status.epoch);
	status = status_beyond(self->link.guest);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, status.state);
	EXPECT_EQ(getpid(), status.pid);
	EXPECT_FALSE(hung_up(self->link.host));
	EXPECT_FALSE(hung_up(self->link.guest));

	ASSERT_EQ(0, claim_with(self->link.guest, self->bell, &claim));
	EXPECT_EQ(self->link.peer_id, claim.peer_id);
	EXPECT_EQ(self->link.epoch, claim.epoch);
	status = status_beyond(self->link.host);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, status.state);
	EXPECT_EQ(getpid(), status.pid);
	EXPECT_EQ(0, status.uid);

	ASSERT_EQ(0, detach(self->link.guest));
	status = status_beyond(self->link.host);
	EXPECT_EQ(VOXSHM_STATE_ENDED, status.state);
	EXPECT_EQ(VOXSHM_HOW_DETACHED, status.how);
	EXPECT_EQ(VOXSHM_EXITED_NOT, status.exit);
	EXPECT_EQ(getpid(), status.pid);
}

/* What the other end sees when this one is closed. */
static void closed_is_seen(struct __test_metadata *_metadata, int closing, int other, int bell)
{
	struct voxshm_ioc_status status;

	doorbell_drain(bell);
	EXPECT_EQ(0, close(closing));
	EXPECT_NE(0, doorbell_wait(bell, PATIENCE_MS));
	status = status_beyond(other);
	EXPECT_EQ(VOXSHM_STATE_ENDED, status.state);
	EXPECT_EQ(VOXSHM_HOW_CLOSED, status.how);
	EXPECT_EQ(VOXSHM_EXITED_NOT, status.exit);
	EXPECT_EQ(getpid(), status.pid);
	EXPECT_TRUE(hung_up(other));
	EXPECT_EQ(-EPIPE, ring(other));
	EXPECT_EQ(-EPIPE, object_create(other, 0, page_size()));
	EXPECT_EQ(0, detach(other));
	EXPECT_EQ(0, close(other));
}

TEST_F_TIMEOUT(lifecycle, the_guest_closes_first, 60)
{
	closed_is_seen(_metadata, self->pair.link.guest, self->pair.link.host,
		       self->pair.host_bell);
}

TEST_F_TIMEOUT(lifecycle, the_host_closes_first, 60)
{
	closed_is_seen(_metadata, self->pair.link.host, self->pair.link.guest,
		       self->pair.guest_bell);
}

TEST_F_TIMEOUT(lifecycle, a_ticket_is_closed_unclaimed, 60)
{
	struct voxshm_ioc_status status;

	ASSERT_EQ(0, bind_to(self->link.host, self->bell));
	doorbell_drain(self->bell);
	close(self->link.guest);
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	status = status_beyond(self->link.host);
	EXPECT_EQ(VOXSHM_STATE_ENDED, status.state);
	EXPECT_EQ(VOXSHM_HOW_UNCLAIMED, status.how);
	EXPECT_EQ(0, status.pid);
	EXPECT_TRUE(hung_up(self->link.host));
	EXPECT_EQ(-EPIPE, ring(self->link.host));
}

TEST_F_TIMEOUT(lifecycle, a_ticket_whose_host_has_closed, 60)
{
	close(self->link.host);
	EXPECT_TRUE(hung_up(self->link.guest));
	EXPECT_EQ(-EPIPE, claim_with(self->link.guest, self->bell, NULL));
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(self->link.guest));
	EXPECT_EQ(0, doorbell_take(self->bell));
}

TEST_F_TIMEOUT(lifecycle, a_ticket_whose_host_has_detached, 60)
{
	EXPECT_EQ(0, detach(self->link.host));
	EXPECT_EQ(-EPIPE, claim_with(self->link.guest, self->bell, NULL));
	EXPECT_EQ(VOXSHM_HOW_DETACHED, status_beyond(self->link.guest).how);
}

TEST_F_TIMEOUT(lifecycle, a_peer_id_is_free_again, 60)
{
	uint32_t epoch = self->link.epoch, peer_id = self->link.peer_id;
	struct link again;
	int way;

	for (way = 0; way < 6; way++) {
		EXPECT_EQ(-EBUSY, link_at(self->pair.segment, peer_id, &again));
		if (way % 2)
			ASSERT_EQ(0, claim_with(self->link.guest, self->bell, NULL));
		/* Either end's end does it, though the other end still is there. */
		if (way < 2)
			close(self->link.guest);
		else if (way < 4)
			close(self->link.host);
		else
			EXPECT_EQ(0, detach(way % 2 ? self->link.guest : self->link.host));
		ASSERT_EQ(0, link_at(self->pair.segment, peer_id, &again));
		EXPECT_EQ(peer_id, again.peer_id);
		EXPECT_GT(again.epoch, epoch);
		epoch = again.epoch;
		self->link = again;
	}
}

TEST_F_TIMEOUT(lifecycle, link_takes_the_lowest_free_peer_id, 60)
{
	struct link third = link_new(self->pair.segment), again;

	EXPECT_EQ(1, self->pair.link.peer_id);
	EXPECT_EQ(2, self->link.peer_id);
	EXPECT_EQ(3, third.peer_id);
	close(self->link.guest);
	again = link_new(self->pair.segment);
	EXPECT_EQ(2, again.peer_id);
	EXPECT_EQ(2, again.epoch);
	EXPECT_EQ(1, third.epoch);
}

TEST_F_TIMEOUT(lifecycle, ends_are_close_on_exec, 60)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->link.host, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->link.guest, F_GETFD));
}

TEST_F_TIMEOUT(lifecycle, the_last_copy_counts, 60)
{
	int copy = dup(self->pair.link.guest);

	close(self->pair.link.guest);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	EXPECT_EQ(0, ring(copy));
	close(copy);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(self->pair.link.host));
}

TEST_F_TIMEOUT(lifecycle, a_descriptor_in_flight_counts, 60)
{
	int sockets[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	fd_send(sockets[0], self->pair.link.guest);
	close(self->pair.link.guest);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	self->pair.link.guest = fd_receive(sockets[1]);
	EXPECT_EQ(0, ring(self->pair.link.guest));
	fd_send(sockets[0], self->pair.link.guest);
	close(self->pair.link.guest);
	close(sockets[0]);
	close(sockets[1]);
	/* Never received: gone with its socket. */
	EXPECT_TRUE(EVENTUALLY(state_beyond(self->pair.link.host) == VOXSHM_STATE_ENDED));
	EXPECT_EQ(VOXSHM_HOW_CLOSED, status_beyond(self->pair.link.host).how);
}

TEST_F_TIMEOUT(lifecycle, mappings_keep_a_link_alive, 60)
{
	const size_t page = page_size();
	char *window = map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page,
				  PROT_READ | PROT_WRITE);
	char *main = map_object(self->pair.link.guest, VOXSHM_OBJECT_MAIN, page, PROT_READ);

	ASSERT_TRUE(window && main);
	close(self->pair.link.guest);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	munmap(window, page);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(self->pair.link.host));
	EXPECT_EQ(VOXSHM_HOW_CLOSED, status_beyond(self->pair.link.host).how);
	munmap(main, page);
}

TEST_F_TIMEOUT(lifecycle, unmapping_the_window_is_an_end, 60)
{
	const size_t page = page_size();
	const int ends[] = { self->pair.link.guest, self->pair.link.host };
	char *first = map_object(ends[0], VOXSHM_OBJECT_WINDOW, 2 * page, PROT_READ);
	char *second = map_object(ends[0], VOXSHM_OBJECT_WINDOW, page, PROT_READ);
	struct link link = self->link;

	ASSERT_TRUE(first && second);
	munmap(first, page);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(ends[1]));
	munmap(first + page, page);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(ends[1]));
	doorbell_drain(self->pair.host_bell);
	munmap(second, page);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(ends[1]));
	EXPECT_EQ(VOXSHM_HOW_CLOSED, status_beyond(ends[1]).how);
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_TRUE(hung_up(ends[1]));
	/* Other objects' mappings are no sign of anything. */
	ASSERT_EQ(0, claim_with(link.guest, self->bell, NULL));
	first = map_object(link.guest, VOXSHM_OBJECT_MAIN, page, PROT_READ);
	munmap(first, page);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(link.host));
	/* The host's unmapping is the host's end. */
	first = map_object(link.host, VOXSHM_OBJECT_WINDOW, page, PROT_READ);
	munmap(first, page);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(link.guest));
	EXPECT_EQ(VOXSHM_HOW_CLOSED, status_beyond(link.guest).how);
}

TEST_F_TIMEOUT(lifecycle, what_is_mapped_stays_after_everything_is_closed, 60)
{
	const size_t page = page_size();
	char *window, *window_host, *main, *object, *pool;

	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, page));
	ASSERT_EQ(0, grow(self->pair.segment, page, NULL));
	window = map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page,
			    PROT_READ | PROT_WRITE);
	window_host = map_object(self->pair.link.host, VOXSHM_OBJECT_WINDOW, page, PROT_READ);
	main = map_object(self->pair.segment, VOXSHM_OBJECT_MAIN, page, PROT_READ | PROT_WRITE);
	object = map_object(self->pair.link.guest, VOXSHM_OBJECT_GUEST, page,
			    PROT_READ | PROT_WRITE);
	pool = map_object(self->pair.link.host, VOXSHM_OBJECT_POOL, page, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(window && window_host && main && object && pool);
	strcpy(main, "main");
	strcpy(object, "object");
	strcpy(pool, "pool");
	pair_free(&self->pair);
	link_close(&self->link);
	strcpy(window, "window");
	EXPECT_STREQ("window", window_host);
	EXPECT_STREQ("main", main);
	EXPECT_STREQ("object", object);
	EXPECT_STREQ("pool", pool);
}

TEST_F_TIMEOUT(lifecycle, the_segment_is_closed_while_ends_live, 60)
{
	close(self->pair.segment);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.guest));
	EXPECT_EQ(0, ring(self->pair.link.guest));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_EQ(0, map_error(self->pair.link.guest, VOXSHM_OFFSET(VOXSHM_OBJECT_MAIN),
			       page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(0, object_create(self->pair.link.host, 0, page_size()));
	/* A ticket is one still. */
	EXPECT_EQ(0, claim_with(self->link.guest, self->bell, NULL));
	EXPECT_EQ(0, ring(self->link.host));
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
}

TEST_F_TIMEOUT(lifecycle, drop_and_create_again, 60)
{
	const size_t page = page_size();
	const struct { int maker, reader; uint32_t id; } sides[] = {
		{ self->pair.link.host, self->pair.link.guest, VOXSHM_OBJECT_HOST + 3 },
		{ self->pair.link.guest, self->pair.link.host, VOXSHM_OBJECT_GUEST + 3 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sides); i++) {
		char *old, *old_reader, *new;

		ASSERT_EQ(0, object_create(sides[i].maker, 3, page));
		EXPECT_EQ(-EEXIST, object_create(sides[i].maker, 3, page));
		/* Whose it is not cannot drop it: the number is of another object there. */
		EXPECT_EQ(-ENOENT, object_drop(sides[i].reader, 3));
		old = map_object(sides[i].maker, sides[i].id, page, PROT_READ | PROT_WRITE);
		old_reader = map_object(sides[i].reader, sides[i].id, page, PROT_READ);
		ASSERT_TRUE(old && old_reader);
		strcpy(old, "old");
		EXPECT_EQ(0, object_drop(sides[i].maker, 3));
		EXPECT_EQ(-ENOENT, object_drop(sides[i].maker, 3));
		EXPECT_EQ(NULL, map_object(sides[i].reader, sides[i].id, page, PROT_READ));
		EXPECT_STREQ("old", old_reader);
		EXPECT_EQ(0, object_create(sides[i].maker, 3, 2 * page));
		new = map_object(sides[i].reader, sides[i].id, 2 * page, PROT_READ);
		ASSERT_NE(NULL, new);
		EXPECT_STREQ("", new);
		strcpy(old, "still");
		EXPECT_STREQ("still", old_reader);
		EXPECT_STREQ("", new);
		EXPECT_EQ(0, object_drop(sides[i].maker, 3));
	}
}

TEST_F_TIMEOUT(lifecycle, objects_can_be_dropped_and_read_after_the_end, 60)
{
	const size_t page = page_size();

	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, page));
	ASSERT_EQ(0, object_create(self->pair.link.host, 0, page));
	EXPECT_EQ(0, detach(self->pair.link.guest));
	EXPECT_NE(NULL, map_object(self->pair.link.host, VOXSHM_OBJECT_GUEST, page, PROT_READ));
	EXPECT_NE(NULL, map_object(self->pair.link.host, VOXSHM_OBJECT_WINDOW, page, PROT_READ));
	EXPECT_EQ(0, object_drop(self->pair.link.host, 0));
	EXPECT_EQ(-EPIPE, object_create(self->pair.link.guest, 1, page));
	EXPECT_EQ(-EPIPE, object_create(self->pair.link.host, 1, page));
}

TEST_F_TIMEOUT(lifecycle, detach_is_an_end_and_meant, 60)
{
	struct voxshm_ioc_status status;

	EXPECT_EQ(0, detach(self->pair.link.guest));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_TRUE(hung_up(self->pair.link.host));
	EXPECT_EQ(-EPIPE, ring(self->pair.link.host));
	/* A second time does nothing; closing changes nothing more. */
	doorbell_drain(self->pair.host_bell);
	EXPECT_EQ(0, detach(self->pair.link.guest));
	EXPECT_EQ(0, doorbell_take(self->pair.host_bell));
	close(self->pair.link.guest);
	status = status_beyond(self->pair.link.host);
	EXPECT_EQ(VOXSHM_HOW_DETACHED, status.how);
}

TEST_F_TIMEOUT(lifecycle, both_ends_are_signalled_at_the_claim, 60)
{
	ASSERT_EQ(0, bind_to(self->link.host, self->pair.host_bell));
	doorbell_drain(self->pair.host_bell);
	ASSERT_EQ(0, claim_with(self->link.guest, self->bell, NULL));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
}

TEST_F_TIMEOUT(lifecycle, both_ends_are_signalled_at_an_end, 60)
{
	EXPECT_EQ(0, detach(self->pair.link.host));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
}

TEST_F_TIMEOUT(lifecycle, guests_are_signalled_at_growth, 60)
{
	uint32_t pool;

	ASSERT_EQ(0, claim_with(self->link.guest, self->bell, NULL));
	doorbell_drain(self->bell);
	EXPECT_EQ(0, grow(self->pair.segment, page_size(), &pool));
	EXPECT_EQ(0, pool);
	EXPECT_NE(0, doorbell_wait(self->bell, PATIENCE_MS));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_EQ(1, status_beyond(self->link.guest).pools);
	EXPECT_EQ(1, status_beyond(self->link.host).pools);
	EXPECT_EQ(0, grow(self->pair.segment, page_size(), &pool));
	EXPECT_EQ(1, pool);
	EXPECT_EQ(2, status_beyond(self->pair.link.guest).pools);
	EXPECT_EQ(0, map_error(self->link.guest, VOXSHM_OFFSET(VOXSHM_OBJECT_POOL + 1),
			       page_size(), PROT_READ | PROT_WRITE, MAP_SHARED));
}

TEST_F_TIMEOUT(lifecycle, there_are_so_many_pools, 120)
{
	uint32_t i, pool;

	for (i = 0; i < VOXSHM_POOLS_MAX; i++) {
		ASSERT_EQ(0, grow(self->pair.segment, page_size(), &pool));
		ASSERT_EQ(i, pool);
	}
	EXPECT_EQ(-ENOSPC, grow(self->pair.segment, page_size(), &pool));
	EXPECT_EQ(VOXSHM_POOLS_MAX, status_beyond(self->link.host).pools);
	EXPECT_EQ(0, map_error(self->pair.link.guest,
			       VOXSHM_OFFSET(VOXSHM_OBJECT_POOL + VOXSHM_POOLS_MAX - 1),
			       page_size(), PROT_READ | PROT_WRITE, MAP_SHARED));
}

TEST_F_TIMEOUT(lifecycle, so_many_objects_of_each_end, 120)
{
	struct voxshm_ioc_create create = create_default();
	struct pair pair;
	uint32_t i;

	create.guest_objects = VOXSHM_OBJECTS_MAX;
	create.guest_bytes = VOXSHM_OBJECTS_MAX * page_size();
	pair_open(&pair, &create);
	for (i = 0; i < VOXSHM_OBJECTS_MAX; i++) {
		ASSERT_EQ(0, object_create(pair.link.host, i, page_size()));
		ASSERT_EQ(0, object_create(pair.link.guest, i, page_size()));
	}
	EXPECT_EQ(-EINVAL, object_create(pair.link.host, i, page_size()));
	EXPECT_EQ(0, map_error(pair.link.guest, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST + i - 1),
			       page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(0, map_error(pair.link.host, VOXSHM_OFFSET(VOXSHM_OBJECT_GUEST + i - 1),
			       page_size(), PROT_READ, MAP_SHARED));
	pair_free(&pair);
}

static int unload(void)
{
	return syscall(SYS_delete_module, "voxshm", O_NONBLOCK) < 0 ? -errno : 0;
}

/* That it can be unloaded after all that is for whoever runs these tests to see. */
TEST_F_TIMEOUT(lifecycle, the_module_stays_while_anything_is_held, 60)
{
	const size_t page = page_size();
	int device = device_open(O_RDWR);
	char *window, *main;

	EXPECT_EQ(-EWOULDBLOCK, unload());
	window = map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page, PROT_READ);
	main = map_object(self->pair.segment, VOXSHM_OBJECT_MAIN, page, PROT_READ);
	pair_free(&self->pair);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(self->link.host);
	close(device);
	/* An unclaimed ticket, and two mappings; then one of them. */
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(self->link.guest);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	munmap(main, page);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(0, *window);
}

TEST_F_TIMEOUT(lifecycle, poll_waits_for_the_end, 60)
{
	struct pollfd entry = { .fd = self->pair.link.host, .events = POLLIN | POLLOUT };
	int64_t start = now_ns();
	pid_t pid;

	EXPECT_EQ(0, poll(&entry, 1, LULL_MS));
	EXPECT_GE(now_ns() - start, LULL_MS * MS);
	/* A sleeping poller is woken. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid == 0) {
		/* Whoever holds a copy may wait for it. */
		REQUIRE_EQ(1, poll(&entry, 1, PATIENCE_MS));
		REQUIRE(entry.revents & POLLHUP);
		_exit(0);
	}
	sleep_ms(LULL_MS);
	EXPECT_EQ(0, detach(self->pair.link.guest));
	EXPECT_EQ(pid, waitpid(pid, &entry.fd, 0));
	EXPECT_EQ(0, entry.fd);
}

VOXSHM_TEST_MAIN
