// SPDX-License-Identifier: MIT
/*
 * segment.c - killed at every instruction of what only the segment level of the
 * vox format does: taking and leaving peer slots by hand, slots, a ring,
 * growth, recovery.
 *
 * Each run has a segment of its own, with a bystander who must not notice: a
 * guest in this process, who holds a slot. The victim is another guest, and the
 * host is the test; or the host itself.
 */
#include "crash/sweep.h"
#include "voxshm_segment.h"

#define BYSTANDER 1u
#define VICTIM 2u
#define MOST_SLOTS 64
#define GROWTH (8u * KIB)
#define ENTRY 16u

enum segment_special {
	HOST_DIES = 1 << 0,
	HOST_GROWS = 1 << 1,		/* the survivor, when the victim has attached */
	RESERVED = 1 << 2,		/* the victim's place is */
	SOMEBODY_DIED = 1 << 3,		/* the victim recovers it */
};

struct segment_scene {
	struct scene *scene;
	struct voxshm_segment *host;		/* the test's, or NULL */
	struct voxshm_segment *bystander;
	struct voxshm_slot kept;		/* the bystander's */
	struct victim victim;
	char path[64];
};

/* In the victim ------------------------------------------------------------------------- */

static struct {
	struct voxshm_segment *segment;
	uint32_t peer;
	struct voxshm_slot slot;
	struct voxshm_segment_ring *ring;
	void *entry;
} self;

static void attach_segment(const char *path)
{
	struct voxshm_error error = { "" };
	int ret = voxshm_segment_attach(&self.segment, path, &error);

	if (ret)
		fprintf(stderr, "# attach: %s\n", error.text);
	REQUIRE_EQ(0, ret);
}

static void op_attach(struct side *side)
{
	self.peer = VICTIM;
	REQUIRE_EQ(VICTIM, voxshm_segment_attach_peer(self.segment));
}

static void op_claim(struct side *side)
{
	self.peer = VICTIM;
	REQUIRE_EQ(0, voxshm_segment_claim_peer(self.segment, VICTIM));
}

static void op_detach(struct side *side)
{
	REQUIRE_EQ(0, voxshm_segment_detach_peer(self.segment, VICTIM));
	self.peer = 0;
}

static void op_slot_alloc(struct side *side)
{
	REQUIRE_EQ(0, voxshm_segment_slot_alloc(self.segment, self.peer, 100, &self.slot));
}

static void op_slot_free(struct side *side)
{
	REQUIRE_EQ(0, voxshm_segment_slot_free(self.segment, self.peer, &self.slot));
}

static void prepare_slot(struct side *side)
{
	op_attach(side);
	op_slot_alloc(side);
}

/* All of the first extent is taken: a slot is found in the one that was added. */
static void prepare_extent(struct side *side)
{
	struct voxshm_slot slot;

	op_attach(side);
	while (voxshm_segment_slot_alloc(self.segment, self.peer, 100, &slot) == 0)
		;
}

static void op_follow(struct side *side)
{
	REQUIRE_EQ(1, voxshm_segment_remap(self.segment));
	op_slot_alloc(side);
	REQUIRE_EQ(1, self.slot.extent);
}

static void write_entry(void *data)
{
	uint64_t words[ENTRY / 8] = { ENTRY | 8ull << 48, 0x1122334455667788 };

	memcpy(data, words, sizeof(words));
}

static void prepare_ring(struct side *side)
{
	op_attach(side);
	REQUIRE_EQ(0, voxshm_segment_ring_open(&self.ring, self.segment, VICTIM,
					       VOXSHM_GUEST_TO_HOST, VOXSHM_PRODUCER));
	REQUIRE_EQ(0, voxshm_segment_ring_grant(self.ring, ENTRY, &self.entry));
	write_entry(self.entry);
}

static void op_ring_commit(struct side *side)
{
	REQUIRE_EQ(0, voxshm_segment_ring_commit(self.ring, ENTRY));
}

static void op_grow(struct side *side)
{
	struct voxshm_segment_info info;

	voxshm_segment_get_info(self.segment, &info);
	REQUIRE_EQ(0, voxshm_segment_grow(self.segment, info.current_size + GROWTH, NULL));
}

