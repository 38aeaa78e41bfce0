/* SPDX-License-Identifier: MIT */
/*
 * side.h - one end of a link, with what it has sent, received and still holds.
 *
 * Victims and survivors use the same. What is exchanged is written as a word
 * with a letter for each message:
 *
 *	e empty	i inline	w inline, large
 *	s slot	b slot, large	m mapping
 *
 * A capital is a message that its receiver keeps until it is told to let go.
 * Behind a '|' stands what the receiver leaves unread.
 */
#ifndef SIDE_H
#define SIDE_H

#include <ctype.h>
#include <stdarg.h>

#include "link/processes.h"

#define MAX_HELD 16u
#define SLOT_SMALL 512u
#define SLOT_LARGE 1024u
#define LARGEST_MESSAGE 2048u

/* The first thing that was wrong with a run. */
static char complaint[512];

static inline __attribute__((format(printf, 1, 2))) bool complain(const char *format, ...)
{
	va_list arguments;

	if (*complaint)
		return false;
	va_start(arguments, format);
	vsnprintf(complaint, sizeof(complaint), format, arguments);
	va_end(arguments);
	return false;
}

/* Return: the condition. */
static inline __attribute__((format(printf, 2, 3))) bool holds(bool condition, const char *format,
							       ...)
{
	va_list arguments;

	if (condition || *complaint)
		return condition;
	va_start(arguments, format);
	vsnprintf(complaint, sizeof(complaint), format, arguments);
	va_end(arguments);
	return false;
}

/* How long calls of survivors take ---------------------------------------------------- */

/* Far more than any of them needs, far less than for ever. */
#define BOUND (5 * SECOND * slowness())

static int64_t longest_call;
static const char *longest_call_name = "";

static inline bool call_ended(const char *name, int64_t began)
{
	int64_t took = now_ns() - began;

	if (took > longest_call) {
		longest_call = took;
		longest_call_name = name;
	}
	return holds(took < BOUND, "%s took %lld ms", name, (long long)(took / MS));
}

/* The value of a call, whose time counts. */
#define TIMED(call) ({									\
	int64_t began_ = now_ns();							\
	__auto_type value_ = (call);							\
	call_ended(#call, began_);							\
	value_;										\
})

/* Messages ----------------------------------------------------------------------------- */

struct held {
	struct voxshm_view view;
	uint64_t seed;
	size_t size;
	char kind;
};

struct side {
	struct voxshm_link *link;
	uint64_t seed_out, seed_in;
	unsigned int sent, received;
	struct held held[MAX_HELD];
	unsigned int num_held;
	struct voxshm_loan loan, second_loan;
};

static inline size_t message_size(char kind, unsigned int number)
{
	switch (tolower(kind)) {
	case 'i':
		return 8 + 16 * (number % 8);
	case 'w':
		return 240;
	case 's':
		return 300 + 8 * (number % 16);
	case 'b':
		return 700 + number % 64;
	case 'm':
		return 1500 + number % 64;
	default:
		return 0;
	}
}

static inline bool side_send(struct side *side, char kind, int64_t timeout)
{
	uint8_t data[LARGEST_MESSAGE];
	size_t size = message_size(kind, side->sent);
	int ret;

	pattern_fill(data, size, side->seed_out + side->sent);
	ret = TIMED(voxshm_send(side->link, data, size, timeout));
	if (ret)
		return complain("send of message %u (%c): %d", side->sent, kind, ret);
	side->sent++;
	return true;
}

/* What was received last is message number received - 1. */
static inline bool side_check(const struct side *side, const struct held *held)
{
	return holds(held->view.size == held->size, "message %u has %zu bytes, not %zu",
		     (unsigned int)(held->seed - side->seed_in), held->view.size, held->size) &&
	       holds(pattern_is(held->view.data, held->size, held->seed),
		     "message %u has wrong bytes", (unsigned int)(held->seed - side->seed_in));
}

/* A view that was just received, of a message that must be the next one. */
static inline bool side_take(struct side *side, char kind, struct voxshm_view view)
{
	struct held held = {
		.view = view,
		.seed = side->seed_in + side->received,
		.size = message_size(kind, side->received),
		.kind = kind,
	};
	bool right = side_check(side, &held);

	side->received++;
	if (right && isupper(kind)) {
		REQUIRE(side->num_held < MAX_HELD);
		side->held[side->num_held++] = held;
		return true;
	}
	return holds(TIMED(voxshm_release(side->link, &view)) == 0, "release was refused") && right;
}

static inline bool side_receive(struct side *side, char kind, int64_t timeout)
{
	struct voxshm_view view;
	int ret = TIMED(voxshm_recv(side->link, &view, timeout));

	return holds(ret == 0, "recv of message %u (%c): %d", side->received, kind, ret) &&
	       side_take(side, kind, view);
}

/* Do the messages that are held still have their bytes? */
static inline bool side_check_held(const struct side *side)
{
	unsigned int i;

	for (i = 0; i < side->num_held; i++)
		if (!side_check(side, &side->held[i]))
			return false;
	return true;
}

/* Lets go of what is held: of inline messages, or of all. */
static inline bool side_release(struct side *side, bool all)
{
	unsigned int i, kept = 0;
	bool right = true;

	for (i = 0; i < side->num_held; i++) {
		struct held *held = &side->held[i];

		if (!all && !strchr("EIW", held->kind))
			side->held[kept++] = *held;
		else
			right &= holds(TIMED(voxshm_release(side->link, &held->view)) == 0,
				       "release of a held message was refused");
	}
	side->num_held = kept;
	return right;
}

/* The messages of a word: up to the '|', or all. */
static inline size_t read_part(const char *word)
{
	return strcspn(word, "|");
}

/* A word's messages, without the '|', appended to a string of kinds. */
static inline void append_kinds(char *kinds, size_t room, const char *word)
{
	size_t length = strlen(kinds);

	for (; *word; word++)
		if (*word != '|') {
			REQUIRE(length + 1 < room);
			kinds[length++] = *word;
		}
	kinds[length] = '\0';
}

#endif
