// SPDX-License-Identifier: MIT
/*
 * vox_link.c - a vox host with two guests, and a peer that writes whatever it
 * likes into their segment, and sends whatever it likes over their sockets.
 *
 * Host and guests are in one process, and each of them is the victim. Guests come, leave, die and are buried at any time.
 * What is checked is what each process must be safe from; what the guests must
 * trust each other for is theirs only while nobody meddles.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host.h"
#include "vox/vox.h"
#include "work.h"

#define PAIRS 2u
#define MAX_FDS 4u
/* More loads than any call needs, however hostile the peer. */
#define MAX_LOADS 10000u
#define GROWTH 8192u

struct pair;

struct member {
	struct work work;
	struct vox_link *vox;
	struct pair *pair;
	bool open;
};

struct pair {
	struct member host, guest;
};

/* A host that serves one input after another. */
struct subject {
	struct voxshm_host *host;
	uint8_t *image;			/* of the segment, with no guest in it */
	size_t size;
};

struct fuzz {
	struct fuzz_input *input;
	struct subject *subject;
	struct voxshm_segment *segment;	/* the host's */
	struct pair pairs[PAIRS];
	unsigned int mappings;		/* that each member makes; they are slow */
	bool grown;
};

#define SUBJECTS 2

static const struct voxshm_class classes[SUBJECTS][2] = {
	{ { 64, 4 }, { 256, 3 } }, { { 20, 2 }, { 1024, 2 } },
};

static const uint32_t capacities[SUBJECTS] = { 256, VOX_RING_MIN_CAPACITY };

static struct subject subjects[SUBJECTS];

static struct voxshm_segment *segment_of(const struct voxshm_host *host)
{
	return ((struct vox_host *)host->segment)->segment;
}

static void subject_open(struct subject *subject)
{
	size_t which = (size_t)(subject - subjects);
	struct voxshm_config config = {
		.struct_size = sizeof(config),
		.format = VOXSHM_FORMAT_VOX,
		.backend = VOXSHM_BACKEND_FILE,
		.max_guests = PAIRS,
		.ring_capacity = capacities[which],
		.max_payload = WORK_MAX_PAYLOAD,
		.inline_threshold = 60,
		.max_mappings = 2,
		.num_classes = 2,
		.classes = classes[which],
		.max_size = 1 << 20,
	};
	const struct voxshm_segment *segment;

	FUZZ_CHECK(voxshm_host_new(&subject->host, &config, NULL) == 0);
	segment = segment_of(subject->host);
	subject->size = segment->file.size;
	subject->image = realloc(subject->image, subject->size);
	memcpy(subject->image, segment->file.base, subject->size);
}

/* Coming ------------------------------------------------------------------------------- */

static bool is_in_pool(const struct vox_pool *pool, const struct voxshm_view *view)
{
	struct vox_slot_ref ref = { 0 };
	uint32_t extent, i, size;

	for (extent = 0; extent < vox_pool_num_extents(pool); extent++)
		for (i = 0; i < pool->num_classes; i++)
			for (ref.slot = 0; ref.slot < pool->extents[extent][i].slot_count;
			     ref.slot++) {
				uint8_t *data;

				ref.extent = (uint8_t)extent;
				ref.class_index = (uint8_t)i;
				data = vox_pool_data(pool, &ref, &size);
				if (work_is_within(view->data, view->size, data, size))
					return true;
			}
	return false;
}

static bool is_in_mapping(const struct vox_link *vox, const struct voxshm_view *view)
{
	const struct vox_received *received = &vox->received;
	const struct vox_plain_copy *copy;
	uint32_t i;

	for (i = 0; i < received->ours.count; i++)
		if (work_is_within(view->data, view->size, received->ours.table[i].memory.base,
				   received->ours.table[i].memory.size))
			return true;
	for (copy = received->copies; copy; copy = copy->next)
		if (work_is_within(view->data, view->size, copy->bytes, copy->size))
			return true;
	return false;
}

