/* SPDX-License-Identifier: MIT */
/*
 * cmd_send.c - voxshm send: a guest that sends one file or one message.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "outgoing.h"
#include "report.h"

enum {
	OPTION_MESSAGE = 0x100,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option options[] = {
	{ "message", required_argument, NULL, OPTION_MESSAGE },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const char help[] =
	"Usage: voxshm send [OPTION]... ADDRESS [FILE]\n"
	"\n"
	"Connect to the host that listens on ADDRESS (voxshm recv or voxshm serve) and\n"
	"send it FILE, or standard input. Ends when the host has it, whole and checked.\n"
	"\n"
	"  --message TEXT         send TEXT as one message, and no file\n"
	"  --timeout SECONDS      how long to wait for the host to appear (default 10)\n"
	"  --json                 the summary as a JSON object\n"
	"  --help                 show this\n";

struct send {
	const char *address;
	const char *path;	/* NULL: standard input */
	const char *message;	/* NULL: a file */
	int64_t timeout;
	bool json;
	struct voxshm_link *link;
	struct problem problem;
};

static int connect_problem(struct send *send, int error, const char *text)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
		return problem_set(&send->problem, "no host listens on %s; start one with: voxshm "
				   "recv %s FILE", send->address, send->address);
	case -ETIMEDOUT:
	case -EAGAIN:
		return problem_set(&send->problem, "the host on %s does not answer; look at it, or "
				   "wait longer with --timeout", send->address);
	case -EUSERS:
		return problem_set(&send->problem, "the host on %s has as many guests as it takes; "
				   "try again when one has left", send->address);
	case -EACCES:
		return problem_set(&send->problem, "the host on %s may not be reached: %s",
				   send->address, text[0] ? text : strerror(EACCES));
	default:
		return problem_set(&send->problem, "cannot become a guest on %s: %s", send->address,
				   text[0] ? text : strerror(-error));
	}
}

/* Waits for the address to appear, and for its host to answer. */
static int connect_host(struct send *send)
{
	const struct timespec nap = { .tv_nsec = 10000000 };
	int64_t deadline = now_ns() + send->timeout, left;
	struct voxshm_error error = { "" };
	int result;

	for (;;) {
		left = deadline - now_ns();
		if (left < 0)
			left = 0;
		/* Who is there has a second to answer even when there is no time to wait. */
		result = voxshm_guest_connect(&send->link, send->address, NULL,
					      left > NS_PER_SECOND ? left : NS_PER_SECOND, &error);
		if (result == 0)
			return 0;
		if (stop_signal())
			return problem_set(&send->problem, "stopped by a signal before the host "
					   "was there");
		if ((result != -ENOENT && result != -ECONNREFUSED && result != -EAGAIN &&
		     result != -EINTR) || left == 0)
			return connect_problem(send, result, error.text);
		nanosleep(&nap, NULL);
	}
}

static int send_message(struct send *send)
{
	int error;

	do
		error = voxshm_send(send->link, send->message, strlen(send->message),
				    VOXSHM_FOREVER);
	while (error == -EINTR && !stop_signal());
	if (error == -EMSGSIZE)
		return problem_set(&send->problem, "the message is longer than the host takes (%zu "
				   "bytes)", voxshm_link_max_payload(send->link));
	if (error)
		return problem_set(&send->problem, "cannot send: %s", strerror(-error));
	return 0;
}

static int send_file(struct send *send, struct source *source)
{
	struct outgoing outgoing = { 0 };
	struct report report = { .verb = "sent", .name = source->name, .sha256 = outgoing.sha256 };
	int result;

	if (source->fd == 0)
		report.name = "standard input";
	result = connect_host(send);
	if (result == 0)
		result = outgoing_send(&outgoing, send->link, source, !send->json, &send->problem);
	report.error = result < 0 ? send->problem.text : NULL;
	report.bytes = outgoing.bytes;
	report.seconds = outgoing.seconds;
	report.link = send->link;
	report_print(stdout, &report, send->json);
	return result;
}

static int send_run(struct send *send)
{
	struct source source;
	int result;

	stop_catch();
	if (send->message) {
		result = connect_host(send);
		if (result == 0)
			result = send_message(send);
	} else {
		result = source_open(&source, send->path, &send->problem);
		if (result == 0) {
			result = send_file(send, &source);
			source_close(&source);
		}
	}
	voxshm_link_close(send->link);
	if (result < 0)
		return stop_exit(fail("%s", send->problem.text));
	return EXIT_SUCCESS;
}

int cmd_send(int argc, char **argv)
{
	struct send send = { .timeout = 10 * NS_PER_SECOND };
	int option;

	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_MESSAGE:
			send.message = optarg;
			break;
		case OPTION_TIMEOUT:
			if (parse_seconds(optarg, &send.timeout) < 0)
				return misuse("--timeout is a number of seconds such as 10 or 0.5, "
					      "not \"%s\"", optarg);
			break;
		case OPTION_JSON:
			send.json = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			return misuse_option(option, argv[optind - 1]);
		}
	}
	if (argc - optind < 1 || argc - optind > 2)
		return misuse("it takes an ADDRESS and perhaps a FILE");
	send.address = argv[optind];
	send.path = argv[optind + 1];
	if (send.message && send.path)
		return misuse("it sends --message or a FILE, not both");
	return send_run(&send);
}
