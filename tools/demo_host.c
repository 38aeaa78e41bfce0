/* SPDX-License-Identifier: MIT */
/*
 * demo_host.c - the demo's host; see demo_host.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "demo_host.h"

#define EVENTS 8
/* Messages taken from one guest before the others have their turn. */
#define TURN 64
#define PATIENCE (50 * NS_PER_SECOND)

/* Guests are numbered as a reader of the demo counts them. */
static int number_of(const struct demo *demo, const struct demo_member *member)
{
	return (int)(member - demo->members) + 1;
}

static int hash_file(struct demo *demo)
{
	struct digest *digest = digest_new();
	int fd = open(demo->path, O_RDONLY | O_CLOEXEC);
	static uint8_t bytes[64 << 10];
	ssize_t size = -1;

	if (digest && fd >= 0)
		while ((size = read(fd, bytes, sizeof(bytes))) > 0)
			digest_update(digest, bytes, (size_t)size);
	if (size == 0)
		digest_final(digest, demo->sha256);
	else
		problem_set(&demo->problem, "cannot read %s: %s; choose another with --file",
			    demo->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	digest_free(digest);
	return size == 0 ? 0 : -1;
}

/* The page in which a guest that sends numbered messages keeps count. */
static int page_new(struct demo *demo, struct demo_member *member)
{
	/* Not close-on-exec: the guest inherits it. */
	member->page_fd = memfd_create("voxshm-demo", 0);
	if (member->page_fd < 0 || ftruncate(member->page_fd, sizeof(*member->page)) < 0)
		return problem_set(&demo->problem, "cannot make a page to count in: %s",
				   strerror(errno));
	member->page = mmap(NULL, sizeof(*member->page), PROT_READ, MAP_SHARED, member->page_fd, 0);
	if (member->page == MAP_FAILED) {
		member->page = NULL;
		return problem_set(&demo->problem, "cannot map a page to count in: %s",
				   strerror(errno));
	}
	return 0;
}

static void page_free(struct demo_member *member)
{
	if (member->page)
		munmap(member->page, sizeof(*member->page));
	if (member->page_fd >= 0)
		close(member->page_fd);
	member->page = NULL;
	member->page_fd = -1;
}

static int spawn(struct demo *demo, struct demo_member *member, char **arguments)
{
	struct voxshm_error error = { "" };
	int result;

	result = voxshm_host_spawn(demo->host, "/proc/self/exe", arguments, &member->link, &error);
	if (result < 0)
		return problem_set(&demo->problem, "cannot start guest %d: %s",
				   number_of(demo, member),
				   error.text[0] ? error.text : strerror(-result));
	voxshm_link_set_data(member->link, member);
	member->start = now_ns();
	return 0;
}

static int spawn_file(struct demo *demo)
{
	char *arguments[] = { "voxshm", "demo-guest", "file", (char *)demo->path, NULL };

	return spawn(demo, &demo->members[DEMO_FILE], arguments);
}

static int spawn_messages(struct demo *demo, struct demo_member *member, uint64_t count)
{
	char count_text[24], fd_text[16];
	char *arguments[] = { "voxshm", "demo-guest", "messages", count_text, fd_text, NULL };

	member->wanted = count;
	if (page_new(demo, member) < 0)
		return -1;
	snprintf(count_text, sizeof(count_text), "%llu", (unsigned long long)count);
	snprintf(fd_text, sizeof(fd_text), "%d", member->page_fd);
	return spawn(demo, member, arguments);
}

int demo_open(struct demo *demo)
{
	struct voxshm_error error = { "" };
	int i, result;

	for (i = 0; i < DEMO_GUESTS; i++)
		demo->members[i].page_fd = -1;
	demo->nowhere = (struct destination){ .stream = -1, .folder = -1 };
	if (incoming_init(&demo->incoming) < 0)
		return problem_set(&demo->problem, "out of memory");
	if (destination_open_file(&demo->nowhere, "/dev/null", false, &demo->problem) < 0 ||
	    hash_file(demo) < 0)
		return -1;
	/* No place to spare: the newcomer can only come into the victim's. */
	demo->hosting.config.max_guests = 3;
	result = voxshm_host_new(&demo->host, &demo->hosting.config, &error);
	if (result < 0)
		return problem_set(&demo->problem, "cannot become a host: %s",
				   error.text[0] ? error.text : strerror(-result));
	return 0;
}

void demo_close(struct demo *demo)
{
	struct demo_member *member;
	struct voxshm_status status;

	for (member = demo->members; member < demo->members + DEMO_GUESTS; member++) {
		if (member->link) {
			voxshm_link_status(member->link, &status);
			if (status.state == VOXSHM_LINK_ATTACHED && status.pid > 0)
				kill(status.pid, SIGKILL);
			voxshm_link_close(member->link);
			member->link = NULL;
		}
		page_free(member);
	}
	voxshm_host_free(demo->host);
	incoming_deinit(&demo->incoming);
	destination_close(&demo->nowhere);
}

static int finish(struct demo *demo, struct demo_member *member)
{
	member->finished = true;
	member->seconds = seconds_since(member->start);
	demo->tell(demo, DEMO_STEP_FINISHED, member);
	return 0;
}

static int check_file(struct demo *demo, struct demo_member *member, const struct voxshm_view *view)
{
	struct incoming *in = &demo->incoming;
	enum incoming_step step = incoming_feed(in, &demo->nowhere, view->data, view->size);
	uint8_t answer[INCOMING_RESULT_ROOM];
	size_t size;
	int error;

	member->received++;
	if (step == INCOMING_BEGUN || step == INCOMING_MORE)
		return 0;
	if (step != INCOMING_STORED)
		return problem_set(&demo->problem, "the file did not arrive: %s", in->problem.text);
	if (memcmp(in->sha256, demo->sha256, DIGEST_SIZE) != 0)
		return problem_set(&demo->problem, "the checksums of the file are not equal");
	member->bytes = in->received;
	size = incoming_result(in, step, answer);
	error = voxshm_send(member->link, answer, size, PATIENCE);
	if (error)
		return problem_set(&demo->problem, "cannot answer guest 1: %s", strerror(-error));
	return finish(demo, member);
}

static const char *fault_of(const struct demo_member *member, const struct voxshm_view *view)
{
	const struct demo_message *message = view->data;
	uint64_t number = member->received + 1;
	uint32_t count = demo_count_words(number), i;

	if (view->size < offsetof(struct demo_message, words))
		return "a message is cut short";
	if (number > member->wanted || message->number != number)
		return "a message is missing, or came twice";
	if (view->size != offsetof(struct demo_message, words) + count * sizeof(uint64_t))
		return "a message has the wrong size";
	for (i = 0; i < count; i++)
		if (message->words[i] != demo_word(number, i))
			return "a message has wrong bytes";
	if (message->checksum != demo_checksum(number, message->words, count))
		return "a checksum is wrong";
	return NULL;
}

static int check_message(struct demo *demo, struct demo_member *member,
			 const struct voxshm_view *view)
{
	const char *fault = fault_of(member, view);

	if (fault)
		return problem_set(&demo->problem, "guest %d, after message %llu: %s",
				   number_of(demo, member), (unsigned long long)member->received,
				   fault);
	member->received++;
	member->bytes += view->size;
	if (member == &demo->members[DEMO_VICTIM] && member->received == DEMO_KILL_AFTER) {
		demo->received_at_kill = member->received;
		kill(member->status.pid, SIGKILL);
		demo->tell(demo, DEMO_STEP_KILLED, member);
	}
	return member->received == member->wanted ? finish(demo, member) : 0;
}

static int readable(struct demo *demo, struct demo_member *member)
{
	bool is_file = member == &demo->members[DEMO_FILE];
	struct voxshm_view view;
	int left = TURN, result = 0;

	while (result == 0 && left-- && voxshm_try_recv(member->link, &view) == 0) {
		result = is_file ? check_file(demo, member, &view) :
				   check_message(demo, member, &view);
		voxshm_release(member->link, &view);
	}
	return result;
}

/* What is told of the victim's end must fit what was done to it. */
static int check_death(struct demo *demo, struct demo_member *victim)
{
	demo->sent_by_victim = atomic_load(&victim->page->sent);
	if (demo->received_at_kill == 0)
		return problem_set(&demo->problem, "guest 3 ended before it was killed");
	if (victim->status.state != VOXSHM_LINK_DIED ||
	    victim->status.exit_kind != VOXSHM_EXIT_SIGNAL || victim->status.exit_value != SIGKILL)
		return problem_set(&demo->problem, "guest 3 was killed by SIGKILL, but its death "
				   "was not reported so");
	/* It may have died between the sending of one more and the counting of it. */
	if (victim->received < demo->sent_by_victim ||
	    victim->received > demo->sent_by_victim + 1)
		return problem_set(&demo->problem, "guest 3 had sent %llu messages, but %llu came",
				   (unsigned long long)demo->sent_by_victim,
				   (unsigned long long)victim->received);
	demo->tell(demo, DEMO_STEP_DIED, victim);
	return 0;
}

static int ended(struct demo *demo, struct demo_member *member)
{
	char text[STATUS_TEXT];

	voxshm_link_status(member->link, &member->status);
	voxshm_link_close(member->link);
	member->link = NULL;
	member->ended = true;
	if (member == &demo->members[DEMO_VICTIM]) {
		if (check_death(demo, member) < 0)
			return -1;
		return spawn_messages(demo, &demo->members[DEMO_NEWCOMER], DEMO_MORE_MESSAGES);
	}
	if (!demo->goodbye_said || member->status.state != VOXSHM_LINK_LEFT)
		return problem_set(&demo->problem, "guest %d was to stay, but %s",
				   number_of(demo, member), status_text(text, &member->status));
	return 0;
}

static int attached(struct demo *demo, struct demo_member *member)
{
	const struct voxshm_status *victim = &demo->members[DEMO_VICTIM].status;

	voxshm_link_status(member->link, &member->status);
	if (member == &demo->members[DEMO_NEWCOMER] &&
	    (member->status.peer_id != victim->peer_id || member->status.epoch <= victim->epoch))
		return problem_set(&demo->problem, "the newcomer has place %u, epoch %u, not place "
				   "%u in a later epoch than %u", member->status.peer_id,
				   member->status.epoch, victim->peer_id, victim->epoch);
	demo->tell(demo, DEMO_STEP_STARTED, member);
	return 0;
}

/* Once all have finished: lets them go. */
static int say_goodbye(struct demo *demo)
{
	struct demo_member *member;
	int error;

	for (member = demo->members; member < demo->members + DEMO_GUESTS; member++)
		if (!member->finished && !member->ended)
			return 0;
	for (member = demo->members; member < demo->members + DEMO_GUESTS; member++) {
		if (member->ended || demo->goodbye_said)
			continue;
		error = voxshm_send(member->link, "goodbye", 7, PATIENCE);
		if (error)
			return problem_set(&demo->problem, "cannot say goodbye to guest %d: %s",
					   number_of(demo, member), strerror(-error));
	}
	demo->goodbye_said = true;
	return 0;
}

static bool all_ended(const struct demo *demo)
{
	int i;

	for (i = 0; i < DEMO_GUESTS; i++)
		if (!demo->members[i].ended)
			return false;
	return true;
}

static int handle(struct demo *demo, const struct voxshm_event *event)
{
	struct demo_member *member = voxshm_link_data(event->link);

	switch (event->type) {
	case VOXSHM_EVENT_ATTACHED:
		return attached(demo, member);
	case VOXSHM_EVENT_READABLE:
		return readable(demo, member);
	case VOXSHM_EVENT_WRITABLE:
		return 0;
	default:
		return ended(demo, member);
	}
}

int demo_run(struct demo *demo)
{
	struct demo_member *members = demo->members;
	struct voxshm_event events[EVENTS];
	int count, i;

	demo->start = now_ns();
	if (spawn_file(demo) < 0 ||
	    spawn_messages(demo, &members[DEMO_STEADY], DEMO_MESSAGES) < 0 ||
	    spawn_messages(demo, &members[DEMO_VICTIM], UINT64_MAX) < 0)
		return -1;
	while (!all_ended(demo)) {
		count = voxshm_host_wait(demo->host, events, EVENTS, PATIENCE);
		if (stop_signal())
			return problem_set(&demo->problem, "stopped by a signal");
		if (count < 0 && count != -EINTR)
			return problem_set(&demo->problem, "cannot wait: %s", strerror(-count));
		if (count == 0)
			return problem_set(&demo->problem, "nothing has happened for long");
		for (i = 0; i < count; i++)
			if (handle(demo, &events[i]) < 0)
				return -1;
		if (say_goodbye(demo) < 0)
			return -1;
	}
	return 0;
}
