/* SPDX-License-Identifier: MIT */
/*
 * host_dies.h - the victim is a host; the test is its guest, and survives.
 *
 * Each run has a host in a process of its own, and at the end an heir in this
 * process, which takes the dead one's address.
 */
#ifndef HOST_DIES_H
#define HOST_DIES_H

#include "address.h"
#include "bootstrap.h"
#include "crash/load.h"
#include "crash/party.h"

enum host_special {
	NEW_HOST = 1,	/* no guest is there yet */
	LISTEN,
	SPAWN,		/* makes a child, which the test reaps */
	ACCEPT,		/* somebody waits to be let in */
	BURY,		/* a guest has died before */
};

struct host_common {
	char down[MAX_KINDS];
	_Atomic pid_t forked;
	_Atomic bool companion_ready;
	_Atomic bool joined;		/* the test has; the others come after it */
	struct load load;
};

struct host_scene {
	struct scene *scene;
	struct host_common *common;	/* shared with the host and its other guest */
	struct party party;
	pid_t companion;		/* another guest of the victim's */
	int caller;			/* a socket on which somebody asks to be let in, or -1 */
	char address[64];
};

/* In the victim ------------------------------------------------------------------------------ */

static struct voxshm_host *victim_host;
static struct voxshm_link *victims_other_link;
static const struct host_scene *victims_scene;

static inline void op_new_host(struct side *victim)
{
	struct voxshm_config config = scene_config(victims_scene->scene);

	(void)victim;
	REQUIRE_EQ(0, voxshm_host_new(&victim_host, &config, NULL));
}

static inline void op_listen(struct side *victim)
{
	(void)victim;
	REQUIRE_EQ(0, voxshm_host_listen(victim_host, victims_scene->address, 0, NULL, NULL,
					 NULL));
}

static inline void op_ticket(struct side *victim)
{
	struct voxshm_link *link;
	int ticket;

	(void)victim;
	REQUIRE_EQ(0, voxshm_host_ticket(victim_host, &ticket, &link, NULL));
}

static inline void op_spawn(struct side *victim)
{
	char *argv[] = { program_path(), "--guest", "spawned", NULL };
	struct voxshm_link *link;

	(void)victim;
	REQUIRE_EQ(0, voxshm_host_spawn(victim_host, program_path(), argv, &link, NULL));
}

/* The caller has asked already. */
static inline void op_accept(struct side *victim)
{
	struct voxshm_event events[4];
	int i;

	(void)victim;
	for (i = 0; i < 4; i++)
		REQUIRE(voxshm_host_wait(victim_host, events, ARRAY_SIZE(events), 0) >= 0);
}

/* The other guest is dead already; what it sent comes before its end. */
static inline void op_bury(struct side *victim)
{
	struct voxshm_event event = { .type = VOXSHM_EVENT_ATTACHED };
	struct voxshm_view view;
	int waits = 0;

	(void)victim;
	do {
		REQUIRE(waits++ < 10000);
		if (voxshm_host_wait(victim_host, &event, 1, 0) == 1 &&
		    event.link == victims_other_link && event.type == VOXSHM_EVENT_READABLE &&
		    voxshm_try_recv(event.link, &view) == 0)
			voxshm_release(event.link, &view);
	} while (event.link != victims_other_link || event.type < VOXSHM_EVENT_LEFT);
	voxshm_link_close(victims_other_link);
}

static inline void op_free_host(struct side *victim)
{
	voxshm_host_free(victim_host);
	victim->link = NULL;
}

static const struct operation host_operations[] = {
	{ "new_host", "", "", "", "", .special = NEW_HOST, .run = op_new_host },
	{ "listen", "", "", "", "", .special = LISTEN, .prepare = op_new_host, .run = op_listen },
	{ "ticket", SOME_DOWN, SOME_UP, "", "", .run = op_ticket },
	{ "spawn", SOME_DOWN, SOME_UP, "", "", .special = SPAWN, .run = op_spawn },
	{ "accept", "IS", SOME_UP, "", "", .special = ACCEPT, .run = op_accept },
	{ "bury", "IS", SOME_UP, "", "", .special = BURY, .run = op_bury },
	{ "free_host", SOME_DOWN, SOME_UP, "", "", .closes = true, .run = op_free_host },
};

