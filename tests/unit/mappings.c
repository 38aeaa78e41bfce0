// SPDX-License-Identifier: MIT
/* Payload mappings: the sender's table, what the receiver takes of it, and hostile offers. */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "mappings.h"
#include "unit_test.h"

#define KIB 1024u
#define MIB (1024u * 1024u)
#define COUNT 3u
#define MAX_PAYLOAD (8 * MIB)

/* An end that notes what is offered, and keeps a copy for the receiver. */
struct fake_end {
	struct end end;
	int offers, refuse;
	uint32_t map_id, generation;
	uint64_t size;
	int fd;
};

static int fake_offer(struct end *end, uint32_t map_id, uint32_t generation,
		      const struct memory *memory)
{
	struct fake_end *fake = (struct fake_end *)end;

	if (fake->refuse)
		return fake->refuse;
	if (fake->fd >= 0)
		close(fake->fd);
	fake->fd = fcntl(memory->fd, F_DUPFD_CLOEXEC, 0);
	fake->map_id = map_id;
	fake->generation = generation;
	fake->size = memory->size;
	fake->offers++;
	return 0;
}

static const struct end_ops fake_ops = { .backend_name = "fake", .offer = fake_offer };

FIXTURE(mapping) {
	shared_u32 released[COUNT];
	struct fake_end fake;
	struct end *end;
	struct mappings sender;
	struct received_mappings receiver;
	uint64_t made;
	int fds_before;
};

FIXTURE_SETUP(mapping)
{
	self->fds_before = count_fds();
	self->fake = (struct fake_end){ .fd = -1 };
	end_init(&self->fake.end, &fake_ops);
	self->end = &self->fake.end;
	ASSERT_EQ(mappings_init(&self->sender, COUNT, self->released), 0);
	ASSERT_EQ(received_init(&self->receiver, COUNT, MAX_PAYLOAD, self->released), 0);
}

FIXTURE_TEARDOWN(mapping)
{
	mappings_deinit(&self->sender);
	received_deinit(&self->receiver);
	if (self->fake.fd >= 0)
		close(self->fake.fd);
	EXPECT_EQ(count_fds(), self->fds_before);
	EXPECT_FALSE(memory_leaks());
}

#define ALLOC(size) mapping_alloc(&self->sender, self->end, size, &self->made)
#define RELEASED(map_id) (&self->sender.released[map_id])

/* The sender -------------------------------------------------------------------- */

TEST_F(mapping, first_payload_makes_one_and_offers_it)
{
	int map_id = ALLOC(100 * KIB);

	ASSERT_GE(map_id, 0);
	EXPECT_EQ(self->made, 1);
	EXPECT_EQ(self->fake.offers, 1);
	EXPECT_EQ(self->fake.map_id, (uint32_t)map_id);
	EXPECT_EQ(self->fake.generation, self->sender.table[map_id].generation);
	EXPECT_GE(self->fake.size, 100 * KIB);
	EXPECT_GE(self->sender.table[map_id].memory.size, 100 * KIB);
	EXPECT_TRUE(mapping_loaned(&self->sender, (uint32_t)map_id, self->fake.generation));
}

TEST_F(mapping, sender_keeps_no_descriptor_of_what_it_offered)
{
	int fds = count_fds(), i;

	for (i = 0; i < (int)COUNT; i++)
		ASSERT_GE(ALLOC(MIB), 0);
	/* But for the copy that the fake end keeps. */
	EXPECT_EQ(count_fds(), fds + 1);
}

TEST_F(mapping, released_one_is_used_again_without_a_new_one)
{
	uint32_t released = 0;
	int first = ALLOC(MIB), i;

	for (i = 0; i < 100; i++) {
		mapping_sent(&self->sender, (uint32_t)first);
		shared_poke_u32(RELEASED(first), ++released);
		EXPECT_EQ(ALLOC(MIB), first);
	}
	EXPECT_EQ(self->made, 1);
	EXPECT_EQ(self->fake.offers, 1);
}

