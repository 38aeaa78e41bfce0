// SPDX-License-Identifier: MIT
/*
 * A hostile peer beside its ring: control messages, words of the link block,
 * everything at once; and a guest that dies in the middle of a copy.
 */
#include <poll.h>
#include <sys/socket.h>

#include "backend_file.h"
#include "native/native.h"
#include "unit_test.h"

static const struct voxshm_class classes[] = { { 128, 4 }, { 1024, 2 } };

#define MAX_PAYLOAD 100000u
#define USUAL NATIVE_CONFIG(.max_guests = 2, .ring_capacity = 2048, .num_classes = 2, \
			    .classes = classes, .max_mappings = 3, .max_payload = MAX_PAYLOAD)

FIXTURE(hostile) {
	struct pair pair;
	struct voxshm_link *peer, *victim;
};

FIXTURE_VARIANT(hostile) {
	bool host;
};

FIXTURE_VARIANT_ADD(hostile, guest) { false };
FIXTURE_VARIANT_ADD(hostile, host) { true };

#define OPEN() do {									\
	ASSERT_EQ(pair_open(&self->pair, USUAL), 0);					\
	self->peer = variant->host ? self->pair.host_end : self->pair.guest_end;	\
	self->victim = variant->host ? self->pair.guest_end : self->pair.host_end;	\
	/* Takes the claim in, and with it a descriptor of the peer's process. */	\
	link_drain(self->victim);							\
} while (0)

FIXTURE_SETUP(hostile)
{
	OPEN();
}

FIXTURE_TEARDOWN(hostile)
{
	EXPECT_EQ(pair_close(&self->pair), 0);
	EXPECT_FALSE(memory_leaks());
}

/* Control messages --------------------------------------------------------------- */

#define MAX_FDS 10

/* Says anything to the other side, with copies of a descriptor. */
static void say(struct voxshm_link *link, const void *bytes, size_t size, int fd, int count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	int i;

	if (count) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		for (i = 0; i < count; i++)
			memcpy(CMSG_DATA(cmsg) + (size_t)i * sizeof(int), &fd, sizeof(fd));
	}
	(void)!sendmsg(link->end->wake_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static enum voxshm_link_state state_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status.state;
}

static const struct {
	const char *name;
	size_t size;
	struct file_message message;
	int fds;
} bad_messages[] = {
	{ "two bytes", 2, { .kind = FILE_MESSAGE_CLAIM }, 0 },
	{ "short by one", 23, { .kind = FILE_MESSAGE_CLAIM }, 0 },
	{ "longer by one", 25, { .kind = FILE_MESSAGE_CLAIM }, 0 },
	{ "far too long", 5000, { .kind = FILE_MESSAGE_CLAIM }, 0 },
	{ "kind 0", 24, { .kind = 0 }, 0 },
	{ "kind 4", 24, { .kind = 4 }, 0 },
	{ "kind 2^32 - 1", 24, { .kind = UINT32_MAX }, 0 },
	{ "reserved word", 24, { .kind = FILE_MESSAGE_LEAVE, .reserved = 1 }, 0 },
	{ "claim with a descriptor", 24, { .kind = FILE_MESSAGE_CLAIM }, 1 },
	{ "farewell with a descriptor", 24, { .kind = FILE_MESSAGE_LEAVE }, 1 },
	{ "offer without a descriptor", 24, { .kind = FILE_MESSAGE_OFFER, .size = 4096 }, 0 },
	{ "offer with two", 24, { .kind = FILE_MESSAGE_OFFER, .size = 4096 }, 2 },
	{ "offer with ten", 24, { .kind = FILE_MESSAGE_OFFER, .size = 4096 }, MAX_FDS },
	{ "offer out of range", 24, { .kind = FILE_MESSAGE_OFFER, .map_id = 3, .size = 4096 }, 1 },
	{ "offer of nothing", 24, { .kind = FILE_MESSAGE_OFFER }, 1 },
	{ "offer of too much", 24, { .kind = FILE_MESSAGE_OFFER, .size = 1ull << 40 }, 1 },
	{ "doorbell with a descriptor", 1, { .kind = 0 }, 1 },
	{ "doorbell with two", 1, { .kind = 0 }, 2 },
	{ "short, with a descriptor", 10, { .kind = FILE_MESSAGE_OFFER }, 1 },
	{ "long, with a descriptor", 100, { .kind = FILE_MESSAGE_OFFER }, 1 },
};

