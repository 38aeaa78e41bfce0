// SPDX-License-Identifier: MIT
/* Where things lie in a window and in the main object, and main objects that lie about it. */
#include <stddef.h>

#include "native/window.h"
#include "unit_test.h"

#define MIB (1024u * 1024u)
#define PAGE 4096u

static const struct native_parameters usual = {
	.max_guests = 16, .ring_capacity = 262144, .max_payload = 1u << 30, .max_mappings = 16,
	.num_classes = 3, .classes = { { 1024, 64 }, { 8192, 32 }, { 65536, 16 } },
	.heartbeat_interval = 5,
};

/* Within all limits, now and then at one; windows of a moderate size. */
static struct native_parameters random_parameters(uint64_t *random)
{
	struct native_parameters parameters = {
		.max_guests = 1 + random_below(random, VOXSHM_MAX_GUESTS),
		.ring_capacity = 64 * (3 + random_below(random, 1u << random_below(random, 15))),
		.max_payload = 1 + (uint32_t)(random_next(random) >> (32 + random_below(random, 31))),
		.inline_threshold = random_below(random, 65536) >> random_below(random, 16),
		.max_mappings = 1 + random_below(random, 4096) % (1u << random_below(random, 13)),
		.num_classes = 1 + random_below(random, VOXSHM_MAX_CLASSES),
		.heartbeat_interval = random_next(random),
	};
	uint32_t size = 0, i;

	for (i = 0; i < parameters.num_classes; i++) {
		size += 64 * (1 + random_below(random, 1u << random_below(random, 12)));
		parameters.classes[i].slot_size = size;
		parameters.classes[i].slot_count = 1 + random_below(random,
								1u << random_below(random, 10));
	}
	return parameters;
}

/* Parts ------------------------------------------------------------------------- */

struct part {
	uint64_t start, end;
};

