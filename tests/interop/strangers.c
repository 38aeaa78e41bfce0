// SPDX-License-Identifier: MIT
/*
 * strangers.c - what one side has that the other does not know: our extension
 * of the header, our native format, growth, and shapes that only one allows.
 */
#include "bare.h"
#include "layout.h"

static const struct voxshm_class classes[] = { { 512, 16 }, { 4096, 4 } };
static const struct traffic traffic = { .seed = 81, .count = MANY, .max = 4092 };

#define CONFIG(...) ((struct voxshm_segment_config){					\
	.struct_size = sizeof(struct voxshm_segment_config), .max_guests = 2,		\
	.ring_capacity = 4096, .max_payload = 64 * KIB, .inline_threshold = 256,	\
	.num_classes = 2, .classes = classes, .path = self->joined.segment, __VA_ARGS__ })
#define CRATES_SHAPE "2 4096 65536 256 0 512 16 4096 4"

FIXTURE(strangers)
{
	struct joined joined;
	struct crate *crate;
	struct voxshm_segment *segment;
	struct voxshm_error error;
};

FIXTURE_SETUP(strangers)
{
	self->joined = (struct joined){ 0 };
	self->crate = &self->joined.crate;
	self->segment = NULL;
	self->error.text[0] = '\0';
	directory_make(&self->joined);
	crate_start(self->crate, -1);
}

FIXTURE_TEARDOWN(strangers)
{
	voxshm_segment_free(self->segment);
	part(&self->joined);
}

static void create(struct __test_metadata *_metadata, FIXTURE_DATA(strangers) *self,
		   const struct voxshm_segment_config *config)
{
	ASSERT_EQ(0, voxshm_segment_create(&self->segment, config, &self->error))
		TH_LOG("%s", self->error.text);
}

/* Our extension ----------------------------------------------------------------------------- */

/* In all its fields, as this library fills them. */
TEST_F_TIMEOUT(strangers, extension_is_accepted_by_the_crate, 240)
{
	struct segment_header header;

	create(_metadata, self, &CONFIG(.max_size = MIB));
	ASSERT_EQ(sizeof(header), pread(voxshm_segment_fd(self->segment), &header, sizeof(header),
					0));
	EXPECT_EQ(EXTENSION_MAGIC, header.extension.magic);
	EXPECT_NE(0, header.extension.version);
	EXPECT_NE(0, header.extension.max_mappings);
	EXPECT_NE(0, header.extension.link_block_offset);
	EXPECT_NE(0, header.extension.link_block_stride);
	EXPECT_NE(0, header.extension.window_size);
	EXPECT_NE(0, header.extension.extent_offset);
	EXPECT_NE(0, header.extension.segment_id);
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
	bare_exchange(_metadata, self->crate, self->segment, 1, true, &traffic);
}

/* And whatever stands there. */
TEST_F_TIMEOUT(strangers, reserved_bytes_are_not_looked_at_by_the_crate, 240)
{
	uint8_t ones[48];
	int fd;

	memset(ones, 0xff, sizeof(ones));
	create(_metadata, self, &CONFIG());
	fd = open(self->joined.segment, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(ones), pwrite(fd, ones, sizeof(ones),
				       offsetof(struct segment_header, extension)));
	close(fd);
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
	bare_exchange(_metadata, self->crate, self->segment, 1, true, &traffic);
}

/* Our native format -------------------------------------------------------------------------- */

/* The descriptor of the host's segment, as the kernel shows it. */
static void native_path(char path[64])
{
	char name[64], target[128];
	ssize_t length;
	int fd;

	for (fd = 3; fd < 64; fd++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		length = readlink(name, target, sizeof(target) - 1);
		if (length > 0 && (target[length] = '\0', strstr(target, "memfd:voxshm-main")))
			snprintf(path, 64, "/proc/%d/fd/%d", (int)getpid(), fd);
	}
}

