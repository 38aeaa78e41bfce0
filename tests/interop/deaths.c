// SPDX-License-Identifier: MIT
/*
 * deaths.c - guests killed with SIGKILL under load: the crate's under our host,
 * ours under the crate's. What was committed is delivered, slots come back, and
 * the next guest takes the place.
 */
#include <pthread.h>
#include <voxshm_segment.h>

#include "crate.h"

#define KILLS 12u
#define MOST_PER_LIFE 15000u
#define ENDLESS (1ull << 60)

static const struct voxshm_class classes[] = { { 1024, 48 }, { 16384, 24 } };
#define SLOTS (48u + 24u)

/* A host, and somebody who counts the slots. */
struct scene {
	struct joined joined;
	struct voxshm_segment *observer;
};

static void scene_open(struct __test_metadata *_metadata, struct scene *self, bool our_host)
{
	struct voxshm_config config = VOX_CONFIG(.max_guests = 2, .ring_capacity = 8 * KIB,
		.max_payload = 64 * KIB, .inline_threshold = 256, .num_classes = 2,
		.classes = classes, .path = self->joined.segment);

	directory_make(&self->joined);
	if (our_host) {
		ASSERT_EQ(0, voxshm_host_new(&self->joined.host, &config, NULL));
	} else {
		crate_start(&self->joined.crate, -1);
		ASSERT_STREQ("", crate_create(&self->joined.crate, self->joined.segment, &config));
		ASSERT_STREQ("", ask(&self->joined.crate, "listen %s", self->joined.address));
	}
	ASSERT_EQ(0, voxshm_segment_attach(&self->observer, self->joined.segment, NULL));
}

static void scene_close(struct scene *self)
{
	part(&self->joined);
	voxshm_segment_free(self->observer);
}

static uint32_t free_slots(const struct voxshm_segment *segment)
{
	struct voxshm_class class_;
	uint32_t count, all = 0, i;

	for (i = 0; i < ARRAY_SIZE(classes); i++) {
		REQUIRE(voxshm_segment_class(segment, 0, i, &class_, &count) == 0);
		all += count;
	}
	return all;
}

static struct voxshm_peer peer_info(const struct voxshm_segment *segment, uint32_t peer)
{
	struct voxshm_peer info;

	REQUIRE(voxshm_segment_peer(segment, peer, &info) == 0);
	return info;
}

/* Traffic that only a death ends -------------------------------------------------------- */

struct load {
	struct voxshm_link *link;
	struct traffic out, in;
};

static struct load load_new(struct voxshm_link *link, uint64_t life, bool crate)
{
	struct load load = {
		.link = link,
		.out = { .seed = 2 * life << 32, .count = ENDLESS, .max = 16000 },
		.in = { .seed = (2 * life + 1) << 32, .count = ENDLESS, .max = 16000 },
	};

	return crate ? (struct load){ .link = link, .out = load.in, .in = load.out } : load;
}

/* Return: the error that ended it, in the pointer. */
static void *load_send(void *argument)
{
	const struct load *load = argument;
	uint8_t buffer[16 * KIB];
	uint64_t i;
	int ret;

	for (i = 0, ret = 0; ret == 0; i++) {
		traffic_fill(&load->out, i, buffer, traffic_size(&load->out, i));
		ret = voxshm_send(load->link, buffer, traffic_size(&load->out, i), PATIENCE);
	}
	return (void *)(intptr_t)ret;
}

/* Takes up to count messages. Return: 0, -ENOMSG for a wrong one, or the error. */
static int load_recv(const struct load *load, uint64_t *received, uint64_t count)
{
	struct voxshm_view view;
	bool right;
	int ret;

	for (; count; count--, ++*received) {
		ret = voxshm_recv(load->link, &view, PATIENCE);
		if (ret)
			return ret;
		right = traffic_check(&load->in, *received, view.data, view.size);
		ret = voxshm_release(load->link, &view);
		if (ret || !right)
			return right ? ret : -ENOMSG;
	}
	return 0;
}

/* The process of ours that dies. */
static void bear_load(struct voxshm_link *link, uint64_t life)
{
	struct load load = load_new(link, life, false);
	uint64_t received = 0;
	pthread_t sender;

	REQUIRE(pthread_create(&sender, NULL, load_send, &load) == 0);
	load_recv(&load, &received, ENDLESS);
	REQUIRE(!"a guest under load ends otherwise than by its death");
}