static bool is_inside(const struct work *work, const struct voxshm_view *view)
{
	const struct vox_link *vox = ((const struct member *)work)->vox;
	const struct voxshm_segment *segment = vox->segment;
	const struct vox_ring *ring = vox_peer_ring(segment, vox->link.peer_id,
						    vox->link.is_host ? VOX_GUEST : VOX_HOST);

	return work_is_within(view->data, view->size, ring->data,
			      segment->geometry.ring_capacity) ||
	       work_is_within(view->data, view->size, vox->unread.bytes, vox->unread.size) ||
	       is_in_pool(&segment->pool, view) || is_in_mapping(vox, view);
}

static void member_open(struct member *member, struct pair *pair, struct voxshm_link *link,
			struct member *other, unsigned int mappings)
{
	*member = (struct member){
		.vox = vox_link(link),
		.pair = pair,
		.open = true,
		.work = {
			.link = link,
			.peer = &other->work,
			.is_inside = is_inside,
			.release_may_fail = true,
			.mappings_left = mappings,
			.max_loads = MAX_LOADS,
		},
	};
	member->work.largest_slot = member->vox->slot_end - 1;
}

/* Return: has it come? What was written may not let it. */
static bool guest_open(struct pair *pair, struct invitation *invitation, unsigned int mappings)
{
	struct voxshm_error error = { "" };
	const struct vox_file *file;
	struct voxshm_link *link;
	int ret;

	ret = vox_join(&link, invitation, &error);
	if (ret) {
		FUZZ_CHECK(fuzz_meddled && *error.text);
		return false;
	}
	file = &vox_link(link)->segment->file;
	fuzz_memory_add(file->base, file->size);
	member_open(&pair->guest, pair, link, &pair->host, mappings);
	return true;
}

static void pair_open(struct fuzz *fuzz, struct pair *pair)
{
	struct invitation invitation;
	struct voxshm_link *link;

	if (pair->host.open || pair->guest.open)
		return;
	if (host_link_new(fuzz->subject->host, &link, &invitation, NULL)) {
		/* Only the peer table's contents can have refused it. */
		FUZZ_CHECK(fuzz_meddled || fuzz->pairs[0].host.open || fuzz->pairs[1].host.open);
		return;
	}
	link->known = true;
	member_open(&pair->host, pair, link, &pair->guest, fuzz->mappings);
	if (!guest_open(pair, &invitation, fuzz->mappings))
		pair->host.work.peer = NULL;
	invitation_deinit(&invitation);
}

/* Going --------------------------------------------------------------------------------- */

static struct member *other_member(struct member *member)
{
	return member == &member->pair->host ? &member->pair->guest : &member->pair->host;
}

/* How one goes: what is in hand given back or not, said or not. */
enum going { LEAVES, GIVES_BACK, DIES };

static void member_close(struct member *member, enum going going)
{
	struct voxshm_link *link = member->work.link;

	if (!member->open)
		return;
	if (going == GIVES_BACK)
		work_finish(&member->work);
	if (!link->is_host)
		fuzz_memory_remove(member->vox->segment->file.base);
	if (going == DIES && !link->is_host)
		link->format->link_free(link);
	else
		voxshm_link_close(link);
	member->open = false;
	other_member(member)->work.peer = NULL;
}

static void check_slots(const struct vox_pool *pool)
{
	uint32_t extent, i, slot;

	for (extent = 0; extent < vox_pool_num_extents(pool); extent++)
		for (i = 0; i < pool->num_classes; i++) {
			struct vox_class *class = &pool->extents[extent][i];

			/* Whatever became of a slot, nobody has it in hand. */
			for (slot = 0; slot < class->slot_count; slot++)
				FUZZ_CHECK(class->holders[slot] == 0);
			if (!fuzz_meddled)
				FUZZ_CHECK(vox_pool_count_free(pool, extent, i) ==
					   class->slot_count);
			memset(class->suspects, 0,
			       vox_bit_words(class->slot_count) * sizeof(*class->suspects));
		}
}