static void op_reserve(struct side *side)
{
	REQUIRE_EQ(VICTIM, voxshm_segment_reserve_peer(self.segment));
}

static void op_recover(struct side *side)
{
	REQUIRE(voxshm_segment_recover(self.segment, VICTIM, NULL, NULL) >= 0);
}

static const struct operation segment_operations[] = {
	{ "attach_peer", .sends = "", .run = op_attach },
	{ "claim_peer", .sends = "", .special = RESERVED, .run = op_claim },
	{ "detach_peer", .sends = "", .prepare = op_attach, .run = op_detach },
	{ "slot_alloc", .sends = "", .prepare = op_attach, .run = op_slot_alloc },
	{ "slot_free", .sends = "", .prepare = prepare_slot, .run = op_slot_free },
	{ "ring_commit", .sends = "i", .prepare = prepare_ring, .run = op_ring_commit },
	{ "follow_growth", .sends = "", .special = HOST_GROWS, .prepare = prepare_extent,
	  .run = op_follow },
	{ "grow", .sends = "", .special = HOST_DIES, .run = op_grow },
	{ "reserve_peer", .sends = "", .special = HOST_DIES, .run = op_reserve },
	{ "recover", .sends = "", .special = HOST_DIES | SOMEBODY_DIED, .run = op_recover },
};

static const struct voxshm_class segment_classes[] = { { 128, 4 }, { 1024, 2 } };

static void create_segment(struct voxshm_segment **segment, const char *path)
{
	const struct voxshm_segment_config config = {
		.struct_size = sizeof(config),
		.max_guests = 3,
		.ring_capacity = 256,
		.max_mappings = 1,
		.num_classes = ARRAY_SIZE(segment_classes),
		.classes = segment_classes,
		.max_size = MIB,
		.path = path,
	};
	struct voxshm_error error = { "" };
	int ret = voxshm_segment_create(segment, &config, &error);

	if (ret)
		fprintf(stderr, "# create: %s\n", error.text);
	REQUIRE_EQ(0, ret);
}

/* Let go on: slots can be taken and given back. */
static void prove_segment_sound(void)
{
	struct voxshm_slot slot;

	if (!self.peer && self.segment && !self.segment->is_host)
		return;
	REQUIRE_EQ(0, voxshm_segment_slot_alloc(self.segment, self.peer, 1000, &slot));
	REQUIRE_EQ(0, voxshm_segment_slot_free(self.segment, self.peer, &slot));
}

static void victim_run(void *argument)
{
	struct segment_scene *segments = argument;
	const struct operation *op = segments->scene->op;

	if (op->special & HOST_DIES) {
		create_segment(&self.segment, segments->path);
		victim_marker();
	} else {
		attach_segment(segments->path);
	}
	if (op->prepare)
		op->prepare(NULL);
	victim_marker();
	op->run(NULL);
	victim_marker();
	prove_segment_sound();
	victim_marker();
}

/* The bystander -------------------------------------------------------------------------- */

static bool bystander_come(struct segment_scene *segments)
{
	struct voxshm_error error = { "" };
	struct voxshm_segment *segment;

	if (voxshm_segment_attach(&segments->bystander, segments->path, &error))
		return complain("attach: %s", error.text);
	segment = segments->bystander;
	if (!holds(voxshm_segment_attach_peer(segment) == BYSTANDER, "the bystander's place is "
		   "taken") ||
	    !holds(voxshm_segment_slot_alloc(segment, BYSTANDER, 1000, &segments->kept) == 0,
		   "the bystander gets no slot"))
		return false;
	memset(voxshm_segment_slot_data(segment, &segments->kept, NULL), 0x6b, SLOT_LARGE);
	return true;
}