TEST_F(mapping, smallest_that_fits_is_taken)
{
	int large = ALLOC(4 * MIB), small = ALLOC(MIB), middle = ALLOC(2 * MIB);

	mapping_unalloc(&self->sender, (uint32_t)large);
	mapping_unalloc(&self->sender, (uint32_t)small);
	mapping_unalloc(&self->sender, (uint32_t)middle);
	EXPECT_EQ(ALLOC(MIB + 1), middle);
	EXPECT_EQ(ALLOC(1), small);
	EXPECT_EQ(ALLOC(1), large);
	EXPECT_EQ(self->made, 3);
}

TEST_F(mapping, place_never_used_goes_before_one_that_is_too_small)
{
	int small = ALLOC(MIB), other;

	mapping_unalloc(&self->sender, (uint32_t)small);
	other = ALLOC(2 * MIB);
	EXPECT_NE(other, small);
	EXPECT_EQ(self->sender.table[small].memory.size, MIB);
}

TEST_F(mapping, too_small_one_is_renewed_under_the_next_generation)
{
	uint32_t generation;
	int map_id, i;

	for (i = 0; i < (int)COUNT; i++)
		ASSERT_GE(ALLOC(MIB), 0);
	mapping_unalloc(&self->sender, 1);
	generation = self->sender.table[1].generation;
	map_id = ALLOC(3 * MIB);
	EXPECT_EQ(map_id, 1);
	EXPECT_EQ(self->sender.table[1].generation, generation + 1);
	EXPECT_EQ(self->fake.generation, generation + 1);
	EXPECT_EQ(self->fake.map_id, 1);
	EXPECT_GE(self->sender.table[1].memory.size, 3 * MIB);
	EXPECT_FALSE(mapping_loaned(&self->sender, 1, generation));
	EXPECT_TRUE(mapping_loaned(&self->sender, 1, generation + 1));
}

TEST_F(mapping, all_in_use_is_refused)
{
	uint32_t i;

	for (i = 0; i < COUNT; i++) {
		EXPECT_TRUE(mapping_available(&self->sender));
		ASSERT_GE(ALLOC(1), 0);
	}
	EXPECT_FALSE(mapping_available(&self->sender));
	EXPECT_EQ(ALLOC(1), -EAGAIN);
	/* Neither loaned nor sent can be had. */
	for (i = 0; i < COUNT; i++) {
		mapping_sent(&self->sender, i);
		EXPECT_EQ(ALLOC(1), -EAGAIN);
	}
	shared_poke_u32(RELEASED(2), 1);
	EXPECT_TRUE(mapping_available(&self->sender));
	EXPECT_EQ(ALLOC(1), 2);
	EXPECT_EQ(ALLOC(1), -EAGAIN);
}

TEST_F(mapping, wrong_release_counts_make_none_idle)
{
	static const uint32_t wrong[] = { 0, 1, 3, 4, 0x80000002, UINT32_MAX };
	uint32_t i, round;
	size_t j;

	/* Each was sent twice, and came back once. */
	for (round = 0; round < 2; round++)
		for (i = 0; i < COUNT; i++) {
			shared_poke_u32(RELEASED(i), round);
			ASSERT_EQ(ALLOC(1), (int)i);
			mapping_sent(&self->sender, i);
		}
	for (j = 0; j < ARRAY_SIZE(wrong); j++) {
		for (i = 0; i < COUNT; i++)
			shared_poke_u32(RELEASED(i), wrong[j]);
		EXPECT_FALSE(mapping_available(&self->sender));
		EXPECT_EQ(ALLOC(1), -EAGAIN);
	}
	shared_poke_u32(RELEASED(1), 2);
	EXPECT_EQ(ALLOC(1), 1);
}

/* What a receiver may say of a loan, it cannot take it from the writer. */
TEST_F(mapping, no_release_count_takes_a_loan_away)
{
	uint64_t random = 31;
	unsigned long i;
	uint32_t j;

	for (j = 0; j < COUNT; j++)
		ASSERT_EQ(ALLOC(1), (int)j);
	for (i = 0; i < amount(100000); i++) {
		for (j = 0; j < COUNT; j++)
			shared_poke_u32(RELEASED(j), i < 10 ? (uint32_t)i :
						     (uint32_t)random_next(&random));
		ASSERT_EQ(ALLOC(1), -EAGAIN);
	}
}

