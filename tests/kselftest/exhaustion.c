/* SPDX-License-Identifier: MIT */
/*
 * exhaustion.c - when memory runs out: a clean ENOMEM, nobody killed, nothing
 * left behind, whichever allocation of a call it was that failed.
 */
#include "processes.h"

FIXTURE(exhaustion) {
	uint64_t limit;
};

FIXTURE_SETUP(exhaustion)
{
	self->limit = parameter_get("max_bytes");
	ASSERT_EQ(0, parameter_set("max_bytes", 1ull << 50));
}

FIXTURE_TEARDOWN(exhaustion)
{
	EXPECT_EQ(0, parameter_set("max_bytes", self->limit));
}

static bool has_line(const char *path, const char *key)
{
	static char text[32768];

	REQUIRE(read_text(path, text, sizeof(text)) > 0);
	return strstr(text, key);
}

static uint64_t oom_kills(void)
{
	return number_in("/proc/vmstat", "\noom_kill ");
}

/* The kernel keeps some of what was freed in lists; at stake is more than a GiB. */
#define SLACK (128 * MIB)

static void expect_memory_back(struct __test_metadata *_metadata, uint64_t before)
{
	EXPECT_TRUE(EVENTUALLY(memory_available() + SLACK > before))
		TH_LOG("%ju of %ju KiB are available", memory_available() / KIB, before / KIB);
}

/* Larger than the machine, and as large as an object may be: or nothing fails here. */
#define NEED_SMALL_MACHINE() do {							\
	if (!has_line("/proc/vmstat", "\noom_kill "))					\
		SKIP(return, "this kernel does not count OOM kills");			\
	if (memory_total() >= VOXSHM_SIZE_MAX)						\
		SKIP(return, "more memory than one object can take");			\
} while (0)

TEST_F_TIMEOUT(exhaustion, a_segment_larger_than_the_machine, 110)
{
	struct voxshm_ioc_create create = create_default();
	uint64_t kills, before = memory_available();
	int device = device_open(O_RDWR);

	NEED_SMALL_MACHINE();
	kills = oom_kills();
	create.main_size = VOXSHM_SIZE_MAX;
	EXPECT_EQ(-ENOMEM, call(device, VOXSHM_IOC_CREATE, &create));
	EXPECT_EQ(kills, oom_kills());
	expect_memory_back(_metadata, before);
	create.main_size = page_size();
	EXPECT_EQ(0, call(device, VOXSHM_IOC_CREATE, &create));
	close(device);
}

TEST_F_TIMEOUT(exhaustion, everything_else_larger_than_the_machine, 110)
{
	struct voxshm_ioc_create create = create_default();
	struct snapshot snapshot;
	uint64_t kills, before;
	struct pair pair;
	struct link link;

	NEED_SMALL_MACHINE();
	kills = oom_kills();
	pair_new(&pair);
	snapshot_take(&pair, &snapshot);
	before = memory_available();
	EXPECT_EQ(-ENOMEM, object_create(pair.link.host, 0, VOXSHM_SIZE_MAX));
	EXPECT_EQ(-ENOMEM, grow(pair.segment, VOXSHM_SIZE_MAX, NULL));
	EXPECT_TRUE(snapshot_same(&pair, &snapshot));
	pair_free(&pair);

	/* A window is a range of addresses until it is claimed. */
	create.window_size = VOXSHM_SIZE_MAX;
	pair.segment = segment_create(&create);
	ASSERT_GE(pair.segment, 0);
	ASSERT_EQ(0, link_at(pair.segment, 0, &link));
	EXPECT_EQ(-ENOMEM, claim_with(link.guest, doorbell_new(), NULL));
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(link.host));
	link_close(&link);
	close(pair.segment);
	EXPECT_EQ(kills, oom_kills());
	expect_memory_back(_metadata, before);
}

/* Half of the machine, over and over, killed on its way. */
static int __attribute__((noreturn)) creates_large(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	int fd;

	create.main_size = memory_total() / 2 & ~(uint64_t)(page_size() - 1);
	say(socket, 'r');
	for (;;) {
		fd = segment_create(&create);
		close(fd);
	}
}

#define KILLED_WITHIN_MS 3000

TEST_F_TIMEOUT(exhaustion, sigkill_ends_a_large_allocation, 110)
{
	uint64_t before = memory_available();
	int64_t start, took, slowest = 0;
	struct child child;
	int i;

	NEED_SMALL_MACHINE();
	for (i = 0; i < 5; i++) {
		child = child_start(creates_large, NULL);
		ASSERT_EQ('r', hear(child.socket));
		sleep_ms(20 + 30 * i);
		start = now_ns();
		child_kill(&child);
		took = now_ns() - start;
		if (took > slowest)
			slowest = took;
	}
	DIAG("the slowest took %.0f ms to die", slowest / 1e6);
	EXPECT_LT(slowest, KILLED_WITHIN_MS * MS);
	expect_memory_back(_metadata, before);
}

