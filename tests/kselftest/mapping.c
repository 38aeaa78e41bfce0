/* SPDX-License-Identifier: MIT */
/*
 * mapping.c - what can be mapped, by whom, and that no memory call undoes it:
 * every kind of object through every descriptor that offers it.
 */
#include "processes.h"

#define PAGES	4

FIXTURE(mapping) {
	struct pair pair;
};

FIXTURE_SETUP(mapping)
{
	pair_new(&self->pair);
	ASSERT_EQ(0, object_create(self->pair.link.host, 0, PAGES * page_size()));
	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, PAGES * page_size()));
	ASSERT_EQ(0, grow(self->pair.segment, PAGES * page_size(), NULL));
	/* The last unmapping of a window would end the link. */
	ASSERT_NE(NULL, map_object(self->pair.link.host, VOXSHM_OBJECT_WINDOW, page_size(),
				   PROT_READ));
	ASSERT_NE(NULL, map_object(self->pair.link.guest, VOXSHM_OBJECT_WINDOW, page_size(),
				   PROT_READ));
}

FIXTURE_TEARDOWN(mapping)
{
	pair_free(&self->pair);
}

#define MAPPING struct __test_metadata *_metadata, FIXTURE_DATA(mapping) *self

enum by { BY_SEGMENT, BY_HOST, BY_GUEST };

static const struct view {
	const char *name;
	enum by by;
	uint32_t id;
	bool writable;
} views[] = {
	{ "main, segment", BY_SEGMENT, VOXSHM_OBJECT_MAIN, true },
	{ "main, host end", BY_HOST, VOXSHM_OBJECT_MAIN, true },
	{ "main, guest end", BY_GUEST, VOXSHM_OBJECT_MAIN, false },
	{ "window, host end", BY_HOST, VOXSHM_OBJECT_WINDOW, true },
	{ "window, guest end", BY_GUEST, VOXSHM_OBJECT_WINDOW, true },
	{ "pool, segment", BY_SEGMENT, VOXSHM_OBJECT_POOL, true },
	{ "pool, host end", BY_HOST, VOXSHM_OBJECT_POOL, true },
	{ "pool, guest end", BY_GUEST, VOXSHM_OBJECT_POOL, true },
	{ "host's object, host end", BY_HOST, VOXSHM_OBJECT_HOST, true },
	{ "host's object, guest end", BY_GUEST, VOXSHM_OBJECT_HOST, false },
	{ "guest's object, guest end", BY_GUEST, VOXSHM_OBJECT_GUEST, true },
	{ "guest's object, host end", BY_HOST, VOXSHM_OBJECT_GUEST, false },
};

#define EACH_VIEW(each) \
	(const struct view *each = views; each < views + ARRAY_SIZE(views); each++)

static int fd_of(const struct pair *pair, const struct view *view)
{
	return view->by == BY_SEGMENT ? pair->segment :
	       view->by == BY_HOST ? pair->link.host : pair->link.guest;
}

/* All of it, with the rights that the caller has. */
static char *map_view(const struct pair *pair, const struct view *view)
{
	char *map = map_object(fd_of(pair, view), view->id, PAGES * page_size(),
			       PROT_READ | (view->writable ? PROT_WRITE : 0));

	REQUIRE(map);
	return map;
}

/* The view through which the same object is written. */
static char *map_writable(const struct pair *pair, const struct view *view)
{
	const struct view *other;

	for (other = views; other->id != view->id || !other->writable; other++)
		;
	return map_view(pair, other);
}

static void unmap(char *map)
{
	REQUIRE_EQ(0, munmap(map, PAGES * page_size()));
}

/* Byte b at the start of page p is 'a' + p + salt. */
static void mark(char *map, char salt)
{
	size_t page;

	for (page = 0; page < PAGES; page++)
		map[page * page_size()] = 'a' + page + salt;
}

static bool marked(const char *map, char salt)
{
	size_t page;

	for (page = 0; page < PAGES; page++)
		if (map[page * page_size()] != (char)('a' + page + salt))
			return false;
	return true;
}

