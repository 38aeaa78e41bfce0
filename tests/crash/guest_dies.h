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

#include "crash/sweep.h"

#define MAX_VICTIMS 2
#define MAX_KINDS 64u

enum guest_special {
	NO_SPECIAL,
	CLAIM,		/* becoming a guest: by a ticket */
	CONNECT,	/* by the host's address */
};

static const struct operation guest_operations[] = {
	{ "claim", "", "", "", "", .special = CLAIM },
	{ "connect", "", "", "", "", .special = CONNECT },
};

/* In memory that is shared with victims and companions. */
struct common {
	char down[MAX_VICTIMS][MAX_KINDS];	/* what was sent to each victim, as it is sent */
	_Atomic pid_t forked;			/* a victim's child */
};

/* A link of the host's, and the process at its other end. */
struct party {
	struct guest_scene *guests;
	const struct operation *op;
	int ticket;
	struct side near;
	char up[MAX_KINDS];		/* what the guest sends, if all goes well */
	char *down;
	struct voxshm_status status;	/* at first, then at last */
	struct victim victim;
	bool is_victim;
	bool attached, ended;
	enum voxshm_event_type end;
};

struct guest_scene {
	struct scene *scene;
	struct voxshm_host *host;
	struct common *common;
	struct party victims[MAX_VICTIMS];
	int num_victims;
	char address[64];
};

static const struct voxshm_class native_classes[] = { { SLOT_SMALL, 8 }, { SLOT_LARGE, 2 } };
static const struct voxshm_class vox_classes[] = { { SLOT_SMALL, 32 }, { SLOT_LARGE, 8 } };

static inline struct voxshm_config scene_config(const struct scene *scene)
{
	bool vox = scene->format == VOXSHM_FORMAT_VOX;

	return (struct voxshm_config){
		.struct_size = sizeof(struct voxshm_config),
		.format = scene->format,
		.backend = scene->backend,
		.max_guests = 4,
		.ring_capacity = 896,	/* three large inline messages, and a fourth by a wrap */
		.max_payload = 2 * MIB,
		.max_mappings = 6,
		.num_classes = 2,
		.classes = vox ? vox_classes : native_classes,
	};
}

/* The host's events ----------------------------------------------------------------------------- */

/* Return: false when something is wrong; true also when there is no message. */
static inline bool party_receive(struct party *party)
{
	struct voxshm_view view;
	int ret = TIMED(voxshm_try_recv(party->near.link, &view));

	if (ret == -EAGAIN || ret == -EPIPE)
		return true;
	if (ret)
		return complain("recv: %d", ret);
	if (party->near.received >= strlen(party->up))
		return complain("a message came that was not sent, of %zu bytes", view.size);
	return side_take(&party->near, party->up[party->near.received], view);
}

static inline void party_event(struct party *party, const struct voxshm_event *event)
{
	switch (event->type) {
	case VOXSHM_EVENT_ATTACHED:
		holds(!party->attached, "ATTACHED was told twice");
		party->attached = true;
		party->near.link = event->link;
		voxshm_link_set_data(event->link, party);
		break;
	case VOXSHM_EVENT_READABLE:
	case VOXSHM_EVENT_WRITABLE:
		break;
	default:
		holds(!party->ended, "an end was told twice");
		party->ended = true;
		party->end = event->type;
	}
}

/* Takes the events that there are; a link that nobody knows yet is the first victim's. */
static inline void pump(struct guest_scene *guests, int64_t timeout)
{
	struct voxshm_event events[8];
	int count = TIMED(voxshm_host_wait(guests->host, events, ARRAY_SIZE(events), timeout));
	int i;

	holds(count >= 0, "host_wait: %d", count);
	for (i = 0; i < count; i++) {
		struct party *party = voxshm_link_data(events[i].link);

		party_event(party ? party : &guests->victims[0], &events[i]);
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

/* A child that has copies of all descriptors, and outlives its parent. */
static inline void leave_child(struct common *common)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		alarm((unsigned int)(4 * PATIENCE / SECOND));
		for (;;)
			pause();
	}
	common->forked = pid;
}

static inline void become_guest(struct party *party, struct side *victim)
{
	struct voxshm_error error = { "" };
	int ret;

	if (party->op->special == CONNECT)
		ret = voxshm_guest_connect(&victim->link, party->guests->address, NULL, PATIENCE,
					   &error);
	else
		ret = voxshm_guest_claim(&victim->link, party->ticket, &error);
	if (ret)
		fprintf(stderr, "# attach: %s\n", error.text);
	REQUIRE_EQ(0, ret);
}

