// SPDX-License-Identifier: MIT
/*
 * links.c - links that end and begin again: who leaves says so in the peer
 * table, the next life has the next epoch, and the host's goodbye is heard.
 */
#include "crate.h"

static const struct voxshm_class classes[] = { { 1024, 16 }, { 16384, 4 } };
static const struct voxshm_config config = {
	.struct_size = sizeof(config), .format = VOXSHM_FORMAT_VOX,
	.backend = VOXSHM_BACKEND_FILE, .max_guests = 1, .ring_capacity = 16 * KIB,
	.max_payload = MIB, .inline_threshold = 256, .num_classes = 2, .classes = classes,
};

/* The next event of that kind; others on the way are let go. */
static struct voxshm_link *await(struct voxshm_host *host, enum voxshm_event_type type)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_event event;

	while (now_ns() < until)
		if (voxshm_host_wait(host, &event, 1, SECOND) == 1 && event.type == type)
			return event.link;
	return NULL;
}

static struct voxshm_status status_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status;
}

/* How the crate tells of an end: it depends on whether it was sending or receiving then. */
static bool tells_of_an_end(const char *answer)
{
	return !strcmp(answer, "the peer has ended") ||
	       strstr(answer, "doorbell peer closed") || strstr(answer, "Connection reset");
}

/* Our host -------------------------------------------------------------------------------- */

FIXTURE(our_host)
{
	struct joined joined;
};

FIXTURE_SETUP(our_host)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, true, &config);
	ASSERT_EQ(self->joined.link, await(self->joined.host, VOXSHM_EVENT_ATTACHED));
}

FIXTURE_TEARDOWN(our_host)
{
	part(&self->joined);
}

TEST_F_TIMEOUT(our_host, sees_the_crate_come_and_leave, 240)
{
	struct traffic traffic = { .seed = 61, .count = MANY / 20, .max = 16000 };
	uint32_t life;

	for (life = 1; life <= 10; life++) {
		EXPECT_EQ(VOXSHM_LINK_ATTACHED, status_of(self->joined.link).state);
		EXPECT_EQ(life, status_of(self->joined.link).epoch);
		EXPECT_EQ(1, status_of(self->joined.link).peer_id);
		exchange(_metadata, &self->joined, &traffic, (struct manner){ 0 });
		EXPECT_EQ(self->joined.crate.pid, status_of(self->joined.link).pid);
		ASSERT_STREQ("", ask(&self->joined.crate, "leave"));
		EXPECT_EQ(self->joined.link, await(self->joined.host, VOXSHM_EVENT_LEFT));
		EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->joined.link).state);
		part_end(&self->joined);
		join_our_host(_metadata, &self->joined);
		ASSERT_EQ(self->joined.link, await(self->joined.host, VOXSHM_EVENT_ATTACHED));
	}
}

/* What it sent before it left comes first. */
TEST_F(our_host, gets_all_that_the_crate_sent_before_it_left)
{
	static const struct traffic traffic = { .seed = 62, .count = 16, .max = 1000 };
	struct voxshm_view view;

	ASSERT_EQ(0, strncmp("16 messages", ask(&self->joined.crate, "send " TRAFFIC_FORMAT,
						TRAFFIC_WORDS(&traffic)), 11));
	ASSERT_STREQ("", ask(&self->joined.crate, "leave"));
	EXPECT_EQ(0, traffic_recv(self->joined.link, &traffic, (struct manner){ 0 }, NULL));
	EXPECT_EQ(-EPIPE, voxshm_recv(self->joined.link, &view, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->joined.link).state);
}

/* A program of the crate that only drops its link does not say that it leaves. */
TEST_F(our_host, takes_a_dropped_link_for_a_death)
{
	ASSERT_STREQ("", ask(&self->joined.crate, "detach"));
	EXPECT_EQ(self->joined.link, await(self->joined.host, VOXSHM_EVENT_DIED));
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(self->joined.link).state);
	part_end(&self->joined);
	join_our_host(_metadata, &self->joined);
	EXPECT_EQ(2, status_of(self->joined.link).epoch);
	exchange_many(_metadata, &self->joined);
}