TEST_F(hostile, malformed_control_message_fails_the_link_and_leaks_no_descriptor)
{
	static uint8_t bytes[5000];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_messages); i++) {
		struct voxshm_view view;
		int fds = count_fds();

		memcpy(bytes, &bad_messages[i].message, sizeof(struct file_message));
		say(self->peer, bytes, bad_messages[i].size, self->peer->end->wake_fd,
		    bad_messages[i].fds);
		EXPECT_EQ(state_of(self->victim), VOXSHM_LINK_FAILED)
			TH_LOG("%s", bad_messages[i].name);
		EXPECT_EQ(voxshm_try_recv(self->victim, &view), -EBADMSG);
		EXPECT_EQ(count_fds(), fds)
			TH_LOG("%s", bad_messages[i].name);
		EXPECT_EQ(pair_close(&self->pair), 0);
		OPEN();
	}
}

TEST_F(hostile, flood_of_doorbells_is_drained_a_bounded_number_at_a_time)
{
	struct pollfd pollfd = { .fd = self->victim->end->wake_fd, .events = POLLIN };
	int drains = 0, i;

	for (i = 0; i < 200; i++)
		say(self->peer, "", 1, -1, 0);
	link_drain(self->victim);
	EXPECT_EQ(poll(&pollfd, 1, 0), 1);
	while (poll(&pollfd, 1, 0) == 1 && drains++ < 200)
		link_drain(self->victim);
	EXPECT_LE(drains, 20);
	EXPECT_EQ(state_of(self->victim), VOXSHM_LINK_ATTACHED);
}

TEST_F(hostile, empty_control_message_ends_the_link_and_no_more)
{
	struct voxshm_view view;

	say(self->peer, "", 0, -1, 0);
	EXPECT_GT(state_of(self->victim), VOXSHM_LINK_ATTACHED);
	EXPECT_LT(voxshm_try_recv(self->victim, &view), 0);
}

/* Of two that have a copy of the guest's end, the first is the guest. */
TEST(second_claim_changes_nothing)
{
	struct file_message claim = { .kind = FILE_MESSAGE_CLAIM };
	struct pair pair;
	pid_t child;

	ASSERT_EQ(pair_open(&pair, USUAL), 0);
	child = fork_child();
	if (child == 0) {
		say(pair.guest_end, &claim, sizeof(claim), -1, 0);
		_exit(0);
	}
	ASSERT_EQ(wait_child(child), 0);
	EXPECT_EQ(state_of(pair.host_end), VOXSHM_LINK_ATTACHED);
	EXPECT_EQ(pair.host_end->end->pid, getpid());
	say(pair.guest_end, &claim, sizeof(claim), -1, 0);
	EXPECT_EQ(state_of(pair.host_end), VOXSHM_LINK_ATTACHED);
	EXPECT_EQ(pair.host_end->end->pid, getpid());
	EXPECT_EQ(pair_close(&pair), 0);
}

TEST_F(hostile, messages_after_a_farewell_are_still_delivered)
{
	struct file_message leave = { .kind = FILE_MESSAGE_LEAVE };
	struct voxshm_view view;

	ASSERT_EQ(voxshm_send(self->peer, "last", 4, 0), 0);
	say(self->peer, &leave, sizeof(leave), -1, 0);
	EXPECT_EQ(state_of(self->victim), VOXSHM_LINK_LEFT);
	ASSERT_EQ(voxshm_try_recv(self->victim, &view), 0);
	EXPECT_EQ(view.size, 4);
	EXPECT_EQ(voxshm_release(self->victim, &view), 0);
	EXPECT_EQ(voxshm_try_recv(self->victim, &view), -EPIPE);
	EXPECT_EQ(voxshm_try_send(self->victim, "x", 1), -EPIPE);
}

