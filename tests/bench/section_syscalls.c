/* SPDX-License-Identifier: MIT */
/*
 * section_syscalls.c - system calls of a pair, counted by tracing both sides.
 *
 * A short and a long turn are counted; what they share (the bench's own waiting
 * for its turn) drops out of the difference.
 *
 * Tracing stops a sender in its calls for longer than a reader needs to read
 * all and to sleep again. So for bursts the library's own account is taken.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair.h"
#include "plan.h"
#include "report.h"

#define SHORT 64u
#define TURN_SECONDS 60

static bool attach(const struct pair *pair)
{
	int i;

	for (i = 0; i < 2; i++)
		if (ptrace(PTRACE_SEIZE, pair->control->pids[i], NULL,
			   (void *)PTRACE_O_TRACESYSGOOD) < 0 ||
		    ptrace(PTRACE_INTERRUPT, pair->control->pids[i], NULL, NULL) < 0)
			return false;
	return true;
}

/* A sender's rest between bursts is the bench's, not the library's. */
static bool counts(pid_t pid)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) <= 0)
		return false;
	return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr != SYS_clock_nanosleep;
}

/* Lets both sides go on until the turn is done. Return: false when it is not. */
static bool count_turn(struct pair *pair, enum job job, uint64_t count, int64_t calls[2])
{
	double until = now_ns() + TURN_SECONDS * 1e9;
	int status, signal;
	pid_t pid;

	calls[0] = calls[1] = 0;
	pair_begin(pair, job, count);
	while (now_ns() < until) {
		pid = waitpid(-1, &status, __WALL | WNOHANG);
		if (pid == 0 && pair_is_done(pair))
			return true;
		if (pid <= 0)
			continue;
		if (!WIFSTOPPED(status))
			return false;
		signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80))
			calls[pid == pair->control->pids[1]] += counts(pid);
		ptrace(PTRACE_SYSCALL, pid, NULL,
		       (void *)(intptr_t)(status >> 16 || signal == (SIGTRAP | 0x80) ? 0 : signal));
	}
	return false;
}

/* What each side calls for each message; the first one sends. */
static void report_calls(const char *row, const struct transport *transport, enum job job,
			 uint64_t count)
{
	static const char *const metrics[] = { "sender", "receiver" };
	const struct shape shape = { .size = 64, .ring = MI, .guests = 1 };
	int64_t few[2], many[2];
	struct pair pair;
	bool counted;
	pid_t second;
	int i;

	pair_start(&pair, transport, &shape);
	counted = !pair.failure[0] && attach(&pair) && count_turn(&pair, job, SHORT, few) &&
		  count_turn(&pair, job, SHORT + count, many);
	second = pair.control->pids[1];
	pair_kill(&pair);
	/* Its tracer is told of its death too. */
	waitpid(second, NULL, __WALL);
	if (!counted)
		progress("%s: its system calls could not be counted", row);
	for (i = 0; i < 2; i++)
		report_single("syscalls", row, "size", 64, metrics[i], "1", counted ?
			      (double)(many[i] - few[i]) / (double)count : NAN);
}

static void report_bursts(uint64_t bursts)
{
	const struct shape shape = { .size = 64, .ring = MI, .guests = 1 };
	double calls = NAN;
	struct turn turn;
	struct pair pair;

	pair_start(&pair, &voxshm_bursts, &shape);
	if (!pair.failure[0] && pair_run(&pair, JOB_STREAM, SHORT, &turn)) {
		calls = -(double)pair.control->calls;
		if (pair_run(&pair, JOB_STREAM, SHORT * bursts, &turn))
			calls += (double)pair.control->calls;
		else
			calls = NAN;
	}
	pair_stop(&pair);
	report_single("syscalls", "a burst of 64 to a sleeper", "size", 64, "sender", "1",
		      calls / (double)bursts);
}

void section_syscalls(const struct plan *plan)
{
	uint64_t busy = plan->quick ? 2000 : 200000, slow = plan->quick ? 640 : 6400;

	progress("system calls");
	report_calls("a message, streaming", &voxshm_adaptive, JOB_STREAM, busy);
	report_calls("a round trip, spin then sleep", &voxshm_adaptive, JOB_TRIPS, busy);
	report_calls("a round trip, sleeping", &voxshm_sleeping, JOB_TRIPS, slow);
	report_bursts(slow / SHORT);
	report_calls("beside: a round trip, eventfd", &peer_eventfd, JOB_TRIPS, slow);
}
