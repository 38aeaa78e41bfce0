// SPDX-License-Identifier: MIT
/*
 * layout.c - a segment as the other side sees it: every header field and
 * offset, made by us or by the crate, is where both compute it.
 */
#include "bare.h"
#include "layout.h"
#include "vox/segment.h"

static const struct voxshm_class three[] = { { 1024, 32 }, { 16384, 16 }, { 65536, 4 } };
static const struct voxshm_class odd[] = { { 72, 3 }, { 100, 7 }, { 1000, 1 } };
static const struct voxshm_class eight[] = {
	{ 64, 1 }, { 65, 2 }, { 128, 3 }, { 4096, 4 }, { 4100, 5 }, { 9999, 6 }, { 1 << 20, 1 },
	{ 3 << 20, 1 },
};

#define SHAPE(guests, capacity, payload, threshold, heartbeat, classes_)		\
	{ .struct_size = sizeof(struct voxshm_config), .format = VOXSHM_FORMAT_VOX,	\
	  .backend = VOXSHM_BACKEND_FILE, .max_guests = guests, .ring_capacity = capacity, \
	  .max_payload = payload, .inline_threshold = threshold,			\
	  .heartbeat_interval = heartbeat, .num_classes = ARRAY_SIZE(classes_),		\
	  .classes = classes_ }

static const struct voxshm_config shapes[] = {
	SHAPE(1, 72, 64, 32, 0, odd),
	SHAPE(2, 4096, 65536, 256, 1000000, three),
	SHAPE(3, 1000, 100000, 65535, 1, eight),
	SHAPE(16, 256 * KIB, 1 << 30, 256, 0, three),
	SHAPE(255, 4104, 1 << 20, 1, 5000000000, odd),
	SHAPE(254, 65536, 4096, 4096, 0, eight),
};

FIXTURE(layout)
{
	struct joined joined;
	struct voxshm_segment *segment;
	struct voxshm_error error;
};
EITHER_IS_HOST(layout);

FIXTURE_SETUP(layout)
{
	self->joined = (struct joined){ 0 };
	self->segment = NULL;
	self->error.text[0] = '\0';
	directory_make(&self->joined);
	crate_start(&self->joined.crate, -1);
}

FIXTURE_TEARDOWN(layout)
{
	voxshm_segment_free(self->segment);
	part(&self->joined);
}

static struct voxshm_segment_config segment_config(const struct voxshm_config *config,
						    const char *path)
{
	return (struct voxshm_segment_config){
		.struct_size = sizeof(struct voxshm_segment_config),
		.max_guests = config->max_guests,
		.ring_capacity = config->ring_capacity,
		.max_payload = config->max_payload,
		.inline_threshold = config->inline_threshold,
		.num_classes = config->num_classes,
		.heartbeat_interval = config->heartbeat_interval,
		.classes = config->classes,
		.path = path,
	};
}

/* One side makes the segment, the other attaches to it. */
static void open_both(struct __test_metadata *_metadata, FIXTURE_DATA(layout) *self,
		      bool our_host, const struct voxshm_config *config)
{
	const char *path = self->joined.segment;
	struct voxshm_segment_config ours = segment_config(config, path);

	if (our_host) {
		ASSERT_EQ(0, voxshm_segment_create(&self->segment, &ours, &self->error))
			TH_LOG("%s", self->error.text);
		ASSERT_STREQ("", ask(&self->joined.crate, "attach %s", path));
	} else {
		ASSERT_STREQ("", crate_create(&self->joined.crate, path, config));
		ASSERT_EQ(0, voxshm_segment_attach(&self->segment, path, &self->error))
			TH_LOG("%s", self->error.text);
	}
}

static void close_both(struct __test_metadata *_metadata, FIXTURE_DATA(layout) *self)
{
	ASSERT_STREQ("", ask(&self->joined.crate, "detach"));
	voxshm_segment_free(self->segment);
	self->segment = NULL;
	unlink(self->joined.segment);
}

/* The header as it lies there, in the words of the crate's answer. */
static void header_text(const struct voxshm_segment *segment, char *text, size_t size)
{
	const struct segment_header *header = (const void *)segment->file.base;

	snprintf(text, size, "magic %ju version %u header_size %u total_size %ju max_payload %u "
		 "threshold %u max_guests %u capacity %u peer_table %ju pool %ju heartbeat %ju "
		 "classes %u current_size %ju",
		 (uintmax_t)shared_peek_u64(&header->magic), header->version, header->header_size,
		 (uintmax_t)header->total_size, header->max_payload_size, header->inline_threshold,
		 header->max_guests, header->ring_capacity, (uintmax_t)header->peer_table_offset,
		 (uintmax_t)header->var_pool_offset, (uintmax_t)header->heartbeat_interval,
		 header->num_classes, (uintmax_t)shared_peek_u64(&header->current_size));
}

