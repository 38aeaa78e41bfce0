/* SPDX-License-Identifier: MIT */
/*
 * tool.c - what the subcommands share; see tool.h.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

static const char *command_name;

void command_set(const char *subcommand)
{
	command_name = subcommand;
}

int problem_set(struct problem *problem, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(problem->text, sizeof(problem->text), format, arguments);
	va_end(arguments);
	return -1;
}

__attribute__((format(printf, 1, 0)))
static void complain(const char *format, va_list arguments)
{
	fprintf(stderr, "voxshm%s%s: ", command_name ? " " : "", command_name ? command_name : "");
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

int fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
	return EXIT_FAILURE;
}

int misuse(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
	fprintf(stderr, "Try: voxshm %s%s--help\n", command_name ? command_name : "",
		command_name ? " " : "");
	return EXIT_USAGE;
}

int misuse_option(int option, const char *argument)
{
	if (option == ':')
		return misuse("the option %s needs a value", argument);
	return misuse("there is no such option as %s, or it takes no value", argument);
}

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

double seconds_since(int64_t start)
{
	return (double)(now_ns() - start) / NS_PER_SECOND;
}

int parse_size(const char *text, uint64_t *size)
{
	static const char suffixes[] = "KMG";
	const char *suffix;
	unsigned long long number;
	unsigned int shift = 0;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return -1;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1])
			return -1;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (number > UINT64_MAX >> shift)
		return -1;
	*size = (uint64_t)number << shift;
	return 0;
}

int parse_seconds(const char *text, int64_t *nanoseconds)
{
	double seconds;
	char *end;

	seconds = strtod(text, &end);
	if (end == text || *end || !(seconds >= 0 && seconds <= 1e9))
		return -1;
	*nanoseconds = (int64_t)(seconds * NS_PER_SECOND);
	return 0;
}

char *size_text(char text[SIZE_TEXT], double bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned int unit = 0;

	while (bytes >= 1024 && unit < 6) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, SIZE_TEXT, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
	return text;
}

/* Characters that turn the direction of the text around them, or end its line. */
static bool steers_text(uint32_t c)
{
	return c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* Return: bytes of the printable character at text, 0 when there is none. */
static size_t printable(const unsigned char *text, size_t size)
{
	static const uint32_t least[] = { 0, 0, 0xa0, 0x800, 0x10000 };
	uint32_t c = text[0];
	size_t length, i;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f;
	length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc2 || c > 0xf4 || length > size)
		return 0;
	c &= 0xff >> (length + 1);
	for (i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || steers_text(c))
		return 0;
	return length;
}

void clean_text(char *to, size_t room, const void *from, size_t size, char replacement)
{
	const unsigned char *text = from;
	size_t length;

	while (size && room > 1) {
		length = printable(text, size);
		if (length >= room)
			break;
		if (length)
			memcpy(to, text, length);
		else
			*to = replacement;
		to += length ? length : 1;
		room -= length ? length : 1;
		text += length ? length : 1;
		size -= length ? length : 1;
	}
	*to = '\0';
}

char *status_text(char text[STATUS_TEXT], const struct voxshm_status *status)
{
	if (status->state == VOXSHM_LINK_FAILED)
		snprintf(text, STATUS_TEXT, "broke the protocol (%.255s)", status->reason);
	else if (status->exit_kind == VOXSHM_EXIT_SIGNAL)
		snprintf(text, STATUS_TEXT, "was killed by signal %d (%s)", status->exit_value,
			 strsignal(status->exit_value));
	else if (status->state == VOXSHM_LINK_LEFT)
		snprintf(text, STATUS_TEXT, "left");
	else if (status->state == VOXSHM_LINK_ATTACHED)
		snprintf(text, STATUS_TEXT, "was sent away");
	else if (status->exit_kind == VOXSHM_EXIT_CODE)
		snprintf(text, STATUS_TEXT, "exited with code %d without saying so",
			 status->exit_value);
	else
		snprintf(text, STATUS_TEXT, "died or was killed");
	return text;
}

const char *format_text(enum voxshm_format format)
{
	return format == VOXSHM_FORMAT_VOX ? "vox" : "native";
}

static volatile sig_atomic_t stopped_by;

/*
 * A signal that comes between a look at stopped_by and the call that then
 * sleeps would go unnoticed. So the alarm repeats it each second until
 * somebody has looked.
 */
static void on_signal(int signal)
{
	if (signal != SIGALRM)
		stopped_by = signal;
	alarm(1);
}

void stop_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal }, old;
	size_t i;

	sigaction(SIGALRM, &action, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* Ignored from the start, as by nohup: stays ignored. */
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

int stop_signal(void)
{
	return stopped_by;
}

int stop_exit(int status)
{
	if (stopped_by) {
		fflush(NULL);
		signal(stopped_by, SIG_DFL);
		raise(stopped_by);
	}
	return status;
}