TEST_F_TIMEOUT(exhaustion, all_peer_ids_at_once, 110)
{
	struct voxshm_ioc_create create = create_default();
	static struct link links[VOXSHM_GUESTS_MAX];
	uint64_t before = memory_available();
	int segment, bell = doorbell_new(), i, life;
	struct rlimit limit = { 4096, 4096 };
	struct link one_more;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	create.max_guests = VOXSHM_GUESTS_MAX;
	segment = segment_create(&create);
	ASSERT_GE(segment, 0);
	for (life = 1; life <= 3; life++) {
		for (i = 0; i < VOXSHM_GUESTS_MAX; i++) {
			ASSERT_EQ(0, link_at(segment, 0, &links[i]));
			ASSERT_EQ(i + 1, links[i].peer_id);
			ASSERT_EQ(life, links[i].epoch);
			ASSERT_EQ(0, claim_with(links[i].guest, bell, NULL));
		}
		EXPECT_EQ(-EUSERS, link_at(segment, 0, &one_more));
		for (i = 0; i < VOXSHM_GUESTS_MAX; i++)
			link_close(&links[i]);
	}
	close(segment);
	expect_memory_back(_metadata, before);
}

/* Each allocation fails once ------------------------------------------------------- */

#define FAULTS_MAX 1000

/* What fails: also what may sleep, and single pages too; without a word in the log. */
static bool faults_can_be_made(void)
{
	static const struct { const char *file, *value; } settings[] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
	};
	char path[128];
	size_t i;

	if (access("/proc/self/fail-nth", W_OK) < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", settings[i].file);
		if (write_text(path, settings[i].value) < 0)
			return false;
	}
	return true;
}

/* The call with its nth allocation failing; false in *injected when it has no such. */
static int call_failing(int fd, unsigned long request, void *argument, int nth, bool *injected)
{
	int control = open("/proc/thread-self/fail-nth", O_RDWR), ret;
	char text[16] = { 0 };

	REQUIRE(control >= 0);
	snprintf(text, sizeof(text), "%d", nth);
	REQUIRE(write(control, text, strlen(text)) > 0);
	ret = call(fd, request, argument);
	memset(text, 0, sizeof(text));
	REQUIRE(pread(control, text, sizeof(text) - 1, 0) > 0);
	*injected = atoi(text) == 0;
	REQUIRE(write(control, "0", 1) == 1);
	close(control);
	return ret;
}

/* Until it is no longer made to fail, which is when it succeeds. */
static int fails_cleanly(struct __test_metadata *_metadata, const struct pair *pair, int fd,
			 unsigned long request, const void *argument)
{
	struct snapshot before;
	bool injected;
	int nth, ret;

	snapshot_take(pair, &before);
	for (nth = 1; nth < FAULTS_MAX; nth++) {
		char copy[512];

		memcpy(copy, argument, _IOC_SIZE(request));
		ret = call_failing(fd, request, copy, nth, &injected);
		if (ret == 0)
			break;
		EXPECT_EQ(-ENOMEM, ret)
			TH_LOG("call %lu, allocation %d", _IOC_NR(request), nth);
		EXPECT_TRUE(snapshot_same(pair, &before))
			TH_LOG("call %lu, allocation %d", _IOC_NR(request), nth);
	}
	EXPECT_LT(nth, FAULTS_MAX);
	return nth - 1;
}

TEST_F_TIMEOUT(exhaustion, each_allocation_of_each_call_fails, 110)
{
	struct voxshm_ioc_create create = create_default();
	struct voxshm_ioc_link linked = { .peer_id = 0 };
	struct voxshm_ioc_grow grown = { .size = 2 * page_size() };
	struct voxshm_ioc_object object = { .size = 2 * page_size(), .index = 5 };
	struct voxshm_ioc_bind bind;
	struct voxshm_ioc_claim claim = { .flags = 0 };
	int device, faults = 0;
	struct pair pair;
	struct link link;

	if (!faults_can_be_made())
		SKIP(return, "this kernel cannot make allocations fail");
	pair_new(&pair);
	device = device_open(O_RDWR);
	link = link_new(pair.segment);
	bind.eventfd = claim.eventfd = pair.guest_bell;
	bind.flags = 0;
#define FAILS_CLEANLY(fd, request, argument) do {					\
	int count_ = fails_cleanly(_metadata, &pair, fd, request, argument);		\
	EXPECT_GT(count_, 0)								\
		TH_LOG("call %lu: nothing failed", _IOC_NR(request));			\
	faults += count_;								\
} while (0)
	FAILS_CLEANLY(device, VOXSHM_IOC_CREATE, &create);
	FAILS_CLEANLY(pair.segment, VOXSHM_IOC_LINK, &linked);
	FAILS_CLEANLY(pair.segment, VOXSHM_IOC_GROW, &grown);
	FAILS_CLEANLY(pair.link.host, VOXSHM_IOC_OBJECT_CREATE, &object);
	FAILS_CLEANLY(pair.link.guest, VOXSHM_IOC_OBJECT_CREATE, &object);
	FAILS_CLEANLY(pair.link.host, VOXSHM_IOC_BIND, &bind);
	FAILS_CLEANLY(link.guest, VOXSHM_IOC_CLAIM, &claim);
	DIAG("%d allocations failed", faults);
	close(device);
}

VOXSHM_TEST_MAIN