TEST_F(mapping, count_of_deliveries_wraps)
{
	int map_id = ALLOC(1);

	self->sender.table[map_id].sent = UINT32_MAX;
	mapping_sent(&self->sender, (uint32_t)map_id);
	shared_poke_u32(RELEASED(map_id), UINT32_MAX);
	EXPECT_NE(ALLOC(1), map_id);
	shared_poke_u32(RELEASED(map_id), 0);
	EXPECT_EQ(ALLOC(1), map_id);
}

TEST_F(mapping, offer_that_fails_changes_nothing)
{
	struct mapping before;
	int map_id = ALLOC(MIB), fds;

	mapping_unalloc(&self->sender, (uint32_t)map_id);
	before = self->sender.table[map_id];
	memset(before.memory.base, 0x77, before.memory.size);
	self->sender.count = 1;
	fds = count_fds();
	self->fake.refuse = -EMFILE;
	EXPECT_EQ(ALLOC(2 * MIB), -EMFILE);
	EXPECT_EQ(self->made, 1);
	EXPECT_EQ(count_fds(), fds);
	EXPECT_EQ(self->sender.table[map_id].generation, before.generation);
	EXPECT_EQ(self->sender.table[map_id].memory.base, before.memory.base);
	EXPECT_EQ(before.memory.base[MIB - 1], 0x77);
	EXPECT_TRUE(mapping_available(&self->sender));
	EXPECT_EQ(ALLOC(MIB), map_id);
	mapping_unalloc(&self->sender, (uint32_t)map_id);
	self->fake.refuse = 0;
	EXPECT_EQ(ALLOC(2 * MIB), map_id);
	self->sender.count = COUNT;
}

TEST_F(mapping, only_an_open_loan_is_known_as_one)
{
	int map_id = ALLOC(1);
	uint32_t generation = self->sender.table[map_id].generation;

	EXPECT_FALSE(mapping_loaned(&self->sender, (uint32_t)map_id, generation + 1));
	EXPECT_FALSE(mapping_loaned(&self->sender, (uint32_t)map_id, generation - 1));
	EXPECT_FALSE(mapping_loaned(&self->sender, (uint32_t)map_id + 1, generation));
	EXPECT_FALSE(mapping_loaned(&self->sender, COUNT, generation));
	EXPECT_FALSE(mapping_loaned(&self->sender, UINT32_MAX, generation));
	mapping_sent(&self->sender, (uint32_t)map_id);
	EXPECT_FALSE(mapping_loaned(&self->sender, (uint32_t)map_id, generation));
}

/* The receiver ------------------------------------------------------------------------- */

/* A memfd with bytes of its own; sealed as asked. */
static int make_memfd(size_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t i;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -1;
	for (i = 0; i < size; i += 4096)
		if (pwrite(fd, "x", 1, (off_t)i) != 1)
			return -1;
	if (seals && fcntl(fd, F_ADD_SEALS, seals) < 0)
		return -1;
	return fd;
}

static int offer_and_map(struct received_mappings *receiver, uint32_t map_id,
			 uint32_t generation, uint64_t size, int fd)
{
	struct received_offer offer;
	int ret;

	ret = received_offer(receiver, map_id, generation, size, fd);
	if (ret)
		return ret;
	offer = received_take(receiver, map_id, generation);
	return offer.memory.base ? received_map(receiver, map_id, &offer) : -ENOENT;
}

#define OFFER_AND_MAP(...) offer_and_map(&self->receiver, __VA_ARGS__)
#define BORROW(...) received_borrow(&self->receiver, \
					   &(struct mapping_ref){ __VA_ARGS__ }, &number)

