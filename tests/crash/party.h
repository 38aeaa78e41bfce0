/* SPDX-License-Identifier: MIT */
/*
 * party.h - a victim, and the survivor's end of the link to it.
 *
 * What holds for both: the victim's life up to its death, what the survivor
 * does meanwhile, and what it may count on afterwards.
 */
#ifndef PARTY_H
#define PARTY_H

#include "crash/sweep.h"

#define MAX_KINDS 64u

struct party {
	struct scene *scene;
	const struct operation *op;
	struct side near;
	char up[MAX_KINDS];		/* what the victim sends, if it comes so far */
	size_t up_before;		/* of these, before the operation */
	char *down;			/* what was sent to it; memory shared with it */
	bool goes_on;			/* it stands still for a while, and dies when it is done */
	struct voxshm_status status;	/* when the link was made */
	struct victim victim;
	_Atomic pid_t *forked;		/* the victim's child; shared with it */
};

static inline void party_init(struct party *party, struct scene *scene, int number,
			      const struct operation *op, char *down)
{
	uint64_t seed = scene->seed + ((uint64_t)number << 48);

	*party = (struct party){
		.scene = scene,
		.op = op,
		.near = { .seed_out = seed, .seed_in = seed + (1u << 15) },
		.down = down,
		.goes_on = scene->circumstance == RESUMED ||
			   (scene->circumstance == BESIDE && number == 0),
	};
	*down = '\0';
	append_kinds(party->up, sizeof(party->up), op->up);
	party->up_before = strlen(party->up);
	append_kinds(party->up, sizeof(party->up), op->sends);
	if (party->goes_on && !op->closes)
		append_kinds(party->up, sizeof(party->up), "is");
}

/* In the victim ---------------------------------------------------------------------- */

static inline struct side victim_side(const struct party *party)
{
	return (struct side){ .seed_in = party->near.seed_out, .seed_out = party->near.seed_in };
}

/* A child that has copies of all descriptors, and outlives its parent. */
static inline void leave_child(const struct party *party)
{
	pid_t pid;

	if (party->scene->circumstance != FORKED)
		return;
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		alarm((unsigned int)(4 * PATIENCE / SECOND));
		for (;;)
			pause();
	}
	*party->forked = pid;
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

/* It was let go on: all that was sent to it comes, and what it sends now arrives. */
static inline void prove_sound(struct side *victim, const char *down)
{
	while (victim->received < strlen(down) && !*complaint)
		side_receive(victim, down[victim->received], PATIENCE);
	side_send(victim, 'i', PATIENCE);
	side_send(victim, 's', PATIENCE);
	if (*complaint)
		fprintf(stderr, "# the victim, let go on: %s\n", complaint);
	REQUIRE(!*complaint);
	side_release(victim, true);
	voxshm_abort(victim->link, &victim->loan);
}

/* Sending and receiving -------------------------------------------------------------- */

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

/* A message that came, whichever. */
static inline bool party_take(struct party *party, struct voxshm_view view)
{
	unsigned int number = party->near.received;

	if (number >= strlen(party->up))
		return complain("a message of %zu bytes came that was not sent", view.size);
	return side_take(&party->near, party->up[number], view);
}

/* Return: false when something is wrong; true also when there is no message. */
static inline bool party_receive(struct party *party)
{
	struct voxshm_view view;
	int ret = TIMED(voxshm_try_recv(party->near.link, &view));

	if (ret == 0)
		return party_take(party, view);
	return holds(ret == -EAGAIN || ret == -EPIPE, "recv: %d", ret);
}

/* The meeting: the victim stands at its first marker ------------------------------------ */

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

