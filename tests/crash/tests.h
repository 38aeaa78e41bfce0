/* SPDX-License-Identifier: MIT */
/*
 * tests.h - the tests of a program that names its CIRCUMSTANCE: one for each
 * operation, for each format and backend, with the guest as the victim ("up")
 * or the host ("down"; not with GUESTS_ALONE). See sweep.h for how much of each is done.
 *
 * A word as the program's argument runs only tests whose name contains it.
 */
#ifndef TESTS_H
#define TESTS_H

#include "crash/guest_dies.h"
#include "crash/host_dies.h"

#define LINK_OPERATIONS(X)								\
	X(send_inline) X(send_wrapped) X(send_slot) X(send_slot_after_collecting)	\
	X(send_mapping) X(send_mapping_again) X(send_batch) X(send_waking)		\
	X(send_slot_waking) X(send_refused) X(loan_inline) X(loan_slot)			\
	X(loan_mapping) X(loan_larger_mapping) X(commit_inline) X(commit_slot)		\
	X(commit_mapping) X(abort_inline) X(abort_slot) X(abort_mapping)		\
	X(recv_inline) X(recv_wrapped) X(recv_slot) X(recv_mapping)	\
	X(recv_batch) X(recv_copy) X(recv_refused) X(release_inline) X(release_slot)	\
	X(release_mapping) X(release_early) X(release_waking) X(arm) X(close)

#define GUEST_OPERATIONS(X) X(claim) X(connect)

#define HOST_OPERATIONS(X)								\
	X(new_host) X(listen) X(ticket) X(spawn) X(accept) X(bury) X(free_host)

_Static_assert(0 LINK_OPERATIONS(COUNT_ONE) == ARRAY_SIZE(link_operations), "a test for each");
_Static_assert(0 GUEST_OPERATIONS(COUNT_ONE) == ARRAY_SIZE(guest_operations), "a test for each");
_Static_assert(0 HOST_OPERATIONS(COUNT_ONE) == ARRAY_SIZE(host_operations), "a test for each");

static inline bool crash_sweep(const struct variant_choice *choice, const char *name)
{
	struct scene scene = {
		.scenario = choice->from_host ? &host_dies : &guest_dies,
		.circumstance = CIRCUMSTANCE,
		.format = choice->format,
		.backend = choice->backend,
	};

	scene.op = find_operation(link_operations, ARRAY_SIZE(link_operations), name);
	if (!scene.op)
		scene.op = choice->from_host ?
			find_operation(host_operations, ARRAY_SIZE(host_operations), name) :
			find_operation(guest_operations, ARRAY_SIZE(guest_operations), name);
	return scene.op && sweep(&scene);
}

#define CRASH_TEST(fixture, name)							\
	TEST_F_TIMEOUT(fixture, name, SWEEP_SECONDS)					\
	{										\
		EXPECT_TRUE(crash_sweep(&variant->choice, #name));			\
	}

#define CRASH_FIXTURE(fixture)								\
	FIXTURE(fixture)								\
	{										\
		char unused;								\
	};										\
	FIXTURE_SETUP(fixture)								\
	{										\
	}										\
	FIXTURE_TEARDOWN(fixture)							\
	{										\
	}

#define ONE_WAY(fixture, variant, format_name, backend_name, is_down)			\
	VARIANT_ADD(fixture, variant, format_name, backend_name, SPECIAL_IS_DOWN)

CRASH_FIXTURE(link)
#ifdef GUESTS_ALONE
FIXTURE_VARIANT(link) { struct variant_choice choice; };
#define SPECIAL_IS_DOWN false
COMBINATIONS(ONE_WAY, link)
#undef SPECIAL_IS_DOWN
#else
VARIANTS_BOTH_WAYS(link)
#endif
#define LINK_TEST(name) CRASH_TEST(link, name)
LINK_OPERATIONS(LINK_TEST)

/* What only one of the two does. */

CRASH_FIXTURE(guest)
FIXTURE_VARIANT(guest) { struct variant_choice choice; };
#define SPECIAL_IS_DOWN false
COMBINATIONS(ONE_WAY, guest)
#undef SPECIAL_IS_DOWN
#define GUEST_TEST(name) CRASH_TEST(guest, name)
GUEST_OPERATIONS(GUEST_TEST)

#ifndef GUESTS_ALONE
CRASH_FIXTURE(host)
FIXTURE_VARIANT(host) { struct variant_choice choice; };
#define SPECIAL_IS_DOWN true
COMBINATIONS(ONE_WAY, host)
#undef SPECIAL_IS_DOWN
#define HOST_TEST(name) CRASH_TEST(host, name)
HOST_OPERATIONS(HOST_TEST)
#endif

static const struct guest_program crash_programs[] = {
	{ "spawned", program_spawned },
	{ 0 },
};

CRASH_TEST_MAIN(crash_programs)

#endif
