// SPDX-License-Identifier: MIT
/*
 * attach.c - segments that somebody else made, and changes while we look.
 *
 * The input changes a good segment, in either format, before it is attached to
 * and after. Its memory is a piece of the heap of just the size that was
 * checked, so that the address sanitizer sees each byte too many; now and then
 * it is a file, attached to in the usual way.
 */
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "native/native.h"
#include "vox/segment.h"

#define MAX_SIZE (64u << 10)
#define GROWTH 4096u

/* Good segments, as they are after their host has made them. */
struct image {
	uint8_t *bytes;
	size_t size;
};

enum kind {
	VOX_HEAP,
	GROWN_HEAP,
	GROWN_FILE,
	PLAIN_HEAP,
	PLAIN_FILE,
	NATIVE_HEAP,
	KINDS,
};

static struct image images[KINDS];

static const struct voxshm_class classes[] = { { 64, 3 }, { 192, 2 } };

/* What may be attached to. */
struct fuzz {
	struct fuzz_input *input;
	uint8_t *bytes;
	size_t size;
};

static void make_vox(struct image *image, bool plain, bool grown)
{
	struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = 2, .ring_capacity = 128,
		.max_payload = 1000, .inline_threshold = 60, .max_mappings = 2,
		.num_classes = 2, .classes = classes, .max_size = MAX_SIZE,
	};
	struct voxshm_segment *segment;

	FUZZ_CHECK(voxshm_segment_create(&segment, &config, NULL) == 0);
	if (plain)
		memset(&vox_header(segment)->extension, 0, sizeof(struct segment_extension));
	if (grown)
		FUZZ_CHECK(voxshm_segment_grow(segment, segment->file.size + GROWTH, NULL) == 0);
	image->size = segment->file.size;
	image->bytes = malloc(image->size);
	memcpy(image->bytes, segment->file.base, image->size);
	voxshm_segment_free(segment);
}

static void make_native(struct image *image)
{
	static const struct native_parameters parameters = {
		.max_guests = 2, .ring_capacity = 512, .max_payload = 1000, .max_mappings = 2,
		.num_classes = 2, .classes = { { 64, 3 }, { 192, 2 } },
	};
	struct native_geometry geometry;

	FUZZ_CHECK(native_geometry(&geometry, &parameters, NULL) == 0);
	image->size = geometry.main_size;
	image->bytes = calloc(1, image->size);
	native_main_write(image->bytes, &geometry);
}

static void make_images(void)
{
	make_vox(&images[VOX_HEAP], false, false);
	make_vox(&images[GROWN_HEAP], false, true);
	make_vox(&images[PLAIN_HEAP], true, false);
	images[GROWN_FILE] = images[GROWN_HEAP];
	images[PLAIN_FILE] = images[PLAIN_HEAP];
	make_native(&images[NATIVE_HEAP]);
}

/* Exactly so long, and aligned as what is mapped. */
static uint8_t *heap_new(size_t size)
{
	void *bytes;

	FUZZ_CHECK(posix_memalign(&bytes, CACHE_LINE, size) == 0);
	return bytes;
}

/* Changing ---------------------------------------------------------------------------- */

/* Where what is checked lies: headers, a peer's ring, the classes. */
static uint64_t field(const struct fuzz *fuzz, uint32_t which)
{
	const struct segment_header *header = (const void *)fuzz->bytes;

	if (which < 24)
		return 8 + 4 * which;
	if (which < 28)
		return header->peer_table_offset + 16 + (which - 24) / 2 * sizeof(struct peer_entry);
	return header->var_pool_offset + (which - 28) / 2 * sizeof(struct class_header) +
	       (which & 1) * 4;
}

/* A word: another, or one that is a little off. */
static void change(struct fuzz *fuzz)
{
	uint32_t how = fuzz_below(fuzz->input, 256), count = how & 8 ? 8 : 4;
	uint64_t unit = how & 4 ? CACHE_LINE : 1, offset, value = 0, step;

	if (how & 0x80)
		offset = fuzz_take(fuzz->input, 2);
	else
		offset = field(fuzz, fuzz_below(fuzz->input, 32));
	offset %= fuzz->size;
	if (count > fuzz->size - offset)
		count = (uint32_t)(fuzz->size - offset);
	step = fuzz_take(fuzz->input, how % 4 == 3 ? 8 : 1);
	if (how % 4 == 1) {
		memcpy(&value, fuzz->bytes + offset, count);
		step = (uint64_t)(int64_t)(int8_t)step;
	} else if (how % 4 == 2) {
		value = fuzz->size;
		step = -step;
	}
	value += step * unit;
	fuzz_meddled = true;
	memcpy(fuzz->bytes + offset, &value, count);
}

static void change_some(struct fuzz *fuzz)
{
	uint32_t count = fuzz_below(fuzz->input, 8);

	while (count-- && fuzz->input->left)
		change(fuzz);
	if (fuzz_below(fuzz->input, 4) == 3)
		fuzz_mutate(fuzz->input);
}

/* Using a vox segment ------------------------------------------------------------------- */

