/* SPDX-License-Identifier: MIT */
/*
 * count - passes messages between two ends of a link in one process, for
 * callgrind, which run.sh tells what calls to count: count OPERATION SIZE TIMES.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "voxshm.h"

#define MAX_SIZE 4096
#define BATCH 16

static struct voxshm_link *sender, *receiver;
static char payload[MAX_SIZE];

static void require(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "count: %s\n", what);
	exit(1);
}

static void connect_ends(void)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_host *host;
	int ticket;

	config.backend = VOXSHM_BACKEND_FILE;
	config.inline_threshold = 2 * MAX_SIZE;
	require(voxshm_host_new(&host, &config, NULL) == 0, "host");
	require(voxshm_host_ticket(host, &ticket, &receiver, NULL) == 0, "ticket");
	require(voxshm_guest_claim(&sender, ticket, NULL) == 0, "claim");
}

static void take(size_t size)
{
	struct voxshm_view view;

	require(voxshm_recv(receiver, &view, 0) == 0, "recv");
	require(view.size == size && memcmp(view.data, payload, size) == 0, "payload");
	require(voxshm_release(receiver, &view) == 0, "release");
}

static void copy(size_t size)
{
	require(voxshm_send(sender, payload, size, 0) == 0, "send");
	take(size);
}

static void loan(size_t size)
{
	struct voxshm_loan loan;

	require(voxshm_loan(sender, size, &loan, 0) == 0, "loan");
	memcpy(loan.data, payload, size);
	require(voxshm_commit(sender, &loan, size, 0) == 0, "commit");
	take(size);
}

static void batch(size_t size)
{
	struct iovec messages[BATCH];
	struct voxshm_view views[BATCH];
	int i;

	for (i = 0; i < BATCH; i++)
		messages[i] = (struct iovec){ payload, size };
	require(voxshm_send_batch(sender, messages, BATCH, 0) == BATCH, "send_batch");
	require(voxshm_recv_batch(receiver, views, BATCH, 0) == BATCH, "recv_batch");
	for (i = 0; i < BATCH; i++) {
		require(memcmp(views[i].data, payload, size) == 0, "payload");
		require(voxshm_release(receiver, &views[i]) == 0, "release");
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(size_t size);
	} operations[] = { { "copy", copy }, { "loan", loan }, { "batch", batch } };
	size_t size, i;
	int times;

	require(argc == 4, "usage: count copy|loan|batch SIZE TIMES");
	size = strtoul(argv[2], NULL, 10);
	times = atoi(argv[3]);
	require(size <= MAX_SIZE, "size");
	memset(payload, 0x5a, sizeof(payload));
	connect_ends();
	for (i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
		if (strcmp(operations[i].name, argv[1]))
			continue;
		while (times--)
			operations[i].run(size);
		return 0;
	}
	require(0, "no such operation");
	return 1;
}
