// SPDX-License-Identifier: GPL-2.0
/* A guest has ended: what it left is delivered, freed and found. */
#include "vox_test.h"
#include "kselftest_harness.h"

#define ALL_SLOTS 12u	/* of test_classes */

FIXTURE(recover) {
	struct voxshm_segment *host, *guest;
	struct voxshm_segment_unread *unread;
};

FIXTURE_SETUP(recover)
{
	self->unread = NULL;
	ASSERT_EQ(voxshm_segment_create(&self->host, CONFIG(SMALL), NULL), 0);
	ASSERT_EQ(voxshm_segment_attach_fd(&self->guest, voxshm_segment_fd(self->host), NULL), 0);
	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 1);
}

FIXTURE_TEARDOWN(recover)
{
	voxshm_segment_unread_free(self->unread);
	voxshm_segment_free(self->guest);
	voxshm_segment_free(self->host);
}

static uint32_t free_slots(struct voxshm_segment *segment)
{
	struct voxshm_class found;
	uint32_t i, count, sum = 0;

	for (i = 0; voxshm_segment_class(segment, 0, i, &found, &count) == 0; i++)
		sum += count;
	return sum;
}

/* Writes an entry of one kind into a ring. */
static int put_inline(struct vox_ring_producer *producer, const char *text)
{
	uint32_t length = (uint32_t)strlen(text) + 1;
	int64_t position = vox_ring_grant(producer, vox_entry_size(length));

	if (position < 0)
		return (int)position;
	memcpy(vox_entry_write_inline(vox_ring_entry(producer, position), length), text, length);
	vox_ring_commit(producer, position, vox_entry_size(length), true);
	return 0;
}

static int put_slot(struct vox_ring_producer *producer, const struct vox_slot_ref *ref)
{
	int64_t position = vox_ring_grant(producer, VOX_SLOT_ENTRY);

	if (position < 0)
		return (int)position;
	vox_entry_write_slot(vox_ring_entry(producer, position), ref);
	vox_ring_commit(producer, position, VOX_SLOT_ENTRY, true);
	return 0;
}

static int new_slot(struct voxshm_segment *segment, uint32_t owner, const char *text,
		    struct vox_slot_ref *ref)
{
	uint32_t length = (uint32_t)strlen(text) + 1, size;
	struct voxshm_slot slot;
	uint8_t *data;
	int ret;

	ret = voxshm_segment_slot_alloc(segment, owner, length + 4, &slot);
	if (ret)
		return ret;
	*ref = (struct vox_slot_ref){ slot.class_index, slot.extent, slot.slot, slot.generation };
	data = vox_pool_data(&segment->pool, ref, &size);
	memcpy(data, &length, 4);
	memcpy(data + 4, text, length);
	return 0;
}

static struct vox_ring_producer producer_of(struct voxshm_segment *segment, enum vox_side side)
{
	struct vox_ring_producer producer;

	vox_producer_init(&producer, vox_peer_ring(segment, 1, side),
			  segment->geometry.ring_capacity);
	return producer;
}

TEST_F(recover, slot_is_empty_and_takes_a_new_guest)
{
	struct voxshm_peer info;

	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	ASSERT_EQ(voxshm_segment_peer(self->host, 1, &info), 0);
	EXPECT_EQ(info.state, VOXSHM_PEER_EMPTY);
	EXPECT_EQ(voxshm_segment_attach_peer(self->guest), 1);
}

TEST_F(recover, empty_slot_is_refused)
{
	EXPECT_EQ(voxshm_segment_recover(self->host, 2, NULL, NULL), -ESTALE);
}

TEST_F(recover, only_the_host_recovers)
{
	EXPECT_EQ(voxshm_segment_recover(self->guest, 1, NULL, NULL), -EPERM);
}

TEST_F(recover, reserved_and_departed_guests_are_recovered_too)
{
	ASSERT_EQ(voxshm_segment_reserve_peer(self->host), 2);
	EXPECT_EQ(voxshm_segment_recover(self->host, 2, NULL, NULL), 0);
	ASSERT_EQ(voxshm_segment_detach_peer(self->guest, 1), 0);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
}

TEST_F(recover, slots_of_the_dead_come_back_and_others_stay)
{
	struct vox_slot_ref dead, living, mine;

	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 2);
	ASSERT_EQ(new_slot(self->guest, 1, "dead", &dead), 0);
	ASSERT_EQ(new_slot(self->guest, 2, "living", &living), 0);
	ASSERT_EQ(new_slot(self->host, 0, "mine", &mine), 0);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 1);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS - 2);
	EXPECT_FALSE(vox_pool_is_current(&self->host->pool, &dead));
	EXPECT_TRUE(vox_pool_is_current(&self->host->pool, &living));
	EXPECT_TRUE(vox_pool_is_current(&self->host->pool, &mine));
}

