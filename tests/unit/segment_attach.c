// SPDX-License-Identifier: GPL-2.0
/* A segment is attached to, and a bad one is refused with a reason. */
#include <fcntl.h>
#include <sys/stat.h>

#include "vox_test.h"
#include "kselftest_harness.h"

FIXTURE(attach) {
	struct test_dir dir;
	struct voxshm_segment *host, *guest;
	struct segment_header *header;
	struct voxshm_error error;
};

FIXTURE_SETUP(attach)
{
	ASSERT_EQ(test_dir_make(&self->dir), 0);
	self->guest = NULL;
	self->error.text[0] = 0;
	ASSERT_EQ(voxshm_segment_create(&self->host, CONFIG(SMALL, .path = self->dir.path),
					NULL), 0);
	self->header = vox_header(self->host);
}

FIXTURE_TEARDOWN(attach)
{
	voxshm_segment_free(self->guest);
	voxshm_segment_free(self->host);
	test_dir_remove(&self->dir);
}

TEST_F(attach, header_and_offsets_come_through)
{
	struct voxshm_segment_layout host, guest;
	struct voxshm_segment_info info;

	ASSERT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, &self->error), 0)
		TH_LOG("%s", self->error.text);
	voxshm_segment_get_info(self->guest, &info);
	EXPECT_EQ(info.max_guests, 4);
	EXPECT_EQ(info.ring_capacity, 4096);
	EXPECT_EQ(info.max_payload, 64 * 1024);
	EXPECT_EQ(info.inline_threshold, 256);
	EXPECT_EQ(info.heartbeat_interval, 1000000);
	EXPECT_EQ(info.num_classes, 2);
	EXPECT_EQ(info.is_host, 0);
	EXPECT_EQ(info.segment_id, self->header->extension.segment_id);
	voxshm_segment_get_layout(self->host, &host);
	voxshm_segment_get_layout(self->guest, &guest);
	EXPECT_EQ(memcmp(&host, &guest, sizeof(host)), 0);
	EXPECT_STREQ(voxshm_segment_path(self->guest), self->dir.path);
}

TEST_F(attach, memory_is_shared)
{
	ASSERT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, NULL), 0);
	voxshm_segment_set_goodbye(self->host);
	EXPECT_NE(shared_peek_u32(&vox_header(self->guest)->host_goodbye), 0);
}

TEST_F(attach, descriptor_does_as_well_as_a_path)
{
	int fd = voxshm_segment_fd(self->host);

	ASSERT_EQ(voxshm_segment_attach_fd(&self->guest, fd, NULL), 0);
	EXPECT_NE(voxshm_segment_fd(self->guest), fd);
	EXPECT_STREQ(voxshm_segment_path(self->guest), "");
	voxshm_segment_free(self->guest);
	self->guest = NULL;
	EXPECT_GE(fcntl(fd, F_GETFD), 0);
}

TEST_F(attach, segment_made_by_vox_shm_is_welcome)
{
	struct voxshm_segment_info info;

	test_make_plain(self->host);
	ASSERT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, &self->error), 0)
		TH_LOG("%s", self->error.text);
	voxshm_segment_get_info(self->guest, &info);
	EXPECT_EQ(info.is_plain, 1);
	EXPECT_EQ(info.max_mappings, 0);
	EXPECT_EQ(info.segment_id, 0);
}

TEST_F(attach, vox_shm_segment_without_our_slack_is_welcome)
{
	struct voxshm_segment_layout layout;

	voxshm_segment_get_layout(self->host, &layout);
	test_make_plain(self->host);
	self->header->total_size = layout.pool_end;
	shared_poke_u64(&self->header->current_size, layout.pool_end);
	ASSERT_EQ(truncate(self->dir.path, (off_t)layout.pool_end), 0);
	EXPECT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, &self->error), 0)
		TH_LOG("%s", self->error.text);
}

/* What is not a segment -------------------------------------------------------------- */

TEST_F(attach, missing_file_is_told)
{
	EXPECT_EQ(voxshm_segment_attach(&self->guest, "/dev/shm/voxshm-not-there", &self->error),
		  -ENOENT);
	EXPECT_EQ(self->guest, NULL);
	EXPECT_NE(strstr(self->error.text, "voxshm-not-there"), NULL);
}

