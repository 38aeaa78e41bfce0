// SPDX-License-Identifier: MIT
/*
 * native_link.c - both ends of a native link over one window, and a peer that
 * writes whatever it likes into that window.
 *
 * Each end is the victim of all that is written, so this is the hostile guest
 * and the hostile host at once. The ends also do their honest work, which
 * takes the fuzzer to states that it would not find by writing alone; as long
 * as nobody has meddled, every message must come through whole and in order.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native/native.h"
#include "work.h"

#define SIDES NATIVE_SIDES
#define MAX_OFFERS 8u
#define MAX_MAPPINGS 3u
/* More loads than any call needs, however hostile the peer. */
#define MAX_LOADS 4096u

/* Ends --------------------------------------------------------------------------- */

struct offer {
	uint32_t map_id, generation;
	uint64_t size;
	int fd;
};

/* An end in this process: what is offered lies here until it is drained. */
struct fuzz_end {
	struct end end;
	struct fuzz_end *peer;
	int side;
	struct offer offers[MAX_OFFERS];
	unsigned int num_offers;
	size_t objects[MAX_MAPPINGS];	/* device: sizes of what this end has made */
};

static struct fuzz_end *fuzz_end(struct end *end)
{
	return (struct fuzz_end *)(void *)end;
}

static void end_ring(struct end *end)
{
	(void)end;
}

static int end_drain(struct end *end, struct voxshm_link *link)
{
	struct fuzz_end *self = fuzz_end(end);
	unsigned int i, count = self->num_offers;
	int ret = 0;

	self->num_offers = 0;
	for (i = 0; i < count; i++) {
		const struct offer *offer = &self->offers[i];

		if (ret)
			close(offer->fd);
		else
			ret = link_object(link, offer->map_id, offer->generation, offer->size,
					  offer->fd);
	}
	return ret;
}

static int put_offer(struct fuzz_end *to, struct offer offer)
{
	if (to->num_offers == MAX_OFFERS)
		return -ENOBUFS;
	offer.fd = dup(offer.fd);
	to->offers[to->num_offers++] = offer;
	return 0;
}

static int end_offer(struct end *end, uint32_t map_id, uint32_t generation,
		     const struct memory *memory)
{
	return put_offer(fuzz_end(end)->peer, (struct offer){ map_id, generation, memory->size,
							      memory->fd });
}

/* Each object of the maker has its part of one file. */
static int map_object(const struct fuzz_end *maker, uint32_t map_id, size_t size, int protection,
		      struct memory *memory)
{
	off_t offset = (maker->side * MAX_MAPPINGS + map_id) * (off_t)FUZZ_OBJECT_SIZE;
	void *base = mmap(NULL, size, protection, MAP_SHARED, fuzz_file(FUZZ_FILE_OBJECTS),
			  offset);

	if (base == MAP_FAILED)
		return -errno;
	*memory = (struct memory){ .base = base, .size = size, .fd = -1 };
	return 0;
}

static int end_object_new(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	FUZZ_CHECK(map_id < MAX_MAPPINGS && !fuzz_end(end)->objects[map_id]);
	if (size > FUZZ_OBJECT_SIZE)
		return -ENOMEM;
	fuzz_end(end)->objects[map_id] = size;
	return map_object(fuzz_end(end), map_id, size, PROT_READ | PROT_WRITE, memory);
}

static void end_object_drop(struct end *end, uint32_t map_id)
{
	fuzz_end(end)->objects[map_id] = 0;
}

static int end_object_map(struct end *end, uint32_t map_id, size_t size, struct memory *memory)
{
	FUZZ_CHECK(map_id < MAX_MAPPINGS);
	if (fuzz_end(end)->peer->objects[map_id] < size)
		return -EBADMSG;
	return map_object(fuzz_end(end)->peer, map_id, size, PROT_READ, memory);
}

static void end_leave(struct end *end)
{
	fuzz_end(end)->peer->end.left = true;
}

static void end_free(struct end *end)
{
	struct fuzz_end *self = fuzz_end(end);
	unsigned int i;

	for (i = 0; i < self->num_offers; i++)
		close(self->offers[i].fd);
	free(self);
}

/* Memory comes as on the file backend, or as on the device. */
static const struct end_ops end_ops[2] = {
	{
		.backend_name = "file", .ring = end_ring, .drain = end_drain, .offer = end_offer,
		.leave = end_leave, .free = end_free,
	}, {
		.backend_name = "device", .ring = end_ring, .drain = end_drain,
		.object_new = end_object_new, .object_drop = end_object_drop,
		.object_map = end_object_map, .leave = end_leave, .free = end_free,
	},
};

