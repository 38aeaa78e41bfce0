// SPDX-License-Identifier: MIT
/* place.c - a place in which one guest after another lives. */
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "link/basics.h"
#include "soak/soak.h"

extern char **environ;

/* Messages of one place, before others have their turn. */
#define MOST_AT_ONCE 8

/* Starting ------------------------------------------------------------------------------ */

struct arguments {
	char numbers[5][24];
	char host[64];
	char *argv[9];
};

static void arguments_fill(struct arguments *arguments, const struct place *place, int ticket)
{
	const uint64_t numbers[] = { place->number, place->life, place->way, soak.seed,
				     (uint64_t)soak.ledger_fd };
	int i;

	arguments->argv[0] = program_path();
	arguments->argv[1] = "--guest";
	for (i = 0; i < 5; i++) {
		snprintf(arguments->numbers[i], sizeof(arguments->numbers[i]), "%" PRIu64,
			 numbers[i]);
		arguments->argv[i + 2] = arguments->numbers[i];
	}
	if (place->way == TICKETED)
		snprintf(arguments->host, sizeof(arguments->host), "%d", ticket);
	else
		snprintf(arguments->host, sizeof(arguments->host), "%s", soak.address);
	arguments->argv[7] = arguments->host;
	arguments->argv[8] = NULL;
}

