// SPDX-License-Identifier: MIT
/* told.c - a host is told of a guest that broke a rule, whichever call finds out. */
#include "attack.h"

FIXTURE(told)
{
	struct inbox inbox;
	struct voxshm_link *host_end, *guest_end;
	int fds_before;
};
VARIANTS(told)

/* The host has looked so long for nothing that it waits to be rung. */
FIXTURE_SETUP(told)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->inbox.host,
		  &CONFIG(variant, SMALL_CLASSES, .ring_capacity = 2048));
	link_make(_metadata, self->inbox.host, &self->host_end, &self->guest_end);
	ASSERT_EQ(self->host_end, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, NULL));
	ASSERT_EQ(NULL, inbox_next(&self->inbox, 10 * MS));
}

FIXTURE_TEARDOWN(told)
{
	voxshm_link_close(self->guest_end);
	voxshm_host_free(self->inbox.host);
	EXPECT_EQ(self->fds_before, count_fds());
}

static void expect_told(struct __test_metadata *_metadata, FIXTURE_DATA(told) *self)
{
	/* Asking for the status would make the host look. */
	EXPECT_EQ(self->host_end, inbox_await(&self->inbox, VOXSHM_EVENT_FAILED, NULL));
	EXPECT_STRNE("", reason_of(self->host_end));
}

TEST_F(told, by_a_send)
{
	bool vox = variant->choice.format == VOXSHM_FORMAT_VOX;
	shared_u32 *read = vox ? &vox_link(self->guest_end)->consumer.ring->read :
				 &native_link(self->guest_end)->consumer.ring->read;
	int ret;

	shared_store_u32(read, UINT32_MAX);
	do
		ret = voxshm_try_send(self->host_end, "0123456789", 10);
	while (ret == 0);
	ASSERT_EQ(-EBADMSG, ret);
	expect_told(_metadata, self);
}

TEST_F(told, by_a_receive)
{
	struct voxshm_view view;

	if (variant->choice.format == VOXSHM_FORMAT_VOX)
		vox_refer_raw(self->guest_end, &(struct mapping_ref){ .length = UINT32_MAX });
	else
		native_refer_raw(self->guest_end, &(struct mapping_ref){ .length = UINT32_MAX });
	ASSERT_EQ(-EBADMSG, voxshm_recv(self->host_end, &view, PATIENCE));
	expect_told(_metadata, self);
}

/* The same where the host sleeps on its descriptor, in a loop of the application's. */
TEST_F(told, by_the_hosts_descriptor)
{
	bool vox = variant->choice.format == VOXSHM_FORMAT_VOX;
	shared_u32 *read = vox ? &vox_link(self->guest_end)->consumer.ring->read :
				 &native_link(self->guest_end)->consumer.ring->read;

	shared_store_u32(read, UINT32_MAX);
	ASSERT_EQ(0, voxshm_host_arm(self->inbox.host));
	while (voxshm_try_send(self->host_end, "0123456789", 10) == 0)
		;
	EXPECT_EQ(1, voxshm_host_arm(self->inbox.host));
	expect_told(_metadata, self);
}

LINK_TEST_MAIN(NULL)