static inline bool party_meet(struct party *party)
{
	const struct operation *op = party->op;
	struct side *near = &party->near;
	size_t read = read_part(op->up);

	while (near->received < read)
		if (!side_receive(near, party->up[near->received], PATIENCE))
			return false;
	if (!send_word(party, op->later))
		return false;
	if (op->survivor_fills && !fill_ring(party))
		return false;
	if (op->survivor_reads_asleep &&
	    !holds(voxshm_link_arm(near->link, VOXSHM_READABLE) == 0,
		   "there is something to read at the meeting"))
		return false;
	return holds(TIMED(voxshm_loan(near->link, message_size('s', 0), &near->loan, 0)) == 0,
		     "no loan at the meeting");
}

/* While the victim stands still ----------------------------------------------------------- */

/*
 * Takes two slots, and gives back the first: it is the next one again, but what
 * comes behind it is not what the victim may have seen there.
 */
static inline bool party_borrow(struct party *party)
{
	struct side *near = &party->near;
	struct voxshm_loan loan;
	int ret;

	ret = TIMED(voxshm_loan(near->link, message_size('s', 0), &loan, 0));
	if (ret == 0)
		ret = TIMED(voxshm_loan(near->link, message_size('s', 0), &near->second_loan, 0));
	voxshm_abort(near->link, &loan);
	return holds(ret == 0 || ret == -EAGAIN || ret == -EPIPE, "loan while one stands still: %d",
		     ret);
}

/* The survivor goes on with its work, and nothing that the victim does not do stops it. */
static inline bool party_work(struct party *party)
{
	static const char kinds[] = "isbis";
	struct side *near = &party->near;
	struct voxshm_view view;
	unsigned int i;
	int ret;

	if (!near->link)
		return true;
	if (party->scene->runs % 2)
		return party_borrow(party);
	for (i = 0; i < 2; i++)
		if (!party_receive(party))
			return false;
	ret = TIMED(voxshm_recv(near->link, &view, MS));
	if (ret == 0 && !party_take(party, view))
		return false;
	if (!holds(ret == 0 || ret == -ETIMEDOUT || ret == -EPIPE,
		   "recv from one that stands still: %d", ret))
		return false;
	for (i = 0, ret = 0; kinds[i] && ret == 0; i++)
		ret = send_down(party, kinds[i]);
	if (ret == -EAGAIN && !holds(TIMED(voxshm_send(near->link, near, 200, MS)) != 0,
				     "a message was sent where there was no room"))
		return false;
	if (!holds(ret == 0 || ret == -EAGAIN || ret == -EPIPE,
		   "sending to one that stands still: %d", ret))
		return false;
	return party_borrow(party);
}

static inline bool stop_victim(struct party *party)
{
	int status;

	REQUIRE_EQ(0, ptrace(PTRACE_DETACH, party->victim.pid, 0, SIGSTOP));
	return holds(waitpid(party->victim.pid, &status, WUNTRACED) == party->victim.pid &&
		     WIFSTOPPED(status), "the victim did not stop");
}

/* Lets it end what it does, and prove that it is sound. */
static inline bool resume_victim(struct party *party, victim_serve_fn *serve, void *data)
{
	set_debug_register(&party->victim, 7, 0);
	if (party->scene->arrival == ARRIVED &&
	    !victim_holds(&party->victim, victim_run_to_marker(&party->victim, serve, data),
			  "the victim, let go on, did not end what it did"))
		return false;
	/* Room for what comes. */
	while (party->near.link && party->near.received < party->up_before && !*complaint)
		party_receive(party);
	return victim_holds(&party->victim, victim_run_to_marker(&party->victim, serve, data),
			    "the victim, let go on, was not sound");
}

/*
 * To before instruction k, or the first time, instruction by instruction to
 * the end.
 */
static inline bool party_run_to(struct party *party, uint32_t k, victim_serve_fn *serve,
				victim_critical_fn *critical, void *data)
{
	struct scene *scene = party->scene;

	scene->arrival = RECORDED;
	if (!scene->trace.length)
		return victim_holds(&party->victim,
				    trace_record(&scene->trace, &party->victim, serve,
						 critical, data),
				    "the victim did not end what it did");
	scene->arrival = victim_run_to(&party->victim, &scene->trace, k, serve, data);
	return victim_holds(&party->victim, scene->arrival != LOST,
			    "the victim did not come to its point");
}

