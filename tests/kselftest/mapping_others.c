/* SPDX-License-Identifier: MIT */
/*
 * mapping_others.c - no way around a mapping's rights from beside it: other
 * processes' writes, /proc, pipes, userfaultfd, links of other guests, earlier and later
 * lives.
 */
#include <linux/userfaultfd.h>
#include <sys/ptrace.h>

#include "processes.h"

FIXTURE(beside) {
	struct pair pair;
	char *main;		/* the guest's: read-only */
	char *object;		/* the host's, mapped by the guest: read-only */
	char *main_writer;
	char *object_writer;
};

FIXTURE_SETUP(beside)
{
	const size_t page = page_size();

	pair_new(&self->pair);
	ASSERT_EQ(0, object_create(self->pair.link.host, 0, page));
	self->main = map_object(self->pair.link.guest, VOXSHM_OBJECT_MAIN, page, PROT_READ);
	self->object = map_object(self->pair.link.guest, VOXSHM_OBJECT_HOST, page, PROT_READ);
	self->main_writer = map_object(self->pair.segment, VOXSHM_OBJECT_MAIN, page,
				       PROT_READ | PROT_WRITE);
	self->object_writer = map_object(self->pair.link.host, VOXSHM_OBJECT_HOST, page,
					 PROT_READ | PROT_WRITE);
	ASSERT_TRUE(self->main && self->object && self->main_writer && self->object_writer);
	strcpy(self->main_writer, "main");
	strcpy(self->object_writer, "object");
}

FIXTURE_TEARDOWN(beside)
{
	EXPECT_STREQ("main", self->main_writer);
	EXPECT_STREQ("object", self->object_writer);
	EXPECT_STREQ("main", self->main);
	EXPECT_STREQ("object", self->object);
	pair_free(&self->pair);
}

/* What another process does to this one's read-only mappings. */
struct attack {
	pid_t pid;
	char *addresses[2];
};

static int write_by_process_vm(int socket, void *argument)
{
	struct attack *attack = argument;
	char word[] = "XXXX";
	size_t i;

	for (i = 0; i < 2; i++) {
		struct iovec local = { word, 4 }, remote = { attack->addresses[i], 4 };

		REQUIRE_EQ(-1, process_vm_writev(attack->pid, &local, 1, &remote, 1, 0));
	}
	return 0;
}

static int write_by_ptrace(int socket, void *argument)
{
	struct attack *attack = argument;
	int status;
	size_t i;

	REQUIRE_EQ(0, ptrace(PTRACE_ATTACH, attack->pid, NULL, NULL));
	REQUIRE_EQ(attack->pid, waitpid(attack->pid, &status, __WALL));
	for (i = 0; i < 2; i++)
		REQUIRE_EQ(-1, ptrace(PTRACE_POKEDATA, attack->pid, attack->addresses[i],
				      (void *)0x5858585858585858));
	REQUIRE_EQ(0, ptrace(PTRACE_DETACH, attack->pid, NULL, NULL));
	return 0;
}

static int write_by_proc_mem(int socket, void *argument)
{
	struct attack *attack = argument;
	char path[64];
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)attack->pid);
	fd = open(path, O_RDWR);
	REQUIRE(fd >= 0);
	for (i = 0; i < 2; i++)
		REQUIRE_EQ(-1, pwrite(fd, "XXXX", 4, (off_t)(uintptr_t)attack->addresses[i]));
	return 0;
}

#define ATTACK_BY(run) do {								\
	struct attack attack_ = { getpid(), { self->main, self->object } };		\
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);					\
	EXPECT_EQ(0, in_child(run, &attack_));						\
} while (0)

TEST_F_TIMEOUT(beside, process_vm_writev_is_refused, 60)
{
	ATTACK_BY(write_by_process_vm);
}

TEST_F_TIMEOUT(beside, ptrace_is_refused, 60)
{
	ATTACK_BY(write_by_ptrace);
}

TEST_F_TIMEOUT(beside, proc_mem_is_refused, 60)
{
	ATTACK_BY(write_by_proc_mem);
}

