// SPDX-License-Identifier: MIT
/* events.c - what voxshm_host_wait() tells, how often and in which order. */
#include <sys/time.h>

#include "link.h"
#include "processes.h"

FIXTURE(events)
{
	struct inbox inbox;
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(events)

FIXTURE_SETUP(events)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host,
		  &CONFIG(variant, SMALL_CLASSES, .max_guests = 8, .ring_capacity = 4096));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(events)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* No event within a short time. */
static bool quiet(struct inbox *inbox)
{
	const struct voxshm_event *event = inbox_next(inbox, 20 * MS);

	if (event)
		fprintf(stderr, "# unexpected event %d\n", event->type);
	return !event;
}

#define EXPECT_EVENT(wanted, on) do {						\
	const struct voxshm_event *event_ = inbox_next(&self->inbox, PATIENCE);	\
	ASSERT_NE(NULL, event_);						\
	EXPECT_EQ(wanted, event_->type);					\
	EXPECT_EQ(on, event_->link);						\
} while (0)

TEST_F(events, none_when_nothing_happens)
{
	struct voxshm_event event;
	int64_t start = now_ns();

	EXPECT_EQ(0, voxshm_host_wait(self->host, &event, 1, 0));
	EXPECT_EQ(0, voxshm_host_wait(self->host, &event, 1, 30 * MS));
	EXPECT_LE(30 * MS, now_ns() - start);
	EXPECT_GT(5 * SECOND * slowness(), now_ns() - start);
}

TEST_F(events, room_for_none_is_refused)
{
	struct voxshm_event event;

	EXPECT_EQ(-EINVAL, voxshm_host_wait(self->host, &event, 0, 0));
	EXPECT_EQ(-EINVAL, voxshm_host_wait(self->host, &event, -1, 0));
}

static void on_signal(int signal)
{
}