/* All have gone; the host is as it was. */
static void finish(struct fuzz *fuzz)
{
	struct voxshm_host *host = fuzz->subject->host;
	struct voxshm_event event;
	unsigned int i;

	for (i = 0; i < PAIRS; i++) {
		member_close(&fuzz->pairs[i].guest, GIVES_BACK);
		member_close(&fuzz->pairs[i].host, GIVES_BACK);
	}
	fuzz_peer_end();
	for (i = 0; i < 4 && ((struct vox_host *)host->segment)->departed; i++)
		FUZZ_CHECK(voxshm_host_wait(host, &event, 1, 0) == 0);
	FUZZ_CHECK(!((struct vox_host *)host->segment)->departed);
	FUZZ_CHECK(!host->links && !host->hot && !host->undrained && !host->ending);
	check_slots(&fuzz->segment->pool);
	if (fuzz->grown) {
		voxshm_host_free(host);
		subject_open(fuzz->subject);
	} else {
		memcpy(fuzz->segment->file.base, fuzz->subject->image, fuzz->subject->size);
	}
}

/* The host's own work --------------------------------------------------------------------- */

static void host_wait(struct fuzz *fuzz)
{
	struct voxshm_event events[4];
	int ret, i, j;

	ret = voxshm_host_wait(fuzz->subject->host, events, 4, 0);
	FUZZ_CHECK(ret >= 0 && ret <= 4);
	for (i = 0; i < ret; i++)
		for (j = 0; j < (int)PAIRS; j++)
			if (events[i].type >= VOXSHM_EVENT_LEFT && fuzz->pairs[j].host.open &&
			    fuzz->pairs[j].host.work.link == events[i].link)
				member_close(&fuzz->pairs[j].host, LEAVES);
}

static void host_grow(struct fuzz *fuzz)
{
	int ret;

	if (fuzz->grown)
		return;
	ret = voxshm_host_grow(fuzz->subject->host, GROWTH, NULL);
	FUZZ_CHECK(ret == 0 || ret == -EBUSY);
	fuzz->grown = ret == 0;
	FUZZ_CHECK(fuzz->segment->file.size == fuzz->subject->size + (ret ? 0 : GROWTH));
}

/* Hostile work ------------------------------------------------------------------------------ */

static void write_bytes(struct fuzz *fuzz, const void *at, size_t count)
{
	uint64_t offset = (uint64_t)((const uint8_t *)at - fuzz->segment->file.base);

	fuzz_meddled = true;
	offset %= fuzz->subject->size;
	if (count > fuzz->subject->size - offset)
		count = fuzz->subject->size - offset;
	fuzz_take_bytes(fuzz->input, fuzz->segment->file.base + offset, count);
}

static void write_value(struct fuzz *fuzz, const volatile void *at)
{
	uint64_t offset = (uint64_t)((const volatile uint8_t *)at - fuzz->segment->file.base);
	uint32_t value = (uint32_t)fuzz_take(fuzz->input, 1);

	value = value & 0x80 ? (uint32_t)fuzz_take(fuzz->input, 4) : 4 * value;
	fuzz_meddled = true;
	if (offset % 2)
		value >>= 2;
	memcpy(fuzz->segment->file.base + offset % (fuzz->subject->size - 4) / 4 * 4, &value,
	       sizeof(value));
}

static uint32_t small(struct fuzz *fuzz)
{
	uint32_t value = (uint32_t)fuzz_take(fuzz->input, 1);

	return value & 0x80 ? (uint32_t)fuzz_take(fuzz->input, 4) : value & 7;
}

