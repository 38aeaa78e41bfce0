// SPDX-License-Identifier: MIT
/* What both formats share: bytes of headers and frames, arithmetic, and error sentences. */
#include "error.h"
#include "frame.h"
#include "native/window.h"
#include "unit_test.h"

static uint64_t number_at(const uint8_t *bytes, size_t offset, size_t size)
{
	uint64_t value = 0;
	size_t i;

	for (i = size; i-- > 0;)
		value = value << 8 | bytes[offset + i];
	return value;
}

/* The numbers of wire-format.md, not those of our structs. */
TEST(main_object_is_written_byte_by_byte_as_documented)
{
	static const struct native_parameters parameters = {
		.max_guests = 3, .ring_capacity = 4096, .max_payload = 100000,
		.inline_threshold = 200, .max_mappings = 5, .num_classes = 2,
		.classes = { { 1024, 8 }, { 16384, 4 } }, .heartbeat_interval = 0x1122334455667788,
	};
	static const uint8_t magic[8] = { 'T', 'E', 'L', 'X', 'H', 'U', 'B', 7 };
	struct native_geometry geometry;
	uint8_t *bytes;
	size_t i;

	ASSERT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
	bytes = aligned_alloc(64, geometry.main_size);
	ASSERT_NE(bytes, NULL);
	memset(bytes, 0, geometry.main_size);
	native_main_write(bytes, &geometry);

	EXPECT_EQ(memcmp(bytes, magic, 8), 0);
	EXPECT_EQ(number_at(bytes, 8, 4), 8);
	EXPECT_EQ(number_at(bytes, 12, 4), 128);
	EXPECT_EQ(number_at(bytes, 16, 8), geometry.main_size);
	EXPECT_EQ(number_at(bytes, 24, 4), 100000);
	EXPECT_EQ(number_at(bytes, 28, 4), 200);
	EXPECT_EQ(number_at(bytes, 32, 4), 3);
	EXPECT_EQ(number_at(bytes, 36, 4), 4096);
	EXPECT_EQ(number_at(bytes, 40, 8), 128);
	EXPECT_EQ(number_at(bytes, 48, 8), 128 + 3 * 64);
	EXPECT_EQ(number_at(bytes, 56, 8), 0x1122334455667788);
	EXPECT_EQ(number_at(bytes, 64, 4), 0);
	EXPECT_EQ(number_at(bytes, 68, 4), 2);
	EXPECT_EQ(number_at(bytes, 72, 8), geometry.main_size);
	EXPECT_EQ(memcmp(bytes + 80, "XSHM", 4), 0);
	EXPECT_EQ(number_at(bytes, 84, 2), 1);
	EXPECT_EQ(number_at(bytes, 86, 2), 0);
	EXPECT_EQ(number_at(bytes, 88, 4), 5);
	EXPECT_EQ(number_at(bytes, 92, 4), geometry.link_block);
	EXPECT_EQ(number_at(bytes, 96, 4), 0);
	EXPECT_EQ(number_at(bytes, 100, 4), geometry.pool);
	EXPECT_EQ(number_at(bytes, 104, 8), geometry.window_size);
	EXPECT_EQ(number_at(bytes, 112, 8), 0);
	/* Peers are empty, in epoch 0. */
	for (i = 128; i < 128 + 3 * 64; i++)
		EXPECT_EQ(bytes[i], 0);
	EXPECT_EQ(number_at(bytes, 320, 4), 1024);
	EXPECT_EQ(number_at(bytes, 324, 4), 8);
	EXPECT_EQ(number_at(bytes, 384, 4), 16384);
	EXPECT_EQ(number_at(bytes, 388, 4), 4);
	free(bytes);
}

TEST(segment_ids_differ)
{
	static const struct native_parameters parameters = {
		.max_guests = 1, .ring_capacity = 192, .max_payload = 1, .max_mappings = 1,
		.num_classes = 1, .classes = { { 64, 1 } },
	};
	_Alignas(64) static uint8_t first[4096], second[4096];
	struct native_geometry geometry;

	ASSERT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
	ASSERT_EQ(geometry.main_size, sizeof(first));
	native_main_write(first, &geometry);
	native_main_write(second, &geometry);
	EXPECT_NE(number_at(first, 120, 8), number_at(second, 120, 8));
}

TEST(frame_header_lies_in_memory_as_documented)
{
	uint64_t header = frame_header(0x11223340, 0x82, 0xabcd);
	uint8_t bytes[8];

	memcpy(bytes, &header, 8);
	EXPECT_EQ(number_at(bytes, 0, 4), 0x11223340);
	EXPECT_EQ(bytes[4], 0x82);
	EXPECT_EQ(bytes[5], 0);
	EXPECT_EQ(number_at(bytes, 6, 2), 0xabcd);
}