TEST_F(events, signal_interrupts_the_wait)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct voxshm_event event;
	struct itimerval timer = { { 0, 5000 }, { 0, 5000 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	EXPECT_EQ(-EINTR, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

TEST_F(events, attached_comes_first_and_once)
{
	struct voxshm_link *host_end, *guest_end;

	link_make(_metadata, self->host, &host_end, &guest_end);
	for (uint64_t i = 0; i < 3; i++) {
		ASSERT_EQ(0, send_pattern(guest_end, 10, i, 0));
	}
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	EXPECT_EQ(3, drain(host_end));
	EXPECT_TRUE(quiet(&self->inbox));
	EXPECT_EQ(1, self->inbox.seen[VOXSHM_EVENT_ATTACHED]);
	voxshm_link_close(guest_end);
}

/* Its message comes just after the first time that the host looks for one. */
static const struct format *real_format;
static unsigned int looks;

static bool readable_from_the_second_look(struct voxshm_link *link)
{
	return looks++ > 0 && real_format->readable(link);
}

TEST_F(events, attached_comes_first_when_a_message_comes_while_the_host_looks)
{
	struct voxshm_link *host_end, *guest_end;
	struct format format;

	link_make(_metadata, self->host, &host_end, &guest_end);
	ASSERT_EQ(0, send_pattern(guest_end, 10, 1, 0));
	looks = 0;
	real_format = host_end->format;
	format = *real_format;
	format.readable = readable_from_the_second_look;
	host_end->format = &format;
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	EXPECT_LT(0, looks);
	host_end->format = real_format;
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	ASSERT_EQ(0, recv_pattern(host_end, 10, 1, 0));
	voxshm_link_close(guest_end);
}

TEST_F(events, attached_comes_first_even_from_a_guest_that_left_at_once)
{
	struct voxshm_link *host_end, *guest_end;

	link_make(_metadata, self->host, &host_end, &guest_end);
	ASSERT_EQ(0, send_pattern(guest_end, 10, 1, 0));
	voxshm_link_close(guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	ASSERT_EQ(0, recv_pattern(host_end, 10, 1, 0));
	EXPECT_EVENT(VOXSHM_EVENT_LEFT, host_end);
	EXPECT_TRUE(quiet(&self->inbox));
}

TEST_F(events, ticket_that_waits_tells_nothing)
{
	struct voxshm_link *link;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	EXPECT_TRUE(quiet(&self->inbox));
	close(ticket);
}

TEST_F(events, readable_is_told_until_all_was_received)
{
	struct voxshm_link *host_end, *guest_end;

	link_make(_metadata, self->host, &host_end, &guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	for (uint64_t i = 0; i < 5; i++) {
		ASSERT_EQ(0, send_pattern(guest_end, 500 * i, i, 0));
	}
	for (uint64_t i = 0; i < 5; i++) {
		EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
		ASSERT_EQ(0, recv_pattern(host_end, 500 * i, i, 0));
	}
	EXPECT_TRUE(quiet(&self->inbox));
	/* And again for the next one. */
	ASSERT_EQ(0, send_pattern(guest_end, 10, 9, 0));
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	ASSERT_EQ(0, recv_pattern(host_end, 10, 9, 0));
	EXPECT_TRUE(quiet(&self->inbox));
	voxshm_link_close(guest_end);
}

TEST_F(events, borrowed_view_is_not_readable)
{
	struct voxshm_link *host_end, *guest_end;
	struct voxshm_view view;

	link_make(_metadata, self->host, &host_end, &guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	ASSERT_EQ(0, send_pattern(guest_end, 10, 1, 0));
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	ASSERT_EQ(0, voxshm_try_recv(host_end, &view));
	EXPECT_TRUE(quiet(&self->inbox));
	ASSERT_EQ(0, voxshm_release(host_end, &view));
	EXPECT_TRUE(quiet(&self->inbox));
	voxshm_link_close(guest_end);
}

TEST_F(events, writable_comes_after_a_refused_send_only)
{
	struct voxshm_link *host_end, *guest_end;
	uint64_t count;

	link_make(_metadata, self->host, &host_end, &guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	for (int round = 0; round < 10; round++) {
		for (count = 0; send_pattern(host_end, 20, count, 0) == 0; count++)
			;
		EXPECT_TRUE(quiet(&self->inbox));
		for (uint64_t i = 0; i < count; i++) {
			ASSERT_EQ(0, recv_pattern(guest_end, 20, i, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(guest_end, &(struct voxshm_view){ 0 }));
		EXPECT_EVENT(VOXSHM_EVENT_WRITABLE, host_end);
		ASSERT_EQ(0, send_pattern(host_end, 20, 1, 0));
		ASSERT_EQ(0, recv_pattern(guest_end, 20, 1, 0));
	}
	EXPECT_TRUE(quiet(&self->inbox));
	EXPECT_EQ(10, self->inbox.seen[VOXSHM_EVENT_WRITABLE]);
	voxshm_link_close(guest_end);
}

TEST_F(events, writable_comes_when_the_pool_has_a_slot_again)
{
	static const size_t sizes[] = { 1000, 60000, 200000 };
	struct voxshm_link *host_end, *guest_end;
	uint64_t count;

	link_make(_metadata, self->host, &host_end, &guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (count = 0; send_pattern(host_end, sizes[i], count, 0) == 0; count++)
			;
		EXPECT_TRUE(quiet(&self->inbox));
		for (uint64_t j = 0; j < count; j++) {
			ASSERT_EQ(0, recv_pattern(guest_end, sizes[i], j, 0));
		}
		EXPECT_EQ(-EAGAIN, voxshm_try_recv(guest_end, &(struct voxshm_view){ 0 }));
		EXPECT_EVENT(VOXSHM_EVENT_WRITABLE, host_end);
		ASSERT_EQ(0, send_pattern(host_end, sizes[i], 1, 0));
		ASSERT_EQ(0, recv_pattern(guest_end, sizes[i], 1, 0));
	}
	voxshm_link_close(guest_end);
}

TEST_F(events, left_comes_last_and_once)
{
	struct voxshm_link *host_end, *guest_end;

	link_make(_metadata, self->host, &host_end, &guest_end);
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);
	for (uint64_t i = 0; i < 3; i++) {
		ASSERT_EQ(0, send_pattern(guest_end, 10, i, 0));
	}
	voxshm_link_close(guest_end);
	for (uint64_t i = 0; i < 3; i++) {
		EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
		ASSERT_EQ(0, recv_pattern(host_end, 10, i, 0));
	}
	EXPECT_EVENT(VOXSHM_EVENT_LEFT, host_end);
	EXPECT_TRUE(quiet(&self->inbox));
	EXPECT_TRUE(quiet(&self->inbox));
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_DIED]);
	EXPECT_EQ(0, self->inbox.seen[VOXSHM_EVENT_FAILED]);
	voxshm_link_close(host_end);
}

TEST_F(events, left_comes_with_a_refused_send_pending)
{
	struct voxshm_link *host_end, *guest_end;

	link_make(_metadata, self->host, &host_end, &guest_end);
	while (send_pattern(host_end, 20, 1, 0) == 0)
		;
	voxshm_link_close(guest_end);
	EXPECT_EQ(host_end, inbox_await(&self->inbox, VOXSHM_EVENT_LEFT, host_end));
	EXPECT_EQ(-EPIPE, voxshm_try_send(host_end, "x", 1));
	EXPECT_TRUE(quiet(&self->inbox));
}

TEST_F(events, of_many_links_all_come_through_a_small_array)
{
	struct voxshm_link *host_ends[8], *guest_ends[8];
	unsigned int attached = 0, read = 0, left = 0;
	int64_t until = now_ns() + PATIENCE;

	for (int i = 0; i < 8; i++) {
		link_make(_metadata, self->host, &host_ends[i], &guest_ends[i]);
		for (uint64_t j = 0; j < 4; j++) {
			ASSERT_EQ(0, send_pattern(guest_ends[i], 10, j, 0));
		}
		voxshm_link_close(guest_ends[i]);
	}
	while (left < 8 && now_ns() < until) {
		struct voxshm_event events[2];
		int count = voxshm_host_wait(self->host, events, 2, 100 * MS);

		ASSERT_LE(0, count);
		ASSERT_GE(2, count);
		for (int i = 0; i < count; i++) {
			attached += events[i].type == VOXSHM_EVENT_ATTACHED;
			left += events[i].type == VOXSHM_EVENT_LEFT;
			if (events[i].type == VOXSHM_EVENT_READABLE)
				read += voxshm_try_recv(events[i].link,
							&(struct voxshm_view){ 0 }) == 0;
		}
	}
	EXPECT_EQ(8, attached);
	EXPECT_EQ(32, read);
	EXPECT_EQ(8, left);
}

TEST_F(events, one_undrained_link_does_not_starve_the_others)
{
	struct voxshm_link *loud_host, *loud_guest, *host_end, *guest_end;
	int64_t until = now_ns() + PATIENCE;
	uint64_t received = 0;

	link_make(_metadata, self->host, &loud_host, &loud_guest);
	link_make(_metadata, self->host, &host_end, &guest_end);
	ASSERT_EQ(0, send_pattern(loud_guest, 10, 1, 0));
	for (uint64_t i = 0; i < 100 && now_ns() < until;) {
		struct voxshm_event event;

		if (received == i) {
			ASSERT_EQ(0, send_pattern(guest_end, 10, i, 0));
		}
		received = i + 1;
		ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
		if (event.type == VOXSHM_EVENT_READABLE && event.link == host_end) {
			ASSERT_EQ(0, recv_pattern(host_end, 10, i, 0));
			i++;
		}
	}
	EXPECT_EQ(100, received);
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(host_end, &(struct voxshm_view){ 0 }));
	voxshm_link_close(loud_guest);
	voxshm_link_close(guest_end);
}

TEST_F(events, link_closed_while_events_are_pending_is_not_told_again)
{
	struct voxshm_link *host_ends[4], *guest_ends[4];
	struct voxshm_event event;

	for (int i = 0; i < 4; i++) {
		link_make(_metadata, self->host, &host_ends[i], &guest_ends[i]);
		ASSERT_EQ(0, send_pattern(guest_ends[i], 10, i, 0));
	}
	ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	for (int i = 0; i < 4; i++)
		voxshm_link_close(host_ends[i]);
	EXPECT_TRUE(quiet(&self->inbox));
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(-EPIPE, voxshm_recv(guest_ends[i], &(struct voxshm_view){ 0 }, PATIENCE));
		voxshm_link_close(guest_ends[i]);
	}
}

/* The host's descriptor inside another epoll ------------------------------------ */

static int outer_epoll(struct voxshm_host *host)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	REQUIRE(epoll >= 0);
	REQUIRE_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, voxshm_host_fd(host), &event));
	return epoll;
}

TEST_F(events, armed_descriptor_tells_of_every_kind_of_event)
{
	int epoll = outer_epoll(self->host), patience = (int)(PATIENCE / MS);
	struct voxshm_link *host_end, *guest_end;
	struct epoll_event event;
	int ticket;

	ASSERT_EQ(0, voxshm_host_arm(self->host));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &host_end, NULL));
	ASSERT_EQ(0, voxshm_host_arm(self->host));
	ASSERT_EQ(0, voxshm_guest_claim(&guest_end, ticket, NULL));
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, patience));
	EXPECT_EVENT(VOXSHM_EVENT_ATTACHED, host_end);

	ASSERT_EQ(0, voxshm_host_arm(self->host));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	ASSERT_EQ(0, send_pattern(guest_end, 10, 1, 0));
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, patience));
	EXPECT_EQ(1, voxshm_host_arm(self->host));
	EXPECT_EVENT(VOXSHM_EVENT_READABLE, host_end);
	ASSERT_EQ(0, recv_pattern(host_end, 10, 1, 0));

	while (send_pattern(host_end, 20, 1, 0) == 0)
		;
	ASSERT_EQ(0, voxshm_host_arm(self->host));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	EXPECT_LT(0, drain(guest_end));
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, patience));
	EXPECT_EVENT(VOXSHM_EVENT_WRITABLE, host_end);
	ASSERT_EQ(0, send_pattern(host_end, 20, 1, 0));

	ASSERT_EQ(0, voxshm_host_arm(self->host));
	voxshm_link_close(guest_end);
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, patience));
	EXPECT_EVENT(VOXSHM_EVENT_LEFT, host_end);
	EXPECT_EQ(0, voxshm_host_arm(self->host));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	close(epoll);
}