static void open_native_host(struct __test_metadata *_metadata, FIXTURE_DATA(strangers) *self)
{
	struct voxshm_config config = VOX_CONFIG(.max_guests = 2);

	config.format = VOXSHM_FORMAT_NATIVE;
	ASSERT_EQ(0, voxshm_host_new(&self->joined.host, &config, &self->error))
		TH_LOG("%s", self->error.text);
}

/* The crate maps for writing, which the seals of the original forbid; so a copy as well. */
TEST_F(strangers, native_segment_is_refused_by_the_crate)
{
	char path[64] = "", bytes[64 * KIB];
	ssize_t size;
	int from, to;

	open_native_host(_metadata, self);
	native_path(path);
	ASSERT_STRNE("", path);
	EXPECT_STREQ("error I/O error: Operation not permitted (os error 1)",
		     ask(self->crate, "attach %s", path));
	from = open(path, O_RDONLY | O_CLOEXEC);
	to = open(self->joined.segment, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, from);
	ASSERT_LE(0, to);
	while ((size = read(from, bytes, sizeof(bytes))) > 0)
		ASSERT_EQ(size, write(to, bytes, (size_t)size));
	close(from);
	close(to);
	EXPECT_STREQ("error bad segment header: unsupported segment version",
		     ask(self->crate, "attach %s", self->joined.segment));
}

/* There is no path in its answer. Who fails so does not keep the place that he was given. */
TEST_F(strangers, native_host_is_refused_by_the_crate)
{
	struct pollfd pollfd = { .fd = self->crate->socket, .events = POLLIN };
	struct voxshm_event event;
	int i;

	open_native_host(_metadata, self);
	ASSERT_EQ(0, voxshm_host_listen(self->joined.host, self->joined.address, 0, NULL, NULL,
					&self->error));
	for (i = 0; i < 10; i++) {
		crate_say(self->crate, "connect %s please", self->joined.address);
		while (poll(&pollfd, 1, 0) == 0)
			if (voxshm_host_wait(self->joined.host, &event, 1, SECOND / 100) == 1)
				ASSERT_GE(event.type, VOXSHM_EVENT_LEFT);
		EXPECT_STREQ("error I/O error: Failed to open SHM file at : "
			     "No such file or directory (os error 2)", crate_hear(self->crate));
	}
}

/* Growth --------------------------------------------------------------------------------------- */

TEST_F_TIMEOUT(strangers, growth_is_refused_while_a_crate_is_there, 240)
{
	struct voxshm_segment_info info;
	struct bare up, down;
	struct traffic inline_only = traffic;
	char text[64];

	create(_metadata, self, &CONFIG(.max_size = 2 * MIB));
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
	EXPECT_EQ(-EBUSY, voxshm_segment_grow(self->segment, MIB, &self->error));
	EXPECT_STREQ("a vox-shm guest is attached, which cannot follow growth", self->error.text);
	ASSERT_STREQ("", ask(self->crate, "detach_peer 1"));
	ASSERT_LE(0, voxshm_segment_recover(self->segment, 1, NULL, NULL));
	ASSERT_STREQ("", ask(self->crate, "detach"));
	ASSERT_EQ(0, voxshm_segment_grow(self->segment, MIB, &self->error))
		TH_LOG("%s", self->error.text);
	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(2, info.num_extents);
	/* One that comes later finds all of it mapped, and uses the part that it knows. */
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	snprintf(text, sizeof(text), "current_size %u", MIB);
	EXPECT_NE(NULL, strstr(ask(self->crate, "header"), text));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
	up = (struct bare){ self->segment, 1, VOXSHM_GUEST_TO_HOST };
	down = (struct bare){ self->segment, 1, VOXSHM_HOST_TO_GUEST };
	inline_only.max = 256;
	bare_recv_from_crate(_metadata, self->crate, &up, &traffic);
	bare_send_to_crate(_metadata, self->crate, &down, &inline_only);
	EXPECT_EQ(-EBUSY, voxshm_segment_grow(self->segment, 2 * MIB, &self->error));
}

