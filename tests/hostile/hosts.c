// SPDX-License-Identifier: MIT
/*
 * hosts.c - a hostile host and an honest guest. The host is a process of its own
 * that attaches the guest as it should and then breaks rules, writes over all
 * they share while the guest works with it, or answers with descriptors of the
 * wrong kind. The guest may lose its link: by an error that is documented, with
 * a reason, in bounded time. It never crashes, and keeps nothing.
 *
 * (A vox segment with a name is a file, which cannot be sealed: its host can
 * truncate it, and the README says so.)
 */
#include "frames.h"
#include "link/pens.h"

/* What an honest guest does in vain at most before it is content. */
#define ROUNDS 60

FIXTURE(hosts)
{
	struct board *board;
	char address[64];
	pid_t host;
	int fds_before;
};
VARIANTS(hosts)

FIXTURE_SETUP(hosts)
{
	self->fds_before = count_fds();
	self->board = board_new();
}

FIXTURE_TEARDOWN(hosts)
{
	munmap(self->board, sizeof(*self->board));
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* The host -------------------------------------------------------------------------- */

struct hostile_host {
	attack_fn *run;
	struct board *board;
	int kind;
	const char *address;
	struct variant_choice choice;
	struct signal_pipe ready;
};

static void host_run(const struct hostile_host *self)
{
	const struct hostile_host *variant = self;	/* for WORLD_CONFIG */
	struct inbox inbox = { 0 };
	struct voxshm_link *link;

	REQUIRE_EQ(0, voxshm_host_new(&inbox.host, &WORLD_CONFIG, NULL));
	REQUIRE_EQ(0, voxshm_host_listen(inbox.host, self->address, 0, NULL, NULL, NULL));
	signal_send(&self->ready);
	link = inbox_await(&inbox, VOXSHM_EVENT_ATTACHED, NULL);
	REQUIRE(link);
	self->run(link, self->board, self->kind);
	for (;;)
		pause();
}

/* Areas of what the host shares with the guest; some are empty in one of the formats. */
enum target { TARGET_HEADER, TARGET_PEERS, TARGET_RINGS, TARGET_LINK_BLOCK, TARGET_POOL, TARGETS };

static struct area native_target(struct native_link *native, enum target target)
{
	struct memory *main = &((struct native_host *)native->link.host->segment)->main;
	const struct native_geometry *geometry = &native->geometry;
	uint8_t *window = native->window.base;

	switch (target) {
	case TARGET_HEADER:
		return (struct area){ main->base, SEGMENT_HEADER_SIZE };
	case TARGET_PEERS:
		return (struct area){ main->base + SEGMENT_HEADER_SIZE,
				      geometry->main_size - SEGMENT_HEADER_SIZE };
	case TARGET_RINGS:
		return (struct area){ window, geometry->link_block };
	case TARGET_LINK_BLOCK:
		return (struct area){ window + geometry->link_block,
				      geometry->pool - geometry->link_block };
	default:
		return (struct area){ window + geometry->pool,
				      geometry->window_size - geometry->pool };
	}
}

static struct area vox_target(struct voxshm_segment *segment, enum target target)
{
	const struct vox_geometry *geometry = &segment->geometry;
	uint8_t *base = segment->file.base;

	switch (target) {
	case TARGET_HEADER:
		return (struct area){ base, SEGMENT_HEADER_SIZE };
	case TARGET_PEERS:
		return (struct area){ base + geometry->peer_table, geometry->max_guests *
				      sizeof(struct peer_entry) };
	case TARGET_RINGS:
		return (struct area){ base + geometry->rings[0],
				      2 * vox_ring_stride(geometry->ring_capacity) };
	case TARGET_LINK_BLOCK:
		return (struct area){ base + geometry->link_blocks,
				      geometry->total_size - geometry->link_blocks };
	default:
		return (struct area){ base + geometry->pool, geometry->pool_end - geometry->pool };
	}
}

static void attack_scribble(struct voxshm_link *link, struct board *board, int kind)
{
	enum target target = (enum target)(kind % TARGETS);
	enum pen pen = (enum pen)(kind / TARGETS % PENS);
	uint64_t random = (uint64_t)kind;
	struct area area = is_vox(link) ? vox_target(vox_link(link)->segment, target) :
					  native_target(native_link(link), target);

	for (int i = 0;; i++) {
		static const uint8_t data[30000];

		/* There must be something to work with, too. */
		for (int j = 0; j < 8; j++)
			voxshm_try_send(link, data, 10u << j % 4 * 3);
		scribble(&area, pen, &random);
		ring(link);
		attack_note(board);
		sched_yield();
	}
}
#define SCRIBBLES (TARGETS * PENS)

/* The guest -------------------------------------------------------------------------- */

static void expect_documented(struct __test_metadata *_metadata, long ret)
{
	EXPECT_TRUE(ret >= 0 || ret == -EAGAIN || ret == -ETIMEDOUT || ret == -EPIPE ||
		    ret == -EBADMSG || ret == -ENOMEM || ret == -EMFILE)
		TH_LOG("came %ld", ret);
}

static void use_views(struct __test_metadata *_metadata, struct voxshm_link *link, int64_t timeout)
{
	struct voxshm_view views[4];
	int count = voxshm_recv_batch(link, views, ARRAY_SIZE(views), timeout);

	expect_documented(_metadata, count);
	for (int i = 0; i < count; i++) {
		const volatile uint8_t *bytes = views[i].data;

		for (size_t j = 0; j < views[i].size; j += 512)
			(void)bytes[j];
		if (views[i].size)
			(void)bytes[views[i].size - 1];
		expect_documented(_metadata, voxshm_release(link, &views[i]));
	}
}

static void send_all(struct __test_metadata *_metadata, struct voxshm_link *link)
{
	static const uint8_t data[100000];
	static const size_t sizes[] = { 0, 10, 200, 2000, 30000, 100000 };
	struct iovec messages[] = { { (void *)data, 10 }, { (void *)data, 3000 } };
	struct voxshm_loan loan;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		expect_documented(_metadata, voxshm_try_send(link, data, sizes[i]));
		if (voxshm_loan(link, sizes[i], &loan, 0) == 0) {
			memset(loan.data, 1, loan.size);
			if (i % 2 || voxshm_commit(link, &loan, sizes[i], 0))
				voxshm_abort(link, &loan);
		}
	}
	expect_documented(_metadata, voxshm_send_batch(link, messages, 2, MS));
}

