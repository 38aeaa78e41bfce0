// SPDX-License-Identifier: MIT
/*
 * Malformed frames through a pair of native links: the link fails, stays
 * failed, says why, and hurts nobody else.
 */
#include <sys/resource.h>

#include "native/native.h"
#include "unit_test.h"

static const struct voxshm_class classes[] = { { 128, 4 }, { 1024, 2 } };

#define MAX_PAYLOAD 600000u
#define LIMITED(limit) NATIVE_CONFIG(.max_guests = 2, .ring_capacity = 4096, .num_classes = 2, \
				     .classes = classes, .max_mappings = 3, .max_payload = limit)
#define USUAL LIMITED(MAX_PAYLOAD)

FIXTURE(frames) {
	struct pair pair;
	struct voxshm_link *sender, *receiver;
	struct voxshm_view view;
};

FIXTURE_VARIANT(frames) {
	bool from_host;
};

FIXTURE_VARIANT_ADD(frames, from_guest) { false };
FIXTURE_VARIANT_ADD(frames, from_host) { true };

#define OPEN(config) do {								\
	ASSERT_EQ(pair_open(&self->pair, config), 0);					\
	self->sender = variant->from_host ? self->pair.host_end : self->pair.guest_end;	\
	self->receiver = variant->from_host ? self->pair.guest_end : self->pair.host_end; \
} while (0)

FIXTURE_SETUP(frames)
{
	OPEN(USUAL);
}

FIXTURE_TEARDOWN(frames)
{
	EXPECT_EQ(pair_close(&self->pair), 0);
	EXPECT_FALSE(memory_leaks());
}

#define REOPEN(config) do {								\
	EXPECT_EQ(pair_close(&self->pair), 0);						\
	OPEN(config);									\
} while (0)

/* Commits an entry as a hostile peer may make it: the header says what it likes. */
static void inject(struct voxshm_link *link, uint64_t header, const void *body, size_t size)
{
	struct native_producer *producer = &native_link(link)->producer;
	int64_t position = native_ring_grant(producer, native_entry_size(size));

	REQUIRE(position >= 0);
	if (size)
		memcpy(native_ring_payload(producer, position), body, size);
	native_ring_commit(producer, position, native_entry_size(size), header, true);
}

#define SLOT(...) (&(struct slot_ref){ __VA_ARGS__ })
#define MAPPING(...) (&(struct mapping_ref){ __VA_ARGS__ })

static void inject_slot(struct voxshm_link *link, const struct slot_ref *ref)
{
	inject(link, frame_header(64, FRAME_SLOT_REF, 0), ref, sizeof(*ref));
}

static void inject_mapping(struct voxshm_link *link, const struct mapping_ref *ref)
{
	inject(link, frame_header(64, FRAME_MAPPING_REF, 0), ref, sizeof(*ref));
}

/* The link has failed for good, and says one sentence about it. */
static void expect_failed(struct __test_metadata *_metadata, struct voxshm_link *link,
			  const char *what)
{
	struct voxshm_status status;
	struct voxshm_view view;
	const char *reason;
	int i;

	EXPECT_EQ(voxshm_try_recv(link, &view), -EBADMSG)
		TH_LOG("%s", what);
	voxshm_link_status(link, &status);
	ASSERT_EQ(status.state, VOXSHM_LINK_FAILED)
		TH_LOG("%s", what);
	EXPECT_NE(status.reason[0], '\0');
	reason = status.reason;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(voxshm_recv(link, &view, VOXSHM_FOREVER), -EBADMSG);
		EXPECT_EQ(voxshm_send(link, "x", 1, VOXSHM_FOREVER), -EBADMSG);
	}
	voxshm_link_status(link, &status);
	EXPECT_EQ(status.reason, reason);
}

/* Inline frames ------------------------------------------------------------------- */

static const struct { const char *name; uint64_t header; } bad_headers[] = {
	{ "no size", 1ull << 48 },
	{ "size below a line", 8 },
	{ "size of no whole lines", 72 },
	{ "size beyond the ring", 4096 },
	{ "size far beyond the ring", 0xffffffc0 },
	{ "payload longer than the entry", 64 | 57ull << 48 },
	{ "payload far longer than the entry", 64 | 0xffffull << 48 },
	{ "payload that needs fewer lines", 128 | 56ull << 48 },
	{ "no payload in two lines", 128 },
	{ "reserved byte", 64 | 1ull << 48 | 1ull << 40 },
	{ "reserved byte, all bits", 64 | 1ull << 48 | 0xffull << 40 },
	{ "unknown flag 2", 64 | 0x04ull << 32 },
	{ "unknown flag 3", 64 | 0x08ull << 32 },
	{ "unknown flag 4", 64 | 0x10ull << 32 },
	{ "unknown flag 5", 64 | 0x20ull << 32 },
	{ "unknown flag 6", 64 | 0x40ull << 32 },
	{ "slot and mapping at once", 64 | 0x03ull << 32 },
	{ "slot and wrap at once", 64 | 0x81ull << 32 },
	{ "wrap at the front", 64 | 0x80ull << 32 },
	{ "all bits", UINT64_MAX },
};