TEST_F_TIMEOUT(mapping, fresh_memory_is_zero, 60)
{
	size_t i;

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view);
		char sum = 0;

		for (i = 0; i < PAGES * page_size(); i++)
			sum |= map[i];
		EXPECT_EQ(0, sum)
			TH_LOG("%s", view->name);
		unmap(map);
	}
}

TEST_F_TIMEOUT(mapping, both_ends_see_the_same_bytes, 60)
{
	char salt = 0;

	for EACH_VIEW(writer) {
		if (!writer->writable)
			continue;
		for EACH_VIEW(reader) {
			char *from, *to;

			if (reader->id != writer->id)
				continue;
			from = map_view(&self->pair, writer);
			to = map_view(&self->pair, reader);
			mark(from, ++salt);
			EXPECT_TRUE(marked(to, salt))
				TH_LOG("%s -> %s", writer->name, reader->name);
			unmap(from);
			unmap(to);
		}
	}
}

TEST_F_TIMEOUT(mapping, objects_are_apart, 60)
{
	char *maps[ARRAY_SIZE(views)];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(views); i++) {
		maps[i] = map_view(&self->pair, &views[i]);
		if (views[i].writable)
			mark(maps[i], views[i].id % 100);
	}
	for (i = 0; i < ARRAY_SIZE(views); i++) {
		EXPECT_TRUE(marked(maps[i], views[i].id % 100))
			TH_LOG("%s", views[i].name);
	}
}

TEST_F_TIMEOUT(mapping, shared_only, 60)
{
	for EACH_VIEW(view) {
		int fd = fd_of(&self->pair, view);

		EXPECT_EQ(-EINVAL, map_error(fd, VOXSHM_OFFSET(view->id), page_size(), PROT_READ,
					     MAP_PRIVATE));
		EXPECT_EQ(-EINVAL, map_error(fd, VOXSHM_OFFSET(view->id), page_size(), PROT_NONE,
					     MAP_PRIVATE));
		EXPECT_EQ(-EINVAL, map_error(fd, VOXSHM_OFFSET(view->id), page_size(),
					     PROT_READ | PROT_WRITE, MAP_PRIVATE));
	}
}

TEST_F_TIMEOUT(mapping, never_executable, 60)
{
	for EACH_VIEW(view) {
		int fd = fd_of(&self->pair, view);
		char *map = map_view(&self->pair, view);
		void *none = map_object(fd, view->id, page_size(), PROT_NONE);

		EXPECT_EQ(-EPERM, map_error(fd, VOXSHM_OFFSET(view->id), page_size(),
					    PROT_READ | PROT_EXEC, MAP_SHARED));
		EXPECT_EQ(-EPERM, map_error(fd, VOXSHM_OFFSET(view->id), page_size(), PROT_EXEC,
					    MAP_SHARED));
		EXPECT_EQ(-1, mprotect(map, page_size(), PROT_READ | PROT_EXEC));
		EXPECT_EQ(EACCES, errno);
		ASSERT_NE(NULL, none);
		EXPECT_EQ(-1, mprotect(none, page_size(), PROT_EXEC));
		EXPECT_EQ(EACCES, errno);
		munmap(none, page_size());
		unmap(map);
	}
}

/* As /proc/self/maps has it. */
static bool is_executable(const void *map)
{
	static char text[65536];
	char key[32], *line;

	REQUIRE(read_text("/proc/self/maps", text, sizeof(text)) > 0);
	snprintf(key, sizeof(key), "%lx-", (unsigned long)map);
	line = strstr(text, key);
	REQUIRE(line);
	line = strchr(line, ' ');
	return line[3] == 'x';
}

