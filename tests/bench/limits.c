/* SPDX-License-Identifier: MIT */
/*
 * limits.c - what the machine itself allows: bare lines that bounce between the
 * processors, a flag beside a copied payload, memcpy.
 */
#include <sys/mman.h>

#include "loops.h"

/*
 * What both sides map; the area of each direction lies behind. How long a line
 * takes depends on where it lies, so each turn takes another place.
 */
#define PLACES 61

struct shared_lines {
	struct {
		_Alignas(2 * LINE) _Atomic uint64_t value;
	} line[PLACES][2];
	_Alignas(LINE) uint8_t area[];
};

struct lines {
	struct shared_lines *shared;
	_Atomic uint64_t *mine, *theirs;
	unsigned int turns;
	uint8_t *out, *in;
	size_t area, at;
};

static size_t area_size(const struct side *side)
{
	size_t size = (side->size + LINE - 1) & ~(size_t)(LINE - 1);

	/* memcpy goes round an area as large as a ring. */
	if (side->transport == &limit_memcpy && size < side->ring)
		size = side->ring - side->ring % size;
	return size;
}

static const char *lines_open(struct side *side)
{
	size_t size = sizeof(struct shared_lines) + 2 * area_size(side);

	side->state = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return side->state == MAP_FAILED ? "cannot map memory" : NULL;
}

static const char *lines_join(struct side *side)
{
	struct shared_lines *shared = side->state;
	struct lines *lines = calloc(1, sizeof(*lines));

	if (!lines)
		return "no memory";
	lines->area = area_size(side);
	lines->shared = shared;
	lines->out = shared->area + (side->leads ? 0 : lines->area);
	lines->in = shared->area + (side->leads ? lines->area : 0);
	side->state = lines;
	return NULL;
}

static void next_place(struct side *side)
{
	struct lines *lines = side->state;
	unsigned int place = lines->turns++ * 17 % PLACES;

	lines->mine = &lines->shared->line[place][!side->leads].value;
	lines->theirs = &lines->shared->line[place][side->leads].value;
	if (side->transport == &limit_one_line)
		lines->mine = lines->theirs = &lines->shared->line[place][0].value;
}

static inline void await_line(_Atomic uint64_t *line, uint64_t value)
{
	while (atomic_load_explicit(line, memory_order_acquire) != value)
		spin_pause();
}

/* One line: it says whose turn it is. */
static inline void one_send(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	atomic_store_explicit(lines->mine, 2 * value + 1 + !side->leads, memory_order_release);
}

static inline void one_recv(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	await_line(lines->theirs, 2 * value + 1 + side->leads);
}

static inline void two_send(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	atomic_store_explicit(lines->mine, value + 1, memory_order_release);
}

static inline void two_recv(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	await_line(lines->theirs, value + 1);
}

static inline void flag_send(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	payload_fill(side->buffer, side->size, value);
	memcpy(lines->out, side->buffer, side->size);
	two_send(side, value);
}

static inline void flag_recv(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	two_recv(side, value);
	payload_check(side, lines->in, value);
}

/* Nobody reads: the copy alone. */
static inline void memcpy_send(struct side *side, uint64_t value)
{
	struct lines *lines = side->state;

	payload_fill(side->buffer, side->size, value);
	memcpy(lines->out + lines->at, side->buffer, side->size);
	lines->at += (side->size + LINE - 1) & ~(size_t)(LINE - 1);
	if (lines->at == lines->area)
		lines->at = 0;
}

static inline void memcpy_recv(struct side *side, uint64_t value)
{
	(void)side;
	(void)value;
}

#define DEFINE_PLACED_TRIPS(prefix, send, recv) \
	DEFINE_TRIPS(prefix##_placed, send, recv) \
	static void prefix##_trips(struct side *side, uint64_t count, struct histogram *histogram) \
	{ \
		next_place(side); \
		prefix##_placed_trips(side, count, histogram); \
	} \
	static void prefix##_echo(struct side *side, uint64_t count) \
	{ \
		next_place(side); \
		prefix##_placed_echo(side, count); \
	}

DEFINE_PLACED_TRIPS(one, one_send, one_recv)
DEFINE_PLACED_TRIPS(two, two_send, two_recv)
DEFINE_PLACED_TRIPS(flag, flag_send, flag_recv)
DEFINE_STREAM(copy, memcpy_send, memcpy_recv)

const struct transport limit_one_line = {
	.name = "one shared line", .family = "limit", .jobs = JOB_TRIPS, .max_size = LINE,
	.open = lines_open, .join = lines_join, USE_TRIPS(one),
};

const struct transport limit_two_lines = {
	.name = "two shared lines", .family = "limit", .jobs = JOB_TRIPS, .max_size = LINE,
	.open = lines_open, .join = lines_join, USE_TRIPS(two),
};

const struct transport limit_flag_copy = {
	.name = "flag and copied payload", .family = "limit", .jobs = JOB_TRIPS,
	.open = lines_open, .join = lines_join, USE_TRIPS(flag),
};

const struct transport limit_memcpy = {
	.name = "memcpy alone", .family = "limit", .jobs = JOB_STREAM,
	.open = lines_open, .join = lines_join, USE_STREAM(copy),
};