TEST_F(frames, malformed_header_fails_the_link)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_headers); i++) {
		inject(self->sender, bad_headers[i].header, NULL, 0);
		expect_failed(_metadata, self->receiver, bad_headers[i].name);
		REOPEN(USUAL);
	}
}

TEST_F(frames, inline_payload_above_the_limit_fails_the_link)
{
	REOPEN(LIMITED(40));
	inject(self->sender, frame_header(64, 0, 40), NULL, 0);
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	EXPECT_EQ(self->view.size, 40);
	inject(self->sender, frame_header(64, 0, 41), NULL, 0);
	expect_failed(_metadata, self->receiver, "41 bytes");
}

TEST_F(frames, inline_payload_of_every_length_is_received)
{
	uint8_t payload[2000];
	uint32_t length;

	memset(payload, 0x55, sizeof(payload));
	for (length = 0; length <= 1900; length++) {
		inject(self->sender, frame_header(native_entry_size(length), 0, (uint16_t)length),
		       payload, length);
		ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
		ASSERT_EQ(self->view.size, length);
		ASSERT_EQ(memcmp(self->view.data, payload, length), 0);
		ASSERT_EQ(voxshm_release(self->receiver, &self->view), 0);
	}
}

/* References ------------------------------------------------------------------------ */

static const struct { const char *name; uint64_t header; struct slot_ref ref; } bad_slots[] = {
#define HEADER (64 | (uint64_t)FRAME_SLOT_REF << 32)
	{ "class 2", HEADER, { .class_index = 2, .generation = 1 } },
	{ "class 255", HEADER, { .class_index = 255, .generation = 1 } },
	{ "extent 1", HEADER, { .extent = 1, .generation = 1 } },
	{ "extent 255", HEADER, { .extent = 255, .generation = 1 } },
	{ "slot 4 of 4", HEADER, { .slot = 4, .generation = 1 } },
	{ "slot 2^32 - 1", HEADER, { .slot = UINT32_MAX, .generation = 1 } },
	{ "slot 2 of 2", HEADER, { .class_index = 1, .slot = 2, .generation = 1 } },
	{ "length 129 of 128", HEADER, { .generation = 1, .length = 129 } },
	{ "length 2^32 - 1", HEADER, { .generation = 1, .length = UINT32_MAX } },
	{ "generation 0", HEADER, { .generation = 0 } },
	{ "inline length", HEADER | 16ull << 48, { .generation = 1 } },
	{ "reserved byte", HEADER | 1ull << 40, { .generation = 1 } },
	{ "two lines", HEADER ^ 64 ^ 128, { .generation = 1 } },
#undef HEADER
};

TEST_F(frames, malformed_slot_reference_fails_the_link)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_slots); i++) {
		inject(self->sender, bad_slots[i].header, &bad_slots[i].ref, sizeof(struct slot_ref));
		expect_failed(_metadata, self->receiver, bad_slots[i].name);
		REOPEN(USUAL);
	}
}

TEST_F(frames, slot_above_the_payload_limit_fails_the_link)
{
	REOPEN(LIMITED(100));
	inject_slot(self->sender, SLOT(.generation = 1, .length = 100));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	inject_slot(self->sender, SLOT(.slot = 1, .generation = 1, .length = 101));
	expect_failed(_metadata, self->receiver, "101 bytes");
}

/* A view of it is out: two views of one slot would be given back as one. */
TEST_F(frames, slot_that_is_borrowed_already_fails_the_link)
{
	inject_slot(self->sender, SLOT(.slot = 1, .generation = 1, .length = 5));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	inject_slot(self->sender, SLOT(.slot = 1, .generation = 2, .length = 5));
	expect_failed(_metadata, self->receiver, "twice");
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
}

TEST_F(frames, slot_reference_at_its_bounds_is_received)
{
	inject_slot(self->sender, SLOT(.class_index = 1, .slot = 1, .generation = UINT32_MAX,
				       .length = 1024));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	EXPECT_EQ(self->view.size, 1024);
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
	inject_slot(self->sender, SLOT(.generation = 1, .length = 0));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	EXPECT_EQ(self->view.size, 0);
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
}

/* What is zero today must stay free for tomorrow. */
TEST_F(frames, reserved_bytes_of_a_reference_must_be_zero)
{
	inject_slot(self->sender, SLOT(.reserved = { 1, 0 }, .generation = 1, .length = 5));
	expect_failed(_metadata, self->receiver, "slot");
	REOPEN(USUAL);
	inject_slot(self->sender, SLOT(.reserved = { 0, 0x80 }, .generation = 1, .length = 5));
	expect_failed(_metadata, self->receiver, "slot");
}

