/* SPDX-License-Identifier: MIT */
/*
 * native/send.c - from a payload to a published entry.
 *
 * Room in the ring is granted first: it stays granted, as there is only one
 * producer, so that nothing is taken from pool or mappings in vain and the
 * commit cannot fail.
 */
#include "native/native.h"

enum loan_kind {
	LOAN_CLOSED,
	LOAN_SLOT,		/* class index in the next byte; token: slot, generation */
	LOAN_MAPPING,		/* token: map id, generation */
	LOAN_SCRATCH,		/* token: index, generation */
};

#define REF_ENTRY_SIZE CACHE_LINE
/* Of a long batch, so many are written before the receiver sees the first. */
#define MAX_STAGED 16u

static int lacking(struct native_link *native, enum native_lack lack, size_t size)
{
	native->lack = lack;
	native->lack_size = size;
	native->link.blocked = true;
	return -EAGAIN;
}

static int64_t grant(struct native_link *native, uint32_t size)
{
	int64_t position = native_ring_grant(&native->producer, size);

	if (__builtin_expect(position >= 0, 1))
		return position;
	if (position == -EAGAIN)
		return lacking(native, LACK_RING, size);
	return link_fail(&native->link, "its read index is not an index of the ring");
}

/* `more`: in a batch, to be seen by and by. */
static inline void publish(struct native_link *native, int64_t position, uint32_t size,
			   uint64_t header, bool more)
{
	struct native_producer *producer = &native->producer;

	if (!more) {
		native_ring_commit(producer, position, size, header, true);
		return;
	}
	native_ring_stage(producer, position, size, header);
	if (producer->staged == MAX_STAGED)
		native_ring_publish_staged(producer, false);
}

static inline void committed(struct native_link *native, size_t size, bool more)
{
	native->sent.messages++;
	native->sent.bytes += size;
	if (!more)
		link_wake(&native->link, &native->link.theirs->data);
}

static void commit_slot_ref(struct native_link *native, int64_t position, struct slot_ref *ref,
			    size_t size, bool more)
{
	ref->length = (uint32_t)size;
	memcpy(native_ring_payload(&native->producer, position), ref, sizeof(*ref));
	native_pool_sent(&native->pool, ref);
	publish(native, position, REF_ENTRY_SIZE, frame_header(REF_ENTRY_SIZE, FRAME_SLOT_REF, 0),
		more);
	committed(native, size, more);
}

static void commit_mapping_ref(struct native_link *native, int64_t position, uint32_t map_id,
			       size_t size, bool more)
{
	struct mapping_ref ref = {
		.map_id = map_id,
		.map_generation = native->mappings.table[map_id].generation,
		.length = (uint32_t)size,
	};

	memcpy(native_ring_payload(&native->producer, position), &ref, sizeof(ref));
	mapping_sent(&native->mappings, map_id);
	publish(native, position, REF_ENTRY_SIZE,
		frame_header(REF_ENTRY_SIZE, FRAME_MAPPING_REF, 0), more);
	committed(native, size, more);
}

/* A mapping's index, or -errno. */
static int take_mapping(struct native_link *native, size_t size)
{
	int map_id = mapping_alloc(&native->mappings, native->link.end, size,
				   &native->link.mappings_made);

	return map_id == -EAGAIN ? lacking(native, LACK_MAPPING, size) : map_id;
}

static int take_slot(struct native_link *native, size_t size, struct slot_ref *ref)
{
	int ret = native_pool_alloc(&native->pool, size, ref);

	return ret ? lacking(native, LACK_SLOT, size) : 0;
}

static int send_outside(struct native_link *native, const void *data, size_t size, bool more)
{
	int64_t position;
	struct slot_ref ref;
	int ret;

	if (size > native->link.max_payload)
		return -EMSGSIZE;
	position = grant(native, REF_ENTRY_SIZE);
	if (position < 0)
		return (int)position;
	if (size <= native_pool_largest(&native->pool)) {
		ret = take_slot(native, size, &ref);
		if (ret)
			return ret;
		memcpy(native_pool_data(&native->pool, &ref), data, size);
		commit_slot_ref(native, position, &ref, size, more);
		return 0;
	}
	ret = take_mapping(native, size);
	if (ret < 0)
		return ret;
	memcpy(native->mappings.table[ret].memory.base, data, size);
	commit_mapping_ref(native, position, (uint32_t)ret, size, more);
	return 0;
}

