/* SPDX-License-Identifier: MIT */
/*
 * crowd.c - see crowd.h; and the rows of section "guests": what one message
 * costs a host that has many guests, its loop included.
 *
 * The leading side is the host. All links have the defaults.
 */
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crowd.h"
#include "loops.h"

#define EVENTS 32

/* How the messages come. */
enum variant {
	VARIANT_ONE_BUSY,	/* there and back with one guest, the others are silent */
	VARIANT_IN_TURN,	/* one message from each, sent by one process with all links */
	VARIANT_READY,		/* the same, but sent before the host begins, who alone is timed */
	VARIANT_PROCESSES,	/* each guest a process, all on one processor */
};

struct crowd_side {
	struct crowd crowd;
	struct voxshm_link *guests[CROWD_MAX];	/* the other side's ends */
	uint64_t received[CROWD_MAX];		/* by link */
	/* to the guests' processes, in shared memory: a futex, and how many each sends */
	struct orders {
		_Atomic uint32_t turn, sent;
		_Atomic uint64_t shares[CROWD_MAX];
	} *orders;
};

static char failure_text[sizeof(((struct voxshm_error *)0)->text) + 40];

static const char *explain(const char *what, const struct voxshm_error *error)
{
	snprintf(failure_text, sizeof(failure_text), "%s: %s", what, error->text);
	return failure_text;
}

const char *crowd_init(struct crowd *crowd, unsigned int guests, enum voxshm_format format)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error = { "" };
	unsigned int i;

	*crowd = (struct crowd){ .guests = guests };
	config.max_guests = guests ? guests : 1;
	config.format = format;
	if (voxshm_host_new(&crowd->host, &config, &error))
		return explain("host", &error);
	for (i = 0; i < guests; i++) {
		if (voxshm_host_ticket(crowd->host, &crowd->tickets[i], &crowd->links[i], &error))
			return explain("ticket", &error);
		voxshm_link_set_data(crowd->links[i], (void *)(uintptr_t)i);
	}
	return NULL;
}

void crowd_close_tickets(struct crowd *crowd)
{
	unsigned int i;

	for (i = 0; i < crowd->guests; i++)
		close(crowd->tickets[i]);
}

struct voxshm_link *crowd_claim(const struct crowd *crowd, unsigned int index,
				const char **failure)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;

	if (voxshm_guest_claim(&link, crowd->tickets[index], &error))
		*failure = explain("claim", &error);
	return link;
}

void *crowd_shared(size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return base == MAP_FAILED ? NULL : base;
}

pid_t crowd_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static const char *crowd_open(struct side *side)
{
	struct crowd_side *state = calloc(1, sizeof(*state));

	if (!state)
		return "no memory";
	side->state = state;
	state->orders = crowd_shared(sizeof(*state->orders));
	if (!state->orders)
		return "no memory";
	return crowd_init(&state->crowd, side->guests, VOXSHM_FORMAT_NATIVE);
}

static void send_to(struct side *side, struct voxshm_link *link, uint64_t value)
{
	int ret;

	payload_fill(side->buffer, side->size, value);
	ret = voxshm_send(link, side->buffer, side->size, VOXSHM_FOREVER);
	if (__builtin_expect(ret, 0))
		side_fail(side, "voxshm_send", ret);
}

