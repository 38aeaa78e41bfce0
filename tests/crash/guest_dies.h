/* SPDX-License-Identifier: MIT */
/*
 * guest_dies.h - the victim is a guest; the test is its host, and survives.
 *
 * One host outlives all runs of a sweep, so that whatever a death costs it
 * adds up. Each run has victims in processes of their own, the test's children,
 * and successors in this process.
 */
#ifndef GUEST_DIES_H
#define GUEST_DIES_H

#include "crash/load.h"
#include "crash/party.h"

#define MAX_VICTIMS 2

enum guest_special {
	CLAIM = 1,	/* becoming a guest: by a ticket */
	CONNECT,	/* by the host's address */
};

static const struct operation guest_operations[] = {
	{ "claim", "", "", "", "", .special = CLAIM },
	{ "connect", "", "", "", "", .special = CONNECT },
};

/* A link of the host's. */
struct guest {
	struct party party;
	struct guest_scene *scene;
	int ticket;
	bool attached, ended;
	enum voxshm_event_type end;
};

struct guest_common {
	char down[MAX_VICTIMS + 1][MAX_KINDS];
	_Atomic pid_t forked;
	struct load load;
};

struct guest_scene {
	struct scene *scene;
	struct voxshm_host *host;
	struct guest_common *common;	/* shared with the guests */
	struct guest victims[MAX_VICTIMS];
	int num_victims;
	struct guest load;
	pid_t load_pid;
	char address[64];
};

/* The host's events ----------------------------------------------------------------------------- */

static inline void guest_event(struct guest *guest, const struct voxshm_event *event)
{
	switch (event->type) {
	case VOXSHM_EVENT_ATTACHED:
		holds(!guest->attached, "ATTACHED was told twice");
		guest->attached = true;
		if (!guest->party.near.link) {
			guest->party.near.link = event->link;
			voxshm_link_set_data(event->link, guest);
			voxshm_link_status(event->link, &guest->party.status);
		}
		break;
	case VOXSHM_EVENT_READABLE:
	case VOXSHM_EVENT_WRITABLE:
		break;
	default:
		holds(!guest->ended, "an end was told twice");
		guest->ended = true;
		guest->end = event->type;
	}
}

/* The host's part with the guest that is busy: takes what came, and sends as much. */
static inline void serve_load(struct guest *load)
{
	struct load *common = &load->scene->common->load;
	struct side *near = &load->party.near;
	int ret = 0, i;

	for (i = 0; i < LOAD_BURST && ret == 0; i++)
		ret = load_receive(near, 0);
	common->taken = near->received;
	if (holds(ret == 0 || ret == -EAGAIN, "recv from the guest that is busy: %d", ret) &&
	    !common->pause && near->sent - common->received < LOAD_UNDER_WAY)
		load_send(near);
}

/* Takes the events that there are; a link that nobody knows yet is the first victim's. */
static inline void pump(struct guest_scene *guests, int64_t timeout)
{
	struct voxshm_event events[8];
	int count = TIMED(voxshm_host_wait(guests->host, events, ARRAY_SIZE(events), timeout));
	int i;

	holds(count >= 0, "host_wait: %d", count);
	for (i = 0; i < count; i++) {
		struct guest *guest = voxshm_link_data(events[i].link);

		if (!guest)
			guest = &guests->victims[0];
		guest_event(guest, &events[i]);
		if (guest == &guests->load && events[i].type == VOXSHM_EVENT_READABLE)
			serve_load(guest);
	}
}

static inline void serve(void *guests)
{
	pump(guests, 0);
}

/* In the victim ------------------------------------------------------------------------------------ */

static inline void keep_descriptors(int one)
{
	if (one > 3)
		close_range(3, (unsigned int)one - 1, 0);
	close_range(one < 3 ? 3 : (unsigned int)one + 1, ~0u, 0);
}