TEST_F(recover, slots_the_guest_never_read_come_back)
{
	struct vox_ring_producer producer = producer_of(self->host, VOX_HOST);
	struct vox_slot_ref given, kept;

	/* One given to the guest, one sent as vox-shm's host does, without giving it. */
	ASSERT_EQ(new_slot(self->host, 0, "given", &given), 0);
	vox_pool_set_owner(&self->host->pool, &given, 1);
	ASSERT_EQ(put_slot(&producer, &given), 0);
	ASSERT_EQ(new_slot(self->host, 0, "kept", &kept), 0);
	ASSERT_EQ(put_slot(&producer, &kept), 0);
	ASSERT_EQ(put_inline(&producer, "text"), 0);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 2);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

TEST_F(recover, slot_of_a_living_guest_named_in_the_deads_ring_is_left_alone)
{
	struct vox_ring_producer producer = producer_of(self->host, VOX_HOST);
	struct vox_slot_ref living;

	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 2);
	ASSERT_EQ(new_slot(self->guest, 2, "living", &living), 0);
	ASSERT_EQ(put_slot(&producer, &living), 0);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	EXPECT_TRUE(vox_pool_is_current(&self->host->pool, &living));
}

TEST_F(recover, unread_messages_are_delivered_in_order)
{
	struct vox_ring_producer producer = producer_of(self->guest, VOX_GUEST);
	static const char *const texts[] = { "one", "two in a slot", "three", "four in a slot" };
	struct vox_slot_ref ref;
	const void *data;
	size_t size, i;

	ASSERT_EQ(put_inline(&producer, texts[0]), 0);
	ASSERT_EQ(new_slot(self->guest, 1, texts[1], &ref), 0);
	ASSERT_EQ(put_slot(&producer, &ref), 0);
	ASSERT_EQ(put_inline(&producer, texts[2]), 0);
	ASSERT_EQ(new_slot(self->guest, 1, texts[3], &ref), 0);
	ASSERT_EQ(put_slot(&producer, &ref), 0);

	ASSERT_EQ(voxshm_segment_recover(self->host, 1, &self->unread, NULL), 0);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS - 2);
	/* A new guest is already there. */
	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 1);
	producer = producer_of(self->guest, VOX_GUEST);
	ASSERT_EQ(put_inline(&producer, "of the next life"), 0);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 1);
		EXPECT_EQ(size, strlen(texts[i]) + 1);
		EXPECT_STREQ(data, texts[i]);
	}
	EXPECT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 0);
	voxshm_segment_unread_free(self->unread);
	self->unread = NULL;
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

TEST_F(recover, unread_slots_survive_the_next_lifes_death)
{
	struct vox_ring_producer producer = producer_of(self->guest, VOX_GUEST);
	struct vox_slot_ref ref;
	const void *data;
	size_t size;

	ASSERT_EQ(new_slot(self->guest, 1, "kept", &ref), 0);
	ASSERT_EQ(put_slot(&producer, &ref), 0);
	ASSERT_EQ(voxshm_segment_recover(self->host, 1, &self->unread, NULL), 0);
	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 1);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	ASSERT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 1);
	EXPECT_STREQ(data, "kept");
}

TEST_F(recover, slot_sent_twice_or_stolen_is_not_delivered)
{
	struct vox_ring_producer producer = producer_of(self->guest, VOX_GUEST);
	struct vox_slot_ref mine, theirs, stale;
	const void *data;
	size_t size;

	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 2);
	ASSERT_EQ(new_slot(self->guest, 1, "mine", &mine), 0);
	ASSERT_EQ(new_slot(self->guest, 2, "theirs", &theirs), 0);
	stale = mine;
	stale.generation--;
	ASSERT_EQ(put_slot(&producer, &mine), 0);
	ASSERT_EQ(put_slot(&producer, &mine), 0);
	ASSERT_EQ(put_slot(&producer, &theirs), 0);
	ASSERT_EQ(put_slot(&producer, &stale), 0);
	ASSERT_EQ(put_inline(&producer, "last"), 0);
	ASSERT_EQ(voxshm_segment_recover(self->host, 1, &self->unread, NULL), 0);
	ASSERT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 1);
	EXPECT_STREQ(data, "mine");
	ASSERT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 1);
	EXPECT_STREQ(data, "last");
	EXPECT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 0);
}

TEST_F(recover, ring_that_makes_no_sense_ends_where_that_begins)
{
	struct vox_ring_producer producer = producer_of(self->guest, VOX_GUEST);
	const void *data;
	size_t size;

	ASSERT_EQ(put_inline(&producer, "good"), 0);
	ASSERT_EQ(put_inline(&producer, "bad"), 0);
	vox_peer_ring(self->guest, 1, VOX_GUEST)->data[16] = 3;
	ASSERT_EQ(voxshm_segment_recover(self->host, 1, &self->unread, NULL), 0);
	ASSERT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 1);
	EXPECT_STREQ(data, "good");
	EXPECT_EQ(voxshm_segment_unread_next(self->unread, &data, &size), 0);
}

