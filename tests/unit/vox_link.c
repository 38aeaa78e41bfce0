// SPDX-License-Identifier: GPL-2.0
/*
 * Links of the vox format against a guest that the test plays itself, entry by
 * entry: as vox-shm would, as a broken one might, and as one that dies.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "host.h"
#include "vox/vox.h"
#include "vox_test.h"
#include "kselftest_harness.h"

#define ALL_SLOTS 12u	/* of test_classes */
#define WAIT (5ll * 1000000000)

/* The guest's part, in this process: what a vox-shm guest has. */
struct fake {
	struct voxshm_segment *segment;
	struct vox_ring_producer producer;
	struct vox_ring_consumer consumer;
	uint32_t peer;
	int doorbell, control;
};

FIXTURE(link) {
	struct voxshm_host *host;
	struct voxshm_link *link;
	struct fake guest;
	uint32_t early[4096 / 8 + 1];
};

static struct voxshm_segment *host_segment(struct voxshm_host *host)
{
	return ((struct vox_host *)host->segment)->segment;
}

static uint32_t free_slots(struct voxshm_host *host)
{
	return vox_pool_count_free(&host_segment(host)->pool, 0, 0) +
	       vox_pool_count_free(&host_segment(host)->pool, 0, 1);
}

static int fake_ring(struct fake *fake)
{
	return send(fake->doorbell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Bytes on the guest's doorbell. */
static int fake_rung(struct fake *fake)
{
	char bytes[256];
	ssize_t size = recv(fake->doorbell, bytes, sizeof(bytes), MSG_DONTWAIT);

	return size < 0 ? 0 : (int)size;
}

static int fake_join(struct fake *fake, struct invitation *invitation, bool plain)
{
	uint32_t capacity;
	int ret;

	fake->peer = invitation->peer_id;
	fake->doorbell = invitation->fds[INVITATION_DOORBELL];
	fake->control = invitation->fds[INVITATION_THIRD];
	ret = voxshm_segment_attach_fd(&fake->segment, invitation->fds[INVITATION_SEGMENT], NULL);
	close(invitation->fds[INVITATION_SEGMENT]);
	if (ret)
		return ret;
	ret = voxshm_segment_claim_peer(fake->segment, fake->peer);
	if (plain) {
		shared_poke_u32(&vox_peer(fake->segment, fake->peer)->features, 0);
		shared_poke_u32(&vox_peer(fake->segment, fake->peer)->pid, 0);
	}
	capacity = fake->segment->geometry.ring_capacity;
	if (!ret)
		ret = vox_producer_init(&fake->producer,
					vox_peer_ring(fake->segment, fake->peer, VOX_GUEST),
					capacity);
	if (!ret)
		ret = vox_consumer_init(&fake->consumer,
					vox_peer_ring(fake->segment, fake->peer, VOX_HOST),
					capacity, NULL);
	return ret ? ret : fake_ring(fake);
}

static void fake_die(struct fake *fake)
{
	if (fake->doorbell < 0)
		return;
	close(fake->doorbell);
	close(fake->control);
	voxshm_segment_free(fake->segment);
	fake->doorbell = -1;
}

/* Commits an entry as it is. */
static int fake_commit(struct fake *fake, const void *bytes, uint32_t size)
{
	int64_t position = vox_ring_grant(&fake->producer, size);

	if (position < 0)
		return (int)position;
	memcpy(vox_ring_entry(&fake->producer, position), bytes, size);
	vox_ring_commit(&fake->producer, position, size, true);
	return fake_ring(fake);
}

static int fake_send_inline(struct fake *fake, const char *text)
{
	_Alignas(8) uint8_t entry[512];
	uint32_t length = (uint32_t)strlen(text) + 1;

	memcpy(vox_entry_write_inline(entry, length), text, length);
	return fake_commit(fake, entry, vox_entry_size(length));
}

static int fake_alloc(struct fake *fake, const char *text, struct vox_slot_ref *ref)
{
	uint32_t length = (uint32_t)strlen(text) + 1, size;
	uint8_t *data;
	int ret;

	ret = vox_pool_alloc(&fake->segment->pool, length + 4, fake->peer, 1, NULL, ref);
	if (ret)
		return ret;
	data = vox_pool_data(&fake->segment->pool, ref, &size);
	memcpy(data, &length, 4);
	memcpy(data + 4, text, length);
	return 0;
}

static int fake_send_ref(struct fake *fake, const struct vox_slot_ref *ref)
{
	_Alignas(8) uint8_t entry[VOX_SLOT_ENTRY];

	vox_entry_write_slot(entry, ref);
	return fake_commit(fake, entry, sizeof(entry));
}

static int fake_send_slot(struct fake *fake, const char *text)
{
	struct vox_slot_ref ref;
	int ret = fake_alloc(fake, text, &ref);

	return ret ? ret : fake_send_ref(fake, &ref);
}

/* Takes the next entry out of the ring. Return: 1, 0, -EBADMSG. */
static int fake_take(struct fake *fake, struct vox_entry *entry)
{
	int64_t readable = vox_ring_peek(&fake->consumer);

	if (readable <= 0)
		return (int)readable;
	if (vox_entry_parse(entry, vox_ring_at(&fake->consumer), (uint32_t)readable))
		return -EBADMSG;
	vox_ring_release(&fake->consumer, vox_ring_take(&fake->consumer, entry->size));
	vox_ring_publish_read(&fake->consumer);
	return 1;
}

static void open_link(struct __test_metadata *_metadata, FIXTURE_DATA(link) *self, bool plain)
{
	struct invitation invitation;
	struct voxshm_error error = { "" };

	ASSERT_EQ(host_link_new(self->host, &self->link, &invitation, &error), 0)
		TH_LOG("%s", error.text);
	ASSERT_EQ(fake_join(&self->guest, &invitation, plain), 0);
}

FIXTURE_SETUP(link)
{
	struct voxshm_config config = {
		.struct_size = sizeof(config), .format = VOXSHM_FORMAT_VOX,
		.backend = VOXSHM_BACKEND_FILE, .max_guests = 2, .ring_capacity = 1024,
		.num_classes = 2, .classes = test_classes,
	};
	struct voxshm_error error = { "" };

	self->guest.doorbell = -1;
	ASSERT_EQ(voxshm_host_new(&self->host, &config, &error), 0)
		TH_LOG("%s", error.text);
}

FIXTURE_TEARDOWN(link)
{
	fake_die(&self->guest);
	voxshm_host_free(self->host);
}

static int recv_text(struct voxshm_link *link, const char *text)
{
	struct voxshm_view view;
	int ret = voxshm_recv(link, &view, WAIT);

	if (ret)
		return ret;
	ret = view.size == strlen(text) + 1 && !memcmp(view.data, text, view.size) ? 0 : -ENOMSG;
	voxshm_release(link, &view);
	return ret;
}

static enum voxshm_link_state state_of(struct voxshm_link *link)
{
	struct voxshm_status status;

	voxshm_link_status(link, &status);
	return status.state;
}

TEST_F(link, view_of_a_slot_whose_words_were_changed_fails_the_link)
{
	struct vox_slot_ref ref;
	struct voxshm_view view;
	struct vox_class *class;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_alloc(&self->guest, "in a slot", &ref), 0);
	ASSERT_EQ(fake_send_ref(&self->guest, &ref), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	class = vox_pool_class(&self->guest.segment->pool, 0, ref.class_index);
	shared_poke_u64(&class->slots[ref.slot].generation_state, vox_slot_word(7, VOX_SLOT_FREE));
	EXPECT_EQ(voxshm_release(self->link, &view), -EBADMSG);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_FAILED);
	EXPECT_EQ(voxshm_release(self->link, &view), -EINVAL);
}

TEST_F(link, loan_of_a_slot_whose_words_were_changed_is_still_the_hosts)
{
	struct vox_slot_ref ref = { .slot = 0 };
	struct voxshm_loan loan;
	struct vox_slot *slots;

	open_link(_metadata, self, false);
	ASSERT_EQ(voxshm_loan(self->link, 500, &loan, 0), 0);
	slots = vox_pool_class(&self->guest.segment->pool, 0, 0)->slots;
	ref.slot = (uint32_t)loan.token;
	shared_poke_u32(&slots[ref.slot].owner, 2);
	shared_poke_u64(&slots[ref.slot].generation_state, 0);
	EXPECT_EQ(voxshm_commit(self->link, &loan, 500, 0), 0);
}

/* A guest puts a slot on the free list that the host has in hand. Return: 0 or -EBUSY. */
static int free_behind_its_back(struct fake *fake, uint32_t slot)
{
	struct vox_class *class = vox_pool_class(&fake->segment->pool, 0, 0);
	uint64_t word = shared_load_u64(&class->slots[slot].generation_state);

	shared_poke_u64(&class->slots[slot].generation_state,
			vox_slot_word(vox_slot_word_generation(word), VOX_SLOT_FREE));
	return vox_class_push(class, slot, slot);
}

TEST_F(link, slot_that_is_lent_is_not_lent_again)
{
	struct voxshm_loan first, second;

	open_link(_metadata, self, false);
	ASSERT_EQ(voxshm_loan(self->link, 500, &first, 0), 0);
	ASSERT_EQ(free_behind_its_back(&self->guest, (uint32_t)first.token), 0);
	EXPECT_EQ(voxshm_loan(self->link, 500, &second, 0), -EBADMSG);
	EXPECT_EQ(second.data, NULL);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_FAILED);
}

