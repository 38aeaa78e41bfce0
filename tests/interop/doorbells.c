// SPDX-License-Identifier: MIT
/*
 * doorbells.c - waking and being woken: the crate has no sleep words, so it is
 * rung for everything, and nothing waits for a word that it would have to
 * clear.
 */
#include <pthread.h>

#include "crate.h"

static const struct voxshm_class classes[] = { { 1024, 16 }, { 16384, 4 } };

FIXTURE(doorbells)
{
	struct joined joined;
	struct voxshm_link *link;
	struct crate *crate;
};
EITHER_IS_HOST(doorbells);

FIXTURE_SETUP(doorbells)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 1, .ring_capacity = 4 * KIB, .max_payload = 64 * KIB,
			 .inline_threshold = 256, .num_classes = 2, .classes = classes));
	self->link = self->joined.link;
	self->crate = &self->joined.crate;
	/* Every wait sleeps at once. */
	voxshm_link_set_spin(self->link, 0);
}

FIXTURE_TEARDOWN(doorbells)
{
	part(&self->joined);
}

static struct voxshm_counters counters(struct voxshm_link *link)
{
	struct voxshm_counters counters;

	voxshm_link_counters(link, &counters);
	return counters;
}

/* One message there and back. */
static int bounce(struct voxshm_link *link, const struct traffic *traffic, uint64_t index)
{
	uint8_t buffer[16 * KIB];
	struct voxshm_view view;
	size_t size = traffic_size(traffic, index);
	bool right;
	int ret;

	traffic_fill(traffic, index, buffer, size);
	ret = voxshm_send(link, buffer, size, PATIENCE);
	if (ret == 0)
		ret = voxshm_recv(link, &view, PATIENCE);
	if (ret)
		return ret;
	right = traffic_check(traffic, index, view.data, view.size);
	ret = voxshm_release(link, &view);
	return ret ? ret : right ? 0 : -ENOMSG;
}

TEST_F_TIMEOUT(doorbells, sleepers_on_both_sides_are_woken, 240)
{
	static const struct traffic traffic = { .seed = 41, .count = MANY, .max = 16000 };
	struct voxshm_counters after;
	uint64_t i;

	crate_say(self->crate, "echo %ju", (uintmax_t)traffic.count);
	for (i = 0; i < traffic.count; i++)
		ASSERT_EQ(0, bounce(self->link, &traffic, i))
			TH_LOG("message %ju", (uintmax_t)i);
	EXPECT_EQ(0, strncmp("100000 messages ", crate_hear(self->crate), 16))
		TH_LOG("%s", self->crate->answer);
	after = counters(self->link);
	EXPECT_GT(after.sleeps, MANY / 10);
	EXPECT_GE(after.doorbells_rung, 2 * MANY);
}

/* Nobody spins that long: the crate lies in its poll, and then we do. */
TEST_F(doorbells, sleepers_are_woken_after_a_while)
{
	static const struct traffic traffic = { .seed = 42, .count = 40, .max = 16000 };
	uint64_t i;

	crate_say(self->crate, "echo %ju", (uintmax_t)traffic.count);
	for (i = 0; i < traffic.count; i++) {
		sleep_ms(5);
		ASSERT_EQ(0, bounce(self->link, &traffic, i));
	}
	EXPECT_EQ(0, strncmp("40 messages ", crate_hear(self->crate), 12));
}

/* Whatever the sleep words say, once it is known that this is the crate. */
TEST_F(doorbells, every_commit_and_every_release_rings)
{
	static const struct traffic traffic = { .seed = 43, .count = 10, .max = 200 };
	struct iovec batch[4] = { { "one", 3 }, { "two", 3 }, { "three", 5 }, { "four", 4 } };
	struct voxshm_view views[10];
	uint64_t before;
	int i;

	crate_say(self->crate, "send " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	crate_hear(self->crate);
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, voxshm_recv(self->link, &views[i], PATIENCE));
	before = counters(self->link).doorbells_rung;
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, voxshm_release(self->link, &views[i]));
		EXPECT_EQ(before + (uint64_t)i + 1, counters(self->link).doorbells_rung);
	}
	before = counters(self->link).doorbells_rung;
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, voxshm_try_send(self->link, "x", 1));
		EXPECT_EQ(before + (uint64_t)i + 1, counters(self->link).doorbells_rung);
	}
	ASSERT_EQ(4, voxshm_send_batch(self->link, batch, 4, 0));
	EXPECT_EQ(before + 11, counters(self->link).doorbells_rung);
}

struct sender {
	struct voxshm_link *link;
	const struct traffic *traffic;
	struct digest digest;
	int ret;
};

static void *send_in_thread(void *argument)
{
	struct sender *sender = argument;

	sender->ret = traffic_send(sender->link, sender->traffic, &sender->digest);
	return NULL;
}

/*
 * The crate waits for data and for room on one socket, and whichever of its
 * tasks wakes takes the other's ring with it: we ring again while we wait.
 */
TEST_F_TIMEOUT(doorbells, both_directions_at_once, 240)
{
	static const struct traffic there = { .seed = 44, .count = MANY, .max = 16000 };
	static const struct traffic back = { .seed = 45, .count = MANY, .max = 16000 };
	struct sender sender = { .link = self->link, .traffic = &there };
	struct digest received = { 0 };
	char expected[256], text[128];
	pthread_t thread;

	crate_say(self->crate, "both " TRAFFIC_FORMAT " " TRAFFIC_FORMAT " 0 0",
		  TRAFFIC_WORDS(&back), TRAFFIC_WORDS(&there));
	ASSERT_EQ(0, pthread_create(&thread, NULL, send_in_thread, &sender));
	EXPECT_EQ(0, traffic_recv(self->link, &back, (struct manner){ 0 }, &received));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, sender.ret);
	snprintf(expected, sizeof(expected), "%s, ", digest_text(&received, text));
	strcat(expected, digest_text(&sender.digest, text));
	EXPECT_STREQ(expected, crate_hear(self->crate));
}

/* For a poll loop of one's own. */
TEST_F_TIMEOUT(doorbells, descriptor_tells_of_the_crates_messages, 240)
{
	static const struct traffic traffic = { .seed = 46, .count = MANY, .max = 1000 };
	struct pollfd pollfd = { .fd = voxshm_link_fd(self->link), .events = POLLIN };
	struct digest digest = { 0 };
	struct voxshm_view view;
	uint64_t i = 0;
	char text[128];
	int ret;

	ASSERT_LE(0, pollfd.fd);
	crate_say(self->crate, "send " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	while (i < traffic.count) {
		ret = voxshm_try_recv(self->link, &view);
		if (ret == -EAGAIN) {
			if (voxshm_link_arm(self->link, VOXSHM_READABLE) == 0)
				ASSERT_EQ(1, poll(&pollfd, 1, (int)(PATIENCE / 1000000)));
			continue;
		}
		ASSERT_EQ(0, ret);
		ASSERT_TRUE(traffic_check(&traffic, i++, view.data, view.size));
		digest_add(&digest, view.data, view.size);
		ASSERT_EQ(0, voxshm_release(self->link, &view));
	}
	EXPECT_STREQ(digest_text(&digest, text), crate_hear(self->crate));
}

TEST_HARNESS_MAIN
