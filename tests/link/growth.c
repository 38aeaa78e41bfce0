// SPDX-License-Identifier: MIT
/* growth.c - the shared pool of a vox segment gets more slots while it is in use. */
#include "processes.h"

static const struct voxshm_class one_class[] = { { 1024, 8 } };
#define SLOTS 8
#define MORE (16 * KIB)
#define GROWING .num_classes = 1, .classes = one_class, .ring_capacity = 4096, \
	.max_payload = 800, .inline_threshold = 64

FIXTURE(growth) { struct pair pair; };
FIXTURE_VARIANT(growth) { struct variant_choice choice; };
VARIANT_ADD(growth, vox_file_down, VOX, FILE, true)
VARIANT_ADD(growth, vox_file_up, VOX, FILE, false)
VARIANT_ADD(growth, vox_device_down, VOX, DEVICE, true)
VARIANT_ADD(growth, vox_device_up, VOX, DEVICE, false)

FIXTURE_SETUP(growth)
{
	pair_open(_metadata, &self->pair, &CONFIG(variant, GROWING, .max_size = 1 * MIB));
}

FIXTURE_TEARDOWN(growth)
{
	pair_close(_metadata, &self->pair);
}

/* Loans every slot that there is. */
static unsigned int loan_all(struct voxshm_link *link, struct voxshm_loan *loans, unsigned int room)
{
	unsigned int count = 0;

	while (count < room && voxshm_loan(link, 800, &loans[count], 0) == 0)
		count++;
	return count;
}

static int grow_by(struct pair *pair, uint64_t bytes)
{
	struct voxshm_error error = { "" };
	int ret = voxshm_host_grow(pair->host, bytes, &error);

	REQUIRE((ret < 0) == (*error.text != 0));
	return ret;
}

TEST_F(growth, new_slots_carry_messages_and_old_ones_stay_where_they_are)
{
	struct voxshm_loan loans[64];
	unsigned int before, count, i;

	before = loan_all(SENDER, loans, ARRAY_SIZE(loans));
	EXPECT_EQ(SLOTS, before);
	for (i = 0; i < before; i++)
		pattern_fill(loans[i].data, 800, i);
	ASSERT_EQ(0, grow_by(&self->pair, MORE));
	count = before + loan_all(SENDER, loans + before, ARRAY_SIZE(loans) - before);
	EXPECT_LT(before + 8, count);
	EXPECT_GT(ARRAY_SIZE(loans), count);
	for (i = before; i < count; i++)
		pattern_fill(loans[i].data, 800, i);
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, voxshm_commit(SENDER, &loans[i], 800, 0));
		ASSERT_EQ(0, recv_pattern(RECEIVER, 800, i, 0));
	}
	/* All came back. */
	EXPECT_EQ(count, loan_all(SENDER, loans, ARRAY_SIZE(loans)));
	for (i = 0; i < count; i++)
		voxshm_abort(SENDER, &loans[i]);
}

static void *sends_one(void *link)
{
	return (void *)(intptr_t)send_pattern(link, 800, 77, PATIENCE);
}

TEST_F(growth, who_waits_for_a_slot_goes_on)
{
	struct voxshm_loan loans[SLOTS];
	pthread_t sender;
	void *ret;
	int i;

	ASSERT_EQ(SLOTS, loan_all(self->pair.host_end, loans, SLOTS));
	sender = thread_start(sends_one, self->pair.guest_end);
	EXPECT_EQ(-ETIMEDOUT, recv_pattern(self->pair.host_end, 800, 77, 50 * MS));
	ASSERT_EQ(0, grow_by(&self->pair, MORE));
	EXPECT_EQ(0, recv_pattern(self->pair.host_end, 800, 77, PATIENCE));
	REQUIRE_EQ(0, pthread_join(sender, &ret));
	EXPECT_EQ(0, (intptr_t)ret);
	for (i = 0; i < SLOTS; i++)
		voxshm_abort(self->pair.host_end, &loans[i]);
}

