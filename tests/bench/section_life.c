/* SPDX-License-Identifier: MIT */
/*
 * section_life.c - how long it takes to make a link, and to notice that a guest
 * left or was killed. Each guest takes the place of the one before.
 *
 * Each figure is the median of a few dozen lives, one after the other.
 */
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowd.h"
#include "plan.h"
#include "report.h"

#define LIVES 40
#define QUICK_LIVES 3
#define UNREAD 100
#define KILL_AFTER_US 2000
#define PATIENCE 10000000000ll

/* A byte from one process to the other. */
static void knock(int fd)
{
	if (write(fd, "!", 1) != 1)
		_exit(1);
}

static bool await_knock(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&pollfd, 1, (int)(PATIENCE / 1000000)) == 1 && read(fd, &byte, 1) == 1;
}

/* Return: false when it did not come. Messages are taken on the way. */
static bool await_event(struct voxshm_host *host, enum voxshm_event_type wanted,
			struct voxshm_link **link)
{
	struct voxshm_event event;
	struct voxshm_view view;

	while (voxshm_host_wait(host, &event, 1, PATIENCE) == 1) {
		if (event.type == wanted) {
			*link = event.link;
			return true;
		}
		while (event.type == VOXSHM_EVENT_READABLE &&
		       voxshm_try_recv(event.link, &view) == 0)
			voxshm_release(event.link, &view);
	}
	return false;
}

enum ending {
	ENDING_KILLED,
	ENDING_LEFT,
};

/* The times of one life, in order; ns. */
struct life {
	double ticket;		/* voxshm_host_ticket() */
	double claim;		/* voxshm_guest_claim() */
	double attached;	/* from the claim's begin until the host was told */
	double ended;		/* from the kill, or the call to leave, until it was told */
};

struct place {
	struct voxshm_host *host;
	int knock[2];		/* to the guest's process */
	double *stamps;		/* shared: begin and end of the claim, begin of leaving */
};

static void guest_life(const struct place *place, int ticket, enum ending ending)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	unsigned int i;

	await_knock(place->knock[0]);
	place->stamps[0] = now_ns();
	if (voxshm_guest_claim(&link, ticket, &error))
		_exit(1);
	place->stamps[1] = now_ns();
	for (i = 0; i < UNREAD; i++)
		voxshm_try_send(link, "unread", 6);
	await_knock(place->knock[0]);
	place->stamps[2] = now_ns();
	if (ending == ENDING_LEFT) {
		voxshm_link_close(link);
		_exit(0);
	}
	for (;;)
		voxshm_try_send(link, "still there", 11);
}

/* Return: false when something did not come about. */
static bool live(const struct place *place, enum ending ending, struct life *life)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link, *told;
	double start = now_ns();
	bool good;
	int ticket;
	pid_t pid;

	if (voxshm_host_ticket(place->host, &ticket, &link, &error))
		return false;
	life->ticket = now_ns() - start;
	pid = crowd_fork();
	if (pid == 0)
		guest_life(place, ticket, ending);
	close(ticket);
	knock(place->knock[1]);
	good = await_event(place->host, VOXSHM_EVENT_ATTACHED, &told);
	life->attached = now_ns() - place->stamps[0];
	knock(place->knock[1]);
	if (ending == ENDING_KILLED) {
		usleep(KILL_AFTER_US);
		start = now_ns();
		kill(pid, SIGKILL);
	}
	good = good && await_event(place->host, ending == ENDING_LEFT ? VOXSHM_EVENT_LEFT :
				   VOXSHM_EVENT_DIED, &told);
	life->ended = now_ns() - (ending == ENDING_LEFT ? place->stamps[2] : start);
	voxshm_link_close(told);
	waitpid(pid, NULL, 0);
	life->claim = place->stamps[1] - place->stamps[0];
	return good;
}

static void report_lives(const char *row, const struct life *lives, unsigned int count)
{
	static const struct {
		const char *metric;
		size_t offset;
	} times[] = {
		{ "ticket", offsetof(struct life, ticket) },
		{ "claim", offsetof(struct life, claim) },
		{ "attached", offsetof(struct life, attached) },
		{ "ended", offsetof(struct life, ended) },
	};
	unsigned int i, j;

	for (i = 0; i < sizeof(times) / sizeof(*times); i++) {
		struct record record = { .section = "life", .row = row, .family = "voxshm",
					 .place = "guests", .at = 1, .metric = times[i].metric,
					 .unit = "us" };

		for (j = 0; j < count; j++)
			series_set(&record.series, j,
				   *(const double *)((const char *)&lives[j] + times[i].offset) / 1e3);
		report_add(&record);
	}
}