static int compare_parts(const void *a, const void *b)
{
	const struct part *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

static unsigned int list_parts(const struct native_geometry *geometry, struct part *parts)
{
	const struct native_parameters *parameters = &geometry->parameters;
	unsigned int count = 0;
	uint32_t i, side;

#define PART(offset, size) (parts[count++] = (struct part){ offset, (offset) + (size) })
	for (side = 0; side < NATIVE_SIDES; side++) {
		PART(geometry->ring[side], sizeof(struct native_ring) + parameters->ring_capacity);
		PART(geometry->sleep[side], sizeof(struct sleep_words));
		PART(geometry->released[side], 4ull * parameters->max_mappings);
		for (i = 0; i < parameters->num_classes; i++) {
			uint64_t slots = parameters->classes[i].slot_count;

			PART(geometry->returns[side][i], 4 * slots);
			PART(geometry->slots[side][i], slots * parameters->classes[i].slot_size);
		}
	}
#undef PART
	qsort(parts, count, sizeof(*parts), compare_parts);
	return count;
}

/* Return: what is wrong, or NULL. */
static const char *check_geometry(const struct native_geometry *geometry)
{
	struct part parts[NATIVE_SIDES * (3 + 2 * VOXSHM_MAX_CLASSES)];
	unsigned int count = list_parts(geometry, parts), i;

	for (i = 0; i < count; i++) {
		if (parts[i].end <= parts[i].start)
			return "a part is empty or wraps";
		if (parts[i].start % CACHE_LINE)
			return "a part shares a line with another";
		if (i && parts[i].start < parts[i - 1].end)
			return "two parts overlap";
	}
	if (parts[count - 1].end > geometry->window_size)
		return "a part lies outside of the window";
	if (geometry->window_size % PAGE || geometry->main_size % PAGE || geometry->pool % PAGE)
		return "something is not aligned to pages";
	if (geometry->main_size < SEGMENT_HEADER_SIZE + 64 * geometry->parameters.max_guests +
				  64 * geometry->parameters.num_classes)
		return "the main object is too small";
	return NULL;
}

TEST(parts_never_overlap_and_are_aligned_and_in_bounds)
{
	struct native_geometry geometry;
	uint64_t random = 41;
	unsigned long i;

	for (i = 0; i < amount(100000); i++) {
		struct native_parameters parameters = random_parameters(&random);
		struct voxshm_error error;
		const char *wrong;

		ASSERT_EQ(native_geometry(&geometry, &parameters, &error), 0)
			TH_LOG("%s", error.text);
		wrong = check_geometry(&geometry);
		ASSERT_EQ(wrong, NULL)
			TH_LOG("%s (round %lu)", wrong, i);
	}
}

TEST(inline_payload_fits_threshold_ring_and_limit)
{
	struct native_geometry geometry;
	uint64_t random = 43;
	unsigned long i;

	for (i = 0; i < amount(100000); i++) {
		struct native_parameters parameters = random_parameters(&random);
		uint32_t threshold = parameters.inline_threshold ?: 256;
		uint32_t limit, next;

		ASSERT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
		limit = geometry.inline_limit;
		next = limit + 1;
		EXPECT_LE(limit, parameters.max_payload);
		EXPECT_LE(limit, FRAME_MAX_INLINE);
		EXPECT_TRUE(limit == 0 || limit + FRAME_HEADER_SIZE <= threshold);
		EXPECT_EQ(geometry.max_entry, native_entry_size(limit));
		EXPECT_LE(geometry.max_entry, native_ring_max_entry(parameters.ring_capacity));
		/* And no byte more would. */
		EXPECT_TRUE(next > parameters.max_payload || next + FRAME_HEADER_SIZE > threshold ||
			    native_entry_size(next) > native_ring_max_entry(parameters.ring_capacity));
	}
}

/* Parameters out of range ----------------------------------------------------------- */

#define FIELD(name) offsetof(struct native_parameters, name)

static const struct {
	const char *name;
	size_t field;
	uint32_t value;
	bool good;
} values[] = {
	{ "max_guests", FIELD(max_guests), 0, false },
	{ "max_guests", FIELD(max_guests), 1, true },
	{ "max_guests", FIELD(max_guests), 255, true },
	{ "max_guests", FIELD(max_guests), 256, false },
	{ "max_guests", FIELD(max_guests), UINT32_MAX, false },
	{ "ring_capacity", FIELD(ring_capacity), 0, false },
	{ "ring_capacity", FIELD(ring_capacity), 64, false },
	{ "ring_capacity", FIELD(ring_capacity), 128, false },
	{ "ring_capacity", FIELD(ring_capacity), 191, false },
	{ "ring_capacity", FIELD(ring_capacity), 192, true },
	{ "ring_capacity", FIELD(ring_capacity), 193, false },
	{ "ring_capacity", FIELD(ring_capacity), 224, false },
	{ "ring_capacity", FIELD(ring_capacity), 1u << 30, true },
	{ "ring_capacity", FIELD(ring_capacity), (1u << 30) + 64, false },
	{ "ring_capacity", FIELD(ring_capacity), 0xffffffc0, false },
	{ "ring_capacity", FIELD(ring_capacity), UINT32_MAX, false },
	{ "max_payload", FIELD(max_payload), 0, false },
	{ "max_payload", FIELD(max_payload), 1, true },
	{ "max_payload", FIELD(max_payload), UINT32_MAX, true },
	{ "inline_threshold", FIELD(inline_threshold), 0, true },
	{ "inline_threshold", FIELD(inline_threshold), 1, true },
	{ "inline_threshold", FIELD(inline_threshold), 65535, true },
	{ "inline_threshold", FIELD(inline_threshold), 65536, false },
	{ "inline_threshold", FIELD(inline_threshold), UINT32_MAX, false },
	{ "max_mappings", FIELD(max_mappings), 0, false },
	{ "max_mappings", FIELD(max_mappings), 4096, true },
	{ "max_mappings", FIELD(max_mappings), 4097, false },
	{ "max_mappings", FIELD(max_mappings), UINT32_MAX, false },
	{ "num_classes", FIELD(num_classes), 0, false },
	{ "num_classes", FIELD(num_classes), 1, true },
	{ "num_classes", FIELD(num_classes), 9, false },
	{ "num_classes", FIELD(num_classes), UINT32_MAX, false },
	{ "slot_size of class 0", FIELD(classes[0].slot_size), 0, false },
	{ "slot_size of class 0", FIELD(classes[0].slot_size), 32, false },
	{ "slot_size of class 0", FIELD(classes[0].slot_size), 64, true },
	{ "slot_size of class 0", FIELD(classes[0].slot_size), 96, false },
	{ "slot_size of class 1", FIELD(classes[1].slot_size), 8200, false },
	{ "slot_size of class 1", FIELD(classes[1].slot_size), 1024, false },
	{ "slot_size of class 1", FIELD(classes[1].slot_size), 64, false },
	{ "slot_size of class 2", FIELD(classes[2].slot_size), 8192, false },
	{ "slot_size of class 2", FIELD(classes[2].slot_size), 1u << 30, true },
	{ "slot_size of class 2", FIELD(classes[2].slot_size), (1u << 30) + 64, false },
	{ "slot_size of class 2", FIELD(classes[2].slot_size), 0xffffffc0, false },
	{ "slot_count of class 0", FIELD(classes[0].slot_count), 0, false },
	{ "slot_count of class 0", FIELD(classes[0].slot_count), 1, true },
	{ "slot_count of class 0", FIELD(classes[0].slot_count), 1u << 20, true },
	{ "slot_count of class 0", FIELD(classes[0].slot_count), (1u << 20) + 1, false },
	{ "slot_count of class 2", FIELD(classes[2].slot_count), 0, false },
	{ "slot_count of class 2", FIELD(classes[2].slot_count), UINT32_MAX, false },
};

TEST(parameter_out_of_range_is_refused_and_named)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		struct native_parameters parameters = usual;
		struct voxshm_error error = { "" };
		struct native_geometry geometry;
		int ret;

		memcpy((uint8_t *)&parameters + values[i].field, &values[i].value, 4);
		ret = native_geometry(&geometry, &parameters, &error);
		EXPECT_EQ(ret, values[i].good ? 0 : -EINVAL)
			TH_LOG("%s = %u: %s", values[i].name, values[i].value, error.text);
		if (values[i].good)
			EXPECT_EQ(check_geometry(&geometry), NULL);
		if (!values[i].good)
			EXPECT_TRUE(strstr(error.text, values[i].name) == error.text)
				TH_LOG("%s = %u: %s", values[i].name, values[i].value, error.text);
		/* Nobody has to want the sentence. */
		EXPECT_EQ(native_geometry(&geometry, &parameters, NULL), ret);
	}
}