static inline void become_guest(struct guest *guest, struct side *side)
{
	struct voxshm_error error = { "" };
	int ret;

	if (guest->party.op->special == CONNECT)
		ret = voxshm_guest_connect(&side->link, guest->scene->address, NULL, PATIENCE,
					   &error);
	else
		ret = voxshm_guest_claim(&side->link, guest->ticket, &error);
	if (ret)
		fprintf(stderr, "# attach: %s\n", error.text);
	REQUIRE_EQ(0, ret);
}

static inline void victim_guest(void *argument)
{
	struct guest *guest = argument;
	struct party *party = &guest->party;
	struct side victim = victim_side(party);

	keep_descriptors(guest->ticket);
	if (!party->op->special) {
		become_guest(guest, &victim);
		victim_prepare(party->op, &victim);
	}
	leave_child(party);
	victim_marker();
	if (party->op->special)
		become_guest(guest, &victim);
	else
		party->op->run(&victim);
	victim_marker();
	if (victim.link)
		prove_sound(&victim, party->down);
	victim_marker();
}

/* Making a link ------------------------------------------------------------------------------------ */

static inline void guest_init(struct guest *guest, struct guest_scene *guests, int number,
			      const struct operation *op)
{
	*guest = (struct guest){ .scene = guests, .ticket = -1 };
	party_init(&guest->party, guests->scene, number, op, guests->common->down[number]);
	guest->party.forked = &guests->common->forked;
}

static inline bool guest_ticket(struct guest *guest)
{
	struct party *party = &guest->party;
	struct voxshm_error error = { "" };

	if (voxshm_host_ticket(guest->scene->host, &guest->ticket, &party->near.link, &error))
		return complain("ticket: %s", error.text);
	voxshm_link_set_data(party->near.link, guest);
	voxshm_link_status(party->near.link, &party->status);
	return true;
}

static inline bool await_attached(struct guest *guest)
{
	int64_t until = now_ns() + PATIENCE;

	while (!guest->attached && !*complaint && now_ns() < until)
		pump(guest->scene, 10 * MS);
	return holds(guest->attached, "the attach was not told");
}

/* A victim in a process of its own, at its first marker. */
static inline bool guest_start(struct guest *guest)
{
	struct party *party = &guest->party;
	bool connects = party->op->special == CONNECT;

	if (!connects && (!guest_ticket(guest) || !send_word(party, party->op->down)))
		return false;
	party->victim = victim_fork(victim_guest, guest);
	if (!connects) {
		REQUIRE_EQ(0, host_link_spawned(party->near.link, party->victim.pid));
		close(guest->ticket);
	}
	if (!victim_holds(&party->victim, victim_run_to_marker(&party->victim, NULL, NULL),
			  "the victim did not come to its first marker"))
		return false;
	return party->op->special || (await_attached(guest) && party_meet(party));
}

/* After the death ---------------------------------------------------------------------------------------- */

/* It has gone, and whoever reaps it still can. */
static inline void await_death(const struct party *party)
{
	siginfo_t info;

	if (!party->victim.ended)
		waitid(P_PID, (id_t)party->victim.pid, &info, WEXITED | WNOWAIT);
}

/*
 * All that comes. The survivor learns of the death in one of several ways: by
 * asking, by polling, while it waits in recv, or from the host's events; before
 * that it has given back what lies in the ring, or not.
 */
static inline bool guest_deliver(struct guest *guest, uint32_t way)
{
	struct party *party = &guest->party;
	struct voxshm_status status;
	int64_t began = now_ns();

	if (party->near.link && (way & 1) && !side_release(&party->near, false))
		return false;
	if (way & 2)
		await_death(party);
	if (party->near.link && (way & 4))
		voxshm_link_status(party->near.link, &status);
	if (way & 8)
		TIMED(voxshm_host_arm(guest->scene->host));
	if (party->near.link && (way & 16) && !party_drain(party))
		return false;
	while (!guest->ended && !*complaint && now_ns() - began < BOUND) {
		pump(guest->scene, 10 * MS);
		if (party->near.link && !guest->ended)
			party_receive(party);
	}
	return holds(guest->ended, "the end was not told") && party_count(party);
}

