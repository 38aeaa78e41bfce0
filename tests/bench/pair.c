/* SPDX-License-Identifier: MIT */
/* pair.c - see pair.h. */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair.h"

#define PATIENCE_S 30
#define PROBE_BLOCKS 9
#define PROBE_TRIPS 64
#define CHUNKS PAIR_CHUNKS

static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
		  const struct timespec *timeout)
{
	return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static void raise_word(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

static void set_failure(struct pair_control *control, const char *what, int error)
{
	if (atomic_exchange(&control->failed, 1))
		return;
	snprintf(control->failure, sizeof(control->failure), error ? "%s: %s" : "%s", what,
		 strerror(error < 0 ? -error : error));
}

void side_fail(struct side *side, const char *what, int error)
{
	set_failure(side->control, what, error);
	raise_word(&side->control->done);
	_exit(1);
}

/* The two sides ------------------------------------------------------------------ */

/* Both are here, and awake. */
static void meet(struct side *side)
{
	struct pair_control *control = side->control;
	uint64_t next = atomic_load(&control->meeting[!side->leads].value) + 1;

	atomic_store(&control->meeting[!side->leads].value, next);
	while (atomic_load(&control->meeting[side->leads].value) < next)
		spin_pause();
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

/* The median over some blocks of round trips of two bare lines. Return: ns. */
static double probe(struct side *side)
{
	_Atomic uint64_t *mine = &side->control->probe[!side->leads].value;
	_Atomic uint64_t *theirs = &side->control->probe[side->leads].value;
	uint64_t value = atomic_load(mine), start;
	double blocks[PROBE_BLOCKS];
	int block, trip;

	meet(side);
	for (block = 0; block < PROBE_BLOCKS; block++) {
		start = ticks();
		for (trip = 0; trip < PROBE_TRIPS; trip++) {
			value++;
			if (side->leads)
				atomic_store_explicit(mine, value, memory_order_release);
			while (atomic_load_explicit(theirs, memory_order_acquire) < value)
				spin_pause();
			if (!side->leads)
				atomic_store_explicit(mine, value, memory_order_release);
		}
		blocks[block] = (double)(ticks() - start) * ticks_ns() / PROBE_TRIPS;
	}
	qsort(blocks, PROBE_BLOCKS, sizeof(*blocks), compare);
	return blocks[PROBE_BLOCKS / 2];
}

typedef void stream_fn(struct side *side, uint64_t count);

/*
 * In CHUNKS parts. What counts is their median, on the slower side: a part in
 * which another program had the processor does not.
 */
static double do_stream(struct side *side, stream_fn *stream, uint64_t count)
{
	double chunks[CHUNKS];
	uint64_t before = ticks(), after;
	int i;

	for (i = 0; i < CHUNKS; i++) {
		stream(side, count / CHUNKS);
		after = ticks();
		chunks[i] = (double)(after - before) * ticks_ns();
		before = after;
	}
	qsort(chunks, CHUNKS, sizeof(*chunks), compare);
	return (chunks[CHUNKS / 2 - 1] + chunks[CHUNKS / 2]) / 2 * CHUNKS;
}

static void do_job(struct side *side, uint32_t job, uint64_t count)
{
	const struct transport *transport = side->transport;
	struct pair_control *control = side->control;
	uint64_t start;
	double elapsed;

	meet(side);
	start = ticks();
	if (job == JOB_STREAM)
		elapsed = do_stream(side, side->leads ? transport->stream : transport->sink, count);
	else if (job == JOB_BATCHES)
		elapsed = do_stream(side, side->leads ? transport->stream_batches :
				    transport->sink_batches, count);
	else {
		if (side->leads)
			transport->trips(side, count, &control->histogram);
		else
			transport->echo(side, count);
		elapsed = (double)(ticks() - start) * ticks_ns();
	}
	control->elapsed[!side->leads] = elapsed;
	meet(side);
}

static void serve(struct side *side)
{
	struct pair_control *control = side->control;
	uint32_t turn = 0;
	double before, after;

	for (;;) {
		raise_word(&control->done);
		while (atomic_load(&control->turn) == turn)
			futex(&control->turn, FUTEX_WAIT, turn, NULL);
		turn++;
		if (control->job == 0)
			break;
		probe(side);	/* awake and warm; the next one counts */
		before = probe(side);
		do_job(side, control->job, control->count);
		after = probe(side);
		if (side->leads) {
			control->probe_before = before;
			control->probe_after = after;
		}
	}
	if (side->transport->close)
		side->transport->close(side);
	raise_word(&control->done);
}

static void side_init(struct side *side, struct pair_control *control)
{
	size_t size = side->size <= BATCH_MAX_SIZE ? BATCH * side->size : side->size;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(side->leads ? 0 : 1);
	control->pids[!side->leads] = getpid();
	side->control = control;
	/* Aligned and touched, as a program's own buffer would be. */
	side->buffer = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
	if (!side->buffer)
		side_fail(side, "no memory", ENOMEM);
	memset(side->buffer, 0, size);
}

static void side_join(struct side *side)
{
	const char *failure = side->transport->join ? side->transport->join(side) : NULL;

	if (failure)
		side_fail(side, failure, 0);
	serve(side);
}

static void run_sides(struct side *side, struct pair_control *control)
{
	const char *failure;
	pid_t pid;

	signal(SIGPIPE, SIG_IGN);
	side->control = control;
	failure = side->transport->open ? side->transport->open(side) : NULL;
	if (failure)
		side_fail(side, failure, 0);
	pid = fork();
	if (pid < 0)
		side_fail(side, "fork", errno);
	side->leads = pid != 0;
	side_init(side, control);
	side_join(side);
	if (pid)
		waitpid(pid, NULL, 0);
	_exit(0);
}

/* The bench ------------------------------------------------------------------------ */

static void take_failure(struct pair *pair, const char *otherwise)
{
	const char *failure = atomic_load(&pair->control->failed) ? pair->control->failure :
				       otherwise;

	snprintf(pair->failure, sizeof(pair->failure), "%s", failure);
}

/* Both sides done, or one failed, or neither in time. */
static bool await(struct pair *pair, uint32_t done)
{
	struct timespec patience = { .tv_sec = PATIENCE_S };
	uint32_t seen;

	while ((seen = atomic_load(&pair->control->done)) < done &&
	       !atomic_load(&pair->control->failed)) {
		if (futex(&pair->control->done, FUTEX_WAIT, seen, &patience) < 0 &&
		    errno == ETIMEDOUT) {
			take_failure(pair, "it did not end in time");
			return false;
		}
	}
	if (!atomic_load(&pair->control->failed))
		return true;
	take_failure(pair, "");
	return false;
}

void pair_start(struct pair *pair, const struct transport *transport,
		const struct shape *shape)
{
	struct side side = { .transport = transport, .leads = true, .size = shape->size,
			     .ring = shape->ring, .guests = shape->guests };
	const char *failure;

	*pair = (struct pair){ .transport = transport };
	failure = transport->prepare ? transport->prepare() : NULL;
	pair->control = mmap(NULL, sizeof(*pair->control), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pair->control == MAP_FAILED) {
		perror("bench: mmap");
		exit(1);
	}
	if (failure) {
		snprintf(pair->failure, sizeof(pair->failure), "%s", failure);
		return;
	}
	fflush(NULL);
	pair->pid = fork();
	if (pair->pid < 0) {
		perror("bench: fork");
		exit(1);
	}
	if (pair->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_sides(&side, pair->control);
	}
	await(pair, 2);
}

void pair_begin(struct pair *pair, enum job job, uint64_t count)
{
	struct pair_control *control = pair->control;

	control->job = job;
	control->count = count;
	atomic_store(&control->done, 0);
	memset(&control->histogram, 0, sizeof(control->histogram));
	raise_word(&control->turn);
}

bool pair_is_done(const struct pair *pair)
{
	return atomic_load(&pair->control->done) >= 2 || atomic_load(&pair->control->failed);
}

bool pair_run(struct pair *pair, enum job job, uint64_t count, struct turn *turn)
{
	struct pair_control *control = pair->control;

	if (pair->failure[0])
		return false;
	pair_begin(pair, job, count);
	if (!await(pair, 2))
		return false;
	*turn = (struct turn){ control->probe_before, control->probe_after,
			       control->elapsed[control->elapsed[1] > control->elapsed[0]] };
	return true;
}

/* The second dies with the first, if it has not ended. */
void pair_kill(struct pair *pair)
{
	if (pair->pid > 0) {
		kill(pair->pid, SIGKILL);
		waitpid(pair->pid, NULL, 0);
	}
	munmap(pair->control, sizeof(*pair->control));
}

void pair_stop(struct pair *pair)
{
	if (!pair->failure[0]) {
		pair_begin(pair, 0, 0);
		await(pair, 2);
	}
	pair_kill(pair);
}
