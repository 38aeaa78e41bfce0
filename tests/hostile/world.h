/* SPDX-License-Identifier: MIT */
/*
 * world.h - a living host with two honest guests, and room for an attacker.
 *
 * The host is the test's own process. Each honest guest, a process of its own,
 * sends messages that carry their number and a pattern, and gets each one back
 * with another pattern; both sides check every byte and the order. What the
 * host has at most while it is attacked is measured as it works.
 */
#ifndef WORLD_H
#define WORLD_H

#include "attack.h"

#ifndef HONEST
#define HONEST 2
#endif
#define WINDOW 8u	/* messages of an honest guest on their way */
#define WORLD_PAYLOAD (1u << 20)
#define WORLD_MAPPINGS 4u
#define BATCH 16

/* What all processes of a world share. */
struct board {
	_Atomic uint64_t exchanged[HONEST];	/* checked by the guest: there and back */
	_Atomic bool inline_only;		/* honest messages travel in the ring */
	_Atomic bool attacking;
	uint32_t spin_ns;			/* of the honest guests; 0: the default */
	char address[64];			/* where the host listens */
};

struct honest {
	struct voxshm_link *link;
	pid_t pid;
	uint64_t received, answered;
	size_t sizes[2 * WINDOW];		/* of those that are to be answered */
};

/* What the host's process has. */
struct cost {
	int fds, maps;
	long resident;		/* KiB */
};

struct world {
	struct voxshm_host *host;
	struct board *board;
	struct honest honest[HONEST];
	struct voxshm_link *attacker;
	pid_t attacker_pid;
	bool attacker_ended;
	bool feeds;		/* the host sends to the attacker, too */
	enum voxshm_event_type attacker_end;
	unsigned int newcomers;	/* that walked in, said something and left */
	uint64_t waits, events, attacker_events;
	struct cost base, most;
	int fds_before;
};

static inline struct cost cost_now(void)
{
	return (struct cost){ count_fds(), count_shared_maps(), process_status("VmRSS:") };
}

static inline void cost_note(struct world *world)
{
	struct cost now = cost_now();

	if (now.fds > world->most.fds)
		world->most.fds = now.fds;
	if (now.maps > world->most.maps)
		world->most.maps = now.maps;
	if (now.resident > world->most.resident)
		world->most.resident = now.resident;
}

/* Honest guests -------------------------------------------------------------------- */

struct honest_argument {
	struct board *board;
	int number;
};

static inline uint64_t honest_seed(int number, uint64_t i, bool answer)
{
	return mix(i * 4 + (uint64_t)number * 2 + answer);
}

/* A whole honest message: its number, then a pattern. */
static inline void honest_fill(uint8_t *data, size_t size, int number, uint64_t i, bool answer)
{
	memcpy(data, &i, sizeof(i));
	pattern_fill(data + sizeof(i), size - sizeof(i), honest_seed(number, i, answer));
}

static inline bool honest_is(const struct voxshm_view *view, size_t size, int number, uint64_t i,
			     bool answer)
{
	return view->size == size && !memcmp(view->data, &i, sizeof(i)) &&
	       pattern_is((const uint8_t *)view->data + sizeof(i), size - sizeof(i),
			  honest_seed(number, i, answer));
}

static inline size_t honest_size(const struct board *board, uint64_t i)
{
	size_t size = mixed_size(i) + sizeof(i);

	return board->inline_only ? 8 + size % 150 : size;
}

/*
 * It waits for room only as long as it has nothing to read: what it has not read
 * may be what others, who share its pool, wait for.
 */