static inline bool has_link(const struct operation *op)
{
	return op->special != NEW_HOST && op->special != LISTEN;
}

static inline bool has_companion(const struct scene *scene)
{
	return has_link(scene->op) && (scene->op->special == BURY ||
				       scene->circumstance == TOGETHER ||
				       scene->circumstance == LOADED);
}

/* Lets the guests in; the test is one, and the companion, if there is one. */
static inline void await_guests(struct side *victim, int count)
{
	struct voxshm_status status;
	struct voxshm_event event;

	while (count > 0) {
		REQUIRE_EQ(1, voxshm_host_wait(victim_host, &event, 1, PATIENCE));
		if (event.type != VOXSHM_EVENT_ATTACHED)
			continue;
		voxshm_link_status(event.link, &status);
		if (status.pid == getppid())
			victim->link = event.link;
		else
			victims_other_link = event.link;
		count--;
	}
	REQUIRE(victim->link);
}

static inline void victim_host_run(void *argument)
{
	struct host_scene *hosts = argument;
	struct party *party = &hosts->party;
	struct side victim = victim_side(party);

	close_range(3, ~0u, 0);
	victims_scene = hosts;
	program_path();
	if (has_link(party->op)) {
		op_new_host(&victim);
		op_listen(&victim);
		victim_marker();
		await_guests(&victim, 1 + has_companion(hosts->scene));
		victim_marker();
	}
	victim_prepare(party->op, &victim);
	if (victim.link) {
		/* What the test rang for while that was done has come by now: it is taken. */
		victim_marker();
		voxshm_link_status(victim.link, &(struct voxshm_status){ 0 });
	}
	leave_child(party);
	victim_marker();
	party->op->run(&victim);
	victim_marker();
	if (victim.link)
		prove_sound(&victim, party->down);
	victim_marker();
}

/* Other processes ------------------------------------------------------------------------------ */

/* A guest that the victim starts: lives until that has gone. */
static inline int program_spawned(int argc, char **argv)
{
	struct voxshm_link *link = guest_inherit();
	struct voxshm_view view;
	int ret;

	(void)argc;
	(void)argv;
	ret = voxshm_recv(link, &view, PATIENCE);
	voxshm_link_close(link);
	return ret == -EPIPE ? 0 : 95;
}

/* Sent something, took a slot, and waits to be killed. */
static inline void companion_wait(struct host_scene *hosts, struct side *side)
{
	REQUIRE(side_send(side, 'i', PATIENCE) && side_send(side, 's', PATIENCE));
	REQUIRE_EQ(0, voxshm_loan(side->link, message_size('b', 0), &side->loan, PATIENCE));
	hosts->common->companion_ready = true;
	for (;;)
		pause();
}

static inline void companion_start(struct host_scene *hosts)
{
	struct side side = { .seed_out = hosts->scene->seed ^ 0x55 };

	hosts->common->companion_ready = false;
	hosts->common->joined = false;
	hosts->companion = child_fork();
	if (hosts->companion)
		return;
	close_range(3, ~0u, 0);
	while (!hosts->common->joined)
		sched_yield();
	REQUIRE_EQ(0, voxshm_guest_connect(&side.link, hosts->address, NULL, PATIENCE, NULL));
	if (hosts->scene->op->special == BURY)
		companion_wait(hosts, &side);
	load_run(&hosts->common->load, &side);
	voxshm_link_close(side.link);
	_exit(0);
}

static inline bool companion_kill(struct host_scene *hosts)
{
	int64_t until = now_ns() + PATIENCE;

	while (!hosts->common->companion_ready && now_ns() < until)
		sched_yield();
	child_kill(hosts->companion);
	hosts->companion = 0;
	return holds(hosts->common->companion_ready, "the other guest did not attach");
}

