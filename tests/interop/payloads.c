// SPDX-License-Identifier: MIT
/* payloads.c - every kind and size of payload, in both directions, with either as the host. */
#include "crate.h"

static const struct voxshm_class classes[] = { { 1024, 32 }, { 16384, 16 }, { 65536, 4 } };

FIXTURE(payloads)
{
	struct joined joined;
};

FIXTURE_VARIANT(payloads)
{
	bool our_host;
};

FIXTURE_VARIANT_ADD(payloads, our_host)
{
	.our_host = true,
};

FIXTURE_VARIANT_ADD(payloads, our_guest)
{
	.our_host = false,
};

FIXTURE_SETUP(payloads)
{
	self->joined = (struct joined){ 0 };
	join(_metadata, &self->joined, variant->our_host,
	     &VOX_CONFIG(.max_guests = 2, .ring_capacity = 64 * KIB, .max_payload = 16 * MIB,
			 .inline_threshold = 256, .num_classes = 3, .classes = classes));
}

FIXTURE_TEARDOWN(payloads)
{
	part(&self->joined);
}

TEST_F_TIMEOUT(payloads, mixed, 240)
{
	exchange(_metadata, &self->joined, MANY);
}

TEST_HARNESS_MAIN