/* A link's host knows that as well; later guests get slots of the first part alone. */
TEST_F_TIMEOUT(strangers, growth_of_a_host_waits_for_its_crate_to_go, 240)
{
	struct joined *joined = &self->joined;
	struct voxshm_error error = { "" };
	struct voxshm_event event;

	crate_kill(self->crate);
	ASSERT_EQ(0, voxshm_host_new(&joined->host, &VOX_CONFIG(
		.max_guests = 1, .ring_capacity = 4096, .max_payload = 64 * KIB,
		.inline_threshold = 256, .num_classes = 2, .classes = classes,
		.max_size = MIB), &error));
	join_our_host(_metadata, joined);
	exchange_many(_metadata, joined);
	EXPECT_EQ(-EBUSY, voxshm_host_grow(joined->host, 64 * KIB, &error))
		TH_LOG("%s", error.text);
	part_end(joined);
	/* Its hang-up is seen there. */
	voxshm_host_wait(joined->host, &event, 1, SECOND / 100);
	ASSERT_EQ(0, voxshm_host_grow(joined->host, 64 * KIB, &error))
		TH_LOG("%s", error.text);
	join_our_host(_metadata, joined);
	exchange(_metadata, joined, &traffic, (struct manner){ .hold = 2 });
}

/* The crate adds bytes and nothing to find in them: who is attached needs none of it. */
TEST_F_TIMEOUT(strangers, growth_by_the_crate_is_lived_with, 240)
{
	struct voxshm_segment *late;
	struct voxshm_segment_info info;

	ASSERT_STREQ("", ask(self->crate, "create %s " CRATES_SHAPE, self->joined.segment));
	ASSERT_EQ(0, voxshm_segment_attach(&self->segment, self->joined.segment, &self->error));
	ASSERT_EQ(1, voxshm_segment_attach_peer(self->segment));
	ASSERT_STREQ("", ask(self->crate, "grow 1048576"));
	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(MIB, info.current_size);
	bare_exchange(_metadata, self->crate, self->segment, 1, false, &traffic);
	ASSERT_EQ(0, voxshm_segment_attach(&late, self->joined.segment, &self->error))
		TH_LOG("%s", self->error.text);
	voxshm_segment_get_info(late, &info);
	EXPECT_EQ(MIB, info.current_size);
	EXPECT_LT(info.total_size, info.current_size);
	EXPECT_EQ(2, voxshm_segment_attach_peer(late));
	bare_exchange(_metadata, self->crate, late, 2, false, &traffic);
	voxshm_segment_free(late);
}

/* Shapes ---------------------------------------------------------------------------------------- */

/* What the crate would make, and this library does not attach to: it says why. */
TEST_F(strangers, shapes_of_the_crate_that_we_refuse)
{
	static const struct { const char *shape, *says; } shapes[] = {
		{ "2 4100 65536 256 0 512 16", "capacity" },
		{ "2 64 65536 256 0 512 16", "capacity" },
		{ "2 4096 65536 70000 0 512 16", "threshold" },
		{ "2 4096 65536 256 0 4096 4 512 16", "slot" },
		{ "0 4096 65536 256 0 512 16", "guests" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		ASSERT_STREQ("", ask(self->crate, "create %s %s", self->joined.segment,
				     shapes[i].shape));
		EXPECT_EQ(-EBADMSG, voxshm_segment_attach(&self->segment, self->joined.segment,
							  &self->error))
			TH_LOG("shape %zu", i);
		EXPECT_NE(NULL, strstr(self->error.text, shapes[i].says))
			TH_LOG("%s", self->error.text);
		ASSERT_STREQ("", ask(self->crate, "detach"));
	}
}

TEST_HARNESS_MAIN
