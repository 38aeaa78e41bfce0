/* SPDX-License-Identifier: MIT */
/*
 * hostile.c - a guest that writes all it can map, calls everything with garbage,
 * and never ends properly: the host and another guest of the same segment work
 * on, with the right bytes.
 */
#include "processes.h"

#define MAIN_SEED	1000

FIXTURE(hostile) {
	int segment;
	struct link good, bad;
	int good_bell, bad_bell;
	struct child good_guest;
	char *main, *window;	/* the host's, of the good guest's */
	uint32_t round;
};

static void fill(char *area, size_t size, uint32_t seed)
{
	size_t i;

	for (i = 0; i < size; i++)
		area[i] = (char)(seed * 31 + i * 7 + (i >> 8));
}

static bool filled(const char *area, size_t size, uint32_t seed)
{
	size_t i;

	for (i = 0; i < size; i++)
		if (area[i] != (char)(seed * 31 + i * 7 + (i >> 8)))
			return false;
	return true;
}

/* Answers each ring: the window's first page is the question, the second the answer. */
static int good_guest_run(int socket, void *argument)
{
	const size_t page = page_size();
	int bell = doorbell_new(), ticket;
	uint32_t *window;
	char *main;

	KEEP_ONLY(socket, bell);
	ticket = fd_receive(socket);
	REQUIRE_EQ(0, claim_with(ticket, bell, NULL));
	window = map_object(ticket, VOXSHM_OBJECT_WINDOW, 2 * page, PROT_READ | PROT_WRITE);
	main = map_object(ticket, VOXSHM_OBJECT_MAIN, page, PROT_READ);
	REQUIRE(window && main);
	say(socket, 'r');
	for (;;) {
		struct pollfd entries[] = { { .fd = bell, .events = POLLIN },
					    { .fd = socket, .events = POLLIN } };

		REQUIRE(poll(entries, 2, -1) > 0);
		if (entries[1].revents)
			return 0;
		doorbell_take(bell);
		REQUIRE(filled(main, page, MAIN_SEED));
		REQUIRE_EQ(VOXSHM_STATE_ATTACHED, state_beyond(ticket));
		window[page / sizeof(*window)] = window[0] + 1;
		REQUIRE_EQ(0, ring(ticket));
	}
}

FIXTURE_SETUP(hostile)
{
	const size_t page = page_size();

	self->segment = segment_new();
	self->good = link_new(self->segment);
	self->bad = link_new(self->segment);
	self->good_bell = doorbell_new();
	self->bad_bell = doorbell_new();
	ASSERT_EQ(0, bind_to(self->good.host, self->good_bell));
	ASSERT_EQ(0, bind_to(self->bad.host, self->bad_bell));
	self->main = map_object(self->segment, VOXSHM_OBJECT_MAIN, page, PROT_READ | PROT_WRITE);
	self->window = map_object(self->good.host, VOXSHM_OBJECT_WINDOW, 2 * page,
				  PROT_READ | PROT_WRITE);
	ASSERT_TRUE(self->main && self->window);
	fill(self->main, page, MAIN_SEED);
	self->good_guest = child_start(good_guest_run, NULL);
	fd_send(self->good_guest.socket, self->good.guest);
	close(self->good.guest);
	ASSERT_EQ('r', hear(self->good_guest.socket));
	doorbell_drain(self->good_bell);
}

FIXTURE_TEARDOWN(hostile)
{
	say(self->good_guest.socket, 'q');
	EXPECT_EQ(0, child_reap(&self->good_guest));
	close(self->segment);
	close(self->good.host);
	close(self->bad.host);
}

#define HOSTILE struct __test_metadata *_metadata, FIXTURE_DATA(hostile) *self

/* The host asks the good guest, and gets its answer. */
static void all_is_well(HOSTILE)
{
	const size_t page = page_size();
	uint32_t *window = (uint32_t *)self->window;
	volatile uint32_t *answer = &window[page / sizeof(*window)];

	window[0] = self->round += 2;
	ASSERT_EQ(0, ring(self->good.host));
	do {
		ASSERT_NE(0, doorbell_wait(self->good_bell, PATIENCE_MS))
			TH_LOG("no answer in round %u", self->round / 2);
	} while (*answer != self->round + 1);
	EXPECT_TRUE(filled(self->main, page, MAIN_SEED));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->good.host));
}

static uint64_t random_state = 88172645463325252ull;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static void garbage(char *area, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		area[i] = (char)random_next();
}