/* With that personality the kernel itself adds PROT_EXEC, where it still does. */
TEST_F_TIMEOUT(mapping, never_executable_for_read_implies_exec, 60)
{
	const long before = syscall(SYS_personality, 0xffffffff), read_implies_exec = 0x0400000;

	ASSERT_GE(syscall(SYS_personality, before | read_implies_exec), 0);
	for EACH_VIEW(view) {
		char *map = map_object(fd_of(&self->pair, view), view->id, page_size(), PROT_READ);

		if (!map) {
			EXPECT_EQ(EPERM, errno);
			continue;
		}
		EXPECT_FALSE(is_executable(map))
			TH_LOG("%s", view->name);
	}
	ASSERT_GE(syscall(SYS_personality, before), 0);
}

TEST_F_TIMEOUT(mapping, read_only_is_read_only, 60)
{
	for EACH_VIEW(view) {
		int fd = fd_of(&self->pair, view);
		char *map, *writer;
		void *none;

		if (view->writable)
			continue;
		EXPECT_EQ(-EACCES, map_error(fd, VOXSHM_OFFSET(view->id), page_size(),
					     PROT_READ | PROT_WRITE, MAP_SHARED));
		EXPECT_EQ(-EACCES, map_error(fd, VOXSHM_OFFSET(view->id), page_size(), PROT_WRITE,
					     MAP_SHARED));
		map = map_view(&self->pair, view);
		writer = map_writable(&self->pair, view);
		mark(writer, 1);
		EXPECT_EQ(-1, mprotect(map, page_size(), PROT_READ | PROT_WRITE));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(SIGSEGV, touches(map, true));
		none = map_object(fd, view->id, page_size(), PROT_NONE);
		ASSERT_NE(NULL, none);
		EXPECT_EQ(-1, mprotect(none, page_size(), PROT_WRITE));
		EXPECT_EQ(0, mprotect(none, page_size(), PROT_READ));
		EXPECT_EQ(0, touches(none, false));
		EXPECT_TRUE(marked(map, 1));
		munmap(none, page_size());
		unmap(map);
		unmap(writer);
	}
}

/* Offsets ---------------------------------------------------------------------- */

