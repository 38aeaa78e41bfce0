// SPDX-License-Identifier: GPL-2.0
/* A segment is laid out, made, asked and removed. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "vox_test.h"
#include "kselftest_harness.h"

FIXTURE(create) {
	struct test_dir dir;
	struct voxshm_segment *segment;
	struct voxshm_error error;
};

FIXTURE_SETUP(create)
{
	ASSERT_EQ(test_dir_make(&self->dir), 0);
	self->segment = NULL;
	self->error.text[0] = 0;
}

FIXTURE_TEARDOWN(create)
{
	voxshm_segment_free(self->segment);
	test_dir_remove(&self->dir);
}

/* Layout ------------------------------------------------------------------------ */

TEST(layout_has_aligned_monotonic_offsets)
{
	struct voxshm_segment_layout layout;

	ASSERT_EQ(voxshm_segment_compute(CONFIG(SMALL), &layout, NULL), 0);
	EXPECT_EQ(layout.peer_table_offset, 128);
	EXPECT_GE(layout.ring_offset, layout.peer_table_offset);
	EXPECT_GE(layout.pool_offset, layout.ring_offset);
	EXPECT_EQ(layout.pool_offset % 64, 0);
	EXPECT_GT(layout.pool_end, layout.pool_offset);
	EXPECT_GE(layout.link_block_offset, layout.pool_end);
	EXPECT_GT(layout.extent_offset, layout.link_block_offset);
	EXPECT_GT(layout.total_size, layout.extent_offset);
}

/* Worked out from the crate's own arithmetic, written down here by hand. */
TEST(layout_is_vox_shms_up_to_the_end_of_the_pool)
{
	static const struct voxshm_class odd[] = { { 100, 3 }, { 257, 5 } };
	struct voxshm_segment_layout layout;

	ASSERT_EQ(voxshm_segment_compute(CONFIG(SMALL), &layout, NULL), 0);
	EXPECT_EQ(layout.ring_offset, 128 + 4 * 64);
	EXPECT_EQ(layout.ring_stride, 128 + 4096);
	EXPECT_EQ(layout.pool_offset, 384 + 4 * 2 * 4224);
	EXPECT_EQ(layout.pool_end, 34176 + 2 * 64 + (128 + 8192) + (64 + 65536));

	ASSERT_EQ(voxshm_segment_compute(CONFIG(.max_guests = 255, .ring_capacity = 72,
						.num_classes = 2, .classes = odd),
					 &layout, NULL), 0);
	EXPECT_EQ(layout.ring_offset, 128 + 255 * 64);
	EXPECT_EQ(layout.ring_stride, 256);
	EXPECT_EQ(layout.pool_offset, 16448 + 255 * 2 * 256);
	EXPECT_EQ(layout.pool_end, 147008 + 2 * 64 + (64 + 320) + (128 + 1344));
}

TEST(layout_that_overflows_is_refused)
{
	static const struct voxshm_class huge[] = {
		{ UINT32_MAX - 1, VOX_MAX_SLOTS }, { UINT32_MAX, VOX_MAX_SLOTS },
	};
	struct voxshm_segment_layout layout;
	struct voxshm_error error;

	EXPECT_EQ(voxshm_segment_compute(CONFIG(.num_classes = 2, .classes = huge), &layout,
					 &error), -EOVERFLOW);
	EXPECT_NE(strstr(error.text, "pool"), NULL) TH_LOG("%s", error.text);
}

struct refused {
	struct voxshm_segment_config config;
	const char *names;
};

