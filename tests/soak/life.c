// SPDX-License-Identifier: MIT
/*
 * life.c - one host: made, used by sixteen guests, left in one of two ways.
 *
 * Either it closes each link and looks, once all guests have gone, whether the
 * pool has every slot; or it is freed with all its guests still there.
 */
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

#include "link/basics.h"
#include "soak/leaks.h"
#include "soak/soak.h"

/* A host's first kilobytes: growth has work, and large messages need mappings. */
static const struct voxshm_class native_classes[] = { { 1024, 32 }, { 16384, 8 }, { 65536, 2 } };
static const struct voxshm_class vox_classes[] = { { 1024, 96 }, { 16384, 24 }, { 65536, 6 } };
#define MOST_EVENTS 16
#define MOST_GROWN (48ull * MIB)

static void open_host(bool vox)
{
	struct voxshm_config config = {
		.struct_size = sizeof(config),
		.format = vox ? VOXSHM_FORMAT_VOX : VOXSHM_FORMAT_NATIVE,
		/* A vox guest's place is free when the last view of it is released. */
		.max_guests = vox ? GUESTS + MOST_GHOSTS : GUESTS,
		.ring_capacity = 16 * KIB,
		.max_payload = (uint32_t)message_largest(),
		.max_mappings = 4,
		.num_classes = 3,
		.classes = vox ? vox_classes : native_classes,
		.max_size = vox ? MOST_GROWN : 0,
	};
	struct voxshm_error error = { "" };
	uint32_t i;

	soak.host_life++;
	soak.totals.hosts++;
	soak.vox = vox;
	soak.settled = false;
	soak.full_grown = !vox;
	soak.next_growth = now_ns() + 200 * MS;
	memset(soak.epochs, 0, sizeof(soak.epochs));
	snprintf(soak.address, sizeof(soak.address), "@voxshm-soak-%d-%u", (int)getpid(),
		 soak.host_life);
	if (voxshm_host_new(&soak.host, &config, &error) ||
	    voxshm_host_listen(soak.host, soak.address, 0, NULL, NULL, &error)) {
		soak_fail(PLACES, NULL, "making the host: %s", error.text);
		voxshm_host_free(soak.host);
		soak.host = NULL;
		return;
	}
	soak.device = !strcmp(voxshm_backend_name(soak.host), "device");
	for (i = 0; i < GUESTS; i++)
		soak.places[i].next = now_ns() + soak_random(100) * MS;
}

/* Turns --------------------------------------------------------------------------------- */

static void attached(struct voxshm_link *link)
{
	struct place *place = voxshm_link_data(link);
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	if (!place) {
		place = place_of_pid(status.pid);
		if (!place) {
			soak_fail(PLACES, NULL, "pid %d attached, which nobody expects",
				  (int)status.pid);
			return;
		}
		place->traffic.link = link;
		voxshm_link_set_data(link, place);
	}
	place_attached(place);
}

static void handle(const struct voxshm_event *event)
{
	struct place *place = voxshm_link_data(event->link);

	if (event->type == VOXSHM_EVENT_ATTACHED) {
		attached(event->link);
		return;
	}
	if (!place || place->traffic.link != event->link) {
		soak_fail(PLACES, place, "event %d of a link that is of nobody", (int)event->type);
		voxshm_link_close(event->link);
		return;
	}
	if (event->type == VOXSHM_EVENT_READABLE)
		place_received(place);
	else if (event->type == VOXSHM_EVENT_WRITABLE)
		place_send(place, 0);
	else
		place_ended(place, event->type);
}

static void grow(int64_t now)
{
	struct voxshm_error error = { "" };
	int ret;

	if (soak.full_grown || soak.settled || now < soak.next_growth)
		return;
	soak.next_growth = now + soak_random(600) * MS;
	ret = voxshm_host_grow(soak.host, (256 + soak_random(4096)) * KIB, &error);
	soak.totals.grown += ret == 0;
	/* There is a limit to size and to number. */
	soak.full_grown = ret == -EFBIG || ret == -ENOSPC;
	if (ret && !soak.full_grown)
		soak_fail(GROWTH, NULL, "grow: %s (%s)", strerror(-ret), error.text);
}

