/* SPDX-License-Identifier: MIT */
/*
 * cmd_serve.c - voxshm serve: a host that takes what guests send, until it is
 * stopped, and tells line by line what happens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reception.h"
#include "report.h"

/* The most of a plain message that is shown. */
#define MAX_SHOWN 1024

enum {
	OPTION_DIRECTORY = OPTION_OWN,
	OPTION_FORCE,
	OPTION_MAX_GUESTS,
	OPTION_ONCE,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option options[] = {
	{ "directory", required_argument, NULL, OPTION_DIRECTORY },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "max-guests", required_argument, NULL, OPTION_MAX_GUESTS },
	{ "once", no_argument, NULL, OPTION_ONCE },
	HOSTING_OPTIONS,
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const char help[] =
	"Usage: voxshm serve [OPTION]... [ADDRESS]\n"
	"\n"
	"Listen on ADDRESS (the path of a socket to make, or @name) as a host, store\n"
	"the files that guests send, print their messages, until stopped by Ctrl-C.\n"
	"Without ADDRESS a free name is chosen, and told.\n"
	"\n"
	"  --directory DIR        store files in DIR; without it files are refused\n"
	"  --force                replace files that are there already\n"
	"  --max-guests N         most guests at a time, 1 to 255 (default 16)\n"
	"  --once                 end after the first guest has gone\n"
	HOSTING_HELP
	"  --json                 one JSON object per line\n"
	"  --help                 show this\n";

struct serve {
	bool once;
	bool json;
	bool failed;		/* with once: what the guest sent was not stored */
};

static void tell_json(struct reception *r, const char *event, struct guest *guest, json_t *more)
{
	json_t *json = json_pack("{s:s}", "event", event);

	if (guest)
		json_object_set_new(json, "peer", report_peer(&guest->status));
	if (more) {
		json_object_update_missing(json, more);
		json_decref(more);
	}
	(void)r;
	report_line(stdout, json);
}

static void tell_plain(struct reception *r, struct guest *guest, const void *data, size_t size)
{
	const struct serve *serve = r->data;
	char text[MAX_SHOWN + 1];

	clean_text(text, sizeof(text), data, size, '.');
	if (serve->json)
		tell_json(r, "message", guest, json_pack("{s:I, s:s}", "bytes", (json_int_t)size,
							 "text", text));
	else
		printf("guest %u: %s%s\n", guest->status.peer_id, text,
		       size > MAX_SHOWN ? " ..." : "");
}

static void tell_transfer(struct reception *r, struct guest *guest, bool stored)
{
	struct serve *serve = r->data;
	struct incoming *in = &guest->incoming;
	const char *name = in->output.name[0] ? in->output.name : in->name;
	char text[RATE_TEXT], sum[DIGEST_TEXT];
	const struct report report = {
		.verb = "received",
		.name = name,
		.error = stored ? NULL : in->problem.text,
		.bytes = in->received,
		.seconds = in->seconds,
		.sha256 = in->sha256,
		.link = guest->link,
	};

	serve->failed |= !stored;
	if (serve->json)
		tell_json(r, stored ? "stored" : "failed", guest, report_json(&report));
	else if (stored)
		printf("guest %u: stored %s: %s, sha256 %s\n", guest->status.peer_id, name,
		       rate_text(text, in->received, in->seconds), digest_text(sum, in->sha256));
	else
		printf("guest %u: did not store %s: %s\n", guest->status.peer_id,
		       name[0] ? name : "a file", in->problem.text);
}

static void tell_guest(struct reception *r, struct guest *guest, bool came)
{
	struct serve *serve = r->data;
	const struct voxshm_status *status = &guest->status;
	char text[STATUS_TEXT];

	if (serve->json)
		tell_json(r, came ? "attached" : "gone", guest, NULL);
	else if (came)
		printf("guest %u attached: process %d of user %u\n", status->peer_id,
		       (int)status->pid, (unsigned int)status->uid);
	else
		printf("guest %u %s\n", status->peer_id, status_text(text, status));
	if (!came && status->state != VOXSHM_LINK_LEFT)
		serve->failed = true;
	if (!came && serve->once)
		r->done = true;
}

static void tell(struct reception *r, enum reception_news news, struct guest *guest,
		 const void *data, size_t size)
{
	struct serve *serve = r->data;

	switch (news) {
	case NEWS_ATTACHED:
	case NEWS_GONE:
		tell_guest(r, guest, news == NEWS_ATTACHED);
		break;
	case NEWS_PLAIN:
		tell_plain(r, guest, data, size);
		break;
	case NEWS_STORED:
	case NEWS_FAILED:
		tell_transfer(r, guest, news == NEWS_STORED);
		break;
	case NEWS_REFUSED:
		if (serve->json)
			tell_json(r, "refused", NULL, json_pack("{s:s}", "reason", data));
		else
			printf("refused %s\n", (const char *)data);
		break;
	case NEWS_BEGUN:
	case NEWS_MORE:
		return;
	}
	/* Nobody reads what is told: no reason to go on. */
	if (fflush(stdout) != 0)
		r->done = true;
}

static int tell_listening(struct reception *r)
{
	struct serve *serve = r->data;
	const char *backend = voxshm_backend_name(r->host);
	const char *format = format_text(r->hosting.config.format);

	if (serve->json)
		tell_json(r, "listening", NULL, json_pack("{s:o, s:s, s:s}", "address",
							  report_text(r->address), "backend", backend, "format", format));
	else
		printf("listening on %s (%s backend, %s format); stop it with Ctrl-C\n"
		       "to send to it: voxshm send %s FILE\n", r->address, backend, format,
		       r->address);
	return fflush(stdout);
}

static int serve_run(struct reception *r)
{
	struct serve *serve = r->data;
	struct problem problem;
	int result;

	stop_catch();
	result = reception_open(r, &problem);
	if (result == 0 && tell_listening(r) == 0)
		result = reception_run(r, &problem);
	reception_close(r);
	destination_close(&r->destination);
	if (result < 0)
		return fail("%s", problem.text);
	return serve->once && serve->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int parse_guests(const char *text, uint32_t *guests)
{
	uint64_t number;

	if (parse_size(text, &number) < 0 || number < 1 || number > VOXSHM_MAX_GUESTS)
		return misuse("--max-guests is a number from 1 to %u, not \"%s\"",
			      VOXSHM_MAX_GUESTS, text);
	*guests = (uint32_t)number;
	return 0;
}

int cmd_serve(int argc, char **argv)
{
	struct serve serve = { 0 };
	struct reception r = { .hosting = HOSTING_INIT, .tell = tell, .data = &serve };
	const char *directory = NULL;
	struct problem problem;
	char address[32];
	bool force = false;
	int option, status = 0;

	while (!status && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_DIRECTORY:
			directory = optarg;
			break;
		case OPTION_FORCE:
			force = true;
			break;
		case OPTION_MAX_GUESTS:
			status = parse_guests(optarg, &r.hosting.config.max_guests);
			break;
		case OPTION_ONCE:
			serve.once = true;
			break;
		case OPTION_JSON:
			serve.json = true;
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
	if (argc - optind > 1)
		return misuse("one ADDRESS is enough, not %d", argc - optind);
	snprintf(address, sizeof(address), "@voxshm-%d", (int)getpid());
	r.address = optind < argc ? argv[optind] : address;
	if (destination_open_folder(&r.destination, directory, force, &problem) < 0)
		return fail("%s", problem.text);
	return serve_run(&r);
}
