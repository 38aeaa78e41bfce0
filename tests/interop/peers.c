// SPDX-License-Identifier: MIT
/*
 * peers.c - coming and going by the peer table of a segment alone: walking in,
 * reservation and claim, detach, goodbye, heartbeats, as the other side reads
 * them, and traffic through the bare rings.
 */
#include "bare.h"

#define GUESTS 3u

static const struct voxshm_class classes[] = { { 512, 16 }, { 4096, 4 } };
static const struct traffic traffic = { .seed = 21, .count = MANY, .max = 4092 };

FIXTURE(peers)
{
	struct joined joined;
	struct crate *crate;
	struct voxshm_segment *segment;
	struct voxshm_error error;
};
EITHER_IS_HOST(peers);

FIXTURE_SETUP(peers)
{
	const struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = GUESTS, .ring_capacity = 4096,
		.max_payload = 64 * KIB, .inline_threshold = 256, .heartbeat_interval = 1000,
		.num_classes = 2, .classes = classes, .path = self->joined.segment,
	};

	self->joined = (struct joined){ 0 };
	self->crate = &self->joined.crate;
	self->error.text[0] = '\0';
	directory_make(&self->joined);
	crate_start(self->crate, -1);
	if (variant->our_host) {
		ASSERT_EQ(0, voxshm_segment_create(&self->segment, &config, &self->error))
			TH_LOG("%s", self->error.text);
		ASSERT_STREQ("", ask(self->crate, "attach %s", self->joined.segment));
	} else {
		ASSERT_STREQ("", ask(self->crate, "create %s 3 4096 65536 256 1000 512 16 4096 4",
				     self->joined.segment));
		ASSERT_EQ(0, voxshm_segment_attach(&self->segment, self->joined.segment,
						   &self->error))
			TH_LOG("%s", self->error.text);
	}
}

FIXTURE_TEARDOWN(peers)
{
	voxshm_segment_free(self->segment);
	part(&self->joined);
}

/* What a peer slot says, to us and to the crate alike. */
static void expect_peer(struct __test_metadata *_metadata, FIXTURE_DATA(peers) *self,
			uint32_t peer, const char *state, uint32_t epoch)
{
	static const char *const states[] = {
		[VOXSHM_PEER_EMPTY] = "empty", [VOXSHM_PEER_ATTACHED] = "attached",
		[VOXSHM_PEER_GOODBYE] = "goodbye", [VOXSHM_PEER_RESERVED] = "reserved",
	};
	struct voxshm_peer info;
	char text[64];

	ASSERT_EQ(0, voxshm_segment_peer(self->segment, peer, &info));
	ASSERT_LT(info.state, ARRAY_SIZE(states));
	EXPECT_STREQ(state, states[info.state]);
	EXPECT_EQ(epoch, info.epoch);
	snprintf(text, sizeof(text), "%s epoch %u heartbeat 0", state, epoch);
	EXPECT_STREQ(text, ask(self->crate, "peer %u", peer));
}

/* The guest's deeds, by whichever side the guest is; the number, or what was refused. */
static int guest_attach(FIXTURE_DATA(peers) *self, bool our_host)
{
	if (!our_host)
		return voxshm_segment_attach_peer(self->segment);
	return strcmp(ask(self->crate, "attach_peer"), "error no free peer slot") ?
		atoi(self->crate->answer + 3) : -EUSERS;
}

static int guest_claim(FIXTURE_DATA(peers) *self, bool our_host, uint32_t peer)
{
	if (!our_host)
		return voxshm_segment_claim_peer(self->segment, peer);
	return *ask(self->crate, "claim_peer %u", peer) ? -ESTALE : 0;
}

static int guest_detach(FIXTURE_DATA(peers) *self, bool our_host, uint32_t peer)
{
	if (!our_host)
		return voxshm_segment_detach_peer(self->segment, peer);
	return *ask(self->crate, "detach_peer %u", peer) ? -EINVAL : 0;
}

/* And the host's. */
static int host_reserve(FIXTURE_DATA(peers) *self, bool our_host)
{
	if (our_host)
		return voxshm_segment_reserve_peer(self->segment);
	return strcmp(ask(self->crate, "reserve_peer"), "error no free peer slot") ?
		atoi(self->crate->answer + 3) : -EUSERS;
}

static int host_release(FIXTURE_DATA(peers) *self, bool our_host, uint32_t peer)
{
	if (our_host)
		return voxshm_segment_release_peer(self->segment, peer);
	return *ask(self->crate, "release_peer %u", peer) ? -EINVAL : 0;
}

static int host_recover(FIXTURE_DATA(peers) *self, bool our_host, uint32_t peer)
{
	if (our_host)
		return voxshm_segment_recover(self->segment, peer, NULL, NULL);
	return *ask(self->crate, "recover_peer %u", peer) ? -EINVAL : 0;
}

static void expect_all_slots_free(struct __test_metadata *_metadata, FIXTURE_DATA(peers) *self)
{
	struct voxshm_class class_;
	uint32_t free_slots, i;

	for (i = 0; i < ARRAY_SIZE(classes); i++) {
		ASSERT_EQ(0, voxshm_segment_class(self->segment, 0, i, &class_, &free_slots));
		EXPECT_EQ(classes[i].slot_count, free_slots);
	}
}

