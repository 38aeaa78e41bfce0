/* SPDX-License-Identifier: MIT */
/* cells.c - see cells.h. */
#include "cells.h"
#include "external.h"

#define TRIES 4			/* of one job in one round */
#define PROBE_TOLERANCE 1.25	/* before and after, and beside the usual */
#define PROBE_WINDOW 31
#define CALIBRATION_NS 1e6
#define MIN_COUNT (PAIR_CHUNKS * BATCH)
#define MIN_COUNT_LARGE PAIR_CHUNKS	/* where there are no batches */
#define MAX_COUNT (64u << 20)

void cell_init(struct cell *cell, const struct transport *transport,
	       const struct shape *shape)
{
	*cell = (struct cell){
		.transport = transport,
		.row = transport ? transport->name : NULL,
		.shape = *shape,
		.histogram = calloc(1, sizeof(*cell->histogram)),
	};
	if (!cell->histogram) {
		fprintf(stderr, "bench: no memory\n");
		exit(1);
	}
}

static bool can(const struct cell *cell, enum job job)
{
	const struct transport *transport = cell->transport;

	if (job == JOB_BATCHES && cell->shape.size > BATCH_MAX_SIZE)
		return false;
	return cell->external ? job != JOB_BATCHES : transport->jobs & job;
}

static bool failed(struct cell *cell)
{
	if (!cell->failure[0] && cell->pair.failure[0])
		snprintf(cell->failure, sizeof(cell->failure), "%s", cell->pair.failure);
	return cell->failure[0];
}

/* How many messages one job of the wanted length takes. */
static void calibrate(struct cell *cell, unsigned int index, double slice_ns)
{
	double aim = slice_ns < CALIBRATION_NS ? slice_ns : CALIBRATION_NS;
	bool large = cell->shape.size > BATCH_MAX_SIZE;
	uint64_t step = large ? MIN_COUNT_LARGE : MIN_COUNT;
	uint64_t least = cell->transport->min_count ? cell->transport->min_count : step;
	uint64_t count = least;
	struct turn turn;

	for (;;) {
		if (!pair_run(&cell->pair, 1u << index, count, &turn))
			return;
		if (turn.elapsed >= aim || count >= MAX_COUNT)
			break;
		count *= 4;
	}
	count = (uint64_t)((double)count * slice_ns / turn.elapsed);
	if (count < least)
		count = least;
	cell->count[index] = (count < MAX_COUNT ? count : MAX_COUNT) / step * step;
}

static bool apart(double a, double b)
{
	return a > b * PROBE_TOLERANCE || b > a * PROBE_TOLERANCE;
}

/*
 * Did the bare line move, in this turn or against the last turns of the pair? (Not
 * of another: how long a line takes also depends on where it lies.)
 */
static bool moved(struct cell *cell, const struct turn *turn)
{
	double usual = series_median(&cell->probes);
	bool bad = apart(turn->probe_before, turn->probe_after) ||
		   (!isnan(usual) && (apart(turn->probe_before, usual) ||
				      apart(turn->probe_after, usual)));

	series_set(&cell->probes, cell->turns++ % PROBE_WINDOW, turn->probe_after);
	return bad;
}

static double outcome(const struct cell *cell, unsigned int index, const struct turn *turn)
{
	if (1u << index == JOB_TRIPS)
		return (double)histogram_percentile(&cell->pair.control->histogram, 0.5) *
		       ticks_ns();
	return (double)cell->count[index] / turn->elapsed * 1e9;
}

static void do_round(struct cell *cell, unsigned int index, unsigned int round)
{
	struct turn turn;
	int tries;

	for (tries = 0; tries < TRIES; tries++) {
		if (!pair_run(&cell->pair, 1u << index, cell->count[index], &turn))
			return;
		if (!moved(cell, &turn)) {
			series_set(&cell->result[index], round, outcome(cell, index, &turn));
			histogram_merge(cell->histogram, &cell->pair.control->histogram);
			return;
		}
		cell->dropped[index]++;
	}
}

static void do_external(struct cell *cell, unsigned int index, unsigned int round,
			const struct plan *plan)
{
	struct external_result result;
	unsigned int i;

	if (!external_run(cell->external, 1u << index, cell->shape.size, plan->slice_ns, &result,
			  cell->failure, sizeof(cell->failure)))
		return;
	if (result.name[0])
		cell->row = external_name(result.name);
	series_set(&cell->result[index], round, result.main);
	for (i = 0; i < 3 && 1u << index == JOB_TRIPS; i++)
		series_set(&cell->tail[i], round, result.tail[i]);
}

