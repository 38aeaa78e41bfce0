/* SPDX-License-Identifier: MIT */
/*
 * concurrency.c - many threads and processes that link, claim, ring, make, drop and
 * map objects, grow, detach, close and die, all at once, for 20 seconds (a minute
 * with TEST_LONG=1); then nothing of it is left.
 */
#include "processes.h"

#define WORKERS		4	/* processes that are replaced when they die */
#define THREADS		3	/* of each */
#define SLOTS		6	/* links that the threads of a worker share */
#define SECONDS		(test_long() ? 60 : 20)

FIXTURE(concurrency) {
	char node[64];
	uid_t uid;
};

FIXTURE_SETUP(concurrency)
{
	node_make(self->node, sizeof(self->node), 0666, 0);
	self->uid = fresh_user();
}

FIXTURE_TEARDOWN(concurrency)
{
	unlink(self->node);
}

static uint32_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

/* What happened, in memory that all processes share. */
struct counts {
	_Atomic uint64_t links, claims, rings, objects, maps, grows, ends, forks, kills;
};

static struct counts *counts;

#define COUNT(what, condition) \
	atomic_fetch_add(&counts->what, (condition) ? 1 : 0)

/* What the threads of a worker, and its guests, fight over. Nobody locks anything. */
struct worker {
	int segment;
	int bell;
	_Atomic int hosts[SLOTS];
	_Atomic int guests[SLOTS];
	int64_t until;
};

/* A guest in a process of its own, that dies in one way or another. */
static void guest_lives(int ticket, uint64_t seed)
{
	const size_t page = page_size();
	int bell = doorbell_new(), i;
	char *window;

	if (claim_with(ticket, bell, NULL) < 0)
		_exit(0);
	COUNT(claims, true);
	window = map_object(ticket, VOXSHM_OBJECT_WINDOW, page, PROT_READ | PROT_WRITE);
	for (i = random_next(&seed) % 20; i; i--) {
		if (window)
			window[random_next(&seed) % page] = i;
		COUNT(rings, ring(ticket) == 0);
		COUNT(objects, object_create(ticket, i % 8, page) == 0);
		object_drop(ticket, random_next(&seed) % 8);
		doorbell_take(bell);
	}
	switch (random_next(&seed) % 6) {
	case 0:
		detach(ticket);
		break;
	case 1:
		close(ticket);
		break;
	case 2:
		if (window)
			munmap(window, page);
		break;
	case 3:
		raise(SIGKILL);
		break;
	case 4:
		/* Leaves a child that has the descriptors for a moment longer. */
		if (fork() == 0)
			sleep_ms(5);
		break;
	case 5:
		execl("/proc/self/exe", "exec", "--exit-after", "-1", "0", NULL);
		break;
	}
	_exit(0);
}

static void spawn_guest(struct worker *worker, int slot, uint64_t seed)
{
	int ticket = atomic_load(&worker->guests[slot]);
	pid_t pid = fork();

	COUNT(forks, pid > 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		guest_lives(ticket, seed);
	}
}

static void link_slot(struct worker *worker, int slot)
{
	struct link link = { -1, -1, 0, 0 };

	if (link_at(worker->segment, 0, &link) < 0)
		return;
	COUNT(links, true);
	/* Who was there before is closed, whatever others are doing with it. */
	close(atomic_exchange(&worker->hosts[slot], link.host));
	close(atomic_exchange(&worker->guests[slot], link.guest));
	bind_to(link.host, worker->bell);
}

static void map_something(struct worker *worker, int end, uint64_t *seed)
{
	static const uint32_t ids[] = { VOXSHM_OBJECT_MAIN, VOXSHM_OBJECT_WINDOW,
					VOXSHM_OBJECT_POOL, VOXSHM_OBJECT_HOST,
					VOXSHM_OBJECT_GUEST, VOXSHM_OBJECT_GUEST + 1 };
	volatile char *map = map_object(end, ids[random_next(seed) % ARRAY_SIZE(ids)], page_size(),
					PROT_READ);

	COUNT(maps, map);
	if (!map)
		return;
	(void)map[random_next(seed) % page_size()];
	munmap((void *)map, page_size());
}

