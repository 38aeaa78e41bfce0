/* SPDX-License-Identifier: MIT */
/*
 * native_ring_model.h - a native ring with both its ends, and beside it a
 * model of what must lie in it: a list of entries and the lines they keep
 * busy. Every step is done to both, and compared.
 *
 * Each step returns NULL, or a sentence that says what is wrong.
 */
#ifndef NATIVE_RING_MODEL_H
#define NATIVE_RING_MODEL_H

#include "native/ring.h"
#include "unit_test.h"

#define LINE CACHE_LINE
#define MAX_LINES 64u
#define NOWHERE UINT32_MAX
#define WRAP_MARKER frame_header(CACHE_LINE, FRAME_WRAP, 0)

struct message {
	uint32_t position, size, number;
	uint32_t ticket;	/* what native_ring_take() called it */
	bool wrapped;		/* a marker leads to it */
	bool released;		/* before an older one */
};

struct model {
	struct message out[MAX_LINES];	/* not released, oldest first */
	uint32_t count;
	uint32_t taken;			/* so many of them are borrowed */
	uint32_t number;		/* of the next message */
	uint32_t cursor;		/* the producer's */
	uint32_t released_to;		/* all before it came back */
	uint32_t read;			/* as published */
	uint32_t marker;		/* where one lies that was not passed, or NOWHERE */
	bool followed;			/* the consumer went through it */
	bool busy[MAX_LINES];		/* as the producer may know it */
};

struct both {
	struct native_ring *ring;	/* of its own size: a byte too far is seen */
	struct native_producer producer;
	struct native_consumer consumer;
	uint32_t capacity, max_entry;
	struct model model;
};

/* An empty ring on which both ends stand at the cursor. */
static inline const char *both_init(struct both *both, uint32_t capacity, uint32_t max_entry,
				    uint32_t cursor)
{
	both->capacity = capacity;
	both->max_entry = max_entry;
	both->ring = aligned_alloc(LINE, sizeof(*both->ring) + capacity);
	if (!both->ring)
		return "no memory";
	memset(both->ring, 0, sizeof(*both->ring) + capacity);
	native_producer_init(&both->producer, both->ring, capacity);
	if (native_consumer_init(&both->consumer, both->ring, capacity, max_entry))
		return "no memory";
	shared_poke_u32(&both->ring->write, cursor);
	shared_poke_u32(&both->ring->read, cursor);
	both->producer.cursor = cursor;
	both->producer.read = cursor;
	both->consumer.cursor = cursor;
	both->consumer.released = cursor;
	both->consumer.published = cursor;
	shared_poke_u32(&both->consumer.publishable, cursor);
	both->model = (struct model){ .cursor = cursor, .released_to = cursor, .read = cursor,
				      .marker = NOWHERE };
	return NULL;
}

static inline void both_deinit(struct both *both)
{
	native_consumer_deinit(&both->consumer);
	free(both->ring);
}

/* No byte of a payload is zero, so that each line's head could be a header. */
static inline uint8_t payload_byte(uint32_t number, uint32_t i)
{
	return (uint8_t)(number * 31 + i * 7) | 1;
}

static inline void payload_fill(uint8_t *payload, uint32_t size, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < size - FRAME_HEADER_SIZE; i++)
		payload[i] = payload_byte(number, i);
}

static inline bool payload_is(const uint8_t *payload, uint32_t size, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < size - FRAME_HEADER_SIZE; i++)
		if (payload[i] != payload_byte(number, i))
			return false;
	return true;
}

static inline uint64_t message_header(uint32_t size, uint32_t number)
{
	return frame_header(size, 0, (uint16_t)number);
}

static inline uint64_t line_head(const struct both *both, uint32_t position)
{
	return shared_load_u64(native_line(both->ring, position));
}

/* Where the rules put an entry of that size, or NOWHERE. */
static inline uint32_t model_place(const struct both *both, uint32_t size)
{
	const struct model *model = &both->model;
	uint32_t start, line;

	for (start = model->cursor;; start = 0) {
		/* The entry's lines and the spare one behind it. */
		for (line = start; line <= start + size; line += LINE)
			if (line >= both->capacity || model->busy[line / LINE] ||
			    (start != model->cursor && line == model->cursor))
				break;
		if (line > start + size)
			return start;
		if (start == 0)
			return NOWHERE;
	}
}

static inline void model_put(struct both *both, uint32_t position, uint32_t size)
{
	struct model *model = &both->model;
	uint32_t line;

	model->out[model->count] = (struct message){
		.position = position, .size = size, .number = model->number,
		.wrapped = position != model->cursor,
	};
	if (position != model->cursor) {
		model->marker = model->cursor;
		model->followed = false;
		model->busy[model->cursor / LINE] = true;
	}
	for (line = position; line < position + size; line += LINE)
		model->busy[line / LINE] = true;
	model->cursor = position + size;
	model->count++;
	model->number++;
}