TEST_F(link, slot_that_is_lent_is_not_written_by_a_send)
{
	static const char data[500] = "sent";
	struct voxshm_loan loan;

	open_link(_metadata, self, false);
	ASSERT_EQ(voxshm_loan(self->link, 500, &loan, 0), 0);
	memset(loan.data, 'l', 500);
	ASSERT_EQ(free_behind_its_back(&self->guest, (uint32_t)loan.token), 0);
	EXPECT_EQ(voxshm_send(self->link, data, sizeof(data), 0), -EBADMSG);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_FAILED);
	EXPECT_EQ(((char *)loan.data)[0], 'l');
}

TEST_F(link, slot_that_is_borrowed_is_not_written_by_a_send)
{
	static const char data[500] = "sent";
	struct voxshm_view view;
	struct vox_slot_ref ref;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_alloc(&self->guest, "borrowed", &ref), 0);
	ASSERT_EQ(fake_send_ref(&self->guest, &ref), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	ASSERT_EQ(free_behind_its_back(&self->guest, ref.slot), 0);
	EXPECT_EQ(voxshm_send(self->link, data, sizeof(data), 0), -EBADMSG);
	EXPECT_STREQ(view.data, "borrowed");
}

TEST(growth_goes_by_the_hosts_own_size_not_by_what_a_guest_wrote)
{
	struct voxshm_config config = {
		.struct_size = sizeof(config), .format = VOXSHM_FORMAT_VOX,
		.backend = VOXSHM_BACKEND_FILE, .num_classes = 2, .classes = test_classes,
		.max_guests = 1, .ring_capacity = 1024, .max_size = 1 << 20,
	};
	struct voxshm_segment *segment;
	struct voxshm_host *host;
	uint64_t size;

	ASSERT_EQ(voxshm_host_new(&host, &config, NULL), 0);
	segment = host_segment(host);
	size = segment->file.size;
	shared_poke_u64(&vox_header(segment)->current_size, (1 << 20) - 65536);
	EXPECT_EQ(voxshm_host_grow(host, 65536, NULL), 0);
	EXPECT_EQ(segment->file.size, size + 65536);
	shared_poke_u64(&vox_header(segment)->current_size, 0);
	EXPECT_EQ(voxshm_host_grow(host, 65536, NULL), 0);
	EXPECT_EQ(segment->file.size, size + 2 * 65536);
	voxshm_host_free(host);
}