/* Opening a descriptor or a mapping again gives nothing that could be mapped. */
TEST_F_TIMEOUT(beside, opening_again_is_no_way_in, 60)
{
	const size_t page = page_size();
	char paths[5][96];
	size_t i;
	int fd;

	snprintf(paths[0], 96, "/proc/self/map_files/%lx-%lx", (unsigned long)self->main,
		 (unsigned long)self->main + page);
	snprintf(paths[1], 96, "/proc/self/map_files/%lx-%lx", (unsigned long)self->object,
		 (unsigned long)self->object + page);
	snprintf(paths[2], 96, "/proc/self/fd/%d", self->pair.segment);
	snprintf(paths[3], 96, "/proc/self/fd/%d", self->pair.link.host);
	snprintf(paths[4], 96, "/proc/self/fd/%d", self->pair.link.guest);
	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		struct stat status;

		/* The name is there, or this test proves nothing. */
		ASSERT_EQ(0, lstat(paths[i], &status))
			TH_LOG("%s", paths[i]);
		fd = open(paths[i], O_RDWR);
		if (fd < 0)
			continue;
		EXPECT_GT(0, map_error(fd, VOXSHM_OFFSET(VOXSHM_OBJECT_MAIN), page,
				       PROT_READ | PROT_WRITE, MAP_SHARED));
		EXPECT_GT(0, map_error(fd, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST), page,
				       PROT_READ | PROT_WRITE, MAP_SHARED));
		EXPECT_GT(0, pwrite(fd, "XXXX", 4, 0));
		close(fd);
	}
}

TEST_F_TIMEOUT(beside, system_calls_do_not_write_into_it, 60)
{
	char *maps[] = { self->main, self->object };
	struct iovec there;
	int pipes[2];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		EXPECT_EQ(SIGSEGV, touches(maps[i], true));
		ASSERT_EQ(0, pipe(pipes));
		ASSERT_EQ(4, write(pipes[1], "XXXX", 4));
		there = (struct iovec){ maps[i], 4 };
		EXPECT_EQ(-1, vmsplice(pipes[0], &there, 1, 0));
		close(pipes[0]);
		close(pipes[1]);
		EXPECT_EQ(-1, syscall(SYS_getrandom, maps[i], 4, 0));
	}
}

/* A page in a pipe is that page: what is done to the pipe must not write to it. */
TEST_F_TIMEOUT(beside, vmsplice_gives_no_writing, 60)
{
	struct iovec shared = { self->object, page_size() };
	char word[16] = { 0 };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	if (vmsplice(pipes[1], &shared, 1, SPLICE_F_GIFT) < 0) {
		EXPECT_EQ(EFAULT, errno);
		return;
	}
	EXPECT_EQ(4, write(pipes[1], "XXXX", 4));
	EXPECT_EQ(sizeof(word), read(pipes[0], word, sizeof(word)));
	EXPECT_STREQ("object", word);
}

/* Pages that a pipe still holds are nobody else's, whatever has become of the object. */
TEST_F_TIMEOUT(beside, pages_in_a_pipe_are_not_used_again, 60)
{
	const size_t page = page_size();
	struct link link = link_new(self->pair.segment), later;
	struct iovec shared;
	char *window, *seen;
	int pipes[2], i;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, claim_with(link.guest, self->pair.guest_bell, NULL));
	window = map_object(link.guest, VOXSHM_OBJECT_WINDOW, 2 * page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, window);
	memset(window, 'A', 2 * page);
	shared = (struct iovec){ window, 2 * page };
	i = vmsplice(pipes[1], &shared, 1, SPLICE_F_GIFT);
	if (i < 0) {
		EXPECT_EQ(EFAULT, errno);
		return;
	}
	ASSERT_EQ(2 * page, i);
	munmap(window, 2 * page);
	link_close(&link);
	for (i = 0; i < 50; i++) {
		later = link_new(self->pair.segment);
		ASSERT_EQ(0, claim_with(later.guest, self->pair.guest_bell, NULL));
		window = map_object(later.host, VOXSHM_OBJECT_WINDOW, 4 * page,
				    PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, window);
		memset(window, 'B', 4 * page);
		munmap(window, 4 * page);
		link_close(&later);
	}
	seen = malloc(2 * page);
	ASSERT_EQ(2 * page, read(pipes[0], seen, 2 * page));
	EXPECT_NE(NULL, seen);
	EXPECT_EQ(NULL, memchr(seen, 'B', 2 * page));
	free(seen);
}

