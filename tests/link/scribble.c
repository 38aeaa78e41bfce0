// SPDX-License-Identifier: MIT
/*
 * scribble.c - a guest that writes nonsense over all memory it shares with the
 * host ends its own link at most: the host lives, and so do the other guests.
 *
 * In the vox format guests trust each other: there only the host must live.
 */
#include "pens.h"

#define SCRIBBLE_CONFIG \
	CONFIG(variant, SMALL_CLASSES, .max_guests = 4, .ring_capacity = 2048)

FIXTURE(scribble)
{
	struct inbox inbox;
	struct voxshm_host *host;
	int fds_before;
};
VARIANTS(scribble)

FIXTURE_SETUP(scribble)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &SCRIBBLE_CONFIG);
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(scribble)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* What this process has mapped shared and writable. */
static int find_areas(struct area *areas, int most)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], rights[5];
	unsigned long start, end;
	int count = 0;

	REQUIRE(maps);
	while (count < most && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 &&
		    !strcmp(rights, "rw-s") && (strstr(line, "memfd:") || strstr(line, "voxshm")))
			areas[count++] = (struct area){ (uint8_t *)start, end - start };
	fclose(maps);
	return count;
}

static void guest_scribbles(struct voxshm_link *link, void *argument)
{
	uint64_t seed = *(uint64_t *)argument, random = seed;
	struct area areas[16];
	int count;

	for (uint64_t i = 0; i < 10; i++)
		REQUIRE_EQ(0, send_pattern(link, mixed_size(i), i, PATIENCE));
	count = find_areas(areas, ARRAY_SIZE(areas));
	REQUIRE(count > 0);
	for (int i = 0; i < 20; i++) {
		scribble(&areas[i % count], seed % PENS, &random);
		/* Its own library may find the nonsense too; that is its affair. */
		voxshm_try_send(link, "x", random % 2);
		sleep_ms(1);
	}
	_exit(0);
}

/* Uses the link in every way until it has ended; nothing may hang or crash. */
static void use_until_end(struct __test_metadata *_metadata, struct inbox *inbox,
			  struct voxshm_link *link)
{
	int64_t until = now_ns() + PATIENCE;
	struct voxshm_view views[4];
	struct voxshm_status status;
	struct voxshm_loan loan;
	char buffer[4096];

	while (now_ns() < until) {
		const struct voxshm_event *event = inbox_next(inbox, MS);
		int count = voxshm_recv_batch(link, views, ARRAY_SIZE(views), 0);

		for (int i = 0; i < count; i++) {
			const volatile uint8_t *bytes = views[i].data;

			for (size_t j = 0; j < views[i].size; j += 4096)
				(void)bytes[j];
			if (views[i].size)
				(void)bytes[views[i].size - 1];
			EXPECT_EQ(0, voxshm_release(link, &views[i]));
		}
		voxshm_recv_copy(link, buffer, sizeof(buffer), 0);
		voxshm_try_send(link, buffer, 30);
		voxshm_try_send(link, buffer, 900);
		voxshm_try_send(link, buffer, 4000);
		if (voxshm_loan(link, 2000, &loan, 0) == 0 && voxshm_commit(link, &loan, 5, 0))
			voxshm_abort(link, &loan);
		if (event && event->link == link && event->type >= VOXSHM_EVENT_LEFT) {
			voxshm_link_status(link, &status);
			EXPECT_TRUE((status.state == VOXSHM_LINK_FAILED) == (*status.reason != 0));
			EXPECT_TRUE((status.state == VOXSHM_LINK_FAILED) ==
				    (event->type == VOXSHM_EVENT_FAILED));
			voxshm_link_close(link);
			return;
		}
	}
	EXPECT_TRUE(!"the link never ended");
}

static void guest_echoes(struct voxshm_link *link, void *argument)
{
	struct voxshm_view view;

	while (voxshm_recv(link, &view, PATIENCE) == 0) {
		REQUIRE_EQ(0, voxshm_send(link, view.data, view.size, PATIENCE));
		REQUIRE_EQ(0, voxshm_release(link, &view));
	}
	voxshm_link_close(link);
}

TEST_F_TIMEOUT(scribble, host_lives_and_serves_the_others, 60)
{
	bool isolated = variant->choice.format == VOXSHM_FORMAT_NATIVE;
	struct voxshm_link *honest = NULL, *link;
	pid_t honest_pid = 0, pid;

	if (isolated)
		honest_pid = guest_fork(_metadata, self->host, guest_echoes, NULL, &honest);
	for (uint64_t seed = 0; seed < amount(40); seed++) {
		pid = guest_fork(_metadata, self->host, guest_scribbles, &seed, &link);
		use_until_end(_metadata, &self->inbox, link);
		/* It may have crashed on its own nonsense. */
		EXPECT_NE(-1, child_wait(pid));
		if (isolated) {
			ASSERT_EQ(0, send_pattern(honest, mixed_size(seed), seed, PATIENCE));
			ASSERT_EQ(0, recv_pattern(honest, mixed_size(seed), seed, PATIENCE));
		} else {
			voxshm_host_free(self->host);
			host_open(_metadata, &self->host, &SCRIBBLE_CONFIG);
			self->inbox = (struct inbox){ .host = self->host };
		}
	}
	if (isolated) {
		voxshm_link_close(honest);
		EXPECT_EQ(0, child_wait(honest_pid));
	}
}

LINK_TEST_MAIN(NULL)
