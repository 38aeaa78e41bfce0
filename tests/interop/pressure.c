// SPDX-License-Identifier: MIT
/* pressure.c - a full ring and an empty pool hold the sender back, whichever side that is. */
#include "crate.h"

#define RING (4 * KIB)

static const struct voxshm_class classes[] = { { 1024, 8 }, { 4096, 3 } };
#define SLOTS 11u
#define IN_A_SLOT 1000u		/* fits both classes */

FIXTURE(pressure)
{
	struct joined joined;
	struct voxshm_link *link;
	struct crate *crate;
};
EITHER_IS_HOST(pressure);

FIXTURE_SETUP(pressure)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 1, .ring_capacity = RING, .max_payload = 64 * KIB,
			 .inline_threshold = 256, .num_classes = 2, .classes = classes));
	self->link = self->joined.link;
	self->crate = &self->joined.crate;
}

FIXTURE_TEARDOWN(pressure)
{
	part(&self->joined);
}

/* Messages of one size until there is no room for more. Return: how many. */
static unsigned int fill(struct __test_metadata *_metadata, struct voxshm_link *link,
			 const struct traffic *traffic, struct digest *digest)
{
	unsigned int count = 0;
	uint8_t buffer[4 * KIB];
	int ret;

	for (;; count++) {
		traffic_fill(traffic, count, buffer, traffic->large);
		ret = voxshm_try_send(link, buffer, traffic->large);
		if (ret)
			break;
		digest_add(digest, buffer, traffic->large);
	}
	EXPECT_EQ(-EAGAIN, ret);
	return count;
}

static void fill_towards_crate(struct __test_metadata *_metadata, FIXTURE_DATA(pressure) *self,
			       uint32_t size, unsigned int least, unsigned int most)
{
	struct traffic traffic = { .seed = size, .every = 1, .large = size };
	struct digest digest = { 0 };
	char text[128];

	traffic.count = fill(_metadata, self->link, &traffic, &digest);
	EXPECT_LE(least, traffic.count);
	EXPECT_GE(most, traffic.count);
	EXPECT_EQ(-ETIMEDOUT, voxshm_send(self->link, text, size, SECOND / 20));
	ASSERT_STREQ(digest_text(&digest, text),
		     ask(self->crate, "recv " TRAFFIC_FORMAT " 0 0", TRAFFIC_WORDS(&traffic)));
}

static void fill_towards_us(struct __test_metadata *_metadata, FIXTURE_DATA(pressure) *self,
			    uint32_t size, const char *lacking, unsigned int least,
			    unsigned int most)
{
	struct traffic traffic = { .seed = size, .every = 1, .large = size };
	unsigned int count;
	char word[16];

	ASSERT_EQ(2, sscanf(ask(self->crate, "fill " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic)),
			    "%u %15s", &count, word));
	EXPECT_STREQ(lacking, word);
	EXPECT_LE(least, count);
	EXPECT_GE(most, count);
	traffic.count = count;
	ASSERT_EQ(0, traffic_recv(self->link, &traffic, (struct manner){ 0 }, NULL));
}

TEST_F(pressure, full_ring_towards_the_crate)
{
	int i;

	/* 108 bytes an entry. */
	for (i = 0; i < 20; i++)
		fill_towards_crate(_metadata, self, 100, RING / 108 - 1, RING / 108);
}

/* The crate keeps room for an entry of the largest size. */
TEST_F(pressure, full_ring_towards_us)
{
	int i;

	for (i = 0; i < 5; i++)
		fill_towards_us(_metadata, self, 100, "ring", (RING - 264) / 108 - 3, RING / 108);
}

TEST_F(pressure, empty_pool_towards_the_crate)
{
	int i;

	for (i = 0; i < 20; i++)
		fill_towards_crate(_metadata, self, IN_A_SLOT, SLOTS, SLOTS);
}

TEST_F(pressure, empty_pool_towards_us)
{
	int i;

	for (i = 0; i < 20; i++)
		fill_towards_us(_metadata, self, IN_A_SLOT, "pool", SLOTS, SLOTS);
}