TEST_F_TIMEOUT(mapping, the_edges_of_an_object, 60)
{
	const size_t page = page_size();

	for EACH_VIEW(view) {
		const uint64_t start = VOXSHM_OFFSET(view->id), end = start + PAGES * page;
		int fd = fd_of(&self->pair, view);

		EXPECT_EQ(0, map_error(fd, start, PAGES * page, PROT_READ, MAP_SHARED));
		EXPECT_EQ(0, map_error(fd, end - page, page, PROT_READ, MAP_SHARED));
		EXPECT_EQ(0, map_error(fd, start, 1, PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, end, page, PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, end - page, 2 * page, PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start, PAGES * page + 1, PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start, VOXSHM_SIZE_MAX, PROT_NONE, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start, VOXSHM_SIZE_MAX + page, PROT_NONE,
					     MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start + VOXSHM_SIZE_MAX - page, page, PROT_READ,
					     MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start + VOXSHM_SIZE_MAX - page, 2 * page,
					     PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start + 1, page, PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, map_error(fd, start + page / 2, page, PROT_READ, MAP_SHARED));
	}
}

TEST_F_TIMEOUT(mapping, objects_that_do_not_exist, 60)
{
	const uint32_t nowhere[] = { VOXSHM_OBJECT_POOL + 1,
				     VOXSHM_OBJECT_POOL + VOXSHM_POOLS_MAX - 1,
				     VOXSHM_OBJECT_POOL + VOXSHM_POOLS_MAX, 500, 1023,
				     VOXSHM_OBJECT_HOST + 1, VOXSHM_OBJECT_GUEST - 1,
				     VOXSHM_OBJECT_GUEST + 1, 3071, 3072, 65536, 0x7fffffff };
	const int fds[] = { self->pair.segment, self->pair.link.host, self->pair.link.guest };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		for (j = 0; j < ARRAY_SIZE(nowhere); j++) {
			EXPECT_EQ(-ENXIO, map_error(fds[i], VOXSHM_OFFSET(nowhere[j]), page_size(),
						    PROT_READ, MAP_SHARED))
				TH_LOG("descriptor %zu, object %u", i, nowhere[j]);
		}
	}
	/* Those of a link are not the segment's. */
	EXPECT_EQ(-ENXIO, map_error(self->pair.segment, VOXSHM_OFFSET(VOXSHM_OBJECT_WINDOW),
				    page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(-ENXIO, map_error(self->pair.segment, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST),
				    page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(-ENXIO, map_error(self->pair.segment, VOXSHM_OFFSET(VOXSHM_OBJECT_GUEST),
				    page_size(), PROT_READ, MAP_SHARED));
}

TEST_F_TIMEOUT(mapping, offsets_that_overflow, 60)
{
	const size_t page = page_size();
	const uint64_t offsets[] = { INT64_MAX - page + 1, 1ull << 63, UINT64_MAX - page + 1,
				     VOXSHM_OFFSET(0xffffffff), VOXSHM_OFFSET(0x80000000) };
	const int fds[] = { self->pair.segment, self->pair.link.host, self->pair.link.guest };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		for (j = 0; j < ARRAY_SIZE(offsets); j++) {
			EXPECT_GT(0, map_error(fds[i], offsets[j], page, PROT_READ, MAP_SHARED));
			EXPECT_GT(0, map_error(fds[i], offsets[j], 2 * page, PROT_READ,
					       MAP_SHARED));
			EXPECT_GT(0, map_error(fds[i], offsets[j], 1ull << 46, PROT_READ,
					       MAP_SHARED));
		}
	}
}

TEST_F_TIMEOUT(mapping, a_device_without_segment_maps_nothing, 60)
{
	int device = device_open(O_RDWR);

	ASSERT_GE(device, 0);
	EXPECT_GT(0, map_error(device, 0, page_size(), PROT_READ, MAP_SHARED));
	EXPECT_GT(0, map_error(device, 0, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE));
	close(device);
}

/* Memory calls ----------------------------------------------------------------- */

/* What a call answers does not matter; the bytes stay as they are, for both. */
static void bytes_stay(MAPPING, const struct view *view, char *map, const char *what)
{
	char *again = map_view(&self->pair, view), *writer = map_writable(&self->pair, view);

	EXPECT_TRUE(marked(map, 2))
		TH_LOG("%s: %s", view->name, what);
	EXPECT_TRUE(marked(again, 2))
		TH_LOG("%s: %s, mapped again", view->name, what);
	EXPECT_TRUE(marked(writer, 2))
		TH_LOG("%s: %s, the writer's", view->name, what);
	/* And they are still shared. */
	mark(writer, 3);
	EXPECT_TRUE(marked(map, 3))
		TH_LOG("%s: %s, shared no more", view->name, what);
	mark(writer, 2);
	unmap(again);
	unmap(writer);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

TEST_F_TIMEOUT(mapping, madvise_takes_nothing_away, 120)
{
	static const struct { int advice; const char *name; bool refused; } advices[] = {
		{ MADV_REMOVE, "MADV_REMOVE", true },
		{ MADV_DONTNEED, "MADV_DONTNEED", false },
		{ MADV_FREE, "MADV_FREE", true },
		{ MADV_COLD, "MADV_COLD", false },
		{ MADV_PAGEOUT, "MADV_PAGEOUT", false },
		{ MADV_MERGEABLE, "MADV_MERGEABLE", false },
		{ MADV_HUGEPAGE, "MADV_HUGEPAGE", false },
		{ MADV_WIPEONFORK, "MADV_WIPEONFORK", true },
		{ MADV_DOFORK, "MADV_DOFORK", true },
		{ MADV_DODUMP, "MADV_DODUMP", true },
		{ MADV_POPULATE_READ, "MADV_POPULATE_READ", false },
	};
	size_t i;

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view), *writer;

		writer = map_writable(&self->pair, view);
		mark(writer, 2);
		unmap(writer);
		for (i = 0; i < ARRAY_SIZE(advices); i++) {
			int ret = madvise(map, PAGES * page_size(), advices[i].advice);

			EXPECT_TRUE(!advices[i].refused || ret == -1)
				TH_LOG("%s: %s", view->name, advices[i].name);
			bytes_stay(_metadata, self, view, map, advices[i].name);
		}
		if (!view->writable)
			EXPECT_EQ(-1, madvise(map, page_size(), MADV_POPULATE_WRITE));
		EXPECT_EQ(SIGSEGV, fork_touches(map, false))
			TH_LOG("%s: a child inherited it", view->name);
		unmap(map);
	}
}

TEST_F_TIMEOUT(mapping, a_forked_child_has_none, 60)
{
	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view);

		EXPECT_EQ(0, touches(map, false));
		EXPECT_EQ(SIGSEGV, fork_touches(map, false));
		EXPECT_EQ(SIGSEGV, fork_touches(map, true));
		unmap(map);
	}
}