/* Works, until the link fails or for so long. Return: did it fail? */
static bool work(struct __test_metadata *_metadata, struct voxshm_link *link,
		 const struct board *board, bool until_failed)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_status status;
	char copy[4096];
	ssize_t ret;

	for (int i = 0; i < ROUNDS || until_failed || !board->attacking; i++) {
		if (now_ns() > until)
			break;
		use_views(_metadata, link, MS / 2);
		send_all(_metadata, link);
		ret = voxshm_recv_copy(link, copy, sizeof(copy), 0);
		expect_documented(_metadata, ret == -EMSGSIZE ? 0 : ret);
		voxshm_link_arm(link, VOXSHM_READABLE | VOXSHM_WRITABLE);
		voxshm_link_status(link, &status);
		EXPECT_EQ(status.state == VOXSHM_LINK_FAILED, *status.reason != 0);
		if (status.state > VOXSHM_LINK_ATTACHED)
			break;
	}
	EXPECT_GT(until, now_ns());
	voxshm_link_status(link, &status);
	return status.state == VOXSHM_LINK_FAILED;
}

static bool has_ended(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status.state > VOXSHM_LINK_ATTACHED;
}

static void meet(struct __test_metadata *_metadata, FIXTURE_DATA(hosts) *self,
		 const struct variant_choice *choice, attack_fn *run, int kind,
		 enum outcome outcome)
{
	struct hostile_host host = { run, self->board, kind, self->address, *choice,
				     signal_pipe_new() };
	struct voxshm_error error = { "" };
	struct voxshm_link *link = NULL;
	bool failed;
	pid_t pid;
	int ret;

