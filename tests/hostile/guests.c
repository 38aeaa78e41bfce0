// SPDX-License-Identifier: MIT
/*
 * guests.c - a hostile guest, and a living host with two honest guests beside
 * it. Whatever the one does, the host goes on, every message of the others
 * arrives whole and in order, and what the host has stays within bounds. Who
 * broke a rule loses its link, and the link says why; who broke none can still
 * be closed.
 *
 * In the vox format guests have to trust each other: they share a pool. Attacks
 * that use that up leave the honest ones what travels in the rings, and all of
 * it once the attacker is gone; those that corrupt it, the last test.
 */
#include "frames.h"

/*
 * What one link may cost the host, beside the memory that both sides share.
 * Vox: doorbell, control, epoll, timer, pidfd; memory that is looked at; copies
 * of doorbell and pidfd when it was closed and the guest is not gone.
 */
#define LINK_FDS (5 + 1 + 2)
/* The honest links' timers are made when they are first needed. */
#define LATE_FDS HONEST
/*
 * The window; mappings of the host's; those of the guest in use, and offered; and
 * what the host's allocator takes by the way.
 */
#define LINK_MAPS (1 + 3 * (int)WORLD_MAPPINGS + 8)
/* KiB of these mappings, of the window, of the allocator; and of sanitizers' books. */
#define LINK_RESIDENT (long)((3 * WORLD_MAPPINGS * WORLD_PAYLOAD) / KIB + 4 * KIB + \
			     SANITIZED * 300 * KIB)

/* Callers that the host hears at once, as many as its door lets wait, and ends that were let in. */
#define LOBBY_FDS (64 + 16)

/* How many messages each honest guest must get there and back beside an attack. */
#define BESIDE 30
#define AFTER 20

FIXTURE(guests)
{
	struct world world;
};
VARIANTS(guests)

FIXTURE_SETUP(guests)
{
	world_open(_metadata, &self->world, &WORLD_CONFIG);
}

FIXTURE_TEARDOWN(guests)
{
	world_close(_metadata, &self->world);
}

static void expect_bounds(struct __test_metadata *_metadata, struct world *world, int more_fds)
{
	cost_note(world);
	EXPECT_GE(world->base.fds + LATE_FDS + LINK_FDS + more_fds, world->most.fds);
	EXPECT_GE(world->base.maps + LINK_MAPS, world->most.maps);
	EXPECT_GE(world->base.resident + LINK_RESIDENT, world->most.resident);
}

static void expect_outcome(struct __test_metadata *_metadata, struct world *world, int kind,
			   enum outcome outcome)
{
	struct voxshm_status status;

	voxshm_link_status(world->attacker, &status);
	EXPECT_EQ(status.state == VOXSHM_LINK_FAILED, *status.reason != 0)
		TH_LOG("kind %d: state %d, reason '%s'", kind, status.state, status.reason);
	if (outcome == GOES_ON)
		EXPECT_EQ(VOXSHM_LINK_ATTACHED, status.state)
			TH_LOG("kind %d: '%s'", kind, status.reason);
	if (outcome == FAILS) {
		EXPECT_EQ(VOXSHM_LINK_FAILED, status.state)
			TH_LOG("kind %d", kind);
		EXPECT_EQ(VOXSHM_EVENT_FAILED, world->attacker_end);
	}
}

/* An attacker comes, and the honest guests get on beside it. */
static void survive_beside(struct __test_metadata *_metadata, struct world *world, attack_fn *run,
			   int kind, enum outcome outcome)
{
	world->most = (struct cost){ 0 };
	attack_begin(_metadata, world, run, kind);
	ASSERT_TRUE(attack_goes_on(world))
		TH_LOG("kind %d never began", kind);
	ASSERT_TRUE(serve_until(world, BESIDE, outcome == FAILS))
		TH_LOG("kind %d: honest %" PRIu64 " %" PRIu64 ", the attacker's link %d, '%s'",
		       kind, world->board->exchanged[0], world->board->exchanged[1],
		       world->attacker_ended, reason_of(world->attacker));
	expect_outcome(_metadata, world, kind, outcome);
}

/* It goes, having had no more than a link may, and nothing of it is left. */
static void survive_end(struct __test_metadata *_metadata, struct world *world, int kind,
			int more_fds)
{
	int64_t until;

	expect_bounds(_metadata, world, more_fds);
	/* It lives still: closing must need nothing of it. */
	voxshm_link_close(world->attacker);
	world->attacker = NULL;
	child_kill(world->attacker_pid);
	ASSERT_TRUE(serve_until(world, AFTER, false));
	/* A busy host looks now and then whether somebody has gone. */
	until = now_ns() + PATIENCE;
	while (count_fds() > world->base.fds + LATE_FDS && now_ns() < until)
		serve(world);
	EXPECT_GE(world->base.fds + LATE_FDS, count_fds())
		TH_LOG("kind %d", kind);
}

static void survive(struct __test_metadata *_metadata, struct world *world, attack_fn *run,
		    int kind, enum outcome outcome)
{
	survive_beside(_metadata, world, run, kind, outcome);
	survive_end(_metadata, world, kind, 0);
}

static void survive_all(struct __test_metadata *_metadata, struct world *world, attack_fn *run,
			int kinds, enum outcome outcome)
{
	for (int kind = 0; kind < kinds; kind++)
		survive(_metadata, world, run, kind, outcome);
}