/* Everything at once ------------------------------------------------------------------ */

#define MAX_VIEWS 8u

struct fuzz {
	struct voxshm_link *peer, *victim;
	struct native_link *native;	/* the victim's */
	uint64_t random;
	struct voxshm_view views[MAX_VIEWS];
	struct voxshm_loan loan;
	unsigned int count, received;
	bool loaned;
};

/* A frame at a line: mostly one that may be right, so that the victim comes far. */
static void put_frame(struct native_ring *ring, uint32_t line, uint64_t *random)
{
	uint8_t flags = random_below(random, 3) ? 0 : (uint8_t)(1 + random_below(random, 2));
	uint64_t header = frame_header(64, flags, flags ? 0 : (uint16_t)random_below(random, 57));
	bool wild = random_below(random, 16) == 0;
	uint64_t words[3];

	switch (flags) {
	case FRAME_SLOT_REF:
		words[0] = random_below(random, wild ? 4 : 2) |
			   (uint64_t)random_below(random, wild ? 8 : 2) << 32;
		words[1] = random_below(random, 4) | (uint64_t)random_below(random, 150) << 32;
		break;
	default:
		words[0] = random_below(random, wild ? 5 : 3) |
			   (uint64_t)random_below(random, 4) << 32;
		words[1] = random_below(random, wild ? 10000 : 2000);
		break;
	}
	words[2] = random_below(random, wild ? 10000 : 2000);
	if (random_below(random, 32) == 0)
		header = random_next(random);
	else if (random_below(random, 8) == 0)
		header = random_below(random, 2) ? frame_header(64, FRAME_WRAP, 0) : 0;
	memcpy(ring->lines + line + 8, words, sizeof(words));
	shared_store_u64(native_line(ring, line), header);
}

/* Something in the window that the victim reads. */
static void scribble(struct fuzz *fuzz)
{
	const struct native_geometry *geometry = &fuzz->native->geometry;
	enum native_side victim = fuzz->victim->is_host ? NATIVE_HOST : NATIVE_GUEST;
	uint8_t *window = native_link(fuzz->peer)->window.base;
	struct native_ring *ring = (void *)(window + geometry->ring[!victim]);
	uint64_t *random = &fuzz->random;
	uint32_t value = random_below(random, 6);

	switch (random_below(random, 16)) {
	case 0:
		put_frame(ring, 64 * random_below(random, 2048 / 64), random);
		break;
	case 1 ... 10:
		put_frame(ring, fuzz->native->consumer.cursor, random);
		break;
	case 11:
		ring = (void *)(window + geometry->ring[victim]);
		shared_poke_u32(&ring->read, random_below(random, 20) ?
				64 * random_below(random, 2048 / 64) :
				(uint32_t)random_next(random));
		break;
	case 12:
	case 13:
		shared_poke_u32((shared_u32 *)(void *)(window + geometry->returns[victim]
			[random_below(random, 2)]) + random_below(random, 2), value);
		break;
	case 14:
		shared_poke_u32((shared_u32 *)(void *)(window + geometry->released[victim]) +
				random_below(random, 3), value);
		break;
	default:
		shared_poke_u64((shared_u64 *)(void *)window +
				random_below(random, (uint32_t)(geometry->window_size / 8)),
				random_next(random));
		break;
	}
}

static void offer_something(struct fuzz *fuzz)
{
	struct file_message message = {
		.kind = FILE_MESSAGE_OFFER,
		.map_id = random_below(&fuzz->random, 3),
		.generation = random_below(&fuzz->random, 5),
		.size = 4096,
	};
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	REQUIRE(fd >= 0 && ftruncate(fd, 4096) == 0);
	if (random_below(&fuzz->random, 20))
		REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	say(fuzz->peer, &message, sizeof(message), fd, 1);
	close(fd);
}