TEST_F(recover, rings_and_link_block_are_clean_for_the_next_guest)
{
	struct vox_ring_producer there = producer_of(self->guest, VOX_GUEST);
	struct vox_ring_producer back = producer_of(self->host, VOX_HOST);
	struct vox_link_block *block = vox_link_block(self->host, 1);
	uint64_t size = self->host->geometry.link_block_stride, i;

	ASSERT_EQ(put_inline(&there, "there"), 0);
	ASSERT_EQ(put_inline(&back, "back"), 0);
	shared_poke_u32(&block->sleep[VOX_GUEST].data, 1);
	shared_poke_u32(&block->sleep[VOX_HOST].space, 1);
	shared_poke_u64(&block->side[VOX_GUEST].intents[0], vox_intent(0, 0, 3));
	shared_poke_u32(&vox_released(self->host, 1, VOX_HOST)[3], 9);
	shared_poke_u32(&vox_released(self->host, 1, VOX_GUEST)[15], 9);
	ASSERT_GE(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	for (i = 0; i < size; i++)
		ASSERT_EQ(((uint8_t *)block)[i], 0) TH_LOG("byte %llu", (unsigned long long)i);
	EXPECT_EQ(shared_peek_u64(&vox_peer_ring(self->host, 1, VOX_GUEST)->write_watermark), 0);
	EXPECT_EQ(shared_peek_u64(&vox_peer_ring(self->host, 1, VOX_HOST)->write_watermark), 0);
}

TEST_F(recover, slot_named_by_the_deads_intent_is_found)
{
	struct vox_class *class = vox_pool_class(&self->host->pool, 0, 0);

	/* Popped by the guest, and no more: head moves from slot 0 to slot 1. */
	shared_poke_u64(&class->header->free_head, 1ull << 32 | 1);
	shared_poke_u64(&vox_link_block(self->host, 1)->side[VOX_GUEST].intents[VOX_RECEIVER],
			vox_intent(0, 0, 0));
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS - 1);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 1);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

TEST_F(recover, slot_lost_by_a_vox_shm_guest_is_found_when_no_other_lives)
{
	struct vox_class *class = vox_pool_class(&self->host->pool, 0, 0);

	ASSERT_EQ(voxshm_segment_attach_peer(self->guest), 2);
	shared_poke_u32(&vox_peer(self->host, 1)->features, 0);
	shared_poke_u32(&vox_peer(self->host, 2)->features, 0);
	shared_poke_u64(&class->header->free_head, 1ull << 32 | 1);
	EXPECT_EQ(voxshm_segment_recover(self->host, 1, NULL, NULL), 0);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS - 1);
	EXPECT_EQ(voxshm_segment_recover(self->host, 2, NULL, NULL), 1);
	EXPECT_EQ(free_slots(self->host), ALL_SLOTS);
}

/* A guest is killed wherever it is ------------------------------------------------------ */

struct log {
	shared_u64 committed;	/* the guest's account; at most one behind */
};

/* Sends numbered messages, inline and in slots, and frees what the host sends. */
static void live(struct voxshm_segment *segment, struct log *log)
{
	uint32_t capacity = segment->geometry.ring_capacity;
	struct vox_ring_consumer consumer;
	struct vox_ring_producer producer;
	struct vox_entry entry;
	struct voxshm_slot slot;
	struct vox_slot_ref ref;
	int64_t readable;
	uint64_t number = 0;
	char text[64];
	int peer, ret;

	peer = voxshm_segment_attach_peer(segment);
	if (peer != 1 || vox_producer_init(&producer, vox_peer_ring(segment, 1, VOX_GUEST), capacity) ||
	    vox_consumer_init(&consumer, vox_peer_ring(segment, 1, VOX_HOST), capacity, NULL))
		_exit(1);
	for (;;) {
		snprintf(text, sizeof(text), "message %llu", (unsigned long long)number);
		if (number % 3) {
			ret = put_inline(&producer, text);
		} else {
			ret = new_slot(segment, 1, text, &ref);
			if (!ret) {
				slot = (struct voxshm_slot){ ref.class_index, ref.extent, ref.slot,
							     ref.generation };
				ret = put_slot(&producer, &ref);
				if (ret)
					voxshm_segment_slot_free(segment, 1, &slot);
			}
		}
		if (ret == 0)
			shared_store_u64(&log->committed, ++number);
		while ((readable = vox_ring_peek(&consumer)) > 0) {
			if (vox_entry_parse(&entry, vox_ring_at(&consumer), (uint32_t)readable))
				_exit(2);
			vox_ring_release(&consumer, vox_ring_take(&consumer, entry.size));
			vox_ring_publish_read(&consumer);
			slot = (struct voxshm_slot){ entry.slot.class_index, entry.slot.extent,
						     entry.slot.slot, entry.slot.generation };
			if (entry.kind == VOX_ENTRY_SLOT)
				voxshm_segment_slot_free(segment, 1, &slot);
		}
	}
}