/* Slots can be had and given back, none twice, none that the bystander holds. */
static bool bystander_works(struct segment_scene *segments, unsigned int least)
{
	struct voxshm_segment *segment = segments->bystander;
	struct voxshm_slot slots[MOST_SLOTS];
	unsigned int count = 0, i;
	const uint8_t *kept;
	uint32_t *data;
	int ret;

	do {
		ret = TIMED(voxshm_segment_slot_alloc(segment, BYSTANDER, 100, &slots[count]));
		if (ret == 0) {
			data = voxshm_segment_slot_data(segment, &slots[count], NULL);
			*data = ++count;
		}
	} while (ret == 0 && count < MOST_SLOTS);
	if (!holds(ret == 0 || ret == -EAGAIN, "the bystander's alloc: %d", ret) ||
	    !holds(count >= least, "the bystander got %u slots, not %u", count, least))
		return false;
	for (i = 0; i < count; i++)
		if (!holds(*(uint32_t *)voxshm_segment_slot_data(segment, &slots[i], NULL) ==
			   i + 1, "a slot was given to the bystander twice") ||
		    !holds(TIMED(voxshm_segment_slot_free(segment, BYSTANDER, &slots[i])) == 0,
			   "the bystander cannot free a slot"))
			return false;
	kept = voxshm_segment_slot_data(segment, &segments->kept, NULL);
	for (i = 0; i < SLOT_LARGE; i++)
		if (!holds(kept[i] == 0x6b, "the bystander's bytes were changed"))
			return false;
	return true;
}

static bool bystander_go(struct segment_scene *segments)
{
	bool right = holds(voxshm_segment_slot_free(segments->bystander, BYSTANDER,
						    &segments->kept) == 0,
			   "the bystander cannot free what it kept") &&
		     holds(voxshm_segment_detach_peer(segments->bystander, BYSTANDER) == 0,
			   "the bystander cannot leave");

	if (segments->host)
		right = right && holds(voxshm_segment_recover(segments->host, BYSTANDER, NULL,
							      NULL) == 0,
				       "the bystander left something");
	return right;
}

/* A guest dies ------------------------------------------------------------------------------- */

static struct voxshm_peer peer_now(struct voxshm_segment *segment, uint32_t peer)
{
	struct voxshm_peer info = { 0 };

	REQUIRE_EQ(0, voxshm_segment_peer(segment, peer, &info));
	return info;
}

static bool read_unread(struct scene *scene, struct voxshm_segment_unread *unread)
{
	const uint64_t expected = 0x1122334455667788;
	const void *data;
	size_t size;
	bool right = true;

	while (right && voxshm_segment_unread_next(unread, &data, &size) == 1) {
		right = holds(size == 8 && !memcmp(data, &expected, 8), "a message is not whole");
		scene->delivered++;
	}
	voxshm_segment_unread_free(unread);
	return right && holds(scene->delivered <= strlen(scene->op->sends),
			      "%u messages were delivered", scene->delivered);
}

/* Recovered, and somebody else in its place. */
static bool bury_victim(struct segment_scene *segments)
{
	struct voxshm_peer dead = peer_now(segments->host, VICTIM), next;
	struct voxshm_segment_unread *unread = NULL;
	int ret = 0;

	/* A host that finds it there must see at once that it is one of ours. */
	if (segments->scene->op->special & RESERVED && dead.state == VOXSHM_PEER_ATTACHED &&
	    !holds(dead.features != 0, "it came, and is taken for a stranger"))
		return false;
	if (dead.state != VOXSHM_PEER_EMPTY)
		ret = TIMED(voxshm_segment_recover(segments->host, VICTIM, &unread, NULL));
	if (!holds(ret >= 0, "recover: %d", ret) || (unread && !read_unread(segments->scene,
									    unread)))
		return false;
	if (!holds(voxshm_segment_attach_peer(segments->bystander) == VICTIM,
		   "nobody can take the dead one's place"))
		return false;
	next = peer_now(segments->host, VICTIM);
	return holds(next.epoch > dead.epoch, "the epoch is %u, it was %u", next.epoch,
		     dead.epoch) &&
	       holds(voxshm_segment_detach_peer(segments->bystander, VICTIM) == 0 &&
		     voxshm_segment_recover(segments->host, VICTIM, NULL, NULL) == 0,
		     "the successor left something");
}

static bool survivors_work(struct segment_scene *segments)
{
	struct voxshm_slot slots[2];
	int i;

	for (i = 0; i < 2; i++)
		if (!holds(TIMED(voxshm_segment_slot_alloc(segments->host, VOXSHM_PEER_HOST, 100,
							   &slots[i])) == 0,
			   "the host gets no slot"))
			return false;
	for (i = 0; i < 2; i++)
		if (!holds(TIMED(voxshm_segment_slot_free(segments->host, VOXSHM_PEER_HOST,
							  &slots[i])) == 0,
			   "the host cannot free a slot"))
			return false;
	return bystander_works(segments, 0);
}

