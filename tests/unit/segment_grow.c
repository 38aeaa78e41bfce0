// SPDX-License-Identifier: GPL-2.0
/* A segment grows in place, and its guests follow. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "vox_test.h"
#include "kselftest_harness.h"

#define MAX_SIZE (8ull << 20)

FIXTURE(grow) {
	struct voxshm_segment *host, *guest;
	struct voxshm_error error;
	uint64_t size;
};

FIXTURE_SETUP(grow)
{
	ASSERT_EQ(voxshm_segment_create(&self->host, CONFIG(SMALL, .max_size = MAX_SIZE), NULL),
		  0);
	ASSERT_EQ(voxshm_segment_attach_fd(&self->guest, voxshm_segment_fd(self->host), NULL), 0);
	self->size = self->host->geometry.total_size;
	self->error.text[0] = 0;
}

FIXTURE_TEARDOWN(grow)
{
	voxshm_segment_free(self->guest);
	voxshm_segment_free(self->host);
}

static uint64_t current_size(struct voxshm_segment *segment)
{
	struct voxshm_segment_info info;

	voxshm_segment_get_info(segment, &info);
	return info.current_size;
}

TEST_F(grow, new_size_is_published_and_the_guest_follows_once)
{
	uint64_t new_size = self->size + 64 * 1024;

	ASSERT_EQ(voxshm_segment_grow(self->host, new_size, &self->error), 0)
		TH_LOG("%s", self->error.text);
	EXPECT_EQ(current_size(self->host), new_size);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 1);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 0);
	EXPECT_EQ(self->guest->file.size, new_size);
}

TEST_F(grow, nothing_moves)
{
	uint8_t *base = self->host->file.base;
	struct voxshm_slot slot;
	uint8_t *data;

	ASSERT_EQ(voxshm_segment_slot_alloc(self->host, 0, 100, &slot), 0);
	data = voxshm_segment_slot_data(self->host, &slot, NULL);
	memset(data, 0x77, 100);
	ASSERT_EQ(voxshm_segment_grow(self->host, MAX_SIZE, NULL), 0);
	EXPECT_EQ(self->host->file.base, base);
	EXPECT_EQ(voxshm_segment_slot_data(self->host, &slot, NULL), data);
	EXPECT_EQ(data[99], 0x77);
}

TEST_F(grow, added_slots_serve_host_and_guest)
{
	struct voxshm_slot slots[512];
	uint32_t before = 0, after = 0, i;
	size_t size;

	while (voxshm_segment_slot_alloc(self->host, 0, 16384, &slots[before]) == 0)
		before++;
	EXPECT_EQ(before, 4);
	ASSERT_EQ(voxshm_segment_grow(self->host, self->size + 400000, NULL), 0);
	ASSERT_EQ(voxshm_segment_remap(self->guest), 1);
	while (voxshm_segment_slot_alloc(self->guest, 1, 16384, &slots[before + after]) == 0)
		after++;
	/* The first extent has 4 in 73,984 bytes. */
	EXPECT_GE(after, 4 * 400000 / 73984 - 1);
	for (i = 0; i < before + after; i++) {
		uint8_t *data = voxshm_segment_slot_data(self->guest, &slots[i], &size);

		ASSERT_NE(data, NULL);
		ASSERT_EQ(size, 16384);
		memset(data, (int)i, size);
	}
	for (i = 0; i < before + after; i++) {
		uint8_t *data = voxshm_segment_slot_data(self->host, &slots[i], &size);

		EXPECT_EQ(data[0], (uint8_t)i);
		EXPECT_EQ(data[size - 1], (uint8_t)i);
		EXPECT_EQ(voxshm_segment_slot_free(self->host, 0, &slots[i]), 0);
	}
}

TEST_F(grow, guest_that_attaches_later_knows_all_extents)
{
	struct voxshm_segment_info info;
	struct voxshm_segment *late;

	ASSERT_EQ(voxshm_segment_grow(self->host, self->size + 100000, NULL), 0);
	ASSERT_EQ(voxshm_segment_grow(self->host, self->size + 300000, NULL), 0);
	ASSERT_EQ(voxshm_segment_attach_fd(&late, voxshm_segment_fd(self->host), NULL), 0);
	voxshm_segment_get_info(late, &info);
	EXPECT_EQ(info.num_extents, 3);
	EXPECT_EQ(info.mapped_size, self->size + 300000);
	voxshm_segment_free(late);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 1);
	voxshm_segment_get_info(self->guest, &info);
	EXPECT_EQ(info.num_extents, 3);
}

static void *grows_step_by_step(void *host)
{
	uint64_t size = current_size(host);
	int i;

	for (i = 0; i < 60; i++)
		if (voxshm_segment_grow(host, size += 64 * 1024, NULL))
			return "it did not grow";
	return NULL;
}

TEST_F(grow, guest_attaches_while_the_segment_grows)
{
	struct voxshm_segment *host, *late;
	void *complaint;
	pthread_t thread;
	int round, ret;

	for (round = 0; round < 50; round++) {
		ASSERT_EQ(voxshm_segment_create(&host, CONFIG(SMALL, .max_size = MAX_SIZE), NULL),
			  0);
		ASSERT_EQ(pthread_create(&thread, NULL, grows_step_by_step, host), 0);
		while (pthread_tryjoin_np(thread, &complaint)) {
			ret = voxshm_segment_attach_fd(&late, voxshm_segment_fd(host),
						       &self->error);
			EXPECT_EQ(ret, 0)
				TH_LOG("%s", self->error.text);
			voxshm_segment_free(late);
		}
		EXPECT_EQ(complaint, NULL);
		voxshm_segment_free(host);
	}
}

