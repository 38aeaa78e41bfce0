// SPDX-License-Identifier: GPL-2.0
/* The slot pool of the vox format under many threads, processes and deaths. */
#include <limits.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "vox_test.h"
#include "kselftest_harness.h"

static const struct voxshm_class classes[] = { { 64, 6 }, { 256, 3 }, { 1024, 2 } };

#define NUM_CLASSES 3u
#define NUM_SLOTS 11u

static const uint32_t first_of_class[] = { 0, 6, 9, NUM_SLOTS };

enum { WORKERS = 4, MAX_MINE = 5 };

struct arena {
	shared_u32 used[16];		/* by slot: in somebody's hands */
	shared_u32 violations;
	shared_u64 intents[WORKERS];
};

struct worker {
	struct vox_pool *pool;
	struct arena *arena;
	uint32_t number;
	unsigned long rounds;
};

static uint32_t dense(const struct vox_slot_ref *ref)
{
	return first_of_class[ref->class_index] + ref->slot;
}

static uint32_t count_free(const struct vox_pool *pool)
{
	uint32_t i, count = 0;

	for (i = 0; i < NUM_CLASSES; i++)
		count += vox_pool_count_free(pool, 0, i);
	return count;
}

static void *work(void *data)
{
	struct worker *worker = data;
	uint64_t random = 88172645463325252ull + worker->number * 7919;
	shared_u64 *intent = &worker->arena->intents[worker->number];
	struct vox_slot_ref mine[MAX_MINE];
	uint32_t count = 0, size;
	unsigned long i;

	for (i = 0; i < worker->rounds; i++) {
		uint64_t choice = test_random(&random);

		if (count < MAX_MINE && choice & 1) {
			if (vox_pool_alloc(worker->pool, (uint32_t)(choice >> 8) % 1024,
					   worker->number, 1, intent, &mine[count]))
				continue;
			if (shared_exchange_u32(&worker->arena->used[dense(&mine[count])], 1))
				shared_poke_u32(&worker->arena->violations, 1);
			memset(vox_pool_data(worker->pool, &mine[count], &size),
			       (int)worker->number, 64);
			count++;
		} else if (count) {
			uint32_t pick = (uint32_t)(choice >> 16) % count;
			uint8_t *bytes = vox_pool_data(worker->pool, &mine[pick], &size);

			if (bytes[0] != worker->number || bytes[63] != worker->number ||
			    vox_pool_owner(worker->pool, &mine[pick]) != worker->number)
				shared_poke_u32(&worker->arena->violations, 2);
			shared_exchange_u32(&worker->arena->used[dense(&mine[pick])], 0);
			if (vox_pool_free(worker->pool, &mine[pick], intent))
				shared_poke_u32(&worker->arena->violations, 3);
			mine[pick] = mine[--count];
		}
	}
	while (count--) {
		shared_exchange_u32(&worker->arena->used[dense(&mine[count])], 0);
		vox_pool_free(worker->pool, &mine[count], intent);
	}
	return NULL;
}

FIXTURE(crowd) {
	struct vox_pool pool;
	uint8_t *base;
	struct arena *arena;
	struct worker workers[WORKERS];
};

FIXTURE_SETUP(crowd)
{
	uint32_t i;

	self->base = test_shared(vox_extent_size(classes, NUM_CLASSES));
	self->arena = test_shared(sizeof(*self->arena));
	ASSERT_NE(self->base, NULL);
	ASSERT_NE(self->arena, NULL);
	vox_extent_init(self->base, classes, NUM_CLASSES);
	vox_pool_init(&self->pool, NUM_CLASSES, true);
	ASSERT_EQ(vox_pool_add_extent(&self->pool, self->base, classes), 0);
	for (i = 0; i < WORKERS; i++)
		self->workers[i] = (struct worker){ &self->pool, self->arena, i,
						    test_messages() };
}