/* It was let go on: all that was sent to it comes, and what it sends now arrives. */
static inline void prove_sound(struct side *victim, const char *down)
{
	while (victim->received < strlen(down))
		if (!side_receive(victim, down[victim->received], PATIENCE))
			break;
	if (!side_send(victim, 'i', PATIENCE) || !side_send(victim, 's', PATIENCE))
		fprintf(stderr, "# the victim, resumed: %s\n", complaint);
	REQUIRE(!*complaint);
	side_release(victim, true);
	voxshm_abort(victim->link, &victim->loan);
}

static inline void victim_prepare(const struct operation *op, struct side *victim)
{
	size_t i;

	for (i = 0; i < read_part(op->down); i++)
		REQUIRE(side_receive(victim, op->down[i], PATIENCE));
	for (i = 0; op->up[i]; i++)
		if (op->up[i] != '|')
			REQUIRE(side_send(victim, op->up[i], PATIENCE));
	prepare_payload(victim, op->sends);
	if (op->prepare)
		op->prepare(victim);
}

static inline void victim_guest(void *argument)
{
	struct party *party = argument;
	struct guest_scene *guests = party->guests;
	struct side victim = { .seed_in = party->near.seed_out, .seed_out = party->near.seed_in };

	keep_descriptors(party->ticket);
	if (guests->scene->circumstance == FORKED && party->op->special)
		leave_child(guests->common);
	if (!party->op->special) {
		become_guest(party, &victim);
		victim_prepare(party->op, &victim);
		if (guests->scene->circumstance == FORKED)
			leave_child(guests->common);
	}
	victim_marker();
	if (party->op->special)
		become_guest(party, &victim);
	else
		party->op->run(&victim);
	victim_marker();
	if (victim.link)
		prove_sound(&victim, party->down);
	victim_marker();
}

/* Making a link ------------------------------------------------------------------------------------ */

/* Sent to the victim, if there is room; it will expect it. */
static inline int send_down(struct party *party, char kind)
{
	uint8_t data[LARGEST_MESSAGE];
	size_t size = message_size(kind, party->near.sent);
	int ret;

	pattern_fill(data, size, party->near.seed_out + party->near.sent);
	ret = TIMED(voxshm_try_send(party->near.link, data, size));
	if (ret == 0) {
		append_kinds(party->down, MAX_KINDS, (char[]){ kind, '\0' });
		party->near.sent++;
	}
	return ret;
}

static inline bool send_word(struct party *party, const char *word)
{
	int ret = 0;

	for (; *word && ret == 0; word++)
		if (*word != '|')
			ret = send_down(party, *word);
	return holds(ret == 0, "sending to the victim: %d", ret);
}

static inline void party_init(struct party *party, struct guest_scene *guests, int number,
			      const struct operation *op)
{
	uint64_t seed = guests->scene->seed + ((uint64_t)number << 48);

	*party = (struct party){
		.guests = guests,
		.op = op,
		.ticket = -1,
		.near = { .seed_out = seed, .seed_in = seed + (1u << 15) },
		.down = guests->common->down[number],
		.is_victim = true,
	};
	*party->down = '\0';
	append_kinds(party->up, sizeof(party->up), op->up);
	append_kinds(party->up, sizeof(party->up), op->sends);
	if (guests->scene->circumstance == RESUMED && strcmp(op->name, "close"))
		append_kinds(party->up, sizeof(party->up), "is");
}

static inline bool party_ticket(struct party *party)
{
	struct voxshm_error error = { "" };

	if (voxshm_host_ticket(party->guests->host, &party->ticket, &party->near.link, &error))
		return complain("ticket: %s", error.text);
	voxshm_link_set_data(party->near.link, party);
	voxshm_link_status(party->near.link, &party->status);
	return true;
}

/* A victim in a process of its own, at its first marker. */
static inline bool party_start(struct party *party)
{
	struct guest_scene *guests = party->guests;
	bool connects = party->op->special == CONNECT;

	if (!connects && (!party_ticket(party) || !send_word(party, party->op->down)))
		return false;
	party->victim = victim_fork(victim_guest, party);
	if (!connects) {
		REQUIRE_EQ(0, host_link_spawned(party->near.link, party->victim.pid));
		close(party->ticket);
	}
	return holds(victim_run_to_marker(&party->victim, serve, guests),
		     "the victim did not come to its first marker");
}

