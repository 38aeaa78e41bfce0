// SPDX-License-Identifier: MIT
/*
 * throughput.c - measures one honest guest alone and beside each attacker, turn
 * and turn about (make bench-hostile: longer turns). What is tested is that it
 * gets on; the figures depend on the machine, and are printed.
 *
 * The host has one core for itself. Honest guest and attacker share another one,
 * as two cores are all that is sure to be there; so what counts is messages per
 * second of the honest guest's own processor time. It never sleeps: while the
 * host works for the attacker, that time runs.
 */
#define HONEST 1
#include "frames.h"

#include <math.h>

#define ROUNDS (amount(10) > 10 ? 7 : 1)
#define SLICE (amount(10) / 1e3)	/* seconds of the guest's */
#define SPIN_NS 4000000000u

FIXTURE(throughput)
{
	struct world world;
	cpu_set_t before;
};
VARIANTS(throughput)

/* Return: the core of that number among those we may use, or the last. */
static void pin(pid_t pid, const cpu_set_t *allowed, int number)
{
	cpu_set_t one;
	int core, last = 0;

	for (core = 0; core < CPU_SETSIZE && number >= 0; core++)
		if (CPU_ISSET(core, allowed)) {
			last = core;
			number--;
		}
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	REQUIRE_EQ(0, sched_setaffinity(pid, sizeof(one), &one));
}

FIXTURE_SETUP(throughput)
{
	REQUIRE_EQ(0, sched_getaffinity(0, sizeof(self->before), &self->before));
	world_open_spinning(_metadata, &self->world, &WORLD_CONFIG, SPIN_NS);
	pin(0, &self->before, 0);
	pin(self->world.honest[0].pid, &self->before, 1);
}

FIXTURE_TEARDOWN(throughput)
{
	world_close(_metadata, &self->world);
}

static double cpu_seconds(pid_t pid)
{
	struct timespec time;
	clockid_t clock;

	REQUIRE_EQ(0, clock_getcpuclockid(pid, &clock));
	REQUIRE_EQ(0, clock_gettime(clock, &time));
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Messages there and back, in a second of the guest's own time. */
static double measure(struct world *world)
{
	double start = cpu_seconds(world->honest[0].pid), used = 0;
	uint64_t before = world->board->exchanged[0];
	int64_t until = now_ns() + PATIENCE;

	while (used < SLICE && now_ns() < until) {
		for (int i = 0; i < 64; i++)
			serve(world);
		used = cpu_seconds(world->honest[0].pid) - start;
	}
	REQUIRE(used >= SLICE);
	return (double)(world->board->exchanged[0] - before) / used;
}

static double measure_beside(struct __test_metadata *_metadata, FIXTURE_DATA(throughput) *self,
			     attack_fn *run, int kind)
{
	struct world *world = &self->world;
	double result;

	attack_begin(_metadata, world, run, kind);
	pin(world->attacker_pid, &self->before, 1);
	EXPECT_TRUE(attack_goes_on(world));
	result = measure(world);
	voxshm_link_close(world->attacker);
	world->attacker = NULL;
	child_kill(world->attacker_pid);
	return result;
}

static void compare(struct __test_metadata *_metadata, FIXTURE_DATA(throughput) *self,
		    const char *name, attack_fn *run, int kind, bool feeds)
{
	double alone = 0, beside = 0, ratios = 0;
	const int rounds = ROUNDS;

	for (int i = 0; i < rounds; i++) {
		double a, b;

		self->world.feeds = false;
		a = measure(&self->world);
		self->world.feeds = feeds;
		b = measure_beside(_metadata, self, run, kind);
		EXPECT_LT(0, a);
		EXPECT_LT(0, b);
		alone += a / rounds;
		beside += b / rounds;
		ratios += log(b / a) / rounds;
	}
	TH_LOG("%-14s %d: %8.0f/s alone, %8.0f/s beside, ratio %.2f", name, kind, alone, beside,
	       exp(ratios));
}

#define COMPARE(name, kinds, feeds)							\
	TEST_F_TIMEOUT(throughput, name, 60)						\
	{										\
		for (int kind = 0; kind < (kinds); kind++)				\
			compare(_metadata, self, #name, attack_##name, kind, feeds);	\
	}

COMPARE(flood, FLOODS, false)
COMPARE(never_reads, 1, true)
COMPARE(never_releases, 1, true)
COMPARE(hoard, 1, false)
COMPARE(sleep_words, 2, true)
COMPARE(rings, RINGS, false)
COMPARE(returns, RETURNS, true)
COMPARE(calls, CALLS, false)

TEST_F_TIMEOUT(throughput, offers, 60)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device nothing is offered");
	for (int kind = 0; kind < OFFERS; kind++)
		compare(_metadata, self, "offers", attack_offers, kind, false);
}

LINK_TEST_MAIN(NULL)
