/* SPDX-License-Identifier: MIT */
/*
 * targets.c - what is to be reached, beside what was. Every line is a ratio of
 * two rows that were measured in turn.
 */
#include "plan.h"
#include "report.h"

#define COPY "voxshm copy, spinning"
#define LOAN "voxshm loan, spinning"
#define UNTOUCHED "voxshm loan, untouched"
#define INDEX_RING "bare ring, index"

static void print(FILE *out, const char *what, double ratio, double bound, bool at_most)
{
	const char *verdict = "-";

	if (!isnan(ratio))
		verdict = (at_most ? ratio <= bound : ratio >= bound) ? "reached" : "missed";
	fprintf(out, "  %-62s", what);
	if (isnan(ratio))
		fprintf(out, " %8s", "-");
	else
		fprintf(out, " %8.*f", ratio != 0 && ratio < 0.01 ? 5 : 2, ratio);
	fprintf(out, "   %s %-6g %s\n", at_most ? "<=" : ">=", bound, verdict);
}

/* Of figures of different metrics or places, measured in the same rounds. */
static double ratio(const char *section, const char *row, uint64_t at, const char *metric,
		    const char *other_row, uint64_t other_at, const char *other_metric)
{
	const struct record *over = report_find(section, row, at, metric);
	const struct record *under = report_find(section, other_row, other_at, other_metric);

	return over && under ? series_ratio(&over->series, &under->series) : NAN;
}

static double single(const char *section, const char *row, uint64_t at, const char *metric)
{
	const struct record *record = report_find(section, row, at, metric);

	return record ? series_median(&record->series) : NAN;
}

static void print_rates(FILE *out)
{
	static const uint64_t sizes[] = { KI, 4 * KI, 64 * KI, MI };
	char what[80];
	unsigned int i;

	print(out, "64 bytes one way, copy / bare ring with an index",
	      report_ratio("pairs", COPY, INDEX_RING, 64, "rate"), 1.0, false);
	print(out, "the same in batches of 16",
	      ratio("pairs", COPY, 64, "rate16", INDEX_RING, 64, "rate"), 1.2, false);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		snprintf(what, sizeof(what), "%s bytes one way, copy / memcpy alone",
			 report_size(sizes[i]));
		print(out, what, report_ratio("pairs", COPY, "memcpy alone", sizes[i], "rate"),
		      0.8, false);
		snprintf(what, sizeof(what), "%s bytes one way, copy / bare ring, sequence",
			 report_size(sizes[i]));
		print(out, what,
		      report_ratio("pairs", COPY, "bare ring, sequence", sizes[i], "rate"),
		      0.8, false);
	}
}

/* The largest of the ratios to one guest. */
static double growth(const char *section, const char *row, const char *metric)
{
	static const unsigned int crowds[] = { 2, 8, 32, 128 };
	double most = 0, cost;
	unsigned int i;

	for (i = 0; i < sizeof(crowds) / sizeof(*crowds); i++) {
		cost = ratio(section, row, crowds[i], metric, row, 1, metric);
		if (isnan(cost) || cost > most)
			most = cost;
	}
	return most;
}

void print_targets(FILE *out)
{

	fprintf(out, "\nTo reach (ratios of medians of rounds measured in turn)\n");
	print(out, "64 bytes there and back, copy / flag and copied payload",
	      report_ratio("pairs", COPY, "flag and copied payload", 64, "p50"), 1.25, true);
	print(out, "64 bytes there and back, loan / two shared lines",
	      report_ratio("pairs", LOAN, "two shared lines", 64, "p50"), 1.25, true);
	print_rates(out);
	print(out, "loan there and back, 1 Mi untouched / 64 bytes",
	      ratio("pairs", UNTOUCHED, MI, "p50", LOAN, 64, "p50"), 1.3, true);
	print(out, "loan there and back, 1 Mi touched / bare ring in place",
	      report_ratio("pairs", LOAN, "bare ring, sequence, in place", MI, "p50"), 1.0, true);
	print(out, "64 bytes there and back, sleeping / eventfd",
	      report_ratio("pairs", "voxshm copy, sleeping", "eventfd (no payload)", 64, "p50"),
	      1.1, true);
	print(out, "system calls of the sender for a message, streaming",
	      single("syscalls", "a message, streaming", 64, "sender"), 0.001, true);
	print(out, "system calls of the receiver for a message, streaming",
	      single("syscalls", "a message, streaming", 64, "receiver"), 0.001, true);
	print(out, "system calls of the sender for a burst to a sleeper",
	      single("syscalls", "a burst of 64 to a sleeper", 64, "sender"), 1, true);
	print(out, "cost of a message to the host, any number of guests / one guest",
	      growth("host", "one message from each lies ready", "p50"), 1.3, true);
	print(out, "the same with one process that sends all of them meanwhile",
	      growth("guests", "one message from each in turn", "cost"), 1.3, true);
	print(out, "wake-ups a second of a guest among 128 when nothing is sent",
	      single("idle", "one guest", 128, "wakeups"), 0, true);
}
