/* SPDX-License-Identifier: MIT */
/*
 * permissions.c - who may be a host, and that a ticket makes a guest of anybody:
 * other users, other pid, user and network namespaces. STATUS shows the other
 * end's owner in the view of whoever asks.
 */
#include "processes.h"

#define MEMBER_GROUP	60321
#define OVERFLOW_ID	65534

FIXTURE(permissions) {
	struct pair pair;
	char node[64];
};

FIXTURE_SETUP(permissions)
{
	pair_new(&self->pair);
	node_make(self->node, sizeof(self->node), 0660, MEMBER_GROUP);
}

FIXTURE_TEARDOWN(permissions)
{
	unlink(self->node);
	pair_free(&self->pair);
}

struct person {
	const char *node;
	uid_t uid;
	gid_t group;
	gid_t extra_group;
};

/* The errno of becoming a host, or 0. */
static int tries_to_host(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	struct person *person = argument;
	struct link link;
	int fd;

	if (person->uid)
		become(person->uid, person->group);
	fd = open(person->node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno;
	REQUIRE_EQ(0, call(fd, VOXSHM_IOC_CREATE, &create));
	REQUIRE_EQ(0, link_at(fd, 0, &link));
	REQUIRE_EQ(0, claim_with(link.guest, doorbell_new(), NULL));
	REQUIRE(map_object(fd, VOXSHM_OBJECT_MAIN, page_size(), PROT_READ | PROT_WRITE));
	return 0;
}

TEST_F_TIMEOUT(permissions, root_may_be_a_host, 60)
{
	struct person root = { self->node, 0, 0, 0 };

	EXPECT_EQ(0, in_child(tries_to_host, &root));
}

TEST_F_TIMEOUT(permissions, a_group_member_may_be_a_host, 60)
{
	struct person member = { self->node, 60001, MEMBER_GROUP, 0 };

	EXPECT_EQ(0, in_child(tries_to_host, &member));
}

TEST_F_TIMEOUT(permissions, a_stranger_may_not, 60)
{
	struct person stranger = { self->node, 60002, 60002, 0 };

	EXPECT_EQ(EACCES, in_child(tries_to_host, &stranger));
	stranger.node = DEVICE;
	EXPECT_EQ(EACCES, in_child(tries_to_host, &stranger));
}

/* Guests ------------------------------------------------------------------------ */

struct guest {
	uid_t uid;
	int unshare;		/* namespaces to leave */
	bool fork_after;	/* a new pid namespace is for children */
};

/* Gets a ticket by message, claims it, checks the memory, and rings. */
static void be_guest(int socket)
{
	struct voxshm_ioc_status status;
	char *window, *main;
	int ticket;

	KEEP_ONLY(socket);
	ticket = fd_receive(socket);
	REQUIRE_EQ(0, claim_with(ticket, doorbell_new(), NULL));
	window = map_object(ticket, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ | PROT_WRITE);
	main = map_object(ticket, VOXSHM_OBJECT_MAIN, page_size(), PROT_READ);
	REQUIRE(window && main);
	REQUIRE(!strcmp(main, "hello"));
	strcpy(window, "guest");
	REQUIRE_EQ(0, object_create(ticket, 0, page_size()));
	REQUIRE_EQ(0, ring(ticket));
	/* What this process sees of the host. */
	REQUIRE_EQ(0, status_of(ticket, &status));
	REQUIRE_EQ(sizeof(status), write(socket, &status, sizeof(status)));
	hear(socket);
}

static int guest_run(int socket, void *argument)
{
	struct guest *guest = argument;
	int status;
	pid_t pid;

	if (guest->unshare)
		REQUIRE_EQ(0, unshare(guest->unshare));
	if (guest->fork_after) {
		pid = fork();
		REQUIRE(pid >= 0);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			be_guest(socket);
			_exit(0);
		}
		REQUIRE_EQ(pid, waitpid(pid, &status, 0));
		return WIFEXITED(status) ? WEXITSTATUS(status) : 96;
	}
	if (guest->uid)
		become(guest->uid, guest->uid);
	be_guest(socket);
	return 0;
}

#define PERMISSIONS struct __test_metadata *_metadata, FIXTURE_DATA(permissions) *self

/* Runs the guest; what each side was told of the other. */
static void meet(PERMISSIONS, struct guest *guest, struct voxshm_ioc_status *guest_seen,
		 struct voxshm_ioc_status *host_seen, pid_t *pid)
{
	struct link link = link_new(self->pair.segment);
	char *main = map_object(self->pair.segment, VOXSHM_OBJECT_MAIN, page_size(),
				PROT_READ | PROT_WRITE);
	char *window = map_object(link.host, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ);
	int bell = doorbell_new();
	struct child child;

	ASSERT_TRUE(main && window);
	strcpy(main, "hello");
	ASSERT_EQ(0, bind_to(link.host, bell));
	child = child_start(guest_run, guest);
	fd_send(child.socket, link.guest);
	close(link.guest);
	ASSERT_EQ(sizeof(*host_seen), recv(child.socket, host_seen, sizeof(*host_seen),
					   MSG_WAITALL));
	EXPECT_NE(0, doorbell_wait(bell, PATIENCE_MS));
	EXPECT_EQ(0, status_of(link.host, guest_seen));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, guest_seen->state);
	EXPECT_STREQ("guest", window);
	*pid = child.pid;
	say(child.socket, 'q');
	EXPECT_EQ(0, child_reap(&child));
	EXPECT_TRUE(EVENTUALLY(state_beyond(link.host) == VOXSHM_STATE_ENDED));
	close(link.host);
	munmap(window, page_size());
	close(bell);
}