/* Where this library has the parts. */
static void layout_text(struct voxshm_segment *segment, const struct voxshm_config *config,
			char *text, size_t size)
{
	struct voxshm_segment_layout layout;
	size_t length;
	uint32_t i;

	voxshm_segment_get_layout(segment, &layout);
	length = (size_t)snprintf(text, size, "peer_table %ju rings %ju stride %ju pool %ju end %ju",
				  (uintmax_t)layout.peer_table_offset,
				  (uintmax_t)layout.ring_offset, (uintmax_t)layout.ring_stride,
				  (uintmax_t)layout.pool_offset, (uintmax_t)layout.pool_end);
	for (i = 0; i < config->num_classes; i++) {
		const struct vox_class *class_ = &segment->pool.extents[0][i];

		length += (size_t)snprintf(text + length, size - length, " class %u %u at %td %td",
					   class_->slot_size, class_->slot_count,
					   (uint8_t *)class_->slots - segment->file.base,
					   class_->data - segment->file.base);
	}
}

TEST_F(layout, header_is_what_was_asked_for)
{
	char text[1024];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct voxshm_segment_info info;

		open_both(_metadata, self, variant->our_host, &shapes[i]);
		header_text(self->segment, text, sizeof(text));
		EXPECT_STREQ(text, ask(&self->joined.crate, "header"))
			TH_LOG("shape %zu", i);
		voxshm_segment_get_info(self->segment, &info);
		EXPECT_EQ(shapes[i].max_guests, info.max_guests);
		EXPECT_EQ(shapes[i].ring_capacity, info.ring_capacity);
		EXPECT_EQ(shapes[i].max_payload, info.max_payload);
		EXPECT_EQ(shapes[i].inline_threshold, info.inline_threshold);
		EXPECT_EQ(shapes[i].heartbeat_interval, info.heartbeat_interval);
		EXPECT_EQ(shapes[i].num_classes, info.num_classes);
		EXPECT_EQ(!variant->our_host, info.is_plain);
		EXPECT_EQ(info.total_size, info.current_size);
		close_both(_metadata, self);
	}
}

/* The crate's own end of the segment is the end of its pool; ours lies behind that. */
TEST_F(layout, offsets_are_what_both_compute)
{
	struct voxshm_segment_layout computed, found;
	char text[2048];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct voxshm_segment_config config = segment_config(&shapes[i], NULL);

		open_both(_metadata, self, variant->our_host, &shapes[i]);
		layout_text(self->segment, &shapes[i], text, sizeof(text));
		EXPECT_STREQ(text, ask(&self->joined.crate, "layout"))
			TH_LOG("shape %zu", i);
		ASSERT_EQ(0, voxshm_segment_compute(&config, &computed, NULL));
		voxshm_segment_get_layout(self->segment, &found);
		EXPECT_EQ(computed.peer_table_offset, found.peer_table_offset);
		EXPECT_EQ(computed.ring_offset, found.ring_offset);
		EXPECT_EQ(computed.ring_stride, found.ring_stride);
		EXPECT_EQ(computed.pool_offset, found.pool_offset);
		EXPECT_EQ(computed.pool_end, found.pool_end);
		EXPECT_EQ(variant->our_host ? computed.total_size : computed.pool_end,
			  found.total_size);
		close_both(_metadata, self);
	}
}

TEST_F(layout, rings_of_every_peer)
{
	struct voxshm_segment_layout layout;
	char text[128];
	uint32_t peer;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		open_both(_metadata, self, variant->our_host, &shapes[i]);
		voxshm_segment_get_layout(self->segment, &layout);
		for (peer = 1; peer <= shapes[i].max_guests; peer++) {
			snprintf(text, sizeof(text), "at %ju capacity %u %u",
				 (uintmax_t)(layout.ring_offset + (peer - 1) * 2 * layout.ring_stride),
				 shapes[i].ring_capacity, shapes[i].ring_capacity);
			EXPECT_EQ(layout.ring_offset + (peer - 1) * 2 * layout.ring_stride,
				  vox_peer(self->segment, peer)->ring_offset);
			ASSERT_STREQ(text, ask(&self->joined.crate, "ring %u", peer));
		}
		close_both(_metadata, self);
	}
}

/* As counted along the lists that the other side made. */
TEST_F(layout, free_lists_hold_every_slot)
{
	struct voxshm_class class_;
	uint32_t free_slots, k;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		open_both(_metadata, self, variant->our_host, &shapes[i]);
		for (k = 0; k < shapes[i].num_classes; k++) {
			ASSERT_EQ(0, voxshm_segment_class(self->segment, 0, k, &class_,
							  &free_slots));
			EXPECT_EQ(shapes[i].classes[k].slot_size, class_.slot_size);
			EXPECT_EQ(shapes[i].classes[k].slot_count, class_.slot_count);
			EXPECT_EQ(class_.slot_count, free_slots);
		}
		close_both(_metadata, self);
	}
}

/* What fits half of each ring, and the larger ones in slots. */
TEST_F_TIMEOUT(layout, traffic_through_every_shape, 240)
{
	struct traffic traffic = { .seed = 91, .count = MANY / ARRAY_SIZE(shapes) + 1 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		open_both(_metadata, self, variant->our_host, &shapes[i]);
		traffic.max = smaller(300, shapes[i].ring_capacity / 2 - 12);
		ASSERT_STREQ("1", ask(&self->joined.crate, "attach_peer"));
		bare_exchange(_metadata, &self->joined.crate, self->segment, 1,
			      variant->our_host, &traffic);
		close_both(_metadata, self);
	}
}

TEST_HARNESS_MAIN
