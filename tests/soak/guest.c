// SPDX-License-Identifier: MIT
/* guest.c - the life of one guest; see guest.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>

#include "link/basics.h"
#include "soak/guest.h"
#include "soak/leaks.h"
#include "soak/traffic.h"

static const struct manner manners[] = {
	{ .sends = 80, .receives = 15, .patience = 20000, .keeps = 5 },
	{ .sends = 50, .receives = 50, .patience = 10000, .answered = true },
	{ .sends = 40, .receives = 40, .patience = 5000, .keeps = 20, .rest = 5000 },
	{ .sends = 40, .receives = 40, .patience = 2000, .keeps = 70, .rest = 500 },
};

const struct manner *manner_of(uint64_t seed, uint32_t number, uint32_t life)
{
	uint64_t count = sizeof(manners) / sizeof(*manners);

	return &manners[mix(seed ^ (uint64_t)number << 32 ^ life) % count];
}

static struct ledger *ledger;

static uint32_t below(struct traffic *traffic, uint32_t limit)
{
	return (uint32_t)(random_next(&traffic->random) % limit);
}

/* The host reads it when it finds the guest dead. */
static void complain_and_end(const char *text)
{
	snprintf(ledger->fault, sizeof(ledger->fault), "%s", text);
	_exit(97);
}

/* Joining ------------------------------------------------------------------------------- */

static struct voxshm_link *join(const struct guest_order *order)
{
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;
	int ret;

	ledger->doing = JOINING;
	if (order->way == SPAWNED)
		ret = voxshm_guest_inherit(&link, &error);
	else if (order->way == TICKETED)
		ret = voxshm_guest_claim(&link, atoi(order->host), &error);
	else
		ret = voxshm_guest_connect(&link, order->host, NULL, PATIENCE, &error);
	if (ret == -EPIPE) {
		ledger->farewell = FAREWELL_UNJOINED;
		_exit(0);
	}
	if (ret)
		complain_and_end(*error.text ? error.text : strerror(-ret));
	ledger->doing = IDLE;
	return link;
}

/* Ending -------------------------------------------------------------------------------- */

static volatile sig_atomic_t in_call_exits, in_call_code;

static volatile int *volatile nowhere;

/* Wherever it is. */
static void end_here(int signal)
{
	if (in_call_exits)
		_exit(in_call_code);
	*nowhere = signal;
}

static void end_soon(struct traffic *traffic, uint32_t order)
{
	struct itimerval soon = { .it_value.tv_usec = 20 + below(traffic, 3000) };

	in_call_code = (sig_atomic_t)ledger->code;
	in_call_exits = order == ORDER_EXIT_IN_CALL;
	REQUIRE(signal(SIGALRM, end_here) != SIG_ERR);
	REQUIRE_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	ledger->order = ORDER_NONE;
}

static void close_link(struct traffic *traffic)
{
	const char *leak;

	traffic_abort_all(traffic);
	if (below(traffic, 2))
		traffic_release_all(traffic);
	ledger->doing = CLOSING;
	voxshm_link_close(traffic->link);
	ledger->doing = IDLE;
	leak = leaks_find();
	if (leak)
		complain_and_end(leak);
}

/* Everything that the host sent before its goodbye comes. */
static void host_left(struct traffic *traffic)
{
	struct voxshm_status status;
	int ret;

	do {
		ret = traffic_receive(traffic, PATIENCE);
		traffic_release(traffic);
	} while (ret >= 0 && !*traffic->fault);
	voxshm_link_status(traffic->link, &status);
	if (!*traffic->fault && status.state != VOXSHM_LINK_LEFT)
		snprintf(traffic->fault, sizeof(traffic->fault),
			 "the host left, and the link's state is %d (%s)", (int)status.state,
			 status.reason);
	if (*traffic->fault)
		complain_and_end(traffic->fault);
	close_link(traffic);
	ledger->farewell = FAREWELL_HOST;
	_exit(0);
}

static void obey(struct traffic *traffic)
{
	uint32_t order = ledger->order;

	switch (order) {
	case ORDER_NONE:
		return;
	case ORDER_CLOSE:
		close_link(traffic);
		ledger->farewell = FAREWELL_ORDERED;
		_exit(0);
	case ORDER_EXIT:
		_exit((int)ledger->code);
	default:
		end_soon(traffic, order);
	}
}

/* Living -------------------------------------------------------------------------------- */

/* Sleeps, or waits for the link's descriptor. */
static void rest(struct traffic *traffic, const struct manner *manner)
{
	int64_t time = below(traffic, manner->rest) * 1000ll;
	struct pollfd pollfd = { .events = POLLIN };

	ledger->doing = RESTING;
	if (below(traffic, 2)) {
		nanosleep(&(struct timespec){ .tv_nsec = time }, NULL);
	} else {
		pollfd.fd = voxshm_link_fd(traffic->link);
		if (pollfd.fd < 0)
			complain_and_end("there is no descriptor to poll");
		if (voxshm_link_arm(traffic->link, VOXSHM_READABLE) == 0)
			poll(&pollfd, 1, (int)(time / MS) + 1);
	}
	ledger->doing = IDLE;
}

static int turn(struct traffic *traffic, const struct manner *manner)
{
	int64_t patience = below(traffic, manner->patience) * 1000ll;
	uint32_t choice = below(traffic, 100);

	if (manner->rest && below(traffic, 4) == 0)
		rest(traffic, manner);
	if (below(traffic, 4) == 0)
		traffic_release(traffic);
	if (choice < manner->sends)
		return traffic_send(traffic, patience);
	if (choice < manner->sends + manner->receives)
		return traffic_receive(traffic, manner->rest || manner->answered ? patience : 0);
	return 0;
}

static void live(struct traffic *traffic, const struct manner *manner)
{
	int ret;

	for (;;) {
		obey(traffic);
		ret = turn(traffic, manner);
		if (*traffic->fault)
			complain_and_end(traffic->fault);
		if (ret == -EPIPE)
			host_left(traffic);
		ledger->turns++;
	}
}

int guest_main(const struct guest_order *order)
{
	const struct manner *manner = manner_of(order->seed, order->number, order->life);
	struct traffic traffic = {
		.out = stream_new(order->seed, order->number, order->life, false),
		.in = stream_new(order->seed, order->number, order->life, true),
		.random = mix(order->seed ^ order->life) + order->number,
		.keeps = manner->keeps,
	};
	struct ledger *ledgers;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ledgers = mmap(NULL, GUESTS * sizeof(*ledgers), PROT_READ | PROT_WRITE, MAP_SHARED,
		       order->ledger, 0);
	REQUIRE(ledgers != MAP_FAILED && order->number < GUESTS);
	close(order->ledger);
	ledger = &ledgers[order->number];
	traffic.counts = &ledger->counts;
	traffic.doing = &ledger->doing;
	leaks_begin();
	/* The ticket is the link's, and goes with it. */
	if (order->way != WALKED_IN)
		leaks_less_descriptors(1);
	traffic.link = join(order);
	if (below(&traffic, 3) == 0)
		voxshm_link_set_spin(traffic.link, 0);
	live(&traffic, manner);
	return 0;
}