/* Payloads of NATIVE_SMALL_MIN to _MAX bytes, without a call: parts that may overlap. */
static inline void copy_small(uint8_t *to, const uint8_t *from, size_t size)
{
	uint64_t words[2];
	struct { uint64_t words[2]; } parts[4];

	if (size <= 16) {
		memcpy(&words[0], from, 8);
		memcpy(&words[1], from + size - 8, 8);
		memcpy(to, &words[0], 8);
		memcpy(to + size - 8, &words[1], 8);
		return;
	}
	memcpy(&parts[0], from, 16);
	memcpy(&parts[3], from + size - 16, 16);
	if (size > 32) {
		memcpy(&parts[1], from + 16, 16);
		memcpy(&parts[2], from + size - 32, 16);
		memcpy(to + 16, &parts[1], 16);
		memcpy(to + size - 32, &parts[2], 16);
	}
	memcpy(to, &parts[0], 16);
	memcpy(to + size - 16, &parts[3], 16);
}

/* The usual case in a few instructions. Return: false when it is another one. */
static inline bool send_quick(struct native_link *native, const void *data, size_t size)
{
	struct native_producer *producer = &native->producer;
	uint32_t entry_size = native_entry_size(size);

	if (__builtin_expect(size - NATIVE_SMALL_MIN >= native->small_sizes ||
			     !native_ring_fits(producer, entry_size), 0))
		return false;
	copy_small(native_ring_payload(producer, producer->cursor), data, size);
	native_ring_commit_here(producer, entry_size, frame_header(entry_size, 0, (uint16_t)size));
	native->sent.messages++;
	native->sent.bytes += size;
	link_wake(&native->link, &native->link.theirs->data);
	return true;
}

int native_send(struct voxshm_link *link, const void *data, size_t size, int64_t timeout)
{
	if (__builtin_expect(send_quick(native_link(link), data, size), 1))
		return 0;
	return link_send(link, data, size, timeout);
}

unsigned int native_send_some(struct voxshm_link *link, const struct iovec *messages,
			      unsigned int count)
{
	struct native_link *native = native_link(link);
	struct native_producer *producer = &native->producer;
	uint64_t bytes = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		size_t size = messages[i].iov_len;
		uint32_t entry_size = native_entry_size(size), cursor = producer->cursor;

		if (size - NATIVE_SMALL_MIN >= native->small_sizes ||
		    !native_ring_fits(producer, entry_size))
			break;
		copy_small(native_ring_payload(producer, cursor), messages[i].iov_base, size);
		publish(native, cursor, entry_size, frame_header(entry_size, 0, (uint16_t)size),
			true);
		bytes += size;
	}
	native->sent.messages += i;
	native->sent.bytes += bytes;
	return i;
}

int native_try_send(struct voxshm_link *link, const void *data, size_t size, bool more)
{
	struct native_link *native = native_link(link);
	uint32_t entry_size;
	int64_t position;

	if (__builtin_expect(size > native->geometry.inline_limit, 0))
		return send_outside(native, data, size, more);
	entry_size = native_entry_size(size);
	position = grant(native, entry_size);
	if (__builtin_expect(position < 0, 0))
		return (int)position;
	if (size - NATIVE_SMALL_MIN <= NATIVE_SMALL_MAX - NATIVE_SMALL_MIN)
		copy_small(native_ring_payload(&native->producer, position), data, size);
	else if (size)
		memcpy(native_ring_payload(&native->producer, position), data, size);
	publish(native, position, entry_size, frame_header(entry_size, 0, (uint16_t)size), more);
	committed(native, size, more);
	return 0;
}

/* The fenced half of C for all that was committed with `more`. */
void native_flush(struct voxshm_link *link)
{
	struct native_link *native = native_link(link);

	if (native->producer.staged)
		native_ring_publish_staged(&native->producer, true);	/* A, C */
	else
		shared_store_fenced_u32(&native->producer.ring->write,
					native->producer.cursor);	/* C */
	link_wake(link, &native->link.theirs->data);
}

static int loan_outside(struct native_link *native, size_t size, struct voxshm_loan *loan)
{
	struct slot_ref ref;
	int ret;

	if (size > native->link.max_payload)
		return -EMSGSIZE;
	if (size <= native_pool_largest(&native->pool)) {
		ret = take_slot(native, size, &ref);
		if (ret)
			return ret;
		*loan = (struct voxshm_loan){
			.data = native_pool_data(&native->pool, &ref),
			.size = native->pool.classes[ref.class_index].slot_size,
			.token = (uint64_t)ref.generation << 32 | ref.slot,
			.kind = LOAN_SLOT | (uint32_t)ref.class_index << 8,
		};
	} else {
		ret = take_mapping(native, size);
		if (ret < 0)
			return ret;
		*loan = (struct voxshm_loan){
			.data = native->mappings.table[ret].memory.base,
			.size = native->mappings.table[ret].memory.size,
			.token = (uint64_t)native->mappings.table[ret].generation << 32 |
				 (uint32_t)ret,
			.kind = LOAN_MAPPING,
		};
	}
	if (loan->size > native->link.max_payload)
		loan->size = native->link.max_payload;
	return 0;
}