static void use_slots(struct voxshm_segment *segment, struct fuzz_input *input)
{
	struct voxshm_slot slots[4];
	unsigned int i, count = 0;
	size_t size;

	for (i = 0; i < 4; i++) {
		int ret = voxshm_segment_slot_alloc(segment, fuzz_below(input, 3),
						    fuzz_below(input, 250), &slots[count]);

		FUZZ_CHECK(ret == 0 || ret == -EAGAIN || ret == -EMSGSIZE || ret == -EBADMSG ||
			   ret == -EINVAL);
		if (ret == 0)
			memset(voxshm_segment_slot_data(segment, &slots[count++], &size), 1, size);
	}
	for (i = 0; i < count; i++) {
		voxshm_segment_slot_give(segment, &slots[i], fuzz_below(input, 4));
		voxshm_segment_slot_free(segment, fuzz_below(input, 3), &slots[i]);
	}
}

static void use_ring(struct voxshm_segment *segment, struct fuzz_input *input)
{
	struct voxshm_segment_ring *ring;
	uint32_t how = fuzz_below(input, 8);
	const void *data;
	void *room;
	ssize_t size;
	int i;

	if (voxshm_segment_ring_open(&ring, segment, 1 + (how & 1),
				     how & 2 ? VOXSHM_GUEST_TO_HOST : VOXSHM_HOST_TO_GUEST,
				     how & 4 ? VOXSHM_PRODUCER : VOXSHM_CONSUMER))
		return;
	for (i = 0; i < 4; i++) {
		if (how & 4) {
			uint32_t granted = 8 + 4 * fuzz_below(input, 16);

			if (voxshm_segment_ring_grant(ring, granted, &room) == 0) {
				memset(room, 2, granted);
				voxshm_segment_ring_commit(ring, granted);
			}
			continue;
		}
		size = voxshm_segment_ring_read(ring, &data);
		FUZZ_CHECK(size <= segment->geometry.ring_capacity);
		if (size > 0) {
			free(memcpy(malloc((size_t)size), data, (size_t)size));
			voxshm_segment_ring_release(ring, (uint32_t)size / 4 * 4);
		}
	}
	voxshm_segment_ring_close(ring);
}

static void use_peers(struct voxshm_segment *segment, struct fuzz_input *input)
{
	struct voxshm_peer info;
	uint32_t peer;

	for (peer = 0; peer < 4; peer++) {
		voxshm_segment_peer(segment, peer, &info);
		voxshm_segment_is_stale(segment, peer, fuzz_take(input, 2));
	}
	voxshm_segment_claim_peer(segment, fuzz_below(input, 4));
	voxshm_segment_attach_peer(segment);
	voxshm_segment_beat(segment, fuzz_below(input, 4), 1);
	voxshm_segment_detach_peer(segment, fuzz_below(input, 4));
}

static void use_vox(struct fuzz *fuzz, struct voxshm_segment *segment)
{
	struct voxshm_segment_layout layout;
	struct voxshm_segment_info info;
	struct voxshm_class class;
	uint32_t extent, i, free_slots;

	voxshm_segment_get_info(segment, &info);
	voxshm_segment_get_layout(segment, &layout);
	for (extent = 0; extent < info.num_extents; extent++)
		for (i = 0; i < info.num_classes; i++)
			FUZZ_CHECK(voxshm_segment_class(segment, extent, i, &class,
							&free_slots) == 0 &&
				   free_slots <= class.slot_count);
	use_peers(segment, fuzz->input);
	use_slots(segment, fuzz->input);
	use_ring(segment, fuzz->input);
	change_some(fuzz);
	voxshm_segment_remap(segment);
	use_slots(segment, fuzz->input);
	use_ring(segment, fuzz->input);
}

/* Attaching -------------------------------------------------------------------------------- */

/* As vox/segment.c does it, in memory that is no byte longer than what was checked. */
static void attach_vox_heap(struct fuzz *fuzz)
{
	struct voxshm_segment *segment = calloc(1, sizeof(*segment));
	uint8_t *end = fuzz->bytes + fuzz->size, *beyond;
	struct voxshm_error error = { "" };
	int ret;

	pthread_mutex_init(&segment->lock, NULL);
	fuzz_memory_add(fuzz->bytes, fuzz->size);
	ret = vox_geometry_read_header(&segment->geometry, (const void *)fuzz->bytes, fuzz->size,
				       &error);
	if (ret == 0) {
		FUZZ_CHECK(segment->geometry.total_size <= fuzz->size);
		segment->file = (struct vox_file){
			.fd = -1, .device = -1, .base = fuzz->bytes, .size = fuzz->size,
			.reserved = fuzz->size,
		};
		/* What lies behind is not mapped yet. */
		beyond = fuzz->bytes + segment->geometry.total_size;
		__asan_poison_memory_region(beyond, (size_t)(end - beyond));
		ret = vox_geometry_read_tables(&segment->geometry, fuzz->bytes, &error);
		__asan_unpoison_memory_region(beyond, (size_t)(end - beyond));
	}
	FUZZ_CHECK(ret == 0 || (ret == -EBADMSG && *error.text && fuzz_meddled));
	if (ret == 0) {
		vox_pool_init(&segment->pool, segment->geometry.num_classes, false);
		FUZZ_CHECK(vox_pool_add_extent(&segment->pool,
					       fuzz->bytes + segment->geometry.pool,
					       segment->geometry.classes) == 0);
		ret = voxshm_segment_remap(segment);
		FUZZ_CHECK(ret >= 0 || ret == -EBADMSG || ret == -ENOMEM);
		use_vox(fuzz, segment);
	}
	vox_pool_deinit(&segment->pool);
	pthread_mutex_destroy(&segment->lock);
	free(segment);
}