TEST(frame_header_is_read_as_it_was_made)
{
	static const uint32_t sizes[] = { 0, 1, 64, 0x7fffffff, 0xffffffff };
	static const uint16_t lengths[] = { 0, 1, 255, 256, 65535 };
	unsigned int flags;
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		for (j = 0; j < ARRAY_SIZE(lengths); j++)
			for (flags = 0; flags < 256; flags++) {
				uint64_t header = frame_header(sizes[i], (uint8_t)flags, lengths[j]);

				EXPECT_EQ(frame_total_len(header), sizes[i]);
				EXPECT_EQ(frame_flags(header), flags);
				EXPECT_EQ(frame_reserved(header), 0);
				EXPECT_EQ(frame_inline_len(header), lengths[j]);
			}
	/* Each byte is looked at on its own. */
	EXPECT_EQ(frame_reserved(0xffull << 40), 0xff);
	EXPECT_EQ(frame_flags(0xffull << 40), 0);
	EXPECT_EQ(frame_inline_len(0xffull << 40), 0);
	EXPECT_EQ(frame_total_len(0xffull << 40), 0);
}

TEST(references_lie_in_memory_as_documented)
{
	struct slot_ref slot = { .class_index = 1, .extent = 2, .slot = 0x11223344,
				 .generation = 0x55667788, .length = 0x99aabbcc };
	struct mapping_ref mapping = { .map_id = 1, .map_generation = 2, .offset = 0x1122334455667788,
				       .length = 3 };
	uint8_t bytes[24];

	memcpy(bytes, &slot, 16);
	EXPECT_EQ(number_at(bytes, 0, 4), 0x0201);
	EXPECT_EQ(number_at(bytes, 4, 4), 0x11223344);
	EXPECT_EQ(number_at(bytes, 8, 4), 0x55667788);
	EXPECT_EQ(number_at(bytes, 12, 4), 0x99aabbcc);
	memcpy(bytes, &mapping, 24);
	EXPECT_EQ(number_at(bytes, 0, 4), 1);
	EXPECT_EQ(number_at(bytes, 4, 4), 2);
	EXPECT_EQ(number_at(bytes, 8, 8), 0x1122334455667788);
	EXPECT_EQ(number_at(bytes, 16, 4), 3);
	EXPECT_EQ(number_at(bytes, 20, 4), 0);
}

TEST(entry_sizes_are_whole_lines)
{
	uint32_t body;

	EXPECT_EQ(native_entry_size(0), 64);
	EXPECT_EQ(native_entry_size(56), 64);
	EXPECT_EQ(native_entry_size(57), 128);
	EXPECT_EQ(native_entry_size(65535), 65600);
	for (body = 0; body < 70000; body++) {
		uint32_t size = native_entry_size(body);

		ASSERT_EQ(size % 64, 0);
		ASSERT_GE(size, body + 8);
		ASSERT_LT(size, body + 8 + 64);
	}
}

TEST(peer_word_keeps_state_and_epoch_apart)
{
	static const uint32_t epochs[] = { 0, 1, 0x7fffffff, 0x80000000, UINT32_MAX };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(epochs); i++) {
		uint64_t word = peer_word(PEER_RESERVED, epochs[i]);

		EXPECT_EQ(peer_word_state(word), PEER_RESERVED);
		EXPECT_EQ(peer_word_epoch(word), epochs[i]);
		EXPECT_EQ(word & 0xffffffff, 3);
	}
}

TEST(alignment_rounds_up_and_only_up)
{
	uint64_t value, alignment;

	for (alignment = 1; alignment <= 4096; alignment *= 2)
		for (value = 0; value < 10000; value++) {
			uint64_t aligned = align_up(value, alignment);

			ASSERT_EQ(aligned % alignment, 0);
			ASSERT_GE(aligned, value);
			ASSERT_LT(aligned, value + alignment);
			ASSERT_EQ(is_aligned(value, alignment), value % alignment == 0);
		}
	EXPECT_EQ(align_up(0xffffffff, 4096), 0x100000000);
}

/* Sentences ------------------------------------------------------------------------- */

TEST(error_sentence_is_cut_to_its_room)
{
	struct {
		struct voxshm_error error;
		uint8_t behind[16];
	} both;
	char long_text[1000];

	memset(&both, 0x77, sizeof(both));
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	EXPECT_EQ(error_set(&both.error, -EINVAL, "%s", long_text), -EINVAL);
	EXPECT_EQ(strlen(both.error.text), sizeof(both.error.text) - 1);
	EXPECT_EQ(error_errno(&both.error, -ENOENT, "%s", long_text), -ENOENT);
	EXPECT_EQ(strlen(both.error.text), sizeof(both.error.text) - 1);
	EXPECT_EQ(both.behind[0], 0x77);
}

TEST(error_sentence_ends_with_the_errno)
{
	struct voxshm_error error;

	EXPECT_EQ(error_errno(&error, -ENOENT, "cannot open %s", "it"), -ENOENT);
	EXPECT_EQ(strcmp(error.text, "cannot open it: No such file or directory"), 0);
	EXPECT_EQ(error_errno(NULL, -ENOENT, "nobody listens"), -ENOENT);
	EXPECT_EQ(error_set(NULL, -ENOENT, "nobody listens"), -ENOENT);
}

TEST_HARNESS_MAIN