/* All slots are with one side, borrowed; the other waits for the first that comes back. */
TEST_F(pressure, slots_that_we_borrow_hold_the_crate_back)
{
	struct traffic traffic = { .seed = 51, .every = 1, .large = IN_A_SLOT };
	struct voxshm_view views[SLOTS], view;
	struct pollfd pollfd = { .fd = self->crate->socket, .events = POLLIN };
	unsigned int i;

	traffic.count = SLOTS + 1;
	crate_say(self->crate, "send " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(0, voxshm_recv(self->link, &views[i], PATIENCE));
	EXPECT_EQ(-ETIMEDOUT, voxshm_recv(self->link, &view, SECOND / 20));
	EXPECT_EQ(0, poll(&pollfd, 1, 0));
	ASSERT_EQ(0, voxshm_release(self->link, &views[4]));
	ASSERT_EQ(0, voxshm_recv(self->link, &views[4], PATIENCE));
	EXPECT_EQ(0, strncmp("12 messages", crate_hear(self->crate), 11));
	for (i = 0; i < SLOTS; i++) {
		EXPECT_TRUE(traffic_check(&traffic, i == 4 ? SLOTS : i, views[i].data,
					  views[i].size));
		EXPECT_EQ(0, voxshm_release(self->link, &views[i]));
	}
}

TEST_F(pressure, slots_that_the_crate_borrows_hold_us_back)
{
	struct traffic traffic = { .seed = 52, .count = 2 * SLOTS, .every = 1, .large = IN_A_SLOT };
	struct digest digest = { 0 };
	char text[128];

	crate_say(self->crate, "recv " TRAFFIC_FORMAT " %u 0", TRAFFIC_WORDS(&traffic),
		  SLOTS - 1);
	EXPECT_EQ(0, traffic_send(self->link, &traffic, &digest));
	EXPECT_STREQ(digest_text(&digest, text), crate_hear(self->crate));
}

/* The receiver sleeps 250 times on the way, so the sender meets every kind of lack. */
static const struct traffic hurried = {
	.seed = 53, .count = MANY, .max = 4092,
};
static const struct manner slow = { .pause = MANY / 250 };

TEST_F_TIMEOUT(pressure, slow_crate, 240)
{
	struct voxshm_counters counters;

	send_to_crate(_metadata, &self->joined, &hurried, slow);
	voxshm_link_counters(self->link, &counters);
	EXPECT_GT(counters.sleeps, 100);
}

TEST_F_TIMEOUT(pressure, slow_receiver_of_ours, 240)
{
	recv_from_crate(_metadata, &self->joined, &hurried, slow);
}

/* The crate wants room for its largest entry twice; in 520 bytes it waits for ever. */
TEST_F_TIMEOUT(pressure, smallest_ring_that_the_crate_can_live_with, 240)
{
	static const struct traffic traffic = { .seed = 54, .count = MANY, .max = 256 };

	part(&self->joined);
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 1, .ring_capacity = 2 * (8 + 256), .max_payload = 64 * KIB,
			 .inline_threshold = 256, .num_classes = 2, .classes = classes));
	exchange(_metadata, &self->joined, &traffic, (struct manner){ 0 });
}

/* The socket that carries mappings holds so many: we wait, the crate's sender fails. */
TEST_F_TIMEOUT(pressure, mappings_that_the_crate_does_not_take, 240)
{
	static const struct traffic traffic = {
		.seed = 55, .count = 1000, .every = 1, .large = 4093,
	};
	struct digest digest = { 0 };
	uint8_t buffer[4 * KIB];
	unsigned int full = 0;
	char text[128];
	uint64_t i;
	int ret;

	part(&self->joined);
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 1, .ring_capacity = 64 * KIB, .max_payload = 64 * KIB,
			 .inline_threshold = 256, .num_classes = 2, .classes = classes));
	recv_from_crate(_metadata, &self->joined, &(struct traffic){ .count = 1, .max = 9 },
			(struct manner){ 0 });
	for (i = 0; i < traffic.count; i++) {
		traffic_fill(&traffic, i, buffer, traffic.large);
		digest_add(&digest, buffer, traffic.large);
		ret = voxshm_try_send(self->joined.link, buffer, traffic.large);
		if (ret == -EAGAIN) {
			if (full++ == 0)
				crate_say(self->crate, "recv " TRAFFIC_FORMAT " 0 0",
					  TRAFFIC_WORDS(&traffic));
			ret = voxshm_send(self->joined.link, buffer, traffic.large, PATIENCE);
		}
		ASSERT_EQ(0, ret);
	}
	EXPECT_LT(0, full);
	EXPECT_STREQ(digest_text(&digest, text), crate_hear(self->crate));
}

TEST_HARNESS_MAIN
