// SPDX-License-Identifier: MIT
/* config.c - what voxshm_host_new() takes and what it refuses, naming the field. */
#include "processes.h"

static const struct voxshm_class one[] = { { 1024, 4 } };

FIXTURE(config)
{
	int fds_before;
	char directory[64];
};
VARIANTS(config)

FIXTURE_SETUP(config)
{
	self->fds_before = count_fds();
	directory_make(self->directory);
}

FIXTURE_TEARDOWN(config)
{
	directory_remove(self->directory);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* Refused with -EINVAL, nothing made, and the sentence contains the word. */
static void expect_refused(struct __test_metadata *_metadata, const struct voxshm_config *config,
			   const char *word)
{
	struct voxshm_host *host = NULL;
	struct voxshm_error error = { "" };

	EXPECT_EQ(-EINVAL, voxshm_host_new(&host, config, &error))
		TH_LOG("%s: %s", word, error.text);
	EXPECT_NE(NULL, strstr(error.text, word))
		TH_LOG("'%s' does not name %s", error.text, word);
	EXPECT_EQ(NULL, strchr(error.text, '\n'));
	EXPECT_EQ(-EINVAL, voxshm_host_new(&host, config, NULL));
}

/* Accepted, and a guest's message passes. */
static void expect_works(struct __test_metadata *_metadata, const struct voxshm_config *config)
{
	struct pair pair;

	pair_open(_metadata, &pair, config);
	EXPECT_EQ(0, send_pattern(pair.host_end, 10, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(pair.guest_end, 10, 1, PATIENCE));
	EXPECT_EQ(0, send_pattern(pair.guest_end, 10, 2, PATIENCE));
	EXPECT_EQ(0, recv_pattern(pair.host_end, 10, 2, PATIENCE));
	pair_close(_metadata, &pair);
}

#define EXPECT_REFUSED(word, ...) expect_refused(_metadata, &CONFIG(variant, __VA_ARGS__), word)
#define EXPECT_WORKS(...) expect_works(_metadata, &CONFIG(variant, __VA_ARGS__))

TEST_F(config, defaults_work)
{
	struct voxshm_error error;
	struct voxshm_host *host;

	expect_works(_metadata, &CONFIG(variant));
	memset(&error, 'x', sizeof(error));
	ASSERT_EQ(0, voxshm_host_new(&host, &CONFIG(variant), &error));
	EXPECT_STREQ("", error.text);
	voxshm_host_free(host);
}

TEST_F(config, backend_and_format_are_what_was_asked_for)
{
	const char *name = variant->choice.backend == VOXSHM_BACKEND_FILE ? "file" : "device";
	struct pair pair;

	pair_open(_metadata, &pair, &CONFIG(variant));
	EXPECT_STREQ(name, voxshm_backend_name(pair.host));
	EXPECT_STREQ(name, voxshm_link_backend_name(pair.host_end));
	EXPECT_STREQ(name, voxshm_link_backend_name(pair.guest_end));
	EXPECT_EQ(variant->choice.format, voxshm_link_format(pair.host_end));
	EXPECT_EQ(variant->choice.format, voxshm_link_format(pair.guest_end));
	pair_close(_metadata, &pair);
}

TEST_F(config, max_guests)
{
	EXPECT_REFUSED("max_guests", .max_guests = 256);
	EXPECT_REFUSED("max_guests", .max_guests = UINT32_MAX);
	EXPECT_WORKS(.max_guests = 1);
	EXPECT_WORKS(.max_guests = 255, .ring_capacity = 576, .num_classes = 1, .classes = one);
}

TEST_F(config, ring_capacity)
{
	bool native = variant->choice.format == VOXSHM_FORMAT_NATIVE;

	EXPECT_REFUSED("ring_capacity", .ring_capacity = 1);
	EXPECT_REFUSED("ring_capacity", .ring_capacity = 64);
	EXPECT_REFUSED("ring_capacity", .ring_capacity = 4097);
	EXPECT_REFUSED("ring_capacity", .ring_capacity = 4100);
	EXPECT_REFUSED("ring_capacity", .ring_capacity = UINT32_MAX);
	if (native) {
		EXPECT_REFUSED("ring_capacity", .ring_capacity = 72);
		EXPECT_REFUSED("ring_capacity", .ring_capacity = 128);
		EXPECT_REFUSED("ring_capacity", .ring_capacity = 200);
		EXPECT_WORKS(.ring_capacity = 192);
		EXPECT_WORKS(.ring_capacity = 256);
	} else {
		EXPECT_REFUSED("ring_capacity", .ring_capacity = 71);
		EXPECT_REFUSED("ring_capacity", .ring_capacity = 76);
		EXPECT_WORKS(.ring_capacity = 72);
		EXPECT_WORKS(.ring_capacity = 80);
	}
	EXPECT_WORKS(.ring_capacity = 4 * MIB);
}

TEST_F(config, inline_threshold)
{
	EXPECT_REFUSED("inline_threshold", .inline_threshold = 65536);
	EXPECT_REFUSED("inline_threshold", .inline_threshold = UINT32_MAX);
	EXPECT_WORKS(.inline_threshold = 1);
	EXPECT_WORKS(.inline_threshold = 65535);
}

TEST_F(config, max_payload)
{
	EXPECT_WORKS(.max_payload = 10);
	EXPECT_WORKS(.max_payload = UINT32_MAX);
}

TEST_F(config, max_mappings)
{
	EXPECT_WORKS(.max_mappings = 1);
	EXPECT_WORKS(.max_mappings = 64);
	EXPECT_WORKS(.max_mappings = variant_max_mappings(&variant->choice));
	EXPECT_REFUSED("max_mappings",
		       .max_mappings = variant_max_mappings(&variant->choice) + 1);
	EXPECT_REFUSED("max_mappings", .max_mappings = UINT32_MAX);
}

TEST_F(config, heartbeat_interval)
{
	EXPECT_WORKS(.heartbeat_interval = SECOND);
	EXPECT_WORKS(.heartbeat_interval = 1);
	EXPECT_WORKS(.heartbeat_interval = UINT64_MAX);
}

TEST_F(config, num_classes)
{
	struct voxshm_class nine[9];

	for (uint32_t i = 0; i < ARRAY_SIZE(nine); i++)
		nine[i] = (struct voxshm_class){ 1024 * (i + 1), 2 };
	EXPECT_REFUSED("num_classes", .num_classes = 9, .classes = nine);
	EXPECT_REFUSED("num_classes", .num_classes = UINT32_MAX, .classes = nine);
	EXPECT_WORKS(.num_classes = 8, .classes = nine);
}

TEST_F(config, classes)
{
	static const struct voxshm_class falling[] = { { 4096, 2 }, { 1024, 2 } };
	static const struct voxshm_class equal[] = { { 1024, 2 }, { 1024, 2 } };
	static const struct voxshm_class no_size[] = { { 0, 2 } };
	static const struct voxshm_class no_slots[] = { { 1024, 0 } };
	static const struct voxshm_class huge[] = { { UINT32_MAX, UINT32_MAX } };

	EXPECT_REFUSED("classes", .num_classes = 1);
	EXPECT_REFUSED("slot_size", .num_classes = 2, .classes = falling);
	EXPECT_REFUSED("slot_size", .num_classes = 2, .classes = equal);
	EXPECT_REFUSED("slot_size", .num_classes = 1, .classes = no_size);
	EXPECT_REFUSED("slot_count", .num_classes = 1, .classes = no_slots);
	EXPECT_REFUSED("slot_", .num_classes = 1, .classes = huge);
	EXPECT_WORKS(.num_classes = 1, .classes = one);
}

TEST_F(config, struct_size)
{
	struct voxshm_config config = CONFIG(variant);

	config.struct_size = 0;
	expect_refused(_metadata, &config, "struct_size");
	config.struct_size = 1;
	expect_refused(_metadata, &config, "struct_size");
	config.struct_size = SIZE_MAX;
	expect_refused(_metadata, &config, "struct_size");
}

TEST_F(config, format_and_backend)
{
	struct voxshm_config config = CONFIG(variant);

	config.format = (enum voxshm_format)3;
	expect_refused(_metadata, &config, "format");
	config = CONFIG(variant);
	config.backend = (enum voxshm_backend)9;
	expect_refused(_metadata, &config, "backend");
}

TEST_F(config, path_is_for_vox_segments_in_files_only)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/segment", self->directory);
	if (variant_has_paths(&variant->choice)) {
		EXPECT_WORKS(.path = path);
	} else {
		EXPECT_REFUSED("path", .path = path);
		EXPECT_EQ(-1, access(path, F_OK));
	}
}

FIXTURE(config_path)
{
	char directory[64], path[128];
};
FIXTURE_VARIANT(config_path) { struct variant_choice choice; };
FIXTURE_VARIANT_ADD(config_path, vox_file)
{
	.choice = { VOXSHM_FORMAT_VOX, VOXSHM_BACKEND_FILE, false },
};

FIXTURE_SETUP(config_path)
{
	directory_make(self->directory);
	snprintf(self->path, sizeof(self->path), "%s/segment", self->directory);
}

FIXTURE_TEARDOWN(config_path)
{
	directory_remove(self->directory);
}

TEST_F(config_path, file_is_private_and_removed_by_host_free)
{
	struct voxshm_host *host;
	struct stat stat;

	umask(0);
	host_open(_metadata, &host, &CONFIG(variant, .path = self->path));
	ASSERT_EQ(0, lstat(self->path, &stat));
	EXPECT_TRUE(S_ISREG(stat.st_mode));
	EXPECT_EQ(0600, stat.st_mode & 07777);
	voxshm_host_free(host);
	EXPECT_EQ(-1, access(self->path, F_OK));
	host_open(_metadata, &host, &CONFIG(variant, .path = self->path, .mode = 0640));
	ASSERT_EQ(0, lstat(self->path, &stat));
	EXPECT_EQ(0640, stat.st_mode & 07777);
	voxshm_host_free(host);
	EXPECT_EQ(0, count_entries(self->directory));
}

/* Also where the device would be the first choice. */
TEST_F(config_path, path_asks_for_the_file_backend)
{
	static const enum voxshm_backend open[] = { VOXSHM_BACKEND_DEFAULT, VOXSHM_BACKEND_ANY };
	struct voxshm_host *host;

	unsetenv("VOXSHM_BACKEND");
	for (size_t i = 0; i < ARRAY_SIZE(open); i++) {
		struct voxshm_config config = CONFIG(variant, .path = self->path);

		config.backend = open[i];
		host_open(_metadata, &host, &config);
		EXPECT_STREQ("file", voxshm_backend_name(host));
		voxshm_host_free(host);
	}
}

TEST_F(config_path, taken_path_is_refused_and_left_alone)
{
	struct voxshm_error error = { "" };
	struct voxshm_host *host;
	char bytes[16] = "";
	int fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_EQ(5, write(fd, "mine\n", 5));
	EXPECT_EQ(-EEXIST, voxshm_host_new(&host, &CONFIG(variant, .path = self->path), &error));
	EXPECT_STRNE("", error.text);
	EXPECT_EQ(5, pread(fd, bytes, sizeof(bytes), 0));
	EXPECT_STREQ("mine\n", bytes);
	close(fd);
	EXPECT_EQ(0, access(self->path, F_OK));
}

TEST_F(config_path, impossible_path_is_refused_with_a_sentence)
{
	struct voxshm_error error = { "" };
	struct voxshm_host *host;
	char path[192];

	snprintf(path, sizeof(path), "%s/none/segment", self->directory);
	EXPECT_EQ(-ENOENT, voxshm_host_new(&host, &CONFIG(variant, .path = path), &error));
	EXPECT_NE(NULL, strstr(error.text, path))
		TH_LOG("'%s'", error.text);
}

TEST(no_configuration_means_all_defaults)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	struct voxshm_host *host;
	int ticket;

	unsetenv("VOXSHM_BACKEND");
	ASSERT_EQ(0, voxshm_host_new(&host, NULL, &error))
		TH_LOG("%s", error.text);
	ASSERT_EQ(0, voxshm_host_ticket(host, &ticket, &link, NULL));
	EXPECT_EQ(VOXSHM_FORMAT_NATIVE, voxshm_link_format(link));
	close(ticket);
	voxshm_host_free(host);
}