TEST_F(mapping, offered_memory_is_seen_until_it_goes_back)
{
	const uint8_t *seen;
	uint32_t number;
	int map_id = ALLOC(MIB);
	int fd = fcntl(self->fake.fd, F_DUPFD_CLOEXEC, 0);

	memset(self->sender.table[map_id].memory.base, 0x5a, MIB);
	EXPECT_FALSE(received_has(&self->receiver, (uint32_t)map_id, 1));
	ASSERT_EQ(OFFER_AND_MAP((uint32_t)map_id, 1, self->fake.size, fd), 0);
	EXPECT_FALSE(fd_is_open(fd));
	EXPECT_TRUE(received_has(&self->receiver, (uint32_t)map_id, 1));
	EXPECT_FALSE(received_has(&self->receiver, (uint32_t)map_id, 2));
	seen = BORROW(.map_id = (uint32_t)map_id, .map_generation = 1, .offset = 100, .length = 50);
	ASSERT_NE(seen, NULL);
	EXPECT_EQ(seen[0], 0x5a);
	EXPECT_EQ(seen[49], 0x5a);
	mapping_sent(&self->sender, (uint32_t)map_id);
	EXPECT_EQ(mapping_release(&self->receiver, (uint32_t)map_id, number), 0);
	EXPECT_EQ(ALLOC(MIB), map_id);
}

TEST_F(mapping, borrow_outside_of_the_memory_is_refused)
{
	static const struct { uint64_t offset; uint32_t length; bool good; } cases[] = {
		{ 0, 0, true }, { 0, 8192, true }, { 8191, 1, true }, { 8192, 0, true },
		{ 0, 8193, false }, { 1, 8192, false }, { 8192, 1, false }, { 8193, 0, false },
		{ UINT64_MAX, 1, false }, { UINT64_MAX - 99, 100, false }, { 1ull << 32, 0, false },
		{ 0, UINT32_MAX, false }, { 4096, UINT32_MAX, false },
	};
	uint32_t number;
	size_t i;

	ASSERT_EQ(OFFER_AND_MAP(0, 1, 8192, make_memfd(8192, F_SEAL_SHRINK)), 0);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint8_t *seen = BORROW(.offset = cases[i].offset, .length = cases[i].length);

		EXPECT_EQ(seen != NULL, cases[i].good)
			TH_LOG("offset %#llx, length %u", (unsigned long long)cases[i].offset,
			       cases[i].length);
		if (seen)
			EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	}
}

TEST_F(mapping, one_borrow_at_a_time)
{
	uint32_t number;

	ASSERT_EQ(OFFER_AND_MAP(0, 1, 8192, make_memfd(8192, F_SEAL_SHRINK)), 0);
	ASSERT_NE(BORROW(.length = 1), NULL);
	EXPECT_EQ(BORROW(.length = 1), NULL);
	EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	EXPECT_NE(BORROW(.length = 1), NULL);
}

TEST_F(mapping, releases_are_counted_once_each)
{
	uint32_t number, i;

	ASSERT_EQ(OFFER_AND_MAP(2, 1, 4096, make_memfd(4096, F_SEAL_SHRINK)), 0);
	EXPECT_EQ(mapping_release(&self->receiver, 2, 0), -EINVAL);
	for (i = 0; i < 100; i++) {
		ASSERT_NE(BORROW(.map_id = 2, .length = 1), NULL);
		EXPECT_EQ(mapping_release(&self->receiver, 2, number + 1), -EINVAL);
		EXPECT_EQ(mapping_release(&self->receiver, 1, number), -EINVAL);
		EXPECT_EQ(mapping_release(&self->receiver, COUNT, number), -EINVAL);
		EXPECT_EQ(mapping_release(&self->receiver, UINT32_MAX, number), -EINVAL);
		EXPECT_EQ(shared_peek_u32(RELEASED(2)), i);
		EXPECT_EQ(mapping_release(&self->receiver, 2, number), 0);
		EXPECT_EQ(mapping_release(&self->receiver, 2, number), -EINVAL);
		EXPECT_EQ(shared_peek_u32(RELEASED(2)), i + 1);
	}
}

/* Hostile offers -------------------------------------------------------------------------- */