/* A vox-shm guest ------------------------------------------------------------------- */

TEST_F(link, plain_guest_is_heard_and_known_by_its_pid)
{
	struct voxshm_status status;

	open_link(_metadata, self, true);
	ASSERT_EQ(fake_send_inline(&self->guest, "inline"), 0);
	ASSERT_EQ(fake_send_slot(&self->guest, "in a slot"), 0);
	EXPECT_EQ(recv_text(self->link, "inline"), 0);
	EXPECT_EQ(recv_text(self->link, "in a slot"), 0);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
	voxshm_link_status(self->link, &status);
	EXPECT_EQ(status.state, VOXSHM_LINK_ATTACHED);
	EXPECT_EQ(status.pid, getpid());
	EXPECT_EQ(vox_end_kind(vox_link(self->link)->end), VOX_PEER_PLAIN);
}

TEST_F(link, plain_guest_is_rung_after_every_commit_and_release)
{
	struct voxshm_view view;

	open_link(_metadata, self, true);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_ATTACHED);
	fake_rung(&self->guest);
	ASSERT_EQ(voxshm_try_send(self->link, "x", 1), 0);
	EXPECT_EQ(fake_rung(&self->guest), 1);
	ASSERT_EQ(fake_send_inline(&self->guest, "inline"), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	fake_rung(&self->guest);
	ASSERT_EQ(voxshm_release(self->link, &view), 0);
	EXPECT_EQ(fake_rung(&self->guest), 1);
	ASSERT_EQ(fake_send_slot(&self->guest, "slot"), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	fake_rung(&self->guest);
	ASSERT_EQ(voxshm_release(self->link, &view), 0);
	EXPECT_EQ(fake_rung(&self->guest), 1);
}

TEST_F(link, plain_guest_is_rung_again_while_it_is_waited_for)
{
	struct voxshm_view view;

	open_link(_metadata, self, true);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_ATTACHED);
	fake_rung(&self->guest);
	EXPECT_EQ(voxshm_recv(self->link, &view, 50 * 1000000), -ETIMEDOUT);
	EXPECT_GE(fake_rung(&self->guest), 2);
}