	abstract_address(self->address);
	self->board->attacking = false;
	pid = child_fork();
	if (pid == 0)
		host_run(&host);
	signal_await(&host.ready);
	ret = voxshm_guest_connect(&link, self->address, NULL, PATIENCE, &error);
	if (ret == 0) {
		failed = work(_metadata, link, self->board, outcome == FAILS);
		/* Not in vain: it was attacked, or the attack has ended it already. */
		EXPECT_TRUE(has_ended(link) || self->board->attacking);
		if (outcome != MAY_FAIL)
			EXPECT_EQ(outcome == FAILS, failed)
				TH_LOG("kind %d: '%s'", kind, reason_of(link));
		voxshm_link_close(link);
	} else {
		/* On the device the host knows of it before it has looked at what it got. */
		EXPECT_NE(GOES_ON, outcome);
		EXPECT_TRUE(ret == -EBADMSG || ret == -EPROTO || ret == -EPIPE)
			TH_LOG("kind %d: %d, %s", kind, ret, error.text);
	}
	child_kill(pid);
	signal_pipe_free(&host.ready);
}

static void meet_all(struct __test_metadata *_metadata, FIXTURE_DATA(hosts) *self,
		     const struct variant_choice *choice, attack_fn *run, int kinds,
		     enum outcome outcome)
{
	for (int kind = 0; kind < kinds; kind++)
		meet(_metadata, self, choice, run, kind, outcome);
}

TEST_F_TIMEOUT(hosts, scribbles_over_all_that_is_shared, 90)
{
	meet_all(_metadata, self, &variant->choice, attack_scribble, SCRIBBLES, MAY_FAIL);
}

TEST_F(hosts, rings_without_end)
{
	meet_all(_metadata, self, &variant->choice, attack_rings, RINGS, FAILS);
}

TEST_F(hosts, spins_sleep_words)
{
	meet(_metadata, self, &variant->choice, attack_sleep_words, 0, GOES_ON);
	/* It rings for its own messages, asked or not: that may become too often. */
	meet(_metadata, self, &variant->choice, attack_sleep_words, 1, MAY_FAIL);
}

TEST_F(hosts, floods)
{
	meet_all(_metadata, self, &variant->choice, attack_flood, FLOODS, GOES_ON);
}

TEST_F_TIMEOUT(hosts, frames_of_every_wrong_shape, 60)
{
	int kinds = variant->choice.format == VOXSHM_FORMAT_VOX ? VOX_FRAMES + VOX_INDICES :
								 count_frames(VOXSHM_FORMAT_NATIVE);

	meet_all(_metadata, self, &variant->choice, attack_frames, kinds, FAILS);
}

TEST_F(hosts, read_index_that_is_none)
{
	meet_all(_metadata, self, &variant->choice, attack_read_index, READ_INDICES, FAILS);
}

TEST_F(hosts, references_to_mappings_that_are_not_there)
{
	meet_all(_metadata, self, &variant->choice, attack_mapping_references, MAPPING_REFERENCES,
		 FAILS);
}

TEST_F_TIMEOUT(hosts, offers_of_every_wrong_kind, 60)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device nothing is offered");
	meet_all(_metadata, self, &variant->choice, attack_bad_offers, BAD_OFFERS, FAILS);
}

TEST_F(hosts, control_messages_of_every_wrong_shape)
{
	if (variant->choice.backend == VOXSHM_BACKEND_DEVICE)
		SKIP(return, "on the device there are no control messages");
	meet_all(_metadata, self, &variant->choice, attack_bad_messages, BAD_MESSAGES, FAILS);
}

LINK_TEST_MAIN(NULL)
