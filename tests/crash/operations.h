/* SPDX-License-Identifier: MIT */
/*
 * operations.h - what the victim does between its markers, and what comes before.
 *
 * For host and guest alike; what only one of them does is with its scenario.
 */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include "crash/side.h"

/*
 * `down` goes from the survivor to the victim, which receives it while it
 * prepares; `up` goes the other way, and is received at the meeting, when the
 * victim stands at its first marker. (Words of side.h.) Then the survivor sends
 * `later`, and the victim does what is to be interrupted.
 */
struct operation {
	const char *name;
	const char *down, *up, *later;
	const char *sends;		/* what the operation itself sends, in order */
	bool survivor_reads_asleep;	/* it has set its sleep word for data */
	bool survivor_fills;		/* it has sent until the ring was full, and waits for room */
	bool closes;			/* it ends the link on purpose */
	bool waits;			/* in vain: nobody must do what it waits for */
	int special;			/* no operation on a link: the scenario knows it */
	void (*prepare)(struct side *victim);
	void (*run)(struct side *victim);
};

/* In the victim ------------------------------------------------------------------------------ */

/* Made before the marker, so that what is interrupted is the library. */
static struct iovec prepared[8];
static unsigned int num_prepared;

static inline void prepare_payload(struct side *victim, const char *sends)
{
	unsigned int number;
	size_t size;

	for (num_prepared = 0; sends[num_prepared]; num_prepared++) {
		number = victim->sent + num_prepared;
		size = message_size(sends[num_prepared], number);
		prepared[num_prepared].iov_base = malloc(size + 1);
		prepared[num_prepared].iov_len = size;
		REQUIRE(prepared[num_prepared].iov_base);
		pattern_fill(prepared[num_prepared].iov_base, size, victim->seed_out + number);
	}
}

static inline void op_send(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_send(victim->link, prepared[0].iov_base, prepared[0].iov_len, 0));
	victim->sent++;
}

static inline void op_send_batch(struct side *victim)
{
	REQUIRE_EQ((int)num_prepared, voxshm_send_batch(victim->link, prepared, num_prepared, 0));
	victim->sent += num_prepared;
}

static inline void op_send_refused(struct side *victim)
{
	static const uint8_t data[240];

	REQUIRE_EQ(-ETIMEDOUT, voxshm_send(victim->link, data, sizeof(data), MS));
}

/* How often it would look depends on the clock; and a look changes nothing. */
static inline void sleep_at_once(struct side *victim)
{
	voxshm_link_set_spin(victim->link, 0);
}

static inline void op_loan_slot(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_loan(victim->link, message_size('s', 0), &victim->loan, 0));
}

/* So few bytes that the native format lends private memory. */
static inline void op_loan_inline(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_loan(victim->link, message_size('i', 0), &victim->loan, 0));
}

static inline void op_loan_mapping(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_loan(victim->link, message_size('m', 0), &victim->loan, 0));
}

/* More than the mapping that there is. */
static inline void op_loan_larger_mapping(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_loan(victim->link, MIB + 1, &victim->loan, 0));
}

/* A loan that holds the message that comes next. */
static inline void write_loan(struct side *victim)
{
	memcpy(victim->loan.data, prepared[0].iov_base, prepared[0].iov_len);
}

static inline void prepare_slot_loan(struct side *victim)
{
	op_loan_slot(victim);
	write_loan(victim);
}

static inline void prepare_inline_loan(struct side *victim)
{
	op_loan_inline(victim);
	write_loan(victim);
}

static inline void prepare_mapping_loan(struct side *victim)
{
	op_loan_mapping(victim);
	write_loan(victim);
}

static inline void op_commit(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_commit(victim->link, &victim->loan, prepared[0].iov_len, 0));
	victim->sent++;
}

static inline void op_abort(struct side *victim)
{
	voxshm_abort(victim->link, &victim->loan);
}

static inline void op_recv(struct side *victim)
{
	REQUIRE_EQ(0, voxshm_recv(victim->link, &victim->held[victim->num_held].view, 0));
	victim->held[victim->num_held++].kind = '?';
	victim->received++;
}

static inline void op_recv_batch(struct side *victim)
{
	struct voxshm_view views[3];

	REQUIRE_EQ(3, voxshm_recv_batch(victim->link, views, 3, 0));
	for (int i = 0; i < 3; i++) {
		victim->held[victim->num_held].kind = '?';
		victim->held[victim->num_held++].view = views[i];
	}
	victim->received += 3;
}

static inline void op_recv_copy(struct side *victim)
{
	uint8_t data[LARGEST_MESSAGE];

	REQUIRE(voxshm_recv_copy(victim->link, data, sizeof(data), 0) >= 0);
	victim->received++;
}