TEST_F_TIMEOUT(mapping, mremap_cannot_grow, 60)
{
	const size_t page = page_size();

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view);

		mark(map_writable(&self->pair, view), 2);
		EXPECT_EQ(MAP_FAILED, mremap(map, PAGES * page, (PAGES + 1) * page, 0));
		EXPECT_EQ(MAP_FAILED, mremap(map, PAGES * page, (PAGES + 1) * page,
					     MREMAP_MAYMOVE));
		EXPECT_EQ(MAP_FAILED, mremap(map, PAGES * page, 1000 * page, MREMAP_MAYMOVE));
		EXPECT_EQ(MAP_FAILED, mremap(map + page, (PAGES - 1) * page, PAGES * page,
					     MREMAP_MAYMOVE));
		EXPECT_EQ(MAP_FAILED, mremap(map + 3 * page, 0, 2 * page, MREMAP_MAYMOVE));
		bytes_stay(_metadata, self, view, map, "mremap");
		/* Shrunk, it cannot grow again either. */
		EXPECT_EQ(map, mremap(map, PAGES * page, page, 0));
		EXPECT_EQ(MAP_FAILED, mremap(map, page, 2 * page, MREMAP_MAYMOVE));
		munmap(map, page);
	}
}

TEST_F_TIMEOUT(mapping, mremap_moves_the_same_object, 60)
{
	const size_t page = page_size();

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view), *moved, *copy;
		char *place = mmap(NULL, PAGES * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				   0);

		mark(map_writable(&self->pair, view), 2);
		moved = mremap(map, PAGES * page, PAGES * page, MREMAP_MAYMOVE | MREMAP_FIXED,
			       place);
		ASSERT_EQ(place, moved);
		bytes_stay(_metadata, self, view, moved, "moved");
		EXPECT_EQ(SIGSEGV, touches(map, false));
		if (!view->writable) {
			EXPECT_EQ(SIGSEGV, touches(moved, true));
			EXPECT_EQ(-1, mprotect(moved, page, PROT_READ | PROT_WRITE));
		}
		EXPECT_EQ(SIGSEGV, fork_touches(moved, false));
		/* An old length of 0 asks for a copy of the mapping. */
		copy = mremap(moved, 0, PAGES * page, MREMAP_MAYMOVE);
		if (copy != MAP_FAILED) {
			bytes_stay(_metadata, self, view, copy, "copied");
			if (!view->writable)
				EXPECT_EQ(-1, mprotect(copy, page, PROT_READ | PROT_WRITE));
			EXPECT_EQ(SIGSEGV, fork_touches(copy, false));
		}
	}
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.guest));
}

TEST_F_TIMEOUT(mapping, unmapping_and_protecting_parts, 60)
{
	const size_t page = page_size();

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view);

		mark(map_writable(&self->pair, view), 2);
		EXPECT_EQ(0, mprotect(map + page, page, PROT_NONE));
		EXPECT_EQ(0, munmap(map + 2 * page, page));
		EXPECT_EQ('a' + 2, map[0]);
		EXPECT_EQ('a' + 3 + 2, map[3 * page]);
		EXPECT_EQ(SIGSEGV, touches(map + page, false));
		EXPECT_EQ(SIGSEGV, touches(map + 2 * page, false));
		EXPECT_EQ(0, mprotect(map + page, page, PROT_READ));
		EXPECT_EQ('a' + 1 + 2, map[page]);
	}
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
}

