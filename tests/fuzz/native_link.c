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

#include "fuzz.h"
#include "native/native.h"

#define SIDES NATIVE_SIDES
#define MAX_VIEWS 12u
#define MAX_LOANS 4u
#define MAX_OFFERS 8u
#define MAX_MAPPINGS 3u
#define MAX_PAYLOAD 100000u
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

struct loan {
	struct voxshm_loan loan;
	bool open;
};

/* What one side does, and what it has in hand. */
struct side {
	struct voxshm_link *link;
	struct native_link *native;
	enum native_side side;
	struct voxshm_view views[MAX_VIEWS];
	unsigned int num_views;
	struct loan loans[MAX_LOANS];
	uint64_t sent, received;	/* as long as nobody meddles */
	bool failed;
};

struct fuzz {
	struct fuzz_input *input;
	const struct native_geometry *geometry;
	uint8_t *window;
	struct side sides[SIDES];
	unsigned int made;		/* mappings, which are slow to make */
};

#define GEOMETRIES 3

static const struct native_parameters parameters[GEOMETRIES] = {
	{
		.max_guests = 1, .ring_capacity = 1024, .max_payload = MAX_PAYLOAD,
		.max_mappings = MAX_MAPPINGS, .num_classes = 2,
		.classes = { { 128, 3 }, { 1024, 2 } },
	}, {
		.max_guests = 1, .ring_capacity = NATIVE_RING_MIN_CAPACITY, .max_payload = 600,
		.max_mappings = 1, .num_classes = 1, .classes = { { 64, 1 } },
	}, {
		.max_guests = 1, .ring_capacity = 2048, .max_payload = MAX_PAYLOAD,
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

static void open_side(struct fuzz *fuzz, enum native_side which, struct fuzz_end *end)
{
	struct memory window = { fuzz->window, fuzz->geometry->window_size, -1 };
	struct side *side = &fuzz->sides[which];

	side->side = which;
	FUZZ_CHECK(native_link_new(&side->native, fuzz->geometry, which, &window,
				   &end->end) == 0);
	side->link = &side->native->link;
	end->end.claimed = true;
	atomic_store(&side->link->state, VOXSHM_LINK_ATTACHED);
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
	unsigned int i;

	/* What is in hand stays good to the end, and can be given back. */
	while (side->num_views) {
		struct voxshm_view *view = &side->views[--side->num_views];

		FUZZ_CHECK(voxshm_release(side->link, view) == 0);
		FUZZ_CHECK(voxshm_release(side->link, view) == -EINVAL);
	}
	for (i = 0; i < MAX_LOANS; i++)
		if (side->loans[i].open)
			voxshm_abort(side->link, &side->loans[i].loan);
	/* The window is the fuzzer's. */
	side->native->window = MEMORY_NONE;
	native_link_free(side->link);
}

/* What must hold ------------------------------------------------------------------------ */

static bool is_within(const void *data, size_t size, const void *area, uint64_t area_size)
{
	uintptr_t begin = (uintptr_t)data, base = (uintptr_t)area;

	return begin >= base && size <= area_size && begin - base <= area_size - size;
}

static bool is_in_slot(const struct fuzz *fuzz, enum native_side sender, const void *data,
		       size_t size)
{
	const struct native_parameters *p = &fuzz->geometry->parameters;
	uint32_t i, slot;

	for (i = 0; i < p->num_classes; i++)
		for (slot = 0; slot < p->classes[i].slot_count; slot++)
			if (is_within(data, size, fuzz->window + fuzz->geometry->slots[sender][i] +
				      slot * p->classes[i].slot_size, p->classes[i].slot_size))
				return true;
	return false;
}

static bool is_in_ring(const struct fuzz *fuzz, enum native_side sender, const void *data,
		       size_t size)
{
	const struct native_ring *ring = (void *)(fuzz->window + fuzz->geometry->ring[sender]);

	return is_within(data, size, ring->lines, fuzz->geometry->parameters.ring_capacity);
}

static bool is_in_mapping(const struct side *side, const void *data, size_t size)
{
	uint32_t i;

	for (i = 0; i < side->native->received.count; i++)
		if (is_within(data, size, side->native->received.table[i].memory.base,
			      side->native->received.table[i].memory.size))
			return true;
	return false;
}

static bool overlap(const void *left, size_t left_size, const void *right, size_t right_size)
{
	uintptr_t a = (uintptr_t)left, b = (uintptr_t)right;

	return left_size && right_size && a < b + right_size && b < a + left_size;
}

static void check_view(const struct fuzz *fuzz, const struct side *side,
		       const struct voxshm_view *view)
{
	const volatile uint8_t *bytes = view->data;
	unsigned int i;

	FUZZ_CHECK(view->size <= fuzz->geometry->parameters.max_payload);
	FUZZ_CHECK(is_in_ring(fuzz, !side->side, view->data, view->size) ||
		   is_in_slot(fuzz, !side->side, view->data, view->size) ||
		   is_in_mapping(side, view->data, view->size));
	/* A payload that is borrowed is never lent again. */
	for (i = 0; i < side->num_views; i++)
		FUZZ_CHECK(!overlap(view->data, view->size, side->views[i].data,
				    side->views[i].size));
	if (view->size) {
		(void)bytes[0];
		(void)bytes[view->size - 1];
	}
}

static void check_loan(const struct fuzz *fuzz, const struct side *side, const struct loan *loan)
{
	unsigned int i;

	FUZZ_CHECK(loan->loan.size <= fuzz->geometry->parameters.max_payload);
	for (i = 0; i < MAX_LOANS; i++)
		FUZZ_CHECK(&side->loans[i] == loan || !side->loans[i].open ||
			   !overlap(loan->loan.data, loan->loan.size, side->loans[i].loan.data,
				    side->loans[i].loan.size));
	memset(loan->loan.data, 0x5a, loan->loan.size);
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

/* What a call returned, with the link's state beside it. */
static void check_state(struct side *side, int ret)
{
	bool failed = link_state(side->link) == VOXSHM_LINK_FAILED;

	FUZZ_CHECK(failed == (atomic_load(&side->link->failure) != NULL));
	FUZZ_CHECK(failed || (ret != -EBADMSG && !side->failed));
	FUZZ_CHECK(fuzz_meddled || !failed);
	side->failed = failed;
	check_books(side);
}

static bool is_known_error(int ret)
{
	return ret == 0 || ret == -EAGAIN || ret == -EBADMSG || ret == -EMSGSIZE ||
	       ret == -EPIPE || ret == -ENOBUFS || ret == -ENOMEM;
}

/* Honest work ----------------------------------------------------------------------------- */

static uint8_t pattern(uint64_t number)
{
	return (uint8_t)(number * 7 + 1);
}

/* Mappings of this backend are slow to make: a few for each input will do. */
static bool is_too_slow(struct fuzz *fuzz, const struct side *side, size_t size)
{
	unsigned int most = side->link->end->ops->object_new ? 3 : 1;

	return size > native_pool_largest(&side->native->pool) && fuzz->made++ >= most;
}

static void do_send(struct fuzz *fuzz, struct side *side)
{
	static uint8_t payload[MAX_PAYLOAD + 1];
	size_t size = fuzz_take(fuzz->input, 2);
	int ret;

	if (size >= 0xff00)
		size = MAX_PAYLOAD - 2 + size % 4;
	else
		size %= 1200;
	if (is_too_slow(fuzz, side, size))
		return;
	memset(payload, pattern(side->sent), size);
	ret = voxshm_try_send(side->link, payload, size);
	FUZZ_CHECK(is_known_error(ret));
	side->sent += ret == 0;
	check_state(side, ret);
}

static void do_send_batch(struct fuzz *fuzz, struct side *side)
{
	uint8_t payloads[4][40];
	struct iovec messages[4];
	unsigned int i;
	int ret;

	for (i = 0; i < 4; i++) {
		memset(payloads[i], pattern(side->sent + i), sizeof(payloads[i]));
		messages[i] = (struct iovec){ payloads[i], fuzz_below(fuzz->input, 40) };
	}
	ret = voxshm_send_batch(side->link, messages, 4, 0);
	FUZZ_CHECK(ret > 0 ? ret <= 4 : is_known_error(ret));
	side->sent += ret > 0 ? (uint64_t)ret : 0;
	check_state(side, ret);
}

static void received(struct fuzz *fuzz, struct side *side, struct voxshm_view *view)
{
	const uint8_t *bytes = view->data;
	size_t i;

	check_view(fuzz, side, view);
	if (!fuzz_meddled)
		for (i = 0; i < view->size; i++)
			FUZZ_CHECK(bytes[i] == pattern(side->received) || bytes[i] == 0x5a);
	side->received++;
	side->num_views++;
}

static void do_recv(struct fuzz *fuzz, struct side *side)
{
	struct voxshm_view *view = &side->views[side->num_views];
	uint64_t loads = fuzz_loads;
	int ret;

	if (side->num_views == MAX_VIEWS)
		return;
	ret = voxshm_try_recv(side->link, view);
	FUZZ_CHECK(is_known_error(ret) && fuzz_loads - loads < MAX_LOADS);
	if (ret == 0)
		received(fuzz, side, view);
	else if (!fuzz_meddled)
		FUZZ_CHECK(side->received == fuzz->sides[!side->side].sent);
	check_state(side, ret);
}

static void do_recv_batch(struct fuzz *fuzz, struct side *side)
{
	unsigned int room = MAX_VIEWS - side->num_views, i;
	struct voxshm_view views[MAX_VIEWS];
	int ret;

	if (!room)
		return;
	ret = voxshm_recv_batch(side->link, views, room, 0);
	FUZZ_CHECK(ret > 0 ? ret <= (int)room : is_known_error(ret));
	for (i = 0; (int)i < ret; i++) {
		side->views[side->num_views] = views[i];
		received(fuzz, side, &side->views[side->num_views]);
	}
	check_state(side, ret);
}

static void do_recv_copy(struct fuzz *fuzz, struct side *side)
{
	size_t size = fuzz_take(fuzz->input, 2), i;
	uint8_t *bytes = malloc(size);
	ssize_t ret = voxshm_recv_copy(side->link, bytes, size, 0);

	FUZZ_CHECK(ret >= 0 ? (size_t)ret <= size : is_known_error((int)ret));
	if (ret >= 0) {
		for (i = 0; !fuzz_meddled && i < (size_t)ret; i++)
			FUZZ_CHECK(bytes[i] == pattern(side->received) || bytes[i] == 0x5a);
		side->received++;
	}
	free(bytes);
	check_state(side, ret == -EMSGSIZE ? 0 : (int)ret);
}

static void do_release(struct fuzz *fuzz, struct side *side)
{
	struct voxshm_view view;
	uint32_t which;

	if (!side->num_views)
		return;
	which = fuzz_below(fuzz->input, side->num_views);
	view = side->views[which];
	side->views[which] = side->views[--side->num_views];
	FUZZ_CHECK(voxshm_release(side->link, &view) == 0);
	FUZZ_CHECK(voxshm_release(side->link, &view) == -EINVAL);
	check_state(side, 0);
}

static void do_loan(struct fuzz *fuzz, struct side *side)
{
	struct loan *loan = &side->loans[fuzz_below(fuzz->input, MAX_LOANS)];
	uint64_t what = fuzz_take(fuzz->input, 2);
	int ret = 0;

	if (!loan->open) {
		if (is_too_slow(fuzz, side, what % 2500))
			return;
		ret = voxshm_loan(side->link, what % 2500, &loan->loan, 0);
		FUZZ_CHECK(is_known_error(ret));
		loan->open = ret == 0;
		if (ret == 0)
			check_loan(fuzz, side, loan);
	} else if (what % 4) {
		ret = voxshm_commit(side->link, &loan->loan, what % (loan->loan.size + 1), 0);
		FUZZ_CHECK(is_known_error(ret));
		loan->open = ret != 0;
		side->sent += ret == 0;
	} else {
		voxshm_abort(side->link, &loan->loan);
		loan->open = false;
	}
	check_state(side, ret);
}

static void do_wait(struct fuzz *fuzz, struct side *side)
{
	uint32_t interest = fuzz_below(fuzz->input, 4);
	struct voxshm_status status;
	int ret;

	switch (fuzz_below(fuzz->input, 3)) {
	case 0:
		/* As a wait does, without sleeping. */
		side->link->format->arm(side->link, interest);
		link_ready(side->link, interest);
		side->link->format->disarm(side->link, interest);
		break;
	case 1:
		ret = voxshm_link_arm(side->link, interest);
		FUZZ_CHECK(ret >= 0 && ret <= 3);
		break;
	default:
		voxshm_link_status(side->link, &status);
		FUZZ_CHECK((status.state == VOXSHM_LINK_FAILED) == (*status.reason != '\0'));
		break;
	}
	check_state(side, 0);
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
	put_offer(fuzz_end(side->link->end), offer);
}

static void race_anywhere(struct fuzz *fuzz, const struct side *side)
{
	uint64_t offset = fuzz_take(fuzz->input, 2), value = fuzz_take(fuzz->input, 8);

	/* Mostly where the side looks next. */
	if (offset & 0x8000)
		offset = fuzz->geometry->ring[!side->side] + sizeof(struct native_ring) +
			 side->native->consumer.cursor + 8 * (offset % 5);
	fuzz_race_add(offset, value, value ^ fuzz_take(fuzz->input, 8));
}

static void do_something(struct fuzz *fuzz)
{
	uint32_t what = fuzz_below(fuzz->input, 64);
	struct side *side = &fuzz->sides[what & 1];

	switch (what >> 1) {
	case 0 ... 3:
		do_send(fuzz, side);
		break;
	case 4:
		do_send_batch(fuzz, side);
		break;
	case 5 ... 9:
		do_recv(fuzz, side);
		break;
	case 10:
		do_recv_batch(fuzz, side);
		break;
	case 11:
		do_recv_copy(fuzz, side);
		break;
	case 12 ... 14:
		do_release(fuzz, side);
		break;
	case 15 ... 16:
		do_loan(fuzz, side);
		break;
	case 17:
		do_wait(fuzz, side);
		break;
	case 18 ... 20:
		write_frame(fuzz, side, false);
		break;
	case 21:
		write_frame(fuzz, side, true);
		break;
	case 22 ... 24:
		write_word(fuzz, side);
		break;
	case 25:
		write_ring(fuzz, side);
		break;
	case 26:
		write_words(fuzz, fuzz_take(fuzz->input, 2), 16);
		break;
	case 27:
		offer_anything(fuzz, side);
		break;
	default:
		if (FUZZ_RACES)
			race_anywhere(fuzz, side);
		else
			fuzz_mutate(fuzz->input);
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
	int free_fd, i;

	if (!windows[0]) {
		make_windows();
		for (i = 0; i < FUZZ_FILES; i++)
			fuzz_file((enum fuzz_file)i);
	}
	free_fd = fuzz_free_fd();
	fuzz.geometry = &geometries[how / 2];
	fuzz.window = windows[how / 2];
	open_pair(&fuzz, how % 2);
	fuzz_memory_set(fuzz.window, fuzz.geometry->window_size);
	if (FUZZ_RACES)
		fuzz_race_begin();
	while (input.left)
		do_something(&fuzz);
	if (FUZZ_RACES)
		fuzz_race_end();
	for (i = 0; i < SIDES; i++)
		close_side(&fuzz.sides[i]);
	FUZZ_CHECK(fuzz_free_fd() == free_fd);
	if (++runs == 1000)
		maps = fuzz_count_maps();
	if (runs % 100000 == 0)
		FUZZ_CHECK(fuzz_count_maps() < maps + 64);
	return 0;
}
