// SPDX-License-Identifier: MIT
/* payloads.c - payloads of every kind and size, both ways, with either as the host. */
#include "crate.h"

#define LARGEST (16 * MIB)

static const struct voxshm_class classes[] = { { 1024, 32 }, { 16384, 16 }, { 65536, 4 } };
#define LARGEST_SLOT (65536u - 4)

FIXTURE(payloads)
{
	struct joined joined;
};
EITHER_IS_HOST(payloads);

FIXTURE_SETUP(payloads)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 2, .ring_capacity = 64 * KIB, .max_payload = LARGEST,
			 .inline_threshold = 256, .num_classes = 3, .classes = classes));
}

FIXTURE_TEARDOWN(payloads)
{
	part(&self->joined);
}

/* The crate's own count of what it sent and received: inline, slots, mappings. */
static void count(struct __test_metadata *_metadata, struct joined *joined, unsigned long counts[6])
{
	ASSERT_EQ(6, sscanf(ask(&joined->crate, "counts"), "sent %lu %lu %lu received %lu %lu %lu",
			    counts, counts + 1, counts + 2, counts + 3, counts + 4, counts + 5))
		TH_LOG("%s", joined->crate.answer);
}

/* A few mappings alone, as the crate never lets go of one. */
TEST_F_TIMEOUT(payloads, mixed, 240)
{
	static const struct traffic traffic = {
		.seed = 11, .count = MANY, .max = LARGEST_SLOT, .every = MANY / 20, .large = LARGEST,
	};
	unsigned long counts[6];

	exchange(_metadata, &self->joined, &traffic, (struct manner){ 0 });
	count(_metadata, &self->joined, counts);
	EXPECT_GT(counts[0], MANY / 2);
	EXPECT_GT(counts[1], MANY / 5);
	EXPECT_EQ(counts[2], 20);
	EXPECT_GT(counts[3], MANY / 2);
	EXPECT_GT(counts[4], MANY / 5);
	EXPECT_EQ(counts[5], 20);
}

/* More are borrowed than the larger classes have slots less one. */
TEST_F_TIMEOUT(payloads, borrowed_and_given_back_late_and_out_of_order, 240)
{
	static const struct traffic traffic = {
		.seed = 12, .count = MANY, .max = LARGEST_SLOT, .every = MANY / 20,
		.large = 2 * LARGEST_SLOT,
	};

	exchange(_metadata, &self->joined, &traffic, (struct manner){ .hold = 3 });
}

TEST_F_TIMEOUT(payloads, small_ones_borrowed_in_crowds, 240)
{
	static const struct traffic traffic = { .seed = 13, .count = MANY, .max = 1020 };

	exchange(_metadata, &self->joined, &traffic, (struct manner){ .hold = 24 });
}

/* One size after the other, from both sides of each limit. */
TEST_F_TIMEOUT(payloads, sizes_around_every_limit, 120)
{
	static const uint32_t sizes[] = {
		0, 1, 2, 3, 4, 5, 7, 8, 9,
		247, 248, 249, 255, 256, 257,			/* ours: 8 + n; the crate's: n */
		1019, 1020, 1021, 1024, 16379, 16380, 16381,	/* a slot's, less its length */
		LARGEST_SLOT - 1, LARGEST_SLOT, LARGEST_SLOT + 1, 65535, 65536, 65537,
		MIB - 1, MIB, MIB + 1, LARGEST - 1, LARGEST,	/* the crate's mapping */
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct traffic traffic = {
			.seed = sizes[i], .count = 3, .every = 1, .large = sizes[i],
		};

		exchange(_metadata, &self->joined, &traffic, (struct manner){ 0 });
	}
}

TEST_F(payloads, too_large_is_refused_and_the_link_goes_on)
{
	static const struct traffic traffic = {
		.seed = 14, .count = 1, .every = 1, .large = LARGEST + 1,
	}, after = { .seed = 15, .count = 1000, .max = LARGEST_SLOT };
	void *buffer = calloc(1, LARGEST + 1);

	ASSERT_NE(NULL, buffer);
	EXPECT_EQ(-EMSGSIZE, voxshm_send(self->joined.link, buffer, LARGEST + 1, PATIENCE));
	free(buffer);
	EXPECT_STREQ("error message 0: alloc 16777217: payload exceeds max_payload_size",
		     ask(&self->joined.crate, "send " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic)));
	exchange(_metadata, &self->joined, &after, (struct manner){ 0 });
}

/* Loans are the same on the wire, written where they are read. */
TEST_F_TIMEOUT(payloads, loans, 240)
{
	static const struct traffic traffic = {
		.seed = 16, .count = MANY, .max = LARGEST_SLOT, .every = MANY / 10, .large = MIB,
	};
	struct digest digest = { 0 };
	char text[128];
	uint64_t i;

	crate_say(&self->joined.crate, "recv " TRAFFIC_FORMAT " 1 0", TRAFFIC_WORDS(&traffic));
	for (i = 0; i < traffic.count; i++) {
		size_t size = traffic_size(&traffic, i);
		struct voxshm_loan loan;

		ASSERT_EQ(0, voxshm_loan(self->joined.link, size, &loan, PATIENCE));
		traffic_fill(&traffic, i, loan.data, size);
		digest_add(&digest, loan.data, size);
		ASSERT_EQ(0, voxshm_commit(self->joined.link, &loan, size, PATIENCE));
	}
	EXPECT_STREQ(digest_text(&digest, text), crate_hear(&self->joined.crate));
}

TEST_HARNESS_MAIN
