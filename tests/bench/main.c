/* SPDX-License-Identifier: MIT */
/*
 * bench - measures voxshm beside what the machine itself allows and beside what
 * else there is, all in one run; see README.md.
 */
#include <getopt.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "plan.h"
#include "report.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))
#define MAX_EXTERNALS 8
#define NORMAL_ROUNDS 11
#define NORMAL_SLICE_NS 8e6
#define QUICK_SLICE_NS 5e5

struct section {
	const char *name;
	void (*run)(const struct plan *plan);
};

static const struct section sections[] = {
	{ "pairs", section_pairs },
	{ "rings", section_rings },
	{ "guests", section_guests },
	{ "idle", section_idle },
	{ "life", section_life },
	{ "growth", section_growth },
	{ "syscalls", section_syscalls },
};

static double started;

void progress(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%4.0f s  ", (now_ns() - started) / 1e9);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
}

static bool listed(const char *names, const char *name)
{
	size_t length = strlen(name);
	const char *at;

	for (at = names; at && (at = strstr(at, name)); at += length)
		if ((at == names || at[-1] == ',') && (!at[length] || at[length] == ','))
			return true;
	return false;
}

/* A line about the processor from the kernel's list of them. */
static void print_processor(FILE *out)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			fprintf(out, "%s", strchr(line, ':') + 2);
			break;
		}
	}
	if (file)
		fclose(file);
}

static void print_machine(FILE *out, const struct plan *plan)
{
	struct utsname name;
	double load = 0;

	uname(&name);
	getloadavg(&load, 1);
	fprintf(out, "voxshm bench: medians of %u rounds of %.1f ms, processors %d and %d of %ld, "
		"Linux %s, load %.1f before\n", plan->rounds, plan->slice_ns / 1e6,
		pin_processor(0), pin_processor(1), sysconf(_SC_NPROCESSORS_ONLN), name.release,
		load);
	print_processor(out);
}

static void print_tables(FILE *out)
{
	report_table(out, "pairs", "p50", "Round trip, median, ns, by size of message");
	report_table(out, "pairs", "p99", "Round trip, 99 % within, ns");
	report_table(out, "pairs", "p999", "Round trip, 99.9 % within, ns");
	report_table(out, "pairs", "max", "Round trip, the longest, ns");
	report_table(out, "pairs", "rate", "One way, messages a second, by size of message");
	report_table(out, "pairs", "rate16", "One way in batches of 16, messages a second");
	report_table(out, "pairs", "throughput", "One way, MB/s");
	report_table(out, "rings", "p50", "Round trip of 64 bytes, median, ns, by size of ring");
	report_table(out, "rings", "rate", "One way, 64 bytes, messages a second, by size of ring");
	report_table(out, "rings", "rate16", "The same in batches of 16");
	report_table(out, "guests", "p50", "Round trip by number of guests, 64 bytes, median, ns");
	report_table(out, "guests", "cost", "One message to the host, its loop included, ns");
	report_table(out, "host", "p50", "The host's part of it, ns a message");
	report_table(out, "idle", "cpu", "Standing idle, CPU seconds a second");
	report_table(out, "idle", "wakeups", "Standing idle, wake-ups a second");
	report_table(out, "life", "ticket", "Making a link, microseconds: the host's part");
	report_table(out, "life", "claim", "The guest's part, microseconds");
	report_table(out, "life", "attached", "From there until the host was told");
	report_table(out, "life", "ended", "From a guest's end until the host was told");
	report_table(out, "growth", "grow", "A vox segment grows by so many bytes, microseconds");
	report_table(out, "syscalls", "sender", "System calls of the sender, for");
	report_table(out, "syscalls", "receiver", "System calls of the receiver, for");
	report_table(out, "memory", "memory", "Memory of the defaults, KiB, by number of guests");
	print_targets(out);
}

static int write_files(const char *folder, const struct plan *plan)
{
	char path[512];
	FILE *out;
	int ret;

	mkdir(folder, 0777);
	snprintf(path, sizeof(path), "%s/results.csv", folder);
	ret = report_write_csv(path);
	snprintf(path, sizeof(path), "%s/results.json", folder);
	if (ret == 0)
		ret = report_write_json(path);
	snprintf(path, sizeof(path), "%s/table.txt", folder);
	out = fopen(path, "w");
	if (!out || ret) {
		fprintf(stderr, "bench: cannot write to %s\n", folder);
		return 1;
	}
	print_machine(out, plan);
	print_tables(out);
	return fclose(out) ? 1 : 0;
}