static bool is_message(const void *data, size_t size, uint64_t number)
{
	char text[64];

	snprintf(text, sizeof(text), "message %llu", (unsigned long long)number);
	return size == strlen(text) + 1 && memcmp(data, text, size) == 0;
}

struct host_side {
	struct voxshm_segment *segment;
	struct vox_ring_consumer consumer;
	struct vox_ring_producer producer;
	uint64_t received;
};

/* Return: 0, or a negative number when something is wrong. */
static int receive_some(struct host_side *host)
{
	struct vox_pool *pool = &host->segment->pool;
	struct vox_entry entry;
	const uint8_t *data;
	int64_t readable, length;

	while ((readable = vox_ring_peek(&host->consumer)) > 0) {
		if (vox_entry_parse(&entry, vox_ring_at(&host->consumer), (uint32_t)readable))
			return -1;
		data = entry.payload;
		length = entry.length;
		if (entry.kind == VOX_ENTRY_SLOT) {
			if (vox_pool_hold(pool, &entry.slot, 1, 1))
				return -2;
			length = vox_pool_message(pool, &entry.slot, &data);
		}
		if (length < 0 || !is_message(data, (size_t)length, host->received))
			return -3;
		host->received++;
		if (entry.kind == VOX_ENTRY_SLOT && vox_pool_free_held(pool, &entry.slot, 1, NULL))
			return -4;
		vox_ring_release(&host->consumer, vox_ring_take(&host->consumer, entry.size));
		vox_ring_publish_read(&host->consumer);
	}
	return readable < 0 ? -5 : 0;
}

static void send_one(struct host_side *host)
{
	struct vox_slot_ref ref;

	if (new_slot(host->segment, 0, "from the host", &ref))
		return;
	vox_pool_set_owner(&host->segment->pool, &ref, 1);
	if (put_slot(&host->producer, &ref))
		vox_pool_free(&host->segment->pool, &ref, NULL);
}

FIXTURE(killed) {
	struct voxshm_segment *segment;
	struct log *log;
};

FIXTURE_SETUP(killed)
{
	self->log = test_shared(sizeof(*self->log));
	ASSERT_NE(self->log, NULL);
	ASSERT_EQ(voxshm_segment_create(&self->segment, CONFIG(SMALL), NULL), 0);
}

FIXTURE_TEARDOWN(killed)
{
	voxshm_segment_free(self->segment);
	munmap(self->log, sizeof(*self->log));
}

TEST_F_TIMEOUT(killed, guest_loses_nothing_wherever_it_dies, 300)
{
	unsigned long round, rounds = test_count("VOXSHM_STRESS_KILLS", 300);
	struct voxshm_segment *segment = self->segment;
	struct log *log = self->log;
	uint64_t random = 987654321;

	for (round = 0; round < rounds; round++) {
		struct host_side host = { .segment = segment };
		struct voxshm_segment_unread *unread;
		uint32_t capacity = segment->geometry.ring_capacity;
		uint64_t committed, turns = test_random(&random) % 60;
		const void *data;
		size_t size;
		pid_t child;

		shared_poke_u64(&log->committed, 0);
		ASSERT_EQ(vox_consumer_init(&host.consumer, vox_peer_ring(segment, 1, VOX_GUEST),
					    capacity, NULL), 0);
		ASSERT_EQ(vox_producer_init(&host.producer, vox_peer_ring(segment, 1, VOX_HOST),
					    capacity), 0);
		child = fork();
		ASSERT_GE(child, 0);
		if (child == 0)
			live(segment, log);
		while (!shared_load_u64(&log->committed))
			sched_yield();
		while (turns--) {
			ASSERT_EQ(receive_some(&host), 0);
			send_one(&host);
			if (test_random(&random) % 4 == 0)
				sched_yield();
		}
		kill(child, SIGKILL);
		ASSERT_EQ(test_wait(child), 128 + SIGKILL);
		committed = shared_load_u64(&log->committed);
		ASSERT_GE(voxshm_segment_recover(segment, 1, &unread, NULL), 0);
		while (voxshm_segment_unread_next(unread, &data, &size))
			ASSERT_TRUE(is_message(data, size, host.received++));
		EXPECT_GE(host.received, committed);
		EXPECT_LE(host.received, committed + 1);
		voxshm_segment_unread_free(unread);
		ASSERT_EQ(free_slots(segment), ALL_SLOTS);
	}
}

TEST_HARNESS_MAIN