/* The other guest sees the end by itself. */
static inline bool companion_end(struct host_scene *hosts)
{
	int status;

	if (!hosts->companion)
		return true;
	status = child_wait(hosts->companion);
	hosts->companion = 0;
	if (hosts->scene->circumstance == TOGETHER)
		return true;
	return holds(status == 0, "the other guest ended with status 0x%x", status) &&
	       holds(hosts->common->load.longest_call < BOUND,
		     "a call of the other guest took %lld ms",
		     (long long)(hosts->common->load.longest_call / MS));
}

/* What the victim started is the test's child now. */
static inline bool reap_spawned(void)
{
	int64_t until = now_ns() + PATIENCE;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0 && now_ns() < until) {
		if (pid == 0)
			sleep_ms(1);
		else if (!holds(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
				"a guest that was started ended with status 0x%x", status))
			return false;
	}
	return holds(pid < 0, "a guest that was started does not end");
}

/* Somebody who asks to be let in ------------------------------------------------------------------ */

static inline bool caller_ask(struct host_scene *hosts)
{
	struct voxshm_error error = { "" };
	struct address where;

	REQUIRE_EQ(0, address_parse(&where, hosts->address, &error));
	hosts->caller = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(hosts->caller >= 0);
	return holds(connect(hosts->caller, &where.any, where.size) == 0 &&
		     bootstrap_request(hosts->caller, NULL, &error) == 0,
		     "asking to be let in: %s", strerror(errno));
}

/* The answer came, and leads to a link that has ended; or none came. */
static inline bool caller_learn(struct host_scene *hosts)
{
	int socket = hosts->caller, ret;
	struct voxshm_link *link;
	struct voxshm_view view;

	hosts->caller = -1;
	if (socket < 0)
		return true;
	ret = TIMED(voxshm_guest_claim(&link, socket, NULL));
	if (ret)
		return holds(ret == -EPIPE, "the caller's answer: %d", ret);
	ret = TIMED(voxshm_recv(link, &view, PATIENCE));
	voxshm_link_close(link);
	return holds(ret == -EPIPE, "the caller's recv: %d", ret);
}

/* The run -------------------------------------------------------------------------------------------- */

static inline bool to_next_marker(struct host_scene *hosts)
{
	struct victim *victim = &hosts->party.victim;

	return victim_holds(victim, victim_run_to_marker(victim, NULL, NULL),
			    "the victim did not come to its next marker");
}

/* The victim runs, and answers. */
static inline bool join_host(struct host_scene *hosts)
{
	struct party *party = &hosts->party;
	struct voxshm_error error = { "" };

	REQUIRE_EQ(0, ptrace(PTRACE_CONT, party->victim.pid, 0, 0));
	if (has_companion(hosts->scene))
		companion_start(hosts);
	if (TIMED(voxshm_guest_connect(&party->near.link, hosts->address, NULL, PATIENCE, &error)))
		return complain("connect: %s", error.text);
	hosts->common->joined = true;
	voxshm_link_status(party->near.link, &party->status);
	return victim_holds(&party->victim,
			    victim_wait(&party->victim, NULL, NULL) &&
			    victim_cause(&party->victim) == SI_KERNEL,
			    "the victim did not let its guests in");
}

static inline bool host_start(struct host_scene *hosts)
{
	struct scene *scene = hosts->scene;
	struct party *party = &hosts->party;
	const struct operation *op = scene->op;

	party_init(party, scene, 0, op, hosts->common->down);
	party->forked = &hosts->common->forked;
	abstract_address(hosts->address);
	party->victim = victim_fork(victim_host_run, hosts);
	if (has_link(op) && (!to_next_marker(hosts) || !join_host(hosts) ||
			     !send_word(party, op->down) || !to_next_marker(hosts)))
		return false;
	if (!to_next_marker(hosts) || (has_link(op) && !party_meet(party)))
		return false;
	if (op->special == BURY && !companion_kill(hosts))
		return false;
	return op->special != ACCEPT || caller_ask(hosts);
}

static inline bool host_stands_still(struct host_scene *hosts)
{
	struct party *party = &hosts->party;

	switch (hosts->scene->circumstance) {
	case STOPPED:
		return stop_victim(party) && party_work(party);
	case RESUMED:
		return (party->op->waits || party_work(party)) &&
		       resume_victim(party, NULL, NULL);
	default:
		return true;
	}
}