static inline void op_recv_refused(struct side *victim)
{
	struct voxshm_view view;

	REQUIRE_EQ(-ETIMEDOUT, voxshm_recv(victim->link, &view, MS));
}

static inline void release_one(struct side *victim, unsigned int index)
{
	REQUIRE_EQ(0, voxshm_release(victim->link, &victim->held[index].view));
}

static inline void op_release(struct side *victim)
{
	release_one(victim, 0);
	victim->num_held = 0;
}

static inline void op_release_early(struct side *victim)
{
	release_one(victim, 1);
	release_one(victim, 2);
	release_one(victim, 0);
	victim->num_held = 0;
}

/* With two of which one is released. */
static inline void op_release_first(struct side *victim)
{
	release_one(victim, 0);
	victim->held[0] = victim->held[1];
	victim->num_held = 1;
}

static inline void op_arm(struct side *victim)
{
	REQUIRE(voxshm_link_arm(victim->link, VOXSHM_READABLE) >= 0);
}

static inline void op_close(struct side *victim)
{
	voxshm_link_close(victim->link);
	victim->link = NULL;
	victim->num_held = 0;
}

#define SOME_DOWN "IS|is"
#define SOME_UP "ISis|is"

static const struct operation link_operations[] = {
	{ "send_inline", SOME_DOWN, SOME_UP, "", "i", .run = op_send },
	{ "send_wrapped", "", "www", "", "w", .run = op_send },
	{ "send_slot", SOME_DOWN, SOME_UP, "", "s", .run = op_send },
	{ "send_slot_after_collecting", "", "ssssssss", "", "s", .run = op_send },
	{ "send_mapping", "m|m", "M|m", "", "m", .run = op_send },
	{ "send_mapping_again", "", "m", "", "m", .run = op_send },
	{ "send_batch", SOME_DOWN, "IS|is", "", "isi", .run = op_send_batch },
	{ "send_waking", "S", "S", "", "i", .survivor_reads_asleep = true, .run = op_send },
	{ "send_slot_waking", "I", "I", "", "s", .survivor_reads_asleep = true, .run = op_send },
	{ "send_refused", "", "|www", "", "",
	  .waits = true, .prepare = sleep_at_once, .run = op_send_refused },
	{ "loan_inline", SOME_DOWN, SOME_UP, "", "", .run = op_loan_inline },
	{ "loan_slot", SOME_DOWN, SOME_UP, "", "", .run = op_loan_slot },
	{ "loan_mapping", "M", "M", "", "", .run = op_loan_mapping },
	{ "loan_larger_mapping", "", "m", "", "", .run = op_loan_larger_mapping },
	{ "commit_inline", SOME_DOWN, SOME_UP, "", "i",
	  .prepare = prepare_inline_loan, .run = op_commit },
	{ "commit_slot", SOME_DOWN, SOME_UP, "", "s",
	  .prepare = prepare_slot_loan, .run = op_commit },
	{ "commit_mapping", "", "M", "", "m",
	  .prepare = prepare_mapping_loan, .run = op_commit },
	{ "abort_inline", SOME_DOWN, SOME_UP, "", "", .prepare = op_loan_inline, .run = op_abort },
	{ "abort_slot", SOME_DOWN, SOME_UP, "", "", .prepare = op_loan_slot, .run = op_abort },
	{ "abort_mapping", "", "M", "", "", .prepare = op_loan_mapping, .run = op_abort },
	{ "recv_inline", "IS", SOME_UP, "is", "", .run = op_recv },
	{ "recv_wrapped", "www", SOME_UP, "w", "", .run = op_recv },
	{ "recv_slot", "IS", SOME_UP, "si", "", .run = op_recv },
	{ "recv_mapping", "M", "M", "mi", "", .run = op_recv },
	{ "recv_batch", "IS", SOME_UP, "isis", "", .run = op_recv_batch },
	{ "recv_copy", "IS", SOME_UP, "si", "", .run = op_recv_copy },
	{ "recv_refused", "IS", SOME_UP, "", "",
	  .waits = true, .prepare = sleep_at_once, .run = op_recv_refused },
	{ "release_inline", "I|i", SOME_UP, "", "", .run = op_release },
	{ "release_slot", "S|s", SOME_UP, "", "", .run = op_release },
	{ "release_mapping", "M|m", "M", "", "", .run = op_release },
	{ "release_early", "III|s", SOME_UP, "", "", .run = op_release_early },
	{ "release_waking", "WW", "S", "", "", .survivor_fills = true, .run = op_release_first },
	{ "arm", "IS", SOME_UP, "", "", .run = op_arm },
	{ "close", "ISs|is", "ISis|is", "", "", .closes = true, .run = op_close },
};

#endif
