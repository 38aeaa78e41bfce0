// SPDX-License-Identifier: MIT
/*
 * stepped_replay - the crate on both ends of a tiny ring: the one that writes is
 * stopped after each of its instructions, the one that reads goes on. So the
 * reader looks between the two stores of a wrap, and takes old bytes for new.
 *
 * Not a test: it shows what ../steps.c shows not to happen with us at one end.
 */
#include <sys/ptrace.h>

#include "../crate.h"

static bool has_answered(const struct crate *crate)
{
	struct pollfd pollfd = { .fd = crate->socket, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* Return: instructions of the writer, until one of both was done. */
static unsigned int walk(const struct crate *writer, const struct crate *reader)
{
	unsigned int steps;

	for (steps = 0; !has_answered(writer) && !has_answered(reader); steps++) {
		REQUIRE(ptrace(PTRACE_SINGLESTEP, writer->pid, NULL, NULL) == 0);
		REQUIRE(waitpid(writer->pid, NULL, __WALL) == writer->pid);
	}
	return steps;
}

int main(void)
{
	static const struct traffic traffic = { .seed = 101, .count = 300, .max = 16 };
	struct joined joined = { 0 };
	struct crate reader;
	unsigned int steps;

	directory_make(&joined);
	crate_start(&joined.crate, -1);
	crate_start(&reader, -1);
	REQUIRE(!*ask(&joined.crate, "create %s 1 72 64 256 0 64 1", joined.segment));
	REQUIRE(!*ask(&reader, "attach %s", joined.segment));
	REQUIRE(!strcmp("1", ask(&reader, "attach_peer")));
	crate_say(&reader, "consume down 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	REQUIRE(ptrace(PTRACE_SEIZE, joined.crate.pid, NULL, NULL) == 0);
	REQUIRE(ptrace(PTRACE_INTERRUPT, joined.crate.pid, NULL, NULL) == 0);
	REQUIRE(waitpid(joined.crate.pid, NULL, __WALL) == joined.crate.pid);
	crate_say(&joined.crate, "produce down 1 " TRAFFIC_FORMAT, TRAFFIC_WORDS(&traffic));
	steps = walk(&joined.crate, &reader);
	printf("72-byte ring, %u instructions of the writer: %s\n", steps,
	       has_answered(&reader) ? crate_hear(&reader) : "no fault");
	crate_kill(&reader);
	part(&joined);
	return 0;
}
