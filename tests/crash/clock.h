/* SPDX-License-Identifier: MIT */
/*
 * clock.h - a victim's clock, which goes by how often it is looked at.
 *
 * The programs are linked so that the library calls this (-Wl,--wrap, see
 * ../Makefile). How often a victim looks before it sleeps, and the way through
 * the kernel's own clock_gettime(), would else be another one each time. For the
 * same reason no timer of a victim's ever expires: it has one for peers that
 * do not ring, and all do.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdbool.h>
#include <sys/timerfd.h>
#include <time.h>

/* So much passes between two looks. */
#define CLOCK_STEP_NS 20000ll

static struct {
	bool own;	/* this process is a victim */
	long long now;
} clock_state;

int __real_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *time,
			   struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *time,
			   struct itimerspec *old);

/* From now on this process is a victim. */
static inline void clock_begin(void)
{
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	clock_state.now = now.tv_sec * 1000000000ll;
	clock_state.own = true;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	if (!clock_state.own)
		return __real_clock_gettime(id, now);
	clock_state.now += CLOCK_STEP_NS;
	*now = (struct timespec){ clock_state.now / 1000000000, clock_state.now % 1000000000 };
	return 0;
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *time,
			   struct itimerspec *old)
{
	return clock_state.own ? 0 : __real_timerfd_settime(fd, flags, time, old);
}

#endif