/* Sends until the ring is full, and waits for room. */
static inline bool fill_ring(struct party *party)
{
	int ret = 0;

	while (ret == 0 && strlen(party->down) + 1 < MAX_KINDS)
		ret = send_down(party, 'w');
	return holds(ret == -EAGAIN, "filling the ring: %d", ret) &&
	       holds(voxshm_link_arm(party->near.link, VOXSHM_WRITABLE) == 0,
		     "the full ring can be written to");
}

/* The victim stands at its first marker: what it sent until then is received. */
static inline bool party_meet(struct party *party)
{
	const struct operation *op = party->op;
	int64_t until = now_ns() + PATIENCE;
	size_t read = read_part(op->up);

	if (op->special)
		return true;
	while (!party->attached && now_ns() < until)
		pump(party->guests, 10 * MS);
	if (!holds(party->attached, "the victim's attach was not told"))
		return false;
	while (party->near.received < read)
		if (!side_receive(&party->near, party->up[party->near.received], PATIENCE))
			return false;
	if (!send_word(party, op->later))
		return false;
	if (op->survivor_fills && !fill_ring(party))
		return false;
	if (op->survivor_reads_asleep)
		return holds(voxshm_link_arm(party->near.link, VOXSHM_READABLE) == 0,
			     "there is something to read at the meeting");
	return holds(TIMED(voxshm_loan(party->near.link, message_size('s', 0), &party->near.loan,
				       0)) == 0, "no loan at the meeting");
}

/* While the victim stands still ------------------------------------------------------------------------ */

/* The survivor goes on with its work, and nothing that the victim does not do stops it. */
static inline bool party_work(struct party *party)
{
	static const char kinds[] = "isbis";
	struct side *near = &party->near;
	struct voxshm_loan loan;
	unsigned int i;
	int ret = 0;

	if (!near->link)
		return true;
	for (i = 0; i < 3; i++)
		if (!party_receive(party))
			return false;
	for (i = 0; kinds[i] && ret == 0; i++)
		ret = send_down(party, kinds[i]);
	if (!holds(ret == 0 || ret == -EAGAIN || ret == -EPIPE, "sending to one that stands "
		   "still: %d", ret))
		return false;
	if (ret == -EAGAIN) {
		ret = TIMED(voxshm_send(near->link, near, 200, MS));
		if (!holds(ret == -ETIMEDOUT || ret == -EPIPE, "waiting for one that stands still: %d",
			   ret))
			return false;
	}
	ret = TIMED(voxshm_loan(near->link, message_size('b', 0), &loan, 0));
	if (ret == 0)
		voxshm_abort(near->link, &loan);
	pump(party->guests, MS);
	return holds(ret == 0 || ret == -EAGAIN || ret == -EPIPE, "loan while one stands still: %d",
		     ret);
}

static inline bool stop_victim(struct party *party)
{
	int status;

	REQUIRE_EQ(0, ptrace(PTRACE_DETACH, party->victim.pid, 0, SIGSTOP));
	return holds(waitpid(party->victim.pid, &status, WUNTRACED) == party->victim.pid &&
		     WIFSTOPPED(status), "the victim did not stop");
}

static inline bool resume_victim(struct party *party)
{
	struct guest_scene *guests = party->guests;

	set_debug_register(&party->victim, 7, 0);
	if (guests->scene->arrival == ARRIVED &&
	    !holds(victim_run_to_marker(&party->victim, serve, guests),
		   "the victim, resumed, did not end what it did"))
		return false;
	return holds(victim_run_to_marker(&party->victim, serve, guests),
		     "the victim, resumed, was not sound");
}

/* After the death ---------------------------------------------------------------------------------------- */

/* All that comes, by waiting in recv, or by waiting for the host's events. */
static inline bool party_deliver(struct party *party, bool by_recv)
{
	int64_t began = now_ns();
	struct voxshm_view view;
	int ret = 0;

	while (by_recv && party->near.link && ret == 0 && !*complaint) {
		ret = TIMED(voxshm_recv(party->near.link, &view, PATIENCE));
		if (ret == 0 && holds(party->near.received < strlen(party->up),
				      "a message came that was not sent"))
			side_take(&party->near, party->up[party->near.received], view);
		else
			holds(ret == -EPIPE, "recv after the death: %d", ret);
	}
	while (!party->ended && !*complaint && now_ns() - began < BOUND) {
		pump(party->guests, 10 * MS);
		if (party->near.link && !party->ended)
			party_receive(party);
	}
	return holds(party->ended, "the end was not told") && !*complaint;
}

