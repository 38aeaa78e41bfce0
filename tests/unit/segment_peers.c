// SPDX-License-Identifier: GPL-2.0
/* Peer slots: reserved, claimed, attached, left; heartbeats; goodbye. */
#include "vox_test.h"
#include "kselftest_harness.h"

FIXTURE(peers) {
	struct voxshm_segment *segment;
};

FIXTURE_SETUP(peers)
{
	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), NULL), 0);
}

FIXTURE_TEARDOWN(peers)
{
	voxshm_segment_free(self->segment);
}

static uint32_t state(struct voxshm_segment *segment, uint32_t peer)
{
	struct voxshm_peer info;

	return voxshm_segment_peer(segment, peer, &info) ? UINT32_MAX : info.state;
}

static uint32_t epoch(struct voxshm_segment *segment, uint32_t peer)
{
	struct voxshm_peer info;

	return voxshm_segment_peer(segment, peer, &info) ? UINT32_MAX : info.epoch;
}

TEST_F(peers, all_begin_empty)
{
	uint32_t peer;

	for (peer = 1; peer <= 4; peer++) {
		EXPECT_EQ(state(self->segment, peer), VOXSHM_PEER_EMPTY);
		EXPECT_EQ(epoch(self->segment, peer), 0);
	}
}

TEST_F(peers, lifecycle_reserve_release_claim_detach_attach)
{
	int reserved = voxshm_segment_reserve_peer(self->segment);

	ASSERT_EQ(reserved, 1);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_RESERVED);
	EXPECT_EQ(voxshm_segment_release_peer(self->segment, 1), 0);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_EMPTY);
	ASSERT_EQ(voxshm_segment_reserve_peer(self->segment), 1);
	EXPECT_EQ(voxshm_segment_claim_peer(self->segment, 1), 0);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_ATTACHED);
	EXPECT_EQ(voxshm_segment_detach_peer(self->segment, 1), 0);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_GOODBYE);
	EXPECT_EQ(voxshm_segment_attach_peer(self->segment), 2);
	EXPECT_EQ(state(self->segment, 2), VOXSHM_PEER_ATTACHED);
}

TEST_F(peers, epoch_rises_with_each_life)
{
	ASSERT_EQ(voxshm_segment_attach_peer(self->segment), 1);
	EXPECT_EQ(epoch(self->segment, 1), 1);
	ASSERT_EQ(voxshm_segment_detach_peer(self->segment, 1), 0);
	EXPECT_EQ(epoch(self->segment, 1), 1);
	ASSERT_GE(voxshm_segment_recover(self->segment, 1, NULL, NULL), 0);
	EXPECT_EQ(epoch(self->segment, 1), 1);
	ASSERT_EQ(voxshm_segment_reserve_peer(self->segment), 1);
	EXPECT_EQ(epoch(self->segment, 1), 2);
	ASSERT_EQ(voxshm_segment_claim_peer(self->segment, 1), 0);
	EXPECT_EQ(epoch(self->segment, 1), 2);
}

TEST_F(peers, all_taken_is_told)
{
	int i;

	for (i = 1; i <= 4; i++)
		ASSERT_EQ(voxshm_segment_attach_peer(self->segment), i);
	EXPECT_EQ(voxshm_segment_attach_peer(self->segment), -EUSERS);
	EXPECT_EQ(voxshm_segment_reserve_peer(self->segment), -EUSERS);
}

TEST(two_hundred_and_fifty_sixth_guest_is_refused)
{
	struct voxshm_segment *segment;
	int i;

	ASSERT_EQ(voxshm_segment_create(&segment, CONFIG(.max_guests = 255, .ring_capacity = 72,
							 .num_classes = 1,
							 .classes = test_classes), NULL), 0);
	for (i = 1; i <= 255; i++)
		ASSERT_EQ(voxshm_segment_attach_peer(segment), i);
	EXPECT_EQ(voxshm_segment_attach_peer(segment), -EUSERS);
	ASSERT_GE(voxshm_segment_recover(segment, 77, NULL, NULL), 0);
	EXPECT_EQ(voxshm_segment_attach_peer(segment), 77);
	voxshm_segment_free(segment);
}