/* The pair ------------------------------------------------------------------------- */

struct side {
	struct work work;
	struct native_link *native;
	enum native_side side;
	struct fuzz *fuzz;
};

struct fuzz {
	struct fuzz_input *input;
	const struct native_geometry *geometry;
	uint8_t *window;
	struct side sides[SIDES];
};

#define GEOMETRIES 3

static const struct native_parameters parameters[GEOMETRIES] = {
	{
		.max_guests = 1, .ring_capacity = 1024, .max_payload = WORK_MAX_PAYLOAD,
		.max_mappings = MAX_MAPPINGS, .num_classes = 2,
		.classes = { { 128, 3 }, { 1024, 2 } },
	}, {
		.max_guests = 1, .ring_capacity = NATIVE_RING_MIN_CAPACITY, .max_payload = 600,
		.max_mappings = 1, .num_classes = 1, .classes = { { 64, 1 } },
	}, {
		.max_guests = 1, .ring_capacity = 2048, .max_payload = WORK_MAX_PAYLOAD,
		.inline_threshold = 1000, .max_mappings = 2, .num_classes = 3,
		.classes = { { 64, 2 }, { 1024, 1 }, { 2048, 2 } },
	},
};

static struct native_geometry geometries[GEOMETRIES];
static uint8_t *windows[GEOMETRIES];

static void make_windows(void)
{
	int i;

	for (i = 0; i < GEOMETRIES; i++) {
		FUZZ_CHECK(native_geometry(&geometries[i], &parameters[i], NULL) == 0);
		windows[i] = fuzz_memory_new(geometries[i].window_size);
	}
}

static bool is_inside(const struct work *work, const struct voxshm_view *view);

static void open_side(struct fuzz *fuzz, enum native_side which, struct fuzz_end *end)
{
	struct memory window = { fuzz->window, fuzz->geometry->window_size, -1 };
	struct side *side = &fuzz->sides[which];

	side->fuzz = fuzz;
	side->side = which;
	FUZZ_CHECK(native_link_new(&side->native, fuzz->geometry, which, &window,
				   &end->end) == 0);
	side->work = (struct work){
		.link = &side->native->link,
		.peer = &fuzz->sides[!which].work,
		.is_inside = is_inside,
		.largest_slot = native_pool_largest(&side->native->pool),
		.mappings_left = end->end.ops->object_new ? 3 : 1,
		.max_loads = MAX_LOADS,
	};
	end->end.claimed = true;
	atomic_store(&side->native->link.state, VOXSHM_LINK_ATTACHED);
}

static void open_pair(struct fuzz *fuzz, bool device)
{
	struct fuzz_end *ends[SIDES];
	int i;

	memset(fuzz->window, 0, fuzz->geometry->window_size);
	for (i = 0; i < SIDES; i++) {
		ends[i] = calloc(1, sizeof(*ends[i]));
		end_init(&ends[i]->end, &end_ops[device]);
	}
	for (i = 0; i < SIDES; i++) {
		ends[i]->peer = ends[!i];
		ends[i]->side = i;
		open_side(fuzz, (enum native_side)i, ends[i]);
	}
}

static void close_side(struct side *side)
{
	work_finish(&side->work);
	/* The window is the fuzzer's. */
	side->native->window = MEMORY_NONE;
	native_link_free(side->work.link);
}

/* What must hold ------------------------------------------------------------------------ */

static bool is_in_slot(const struct fuzz *fuzz, enum native_side sender, const void *data,
		       size_t size)
{
	const struct native_parameters *p = &fuzz->geometry->parameters;
	uint32_t i, slot;

	for (i = 0; i < p->num_classes; i++)
		for (slot = 0; slot < p->classes[i].slot_count; slot++)
			if (work_is_within(data, size, fuzz->window + fuzz->geometry->slots[sender][i] +
				      slot * p->classes[i].slot_size, p->classes[i].slot_size))
				return true;
	return false;
}

static bool is_in_ring(const struct fuzz *fuzz, enum native_side sender, const void *data,
		       size_t size)
{
	const struct native_ring *ring = (void *)(fuzz->window + fuzz->geometry->ring[sender]);

	return work_is_within(data, size, ring->lines, fuzz->geometry->parameters.ring_capacity);
}