/* One that wants something rings, too, and must not keep us from ringing it. */
TEST_F(link, plain_guest_is_rung_again_however_often_it_rings)
{
	const struct timespec rest = { .tv_nsec = 100000 };
	struct voxshm_view view;
	pid_t pid;

	open_link(_metadata, self, true);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_ATTACHED);
	fake_rung(&self->guest);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid == 0) {
		while (getppid() != 1 && fake_ring(&self->guest) != -EPIPE)
			nanosleep(&rest, NULL);
		_exit(0);
	}
	EXPECT_EQ(voxshm_recv(self->link, &view, 300 * 1000000), -ETIMEDOUT);
	kill(pid, SIGKILL);
	test_wait(pid);
	EXPECT_GE(fake_rung(&self->guest), 4);
}

TEST_F(link, plain_guest_gets_slots_as_its_own)
{
	struct vox_entry entry;
	char text[600];

	open_link(_metadata, self, true);
	memset(text, 'x', sizeof(text));
	ASSERT_EQ(voxshm_try_send(self->link, text, sizeof(text)), 0);
	ASSERT_EQ(fake_take(&self->guest, &entry), 1);
	ASSERT_EQ(entry.kind, VOX_ENTRY_SLOT);
	EXPECT_EQ(vox_pool_owner(&self->guest.segment->pool, &entry.slot), self->guest.peer);
	EXPECT_EQ(vox_pool_free(&self->guest.segment->pool, &entry.slot, NULL), 0);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

/* Each large payload to it has a number and memory of its own, never used again. */
TEST_F(link, plain_guest_gets_each_mapping_once)
{
	uint32_t ids[3];
	uint8_t *data = calloc(1, 100000);
	int i;

	open_link(_metadata, self, true);
	ASSERT_NE(data, NULL);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_ATTACHED);
	for (i = 0; i < 3; i++) {
		struct vox_entry entry;
		char bytes[64];

		ASSERT_EQ(voxshm_try_send(self->link, data, 100000), 0);
		ASSERT_EQ(recv(self->guest.control, bytes, sizeof(bytes), MSG_DONTWAIT), 16);
		ASSERT_EQ(fake_take(&self->guest, &entry), 1);
		ASSERT_EQ(entry.kind, VOX_ENTRY_MAPPING);
		EXPECT_EQ(entry.mapping.length, 100000);
		EXPECT_EQ(memcmp(bytes, &entry.mapping.map_id, 4), 0);
		ids[i] = entry.mapping.map_id;
	}
	EXPECT_NE(ids[0], ids[1]);
	EXPECT_NE(ids[1], ids[2]);
	free(data);
}

TEST_F(link, silent_plain_guest_is_noticed)
{
	struct invitation invitation;
	struct voxshm_event event;

	ASSERT_EQ(host_link_new(self->host, &self->link, &invitation, NULL), 0);
	ASSERT_EQ(fake_join(&self->guest, &invitation, true), 0);
	/* Take its ring back: a vox-shm guest that only listens gives none. */
	vox_doorbell_drain(vox_link(self->link)->end->doorbell, NULL);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
}

/* A guest of ours ------------------------------------------------------------------- */