/* Whoever is left sees the end, and keeps what it has. */
static inline bool guest_survives(struct host_scene *hosts, bool asks)
{
	struct party *party = &hosts->party;
	struct voxshm_status status;
	bool right;

	if (!party->near.link)
		return true;
	if (asks)
		voxshm_link_status(party->near.link, &status);
	if (!party_drain(party) || !party_count(party))
		return false;
	voxshm_link_status(party->near.link, &status);
	right = party_check_exit(party, party->op->closes && status.state == VOXSHM_LINK_LEFT,
				 link_is_on_device(party->near.link), true) &&
		holds(voxshm_link_arm(party->near.link, VOXSHM_READABLE) == VOXSHM_READABLE,
		      "a wait for the dead would sleep") &&
		party_let_go(party, true);
	party_close(party);
	return right;
}

/* A new host takes the address, and works. */
static inline bool heir_works(struct host_scene *hosts, const char *kinds)
{
	struct voxshm_config config = scene_config(hosts->scene);
	struct side one = { .seed_out = hosts->scene->seed, .seed_in = ~hosts->scene->seed };
	struct side other = { .seed_out = one.seed_in, .seed_in = one.seed_out };
	struct voxshm_error error = { "" };
	struct voxshm_host *heir;
	int ticket = -1;
	bool right;

	if (voxshm_host_new(&heir, &config, &error))
		return complain("the next host: %s", error.text);
	right = holds(voxshm_host_listen(heir, hosts->address, 0, NULL, NULL, &error) == 0 &&
		      voxshm_host_ticket(heir, &ticket, &one.link, &error) == 0 &&
		      voxshm_guest_claim(&other.link, ticket, &error) == 0,
		      "the next host: %s", error.text) &&
		exchange(&one, &other, kinds);
	voxshm_link_close(other.link);
	voxshm_host_free(heir);
	return right;
}

static inline void host_reap(struct host_scene *hosts)
{
	struct victim *victim = &hosts->party.victim;

	kill(victim->pid, SIGKILL);
	if (hosts->scene->circumstance == TOGETHER && hosts->companion)
		kill(hosts->companion, SIGKILL);
}

static inline bool host_dies_run(struct scene *scene, uint32_t k)
{
	struct host_scene *hosts = scene->data;
	struct holdings before = holdings_now();
	bool recorded = scene->trace.length;
	bool right;

	right = host_start(hosts) && party_run_to(&hosts->party, k, NULL, NULL, NULL) &&
		host_stands_still(hosts);
	host_reap(hosts);
	right = right && guest_survives(hosts, k % 2) && companion_end(hosts);
	waitpid(hosts->party.victim.pid, NULL, 0);
	hosts->party.victim.pid = 0;
	kill_forked(&hosts->common->forked);
	right = right && caller_learn(hosts) && (scene->op->special != SPAWN || reap_spawned()) &&
		heir_works(hosts, k % 4 ? "isb" : "isbm") &&
		(!recorded || holdings_same(&before));
	return right && !*complaint;
}

/* The sweep ------------------------------------------------------------------------------------------- */

static inline bool host_dies_open(struct scene *scene)
{
	struct host_scene *hosts = calloc(1, sizeof(*hosts));

	REQUIRE(hosts);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	hosts->scene = scene;
	hosts->caller = -1;
	hosts->common = mmap(NULL, sizeof(*hosts->common), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(hosts->common != MAP_FAILED);
	scene->data = hosts;
	return true;
}

static inline void host_dies_close(struct scene *scene)
{
	struct host_scene *hosts = scene->data;

	if (hosts->party.near.link)
		voxshm_link_close(hosts->party.near.link);
	if (hosts->party.victim.pid)
		child_kill(hosts->party.victim.pid);
	if (hosts->companion)
		child_kill(hosts->companion);
	kill_forked(&hosts->common->forked);
	if (hosts->caller >= 0)
		close(hosts->caller);
	munmap(hosts->common, sizeof(*hosts->common));
	free(hosts);
	scene->data = NULL;
}

static const struct scenario host_dies = {
	.victim = "host",
	.open = host_dies_open,
	.close = host_dies_close,
	.run = host_dies_run,
};

#endif
