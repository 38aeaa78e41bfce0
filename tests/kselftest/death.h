/* SPDX-License-Identifier: MIT */
/*
 * death.h - an end whose owner is a process of its own, which is to die, and
 * what the other end, in the test's process, is told of it. Guests and hosts
 * die alike: every test of the fixture is run for both.
 */
#ifndef DEATH_H
#define DEATH_H

#include "processes.h"

/* What the owner's process has; the words on the socket are the test's. */
struct owner {
	int end;
	int socket;	/* to the test; close-on-exec */
	int leash;	/* for processes that outlive the owner: to the test too */
	char *window;
	void *argument;
};

FIXTURE(death) {
	struct child child;
	int leash, leash_far;
	int segment;		/* of a guest that dies */
	struct link link;	/* both ends only before they are given away */
	int end;		/* the test's */
	int bell;
	char *window;
	void (*way)(struct owner *owner);
	void *argument;
	bool host_dies;
};

FIXTURE_VARIANT(death) {
	bool host_dies;
};

FIXTURE_VARIANT_ADD(death, guest) {
	.host_dies = false,
};

FIXTURE_VARIANT_ADD(death, host) {
	.host_dies = true,
};

#define DEATH struct __test_metadata *_metadata, FIXTURE_DATA(death) *self

FIXTURE_SETUP(death)
{
	int sockets[2];

	self->host_dies = variant->host_dies;
	self->bell = doorbell_new();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	self->leash = sockets[0];
	self->leash_far = sockets[1];
	if (!self->host_dies) {
		self->segment = segment_new();
		self->link = link_new(self->segment);
		self->end = self->link.host;
		ASSERT_EQ(0, bind_to(self->end, self->bell));
		self->window = map_object(self->end, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ);
		ASSERT_NE(NULL, self->window);
	}
}

FIXTURE_TEARDOWN(death)
{
	close(self->leash);
	close(self->end);
	close(self->bell);
	close(self->segment);
}

/* The owner's process ------------------------------------------------------------ */

static inline void owner_becomes_guest(struct owner *owner)
{
	owner->end = fd_receive(owner->socket);
	REQUIRE_EQ(0, claim_with(owner->end, doorbell_new(), NULL));
}

static inline void owner_becomes_host(struct owner *owner)
{
	struct link link = link_new(segment_new());

	owner->end = link.host;
	REQUIRE_EQ(0, bind_to(link.host, doorbell_new()));
	fd_send(owner->socket, link.guest);
	close(link.guest);
	REQUIRE_EQ('c', hear(owner->socket));
}

static int owner_run(int socket, void *argument)
{
	FIXTURE_DATA(death) *self = argument;
	struct owner owner = { .socket = socket, .leash = self->leash_far,
			       .argument = self->argument };

	KEEP_ONLY(socket, self->leash_far);
	if (self->host_dies)
		owner_becomes_host(&owner);
	else
		owner_becomes_guest(&owner);
	owner.window = map_object(owner.end, VOXSHM_OBJECT_WINDOW, page_size(),
				  PROT_READ | PROT_WRITE);
	REQUIRE(owner.window);
	strcpy(owner.window, "alive");
	self->way(&owner);
	return 96;
}

/* For a process that is to outlive the owner: until the test lets it go, or is gone. */
static inline void __attribute__((noreturn)) hold(int leash)
{
	while (hear(leash) == '?')
		say(leash, 'h');
	_exit(0);
}

static inline void owner_waits(struct owner *owner)
{
	say(owner->socket, 'w');
	while (hear(owner->socket))
		;
	_exit(95);
}

/* The test's side ------------------------------------------------------------------ */

/* Starts the owner, and returns once it is at the point where it is to die. */
static inline void start(DEATH, void (*way)(struct owner *owner), void *argument)
{
	self->way = way;
	self->argument = argument;
	self->child = child_start(owner_run, self);
	if (self->host_dies) {
		self->end = fd_receive(self->child.socket);
		ASSERT_EQ(0, claim_with(self->end, self->bell, NULL));
		self->window = map_object(self->end, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ);
		ASSERT_NE(NULL, self->window);
		say(self->child.socket, 'c');
	} else {
		fd_send(self->child.socket, self->link.guest);
		close(self->link.guest);
	}
	close(self->leash_far);
	ASSERT_EQ('w', hear(self->child.socket));
}