FIXTURE_TEARDOWN(crowd)
{
	vox_pool_deinit(&self->pool);
	munmap(self->base, vox_extent_size(classes, NUM_CLASSES));
	munmap(self->arena, sizeof(*self->arena));
}

TEST_F_TIMEOUT(crowd, threads_never_share_a_slot, 300)
{
	pthread_t threads[WORKERS];
	int i;

	for (i = 0; i < WORKERS; i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, work, &self->workers[i]), 0);
	for (i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(shared_peek_u32(&self->arena->violations), 0);
	EXPECT_EQ(count_free(&self->pool), 11);
}

TEST_F_TIMEOUT(crowd, processes_never_share_a_slot, 300)
{
	pid_t children[WORKERS];
	int i;

	for (i = 0; i < WORKERS; i++) {
		children[i] = fork();
		ASSERT_GE(children[i], 0);
		if (children[i] == 0) {
			work(&self->workers[i]);
			_exit(0);
		}
	}
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(test_wait(children[i]), 0);
	EXPECT_EQ(shared_peek_u32(&self->arena->violations), 0);
	EXPECT_EQ(count_free(&self->pool), 11);
}

static bool has_stranger(const struct vox_living *living)
{
	return false;
}

/* What it had, by its own account, is nobody's now. */
static void forget(struct vox_pool *pool, struct arena *arena, uint32_t dead)
{
	uint32_t i, slot;

	for (i = 0; i < NUM_CLASSES; i++) {
		struct vox_class *class = vox_pool_class(pool, 0, i);

		for (slot = 0; slot < class->slot_count; slot++) {
			uint64_t word = shared_load_u64(&class->slots[slot].generation_state);

			if (vox_slot_word_state(word) == VOX_SLOT_ALLOCATED &&
			    shared_peek_u32(&class->slots[slot].owner) == dead)
				shared_poke_u32(&arena->used[first_of_class[i] + slot], 0);
		}
	}
}

static int bury(struct vox_pool *pool, struct arena *arena, uint32_t dead, pid_t pid)
{
	const shared_u64 *intents[WORKERS];
	struct vox_living living = {
		.intents = intents, .num_intents = WORKERS, .has_stranger = has_stranger,
	};
	int i;

	for (i = 0; i < WORKERS; i++)
		intents[i] = &arena->intents[i];
	kill(pid, SIGKILL);
	test_wait(pid);
	forget(pool, arena, dead);
	vox_pool_reclaim(pool, dead);
	vox_pool_suspect(pool, shared_load_u64(&arena->intents[dead]));
	shared_poke_u64(&arena->intents[dead], 0);
	return vox_pool_search(pool, &living);
}

/* Three work on while one is killed, again and again: no slot is lost or shared. */
TEST_F_TIMEOUT(crowd, killed_worker_loses_no_slot, 300)
{
	unsigned long round, rounds = test_count("VOXSHM_STRESS_KILLS", 150);
	pid_t children[WORKERS] = { 0 };
	uint64_t random = 1234567;
	uint32_t i;

	for (round = 0; round < rounds; round++) {
		for (i = 0; i < WORKERS; i++) {
			if (children[i])
				continue;
			self->workers[i].rounds = ULONG_MAX;
			children[i] = fork();
			ASSERT_GE(children[i], 0);
			if (children[i] == 0) {
				/* It works for ever: not longer than a test that fails. */
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				work(&self->workers[i]);
			}
		}
		usleep((useconds_t)(test_random(&random) % 2000));
		i = (uint32_t)(test_random(&random) % WORKERS);
		ASSERT_GE(bury(&self->pool, self->arena, i, children[i]), 0);
		children[i] = 0;
		ASSERT_EQ(shared_peek_u32(&self->arena->violations), 0);
	}
	for (i = 0; i < WORKERS; i++)
		if (children[i])
			ASSERT_GE(bury(&self->pool, self->arena, i, children[i]), 0);
	EXPECT_EQ(count_free(&self->pool), NUM_SLOTS);
}

TEST_HARNESS_MAIN
