/* SPDX-License-Identifier: MIT */
/*
 * victim.h - a process that is stopped before any one of its instructions.
 *
 * The test forks it, and traces it. Between two markers it does what is to be
 * interrupted. The first time it is stepped through, and where it was before
 * each instruction is recorded; later victims are forks of the same process,
 * so that all code lies where it lay. They run to a point at full speed: to
 * the nearest place before it that a debug register can tell, and from there
 * by steps.
 *
 * x86-64 alone: markers and debug registers.
 */
#ifndef VICTIM_H
#define VICTIM_H

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>

#include "crash/allocations.h"
#include "crash/clock.h"
#include "crash/side.h"
#include "link/processes.h"

#if !defined(__x86_64__)
#error "the markers and the debug registers are those of x86-64"
#endif

/* Steps that cost as much as one more stop at a debug register. */
#define MOST_STEPS 64u

/* Where the victim stood before each instruction, the last one being the end's marker. */
struct trace {
	uint32_t length;
	uint32_t room;
	uint64_t *place;
	uint32_t *occurrence;	/* how often the place had been come to by then, at least 1 */
	bool *critical;		/* the victim had something half done */
	uint32_t num_critical;
	bool *call;		/* it stood before a system call, or right behind one */
};

struct victim {
	pid_t pid;
	bool ended;
	bool late;		/* it did neither stop nor end in time */
	int status;		/* of waitpid(), once it ended or stopped */
	int cause;		/* of its last stop, as victim_cause() */
};

/* Has the victim something half done, as far as shared memory tells? Or NULL. */
typedef bool victim_critical_fn(void *data);

/* What the test does while the victim runs, for it may wait for the test; or NULL. */
typedef void victim_serve_fn(void *data);

static inline void victim_marker(void)
{
	__asm__ volatile("int3" : : : "memory");
}

/* Waits ------------------------------------------------------------------------ */

static inline void victim_alarm(int signal_number)
{
	(void)signal_number;
}

/* Whatever hangs is a failure: no wait of the test's is longer than this. */
static inline void victim_set_alarm(void)
{
	struct itimerval time = { .it_value.tv_sec = PATIENCE / SECOND,
				  .it_interval.tv_sec = 1 };
	struct sigaction action = { .sa_handler = victim_alarm };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &time, NULL);
}

static inline void victim_stop_alarm(void)
{
	struct itimerval none = { { 0, 0 }, { 0, 0 } };

	setitimer(ITIMER_REAL, &none, NULL);
}

/* Return: true when it stopped; false when it ended, or does neither in time. */
static inline bool victim_wait(struct victim *victim, victim_serve_fn *serve, void *data)
{
	int64_t until = now_ns() + PATIENCE;
	int status = 0;
	pid_t pid;

	victim->late = true;
	while ((pid = waitpid(victim->pid, &status, serve ? WNOHANG : 0)) == 0) {
		if (now_ns() > until)
			return false;
		serve(data);
	}
	if (pid != victim->pid)
		return false;
	victim->late = false;
	victim->ended = !WIFSTOPPED(status);
	victim->status = status;
	return !victim->ended;
}

/* What became of it, for a complaint. */
static inline const char *victim_fate(const struct victim *victim)
{
	static char text[64];

	if (victim->late)
		snprintf(text, sizeof(text), "it hangs");
	else if (!victim->ended)
		snprintf(text, sizeof(text), "it stands with signal %d, cause %d",
			 WSTOPSIG(victim->status), victim->cause);
	else if (WIFSIGNALED(victim->status))
		snprintf(text, sizeof(text), "killed by signal %d", WTERMSIG(victim->status));
	else
		snprintf(text, sizeof(text), "exited with %d", WEXITSTATUS(victim->status));
	return text;
}

/* Complains of a victim that did not do what it should, and says what it did instead. */
static inline bool victim_holds(const struct victim *victim, bool condition, const char *text)
{
	return condition || complain("%s: %s", text, victim_fate(victim));
}

/* Tracing ---------------------------------------------------------------------- */

