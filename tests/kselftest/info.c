/* SPDX-License-Identifier: MIT */
/*
 * info.c - what can be seen from outside: INFO, fdinfo, the module's parameters,
 * tracepoints; and that nothing is told to everybody unasked.
 */
#include <linux/netlink.h>
#include <sys/mount.h>

#include "processes.h"

FIXTURE(info) {
	struct pair pair;
};

FIXTURE_SETUP(info)
{
	pair_new(&self->pair);
}

FIXTURE_TEARDOWN(info)
{
	pair_free(&self->pair);
}

TEST_F_TIMEOUT(info, info_tells_the_limits, 60)
{
	struct voxshm_ioc_info info, again;
	int device = device_open(O_RDONLY);

	ASSERT_GE(device, 0);
	memset(&info, 0x5a, sizeof(info));
	ASSERT_EQ(0, call(device, VOXSHM_IOC_INFO, &info));
	EXPECT_EQ(VOXSHM_ABI_VERSION, info.abi_version);
	EXPECT_EQ(0, info.reserved);
	EXPECT_EQ(0, info.features);
	EXPECT_EQ(parameter_get("max_bytes"), info.max_bytes);
	EXPECT_EQ(parameter_get("max_segments"), info.max_segments);
	EXPECT_EQ(parameter_get("max_links"), info.max_links);
	EXPECT_EQ(parameter_get("max_tickets"), info.max_tickets);
	EXPECT_EQ(page_size(), info.page_size);
	EXPECT_NE(0, info.max_bytes);
	EXPECT_NE(0, info.max_segments);
	EXPECT_NE(0, info.max_links);
	EXPECT_NE(0, info.max_tickets);
	ASSERT_EQ(0, call(self->pair.segment, VOXSHM_IOC_INFO, &again));
	EXPECT_EQ(0, memcmp(&info, &again, sizeof(info)));
	close(device);
}

TEST_F_TIMEOUT(info, info_follows_the_parameters, 60)
{
	uint64_t before = parameter_get("max_links");
	struct voxshm_ioc_info info;

	ASSERT_EQ(0, parameter_set("max_links", 1234));
	EXPECT_EQ(0, call(self->pair.segment, VOXSHM_IOC_INFO, &info));
	EXPECT_EQ(0, parameter_set("max_links", before));
	EXPECT_EQ(1234, info.max_links);
}

/* The value of a field "voxshm-NAME:\tVALUE"; false if there is no such line. */
static bool fdinfo_field(int fd, const char *name, char *value, size_t size)
{
	char text[2048], key[64], *line, *end;

	fdinfo_read(fd, text, sizeof(text));
	snprintf(key, sizeof(key), "\nvoxshm-%s:\t", name);
	line = strstr(text, key);
	if (!line)
		return false;
	line += strlen(key);
	end = strchr(line, '\n');
	REQUIRE(end && (size_t)(end - line) < size);
	memcpy(value, line, end - line);
	value[end - line] = '\0';
	return true;
}

#define EXPECT_FIELD(fd, name, expected) do {						\
	char field_[256] = "(no such field)";						\
	EXPECT_TRUE(fdinfo_field(fd, name, field_, sizeof(field_)));			\
	EXPECT_STREQ(expected, field_)							\
		TH_LOG("field %s", name);						\
} while (0)

static const char *number(uint64_t value)
{
	static char texts[8][32];
	static unsigned int next;
	char *text = texts[next++ % 8];

	snprintf(text, sizeof(texts[0]), "%" PRIu64, value);
	return text;
}

TEST_F_TIMEOUT(info, fdinfo_of_a_device, 60)
{
	int device = device_open(O_RDWR);
	char text[1024];

	ASSERT_GE(device, 0);
	fdinfo_read(device, text, sizeof(text));
	EXPECT_NE(NULL, strstr(text, "pos:"));
	EXPECT_NE(NULL, strstr(text, "flags:"));
	EXPECT_FIELD(device, "role", "device");
	close(device);
}

TEST_F_TIMEOUT(info, fdinfo_of_a_segment, 60)
{
	struct voxshm_ioc_create create = create_default();
	int fd = self->pair.segment;

	EXPECT_FIELD(fd, "role", "segment");
	EXPECT_FIELD(fd, "label", create.label);
	EXPECT_FIELD(fd, "pid", number(getpid()));
	EXPECT_FIELD(fd, "links", "1/8");
	EXPECT_FIELD(fd, "pools", "0");
	EXPECT_FIELD(fd, "main-bytes", number(create.main_size));
	EXPECT_FIELD(fd, "window-bytes", number(create.window_size));
	ASSERT_EQ(0, grow(fd, page_size(), NULL));
	link_new(fd);
	EXPECT_FIELD(fd, "links", "2/8");
	EXPECT_FIELD(fd, "pools", "1");
}

TEST_F_TIMEOUT(info, fdinfo_of_the_ends, 60)
{
	const int fds[] = { self->pair.link.host, self->pair.link.guest };
	struct voxshm_ioc_create create = create_default();
	size_t i;

	EXPECT_FIELD(fds[0], "role", "host");
	EXPECT_FIELD(fds[1], "role", "guest");
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_FIELD(fds[i], "label", create.label);
		EXPECT_FIELD(fds[i], "peer", number(self->pair.link.peer_id));
		EXPECT_FIELD(fds[i], "epoch", number(self->pair.link.epoch));
		EXPECT_FIELD(fds[i], "state", "attached");
		EXPECT_FIELD(fds[i], "how", "-");
		EXPECT_FIELD(fds[i], "pid", number(getpid()));
		EXPECT_FIELD(fds[i], "window-bytes", number(create.window_size));
	}
	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, 2 * page_size()));
	EXPECT_FIELD(fds[1], "guest-bytes", number(2 * page_size()));
	ASSERT_EQ(0, object_drop(self->pair.link.guest, 0));
	EXPECT_FIELD(fds[1], "guest-bytes", "0");
	ASSERT_EQ(0, detach(self->pair.link.guest));
	EXPECT_FIELD(fds[1], "state", "ended");
	EXPECT_FIELD(fds[1], "how", "detached");
	EXPECT_FIELD(fds[0], "state", "attached");
}