static void one_step(struct worker *worker, uint64_t *seed)
{
	int slot = random_next(seed) % SLOTS;
	int host = atomic_load(&worker->hosts[slot]), guest = atomic_load(&worker->guests[slot]);
	struct voxshm_ioc_status status;

	switch (random_next(seed) % 16) {
	case 0: case 1:
		link_slot(worker, slot);
		break;
	case 2:
		COUNT(claims, claim_with(guest, worker->bell, NULL) == 0);
		break;
	case 3: case 4:
		COUNT(rings, ring(random_next(seed) % 2 ? host : guest) == 0);
		break;
	case 5:
		COUNT(objects, object_create(host, random_next(seed) % 4, page_size()) == 0);
		break;
	case 6:
		COUNT(objects, object_create(guest, random_next(seed) % 4, page_size()) == 0);
		break;
	case 7:
		object_drop(random_next(seed) % 2 ? host : guest, random_next(seed) % 4);
		break;
	case 8: case 9:
		map_something(worker, random_next(seed) % 2 ? host : guest, seed);
		break;
	case 10:
		COUNT(ends, detach(random_next(seed) % 2 ? host : guest) == 0);
		break;
	case 11:
		close(atomic_exchange(random_next(seed) % 2 ? &worker->hosts[slot] :
				      &worker->guests[slot], -1));
		break;
	case 12:
		status_of(random_next(seed) % 2 ? host : guest, &status);
		hung_up(host);
		break;
	case 13:
		spawn_guest(worker, slot, *seed);
		break;
	case 14:
		COUNT(grows, random_next(seed) % 20 == 0 &&
		      grow(worker->segment, page_size(), NULL) == 0);
		break;
	case 15:
		bind_to(host, worker->bell);
		doorbell_take(worker->bell);
		break;
	}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

struct thread {
	struct worker *worker;
	uint64_t seed;
};

static void *thread_run(void *argument)
{
	struct thread *thread = argument;

	while (now_ns() < thread->worker->until)
		one_step(thread->worker, &thread->seed);
	return NULL;
}

/* A host of its own, which lives for a moment and ends somehow. */
static void worker_run(const char *node, uid_t uid, uint64_t seed)
{
	struct voxshm_ioc_create create = create_default();
	struct worker worker = { .bell = doorbell_new() };
	struct thread threads[THREADS];
	pthread_t ids[THREADS];
	int i;

	become(uid, uid);
	signal(SIGSEGV, SIG_DFL);
	worker.segment = open(node, O_RDWR | O_CLOEXEC);
	REQUIRE_EQ(0, call(worker.segment, VOXSHM_IOC_CREATE, &create));
	for (i = 0; i < SLOTS; i++)
		worker.hosts[i] = worker.guests[i] = -1;
	worker.until = now_ns() + (200 + random_next(&seed) % 1500) * MS;
	for (i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ &worker, seed + i };
		REQUIRE_EQ(0, pthread_create(&ids[i], NULL, thread_run, &threads[i]));
	}
	/* Some end in the middle of what their threads do. */
	if (random_next(&seed) % 2) {
		sleep_ms(random_next(&seed) % 1000);
		COUNT(kills, true);
		if (random_next(&seed) % 2)
			raise(SIGKILL);
		_exit(0);
	}
	for (i = 0; i < THREADS; i++)
		REQUIRE_EQ(0, pthread_join(ids[i], NULL));
	while (waitpid(-1, NULL, 0) > 0)
		;
	_exit(0);
}

static pid_t worker_start(const char *node, uid_t uid, uint64_t seed)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		worker_run(node, uid, seed);
	}
	return pid;
}

static uint64_t references(void)
{
	return number_in("/sys/module/voxshm/refcnt", "");
}

TEST_F_TIMEOUT(concurrency, all_at_once, 110)
{
	uint64_t before = references();
	int failed = 0, status, i;
	int64_t until = now_ns() + SECONDS * SECOND;
	uint64_t seed = now_ns(), available;
	pid_t pids[WORKERS], pid;

	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)counts);
	DIAG("seed %" PRIu64, seed);
	available = memory_available();
	for (i = 0; i < WORKERS; i++)
		pids[i] = worker_start(self->node, self->uid, random_next(&seed));
	while (now_ns() < until) {
		pid = waitpid(-1, &status, 0);
		ASSERT_GT(pid, 0);
		for (i = 0; i < WORKERS && pids[i] != pid; i++)
			;
		if (i == WORKERS)
			continue;
		kill(-pid, SIGKILL);
		failed += WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : status != 0;
		pids[i] = worker_start(self->node, self->uid, random_next(&seed));
	}
	for (i = 0; i < WORKERS; i++)
		kill(-pids[i], SIGKILL);
	while (waitpid(-1, &status, 0) > 0)
		;
	DIAG("%ju links, %ju claims, %ju rings, %ju objects, %ju mappings, %ju pools, %ju ends, "
	     "%ju guests, %ju hosts killed", counts->links, counts->claims, counts->rings,
	     counts->objects, counts->maps, counts->grows, counts->ends, counts->forks,
	     counts->kills);
	EXPECT_EQ(0, failed);
	/* Nothing of it stood still all the time. */
	EXPECT_GT(atomic_load(&counts->links), 10);
	EXPECT_GT(atomic_load(&counts->claims), 10);
	EXPECT_GT(atomic_load(&counts->rings), 10);
	EXPECT_GT(atomic_load(&counts->objects), 10);
	EXPECT_GT(atomic_load(&counts->maps), 10);
	EXPECT_GT(atomic_load(&counts->ends), 10);
	EXPECT_GT(atomic_load(&counts->forks), 10);
	/* And everything is given back. */
	EXPECT_TRUE(user_uses_nothing(self->node, self->uid));
	EXPECT_TRUE(EVENTUALLY(references() == before))
		TH_LOG("%ju references, %ju before", references(), before);
	EXPECT_TRUE(EVENTUALLY(memory_available() + 64 * MIB > available));
}