static inline bool guest_check_end(struct guest *guest)
{
	struct party *party = &guest->party;
	bool left = guest->end == VOXSHM_EVENT_LEFT;
	bool known = party->op->special != CONNECT || link_is_on_device(party->near.link);
	/* A vox guest says who it is when it rings first, which is the last that it does. */
	bool named = known || party->scene->format != VOXSHM_FORMAT_VOX;

	return holds(guest->end == VOXSHM_EVENT_DIED || (left && party->op->closes),
		     "the end was told as event %d", guest->end) &&
	       party_check_exit(party, left, known, named);
}

static inline bool has_victims_link(const struct guest *guest)
{
	const struct voxshm_link *link;

	for (link = guest->scene->host->links; link; link = link->next)
		if (!link->data || link->data == guest)
			return true;
	return false;
}

/* One that connected, and was killed before the host heard of it, is not told of. */
static inline bool caller_vanished(struct guest *guest)
{
	int64_t began = now_ns();
	int pumps = 0;

	if (guest->party.op->special != CONNECT)
		return false;
	/* Its process and whoever has its descriptors. */
	waitpid(guest->party.victim.pid, NULL, 0);
	guest->party.victim.ended = true;
	do {
		kill_forked(guest->party.forked);
		pump(guest->scene, MS);
		pumps++;
	} while (!guest->attached && (has_victims_link(guest) || pumps < 5) && !*complaint &&
		 now_ns() - began < BOUND);
	return !guest->attached;
}

/* Somebody new in the same place -------------------------------------------------------------------------- */

static inline bool await_leave(struct guest *guest)
{
	int64_t until = now_ns() + PATIENCE;

	while (!guest->ended && !*complaint && now_ns() < until)
		pump(guest->scene, 10 * MS);
	return holds(guest->ended && guest->end == VOXSHM_EVENT_LEFT,
		     "the successor did not leave: event %d", guest->end);
}

/* A new guest, in this process, takes the dead one's place and works. */
static inline bool succeed(const struct guest *dead, const char *kinds)
{
	static const struct operation nothing = { .name = "nothing", .up = "", .sends = "" };
	const struct voxshm_status *before = &dead->party.status;
	struct side far = { 0 };
	struct guest successor;
	struct party *party = &successor.party;
	struct voxshm_error error = { "" };
	bool right;

	guest_init(&successor, dead->scene, MAX_VICTIMS, &nothing);
	far = victim_side(party);
	if (!guest_ticket(&successor))
		return false;
	if (voxshm_guest_claim(&far.link, successor.ticket, &error)) {
		complain("the successor's claim: %s", error.text);
		party_close(party);
		return false;
	}
	right = exchange(&party->near, &far, kinds) &&
		holds(!before->peer_id || party->status.peer_id == before->peer_id ||
		      (dead->party.op->closes && party->status.peer_id < before->peer_id),
		      "the successor of peer %u is peer %u", before->peer_id,
		      party->status.peer_id) &&
		holds(party->status.epoch > before->epoch,
		      "the successor's epoch is %u, the dead one's was %u", party->status.epoch,
		      before->epoch);
	voxshm_link_close(far.link);
	right = right && await_leave(&successor);
	party_close(party);
	return right;
}

/* The guest that is busy ------------------------------------------------------------------------------------ */

static inline void load_guest(struct guest_scene *guests)
{
	struct side side = victim_side(&guests->load.party);
	struct voxshm_error error = { "" };

	keep_descriptors(guests->load.ticket);
	REQUIRE_EQ(0, voxshm_guest_claim(&side.link, guests->load.ticket, &error));
	load_run(&guests->common->load, &side);
	voxshm_link_close(side.link);
	_exit(0);
}