TEST(sizes_that_are_too_much_together_are_refused)
{
	struct native_parameters parameters = usual;
	struct voxshm_error error = { "" };
	struct native_geometry geometry;
	uint32_t i;

	parameters.num_classes = VOXSHM_MAX_CLASSES;
	parameters.ring_capacity = 1u << 30;
	parameters.max_mappings = 4096;
	for (i = 0; i < VOXSHM_MAX_CLASSES; i++)
		parameters.classes[i] = (struct voxshm_class){ (1u << 30) - 64 * (8 - i), 1u << 20 };
	EXPECT_EQ(native_geometry(&geometry, &parameters, &error), -EINVAL);
	EXPECT_NE(error.text[0], '\0');
	/* Just too much, and not quite. */
	parameters = usual;
	parameters.num_classes = 1;
	parameters.classes[0] = (struct voxshm_class){ 1u << 30, 128 };
	EXPECT_EQ(native_geometry(&geometry, &parameters, NULL), -EINVAL);
	parameters.classes[0].slot_count = 127;
	EXPECT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
	EXPECT_EQ(check_geometry(&geometry), NULL);
}

/* The main object ---------------------------------------------------------------------- */

FIXTURE(main_object) {
	struct native_geometry geometry;
	uint8_t *base;
	size_t size;
};

FIXTURE_SETUP(main_object)
{
	ASSERT_EQ(native_geometry(&self->geometry, &usual, NULL), 0);
	self->size = self->geometry.main_size;
	self->base = aligned_alloc(64, self->size);
	ASSERT_NE(self->base, NULL);
	memset(self->base, 0, self->size);
	native_main_write(self->base, &self->geometry);
}

FIXTURE_TEARDOWN(main_object)
{
	free(self->base);
}

TEST_F(main_object, what_was_written_is_read)
{
	struct native_geometry seen;

	memset(&seen, 0, sizeof(seen));
	ASSERT_EQ(native_main_read(self->base, self->size, &seen, NULL), 0);
	EXPECT_EQ(memcmp(&seen, &self->geometry, sizeof(seen)), 0);
	/* More may be mapped than is needed. */
	EXPECT_EQ(native_main_read(self->base, self->size + PAGE, &seen, NULL), 0);
}

TEST(random_parameters_survive_the_main_object)
{
	uint64_t random = 47;
	unsigned long i;

	for (i = 0; i < amount(5000); i++) {
		struct native_parameters parameters = random_parameters(&random);
		struct native_geometry geometry, seen;
		uint8_t *base;

		ASSERT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
		base = aligned_alloc(64, geometry.main_size);
		ASSERT_NE(base, NULL);
		memset(base, 0, geometry.main_size);
		native_main_write(base, &geometry);
		memset(&seen, 0, sizeof(seen));
		ASSERT_EQ(native_main_read(base, geometry.main_size, &seen, NULL), 0);
		ASSERT_EQ(seen.window_size, geometry.window_size);
		ASSERT_EQ(seen.parameters.heartbeat_interval, parameters.heartbeat_interval);
		ASSERT_EQ(memcmp(seen.slots, geometry.slots, sizeof(seen.slots)), 0);
		free(base);
	}
}

