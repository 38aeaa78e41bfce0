/* SPDX-License-Identifier: MIT */
/* memory.c - shared memory on the file backend: memfds; see memory.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "memory.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22	/* since Linux 5.14 */
#endif

/*
 * A window must not be inherited: a forked child that wrote a ring would
 * corrupt its parent's link.
 */
static int map_shared(struct memory *memory, int fd, size_t size, int protection, int flags)
{
	void *base = mmap(NULL, size, protection, MAP_SHARED | flags, fd, 0);

	if (base == MAP_FAILED)
		return errno == EACCES ? -EBADMSG : -errno;
	madvise(base, size, MADV_DONTFORK);
	madvise(base, size, MADV_DONTDUMP);
	*memory = (struct memory){ .base = base, .size = size, .fd = fd };
	return 0;
}

static int allocate(int fd, size_t size)
{
	int ret;

	do
		ret = posix_fallocate(fd, 0, (off_t)size);
	while (ret == EINTR);
	return -ret;
}

int memory_new(struct memory *memory, const char *name, size_t size)
{
	int fd, ret;

	*memory = MEMORY_NONE;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	ret = allocate(fd, size);
	if (ret)
		goto close_fd;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		ret = -errno;
		goto close_fd;
	}
	ret = map_shared(memory, fd, size, PROT_READ | PROT_WRITE, MAP_POPULATE);
	if (ret)
		goto close_fd;
	return 0;

close_fd:
	close(fd);
	return ret;
}

static int check_foreign(int fd, size_t size)
{
	struct statfs system;
	struct stat stat;
	int seals;

	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || size == 0)
		return -EBADMSG;
	if (fstat(fd, &stat) < 0 || fstatfs(fd, &system) < 0)
		return -errno;
	if (system.f_type != TMPFS_MAGIC || stat.st_size < 0 || (uint64_t)stat.st_size < size)
		return -EBADMSG;
	return 0;
}

int memory_map(struct memory *memory, int fd, size_t size, int protection)
{
	int ret = check_foreign(fd, size);

	return ret ? ret : map_shared(memory, fd, size, protection, MAP_POPULATE);
}

int memory_map_unread(struct memory *memory, int fd, size_t size)
{
	int ret = check_foreign(fd, size);

	if (ret == 0)
		ret = map_shared(memory, fd, size, PROT_READ, 0);
	if (ret == 0)
		memory->fd = -1;
	return ret;
}

void memory_populate(const struct memory *memory, size_t offset, size_t size)
{
	size_t before = offset % (size_t)sysconf(_SC_PAGESIZE);

	madvise(memory->base + offset - before, size + before, MADV_POPULATE_READ);
}

int memory_seal_writes(const struct memory *memory)
{
	return fcntl(memory->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 ? -errno : 0;
}

void memory_free(struct memory *memory)
{
	if (memory->base)
		munmap(memory->base, memory->size);
	if (memory->fd >= 0)
		close(memory->fd);
	*memory = MEMORY_NONE;
}
