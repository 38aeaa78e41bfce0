// SPDX-License-Identifier: MIT
/* Shared memory on the file backend: whole from the start, and nobody can take it away. */
#include <sys/resource.h>
#include <sys/stat.h>

#include "memory.h"
#include "unit_test.h"

#define MIB (1024u * 1024u)

FIXTURE(memory) {
	struct memory memory;
	int fds_before;
};

FIXTURE_SETUP(memory)
{
	self->fds_before = count_fds();
	ASSERT_EQ(memory_new(&self->memory, "test", MIB), 0);
}

FIXTURE_TEARDOWN(memory)
{
	memory_free(&self->memory);
	EXPECT_EQ(count_fds(), self->fds_before);
}

/* A line of this mapping in /proc/self/smaps. Return: was it found? */
static bool find_smaps(const void *base, const char *field, char *line, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	bool inside = false, found = false;
	unsigned long start;

	while (smaps && !found && fgets(line, (int)size, smaps)) {
		if (sscanf(line, "%lx-", &start) == 1 && strchr(line, '-'))
			inside = start == (unsigned long)base;
		found = inside && !strncmp(line, field, strlen(field));
	}
	if (smaps)
		fclose(smaps);
	return found;
}

/* New memory ---------------------------------------------------------------------- */

TEST_F(memory, new_memory_is_zeroed_and_writable)
{
	size_t i;

	EXPECT_EQ(self->memory.size, MIB);
	for (i = 0; i < MIB; i++)
		ASSERT_EQ(self->memory.base[i], 0);
	memset(self->memory.base, 0xff, MIB);
}

TEST_F(memory, new_memory_is_allocated_and_mapped_at_once)
{
	struct stat stat;
	char line[256];

	ASSERT_EQ(fstat(self->memory.fd, &stat), 0);
	EXPECT_EQ(stat.st_size, MIB);
	EXPECT_GE(stat.st_blocks * 512, MIB);
	ASSERT_TRUE(find_smaps(self->memory.base, "Rss:", line, sizeof(line)));
	EXPECT_EQ(atol(line + 4), 1024)
		TH_LOG("%s", line);
}

