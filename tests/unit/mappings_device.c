// SPDX-License-Identifier: MIT
/* Payload mappings that the peer finds by their number, as on the device; and hostile frames. */
#include "mappings.h"
#include "unit_test.h"

#define MIB (1024u * 1024u)
#define COUNT 3u
#define MAX_PAYLOAD (8 * MIB)

/* An end whose objects are memfds, and which refuses what the device would. */
struct fake_end {
	struct end end;
	int objects[COUNT];		/* -1: none of that number */
	int made, dropped, mapped;
	int refuse;
};

static int object_new(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	struct fake_end *fake = (struct fake_end *)end;
	int ret;

	REQUIRE(map_id < COUNT);
	if (fake->refuse)
		return fake->refuse;
	if (fake->objects[map_id] >= 0)
		return -EEXIST;
	ret = memory_new(memory, "test", size);
	if (ret)
		return ret;
	fake->objects[map_id] = memory->fd;
	memory->fd = -1;
	fake->made++;
	return 0;
}

static void object_drop(struct end *end, uint32_t map_id)
{
	struct fake_end *fake = (struct fake_end *)end;

	REQUIRE(map_id < COUNT && fake->objects[map_id] >= 0);
	close(fake->objects[map_id]);
	fake->objects[map_id] = -1;
	fake->dropped++;
}

static int object_map(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	struct fake_end *fake = (struct fake_end *)end;
	int ret;

	REQUIRE(map_id < COUNT);
	if (fake->refuse)
		return fake->refuse;
	if (fake->objects[map_id] < 0)
		return -EBADMSG;
	ret = memory_map(memory, fake->objects[map_id], size, PROT_READ);
	memory->fd = -1;
	fake->mapped += ret == 0;
	return ret;
}

static const struct end_ops fake_ops = {
	.backend_name = "fake", .object_new = object_new, .object_drop = object_drop,
	.object_map = object_map,
};

FIXTURE(objects) {
	shared_u32 released[COUNT];
	struct fake_end fake;
	struct mappings sender;
	struct received_mappings receiver;
	uint64_t made;
	int fds_before;
};

FIXTURE_SETUP(objects)
{
	uint32_t i;

	self->fds_before = count_fds();
	self->fake = (struct fake_end){ .refuse = 0 };
	end_init(&self->fake.end, &fake_ops);
	for (i = 0; i < COUNT; i++)
		self->fake.objects[i] = -1;
	ASSERT_EQ(mappings_init(&self->sender, COUNT, self->released), 0);
	ASSERT_EQ(received_init(&self->receiver, COUNT, MAX_PAYLOAD, self->released), 0);
}

FIXTURE_TEARDOWN(objects)
{
	uint32_t i;

	mappings_deinit(&self->sender);
	received_deinit(&self->receiver);
	for (i = 0; i < COUNT; i++)
		if (self->fake.objects[i] >= 0)
			close(self->fake.objects[i]);
	EXPECT_EQ(count_fds(), self->fds_before);
	EXPECT_FALSE(memory_leaks());
}

#define ALLOC(size) mapping_alloc(&self->sender, &self->fake.end, size, &self->made)
#define FIND(...) received_find(&self->receiver, &self->fake.end, \
				       &(struct mapping_ref){ __VA_ARGS__ })
#define BORROW(...) received_borrow(&self->receiver, \
					   &(struct mapping_ref){ __VA_ARGS__ }, &number)

/* An object of the peer's, as no sender of ours need have made it. */
static void make_object(struct __test_metadata *_metadata, struct fake_end *fake, uint32_t map_id,
			size_t size)
{
	struct memory memory;

	if (fake->objects[map_id] >= 0)
		object_drop(&fake->end, map_id);
	ASSERT_EQ(object_new(&fake->end, map_id, size, &memory), 0);
	memset(memory.base, (int)map_id + 1, memory.size);
	memory_free(&memory);
}

#define MAKE_OBJECT(map_id, size) make_object(_metadata, &self->fake, map_id, size)