static void chatter(struct voxshm_link *link, void *argument)
{
	for (uint64_t i = 0; i < *(uint64_t *)argument; i++) {
		REQUIRE_EQ(0, send_pattern(link, 24, i, PATIENCE));
		REQUIRE_EQ(0, recv_pattern(link, 24, ~i, PATIENCE));
	}
	voxshm_link_close(link);
}

TEST_F_TIMEOUT(events, armed_descriptor_never_misses_a_message, 60)
{
	uint64_t each = amount(5000), received[4] = { 0 };
	int epoll = outer_epoll(self->host), left = 0;
	struct voxshm_link *links[4];
	struct epoll_event ready;
	pid_t pids[4];

	for (int i = 0; i < 4; i++) {
		pids[i] = guest_fork(_metadata, self->host, chatter, &each, &links[i]);
		voxshm_link_set_data(links[i], &received[i]);
	}
	while (left < 4) {
		struct voxshm_event events[3];
		int count = voxshm_host_wait(self->host, events, 3, 0);

		ASSERT_LE(0, count);
		for (int i = 0; i < count; i++) {
			uint64_t *number = voxshm_link_data(events[i].link);

			left += events[i].type == VOXSHM_EVENT_LEFT;
			if (events[i].type != VOXSHM_EVENT_READABLE)
				continue;
			ASSERT_EQ(0, recv_pattern(events[i].link, 24, *number, 0));
			ASSERT_EQ(0, send_pattern(events[i].link, 24, ~*number, 0));
			++*number;
		}
		if (count == 0 && voxshm_host_arm(self->host) == 0) {
			ASSERT_EQ(1, epoll_wait(epoll, &ready, 1, (int)(PATIENCE / MS)));
		}
	}
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(each, received[i]);
		EXPECT_EQ(0, child_wait(pids[i]));
	}
	close(epoll);
}

LINK_TEST_MAIN(NULL)
