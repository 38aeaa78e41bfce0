// SPDX-License-Identifier: MIT
/*
 * bootstrap.c - being let in over a UNIX socket: success with its descriptors,
 * refusal with its text, and words that make no sense, both ways.
 */
#include <dirent.h>
#include <sys/un.h>

#include "crate.h"

static const struct voxshm_class classes[] = { { 1024, 16 }, { 16384, 4 } };

static const struct voxshm_config config = {
	.struct_size = sizeof(config), .format = VOXSHM_FORMAT_VOX,
	.backend = VOXSHM_BACKEND_FILE, .max_guests = 2, .ring_capacity = 16 * KIB,
	.max_payload = MIB, .inline_threshold = 256, .num_classes = 2, .classes = classes,
};

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	REQUIRE(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Our host ------------------------------------------------------------------------------- */

FIXTURE(our_host)
{
	struct joined joined;
	char path[96];		/* asked for, or empty */
};

FIXTURE_VARIANT(our_host)
{
	bool has_path;
};

FIXTURE_VARIANT_ADD(our_host, in_a_file)
{
	.has_path = true,
};

FIXTURE_VARIANT_ADD(our_host, without_a_name)
{
	.has_path = false,
};

/* Lets in who says "please". */
static int judge(void *data, const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	int *judged = data;

	++*judged;
	if (caller->session_size == 6 && !memcmp(caller->session, "please", 6))
		return 0;
	snprintf(reason->text, sizeof(reason->text), "say please, not %.*s",
		 (int)caller->session_size, caller->session);
	return -EACCES;
}

static int judged;

FIXTURE_SETUP(our_host)
{
	struct voxshm_config with_path = config;
	struct voxshm_error error = { "" };

	judged = 0;
	self->joined = (struct joined){ 0 };
	directory_make(&self->joined);
	if (variant->has_path)
		with_path.path = self->joined.segment;
	ASSERT_EQ(0, voxshm_host_new(&self->joined.host, &with_path, &error))
		TH_LOG("%s", error.text);
	ASSERT_EQ(0, voxshm_host_listen(self->joined.host, self->joined.address, 0, judge, &judged,
					&error))
		TH_LOG("%s", error.text);
	crate_start(&self->joined.crate, -1);
}

FIXTURE_TEARDOWN(our_host)
{
	part(&self->joined);
}

/* Serves the host until the crate has answered; the link that has come, if one has. */
static const char *serve(struct joined *joined)
{
	struct pollfd pollfd = { .fd = joined->crate.socket, .events = POLLIN };
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_event event;

	while (now_ns() < until && poll(&pollfd, 1, 0) == 0)
		if (voxshm_host_wait(joined->host, &event, 1, SECOND / 100) == 1 &&
		    event.type == VOXSHM_EVENT_ATTACHED)
			joined->link = event.link;
	return crate_hear(&joined->crate);
}

/* And until its link is there. */
static void serve_link(struct __test_metadata *_metadata, struct joined *joined)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_event event;

	while (!joined->link && now_ns() < until)
		if (voxshm_host_wait(joined->host, &event, 1, SECOND / 100) == 1 &&
		    event.type == VOXSHM_EVENT_ATTACHED)
			joined->link = event.link;
	ASSERT_NE(NULL, joined->link);
}

TEST_F_TIMEOUT(our_host, lets_the_crate_in, 240)
{
	char expected[128];

	if (variant->has_path)
		snprintf(expected, sizeof(expected), "1 %s", self->joined.segment);
	else
		snprintf(expected, sizeof(expected), "1 /proc/%d/fd/", (int)getpid());
	crate_say(&self->joined.crate, "connect %s please", self->joined.address);
	ASSERT_EQ(0, strncmp(expected, serve(&self->joined), strlen(expected)))
		TH_LOG("%s", self->joined.crate.answer);
	EXPECT_EQ(1, judged);
	serve_link(_metadata, &self->joined);
	exchange_many(_metadata, &self->joined);
}

TEST_F(our_host, refuses_with_a_reason)
{
	crate_say(&self->joined.crate, "connect %s sesame", self->joined.address);
	EXPECT_STREQ("error refused: say please, not sesame", serve(&self->joined));
	EXPECT_EQ(1, judged);
	EXPECT_EQ(NULL, self->joined.link);
}