/* Each field, wrong once. */
static const struct {
	const char *name;
	size_t offset, size;
	uint64_t value;
} wrong_fields[] = {
	{ "magic", 0, 8, 0 },
	{ "magic", 7, 1, 8 },
	{ "version", 8, 4, 7 },
	{ "version", 8, 4, 9 },
	{ "header_size", 12, 4, 64 },
	{ "header_size", 12, 4, 256 },
	{ "total_size", 16, 8, 0 },
	{ "total_size", 16, 8, 4096 + 4096 },
	{ "total_size", 16, 8, UINT64_MAX },
	{ "max_payload_size", 24, 4, 0 },
	{ "inline_threshold", 28, 4, 65536 },
	{ "max_guests", 32, 4, 0 },
	{ "max_guests", 32, 4, 17 },
	{ "max_guests", 32, 4, 256 },
	{ "max_guests", 32, 4, UINT32_MAX },
	{ "ring_capacity", 36, 4, 0 },
	{ "ring_capacity", 36, 4, 262144 - 64 },
	{ "ring_capacity", 36, 4, 262144 + 8 },
	{ "ring_capacity", 36, 4, UINT32_MAX },
	{ "peer_table_offset", 40, 8, 0 },
	{ "peer_table_offset", 40, 8, 192 },
	{ "peer_table_offset", 40, 8, UINT64_MAX - 63 },
	{ "var_pool_offset", 48, 8, 0 },
	{ "var_pool_offset", 48, 8, 128 + 17 * 64 },
	{ "var_pool_offset", 48, 8, UINT64_MAX - 63 },
	{ "num_classes", 68, 4, 0 },
	{ "num_classes", 68, 4, 2 },
	{ "num_classes", 68, 4, 4 },
	{ "num_classes", 68, 4, 9 },
	{ "num_classes", 68, 4, UINT32_MAX },
	{ "current_size", 72, 8, 0 },
	{ "current_size", 72, 8, 4095 },
	{ "extension magic", 80, 4, 0 },
	{ "extension magic", 80, 4, 0x4d485359 },
	{ "extension version", 84, 2, 0 },
	{ "extension version", 84, 2, 2 },
	{ "extension flags", 86, 2, 1 },
	{ "extension flags", 86, 2, 0x8000 },
	{ "max_mappings", 88, 4, 0 },
	{ "max_mappings", 88, 4, 4096 },
	{ "max_mappings", 88, 4, UINT32_MAX },
	{ "link_block_offset", 92, 4, 0 },
	{ "link_block_offset", 92, 4, UINT32_MAX },
	{ "pool_offset", 100, 4, 0 },
	{ "pool_offset", 100, 4, UINT32_MAX },
	{ "window_size", 104, 8, 0 },
	{ "window_size", 104, 8, 4096 },
	{ "window_size", 104, 8, UINT64_MAX },
	{ "slot_size of class 0", 128 + 16 * 64, 4, 0 },
	{ "slot_size of class 0", 128 + 16 * 64, 4, 960 },
	{ "slot_size of class 1", 128 + 17 * 64, 4, 1024 },
	{ "slot_size of class 2", 128 + 18 * 64, 4, UINT32_MAX },
	{ "slot_count of class 0", 128 + 16 * 64 + 4, 4, 0 },
	{ "slot_count of class 1", 128 + 17 * 64 + 4, 4, 33 },
	{ "slot_count of class 2", 128 + 18 * 64 + 4, 4, UINT32_MAX },
};

TEST_F(main_object, field_that_is_wrong_is_refused)
{
	struct native_geometry seen;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wrong_fields); i++) {
		struct voxshm_error error = { "" };
		uint8_t *field = self->base + wrong_fields[i].offset, saved[8];

		memcpy(saved, field, wrong_fields[i].size);
		memcpy(field, &wrong_fields[i].value, wrong_fields[i].size);
		EXPECT_EQ(native_main_read(self->base, self->size, &seen, &error), -EBADMSG)
			TH_LOG("%s = %#llx", wrong_fields[i].name,
			       (unsigned long long)wrong_fields[i].value);
		EXPECT_NE(error.text[0], '\0')
			TH_LOG("%s", wrong_fields[i].name);
		memcpy(field, saved, wrong_fields[i].size);
	}
	EXPECT_EQ(native_main_read(self->base, self->size, &seen, NULL), 0);
}