int native_try_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan)
{
	struct native_link *native = native_link(link);
	struct native_scratch *scratch = &native->scratch;
	int index = size <= scratch->size ? native_scratch_alloc(scratch) : -1;

	if (index < 0)
		return loan_outside(native, size, loan);
	*loan = (struct voxshm_loan){
		.data = scratch->memory[index],
		.size = scratch->size,
		.token = (uint64_t)scratch->generations[index] << 32 | (uint32_t)index,
		.kind = LOAN_SCRATCH,
	};
	return 0;
}

static bool loan_scratch(const struct native_link *native, const struct voxshm_loan *loan)
{
	return loan->kind == LOAN_SCRATCH &&
	       native_scratch_is_lent(&native->scratch, (uint32_t)loan->token,
				      (uint32_t)(loan->token >> 32));
}

/* The loan's slot; false when the loan is not an open one of this link. */
static bool loan_slot(const struct native_link *native, const struct voxshm_loan *loan,
		      struct slot_ref *ref)
{
	*ref = (struct slot_ref){
		.class_index = (uint8_t)(loan->kind >> 8),
		.slot = (uint32_t)loan->token,
		.generation = (uint32_t)(loan->token >> 32),
	};
	return (loan->kind & 0xff) == LOAN_SLOT && native_pool_loaned(&native->pool, ref);
}

static bool loan_mapping(const struct native_link *native, const struct voxshm_loan *loan)
{
	return loan->kind == LOAN_MAPPING &&
	       mapping_loaned(&native->mappings, (uint32_t)loan->token,
			      (uint32_t)(loan->token >> 32));
}

static int commit_scratch(struct native_link *native, struct voxshm_loan *loan, size_t size)
{
	uint32_t index = (uint32_t)loan->token;
	const uint8_t *data = native->scratch.memory[index];
	int ret;

	if (size > loan->size || size > native->scratch.size)
		return -EINVAL;
	if (!send_quick(native, data, size)) {
		ret = native_try_send(&native->link, data, size, false);
		if (ret)
			return ret;
	}
	native_scratch_free(&native->scratch, index);
	*loan = (struct voxshm_loan){ .kind = LOAN_CLOSED };
	return 0;
}

int native_try_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size)
{
	struct native_link *native = native_link(link);
	struct slot_ref ref;
	int64_t position;
	bool slot;

	if (loan_scratch(native, loan))
		return commit_scratch(native, loan, size);
	slot = loan_slot(native, loan, &ref);
	if (!slot && !loan_mapping(native, loan))
		return -EINVAL;
	if (size > loan->size)
		return -EINVAL;
	position = grant(native, REF_ENTRY_SIZE);
	if (position < 0)
		return (int)position;
	if (slot)
		commit_slot_ref(native, position, &ref, size, false);
	else
		commit_mapping_ref(native, position, (uint32_t)loan->token, size, false);
	*loan = (struct voxshm_loan){ .kind = LOAN_CLOSED };
	return 0;
}

void native_abort(struct voxshm_link *link, struct voxshm_loan *loan)
{
	struct native_link *native = native_link(link);
	struct slot_ref ref;

	if (loan_scratch(native, loan))
		native_scratch_free(&native->scratch, (uint32_t)loan->token);
	else if (loan_slot(native, loan, &ref))
		native_pool_unalloc(&native->pool, &ref);
	else if (loan_mapping(native, loan))
		mapping_unalloc(&native->mappings, (uint32_t)loan->token);
	*loan = (struct voxshm_loan){ .kind = LOAN_CLOSED };
}

bool native_writable(struct voxshm_link *link)
{
	struct native_link *native = native_link(link);

	switch (native->lack) {
	case LACK_RING:
		return native_producer_refresh(&native->producer) ||
		       native_ring_place(&native->producer, (uint32_t)native->lack_size) >= 0;
	case LACK_SLOT:
		return native_pool_available(&native->pool, native->lack_size);
	case LACK_MAPPING:
		return mapping_available(&native->mappings);
	case LACK_NOTHING:
		break;
	}
	return true;
}
