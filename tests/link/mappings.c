// SPDX-License-Identifier: MIT
/*
 * mappings.c - payloads beyond the slots: however many pass, descriptors and
 * memory stay flat at both ends.
 *
 * VOXSHM_TEST_MAPPINGS says how many; 10,000 when it does not.
 */
#include "processes.h"

#define LARGE (8 * MIB)

static const struct voxshm_class classes[] = { { 1024, 8 } };

FIXTURE(mappings)
{
	struct pair pair;
};
VARIANTS_BOTH_WAYS(mappings)

FIXTURE_SETUP(mappings)
{
	pair_open(_metadata, &self->pair,
		  &CONFIG(variant, .num_classes = 1, .classes = classes, .max_mappings = 4));
}

FIXTURE_TEARDOWN(mappings)
{
	pair_close(_metadata, &self->pair);
}

static uint64_t how_many(void)
{
	const char *given = getenv("VOXSHM_TEST_MAPPINGS");

	return given && atoi(given) > 0 ? (uint64_t)atoi(given) : amount(10000);
}

/* What must stay flat. */
struct usage {
	long fds, maps, kib;
};

static struct usage usage_now(void)
{
	return (struct usage){ count_fds(), count_maps(), process_status("VmRSS:") };
}

/* The same but for so many mappings, and what the C library and a sanitizer keep. */
static bool usage_flat(struct usage before, struct usage after, int mappings)
{
	long kib = mappings * (long)(LARGE / KIB) + (SANITIZED ? 128 : 16) * (long)KIB;
	bool flat = after.fds <= before.fds + mappings && after.maps <= before.maps + mappings + 8 &&
		after.kib <= before.kib + kib;

	if (!flat)
		fprintf(stderr, "# fds %ld -> %ld, maps %ld -> %ld, RSS %ld -> %ld KiB\n",
			before.fds, after.fds, before.maps, after.maps, before.kib, after.kib);
	return flat;
}

/* Marks of a large payload: first, last, and some pages between. */
static void mark(uint8_t *data, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < 8; i++)
		pattern_fill(data + (size - 64) / 7 * i, 64, seed + i);
}

static bool marked(const uint8_t *data, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < 8; i++)
		if (!pattern_is(data + (size - 64) / 7 * i, 64, seed + i))
			return false;
	return true;
}

static int send_marked(struct voxshm_link *link, size_t size, uint64_t seed, int64_t timeout)
{
	struct voxshm_loan loan;
	int ret = voxshm_loan(link, size, &loan, timeout);

	if (ret)
		return ret;
	mark(loan.data, size, seed);
	ret = voxshm_commit(link, &loan, size, timeout);
	if (ret)
		voxshm_abort(link, &loan);
	return ret;
}

static int recv_marked(struct voxshm_link *link, size_t size, uint64_t seed, int64_t timeout)
{
	struct voxshm_view view;
	bool right;
	int ret = voxshm_recv(link, &view, timeout);

	if (ret)
		return ret;
	right = view.size == size && marked(view.data, size, seed);
	ret = voxshm_release(link, &view);
	return ret ? ret : right ? 0 : -ENOMSG;
}

TEST_F_TIMEOUT(mappings, large_payloads_leave_descriptors_and_memory_flat, 120)
{
	uint64_t total = how_many();
	struct usage before = { 0 };

	for (uint64_t i = 0; i < total; i++) {
		if (i == total / 4)
			before = usage_now();
		ASSERT_EQ(0, send_marked(SENDER, LARGE, i, PATIENCE));
		ASSERT_EQ(0, recv_marked(RECEIVER, LARGE, i, PATIENCE));
	}
	EXPECT_TRUE(usage_flat(before, usage_now(), 0));
}

TEST_F_TIMEOUT(mappings, payloads_of_changing_size_leave_descriptors_and_memory_flat, 120)
{
	uint64_t total = how_many(), random = 7, sent = 0, received = 0;
	struct usage before = { 0 };
	size_t sizes[64];
	int ret;

	while (received < total) {
		size_t size = 2000 + random_next(&random) % (random_next(&random) % 5 ? 100000 : LARGE);

		if (received == total / 2)
			before = usage_now();
		ret = sent - received < 64 ? send_marked(SENDER, size, sent, 0) : -EAGAIN;
		if (ret == 0)
			sizes[sent++ % 64] = size;
		else {
			ASSERT_EQ(-EAGAIN, ret);
		}
		if (ret || random_next(&random) % 3 == 0) {
			ASSERT_LT(received, sent);
			ASSERT_EQ(0, recv_marked(RECEIVER, sizes[received % 64], received, 0));
			received++;
		}
	}
	while (received < sent) {
		ASSERT_EQ(0, recv_marked(RECEIVER, sizes[received % 64], received, 0));
		received++;
	}
	/* What may be kept is bounded by max_mappings, here at both ends. */
	EXPECT_TRUE(usage_flat(before, usage_now(), 2 * 4));
}

TEST_F_TIMEOUT(mappings, copied_large_payloads_arrive_intact, 60)
{
	for (uint64_t i = 0; i < amount(60); i++) {
		ASSERT_EQ(0, send_pattern(SENDER, LARGE + i, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(RECEIVER, LARGE + i, i, PATIENCE));
	}
}

TEST_F(mappings, held_payload_is_not_overwritten_by_later_ones)
{
	struct voxshm_view held;

	for (int round = 0; round < 5; round++) {
		ASSERT_EQ(0, send_marked(SENDER, 100000, 1, PATIENCE));
		ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &held));
		for (uint64_t i = 0; i < 50; i++) {
			ASSERT_EQ(0, send_marked(SENDER, 100000, 100 + i, PATIENCE));
			ASSERT_EQ(0, recv_marked(RECEIVER, 100000, 100 + i, PATIENCE));
		}
		EXPECT_TRUE(marked(held.data, 100000, 1));
		EXPECT_EQ(0, voxshm_release(RECEIVER, &held));
	}
}