/* Where the member looks next: an entry that may be right, or any. */
static void write_entry(struct fuzz *fuzz, struct member *member)
{
	struct vox_ring_consumer *consumer = &member->vox->consumer;
	uint8_t *at = consumer->ring->data + consumer->cursor;
	uint32_t room = consumer->capacity - consumer->cursor, size;
	uint8_t entry[64];

	fuzz_meddled = true;
	memset(entry, 0, sizeof(entry));
	switch (fuzz_below(fuzz->input, 4)) {
	case 0:
		size = fuzz_below(fuzz->input, 56);
		vox_entry_write_inline(entry, size);
		size = vox_entry_size(size);
		break;
	case 1:
		size = VOX_SLOT_ENTRY;
		vox_entry_write_slot(entry, &(struct vox_slot_ref){
			.class_index = (uint8_t)small(fuzz), .extent = (uint8_t)(small(fuzz) & 1),
			.slot = small(fuzz), .generation = small(fuzz) });
		break;
	case 2:
		size = VOX_MAPPING_ENTRY;
		vox_entry_write_mapping(entry, &(struct vox_mapping_ref){
			.map_id = small(fuzz), .generation = small(fuzz), .offset = small(fuzz),
			.length = small(fuzz) });
		break;
	default:
		size = (uint32_t)fuzz_take_bytes(fuzz->input, entry, sizeof(entry));
		break;
	}
	memcpy(at, entry, size < room ? size : room);
	/* And says that it is there. */
	if (size <= room && fuzz_below(fuzz->input, 4))
		shared_poke_u32(&consumer->ring->write, consumer->cursor + size);
}

/* One of the words beside the rings. */
static void write_word(struct fuzz *fuzz, struct member *member)
{
	uint32_t peer = member->vox->link.peer_id, index = fuzz_below(fuzz->input, 4);
	struct vox_class *class = &fuzz->segment->pool.extents[0][index & 1];
	struct vox_link_block *block = vox_link_block(fuzz->segment, peer);
	uint32_t slot = fuzz_below(fuzz->input, class->slot_count);

	switch (fuzz_below(fuzz->input, 12)) {
	case 0:
		write_value(fuzz, &member->vox->consumer.ring->write + (index & 1));
		break;
	case 1:
		write_value(fuzz, &member->vox->producer.ring->read);
		break;
	case 2:
		write_value(fuzz, &member->vox->producer.ring->write + (index & 1));
		break;
	case 3:
		write_value(fuzz, (uint32_t *)(void *)&class->slots[slot] + index);
		break;
	case 4:
		write_value(fuzz, (uint32_t *)(void *)&class->header->free_head + (index & 1));
		break;
	case 5:
		write_bytes(fuzz, &vox_peer(fuzz->segment, peer)->state_epoch, 8);
		break;
	case 6:
		write_value(fuzz, (uint8_t *)&vox_peer(fuzz->segment, peer)->features);
		break;
	case 7:
		write_value(fuzz, vox_released(fuzz->segment, peer, (enum vox_side)(index & 1)) +
				  slot % 2);
		break;
	case 8:
		write_bytes(fuzz, &block->side[index & 1].intents[index >> 1], 8);
		break;
	case 9:
		write_value(fuzz, (uint32_t *)(void *)&block->sleep[index & 1] + (index >> 1));
		break;
	case 10:
		write_bytes(fuzz, vox_directory(fuzz->segment), 16 + 16 * index);
		break;
	default:
		write_value(fuzz, class->data + slot * class->slot_size);
		break;
	}
}

/* Anything, over one of the member's sockets. */
static void say(struct fuzz *fuzz, struct member *member)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	static const uint64_t sizes[] = { 4096, 1 << 20, FUZZ_FILE_SIZE, 0, 1ull << 40 };
	struct { uint32_t id, generation; uint64_t size; uint8_t more[32]; } message = {
		.id = small(fuzz), .generation = small(fuzz),
		.size = sizes[fuzz_below(fuzz->input, 5)],
	};
	uint32_t how = fuzz_below(fuzz->input, 64), count = how & 3 ? how & 3 : 1, i;
	struct iovec iov = { &message, how & 4 ? fuzz_below(fuzz->input, 48) : 16 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	int socket = how & 8 ? member->vox->end->doorbell : member->vox->end->control;
	struct cmsghdr *cmsg;
	int fd;

	fuzz_meddled = true;
	if (!(how & 16)) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		for (i = 0; i < count; i++) {
			fd = fuzz_file((enum fuzz_file)fuzz_below(fuzz->input, FUZZ_FILES));
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(fd));
		}
	}
	(void)!sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void race_anywhere(struct fuzz *fuzz, const struct member *member)
{
	uint64_t offset = fuzz_take(fuzz->input, 2), value = fuzz_take(fuzz->input, 8);
	const struct vox_ring_consumer *consumer = &member->vox->consumer;

	/* Mostly where the member looks next. */
	if ((offset & 0xc000) == 0x8000)
		offset = (uint64_t)(consumer->ring->data + consumer->cursor + 8 * (offset % 5) -
				    fuzz->segment->file.base);
	else if (offset & 0x8000)
		offset = (uint64_t)((uint8_t *)consumer->ring - fuzz->segment->file.base);
	fuzz_race_add(fuzz->segment->file.base + offset % fuzz->subject->size, value, value ^ fuzz_take(fuzz->input, 8));
}

