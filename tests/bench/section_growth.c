/* SPDX-License-Identifier: MIT */
/*
 * section_growth.c - how long the pool of a vox segment takes to grow, and until
 * a guest that had been waiting for a slot gets on.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowd.h"
#include "plan.h"
#include "report.h"

#define TIMES 9
#define SLOT_SIZE (64 * KI)
#define SLOTS 16
#define SECOND 1000000000ll

static const size_t steps[] = { MI, 8 * MI, 64 * MI };

#define STEPS (sizeof(steps) / sizeof(*steps))

/* Keeps sending what only a slot can hold; it waits when there is none. */
static void greedy_guest(struct voxshm_host *host, int ticket)
{
	static char payload[SLOT_SIZE / 2];
	struct voxshm_link *link;

	(void)host;
	if (voxshm_guest_claim(&link, ticket, NULL))
		_exit(1);
	while (voxshm_send(link, payload, sizeof(payload), VOXSHM_FOREVER) == 0)
		;
	_exit(0);
}

/* Takes messages and keeps them until no more come. Return: how many. */
static unsigned int hoard(struct voxshm_link *link, int64_t patience)
{
	struct voxshm_view view;
	unsigned int count = 0;

	/* Views are not given back: the link is closed with them. */
	while (voxshm_recv(link, &view, patience) == 0)
		count++;
	return count;
}

/* Return: false when it could not be measured. */
static bool grow_once(size_t bytes, double *grow, double *resumed)
{
	const struct voxshm_class class = { SLOT_SIZE, SLOTS };
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error = { "" };
	struct voxshm_host *host;
	struct voxshm_link *link;
	struct voxshm_view view;
	double start;
	bool good;
	int ticket;
	pid_t pid;

	config.format = VOXSHM_FORMAT_VOX;
	config.max_guests = 1;
	config.num_classes = 1;
	config.classes = &class;
	config.max_size = 256 * MI;
	if (voxshm_host_new(&host, &config, &error) ||
	    voxshm_host_ticket(host, &ticket, &link, &error)) {
		progress("growth: %s", error.text);
		return false;
	}
	pid = crowd_fork();
	if (pid == 0)
		greedy_guest(host, ticket);
	close(ticket);
	good = hoard(link, SECOND / 5) > 0;
	start = now_ns();
	good = good && voxshm_host_grow(host, bytes, &error) == 0;
	*grow = now_ns() - start;
	good = good && voxshm_recv(link, &view, 5 * SECOND) == 0;
	*resumed = now_ns() - start;
	if (!good)
		progress("growth by %s bytes: %s", report_size(bytes), error.text);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	voxshm_host_free(host);
	return good;
}

void section_growth(const struct plan *plan)
{
	unsigned int i, time, times = plan->quick ? 1 : TIMES;
	double grow, resumed;

	progress("growth");
	for (i = 0; i < STEPS; i++) {
		struct record call = { .section = "growth", .row = "voxshm_host_grow()",
				       .family = "voxshm", .place = "bytes", .at = steps[i],
				       .metric = "grow", .unit = "us" };
		struct record waiting = call;

		waiting.row = "until a waiting guest's message";
		for (time = 0; time < times; time++) {
			if (!grow_once(steps[i], &grow, &resumed))
				break;
			series_set(&call.series, time, grow / 1e3);
			series_set(&waiting.series, time, resumed / 1e3);
		}
		report_add(&call);
		report_add(&waiting);
	}
}