TEST_F_TIMEOUT(our_host, says_goodbye, 240)
{
	exchange_many(_metadata, &self->joined);
	crate_say(&self->joined.crate, "end");
	voxshm_host_free(self->joined.host);
	self->joined.host = NULL;
	self->joined.link = NULL;
	EXPECT_TRUE(tells_of_an_end(crate_hear(&self->joined.crate)))
		TH_LOG("%s", self->joined.crate.answer);
	EXPECT_STREQ("true", ask(&self->joined.crate, "is_goodbye"));
}

TEST_F(our_host, closes_one_link)
{
	crate_say(&self->joined.crate, "end");
	voxshm_link_close(self->joined.link);
	self->joined.link = NULL;
	EXPECT_TRUE(tells_of_an_end(crate_hear(&self->joined.crate)))
			TH_LOG("%s", self->joined.crate.answer);
	EXPECT_STREQ("false", ask(&self->joined.crate, "is_goodbye"));
	EXPECT_STREQ("goodbye epoch 1 heartbeat 0", ask(&self->joined.crate, "peer 1"));
	part_end(&self->joined);
	join_our_host(_metadata, &self->joined);
	exchange_many(_metadata, &self->joined);
}

/* Spawned by the library, so that it knows how the crate's program ended. */
TEST_F(our_host, spawns_the_crate_and_knows_how_it_ended)
{
	struct voxshm_status status;
	struct voxshm_host *host;
	struct voxshm_link *link;
	int sockets[2];
	char word[16], *argv[] = { crate_program(), word, NULL };

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	snprintf(word, sizeof(word), "%d", fcntl(sockets[1], F_DUPFD, 3));
	close(sockets[1]);
	ASSERT_EQ(0, voxshm_host_new(&host, &config, NULL));
	ASSERT_EQ(0, voxshm_host_spawn(host, argv[0], argv, &link, NULL));
	close(atoi(word));
	crate_kill(&self->joined.crate);
	self->joined.crate = (struct crate){ .socket = sockets[0] };
	ASSERT_EQ(0, strncmp("1 /proc/", ask(&self->joined.crate, "inherit"), 8))
		TH_LOG("%s", self->joined.crate.answer);
	ASSERT_EQ(link, await(host, VOXSHM_EVENT_ATTACHED));
	voxshm_link_status(link, &status);
	ASSERT_LT(0, status.pid);
	kill(status.pid, SIGKILL);
	EXPECT_EQ(link, await(host, VOXSHM_EVENT_DIED));
	voxshm_link_status(link, &status);
	EXPECT_EQ(VOXSHM_EXIT_SIGNAL, status.exit_kind);
	EXPECT_EQ(SIGKILL, status.exit_value);
	voxshm_host_free(host);
	close(sockets[0]);
}

/* The crate's host ----------------------------------------------------------------------------- */

FIXTURE(crates_host)
{
	struct joined joined;
};

FIXTURE_SETUP(crates_host)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, false, &config);
}

FIXTURE_TEARDOWN(crates_host)
{
	part(&self->joined);
}

TEST_F_TIMEOUT(crates_host, sees_us_come_and_leave, 240)
{
	struct traffic traffic = { .seed = 63, .count = MANY / 20, .max = 16000 };
	char text[64];
	uint32_t life;

	for (life = 1; life <= 10; life++) {
		snprintf(text, sizeof(text), "attached epoch %u heartbeat 0", life);
		EXPECT_STREQ(text, ask(&self->joined.crate, "peer 1"));
		EXPECT_EQ(life, status_of(self->joined.link).epoch);
		exchange(_metadata, &self->joined, &traffic, (struct manner){ 0 });
		crate_say(&self->joined.crate, "end");
		part_end(&self->joined);
		EXPECT_TRUE(tells_of_an_end(crate_hear(&self->joined.crate)))
			TH_LOG("%s", self->joined.crate.answer);
		snprintf(text, sizeof(text), "goodbye epoch %u heartbeat 0", life);
		EXPECT_STREQ(text, ask(&self->joined.crate, "peer 1"));
		ASSERT_STREQ("", ask(&self->joined.crate, "recover_peer 1"));
		snprintf(text, sizeof(text), "empty epoch %u heartbeat 0", life);
		EXPECT_STREQ(text, ask(&self->joined.crate, "peer 1"));
		join_crate_host(_metadata, &self->joined);
	}
}