void cells_run(struct cell *cells, unsigned int count, unsigned int jobs,
	       const struct plan *plan)
{
	unsigned int round, index, i;

	for (i = 0; i < count; i++)
		if (!cells[i].external)
			pair_start(&cells[i].pair, cells[i].transport, &cells[i].shape);
	for (index = 0; index < JOBS; index++)
		for (i = 0; i < count; i++)
			if ((jobs & 1u << index) && can(&cells[i], 1u << index) &&
			    !cells[i].external && !failed(&cells[i]))
				calibrate(&cells[i], index, plan->slice_ns);
	for (round = 0; round < plan->rounds; round++) {
		for (index = 0; index < JOBS; index++) {
			for (i = 0; i < count; i++) {
				if (!(jobs & 1u << index) || !can(&cells[i], 1u << index) ||
				    failed(&cells[i]))
					continue;
				if (cells[i].external)
					do_external(&cells[i], index, round, plan);
				else
					do_round(&cells[i], index, round);
			}
		}
	}
	for (i = 0; i < count; i++) {
		failed(&cells[i]);
		if (!cells[i].external)
			pair_stop(&cells[i].pair);
	}
}

/* Reports --------------------------------------------------------------------------- */

static void add(const struct cell *cell, const struct record *like, const char *metric,
		const char *unit, const struct series *series)
{
	struct record record = *like;

	record.metric = metric;
	record.unit = unit;
	record.series = *series;
	snprintf(record.note, sizeof(record.note), "%s", cell->failure);
	if (!record.note[0] && series_count(series) == 0)
		snprintf(record.note, sizeof(record.note), "the bare line moved in all %u tries",
			 record.dropped);
	report_add(&record);
}

static struct series single(double value)
{
	struct series series = { 0 };

	series_set(&series, 0, value);
	return series;
}

static void add_tail(const struct cell *cell, const struct record *like)
{
	static const char *const metrics[] = { "p99", "p999", "max" };
	static const double fractions[] = { 0.99, 0.999, 1 };
	struct series series;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		series = cell->tail[i];
		if (cell->histogram->total)
			series = single((double)(i == 2 ? cell->histogram->max :
				histogram_percentile(cell->histogram, fractions[i])) * ticks_ns());
		add(cell, like, metrics[i], "ns", &series);
	}
}

/* The whole distribution, for the plot: the place is 1 / (1 - percentile). */
static void add_distribution(const struct cell *cell)
{
	static const unsigned int tails[] = { 1, 2, 4, 10, 20, 50, 100, 200, 500, 1000, 2000,
					      5000, 10000, 20000, 50000, 100000 };
	struct record record = {
		.section = "distribution", .row = cell->row, .place = "tail",
		.family = cell->transport ? cell->transport->family : "peer",
		.metric = "ns", .unit = "ns",
	};
	unsigned int i;

	for (i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
		if (cell->histogram->total < tails[i])
			break;
		record.at = tails[i];
		record.series = single((double)histogram_percentile(cell->histogram,
								    1 - 1.0 / tails[i]) *
				       ticks_ns());
		report_add(&record);
	}
}

static void add_rate(const struct cell *cell, struct record *record, unsigned int index,
		     const char *metric)
{
	struct series bytes = cell->result[index];
	unsigned int i;

	record->dropped = cell->dropped[index];
	if (!strcmp(record->place, "guests")) {
		for (i = 0; i < bytes.rounds; i++)
			bytes.values[i] = 1e9 / bytes.values[i];
		add(cell, record, "cost", "ns", &bytes);
		return;
	}
	add(cell, record, metric, "messages/s", &cell->result[index]);
	if (1u << index != JOB_STREAM)
		return;
	for (i = 0; i < bytes.rounds; i++)
		bytes.values[i] *= (double)cell->shape.size / 1e6;
	add(cell, record, "throughput", "MB/s", &bytes);
}

static uint64_t place_of(const struct cell *cell, const char *place)
{
	if (!strcmp(place, "guests"))
		return cell->shape.guests;
	return strcmp(place, "ring") ? cell->shape.size : cell->shape.ring;
}

void cells_report(struct cell *cells, unsigned int count, const char *section,
		  const char *place)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct cell *cell = &cells[i];
		struct record record = {
			.section = section, .row = cell->row, .place = place,
			.family = cell->transport ? cell->transport->family : "peer",
			.at = place_of(cell, place),
		};

		if (can(cell, JOB_TRIPS) && (cell->count[0] || cell->external || failed(cell))) {
			record.dropped = cell->dropped[0];
			add(cell, &record, "p50", "ns", &cell->result[0]);
			add_tail(cell, &record);
			if (cell->shape.size == 64 && !strcmp(place, "size"))
				add_distribution(cell);
		}
		if (can(cell, JOB_STREAM) && (cell->count[1] || cell->external || failed(cell)))
			add_rate(cell, &record, 1, "rate");
		if (can(cell, JOB_BATCHES) && (cell->count[2] || failed(cell)))
			add_rate(cell, &record, 2, "rate16");
		free(cell->histogram);
	}
}