TEST_F(mapping, offer_under_a_number_out_of_range_is_refused)
{
	static const uint32_t bad[] = { COUNT, COUNT + 1, 1u << 31, UINT32_MAX };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = make_memfd(4096, F_SEAL_SHRINK);

		EXPECT_EQ(received_offer(&self->receiver, bad[i], 1, 4096, fd), -EBADMSG);
		EXPECT_FALSE(fd_is_open(fd));
	}
}

TEST_F(mapping, offer_of_no_size_or_too_much_is_refused)
{
	static const uint64_t bad[] = { 0, 8 * MIB + 1, 1ull << 32, 1ull << 63, UINT64_MAX };
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = make_memfd(4096, F_SEAL_SHRINK);
		EXPECT_EQ(received_offer(&self->receiver, 0, 1, bad[i], fd), -EBADMSG);
		EXPECT_FALSE(fd_is_open(fd));
	}
	fd = make_memfd(8 * MIB, F_SEAL_SHRINK);
	EXPECT_EQ(received_offer(&self->receiver, 0, 1, 8 * MIB, fd), 0);
}

TEST_F(mapping, later_offer_goes_in_place_of_the_older)
{
	int first = make_memfd(4096, F_SEAL_SHRINK), second = make_memfd(8192, F_SEAL_SHRINK);
	struct received_offer offer;
	int maps = count_maps();

	ASSERT_EQ(received_offer(&self->receiver, 0, 1, 4096, first), 0);
	ASSERT_EQ(received_offer(&self->receiver, 0, 2, 8192, second), 0);
	EXPECT_FALSE(fd_is_open(first));
	EXPECT_FALSE(fd_is_open(second));
	EXPECT_LE(count_maps(), maps + 1);
	EXPECT_EQ(received_take(&self->receiver, 0, 1).memory.base, NULL);
	offer = received_take(&self->receiver, 0, 2);
	ASSERT_NE(offer.memory.base, NULL);
	EXPECT_EQ(offer.memory.size, 8192);
	EXPECT_EQ(received_take(&self->receiver, 0, 2).memory.base, NULL);
	memory_free(&offer.memory);
}

enum { NOT_MEMORY_KINDS = 8 };

/* Descriptors that are no memory, or memory that could shrink or is too short. */
static int make_bad_fd(int kind)
{
	char path[] = "/tmp/voxshm-test-XXXXXX";
	int pair[2] = { -1, -1 }, fd;

	switch (kind) {
	case 0:
		return make_memfd(65536, 0);
	case 1:
		return make_memfd(65536, F_SEAL_GROW | F_SEAL_WRITE);
	case 2:
		return make_memfd(61440, F_SEAL_SHRINK | F_SEAL_GROW);
	case 3:
		if (pipe(pair) < 0)
			return -1;
		close(pair[1]);
		return pair[0];
	case 4:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			return -1;
		close(pair[1]);
		return pair[0];
	case 5:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 6:
		fd = mkstemp(path);
		unlink(path);
		return fd < 0 || ftruncate(fd, 65536) < 0 ? -1 : fd;
	default:
		return eventfd(0, EFD_CLOEXEC);
	}
}

TEST_F(mapping, offer_that_is_not_what_it_says_is_refused)
{
	int kind;

	for (kind = 0; kind < NOT_MEMORY_KINDS; kind++) {
		int fd = make_bad_fd(kind);

		ASSERT_GE(fd, 0);
		EXPECT_EQ(OFFER_AND_MAP(0, 1, 65536, fd), -EBADMSG)
			TH_LOG("kind %d", kind);
		EXPECT_FALSE(fd_is_open(fd));
		EXPECT_FALSE(received_has(&self->receiver, 0, 1));
	}
}

/* Sealed memory, by a descriptor that is open for writing only. */
TEST_F(mapping, offer_of_memory_that_cannot_be_read_is_refused)
{
	int memory = make_memfd(65536, F_SEAL_SHRINK), fd;
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", memory);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	close(memory);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(OFFER_AND_MAP(0, 1, 65536, fd), -EBADMSG);
	EXPECT_FALSE(fd_is_open(fd));
}

