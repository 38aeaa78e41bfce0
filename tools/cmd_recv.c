/* SPDX-License-Identifier: MIT */
/*
 * cmd_recv.c - voxshm recv: a host that takes one file from one sender.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"
#include "reception.h"
#include "report.h"

enum {
	OPTION_FORCE = OPTION_OWN,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option options[] = {
	{ "force", no_argument, NULL, OPTION_FORCE },
	HOSTING_OPTIONS,
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const char help[] =
	"Usage: voxshm recv [OPTION]... ADDRESS [FILE]\n"
	"\n"
	"Listen on ADDRESS (the path of a socket to make, or @name) and receive one\n"
	"file from one sender into FILE, or to standard output. FILE appears only when\n"
	"all of it has come and its checksum is right.\n"
	"\n"
	"  --force                replace FILE if it is there already\n"
	HOSTING_HELP
	"  --json                 the summary as a JSON object\n"
	"  --help                 show this\n"
	"\n"
	"The summary goes to standard error when the file goes to standard output.\n";

struct recv {
	bool json;
	bool received;
	FILE *summary;
	const char *name;
	struct progress progress;
	struct problem problem;
};

static void summarise(struct recv *recv, struct guest *guest)
{
	const struct incoming *in = &guest->incoming;
	const struct report report = {
		.verb = "received",
		.name = recv->name,
		.error = recv->received ? NULL : recv->problem.text,
		.bytes = in->received,
		.seconds = in->seconds,
		.sha256 = in->sha256,
		.link = guest->link,
	};

	progress_end(&recv->progress);
	report_print(recv->summary, &report, recv->json);
}

static void tell(struct reception *r, enum reception_news news, struct guest *guest,
		 const void *data, size_t size)
{
	struct recv *recv = r->data;
	char text[STATUS_TEXT];

	(void)data, (void)size;
	if (r->done)
		return;
	switch (news) {
	case NEWS_ATTACHED:
	case NEWS_REFUSED:
		return;
	case NEWS_BEGUN:
		progress_begin(&recv->progress, !recv->json, guest->incoming.announced);
		r->wait = progress_wait(&recv->progress);
		return;
	case NEWS_MORE:
		progress_update(&recv->progress, guest->incoming.received);
		return;
	case NEWS_PLAIN:
		problem_set(&recv->problem, "the sender sent a message, not a file; take messages "
			    "with voxshm serve");
		break;
	case NEWS_STORED:
		recv->received = true;
		break;
	case NEWS_FAILED:
		problem_set(&recv->problem, "%s; %s is not complete", guest->incoming.problem.text,
			    recv->name);
		break;
	case NEWS_GONE:
		problem_set(&recv->problem, "the sender %s before it sent anything",
			    status_text(text, &guest->status));
		break;
	}
	r->done = true;
	summarise(recv, guest);
}

static int recv_run(struct reception *r)
{
	struct recv *recv = r->data;
	struct problem problem = { "" };
	int result;

	stop_catch();
	result = reception_open(r, &problem);
	if (result == 0 && isatty(STDERR_FILENO) && !recv->json)
		fprintf(stderr, "waiting for a sender: voxshm send %s FILE\n", r->address);
	if (result == 0)
		result = reception_run(r, &problem);
	reception_close(r);
	destination_close(&r->destination);
	if (result < 0)
		fail("%s", problem.text);
	else if (!recv->received && recv->problem.text[0])
		fail("%s", recv->problem.text);
	return stop_exit(recv->received ? EXIT_SUCCESS : EXIT_FAILURE);
}

int cmd_recv(int argc, char **argv)
{
	struct recv recv = { .summary = stdout };
	struct reception r = { .hosting = HOSTING_INIT, .single = true, .tell = tell,
			       .data = &recv };
	bool force = false;
	int option, status = 0;

	while (!status && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_FORCE:
			force = true;
			break;
		case OPTION_JSON:
			recv.json = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			status = hosting_option(&r.hosting, option, optarg, argv[optind - 1]);
		}
	}
	if (status)
		return status;
	if (argc - optind < 1 || argc - optind > 2)
		return misuse("it takes an ADDRESS and perhaps a FILE");
	r.address = argv[optind];
	recv.name = argv[optind + 1];
	if (destination_open_file(&r.destination, recv.name, force, &recv.problem) < 0)
		return fail("%s", recv.problem.text);
	if (r.destination.stream == STDOUT_FILENO) {
		recv.name = "standard output";
		recv.summary = stderr;
	}
	return recv_run(&r);
}
