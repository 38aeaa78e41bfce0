/* SPDX-License-Identifier: MIT */
/*
 * attacks.h - what a hostile guest does to its host, once it is attached.
 *
 * Each attack is a function of the link and a number that picks one of its
 * kinds. Those that break a rule do so and return; those that break none, or go
 * on after it, never return. All use only what a guest has: its mapped memory
 * and its descriptors.
 */
#ifndef ATTACKS_H
#define ATTACKS_H

#include <sys/socket.h>
#include <sys/un.h>

#include "world.h"

typedef void attack_fn(struct voxshm_link *link, struct board *board, int kind);

/* What becomes of the attacker's link. */
enum outcome {
	GOES_ON,	/* it broke no rule */
	FAILS,
	MAY_FAIL,
};

static inline bool is_vox(const struct voxshm_link *link)
{
	return voxshm_link_format(link) == VOXSHM_FORMAT_VOX;
}

static inline struct sleep_words *host_sleep_words(struct voxshm_link *link)
{
	return link->theirs;
}

static inline struct sleep_words *own_sleep_words(struct voxshm_link *link)
{
	return link->mine;
}

static inline void ring(struct voxshm_link *link)
{
	link->end->ops->ring(link->end);
}

/* Whoever attacks for ever does so until the host has closed the link, or longer. */
static inline void attack_note(struct board *board)
{
	atomic_store(&board->attacking, true);
}

/* No rule is broken ---------------------------------------------------------------- */

/* Kind: the size. */
static inline void attack_flood(struct voxshm_link *link, struct board *board, int kind)
{
	static const size_t sizes[] = { 0, 100, 1000, 100000 };
	static uint8_t data[100000];

	for (;;) {
		if (voxshm_send(link, data, sizes[kind], MS) == 0)
			attack_note(board);
		else
			sched_yield();
	}
}
#define FLOODS_INLINE 2
#define FLOODS 4

static inline void attack_never_reads(struct voxshm_link *link, struct board *board, int kind)
{
	(void)link;
	(void)kind;
	attack_note(board);
	for (;;)
		pause();
}

static inline void attack_never_releases(struct voxshm_link *link, struct board *board, int kind)
{
	struct voxshm_view view;

	(void)kind;
	for (;;)
		if (voxshm_recv(link, &view, MS) == 0)
			attack_note(board);
}

/* Keeps what it can be lent, and never gives it back. */
static inline void attack_hoard(struct voxshm_link *link, struct board *board, int kind)
{
	struct voxshm_loan loan;

	(void)kind;
	for (size_t size = 100; size <= 100000; size *= 10)
		while (voxshm_loan(link, size, &loan, 0) == 0)
			attack_note(board);
	for (;;)
		pause();
}

/* Both sides' words, set and cleared without a pause, with and without messages. */
static inline void attack_sleep_words(struct voxshm_link *link, struct board *board, int kind)
{
	struct sleep_words *words[] = { own_sleep_words(link), host_sleep_words(link) };

	for (uint32_t i = 0;; i++) {
		for (int side = 0; side < 2; side++) {
			shared_store_u32(&words[side]->data, i % 3 ? UINT32_MAX : 0);
			shared_store_u32(&words[side]->space, i % 2 ? i : 0);
		}
		if (kind)
			voxshm_try_send(link, &i, sizeof(i));
		attack_note(board);
	}
}

