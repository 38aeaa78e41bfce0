/* SPDX-License-Identifier: MIT */
/*
 * crate.h - the crate vox-shm 0.3.1 as the other end: the program of src/,
 * told what to do a line at a time, and links joined with it.
 */
#ifndef CRATE_H
#define CRATE_H

#include <fcntl.h>
#include <kselftest_harness.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

#define REQUIRE(condition) do {								\
	if (!(condition)) {								\
		fprintf(stderr, "# %s:%d: pid %d: not true: %s: %m\n", __FILE__,	\
			__LINE__, (int)getpid(), #condition);				\
		_exit(97);								\
	}										\
} while (0)

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static inline void sleep_ms(int ms)
{
	struct timespec rest = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&rest, &rest) < 0)
		;
}

/* fork() whose child dies with its parent. */
static inline pid_t child_fork(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* The program --------------------------------------------------------------------- */

struct crate {
	pid_t pid;
	int socket;
	size_t length;
	char answer[4096];
};

/* The Makefile says where it is. */
static inline char *crate_program(void)
{
	char *program = getenv("VOX_SHM_PEER_PROGRAM");

	return program ? program : (char *)"build/interop/release/vox-shm-peer";
}

/* Starts it; a ticket (or -1) is what it can inherit, and stays the caller's. */
static inline void crate_start(struct crate *crate, int ticket)
{
	const char *program = crate_program();
	int sockets[2];
	char word[16];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
	*crate = (struct crate){ .socket = sockets[0] };
	crate->pid = child_fork();
	if (crate->pid == 0) {
		if (ticket >= 0) {
			snprintf(word, sizeof(word), "%d", fcntl(ticket, F_DUPFD, 3));
			setenv("VOXSHM_TICKET", word, 1);
		}
		/* Where it puts the memory of large payloads. */
		setenv("TMPDIR", "/dev/shm", 1);
		snprintf(word, sizeof(word), "%d", fcntl(sockets[1], F_DUPFD, 3));
		execl(program, program, word, NULL);
		REQUIRE(!"the program can be started");
	}
	close(sockets[1]);
}

static inline void crate_kill(struct crate *crate)
{
	if (crate->pid <= 0)
		return;
	kill(crate->pid, SIGKILL);
	waitpid(crate->pid, NULL, 0);
	close(crate->socket);
	crate->pid = 0;
}

/* Tells it to do something, and does not wait. */
__attribute__((format(printf, 2, 3)))
static inline void crate_say(struct crate *crate, const char *format, ...)
{
	char line[4096];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	REQUIRE(length >= 0 && (size_t)length < sizeof(line) - 1);
	line[length++] = '\n';
	REQUIRE(send(crate->socket, line, (size_t)length, MSG_NOSIGNAL) == length);
}

/* Waits for its answer. Return: what follows "ok ", or "error ..." whole. */
static inline const char *crate_hear(struct crate *crate)
{
	struct pollfd pollfd = { .fd = crate->socket, .events = POLLIN };
	size_t length = 0;
	ssize_t size;

	for (;;) {
		if (poll(&pollfd, 1, (int)(2 * PATIENCE / 1000000)) != 1)
			return "no answer in time";
		size = recv(crate->socket, crate->answer + length,
			    sizeof(crate->answer) - 1 - length, 0);
		if (size <= 0)
			return "it has ended";
		length += (size_t)size;
		if (crate->answer[length - 1] == '\n')
			break;
	}
	crate->answer[length - 1] = '\0';
	if (!strcmp(crate->answer, "ok"))
		return "";
	return strncmp(crate->answer, "ok ", 3) ? crate->answer : crate->answer + 3;
}

#define ask(crate, ...) (crate_say(crate, __VA_ARGS__), crate_hear(crate))

/* Joined links ----------------------------------------------------------------------- */

/* One of the two is the host: this test, through libvoxshm, or the crate. */
struct joined {
	struct crate crate;
	struct voxshm_host *host;	/* ours; NULL: the crate is the host */
	struct voxshm_link *link;
	char directory[64], segment[96], address[96];
};

static inline void directory_make(struct joined *joined)
{
	snprintf(joined->directory, sizeof(joined->directory), "/dev/shm/voxshm-interop-XXXXXX");
	REQUIRE(mkdtemp(joined->directory));
	snprintf(joined->segment, sizeof(joined->segment), "%s/segment", joined->directory);
	snprintf(joined->address, sizeof(joined->address), "%s/socket", joined->directory);
}

static inline void directory_remove(struct joined *joined)
{
	unlink(joined->segment);
	unlink(joined->address);
	if (*joined->directory)
		rmdir(joined->directory);
}

/* Tells the crate to make a segment of that configuration, whose fields are all set. */
static inline const char *crate_create(struct crate *crate, const char *path,
				       const struct voxshm_config *config)
{
	char classes[256] = "";
	uint32_t i;

	for (i = 0; i < config->num_classes; i++)
		snprintf(classes + strlen(classes), sizeof(classes) - strlen(classes), " %u %u",
			 config->classes[i].slot_size, config->classes[i].slot_count);
	return ask(crate, "create %s %u %u %u %u %ju%s", path, config->max_guests,
		   config->ring_capacity, config->max_payload, config->inline_threshold,
		   (uintmax_t)config->heartbeat_interval, classes);
}

/* Our host, and a crate that holds a ticket of its. */
static inline void join_our_host(struct __test_metadata *_metadata, struct joined *joined)
{
	struct voxshm_error error = { "" };
	struct voxshm_status status;
	int ticket = -1;
	char expected[16];

	ASSERT_EQ(0, voxshm_host_ticket(joined->host, &ticket, &joined->link, &error))
		TH_LOG("%s", error.text);
	crate_start(&joined->crate, ticket);
	close(ticket);
	voxshm_link_status(joined->link, &status);
	snprintf(expected, sizeof(expected), "%u /", status.peer_id);
	ASSERT_EQ(0, strncmp(expected, ask(&joined->crate, "inherit"), strlen(expected)))
		TH_LOG("%s", joined->crate.answer);
}

/* The crate's host, which has a segment and listens, and a guest of ours. */
static inline void join_crate_host(struct __test_metadata *_metadata, struct joined *joined)
{
	struct voxshm_error error = { "" };

	crate_say(&joined->crate, "accept");
	ASSERT_EQ(0, voxshm_guest_connect(&joined->link, joined->address, "session", PATIENCE,
					  &error))
		TH_LOG("%s", error.text);
	ASSERT_STREQ("1 session", crate_hear(&joined->crate));
}

static inline void join(struct __test_metadata *_metadata, struct joined *joined, bool our_host,
			const struct voxshm_config *config)
{
	struct voxshm_error error = { "" };

	directory_make(joined);
	if (our_host) {
		ASSERT_EQ(0, voxshm_host_new(&joined->host, config, &error))
			TH_LOG("%s", error.text);
		join_our_host(_metadata, joined);
	} else {
		crate_start(&joined->crate, -1);
		ASSERT_STREQ("", crate_create(&joined->crate, joined->segment, config));
		ASSERT_STREQ("", ask(&joined->crate, "listen %s", joined->address));
		join_crate_host(_metadata, joined);
	}
}

/* Our end and the crate's program go; the host stays. */
static inline void part_end(struct joined *joined)
{
	voxshm_link_close(joined->link);
	joined->link = NULL;
	if (joined->host)
		crate_kill(&joined->crate);
}

static inline void part(struct joined *joined)
{
	if (joined->host)
		voxshm_host_free(joined->host);
	else
		voxshm_link_close(joined->link);
	crate_kill(&joined->crate);
	directory_remove(joined);
}

/* Tests run for both; `our_host` is in the variant. */
#define EITHER_IS_HOST(fixture)								\
	FIXTURE_VARIANT(fixture) { bool our_host; };					\
	FIXTURE_VARIANT_ADD(fixture, our_host) { .our_host = true };			\
	FIXTURE_VARIANT_ADD(fixture, crates_host) { .our_host = false }

#define VOX_CONFIG(...)									\
	((struct voxshm_config){ .struct_size = sizeof(struct voxshm_config),		\
				 .format = VOXSHM_FORMAT_VOX,				\
				 .backend = VOXSHM_BACKEND_FILE, __VA_ARGS__ })

/* Traffic between both ---------------------------------------------------------------- */

static inline void send_to_crate(struct __test_metadata *_metadata, struct joined *joined,
				 const struct traffic *traffic, struct manner manner)
{
	struct digest digest = { 0 };
	char text[128];

	crate_say(&joined->crate, "recv " TRAFFIC_FORMAT " %u %u", TRAFFIC_WORDS(traffic),
		  manner.hold, manner.pause);
	EXPECT_EQ(0, traffic_send(joined->link, traffic, &digest));
	ASSERT_STREQ(digest_text(&digest, text), crate_hear(&joined->crate));
}

static inline void recv_from_crate(struct __test_metadata *_metadata, struct joined *joined,
				   const struct traffic *traffic, struct manner manner)
{
	struct digest digest = { 0 };
	char text[128];

	crate_say(&joined->crate, "send " TRAFFIC_FORMAT, TRAFFIC_WORDS(traffic));
	EXPECT_EQ(0, traffic_recv(joined->link, traffic, manner, &digest));
	ASSERT_STREQ(digest_text(&digest, text), crate_hear(&joined->crate));
}

/* First all one way, then all the other. */
static inline void exchange(struct __test_metadata *_metadata, struct joined *joined,
			    const struct traffic *traffic, struct manner manner)
{
	send_to_crate(_metadata, joined, traffic, manner);
	recv_from_crate(_metadata, joined, traffic, manner);
}

/* What a test sends that is about something else: MANY messages, inline and in slots. */
static inline void exchange_many(struct __test_metadata *_metadata, struct joined *joined)
{
	static const struct traffic traffic = { .seed = 1, .count = MANY / 2, .max = 1000 };

	exchange(_metadata, joined, &traffic, (struct manner){ 0 });
}

#endif