TEST(configuration_out_of_range_is_refused_by_name)
{
	static const struct voxshm_class descending[] = { { 64, 1 }, { 64, 1 } };
	static const struct voxshm_class tiny[] = { { 7, 1 } };
	static const struct voxshm_class none[] = { { 64, 0 } };
	static const struct voxshm_class many[VOXSHM_MAX_CLASSES + 1] = { { 64, 1 } };
#define BAD(name, ...) \
	{ { .struct_size = sizeof(struct voxshm_segment_config), __VA_ARGS__ }, name }
	static const struct refused refused[] = {
		{ { .struct_size = 1 }, "struct_size" },
		BAD("max_guests", .max_guests = 256),
		BAD("ring_capacity", .ring_capacity = 71),
		BAD("ring_capacity", .ring_capacity = 64),
		BAD("ring_capacity", .ring_capacity = 76),
		BAD("ring_capacity", .ring_capacity = (1u << 30) + 8),
		BAD("inline_threshold", .inline_threshold = 65536),
		BAD("max_mappings", .max_mappings = 4097),
		BAD("cleanup", .cleanup = (enum voxshm_segment_cleanup)2),
		BAD("mode", .mode = 01000),
		BAD("classes", .num_classes = 1),
		BAD("num_classes", .num_classes = VOXSHM_MAX_CLASSES + 1, .classes = many),
		BAD("slot_size", .num_classes = 2, .classes = descending),
		BAD("slot_size", .num_classes = 1, .classes = tiny),
		BAD("slot_count", .num_classes = 1, .classes = none),
		BAD("max_size", .max_size = 4096),
		BAD("max_size", .max_size = UINT64_MAX),
	};
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct voxshm_segment *segment = (void *)1;
		struct voxshm_error error = { "" };

		EXPECT_EQ(voxshm_segment_create(&segment, &refused[i].config, &error), -EINVAL)
			TH_LOG("case %zu", i);
		EXPECT_EQ(segment, NULL);
		EXPECT_NE(strstr(error.text, refused[i].names), NULL)
			TH_LOG("case %zu: '%s'", i, error.text);
	}
}

/* Create --------------------------------------------------------------------------- */

TEST_F(create, defaults_make_a_segment)
{
	struct voxshm_segment_info info;

	ASSERT_EQ(voxshm_segment_create(&self->segment, NULL, &self->error), 0);
	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(info.max_guests, 16);
	EXPECT_EQ(info.ring_capacity, 256 * 1024);
	EXPECT_EQ(info.max_payload, 1u << 30);
	EXPECT_EQ(info.inline_threshold, 256);
	EXPECT_EQ(info.num_extents, 1);
	EXPECT_EQ(info.current_size, info.total_size);
	EXPECT_EQ(info.mapped_size, info.total_size);
	EXPECT_EQ(info.is_host, 1);
	EXPECT_EQ(info.is_plain, 0);
	EXPECT_STREQ(voxshm_segment_path(self->segment), "");
}

TEST_F(create, classes_are_as_configured)
{
	struct voxshm_class found;
	uint32_t free_slots;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), NULL), 0);
	ASSERT_EQ(voxshm_segment_class(self->segment, 0, 1, &found, &free_slots), 0);
	EXPECT_EQ(found.slot_size, 16384);
	EXPECT_EQ(found.slot_count, 4);
	EXPECT_EQ(free_slots, 4);
	EXPECT_EQ(voxshm_segment_class(self->segment, 0, 2, &found, NULL), -EINVAL);
	EXPECT_EQ(voxshm_segment_class(self->segment, 1, 0, &found, NULL), -EINVAL);
}

TEST_F(create, file_is_for_its_owner_alone)
{
	struct stat status;

	umask(0);
	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	ASSERT_EQ(stat(self->dir.path, &status), 0);
	EXPECT_EQ(status.st_mode & 0777, 0600);
}

TEST_F(create, mode_is_kept_whatever_the_umask)
{
	struct stat status;

	umask(077);
	ASSERT_EQ(voxshm_segment_create(&self->segment,
					CONFIG(SMALL, .path = self->dir.path, .mode = 0666),
					NULL), 0);
	ASSERT_EQ(stat(self->dir.path, &status), 0);
	EXPECT_EQ(status.st_mode & 0777, 0666);
}

TEST_F(create, file_is_fully_allocated)
{
	struct stat status;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), NULL), 0);
	ASSERT_EQ(fstat(voxshm_segment_fd(self->segment), &status), 0);
	EXPECT_GE(status.st_blocks * 512, status.st_size);
}

TEST_F(create, existing_file_is_not_touched)
{
	char text[32] = "";
	FILE *file = fopen(self->dir.path, "w");

	ASSERT_NE(file, NULL);
	fputs("precious", file);
	fclose(file);
	EXPECT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					&self->error), -EEXIST);
	EXPECT_EQ(self->segment, NULL);
	EXPECT_NE(strstr(self->error.text, self->dir.path), NULL);
	file = fopen(self->dir.path, "r");
	ASSERT_NE(file, NULL);
	EXPECT_NE(fgets(text, sizeof(text), file), NULL);
	EXPECT_STREQ(text, "precious");
	fclose(file);
}

