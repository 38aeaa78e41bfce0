// SPDX-License-Identifier: MIT
/*
 * descriptors.c - memory that guests offer costs the host no descriptors while
 * it waits, and a host that has none left loses no message of anybody.
 */
#include "attack.h"

#define LARGE 100000u
#define GUESTS 12
#define MOST 16u	/* max_mappings */

static const struct voxshm_class classes[] = { { 1024, 8 } };

FIXTURE(descriptors)
{
	struct voxshm_host *host;
	struct voxshm_link *host_ends[GUESTS], *guest_ends[GUESTS];
	int fds_before;
};
VARIANTS(descriptors)

FIXTURE_SETUP(descriptors)
{
	if (variant->choice.backend != VOXSHM_BACKEND_FILE)
		SKIP(_exit(255), "on the device memory needs no descriptors");
	self->fds_before = count_fds();
	host_open(_metadata, &self->host,
		  &CONFIG(variant, .num_classes = 1, .classes = classes, .max_mappings = MOST));
	for (int i = 0; i < GUESTS; i++) {
		link_make(_metadata, self->host, &self->host_ends[i], &self->guest_ends[i]);
		voxshm_link_status(self->host_ends[i], &(struct voxshm_status){ 0 });
	}
}

FIXTURE_TEARDOWN(descriptors)
{
	for (int i = 0; i < GUESTS; i++)
		voxshm_link_close(self->guest_ends[i]);
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

static int offer_raw(struct voxshm_link *guest, uint32_t map_id, uint32_t generation, uint64_t size,
		     int fd, int count)
{
	if (voxshm_link_format(guest) == VOXSHM_FORMAT_VOX)
		return vox_offer_raw(vox_link(guest)->end->control, map_id, generation, size, fd,
				     count);
	return native_offer_raw(guest->end->wake_fd, map_id, generation, size, fd, count);
}

/* A reference to a mapping, as the guest's library would commit it. */
static void refer_raw(struct voxshm_link *guest, const struct mapping_ref *ref)
{
	if (voxshm_link_format(guest) == VOXSHM_FORMAT_VOX)
		vox_refer_raw(guest, ref);
	else
		native_refer_raw(guest, ref);
}

/* Tells how many descriptors may still be opened. */
static struct rlimit limit_descriptors(rlim_t most)
{
	struct rlimit limit, fewer;

	REQUIRE_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	fewer = limit;
	fewer.rlim_cur = most;
	REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &fewer));
	return limit;
}

static uint32_t drains(struct voxshm_link *link)
{
	return shared_load_u32(&link->waiters.wakes);
}

/* What lies there and cannot be taken wakes nobody again and again, and hides nothing. */
TEST_F(descriptors, waits_bear_with_memory_that_cannot_be_taken)
{
	struct voxshm_link *link = self->host_ends[0];
	struct voxshm_event event;
	struct voxshm_loan loan;
	struct rlimit limit;
	uint32_t before;

	while (voxshm_host_wait(self->host, &event, 1, 0) == 1)
		;
	ASSERT_EQ(0, voxshm_loan(self->guest_ends[0], LARGE, &loan, 0));
	pattern_fill(loan.data, LARGE, 3);
	/* It is looked at while there is no descriptor to be had. */
	limit = limit_descriptors(3);
	before = drains(link);
	EXPECT_EQ(0, voxshm_host_wait(self->host, &event, 1, 300 * MS));
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(link, &(struct voxshm_view){ 0 }, 300 * MS));
	EXPECT_GT(200, drains(link) - before);
	ASSERT_EQ(0, voxshm_send(self->guest_ends[1], "x", 1, 0));
	ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	EXPECT_EQ(self->host_ends[1], event.link);
	ASSERT_EQ(0, voxshm_recv(event.link, &(struct voxshm_view){ 0 }, 0));
	/* And it is heard of when it is spoken of, though the doorbell is not. */
	while (voxshm_host_arm(self->host))
		voxshm_host_wait(self->host, &event, 1, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ASSERT_EQ(0, voxshm_commit(self->guest_ends[0], &loan, LARGE, 0));
	EXPECT_EQ(POLLIN, readable(voxshm_host_fd(self->host), PATIENCE / MS));
	ASSERT_EQ(1, voxshm_host_wait(self->host, &event, 1, PATIENCE));
	EXPECT_EQ(link, event.link);
	EXPECT_EQ(0, recv_pattern(link, LARGE, 3, 0));
}

TEST_F(descriptors, offers_that_no_message_refers_to_hold_none)
{
	int fd = memory_make(LARGE, F_SEAL_SHRINK, 1);
	int fds = count_fds(), maps = count_shared_maps();

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < GUESTS; i++) {
			for (uint32_t id = 0; id < MOST; id++) {
				/* The control socket takes a few at a time. */
				ASSERT_EQ(0, offer_raw(self->guest_ends[i], id, round, LARGE, fd,
						       1));
				voxshm_link_status(self->host_ends[i],
						   &(struct voxshm_status){ 0 });
			}
			EXPECT_STREQ("", reason_of(self->host_ends[i]));
		}
		EXPECT_EQ(fds, count_fds());
		/* One for each number of each guest, however often it is offered. */
		EXPECT_GE(maps + GUESTS * (int)MOST, count_shared_maps());
	}
	close(fd);
}