static void measure_lives(const char *row, enum voxshm_format format, enum ending ending,
			  unsigned int count)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error = { "" };
	struct life lives[LIVES];
	struct place place;
	unsigned int i;

	config.format = format;
	config.max_guests = 1;
	place.stamps = crowd_shared(3 * sizeof(double));
	if (!place.stamps || pipe(place.knock) < 0 ||
	    voxshm_host_new(&place.host, &config, &error)) {
		progress("%s: %s", row, error.text);
		return;
	}
	for (i = 0; i < count && live(&place, ending, &lives[i]); i++)
		;
	if (i < count)
		progress("%s: a guest did not come or not end", row);
	report_lives(row, lives, i);
	voxshm_host_free(place.host);
	close(place.knock[0]);
	close(place.knock[1]);
}

/* The kernel's own news of a death, beside. */
static void measure_pidfd(unsigned int count)
{
	struct record record = { .section = "life", .row = "bare: kill until the pidfd says so",
				 .family = "limit", .place = "guests", .at = 1,
				 .metric = "ended", .unit = "us" };
	struct pollfd pollfd = { .events = POLLIN };
	unsigned int i;
	double start;
	pid_t pid;

	for (i = 0; i < count; i++) {
		pid = crowd_fork();
		while (pid == 0)
			spin_pause();
		pollfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
		usleep(KILL_AFTER_US);
		start = now_ns();
		kill(pid, SIGKILL);
		poll(&pollfd, 1, -1);
		series_set(&record.series, i, (now_ns() - start) / 1e3);
		waitpid(pid, NULL, 0);
		close(pollfd.fd);
	}
	report_add(&record);
}

/* Over the socket, by name; and a program started as a guest. */
static void measure_walk_in(unsigned int count)
{
	struct record record = { .section = "life", .row = "walk in by a socket",
				 .family = "voxshm", .place = "guests", .at = 1,
				 .metric = "claim", .unit = "us" };
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	struct voxshm_host *host;
	double *stamp = crowd_shared(sizeof(double));
	char address[64];
	unsigned int i;
	pid_t pid;

	snprintf(address, sizeof(address), "@voxshm-bench-%d", (int)getpid());
	if (!stamp || voxshm_host_new(&host, NULL, &error) ||
	    voxshm_host_listen(host, address, 0, NULL, NULL, &error))
		return;
	for (i = 0; i < count; i++) {
		pid = crowd_fork();
		if (pid == 0) {
			double start = now_ns();

			if (voxshm_guest_connect(&link, address, NULL, PATIENCE, NULL))
				_exit(1);
			*stamp = now_ns() - start;
			voxshm_link_close(link);
			_exit(0);
		}
		if (await_event(host, VOXSHM_EVENT_LEFT, &link)) {
			series_set(&record.series, i, *stamp / 1e3);
			voxshm_link_close(link);
		}
		waitpid(pid, NULL, 0);
	}
	report_add(&record);
	voxshm_host_free(host);
}

static void measure_spawn(const char *self, unsigned int count)
{
	struct record record = { .section = "life", .row = "spawn: fork, exec, attached",
				 .family = "voxshm", .place = "guests", .at = 1,
				 .metric = "attached", .unit = "us" };
	char *argv[] = { (char *)self, (char *)"--guest", NULL };
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	struct voxshm_host *host;
	unsigned int i;
	double start;

	if (voxshm_host_new(&host, NULL, &error))
		return;
	for (i = 0; i < count; i++) {
		start = now_ns();
		if (voxshm_host_spawn(host, self, argv, &link, &error) ||
		    !await_event(host, VOXSHM_EVENT_ATTACHED, &link))
			break;
		series_set(&record.series, i, (now_ns() - start) / 1e3);
		if (await_event(host, VOXSHM_EVENT_LEFT, &link))
			voxshm_link_close(link);
	}
	report_add(&record);
	voxshm_host_free(host);
}

int spawned_guest(void)
{
	struct voxshm_link *link;

	if (voxshm_guest_inherit(&link, NULL))
		return 1;
	voxshm_link_close(link);
	return 0;
}

void section_life(const struct plan *plan)
{
	unsigned int count = plan->quick ? QUICK_LIVES : LIVES;

	progress("lives");
	measure_lives("native, killed", VOXSHM_FORMAT_NATIVE, ENDING_KILLED, count);
	measure_lives("vox, killed", VOXSHM_FORMAT_VOX, ENDING_KILLED, count);
	measure_lives("native, leaving", VOXSHM_FORMAT_NATIVE, ENDING_LEFT, count);
	measure_lives("vox, leaving", VOXSHM_FORMAT_VOX, ENDING_LEFT, count);
	measure_walk_in(count);
	measure_spawn(plan->self, count);
	measure_pidfd(count);
}