TEST_F(peers, steps_out_of_turn_are_refused_and_change_nothing)
{
	EXPECT_EQ(voxshm_segment_claim_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(voxshm_segment_release_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(voxshm_segment_detach_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_EMPTY);
	ASSERT_EQ(voxshm_segment_attach_peer(self->segment), 1);
	EXPECT_EQ(voxshm_segment_claim_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(voxshm_segment_release_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_ATTACHED);
	ASSERT_EQ(voxshm_segment_detach_peer(self->segment, 1), 0);
	EXPECT_EQ(voxshm_segment_detach_peer(self->segment, 1), -ESTALE);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_GOODBYE);
}

TEST_F(peers, peer_that_does_not_exist_is_refused)
{
	static const uint32_t nobody[] = { 0, 5, 255, UINT32_MAX };
	struct voxshm_peer info;
	size_t i;

	for (i = 0; i < sizeof(nobody) / sizeof(nobody[0]); i++) {
		EXPECT_EQ(voxshm_segment_claim_peer(self->segment, nobody[i]), -EINVAL);
		EXPECT_EQ(voxshm_segment_release_peer(self->segment, nobody[i]), -EINVAL);
		EXPECT_EQ(voxshm_segment_detach_peer(self->segment, nobody[i]), -EINVAL);
		EXPECT_EQ(voxshm_segment_peer(self->segment, nobody[i], &info), -EINVAL);
		EXPECT_EQ(voxshm_segment_beat(self->segment, nobody[i], 1), -EINVAL);
		EXPECT_EQ(voxshm_segment_is_stale(self->segment, nobody[i], 1), -EINVAL);
		EXPECT_EQ(voxshm_segment_recover(self->segment, nobody[i], NULL, NULL), -EINVAL);
	}
}

TEST_F(peers, guest_of_ours_says_who_it_is)
{
	struct voxshm_peer info;

	ASSERT_EQ(voxshm_segment_attach_peer(self->segment), 1);
	ASSERT_EQ(voxshm_segment_peer(self->segment, 1, &info), 0);
	EXPECT_EQ(info.pid, getpid());
	EXPECT_NE(info.features, 0);
	ASSERT_GE(voxshm_segment_recover(self->segment, 1, NULL, NULL), 0);
	ASSERT_EQ(voxshm_segment_peer(self->segment, 1, &info), 0);
	EXPECT_EQ(info.pid, 0);
	EXPECT_EQ(info.features, 0);
}

TEST_F(peers, guest_of_vox_shm_host_leaves_reserved_bytes_zero)
{
	struct voxshm_segment *guest;
	struct voxshm_peer info;

	test_make_plain(self->segment);
	ASSERT_EQ(voxshm_segment_attach_fd(&guest, voxshm_segment_fd(self->segment), NULL), 0);
	ASSERT_EQ(voxshm_segment_attach_peer(guest), 1);
	ASSERT_EQ(voxshm_segment_peer(guest, 1, &info), 0);
	EXPECT_EQ(info.features, 0);
	EXPECT_EQ(info.pid, 0);
	voxshm_segment_free(guest);
}

TEST_F(peers, goodbye_of_the_host_is_seen)
{
	struct voxshm_segment_info info;

	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(info.host_goodbye, 0);
	voxshm_segment_set_goodbye(self->segment);
	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(info.host_goodbye, 1);
}

/* Heartbeats; the interval is 1,000,000 ns ------------------------------------------- */

TEST_F(peers, heartbeat_is_stale_after_twice_the_interval_and_not_before)
{
	ASSERT_EQ(voxshm_segment_beat(self->segment, 1, 5000000), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 5000000), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 6999999), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 7000000), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 7000001), 1);
}

TEST_F(peers, heartbeat_from_the_future_is_not_stale)
{
	ASSERT_EQ(voxshm_segment_beat(self->segment, 1, 9000000), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 1), 0);
}

TEST_F(peers, heartbeat_that_never_came_counts_from_zero)
{
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 2000000), 0);
	EXPECT_EQ(voxshm_segment_is_stale(self->segment, 1, 2000001), 1);
}