/* Kind: as it should be; or a socket full of it, with as many bytes as it takes. */
static inline void attack_rings(struct voxshm_link *link, struct board *board, int kind)
{
	static const uint8_t bytes[4096];
	struct vox_end *end = is_vox(link) ? vox_end(link->end) : NULL;

	for (;;) {
		attack_note(board);
		if (kind && end && end->doorbell >= 0)
			(void)!send(end->doorbell, bytes, sizeof(bytes),
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			ring(link);
	}
}
#define RINGS 2

/* Slots and mappings are said to be back that were never sent, or are still in use. */
static inline void attack_returns(struct voxshm_link *link, struct board *board, int kind)
{
	uint64_t random = 1;

	for (;;) {
		attack_note(board);
		if (is_vox(link)) {
			struct vox_received *received = &vox_link(link)->received;

			for (uint32_t i = 0; i < received->ours.count; i++)
				shared_store_u32(&received->ours.released[i],
						 (uint32_t)random_next(&random));
		} else {
			struct native_link *native = native_link(link);
			const struct native_geometry *geometry = &native->geometry;

			for (uint32_t i = 0; i < geometry->parameters.max_mappings; i++)
				shared_store_u32(&native->received.released[i],
						 (uint32_t)random_next(&random));
			for (uint32_t i = 0; i < geometry->parameters.num_classes; i++) {
				shared_u32 *words = (shared_u32 *)(void *)(native->window.base +
					geometry->returns[NATIVE_HOST][i]);

				for (uint32_t j = 0; j < small_classes[i].slot_count; j++)
					shared_store_u32(&words[j], kind ?
							 (uint32_t)random_next(&random) % 4 :
							 UINT32_MAX);
			}
		}
	}
}
#define RETURNS 2

/* Memory as it should be, offered without end and never spoken of. */
static inline void attack_offers(struct voxshm_link *link, struct board *board, int kind)
{
	int fd = memory_make(WORLD_PAYLOAD, F_SEAL_SHRINK, 1);

	for (uint32_t i = 0;; i++) {
		uint32_t id = kind ? i % WORLD_MAPPINGS : 0;

		attack_note(board);
		if (is_vox(link))
			vox_offer_raw(vox_end(link->end)->control, id, i, WORLD_PAYLOAD, fd, 1);
		else
			native_offer_raw(link->end->wake_fd, id, i, WORLD_PAYLOAD, fd, 1);
		ring(link);
	}
}
#define OFFERS 2

/* The door: callers that do not come in, from a process that has its link besides. */

enum call {
	CALL_SILENT,	/* says nothing */
	CALL_HANG_UP,	/* has gone when the host looks */
	CALL_BEGIN,	/* says the beginning of a request */
	CALL_DRIP,	/* says a long request a byte at a time */
	CALL_NONSENSE,
	CALL_REFUSED,
	CALL_LEAVE,	/* is let in, and goes before it takes its place */
	CALL_STAY,	/* is let in, and neither takes its place nor goes */
	CALLS,
};
#define CALLERS 200	/* at once; more than wait before the host's door, or in its lobby */

static inline int call_host(const struct board *board)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				     strlen(board->address));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, board->address, strlen(board->address));
	address.sun_path[0] = '\0';
	REQUIRE(fd >= 0);
	if (connect(fd, (struct sockaddr *)&address, size) == 0)
		return fd;
	REQUIRE(errno == EAGAIN);
	close(fd);
	return -1;
}

/* Says what a caller of that kind says first. */
static inline void call_speak(int fd, int kind)
{
	static const uint8_t longest[BOOTSTRAP_REQUEST_HEADER] = { 'R', 'S', 'H', '0', 255, 255 };
	static const uint8_t nonsense[4096];
	const void *bytes = longest;
	size_t size = 0;

	if (kind == CALL_BEGIN)
		size = BOOTSTRAP_REQUEST_HEADER - 1;
	if (kind == CALL_DRIP)
		size = BOOTSTRAP_REQUEST_HEADER;
	if (kind == CALL_NONSENSE) {
		bytes = nonsense;
		size = sizeof(nonsense);
	}
	if (size)
		(void)!send(fd, bytes, size, MSG_NOSIGNAL);
	if (kind >= CALL_REFUSED)
		bootstrap_request(fd, kind == CALL_REFUSED ? REFUSED : "", NULL);
}

static inline bool call_stays(int kind)
{
	return kind == CALL_SILENT || kind == CALL_BEGIN || kind == CALL_DRIP || kind == CALL_STAY;
}

static inline void attack_calls(struct voxshm_link *link, struct board *board, int kind)
{
	int fds[CALLERS], next;

	(void)link;
	memset(fds, -1, sizeof(fds));
	for (next = 0;; next = (next + 1) % CALLERS) {
		if (fds[next] >= 0)
			close(fds[next]);
		fds[next] = call_host(board);
		if (fds[next] < 0) {
			sched_yield();
			continue;
		}
		call_speak(fds[next], kind);
		if (!call_stays(kind)) {
			close(fds[next]);
			fds[next] = -1;
		}
		if (kind == CALL_DRIP)
			for (int i = 0; i < CALLERS; i++)
				(void)!send(fds[i], "", 1, MSG_NOSIGNAL);
		attack_note(board);
	}
}

/* A rule is broken: once --------------------------------------------------------------- */

/* Its index into the ring from which it reads. */
static inline void attack_read_index(struct voxshm_link *link, struct board *board, int kind)
{
	static const uint32_t values[] = { UINT32_MAX, 16 * KIB, 16 * KIB + 64, 1u << 31 };
	shared_u32 *read = is_vox(link) ? &vox_link(link)->consumer.ring->read :
					  &native_link(link)->consumer.ring->read;

	shared_store_u32(read, values[kind]);
	/* Whatever the host did in between. */
	ring(link);
	attack_note(board);
}
#define READ_INDICES 4

/* References to mappings that are not there, or not so large. */
static inline void attack_mapping_references(struct voxshm_link *link, struct board *board,
					     int kind)
{
	struct mapping_ref refs[] = {
		{ .map_id = WORLD_MAPPINGS, .length = 1 },
		{ .map_id = UINT32_MAX, .length = 1 },
		{ .map_id = 1, .map_generation = 77, .length = UINT32_MAX },
		{ .map_id = 0, .map_generation = 1, .offset = UINT64_MAX, .length = 2 },
		{ .map_id = 0, .map_generation = 1, .offset = WORLD_PAYLOAD, .length = 1 },
		{ .map_id = 0, .map_generation = 1, .offset = 1ull << 40, .length = 1 },
		{ .map_id = 0, .map_generation = 1, .length = WORLD_PAYLOAD + 1 },
		{ .map_id = 0, .map_generation = 1, .length = 10, .reserved = 1 },
		{ .map_id = 1, .map_generation = 1, .length = 10 },	/* never made */
	};

	/* Makes mapping 0 under generation 1. */
	REQUIRE_EQ(0, send_pattern(link, 200000, 1, PATIENCE));
	if (is_vox(link))
		vox_refer_raw(link, &refs[kind]);
	else
		native_refer_raw(link, &refs[kind]);
	attack_note(board);
}
#define MAPPING_REFERENCES 9

