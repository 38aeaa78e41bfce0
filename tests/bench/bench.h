/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the words of the benchmark.
 *
 * A transport is a way to pass messages from one process to another; a pair is
 * two pinned processes joined by one (pair.h); a cell is one transport measured
 * with one size of message (cells.c); a row is what a table shows of it.
 */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE 64u
#define BATCH 16u
#define BATCH_MAX_SIZE 4096u	/* of messages that are sent in batches */
#define KI 1024u
#define MI (1024u * 1024u)

struct histogram;
struct pair_control;

/* What a pair can be asked to do; bits. */
enum job {
	JOB_TRIPS = 1,		/* there and back, each timed */
	JOB_STREAM = 2,		/* one way, as fast as it goes */
	JOB_BATCHES = 4,	/* the same, BATCH messages with one call */
};

/* What a pair is measured with. */
struct shape {
	size_t size;		/* bytes of a message, at least 8 */
	size_t ring;		/* bytes of a ring, where there is one */
	unsigned int guests;	/* on one host, where that matters */
};

/* One of the two processes. The first leads: it sends first, and measures. */
struct side {
	const struct transport *transport;
	struct pair_control *control;
	bool leads;
	size_t size, ring;
	unsigned int guests;
	uint64_t sent, received;	/* messages; also what their words say */
	void *buffer;		/* private: a message; BATCH of them up to BATCH_MAX_SIZE */
	void *state;		/* the transport's */
	int in, out;
};

/*
 * prepare() is called once in the bench itself, before the first pair is made;
 * open() is called in the first process before the second is forked from it,
 * join() then in each. They return NULL, or a sentence that says why not.
 */
struct transport {
	const char *name;
	const char *family;	/* "limit", "voxshm", "peer" */
	unsigned int jobs;
	size_t max_size;	/* 0: no limit */
	uint64_t min_count;	/* messages in one turn; 0: a few */
	int variant;
	const char *(*prepare)(void);
	const char *(*open)(struct side *side);
	const char *(*join)(struct side *side);
	void (*close)(struct side *side);
	/* The leading side and the other, for each job. */
	void (*trips)(struct side *side, uint64_t count, struct histogram *histogram);
	void (*echo)(struct side *side, uint64_t count);
	void (*stream)(struct side *side, uint64_t count);
	void (*sink)(struct side *side, uint64_t count);
	void (*stream_batches)(struct side *side, uint64_t count);
	void (*sink_batches)(struct side *side, uint64_t count);
};

/* Ends the pair: the cell gets the reason instead of a figure. */
void side_fail(struct side *side, const char *what, int error) __attribute__((noreturn));

/* One word of each line of a payload. */
static inline void payload_fill(void *data, size_t size, uint64_t value)
{
	size_t at;

	for (at = 0; at + sizeof(value) <= size; at += LINE)
		memcpy((char *)data + at, &value, sizeof(value));
}

static inline void payload_check(struct side *side, const void *data, uint64_t value)
{
	uint64_t found;
	size_t at;

	for (at = 0; at + sizeof(found) <= side->size; at += LINE) {
		memcpy(&found, (const char *)data + at, sizeof(found));
		if (__builtin_expect(found != value, 0))
			side_fail(side, "a message came damaged", EBADMSG);
	}
}

static inline void *batch_buffer(const struct side *side, unsigned int index)
{
	return (char *)side->buffer + index * side->size;
}

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The cheapest clock there is; ticks_ns() says how long one tick takes. */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

double ticks_ns(void);

/* Runs this thread on one of the processors that the benchmark may use, 0 or 1. */
void pin(unsigned int which);
int pin_processor(unsigned int which);

/* All transports, in the order in which they are measured. NULL ends the list. */
extern const struct transport *const transports[];

extern const struct transport limit_one_line, limit_two_lines, limit_flag_copy, limit_memcpy,
	limit_index_ring, limit_sequence_ring, limit_sequence_ring_in_place;
extern const struct transport voxshm_copy, voxshm_loan_spinning, voxshm_untouched,
	voxshm_adaptive, voxshm_sleeping, voxshm_loan_sleeping, voxshm_vox, voxshm_bursts;
extern const struct transport crowd_one_busy, crowd_in_turn, crowd_ready, crowd_processes;
extern const struct transport peer_pipe, peer_pipe_spinning, peer_stream, peer_seqpacket,
	peer_eventfd, peer_futex, peer_mq, peer_zeromq, peer_nng, peer_iceoryx;

#endif
