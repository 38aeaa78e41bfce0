/* SPDX-License-Identifier: MIT */
/*
 * tool.h - what the subcommands share: telling what went wrong, reading
 * numbers, printing what came from strangers, and stopping on a signal.
 *
 * A function that can fail returns -1 and leaves one sentence in a struct
 * problem; only the subcommand prints it.
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <voxshm.h>

#define EXIT_USAGE 2
#define NS_PER_SECOND INT64_C(1000000000)

/* The subcommands; each returns the exit status. */
int cmd_serve(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_recv(int argc, char **argv);
int cmd_monitor(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_demo_guest(int argc, char **argv);

struct problem {
	char text[768];
};

/* Says what went wrong and what to do next. Returns -1. */
__attribute__((format(printf, 2, 3)))
int problem_set(struct problem *problem, const char *format, ...);

/* Prints a sentence on standard error, after the command's name. Returns EXIT_FAILURE. */
__attribute__((format(printf, 1, 2)))
int fail(const char *format, ...);

/* The same for a mistake in the arguments, with a hint. Returns EXIT_USAGE. */
__attribute__((format(printf, 1, 2)))
int misuse(const char *format, ...);

/* For what getopt_long() returned about an argument: '?' or ':'. Returns EXIT_USAGE. */
int misuse_option(int option, const char *argument);

/* "voxshm" or "voxshm SUBCOMMAND", for fail() and misuse(). */
void command_set(const char *subcommand);

int64_t now_ns(void);
double seconds_since(int64_t start);

/* "64", "4K", "1G" / "10", "0.5". Return: 0, or -1 when the text is no such number. */
int parse_size(const char *text, uint64_t *size);
int parse_seconds(const char *text, int64_t *nanoseconds);

/* "1.5 GiB", into a buffer of at least 16 bytes, which is returned. */
#define SIZE_TEXT 16
char *size_text(char text[SIZE_TEXT], double bytes);

/*
 * Copies text of unknown origin, at most room - 1 bytes of it. What is not
 * printable UTF-8 becomes the replacement, so that it can neither steer a
 * terminal nor break JSON.
 */
void clean_text(char *to, size_t room, const void *from, size_t size, char replacement);

/* "was killed by signal 9 (Killed)", for a peer that has ended. */
#define STATUS_TEXT 320
char *status_text(char text[STATUS_TEXT], const struct voxshm_status *status);

const char *format_text(enum voxshm_format format);

/*
 * From stop_catch() on SIGINT, SIGTERM and SIGHUP only make waiting calls
 * return EINTR and stop_signal() non-zero. stop_exit() ends the process the
 * way the signal would have, when there was one; else it returns the status.
 */
void stop_catch(void);
int stop_signal(void);
int stop_exit(int status);

#endif