/*
 * remap_file_pages(): at most another page of what the caller may map anyway, with
 * the rights it has there. Each page tells its object and its number.
 */
TEST_F_TIMEOUT(mapping, remap_file_pages_reaches_nothing_else, 120)
{
	const size_t page = page_size();
	size_t i, from, to;

	for (i = 0; i < ARRAY_SIZE(views); i++)
		if (views[i].writable)
			mark(map_view(&self->pair, &views[i]), views[i].id % 100);
	for EACH_VIEW(view) {
		int fd = fd_of(&self->pair, view);

		for EACH_VIEW(target) {
			for (from = 0; from < 2; from++) {
				for (to = 0; to < PAGES + 1; to++) {
					uint64_t offset = VOXSHM_OFFSET(target->id) + to * page;
					char *map = map_view(&self->pair, view);
					char old = map[from * page], now;
					char *plain;
					int ret = syscall(SYS_remap_file_pages, map + from * page,
							  page, 0, offset / page, 0);

					if (ret < 0) {
						/* The old page, or the kernel has unmapped it. */
						if (touches(map + from * page, false) == 0)
							EXPECT_EQ(old, map[from * page]);
						unmap(map);
						continue;
					}
					now = map[from * page];
					plain = mmap(NULL, page,
						     PROT_READ | (view->writable ? PROT_WRITE : 0),
						     MAP_SHARED, fd, offset);
					EXPECT_NE(MAP_FAILED, plain)
						TH_LOG("%s reached %s", view->name, target->name);
					if (plain != MAP_FAILED) {
						EXPECT_EQ(*plain, now);
						munmap(plain, page);
					}
					if (!view->writable)
						EXPECT_EQ(SIGSEGV, touches(map + from * page,
									   true));
					unmap(map);
				}
			}
		}
	}
}

/* A mapping that begins in the middle of its object, which is where vm_pgoff counts. */
TEST_F_TIMEOUT(mapping, remap_file_pages_from_the_middle, 60)
{
	const size_t page = page_size();

	for EACH_VIEW(view) {
		int fd = fd_of(&self->pair, view);
		uint64_t id_page = VOXSHM_OFFSET(view->id) / page;
		size_t to;

		mark(map_writable(&self->pair, view), 2);
		for (to = 0; to < PAGES; to++) {
			char *map = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd,
					 VOXSHM_OFFSET(view->id) + 2 * page);

			ASSERT_NE(MAP_FAILED, map);
			if (syscall(SYS_remap_file_pages, map, page, 0, to, 0) == 0) {
				/* An offset without id is the main object's. */
				char *plain = mmap(NULL, page, PROT_READ, MAP_SHARED, fd,
						   to * page);

				ASSERT_NE(MAP_FAILED, plain);
				EXPECT_EQ(*plain, map[0]);
				munmap(plain, page);
			}
			if (!syscall(SYS_remap_file_pages, map + page, page, 0, id_page + to, 0))
				EXPECT_EQ((char)('a' + to + 2), map[page]);
			munmap(map, 2 * page);
		}
	}
}

TEST_F_TIMEOUT(mapping, other_memory_calls, 60)
{
	const size_t page = page_size();
	unsigned char seen[PAGES];

	for EACH_VIEW(view) {
		char *map = map_view(&self->pair, view);

		mark(map_writable(&self->pair, view), 2);
		msync(map, PAGES * page, MS_SYNC | MS_INVALIDATE);
		mincore(map, PAGES * page, seen);
		mlock(map, PAGES * page);
		munlock(map, PAGES * page);
		mprotect(map, PAGES * page, PROT_NONE);
		EXPECT_EQ(0, mprotect(map, PAGES * page, PROT_READ));
		bytes_stay(_metadata, self, view, map, "msync, mlock, mprotect");
	}
}

VOXSHM_TEST_MAIN