/* Host dies -------------------------------------------------------------------------------- */

/* Somebody who has slots, and is not there any more. */
static bool die_before(struct segment_scene *segments)
{
	struct voxshm_segment *dead;
	struct voxshm_slot slot;

	if (voxshm_segment_attach(&dead, segments->path, NULL))
		return complain("attach");
	REQUIRE_EQ(VICTIM, voxshm_segment_attach_peer(dead));
	REQUIRE_EQ(0, voxshm_segment_slot_alloc(dead, VICTIM, 100, &slot));
	REQUIRE_EQ(0, voxshm_segment_slot_alloc(dead, VICTIM, 100, &slot));
	/* As if it had died when it had popped a slot. */
	shared_store_u64(&vox_link_block(dead, VICTIM)->side[VOX_GUEST].intents[VOX_SENDER],
			 vox_intent(0, 0, 3));
	voxshm_segment_free(dead);
	return true;
}

/* The slots that the bystander must be able to have: what of the pool is complete. */
static unsigned int slots_for_bystander(struct segment_scene *segments)
{
	struct voxshm_segment *segment = segments->bystander;
	unsigned int extent, class_index, count = 0, free_slots;
	struct voxshm_class class;

	/* While the host recovers it has lists in its hands. */
	if (segments->scene->op->special & SOMEBODY_DIED)
		return 0;
	for (extent = 0; extent < vox_pool_num_extents(&segment->pool); extent++)
		for (class_index = 0; voxshm_segment_class(segment, extent, class_index, &class,
							   &free_slots) == 0; class_index++)
			count += class.slot_count;
	return count - 1 < MOST_SLOTS ? count - 1 : MOST_SLOTS;
}

/* What the host left half done does not show. */
static bool guests_survive(struct segment_scene *segments)
{
	struct voxshm_error error = { "" };
	struct voxshm_segment *late;
	uint32_t extents;
	int ret;

	ret = TIMED(voxshm_segment_remap(segments->bystander));
	if (!holds(ret == 0 || ret == 1, "remap: %d", ret) ||
	    !bystander_works(segments, slots_for_bystander(segments)))
		return false;
	ret = voxshm_segment_attach(&late, segments->path, &error);
	if (!holds(ret == 0, "attach after the host's death: %s", error.text))
		return false;
	extents = vox_pool_num_extents(&late->pool);
	voxshm_segment_free(late);
	return holds(extents == vox_pool_num_extents(&segments->bystander->pool),
		     "one sees %u extents, the other %u", extents,
		     vox_pool_num_extents(&segments->bystander->pool));
}

/* The run ------------------------------------------------------------------------------------ */

static bool to_marker(struct segment_scene *segments)
{
	return victim_holds(&segments->victim,
			    victim_run_to_marker(&segments->victim, NULL, NULL),
			    "the victim did not come to a marker");
}

static bool segment_start(struct segment_scene *segments)
{
	const struct operation *op = segments->scene->op;
	struct voxshm_segment_info info;

	if (!(op->special & HOST_DIES)) {
		create_segment(&segments->host, segments->path);
		voxshm_segment_own_file(segments->host, 0);
		if (!bystander_come(segments))
			return false;
		if (op->special & RESERVED)
			REQUIRE_EQ(VICTIM, voxshm_segment_reserve_peer(segments->host));
	}
	segments->victim = victim_fork(victim_run, segments);
	if (op->special & HOST_DIES) {
		if (!to_marker(segments) || !bystander_come(segments) ||
		    ((op->special & SOMEBODY_DIED) && !die_before(segments)))
			return false;
	}
	if (!to_marker(segments))
		return false;
	if (op->special & HOST_GROWS) {
		voxshm_segment_get_info(segments->host, &info);
		REQUIRE_EQ(0, voxshm_segment_grow(segments->host, info.current_size + GROWTH,
						  NULL));
	}
	return true;
}

