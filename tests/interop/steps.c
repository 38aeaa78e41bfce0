// SPDX-License-Identifier: MIT
/*
 * steps.c - the crate at one end of a tiny ring, stopped after each of its
 * instructions, and us at the other: so we also act between the two stores of
 * its wrap, where a reader of the crate takes old bytes for new.
 */
#include <sys/ptrace.h>

#include "bare.h"

#define CAPACITY 72u
#define MESSAGES 300u

static const struct voxshm_class classes[] = { { 64, 1 } };
static const struct traffic traffic = { .seed = 101, .count = MESSAGES, .max = 16 };

FIXTURE(steps)
{
	struct joined joined;
	struct crate *crate;
	struct voxshm_segment *segment;
	struct voxshm_segment_ring *ring;
	struct digest digest;
	uint64_t done;		/* messages that we wrote or read */
};

/* We act after so many instructions of the crate's. */
FIXTURE_VARIANT(steps)
{
	unsigned int pace;
};

FIXTURE_VARIANT_ADD(steps, every_one)
{
	.pace = 1,
};

FIXTURE_VARIANT_ADD(steps, every_seventh)
{
	.pace = 7,
};

FIXTURE_SETUP(steps)
{
	const struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = 1, .ring_capacity = CAPACITY,
		.max_payload = 64 * KIB, .inline_threshold = 256, .num_classes = 1,
		.classes = classes, .path = self->joined.segment,
	};

	self->joined = (struct joined){ 0 };
	self->crate = &self->joined.crate;
	self->digest = (struct digest){ 0 };
	self->done = 0;
	self->ring = NULL;
	directory_make(&self->joined);
	ASSERT_EQ(0, voxshm_segment_create(&self->segment, &config, NULL));
	crate_start(self->crate, -1);
	ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	ASSERT_STREQ("1", ask(self->crate, "attach_peer"));
}

FIXTURE_TEARDOWN(steps)
{
	voxshm_segment_ring_close(self->ring);
	voxshm_segment_free(self->segment);
	part(&self->joined);
}

/* Stops the crate before it does what it is told next. */
static void take_hold(struct __test_metadata *_metadata, const struct crate *crate)
{
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, crate->pid, NULL, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, crate->pid, NULL, NULL));
	ASSERT_EQ(crate->pid, waitpid(crate->pid, NULL, __WALL));
}

/* Lets it do one instruction. */
static void step(const struct crate *crate)
{
	int status;

	REQUIRE(ptrace(PTRACE_SINGLESTEP, crate->pid, NULL, NULL) == 0);
	REQUIRE(waitpid(crate->pid, &status, __WALL) == crate->pid && WIFSTOPPED(status));
}

static bool has_answered(const struct crate *crate)
{
	struct pollfd pollfd = { .fd = crate->socket, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* Until it has answered, `act` in between. */
static void walk(struct __test_metadata *_metadata, FIXTURE_DATA(steps) *self, unsigned int pace,
		 int (*act)(FIXTURE_DATA(steps) *self))
{
	int64_t until = now_ns() + 2 * PATIENCE;
	unsigned int steps;

	/* After its answer it waits for the next command, and would step no more. */
	for (steps = 1; self->done < traffic.count || !has_answered(self->crate); steps++) {
		step(self->crate);
		if (steps % pace == 0)
			ASSERT_EQ(0, act(self))
				TH_LOG("after %u steps", steps);
		if (steps % 1024 == 0)
			ASSERT_LT(now_ns(), until);
	}
	ptrace(PTRACE_DETACH, self->crate->pid, NULL, NULL);
}

/* Reads all that is there. */
static int read_all(FIXTURE_DATA(steps) *self)
{
	const void *data;
	struct vox_entry entry;
	ssize_t readable;

	while ((readable = voxshm_segment_ring_read(self->ring, &data)) > 0) {
		if (vox_entry_parse(&entry, data, (uint32_t)readable) ||
		    !traffic_check(&traffic, self->done, entry.payload, entry.length))
			return -ENOMSG;
		digest_add(&self->digest, entry.payload, entry.length);
		self->done++;
		voxshm_segment_ring_release(self->ring, entry.size);
	}
	return (int)readable;
}

/* Writes the next message, when there is room for it. */
static int write_one(FIXTURE_DATA(steps) *self)
{
	uint8_t bytes[16];
	uint32_t size;
	void *entry;
	int ret;

	if (self->done == traffic.count)
		return 0;
	size = (uint32_t)traffic_size(&traffic, self->done);
	ret = voxshm_segment_ring_grant(self->ring, vox_entry_size(size), &entry);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	traffic_fill(&traffic, self->done, bytes, size);
	digest_add(&self->digest, bytes, size);
	memcpy(vox_entry_write_inline(entry, size), bytes, size);
	self->done++;
	return voxshm_segment_ring_commit(self->ring, vox_entry_size(size));
}

TEST_F_TIMEOUT(steps, of_a_writer_before_our_reader, 240)
{
	char text[128];

	ASSERT_EQ(0, voxshm_segment_ring_open(&self->ring, self->segment, 1, VOXSHM_GUEST_TO_HOST,
					      VOXSHM_CONSUMER));
	take_hold(_metadata, self->crate);
	crate_say(self->crate, "produce up 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	walk(_metadata, self, variant->pace, read_all);
	EXPECT_STREQ(digest_text(&self->digest, text), crate_hear(self->crate));
}

TEST_F_TIMEOUT(steps, of_a_reader_behind_our_writer, 240)
{
	char text[128];

	ASSERT_EQ(0, voxshm_segment_ring_open(&self->ring, self->segment, 1, VOXSHM_HOST_TO_GUEST,
					      VOXSHM_PRODUCER));
	take_hold(_metadata, self->crate);
	crate_say(self->crate, "consume down 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	walk(_metadata, self, variant->pace, write_one);
	EXPECT_STREQ(digest_text(&self->digest, text), crate_hear(self->crate));
}

TEST_HARNESS_MAIN