static inline void set_debug_register(const struct victim *victim, int number, uint64_t value)
{
	size_t offset = offsetof(struct user, u_debugreg) +
			(size_t)number * sizeof(((struct user *)0)->u_debugreg[0]);

	REQUIRE_EQ(0, ptrace(PTRACE_POKEUSER, victim->pid, offset, value));
}

static inline uint64_t victim_place(const struct victim *victim)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, victim->pid, offsetof(struct user, regs.rip), 0);
}

/* Is the victim's next instruction a system call? */
static inline bool victim_calls(const struct victim *victim)
{
	long text = ptrace(PTRACE_PEEKTEXT, victim->pid, victim_place(victim), 0);

	return (text & 0xffff) == 0x050f;
}

/* How the victim's last stop came about: TRAP_HWBKPT, SI_KERNEL (a marker), or a step. */
static inline int victim_cause(struct victim *victim)
{
	siginfo_t info = { 0 };

	victim->cause = 0;
	if (WSTOPSIG(victim->status) == SIGTRAP &&
	    ptrace(PTRACE_GETSIGINFO, victim->pid, 0, &info) == 0)
		victim->cause = info.si_code;
	return victim->cause;
}

/*
 * Does it stand where the debug register stopped it? (Under a hypervisor the register
 * that says so is lost now and then; the kernel then takes it for a trap of the victim's.)
 */
static inline bool is_hit(const struct victim *victim, int cause, uint64_t place)
{
	return cause == TRAP_HWBKPT || (cause == TRAP_BRKPT && victim_place(victim) == place);
}

/* Has it done one instruction? (Behind a system call the cause is TRAP_BRKPT.) */
static inline bool is_step(int cause)
{
	return cause == TRAP_TRACE || cause == TRAP_BRKPT;
}

/* A signal that is no trap of ours is the victim's: none is expected. */
static inline bool victim_go(struct victim *victim, int request, victim_serve_fn *serve,
			     void *data)
{
	return ptrace(request, victim->pid, 0, 0) == 0 && victim_wait(victim, serve, data);
}