TEST_F(grow, growth_too_small_for_a_slot_adds_none)
{
	struct voxshm_segment_info info;

	ASSERT_EQ(voxshm_segment_grow(self->host, self->size + 512, NULL), 0);
	voxshm_segment_get_info(self->host, &info);
	EXPECT_EQ(info.num_extents, 1);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 1);
}

TEST_F(grow, same_size_is_nothing_and_smaller_is_refused)
{
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size, NULL), 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size - 1, &self->error), -EINVAL);
	EXPECT_EQ(current_size(self->host), self->size);
}

TEST_F(grow, limit_is_kept)
{
	EXPECT_EQ(voxshm_segment_grow(self->host, MAX_SIZE + 1, &self->error), -EFBIG);
	EXPECT_NE(self->error.text[0], 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, UINT64_MAX, NULL), -EFBIG);
	EXPECT_EQ(voxshm_segment_grow(self->host, MAX_SIZE, NULL), 0);
}

TEST(segment_without_a_limit_never_grows)
{
	struct voxshm_segment *segment;

	ASSERT_EQ(voxshm_segment_create(&segment, CONFIG(SMALL), NULL), 0);
	EXPECT_EQ(voxshm_segment_grow(segment, segment->file.size + 4096, NULL), -EFBIG);
	voxshm_segment_free(segment);
}

TEST_F(grow, only_the_host_grows)
{
	EXPECT_EQ(voxshm_segment_grow(self->guest, MAX_SIZE, &self->error), -EPERM);
}

TEST_F(grow, growth_is_refused_while_a_vox_shm_guest_is_attached)
{
	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 1);
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size + 100000, NULL), 0);
	shared_poke_u32(&vox_peer(self->host, 1)->features, 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size + 200000, &self->error), -EBUSY);
	EXPECT_EQ(current_size(self->host), self->size + 100000);
	ASSERT_GE(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size + 200000, NULL), 0);
}

TEST_F(grow, number_of_growths_is_limited)
{
	uint32_t i;

	for (i = 1; i < VOX_MAX_EXTENTS; i++)
		ASSERT_EQ(voxshm_segment_grow(self->host, self->size + i * 20000ull, NULL), 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, MAX_SIZE, &self->error), -ENOSPC);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 1);
	EXPECT_EQ(vox_pool_num_extents(&self->guest->pool), VOX_MAX_EXTENTS);
}

TEST_F(grow, growth_that_fails_changes_nothing)
{
	struct rlimit limit = { self->size + 4096, self->size + 4096 };

	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	EXPECT_EQ(voxshm_segment_grow(self->host, self->size + 100000, &self->error), -EFBIG);
	EXPECT_EQ(current_size(self->host), self->size);
	EXPECT_EQ(voxshm_segment_remap(self->guest), 0);
}

TEST_F(grow, published_size_beyond_the_file_is_refused)
{
	shared_poke_u64(&vox_header(self->host)->current_size, self->size + 100000);
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	EXPECT_EQ(self->guest->file.size, self->size);
}

TEST_F(grow, extent_that_makes_no_sense_is_refused)
{
	struct vox_directory *directory = vox_directory(self->host);
	struct vox_extent good;

	ASSERT_EQ(voxshm_segment_grow(self->host, self->size + 100000, NULL), 0);
	good = directory->extents[0];
	directory->extents[0].offset = 128;
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	directory->extents[0].offset = good.offset + 4;
	directory->extents[0].size = good.size - 64;
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	directory->extents[0] = good;
	directory->extents[0].size = 64;
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	directory->extents[0] = good;
	vox_pool_class(&self->host->pool, 1, 0)->header->slot_count = UINT32_MAX;
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	shared_poke_u32(&directory->count, VOX_MAX_EXTENTS);
	EXPECT_EQ(voxshm_segment_remap(self->guest), -EBADMSG);
	EXPECT_EQ(vox_pool_num_extents(&self->guest->pool), 1);
}

TEST_F(grow, vox_shm_host_may_grow_and_we_follow)
{
	struct voxshm_segment *guest;
	int fd = voxshm_segment_fd(self->host);

	test_make_plain(self->host);
	ASSERT_EQ(voxshm_segment_attach_fd(&guest, fd, NULL), 0);
	ASSERT_EQ(ftruncate(fd, (off_t)self->size + 65536), 0);
	shared_store_u64(&vox_header(self->host)->current_size, self->size + 65536);
	EXPECT_EQ(voxshm_segment_remap(guest), 1);
	EXPECT_EQ(guest->file.size, self->size + 65536);
	guest->file.base[self->size + 65535] = 1;
	ASSERT_EQ(ftruncate(fd, (off_t)self->size + (1ll << 30)), 0);
	shared_store_u64(&vox_header(self->host)->current_size, self->size + (1ull << 30));
	EXPECT_EQ(voxshm_segment_remap(guest), -EFBIG);
	voxshm_segment_free(guest);
}

TEST_HARNESS_MAIN
