/* SPDX-License-Identifier: MIT */
/* histogram.c - see histogram.h. */
#include "histogram.h"

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->counts[i] += from->counts[i];
	into->total += from->total;
	if (from->max > into->max)
		into->max = from->max;
}

/* The middle of a bucket. */
static uint64_t bucket_value(unsigned int bucket)
{
	unsigned int shift;
	uint64_t low;

	if (bucket < 2 * HISTOGRAM_SUB)
		return bucket;
	shift = (bucket >> HISTOGRAM_BITS) - 1;
	low = (uint64_t)(bucket - (shift << HISTOGRAM_BITS)) << shift;
	return low + ((1ull << shift) >> 1);
}

uint64_t histogram_percentile(const struct histogram *histogram, double fraction)
{
	uint64_t wanted = (uint64_t)(fraction * (double)histogram->total + 0.5);
	uint64_t seen = 0, value;
	unsigned int i;

	if (wanted == 0)
		wanted = 1;
	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->counts[i];
		if (seen < wanted)
			continue;
		value = bucket_value(i);
		return value < histogram->max ? value : histogram->max;
	}
	return histogram->max;
}