/* Nobody rings for it, as nobody was asleep yet. */
TEST_F(growth, growth_before_the_guest_sleeps_is_seen)
{
	struct voxshm_link *guest = self->pair.guest_end;
	struct voxshm_loan loans[SLOTS], loan;
	int i;

	ASSERT_EQ(SLOTS, loan_all(self->pair.host_end, loans, SLOTS));
	EXPECT_EQ(-EAGAIN, voxshm_loan(guest, 800, &loan, 0));
	ASSERT_EQ(0, grow_by(&self->pair, MORE));
	EXPECT_EQ(VOXSHM_WRITABLE, voxshm_link_arm(guest, VOXSHM_WRITABLE));
	EXPECT_EQ(0, voxshm_loan(guest, 800, &loan, 0));
	voxshm_abort(guest, &loan);
	for (i = 0; i < SLOTS; i++)
		voxshm_abort(self->pair.host_end, &loans[i]);
}

TEST_F(growth, guest_that_comes_later_knows_all_slots)
{
	struct voxshm_link *host_end, *guest_end;
	struct voxshm_loan loans[128];
	unsigned int count, i, grown;

	for (grown = 0; grown < 3; grown++)
		ASSERT_EQ(0, grow_by(&self->pair, MORE));
	link_make(_metadata, self->pair.host, &host_end, &guest_end);
	count = loan_all(guest_end, loans, ARRAY_SIZE(loans));
	EXPECT_LT(SLOTS + 3 * 8, count);
	for (i = 0; i < count; i++) {
		pattern_fill(loans[i].data, 800, i);
		ASSERT_EQ(0, voxshm_commit(guest_end, &loans[i], 800, 0));
		ASSERT_EQ(0, recv_pattern(host_end, 800, i, 0));
	}
	voxshm_link_close(guest_end);
	voxshm_link_close(host_end);
}

static int echoes_all(struct voxshm_link *link, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		REQUIRE_EQ(0, recv_pattern(link, 800, i, PATIENCE));
		REQUIRE_EQ(0, send_pattern(link, 800, i + 1, PATIENCE));
	}
	voxshm_link_close(link);
	_exit(0);
}

TEST_F(growth, grows_under_a_guest_in_another_process)
{
	enum { MESSAGES = 200 };
	struct voxshm_error error = { "" };
	struct voxshm_link *link, *guest;
	int ticket = -1, i;
	pid_t pid;

	ASSERT_EQ(0, voxshm_host_ticket(self->pair.host, &ticket, &link, &error));
	pid = child_fork();
	if (pid == 0) {
		REQUIRE_EQ(0, voxshm_guest_claim(&guest, ticket, &error));
		echoes_all(guest, MESSAGES);
	}
	close(ticket);
	for (i = 0; i < MESSAGES; i++) {
		if (i % 50 == 25)
			ASSERT_EQ(0, grow_by(&self->pair, MORE));
		ASSERT_EQ(0, send_pattern(link, 800, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(link, 800, i + 1, PATIENCE));
	}
	EXPECT_EQ(0, child_wait(pid));
	voxshm_link_close(link);
}

TEST_F(growth, limit_is_kept_and_what_is_refused_changes_nothing)
{
	struct voxshm_loan loans[SLOTS + 1];
	int i;

	EXPECT_EQ(-EFBIG, grow_by(&self->pair, 1 * MIB));
	EXPECT_EQ(-EFBIG, grow_by(&self->pair, UINT64_MAX));
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		EXPECT_EQ(-EINVAL, grow_by(&self->pair, 64));
	EXPECT_EQ(0, grow_by(&self->pair, 0));
	EXPECT_EQ(SLOTS, loan_all(SENDER, loans, SLOTS + 1));
	for (i = 0; i < SLOTS; i++)
		voxshm_abort(SENDER, &loans[i]);
	pair_renew(_metadata, &self->pair, &CONFIG(variant, GROWING));
	EXPECT_EQ(-EFBIG, grow_by(&self->pair, MORE));
}

TEST(native_links_have_memory_of_their_own)
{
	struct voxshm_config config = { .struct_size = sizeof(config),
					.backend = VOXSHM_BACKEND_FILE };
	struct voxshm_error error = { "" };
	struct voxshm_host *host;

	ASSERT_EQ(0, voxshm_host_new(&host, &config, &error));
	EXPECT_EQ(-EOPNOTSUPP, voxshm_host_grow(host, MORE, &error));
	EXPECT_NE(0, *error.text);
	EXPECT_EQ(-EOPNOTSUPP, voxshm_host_grow(host, MORE, NULL));
	voxshm_host_free(host);
}

LINK_TEST_MAIN(NULL)
