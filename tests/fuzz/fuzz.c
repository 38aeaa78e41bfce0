// SPDX-License-Identifier: MIT
/* fuzz.c - see fuzz.h. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define PAGE 4096u
#define MAX_MUTATIONS 16u
#define MAX_FLIPS 16u
#define MAX_AREAS 4u

uint64_t fuzz_loads;
bool fuzz_meddled;

static _Atomic unsigned int num_flips;	/* words that the second thread changes */

static struct memory_area {
	uintptr_t base;
	size_t size;
} areas[MAX_AREAS];
static unsigned int num_areas;

/* The input ------------------------------------------------------------------------ */

size_t fuzz_take_bytes(struct fuzz_input *input, void *bytes, size_t size)
{
	if (size > input->left)
		size = input->left;
	memcpy(bytes, input->bytes, size);
	input->bytes += size;
	input->left -= size;
	return size;
}

/* The shared memory ------------------------------------------------------------------ */

uint8_t *fuzz_memory_new(size_t size)
{
	size_t room = (size + PAGE - 1) / PAGE * PAGE;
	uint8_t *base = mmap(NULL, room + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(base != MAP_FAILED);
	FUZZ_CHECK(mprotect(base + PAGE, room, PROT_READ | PROT_WRITE) == 0);
	/* Ends at the page that nobody may touch. */
	return base + PAGE + (room - size) / 64 * 64;
}

/* Mutations ---------------------------------------------------------------------------- */

struct mutation {
	uint32_t countdown;
	uint8_t kind;
	uint64_t value;
};

static struct mutation mutations[MAX_MUTATIONS];
static unsigned int next_mutation, num_mutations;

void fuzz_peer_begin(void)
{
	num_areas = 0;
	next_mutation = num_mutations = 0;
	fuzz_loads = 0;
	fuzz_meddled = false;
	num_flips = 0;
}

void fuzz_memory_add(const uint8_t *base, size_t size)
{
	FUZZ_CHECK(num_areas < MAX_AREAS);
	areas[num_areas++] = (struct memory_area){ (uintptr_t)base, size };
}

void fuzz_memory_remove(const uint8_t *base)
{
	unsigned int i = 0;

	while (areas[i].base != (uintptr_t)base)
		FUZZ_CHECK(++i < num_areas);
	areas[i] = areas[--num_areas];
}

void fuzz_mutate(struct fuzz_input *input)
{
	struct mutation mutation = {
		.countdown = 1 + fuzz_below(input, 64),
		.kind = (uint8_t)fuzz_below(input, 5),
		.value = fuzz_take(input, 8),
	};

	if (num_mutations < MAX_MUTATIONS)
		mutations[num_mutations++] = mutation;
}

static uint64_t mutated(const struct mutation *mutation, uint64_t value)
{
	switch (mutation->kind) {
	case 0:
		return mutation->value;
	case 1:
		return value ^ 1ull << mutation->value % 64;
	case 2:
		return value + (int8_t)mutation->value;
	case 3:
		return value + 64 * (int64_t)(int8_t)mutation->value;
	default:
		/* One half stays as it is. */
		return mutation->value & 1 ? (value & UINT32_MAX) | mutation->value << 32 :
					     (value & ~(uint64_t)UINT32_MAX) | (uint32_t)mutation->value;
	}
}

static bool is_shared(const volatile void *word, size_t size)
{
	uintptr_t address = (uintptr_t)word;
	unsigned int i;

	for (i = 0; i < num_areas; i++)
		if (address >= areas[i].base && address + size <= areas[i].base + areas[i].size)
			return true;
	return false;
}

/* Is it now that the peer writes? */
static bool mutate_now(const volatile void *word, size_t size, uint64_t *value)
{
	if (!is_shared(word, size))
		return false;
	fuzz_loads++;
	if (next_mutation == num_mutations || --mutations[next_mutation].countdown)
		return false;
	*value = mutated(&mutations[next_mutation++], *value);
	fuzz_meddled = true;
	if (size == sizeof(uint32_t)) {
		*value = (uint32_t)*value;
		atomic_store_explicit((_Atomic uint32_t *)(uintptr_t)word, (uint32_t)*value,
				      memory_order_relaxed);
	} else {
		atomic_store_explicit((_Atomic uint64_t *)(uintptr_t)word, *value,
				      memory_order_relaxed);
	}
	return true;
}

uint64_t shared_hook_load(const volatile void *word, size_t size, uint64_t value,
			  const char *file, int line);
uint64_t shared_hook_hint(const volatile void *word, size_t size, uint64_t value);
void shared_hook_store(volatile void *word);
void shared_hook_update(volatile void *word, size_t size);
void shared_hook_look_again(void);

uint64_t shared_hook_load(const volatile void *word, size_t size, uint64_t value,
			  const char *file, int line)
{
	(void)file;
	(void)line;
	mutate_now(word, size, &value);
	return value;
}

uint64_t shared_hook_hint(const volatile void *word, size_t size, uint64_t value)
{
	mutate_now(word, size, &value);
	return value;
}

void shared_hook_update(volatile void *word, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const void *)(uintptr_t)word, size);
	mutate_now(word, size, &value);
}