TEST(missing_device_is_enodev_with_a_sentence)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error = { "" };
	struct voxshm_host *host;

	if (access("/dev/voxshm", F_OK) == 0)
		SKIP(return, "/dev/voxshm is there");
	config.backend = VOXSHM_BACKEND_DEVICE;
	EXPECT_EQ(-ENODEV, voxshm_host_new(&host, &config, &error));
	EXPECT_STRNE("", error.text);
	config.backend = VOXSHM_BACKEND_DEFAULT;
	setenv("VOXSHM_BACKEND", "device", 1);
	EXPECT_EQ(-ENODEV, voxshm_host_new(&host, &config, &error));
	setenv("VOXSHM_BACKEND", "file", 1);
	ASSERT_EQ(0, voxshm_host_new(&host, &config, &error));
	EXPECT_STREQ("file", voxshm_backend_name(host));
	voxshm_host_free(host);
	setenv("VOXSHM_BACKEND", "carrier pigeon", 1);
	EXPECT_EQ(-EINVAL, voxshm_host_new(&host, &config, &error));
	EXPECT_NE(NULL, strstr(error.text, "VOXSHM_BACKEND"))
		TH_LOG("'%s'", error.text);
}

TEST(nothing_to_free_is_fine)
{
	voxshm_host_free(NULL);
	voxshm_link_close(NULL);
}

LINK_TEST_MAIN(NULL)