TEST_F(link, guest_is_told_of_once_it_is_known_who_it_is)
{
	struct voxshm_status status;
	struct voxshm_event event;

	open_link(_metadata, self, false);
	/* Between its claim and its ring; the host looks for another reason. */
	vox_doorbell_drain(vox_link(self->link)->end->doorbell, NULL);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_WAITING);
	EXPECT_EQ(voxshm_host_wait(self->host, &event, 1, 0), 0);
	ASSERT_EQ(fake_ring(&self->guest), 0);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
	voxshm_link_status(self->link, &status);
	EXPECT_EQ(status.pid, getpid());
}

TEST_F(link, guest_that_sends_and_never_rings_is_told_of)
{
	struct voxshm_event event;

	open_link(_metadata, self, false);
	vox_doorbell_drain(vox_link(self->link)->end->doorbell, NULL);
	ASSERT_EQ(fake_send_inline(&self->guest, "inline"), 0);
	vox_doorbell_drain(vox_link(self->link)->end->doorbell, NULL);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(event.type, VOXSHM_EVENT_READABLE);
}

TEST_F(link, guest_that_goes_before_it_rings_is_told_of)
{
	struct voxshm_event event;

	open_link(_metadata, self, false);
	vox_doorbell_drain(vox_link(self->link)->end->doorbell, NULL);
	fake_die(&self->guest);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
}

/* A broken guest ----------------------------------------------------------------------- */

/* Receives until the link has failed. Return: the error, and that it stays. */
static int fails(struct voxshm_link *link)
{
	struct voxshm_view view;
	struct voxshm_status status;
	int ret = voxshm_recv(link, &view, WAIT);

	voxshm_link_status(link, &status);
	if (status.state != VOXSHM_LINK_FAILED || !*status.reason ||
	    voxshm_recv(link, &view, WAIT) != ret || voxshm_try_send(link, "x", 1) != ret)
		return -ENOMSG;
	return ret;
}

TEST_F(link, malformed_frames_fail_the_link)
{
	static const uint32_t frames[][5] = {
		{ 0 }, { 4 }, { 10 }, { 4096 }, { UINT32_MAX },		/* total_len */
		{ 20, 3 }, { 20, 4 }, { 20, 0x80 }, { 20, 1 << 8 },	/* flags, reserved */
		{ 20, 13 << 16 }, { 20, 7 << 16 },			/* inline length */
		{ 24, 1 }, { 20, 2 },					/* reference sizes */
		{ 20, 1, 1 << 16 },					/* reserved */
	};
	size_t i;

	for (i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		open_link(_metadata, self, false);
		ASSERT_EQ(fake_commit(&self->guest, frames[i], 20), 0);
		EXPECT_EQ(fails(self->link), -EBADMSG) TH_LOG("frame %zu", i);
		fake_die(&self->guest);
		voxshm_link_close(self->link);
	}
}

TEST_F(link, slot_that_is_not_the_guests_fails_the_link)
{
	struct vox_slot_ref good, refs[5];
	size_t i;

	for (i = 0; i < 5; i++) {
		open_link(_metadata, self, false);
		ASSERT_EQ(fake_alloc(&self->guest, "text", &good), 0);
		refs[i] = good;
		switch (i) {
		case 0: refs[i].generation++; break;
		case 1: refs[i].slot = 1000; break;
		case 2: refs[i].class_index = 2; break;
		case 3: refs[i].extent = 1; break;
		case 4: vox_pool_set_owner(&self->guest.segment->pool, &good, 0); break;
		}
		ASSERT_EQ(fake_send_ref(&self->guest, &refs[i]), 0);
		EXPECT_EQ(fails(self->link), -EBADMSG) TH_LOG("reference %zu", i);
		vox_pool_free(&self->guest.segment->pool, &good, NULL);
		fake_die(&self->guest);
		voxshm_link_close(self->link);
	}
}

TEST_F(link, slot_sent_twice_fails_the_link)
{
	struct vox_slot_ref ref;
	struct voxshm_view view;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_alloc(&self->guest, "text", &ref), 0);
	ASSERT_EQ(fake_send_ref(&self->guest, &ref), 0);
	ASSERT_EQ(fake_send_ref(&self->guest, &ref), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	EXPECT_EQ(fails(self->link), -EBADMSG);
	EXPECT_EQ(voxshm_release(self->link, &view), 0);
}