/* A child that the library does not know as one. */
static int start_child(struct place *place, int ticket)
{
	posix_spawn_file_actions_t actions;
	struct arguments arguments;
	int ret;

	arguments_fill(&arguments, place, ticket);
	REQUIRE_EQ(0, posix_spawn_file_actions_init(&actions));
	if (ticket >= 0)
		REQUIRE_EQ(0, posix_spawn_file_actions_adddup2(&actions, ticket, ticket));
	ret = posix_spawn(&place->pid, program_path(), &actions, NULL, arguments.argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -ret;
}

static int start_spawned(struct place *place, struct voxshm_error *error)
{
	struct arguments arguments;
	struct voxshm_status status;
	int ret;

	arguments_fill(&arguments, place, -1);
	ret = voxshm_host_spawn(soak.host, program_path(), arguments.argv, &place->traffic.link,
				error);
	if (ret)
		return ret;
	voxshm_link_status(place->traffic.link, &status);
	place->pid = status.pid;
	return 0;
}

static int start_ticketed(struct place *place, struct voxshm_error *error)
{
	int ticket, ret;

	ret = voxshm_host_ticket(soak.host, &ticket, &place->traffic.link, error);
	if (ret)
		return ret;
	ret = start_child(place, ticket);
	close(ticket);
	return ret;
}

static void clear(struct place *place)
{
	uint32_t life = place->life + 1;

	memset(place->ledger, 0, sizeof(*place->ledger));
	*place = (struct place){
		.number = place->number, .life = life, .ledger = place->ledger, .pidfd = -1,
		.way = soak_random(WAYS), .state = STARTING,
		.answered = manner_of(soak.seed, place->number, life)->answered,
		.neglected = soak_random(4) == 0,
	};
	place->traffic = (struct traffic){
		.out = stream_new(soak.seed, place->number, life, true),
		.in = stream_new(soak.seed, place->number, life, false),
		.random = mix(soak.seed + life) ^ place->number,
		.counts = &place->counts,
		.doing = &soak.doing,
		.keeps = soak_random(3) * 10,
	};
}

void place_start(struct place *place)
{
	struct voxshm_error error = { "" };
	int64_t now = now_ns();
	int ret;

	clear(place);
	if (place->way == SPAWNED)
		ret = start_spawned(place, &error);
	else if (place->way == TICKETED)
		ret = start_ticketed(place, &error);
	else
		ret = start_child(place, -1);
	if (ret) {
		soak_fail(PLACES, place, "starting it: %s (%s)", strerror(-ret), error.text);
		voxshm_link_close(place->traffic.link);
		place->traffic.link = NULL;
		place->state = EMPTY;
		place->next = now + SECOND;
		return;
	}
	if (place->traffic.link)
		voxshm_link_set_data(place->traffic.link, place);
	place->pidfd = (int)syscall(SYS_pidfd_open, place->pid, 0);
	REQUIRE(place->pidfd >= 0);
	place->deadline = now + LIMIT;
	soak.totals.guests++;
	soak.totals.ways[place->way]++;
	if (place->way != WALKED_IN && soak_random(20) == 0) {
		if (soak_random(2))
			sleep_ms((int)soak_random(3));
		fate_begin(place, KILLED_AT_START, now);
	}
}

struct place *place_of_pid(pid_t pid)
{
	uint32_t i;

	for (i = 0; i < GUESTS; i++)
		if (soak.places[i].pid == pid && soak.places[i].way == WALKED_IN &&
		    soak.places[i].state == STARTING)
			return &soak.places[i];
	return NULL;
}

void place_attached(struct place *place)
{
	struct voxshm_status status;
	int64_t now = now_ns();

	voxshm_link_status(place->traffic.link, &status);
	place->attached = true;
	place->peer_id = status.peer_id;
	place->epoch = status.epoch;
	if (status.peer_id < 1 || status.peer_id >= sizeof(soak.epochs) / sizeof(*soak.epochs))
		soak_fail(PLACES, place, "it has peer id %u", status.peer_id);
	else if (status.epoch <= soak.epochs[status.peer_id])
		soak_fail(PLACES, place, "peer id %u comes with epoch %u after epoch %u",
			  status.peer_id, status.epoch, soak.epochs[status.peer_id]);
	else
		soak.epochs[status.peer_id] = status.epoch;
	if (place->state != STARTING)
		return;
	place->state = RUNNING;
	place->next = now + soak_random(2500) * MS * PACE;
	place->deadline = now + LIMIT;
}

/* Messages ------------------------------------------------------------------------------ */

/* What is wrong with it is said once; then it is of no more use. */
static void look_for_fault(struct place *place)
{
	if (!*place->traffic.fault || place->broken)
		return;
	soak_fail(MESSAGES, place, "the host: %s", place->traffic.fault);
	place->broken = true;
}

void place_send(struct place *place, int64_t timeout)
{
	if (!place->traffic.link || place->broken)
		return;
	traffic_send(&place->traffic, timeout);
	look_for_fault(place);
}

void place_received(struct place *place)
{
	int i, ret = 1;

	if (place->neglected && place->state != ENDING && soak_random(8))
		return;
	for (i = 0; i < MOST_AT_ONCE && ret > 0; i++) {
		ret = traffic_receive(&place->traffic, 0);
		if (ret > 0 && place->answered)
			place_send(place, 0);
	}
	if (soak_random(4) == 0)
		traffic_release(&place->traffic);
	look_for_fault(place);
}

/* Ending -------------------------------------------------------------------------------- */

static void add_totals(const struct place *place)
{
	struct voxshm_counters counters;

	voxshm_link_counters(place->traffic.link, &counters);
	soak.totals.mapped += counters.mappings_made;
	soak.totals.messages += place->counts.received + place->ledger->counts.received;
	soak.totals.bytes += place->counts.bytes;
}

static void check_counts(struct place *place)
{
	uint64_t came = place->counts.received, sent = place->ledger->counts.sent;
	uint64_t begun = place->ledger->counts.begun, taken = place->ledger->counts.received;

	if (came < sent || came > (begun > sent ? begun : sent))
		soak_fail(COMMITTED, place,
			  "%" PRIu64 " messages came; it had committed %" PRIu64
			  ", and with the call under way (%s) %" PRIu64, came, sent,
			  activity_name(place->ledger->doing), begun);
	if (taken > place->counts.sent)
		soak_fail(COMMITTED, place,
			  "it received %" PRIu64 " messages, and %" PRIu64 " were sent to it",
			  taken, place->counts.sent);
	if (*place->ledger->fault)
		soak_fail(strstr(place->ledger->fault, "there were") ? LEFTOVERS : MESSAGES, place,
			  "the guest: %s", place->ledger->fault);
}

/* Keeps the link for a while when views of it are held. */
static void make_ghost(struct place *place)
{
	struct ghost *ghost = soak.ghosts;

	while (ghost < soak.ghosts + MOST_GHOSTS && ghost->traffic.link)
		ghost++;
	if (!place->traffic.num_held || ghost == soak.ghosts + MOST_GHOSTS) {
		traffic_abort_all(&place->traffic);
		if (soak_random(2))
			traffic_release_all(&place->traffic);
		look_for_fault(place);
		voxshm_link_close(place->traffic.link);
	} else {
		*ghost = (struct ghost){
			.traffic = place->traffic, .number = place->number, .life = place->life,
			.next = now_ns() + soak_random(100) * MS,
		};
	}
	place->traffic.link = NULL;
}

/* One thing of a ghost's goes at a time. */
static void ghost_step(struct ghost *ghost, int64_t now)
{
	struct traffic *traffic = &ghost->traffic;
	struct place name = { .number = ghost->number, .life = ghost->life };

	if (!traffic->link || (now < ghost->next && !soak.settled))
		return;
	ghost->next = now + soak_random(50) * MS;
	traffic_release(traffic);
	traffic_abort_all(traffic);
	if (*traffic->fault)
		soak_fail(MESSAGES, &name, "after its end: %s", traffic->fault);
	if (traffic->num_held && !*traffic->fault)
		return;
	voxshm_link_close(traffic->link);
	traffic->link = NULL;
}

void ghosts_step(int64_t now)
{
	uint32_t i;

	for (i = 0; i < MOST_GHOSTS; i++)
		ghost_step(&soak.ghosts[i], now);
}

void place_ended(struct place *place, enum voxshm_event_type type)
{
	uint32_t doing = place->ledger->doing;

	fate_check(place, type);
	check_counts(place);
	soak.totals.in_call += place->fate != CLOSED && doing != IDLE && doing != RESTING;
	add_totals(place);
	make_ghost(place);
	place->state = GONE;
	place->deadline = now_ns() + LIMIT;
}

void place_leave(struct place *place, enum fate why)
{
	traffic_abort_all(&place->traffic);
	if (soak_random(2))
		traffic_release_all(&place->traffic);
	look_for_fault(place);
	add_totals(place);
	if (why == HOST_CLOSED)
		voxshm_link_close(place->traffic.link);
	place->traffic.link = NULL;
	place->fate = why;
	place->exit_kind = VOXSHM_EXIT_CODE;
	place->exit_value = 0;
	place->state = LEFT;
	place->deadline = now_ns() + LIMIT;
}

static void check_goodbye(struct place *place)
{
	uint64_t taken = place->ledger->counts.received;

	if (*place->ledger->fault)
		soak_fail(strstr(place->ledger->fault, "there were") ? LEFTOVERS : GOODBYE, place,
			  "the guest: %s", place->ledger->fault);
	else if (place->ledger->farewell != FAREWELL_HOST)
		soak_fail(GOODBYE, place, "it ended without having heard the host's goodbye (%s)",
			  activity_name(place->ledger->doing));
	else if (taken != place->counts.sent)
		soak_fail(GOODBYE, place,
			  "it received %" PRIu64 " messages of %" PRIu64 " sent before the goodbye",
			  taken, place->counts.sent);
}

/* The library reaps what it has spawned, unless its host is no more. */
static void reap(struct place *place)
{
	int status = 0;
	pid_t pid = waitpid(place->pid, &status, WNOHANG);

	if (pid < 0 && place->way == SPAWNED)
		return;
	/* Its link was closed by the host, which has not come to reaping it. */
	if (pid == 0 && place->way == SPAWNED)
		return;
	if (place->broken)
		return;
	if (pid != place->pid ||
	    (place->exit_kind == VOXSHM_EXIT_CODE ?
	     !WIFEXITED(status) || WEXITSTATUS(status) != place->exit_value :
	     !WIFSIGNALED(status) || WTERMSIG(status) != place->exit_value))
		soak_fail(RECORDS, place, "waitpid() says %d, status 0x%x; value %d was expected",
			  (int)pid, status, place->exit_value);
}

static void process_step(struct place *place, int64_t now)
{
	struct pollfd pollfd = { .fd = place->pidfd, .events = POLLIN };

	if (poll(&pollfd, 1, 0) <= 0)
		return;
	if (place->state == LEFT)
		check_goodbye(place);
	reap(place);
	close(place->pidfd);
	place->pidfd = -1;
	place->state = EMPTY;
	place->next = now + soak_random(200) * MS;
}

static const char *const state_names[] = {
	"come", "attach", "do anything", "be continued", "be told as ended", "hear the goodbye",
	"end its process",
};

void place_step(struct place *place, int64_t now)
{
	if (place->state == RUNNING && place->turns != place->ledger->turns) {
		place->turns = place->ledger->turns;
		place->deadline = now + LIMIT;
	}
	if (place->state == GONE || place->state == LEFT)
		process_step(place, now);
	else if (place->state == STOPPED && now >= place->next)
		fate_continue(place, now);
	else if (place->state == RUNNING && now >= place->next && !soak.settled)
		fate_choose(place, now);
	else if (place->state == EMPTY && now >= place->next && !soak.settled)
		place_start(place);
	if (place->state == EMPTY || place->state == STOPPED || now < place->deadline)
		return;
	soak_fail(WAITS, place, "pid %d did not %s in %lld s (%s) %s", (int)place->pid,
		  state_names[place->state], (long long)(LIMIT / SECOND),
		  activity_name(place->ledger->doing), place->ledger->fault);
	report_who_waits();
	kill(place->pid, SIGKILL);
	place->deadline = now + LIMIT;
	place->broken = true;
	if (!place->traffic.link)
		place->state = GONE;
}