/* Mappings ------------------------------------------------------------------------------ */

static int offer_memory(struct voxshm_link *link, uint32_t map_id, uint32_t generation, size_t size)
{
	struct memory memory;
	int ret;

	REQUIRE(memory_new(&memory, "test", size) == 0);
	ret = link->end->ops->offer(link->end, map_id, generation, &memory);
	memory_free(&memory);
	return ret;
}

static const struct { const char *name; struct mapping_ref ref; } bad_mappings[] = {
	{ "number 3 of 3", { .map_id = 3, .map_generation = 1, .length = 1 } },
	{ "number 2^32 - 1", { .map_id = UINT32_MAX, .map_generation = 1, .length = 1 } },
	{ "never offered", { .map_id = 2, .map_generation = 1, .length = 1 } },
	{ "other generation", { .map_id = 1, .map_generation = 2, .length = 1 } },
	{ "generation 0", { .map_id = 1, .map_generation = 0, .length = 1 } },
	{ "length beyond the memory", { .map_id = 1, .map_generation = 1, .length = 65537 } },
	{ "offset at the end", { .map_id = 1, .map_generation = 1, .offset = 65536, .length = 1 } },
	{ "offset beyond the memory", { .map_id = 1, .map_generation = 1, .offset = 65537 } },
	{ "offset that wraps", { .map_id = 1, .map_generation = 1, .offset = UINT64_MAX, .length = 2 } },
	{ "offset and length", { .map_id = 1, .map_generation = 1, .offset = 1, .length = 65536 } },
	{ "length 2^32 - 1", { .map_id = 1, .map_generation = 1, .length = UINT32_MAX } },
	{ "length above the limit", { .map_id = 1, .map_generation = 1, .length = MAX_PAYLOAD + 1 } },
};

TEST_F(frames, malformed_mapping_reference_fails_the_link)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_mappings); i++) {
		ASSERT_EQ(offer_memory(self->sender, 1, 1, 65536), 0);
		inject_mapping(self->sender, &bad_mappings[i].ref);
		expect_failed(_metadata, self->receiver, bad_mappings[i].name);
		REOPEN(USUAL);
	}
}

TEST_F(frames, mapping_above_the_payload_limit_fails_the_link)
{
	ASSERT_EQ(offer_memory(self->sender, 0, 1, 1 << 20), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .length = MAX_PAYLOAD));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .length = MAX_PAYLOAD + 1));
	expect_failed(_metadata, self->receiver, "limit");
}

TEST_F(frames, mapping_that_is_borrowed_already_fails_the_link)
{
	ASSERT_EQ(offer_memory(self->sender, 0, 1, 65536), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .length = 10));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .offset = 10, .length = 10));
	expect_failed(_metadata, self->receiver, "twice");
	EXPECT_EQ(((const uint8_t *)self->view.data)[9], 0);
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
}

TEST_F(frames, mapping_replaced_while_it_is_borrowed_fails_the_link)
{
	ASSERT_EQ(offer_memory(self->sender, 0, 1, 65536), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .length = 10));
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	ASSERT_EQ(offer_memory(self->sender, 0, 2, 65536), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 2, .length = 10));
	expect_failed(_metadata, self->receiver, "replaced");
	EXPECT_EQ(((const uint8_t *)self->view.data)[9], 0);
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
}

TEST_F(frames, mapping_offered_twice_and_in_parts_is_received)
{
	uint64_t offset;

	ASSERT_EQ(offer_memory(self->sender, 2, 1, 4096), 0);
	ASSERT_EQ(offer_memory(self->sender, 2, 7, 65536), 0);
	for (offset = 0; offset <= 65536; offset += 4096) {
		inject_mapping(self->sender, MAPPING(.map_id = 2, .map_generation = 7,
						     .offset = offset,
						     .length = (uint32_t)(65536 - offset)));
		ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
		EXPECT_EQ(self->view.size, 65536 - offset);
		EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
	}
}

TEST_F(frames, reserved_bytes_of_a_mapping_reference_must_be_zero)
{
	ASSERT_EQ(offer_memory(self->sender, 0, 1, 65536), 0);
	inject_mapping(self->sender, MAPPING(.map_generation = 1, .length = 10, .reserved = 1));
	expect_failed(_metadata, self->receiver, "mapping");
}

