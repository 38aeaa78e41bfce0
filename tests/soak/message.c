// SPDX-License-Identifier: MIT
/* message.c - sizes and bytes of messages; see message.h. */
#include "link/basics.h"
#include "soak/message.h"

struct header {
	uint64_t checksum;	/* of the bytes behind the header, as they must be */
	uint64_t number;
	uint32_t guest, life;
	uint32_t from_host, size;
};

struct stream stream_new(uint64_t seed, uint32_t guest, uint32_t life, bool from_host)
{
	uint64_t key = mix(seed) ^ (uint64_t)guest << 33 ^ (uint64_t)life << 1 ^ from_host;

	return (struct stream){
		.key = mix(key), .guest = guest, .life = life, .from_host = from_host,
	};
}

size_t message_largest(void)
{
	return slowness() > 1 ? 1 * MIB : 3 * MIB;
}

/* Most are small; of a thousand one may be as large as there is room for. */
size_t message_size(const struct stream *stream, uint64_t number)
{
	uint64_t random = mix(stream->key + number * 2);
	uint32_t kind = random % 1000;

	random >>= 32;
	if (kind < 50)
		return 0;
	if (kind < 600)
		return random % 65;
	if (kind < 850)
		return random % 1200;
	if (kind < 960)
		return random % (16 * KIB);
	if (kind < 995)
		return random % (64 * KIB);
	if (kind < 999)
		return random % (400 * KIB);
	return random % message_largest();
}

static uint64_t bytes_seed(const struct stream *stream, uint64_t number)
{
	return mix(stream->key + number * 2 + 1);
}

static uint64_t checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint64_t sum = size, word;
	size_t i;

	for (i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		sum = (sum << 7 | sum >> 57) + word;
	}
	for (; i < size; i++)
		sum = (sum << 7 | sum >> 57) + bytes[i];
	return sum;
}

void message_write(const struct stream *stream, uint64_t number, void *data)
{
	size_t size = message_size(stream, number);
	struct header header = {
		.number = number, .guest = stream->guest, .life = stream->life,
		.from_host = stream->from_host, .size = (uint32_t)size,
	};
	uint8_t *body = data;

	if (size < sizeof(header)) {
		pattern_fill(data, size, bytes_seed(stream, number));
		return;
	}
	body += sizeof(header);
	size -= sizeof(header);
	pattern_fill(body, size, bytes_seed(stream, number));
	header.checksum = checksum(body, size);
	memcpy(data, &header, sizeof(header));
}

bool message_is(const struct stream *stream, uint64_t number, const void *data, size_t size)
{
	uint64_t seed = bytes_seed(stream, number);
	const uint8_t *body = data;
	struct header header;

	if (size != message_size(stream, number))
		return false;
	if (size < sizeof(header))
		return pattern_is(data, size, seed);
	memcpy(&header, data, sizeof(header));
	body += sizeof(header);
	size -= sizeof(header);
	return header.number == number && header.guest == stream->guest &&
	       header.life == stream->life && header.from_host == stream->from_host &&
	       header.checksum == checksum(body, size) && pattern_is(body, size, seed);
}

bool message_is_next(const struct stream *stream, const void *data, size_t size, char *text,
		     size_t text_size)
{
	struct header header = { 0 };

	if (message_is(stream, stream->next, data, size))
		return true;
	if (size >= sizeof(header))
		memcpy(&header, data, sizeof(header));
	snprintf(text, text_size,
		 "message %" PRIu64 " of %zu bytes was expected, %zu bytes came; their header says "
		 "guest %u, life %u, from the %s, number %" PRIu64 ", %u bytes",
		 stream->next, message_size(stream, stream->next), size, header.guest, header.life,
		 header.from_host ? "host" : "guest", header.number, header.size);
	return false;
}