/* A few races that chance would seldom find ------------------------------------------- */

#define ROUNDS (test_long() ? 3000 : 300)

/* Both start at the same time, as near as can be. */
struct race {
	pthread_barrier_t start;
	struct link link;
	int segment;
	int bell;
	_Atomic int results[2];
};

struct racer {
	struct race *race;
	int number;
	int (*run)(struct race *race);
};

static void *racer_run(void *argument)
{
	struct racer *racer = argument;

	pthread_barrier_wait(&racer->race->start);
	racer->race->results[racer->number] = racer->run(racer->race);
	return NULL;
}

static void race(struct race *race, int (*one)(struct race *race), int (*two)(struct race *race))
{
	struct racer racers[2] = { { race, 0, one }, { race, 1, two } };
	pthread_t threads[2];
	int i;

	REQUIRE_EQ(0, pthread_barrier_init(&race->start, NULL, 2));
	for (i = 0; i < 2; i++)
		REQUIRE_EQ(0, pthread_create(&threads[i], NULL, racer_run, &racers[i]));
	for (i = 0; i < 2; i++)
		REQUIRE_EQ(0, pthread_join(threads[i], NULL));
	pthread_barrier_destroy(&race->start);
}

static int race_claim(struct race *race)
{
	return claim_with(race->link.guest, race->bell, NULL);
}

static int race_detach_host(struct race *race)
{
	return detach(race->link.host);
}

static int race_create_object(struct race *race)
{
	return object_create(race->link.guest, 0, page_size());
}

static int race_link_peer_one(struct race *race)
{
	struct link link = { -1, -1, 0, 0 };
	int ret = link_at(race->segment, 1, &link);

	if (ret == 0)
		race->link = link;
	return ret;
}

FIXTURE(races) {
	struct race race;
};

FIXTURE_SETUP(races)
{
	self->race.segment = segment_new();
	self->race.bell = doorbell_new();
}

FIXTURE_TEARDOWN(races)
{
	close(self->race.segment);
	close(self->race.bell);
}

/* One of two wins, the other gets this error. */
static bool one_wins(const struct race *race, int error)
{
	return (race->results[0] == 0 && race->results[1] == -error) ||
	       (race->results[1] == 0 && race->results[0] == -error);
}

TEST_F_TIMEOUT(races, two_claim_one_ticket, 100)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		self->race.link = link_new(self->race.segment);
		race(&self->race, race_claim, race_claim);
		ASSERT_TRUE(one_wins(&self->race, EBUSY))
			TH_LOG("%d, %d", self->race.results[0], self->race.results[1]);
		ASSERT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->race.link.host));
		link_close(&self->race.link);
	}
}

TEST_F_TIMEOUT(races, two_take_one_peer_id, 100)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		race(&self->race, race_link_peer_one, race_link_peer_one);
		ASSERT_TRUE(one_wins(&self->race, EBUSY))
			TH_LOG("%d, %d", self->race.results[0], self->race.results[1]);
		link_close(&self->race.link);
	}
}

TEST_F_TIMEOUT(races, two_make_one_object, 100)
{
	int i;

	self->race.link = link_new(self->race.segment);
	ASSERT_EQ(0, claim_with(self->race.link.guest, self->race.bell, NULL));
	for (i = 0; i < ROUNDS; i++) {
		race(&self->race, race_create_object, race_create_object);
		ASSERT_TRUE(one_wins(&self->race, EEXIST))
			TH_LOG("%d, %d", self->race.results[0], self->race.results[1]);
		ASSERT_EQ(0, object_drop(self->race.link.guest, 0));
	}
	link_close(&self->race.link);
}

TEST_F_TIMEOUT(races, a_claim_while_the_host_detaches, 100)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		self->race.link = link_new(self->race.segment);
		race(&self->race, race_claim, race_detach_host);
		ASSERT_TRUE(self->race.results[0] == 0 || self->race.results[0] == -EPIPE);
		ASSERT_EQ(0, atomic_load(&self->race.results[1]));
		/* Whoever was first, the guest knows of the end. */
		ASSERT_EQ(VOXSHM_STATE_ENDED, state_beyond(self->race.link.guest));
		ASSERT_TRUE(hung_up(self->race.link.guest));
		if (self->race.results[0] == 0)
			ASSERT_NE(0, doorbell_wait(self->race.bell, PATIENCE_MS));
		link_close(&self->race.link);
		doorbell_take(self->race.bell);
	}
}

VOXSHM_TEST_MAIN