TEST_F(descriptors, none_left_delays_a_message_and_fails_no_link)
{
	struct voxshm_view view;
	struct rlimit limit;

	ASSERT_EQ(0, send_pattern(self->guest_ends[0], LARGE, 1, 0));
	ASSERT_EQ(0, send_pattern(self->guest_ends[0], 100, 2, 0));
	limit = limit_descriptors(0);
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-EMFILE, voxshm_try_recv(self->host_ends[0], &view));
		EXPECT_EQ(-EMFILE, voxshm_recv(self->host_ends[0], &view, PATIENCE));
		EXPECT_STREQ("", reason_of(self->host_ends[0]));
		/* Who needs none goes on, also the other way on this link. */
		ASSERT_EQ(0, send_pattern(self->guest_ends[1], 900, i, 0));
		EXPECT_EQ(0, recv_pattern(self->host_ends[1], 900, i, PATIENCE));
		ASSERT_EQ(0, send_pattern(self->host_ends[0], 900, i, 0));
		EXPECT_EQ(0, recv_pattern(self->guest_ends[0], 900, i, PATIENCE));
	}
	REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(0, recv_pattern(self->host_ends[0], LARGE, 1, 0));
	EXPECT_EQ(0, recv_pattern(self->host_ends[0], 100, 2, 0));
}

/* An end that comes behind an offer is heard of all the same. */
TEST_F(descriptors, none_left_hides_no_end)
{
	struct rlimit limit;
	struct voxshm_event event;
	int64_t until = now_ns() + PATIENCE;

	ASSERT_EQ(0, send_pattern(self->guest_ends[0], LARGE, 1, 0));
	limit = limit_descriptors(0);
	voxshm_link_close(self->guest_ends[0]);
	self->guest_ends[0] = NULL;
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(-EMFILE, voxshm_try_recv(self->host_ends[0],
						   &(struct voxshm_view){ 0 }));
	REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(0, recv_pattern(self->host_ends[0], LARGE, 1, 0));
	do
		voxshm_host_wait(self->host, &event, 1, 10 * MS);
	while ((event.link != self->host_ends[0] || event.type < VOXSHM_EVENT_LEFT) &&
	       now_ns() < until);
	EXPECT_EQ(VOXSHM_EVENT_LEFT, event.type);
}

/* What is no offer, or one with more than a descriptor, is no shortage. */
TEST_F(descriptors, shortage_excuses_nothing_else)
{
	int fd = memory_make(LARGE, F_SEAL_SHRINK, 1);
	struct rlimit limit;

	ASSERT_EQ(0, offer_raw(self->guest_ends[0], 0, 1, LARGE, fd, 0));
	ASSERT_EQ(0, offer_raw(self->guest_ends[1], 0, 1, LARGE, fd, 2));
	ASSERT_EQ(0, offer_raw(self->guest_ends[2], 0, 1, LARGE, fd, 4));
	limit = limit_descriptors(0);
	EXPECT_STRNE("", reason_of(self->host_ends[0]));
	EXPECT_STREQ("", reason_of(self->host_ends[1]));
	REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_STRNE("", reason_of(self->host_ends[1]));
	EXPECT_STRNE("", reason_of(self->host_ends[2]));
	close(fd);
}

TEST_F(descriptors, memory_of_the_wrong_kind_is_refused_when_it_is_offered)
{
	int pipes[2], kinds[6];

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	kinds[0] = memory_make(LARGE, 0, 1);
	kinds[1] = memory_make(LARGE, F_SEAL_GROW, 1);
	kinds[2] = memory_make(LARGE - 1, F_SEAL_SHRINK, 1);
	kinds[3] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	kinds[4] = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kinds[5] = pipes[0];
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, offer_raw(self->guest_ends[i], 0, 1, LARGE, kinds[i], 1));
		/* In the vox format only a frame or a ring makes the host look. */
		ASSERT_EQ(0, send_pattern(self->guest_ends[i], 10, 1, 0));
		EXPECT_STREQ(MAPPING_NOT_AS_SAID, reason_of(self->host_ends[i]))
			TH_LOG("kind %zu", i);
		close(kinds[i]);
	}
	close(pipes[1]);
}

/* Its pages may be missing when they are touched. */
TEST_F(descriptors, memory_of_huge_pages_is_refused)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	if (fd < 0 || ftruncate(fd, 2 * MIB) < 0)
		SKIP(return, "no huge pages here: %s", strerror(errno));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	ASSERT_EQ(0, offer_raw(self->guest_ends[0], 0, 1, LARGE, fd, 1));
	ASSERT_EQ(0, send_pattern(self->guest_ends[0], 10, 1, 0));
	EXPECT_STREQ(MAPPING_NOT_AS_SAID, reason_of(self->host_ends[0]));
	close(fd);
}

/* A short message in much memory that has no pages: they would be the host's cost. */
TEST_F(descriptors, memory_without_pages_costs_what_its_message_has)
{
	int fd = memfd_create("sparse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct voxshm_link *guest = self->guest_ends[0];
	struct mapping_ref ref = { .map_generation = 1, .length = 100 };
	struct voxshm_view view;
	struct stat status;

	ASSERT_EQ(0, ftruncate(fd, 64 * MIB));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	ASSERT_EQ(0, offer_raw(guest, 0, 1, 64 * MIB, fd, 1));
	refer_raw(guest, &ref);
	ASSERT_EQ(0, voxshm_recv(self->host_ends[0], &view, PATIENCE));
	EXPECT_EQ(100, view.size);
	EXPECT_EQ(0, *(const uint8_t *)view.data);
	EXPECT_EQ(0, voxshm_release(self->host_ends[0], &view));
	ASSERT_EQ(0, fstat(fd, &status));
	/* The kernel may take a huge page where it could take a small one. */
	EXPECT_GE(2 * MIB, status.st_blocks * 512);
	close(fd);
}

LINK_TEST_MAIN(NULL)