TEST_F(objects, payload_is_found_by_its_number_and_comes_back)
{
	const uint8_t *seen;
	uint32_t number, i;
	int map_id;

	for (i = 0; i < 10; i++) {
		map_id = ALLOC(3 * MIB);
		ASSERT_EQ(map_id, 0);
		memset(self->sender.table[0].memory.base, (int)i + 7, 3 * MIB);
		mapping_sent(&self->sender, 0);
		ASSERT_EQ(FIND(.map_id = 0, .map_generation = 1, .length = 3 * MIB), 0);
		seen = BORROW(.map_id = 0, .map_generation = 1, .length = 3 * MIB);
		ASSERT_NE(seen, NULL);
		EXPECT_EQ(seen[0], i + 7);
		EXPECT_EQ(seen[3 * MIB - 1], i + 7);
		EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	}
	EXPECT_EQ(self->fake.made, 1);
	EXPECT_EQ(self->fake.mapped, 1);
}

TEST_F(objects, renewal_drops_the_number_before_it_is_made_again)
{
	uint32_t number;

	self->sender.count = 1;
	ASSERT_EQ(ALLOC(MIB), 0);
	mapping_sent(&self->sender, 0);
	ASSERT_EQ(FIND(.map_generation = 1, .length = MIB), 0);
	ASSERT_NE(BORROW(.map_generation = 1, .length = MIB), NULL);
	EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	ASSERT_EQ(ALLOC(2 * MIB), 0);
	EXPECT_EQ(self->fake.dropped, 1);
	EXPECT_EQ(self->fake.made, 2);
	EXPECT_EQ(self->sender.table[0].generation, 2);
	memset(self->sender.table[0].memory.base, 0x5a, 2 * MIB);
	mapping_sent(&self->sender, 0);
	ASSERT_EQ(FIND(.map_generation = 2, .length = MIB + 1), 0);
	EXPECT_EQ(*BORROW(.map_generation = 2, .offset = MIB, .length = 1), 0x5a);
	self->sender.count = COUNT;
}

TEST_F(objects, renewal_that_fails_leaves_an_empty_place)
{
	self->sender.count = 1;
	ASSERT_EQ(ALLOC(MIB), 0);
	mapping_unalloc(&self->sender, 0);
	self->fake.refuse = -EDQUOT;
	EXPECT_EQ(ALLOC(2 * MIB), -EDQUOT);
	EXPECT_EQ(ALLOC(1), -EDQUOT);
	EXPECT_TRUE(mapping_available(&self->sender));
	EXPECT_EQ(self->made, 1);
	self->fake.refuse = 0;
	EXPECT_EQ(ALLOC(1), 0);
	EXPECT_EQ(self->sender.table[0].generation, 2);
	self->sender.count = COUNT;
}

TEST_F(objects, longer_payload_of_a_generation_is_mapped_further)
{
	uint32_t number;

	MAKE_OBJECT(1, 4 * MIB);
	ASSERT_EQ(FIND(.map_id = 1, .map_generation = 9, .length = 10), 0);
	EXPECT_EQ(self->receiver.table[1].memory.size, MIB);
	ASSERT_EQ(FIND(.map_id = 1, .map_generation = 9, .offset = MIB - 1, .length = 1), 0);
	EXPECT_EQ(self->fake.mapped, 1);
	ASSERT_EQ(FIND(.map_id = 1, .map_generation = 9, .offset = MIB, .length = 1), 0);
	EXPECT_EQ(self->fake.mapped, 2);
	ASSERT_EQ(FIND(.map_id = 1, .map_generation = 9, .length = 4 * MIB), 0);
	EXPECT_EQ(self->fake.mapped, 3);
	EXPECT_EQ(BORROW(.map_id = 1, .length = 4 * MIB)[4 * MIB - 1], 2);
}

