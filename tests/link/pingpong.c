// SPDX-License-Identifier: MIT
/* pingpong.c - host and guest in two processes: no wake-up is lost, nothing is reordered. */
#include "processes.h"

FIXTURE(pingpong)
{
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(pingpong)

FIXTURE_SETUP(pingpong)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 4096));
}

FIXTURE_TEARDOWN(pingpong)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* What both sides do. */
struct plan {
	uint64_t count;
	int64_t spin;		/* -1: as it is */
	size_t (*size)(uint64_t seed);
	bool poll;		/* the guest sleeps in poll() */
};

static size_t tiny_size(uint64_t seed)
{
	return seed % 60;
}

static void set_spin(struct voxshm_link *link, const struct plan *plan)
{
	if (plan->spin >= 0)
		voxshm_link_set_spin(link, (uint32_t)plan->spin);
}

static int recv_polling(struct voxshm_link *link, struct voxshm_view *view)
{
	struct pollfd pollfd = { .fd = voxshm_link_fd(link), .events = POLLIN };
	int ret;

	while ((ret = voxshm_try_recv(link, view)) == -EAGAIN)
		if (voxshm_link_arm(link, VOXSHM_READABLE) == 0)
			REQUIRE_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / MS)));
	return ret;
}

static void guest_echoes(struct voxshm_link *link, void *argument)
{
	const struct plan *plan = argument;
	struct voxshm_view view;

	set_spin(link, plan);
	for (uint64_t i = 0; i < plan->count; i++) {
		REQUIRE_EQ(0, plan->poll ? recv_polling(link, &view)
					 : voxshm_recv(link, &view, VOXSHM_FOREVER));
		REQUIRE_EQ(0, voxshm_send(link, view.data, view.size, VOXSHM_FOREVER));
		REQUIRE_EQ(0, voxshm_release(link, &view));
	}
	voxshm_link_close(link);
}

static void ping_pong(struct __test_metadata *_metadata, struct voxshm_host *host, struct plan plan)
{
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, host, guest_echoes, &plan, &link);

	set_spin(link, &plan);
	for (uint64_t i = 0; i < plan.count; i++) {
		ASSERT_EQ(0, send_pattern(link, plan.size(i), i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(link, plan.size(i), i, PATIENCE));
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
	voxshm_link_close(link);
}

TEST_F_TIMEOUT(pingpong, sleeping_at_once, 60)
{
	ping_pong(_metadata, self->host, (struct plan){ amount(50000), 0, tiny_size, false });
}

TEST_F_TIMEOUT(pingpong, spinning_first, 60)
{
	ping_pong(_metadata, self->host, (struct plan){ amount(20000), -1, tiny_size, false });
}

TEST_F_TIMEOUT(pingpong, polling_guest, 60)
{
	ping_pong(_metadata, self->host, (struct plan){ amount(20000), 0, tiny_size, true });
}

TEST_F_TIMEOUT(pingpong, mixed_sizes, 60)
{
	ping_pong(_metadata, self->host, (struct plan){ amount(5000), 0, mixed_size, false });
	ping_pong(_metadata, self->host, (struct plan){ amount(5000), -1, mixed_size, true });
}

static void guest_streams(struct voxshm_link *link, void *argument)
{
	const struct plan *plan = argument;

	set_spin(link, plan);
	for (uint64_t i = 0; i < plan->count; i++)
		REQUIRE_EQ(0, send_pattern(link, plan->size(i), i, VOXSHM_FOREVER));
	for (uint64_t i = 0; i < plan->count; i++)
		REQUIRE_EQ(0, recv_pattern(link, plan->size(i), ~i, VOXSHM_FOREVER));
	voxshm_link_close(link);
}

TEST_F_TIMEOUT(pingpong, stream_up_then_down, 60)
{
	static const int64_t spins[] = { 0, -1 };

	for (size_t s = 0; s < ARRAY_SIZE(spins); s++) {
		struct plan plan = { amount(50000), spins[s], mixed_size, false };
		struct voxshm_link *link;
		pid_t pid;

		plan.count /= 2;
		pid = guest_fork(_metadata, self->host, guest_streams, &plan, &link);
		set_spin(link, &plan);
		for (uint64_t i = 0; i < plan.count; i++) {
			ASSERT_EQ(0, recv_pattern(link, plan.size(i), i, PATIENCE));
		}
		for (uint64_t i = 0; i < plan.count; i++) {
			ASSERT_EQ(0, send_pattern(link, plan.size(i), ~i, PATIENCE));
		}
		EXPECT_EQ(0, child_wait(pid));
		voxshm_link_close(link);
	}
}

/* A guest that leaves at once after its last message: it still arrives. */
static void guest_hit_and_run(struct voxshm_link *link, void *argument)
{
	for (uint64_t i = 0; i < 5; i++)
		REQUIRE_EQ(0, send_pattern(link, mixed_size(i + *(uint64_t *)argument), i, PATIENCE));
	if (*(uint64_t *)argument % 2)
		voxshm_link_close(link);
}

TEST_F(pingpong, last_words_arrive)
{
	for (uint64_t round = 0; round < amount(100); round++) {
		struct voxshm_link *link;
		pid_t pid = guest_fork(_metadata, self->host, guest_hit_and_run, &round, &link);

		for (uint64_t i = 0; i < 5; i++) {
			ASSERT_EQ(0, recv_pattern(link, mixed_size(i + round), i, PATIENCE));
		}
		EXPECT_EQ(-EPIPE, voxshm_recv(link, &(struct voxshm_view){ 0 }, PATIENCE));
		voxshm_link_close(link);
		ASSERT_EQ(0, child_wait(pid));
	}
}

LINK_TEST_MAIN(NULL)
