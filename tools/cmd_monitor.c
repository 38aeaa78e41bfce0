/* SPDX-License-Identifier: MIT */
/*
 * cmd_monitor.c - voxshm monitor: tells when the module's device comes and
 * goes, and what the module says of segments and guests, as uevents tell it.
 */
#include <errno.h>
#include <getopt.h>
#include <libudev.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

#define NAME "voxshm"
#define NODE "/dev/voxshm"
#define UEVENTS_PARAMETER "/sys/module/voxshm/parameters/uevents"
#define LABEL_TEXT 65

enum {
	OPTION_WAIT = 0x100,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option options[] = {
	{ "wait", no_argument, NULL, OPTION_WAIT },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const char help[] =
	"Usage: voxshm monitor [OPTION]...\n"
	"\n"
	"Tell, line by line, when " NODE " comes and goes, and what the kernel module\n"
	"says of segments and guests, until stopped by Ctrl-C. The module says it only\n"
	"when its parameter uevents is on.\n"
	"\n"
	"  --wait                 only wait until " NODE " is there, then end\n"
	"  --timeout SECONDS      with --wait: give up after SECONDS (default never)\n"
	"  --json                 one JSON object per line\n"
	"  --help                 show this\n";

struct monitor {
	bool wait;
	bool json;
	int64_t timeout;
	bool there;		/* the node, by what was told last */
	struct udev *udev;
	struct udev_monitor *source;
};

/* Are the module's uevents on? Off, too, where that cannot be read. */
static bool module_tells(void)
{
	FILE *file = fopen(UEVENTS_PARAMETER, "re");
	int value;

	if (!file)
		return false;
	value = fgetc(file);
	fclose(file);
	return value == 'Y' || value == '1';
}

static void tell_node(struct monitor *monitor, bool there, const char *event, const char *text)
{
	bool tells = there && module_tells();

	monitor->there = there;
	if (!monitor->json)
		printf("%s %s%s\n", NODE, text, !there || tells ? "" :
		       "; its module does not tell of segments and guests (uevents=0)");
	else if (there)
		report_line(stdout, json_pack("{s:s, s:s, s:b}", "event", event, "node", NODE,
					      "uevents", tells));
	else
		report_line(stdout, json_pack("{s:s, s:s}", "event", event, "node", NODE));
}

static void tell_presence(struct monitor *monitor)
{
	if (voxshm_device_wait(0, NULL) == 0)
		tell_node(monitor, true, "present", "is there");
	else
		tell_node(monitor, false, "absent", "is not there");
}

static long property_number(struct udev_device *device, const char *key)
{
	const char *value = udev_device_get_property_value(device, key);

	return value ? strtol(value, NULL, 10) : 0;
}

/* What the module says of itself: VOXSHM_EVENT is one of created, removed, ended. */
static void tell_module(struct monitor *monitor, struct udev_device *device, const char *event)
{
	const char *value = udev_device_get_property_value(device, "VOXSHM_LABEL");
	long pid = property_number(device, "VOXSHM_PID");
	long peer = property_number(device, "VOXSHM_PEER");
	bool ended = strcmp(event, "ended") == 0;
	char label[LABEL_TEXT];
	json_t *json;

	if (!ended && strcmp(event, "created") != 0 && strcmp(event, "removed") != 0)
		return;
	value = value ? value : "";
	clean_text(label, sizeof(label), value, strlen(value), '_');
	if (monitor->json) {
		json = json_pack("{s:s, s:s, s:I}", "event", event, "label", label,
				 "pid", (json_int_t)pid);
		if (ended)
			json_object_set_new(json, "peer", json_integer(peer));
		report_line(stdout, json);
		return;
	}
	if (!*label)
		strcpy(label, "without a label");
	if (ended)
		printf("guest %ld of segment %s ended (process %ld)\n", peer, label, pid);
	else if (strcmp(event, "created") == 0)
		printf("segment %s created by process %ld\n", label, pid);
	else
		printf("segment %s of process %ld removed\n", label, pid);
}

/* A repeated "add" (udevadm trigger), or one from before the first look, is no news. */
static void handle(struct monitor *monitor, struct udev_device *device)
{
	const char *name = udev_device_get_sysname(device);
	const char *action = udev_device_get_action(device);
	const char *event;

	if (!name || !action || strcmp(name, NAME) != 0)
		return;
	if (strcmp(action, "add") == 0 && !monitor->there)
		tell_node(monitor, true, "appeared", "appeared");
	else if (strcmp(action, "remove") == 0 && monitor->there)
		tell_node(monitor, false, "disappeared", "disappeared");
	event = udev_device_get_property_value(device, "VOXSHM_EVENT");
	if (strcmp(action, "change") == 0 && event)
		tell_module(monitor, device, event);
}

static void handle_lost(struct monitor *monitor)
{
	if (monitor->json)
		report_line(stdout, json_pack("{s:s}", "event", "lost"));
	else
		printf("more happened than could be told: some of it is missing here\n");
	tell_presence(monitor);
}

static void receive(struct monitor *monitor)
{
	struct udev_device *device;

	do {
		errno = 0;
		device = udev_monitor_receive_device(monitor->source);
		if (device)
			handle(monitor, device);
		else if (errno == ENOBUFS)
			handle_lost(monitor);
		udev_device_unref(device);
	} while (device);
}

/* Where udevd runs, its word counts: the node has its group and mode by then. */
static int listen(struct monitor *monitor, struct problem *problem)
{
	bool udevd_runs = access("/run/udev/control", F_OK) == 0;

	monitor->udev = udev_new();
	if (monitor->udev)
		monitor->source = udev_monitor_new_from_netlink(monitor->udev,
								udevd_runs ? "udev" : "kernel");
	if (!monitor->source ||
	    udev_monitor_filter_add_match_subsystem_devtype(monitor->source, "misc", NULL) < 0 ||
	    udev_monitor_enable_receiving(monitor->source) < 0)
		return problem_set(problem, "cannot listen to uevents: %s", strerror(errno));
	return 0;
}

/* Until a signal comes, or nobody reads what is told. */
static int monitor_run(struct monitor *monitor)
{
	struct pollfd pollfd = { .events = POLLIN };
	struct problem problem;
	int status = EXIT_SUCCESS;

	if (listen(monitor, &problem) < 0) {
		status = fail("%s", problem.text);
		goto out;
	}
	tell_presence(monitor);
	pollfd.fd = udev_monitor_get_fd(monitor->source);
	while (fflush(stdout) == 0 && !stop_signal())
		if (poll(&pollfd, 1, -1) > 0)
			receive(monitor);
out:
	udev_monitor_unref(monitor->source);
	udev_unref(monitor->udev);
	return status;
}

static int wait_run(struct monitor *monitor)
{
	struct voxshm_error error;
	int result;

	result = voxshm_device_wait(monitor->timeout, &error);
	if (result < 0 && stop_signal())
		return stop_exit(EXIT_FAILURE);
	if (result < 0)
		return fail("%s", error.text);
	tell_node(monitor, true, "present", "is there");
	return EXIT_SUCCESS;
}

int cmd_monitor(int argc, char **argv)
{
	struct monitor monitor = { .timeout = VOXSHM_FOREVER };
	bool timed = false;
	int option;

	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_WAIT:
			monitor.wait = true;
			break;
		case OPTION_TIMEOUT:
			if (parse_seconds(optarg, &monitor.timeout) < 0)
				return misuse("--timeout is a number of seconds such as 10 or 0.5, "
					      "not \"%s\"", optarg);
			timed = true;
			break;
		case OPTION_JSON:
			monitor.json = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			return misuse_option(option, argv[optind - 1]);
		}
	}
	if (optind < argc)
		return misuse("it takes no arguments, only options");
	if (timed && !monitor.wait)
		return misuse("--timeout goes with --wait");
	stop_catch();
	return monitor.wait ? wait_run(&monitor) : monitor_run(&monitor);
}