void shared_hook_store(volatile void *word)
{
	(void)word;
}

void shared_hook_look_again(void)
{
}

/* Races ------------------------------------------------------------------------------------ */

struct flip {
	_Atomic uint64_t *word;
	uint64_t values[2];
};

static struct flip flips[MAX_FLIPS];
static _Atomic bool racing;
static sem_t start, stopped;

static void *race(void *argument)
{
	unsigned int i, round;

	for (;;) {
		while (sem_wait(&start))
			;
		for (round = 0; atomic_load_explicit(&racing, memory_order_relaxed); round++)
			for (i = 0; i < atomic_load_explicit(&num_flips, memory_order_acquire); i++)
				atomic_store_explicit(flips[i].word, flips[i].values[round % 2],
						      memory_order_relaxed);
		sem_post(&stopped);
	}
	return argument;
}

static void start_racing(void)
{
	static bool started;
	pthread_t thread;

	if (!started) {
		FUZZ_CHECK(sem_init(&start, 0, 0) == 0 && sem_init(&stopped, 0, 0) == 0);
		FUZZ_CHECK(pthread_create(&thread, NULL, race, NULL) == 0);
		started = true;
	}
	atomic_store(&racing, true);
	sem_post(&start);
}

void fuzz_race_add(uint8_t *near, uint64_t value, uint64_t other)
{
	unsigned int i = atomic_load(&num_flips);

	if (i == MAX_FLIPS)
		return;
	near -= (uintptr_t)near % sizeof(uint64_t);
	flips[i] = (struct flip){ (void *)near, { value, other } };
	fuzz_meddled = true;
	atomic_store_explicit(&num_flips, i + 1, memory_order_release);
	if (i == 0)
		start_racing();
}

void fuzz_peer_end(void)
{
	num_mutations = next_mutation;
	if (!atomic_load(&num_flips))
		return;
	atomic_store(&racing, false);
	while (sem_wait(&stopped))
		;
	num_flips = 0;
}

/* What must not leak -------------------------------------------------------------------------- */

#define MOST_FDS 256

int fuzz_count_fds(void)
{
	struct pollfd fds[MOST_FDS];
	int i, count = 0;

	for (i = 0; i < MOST_FDS; i++)
		fds[i] = (struct pollfd){ .fd = i };
	FUZZ_CHECK(poll(fds, MOST_FDS, 0) >= 0);
	for (i = 0; i < MOST_FDS; i++)
		count += !(fds[i].revents & POLLNVAL);
	return count;
}

int fuzz_count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int count = 0, byte;

	FUZZ_CHECK(maps);
	while ((byte = fgetc(maps)) != EOF)
		count += byte == '\n';
	fclose(maps);
	return count;
}

static int file_new(enum fuzz_file kind)
{
	static const off_t sizes[FUZZ_FILES] = {
		[FUZZ_FILE_GOOD] = FUZZ_FILE_SIZE,
		[FUZZ_FILE_UNSEALED] = FUZZ_FILE_SIZE,
		[FUZZ_FILE_SHORT] = PAGE,
		[FUZZ_FILE_OBJECTS] = FUZZ_OBJECTS * FUZZ_OBJECT_SIZE,
	};
	int fds[2], fd;

	if (kind == FUZZ_FILE_PIPE) {
		FUZZ_CHECK(pipe2(fds, O_CLOEXEC) == 0);
		close(fds[1]);
		return fds[0];
	}
	fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	FUZZ_CHECK(fd >= 0 && ftruncate(fd, sizes[kind]) == 0);
	/* Its pages are there, so that mapping it costs little. */
	if (sizes[kind])
		FUZZ_CHECK(posix_fallocate(fd, 0, sizes[kind]) == 0);
	if (kind != FUZZ_FILE_UNSEALED)
		FUZZ_CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	return fd;
}

int fuzz_file(enum fuzz_file kind)
{
	static int fds[FUZZ_FILES];

	/* 0 is never one of them. */
	if (!fds[kind])
		fds[kind] = file_new(kind);
	return fds[kind];
}
