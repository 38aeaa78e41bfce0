// SPDX-License-Identifier: MIT
/* crowd.c - many guests at once, and many one after another. */
#include "processes.h"

/* In the vox format all guests share these. */
static const struct voxshm_class classes[] = { { 1024, 64 } };
#define SMALL CONFIG(variant, .num_classes = 1, .classes = classes, .ring_capacity = 1024, \
		     .max_mappings = 2)

FIXTURE(crowd)
{
	int fds_before;
};
VARIANTS(crowd)

FIXTURE_SETUP(crowd)
{
	self->fds_before = count_fds();
}

FIXTURE_TEARDOWN(crowd)
{
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* A guest that sends numbers, the more the higher its own. */
struct rate {
	unsigned int number;
	uint64_t count;
};

static void guest_counts(struct voxshm_link *link, void *argument)
{
	const struct rate *rate = argument;
	uint64_t sum = 0, answer;

	for (uint64_t i = 1; i <= rate->count; i++) {
		uint64_t value = mix(i * rate->number) >> 8;

		if (i % (2000 / rate->number) == 0)
			sleep_ms(1);
		REQUIRE_EQ(0, voxshm_send(link, &value, sizeof(value), PATIENCE));
		sum += value;
	}
	REQUIRE_EQ(0, voxshm_send(link, NULL, 0, PATIENCE));
	REQUIRE_EQ(sizeof(answer), voxshm_recv_copy(link, &answer, sizeof(answer), PATIENCE));
	REQUIRE(answer == sum);
	voxshm_link_close(link);
}

TEST_F_TIMEOUT(crowd, thirty_two_guests_of_different_rates_add_up, 60)
{
	enum { GUESTS = 32 };
	struct rate rates[GUESTS];
	uint64_t sums[GUESTS] = { 0 };
	pid_t pids[GUESTS];
	struct inbox inbox = { 0 };
	struct voxshm_link *link;
	struct voxshm_config config = SMALL;
	unsigned int left = 0;

	config.max_guests = GUESTS;
	host_open(_metadata, &inbox.host, &config);
	for (int i = 0; i < GUESTS; i++) {
		rates[i] = (struct rate){ i + 1, (uint64_t)(i + 1) * amount(500) / 2 };
		pids[i] = guest_fork(_metadata, inbox.host, guest_counts, &rates[i], &link);
		voxshm_link_set_data(link, &sums[i]);
	}
	while (left < GUESTS) {
		const struct voxshm_event *event = inbox_next(&inbox, VOXSHM_FOREVER);
		struct voxshm_view views[16];
		uint64_t *sum, value;
		int count;

		ASSERT_NE(NULL, event);
		link = event->link;
		sum = voxshm_link_data(link);
		if (event->type == VOXSHM_EVENT_LEFT) {
			left++;
			voxshm_link_close(link);
		}
		if (event->type != VOXSHM_EVENT_READABLE)
			continue;
		count = voxshm_recv_batch(link, views, ARRAY_SIZE(views), 0);
		ASSERT_LE(1, count);
		for (int i = 0; i < count; i++) {
			if (views[i].size == 0) {
				ASSERT_EQ(0, voxshm_send(link, sum, sizeof(*sum), PATIENCE));
			} else {
				ASSERT_EQ(sizeof(value), views[i].size);
				memcpy(&value, views[i].data, sizeof(value));
				*sum += value;
			}
			ASSERT_EQ(0, voxshm_release(link, &views[i]));
		}
	}
	for (int i = 0; i < GUESTS; i++) {
		EXPECT_EQ(0, child_wait(pids[i]));
	}
	EXPECT_EQ(0, inbox.seen[VOXSHM_EVENT_DIED]);
	EXPECT_EQ(GUESTS, inbox.seen[VOXSHM_EVENT_ATTACHED]);
	voxshm_host_free(inbox.host);
}

TEST_F_TIMEOUT(crowd, two_hundred_and_fifty_five_guests_and_no_more, 60)
{
	struct voxshm_link *host_ends[255], *guest_ends[255], *more;
	struct voxshm_error error = { "" };
	struct voxshm_config config = SMALL;
	struct voxshm_host *host;
	struct voxshm_status status;
	bool seen[256] = { false };
	int ticket;

	config.max_guests = 255;
	if (count_fds() + 255 * 8 > (int)sysconf(_SC_OPEN_MAX))
		SKIP(return, "only %ld descriptors allowed", sysconf(_SC_OPEN_MAX));
	host_open(_metadata, &host, &config);
	for (int i = 0; i < 255; i++) {
		link_make(_metadata, host, &host_ends[i], &guest_ends[i]);
		voxshm_link_status(host_ends[i], &status);
		ASSERT_LE(1, status.peer_id);
		ASSERT_GE(255, status.peer_id);
		EXPECT_FALSE(seen[status.peer_id]);
		seen[status.peer_id] = true;
	}
	EXPECT_EQ(-EUSERS, voxshm_host_ticket(host, &ticket, &more, &error));
	EXPECT_STRNE("", error.text);
	for (uint64_t i = 0; i < 255; i++) {
		ASSERT_EQ(0, send_pattern(host_ends[i], i % 200, i, PATIENCE));
		ASSERT_EQ(0, send_pattern(guest_ends[i], i % 200, ~i, PATIENCE));
	}
	for (uint64_t i = 0; i < 255; i++) {
		EXPECT_EQ(0, recv_pattern(guest_ends[i], i % 200, i, PATIENCE));
		EXPECT_EQ(0, recv_pattern(host_ends[i], i % 200, ~i, PATIENCE));
	}
	voxshm_link_close(guest_ends[100]);
	voxshm_link_close(host_ends[100]);
	link_make(_metadata, host, &host_ends[100], &guest_ends[100]);
	EXPECT_EQ(-EUSERS, voxshm_host_ticket(host, &ticket, &more, NULL));
	for (int i = 0; i < 255; i++)
		voxshm_link_close(guest_ends[i]);
	voxshm_host_free(host);
}

static void guest_greets(struct voxshm_link *link, void *argument)
{
	REQUIRE_EQ(0, send_pattern(link, 5000, 1, PATIENCE));
	REQUIRE_EQ(0, recv_pattern(link, 700, 2, PATIENCE));
	if (argument)
		voxshm_link_close(link);
}

static int program_greet(int argc, char **argv)
{
	guest_greets(guest_inherit(), argv[1]);
	_exit(0);
}

static void expect_greeting(struct __test_metadata *_metadata, struct inbox *inbox,
			    struct voxshm_link *link, enum voxshm_event_type end)
{
	ASSERT_EQ(0, recv_pattern(link, 5000, 1, PATIENCE));
	ASSERT_EQ(0, send_pattern(link, 700, 2, PATIENCE));
	ASSERT_EQ(link, inbox_await(inbox, end, link));
	voxshm_link_close(link);
}

/* Guests come in every way and leave or die: after each round all is as before. */
TEST_F_TIMEOUT(crowd, two_hundred_guests_one_after_another_leak_nothing, 60)
{
	struct voxshm_config config = SMALL;
	struct inbox inbox = { 0 };
	struct voxshm_link *link;
	int fds = 0, maps = 0;
	char address[64];
	pid_t pid;

	config.max_guests = 2;
	host_open(_metadata, &inbox.host, &config);
	ASSERT_EQ(0, voxshm_host_listen(inbox.host, abstract_address(address), 0, NULL, NULL, NULL));
	for (unsigned int i = 0; i < amount(200); i++) {
		bool leaves = i % 2;
		enum voxshm_event_type end = leaves ? VOXSHM_EVENT_LEFT : VOXSHM_EVENT_DIED;

		switch (i / 2 % 3) {
		case 0:
			pid = guest_fork(_metadata, inbox.host, guest_greets, leaves ? "" : NULL, &link);
			expect_greeting(_metadata, &inbox, link, end);
			ASSERT_EQ(0, child_wait(pid));
			break;
		case 1:
			pid = walk_in_fork(address, guest_greets, leaves ? "" : NULL);
			link = inbox_await(&inbox, VOXSHM_EVENT_ATTACHED, NULL);
			ASSERT_NE(NULL, link);
			expect_greeting(_metadata, &inbox, link, end);
			ASSERT_EQ(0, child_wait(pid));
			break;
		default:
			link = guest_spawn(_metadata, inbox.host, "greet", leaves ? "" : NULL);
			expect_greeting(_metadata, &inbox, link, end);
		}
		if (i == 11) {
			fds = count_fds();
			maps = count_maps();
		}
	}
	EXPECT_EQ(fds, count_fds());
	EXPECT_GE(maps + 3, count_maps());
	voxshm_host_free(inbox.host);
	EXPECT_EQ(-1, waitpid(-1, NULL, WNOHANG));
}

TEST_F(crowd, two_hundred_pairs_in_one_process_leak_nothing)
{
	for (unsigned int i = 0; i < amount(200); i++) {
		struct pair pair;

		pair_open(_metadata, &pair, &SMALL);
		ASSERT_EQ(0, send_pattern(pair.host_end, 5000, i, PATIENCE));
		ASSERT_EQ(0, recv_pattern(pair.guest_end, 5000, i, PATIENCE));
		pair_close(_metadata, &pair);
	}
}

TEST_F(crowd, links_that_ended_and_are_not_drained_are_capped)
{
	struct voxshm_link *host_ends[600], *guest_end;
	struct voxshm_error error = { "" };
	struct voxshm_config config = SMALL;
	struct inbox inbox = { 0 };
	int count, ticket, ret = 0;

	config.max_guests = 2;
	host_open(_metadata, &inbox.host, &config);
	for (count = 0; count < 600; count++) {
		ret = voxshm_host_ticket(inbox.host, &ticket, &host_ends[count], &error);
		if (ret)
			break;
		ASSERT_EQ(0, voxshm_guest_claim(&guest_end, ticket, NULL));
		ASSERT_EQ(0, send_pattern(guest_end, 700, count, 0));
		voxshm_link_close(guest_end);
		ASSERT_NE(NULL, inbox_await(&inbox, VOXSHM_EVENT_READABLE, host_ends[count]));
	}
	EXPECT_GT(0, ret);
	EXPECT_STRNE("", error.text);
	EXPECT_LE(2, count);
	/* All they sent is there, and closing them makes room. */
	for (int i = 0; i < count; i++) {
		EXPECT_EQ(0, recv_pattern(host_ends[i], 700, i, PATIENCE));
		EXPECT_EQ(-EPIPE, voxshm_recv(host_ends[i], &(struct voxshm_view){ 0 }, PATIENCE));
		voxshm_link_close(host_ends[i]);
	}
	link_make(_metadata, inbox.host, &host_ends[0], &guest_end);
	voxshm_link_close(guest_end);
	voxshm_host_free(inbox.host);
}

/* Guests die at random moments while the others go on. */
static void guest_chatters(struct voxshm_link *link, void *argument)
{
	uint64_t seed = *(unsigned int *)argument;

	for (uint64_t i = 0;; i++) {
		size_t size = mix(seed ^ i) % 3000;

		if (send_pattern(link, size, i, PATIENCE) || recv_pattern(link, size, ~i, PATIENCE))
			_exit(0);
	}
}

TEST_F_TIMEOUT(crowd, guests_killed_at_random_disturb_nobody, 60)
{
	enum { GUESTS = 6 };
	struct voxshm_link *links[GUESTS], *link;
	uint64_t received[GUESTS], random = 4;
	struct voxshm_config config = SMALL;
	unsigned int killed = 0, died = 0, numbers[GUESTS];
	struct inbox inbox = { 0 };
	pid_t pids[GUESTS];

	config.max_guests = GUESTS;
	host_open(_metadata, &inbox.host, &config);
	for (unsigned int i = 0; i < GUESTS; i++) {
		numbers[i] = i;
		received[i] = 0;
		pids[i] = guest_fork(_metadata, inbox.host, guest_chatters, &numbers[i], &links[i]);
		voxshm_link_set_data(links[i], &numbers[i]);
	}
	while (died < amount(60)) {
		const struct voxshm_event *event = inbox_next(&inbox, PATIENCE);
		unsigned int i;
		int ret;

		ASSERT_NE(NULL, event);
		link = event->link;
		i = *(unsigned int *)voxshm_link_data(link);
		if (event->type == VOXSHM_EVENT_READABLE) {
			size_t size = mix(i ^ received[i]) % 3000;

			ASSERT_EQ(0, recv_pattern(link, size, received[i], 0));
			ret = send_pattern(link, size, ~received[i], 0);
			ASSERT_TRUE(ret == 0 || ret == -EPIPE);
			received[i]++;
		} else if (event->type == VOXSHM_EVENT_DIED) {
			died++;
			child_wait(pids[i]);
			voxshm_link_close(link);
			received[i] = 0;
			pids[i] = guest_fork(_metadata, inbox.host, guest_chatters, &numbers[i],
					     &links[i]);
			voxshm_link_set_data(links[i], &numbers[i]);
		} else {
			ASSERT_EQ(VOXSHM_EVENT_ATTACHED, event->type);
		}
		if (random_next(&random) % 100 == 0 && killed < died + GUESTS) {
			kill(pids[random_next(&random) % GUESTS], SIGKILL);
			killed++;
		}
	}
	for (int i = 0; i < GUESTS; i++)
		child_kill(pids[i]);
	voxshm_host_free(inbox.host);
}

static const struct guest_program programs[] = {
	{ "greet", program_greet },
	{ 0 },
};

LINK_TEST_MAIN(programs)
