// SPDX-License-Identifier: MIT
/* places.c - a host has so many places for guests; each is taken by one guest at a time. */
#include "processes.h"

FIXTURE(places)
{
	struct inbox inbox;
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(places)

FIXTURE_SETUP(places)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 2));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(places)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

static void echo(struct voxshm_link *link, void *argument)
{
	struct voxshm_view view;

	while (voxshm_recv(link, &view, PATIENCE) == 0) {
		if (voxshm_send(link, view.data, view.size, PATIENCE) ||
		    voxshm_release(link, &view))
			break;
	}
	voxshm_link_close(link);
}

static int program_echo(int argc, char **argv)
{
	echo(guest_inherit(), NULL);
	return 0;
}

static void expect_echo(struct __test_metadata *_metadata, struct voxshm_link *link)
{
	for (uint64_t i = 0; i < 20; i++) {
		ASSERT_EQ(0, send_pattern(link, mixed_size(i), i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(link, mixed_size(i), i, PATIENCE));
	}
}

/*
 * In the vox format a place is free only when the process that had it, or was
 * to have it, has let go of it: then the host serves until it is.
 */
static struct voxshm_link *spawn_when_free(struct __test_metadata *_metadata,
					   struct voxshm_host *host)
{
	struct voxshm_link *link = NULL;
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_event event;
	int ret;

	while ((ret = guest_try_spawn(host, "echo", NULL, &link, NULL)) == -EUSERS &&
	       now_ns() < until)
		voxshm_host_wait(host, &event, 1, MS);
	ASSERT_EQ(0, ret);
	return link;
}

static int try_ticket(struct voxshm_host *host, struct voxshm_link **link,
		      struct voxshm_error *error)
{
	int ticket, ret = voxshm_host_ticket(host, &ticket, link, error);

	if (ret == 0)
		close(ticket);
	return ret;
}

TEST_F(places, all_taken_is_eusers)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *links[2], *more;
	char *argv[] = { "true", NULL };
	int ticket;

	links[0] = guest_spawn(_metadata, self->host, "echo", NULL);
	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &links[1], NULL));
	for (int i = 0; i < 3; i++) {
		error.text[0] = '\0';
		EXPECT_EQ(-EUSERS, voxshm_host_spawn(self->host, "true", argv, &more, &error));
		EXPECT_STRNE("", error.text);
		EXPECT_EQ(-EUSERS, try_ticket(self->host, &more, NULL));
	}
	expect_echo(_metadata, links[0]);
	close(ticket);
}

TEST_F(places, is_free_again_when_its_link_is_closed)
{
	struct voxshm_link *links[2];

	links[0] = guest_spawn(_metadata, self->host, "echo", NULL);
	links[1] = guest_spawn(_metadata, self->host, "echo", NULL);
	for (int i = 0; i < 10; i++) {
		expect_echo(_metadata, links[i % 2]);
		voxshm_link_close(links[i % 2]);
		links[i % 2] = spawn_when_free(_metadata, self->host);
	}
}

TEST_F(places, guest_that_comes_late_does_not_get_into_another_one)
{
	struct voxshm_link *link;

	/* Closed before the first guest can have claimed it. */
	for (int i = 0; i < 20; i++) {
		voxshm_link_close(spawn_when_free(_metadata, self->host));
		voxshm_link_close(spawn_when_free(_metadata, self->host));
		link = spawn_when_free(_metadata, self->host);
		expect_echo(_metadata, link);
		voxshm_link_close(link);
	}
}

TEST_F(places, late_claim_of_a_closed_link_fails)
{
	struct voxshm_link *closed, *second, *host_end, *guest_end = NULL;
	struct voxshm_event event;
	int old, new, ret;

	/* Both places, so that the next ticket is for one that was closed. */
	ASSERT_EQ(0, try_ticket(self->host, &second, NULL));
	ASSERT_EQ(0, voxshm_host_ticket(self->host, &old, &closed, NULL));
	voxshm_link_close(closed);
	ret = voxshm_host_ticket(self->host, &new, &host_end, NULL);
	EXPECT_TRUE(ret == 0 || (ret == -EUSERS && variant->choice.format == VOXSHM_FORMAT_VOX));
	if (ret == 0) {
		/* The old ticket first: it must not win the new place. */
		ret = voxshm_guest_claim(&guest_end, old, NULL);
		if (ret == 0) {
			EXPECT_EQ(-EPIPE, voxshm_recv(guest_end, &(struct voxshm_view){ 0 },
						      PATIENCE));
			voxshm_link_close(guest_end);
		}
		ASSERT_EQ(0, voxshm_guest_claim(&guest_end, new, NULL));
		ASSERT_EQ(0, send_pattern(guest_end, 100, 1, PATIENCE));
		ASSERT_EQ(0, recv_pattern(host_end, 100, 1, PATIENCE));
		voxshm_link_close(guest_end);
	} else {
		EXPECT_GT(0, voxshm_guest_claim(&guest_end, old, NULL));
	}
	voxshm_host_wait(self->host, &event, 1, 0);
}

static const struct guest_program programs[] = {
	{ "echo", program_echo },
	{ 0 },
};

LINK_TEST_MAIN(programs)
