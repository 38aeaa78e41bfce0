/* SPDX-License-Identifier: MIT */
/*
 * cmd_demo.c - voxshm demo: what happens in the demo (demo_host.c), in words
 * or as a JSON object.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "demo_host.h"
#include "report.h"

#define FILES "/usr/bin"

enum {
	OPTION_FILE = OPTION_OWN,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option options[] = {
	{ "file", required_argument, NULL, OPTION_FILE },
	HOSTING_SEGMENT_OPTIONS,
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const char help[] =
	"Usage: voxshm demo [OPTION]...\n"
	"\n"
	"Show a host and three guests at work, each a process of its own: one sends a\n"
	"file, one small messages, one is killed while it sends and another takes its\n"
	"place. All that arrives is checked; if anything is wrong, so is the exit status.\n"
	"\n"
	"  --file FILE            the file to send (default: the largest in " FILES ")\n"
	HOSTING_SEGMENT_HELP
	"  --json                 the outcome as a JSON object\n"
	"  --help                 show this\n";

/* Return: 0, or -1 when there is none. */
static int find_largest(char *path, size_t room)
{
	DIR *directory = opendir(FILES);
	struct dirent *entry;
	struct stat stat;
	off_t largest = 0;

	if (!directory)
		return -1;
	while ((entry = readdir(directory))) {
		if (fstatat(dirfd(directory), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(stat.st_mode) || stat.st_size <= largest ||
		    faccessat(dirfd(directory), entry->d_name, R_OK, 0) < 0)
			continue;
		largest = stat.st_size;
		snprintf(path, room, FILES "/%s", entry->d_name);
	}
	closedir(directory);
	return largest ? 0 : -1;
}

/* 1234567 as "1,234,567". */
#define NUMBER_TEXT 32
static const char *number_text(char text[NUMBER_TEXT], uint64_t number)
{
	char *to = text + NUMBER_TEXT - 1;
	int digits = 0;

	*to = '\0';
	do {
		if (digits && digits % 3 == 0)
			*--to = ',';
		*--to = (char)('0' + number % 10);
		number /= 10;
		digits++;
	} while (number);
	return to;
}

__attribute__((format(printf, 2, 3)))
static void say(const struct demo *demo, const char *format, ...)
{
	va_list arguments;

	printf("%7.3f s  ", seconds_since(demo->start));
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
}

#define MARGIN "           "

static void say_started(const struct demo *demo, const struct demo_member *member)
{
	const struct voxshm_status *status = &member->status;
	char number[NUMBER_TEXT];

	if (member == &demo->members[DEMO_FILE])
		say(demo, "Guest 1 (process %d) sends the file %s.\n", (int)status->pid,
		    demo->path);
	else if (member == &demo->members[DEMO_STEADY])
		say(demo, "Guest 2 (process %d) sends %s small messages.\n", (int)status->pid,
		    number_text(number, member->wanted));
	else if (member == &demo->members[DEMO_VICTIM])
		say(demo, "Guest 3 (process %d) sends small messages without end.\n",
		    (int)status->pid);
	else
		say(demo, "A new guest (process %d) takes its place: peer id %u again, in epoch "
		    "%u after %u.\n", (int)status->pid, status->peer_id, status->epoch,
		    demo->members[DEMO_VICTIM].status.epoch);
}

static void say_died(const struct demo *demo, const struct demo_member *victim)
{
	char received[NUMBER_TEXT], late[NUMBER_TEXT], text[STATUS_TEXT];

	say(demo, "Guest 3 %s.\n", status_text(text, &victim->status));
	printf(MARGIN "Of what it had sent, nothing is lost: messages 1 to %s are here, %s of\n"
	       MARGIN "them received after the kill; none is missing, and the last is whole.\n",
	       number_text(received, victim->received),
	       number_text(late, victim->received - demo->received_at_kill));
}

static void say_finished(const struct demo *demo, const struct demo_member *member)
{
	char text[RATE_TEXT], sum[DIGEST_TEXT], number[NUMBER_TEXT];

	if (member != &demo->members[DEMO_FILE]) {
		say(demo, "%s: all %s messages are here, in order; every checksum is right.\n",
		    member == &demo->members[DEMO_STEADY] ? "Guest 2" : "The new guest",
		    number_text(number, member->received));
		return;
	}
	say(demo, "Guest 1: the file is here: %s.\n",
	    rate_text(text, member->bytes, demo->incoming.seconds));
	printf(MARGIN "sha256 of the file  %.32s...\n", digest_text(sum, demo->sha256));
	printf(MARGIN "sha256 of the copy  %.32s...  equal\n",
	       digest_text(sum, demo->incoming.sha256));
}

static void narrate(struct demo *demo, enum demo_step step, struct demo_member *member)
{
	char number[NUMBER_TEXT];

	switch (step) {
	case DEMO_STEP_STARTED:
		say_started(demo, member);
		break;
	case DEMO_STEP_KILLED:
		say(demo, "Guest 3 is killed (SIGKILL) in the middle of it, after message %s.\n",
		    number_text(number, member->received));
		break;
	case DEMO_STEP_DIED:
		say_died(demo, member);
		break;
	case DEMO_STEP_FINISHED:
		say_finished(demo, member);
		break;
	}
	fflush(stdout);
}

static void keep_quiet(struct demo *demo, enum demo_step step, struct demo_member *member)
{
	(void)demo, (void)step, (void)member;
}

static void introduce(const struct demo *demo)
{
	bool device = strcmp(voxshm_backend_name(demo->host), "device") == 0;

	printf("A host (this process) and three guests, each a process of its own, share\n"
	       "memory and pass messages through it.\n"
	       "Backend: %s. Format: %s.\n\n",
	       device ? "device (/dev/voxshm)" : "file (no kernel module needed)",
	       format_text(demo->hosting.config.format));
	fflush(stdout);
}

static void conclude(const struct demo *demo)
{
	const struct demo_member *members = demo->members;
	char messages[NUMBER_TEXT], size[SIZE_TEXT];
	uint64_t count = 0, bytes = 0;
	int i;

	for (i = 0; i < DEMO_GUESTS; i++) {
		count += members[i].received;
		bytes += members[i].bytes;
	}
	printf("\nIn all %s messages, %s, in %.2f s.\n"
	       "Everything was checked and is as it must be.\n",
	       number_text(messages, count), size_text(size, (double)bytes),
	       seconds_since(demo->start));
}

static json_t *member_json(const struct demo_member *member)
{
	return json_pack("{s:o, s:I, s:I}", "peer", report_peer(&member->status),
			 "messages", (json_int_t)member->received, "bytes",
			 (json_int_t)member->bytes);
}

static json_t *demo_json(const struct demo *demo, bool ok)
{
	const struct demo_member *members = demo->members;
	char sent[DIGEST_TEXT], received[DIGEST_TEXT];
	json_t *json = json_pack("{s:b, s:o, s:s?, s:s, s:f}",
		"ok", ok, "error", ok ? json_null() : report_text(demo->problem.text),
		"backend", demo->host ? voxshm_backend_name(demo->host) : NULL,
		"format", format_text(demo->hosting.config.format),
		"seconds", seconds_since(demo->start));

	if (!ok)
		return json;
	json_object_set_new(json, "file", member_json(&members[DEMO_FILE]));
	json_object_update_new(json_object_get(json, "file"), json_pack("{s:o, s:s, s:s, s:f}",
		"path", report_text(demo->path), "sha256_sent", digest_text(sent, demo->sha256),
		"sha256_received", digest_text(received, demo->incoming.sha256),
		"seconds", demo->incoming.seconds));
	json_object_set_new(json, "messages", member_json(&members[DEMO_STEADY]));
	json_object_set_new(json, "killed", member_json(&members[DEMO_VICTIM]));
	json_object_update_new(json_object_get(json, "killed"), json_pack("{s:I, s:I}",
		"received_at_kill", (json_int_t)demo->received_at_kill,
		"sent_by_its_own_count", (json_int_t)demo->sent_by_victim));
	json_object_set_new(json, "newcomer", member_json(&members[DEMO_NEWCOMER]));
	return json;
}

static int show(struct demo *demo, bool as_json)
{
	int result;

	stop_catch();
	result = demo_open(demo);
	if (result == 0) {
		if (!as_json)
			introduce(demo);
		result = demo_run(demo);
	}
	if (as_json)
		report_line(stdout, demo_json(demo, result == 0));
	else if (result == 0)
		conclude(demo);
	demo_close(demo);
	if (result < 0)
		return stop_exit(fail("%s", demo->problem.text));
	return EXIT_SUCCESS;
}

int cmd_demo(int argc, char **argv)
{
	struct demo demo = { .hosting = HOSTING_INIT, .tell = narrate, .start = now_ns() };
	char found[sizeof(FILES) + 256];
	bool json = false;
	int option, status = 0;

	while (!status && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_FILE:
			demo.path = optarg;
			break;
		case OPTION_JSON:
			json = true;
			demo.tell = keep_quiet;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			status = hosting_option(&demo.hosting, option, optarg, argv[optind - 1]);
		}
	}
	if (status)
		return status;
	if (optind < argc)
		return misuse("it takes options only, not \"%s\"", argv[optind]);
	if (!demo.path) {
		if (find_largest(found, sizeof(found)) < 0)
			return fail("there is no file to send in " FILES "; name one with --file");
		demo.path = found;
	}
	return show(&demo, json);
}