TEST_F(memory, size_can_never_change)
{
	struct stat stat;

	EXPECT_EQ(ftruncate(self->memory.fd, MIB / 2), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(ftruncate(self->memory.fd, 2 * MIB), -1);
	EXPECT_EQ(errno, EPERM);
	ASSERT_EQ(fstat(self->memory.fd, &stat), 0);
	EXPECT_EQ(stat.st_size, MIB);
}

TEST_F(memory, descriptor_is_not_inherited_by_programs)
{
	EXPECT_TRUE(fcntl(self->memory.fd, F_GETFD) & FD_CLOEXEC);
}

TEST_F(memory, mapping_is_neither_inherited_nor_dumped)
{
	char line[256];

	ASSERT_TRUE(find_smaps(self->memory.base, "VmFlags:", line, sizeof(line)));
	EXPECT_NE(strstr(line, " dc"), NULL);
	EXPECT_NE(strstr(line, " dd"), NULL);
}

/* The child dies of its touch, and the memory is as it was. */
TEST_F(memory, forked_child_cannot_touch_it)
{
	pid_t child = fork_child();

	if (child == 0) {
		die_by_fault();
		self->memory.base[0] = 1;
		_exit(0);
	}
	EXPECT_EQ(wait_child(child), 128 + SIGSEGV);
	EXPECT_EQ(self->memory.base[0], 0);
}

TEST_F(memory, freeing_gives_all_back_and_may_be_done_twice)
{
	struct memory none = MEMORY_NONE;
	char line[256];
	void *base = self->memory.base;
	int fd = self->memory.fd;

	memory_free(&self->memory);
	EXPECT_FALSE(fd_is_open(fd));
	EXPECT_FALSE(find_smaps(base, "Rss:", line, sizeof(line)));
	EXPECT_EQ(self->memory.base, NULL);
	EXPECT_EQ(self->memory.fd, -1);
	memory_free(&self->memory);
	memory_free(&none);
}

TEST_F(memory, memory_of_no_size_is_refused)
{
	struct memory memory;
	int fds = count_fds();

	EXPECT_LT(memory_new(&memory, "test", 0), 0);
	EXPECT_EQ(memory.base, NULL);
	EXPECT_EQ(memory.fd, -1);
	EXPECT_EQ(count_fds(), fds);
}

/* Under a limit ---------------------------------------------------------------------- */

static int new_under_limit(int resource, rlim_t limit, struct memory *memory, size_t size)
{
	struct rlimit old, changed;
	int ret;

	REQUIRE(getrlimit((__rlimit_resource_t)resource, &old) == 0);
	changed = old;
	changed.rlim_cur = limit;
	REQUIRE(setrlimit((__rlimit_resource_t)resource, &changed) == 0);
	ret = memory_new(memory, "test", size);
	REQUIRE(setrlimit((__rlimit_resource_t)resource, &old) == 0);
	return ret;
}

TEST_F(memory, lack_of_descriptors_is_told)
{
	struct memory memory;

	EXPECT_EQ(new_under_limit(RLIMIT_NOFILE, (rlim_t)self->memory.fd, &memory, MIB), -EMFILE);
	EXPECT_EQ(memory.base, NULL);
	EXPECT_EQ(memory.fd, -1);
}

TEST_F(memory, allocation_that_fails_leaves_nothing)
{
	struct memory memory;
	int fds = count_fds();

	signal(SIGXFSZ, SIG_IGN);
	EXPECT_EQ(new_under_limit(RLIMIT_FSIZE, MIB / 2, &memory, MIB), -EFBIG);
	EXPECT_EQ(memory.base, NULL);
	EXPECT_EQ(memory.fd, -1);
	EXPECT_EQ(count_fds(), fds);
}

TEST_F(memory, mapping_that_fails_leaves_nothing)
{
	struct memory memory;
	int fds = count_fds();

	if (slowness() > 1)
		SKIP(return, "sanitizers and valgrind need address space themselves");
	EXPECT_EQ(new_under_limit(RLIMIT_AS, 0, &memory, MIB), -ENOMEM);
	EXPECT_EQ(memory.base, NULL);
	EXPECT_EQ(memory.fd, -1);
	EXPECT_EQ(count_fds(), fds);
}

/* Memory of a peer ------------------------------------------------------------------- */

static int copy_of(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

TEST_F(memory, both_mappings_show_the_same_bytes)
{
	struct memory peer;
	int fd = copy_of(self->memory.fd);

	ASSERT_EQ(memory_map(&peer, fd, MIB, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(peer.fd, fd);
	EXPECT_EQ(peer.size, MIB);
	EXPECT_NE(peer.base, self->memory.base);
	self->memory.base[MIB - 1] = 42;
	EXPECT_EQ(peer.base[MIB - 1], 42);
	peer.base[0] = 43;
	EXPECT_EQ(self->memory.base[0], 43);
	memory_free(&peer);
	EXPECT_FALSE(fd_is_open(fd));
}

TEST_F(memory, part_of_it_can_be_mapped)
{
	struct memory peer;

	ASSERT_EQ(memory_map(&peer, copy_of(self->memory.fd), MIB / 2, PROT_READ), 0);
	EXPECT_EQ(peer.size, MIB / 2);
	memory_free(&peer);
}

TEST_F(memory, mapping_for_reading_cannot_be_written)
{
	struct memory peer;
	pid_t child;

	ASSERT_EQ(memory_map(&peer, copy_of(self->memory.fd), MIB, PROT_READ), 0);
	/* A child would not even have it: so it maps for itself. */
	memory_free(&peer);
	child = fork_child();
	if (child == 0) {
		die_by_fault();
		REQUIRE(memory_map(&peer, copy_of(self->memory.fd), MIB, PROT_READ) == 0);
		REQUIRE(*(volatile uint8_t *)peer.base == 0);
		*(volatile uint8_t *)peer.base = 1;
		_exit(0);
	}
	EXPECT_EQ(wait_child(child), 128 + SIGSEGV);
	EXPECT_EQ(self->memory.base[0], 0);
}

/* Refused, and the descriptor stays the caller's. */
static void expect_refused(struct __test_metadata *_metadata, int fd, size_t size)
{
	struct memory memory = MEMORY_NONE;
	int maps = count_maps();

	ASSERT_GE(fd, 0);
	EXPECT_EQ(memory_map(&memory, fd, size, PROT_READ), -EBADMSG);
	EXPECT_EQ(memory.base, NULL);
	EXPECT_EQ(count_maps(), maps);
	EXPECT_TRUE(fd_is_open(fd));
	close(fd);
}

TEST_F(memory, less_memory_than_was_said_is_refused)
{
	expect_refused(_metadata, copy_of(self->memory.fd), MIB + 1);
	expect_refused(_metadata, copy_of(self->memory.fd), 2 * MIB);
	expect_refused(_metadata, copy_of(self->memory.fd), SIZE_MAX);
	expect_refused(_metadata, copy_of(self->memory.fd), 0);
}

TEST_F(memory, memory_that_could_shrink_is_refused)
{
	static const int seals[] = { 0, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_GROW | F_SEAL_WRITE };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(seals); i++) {
		int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

		ASSERT_EQ(ftruncate(fd, MIB), 0);
		ASSERT_EQ(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		expect_refused(_metadata, fd, MIB);
	}
	/* One that can never be sealed. */
	expect_refused(_metadata, memfd_create("test", MFD_CLOEXEC), MIB);
}

TEST_F(memory, what_is_no_memory_is_refused)
{
	int pipes[2];

	expect_refused(_metadata, open("/dev/zero", O_RDWR | O_CLOEXEC), MIB);
	expect_refused(_metadata, open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 4096);
	expect_refused(_metadata, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 4096);
	ASSERT_EQ(pipe(pipes), 0);
	expect_refused(_metadata, pipes[0], 4096);
	expect_refused(_metadata, pipes[1], 4096);
}

/* Read-only for others ------------------------------------------------------------------ */

TEST_F(memory, after_sealing_nobody_else_can_write)
{
	char path[64];
	void *base;
	int fd;

	ASSERT_EQ(memory_seal_writes(&self->memory), 0);
	base = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, self->memory.fd, 0);
	EXPECT_EQ(base, MAP_FAILED);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(pwrite(self->memory.fd, "x", 1, 0), -1);
	EXPECT_EQ(errno, EPERM);
	/* Nor by opening it anew. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->memory.fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		EXPECT_EQ(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
		close(fd);
	}
}

TEST_F(memory, after_sealing_a_reader_cannot_become_a_writer)
{
	void *base;

	ASSERT_EQ(memory_seal_writes(&self->memory), 0);
	base = mmap(NULL, MIB, PROT_READ, MAP_SHARED, self->memory.fd, 0);
	ASSERT_NE(base, MAP_FAILED);
	EXPECT_EQ(mprotect(base, MIB, PROT_READ | PROT_WRITE), -1);
	munmap(base, MIB);
}

TEST_F(memory, after_sealing_the_maker_still_writes_and_others_read)
{
	struct memory reader;

	ASSERT_EQ(memory_seal_writes(&self->memory), 0);
	ASSERT_EQ(memory_map(&reader, copy_of(self->memory.fd), MIB, PROT_READ), 0);
	self->memory.base[7] = 9;
	EXPECT_EQ(reader.base[7], 9);
	memory_free(&reader);
	EXPECT_EQ(memory_map(&reader, self->memory.fd, MIB, PROT_READ | PROT_WRITE), -EPERM);
}

TEST_HARNESS_MAIN