TEST_F_TIMEOUT(peers, walking_in_by_path, 240)
{
	expect_peer(_metadata, self, 1, "empty", 0);
	ASSERT_EQ(1, guest_attach(self, variant->our_host));
	expect_peer(_metadata, self, 1, "attached", 1);
	bare_exchange(_metadata, self->crate, self->segment, 1, variant->our_host, &traffic);
	expect_all_slots_free(_metadata, self);
	expect_peer(_metadata, self, 1, "attached", 1);
}

TEST_F_TIMEOUT(peers, reservation_and_claim, 240)
{
	ASSERT_EQ(1, host_reserve(self, variant->our_host));
	expect_peer(_metadata, self, 1, "reserved", 1);
	/* A walk-in guest passes it by. */
	EXPECT_EQ(2, guest_attach(self, variant->our_host));
	EXPECT_EQ(-ESTALE, guest_claim(self, variant->our_host, 2));
	EXPECT_EQ(-ESTALE, guest_claim(self, variant->our_host, 3));
	ASSERT_EQ(0, guest_claim(self, variant->our_host, 1));
	expect_peer(_metadata, self, 1, "attached", 1);
	expect_peer(_metadata, self, 2, "attached", 1);
	expect_peer(_metadata, self, 3, "empty", 0);
	EXPECT_EQ(-ESTALE, guest_claim(self, variant->our_host, 1));
	bare_exchange(_metadata, self->crate, self->segment, 1, variant->our_host, &traffic);
	expect_all_slots_free(_metadata, self);
}

TEST_F(peers, reservation_given_back)
{
	ASSERT_EQ(1, host_reserve(self, variant->our_host));
	ASSERT_EQ(0, host_release(self, variant->our_host, 1));
	expect_peer(_metadata, self, 1, "empty", 1);
	EXPECT_EQ(-ESTALE, guest_claim(self, variant->our_host, 1));
	EXPECT_EQ(1, guest_attach(self, variant->our_host));
	expect_peer(_metadata, self, 1, "attached", 2);
}

TEST_F(peers, no_place_left)
{
	uint32_t peer;

	for (peer = 1; peer <= GUESTS; peer++)
		ASSERT_EQ((int)peer, guest_attach(self, variant->our_host));
	EXPECT_EQ(-EUSERS, guest_attach(self, variant->our_host));
	EXPECT_EQ(-EUSERS, host_reserve(self, variant->our_host));
	/* One that has said goodbye has not gone yet. */
	EXPECT_EQ(0, guest_detach(self, variant->our_host, 2));
	EXPECT_EQ(-EUSERS, guest_attach(self, variant->our_host));
	EXPECT_LE(0, host_recover(self, variant->our_host, 2));
	EXPECT_EQ(2, guest_attach(self, variant->our_host));
}

/* Each life leaves ring indices and slots in order for the next. */
TEST_F_TIMEOUT(peers, attaching_again_raises_the_epoch, 240)
{
	struct traffic some = { .seed = 22, .count = MANY / 10, .max = 4092 };
	uint32_t life;

	for (life = 1; life <= 10; life++) {
		ASSERT_EQ(1, guest_attach(self, variant->our_host));
		expect_peer(_metadata, self, 1, "attached", life);
		some.seed = life;
		bare_exchange(_metadata, self->crate, self->segment, 1, variant->our_host, &some);
		ASSERT_EQ(0, guest_detach(self, variant->our_host, 1));
		expect_peer(_metadata, self, 1, "goodbye", life);
		ASSERT_LE(0, host_recover(self, variant->our_host, 1));
		expect_peer(_metadata, self, 1, "empty", life);
		expect_all_slots_free(_metadata, self);
	}
}

TEST_F(peers, host_goodbye)
{
	struct voxshm_segment_info info;

	voxshm_segment_get_info(self->segment, &info);
	EXPECT_EQ(0, info.host_goodbye);
	EXPECT_STREQ("false", ask(self->crate, "is_goodbye"));
	if (variant->our_host) {
		voxshm_segment_set_goodbye(self->segment);
	} else {
		EXPECT_STREQ("", ask(self->crate, "goodbye"));
	}
	voxshm_segment_get_info(self->segment, &info);
	EXPECT_NE(0, info.host_goodbye);
	EXPECT_STREQ("true", ask(self->crate, "is_goodbye"));
}

TEST_F(peers, heartbeats)
{
	const uint64_t beat = 1000000000;

	ASSERT_EQ(1, guest_attach(self, variant->our_host));
	if (variant->our_host) {
		ASSERT_STREQ("", ask(self->crate, "beat 1 %ju", (uintmax_t)beat));
	} else {
		ASSERT_EQ(0, voxshm_segment_beat(self->segment, 1, beat));
	}
	EXPECT_STREQ("attached epoch 1 heartbeat 1000000000", ask(self->crate, "peer 1"));
	/* Twice the interval is still in time. */
	EXPECT_EQ(0, voxshm_segment_is_stale(self->segment, 1, beat + 2000));
	EXPECT_STREQ("false", ask(self->crate, "is_stale 1 %ju", (uintmax_t)beat + 2000));
	EXPECT_EQ(1, voxshm_segment_is_stale(self->segment, 1, beat + 2001));
	EXPECT_STREQ("true", ask(self->crate, "is_stale 1 %ju", (uintmax_t)beat + 2001));
}

TEST_HARNESS_MAIN