static inline void honest_run(struct voxshm_link *link, void *argument)
{
	const struct honest_argument *self = argument;
	uint8_t *data = malloc(MIXED_MAX + 8);
	uint64_t sent = 0, received = 0;
	int64_t until = now_ns() + PATIENCE;
	size_t sizes[WINDOW];
	struct voxshm_view view;
	int ret;

	if (self->board->spin_ns)
		voxshm_link_set_spin(link, self->board->spin_ns);
	for (;; until = now_ns() + PATIENCE) {
		for (; sent - received < WINDOW; sent++) {
			sizes[sent % WINDOW] = honest_size(self->board, sent);
			honest_fill(data, sizes[sent % WINDOW], self->number, sent, false);
			ret = voxshm_send(link, data, sizes[sent % WINDOW],
					  sent == received ? MS : 0);
			if (ret == -EAGAIN || ret == -ETIMEDOUT)
				break;
			REQUIRE_EQ(0, ret);
		}
		do
			ret = voxshm_recv(link, &view, sent == received ? 0 : MS);
		while (ret == -ETIMEDOUT && sent - received == WINDOW && now_ns() < until);
		if (ret == -EAGAIN || (ret == -ETIMEDOUT && sent - received < WINDOW))
			continue;
		REQUIRE_EQ(0, ret);
		REQUIRE(honest_is(&view, sizes[received % WINDOW], self->number, received, true));
		REQUIRE_EQ(0, voxshm_release(link, &view));
		received++;
		atomic_store(&self->board->exchanged[self->number], received);
	}
}

/* The host ----------------------------------------------------------------------------- */

/* Answers as far as there is room; the link's WRITABLE tells when there is more. */
static inline void answer(struct world *world, struct honest *honest)
{
	static uint8_t data[MIXED_MAX + 8];
	int number = (int)(honest - world->honest), ret;

	for (; honest->answered < honest->received; honest->answered++) {
		size_t size = honest->sizes[honest->answered % (2 * WINDOW)];

		honest_fill(data, size, number, honest->answered, true);
		ret = voxshm_try_send(honest->link, data, size);
		if (ret == -EAGAIN)
			return;
		REQUIRE_EQ(0, ret);
	}
}

static inline void serve_honest(struct world *world, struct honest *honest)
{
	int number = (int)(honest - world->honest), count;
	struct voxshm_view views[BATCH];

	count = voxshm_recv_batch(honest->link, views, BATCH, 0);
	REQUIRE(count > 0 || count == -EAGAIN);
	for (int i = 0; i < count; i++, honest->received++) {
		REQUIRE(views[i].size >= sizeof(uint64_t));
		REQUIRE(honest_is(&views[i], views[i].size, number, honest->received, false));
		honest->sizes[honest->received % (2 * WINDOW)] = views[i].size;
		REQUIRE_EQ(0, voxshm_release(honest->link, &views[i]));
	}
	answer(world, honest);
}

/* As an application would: so many at a time, all of them read. */
static inline void serve_attacker(struct world *world)
{
	struct voxshm_view views[BATCH];
	int count = voxshm_recv_batch(world->attacker, views, BATCH, 0);

	for (int i = 0; i < count; i++) {
		const volatile uint8_t *bytes = views[i].data;
		uint8_t sum = 0;

		for (size_t j = 0; j < views[i].size; j += 64)
			sum += bytes[j];
		(void)sum;
		voxshm_release(world->attacker, &views[i]);
	}
}

