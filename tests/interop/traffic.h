/* SPDX-License-Identifier: MIT */
/*
 * traffic.h - messages whose sizes and bytes both sides compute from a seed;
 * src/traffic.rs is the same in Rust.
 *
 * Whoever receives compares every byte, and both sides add up a checksum over
 * all messages, which the test compares.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <voxshm.h>

#define KIB 1024u
#define MIB (1024u * 1024u)
#define SECOND 1000000000ll
/* Longer than anything that works takes, also on a busy machine. */
#define PATIENCE (60 * SECOND)
#define MANY 100000u

/*
 * `count` messages of up to `max` bytes. Each `every` one (0: none) is larger,
 * the first of these exactly `large` bytes; 1: all are.
 */
struct traffic {
	uint64_t seed, count, max, every, large;
};

#define TRAFFIC_FORMAT "%ju %ju %ju %ju %ju"
#define TRAFFIC_WORDS(traffic) (uintmax_t)(traffic)->seed, (uintmax_t)(traffic)->count, \
	(uintmax_t)(traffic)->max, (uintmax_t)(traffic)->every, (uintmax_t)(traffic)->large

struct digest {
	uint64_t hash, messages, bytes;
};

static inline uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15ull;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline size_t traffic_size(const struct traffic *traffic, uint64_t index)
{
	uint64_t random = mix(~(traffic->seed + index));
	uint64_t kind = random % 1000;

	random >>= 32;
	if (traffic->every && index % traffic->every == traffic->every - 1)
		return index / traffic->every == 0 || traffic->every == 1 ? traffic->large :
			traffic->max + 1 + random % smaller(MIB, traffic->large - traffic->max);
	if (kind < 700)
		return smaller(random % 65, traffic->max);
	if (kind < 940)
		return random % (smaller(traffic->max, 1200) + 1);
	return random % (traffic->max + 1);
}

static inline void traffic_fill(const struct traffic *traffic, uint64_t index, void *data,
				size_t size)
{
	uint64_t word = mix(traffic->seed + index);
	uint8_t *bytes = data;
	size_t i;

	for (i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		memcpy(bytes + i, &word, sizeof(word));
		word = word * 5 + 0x2545f4914f6cdd1dull;
	}
	if (i < size)
		memcpy(bytes + i, &word, size - i);
}

/* Are these the bytes of that message? Says so when not. */
static inline bool traffic_check(const struct traffic *traffic, uint64_t index, const void *data,
				 size_t size)
{
	uint64_t word = mix(traffic->seed + index);
	const uint8_t *bytes = data;
	size_t i, step;

	if (size != traffic_size(traffic, index)) {
		fprintf(stderr, "# message %ju has %zu bytes, not %zu\n", (uintmax_t)index, size,
			traffic_size(traffic, index));
		return false;
	}
	for (i = 0; i < size; i += step) {
		step = smaller(size - i, sizeof(word));
		if (memcmp(bytes + i, &word, step)) {
			fprintf(stderr, "# message %ju is damaged at byte %zu\n",
				(uintmax_t)index, i);
			return false;
		}
		word = word * 5 + 0x2545f4914f6cdd1dull;
	}
	return true;
}

static inline void digest_add(struct digest *digest, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t i;

	digest->hash = mix(digest->hash ^ size);
	for (i = 0; i < size; i += sizeof(uint64_t)) {
		uint64_t word = 0;

		memcpy(&word, bytes + i, smaller(size - i, sizeof(word)));
		word = (digest->hash ^ word) * 0x9e3779b97f4a7c15ull;
		digest->hash = word << 29 | word >> 35;
	}
	digest->messages++;
	digest->bytes += size;
}

/* As the crate's side writes it. */
static inline const char *digest_text(const struct digest *digest, char text[128])
{
	snprintf(text, 128, "%ju messages %ju bytes %016jx", (uintmax_t)digest->messages,
		 (uintmax_t)digest->bytes, (uintmax_t)digest->hash);
	return text;
}

/* Room for the largest message; a thread's own. */
static inline void *traffic_buffer(const struct traffic *traffic)
{
	void *buffer = malloc(traffic->max + traffic->large + 1);

	if (!buffer)
		abort();
	return buffer;
}

/* Sends all; digest may be NULL. Return: 0 or the first error. */
static inline int traffic_send(struct voxshm_link *link, const struct traffic *traffic,
			       struct digest *digest)
{
	void *buffer = traffic_buffer(traffic);
	uint64_t i;
	int ret = 0;

	for (i = 0; i < traffic->count && ret == 0; i++) {
		size_t size = traffic_size(traffic, i);

		traffic_fill(traffic, i, buffer, size);
		ret = voxshm_send(link, buffer, size, PATIENCE);
		if (ret == 0 && digest)
			digest_add(digest, buffer, size);
	}
	if (ret)
		fprintf(stderr, "# sending message %ju: %s\n", (uintmax_t)i - 1, strerror(-ret));
	free(buffer);
	return ret;
}

#define MAX_HELD 64u

/*
 * How a receiver behaves: it keeps the last `hold` (at most MAX_HELD) messages
 * borrowed and gives them back in any order; after each `pause` messages (0:
 * none) it sleeps for a millisecond.
 */
struct manner {
	unsigned int hold, pause;
};

/* Receives all. Return: 0, -ENOMSG for wrong bytes, or the first error. */
static inline int traffic_recv(struct voxshm_link *link, const struct traffic *traffic,
			       struct manner manner, struct digest *digest)
{
	struct { struct voxshm_view view; uint64_t index; } held[MAX_HELD + 1], *old;
	unsigned int num_held = 0;
	uint64_t i;
	int ret = 0;

	for (i = 0; ret == 0 && (i < traffic->count || num_held); i++) {
		if (i < traffic->count) {
			struct voxshm_view *view = &held[num_held].view;

			ret = voxshm_recv(link, view, PATIENCE);
			if (ret) {
				fprintf(stderr, "# receiving message %ju: %s\n", (uintmax_t)i,
					strerror(-ret));
				break;
			}
			held[num_held++].index = i;
			if (digest)
				digest_add(digest, view->data, view->size);
			if (manner.pause && i % manner.pause == manner.pause - 1)
				usleep(1000);
			if (num_held <= manner.hold)
				continue;
		}
		old = &held[mix(i) % num_held];
		if (!traffic_check(traffic, old->index, old->view.data, old->view.size))
			ret = -ENOMSG;
		if (voxshm_release(link, &old->view))
			ret = -EINVAL;
		*old = held[--num_held];
	}
	return ret;
}

#endif
