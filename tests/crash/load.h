/* SPDX-License-Identifier: MIT */
/*
 * load.h - another guest of the same host, busy all the time in a process of
 * its own: it sends and receives, and what happens to others must not show.
 *
 * It can be told to pause, with everything that it received given back, so
 * that the slots can be counted.
 */
#ifndef LOAD_H
#define LOAD_H

#include "crash/side.h"

#define LOAD_BURST 4
/* It rests so long between two bursts, in recv. */
#define REST 50000
/* So many may be under way: all of them together must leave slots for others. */
#define LOAD_UNDER_WAY 8

/* In memory that is shared with it. */
struct load {
	_Atomic bool pause, paused;
	_Atomic unsigned int sent, received;	/* by the guest */
	_Atomic unsigned int taken;		/* by the host */
	_Atomic int64_t longest_call;
};

static inline char load_kind(unsigned int number)
{
	return "isbs"[number % 4];
}

/* One message, if there is room. Return: 0, -EAGAIN, or an error. */
static inline int load_send(struct side *side)
{
	uint8_t data[LARGEST_MESSAGE];
	size_t size = message_size(load_kind(side->sent), side->sent);
	int ret;

	pattern_fill(data, size, side->seed_out + side->sent);
	ret = TIMED(voxshm_try_send(side->link, data, size));
	side->sent += ret == 0;
	return ret;
}

/*
 * One message, waiting for it. Return: 0, -EAGAIN or -ETIMEDOUT, or an error; a
 * message that is not the next one is a complaint.
 */
static inline int load_receive(struct side *side, int64_t timeout)
{
	struct voxshm_view view;
	int ret = TIMED(voxshm_recv(side->link, &view, timeout));

	if (ret == 0)
		side_take(side, load_kind(side->received), view);
	return ret;
}

static inline void load_pause(struct load *load, struct side *side)
{
	int ret;

	do
		ret = load_receive(side, 0);
	while (ret == 0);
	REQUIRE(ret == -EAGAIN || ret == -EPIPE);
	load->sent = side->sent;
	load->paused = true;
	while (load->pause)
		sleep_ms(1);
	load->paused = false;
}

/* The guest's life. Return: when the host has gone. */
static inline void load_run(struct load *load, struct side *side)
{
	int ret, i;

	for (;;) {
		if (load->pause)
			load_pause(load, side);
		for (i = 0, ret = 0; i < LOAD_BURST && ret == 0 &&
		     side->sent - load->taken < LOAD_UNDER_WAY; i++)
			ret = load_send(side);
		if (ret == -EPIPE)
			break;
		REQUIRE(ret == 0 || ret == -EAGAIN);
		for (i = 0, ret = 0; i < LOAD_BURST && ret == 0; i++)
			ret = load_receive(side, REST);
		if (ret == -EPIPE)
			break;
		REQUIRE(ret == 0 || ret == -ETIMEDOUT);
		if (*complaint)
			fprintf(stderr, "# the guest that is busy: %s\n", complaint);
		REQUIRE(!*complaint);
		load->sent = side->sent;
		load->received = side->received;
		load->longest_call = longest_call;
	}
}

#endif