TEST_F(objects, payload_of_no_bytes_needs_its_object_too)
{
	MAKE_OBJECT(0, MIB);
	EXPECT_EQ(FIND(.map_generation = 1), 0);
	EXPECT_EQ(FIND(.map_generation = 1, .offset = MIB), 0);
	EXPECT_EQ(FIND(.map_id = 1, .map_generation = 1), -EBADMSG);
}

/* Hostile frames ------------------------------------------------------------------- */

TEST_F(objects, range_that_cannot_be_is_refused_without_a_try)
{
	static const struct { uint64_t offset; uint32_t length; } bad[] = {
		{ 8 * MIB + 1, 0 }, { 8 * MIB, 1 }, { 0, 8 * MIB + 1 }, { 1, 8 * MIB },
		{ 0, UINT32_MAX }, { UINT64_MAX, 0 }, { UINT64_MAX, 1 }, { UINT64_MAX, UINT32_MAX },
		{ UINT64_MAX - MIB + 2, MIB }, { 1ull << 63, 1 }, { 1ull << 32, 1 },
	};
	size_t i;

	MAKE_OBJECT(0, 8 * MIB);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(FIND(.offset = bad[i].offset, .length = bad[i].length), -EBADMSG)
			TH_LOG("offset %#llx, length %u", (unsigned long long)bad[i].offset,
			       bad[i].length);
	EXPECT_EQ(self->fake.mapped, 0);
	EXPECT_EQ(FIND(.length = 8 * MIB), 0);
}

TEST_F(objects, object_that_is_missing_or_too_small_is_refused)
{
	EXPECT_EQ(FIND(.map_id = 2, .length = 1), -EBADMSG);
	MAKE_OBJECT(2, 2 * MIB);
	EXPECT_EQ(FIND(.map_id = 2, .length = 2 * MIB + 1), -EBADMSG);
	EXPECT_EQ(FIND(.map_id = 2, .length = 2 * MIB), 0);
	/* The refused frame took nothing away. */
	EXPECT_EQ(FIND(.map_id = 2, .length = 3 * MIB), -EBADMSG);
	EXPECT_TRUE(received_has(&self->receiver, 2, 0));
}

TEST_F(objects, borrowed_mapping_is_never_replaced)
{
	const uint8_t *seen;
	uint32_t number;

	MAKE_OBJECT(0, MIB);
	ASSERT_EQ(FIND(.map_generation = 1, .length = MIB), 0);
	seen = BORROW(.length = MIB);
	ASSERT_NE(seen, NULL);
	MAKE_OBJECT(0, 4 * MIB);
	EXPECT_EQ(FIND(.map_generation = 1, .length = 2 * MIB), -EBADMSG);
	EXPECT_EQ(FIND(.map_generation = 2, .length = 1), -EBADMSG);
	EXPECT_EQ(self->fake.mapped, 1);
	EXPECT_EQ(seen[MIB - 1], 1);
	EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	EXPECT_EQ(FIND(.map_generation = 2, .length = 4 * MIB), 0);
}

TEST_F(objects, lack_of_memory_passes)
{
	MAKE_OBJECT(0, MIB);
	self->fake.refuse = -ENOMEM;
	EXPECT_EQ(FIND(.map_generation = 1, .length = 1), -ENOMEM);
	self->fake.refuse = 0;
	EXPECT_EQ(FIND(.map_generation = 1, .length = 1), 0);
}

TEST_F(objects, many_generations_keep_descriptors_and_memory_flat)
{
	unsigned long i;
	int fds = 0, maps = 0;

	for (i = 0; i < amount(1000); i++) {
		MAKE_OBJECT((uint32_t)i % COUNT, (1 + i % 8) * MIB);
		ASSERT_EQ(FIND(.map_id = (uint32_t)i % COUNT, .map_generation = (uint32_t)i,
			       .length = MIB), 0);
		if (i == 2 * COUNT) {
			fds = count_fds();
			maps = count_maps();
		}
	}
	EXPECT_EQ(count_fds(), fds);
	EXPECT_LE(count_maps(), maps + 2);
}

TEST_HARNESS_MAIN
