// SPDX-License-Identifier: MIT
/*
 * steps.c - a tiny ring between the crate and us, one of whom is stopped after
 * each of its instructions, while the other goes on: so also between the two
 * stores of the crate's wrap, where a reader of the crate's takes old bytes for
 * new.
 */
#include <sys/mman.h>
#include <sys/ptrace.h>

#include "bare.h"

#define CAPACITY 72u
#define MESSAGES 150u

static const struct voxshm_class classes[] = { { 64, 1 } };
static const struct traffic traffic = { .seed = 101, .count = MESSAGES, .max = 16 };

struct scene {
	struct joined joined;
	struct crate *crate;
	struct voxshm_segment *segment;
	struct voxshm_segment_ring *ring;
	struct digest digest;
	uint64_t done;		/* messages that we wrote or read */
};

static void scene_open(struct __test_metadata *_metadata, struct scene *scene)
{
	const struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = 1, .ring_capacity = CAPACITY,
		.max_payload = 64 * KIB, .inline_threshold = 256, .num_classes = 1,
		.classes = classes, .path = scene->joined.segment,
	};

	*scene = (struct scene){ .crate = &scene->joined.crate };
	directory_make(&scene->joined);
	ASSERT_EQ(0, voxshm_segment_create(&scene->segment, &config, NULL));
	crate_start(scene->crate, -1);
	ASSERT_STREQ("", ask(scene->crate, "attach %s", scene->joined.segment));
	ASSERT_STREQ("1", ask(scene->crate, "attach_peer"));
}

static void scene_close(struct scene *scene)
{
	voxshm_segment_ring_close(scene->ring);
	voxshm_segment_free(scene->segment);
	part(&scene->joined);
}

/* Stops a process before it does what it is told next. */
static void take_hold(struct __test_metadata *_metadata, pid_t pid)
{
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, NULL, __WALL));
}

/* Lets it do one instruction. Return: false when it has ended. */
static bool step(pid_t pid)
{
	int status;

	REQUIRE(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
	REQUIRE(waitpid(pid, &status, __WALL) == pid);
	return WIFSTOPPED(status);
}

static bool has_answered(const struct crate *crate)
{
	struct pollfd pollfd = { .fd = crate->socket, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* Until it has answered, `act` in between. */
static void walk(struct __test_metadata *_metadata, struct scene *scene, unsigned int pace,
		 int (*act)(struct scene *scene))
{
	int64_t until = now_ns() + 2 * PATIENCE;
	unsigned int steps;

	/* After its answer it waits for the next command, and would step no more. */
	for (steps = 1; scene->done < traffic.count || !has_answered(scene->crate); steps++) {
		REQUIRE(step(scene->crate->pid));
		if (steps % pace == 0)
			ASSERT_EQ(0, act(scene))
				TH_LOG("after %u steps", steps);
		if (steps % 1024 == 0)
			ASSERT_LT(now_ns(), until);
	}
	ptrace(PTRACE_DETACH, scene->crate->pid, NULL, NULL);
}

/* Reads all that is there. */
static int read_all(struct scene *scene)
{
	const void *data;
	struct vox_entry entry;
	ssize_t readable;

	while ((readable = voxshm_segment_ring_read(scene->ring, &data)) > 0) {
		if (vox_entry_parse(&entry, data, (uint32_t)readable) ||
		    !traffic_check(&traffic, scene->done, entry.payload, entry.length))
			return -ENOMSG;
		digest_add(&scene->digest, entry.payload, entry.length);
		scene->done++;
		voxshm_segment_ring_release(scene->ring, entry.size);
	}
	return (int)readable;
}

/* Writes the next message, when there is room for it. */
static int write_one(struct scene *scene)
{
	uint8_t bytes[16];
	uint32_t size;
	void *entry;
	int ret;

	if (scene->done == traffic.count)
		return 0;
	size = (uint32_t)traffic_size(&traffic, scene->done);
	ret = voxshm_segment_ring_grant(scene->ring, vox_entry_size(size), &entry);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	traffic_fill(&traffic, scene->done, bytes, size);
	digest_add(&scene->digest, bytes, size);
	memcpy(vox_entry_write_inline(entry, size), bytes, size);
	scene->done++;
	return voxshm_segment_ring_commit(scene->ring, vox_entry_size(size));
}

/* The crate is stepped through ---------------------------------------------------------------- */

FIXTURE(the_crates)
{
	struct scene scene;
};

/* We act after so many instructions of its. */
FIXTURE_VARIANT(the_crates)
{
	unsigned int pace;
};

FIXTURE_VARIANT_ADD(the_crates, every_step)
{
	.pace = 1,
};

FIXTURE_VARIANT_ADD(the_crates, every_seventh_step)
{
	.pace = 7,
};

FIXTURE_SETUP(the_crates)
{
	scene_open(_metadata, &self->scene);
}

FIXTURE_TEARDOWN(the_crates)
{
	scene_close(&self->scene);
}

TEST_F_TIMEOUT(the_crates, as_a_writer_before_our_reader, 240)
{
	struct scene *scene = &self->scene;
	char text[128];

	ASSERT_EQ(0, voxshm_segment_ring_open(&scene->ring, scene->segment, 1,
					      VOXSHM_GUEST_TO_HOST, VOXSHM_CONSUMER));
	take_hold(_metadata, scene->crate->pid);
	crate_say(scene->crate, "produce up 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	walk(_metadata, scene, variant->pace, read_all);
	EXPECT_STREQ(digest_text(&scene->digest, text), crate_hear(scene->crate));
}

TEST_F_TIMEOUT(the_crates, as_a_reader_behind_our_writer, 240)
{
	struct scene *scene = &self->scene;
	char text[128];

	ASSERT_EQ(0, voxshm_segment_ring_open(&scene->ring, scene->segment, 1,
					      VOXSHM_HOST_TO_GUEST, VOXSHM_PRODUCER));
	take_hold(_metadata, scene->crate->pid);
	crate_say(scene->crate, "consume down 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	walk(_metadata, scene, variant->pace, write_one);
	EXPECT_STREQ(digest_text(&scene->digest, text), crate_hear(scene->crate));
}

/* A process of ours is stepped through ---------------------------------------------------------- */

FIXTURE(ours)
{
	struct scene scene;
	struct digest *digest;
	int begin[2];
};

FIXTURE_SETUP(ours)
{
	scene_open(_metadata, &self->scene);
	self->digest = mmap(NULL, sizeof(*self->digest), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->digest);
	ASSERT_EQ(0, pipe2(self->begin, O_CLOEXEC));
}

FIXTURE_TEARDOWN(ours)
{
	munmap(self->digest, sizeof(*self->digest));
	close(self->begin[0]);
	close(self->begin[1]);
	scene_close(&self->scene);
}

/* The crate reads as fast as it can. */
TEST_F_TIMEOUT(ours, as_a_writer_before_the_crates_reader, 240)
{
	struct bare down = { self->scene.segment, 1, VOXSHM_HOST_TO_GUEST };
	char text[128];
	pid_t pid;

	pid = child_fork();
	if (pid == 0) {
		REQUIRE(read(self->begin[0], text, 1) == 1);
		_exit(bare_produce(&down, &traffic, self->digest) != 0);
	}
	crate_say(self->scene.crate, "consume down 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	take_hold(_metadata, pid);
	ASSERT_EQ(1, write(self->begin[1], "!", 1));
	while (step(pid))
		;
	EXPECT_STREQ(digest_text(self->digest, text), crate_hear(self->scene.crate));
}

TEST_HARNESS_MAIN