/* For want of memory here, not by a fault of the peer: the message stays. */
TEST_F(frames, mapping_that_cannot_be_mapped_now_can_be_received_later)
{
	static char payload[100000];
	struct rlimit old, none;
	int ret;

	if (slowness() > 1)
		SKIP(return, "sanitizers and valgrind need address space themselves");
	memset(payload, 'y', sizeof(payload));
	ASSERT_EQ(voxshm_send(self->sender, payload, sizeof(payload), 0), 0);
	ASSERT_EQ(getrlimit(RLIMIT_AS, &old), 0);
	none = old;
	none.rlim_cur = 0;
	ASSERT_EQ(setrlimit(RLIMIT_AS, &none), 0);
	ret = voxshm_try_recv(self->receiver, &self->view);
	ASSERT_EQ(setrlimit(RLIMIT_AS, &old), 0);
	EXPECT_EQ(ret, -ENOMEM);
	ASSERT_EQ(voxshm_try_recv(self->receiver, &self->view), 0);
	EXPECT_EQ(self->view.size, sizeof(payload));
	EXPECT_EQ(((const char *)self->view.data)[99999], 'y');
	EXPECT_EQ(voxshm_release(self->receiver, &self->view), 0);
}

/* What else a failure touches, and what it does not ---------------------------------------- */

TEST_F(frames, read_index_that_is_none_fails_the_link)
{
	struct native_ring *ring = native_link(self->receiver)->producer.ring;

	shared_store_u32(&ring->read, 4096);
	while (voxshm_try_send(self->receiver, "x", 1) == 0)
		;
	expect_failed(_metadata, self->receiver, "read index");
}

TEST_F(frames, what_came_before_the_malformed_frame_is_received)
{
	struct voxshm_view views[3];
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(voxshm_send(self->sender, &i, sizeof(i), 0), 0);
	inject(self->sender, UINT64_MAX, NULL, 0);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(voxshm_try_recv(self->receiver, &views[i]), 0);
	expect_failed(_metadata, self->receiver, "after three");
	/* The views are good until they are released. */
	for (i = 2; i >= 0; i--) {
		EXPECT_EQ(memcmp(views[i].data, &i, sizeof(i)), 0);
		EXPECT_EQ(voxshm_release(self->receiver, &views[i]), 0);
	}
}

TEST_F(frames, first_reason_stays)
{
	struct voxshm_status status;
	const char *reason;

	inject_slot(self->sender, SLOT(.class_index = 9));
	EXPECT_EQ(voxshm_try_recv(self->receiver, &self->view), -EBADMSG);
	voxshm_link_status(self->receiver, &status);
	reason = status.reason;
	link_fail(self->receiver, "another");
	voxshm_link_status(self->receiver, &status);
	EXPECT_EQ(status.reason, reason);
}

TEST_F(frames, sleeping_receiver_is_told_of_a_malformed_frame)
{
	struct voxshm_link *link = self->receiver;

	ASSERT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), 0);
	inject(self->sender, UINT64_MAX, NULL, 0);
	EXPECT_EQ(voxshm_link_arm(link, VOXSHM_READABLE), VOXSHM_READABLE);
	expect_failed(_metadata, link, "armed");
}

TEST(failed_link_leaves_the_other_guests_alone)
{
	struct voxshm_link *good_host_end, *good_guest_end;
	struct voxshm_event event;
	struct voxshm_view view;
	bool failed = false;
	struct pair pair;
	int i;

	ASSERT_EQ(pair_open(&pair, USUAL), 0);
	ASSERT_EQ(pair_join(pair.host, &good_host_end, &good_guest_end), 0);
	inject(pair.guest_end, UINT64_MAX, NULL, 0);
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(voxshm_send(good_guest_end, &i, sizeof(i), 0), 0);
		ASSERT_EQ(voxshm_try_recv(good_host_end, &view), 0);
		EXPECT_EQ(memcmp(view.data, &i, sizeof(i)), 0);
		EXPECT_EQ(voxshm_release(good_host_end, &view), 0);
		EXPECT_EQ(voxshm_try_recv(pair.host_end, &view), -EBADMSG);
	}
	/* The host is told once, and the place is free again. */
	for (i = 0; i < 100; i++)
		if (voxshm_host_wait(pair.host, &event, 1, 0) == 1 &&
		    event.type == VOXSHM_EVENT_FAILED) {
			EXPECT_EQ(event.link, pair.host_end);
			EXPECT_FALSE(failed);
			failed = true;
		}
	EXPECT_TRUE(failed);
	voxshm_link_close(pair.guest_end);
	voxshm_link_close(pair.host_end);
	ASSERT_EQ(pair_join(pair.host, &pair.host_end, &pair.guest_end), 0);
	EXPECT_EQ(voxshm_send(pair.guest_end, "x", 1, 0), 0);
	EXPECT_EQ(voxshm_try_recv(pair.host_end, &view), 0);
	voxshm_link_close(good_guest_end);
	EXPECT_EQ(pair_close(&pair), 0);
}

TEST_HARNESS_MAIN