/* What must be known of an end, and in the order of its life. */
static inline bool party_check_record(struct party *party)
{
	struct guest_scene *guests = party->guests;
	struct voxshm_status *first = &party->status, last;
	bool leaves = !strcmp(party->op->name, "close");
	bool exit_known = party->op->special != CONNECT || link_is_on_device(party->near.link);
	size_t before = strlen(party->up) - strlen(party->op->sends);

	voxshm_link_status(party->near.link, &last);
	if (guests->scene->circumstance == RESUMED && !leaves)
		before -= strlen("is");
	guests->scene->delivered = party->near.received - (unsigned int)before;
	return holds(party->near.received >= before, "%u of %zu messages that had been sent were "
		     "delivered", party->near.received, before) &&
	       holds(party->end == VOXSHM_EVENT_DIED || (leaves && party->end ==
		     VOXSHM_EVENT_LEFT), "the end was told as event %d", party->end) &&
	       holds(last.state == (party->end == VOXSHM_EVENT_LEFT ? VOXSHM_LINK_LEFT :
		     VOXSHM_LINK_DIED), "the link's state is %d", last.state) &&
	       holds(last.exit_kind == (exit_known ? VOXSHM_EXIT_SIGNAL : VOXSHM_EXIT_UNKNOWN),
		     "the exit is of kind %d", last.exit_kind) &&
	       holds(!exit_known || last.exit_value == SIGKILL, "the exit's value is %d",
		     last.exit_value) &&
	       holds(last.pid == party->victim.pid, "the pid is %d, not %d", (int)last.pid,
		     (int)party->victim.pid) &&
	       holds(party->op->special == CONNECT || (last.epoch == first->epoch &&
		     last.peer_id == first->peer_id), "peer %u, epoch %u; at first %u, %u",
		     last.peer_id, last.epoch, first->peer_id, first->epoch);
}

/* What is lent still has its bytes, and can be given back. */
static inline bool party_let_go(struct party *party, bool all)
{
	struct side *near = &party->near;

	if (!near->link)
		return true;
	if (near->loan.data) {
		memset(near->loan.data, 0x5a, near->loan.size);
		holds(voxshm_commit(near->link, &near->loan, 1, 0) == -EPIPE,
		      "a loan was sent to the dead");
		voxshm_abort(near->link, &near->loan);
	}
	return side_check_held(near) && side_release(near, all);
}

static inline void party_close(struct party *party)
{
	voxshm_link_close(party->near.link);
	party->near.link = NULL;
}

/* Somebody new in the same place -------------------------------------------------------------------------- */

static inline bool exchange(struct side *one, struct side *other, const char *kinds)
{
	for (; *kinds; kinds++)
		if (!side_send(one, *kinds, PATIENCE) || !side_send(other, *kinds, PATIENCE) ||
		    !side_receive(other, *kinds, PATIENCE) ||
		    !side_receive(one, *kinds, PATIENCE))
			return false;
	return true;
}

static inline bool successor_leaves(struct party *successor)
{
	int64_t until = now_ns() + PATIENCE;

	while (!successor->ended && !*complaint && now_ns() < until)
		pump(successor->guests, 10 * MS);
	return holds(successor->ended && successor->end == VOXSHM_EVENT_LEFT,
		     "the successor did not leave: event %d", successor->end);
}

/* A new guest, in this process, takes the dead one's place and works. */
static inline bool succeed(struct party *dead, const char *kinds)
{
	static const struct operation nothing = { .name = "nothing", .up = "", .sends = "" };
	struct party successor;
	struct side far = { 0 };
	struct voxshm_error error = { "" };
	bool right;

	party_init(&successor, dead->guests, 0, &nothing);
	far.seed_in = successor.near.seed_out;
	far.seed_out = successor.near.seed_in;
	if (!party_ticket(&successor))
		return false;
	if (voxshm_guest_claim(&far.link, successor.ticket, &error)) {
		complain("the successor's claim: %s", error.text);
		party_close(&successor);
		return false;
	}
	right = exchange(&successor.near, &far, kinds) &&
		holds(successor.status.peer_id == dead->status.peer_id,
		      "the successor of peer %u is peer %u", dead->status.peer_id,
		      successor.status.peer_id) &&
		holds(successor.status.epoch > dead->status.epoch,
		      "the successor's epoch is %u, the dead one's was %u",
		      successor.status.epoch, dead->status.epoch);
	voxshm_link_close(far.link);
	right = right && successor_leaves(&successor);
	party_close(&successor);
	return right;
}