/* The crate's guest dies ------------------------------------------------------------------ */

/* Under load both ways, after some messages; all that it committed comes out right. */
static void kill_crate(struct __test_metadata *_metadata, struct joined *joined, uint64_t life,
		       uint64_t *received)
{
	struct load load = load_new(joined->link, life, false);
	struct load crates = load_new(NULL, life, true);
	uint64_t count = 0;
	pthread_t sender;
	void *ret;

	crate_say(&joined->crate, "both " TRAFFIC_FORMAT " " TRAFFIC_FORMAT " 5 0",
		  TRAFFIC_WORDS(&crates.out), TRAFFIC_WORDS(&crates.in));
	ASSERT_EQ(0, pthread_create(&sender, NULL, load_send, &load));
	EXPECT_EQ(0, load_recv(&load, &count, 6000 + mix(life) % MOST_PER_LIFE));
	kill(joined->crate.pid, SIGKILL);
	EXPECT_EQ(-EPIPE, load_recv(&load, &count, ENDLESS));
	pthread_join(sender, &ret);
	EXPECT_EQ(-EPIPE, (intptr_t)ret);
	*received += count;
}

/* Lets the host do what is due. */
static void settle(struct voxshm_host *host)
{
	struct voxshm_event event;
	int i;

	for (i = 0; i < 10; i++)
		voxshm_host_wait(host, &event, 1, SECOND / 1000);
}

/* The same for a guest of ours, in a process of its own. */
static void kill_our_guest(struct __test_metadata *_metadata, struct voxshm_host *host,
			   struct voxshm_link **link, uint64_t life, uint64_t *received)
{
	struct load load = load_new(NULL, life, true);
	uint64_t count = 0;
	pthread_t sender;
	int ticket;
	pid_t pid;

	ASSERT_EQ(0, voxshm_host_ticket(host, &ticket, link, NULL));
	pid = child_fork();
	if (pid == 0) {
		struct voxshm_link *guest;

		REQUIRE(voxshm_guest_claim(&guest, ticket, NULL) == 0);
		bear_load(guest, life);
	}
	close(ticket);
	load.link = *link;
	ASSERT_EQ(0, pthread_create(&sender, NULL, load_send, &load));
	EXPECT_EQ(0, load_recv(&load, &count, 6000 + mix(life) % MOST_PER_LIFE));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT_EQ(-EPIPE, load_recv(&load, &count, ENDLESS));
	pthread_join(sender, NULL);
	*received += count;
}

static void our_host_survives(struct __test_metadata *_metadata, struct scene *self)
{
	struct joined *joined = &self->joined;
	struct voxshm_status status;
	uint64_t received = 0, life;

	for (life = 1; life <= KILLS; life++) {
		join_our_host(_metadata, joined);
		kill_crate(_metadata, joined, life, &received);
		voxshm_link_status(joined->link, &status);
		EXPECT_EQ(VOXSHM_LINK_DIED, status.state);
		EXPECT_EQ(life, status.epoch);
		part_end(joined);
		settle(joined->host);
		EXPECT_EQ(VOXSHM_PEER_EMPTY, peer_info(self->observer, 1).state);
		EXPECT_EQ(SLOTS, free_slots(self->observer));
	}
	EXPECT_GE(received, MANY);
	join_our_host(_metadata, joined);
	exchange_many(_metadata, joined);
	EXPECT_EQ(SLOTS, free_slots(self->observer));
}

/* Our guest dies ------------------------------------------------------------------------------ */

/*
 * The crate's recovery frees what the dead owned and what lay in its ring. It
 * knows of no slot that the dead was just taking or giving: one for each of its
 * two threads is lost at most.
 */