/* After the death ----------------------------------------------------------------------------- */

/* Waits in recv for all that was sent, and the end. */
static inline bool party_drain(struct party *party)
{
	struct voxshm_view view;
	int ret = 0;

	while (ret == 0 && !*complaint) {
		ret = TIMED(voxshm_recv(party->near.link, &view, PATIENCE));
		if (ret == 0)
			party_take(party, view);
	}
	return holds(ret == 0 || ret == -EPIPE, "recv after the death: %d", ret) && !*complaint;
}

/* How much of what the operation sends was delivered; the rest must have come in any case. */
static inline bool party_count(struct party *party)
{
	size_t received = party->near.received, before = party->up_before;
	size_t most = strlen(party->op->sends);

	party->scene->delivered = (unsigned int)(received - before < most ? received - before :
						 most);
	if (party->goes_on)
		before = strlen(party->up);
	return holds(received >= before, "%zu of %zu messages that had been sent were delivered",
		     received, before);
}

/* What is known of it: how it exited; at least its pid. */
static inline bool party_check_exit(struct party *party, bool left, bool exit_known,
				    bool pid_known)
{
	struct voxshm_status *first = &party->status, last;
	int64_t until = now_ns() + BOUND;

	/* What it had is closed before the process has ended. */
	do
		voxshm_link_status(party->near.link, &last);
	while (last.exit_kind == VOXSHM_EXIT_NONE && now_ns() < until);
	return holds(last.state == (left ? VOXSHM_LINK_LEFT : VOXSHM_LINK_DIED),
		     "the link's state is %d", last.state) &&
	       holds(last.exit_kind == (exit_known ? VOXSHM_EXIT_SIGNAL : VOXSHM_EXIT_UNKNOWN),
		     "the exit is of kind %d", last.exit_kind) &&
	       holds(!exit_known || last.exit_value == SIGKILL, "the exit's value is %d",
		     last.exit_value) &&
	       holds(last.pid == party->victim.pid || (!pid_known && last.pid == 0), "the pid is %d, not %d", (int)last.pid,
		     (int)party->victim.pid) &&
	       holds(last.epoch == first->epoch && last.peer_id == first->peer_id,
		     "peer %u, epoch %u; at first %u, %u", last.peer_id, last.epoch,
		     first->peer_id, first->epoch);
}

/* What is lent still has its bytes, and can be given back. */
static inline bool party_let_go(struct party *party, bool all)
{
	struct side *near = &party->near;

	if (near->loan.data) {
		memset(near->loan.data, 0x5a, near->loan.size);
		holds(voxshm_commit(near->link, &near->loan, 1, 0) == -EPIPE,
		      "a loan was sent to the dead");
		voxshm_abort(near->link, &near->loan);
	}
	if (near->second_loan.data)
		voxshm_abort(near->link, &near->second_loan);
	return side_check_held(near) && side_release(near, all);
}

static inline void party_close(struct party *party)
{
	voxshm_link_close(party->near.link);
	party->near.link = NULL;
}

static inline void kill_forked(_Atomic pid_t *forked)
{
	pid_t pid = atomic_exchange(forked, 0);

	if (pid) {
		kill(pid, SIGKILL);
		REQUIRE_EQ(pid, waitpid(pid, NULL, 0));
	}
}

/* Both ways, one of each kind. */
static inline bool exchange(struct side *one, struct side *other, const char *kinds)
{
	for (; *kinds; kinds++)
		if (!side_send(one, *kinds, PATIENCE) || !side_send(other, *kinds, PATIENCE) ||
		    !side_receive(other, *kinds, PATIENCE) ||
		    !side_receive(one, *kinds, PATIENCE))
			return false;
	return true;
}

#endif