/* Forks a victim. Return: at once, with the victim stopped before it begins. */
static inline struct victim victim_fork(void (*run)(void *argument), void *argument)
{
	struct victim victim = { .pid = child_fork() };

	if (victim.pid == 0) {
		victim_stop_alarm();
		arena_begin();
		clock_begin();
		REQUIRE_EQ(0, ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		run(argument);
		_exit(0);
	}
	REQUIRE(victim_wait(&victim, NULL, NULL));
	REQUIRE_EQ(0, ptrace(PTRACE_SETOPTIONS, victim.pid, 0, PTRACE_O_EXITKILL));
	return victim;
}

/* Runs to the next marker. */
static inline bool victim_run_to_marker(struct victim *victim, victim_serve_fn *serve, void *data)
{
	return victim_go(victim, PTRACE_CONT, serve, data) && victim_cause(victim) == SI_KERNEL;
}

/* What one process knows of its victims' code ------------------------------------- */

static inline void trace_free(struct trace *trace)
{
	free(trace->place);
	free(trace->occurrence);
	free(trace->critical);
	free(trace->call);
	*trace = (struct trace){ 0 };
}

static inline void trace_append(struct trace *trace, uint64_t place, bool critical, bool call)
{
	if (trace->length == trace->room) {
		trace->room = trace->room ? 2 * trace->room : 4096;
		trace->place = realloc(trace->place, trace->room * sizeof(*trace->place));
		trace->critical = realloc(trace->critical,
					  trace->room * sizeof(*trace->critical));
		trace->call = realloc(trace->call, trace->room * sizeof(*trace->call));
		REQUIRE(trace->place && trace->critical && trace->call);
	}
	trace->num_critical += critical;
	trace->critical[trace->length] = critical;
	trace->call[trace->length] = call;
	trace->place[trace->length++] = place;
}

static inline void trace_count(struct trace *trace)
{
	uint32_t buckets = 1, i, slot, *count;
	uint64_t *keys;

	while (buckets < 2 * trace->length)
		buckets *= 2;
	keys = calloc(buckets, sizeof(*keys));
	count = calloc(buckets, sizeof(*count));
	trace->occurrence = calloc(trace->length, sizeof(*trace->occurrence));
	REQUIRE(keys && count && trace->occurrence);
	for (i = 0; i < trace->length; i++) {
		slot = (uint32_t)mix(trace->place[i]) & (buckets - 1);
		while (keys[slot] && keys[slot] != trace->place[i])
			slot = (slot + 1) & (buckets - 1);
		keys[slot] = trace->place[i];
		trace->occurrence[i] = ++count[slot];
	}
	free(keys);
	free(count);
}

/*
 * Does one instruction; one that repeats itself (rep movsb) counts as one.
 * Return: how the victim stopped, 0 when it did not.
 */
static inline int victim_step(struct victim *victim, victim_serve_fn *serve, void *data)
{
	uint64_t place = victim_place(victim);
	int cause;

	do {
		if (!victim_go(victim, PTRACE_SINGLESTEP, serve, data))
			return 0;
		cause = victim_cause(victim);
	} while (is_step(cause) && victim_place(victim) == place);
	return cause;
}

/*
 * From the marker at which the victim stands to the next one, step by step.
 * Return: false when it did not come there.
 */
static inline bool trace_record(struct trace *trace, struct victim *victim,
				victim_serve_fn *serve, victim_critical_fn *critical, void *data)
{
	bool calls = false, behind;
	int cause;

	trace_free(trace);
	do {
		behind = calls;
		calls = victim_calls(victim);
		trace_append(trace, victim_place(victim), critical && critical(data),
			     calls || behind);
		cause = victim_step(victim, serve, data);
	} while (is_step(cause));
	trace_count(trace);
	return cause == SI_KERNEL;
}

/* A point chosen by a number: one in two times a critical one, if there are any. */
static inline uint32_t trace_choose(const struct trace *trace, uint64_t number)
{
	uint32_t k, which;

	if (!trace->num_critical || number % 2)
		return (uint32_t)(mix(number) % trace->length);
	which = (uint32_t)(mix(number) % trace->num_critical);
	for (k = 0; which || !trace->critical[k]; k++)
		which -= trace->critical[k];
	return k;
}

/* The point from which point k is reached soonest. */
static inline uint32_t trace_start(const struct trace *trace, uint32_t k)
{
	uint32_t start = k, best = UINT32_MAX, i = k;

	do {
		uint32_t cost = trace->occurrence[i] + (k - i);

		if (cost < best) {
			best = cost;
			start = i;
		}
	} while (i-- > 0 && k - i < MOST_STEPS);
	return start;
}

enum arrival {
	ARRIVED,
	RECORDED,	/* it was stepped to the end, and stands there */
	STRAYED,	/* this victim took another way, and stands at the end */
	LOST,		/* it ended by itself, or hangs */
};

/*
 * From the marker at which the victim stands to before instruction k; k =
 * trace->length - 1 is the end, with everything done.
 */
static inline enum arrival victim_run_to(struct victim *victim, const struct trace *trace,
					 uint32_t k, victim_serve_fn *serve, void *data)
{
	uint32_t start = trace_start(trace, k), hits, i;
	int cause = 0;

	set_debug_register(victim, 0, trace->place[start]);
	set_debug_register(victim, 7, 1);
	for (hits = 0; hits < trace->occurrence[start]; hits++) {
		if (!victim_go(victim, PTRACE_CONT, serve, data))
			return LOST;
		cause = victim_cause(victim);
		if (!is_hit(victim, cause, trace->place[start]))
			return cause == SI_KERNEL ? STRAYED : LOST;
	}
	set_debug_register(victim, 7, 0);
	for (i = start; i < k; i++) {
		cause = victim_step(victim, serve, data);
		if (!is_step(cause))
			return cause == SI_KERNEL ? STRAYED : LOST;
	}
	if (victim_place(victim) == trace->place[k])
		return ARRIVED;
	return victim_run_to_marker(victim, serve, data) ? STRAYED : LOST;
}

#endif