/* Does the view lie in memory of this link? */
static bool view_is_inside(const struct fuzz *fuzz, const struct voxshm_view *view)
{
	const struct received_mappings *received = &fuzz->native->received;
	const uint8_t *data = view->data, *window = fuzz->native->window.base;
	uint32_t i;

	if (data >= window && data + view->size <= window + fuzz->native->window.size)
		return true;
	for (i = 0; i < received->count; i++)
		if (data >= received->table[i].memory.base &&
		    data + view->size <= received->table[i].memory.base +
					 received->table[i].memory.size)
			return true;
	return false;
}

/* Return: 0, or what ended the link. */
static int receive(struct fuzz *fuzz)
{
	struct voxshm_view *view = &fuzz->views[fuzz->count];
	int ret;

	if (fuzz->count == MAX_VIEWS)
		return 0;
	ret = voxshm_try_recv(fuzz->victim, view);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	REQUIRE(view_is_inside(fuzz, view));
	if (view->size) {
		(void)((const volatile uint8_t *)view->data)[0];
		(void)((const volatile uint8_t *)view->data)[view->size - 1];
	}
	fuzz->count++;
	fuzz->received++;
	return 0;
}

static void release_one(struct fuzz *fuzz)
{
	unsigned int which;

	if (fuzz->count == 0)
		return;
	which = random_below(&fuzz->random, fuzz->count);
	REQUIRE(voxshm_release(fuzz->victim, &fuzz->views[which]) == 0);
	fuzz->views[which] = fuzz->views[--fuzz->count];
}

static int loan_or_commit(struct fuzz *fuzz)
{
	int ret;

	if (!fuzz->loaned) {
		ret = voxshm_loan(fuzz->victim, random_below(&fuzz->random, 1500), &fuzz->loan, 0);
		fuzz->loaned = ret == 0;
		if (ret == 0)
			memset(fuzz->loan.data, 0x11, fuzz->loan.size);
	} else if (random_below(&fuzz->random, 3)) {
		ret = voxshm_commit(fuzz->victim, &fuzz->loan, fuzz->loan.size, 0);
		fuzz->loaned = ret != 0;
	} else {
		voxshm_abort(fuzz->victim, &fuzz->loan);
		fuzz->loaned = false;
		ret = 0;
	}
	return ret == -EAGAIN ? 0 : ret;
}

static int send_something(struct fuzz *fuzz)
{
	static uint8_t payload[2000];
	size_t size = random_below(&fuzz->random, 100) ? random_below(&fuzz->random, 500) : 2000;
	int ret = voxshm_try_send(fuzz->victim, payload, size);

	return ret == -EAGAIN ? 0 : ret;
}

/* Return: 0, or what ended the link. */
static int fuzz_step(struct fuzz *fuzz)
{
	struct voxshm_status status;

	scribble(fuzz);
	switch (random_below(&fuzz->random, 12)) {
	case 0 ... 4:
		return receive(fuzz);
	case 5 ... 6:
		release_one(fuzz);
		return 0;
	case 7 ... 8:
		return send_something(fuzz);
	case 9:
		return loan_or_commit(fuzz);
	case 10:
		voxshm_link_status(fuzz->victim, &status);
		return status.state > VOXSHM_LINK_ATTACHED ? -EBADMSG : 0;
	default:
		REQUIRE(voxshm_link_arm(fuzz->victim, VOXSHM_READABLE | VOXSHM_WRITABLE) >= 0);
		if (random_below(&fuzz->random, 4) == 0)
			offer_something(fuzz);
		return 0;
	}
}