TEST_F(attach, file_without_permission_is_told)
{
	pid_t child;

	if (getuid() != 0)
		SKIP(return, "needs root to become somebody else");
	ASSERT_EQ(chmod(self->dir.dir, 0755), 0);
	child = fork();
	ASSERT_GE(child, 0);
	if (child == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(1);
		_exit(voxshm_segment_attach(&self->guest, self->dir.path, NULL) == -EACCES ?
		      0 : 2);
	}
	EXPECT_EQ(test_wait(child), 0);
}

TEST_F(attach, read_only_descriptor_is_refused)
{
	int fd = open(self->dir.path, O_RDONLY);

	ASSERT_GE(fd, 0);
	EXPECT_EQ(voxshm_segment_attach_fd(&self->guest, fd, &self->error), -EACCES);
	close(fd);
}

TEST_F(attach, closed_descriptor_is_refused)
{
	EXPECT_EQ(voxshm_segment_attach_fd(&self->guest, -1, &self->error), -EBADF);
}

TEST_F(attach, directory_device_and_pipe_are_refused)
{
	int pipes[2];

	EXPECT_EQ(voxshm_segment_attach(&self->guest, self->dir.dir, &self->error), -EISDIR);
	EXPECT_EQ(voxshm_segment_attach(&self->guest, "/dev/zero", &self->error), -EBADMSG);
	ASSERT_EQ(pipe(pipes), 0);
	EXPECT_EQ(voxshm_segment_attach_fd(&self->guest, pipes[0], &self->error), -EBADMSG);
	EXPECT_NE(strstr(self->error.text, "regular"), NULL);
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(attach, every_truncation_is_refused)
{
	struct voxshm_segment_layout layout;
	uint64_t size;

	voxshm_segment_get_layout(self->host, &layout);
	for (size = layout.total_size - 1; ; size = size * 3 / 4) {
		ASSERT_EQ(truncate(self->dir.path, (off_t)size), 0);
		ASSERT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, &self->error),
			  -EBADMSG) TH_LOG("size %llu", (unsigned long long)size);
		ASSERT_NE(strstr(self->error.text, "bytes"), NULL);
		if (size == 0)
			break;
	}
}

/* Each field wrong once ------------------------------------------------------------------ */

