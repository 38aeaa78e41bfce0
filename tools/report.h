/* SPDX-License-Identifier: MIT */
/*
 * report.h - the account of one transfer, for people or for programs.
 */
#ifndef REPORT_H
#define REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "tool.h"
#include "digest.h"

struct report {
	const char *verb;	/* "sent", "received" */
	const char *name;
	const char *error;	/* NULL: all went well */
	uint64_t bytes;
	double seconds;
	const uint8_t *sha256;	/* when all went well */
	struct voxshm_link *link;	/* NULL: there was none */
};

/* A JSON string of text of any origin: JSON is UTF-8, a path need not be. */
json_t *report_text(const char *text);
/* Of the other end of a link. */
json_t *report_peer(const struct voxshm_status *status);
json_t *report_json(const struct report *report);

/* On success a few lines or a JSON object; on failure only the latter. */
void report_print(FILE *stream, const struct report *report, bool as_json);

/* Prints one line of JSON and frees it. */
void report_line(FILE *stream, json_t *json);

/* "1.2 GiB in 0.84 s (1.4 GiB/s)" */
#define RATE_TEXT 64
char *rate_text(char text[RATE_TEXT], uint64_t bytes, double seconds);

#endif