/* To some guests, now and then waiting for room. */
static void send_some(void)
{
	int i;

	for (i = 0; i < 4; i++) {
		struct place *place = &soak.places[soak_random(GUESTS)];

		if (!place->answered || soak_random(8) == 0)
			place_send(place, soak_random(16) ? 0 : soak_random(1000) * 1000);
	}
}

/*
 * As an application with a loop of its own does it, or one without. The first
 * asks the kernel each time, and so hears of ends before it has read everything.
 */
static int wait_for_events(struct voxshm_event *events)
{
	struct pollfd pollfd = { .fd = voxshm_host_fd(soak.host), .events = POLLIN };

	if (soak_random(4))
		return voxshm_host_wait(soak.host, events, MOST_EVENTS, 1 * MS);
	if (voxshm_host_arm(soak.host) == 0)
		poll(&pollfd, 1, 1);
	return voxshm_host_wait(soak.host, events, MOST_EVENTS, 0);
}

static void turn(void)
{
	struct voxshm_event events[MOST_EVENTS];
	int64_t now = now_ns();
	int ret, i;

	ret = wait_for_events(events);
	if (ret < 0 && ret != -EINTR)
		soak_fail(PLACES, NULL, "host_wait: %s", strerror(-ret));
	for (i = 0; i < ret; i++)
		handle(&events[i]);
	if (!soak.settled)
		send_some();
	for (i = 0; i < (int)GUESTS; i++)
		place_step(&soak.places[i], now);
	ghosts_step(now);
	grow(now);
	if (now >= soak.next_report)
		report_line();
	soak.turns++;
}

/* Ending -------------------------------------------------------------------------------- */

static bool all_are(enum state one, enum state other)
{
	uint32_t i;

	for (i = 0; i < GUESTS; i++)
		if (soak.places[i].state != one && soak.places[i].state != other)
			return false;
	for (i = 0; i < MOST_GHOSTS; i++)
		if (soak.ghosts[i].traffic.link)
			return false;
	return true;
}

static void leave_all(enum fate why)
{
	uint32_t i;

	for (i = 0; i < GUESTS; i++) {
		if (soak.places[i].state != RUNNING)
			continue;
		soak.totals.fates[why]++;
		place_leave(&soak.places[i], why);
	}
}

/* That the last guests have gone the host learns from the kernel when it waits. */
static void audit(void)
{
	const char *missing;
	int i;

	for (i = 0; i < 3; i++)
		turn();
	missing = leaks_find_slots(soak.host);

	if (missing)
		soak_fail(SLOTS, NULL, "%s", missing);
	soak.totals.audits++;
}

/* What came before the goodbye is still to be received by the guests: no host is needed. */
static void await_guests(void)
{
	uint32_t i;

	while (!all_are(EMPTY, EMPTY)) {
		for (i = 0; i < GUESTS; i++)
			place_step(&soak.places[i], now_ns());
		soak.turns++;
		sleep_ms(1);
	}
}

static void look_for_leaks(void)
{
	const char *left = leaks_find();
	long resident = leaks_resident();

	if (left)
		soak_fail(LEFTOVERS, NULL, "after the host's end: %s", left);
	left = leaks_find_in_module();
	if (left)
		soak_fail(MODULE, NULL, "%s", left);
	if (waitpid(-1, NULL, WNOHANG) >= 0)
		soak_fail(LEFTOVERS, NULL, "a child is left after the host's end");
	if (resident > soak.resident)
		soak.resident = resident;
	if (soak.resident_limit && resident > soak.resident_limit)
		soak_fail(RESIDENT, NULL, "%ld KiB are resident, %ld are the limit", resident,
			  soak.resident_limit);
}

void life_run(bool vox, bool by_links, int64_t duration)
{
	int64_t until = now_ns() + duration;

	open_host(vox);
	if (!soak.host)
		return;
	while (now_ns() < until)
		turn();
	soak.settled = true;
	while (!all_are(RUNNING, EMPTY))
		turn();
	if (by_links) {
		leave_all(HOST_CLOSED);
		while (!all_are(EMPTY, EMPTY))
			turn();
		audit();
		voxshm_host_free(soak.host);
	} else {
		leave_all(HOST_REPLACED);
		voxshm_host_free(soak.host);
		await_guests();
	}
	soak.host = NULL;
	look_for_leaks();
}
