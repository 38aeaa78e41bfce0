// SPDX-License-Identifier: MIT
/* fate.c - how guests end, and whether the host is told so. */
#include <signal.h>

#include "link/basics.h"
#include "soak/soak.h"

/* In how many of a hundred choices. */
static const uint32_t weights[FATES] = {
	[KILLED] = 16, [SEGV_SENT] = 10, [FAULTED] = 14, [EXITED] = 8, [EXITED_IN_CALL] = 10,
	[CLOSED] = 12, [STOPPED_AND_KILLED] = 8, [STOPPED_AND_CONTINUED] = 14, [HOST_CLOSED] = 8,
};

static void must_end(struct place *place, enum voxshm_exit_kind kind, int value, int64_t now)
{
	place->state = ENDING;
	place->exit_kind = kind;
	place->exit_value = value;
	place->deadline = now + LIMIT;
}

static void send_signal(struct place *place, int number)
{
	if (kill(place->pid, number) < 0)
		soak_fail(RECORDS, place, "it ended before it was sent signal %d", number);
}

static void end_by_signal(struct place *place, int number, int64_t now)
{
	send_signal(place, number);
	must_end(place, VOXSHM_EXIT_SIGNAL, number, now);
}

static void end_by_order(struct place *place, enum order order, int64_t now)
{
	int code = order == ORDER_CLOSE ? 0 : (int)soak_random(90);

	place->ledger->code = (uint32_t)code;
	place->ledger->order = order;
	if (order == ORDER_FAULT_IN_CALL)
		must_end(place, VOXSHM_EXIT_SIGNAL, SIGSEGV, now);
	else
		must_end(place, VOXSHM_EXIT_CODE, code, now);
}

void fate_begin(struct place *place, enum fate fate, int64_t now)
{
	place->fate = fate;
	soak.totals.fates[fate]++;
	switch (fate) {
	case KILLED:
	case KILLED_AT_START:
		end_by_signal(place, SIGKILL, now);
		break;
	case SEGV_SENT:
		end_by_signal(place, SIGSEGV, now);
		break;
	case FAULTED:
		end_by_order(place, ORDER_FAULT_IN_CALL, now);
		break;
	case EXITED:
		end_by_order(place, ORDER_EXIT, now);
		break;
	case EXITED_IN_CALL:
		end_by_order(place, ORDER_EXIT_IN_CALL, now);
		break;
	case CLOSED:
		end_by_order(place, ORDER_CLOSE, now);
		break;
	case STOPPED_AND_KILLED:
	case STOPPED_AND_CONTINUED:
		send_signal(place, SIGSTOP);
		place->state = STOPPED;
		place->next = now + soak_random(200) * MS * PACE;
		break;
	default:
		place_leave(place, fate);
	}
}

/* Sometimes several at once. */
void fate_choose(struct place *place, int64_t now)
{
	uint32_t choice = soak_random(100), fate = 0, more;

	for (; choice >= weights[fate]; fate++)
		choice -= weights[fate];
	fate_begin(place, fate, now);
	if (soak_random(12))
		return;
	for (more = 0; more < 3; more++) {
		struct place *other = &soak.places[soak_random(GUESTS)];

		if (other->state == RUNNING)
			fate_begin(other, KILLED, now);
	}
}

/* After it was stopped. */
void fate_continue(struct place *place, int64_t now)
{
	if (place->fate == STOPPED_AND_KILLED) {
		end_by_signal(place, SIGKILL, now);
		return;
	}
	send_signal(place, SIGCONT);
	place->state = RUNNING;
	place->next = now + soak_random(1000) * MS * PACE;
	place->deadline = now + LIMIT;
}

/* The record ---------------------------------------------------------------------------- */

/* On the device, how a process ended may come after the news that it has. */
static void await_record(struct place *place, struct voxshm_status *status)
{
	int64_t until = now_ns() + LIMIT;

	for (;;) {
		voxshm_link_status(place->traffic.link, status);
		if (status->exit_kind != VOXSHM_EXIT_NONE || now_ns() > until)
			return;
		sleep_ms(1);
	}
}

/* Of others than its own children the host learns it from the device alone. */
static void check_exit(struct place *place, const struct voxshm_status *status, bool died)
{
	bool exact = place->way == SPAWNED || (soak.device && place->attached);
	bool as_expected = status->exit_kind == place->exit_kind &&
			   status->exit_value == place->exit_value && !status->core_dumped;
	bool not_known = status->exit_kind == VOXSHM_EXIT_UNKNOWN ||
			 (status->exit_kind == VOXSHM_EXIT_NONE && (!died || !place->attached));

	if (as_expected && (exact || soak.device))
		return;
	/* It left of its own will: how its process ends need not be waited for. */
	if (not_known && (!exact || (!died && place->way != SPAWNED)))
		return;
	soak_fail(RECORDS, place,
		  "exit kind %d, value %d, core %d were told; kind %d, value %d are right (%s)",
		  (int)status->exit_kind, status->exit_value, status->core_dumped,
		  (int)place->exit_kind, place->exit_value, exact ? "known" : "may be unknown");
}

void fate_check(struct place *place, enum voxshm_event_type type)
{
	bool closes = place->fate == CLOSED;
	struct voxshm_status status;

	voxshm_link_status(place->traffic.link, &status);
	if (place->state != ENDING || type == VOXSHM_EVENT_FAILED) {
		soak_fail(RECORDS, place,
			  "event %d, state %d (%s), exit kind %d, value %d: nothing was done to it",
			  (int)type, (int)status.state, status.reason, (int)status.exit_kind,
			  status.exit_value);
		return;
	}
	if (type != (closes ? VOXSHM_EVENT_LEFT : VOXSHM_EVENT_DIED) ||
	    status.state != (closes ? VOXSHM_LINK_LEFT : VOXSHM_LINK_DIED))
		soak_fail(RECORDS, place, "event %d and state %d were told", (int)type,
			  (int)status.state);
	/* Killed at its start it may have attached, and not said yet who it is. */
	if (status.pid != place->pid &&
	    (status.pid || (place->attached && place->fate != KILLED_AT_START)))
		soak_fail(RECORDS, place, "pid %d was told, it is %d", (int)status.pid,
			  (int)place->pid);
	if (place->attached && status.epoch != place->epoch)
		soak_fail(RECORDS, place, "epoch %u was told, it is %u", status.epoch,
			  place->epoch);
	if (place->way == SPAWNED || (soak.device && place->attached && !closes))
		await_record(place, &status);
	check_exit(place, &status, !closes);
}