/* The run -------------------------------------------------------------------------------------------------- */

static inline void kill_forked(struct guest_scene *guests)
{
	pid_t pid = atomic_exchange(&guests->common->forked, 0);

	if (pid) {
		kill(pid, SIGKILL);
		REQUIRE_EQ(pid, waitpid(pid, NULL, 0));
	}
}

static inline bool run_to_point(struct guest_scene *guests, uint32_t k)
{
	struct scene *scene = guests->scene;
	struct party *first = &guests->victims[0];
	victim_serve_fn *served = first->op->special == CONNECT ? serve : NULL;
	enum arrival arrival;
	int i;

	if (!scene->trace.length) {
		scene->arrival = STRAYED;
		return holds(trace_record(&scene->trace, &first->victim, served, guests),
			     "the victim did not end what it did");
	}
	for (i = 0; i < guests->num_victims; i++) {
		/* The other one dies anywhere. */
		uint32_t point = i == 0 ? k :
			(uint32_t)(mix(scene->seed) % scene->trace.length);

		arrival = victim_run_to(&guests->victims[i].victim, &scene->trace, point, served,
					guests);
		if (i == 0)
			scene->arrival = arrival;
		if (!holds(arrival != LOST, "the victim ended by itself, with status 0x%x",
			   guests->victims[i].victim.status))
			return false;
	}
	return true;
}

static inline bool stand_still(struct guest_scene *guests)
{
	struct party *first = &guests->victims[0];

	switch (guests->scene->circumstance) {
	case STOPPED:
		return stop_victim(first) && party_work(first);
	case RESUMED:
		return party_work(first) && resume_victim(first);
	default:
		return true;
	}
}

static inline bool guests_start(struct guest_scene *guests)
{
	int i;

	guests->num_victims = guests->scene->circumstance == TOGETHER ? 2 : 1;
	for (i = 0; i < guests->num_victims; i++)
		party_init(&guests->victims[i], guests, i, guests->scene->op);
	for (i = 0; i < guests->num_victims; i++)
		if (!party_start(&guests->victims[i]) || !party_meet(&guests->victims[i]))
			return false;
	return true;
}

static inline bool guests_bury(struct guest_scene *guests, uint32_t k)
{
	int i;

	for (i = 0; i < guests->num_victims; i++)
		kill(guests->victims[i].victim.pid, SIGKILL);
	for (i = 0; i < guests->num_victims; i++)
		if (!party_deliver(&guests->victims[i], k % 2))
			return false;
	for (i = guests->num_victims; i-- > 0;)
		if (!party_check_record(&guests->victims[i]) ||
		    !party_let_go(&guests->victims[i], false))
			return false;
	if (!succeed(&guests->victims[0], k % 4 ? "isb" : "isbm"))
		return false;
	for (i = 0; i < guests->num_victims; i++) {
		if (!party_let_go(&guests->victims[i], true))
			return false;
		party_close(&guests->victims[i]);
	}
	return true;
}

static inline bool guest_dies_run(struct scene *scene, uint32_t k)
{
	struct guest_scene *guests = scene->data;
	struct holdings before = holdings_now();
	bool recorded = scene->trace.length;
	bool right;

	right = guests_start(guests) && run_to_point(guests, k) && stand_still(guests) &&
		guests_bury(guests, k);
	kill_forked(guests);
	return right && audit_host(guests->host) && (!recorded || holdings_same(&before)) &&
	       !*complaint;
}

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
	return true;
}

static inline void guest_dies_close(struct scene *scene)
{
	struct guest_scene *guests = scene->data;
	int i;

	for (i = 0; i < guests->num_victims; i++)
		if (guests->victims[i].victim.pid)
			child_kill(guests->victims[i].victim.pid);
	kill_forked(guests);
	voxshm_host_free(guests->host);
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