#define REFUSED(says, statement) do {							\
	struct segment_header saved;							\
	memcpy((void *)&saved, (void *)self->header, sizeof(saved));			\
	statement;									\
	EXPECT_EQ(voxshm_segment_attach(&self->guest, self->dir.path, &self->error), -EBADMSG) \
		TH_LOG("%s", #statement);						\
	EXPECT_NE(strstr(self->error.text, says), NULL)					\
		TH_LOG("%s: '%s'", #statement, self->error.text);			\
	memcpy((void *)self->header, (void *)&saved, sizeof(saved));			\
} while (0)

TEST_F(attach, wrong_magic_is_refused)
{
	REFUSED("magic", shared_poke_u64(&self->header->magic, SEGMENT_MAGIC ^ 0xff));
	REFUSED("still making", shared_poke_u64(&self->header->magic, 0));
}

TEST_F(attach, native_segment_is_refused_by_name)
{
	REFUSED("native", self->header->version = 8);
}

TEST_F(attach, unknown_version_is_refused)
{
	REFUSED("version 9 is unknown", self->header->version = 9);
	REFUSED("version 6 is unknown", self->header->version = 6);
}

TEST_F(attach, wrong_sizes_are_refused)
{
	uint64_t size = self->header->total_size;

	REFUSED("header_size", self->header->header_size = 64);
	REFUSED("total_size", self->header->total_size = 127);
	REFUSED("total_size", self->header->total_size = UINT64_MAX);
	REFUSED("current_size", self->header->total_size = size + 1);
	REFUSED("current_size", shared_poke_u64(&self->header->current_size, size - 1));
	REFUSED("the file has", shared_poke_u64(&self->header->current_size, size + 1));
	REFUSED("leaves", self->header->total_size = 4096);
}

TEST_F(attach, wrong_parameters_are_refused)
{
	REFUSED("max_payload_size", self->header->max_payload_size = 0);
	REFUSED("inline_threshold", self->header->inline_threshold = 65536);
	REFUSED("max_guests", self->header->max_guests = 0);
	REFUSED("max_guests", self->header->max_guests = 256);
	REFUSED("max_guests", self->header->max_guests = UINT32_MAX);
	REFUSED("bipbuf_capacity", self->header->ring_capacity = 0);
	REFUSED("bipbuf_capacity", self->header->ring_capacity = 64);
	REFUSED("bipbuf_capacity", self->header->ring_capacity = 4100);
	REFUSED("bipbuf_capacity", self->header->ring_capacity = UINT32_MAX - 7);
	REFUSED("num_var_slot_classes", self->header->num_classes = 0);
	REFUSED("num_var_slot_classes", self->header->num_classes = 256);
}

TEST_F(attach, wrong_offsets_are_refused)
{
	uint64_t size = self->header->total_size;

	REFUSED("peer table", self->header->peer_table_offset = 0);
	REFUSED("peer table", self->header->peer_table_offset = 129);
	REFUSED("peer table", self->header->peer_table_offset = size & ~63ull);
	REFUSED("peer table", self->header->peer_table_offset = UINT64_MAX - 63);
	REFUSED("slot pool", self->header->var_pool_offset = 130);
	REFUSED("slot pool", self->header->var_pool_offset = size & ~63ull);
	REFUSED("slot pool", self->header->var_pool_offset = UINT64_MAX - 63);
	REFUSED("slot", self->header->var_pool_offset = 128);
}

TEST_F(attach, more_guests_than_there_are_rings_for_are_refused)
{
	REFUSED("", self->header->max_guests = 5);
	REFUSED("", self->header->max_guests = 255);
}

TEST_F(attach, other_ring_capacity_than_the_rings_is_refused)
{
	REFUSED("capacity", self->header->ring_capacity = 2048);
}

TEST_F(attach, more_classes_than_there_are_is_refused)
{
	REFUSED("slot class", self->header->num_classes = 3);
	REFUSED("slot class", self->header->num_classes = 255);
}

TEST_F(attach, wrong_extension_is_refused)
{
	struct segment_extension *extension = &self->header->extension;

	REFUSED("extension: magic", extension->magic++);
	REFUSED("version 2", extension->version = 2);
	REFUSED("flags 0x1", extension->flags = 1);
	REFUSED("flags 0x8000", extension->flags = 0x8000);
	REFUSED("max_mappings", extension->max_mappings = 0);
	REFUSED("max_mappings", extension->max_mappings = 4097);
	REFUSED("stride", extension->link_block_stride -= 64);
	REFUSED("stride", extension->link_block_stride += 8);
	REFUSED("link blocks", extension->link_block_stride += 1 << 20);
	REFUSED("link block", extension->link_block_offset = 0);
	REFUSED("overlaps", extension->link_block_offset = 2);
	REFUSED("link blocks", extension->link_block_offset = UINT32_MAX);
	REFUSED("pool offset", extension->pool_offset = 64);
	REFUSED("limit", extension->window_size = 4096);
	REFUSED("limit", extension->window_size = UINT64_MAX);
	REFUSED("directory", extension->extent_offset = 0);
	REFUSED("directory", extension->extent_offset++);
	REFUSED("directory", extension->extent_offset += 1 << 20);
	REFUSED("directory", extension->extent_offset -= 64);
}

TEST_F(attach, wrong_class_table_is_refused)
{
	struct class_header *classes = vox_pool_class(&self->host->pool, 0, 0)->header;

	REFUSED("slot class 0", classes[0].slot_size = 0);
	classes[0].slot_size = 1024;
	REFUSED("slot class 1", classes[1].slot_count = 0);
	classes[1].slot_count = 4;
	REFUSED("slot class 1", classes[1].slot_size = 1024);
	classes[1].slot_size = 16384;
	REFUSED("leaves", classes[1].slot_count = 5000);
	REFUSED("slot class 1", classes[1].slot_count = UINT32_MAX);
	classes[1].slot_count = 4;
}

TEST_F(attach, wrong_ring_offsets_are_refused)
{
	struct peer_entry *peer = vox_peer(self->host, 2);
	uint64_t offset = peer->ring_offset;

	REFUSED("ring pair", peer->ring_offset = 0);
	REFUSED("ring pair", peer->ring_offset = offset + 8);
	REFUSED("ring pair", peer->ring_offset = self->header->total_size & ~63ull);
	REFUSED("ring pair", peer->ring_offset = UINT64_MAX - 63);
	REFUSED("overlaps", peer->ring_offset = vox_peer(self->host, 3)->ring_offset);
	REFUSED("capacity", peer->ring_offset = offset + 64);
	peer->ring_offset = offset;
	REFUSED("peer 2", vox_peer_ring(self->host, 2, VOX_HOST)->capacity = 4088);
}

/* Garbage ------------------------------------------------------------------------------- */

/* Does with a segment what a user might. Nothing may crash or hang. */
static void use(struct voxshm_segment *segment)
{
	struct voxshm_slot slots[16] = { { 0 } };
	struct voxshm_segment_ring *ring;
	struct voxshm_peer peer;
	const void *bytes;
	void *room;
	int i, k, id;
	ssize_t size;

	voxshm_segment_remap(segment);
	for (i = 0; i < 16; i++)
		if (voxshm_segment_slot_alloc(segment, 0, 1u << i, &slots[i]) == 0)
			memset(voxshm_segment_slot_data(segment, &slots[i], NULL), 0, 1);
	for (i = 0; i < 16; i++) {
		slots[i].slot %= 32;
		voxshm_segment_slot_free(segment, 0, &slots[i]);
	}
	id = voxshm_segment_attach_peer(segment);
	for (i = 0; i < 6; i++) {
		voxshm_segment_peer(segment, (uint32_t)i, &peer);
		for (k = 0; k < 4; k++) {
			if (voxshm_segment_ring_open(&ring, segment, (uint32_t)i, k & 1, k >> 1))
				continue;
			if (voxshm_segment_ring_grant(ring, 64, &room) == 0) {
				memset(room, 0x5a, 64);
				voxshm_segment_ring_commit(ring, 64);
			}
			size = voxshm_segment_ring_read(ring, &bytes);
			if (size > 0) {
				volatile uint8_t last = ((const uint8_t *)bytes)[size - 1];

				(void)last;
				voxshm_segment_ring_release(ring, (uint32_t)size);
			}
			voxshm_segment_ring_close(ring);
		}
	}
	if (id > 0)
		voxshm_segment_detach_peer(segment, (uint32_t)id);
}

static void scribble(uint8_t *bytes, uint64_t size, uint64_t *random, unsigned int count)
{
	while (count--) {
		uint64_t choice = test_random(random);
		uint64_t offset = (choice >> 16) % (choice & 1 ? size : 1024);

		bytes[offset] = choice & 2 ? 0xff : choice & 4 ? 0 : (uint8_t)(choice >> 8);
	}
}

TEST_F_TIMEOUT(attach, garbage_never_crashes, 300)
{
	unsigned long seed, seeds = test_count("VOXSHM_GARBAGE_SEEDS", 3000), attached = 0;
	uint64_t size = self->host->file.size;
	uint8_t *valid = malloc(size);

	ASSERT_NE(valid, NULL);
	memcpy(valid, self->host->file.base, size);
	for (seed = 1; seed <= seeds; seed++) {
		uint64_t random = seed * 0x9e3779b97f4a7c15ull;

		memcpy(self->host->file.base, valid, size);
		scribble(self->host->file.base, size, &random, 1 + seed % 40);
		if (voxshm_segment_attach(&self->guest, self->dir.path, &self->error)) {
			ASSERT_NE(self->error.text[0], 0);
			continue;
		}
		attached++;
		scribble(self->host->file.base, size, &random, 200);
		use(self->guest);
		voxshm_segment_free(self->guest);
	}
	self->guest = NULL;
	EXPECT_GT(attached, 0);
	EXPECT_LT(attached, seeds);
	memcpy(self->host->file.base, valid, size);
	free(valid);
}

TEST_F_TIMEOUT(attach, recovery_of_garbage_never_crashes, 300)
{
	unsigned long seed, seeds = test_count("VOXSHM_GARBAGE_SEEDS", 3000);
	uint64_t size = self->host->file.size;
	uint8_t *valid = malloc(size);
	struct voxshm_segment_unread *unread;
	const void *data;
	size_t length;

	ASSERT_NE(valid, NULL);
	ASSERT_EQ(voxshm_segment_attach_peer(self->host), 1);
	memcpy(valid, self->host->file.base, size);
	for (seed = 1; seed <= seeds; seed++) {
		uint64_t random = seed * 0x9e3779b97f4a7c15ull;
		volatile uint8_t last = 0;

		memcpy(self->host->file.base, valid, size);
		scribble(self->host->file.base + SEGMENT_HEADER_SIZE, size - SEGMENT_HEADER_SIZE,
			 &random, 500);
		if (voxshm_segment_recover(self->host, 1, &unread, NULL) < 0)
			continue;
		while (voxshm_segment_unread_next(unread, &data, &length))
			if (length)
				last = ((const uint8_t *)data)[length - 1];
		(void)last;
		voxshm_segment_unread_free(unread);
	}
	memcpy(self->host->file.base, valid, size);
	free(valid);
}

TEST_HARNESS_MAIN