/* Whoever touches it waits for nobody: it cannot be registered with userfaultfd. */
TEST_F_TIMEOUT(beside, userfaultfd_cannot_have_it, 60)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .range = { (uintptr_t)self->object_writer, page_size() },
					.mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no userfaultfd here");
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &area));
	area.mode = UFFDIO_REGISTER_MODE_WP;
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &area));
	close(fd);
}

/* Others' ----------------------------------------------------------------------- */

TEST_F_TIMEOUT(beside, another_links_memory_is_out_of_reach, 60)
{
	const size_t page = page_size();
	struct link other = link_new(self->pair.segment);
	char *mine, *theirs;
	uint32_t id;

	ASSERT_EQ(0, claim_with(other.guest, self->pair.guest_bell, NULL));
	ASSERT_EQ(0, object_create(self->pair.link.guest, 1, page));
	mine = map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page,
			  PROT_READ | PROT_WRITE);
	theirs = map_object(other.guest, VOXSHM_OBJECT_WINDOW, page, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(mine && theirs);
	strcpy(mine, "mine");
	EXPECT_STREQ("", theirs);
	strcpy(theirs, "theirs");
	EXPECT_STREQ("mine", mine);
	/* All that the other guest can map is main and its own window. */
	for (id = VOXSHM_OBJECT_POOL; id < VOXSHM_OBJECT_GUEST + VOXSHM_OBJECTS_MAX; id++)
		EXPECT_EQ(-ENXIO, map_error(other.guest, VOXSHM_OFFSET(id), page, PROT_READ,
					    MAP_SHARED));
	link_close(&other);
}

TEST_F_TIMEOUT(beside, each_life_has_a_fresh_window, 60)
{
	const size_t size = create_default().window_size;
	char *host, *guest, *old = NULL;
	struct link link;
	size_t i;
	int life;

	for (life = 0; life < 5; life++) {
		char sum = 0;

		ASSERT_EQ(0, link_at(self->pair.segment, 7, &link));
		ASSERT_EQ(0, claim_with(link.guest, self->pair.guest_bell, NULL));
		host = map_object(link.host, VOXSHM_OBJECT_WINDOW, size, PROT_READ | PROT_WRITE);
		guest = map_object(link.guest, VOXSHM_OBJECT_WINDOW, size, PROT_READ | PROT_WRITE);
		ASSERT_TRUE(host && guest);
		for (i = 0; i < size; i++)
			sum |= guest[i];
		EXPECT_EQ(0, sum);
		memset(guest, 'a' + life, size);
		/* A mapping of the life before shows that life only. */
		if (old)
			EXPECT_EQ('a' + life - 1, old[size - 1]);
		old = host;
		EXPECT_EQ(0, detach(link.guest));
		link_close(&link);
	}
}

/* What the host wrote before CLAIM is what the guest finds. */
TEST_F_TIMEOUT(beside, the_host_may_write_before_the_claim, 60)
{
	const size_t page = page_size(), size = create_default().window_size;
	struct link link = link_new(self->pair.segment);
	char *host = map_object(link.host, VOXSHM_OBJECT_WINDOW, size, PROT_READ | PROT_WRITE);
	char *guest;

	ASSERT_NE(NULL, host);
	strcpy(host + page, "before");
	ASSERT_EQ(0, claim_with(link.guest, self->pair.guest_bell, NULL));
	guest = map_object(link.guest, VOXSHM_OBJECT_WINDOW, size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, guest);
	EXPECT_STREQ("before", guest + page);
	EXPECT_STREQ("", guest);
	strcpy(guest + 2 * page, "after");
	EXPECT_STREQ("after", host + 2 * page);
	strcpy(host + 3 * page, "host");
	EXPECT_STREQ("host", guest + 3 * page);
	link_close(&link);
}

VOXSHM_TEST_MAIN