TEST_F(mappings, limit_of_one_still_carries_one_after_another)
{
	pair_renew(_metadata, &self->pair,
		   &CONFIG(variant, .num_classes = 1, .classes = classes, .max_mappings = 1));
	for (uint64_t i = 0; i < 100; i++) {
		size_t size = 5000 + i * 3000;

		ASSERT_EQ(0, send_marked(SENDER, size, i, 0));
		ASSERT_EQ(0, recv_marked(RECEIVER, size, i, 0));
	}
}

TEST_F(mappings, released_in_any_order)
{
	struct voxshm_view views[4];
	uint64_t random = 11;

	for (int round = 0; round < 50; round++) {
		for (unsigned int i = 0; i < 4; i++) {
			ASSERT_EQ(0, send_marked(SENDER, 50000, i, 0));
			ASSERT_EQ(0, voxshm_try_recv(RECEIVER, &views[i]));
		}
		for (unsigned int left = 4; left; left--) {
			unsigned int pick = random_next(&random) % left;

			ASSERT_EQ(0, voxshm_release(RECEIVER, &views[pick]));
			views[pick] = views[left - 1];
		}
	}
}

/* A send that comes too late must not cost what came in time. */
TEST_F(mappings, sent_before_the_end_outlives_a_send_after_it)
{
	struct voxshm_link *receiver = RECEIVER;
	int ret;

	ASSERT_EQ(0, send_pattern(SENDER, MIB, 1, 0));
	ASSERT_EQ(0, send_pattern(SENDER, 2 * MIB, 2, 0));
	CLOSE_SENDER();
	/* What this end knows of the other's end may be old. */
	for (int i = 0; i < 3; i++) {
		ret = send_pattern(receiver, MIB, 3, 0);
		EXPECT_TRUE(ret == 0 || ret == -EPIPE)
			TH_LOG("came %d", ret);
	}
	EXPECT_EQ(0, recv_pattern(receiver, MIB, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(receiver, 2 * MIB, 2, PATIENCE));
	EXPECT_EQ(-EPIPE, recv_pattern(receiver, 0, 0, PATIENCE));
}

TEST_F(mappings, are_counted)
{
	struct voxshm_counters counters;

	voxshm_link_counters(SENDER, &counters);
	EXPECT_EQ(0, counters.mappings_made);
	ASSERT_EQ(0, send_marked(SENDER, 50000, 1, 0));
	voxshm_link_counters(SENDER, &counters);
	EXPECT_EQ(1, counters.mappings_made);
	EXPECT_EQ(0, recv_marked(RECEIVER, 50000, 1, 0));
}

TEST_F(mappings, no_descriptors_left_is_an_error_that_passes_or_none)
{
	struct rlimit limit, none;
	struct voxshm_loan loan;
	int ret;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	ret = voxshm_loan(SENDER, 50000, &loan, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(mappings_take_descriptors(SENDER) ? -EMFILE : 0, ret);
	voxshm_abort(SENDER, &loan);
	EXPECT_EQ(-EAGAIN, voxshm_try_recv(RECEIVER, &(struct voxshm_view){ 0 }));
	ASSERT_EQ(0, send_marked(SENDER, 50000, 1, 0));
	ASSERT_EQ(0, recv_marked(RECEIVER, 50000, 1, 0));
}

/* The guest in a process of its own: echoes marks, and reports its usage. */
struct report {
	struct usage early, late;
};

static void guest_measured(struct voxshm_link *link, void *argument)
{
	uint64_t total = *(uint64_t *)argument;
	struct report report = { 0 };

	for (uint64_t i = 0; i < total; i++) {
		if (i == total / 4)
			report.early = usage_now();
		REQUIRE_EQ(0, recv_marked(link, LARGE, i, PATIENCE));
		REQUIRE_EQ(0, send_marked(link, LARGE, ~i, PATIENCE));
	}
	report.late = usage_now();
	REQUIRE_EQ(0, voxshm_send(link, &report, sizeof(report), PATIENCE));
	voxshm_link_close(link);
}

FIXTURE(mapping_processes)
{
	struct voxshm_host *host;
};
VARIANTS(mapping_processes)

FIXTURE_SETUP(mapping_processes)
{
	host_open(_metadata, &self->host,
		  &CONFIG(variant, .num_classes = 1, .classes = classes));
}

FIXTURE_TEARDOWN(mapping_processes)
{
	voxshm_host_free(self->host);
}

TEST_F_TIMEOUT(mapping_processes, large_payloads_stay_flat_in_both, 120)
{
	uint64_t total = how_many() / 2;
	struct usage before = { 0 };
	struct report report;
	struct voxshm_link *link;
	pid_t pid = guest_fork(_metadata, self->host, guest_measured, &total, &link);

	for (uint64_t i = 0; i < total; i++) {
		if (i == total / 4)
			before = usage_now();
		ASSERT_EQ(0, send_marked(link, LARGE, i, PATIENCE));
		ASSERT_EQ(0, recv_marked(link, LARGE, ~i, PATIENCE));
	}
	EXPECT_TRUE(usage_flat(before, usage_now(), 0));
	ASSERT_EQ(sizeof(report), voxshm_recv_copy(link, &report, sizeof(report), PATIENCE));
	EXPECT_TRUE(usage_flat(report.early, report.late, 0));
	EXPECT_EQ(0, child_wait(pid));
}

LINK_TEST_MAIN(NULL)