TEST(heartbeat_without_an_interval_is_never_stale)
{
	struct voxshm_segment *segment;

	ASSERT_EQ(voxshm_segment_create(&segment, NULL, NULL), 0);
	EXPECT_EQ(voxshm_segment_is_stale(segment, 1, UINT64_MAX), 0);
	voxshm_segment_free(segment);
}

TEST(heartbeat_with_the_largest_interval_does_not_overflow)
{
	struct voxshm_segment *segment;

	ASSERT_EQ(voxshm_segment_create(&segment, CONFIG(.heartbeat_interval = UINT64_MAX / 2 + 2),
					NULL), 0);
	EXPECT_EQ(voxshm_segment_is_stale(segment, 1, UINT64_MAX), 0);
	voxshm_segment_free(segment);
}

TEST_F(peers, heartbeat_is_cleared_for_the_next_life)
{
	struct voxshm_peer info;

	ASSERT_EQ(voxshm_segment_attach_peer(self->segment), 1);
	ASSERT_EQ(voxshm_segment_beat(self->segment, 1, 5000000), 0);
	ASSERT_GE(voxshm_segment_recover(self->segment, 1, NULL, NULL), 0);
	ASSERT_EQ(voxshm_segment_peer(self->segment, 1, &info), 0);
	EXPECT_EQ(info.last_heartbeat, 0);
}

/* Many at a time ----------------------------------------------------------------------- */

/* Every child takes slots until none is left; each slot must have one taker. */
TEST(concurrent_attaches_get_distinct_peers)
{
	enum { CHILDREN = 8, ROUNDS = 40 };
	shared_u32 *takers = test_shared(256 * sizeof(*takers));
	shared_u32 *start = test_shared(sizeof(*start));
	struct voxshm_segment *segment;
	int round, i;

	ASSERT_EQ(voxshm_segment_create(&segment, CONFIG(.max_guests = 64, .ring_capacity = 72,
							 .num_classes = 1,
							 .classes = test_classes), NULL), 0);
	for (round = 0; round < ROUNDS; round++) {
		pid_t children[CHILDREN];

		shared_poke_u32(start, 0);
		for (i = 0; i < CHILDREN; i++) {
			children[i] = fork();
			ASSERT_GE(children[i], 0);
			if (children[i] == 0) {
				struct voxshm_segment *mine;
				int peer;

				if (voxshm_segment_attach_fd(&mine, voxshm_segment_fd(segment),
							     NULL))
					_exit(1);
				while (!shared_load_u32(start))
					sched_yield();
				while ((peer = voxshm_segment_attach_peer(mine)) > 0)
					if (shared_exchange_u32(&takers[peer], 1))
						_exit(2);
				_exit(peer == -EUSERS ? 0 : 3);
			}
		}
		shared_store_u32(start, 1);
		for (i = 0; i < CHILDREN; i++)
			ASSERT_EQ(test_wait(children[i]), 0);
		for (i = 1; i <= 64; i++) {
			ASSERT_EQ(shared_exchange_u32(&takers[i], 0), 1);
			ASSERT_EQ(epoch(segment, (uint32_t)i), (uint32_t)round + 1);
			ASSERT_GE(voxshm_segment_recover(segment, (uint32_t)i, NULL, NULL), 0);
		}
	}
	voxshm_segment_free(segment);
}

/* vox-shm takes a slot by its state alone, and raises the epoch after. */
TEST_F(peers, vox_shm_guest_that_was_first_keeps_its_slot)
{
	shared_u32 *words = (shared_u32 *)(void *)&vox_peer(self->segment, 1)->state_epoch;

	shared_poke_u32(&words[0], VOXSHM_PEER_ATTACHED);
	EXPECT_EQ(voxshm_segment_attach_peer(self->segment), 2);
	shared_poke_u32(&words[1], 1);
	EXPECT_EQ(state(self->segment, 1), VOXSHM_PEER_ATTACHED);
	EXPECT_EQ(epoch(self->segment, 1), 1);
}

TEST_HARNESS_MAIN
