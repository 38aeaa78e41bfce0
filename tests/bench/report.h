/* SPDX-License-Identifier: MIT */
/*
 * report.h - what was measured, kept as records and written as tables, CSV and
 * JSON.
 *
 * A record is one figure of one row at one place of one section ("roundtrip",
 * "voxshm copy, spinning", size 64, p50), with a value for each round. What is
 * shown is the median. Two records of the same rounds were measured in turn, so
 * their ratio is the median of the rounds' ratios.
 */
#ifndef REPORT_H
#define REPORT_H

#include <math.h>

#include "bench.h"

#define MAX_ROUNDS 64

struct series {
	unsigned int rounds;
	double values[MAX_ROUNDS];	/* NAN: that round gave none */
};

static inline void series_set(struct series *series, unsigned int round, double value)
{
	for (; series->rounds <= round; series->rounds++)
		series->values[series->rounds] = NAN;
	series->values[round] = value;
}

/* NAN when there is no value. */
double series_median(const struct series *series);
double series_low(const struct series *series);
double series_high(const struct series *series);
unsigned int series_count(const struct series *series);

/* The median of the rounds' ratios; NAN when they share no round. */
double series_ratio(const struct series *over, const struct series *under);

struct record {
	const char *section, *row, *family;
	const char *place;	/* what `at` counts: "size", "ring", "guests" */
	uint64_t at;
	const char *metric, *unit;
	struct series series;
	unsigned int dropped;	/* rounds thrown away as the bare line had moved */
	char note[160];		/* why there is no value, if there is none */
};

/* Strings must live as long as the report. */
void report_add(const struct record *record);

/* A figure without rounds. */
void report_single(const char *section, const char *row, const char *place, uint64_t at,
		   const char *metric, const char *unit, double value);

/* NULL when there is none. */
const struct record *report_find(const char *section, const char *row, uint64_t at,
				 const char *metric);

/* Ratio of two rows' records at the same place; NAN when one is missing. */
double report_ratio(const char *section, const char *over, const char *under, uint64_t at,
		    const char *metric);

/* One metric of a section: a line for each row, a column for each place. */
void report_table(FILE *out, const char *section, const char *metric, const char *title);

/* 64, 4 Ki, 1 Mi */
const char *report_size(uint64_t size);

/* Return: 0 or -errno. */
int report_write_csv(const char *path);
int report_write_json(const char *path);

#endif