static void attach_vox_file(struct fuzz *fuzz)
{
	size_t size = fuzz_below(fuzz->input, 4) ? fuzz->size :
						   fuzz_take(fuzz->input, 2) % (2 * fuzz->size);
	int fd = memfd_create("fuzz", MFD_CLOEXEC), ret;
	struct voxshm_error error = { "" };
	struct voxshm_segment *segment;
	uint8_t *before = fuzz->bytes;

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	FUZZ_CHECK(pwrite(fd, fuzz->bytes, size < fuzz->size ? size : fuzz->size, 0) >= 0);
	ret = voxshm_segment_attach_fd(&segment, fd, &error);
	close(fd);
	if (ret) {
		FUZZ_CHECK(ret == -EBADMSG || ret == -ENOMEM || ret == -EFBIG);
		FUZZ_CHECK(*error.text);
		return;
	}
	fuzz->bytes = segment->file.base;
	fuzz->size = segment->file.size;
	fuzz_memory_add(fuzz->bytes, fuzz->size);
	use_vox(fuzz, segment);
	fuzz->bytes = before;
	voxshm_segment_free(segment);
}

static void use_window(const struct native_geometry *geometry)
{
	struct memory window = { .size = geometry->window_size, .fd = -1 };
	struct end *end = calloc(1, sizeof(*end));
	static const struct end_ops none = { .backend_name = "none" };
	struct native_link *native;
	struct voxshm_loan loan;
	uint8_t *memory;

	end_init(end, &none);
	memory = window.base = heap_new(window.size);
	FUZZ_CHECK(native_link_new(&native, geometry, NATIVE_GUEST, &window, end) == 0);
	memset(memory, 0, geometry->window_size);
	/* The first slot of each size, to its last byte. */
	while (native_try_loan(&native->link, native_pool_largest(&native->pool), &loan) == 0)
		memset(loan.data, 1, loan.size);
	native_try_send(&native->link, "x", 1, true);
	native->window = MEMORY_NONE;
	native_consumer_deinit(&native->consumer);
	received_deinit(&native->received);
	mappings_deinit(&native->mappings);
	native_pool_deinit(&native->pool);
	native_pool_view_deinit(&native->peer_pool);
	pthread_mutex_destroy(&native->link.waiters.lock);
	free(native);
	free(end);
	free(memory);
}

static void attach_native(struct fuzz *fuzz)
{
	struct voxshm_error error = { "" };
	struct native_geometry geometry;
	int ret;

	fuzz_memory_add(fuzz->bytes, fuzz->size);
	ret = native_main_read(fuzz->bytes, fuzz->size, &geometry, &error);
	FUZZ_CHECK(ret == 0 || (ret == -EBADMSG && *error.text && fuzz_meddled));
	/* A window that large would have to be there too. */
	if (ret == 0 && geometry.window_size <= MAX_SIZE && geometry.parameters.max_payload >= 192)
		use_window(&geometry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	struct fuzz fuzz = { .input = &input };
	uint32_t how = fuzz_below(&input, 64);
	enum kind kind;
	int fds;

	if (!images[0].bytes)
		make_images();
	/* Files, which are slow, are but a few. */
	kind = how < 4 ? GROWN_FILE : how < 6 ? PLAIN_FILE : how < 22 ? VOX_HEAP :
	       how < 38 ? GROWN_HEAP : how < 48 ? PLAIN_HEAP : NATIVE_HEAP;
	fds = fuzz_count_fds();
	fuzz_peer_begin();
	fuzz.size = images[kind].size;
	if (how % 4 == 3)
		fuzz.size = 1 + fuzz_take(&input, 2) % fuzz.size;
	if (fuzz.size < SEGMENT_HEADER_SIZE)
		fuzz.size = SEGMENT_HEADER_SIZE;
	fuzz_meddled = fuzz.size != images[kind].size;
	fuzz.bytes = heap_new(fuzz.size);
	memcpy(fuzz.bytes, images[kind].bytes, fuzz.size);
	change_some(&fuzz);
	if (kind == NATIVE_HEAP)
		attach_native(&fuzz);
	else if (kind == GROWN_FILE || kind == PLAIN_FILE)
		attach_vox_file(&fuzz);
	else
		attach_vox_heap(&fuzz);
	fuzz_peer_end();
	free(fuzz.bytes);
	FUZZ_CHECK(fuzz_count_fds() == fds);
	return 0;
}
