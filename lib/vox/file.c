/* SPDX-License-Identifier: MIT */
/* vox/file.c - see file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "vox/device.h"

#define ALLOCATE_STEP (64ull << 20)
#define MIN_ALLOCATE_STEP (64ull << 10)

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * Allocates bytes, so that touching them cannot fail later. A signal may undo
 * a step (shmem does): steps get smaller, so that one ends between two
 * signals. A limit is looked at first, because exceeding it sends SIGXFSZ.
 */
static int allocate(int fd, uint64_t begin, uint64_t end)
{
	uint64_t step = ALLOCATE_STEP;
	struct rlimit limit;
	int ret;

	if (end > INT64_MAX ||
	    (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	     end > limit.rlim_cur))
		return -EFBIG;
	while (begin < end) {
		uint64_t length = end - begin < step ? end - begin : step;

		ret = posix_fallocate(fd, (off_t)begin, (off_t)length);
		if (ret == 0)
			begin += length;
		else if (ret != EINTR)
			return -ret;
		else if (step > MIN_ALLOCATE_STEP)
			step /= 2;
	}
	return 0;
}

static int create_named(struct vox_file *file, const char *path, mode_t mode)
{
	file->path = strdup(path);
	if (!file->path)
		return -ENOMEM;
	file->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (file->fd < 0)
		return -errno;
	file->owned = true;
	return fchmod(file->fd, mode) < 0 ? -errno : 0;
}

static int create_unnamed(struct vox_file *file)
{
	file->fd = memfd_create("voxshm-vox", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (file->fd < 0)
		return -errno;
	return fcntl(file->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int vox_file_create(struct vox_file *file, const char *path, mode_t mode, uint64_t size,
		    uint64_t max_size)
{
	int ret;

	*file = VOX_FILE_NONE;
	ret = path ? create_named(file, path, mode) : create_unnamed(file);
	if (!ret)
		ret = allocate(file->fd, 0, size);
	if (!ret)
		ret = vox_file_map(file, size, max_size);
	if (ret)
		vox_file_deinit(file);
	return ret;
}

/* Does the name still lead to our file, and not to somebody's newer one? */
static bool name_is_ours(const struct vox_file *file)
{
	struct stat named, opened;

	return lstat(file->path, &named) == 0 && fstat(file->fd, &opened) == 0 &&
	       named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

int vox_file_unlink(struct vox_file *file)
{
	if (file->owned && name_is_ours(file) && unlink(file->path) < 0)
		return -errno;
	file->owned = false;
	return 0;
}

int vox_file_open(struct vox_file *file, const char *path)
{
	*file = VOX_FILE_NONE;
	file->path = strdup(path);
	if (!file->path)
		return -ENOMEM;
	/* A FIFO must not block us before it is refused. */
	file->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (file->fd < 0) {
		int ret = -errno;

		vox_file_deinit(file);
		return ret;
	}
	return 0;
}

int vox_file_open_fd(struct vox_file *file, int fd)
{
	*file = VOX_FILE_NONE;
	file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return file->fd < 0 ? -errno : 0;
}

int64_t vox_file_length(const struct vox_file *file)
{
	struct stat status;

	if (fstat(file->fd, &status) < 0)
		return -errno;
	return S_ISREG(status.st_mode) ? status.st_size : -EINVAL;
}

int vox_file_map(struct vox_file *file, uint64_t size, uint64_t max_size)
{
	uint64_t reserved;
	void *base;

	if (size > max_size || max_size > INT64_MAX - page_size() || max_size > SIZE_MAX / 2)
		return -ENOMEM;
	reserved = align_up(max_size, page_size());
	base = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (base == MAP_FAILED)
		return -errno;
	file->base = base;
	file->reserved = reserved;
	return vox_file_map_more(file, size);
}

int vox_file_extend(struct vox_file *file, uint64_t size)
{
	uint64_t begin = align_up(file->size, page_size());
	uint64_t end = align_up(size, page_size());

	if (file->device < 0)
		return allocate(file->fd, file->size, size);
	return end > begin ? vox_device_add_pool(file, end - begin) : 0;
}

static int map_range(struct vox_file *file, uint64_t begin, uint64_t end)
{
	if (file->device >= 0)
		return vox_device_map_pool(file, begin, end - begin);
	if (mmap(file->base + begin, end - begin, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 file->fd, (off_t)begin) == MAP_FAILED)
		return -errno;
	return 0;
}

/* Only whole new pages are mapped: those in use are never touched. */
int vox_file_map_more(struct vox_file *file, uint64_t size)
{
	uint64_t begin = align_up(file->size, page_size());
	uint64_t end = align_up(size, page_size());
	int ret;

	if (end > file->reserved)
		return -EFBIG;
	ret = end > begin ? map_range(file, begin, end) : 0;
	if (ret == 0)
		file->size = size;
	return ret;
}

void vox_file_deinit(struct vox_file *file)
{
	vox_file_unlink(file);
	if (file->base)
		munmap(file->base, file->reserved);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	*file = VOX_FILE_NONE;
}