static bool segment_to_point(struct segment_scene *segments, uint32_t k)
{
	struct scene *scene = segments->scene;

	scene->arrival = RECORDED;
	if (!scene->trace.length)
		return holds(trace_record(&scene->trace, &segments->victim, NULL, NULL, NULL),
			     "the victim did not end what it did");
	scene->arrival = victim_run_to(&segments->victim, &scene->trace, k, NULL, NULL);
	if (!victim_holds(&segments->victim, scene->arrival != LOST,
			  "the victim did not come to its point"))
		return false;
	if (scene->circumstance != RESUMED)
		return true;
	set_debug_register(&segments->victim, 7, 0);
	return (segments->host ? survivors_work(segments) : bystander_works(segments, 0)) &&
	       (scene->arrival == STRAYED || to_marker(segments)) && to_marker(segments);
}

static void segment_end(struct segment_scene *segments)
{
	if (segments->victim.pid)
		child_kill(segments->victim.pid);
	segments->victim.pid = 0;
	voxshm_segment_free(segments->bystander);
	voxshm_segment_free(segments->host);
	segments->bystander = NULL;
	segments->host = NULL;
	unlink(segments->path);
}

static bool segment_run(struct scene *scene, uint32_t k)
{
	struct segment_scene *segments = scene->data;
	struct holdings before = holdings_now();
	bool recorded = scene->trace.length;
	bool right;

	right = segment_start(segments) && segment_to_point(segments, k);
	child_kill(segments->victim.pid);
	segments->victim.pid = 0;
	if (scene->op->special & HOST_DIES)
		right = right && guests_survive(segments) && bystander_go(segments);
	else
		right = right && bystander_works(segments, 0) && bury_victim(segments) &&
			bystander_go(segments) && audit_pool(segments->host);
	segment_end(segments);
	return right && (!recorded || holdings_same(&before)) && !*complaint;
}

static bool segment_open(struct scene *scene)
{
	struct segment_scene *segments = calloc(1, sizeof(*segments));

	REQUIRE(segments);
	segments->scene = scene;
	snprintf(segments->path, sizeof(segments->path), "/dev/shm/voxshm-crash-%d",
		 (int)getpid());
	scene->data = segments;
	return true;
}

static void segment_close(struct scene *scene)
{
	segment_end(scene->data);
	free(scene->data);
	scene->data = NULL;
}

static const struct scenario segment_scenario = {
	.victim = "segment",
	.open = segment_open,
	.close = segment_close,
	.run = segment_run,
};

/* Tests ---------------------------------------------------------------------------------------- */

FIXTURE(segment) {
	char unused;
};

FIXTURE_VARIANT(segment) {
	struct variant_choice choice;
	enum circumstance circumstance;
};

FIXTURE_VARIANT_ADD(segment, vox_file_alone) {
	.choice = { VOXSHM_FORMAT_VOX, VOXSHM_BACKEND_FILE, false },
	.circumstance = ALONE,
};

FIXTURE_VARIANT_ADD(segment, vox_file_resumed) {
	.choice = { VOXSHM_FORMAT_VOX, VOXSHM_BACKEND_FILE, false },
	.circumstance = RESUMED,
};

FIXTURE_SETUP(segment)
{
}

FIXTURE_TEARDOWN(segment)
{
}

#define SEGMENT_OPERATIONS(X)								\
	X(attach_peer) X(claim_peer) X(detach_peer) X(slot_alloc) X(slot_free)		\
	X(ring_commit) X(follow_growth) X(grow) X(reserve_peer) X(recover)

_Static_assert(0 SEGMENT_OPERATIONS(COUNT_ONE) == ARRAY_SIZE(segment_operations),
	       "a test for each");

#define SEGMENT_TEST(name)								\
	TEST_F_TIMEOUT(segment, name, SWEEP_SECONDS)					\
	{										\
		struct scene scene = {							\
			.scenario = &segment_scenario,					\
			.op = find_operation(segment_operations,			\
					     ARRAY_SIZE(segment_operations), #name),	\
			.circumstance = variant->circumstance,				\
			.format = VOXSHM_FORMAT_VOX,					\
			.backend = VOXSHM_BACKEND_FILE,					\
		};									\
											\
		ASSERT_NE(NULL, scene.op);						\
		EXPECT_TRUE(sweep(&scene));						\
	}
SEGMENT_OPERATIONS(SEGMENT_TEST)

CRASH_TEST_MAIN(NULL)