static void crates_host_survives(struct __test_metadata *_metadata, struct scene *self)
{
	struct joined *joined = &self->joined;
	uint32_t before = SLOTS, after;
	uint64_t life, number, received = 0;

	for (life = 1; life <= KILLS; life++) {
		struct load crates = load_new(NULL, life, true);
		pid_t pid;

		crate_say(&joined->crate, "accept");
		pid = child_fork();
		if (pid == 0) {
			struct voxshm_link *link;

			REQUIRE(voxshm_guest_connect(&link, joined->address, NULL, PATIENCE,
						     NULL) == 0);
			bear_load(link, life);
		}
		ASSERT_STREQ("1", crate_hear(&joined->crate));
		crate_say(&joined->crate, "both " TRAFFIC_FORMAT " " TRAFFIC_FORMAT " 5 0",
			  TRAFFIC_WORDS(&crates.out), TRAFFIC_WORDS(&crates.in));
		sleep_ms(100 + (int)(mix(life) % 100));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		crate_hear(&joined->crate);
		EXPECT_EQ(NULL, strstr(joined->crate.answer, "damaged"));
		EXPECT_EQ(1, sscanf(joined->crate.answer,
				    "error sending: message %*u: %*[^,], receiving: message %ju:",
				    &number))
			TH_LOG("%s", joined->crate.answer);
		received += number;
		EXPECT_EQ(life, peer_info(self->observer, 1).epoch);
		ASSERT_STREQ("", ask(&joined->crate, "recover_peer 1"));
		EXPECT_EQ(VOXSHM_PEER_EMPTY, peer_info(self->observer, 1).state);
		after = free_slots(self->observer);
		EXPECT_LE(before - after, 2);
		before = after;
	}
	TH_LOG("%ju messages received, %u of %u slots lost in %u deaths", (uintmax_t)received,
	       SLOTS - after, SLOTS, KILLS);
	join_crate_host(_metadata, joined);
	exchange_many(_metadata, joined);
	EXPECT_EQ(after, free_slots(self->observer));
}

/*
 * Of a crate's guest nobody knows which slot it has in hand, so while one lives,
 * slots that a dead guest was taking or giving are not looked for; they come
 * back when it has gone.
 */
static void lives_on(struct __test_metadata *_metadata, struct scene *self, bool ours_dies)
{
	struct joined survivor = { .host = self->joined.host };
	static const struct traffic some = { .seed = 71, .count = MANY / KILLS, .max = 16000 };
	uint64_t life, received = 0;
	uint32_t parked;

	join_our_host(_metadata, &survivor);
	for (life = 1; life <= KILLS; life++) {
		if (ours_dies) {
			kill_our_guest(_metadata, self->joined.host, &self->joined.link, life,
				       &received);
		} else {
			join_our_host(_metadata, &self->joined);
			kill_crate(_metadata, &self->joined, life, &received);
		}
		part_end(&self->joined);
		settle(self->joined.host);
		EXPECT_EQ(VOXSHM_PEER_EMPTY, peer_info(self->observer, 2).state);
		parked = SLOTS - free_slots(self->observer);
		EXPECT_LE(parked, 2 * life);
		exchange(_metadata, &survivor, &some, (struct manner){ 0 });
	}
	EXPECT_GE(received, MANY / 2);
	EXPECT_STREQ("", ask(&survivor.crate, "leave"));
	part_end(&survivor);
	settle(self->joined.host);
	EXPECT_EQ(VOXSHM_PEER_EMPTY, peer_info(self->observer, 1).state);
	EXPECT_EQ(SLOTS, free_slots(self->observer));
}

FIXTURE(of_a_guest)
{
	struct scene scene;
};
EITHER_IS_HOST(of_a_guest);

FIXTURE_SETUP(of_a_guest)
{
	self->scene = (struct scene){ 0 };
	scene_open(_metadata, &self->scene, variant->our_host);
}

FIXTURE_TEARDOWN(of_a_guest)
{
	scene_close(&self->scene);
}

TEST_F_TIMEOUT(of_a_guest, host_recovers_and_the_next_guest_takes_the_place, 240)
{
	if (variant->our_host)
		our_host_survives(_metadata, &self->scene);
	else
		crates_host_survives(_metadata, &self->scene);
}

FIXTURE(beside_a_crate)
{
	struct scene scene;
};

FIXTURE_VARIANT(beside_a_crate)
{
	bool ours_dies;
};

FIXTURE_VARIANT_ADD(beside_a_crate, ours)
{
	.ours_dies = true,
};

FIXTURE_VARIANT_ADD(beside_a_crate, another_crate)
{
	.ours_dies = false,
};

FIXTURE_SETUP(beside_a_crate)
{
	self->scene = (struct scene){ 0 };
	scene_open(_metadata, &self->scene, true);
}

FIXTURE_TEARDOWN(beside_a_crate)
{
	scene_close(&self->scene);
}

TEST_F_TIMEOUT(beside_a_crate, our_host_finds_all_slots_in_the_end, 240)
{
	lives_on(_metadata, &self->scene, variant->ours_dies);
}

TEST_HARNESS_MAIN
