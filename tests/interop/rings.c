// SPDX-License-Identifier: MIT
/*
 * rings.c - tiny rings, on which the crate with itself replays old bytes within
 * some 10^4 to 10^6 messages (vox-shm-replay shows it): not with us as the
 * reader, nor with us as the writer. steps.c meets every moment on purpose, this
 * one many at random.
 */
#include "bare.h"

#define MESSAGES 1000000u

static const struct voxshm_class classes[] = { { 64, 1 } };

FIXTURE(rings)
{
	struct joined joined;
	struct crate *crate;
	struct voxshm_segment *segment;
};

FIXTURE_VARIANT(rings)
{
	uint32_t capacity;
};

FIXTURE_VARIANT_ADD(rings, of_72_bytes)
{
	.capacity = 72,
};

FIXTURE_VARIANT_ADD(rings, of_96_bytes)
{
	.capacity = 96,
};

FIXTURE_SETUP(rings)
{
	struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = 1, .ring_capacity = variant->capacity,
		.max_payload = 64 * KIB, .inline_threshold = 1024, .num_classes = 1,
		.classes = classes, .path = self->joined.segment,
	};
	struct voxshm_error error = { "" };

	self->joined = (struct joined){ 0 };
	self->crate = &self->joined.crate;
	directory_make(&self->joined);
	ASSERT_EQ(0, voxshm_segment_create(&self->segment, &config, &error))
		TH_LOG("%s", error.text);
	crate_start(self->crate, -1);
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
}

FIXTURE_TEARDOWN(rings)
{
	voxshm_segment_free(self->segment);
	part(&self->joined);
}

TEST_F_TIMEOUT(rings, our_reader_is_enough, 240)
{
	static const struct traffic traffic = { .seed = 31, .count = MESSAGES, .max = 16 };
	struct bare up = { self->segment, 1, VOXSHM_GUEST_TO_HOST };

	bare_recv_from_crate(_metadata, self->crate, &up, &traffic);
}

TEST_F_TIMEOUT(rings, our_writer_is_enough, 240)
{
	static const struct traffic traffic = { .seed = 32, .count = MESSAGES, .max = 16 };
	struct bare down = { self->segment, 1, VOXSHM_HOST_TO_GUEST };

	bare_send_to_crate(_metadata, self->crate, &down, &traffic);
}

/* The crate writes entries that fill all of its ring but a byte. */
TEST_F_TIMEOUT(rings, entries_longer_than_half_the_ring, 120)
{
	struct traffic traffic = {
		.seed = 33, .count = MANY, .max = variant->capacity - 12,
	};
	struct bare up = { self->segment, 1, VOXSHM_GUEST_TO_HOST };

	bare_recv_from_crate(_metadata, self->crate, &up, &traffic);
}

TEST_HARNESS_MAIN