TEST_F(crates_host, gets_all_that_we_sent_before_we_left)
{
	static const struct traffic traffic = { .seed = 64, .count = 16, .max = 1000 };
	struct digest digest = { 0 };
	char text[128];

	ASSERT_EQ(0, traffic_send(self->joined.link, &traffic, &digest));
	part_end(&self->joined);
	EXPECT_STREQ(digest_text(&digest, text),
		     ask(&self->joined.crate, "recv " TRAFFIC_FORMAT " 0 0",
			 TRAFFIC_WORDS(&traffic)));
	EXPECT_TRUE(tells_of_an_end(ask(&self->joined.crate, "end")))
		TH_LOG("%s", self->joined.crate.answer);
}

/*
 * The crate looks at the ring, then waits, and takes our hang-up there for an
 * error: what we committed in between is in the ring, and comes when it asks
 * again.
 */
TEST_F_TIMEOUT(crates_host, gets_all_that_we_sent_when_it_asks_again, 120)
{
	const struct traffic traffic = { .seed = 65, .count = 5, .max = 100 };
	unsigned int life, number;
	char text[64];

	for (life = 1; life <= 50; life++) {
		crate_say(&self->joined.crate, "recv " TRAFFIC_FORMAT " 0 0",
			  TRAFFIC_WORDS(&traffic));
		sleep_ms(2);
		ASSERT_EQ(0, traffic_send(self->joined.link, &traffic, NULL));
		part_end(&self->joined);
		number = 0;
		if (sscanf(crate_hear(&self->joined.crate), "error message %u:", &number) == 1) {
			ASSERT_EQ(NULL, strstr(self->joined.crate.answer, "damaged"));
			ask(&self->joined.crate, "recv " TRAFFIC_FORMAT " 0 0 %u",
			    TRAFFIC_WORDS(&traffic), number);
		}
		snprintf(text, sizeof(text), "%u messages", 5 - number);
		ASSERT_EQ(0, strncmp(text, self->joined.crate.answer + 3, strlen(text)))
			TH_LOG("life %u: %s", life, self->joined.crate.answer);
		ASSERT_STREQ("", ask(&self->joined.crate, "recover_peer 1"));
		join_crate_host(_metadata, &self->joined);
	}
}

/* The crate rings nobody for it: a sleeper looks again by itself. */
TEST_F_TIMEOUT(crates_host, says_goodbye, 240)
{
	struct voxshm_view view;

	exchange_many(_metadata, &self->joined);
	crate_say(&self->joined.crate, "sleep 20");
	crate_say(&self->joined.crate, "goodbye");
	EXPECT_EQ(-EPIPE, voxshm_recv(self->joined.link, &view, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_LEFT, status_of(self->joined.link).state);
	EXPECT_EQ(-EPIPE, voxshm_send(self->joined.link, "x", 1, PATIENCE));
}

TEST_F(crates_host, drops_its_end)
{
	struct voxshm_view view;

	crate_say(&self->joined.crate, "sleep 20");
	crate_say(&self->joined.crate, "detach");
	EXPECT_EQ(-EPIPE, voxshm_recv(self->joined.link, &view, PATIENCE));
	EXPECT_EQ(VOXSHM_LINK_DIED, status_of(self->joined.link).state);
}

TEST_HARNESS_MAIN