static inline void expect_alive(DEATH)
{
	struct voxshm_ioc_status status;

	EXPECT_EQ(0, status_of(self->end, &status));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, status.state);
	EXPECT_EQ(VOXSHM_HOW_NONE, status.how);
	EXPECT_EQ(VOXSHM_EXITED_NOT, status.exit);
	EXPECT_EQ(self->child.pid, status.pid);
	EXPECT_FALSE(hung_up(self->end));
	EXPECT_EQ(0, ring(self->end));
	EXPECT_STREQ("alive", self->window);
}

static inline void expect_holder_alive(DEATH)
{
	say(self->leash, '?');
	EXPECT_EQ('h', hear(self->leash));
}

/* Sleeps on the doorbell alone until the status has what is waited for. */
static inline struct voxshm_ioc_status status_awaited(DEATH, bool exit_too)
{
	struct voxshm_ioc_status status;

	do {
		EXPECT_EQ(0, status_of(self->end, &status));
		if (status.state == VOXSHM_STATE_ENDED && (!exit_too || status.exit))
			return status;
	} while (doorbell_wait(self->bell, PATIENCE_MS));
	EXPECT_TRUE(false)
		TH_LOG("the doorbell was not signalled: state %u, how %u, exit %u", status.state,
		       status.how, status.exit);
	return status;
}

/* The first that is told of the end. DIED is told together with the exit. */
static inline void expect_end(DEATH, enum voxshm_end_how how)
{
	struct voxshm_ioc_status status = status_awaited(_metadata, self, false);

	EXPECT_EQ(how, status.how);
	EXPECT_EQ(how == VOXSHM_HOW_DIED, status.exit != VOXSHM_EXITED_NOT);
	EXPECT_EQ(self->child.pid, status.pid);
	EXPECT_EQ(1, status.peer_id);
	EXPECT_EQ(1, status.epoch);
	EXPECT_TRUE(hung_up(self->end));
	EXPECT_EQ(-EPIPE, ring(self->end));
	EXPECT_STREQ("alive", self->window);
}

/* What is told of the exit, which is what wait() tells; the end stays as it was told. */
static inline void expect_exit(DEATH, enum voxshm_end_how how, enum voxshm_exit exit, int value,
			       bool core)
{
	struct voxshm_ioc_status status = status_awaited(_metadata, self, true);
	int waited = child_reap(&self->child);

	EXPECT_EQ(how, status.how);
	EXPECT_EQ(exit, status.exit);
	EXPECT_EQ(value, status.exit_value);
	EXPECT_EQ(core, status.core_dumped);
	EXPECT_EQ(self->child.pid, status.pid);
	EXPECT_EQ(exit == VOXSHM_EXITED_CODE, WIFEXITED(waited));
	EXPECT_EQ(value, WIFEXITED(waited) ? WEXITSTATUS(waited) : WTERMSIG(waited));
	EXPECT_EQ(core, WIFSIGNALED(waited) && WCOREDUMP(waited));
	/* Nothing of it changes once the process is reaped. */
	EXPECT_EQ(0, status_of(self->end, &status));
	EXPECT_EQ(how, status.how);
	EXPECT_EQ(exit, status.exit);
	EXPECT_EQ(value, status.exit_value);
}

static inline void expect_death(DEATH, enum voxshm_exit exit, int value, bool core)
{
	expect_end(_metadata, self, VOXSHM_HOW_DIED);
	expect_exit(_metadata, self, VOXSHM_HOW_DIED, exit, value, core);
}

static inline void kill_owner(DEATH)
{
	doorbell_drain(self->bell);
	EXPECT_EQ(0, kill(self->child.pid, SIGKILL));
	expect_death(_metadata, self, VOXSHM_EXITED_SIGNAL, SIGKILL, false);
}

#define START(way)		start(_metadata, self, way, NULL)
#define EXPECT_ALIVE()		expect_alive(_metadata, self)
#define EXPECT_HOLDER_ALIVE()	expect_holder_alive(_metadata, self)
#define EXPECT_END(how)		expect_end(_metadata, self, how)
#define EXPECT_EXIT(how, value)	\
	expect_exit(_metadata, self, how, VOXSHM_EXITED_CODE, value, false)
#define EXPECT_DEATH(exit, value, core)	expect_death(_metadata, self, exit, value, core)
#define KILL_OWNER()		kill_owner(_metadata, self)

#endif /* DEATH_H */