static inline bool load_start(struct guest_scene *guests)
{
	static const struct operation nothing = { .name = "load", .up = "", .sends = "" };

	guest_init(&guests->load, guests, MAX_VICTIMS, &nothing);
	if (!guest_ticket(&guests->load))
		return false;
	guests->load_pid = child_fork();
	if (guests->load_pid == 0)
		load_guest(guests);
	close(guests->load.ticket);
	return await_attached(&guests->load);
}

/* All that it sent has come, and nobody has a slot of its. */
static inline bool load_rest(struct guest_scene *guests, unsigned int sent_before)
{
	struct load *load = &guests->common->load;
	int64_t until = now_ns() + PATIENCE;

	if (!guests->load_pid)
		return true;
	while (load->sent == sent_before && now_ns() < until)
		pump(guests, MS);
	load->pause = true;
	while ((!load->paused || guests->load.party.near.received < load->sent) &&
	       !*complaint && now_ns() < until)
		pump(guests, MS);
	return holds(load->paused, "the guest that is busy does not answer") &&
	       holds(guests->load.party.near.received == load->sent && load->sent != sent_before,
		     "%u of %u messages came from the guest that is busy",
		     guests->load.party.near.received, load->sent) &&
	       holds(load->longest_call < BOUND, "a call of the guest that is busy took %lld ms",
		     (long long)(load->longest_call / MS)) &&
	       !*complaint;
}

static inline void load_resume(struct guest_scene *guests)
{
	struct load *load = &guests->common->load;

	load->pause = false;
	while (guests->load_pid && load->paused && kill(guests->load_pid, 0) == 0)
		sched_yield();
}

/* The run -------------------------------------------------------------------------------------------------- */

/* Has the first victim a slot in nobody's hands? */
static inline bool has_intent(void *data)
{
	struct guest_scene *guests = data;
	struct voxshm_segment *segment = host_segment(guests->host);
	uint32_t peer = guests->victims[0].party.status.peer_id, thread;

	for (thread = 0; segment && peer && thread < VOX_THREADS; thread++)
		if (shared_load_u64(&vox_link_block(segment, peer)->side[VOX_GUEST].
				    intents[thread]))
			return true;
	return false;
}

/* The second victim's death is anywhere, and often where it has something half done. */
static inline bool run_second(struct guest_scene *guests)
{
	struct scene *scene = guests->scene;
	struct victim *victim = &guests->victims[1].party.victim;
	uint32_t point;

	if (guests->num_victims < 2 || !scene->trace.length)
		return true;
	point = trace_choose(&scene->trace, scene->seed >> 16);
	return victim_holds(victim,
			    victim_run_to(victim, &scene->trace, point, NULL, NULL) != LOST,
			    "the second victim did not come to its point");
}

static inline bool run_to_point(struct guest_scene *guests, uint32_t k)
{
	struct party *first = &guests->victims[0].party;
	bool second_first = guests->scene->runs % 2;

	if (second_first && !run_second(guests))
		return false;
	if (!party_run_to(first, k, first->op->special == CONNECT ? serve : NULL, has_intent,
			  guests))
		return false;
	return second_first || run_second(guests);
}

/* All that came is delivered, and its end is told. What lies in slots is kept. */
static inline bool guest_mourn(struct guest *guest, uint32_t way)
{
	return guest_deliver(guest, way) && guest_check_end(guest) &&
	       party_let_go(&guest->party, false);
}

static inline bool guest_forget(struct guest *guest)
{
	guest->party.victim.ended = true;
	if (!party_let_go(&guest->party, true))
		return false;
	party_close(&guest->party);
	return true;
}

/* The second victim dies, and is buried, while the first one stands still. */
static inline bool bury_second(struct guest_scene *guests, uint32_t k)
{
	struct guest *second = &guests->victims[1];

	if (guests->num_victims < 2)
		return true;
	guests->num_victims = 1;
	kill(second->party.victim.pid, SIGKILL);
	return guest_mourn(second, k) && succeed(second, "isb") && guest_forget(second);
}