/* Maps whatever there is, with all rights it can get, and writes to it. */
static int maps_and_scribbles(int socket, void *argument)
{
	const size_t page = page_size();
	int bell = doorbell_new(), ticket;
	uint32_t id, mapped = 0;
	char *map;

	KEEP_ONLY(socket, bell);
	ticket = fd_receive(socket);
	REQUIRE_EQ(0, claim_with(ticket, bell, NULL));
	for (id = 0; id < 8; id++)
		REQUIRE_EQ(0, object_create(ticket, id, page));
	say(socket, 'r');
	for (id = 0; id < 4096; id++) {
		size_t pages = 8;

		for (map = NULL; !map && pages; pages--)
			map = map_object(ticket, id, pages * page, PROT_READ | PROT_WRITE);
		if (!map)
			continue;
		mapped++;
		garbage(map, (pages + 1) * page);
	}
	/* Its window, its own objects, and the pool of all. */
	REQUIRE_EQ(10, mapped);
	say(socket, 'm');
	for (;;)
		ring(ticket);
}

TEST_F_TIMEOUT(hostile, a_guest_that_writes_all_it_can_map, 60)
{
	struct child child = child_start(maps_and_scribbles, NULL);
	struct voxshm_ioc_status status;
	int i;

	ASSERT_EQ(0, grow(self->segment, page_size(), NULL));
	fd_send(child.socket, self->bad.guest);
	close(self->bad.guest);
	ASSERT_EQ('r', hear(child.socket));
	all_is_well(_metadata, self);
	ASSERT_EQ('m', hear(child.socket));
	for (i = 0; i < 50; i++)
		all_is_well(_metadata, self);
	child_kill(&child);
	EXPECT_TRUE(EVENTUALLY(state_beyond(self->bad.host) == VOXSHM_STATE_ENDED));
	EXPECT_EQ(0, status_of(self->bad.host, &status));
	EXPECT_EQ(VOXSHM_HOW_DIED, status.how);
	EXPECT_EQ(SIGKILL, status.exit_value);
	all_is_well(_metadata, self);
}

/* Garbage calls ---------------------------------------------------------------------- */

static char *area;	/* of garbage, with nothing behind it */
static size_t area_size;