TEST_F_TIMEOUT(info, fdinfo_of_a_ticket, 60)
{
	struct link link = link_new(self->pair.segment);

	EXPECT_FIELD(link.guest, "role", "guest");
	EXPECT_FIELD(link.guest, "peer", "2");
	EXPECT_FIELD(link.guest, "state", "waiting");
	EXPECT_FIELD(link.guest, "pid", "0");
	link_close(&link);
}

TEST_F_TIMEOUT(info, descriptors_are_named, 60)
{
	char path[64], target[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->pair.link.host);
	length = readlink(path, target, sizeof(target) - 1);
	ASSERT_GT(length, 0);
	target[length] = '\0';
	EXPECT_STREQ("anon_inode:[voxshm-host]", target);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->pair.link.guest);
	length = readlink(path, target, sizeof(target) - 1);
	ASSERT_GT(length, 0);
	target[length] = '\0';
	EXPECT_STREQ("anon_inode:[voxshm-guest]", target);
}

/* Uevents ----------------------------------------------------------------------- */

static int listen_to_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	REQUIRE(fd >= 0);
	REQUIRE_EQ(0, bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

/* The next uevent of ours within so many ms has all these; none: false. */
static bool uevent_comes(int fd, int ms, const char *event, const char *label)
{
	char text[4096], *at;
	int64_t until = now_ns() + ms * MS;
	bool has_event, has_label;
	ssize_t length;

	while (now_ns() < until) {
		if (!readable_within(fd, 10))
			continue;
		length = recv(fd, text, sizeof(text) - 1, 0);
		if (length <= 0)
			continue;
		text[length] = '\0';
		has_event = has_label = false;
		for (at = text; at < text + length; at += strlen(at) + 1) {
			has_event |= !strcmp(at, event);
			has_label |= !strcmp(at, label);
		}
		if (has_event && has_label)
			return true;
	}
	return false;
}

static void make_events(const char *label)
{
	struct voxshm_ioc_create create = create_default();
	struct pair pair;

	memset(create.label, 0, sizeof(create.label));
	strcpy(create.label, label);
	pair_open(&pair, &create);
	REQUIRE_EQ(0, detach(pair.link.guest));
	pair_free(&pair);
}

TEST_F_TIMEOUT(info, uevents_are_off, 60)
{
	char text[16];
	int fd;

	ASSERT_GT(read_text(PARAMETERS "uevents", text, sizeof(text)), 0);
	EXPECT_EQ('N', text[0]);
	fd = listen_to_uevents();
	make_events("silent");
	EXPECT_FALSE(uevent_comes(fd, LULL_MS, "VOXSHM_EVENT=created", "VOXSHM_LABEL=silent"));
	close(fd);
}

TEST_F_TIMEOUT(info, uevents_when_asked_for, 60)
{
	static const char *const events[] = { "VOXSHM_EVENT=created", "VOXSHM_EVENT=ended",
					      "VOXSHM_EVENT=removed" };
	bool came[ARRAY_SIZE(events)];
	int fd = listen_to_uevents();
	size_t i;

	ASSERT_EQ(0, write_text(PARAMETERS "uevents", "Y"));
	make_events("loud");
	for (i = 0; i < ARRAY_SIZE(events); i++)
		came[i] = uevent_comes(fd, PATIENCE_MS / 4, events[i], "VOXSHM_LABEL=loud");
	EXPECT_EQ(0, write_text(PARAMETERS "uevents", "N"));
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		EXPECT_TRUE(came[i])
			TH_LOG("%s", events[i]);
	}
	close(fd);
}

/* Tracepoints ------------------------------------------------------------------- */

TEST_F_TIMEOUT(info, tracepoints_tell_of_a_link, 60)
{
	static const char *const names[] = { "voxshm_link", "voxshm_claim", "voxshm_ring",
					     "voxshm_end" };
	const char *tracing = "/sys/kernel/tracing";
	static char text[65536];
	char path[128];
	size_t i;

	snprintf(path, sizeof(path), "%s/trace", tracing);
	if (access(path, F_OK) < 0 && mount("tracefs", tracing, "tracefs", 0, NULL) < 0)
		SKIP(return, "no tracefs here");
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/events/voxshm/%s/format", tracing, names[i]);
		EXPECT_EQ(0, access(path, F_OK))
			TH_LOG("%s", path);
	}
	snprintf(path, sizeof(path), "%s/events/voxshm/enable", tracing);
	ASSERT_EQ(0, write_text(path, "1"));
	make_events("traced");
	EXPECT_EQ(0, ring(self->pair.link.host));
	EXPECT_EQ(0, write_text(path, "0"));
	snprintf(path, sizeof(path), "%s/trace", tracing);
	EXPECT_GT(read_text(path, text, sizeof(text)), 0);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		char wanted[64];

		snprintf(wanted, sizeof(wanted), "%s: ", names[i]);
		EXPECT_NE(NULL, strstr(text, wanted))
			TH_LOG("%s", wanted);
	}
}

VOXSHM_TEST_MAIN