static bool is_in_mapping(const struct side *side, const void *data, size_t size)
{
	uint32_t i;

	for (i = 0; i < side->native->received.count; i++)
		if (work_is_within(data, size, side->native->received.table[i].memory.base,
			      side->native->received.table[i].memory.size))
			return true;
	return false;
}

static bool is_inside(const struct work *work, const struct voxshm_view *view)
{
	const struct side *side = (const struct side *)work;

	return is_in_ring(side->fuzz, !side->side, view->data, view->size) ||
	       is_in_slot(side->fuzz, !side->side, view->data, view->size) ||
	       is_in_mapping(side, view->data, view->size);
}

static void check_books(const struct side *side)
{
	const struct native_link *native = side->native;
	const struct native_pool *pool = &native->pool;
	uint32_t i, capacity = native->consumer.capacity;

	FUZZ_CHECK(native->consumer.cursor < capacity && native->consumer.released < capacity &&
		   native->consumer.limit < capacity && native->producer.cursor < capacity &&
		   native->producer.read < capacity);
	for (i = 0; i < pool->num_classes; i++)
		FUZZ_CHECK(pool->classes[i].free_count + pool->classes[i].in_flight <=
			   pool->classes[i].slot_count);
}

/* Hostile work ------------------------------------------------------------------------------ */

static void write_words(struct fuzz *fuzz, uint64_t offset, unsigned int count)
{
	fuzz_meddled = true;
	offset %= fuzz->geometry->window_size;
	if (count > fuzz->geometry->window_size - offset)
		count = (unsigned int)(fuzz->geometry->window_size - offset);
	fuzz_take_bytes(fuzz->input, fuzz->window + offset, count);
}

/* A frame where the side looks next: one that may be right, or any. */
static void write_frame(struct fuzz *fuzz, const struct side *side, bool any)
{
	uint64_t offset = fuzz->geometry->ring[!side->side] + sizeof(struct native_ring) +
			  side->native->consumer.cursor;
	uint64_t header, words[3] = { 0 };
	uint32_t flags = fuzz_below(fuzz->input, 4);

	fuzz_meddled = true;
	if (any) {
		write_words(fuzz, offset, 32);
		return;
	}
	if (flags == 3)
		header = frame_header(CACHE_LINE, FRAME_WRAP, 0);
	else if (flags)
		header = frame_header(CACHE_LINE, (uint8_t)flags, 0);
	else
		header = frame_header(CACHE_LINE * (1 + fuzz_below(fuzz->input, 8)), 0,
				      (uint16_t)fuzz_take(fuzz->input, 2));
	if (flags == FRAME_SLOT_REF) {
		words[0] = fuzz_below(fuzz->input, 4) | (uint64_t)fuzz_below(fuzz->input, 4) << 32;
		words[1] = fuzz_below(fuzz->input, 4) | fuzz_take(fuzz->input, 2) << 32;
	} else if (flags == FRAME_MAPPING_REF) {
		words[0] = fuzz_below(fuzz->input, 4) | (uint64_t)fuzz_below(fuzz->input, 4) << 32;
		words[1] = fuzz_take(fuzz->input, 3);
		words[2] = fuzz_take(fuzz->input, 3);
	}
	memcpy(fuzz->window + offset, &header, sizeof(header));
	memcpy(fuzz->window + offset + sizeof(header), words, sizeof(words));
}

/* One of the words that the side reads beside the ring. */
static void write_word(struct fuzz *fuzz, const struct side *side)
{
	const struct native_geometry *geometry = fuzz->geometry;
	uint64_t offset, index = 4 * fuzz_below(fuzz->input, 4);
	uint32_t value;

	switch (fuzz_below(fuzz->input, 6)) {
	case 0:
		offset = geometry->returns[side->side][fuzz_below(fuzz->input, 3) %
						       geometry->parameters.num_classes] + index;
		break;
	case 1:
		offset = geometry->released[side->side] + index;
		break;
	case 2:
		offset = geometry->ring[side->side] + 64;	/* read */
		break;
	case 3:
		offset = geometry->sleep[!side->side] + index % 8;
		break;
	case 4:
		offset = geometry->sleep[side->side] + index % 8;
		break;
	default:
		offset = geometry->ring[!side->side] + 64 * fuzz_below(fuzz->input, 2);
		break;
	}
	value = (uint32_t)fuzz_take(fuzz->input, 1);
	value = value & 0x80 ? (uint32_t)fuzz_take(fuzz->input, 4) :
		value & 0x40 ? 64 * (value & 0x3f) : value;
	fuzz_meddled = true;
	memcpy(fuzz->window + offset % geometry->window_size, &value, sizeof(value));
}