TEST_F(mapping, refused_memory_leaves_the_older_one)
{
	const uint8_t *seen;
	uint32_t number;

	ASSERT_EQ(OFFER_AND_MAP(0, 1, 4096, make_memfd(4096, F_SEAL_SHRINK)), 0);
	EXPECT_EQ(OFFER_AND_MAP(0, 2, 65536, make_bad_fd(0)), -EBADMSG);
	ASSERT_TRUE(received_has(&self->receiver, 0, 1));
	seen = BORROW(.length = 1);
	ASSERT_NE(seen, NULL);
	EXPECT_EQ(*seen, 'x');
}

TEST_F(mapping, borrowed_memory_is_never_replaced)
{
	const uint8_t *seen;
	uint32_t number;
	int fd = make_memfd(8192, F_SEAL_SHRINK);

	ASSERT_EQ(OFFER_AND_MAP(0, 1, 4096, make_memfd(4096, F_SEAL_SHRINK)), 0);
	seen = BORROW(.length = 1);
	EXPECT_EQ(OFFER_AND_MAP(0, 2, 8192, fd), -EBADMSG);
	EXPECT_FALSE(fd_is_open(fd));
	EXPECT_EQ(*seen, 'x');
	EXPECT_EQ(mapping_release(&self->receiver, 0, number), 0);
	EXPECT_EQ(OFFER_AND_MAP(0, 2, 8192, make_memfd(8192, F_SEAL_SHRINK)), 0);
}

/* Nothing piles up ---------------------------------------------------------------------------- */

TEST_F(mapping, sending_for_long_keeps_descriptors_and_memory_flat)
{
	uint32_t released[COUNT] = { 0 };
	uint64_t random = 37;
	unsigned long i;
	int fds, maps;

	for (i = 0; i < COUNT; i++)
		ASSERT_GE(ALLOC(8 * MIB), 0);
	for (i = 0; i < COUNT; i++)
		mapping_unalloc(&self->sender, (uint32_t)i);
	fds = count_fds();
	maps = count_maps();
	for (i = 0; i < amount(10000); i++) {
		int map_id = ALLOC(1 + random_below(&random, 8 * MIB));

		ASSERT_GE(map_id, 0);
		mapping_sent(&self->sender, (uint32_t)map_id);
		shared_poke_u32(RELEASED(map_id), ++released[map_id]);
	}
	EXPECT_EQ(self->made, COUNT);
	EXPECT_EQ(count_fds(), fds);
	EXPECT_LE(count_maps(), maps + 2);
}

TEST_F(mapping, renewals_keep_descriptors_and_memory_flat)
{
	struct memory *memory = &self->sender.table[0].memory;
	uint32_t generation = 0;
	unsigned long i;
	int fds = 0, maps = 0;

	self->sender.count = 1;
	for (i = 0; i < amount(500); i++) {
		if (i == COUNT) {
			fds = count_fds();
			maps = count_maps();
		}
		/* There is nothing else, and it is too small. */
		memory_free(memory);
		ASSERT_EQ(memory_new(memory, "small", 4096), 0);
		ASSERT_EQ(ALLOC(MIB), 0);
		mapping_unalloc(&self->sender, 0);
		ASSERT_EQ(OFFER_AND_MAP(0, ++generation, MIB,
					fcntl(self->fake.fd, F_DUPFD_CLOEXEC, 0)), 0);
	}
	self->sender.count = COUNT;
	EXPECT_EQ(self->made, i);
	EXPECT_EQ(count_fds(), fds);
	EXPECT_LE(count_maps(), maps + 2);
}

TEST_F(mapping, offers_never_taken_keep_no_descriptor)
{
	int fds = count_fds(), maps = count_maps();
	unsigned long i;

	for (i = 0; i < amount(10000); i++)
		ASSERT_EQ(received_offer(&self->receiver, (uint32_t)i % COUNT, (uint32_t)i,
					 4096, make_memfd(4096, F_SEAL_SHRINK)), 0);
	EXPECT_EQ(count_fds(), fds);
	EXPECT_LE(count_maps(), maps + (int)COUNT);
}

TEST_HARNESS_MAIN