TEST_F(link, message_longer_than_its_slot_fails_the_link)
{
	struct vox_slot_ref ref;
	uint32_t size, length;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_alloc(&self->guest, "text", &ref), 0);
	length = 1021;
	memcpy(vox_pool_data(&self->guest.segment->pool, &ref, &size), &length, 4);
	ASSERT_EQ(fake_send_ref(&self->guest, &ref), 0);
	EXPECT_EQ(fails(self->link), -EBADMSG);
}

TEST_F(link, mapping_that_was_never_offered_fails_the_link)
{
	_Alignas(8) uint8_t entry[VOX_MAPPING_ENTRY];
	struct vox_mapping_ref ref = { .map_id = 3, .length = 10 };

	open_link(_metadata, self, false);
	vox_entry_write_mapping(entry, &ref);
	ASSERT_EQ(fake_commit(&self->guest, entry, sizeof(entry)), 0);
	EXPECT_EQ(fails(self->link), -EBADMSG);
}

TEST_F(link, control_message_without_memory_fails_the_link)
{
	struct voxshm_view view;

	open_link(_metadata, self, false);
	ASSERT_EQ(send(self->guest.control, "0123456789abcdef", 16, MSG_DONTWAIT), 16);
	ASSERT_EQ(fake_ring(&self->guest), 0);
	EXPECT_EQ(voxshm_recv(self->link, &view, WAIT), -EBADMSG);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_FAILED);
}

/* Offers memory as a guest does. */
static int fake_offer(struct fake *fake, uint32_t map_id, uint32_t generation, uint64_t size)
{
	struct { uint32_t map_id, generation; uint64_t size; } body = { map_id, generation, size };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &body, sizeof(body) };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	struct memory memory;
	int ret;

	ret = memory_new(&memory, "test", size);
	if (ret)
		return ret;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &memory.fd, sizeof(int));
	ret = sendmsg(fake->control, &message, MSG_DONTWAIT) == sizeof(body) ? 0 : -errno;
	memory_free(&memory);
	return ret;
}

static int open_fds(void)
{
	int fd, count = 0;

	for (fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

TEST_F(link, good_offer_before_a_bad_one_leaves_no_descriptor)
{
	_Alignas(8) uint8_t entry[VOX_MAPPING_ENTRY];
	struct vox_mapping_ref ref = { .map_id = 3, .generation = 1, .length = 10 };
	int before = open_fds();

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_offer(&self->guest, 3, 1, 65536), 0);
	ASSERT_EQ(send(self->guest.control, "0123456789abcdef", 16, MSG_DONTWAIT), 16);
	vox_entry_write_mapping(entry, &ref);
	ASSERT_EQ(fake_commit(&self->guest, entry, sizeof(entry)), 0);
	EXPECT_EQ(fails(self->link), -EBADMSG);
	fake_die(&self->guest);
	voxshm_link_close(self->link);
	EXPECT_EQ(open_fds(), before);
}

TEST_F(link, impossible_indices_fail_the_link)
{
	open_link(_metadata, self, false);
	shared_store_u32(&vox_peer_ring(self->guest.segment, 1, VOX_GUEST)->write, 99999);
	fake_ring(&self->guest);
	EXPECT_EQ(fails(self->link), -EBADMSG);
}

/* A guest that ends --------------------------------------------------------------------- */

static uint32_t peer_state(struct voxshm_host *host, uint32_t peer)
{
	struct voxshm_peer info;

	voxshm_segment_peer(host_segment(host), peer, &info);
	return info.state;
}

TEST_F(link, what_a_dead_guest_sent_is_delivered_while_its_slot_is_taken_again)
{
	struct voxshm_link *first;
	struct voxshm_event event;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_send_inline(&self->guest, "one"), 0);
	ASSERT_EQ(fake_send_slot(&self->guest, "two"), 0);
	ASSERT_EQ(fake_send_inline(&self->guest, "three"), 0);
	first = self->link;
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	ASSERT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
	fake_die(&self->guest);
	while (!vox_link(first)->buried)
		ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, 0), 1);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
	open_link(_metadata, self, false);
	EXPECT_EQ(self->link->peer_id, first->peer_id);
	EXPECT_NE(self->link->epoch, first->epoch);
	ASSERT_EQ(fake_send_inline(&self->guest, "of the next"), 0);
	EXPECT_EQ(recv_text(first, "one"), 0);
	EXPECT_EQ(recv_text(first, "two"), 0);
	EXPECT_EQ(recv_text(self->link, "of the next"), 0);
	EXPECT_EQ(recv_text(first, "three"), 0);
	EXPECT_EQ(recv_text(first, ""), -EPIPE);
	voxshm_link_close(first);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