/* A guest of VARIANT_PROCESSES: sends its share whenever it is told to. */
static void guest_process(struct side *side, unsigned int index)
{
	struct crowd_side *state = side->state;
	struct orders *orders = state->orders;
	const char *failure = NULL;
	struct voxshm_link *link = crowd_claim(&state->crowd, index, &failure);
	uint64_t share, sent = 0;
	uint32_t turn = 0;

	if (!link)
		side_fail(side, failure, 0);
	for (;;) {
		while (atomic_load(&orders->turn) == turn)
			syscall(SYS_futex, &orders->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
		turn++;
		for (share = atomic_load(&orders->shares[index]); share; share--)
			send_to(side, link, sent++);
		atomic_store(&orders->shares[index], 0);
	}
}

static const char *crowd_join(struct side *side)
{
	struct crowd_side *state = side->state;
	const char *failure = NULL;
	unsigned int i;

	if (side->leads) {
		crowd_close_tickets(&state->crowd);
		return NULL;
	}
	for (i = 0; i < side->guests && !failure; i++) {
		if (side->transport->variant == VARIANT_PROCESSES) {
			if (crowd_fork() == 0)
				guest_process(side, i);
		} else {
			state->guests[i] = crowd_claim(&state->crowd, i, &failure);
		}
	}
	return failure;
}

/* What the application on a host does: waits for news of all, takes what there is. */
static void host_take(struct side *side, uint64_t count)
{
	struct crowd_side *state = side->state;
	struct voxshm_event events[EVENTS];
	struct voxshm_view view;
	int found, i;
	uintptr_t index;

	while (count) {
		found = voxshm_host_wait(state->crowd.host, events, EVENTS, VOXSHM_FOREVER);
		if (__builtin_expect(found < 0, 0))
			side_fail(side, "voxshm_host_wait", found);
		for (i = 0; i < found; i++) {
			if (events[i].type > VOXSHM_EVENT_WRITABLE)
				side_fail(side, "a guest ended", 0);
			index = (uintptr_t)voxshm_link_data(events[i].link);
			while (count && voxshm_try_recv(events[i].link, &view) == 0) {
				payload_check(side, view.data, state->received[index]++);
				voxshm_release(events[i].link, &view);
				count--;
			}
		}
	}
}

static void crowd_trips(struct side *side, uint64_t count, struct histogram *histogram)
{
	struct crowd_side *state = side->state;
	uint64_t before = ticks(), after;

	while (count--) {
		send_to(side, state->crowd.links[0], side->sent++);
		host_take(side, 1);
		after = ticks();
		histogram_add(histogram, after - before);
		before = after;
	}
}

static void crowd_echo(struct side *side, uint64_t count)
{
	struct crowd_side *state = side->state;
	struct voxshm_view view;
	int ret;

	while (count--) {
		ret = voxshm_recv(state->guests[0], &view, VOXSHM_FOREVER);
		if (__builtin_expect(ret, 0))
			side_fail(side, "voxshm_recv", ret);
		payload_check(side, view.data, side->received++);
		voxshm_release(state->guests[0], &view);
		send_to(side, state->guests[0], side->sent++);
	}
}

/* A trip is the host's time for one of the messages. */
static void ready_take(struct side *side, uint64_t count, struct histogram *histogram)
{
	struct orders *orders = ((struct crowd_side *)side->state)->orders;
	double before, tick = ticks_ns();
	uint32_t turn;

	while (count--) {
		turn = atomic_fetch_add(&orders->turn, 1) + 1;
		while (atomic_load(&orders->sent) != turn)
			spin_pause();
		/* Not by ticks(), which a processor may count before the messages are there. */
		before = now_ns();
		host_take(side, side->guests);
		histogram_add(histogram,
			      (uint64_t)((now_ns() - before) / tick / side->guests));
	}
}

static void ready_send(struct side *side, uint64_t count)
{
	struct crowd_side *state = side->state;
	struct orders *orders = state->orders;
	unsigned int i;

	for (; count; count--, side->sent++) {
		while (atomic_load(&orders->turn) == atomic_load(&orders->sent))
			spin_pause();
		for (i = 0; i < side->guests; i++)
			send_to(side, state->guests[i], side->sent);
		atomic_fetch_add(&orders->sent, 1);
	}
}

static void in_turn_send(struct side *side, uint64_t count)
{
	struct crowd_side *state = side->state;

	for (; count; count--, side->sent++)
		send_to(side, state->guests[side->sent % side->guests],
			side->sent / side->guests);
}

/* Tells all processes; the host knows when it has all. */
static void processes_send(struct side *side, uint64_t count)
{
	struct orders *orders = ((struct crowd_side *)side->state)->orders;
	unsigned int i;

	for (i = 0; i < side->guests; i++)
		atomic_store(&orders->shares[i], count / side->guests +
			     (i < count % side->guests));
	atomic_fetch_add(&orders->turn, 1);
	syscall(SYS_futex, &orders->turn, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	for (i = 0; i < side->guests; i++)
		while (atomic_load(&orders->shares[i]))
			usleep(100);
}

const struct transport crowd_one_busy = {
	.name = "round trip with one, others idle", .family = "voxshm", .jobs = JOB_TRIPS,
	.variant = VARIANT_ONE_BUSY, .open = crowd_open, .join = crowd_join,
	.trips = crowd_trips, .echo = crowd_echo,
};

const struct transport crowd_in_turn = {
	.name = "one message from each in turn", .family = "voxshm", .jobs = JOB_STREAM,
	.variant = VARIANT_IN_TURN, .open = crowd_open, .join = crowd_join,
	.stream = host_take, .sink = in_turn_send,
};

const struct transport crowd_ready = {
	.name = "one message from each lies ready", .family = "voxshm", .jobs = JOB_TRIPS,
	.variant = VARIANT_READY, .open = crowd_open, .join = crowd_join,
	.trips = ready_take, .echo = ready_send,
};

const struct transport crowd_processes = {
	.name = "each guest a process", .family = "voxshm", .jobs = JOB_STREAM,
	.min_count = 16384, .variant = VARIANT_PROCESSES, .open = crowd_open, .join = crowd_join,
	.stream = host_take, .sink = processes_send,
};