/* A descriptor of a kind that is no memory, or memory that will not do. */
static inline int strange_fd(int kind)
{
	int fds[2];

	switch (kind) {
	case 0:
		return memory_make(4096, 0, 1);
	case 1:
		return memory_make(4096, F_SEAL_GROW, 1);
	case 2:
		return memory_make(4095, F_SEAL_SHRINK, 1);
	case 3:
		REQUIRE_EQ(0, pipe(fds));
		return fds[0];
	case 4:
		REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
		return fds[0];
	case 5:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 6:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case 7:
		return eventfd(0, EFD_CLOEXEC);
	case 8:
		return epoll_create1(EPOLL_CLOEXEC);
	default:
		return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	}
}
#define STRANGE_FDS 10

/* Offers: of strange descriptors; none, two or four; of wrong sizes and numbers. */
static inline void attack_bad_offers(struct voxshm_link *link, struct board *board, int kind)
{
	static const struct { uint32_t id; uint64_t size; int count; } offers[] = {
		{ 0, 4096, 0 }, { 0, 4096, 2 }, { 0, 4096, 4 }, { 0, 0, 1 }, { 0, 4097, 1 },
		{ 0, UINT64_MAX, 1 }, { 0, 1ull << 40, 1 }, { WORLD_MAPPINGS, 4096, 1 },
		{ UINT32_MAX, 4096, 1 },
	};
	bool strange = kind < STRANGE_FDS;
	int fd = strange ? strange_fd(kind) : memory_make(4096, F_SEAL_SHRINK, 1);
	uint32_t id = strange ? 0 : offers[kind - STRANGE_FDS].id;
	uint64_t size = strange ? 4096 : offers[kind - STRANGE_FDS].size;
	int count = strange ? 1 : offers[kind - STRANGE_FDS].count;

	if (is_vox(link))
		vox_offer_raw(vox_end(link->end)->control, id, 1, size, fd, count);
	else
		native_offer_raw(link->end->wake_fd, id, 1, size, fd, count);
	ring(link);
	attack_note(board);
}
#define BAD_OFFERS (STRANGE_FDS + 9)

/* Control messages of wrong lengths and kinds, with descriptors where none belong. */
static inline void attack_bad_messages(struct voxshm_link *link, struct board *board, int kind)
{
	static const struct { int size, kind, reserved, fds; } messages[] = {
		{ 2, 1, 0, 0 }, { 23, 3, 0, 1 }, { 25, 3, 0, 1 }, { 1, 0, 0, 1 }, { 24, 0, 0, 0 },
		{ 24, 4, 0, 0 }, { 24, 3, 1, 1 }, { 24, 2, 0, 1 }, { 200, -1, 0, 4 },
		{ 0, 0, 0, 1 }, { 0, 0, 0, 4 },
	};
	struct { struct file_message message; uint8_t more[200]; } bytes = {
		.message.kind = (uint32_t)messages[kind].kind, .message.size = 4096,
		.message.reserved = (uint32_t)messages[kind].reserved,
	};
	int fd = memory_make(4096, F_SEAL_SHRINK, 1), size = messages[kind].size;

	/* vox's messages are 16 bytes; a doorbell takes any. */
	if (is_vox(link))
		send_with_fds(vox_end(link->end)->control, &bytes, size < 24 ? size : size + 1, fd,
			      messages[kind].fds);
	else
		send_with_fds(link->end->wake_fd, &bytes, size, fd, messages[kind].fds);
	ring(link);
	attack_note(board);
}
#define BAD_MESSAGES 11

/* An attacker's life ------------------------------------------------------------------ */

struct attack {
	attack_fn *run;
	struct board *board;
	int kind;
};

static inline void attacker_run(struct voxshm_link *link, void *argument)
{
	const struct attack *attack = argument;

	attack->run(link, attack->board, attack->kind);
	for (;;)
		pause();
}

/* A process that attacks, and the host's end of its link. */
static inline void attack_begin(struct __test_metadata *_metadata, struct world *world,
				attack_fn *run, int kind)
{
	struct attack attack = { run, world->board, kind };

	world->board->attacking = false;
	world->attacker_ended = false;
	world->attacker_pid = guest_fork(_metadata, world->host, attacker_run, &attack,
					 &world->attacker);
}

/* Serves until it has begun. Return: false when it does not. */
static inline bool attack_goes_on(struct world *world)
{
	int64_t until = now_ns() + PATIENCE;

	while (!world->board->attacking && now_ns() < until)
		serve(world);
	return world->board->attacking;
}

#endif