TEST_F_TIMEOUT(permissions, any_user_may_be_a_guest, 60)
{
	struct guest guest = { .uid = 60003 };
	struct voxshm_ioc_status seen, host;
	pid_t pid;

	meet(_metadata, self, &guest, &seen, &host, &pid);
	EXPECT_EQ(pid, seen.pid);
	EXPECT_EQ(60003, seen.uid);
	EXPECT_EQ(60003, seen.gid);
	EXPECT_EQ(getpid(), host.pid);
	EXPECT_EQ(0, host.uid);
	EXPECT_EQ(0, host.gid);
}

TEST_F_TIMEOUT(permissions, a_guest_in_another_pid_namespace, 60)
{
	struct guest guest = { .unshare = CLONE_NEWPID, .fork_after = true };
	struct voxshm_ioc_status seen, host;
	pid_t pid;

	meet(_metadata, self, &guest, &seen, &host, &pid);
	/* From here it has a pid, from there the host has none. */
	EXPECT_GT(seen.pid, 1);
	EXPECT_NE(pid, seen.pid);
	EXPECT_EQ(0, host.pid);
	EXPECT_EQ(0, host.uid);
}

TEST_F_TIMEOUT(permissions, a_guest_in_another_user_namespace, 60)
{
	struct guest guest = { .unshare = CLONE_NEWUSER };
	struct voxshm_ioc_status seen, host;
	pid_t pid;

	meet(_metadata, self, &guest, &seen, &host, &pid);
	EXPECT_EQ(pid, seen.pid);
	EXPECT_EQ(0, seen.uid);
	/* No id is mapped there. */
	EXPECT_EQ(OVERFLOW_ID, host.uid);
	EXPECT_EQ(OVERFLOW_ID, host.gid);
	EXPECT_EQ(getpid(), host.pid);
}

TEST_F_TIMEOUT(permissions, a_guest_in_other_namespaces_of_all_kinds, 60)
{
	struct guest guest = { .unshare = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
					  CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWUTS,
			       .fork_after = true };
	struct voxshm_ioc_status seen, host;
	pid_t pid;

	meet(_metadata, self, &guest, &seen, &host, &pid);
	EXPECT_GT(seen.pid, 1);
	EXPECT_EQ(0, host.pid);
	EXPECT_EQ(OVERFLOW_ID, host.uid);
}

TEST_F_TIMEOUT(permissions, a_guest_in_another_network_namespace, 60)
{
	struct guest guest = { .unshare = CLONE_NEWNET, .uid = 60005 };
	struct voxshm_ioc_status seen, host;
	pid_t pid;

	meet(_metadata, self, &guest, &seen, &host, &pid);
	EXPECT_EQ(pid, seen.pid);
	EXPECT_EQ(60005, seen.uid);
	EXPECT_EQ(getpid(), host.pid);
}

/* The view is that of whoever asks, not of whoever made the link. */
static int asks_from_elsewhere(int socket, void *argument)
{
	struct voxshm_ioc_status status;
	int end = *(int *)argument, result;
	pid_t pid;

	REQUIRE_EQ(0, unshare(CLONE_NEWUSER | CLONE_NEWPID));
	pid = fork();
	if (pid == 0) {
		REQUIRE_EQ(0, status_of(end, &status));
		REQUIRE_EQ(0, status.pid);
		REQUIRE_EQ(OVERFLOW_ID, status.uid);
		REQUIRE_EQ(OVERFLOW_ID, status.gid);
		REQUIRE_EQ(VOXSHM_STATE_ATTACHED, status.state);
		_exit(0);
	}
	REQUIRE_EQ(pid, waitpid(pid, &result, 0));
	return result != 0;
}

TEST_F_TIMEOUT(permissions, status_is_in_the_callers_view, 60)
{
	EXPECT_EQ(0, in_child(asks_from_elsewhere, &self->pair.link.host));
	EXPECT_EQ(0, in_child(asks_from_elsewhere, &self->pair.link.guest));
}

/* What the owner is allowed it is as a process, whatever it has become since. */
static int drops_privileges(int socket, void *argument)
{
	struct pair pair;

	pair_new(&pair);
	become(60006, 60006);
	REQUIRE_EQ(0, ring(pair.link.host));
	REQUIRE_EQ(0, ring(pair.link.guest));
	REQUIRE_EQ(0, object_create(pair.link.guest, 0, page_size()));
	REQUIRE(map_object(pair.segment, VOXSHM_OBJECT_MAIN, page_size(), PROT_READ | PROT_WRITE));
	REQUIRE(map_object(pair.link.guest, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ));
	return 0;
}

TEST_F_TIMEOUT(permissions, dropping_privileges_costs_nothing, 60)
{
	EXPECT_EQ(0, in_child(drops_privileges, NULL));
}

VOXSHM_TEST_MAIN
