/* SPDX-License-Identifier: MIT */
/*
 * incoming.c - the receiving end of transfers from one sender; see incoming.h.
 *
 * Headers are copied out before they are looked at, so what was checked is
 * what is used.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "incoming.h"

int incoming_init(struct incoming *incoming)
{
	*incoming = (struct incoming){ .output = { .fd = -1, .folder = -1 } };
	incoming->digest = digest_new();
	return incoming->digest ? 0 : -1;
}

void incoming_deinit(struct incoming *incoming)
{
	output_discard(&incoming->output);
	digest_free(incoming->digest);
	incoming->digest = NULL;
}

static void end(struct incoming *incoming)
{
	incoming->active = false;
	incoming->seconds = seconds_since(incoming->start);
}

/* With the problem already set. */
static enum incoming_step give_up(struct incoming *incoming)
{
	uint8_t unused[DIGEST_SIZE];

	output_discard(&incoming->output);
	digest_final(incoming->digest, unused);
	end(incoming);
	return INCOMING_FAILED;
}

void incoming_fail(struct incoming *incoming, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(incoming->problem.text, sizeof(incoming->problem.text), format, arguments);
	va_end(arguments);
	give_up(incoming);
}

static enum incoming_step reject(struct incoming *incoming, const char *what)
{
	problem_set(&incoming->problem, "the sender does not keep to the rules of a transfer: %s",
		    what);
	return give_up(incoming);
}

static enum incoming_step begin(struct incoming *incoming, const struct destination *destination,
				const uint8_t *data, size_t size)
{
	struct transfer_begin header;
	char name[TRANSFER_MAX_NAME + 1] = "";

	incoming->received = incoming->messages = 0;
	incoming->gave_up = false;
	incoming->start = now_ns();
	incoming->name[0] = '\0';
	incoming->announced = TRANSFER_SIZE_UNKNOWN;
	if (size < sizeof(header))
		return reject(incoming, "the beginning is cut short");
	memcpy(&header, data, sizeof(header));
	if (header.reserved || header.mode > 0777 || header.name_size > TRANSFER_MAX_NAME ||
	    (header.size > TRANSFER_MAX_SIZE && header.size != TRANSFER_SIZE_UNKNOWN))
		return reject(incoming, "a field of the beginning is out of range");
	if (size != sizeof(header) + header.name_size)
		return reject(incoming, "the beginning has the wrong size");
	memcpy(name, data + sizeof(header), header.name_size);
	if (memchr(name, 0, header.name_size))
		return reject(incoming, "the name has a zero byte");
	clean_text(incoming->name, sizeof(incoming->name), name, header.name_size, '_');
	incoming->mode = header.mode;
	incoming->announced = header.size;
	if (output_open(&incoming->output, destination, name, &incoming->problem) < 0)
		return give_up(incoming);
	incoming->active = true;
	incoming->messages = 1;
	return INCOMING_BEGUN;
}

static enum incoming_step data_message(struct incoming *incoming, const uint8_t *data, size_t size)
{
	struct transfer_data header;
	uint64_t most = incoming->announced;

	if (most == TRANSFER_SIZE_UNKNOWN)
		most = TRANSFER_MAX_SIZE;
	if (size <= sizeof(header))
		return reject(incoming, "a piece without bytes");
	memcpy(&header, data, sizeof(header));
	data += sizeof(header);
	size -= sizeof(header);
	if (header.reserved || header.offset != incoming->received)
		return reject(incoming, "a piece is out of place");
	if (size > most - incoming->received)
		return reject(incoming, "there is more than was announced");
	digest_update(incoming->digest, data, size);
	if (output_write(&incoming->output, data, size, &incoming->problem) < 0)
		return give_up(incoming);
	incoming->received += size;
	return INCOMING_MORE;
}

static enum incoming_step end_message(struct incoming *incoming, const uint8_t *data, size_t size)
{
	struct transfer_end header;

	if (size != sizeof(header))
		return reject(incoming, "the end has the wrong size");
	memcpy(&header, data, sizeof(header));
	if (header.reserved || header.total != incoming->received ||
	    (incoming->announced != TRANSFER_SIZE_UNKNOWN && header.total != incoming->announced))
		return reject(incoming, "bytes are missing");
	digest_final(incoming->digest, incoming->sha256);
	if (memcmp(header.sha256, incoming->sha256, DIGEST_SIZE) != 0)
		return reject(incoming, "the checksum is wrong");
	if (output_finish(&incoming->output, incoming->mode, &incoming->problem) < 0)
		return give_up(incoming);
	end(incoming);
	return INCOMING_STORED;
}

static enum incoming_step abort_message(struct incoming *incoming, const uint8_t *data, size_t size)
{
	struct transfer_abort header;
	char text[TRANSFER_MAX_TEXT + 1];

	if (size < sizeof(header))
		return reject(incoming, "giving up is cut short");
	memcpy(&header, data, sizeof(header));
	if (header.text_size > TRANSFER_MAX_TEXT || size != sizeof(header) + header.text_size)
		return reject(incoming, "giving up has the wrong size");
	clean_text(text, sizeof(text), data + sizeof(header), header.text_size, '.');
	incoming->gave_up = true;
	problem_set(&incoming->problem, "the sender gave up: %s", text);
	return give_up(incoming);
}

enum incoming_step incoming_feed(struct incoming *incoming,
				 const struct destination *destination, const void *data,
				 size_t size)
{
	uint32_t type = 0;

	if (size >= sizeof(type))
		memcpy(&type, data, sizeof(type));
	if (!incoming->active) {
		if (type == TRANSFER_BEGIN)
			return begin(incoming, destination, data, size);
		return INCOMING_PLAIN;
	}
	incoming->messages++;
	switch (type) {
	case TRANSFER_DATA:
		return data_message(incoming, data, size);
	case TRANSFER_END:
		return end_message(incoming, data, size);
	case TRANSFER_ABORT:
		return abort_message(incoming, data, size);
	default:
		return reject(incoming, "a message that does not belong to it");
	}
}

size_t incoming_result(const struct incoming *incoming, enum incoming_step step, void *message)
{
	struct transfer_result header = {
		.type = TRANSFER_RESULT,
		.failed = step != INCOMING_STORED,
		.total = incoming->received,
	};

	if (header.failed)
		header.text_size = (uint32_t)strnlen(incoming->problem.text, TRANSFER_MAX_TEXT);
	else
		memcpy(header.sha256, incoming->sha256, DIGEST_SIZE);
	memcpy(message, &header, sizeof(header));
	memcpy((char *)message + sizeof(header), incoming->problem.text, header.text_size);
	return sizeof(header) + header.text_size;
}