/* Passes what was released, in order, and a marker that was followed. */
static inline void model_advance(struct model *model)
{
	for (;;) {
		if (model->followed && model->released_to == model->marker) {
			model->released_to = 0;
			model->marker = NOWHERE;
			model->followed = false;
		} else if (model->taken && model->out[0].released) {
			model->released_to = model->out[0].position + model->out[0].size;
			memmove(model->out, model->out + 1, --model->count * sizeof(*model->out));
			model->taken--;
		} else {
			return;
		}
	}
}

/* Steps --------------------------------------------------------------------------- */

static inline const char *try_put(struct both *both, uint32_t size)
{
	uint8_t before[sizeof(struct native_ring) + MAX_LINES * LINE];
	uint32_t expected = model_place(both, size), cursor = both->producer.cursor;
	int64_t position;

	memcpy(before, both->ring, sizeof(*both->ring) + both->capacity);
	position = native_ring_grant(&both->producer, size);
	if (memcmp(before, both->ring, sizeof(*both->ring) + both->capacity) ||
	    both->producer.cursor != cursor)
		return "a grant changed something";
	if (expected == NOWHERE)
		return position == -EAGAIN ? NULL : "an entry was granted without room";
	if (position < 0)
		return "an entry was refused for which there is room";
	if (position != expected)
		return "an entry was granted at another place";
	payload_fill(native_ring_payload(&both->producer, position), size, both->model.number);
	native_ring_commit(&both->producer, position, size,
			   message_header(size, both->model.number), both->model.number % 2);
	model_put(both, expected, size);
	return NULL;
}

static inline const char *try_take(struct both *both)
{
	struct model *model = &both->model;
	struct message *message = &model->out[model->taken];
	struct native_entry entry;
	int ret = native_ring_peek(&both->consumer, &entry);

	if (model->taken == model->count)
		return ret == 0 ? NULL : "an entry was seen where none is";
	if (ret != 1)
		return "the next entry was not seen";
	if (entry.position != message->position ||
	    entry.header != message_header(message->size, message->number) ||
	    entry.payload != both->ring->lines + message->position + FRAME_HEADER_SIZE)
		return "another entry was seen than the next";
	if (!payload_is(entry.payload, message->size, message->number))
		return "an entry's payload has changed";
	message->ticket = native_ring_take(&both->consumer, &entry);
	model->taken++;
	if (message->wrapped)
		model->followed = true;
	model_advance(model);
	return NULL;
}

/* Releases the which-th of the borrowed entries, or is refused because that was done before. */
static inline const char *try_release(struct both *both, uint32_t which)
{
	struct message *message = &both->model.out[which];
	struct native_consumer before = both->consumer;
	bool again;
	int ret;

	if (which >= both->model.taken)
		return NULL;
	again = message->released;
	ret = native_ring_release(&both->consumer, message->position, message->size,
				  message->ticket);
	if (again && (ret != -EINVAL || memcmp(&before, &both->consumer, sizeof(before))))
		return "a second release was taken";
	if (!again && ret)
		return "a release was refused";
	message->released = true;
	model_advance(&both->model);
	return NULL;
}

static inline const char *publish(struct both *both)
{
	struct model *model = &both->model;
	uint32_t i, line;

	native_ring_publish_read(&both->consumer);
	model->read = model->released_to;
	memset(model->busy, 0, sizeof(model->busy));
	if (model->marker != NOWHERE)
		model->busy[model->marker / LINE] = true;
	for (i = 0; i < model->count; i++)
		for (line = 0; line < model->out[i].size; line += LINE)
			model->busy[(model->out[i].position + line) / LINE] = true;
	return NULL;
}

/* The whole ring: unreleased entries are as they were, all other heads are zero. */
static inline const char *check_all(const struct both *both)
{
	const struct model *model = &both->model;
	bool entry[MAX_LINES] = { false };
	uint32_t i, line;

	for (i = 0; i < model->count; i++) {
		const struct message *message = &model->out[i];

		if (message->released)
			continue;
		for (line = 0; line < message->size; line += LINE)
			entry[(message->position + line) / LINE] = true;
		if (line_head(both, message->position) !=
		    message_header(message->size, message->number) ||
		    !payload_is(both->ring->lines + message->position + FRAME_HEADER_SIZE,
				message->size, message->number))
			return "an entry that was not released has changed";
	}
	for (line = 0; line < both->capacity; line += LINE) {
		if (entry[line / LINE])
			continue;
		if (line_head(both, line) !=
		    (line == model->marker && !model->followed ? WRAP_MARKER : 0))
			return "the head of a free line is not zero";
	}
	if (shared_peek_u32(&both->ring->read) != model->read)
		return "the read index is another";
	if (shared_peek_u32(&both->ring->write) != model->cursor)
		return "the write index is another";
	if (native_ring_readable(&both->consumer) != (model->taken < model->count))
		return "readable says something else";
	return NULL;
}

/* Runs a step and compares; in a test. */
#define STEP(step) do {									\
	const char *wrong_ = (step);							\
	if (!wrong_)									\
		wrong_ = check_all(both);						\
	ASSERT_EQ(wrong_, NULL)								\
		TH_LOG("%s: %s (capacity %u, cursor %u)", #step, wrong_,		\
		       both->capacity, both->model.cursor);				\
} while (0)

#endif