static inline bool stand_still(struct guest_scene *guests, uint32_t k)
{
	struct party *first = &guests->victims[0].party;

	switch (guests->scene->circumstance) {
	case STOPPED:
		return stop_victim(first) && party_work(first);
	case BESIDE:
		if (!bury_second(guests, k))
			return false;
		/* fall through */
	case RESUMED:
		return (first->op->waits || party_work(first)) &&
		       resume_victim(first, serve, guests);
	default:
		return true;
	}
}

static inline bool guests_start(struct guest_scene *guests)
{
	const struct operation *op = guests->scene->op;
	bool two = guests->scene->circumstance == TOGETHER ||
		   guests->scene->circumstance == BESIDE;
	int i;

	guests->num_victims = two && op->special != CONNECT ? 2 : 1;
	for (i = 0; i < guests->num_victims; i++)
		guest_init(&guests->victims[i], guests, i, op);
	for (i = 0; i < guests->num_victims; i++)
		if (!guest_start(&guests->victims[i]))
			return false;
	return true;
}

static inline bool guests_bury(struct guest_scene *guests, uint32_t k)
{
	struct guest *victims = guests->victims;
	int i;

	for (i = 0; i < guests->num_victims; i++)
		kill(victims[i].party.victim.pid, SIGKILL);
	if (caller_vanished(&victims[0]))
		return succeed(&victims[0], "isb");
	for (i = guests->num_victims; i-- > 0;)
		if (!guest_mourn(&victims[i], k))
			return false;
	if (!succeed(&victims[0], k % 4 ? "isb" : "isbm"))
		return false;
	for (i = 0; i < guests->num_victims; i++)
		if (!guest_forget(&victims[i]))
			return false;
	return true;
}

static inline bool guest_dies_run(struct scene *scene, uint32_t k)
{
	struct guest_scene *guests = scene->data;
	unsigned int load_sent = guests->common->load.sent;
	struct holdings before = holdings_now();
	bool recorded = scene->trace.length;
	bool right;

	right = guests_start(guests) && run_to_point(guests, k) && stand_still(guests, k) &&
		guests_bury(guests, k) && load_rest(guests, load_sent);
	kill_forked(&guests->common->forked);
	right = right && audit_host(guests->host, scene->circumstance == LOADED) &&
		 (!recorded || holdings_same(&before));
	load_resume(guests);
	return right && !*complaint;
}

/* The sweep ------------------------------------------------------------------------------------------------- */

static inline bool guest_dies_open(struct scene *scene)
{
	struct guest_scene *guests = calloc(1, sizeof(*guests));
	struct voxshm_config config = scene_config(scene);
	struct voxshm_error error = { "" };

	REQUIRE(guests);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	guests->scene = scene;
	guests->common = mmap(NULL, sizeof(*guests->common), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(guests->common != MAP_FAILED);
	scene->data = guests;
	if (voxshm_host_new(&guests->host, &config, &error) ||
	    voxshm_host_listen(guests->host, abstract_address(guests->address), 0, NULL, NULL,
			       &error))
		return complain("host: %s", error.text);
	return scene->circumstance != LOADED || load_start(guests);
}

static inline void guest_dies_close(struct scene *scene)
{
	struct guest_scene *guests = scene->data;
	int i, status;

	for (i = 0; i < guests->num_victims; i++)
		if (guests->victims[i].party.victim.pid && !guests->victims[i].party.victim.ended)
			child_kill(guests->victims[i].party.victim.pid);
	kill_forked(&guests->common->forked);
	voxshm_host_free(guests->host);
	if (guests->load_pid) {
		guests->common->load.pause = false;
		status = child_wait(guests->load_pid);
		if (!holds(status == 0, "the guest that was busy ended with status 0x%x", status))
			scene->failures++;
	}
	munmap(guests->common, sizeof(*guests->common));
	free(guests);
	scene->data = NULL;
}

static const struct scenario guest_dies = {
	.victim = "guest",
	.open = guest_dies_open,
	.close = guest_dies_close,
	.run = guest_dies_run,
};

#endif
