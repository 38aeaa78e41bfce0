// SPDX-License-Identifier: MIT
/*
 * main.c - sixteen guests at random sizes and speeds die, stop, leave and come
 * again, under one host after another, for as long as is wanted.
 *
 *	soak [SECONDS [SEED]]
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "link/basics.h"
#include "soak/leaks.h"
#include "soak/soak.h"

/* Of a run, at most: what comes first is warm-up. */
#define FEWEST_LIVES 8
#define WARM_UP_LIVES 4
#define LONGEST_LIFE (6 * SECOND)
/* By how much resident memory may grow after that, in KiB. */
#define RESIDENT_MARGIN 2048

struct soak soak = { .ledger_fd = -1 };

uint32_t soak_random(uint32_t limit)
{
	return (uint32_t)(random_next(&soak.random) % limit);
}

/* Ends everything when the host's thread no longer goes on. */
static void *watch(void *unused)
{
	int64_t changed = now_ns();
	uint64_t turns = 0;
	uint32_t i;

	(void)unused;
	while (now_ns() - changed < 2 * LIMIT) {
		sleep_ms(200);
		if (soak.turns != turns)
			changed = now_ns();
		turns = soak.turns;
	}
	printf("# seed %" PRIu64 ", host %u: the host does not go on\n", soak.seed, soak.host_life);
	report_who_waits();
	for (i = 0; i < GUESTS; i++)
		if (soak.places[i].pidfd >= 0)
			kill(soak.places[i].pid, SIGKILL);
	printf("Bail out! It hangs.\n");
	fflush(stdout);
	_exit(1);
}

static void init(uint64_t seed, int64_t duration)
{
	struct rlimit no_core = { 0, 0 };
	uint32_t i;

	soak.seed = seed;
	soak.random = seed;
	soak.begin = now_ns();
	soak.end = soak.begin + duration;
	soak.next_report = soak.begin + 30 * SECOND;
	/* Inherited: every guest finds its ledger there. */
	soak.ledger_fd = memfd_create("soak-ledgers", 0);
	REQUIRE(soak.ledger_fd >= 0);
	REQUIRE_EQ(0, ftruncate(soak.ledger_fd, GUESTS * sizeof(*soak.ledgers)));
	soak.ledgers = mmap(NULL, GUESTS * sizeof(*soak.ledgers), PROT_READ | PROT_WRITE,
			    MAP_SHARED, soak.ledger_fd, 0);
	REQUIRE(soak.ledgers != MAP_FAILED);
	for (i = 0; i < GUESTS; i++) {
		soak.places[i].number = i;
		soak.places[i].pidfd = -1;
		soak.places[i].ledger = &soak.ledgers[i];
	}
	REQUIRE_EQ(0, setrlimit(RLIMIT_CORE, &no_core));
	setvbuf(stdout, NULL, _IOLBF, 1 << 12);
	traffic_warm_up();
}

static int host_main(int64_t duration, uint64_t seed)
{
	int64_t life = duration / FEWEST_LIVES, left;
	pthread_t watcher;
	uint32_t number;

	init(seed, duration);
	report_begin(duration);
	REQUIRE_EQ(0, pthread_create(&watcher, NULL, watch, NULL));
	leaks_begin();
	if (life > LONGEST_LIFE)
		life = LONGEST_LIFE;
	for (number = 0; (left = soak.end - now_ns()) > 0; number++) {
		int64_t wanted = life / 2 + soak_random((uint32_t)(life / MS)) * MS;

		life_run(number & 1, !(number & 2), wanted < left ? wanted : left);
		if (number + 1 == WARM_UP_LIVES)
			soak.resident_limit = soak.resident + RESIDENT_MARGIN;
		if (soak_failures() > 20)
			break;
	}
	/* Without what came after the warm-up there is nothing to compare. */
	if (number <= WARM_UP_LIVES)
		soak_fail(RESIDENT, NULL, "%u hosts are too few", number);
	return report_tests();
}

int main(int argc, char **argv)
{
	if (argc == GUEST_ARGUMENTS + 2 && !strcmp(argv[1], "--guest"))
		return guest_main(&(struct guest_order){
			.number = (uint32_t)strtoul(argv[2], NULL, 10),
			.life = (uint32_t)strtoul(argv[3], NULL, 10),
			.way = (enum way)strtoul(argv[4], NULL, 10),
			.seed = strtoull(argv[5], NULL, 10),
			.ledger = atoi(argv[6]),
			.host = argv[7],
		});
	return host_main((argc > 1 ? atoi(argv[1]) : 20) * SECOND,
			 argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)now_ns());
}
