/* SPDX-License-Identifier: MIT */
/* clock.c - how long a tick is, and which processors to run on. */
#include <sched.h>

#include "bench.h"

#define CALIBRATION_NS 20e6

double ticks_ns(void)
{
	static double ns;
	uint64_t first_ticks;
	double first, last;

	if (ns != 0)
		return ns;
	first = now_ns();
	first_ticks = ticks();
	do
		last = now_ns();
	while (last - first < CALIBRATION_NS);
	ns = (last - first) / (double)(ticks() - first_ticks);
	return ns;
}

/* The first two that this process may use; -1 where there is no second. */
int pin_processor(unsigned int which)
{
	static int processors[2] = { -1, -1 };
	static bool known;
	unsigned int found = 0;
	cpu_set_t set;
	int i;

	if (!known && sched_getaffinity(0, sizeof(set), &set) == 0)
		for (i = 0; i < CPU_SETSIZE && found < 2; i++)
			if (CPU_ISSET(i, &set))
				processors[found++] = i;
	known = true;
	return processors[which];
}

void pin(unsigned int which)
{
	int processor = pin_processor(which);
	cpu_set_t set;

	if (processor < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof(set), &set);
}