/* Attacks on what vox guests share: until the attacker is gone, the rings are left. */
static void begin_on_shared(struct world *world, const struct variant_choice *choice)
{
	world->board->inline_only = choice->format == VOXSHM_FORMAT_VOX;
	/* What is under way is still of any size. */
	REQUIRE(serve_until(world, 3 * WINDOW, false));
}

static void end_on_shared(struct __test_metadata *_metadata, struct world *world)
{
	world->board->inline_only = false;
	EXPECT_TRUE(serve_until(world, 200, false));
}

TEST_F_TIMEOUT(guests, floods, 60)
{
	survive_all(_metadata, &self->world, attack_flood, FLOODS_INLINE, GOES_ON);
	begin_on_shared(&self->world, &variant->choice);
	for (int kind = FLOODS_INLINE; kind < FLOODS; kind++)
		survive(_metadata, &self->world, attack_flood, kind, GOES_ON);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, never_reads)
{
	self->world.feeds = true;
	begin_on_shared(&self->world, &variant->choice);
	survive(_metadata, &self->world, attack_never_reads, 0, GOES_ON);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, never_releases)
{
	self->world.feeds = true;
	begin_on_shared(&self->world, &variant->choice);
	survive(_metadata, &self->world, attack_never_releases, 0, GOES_ON);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, hoards_all_it_can_be_lent)
{
	begin_on_shared(&self->world, &variant->choice);
	survive(_metadata, &self->world, attack_hoard, 0, GOES_ON);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, spins_sleep_words)
{
	self->world.feeds = true;
	begin_on_shared(&self->world, &variant->choice);
	survive(_metadata, &self->world, attack_sleep_words, 0, GOES_ON);
	/* It rings for its own messages, asked or not: that may become too often. */
	survive(_metadata, &self->world, attack_sleep_words, 1, MAY_FAIL);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, rings_without_end)
{
	survive_all(_metadata, &self->world, attack_rings, RINGS, FAILS);
}

/* What it says to have released was its own to read. */
TEST_F(guests, returns_what_it_does_not_have)
{
	self->world.feeds = true;
	begin_on_shared(&self->world, &variant->choice);
	survive_all(_metadata, &self->world, attack_returns, RETURNS, MAY_FAIL);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, offers_without_end)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device nothing is offered");
	survive_all(_metadata, &self->world, attack_offers, OFFERS, FAILS);
}

TEST_F_TIMEOUT(guests, frames_of_every_wrong_shape, 60)
{
	survive_all(_metadata, &self->world, attack_frames, count_frames(variant->choice.format),
		    FAILS);
}

TEST_F(guests, read_index_that_is_none)
{
	self->world.feeds = true;
	begin_on_shared(&self->world, &variant->choice);
	survive_all(_metadata, &self->world, attack_read_index, READ_INDICES, FAILS);
	end_on_shared(_metadata, &self->world);
}

TEST_F(guests, references_to_mappings_that_are_not_there)
{
	survive_all(_metadata, &self->world, attack_mapping_references, MAPPING_REFERENCES, FAILS);
}

TEST_F_TIMEOUT(guests, offers_of_every_wrong_kind, 60)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device nothing is offered");
	survive_all(_metadata, &self->world, attack_bad_offers, BAD_OFFERS, FAILS);
}

TEST_F(guests, control_messages_of_every_wrong_shape)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device there are no control messages");
	survive_all(_metadata, &self->world, attack_bad_messages, BAD_MESSAGES, FAILS);
}

static void newcomer_run(struct voxshm_link *link, void *argument)
{
	(void)argument;
	REQUIRE_EQ(0, send_pattern(link, 1000, 1, PATIENCE));
	REQUIRE_EQ(0, recv_pattern(link, 1000, 2, PATIENCE));
	voxshm_link_close(link);
}

/* Whoever calls honestly is let in at once, unless others have taken all places. */
static void expect_newcomer(struct __test_metadata *_metadata, struct world *world, int kind)
{
	pid_t pid = walk_in_fork(world->board->address, newcomer_run, NULL);
	int64_t until = now_ns() + PATIENCE;

	world->newcomers = 0;
	while (!world->newcomers && now_ns() < until)
		serve(world);
	EXPECT_EQ(1, world->newcomers)
		TH_LOG("kind %d", kind);
	child_wait(pid);
}

TEST_F_TIMEOUT(guests, calls_without_end, 60)
{
	for (int kind = 0; kind < CALLS; kind++) {
		survive_beside(_metadata, &self->world, attack_calls, kind, GOES_ON);
		if (kind < CALL_LEAVE)
			expect_newcomer(_metadata, &self->world, kind);
		survive_end(_metadata, &self->world, kind, LOBBY_FDS);
		expect_newcomer(_metadata, &self->world, kind);
	}
}

/*
 * What vox guests share, corrupted. By design that hurts who uses it; still the
 * host works on, hangs in nothing, closes the link, and carries what travels in
 * the rings of the others.
 */
TEST_F_TIMEOUT(guests, what_vox_guests_share_is_corrupted, 60)
{
	struct world *world = &self->world;

	if (variant->choice.format != VOXSHM_FORMAT_VOX)
		SKIP(return, "native guests share nothing");
	for (int kind = 0; kind < VOX_CORRUPTIONS; kind++) {
		begin_on_shared(world, &variant->choice);
		world->feeds = true;
		survive(_metadata, world, attack_shared, kind, MAY_FAIL);
		world_close(_metadata, world);
		world_open(_metadata, world, &WORLD_CONFIG);
	}
}

LINK_TEST_MAIN(NULL)