static void area_make(void)
{
	area_size = 8 * page_size();
	area = mmap(NULL, area_size + page_size(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(area != MAP_FAILED);
	REQUIRE_EQ(0, mprotect(area + area_size, page_size(), PROT_NONE));
}

static void *garbage_pointer(size_t size)
{
	switch (random_next() % 8) {
	case 0:
		return NULL;
	case 1:
		return (void *)random_next();
	case 2:
		/* Its end is out of reach. */
		return area + area_size - random_next() % (size + 1);
	case 3:
		memset(area, 0, size);
		return area;
	case 4:
		memset(area, 0xff, size);
		return area;
	case 5:
		/* Small numbers are more often right. */
		memset(area, 0, size);
		area[random_next() % (size + 1)] = random_next() % 16;
		area[random_next() % (size + 1)] = random_next() % 16;
		return area;
	default:
		garbage(area, size < 256 ? size : 256);
		return area;
	}
}

static void garbage_call(int fd, unsigned int direction, unsigned int number, size_t size)
{
	ioctl(fd, _IOC(direction, VOXSHM_IOC_MAGIC, number, size), garbage_pointer(size));
}

static void every_number(int fd)
{
	unsigned int number, direction;

	for (number = 0; number < 256; number++) {
		for (direction = 0; direction < 4; direction++) {
			garbage_call(fd, direction, number, 0);
			garbage_call(fd, direction, number, random_next() % 128);
			garbage_call(fd, direction, number, random_next() % (1 << _IOC_SIZEBITS));
			/* And as it is meant to be, but for the bytes. */
			ioctl(fd, (unsigned int)random_next(), garbage_pointer(64));
		}
	}
}

static void every_size(int fd, unsigned int step)
{
	static const unsigned long requests[] = {
		VOXSHM_IOC_INFO, VOXSHM_IOC_CREATE, VOXSHM_IOC_LINK, VOXSHM_IOC_GROW,
		VOXSHM_IOC_BIND, VOXSHM_IOC_CLAIM, VOXSHM_IOC_STATUS, VOXSHM_IOC_OBJECT_CREATE,
		VOXSHM_IOC_OBJECT_DROP, VOXSHM_IOC_DETACH,
	};
	size_t i, size;

	for (i = 0; i < ARRAY_SIZE(requests); i++)
		for (size = 0; size < 1 << _IOC_SIZEBITS; size += step)
			garbage_call(fd, _IOC_DIR(requests[i]), i, size);
}

static void other_calls(int fd)
{
	char bytes[64];
	int i;

	for (i = 0; i < 200; i++) {
		size_t size = random_next() % (64 * page_size());
		int prot = random_next() % 8, flags = random_next() % 2 ? MAP_SHARED : MAP_PRIVATE;
		uint64_t offset = random_next() % 3 ? random_next() :
				  VOXSHM_OFFSET(random_next() % 4096);
		void *map = mmap(NULL, size, prot, flags, fd, offset & ~(page_size() - 1));

		if (map != MAP_FAILED && random_next() % 2)
			munmap(map, random_next() % 2 ? size : page_size());
		if (write(fd, garbage_pointer(64), random_next() % 2 ? 1 : random_next()) < 0 &&
		    read(fd, bytes, sizeof(bytes)) < 0)
			lseek(fd, random_next(), SEEK_SET);
	}
}

struct attack {
	unsigned int step;	/* of sizes */
	bool has_all;		/* descriptors of the host too, as its forked child */
	const int *fds;
};

static int calls_with_garbage(int socket, void *argument)
{
	struct attack *attack = argument;
	int bell = doorbell_new(), ticket, i;

	if (!attack->has_all)
		KEEP_ONLY(socket, bell);
	ticket = fd_receive(socket);
	random_state += getpid();
	area_make();
	REQUIRE_EQ(0, claim_with(ticket, bell, NULL));
	say(socket, 'r');
	other_calls(ticket);
	every_number(ticket);
	every_size(ticket, attack->step);
	for (i = 0; attack->has_all && attack->fds[i] >= 0; i++) {
		other_calls(attack->fds[i]);
		every_number(attack->fds[i]);
		every_size(attack->fds[i], attack->step);
	}
	say(socket, 'd');
	for (;;)
		pause();
}

static void withstand(HOSTILE, struct attack *attack)
{
	struct child child = child_start(calls_with_garbage, attack);
	int rounds = 0;
	struct link again;

	fd_send(child.socket, self->bad.guest);
	close(self->bad.guest);
	ASSERT_EQ('r', hear(child.socket));
	while (!readable_within(child.socket, 20)) {
		all_is_well(_metadata, self);
		rounds++;
	}
	ASSERT_EQ('d', hear(child.socket));
	DIAG("the good guest answered %d times meanwhile", rounds);
	EXPECT_GT(rounds, 5);
	all_is_well(_metadata, self);
	child_kill(&child);
	EXPECT_TRUE(EVENTUALLY(state_beyond(self->bad.host) == VOXSHM_STATE_ENDED));
	/* Its place is free for the next one. */
	EXPECT_EQ(0, link_at(self->segment, self->bad.peer_id, &again));
	all_is_well(_metadata, self);
}

TEST_F_TIMEOUT(hostile, a_guest_that_calls_everything_with_garbage, 110)
{
	struct attack attack = { .step = 1 };

	withstand(_metadata, self, &attack);
}

TEST_F_TIMEOUT(hostile, a_forked_child_that_calls_everything_with_garbage, 110)
{
	const int fds[] = { self->segment, self->good.host, self->bad.host, -1 };
	struct attack attack = { .step = 7, .has_all = true, .fds = fds };

	withstand(_metadata, self, &attack);
	EXPECT_FALSE(hung_up(self->good.host));
}

/* A host that is hostile harms its own segment only. */
static int hostile_host(int socket, void *argument)
{
	struct voxshm_ioc_create create = create_default();
	int segment, device, i;
	struct link link;

	KEEP_ONLY(socket);
	area_make();
	random_state += getpid();
	say(socket, 'r');
	for (i = 0; i < 3; i++) {
		create.max_guests = VOXSHM_GUESTS_MAX;
		segment = segment_create(&create);
		REQUIRE(segment >= 0);
		link = link_new(segment);
		claim_with(link.guest, doorbell_new(), NULL);
		device = device_open(O_RDWR);
		/* Each of the device's own is a new chance to become a segment. */
		every_number(device);
		every_size(device, 13);
		other_calls(segment);
		every_number(segment);
		every_size(segment, 13);
		other_calls(link.host);
		every_number(link.host);
		every_size(link.host, 13);
		/* What LINK gave out among the garbage goes too. */
		KEEP_ONLY(socket);
	}
	say(socket, 'd');
	return 0;
}

TEST_F_TIMEOUT(hostile, a_host_that_calls_everything_with_garbage, 110)
{
	struct child child = child_start(hostile_host, NULL);
	int rounds = 0;

	ASSERT_EQ('r', hear(child.socket));
	while (!readable_within(child.socket, 20)) {
		all_is_well(_metadata, self);
		rounds++;
	}
	EXPECT_GT(rounds, 5);
	EXPECT_EQ('d', hear(child.socket));
	EXPECT_EQ(0, child_reap(&child));
	all_is_well(_metadata, self);
}

VOXSHM_TEST_MAIN