TEST_F(link, borrowed_inline_view_keeps_the_dead_guests_ring)
{
	struct voxshm_view view;
	struct voxshm_event event;
	int i;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_send_inline(&self->guest, "borrowed"), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	fake_die(&self->guest);
	for (i = 0; i < 20; i++)
		voxshm_host_wait(self->host, &event, 1, 1000000);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_GOODBYE);
	EXPECT_STREQ(view.data, "borrowed");
	EXPECT_EQ(voxshm_release(self->link, &view), 0);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
}

TEST_F(link, slot_of_a_closed_link_waits_for_the_guest_to_go)
{
	struct voxshm_event event;

	open_link(_metadata, self, false);
	EXPECT_EQ(state_of(self->link), VOXSHM_LINK_ATTACHED);
	voxshm_link_close(self->link);
	voxshm_host_wait(self->host, &event, 1, 1000000);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_GOODBYE);
	/* The guest is told by a hang-up, as vox-shm expects. */
	fake_rung(&self->guest);
	EXPECT_EQ(recv(self->guest.doorbell, &event, 1, MSG_DONTWAIT), 0);
	fake_die(&self->guest);
	voxshm_host_wait(self->host, &event, 1, 1000000);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
}

TEST_F(link, invitation_that_nobody_claimed_frees_its_slot_at_once)
{
	struct invitation invitation;

	ASSERT_EQ(host_link_new(self->host, &self->link, &invitation, NULL), 0);
	ASSERT_EQ(voxshm_try_send(self->link, "early", 5), 0);
	voxshm_link_close(self->link);
	invitation_deinit(&invitation);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
	open_link(_metadata, self, false);
	EXPECT_EQ(vox_ring_peek(&self->guest.consumer), 0);
}

TEST_F(link, open_views_and_loans_come_back_with_the_link)
{
	struct voxshm_view view;
	struct voxshm_loan loan;

	open_link(_metadata, self, false);
	ASSERT_EQ(fake_send_slot(&self->guest, "view"), 0);
	ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
	ASSERT_EQ(voxshm_loan(self->link, 700, &loan, 0), 0);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS - 2);
	voxshm_link_close(self->link);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

/* Its place is free only when the host has put in order what it left. */
TEST_F(link, guest_that_calls_its_own_place_empty_is_buried_all_the_same)
{
	struct peer_entry *entry;
	struct vox_slot_ref ref;
	struct voxshm_event event;
	struct voxshm_link *first;
	uint32_t epoch;

	open_link(_metadata, self, false);
	first = self->link;
	epoch = first->epoch;
	entry = vox_peer(self->guest.segment, self->guest.peer);
	ASSERT_EQ(fake_send_inline(&self->guest, "last words"), 0);
	ASSERT_EQ(fake_alloc(&self->guest, "its own", &ref), 0);
	ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	ASSERT_EQ(event.type, VOXSHM_EVENT_ATTACHED);
	shared_store_u64(&vox_link_block(self->guest.segment, self->guest.peer)->
			 side[VOX_GUEST].intents[VOX_SENDER], vox_intent(0, 0, 3));
	shared_store_u64(&entry->state_epoch, peer_word(PEER_EMPTY, epoch + 7));
	fake_die(&self->guest);
	while (!vox_link(first)->buried)
		ASSERT_EQ(voxshm_host_wait(self->host, &event, 1, WAIT), 1);
	EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
	EXPECT_EQ(shared_load_u64(&vox_link_block(host_segment(self->host), 1)->
				  side[VOX_GUEST].intents[VOX_SENDER]), 0);
	EXPECT_EQ(recv_text(first, "last words"), 0);
	open_link(_metadata, self, false);
	EXPECT_EQ(self->link->peer_id, 1);
	EXPECT_GT(self->link->epoch, epoch);
	ASSERT_EQ(fake_send_inline(&self->guest, "of the next"), 0);
	EXPECT_EQ(recv_text(self->link, "of the next"), 0);
}

/* Links are independent: each has a receiving thread, whose last release buries the guest. */
static void *release_last(void *argument)
{
	void **both = argument;

	return (void *)(intptr_t)voxshm_release(both[0], both[1]);
}

