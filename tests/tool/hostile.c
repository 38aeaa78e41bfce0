/* SPDX-License-Identifier: MIT */
/*
 * hostile.c - for the tests: a sender that breaks one rule of a transfer.
 *
 *   hostile ADDRESS FAULT [NAME]
 *
 * Prints what the receiver answers. Exit status: 0 it stored the file, 1 it
 * refused, 3 it sent no answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <voxshm.h>

#include "transfer.h"

#define SECOND 1000000000ll

static struct voxshm_link *link_to_host;

static void send_message(const void *header, size_t header_size, const void *rest, size_t rest_size)
{
	static char message[256 << 10];

	memcpy(message, header, header_size);
	memcpy(message + header_size, rest, rest_size);
	voxshm_send(link_to_host, message, header_size + rest_size, 60 * SECOND);
}

static void send_begin(const char *fault, const char *name)
{
	struct transfer_begin begin = {
		.type = TRANSFER_BEGIN, .mode = 0644, .size = TRANSFER_SIZE_UNKNOWN,
		.name_size = (uint32_t)strlen(name),
	};
	char bytes[400];
	size_t cut = 0;

	snprintf(bytes, sizeof(bytes), "%s", name);
	if (strcmp(fault, "mode") == 0)
		begin.mode = 04755;
	if (strcmp(fault, "size") == 0)
		begin.size = TRANSFER_MAX_SIZE + 1;
	if (strcmp(fault, "reserved") == 0)
		begin.reserved = 1;
	if (strcmp(fault, "name-size") == 0)
		begin.name_size = UINT32_MAX;
	if (strcmp(fault, "long-name") == 0) {
		memset(bytes, 'x', 300);
		bytes[begin.name_size = 300] = '\0';
	}
	if (strcmp(fault, "zero-in-name") == 0)
		bytes[1] = '\0';
	if (strcmp(fault, "more") == 0)
		begin.size = 3;
	if (strcmp(fault, "less") == 0)
		begin.size = 100;
	if (strcmp(fault, "short-begin") == 0)
		cut = 2;
	send_message(&begin, sizeof(begin) - cut, bytes,
		     cut || begin.name_size > 300 ? 0 : begin.name_size);
}

static void send_data(const char *fault)
{
	struct transfer_data data = { .type = TRANSFER_DATA };
	static char large[100000];

	if (strcmp(fault, "gap") == 0)
		data.offset = 1;
	if (strcmp(fault, "type") == 0)
		data.type = TRANSFER_RESULT;
	if (strcmp(fault, "data-reserved") == 0)
		data.reserved = 1;
	if (strcmp(fault, "tiny") == 0)
		send_message("VX", 2, "", 0);
	if (strcmp(fault, "begin-twice") == 0)
		send_begin("", "twice");
	if (strcmp(fault, "large") == 0)
		send_message(&data, sizeof(data), large, sizeof(large));
	send_message(&data, sizeof(data), "four", strcmp(fault, "no-bytes") == 0 ? 0 : 4);
	data.offset = 0;
	if (strcmp(fault, "again") == 0)
		send_message(&data, sizeof(data), "four", 4);
}

static void send_abort(const char *fault)
{
	struct transfer_abort abort = { .type = TRANSFER_ABORT, .text_size = 9 };

	if (strcmp(fault, "abort-size") == 0)
		abort.text_size = 1000000;
	send_message(&abort, sizeof(abort), "\033[31mred\n", 9);
}

static void send_end(const char *fault)
{
	struct transfer_end end = { .type = TRANSFER_END, .total = 4 };
	struct digest *digest = digest_new();

	digest_update(digest, "four", 4);
	digest_final(digest, end.sha256);
	digest_free(digest);
	if (strcmp(fault, "sum") == 0)
		end.sha256[31] ^= 1;
	if (strcmp(fault, "total") == 0)
		end.total = 5;
	if (strcmp(fault, "end-reserved") == 0)
		end.reserved = 1;
	send_message(&end, sizeof(end) - (strcmp(fault, "short-end") == 0), "", 0);
}

/* Waits for the address to appear. */
static int connect_host(const char *address)
{
	const struct timespec nap = { .tv_nsec = 10000000 };
	int naps = 6000, result;

	while ((result = voxshm_guest_connect(&link_to_host, address, NULL, 60 * SECOND, NULL)) < 0 &&
	       naps--)
		nanosleep(&nap, NULL);
	return result;
}

int main(int argc, char **argv)
{
	const char *fault = argc > 2 ? argv[2] : "";
	struct transfer_result result = { .failed = 1 };
	struct voxshm_view view;
	int status = 3;

	if (argc < 3 || connect_host(argv[1]) < 0)
		return 2;
	send_begin(fault, argc > 3 ? argv[3] : "name");
	send_data(fault);
	if (strncmp(fault, "abort", 5) == 0)
		send_abort(fault);
	else
		send_end(fault);
	if (voxshm_recv(link_to_host, &view, 60 * SECOND) == 0 && view.size >= sizeof(result)) {
		memcpy(&result, view.data, sizeof(result));
		printf("%.*s\n", (int)result.text_size, (const char *)view.data + sizeof(result));
		status = result.failed ? 1 : 0;
	}
	voxshm_link_close(link_to_host);
	return status;
}