/* ------------------------------------------------------------------------------------------- */

/* What is done next: the kind in the low bits, the member above; bit 5 is the kind's own. */
enum other_kind {
	WRITE_ENTRY = WORK_KINDS,
	WRITE_WORD = 21,
	WRITE_ANYWHERE = 24,
	SAY = 25,
	HOST_WAIT = 26,
	HOST_GROW_OR_SEARCH = 27,
	CLOSE = 28,
	CHANGE = 29,
	KINDS = 32,
};

static void do_something(struct fuzz *fuzz)
{
	uint32_t what = (uint32_t)fuzz_take(fuzz->input, 1), kind = what % KINDS;
	struct pair *pair = &fuzz->pairs[what >> 7];
	struct member *member = what & 64 ? &pair->host : &pair->guest;

	if (!member->open) {
		pair_open(fuzz, pair);
		return;
	}
	switch (kind) {
	case WRITE_ENTRY ... WRITE_WORD - 1:
		write_entry(fuzz, member);
		break;
	case WRITE_WORD ... WRITE_ANYWHERE - 1:
		write_word(fuzz, member);
		break;
	case WRITE_ANYWHERE:
		write_bytes(fuzz, fuzz->segment->file.base + fuzz_take(fuzz->input, 2), 16);
		break;
	case SAY:
		say(fuzz, member);
		break;
	case HOST_WAIT:
		host_wait(fuzz);
		break;
	case HOST_GROW_OR_SEARCH:
		if (what & 32)
			host_grow(fuzz);
		else
			vox_search_lost(fuzz->segment);
		break;
	case CLOSE:
		member_close(member, (enum going)fuzz_below(fuzz->input, 3));
		break;
	case CHANGE ... KINDS - 1:
		if (FUZZ_RACES)
			race_anywhere(fuzz, member);
		else
			fuzz_mutate(fuzz->input);
		break;
	default:
		work_do(&member->work, fuzz->input, kind);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned int runs;
	static int maps;
	struct fuzz_input input = { data, size };
	struct fuzz fuzz = { .input = &input };
	uint32_t how = fuzz_below(&input, 4 * SUBJECTS);
	int fds, i;

	if (!subjects[0].host) {
		for (i = 0; i < FUZZ_FILES; i++)
			fuzz_file((enum fuzz_file)i);
		for (i = 0; i < SUBJECTS; i++)
			subject_open(&subjects[i]);
	}
	fds = fuzz_count_fds();
	fuzz.subject = &subjects[how % SUBJECTS];
	fuzz.mappings = how / SUBJECTS == 0;
	fuzz.segment = segment_of(fuzz.subject->host);
	fuzz_peer_begin();
	fuzz_memory_add(fuzz.segment->file.base, fuzz.subject->size);
	pair_open(&fuzz, &fuzz.pairs[0]);
	while (input.left)
		do_something(&fuzz);
	finish(&fuzz);
	FUZZ_CHECK(fuzz_count_fds() == fds);
	if (++runs == 1000)
		maps = fuzz_count_maps();
	if (runs % 100000 == 0)
		FUZZ_CHECK(fuzz_count_maps() < maps + 64);
	return 0;
}