TEST_F(link, two_threads_bury_two_guests_at_once)
{
	struct voxshm_view views[2];
	struct voxshm_link *links[2];
	struct voxshm_event event;
	pthread_t threads[2];
	void *both[2][2], *result;
	int round, i;

	for (round = 0; round < 50; round++) {
		struct fake guests[2] = { { 0 } };

		for (i = 0; i < 2; i++) {
			open_link(_metadata, self, false);
			links[i] = self->link;
			guests[i] = self->guest;
			self->guest.doorbell = -1;
			ASSERT_EQ(fake_send_inline(&guests[i], "borrowed"), 0);
			ASSERT_EQ(voxshm_recv(links[i], &views[i], WAIT), 0);
			fake_die(&guests[i]);
			both[i][0] = links[i];
			both[i][1] = &views[i];
		}
		while (!vox_link(links[0])->departed || !vox_link(links[1])->departed)
			ASSERT_GE(voxshm_host_wait(self->host, &event, 1, 1000000), 0);
		for (i = 0; i < 2; i++)
			ASSERT_EQ(pthread_create(&threads[i], NULL, release_last, both[i]), 0);
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(pthread_join(threads[i], &result), 0);
			EXPECT_EQ(result, NULL);
		}
		EXPECT_EQ(((struct vox_host *)self->host->segment)->departed, NULL);
		for (i = 0; i < 2; i++) {
			EXPECT_EQ(peer_state(self->host, (uint32_t)i + 1), VOXSHM_PEER_EMPTY);
			voxshm_link_close(links[i]);
		}
	}
}

/* The sending thread gives a slot back while the receiving thread's release buries the guest. */
static void *abort_loan(void *argument)
{
	void **both = argument;

	voxshm_abort(both[0], both[1]);
	return NULL;
}

TEST_F(link, loan_is_given_up_while_the_guest_is_buried)
{
	struct voxshm_view view;
	struct voxshm_loan loan;
	struct voxshm_event event;
	pthread_t threads[2];
	void *both[2][2];
	int round;

	for (round = 0; round < 50; round++) {
		open_link(_metadata, self, false);
		ASSERT_EQ(fake_send_inline(&self->guest, "borrowed"), 0);
		ASSERT_EQ(voxshm_recv(self->link, &view, WAIT), 0);
		ASSERT_EQ(voxshm_loan(self->link, 700, &loan, 0), 0);
		fake_die(&self->guest);
		while (!vox_link(self->link)->departed)
			ASSERT_GE(voxshm_host_wait(self->host, &event, 1, 1000000), 0);
		both[0][0] = both[1][0] = self->link;
		both[0][1] = &view;
		both[1][1] = &loan;
		ASSERT_EQ(pthread_create(&threads[0], NULL, release_last, both[0]), 0);
		ASSERT_EQ(pthread_create(&threads[1], NULL, abort_loan, both[1]), 0);
		ASSERT_EQ(pthread_join(threads[0], NULL), 0);
		ASSERT_EQ(pthread_join(threads[1], NULL), 0);
		EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
		EXPECT_EQ(peer_state(self->host, 1), VOXSHM_PEER_EMPTY);
		voxshm_link_close(self->link);
	}
}

TEST_F(link, waiter_for_a_slot_is_woken_by_a_burial)
{
	struct voxshm_event event;
	struct vox_slot_ref ref;
	struct vox_link *vox;
	struct sleep_words *words;
	int i;

	open_link(_metadata, self, false);
	for (i = 0; i < 12; i++)
		ASSERT_EQ(fake_alloc(&self->guest, "", &ref), i < 12 ? 0 : -EAGAIN);
	EXPECT_EQ(free_slots(self->host), 0);
	vox = vox_link(self->link);
	{
		struct invitation invitation;
		struct voxshm_link *other;
		struct fake waiter = { 0 };

		ASSERT_EQ(host_link_new(self->host, &other, &invitation, NULL), 0);
		ASSERT_EQ(fake_join(&waiter, &invitation, false), 0);
		words = &vox_link_block(waiter.segment, waiter.peer)->sleep[VOX_GUEST];
		shared_store_fenced_u32(&words->space, 1);
		fake_die(&self->guest);
		while (!vox->buried)
			voxshm_host_wait(self->host, &event, 1, WAIT);
		EXPECT_EQ(shared_peek_u32(&words->space), 0);
		EXPECT_EQ(fake_rung(&waiter), 1);
		EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
		fake_die(&waiter);
	}
}

TEST_HARNESS_MAIN