TEST_F(main_object, extension_field_of_the_other_format_must_be_zero)
{
	struct segment_header *header = native_header(self->base);
	struct native_geometry seen;

	header->extension.link_block_stride = 64;
	EXPECT_EQ(native_main_read(self->base, self->size, &seen, NULL), -EBADMSG);
	header->extension.link_block_stride = 0;
	header->extension.extent_offset = 64;
	EXPECT_EQ(native_main_read(self->base, self->size, &seen, NULL), -EBADMSG);
}

TEST_F(main_object, truncated_one_is_refused_at_every_size)
{
	size_t size, step = under_valgrind() ? 61 : 1;

	for (size = 0; size < self->size; size += step) {
		struct voxshm_error error = { "" };
		struct native_geometry seen;
		/* Of its own size: a byte too far is seen. */
		uint8_t *copy = malloc(size ? size : 1);

		ASSERT_NE(copy, NULL);
		memcpy(copy, self->base, size);
		ASSERT_EQ(native_main_read(copy, size, &seen, &error), -EBADMSG);
		ASSERT_NE(error.text[0], '\0');
		free(copy);
	}
}

/* Return: what is wrong, or NULL. */
static const char *read_hostile(const uint8_t *base, size_t size, unsigned int *taken)
{
	struct native_geometry seen;
	int ret = native_main_read(base, size, &seen, NULL);

	if (ret == -EBADMSG)
		return NULL;
	if (ret)
		return "another error than EBADMSG";
	++*taken;
	if (seen.main_size > size)
		return "more was believed than is mapped";
	return check_geometry(&seen);
}

TEST_F(main_object, random_garbage_is_refused_or_makes_sense)
{
	uint8_t *copy = aligned_alloc(64, self->size);
	unsigned int taken = 0;
	uint64_t random = 53;
	unsigned long i;

	ASSERT_NE(copy, NULL);
	for (i = 0; i < amount(200000); i++) {
		uint32_t changes = 1 + random_below(&random, 4);
		const char *wrong;

		memcpy(copy, self->base, self->size);
		while (changes--) {
			/* A word of header or classes: random, or slightly off. */
			uint32_t word = random_below(&random, 2) ? random_below(&random, 32) :
					(128 + 16 * 64) / 4 + random_below(&random, 48);
			uint32_t value;

			memcpy(&value, copy + 4 * word, 4);
			value = random_below(&random, 2) ? (uint32_t)random_next(&random) :
				random_below(&random, 2) ? value ^ 1u << random_below(&random, 32) :
				value + 64 * random_below(&random, 5) - 128;
			memcpy(copy + 4 * word, &value, 4);
		}
		wrong = read_hostile(copy, self->size, &taken);
		ASSERT_EQ(wrong, NULL)
			TH_LOG("%s (round %lu)", wrong, i);
	}
	/* Some fields may have another value. */
	EXPECT_GT(taken, 0);
	free(copy);
}

TEST_F(main_object, nothing_but_noise_is_refused)
{
	unsigned int taken = 0;
	uint64_t random = 59;
	unsigned long i;
	size_t byte;

	for (i = 0; i < amount(2000); i++) {
		/* At first wholly, then behind a magic and a version that are right. */
		for (byte = i % 2 ? 12 : 0; byte < self->size; byte++)
			self->base[byte] = (uint8_t)random_next(&random);
		ASSERT_EQ(read_hostile(self->base, self->size, &taken), NULL);
		native_main_write(self->base, &self->geometry);
	}
	EXPECT_EQ(taken, 0);
}

/* The host dies at its first store into the last page, which holds the classes. */
TEST(host_that_dies_while_it_writes_leaves_no_magic)
{
	struct native_parameters parameters = usual;
	struct native_geometry geometry, seen;
	struct voxshm_error error;
	uint8_t *base;
	pid_t child;

	parameters.max_guests = 255;
	ASSERT_EQ(native_geometry(&geometry, &parameters, NULL), 0);
	base = shared_memory(geometry.main_size);
	ASSERT_NE(base, NULL);
	child = fork_child();
	if (child == 0) {
		die_by_fault();
		REQUIRE(mprotect(base + geometry.main_size - PAGE, PAGE, PROT_READ) == 0);
		native_main_write(base, &geometry);
		_exit(0);
	}
	ASSERT_EQ(wait_child(child), 128 + SIGSEGV);
	EXPECT_EQ(base[0], 0);
	EXPECT_EQ(native_main_read(base, geometry.main_size, &seen, &error), -EBADMSG);
	EXPECT_NE(strstr(error.text, "magic"), NULL);
	munmap(base, geometry.main_size);
}

TEST_HARNESS_MAIN