TEST_F_TIMEOUT(hostile, everything_at_once_ends_its_own_link_at_most, 120)
{
	struct fuzz fuzz = { .random = variant->host ? 61 : 67 };
	unsigned long round, rounds = amount(2000);
	unsigned int step, failed = 0;

	for (round = 0; round < rounds; round++) {
		int ret = 0;

		fuzz.peer = self->peer;
		fuzz.victim = self->victim;
		fuzz.native = native_link(self->victim);
		fuzz.loaned = false;
		fuzz.count = 0;
		for (step = 0; step < 200 && ret == 0; step++)
			ret = fuzz_step(&fuzz);
		ASSERT_TRUE(ret == 0 || ret == -EBADMSG)
			TH_LOG("%d in round %lu", ret, round);
		failed += ret != 0;
		/* What is borrowed stays good, also now. */
		while (fuzz.count)
			release_one(&fuzz);
		if (fuzz.loaned)
			voxshm_abort(self->victim, &fuzz.loan);
		ASSERT_EQ(pair_close(&self->pair), 0);
		OPEN();
	}
	EXPECT_GT(failed, rounds / 4);
	EXPECT_GT(fuzz.received, 2 * rounds);
}

/* A guest that dies in the middle of a copy --------------------------------------------- */

#define RING (64u * 1024)
#define MESSAGE 5000u

/* The guest's ring cannot be written from that page on for one page. */
static void guest_that_dies(int ticket, size_t page, atomic_uint *sent)
{
	struct voxshm_link *link;
	uint8_t payload[MESSAGE];
	uint8_t *ring;

	die_by_fault();
	REQUIRE(voxshm_guest_claim(&link, ticket, NULL) == 0);
	ring = native_link(link)->window.base + native_link(link)->geometry.ring[NATIVE_GUEST];
	REQUIRE(mprotect(ring + 4096 * page, 4096, PROT_READ) == 0);
	for (;;) {
		memset(payload, (int)atomic_load(sent) + 1, sizeof(payload));
		if (voxshm_try_send(link, payload, sizeof(payload)))
			_exit(0);
		atomic_fetch_add(sent, 1);
	}
}

TEST(guest_that_dies_in_a_copy_leaves_whole_messages_only)
{
	atomic_uint *sent = shared_memory(4096);
	struct voxshm_host *host;
	unsigned int deaths = 0;
	size_t page;

	if (strstr(getenv("TEST_UNDER") ?: "", "valgrind"))
		SKIP(return, "valgrind reports the death that is meant");
	ASSERT_NE(sent, NULL);
	ASSERT_EQ(voxshm_host_new(&host, NATIVE_CONFIG(.max_guests = 1, .ring_capacity = RING,
						       .inline_threshold = 16384), NULL), 0);
	for (page = 0; page < RING / 4096; page++) {
		struct voxshm_link *link;
		struct voxshm_view view;
		unsigned int received = 0;
		int ticket, ret;
		pid_t child;

		atomic_store(sent, 0);
		ASSERT_EQ(voxshm_host_ticket(host, &ticket, &link, NULL), 0);
		child = fork_child();
		if (child == 0)
			guest_that_dies(ticket, page, sent);
		close(ticket);
		ret = wait_child(child);
		ASSERT_TRUE(ret == 0 || ret == 128 + SIGSEGV);
		deaths += ret != 0;
		while ((ret = voxshm_recv(link, &view, PATIENCE)) == 0) {
			const uint8_t *bytes = view.data;
			size_t i;

			received++;
			ASSERT_EQ(view.size, MESSAGE);
			for (i = 0; i < MESSAGE; i++)
				ASSERT_EQ(bytes[i], received);
			ASSERT_EQ(voxshm_release(link, &view), 0);
		}
		EXPECT_EQ(ret, -EPIPE);
		EXPECT_EQ(received, atomic_load(sent));
		voxshm_link_close(link);
	}
	EXPECT_GE(deaths, RING / 4096 - 2);
	voxshm_host_free(host);
	munmap(sent, 4096);
}

TEST_HARNESS_MAIN
