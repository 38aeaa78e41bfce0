/* SPDX-License-Identifier: MIT */
/*
 * death_latency.c - how soon a death is told, beside a pidfd of the same process:
 * of guests with 1, 64 and 512 MiB resident, killed while a forked child of
 * theirs holds their descriptors. The figures are for people to read.
 */
#include "processes.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

FIXTURE(latency) {
	int segment;
	int bell;
};

FIXTURE_SETUP(latency)
{
	self->segment = segment_new();
	self->bell = doorbell_new();
}

FIXTURE_TEARDOWN(latency)
{
	close(self->segment);
	close(self->bell);
}

/* Its forked child lives as long as the test holds the other end of the leash. */
static int guest_with_memory(int socket, void *argument)
{
	size_t size = *(size_t *)argument;
	char *memory;
	int ticket, leash;

	KEEP_ONLY(socket);
	ticket = fd_receive(socket);
	leash = fd_receive(socket);
	REQUIRE_EQ(0, claim_with(ticket, doorbell_new(), NULL));
	REQUIRE(map_object(ticket, VOXSHM_OBJECT_WINDOW, page_size(), PROT_READ | PROT_WRITE));
	if (fork() == 0) {
		hear(leash);
		_exit(0);
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	REQUIRE(memory != MAP_FAILED);
	memset(memory, 1, size);
	say(socket, 'r');
	for (;;)
		pause();
}

#define RUNS 3

struct latency {
	int64_t report;
	int64_t pidfd;
	bool report_was_later;
};

/* One guest killed. Both are watched by the same poll(). */
static void measure(struct __test_metadata *_metadata, FIXTURE_DATA(latency) *self, size_t size,
		    struct latency *out)
{
	struct link link = link_new(self->segment);
	struct child child = child_start(guest_with_memory, &size);
	struct voxshm_ioc_status status = { 0 };
	struct pollfd entries[2];
	int leash[2], pidfd;
	int64_t start, now;
	bool rung;

	ASSERT_EQ(0, bind_to(link.host, self->bell));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, leash));
	fd_send(child.socket, link.guest);
	close(link.guest);
	fd_send(child.socket, leash[1]);
	close(leash[1]);
	ASSERT_EQ('r', hear(child.socket));
	pidfd = syscall(SYS_pidfd_open, child.pid, 0);
	ASSERT_GE(pidfd, 0);
	doorbell_drain(self->bell);
	sleep_ms(LULL_MS);

	*out = (struct latency){ -1, -1, false };
	entries[0] = (struct pollfd){ .fd = self->bell, .events = POLLIN };
	entries[1] = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	start = now_ns();
	ASSERT_EQ(0, kill(child.pid, SIGKILL));
	while (out->report < 0 || out->pidfd < 0) {
		if (out->pidfd >= 0)
			entries[1].fd = -1;
		ASSERT_LT(0, poll(entries, 2, PATIENCE_MS))
			TH_LOG("report %jd ns, pidfd %jd ns", out->report, out->pidfd);
		now = now_ns();
		rung = entries[0].revents & POLLIN;
		if (entries[1].revents & POLLIN && out->pidfd < 0) {
			out->pidfd = now - start;
			/* poll() looks at one after the other: so look once more. */
			if (out->report < 0 && !rung) {
				rung = readable_within(self->bell, 0);
				now = now_ns();
			}
		}
		if (out->report < 0 && rung) {
			doorbell_take(self->bell);
			ASSERT_EQ(0, status_of(link.host, &status));
			if (status.state == VOXSHM_STATE_ENDED && status.exit)
				out->report = now - start;
		}
		out->report_was_later |= out->pidfd >= 0 && out->report < 0;
	}
	EXPECT_EQ(VOXSHM_HOW_DIED, status.how);
	EXPECT_EQ(VOXSHM_EXITED_SIGNAL, status.exit);
	EXPECT_EQ(SIGKILL, status.exit_value);
	EXPECT_EQ(child.pid, status.pid);
	close(pidfd);
	close(leash[0]);
	child_reap(&child);
	close(link.host);
}

static void measure_size(struct __test_metadata *_metadata, FIXTURE_DATA(latency) *self,
			 size_t mib, bool strict)
{
	struct latency latency;
	int run, later = 0;

	if (memory_available() < mib * MIB * 5 / 4)
		SKIP(return, "not %zu MiB of memory here", mib);
	for (run = 0; run < RUNS; run++) {
		measure(_metadata, self, mib * MIB, &latency);
		DIAG("%zu MiB resident: signal 9 reported after %.3f ms, pidfd readable after "
		     "%.3f ms", mib, latency.report / 1e6, latency.pidfd / 1e6);
		later += latency.report_was_later;
	}
	if (strict)
		EXPECT_EQ(0, later);
}

TEST_F_TIMEOUT(latency, a_guest_of_1_mib_is_reported_no_later_than_by_pidfd, 60)
{
	measure_size(_metadata, self, 1, true);
}

TEST_F_TIMEOUT(latency, a_guest_of_64_mib, 110)
{
	measure_size(_metadata, self, 64, false);
}

TEST_F_TIMEOUT(latency, a_guest_of_512_mib, 400)
{
	measure_size(_metadata, self, 512, false);
}

VOXSHM_TEST_MAIN
