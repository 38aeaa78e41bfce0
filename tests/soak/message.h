/* SPDX-License-Identifier: MIT */
/*
 * message.h - what is sent: every byte follows from whose message it is.
 *
 * A stream is one direction of one life of a guest. Size and content of its
 * messages are a function of the run's seed, the guest's number, its life, the
 * direction and the message's number, so that the receiver knows each byte that
 * must come. Those with room for it begin with a header that says the same for
 * people.
 */
#ifndef SOAK_MESSAGE_H
#define SOAK_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream {
	uint64_t key;
	uint64_t next;		/* number of the next message, from 0 */
	uint32_t guest, life;
	uint32_t from_host;
};

struct stream stream_new(uint64_t seed, uint32_t guest, uint32_t life, bool from_host);

/* The largest that there is; a slow machine gets smaller ones. */
size_t message_largest(void);

size_t message_size(const struct stream *stream, uint64_t number);
void message_write(const struct stream *stream, uint64_t number, void *data);

/* Is it the next one, whole? If not, the text says what came. */
bool message_is_next(const struct stream *stream, const void *data, size_t size, char *text,
		     size_t text_size);

/* Are the bytes of an older one, borrowed since, still its bytes? */
bool message_is(const struct stream *stream, uint64_t number, const void *data, size_t size);

#endif