/* The whole ring that the side reads. */
static void write_ring(struct fuzz *fuzz, const struct side *side)
{
	write_words(fuzz, fuzz->geometry->ring[!side->side] + sizeof(struct native_ring),
		    fuzz->geometry->parameters.ring_capacity);
}

static void offer_anything(struct fuzz *fuzz, struct side *side)
{
	static const uint64_t sizes[] = { 4096, 1 << 20, FUZZ_FILE_SIZE, 0, 1ull << 40, 100000 };
	struct offer offer = {
		.map_id = fuzz_below(fuzz->input, MAX_MAPPINGS + 1),
		.generation = fuzz_below(fuzz->input, 4),
		.size = sizes[fuzz_below(fuzz->input, 6)],
		.fd = fuzz_file((enum fuzz_file)fuzz_below(fuzz->input, FUZZ_FILES)),
	};

	fuzz_meddled = true;
	put_offer(fuzz_end(side->work.link->end), offer);
}

static void race_anywhere(struct fuzz *fuzz, const struct side *side)
{
	uint64_t offset = fuzz_take(fuzz->input, 2), value = fuzz_take(fuzz->input, 8);

	/* Mostly where the side looks next. */
	if (offset & 0x8000)
		offset = fuzz->geometry->ring[!side->side] + sizeof(struct native_ring) +
			 side->native->consumer.cursor + 8 * (offset % 5);
	fuzz_race_add(fuzz->window + offset % fuzz->geometry->window_size, value, value ^ fuzz_take(fuzz->input, 8));
}

/* What is done next: the side in bit 0, the kind above. */
enum hostile_kind {
	WRITE_FRAME = WORK_KINDS,
	WRITE_ANY_FRAME = 21,
	WRITE_WORD = 22,
	WRITE_RING = 25,
	WRITE_ANYWHERE = 26,
	OFFER = 27,
	CHANGE = 28,
	KINDS = 32,
};

static void do_something(struct fuzz *fuzz)
{
	uint32_t what = fuzz_below(fuzz->input, 2 * KINDS), kind = what >> 1;
	struct side *side = &fuzz->sides[what & 1];

	switch (kind) {
	case WRITE_FRAME ... WRITE_ANY_FRAME - 1:
		write_frame(fuzz, side, false);
		break;
	case WRITE_ANY_FRAME:
		write_frame(fuzz, side, true);
		break;
	case WRITE_WORD ... WRITE_RING - 1:
		write_word(fuzz, side);
		break;
	case WRITE_RING:
		write_ring(fuzz, side);
		break;
	case WRITE_ANYWHERE:
		write_words(fuzz, fuzz_take(fuzz->input, 2), 16);
		break;
	case OFFER:
		offer_anything(fuzz, side);
		break;
	case CHANGE ... KINDS - 1:
		if (FUZZ_RACES)
			race_anywhere(fuzz, side);
		else
			fuzz_mutate(fuzz->input);
		break;
	default:
		work_do(&side->work, fuzz->input, kind);
		check_books(side);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int maps;
	static unsigned int runs;
	struct fuzz_input input = { data, size };
	struct fuzz fuzz = { .input = &input };
	uint32_t how = fuzz_below(&input, 2 * GEOMETRIES);
	int fds, i;

	if (!windows[0]) {
		make_windows();
		for (i = 0; i < FUZZ_FILES; i++)
			fuzz_file((enum fuzz_file)i);
	}
	fds = fuzz_count_fds();
	fuzz.geometry = &geometries[how / 2];
	fuzz.window = windows[how / 2];
	open_pair(&fuzz, how % 2);
	fuzz_peer_begin();
	fuzz_memory_add(fuzz.window, fuzz.geometry->window_size);
	while (input.left)
		do_something(&fuzz);
	for (i = 0; i < SIDES; i++)
		close_side(&fuzz.sides[i]);
	fuzz_peer_end();
	FUZZ_CHECK(fuzz_count_fds() == fds);
	if (++runs == 1000)
		maps = fuzz_count_maps();
	if (runs % 100000 == 0)
		FUZZ_CHECK(fuzz_count_maps() < maps + 64);
	return 0;
}
