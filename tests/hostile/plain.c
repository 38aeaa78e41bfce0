// SPDX-License-Identifier: MIT
/*
 * plain.c - the memory that a vox-shm guest offers, and how it rings. It cannot seal what it
 * offers, so a host has to live with memory that is taken away again; and it
 * tells nobody what it lets go of, so a host has to bound what it keeps. Nor does
 * it know when its host sleeps, and rings for all it does.
 */
#include "plain_guest.h"

#define SIZE 100000u
#define MOST 4u		/* max_mappings */

FIXTURE(plain)
{
	struct voxshm_host *host;
	struct voxshm_link *link;
	struct plain_guest guest;
	int fds_before;
};

/* Host and guest, one link, and rings of that size. */
static void open_with(struct __test_metadata *_metadata, FIXTURE_DATA(plain) *self,
		      uint32_t ring_capacity)
{
	static const struct voxshm_class classes[] = { { 1024, 8 } };
	struct voxshm_config config = {
		.struct_size = sizeof(config), .format = VOXSHM_FORMAT_VOX,
		.backend = VOXSHM_BACKEND_FILE, .max_guests = 2, .ring_capacity = ring_capacity,
		.num_classes = 1, .classes = classes, .max_mappings = MOST,
	};
	struct invitation invitation;

	host_open(_metadata, &self->host, &config);
	ASSERT_EQ(0, host_link_new(self->host, &self->link, &invitation, NULL));
	plain_join(&self->guest, &invitation);
}

FIXTURE_SETUP(plain)
{
	self->fds_before = count_fds();
	open_with(_metadata, self, 4096);
}