static inline void feed_attacker(struct world *world)
{
	static const uint8_t data[100000];
	static const size_t sizes[] = { 10, 200, 2000, 30000, 100000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		voxshm_try_send(world->attacker, data, sizes[i]);
}

/* Somebody who walked in: told how it is, it leaves. */
static inline void serve_newcomer(struct world *world, const struct voxshm_event *event)
{
	if (event->type == VOXSHM_EVENT_READABLE) {
		world->newcomers += recv_pattern(event->link, 1000, 1, 0) == 0;
		REQUIRE_EQ(0, send_pattern(event->link, 1000, 2, 0));
	} else if (event->type >= VOXSHM_EVENT_LEFT) {
		voxshm_link_close(event->link);
	}
}

static inline struct honest *honest_of(struct world *world, const struct voxshm_link *link)
{
	for (int i = 0; i < HONEST; i++)
		if (world->honest[i].link == link)
			return &world->honest[i];
	return NULL;
}

static inline void handle(struct world *world, const struct voxshm_event *event)
{
	struct honest *honest = honest_of(world, event->link);

	if (honest) {
		if (event->type >= VOXSHM_EVENT_LEFT)
			fprintf(stderr, "# an honest guest's link ended: %s\n",
				reason_of(honest->link));
		REQUIRE(event->type < VOXSHM_EVENT_LEFT);
		if (event->type == VOXSHM_EVENT_WRITABLE)
			answer(world, honest);
		else if (event->type == VOXSHM_EVENT_READABLE)
			serve_honest(world, honest);
		return;
	}
	if (event->link != world->attacker) {
		serve_newcomer(world, event);
		return;
	}
	world->attacker_events++;
	if (event->type == VOXSHM_EVENT_READABLE)
		serve_attacker(world);
	if (event->type >= VOXSHM_EVENT_LEFT) {
		world->attacker_ended = true;
		world->attacker_end = event->type;
	}
}

/* One turn of the host's loop. */
static inline void serve(struct world *world)
{
	struct voxshm_event events[8];
	int count = voxshm_host_wait(world->host, events, ARRAY_SIZE(events), 10 * MS);

	REQUIRE(count >= 0);
	world->waits++;
	world->events += (uint64_t)count;
	for (int i = 0; i < count; i++)
		handle(world, &events[i]);
	if (world->feeds && world->attacker && !world->attacker_ended)
		feed_attacker(world);
	if (world->waits % 64 == 0)
		cost_note(world);
}

/*
 * Serves until each honest guest has had so many messages back and, if asked,
 * the attacker's link has ended. Return: did that come in time?
 */
static inline bool serve_until(struct world *world, uint64_t messages, bool end)
{
	int64_t until = now_ns() + PATIENCE;
	uint64_t goals[HONEST];

	for (int i = 0; i < HONEST; i++)
		goals[i] = world->board->exchanged[i] + messages;
	for (;;) {
		bool done = !end || world->attacker_ended;

		for (int i = 0; i < HONEST; i++)
			done &= world->board->exchanged[i] >= goals[i];
		if (done)
			return true;
		if (now_ns() > until)
			return false;
		serve(world);
	}
}

static inline struct board *board_new(void)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	REQUIRE(board != MAP_FAILED);
	return board;
}

#define REFUSED "refuse me"

static inline int world_lets_in(void *data, const struct voxshm_caller *caller,
				struct voxshm_error *reason)
{
	size_t size = strlen(REFUSED);

	(void)data;
	(void)reason;
	return caller->session_size == size && !memcmp(caller->session, REFUSED, size) ? -EACCES : 0;
}

static inline void world_open_spinning(struct __test_metadata *_metadata, struct world *world,
				       const struct voxshm_config *config, uint32_t spin_ns)
{
	struct voxshm_error error = { "" };
	int i;

	*world = (struct world){ .fds_before = count_fds(), .board = board_new() };
	world->board->spin_ns = spin_ns;
	world->board->inline_only = spin_ns != 0;
	host_open(_metadata, &world->host, config);
	ASSERT_EQ(0, voxshm_host_listen(world->host, abstract_address(world->board->address), 0,
					world_lets_in, NULL, &error))
		TH_LOG("%s", error.text);
	for (i = 0; i < HONEST; i++) {
		struct honest_argument argument = { world->board, i };

		world->honest[i].pid = guest_fork(_metadata, world->host, honest_run, &argument,
						  &world->honest[i].link);
	}
	/* Until all that the honest ones ever need is there. */
	ASSERT_TRUE(serve_until(world, 300, false));
	world->base = cost_now();
}

static inline void world_open(struct __test_metadata *_metadata, struct world *world,
			      const struct voxshm_config *config)
{
	world_open_spinning(_metadata, world, config, 0);
}

static inline void world_close(struct __test_metadata *_metadata, struct world *world)
{
	for (int i = 0; i < HONEST; i++)
		if (world->honest[i].pid)
			child_kill(world->honest[i].pid);
	voxshm_host_free(world->host);
	munmap(world->board, sizeof(*world->board));
	EXPECT_EQ(world->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

#define WORLD_CONFIG CONFIG(variant, SMALL_CLASSES, .max_guests = 4, .ring_capacity = 16 * KIB, \
			    .max_payload = WORLD_PAYLOAD, .max_mappings = WORLD_MAPPINGS)

#endif