TEST_F(our_host, says_that_it_is_full)
{
	struct voxshm_link *links[2];
	int tickets[2];

	ASSERT_EQ(0, voxshm_host_ticket(self->joined.host, &tickets[0], &links[0], NULL));
	ASSERT_EQ(0, voxshm_host_ticket(self->joined.host, &tickets[1], &links[1], NULL));
	crate_say(&self->joined.crate, "connect %s please", self->joined.address);
	EXPECT_STREQ("error refused: all guest places are taken", serve(&self->joined));
	close(tickets[0]);
	close(tickets[1]);
}

/* Another magic; another protocol; a response. */
TEST_F(our_host, refuses_what_is_no_request)
{
	static const char *const requests[] = {
		"525348310000", "474554202f20485454502f312e310d0a0d0a", "5253503000000000000000",
	};
	int before = count_fds();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		crate_say(&self->joined.crate, "request %s %s", self->joined.address, requests[i]);
		EXPECT_STREQ("error refused: this is not a request", serve(&self->joined));
	}
	EXPECT_EQ(0, judged);
	EXPECT_EQ(before, count_fds());
	crate_say(&self->joined.crate, "connect %s please", self->joined.address);
	EXPECT_EQ(0, strncmp("1 /", serve(&self->joined), 3));
}

/* The crate's host --------------------------------------------------------------------------- */

FIXTURE(crates_host)
{
	struct joined joined;
	struct voxshm_error error;
};

FIXTURE_SETUP(crates_host)
{
	self->joined = (struct joined){ 0 };
	directory_make(&self->joined);
	crate_start(&self->joined.crate, -1);
	ASSERT_STREQ("", crate_create(&self->joined.crate, self->joined.segment, &config));
	ASSERT_STREQ("", ask(&self->joined.crate, "listen %s", self->joined.address));
}

FIXTURE_TEARDOWN(crates_host)
{
	part(&self->joined);
}

static int connect_to(struct joined *joined, const char *session, struct voxshm_error *error)
{
	return voxshm_guest_connect(&joined->link, joined->address, session, PATIENCE, error);
}

TEST_F_TIMEOUT(crates_host, lets_us_in, 240)
{
	struct voxshm_status status;

	crate_say(&self->joined.crate, "accept");
	ASSERT_EQ(0, connect_to(&self->joined, "open sesame", &self->error))
		TH_LOG("%s", self->error.text);
	EXPECT_STREQ("1 open sesame", crate_hear(&self->joined.crate));
	voxshm_link_status(self->joined.link, &status);
	EXPECT_EQ(VOXSHM_LINK_ATTACHED, status.state);
	EXPECT_EQ(1, status.epoch);
	EXPECT_EQ(self->joined.crate.pid, status.pid);
	EXPECT_STREQ("attached epoch 1 heartbeat 0", ask(&self->joined.crate, "peer 1"));
	exchange_many(_metadata, &self->joined);
}

TEST_F(crates_host, refuses_us_with_a_reason)
{
	int before = count_fds();

	crate_say(&self->joined.crate, "refuse 0 not today");
	EXPECT_EQ(-EACCES, connect_to(&self->joined, "please", &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "not today"))
		TH_LOG("%s", self->error.text);
	EXPECT_STREQ("please", crate_hear(&self->joined.crate));
	EXPECT_EQ(NULL, self->joined.link);
	EXPECT_EQ(before, count_fds());
}

TEST_F(crates_host, is_full)
{
	ASSERT_STREQ("1", ask(&self->joined.crate, "attach_peer"));
	ASSERT_STREQ("2", ask(&self->joined.crate, "attach_peer"));
	crate_say(&self->joined.crate, "accept");
	EXPECT_EQ(-EACCES, connect_to(&self->joined, NULL, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "no free SHM peer slots"))
		TH_LOG("%s", self->error.text);
	EXPECT_STREQ("error no free SHM peer slots", crate_hear(&self->joined.crate));
}

