// SPDX-License-Identifier: MIT
/* report.c - what was done, what was wrong, as TAP. */
#include <kselftest.h>
#include <stdarg.h>

#include "link/basics.h"
#include "soak/soak.h"

#define MOST_SHOWN 20u

static const char *const promises[PROMISES] = {
	[MESSAGES] = "messages_arrive_whole_once_and_in_order",
	[COMMITTED] = "what_was_committed_before_an_end_arrives",
	[GOODBYE] = "what_a_host_sent_before_it_left_arrives",
	[RECORDS] = "the_host_is_told_how_each_guest_ended",
	[PLACES] = "guests_come_again_into_freed_places",
	[GROWTH] = "a_pool_grows_up_to_its_limit",
	[LEFTOVERS] = "no_descriptor_mapping_memory_or_process_is_left",
	[SLOTS] = "every_slot_is_in_its_place",
	[MODULE] = "the_module_holds_nothing_more",
	[RESIDENT] = "resident_memory_stays_flat",
	[WAITS] = "nothing_takes_for_ever",
};

static const char *const fates[FATES] = {
	"killed", "killed at start", "SIGSEGV sent", "faulted", "exited", "exited in a call",
	"closed", "stopped and killed", "stopped and continued", "link closed by host",
	"host replaced",
};

static unsigned int shown;

void soak_fail(enum promise promise, const struct place *place, const char *format, ...)
{
	va_list arguments;

	soak.failures[promise]++;
	if (shown++ >= MOST_SHOWN)
		return;
	printf("# %s: seed %" PRIu64 ", host %u (%s)", promises[promise], soak.seed,
	       soak.host_life, soak.vox ? "vox" : "native");
	if (place)
		printf(", guest %u, life %u (%s, %s)", place->number, place->life,
		       (const char *[]){ "spawned", "ticket", "walk-in" }[place->way],
		       fates[place->fate]);
	printf(": ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

unsigned int soak_failures(void)
{
	unsigned int sum = 0, i;

	for (i = 0; i < PROMISES; i++)
		sum += soak.failures[i];
	return sum;
}

void report_line(void)
{
	const struct totals *totals = &soak.totals;
	int64_t now = now_ns();
	int i;

	printf("# %lld s: %" PRIu64 " messages, %" PRIu64 " MiB, %" PRIu64 " mappings, %" PRIu64
	       " hosts, %" PRIu64 " grows; %" PRIu64 " guests (spawned %" PRIu64 ", ticket %"
	       PRIu64 ", walk-in %" PRIu64 "):", (long long)((now - soak.begin) / SECOND),
	       totals->messages, totals->bytes / MIB, totals->mapped, totals->hosts,
	       totals->grown, totals->guests, totals->ways[SPAWNED], totals->ways[TICKETED],
	       totals->ways[WALKED_IN]);
	for (i = 0; i < FATES; i++)
		printf(" %s %" PRIu64 "%s", fates[i], totals->fates[i], i < FATES - 1 ? "," : ";");
	printf(" in the middle of a call %" PRIu64 "; %ld KiB resident; %u failures\n",
	       totals->in_call, soak.resident, soak_failures());
	fflush(stdout);
	soak.next_report = now + 30 * SECOND;
}

/* Also for the watchdog's thread: allocates nothing. */
void report_who_waits(void)
{
	uint32_t i;

	printf("# host: %s, %" PRIu64 " turns\n", activity_name(soak.doing), soak.turns);
	for (i = 0; i < GUESTS; i++) {
		const struct place *place = &soak.places[i];

		printf("# guest %u, life %u: pid %d, state %d, %s, %" PRIu64 " turns, sent %"
		       PRIu64 ", received %" PRIu64 " (the host: %" PRIu64 ", %" PRIu64 ")\n",
		       place->number, place->life, (int)place->pid, (int)place->state,
		       activity_name(place->ledger->doing), place->ledger->turns,
		       place->ledger->counts.sent, place->ledger->counts.received,
		       place->counts.sent, place->counts.received);
	}
	fflush(stdout);
}

/* Did enough happen for the tests to mean something? */
static bool enough_happened(void)
{
	bool enough = soak.totals.messages > 1000 && soak.totals.mapped && soak.totals.grown &&
		      soak.totals.audits && soak.totals.in_call;
	int i;

	for (i = 0; i < FATES; i++)
		enough = enough && soak.totals.fates[i];
	for (i = 0; i < WAYS; i++)
		enough = enough && soak.totals.ways[i];
	return enough;
}

static void test(bool passed, const char *name)
{
	if (passed)
		ksft_test_result_pass("%s\n", name);
	else
		ksft_test_result_fail("%s\n", name);
}

void report_begin(int64_t duration)
{
	ksft_print_header();
	ksft_set_plan(PROMISES + 1);
	printf("# seed %" PRIu64 ", %lld s\n", soak.seed, (long long)(duration / SECOND));
	fflush(stdout);
}

int report_tests(void)
{
	int i;

	report_line();
	for (i = 0; i < PROMISES; i++)
		if (i == MODULE && !soak.device)
			ksft_test_result_skip("%s: the backend is file\n", promises[i]);
		else
			test(!soak.failures[i], promises[i]);
	test(enough_happened(), "everything_happened_that_can");
	ksft_print_cnts();
	return soak_failures() || !enough_happened();
}
