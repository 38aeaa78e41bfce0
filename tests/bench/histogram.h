/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - counts of values by their logarithm, after HdrHistogram.
 *
 * Each power of two is divided into 128 buckets: a percentile is known to
 * better than one part in a hundred, whatever its size, and adding a value
 * touches one counter. The largest value is kept as it is.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 7
#define HISTOGRAM_SUB (1u << HISTOGRAM_BITS)
#define HISTOGRAM_MAX_BITS 38
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_BITS + 1) * HISTOGRAM_SUB)

struct histogram {
	uint64_t total;
	uint64_t max;
	uint32_t counts[HISTOGRAM_BUCKETS];
};

static inline unsigned int histogram_bucket(uint64_t value)
{
	unsigned int shift;

	if (value >> HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	if (value < HISTOGRAM_SUB)
		return (unsigned int)value;
	shift = 63 - (unsigned int)__builtin_clzll(value) - HISTOGRAM_BITS;
	return (shift << HISTOGRAM_BITS) + (unsigned int)(value >> shift);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->counts[histogram_bucket(value)]++;
	histogram->total++;
	if (value > histogram->max)
		histogram->max = value;
}

void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that the fraction (0..1) of all values does not exceed; 0 when there is none. */
uint64_t histogram_percentile(const struct histogram *histogram, double fraction);

#endif