static void usage(FILE *stream)
{
	fprintf(stream, "usage: bench [--quick] [--sections A,B] [--rows PARTS] [--size BYTES]\n"
		"	[--rounds N] [--slice MILLISECONDS] [--external PROGRAM] [--out FOLDER]\n"
		"sections:");
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		fprintf(stream, " %s", sections[i].name);
	fprintf(stream, "\n");
	exit(stream == stderr ? 2 : 0);
}

/* Return: what an option says; ends the program when that is no number above 0. */
static double number(const char *option, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value > 0)) {
		fprintf(stderr, "bench: --%s %s: give a number above 0\n", option, text);
		exit(2);
	}
	return value;
}

static size_t whole_number(const char *option, const char *text)
{
	double value = number(option, text);

	if (value > UINT32_MAX || value != (double)(size_t)value) {
		fprintf(stderr, "bench: --%s %s: give a whole number\n", option, text);
		exit(2);
	}
	return (size_t)value;
}

static void check_sections(const char *names)
{
	const char *name, *end;
	size_t i;

	for (name = names; *name; name = *end ? end + 1 : end) {
		end = strchrnul(name, ',');
		for (i = 0; i < ARRAY_SIZE(sections); i++)
			if (strlen(sections[i].name) == (size_t)(end - name) &&
			    !strncmp(sections[i].name, name, (size_t)(end - name)))
				break;
		if (i < ARRAY_SIZE(sections))
			continue;
		fprintf(stderr, "bench: there is no section %.*s; there are", (int)(end - name),
			name);
		for (i = 0; i < ARRAY_SIZE(sections); i++)
			fprintf(stderr, " %s", sections[i].name);
		fprintf(stderr, "\n");
		exit(2);
	}
}

static const char *parse(int argc, char **argv, struct plan *plan, const char **externals)
{
	static const struct option options[] = {
		{ "quick", no_argument, NULL, 'q' }, { "sections", required_argument, NULL, 's' },
		{ "rows", required_argument, NULL, 'r' }, { "size", required_argument, NULL, 'b' },
		{ "rounds", required_argument, NULL, 'n' }, { "slice", required_argument, NULL, 't' },
		{ "external", required_argument, NULL, 'x' }, { "out", required_argument, NULL, 'o' },
		{ "guest", no_argument, NULL, 'g' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	unsigned int count = 0;
	const char *out = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			usage(stdout);
			break;
		case 'q':
			plan->quick = true;
			plan->rounds = 1;
			plan->slice_ns = QUICK_SLICE_NS;
			break;
		case 's':
			check_sections(optarg);
			plan->sections = optarg;
			break;
		case 'r':
			plan->rows = optarg;
			break;
		case 'b':
			plan->only_size = whole_number("size", optarg);
			break;
		case 'n':
			plan->rounds = (unsigned int)whole_number("rounds", optarg);
			break;
		case 't':
			plan->slice_ns = number("slice", optarg) * 1e6;
			break;
		case 'x':
			if (count < MAX_EXTERNALS)
				externals[count++] = optarg;
			break;
		case 'o':
			out = optarg;
			break;
		case 'g':
			plan->guest = true;
			break;
		default:
			usage(stderr);
		}
	}
	if (optind < argc || plan->rounds < 1 || plan->rounds > MAX_ROUNDS || plan->slice_ns <= 0)
		usage(stderr);
	return out;
}

int main(int argc, char **argv)
{
	const char *externals[MAX_EXTERNALS + 1] = { NULL };
	struct plan plan = { .rounds = NORMAL_ROUNDS, .slice_ns = NORMAL_SLICE_NS,
			     .externals = externals, .self = argv[0] };
	const char *out = parse(argc, argv, &plan, externals);
	size_t i;

	if (plan.guest)
		return spawned_guest();
	started = now_ns();
	if (pin_processor(1) < 0) {
		fprintf(stderr, "bench: needs two processors\n");
		return 1;
	}
	ticks_ns();
	/* So that what else runs disturbs less; where that is not allowed it stays out. */
	setpriority(PRIO_PROCESS, 0, -20);
	print_machine(stdout, &plan);
	for (i = 0; i < ARRAY_SIZE(sections); i++)
		if (!plan.sections || listed(plan.sections, sections[i].name))
			sections[i].run(&plan);
	print_tables(stdout);
	return out ? write_files(out, &plan) : 0;
}