FIXTURE_TEARDOWN(plain)
{
	plain_leave(&self->guest);
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* Offers memory of that number; seed is what is in it. Return: its descriptor. */
static int offer(struct plain_guest *guest, uint32_t map_id)
{
	int fd = memory_make(SIZE, 0, map_id);

	REQUIRE_EQ(0, vox_offer_raw(guest->control, map_id, 0, SIZE, fd, 1));
	return fd;
}

static int refer(struct plain_guest *guest, uint32_t map_id, uint64_t offset, uint32_t length)
{
	struct vox_mapping_ref ref = { map_id, 0, offset, length };

	return plain_refer(guest, &ref, true);
}

TEST_F(plain, payload_outlives_memory_that_is_truncated)
{
	struct voxshm_view view;
	int fd = offer(&self->guest, 0);

	ASSERT_EQ(0, refer(&self->guest, 0, 0, SIZE));
	ASSERT_EQ(0, voxshm_recv(self->link, &view, PATIENCE));
	ASSERT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(SIZE, view.size);
	EXPECT_TRUE(pattern_is(view.data, SIZE, 0));
	EXPECT_EQ(0, voxshm_release(self->link, &view));
	close(fd);
}

TEST_F(plain, memory_that_was_truncated_fails_the_link)
{
	struct voxshm_view view;
	int fd = offer(&self->guest, 0);

	voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	ASSERT_EQ(0, ftruncate(fd, SIZE / 2));
	ASSERT_EQ(0, refer(&self->guest, 0, 0, SIZE));
	EXPECT_EQ(-EBADMSG, voxshm_recv(self->link, &view, PATIENCE));
	EXPECT_STREQ("it took back memory that it had offered", reason_of(self->link));
	close(fd);
}

TEST_F(plain, copy_is_given_back_once)
{
	struct voxshm_view view, again;
	int fd = offer(&self->guest, 0);

	ASSERT_EQ(0, refer(&self->guest, 0, 0, 0));
	ASSERT_EQ(0, voxshm_recv(self->link, &view, PATIENCE));
	EXPECT_EQ(0, view.size);
	EXPECT_NE(NULL, view.data);
	again = view;
	EXPECT_EQ(0, voxshm_release(self->link, &view));
	EXPECT_EQ(-EINVAL, voxshm_release(self->link, &again));
	close(fd);
}

/* Its offer comes before anything that tells what kind of guest it is. */
TEST_F(plain, first_message_may_be_a_mapping)
{
	int fd = offer(&self->guest, 0);
	struct vox_mapping_ref ref = { 0, 0, 0, SIZE };

	ASSERT_EQ(0, plain_refer(&self->guest, &ref, false));
	EXPECT_EQ(0, recv_pattern(self->link, SIZE, 0, 0))
		TH_LOG("%s", reason_of(self->link));
	close(fd);
}

TEST_F(plain, first_message_may_be_a_mapping_of_one_that_has_left)
{
	int fd = offer(&self->guest, 0);
	struct voxshm_event event;

	ASSERT_EQ(0, refer(&self->guest, 0, 0, SIZE));
	ASSERT_EQ(0, voxshm_segment_detach_peer(self->guest.segment, self->guest.peer));
	plain_leave(&self->guest);
	ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	EXPECT_EQ(VOXSHM_EVENT_ATTACHED, event.type);
	ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	EXPECT_EQ(VOXSHM_EVENT_READABLE, event.type);
	EXPECT_EQ(0, recv_pattern(self->link, SIZE, 0, 0))
		TH_LOG("%s", reason_of(self->link));
	close(fd);
}

/* What it sends one after another is not bounded, what the host keeps of it is. */
TEST_F(plain, many_in_order_cost_the_host_no_more_than_its_limit)
{
	int fds;

	plain_ring(&self->guest);
	voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	fds = count_fds();
	for (uint32_t i = 0; i < 50; i++) {
		int fd = offer(&self->guest, i);

		close(fd);
		/* Half of the memory: the guest may still use the rest. */
		ASSERT_EQ(0, refer(&self->guest, i, 0, SIZE / 2));
		ASSERT_EQ(0, recv_pattern(self->link, SIZE / 2, i, PATIENCE))
			TH_LOG("mapping %u: %s", i, reason_of(self->link));
		EXPECT_GE(fds + (int)MOST, count_fds());
	}
}

TEST_F(plain, used_up_memory_is_closed_at_once)
{
	int fds, fd;

	plain_ring(&self->guest);
	voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	fds = count_fds();
	fd = offer(&self->guest, 0);
	close(fd);
	for (uint32_t i = 0; i < 4; i++) {
		struct voxshm_view view;

		ASSERT_EQ(0, refer(&self->guest, 0, i * (SIZE / 4), SIZE / 4));
		ASSERT_EQ(0, voxshm_recv(self->link, &view, PATIENCE));
		ASSERT_EQ(0, voxshm_release(self->link, &view));
	}
	EXPECT_EQ(fds, count_fds());
}

/* More at once than the limit, out of order: the one that is needed cannot come. */
TEST_F(plain, more_at_once_than_the_limit_is_refused_with_a_reason)
{
	struct voxshm_view view;
	int fds;

	plain_ring(&self->guest);
	voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	fds = count_fds();
	for (uint32_t i = 0; i < 3 * MOST; i++)
		close(offer(&self->guest, i));
	for (int i = 0; i < 3; i++) {
		plain_ring(&self->guest);
		voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
		EXPECT_GE(fds + (int)MOST, count_fds());
	}
	EXPECT_STREQ("", reason_of(self->link));
	ASSERT_EQ(0, refer(&self->guest, 3 * MOST - 1, 0, SIZE));
	EXPECT_EQ(-EBADMSG, voxshm_recv(self->link, &view, PATIENCE));
	EXPECT_STREQ("it offered more mappings at once than max_mappings", reason_of(self->link));
	EXPECT_GE(fds + (int)MOST, count_fds());
}

TEST_F(plain, offers_that_wait_are_taken_when_there_is_room)
{
	plain_ring(&self->guest);
	for (uint32_t i = 0; i < 3 * MOST; i++)
		close(offer(&self->guest, i));
	for (uint32_t i = 0; i < 3 * MOST; i++) {
		ASSERT_EQ(0, refer(&self->guest, i, 0, SIZE));
		ASSERT_EQ(0, recv_pattern(self->link, SIZE, i, PATIENCE))
			TH_LOG("mapping %u: %s", i, reason_of(self->link));
	}
}

static bool rings_are_taken(struct voxshm_link *link, const struct plain_guest *guest, int count)
{
	for (int i = 0; i < count; i++) {
		plain_ring(guest);
		if (i % 64 == 63 || i == count - 1)
			voxshm_link_status(link, &(struct voxshm_status){ 0 });
	}
	return *reason_of(link) == '\0';
}

/* The host's loop looks at the doorbell seldom, when the ring stands where it stood before. */
TEST_F(plain, it_rings_for_all_it_sends)
{
	const uint32_t size = 24, lap = 4096 / vox_entry_size(size);
	struct voxshm_view view;

	ASSERT_EQ(0, 4096 % vox_entry_size(size));
	for (uint32_t i = 0; i < 20000; i += lap) {
		for (uint32_t j = 0; j < lap; j++) {
			ASSERT_EQ(0, plain_send(&self->guest, size));
			ASSERT_EQ(0, voxshm_recv(self->link, &view, PATIENCE))
				TH_LOG("message %u: %s", i + j, reason_of(self->link));
			ASSERT_EQ(0, voxshm_release(self->link, &view));
		}
		ASSERT_TRUE(rings_are_taken(self->link, &self->guest, 1))
			TH_LOG("message %u: %s", i, reason_of(self->link));
	}
}

/* One ring when it has read, one when it lets go of what it read. */
TEST_F(plain, it_rings_for_all_it_reads)
{
	struct vox_ring_consumer consumer;

	ASSERT_EQ(0, vox_consumer_init(&consumer, vox_peer_ring(self->guest.segment,
								self->guest.peer, VOX_HOST),
				       self->guest.segment->geometry.ring_capacity, NULL));
	plain_ring(&self->guest);
	for (int i = 0; i < 10000; i++) {
		ASSERT_EQ(0, voxshm_send(self->link, "x", 1, PATIENCE));
		ASSERT_LT(0, vox_ring_peek(&consumer));
		ASSERT_EQ(0, vox_ring_release(&consumer, vox_ring_take(&consumer,
								      vox_entry_size(1))));
		vox_ring_publish_read(&consumer);
		ASSERT_TRUE(rings_are_taken(self->link, &self->guest, 2))
			TH_LOG("message %d: %s", i, reason_of(self->link));
	}
}

/* The host does not receive for long, and then sends much at once. */
TEST_F(plain, it_rings_for_all_that_the_rings_hold)
{
	struct voxshm_view view;
	uint32_t count = 0;

	plain_leave(&self->guest);
	voxshm_host_free(self->host);
	open_with(_metadata, self, 1 << 20);
	while (plain_send(&self->guest, 8) == 0)
		if (++count % 64 == 0)
			voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	EXPECT_LT(30000, count);
	EXPECT_STREQ("", reason_of(self->link));
	while (voxshm_try_recv(self->link, &view) == 0)
		ASSERT_EQ(0, voxshm_release(self->link, &view));
	for (count = 0; voxshm_try_send(self->link, "x", 1) == 0; count++)
		;
	EXPECT_LT(30000, count);
	EXPECT_TRUE(rings_are_taken(self->link, &self->guest, 2 * (int)count))
		TH_LOG("%s", reason_of(self->link));
}

TEST_F(plain, it_rings_without_end)
{
	int patience;

	ASSERT_EQ(0, plain_send(&self->guest, 1));
	ASSERT_EQ(0, voxshm_recv(self->link, &(struct voxshm_view){ 0 }, PATIENCE));
	voxshm_link_status(self->link, &(struct voxshm_status){ 0 });
	patience = self->link->patience;
	/* It may have kept all slots, and let go of them now; it rang before it was known. */
	EXPECT_TRUE(rings_are_taken(self->link, &self->guest, patience));
	EXPECT_FALSE(rings_are_taken(self->link, &self->guest, 100));
	EXPECT_GT(10000, patience);
	EXPECT_STREQ("it rings without end", reason_of(self->link));
}

/* What the guest itself says of its ring is no reason. */
TEST_F(plain, it_rings_without_end_and_moves_its_index)
{
	struct vox_ring *ring = vox_peer_ring(self->guest.segment, self->guest.peer, VOX_HOST);
	bool taken = true;

	ASSERT_EQ(0, plain_send(&self->guest, 1));
	ASSERT_EQ(0, voxshm_recv(self->link, &(struct voxshm_view){ 0 }, PATIENCE));
	for (uint32_t i = 0; i < 400 && taken; i++) {
		shared_store_u32(&ring->read, i | 0x80000000);
		taken = rings_are_taken(self->link, &self->guest, 64);
	}
	EXPECT_FALSE(taken);
}

/* A guest of ours seals what it offers, whatever number it gives it. */
TEST_F(plain, guest_of_ours_must_seal_under_every_number)
{
	static const uint32_t numbers[] = { MOST, MOST + 1, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct voxshm_link *host_end, *guest_end;
		int fd = memory_make(SIZE, 0, 1);

		link_make(_metadata, self->host, &host_end, &guest_end);
		voxshm_link_status(host_end, &(struct voxshm_status){ 0 });
		ASSERT_EQ(0, vox_offer_raw(vox_link(guest_end)->end->control, numbers[i], 1, SIZE,
					   fd, 1));
		ASSERT_EQ(0, voxshm_send(guest_end, "x", 1, 0));
		EXPECT_STRNE("", reason_of(host_end));
		voxshm_link_close(guest_end);
		voxshm_link_close(host_end);
		close(fd);
	}
}

LINK_TEST_MAIN(NULL)
