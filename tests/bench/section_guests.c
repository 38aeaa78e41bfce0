/* SPDX-License-Identifier: MIT */
/*
 * section_guests.c - what many guests on one host cost: a message, the host's
 * loop included; standing idle; memory.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cells.h"
#include "crowd.h"

#define IDLE_SETTLE_US 500000
#define IDLE_SECONDS 2

static const unsigned int crowds[] = { 1, 2, 8, 32, 128 };

#define CROWDS (sizeof(crowds) / sizeof(*crowds))

static void run(const struct transport *const rows[], unsigned int num_rows, const char *section,
		const struct plan *plan)
{
	struct cell cells[3 * CROWDS];
	unsigned int count = 0, i, j;

	for (i = 0; i < num_rows; i++)
		for (j = 0; j < CROWDS; j++)
			cell_init(&cells[count++], rows[i],
				  &(struct shape){ .size = 64, .guests = crowds[j] });
	cells_run(cells, count, JOB_TRIPS | JOB_STREAM, plan);
	cells_report(cells, count, section, "guests");
}

void section_guests(const struct plan *plan)
{
	static const struct transport *const all[] = {
		&crowd_one_busy, &crowd_in_turn, &crowd_processes,
	};
	static const struct transport *const host_alone[] = { &crowd_ready };

	progress("guests");
	run(all, 3, "guests", plan);
	run(host_alone, 1, "host", plan);
}

/* Standing idle ------------------------------------------------------------------------- */

/* What the kernel has counted for one process. */
struct usage {
	double cpu_ns;
	uint64_t switches;		/* it was woken, or pushed away */
	uint64_t private_kb, rss_kb;
};

static uint64_t field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static const char *proc_read(pid_t pid, const char *name)
{
	static char text[8192];
	char path[64];
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "r");
	if (file) {
		size = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[size] = '\0';
	return text;
}

static struct usage usage_of(pid_t pid)
{
	struct usage usage = { 0 };
	const char *text;

	usage.cpu_ns = strtod(proc_read(pid, "schedstat"), NULL);
	text = proc_read(pid, "status");
	usage.switches = field(text, "\nvoluntary_ctxt_switches:") +
			 field(text, "\nnonvoluntary_ctxt_switches:");
	text = proc_read(pid, "smaps_rollup");
	usage.private_kb = field(text, "\nPrivate_Dirty:");
	usage.rss_kb = field(text, "\nRss:");
	return usage;
}

/* A host's process and its guests', which report by their pids in a pipe. */
struct standing {
	pid_t host, guests[CROWD_MAX];
	unsigned int count;
};

static void tell_pid(int fd)
{
	pid_t pid = getpid();

	if (write(fd, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
}

static void idle_guest(const struct crowd *crowd, unsigned int index, int fd)
{
	const char *failure = "";
	struct voxshm_link *link = crowd_claim(crowd, index, &failure);
	struct voxshm_view view;

	if (!link)
		_exit(1);
	tell_pid(fd);
	voxshm_recv(link, &view, VOXSHM_FOREVER);
	_exit(0);
}

static void idle_host(unsigned int guests, int fd)
{
	struct voxshm_event events[16];
	struct crowd crowd;
	unsigned int i;

	if (crowd_init(&crowd, guests, VOXSHM_FORMAT_NATIVE))
		_exit(1);
	for (i = 0; i < guests; i++)
		if (crowd_fork() == 0)
			idle_guest(&crowd, i, fd);
	crowd_close_tickets(&crowd);
	tell_pid(fd);
	for (;;)
		voxshm_host_wait(crowd.host, events, 16, VOXSHM_FOREVER);
}

/* Return: false when they did not all come. */
static bool stand(struct standing *standing, unsigned int guests)
{
	pid_t pid;
	int fds[2];
	unsigned int i;

	*standing = (struct standing){ 0 };
	if (pipe(fds) < 0)
		return false;
	standing->host = crowd_fork();
	if (standing->host == 0)
		idle_host(guests, fds[1]);
	close(fds[1]);
	for (i = 0; i < guests + 1; i++) {
		if (read(fds[0], &pid, sizeof(pid)) != sizeof(pid))
			break;
		if (pid != standing->host)
			standing->guests[standing->count++] = pid;
	}
	close(fds[0]);
	return i == guests + 1;
}

static void fall(struct standing *standing)
{
	kill(standing->host, SIGKILL);
	waitpid(standing->host, NULL, 0);
}

static struct usage usage_of_guests(const struct standing *standing)
{
	struct usage sum = { 0 }, one;
	unsigned int i;

	for (i = 0; i < standing->count; i++) {
		one = usage_of(standing->guests[i]);
		sum.cpu_ns += one.cpu_ns;
		sum.switches += one.switches;
		sum.private_kb += one.private_kb;
		sum.rss_kb += one.rss_kb;
	}
	return sum;
}

static void report_idle(unsigned int guests, const char *row, double cpu_ns, double switches)
{
	report_single("idle", row, "guests", guests, "cpu", "CPU s/s",
		      cpu_ns / 1e9 / IDLE_SECONDS);
	report_single("idle", row, "guests", guests, "wakeups", "1/s", switches / IDLE_SECONDS);
}

/* What the same figures say of a process that is known to wake up. */
static void report_napper(void)
{
	struct usage before, after;
	pid_t pid = crowd_fork();

	while (pid == 0)
		usleep(10000);
	usleep(IDLE_SETTLE_US);
	before = usage_of(pid);
	sleep(IDLE_SECONDS);
	after = usage_of(pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	report_idle(1, "beside: 10 ms naps", after.cpu_ns - before.cpu_ns,
		    (double)(after.switches - before.switches));
}

/* Also the memory, as they stand there. Return: false when they did not come. */
static bool measure_standing(unsigned int guests, struct usage *lone_host)
{
	struct usage host[2], all[2];
	struct standing standing;
	bool there = stand(&standing, guests);

	if (!there)
		goto fall;
	usleep(IDLE_SETTLE_US);
	host[0] = usage_of(standing.host);
	all[0] = usage_of_guests(&standing);
	if (guests == 0) {
		*lone_host = host[0];
		goto fall;
	}
	sleep(IDLE_SECONDS);
	host[1] = usage_of(standing.host);
	all[1] = usage_of_guests(&standing);
	report_idle(guests, "host", host[1].cpu_ns - host[0].cpu_ns,
		    (double)(host[1].switches - host[0].switches));
	report_idle(guests, "one guest", (all[1].cpu_ns - all[0].cpu_ns) / guests,
		    (double)(all[1].switches - all[0].switches) / guests);
	report_single("memory", "window, shared", "guests", guests, "memory", "KiB",
		      (double)(host[0].rss_kb - host[0].private_kb - lone_host->rss_kb +
			       lone_host->private_kb) / guests);
	report_single("memory", "host, private, for each guest", "guests", guests, "memory",
		      "KiB", ((double)host[0].private_kb - (double)lone_host->private_kb) / guests);
	report_single("memory", "guest's process, private", "guests", guests, "memory", "KiB",
		      (double)all[0].private_kb / guests);
fall:
	fall(&standing);
	return there;
}

void section_idle(const struct plan *plan)
{
	struct usage lone_host = { 0 };
	unsigned int i;

	progress("idle guests");
	if (!measure_standing(0, &lone_host))
		return;
	report_napper();
	for (i = 0; i < (plan->quick ? 1 : CROWDS); i++)
		if (!measure_standing(crowds[i], &lone_host))
			progress("%u idle guests did not come", crowds[i]);
}