TEST_F(create, memory_without_a_name_cannot_shrink)
{
	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), NULL), 0);
	EXPECT_EQ(ftruncate(voxshm_segment_fd(self->segment), 4096), -1);
	EXPECT_EQ(errno, EPERM);
}

TEST_F(create, missing_directory_is_told)
{
	strcat(self->dir.path, "/not/there");
	EXPECT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					&self->error), -ENOENT);
	EXPECT_NE(self->error.text[0], 0);
}

TEST_F(create, full_file_system_is_an_error_and_leaves_no_file)
{
	struct stat status;

	if (mount("none", self->dir.dir, "tmpfs", 0, "size=64k") < 0)
		SKIP(return, "cannot mount a small tmpfs here");
	EXPECT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					&self->error), -ENOSPC);
	EXPECT_EQ(self->segment, NULL);
	EXPECT_LT(stat(self->dir.path, &status), 0);
	EXPECT_EQ(errno, ENOENT);
	umount(self->dir.dir);
}

TEST_F(create, file_size_limit_is_an_error_and_no_signal)
{
	struct rlimit limit = { 65536, 65536 };
	struct stat status;

	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	EXPECT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					&self->error), -EFBIG);
	EXPECT_LT(stat(self->dir.path, &status), 0);
}

TEST_F(create, descriptor_limit_is_an_error)
{
	struct rlimit limit = { 0, 0 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		SKIP(return, "valgrind does not let the limit be lowered");
	EXPECT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), &self->error), -EMFILE);
}

static void do_nothing(int signal)
{
}

TEST_F(create, interrupted_allocation_goes_on)
{
	struct itimerspec every = { .it_interval = { 0, 1000000 }, .it_value = { 0, 1000000 } };
	static const struct voxshm_class big[] = { { 1 << 20, 256 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct sigaction action = { .sa_handler = do_nothing };
	timer_t timer;

	ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	ASSERT_EQ(timer_settime(timer, 0, &every, NULL), 0);
	EXPECT_EQ(voxshm_segment_create(&self->segment,
					CONFIG(.num_classes = 1, .classes = big), NULL), 0);
	timer_delete(timer);
}

/* Cleanup -------------------------------------------------------------------------- */

TEST_F(create, manual_cleanup_removes_the_file_with_the_creator)
{
	struct stat status;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	EXPECT_STREQ(voxshm_segment_path(self->segment), self->dir.path);
	EXPECT_EQ(stat(self->dir.path, &status), 0);
	voxshm_segment_free(self->segment);
	self->segment = NULL;
	EXPECT_LT(stat(self->dir.path, &status), 0);
}

TEST_F(create, auto_cleanup_removes_the_name_at_once)
{
	struct voxshm_segment *other;
	struct stat status;

	ASSERT_EQ(voxshm_segment_create(&self->segment,
					CONFIG(SMALL, .path = self->dir.path,
					       .cleanup = VOXSHM_CLEANUP_AUTO), NULL), 0);
	EXPECT_LT(stat(self->dir.path, &status), 0);
	ASSERT_EQ(voxshm_segment_attach_fd(&other, voxshm_segment_fd(self->segment), NULL), 0);
	voxshm_segment_free(other);
}

TEST_F(create, attached_object_leaves_the_file)
{
	struct voxshm_segment *other;
	struct stat status;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	ASSERT_EQ(voxshm_segment_attach(&other, self->dir.path, NULL), 0);
	voxshm_segment_free(other);
	EXPECT_EQ(stat(self->dir.path, &status), 0);
}

TEST_F(create, disowned_file_stays)
{
	struct stat status;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	voxshm_segment_own_file(self->segment, 0);
	voxshm_segment_free(self->segment);
	self->segment = NULL;
	EXPECT_EQ(stat(self->dir.path, &status), 0);
}

TEST_F(create, somebody_elses_file_of_the_same_name_stays)
{
	struct stat status;
	FILE *file;

	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	ASSERT_EQ(unlink(self->dir.path), 0);
	file = fopen(self->dir.path, "w");
	ASSERT_NE(file, NULL);
	fclose(file);
	voxshm_segment_free(self->segment);
	self->segment = NULL;
	EXPECT_EQ(stat(self->dir.path, &status), 0);
}

TEST_HARNESS_MAIN
