/* SPDX-License-Identifier: MIT */
/*
 * loops.h - the loops around a transport's send and recv.
 *
 * They are made anew for each transport, with its functions inlined: a bare
 * limit must not pay for a call through a pointer.
 */
#ifndef LOOPS_H
#define LOOPS_H

#include "bench.h"
#include "histogram.h"

typedef void message_fn(struct side *side, uint64_t value);

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void loop_trips(struct side *side, uint64_t count, struct histogram *histogram,
			      message_fn *send, message_fn *recv)
{
	uint64_t before = ticks(), after;

	while (count--) {
		send(side, side->sent++);
		recv(side, side->received++);
		after = ticks();
		histogram_add(histogram, after - before);
		before = after;
	}
}

ALWAYS_INLINE void loop_echo(struct side *side, uint64_t count, message_fn *send,
			     message_fn *recv)
{
	while (count--) {
		recv(side, side->received++);
		send(side, side->sent++);
	}
}

ALWAYS_INLINE void loop_send(struct side *side, uint64_t count, message_fn *send)
{
	while (count--)
		send(side, side->sent++);
}

ALWAYS_INLINE void loop_recv(struct side *side, uint64_t count, message_fn *recv)
{
	while (count--)
		recv(side, side->received++);
}

#define DEFINE_TRIPS(prefix, send, recv) \
	static void prefix##_trips(struct side *side, uint64_t count, struct histogram *histogram) \
	{ \
		loop_trips(side, count, histogram, send, recv); \
	} \
	static void prefix##_echo(struct side *side, uint64_t count) \
	{ \
		loop_echo(side, count, send, recv); \
	}

#define DEFINE_STREAM(prefix, send, recv) \
	static void prefix##_stream(struct side *side, uint64_t count) \
	{ \
		loop_send(side, count, send); \
	} \
	static void prefix##_sink(struct side *side, uint64_t count) \
	{ \
		loop_recv(side, count, recv); \
	}

#define USE_TRIPS(prefix) .trips = prefix##_trips, .echo = prefix##_echo
#define USE_STREAM(prefix) .stream = prefix##_stream, .sink = prefix##_sink

#endif