/* Of the crate's own making: it sends a refusal that names a peer, which it would not take. */
TEST_F(crates_host, answers_nonsense)
{
	static const struct { const char *bytes; int ret; } answers[] = {
		{ "5253503100000000000000", -EPROTO },		/* magic */
		{ "5253503002000000000000", -EPROTO },		/* status */
		{ "5253503000010000000000", -EPROTO },		/* success, no descriptors */
		{ "52535030010000000005006e6f", -EPIPE },	/* shorter than it says */
		{ "525350", -EPIPE },
	};
	int before = count_fds();
	size_t i;

	crate_say(&self->joined.crate, "refuse 3 not today");
	EXPECT_EQ(-EPROTO, connect_to(&self->joined, NULL, &self->error));
	crate_hear(&self->joined.crate);
	for (i = 0; i < ARRAY_SIZE(answers); i++) {
		crate_say(&self->joined.crate, "answer %s", answers[i].bytes);
		EXPECT_EQ(answers[i].ret, connect_to(&self->joined, NULL, &self->error))
			TH_LOG("answer %zu: %s", i, self->error.text);
		EXPECT_STREQ("", crate_hear(&self->joined.crate));
		EXPECT_EQ(NULL, self->joined.link);
	}
	EXPECT_EQ(before, count_fds());
	crate_say(&self->joined.crate, "accept");
	EXPECT_EQ(0, connect_to(&self->joined, NULL, &self->error));
	EXPECT_STREQ("1", crate_hear(&self->joined.crate));
}

/* Sends bytes as a guest, and ends its half. */
static int say(const char *address, const char *bytes, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	REQUIRE(fd >= 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", address);
	REQUIRE(connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	REQUIRE(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	shutdown(fd, SHUT_WR);
	return fd;
}

TEST_F(crates_host, hears_nonsense)
{
	static const struct { const char *bytes; size_t size; const char *answer; } requests[] = {
		{ "RSH1\0\0", 6, "invalid bootstrap request magic" },
		{ "RSH0\5\0abc", 9, "length mismatch: declared 11, actual 9" },
		{ "RSH", 3, "truncated bootstrap request" },
	};
	char reply[256];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		int fd;

		crate_say(&self->joined.crate, "accept");
		fd = say(self->joined.address, requests[i].bytes, requests[i].size);
		EXPECT_NE(NULL, strstr(crate_hear(&self->joined.crate), requests[i].answer))
			TH_LOG("%s", self->joined.crate.answer);
		EXPECT_LT(11, recv(fd, reply, sizeof(reply), 0));
		EXPECT_EQ(0, memcmp(reply, "RSP0\1\0\0\0\0", 9));
		close(fd);
	}
}

/* A host that is neither: what the crate says to bad answers ------------------------------- */

FIXTURE(impostor)
{
	struct joined joined;
	int door;
};

FIXTURE_SETUP(impostor)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	self->joined = (struct joined){ 0 };
	directory_make(&self->joined);
	crate_start(&self->joined.crate, -1);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", self->joined.address);
	self->door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(self->door, (struct sockaddr *)&un, sizeof(un)));
	ASSERT_EQ(0, listen(self->door, 1));
}

FIXTURE_TEARDOWN(impostor)
{
	close(self->door);
	part(&self->joined);
}

/* Our own parser has the same opinion of each of these; see tests/unit/bootstrap.c. */
TEST_F(impostor, is_seen_through_by_the_crate)
{
	static const struct { const char *bytes; size_t size; const char *answer; } answers[] = {
		{ "RSP1\0\1\0\0\0\0\0", 11, "invalid bootstrap response magic" },
		{ "RSP0\2\0\0\0\0\0\0", 11, "unknown bootstrap status: 2" },
		{ "RSP0\1\3\0\0\0\0\0", 11, "error response must have peer_id=0 (got 3)" },
		{ "RSP0\1\0\0\0\0\5\0no", 13, "length mismatch: declared 16, actual 13" },
		{ "RSP0\0\1\0\0\0\0\0", 11, "invalid bootstrap fd count: 0" },
		{ "RSP", 3, "truncated bootstrap response" },
	};
	char request[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(answers); i++) {
		int fd;

		crate_say(&self->joined.crate, "connect %s word", self->joined.address);
		fd = accept(self->door, NULL, NULL);
		ASSERT_LE(0, fd);
		EXPECT_EQ(10, recv(fd, request, sizeof(request), 0));
		EXPECT_EQ(0, memcmp(request, "RSH0\4\0word", 10));
		EXPECT_EQ((ssize_t)answers[i].size,
			  send(fd, answers[i].bytes, answers[i].size, MSG_NOSIGNAL));
		EXPECT_NE(NULL, strstr(crate_hear(&self->joined.crate), answers[i].answer))
			TH_LOG("%s", self->joined.crate.answer);
		close(fd);
	}
}

TEST_HARNESS_MAIN
