/* SPDX-License-Identifier: MIT */
/*
 * report.c - the account of one transfer; see report.h.
 */
#include <string.h>

#include "report.h"

static const char *const state_texts[] = {
	[VOXSHM_LINK_WAITING] = "waiting",
	[VOXSHM_LINK_ATTACHED] = "attached",
	[VOXSHM_LINK_LEFT] = "left",
	[VOXSHM_LINK_DIED] = "died",
	[VOXSHM_LINK_FAILED] = "failed",
};

json_t *report_text(const char *text)
{
	char clean[1024];

	clean_text(clean, sizeof(clean), text, strlen(text), '_');
	return json_string(clean);
}

json_t *report_peer(const struct voxshm_status *status)
{
	json_t *peer = json_pack("{s:i, s:i, s:i, s:i, s:s}",
				 "id", (int)status->peer_id, "epoch", (int)status->epoch,
				 "pid", (int)status->pid, "uid", (int)status->uid,
				 "state", state_texts[status->state]);

	if (status->exit_kind == VOXSHM_EXIT_SIGNAL)
		json_object_set_new(peer, "signal", json_integer(status->exit_value));
	if (status->exit_kind == VOXSHM_EXIT_CODE)
		json_object_set_new(peer, "exit_code", json_integer(status->exit_value));
	return peer;
}

static double rate(uint64_t bytes, double seconds)
{
	return seconds > 0 ? (double)bytes / seconds : 0;
}

char *rate_text(char text[RATE_TEXT], uint64_t bytes, double seconds)
{
	char size[SIZE_TEXT], speed[SIZE_TEXT];

	snprintf(text, RATE_TEXT, "%s in %.*f s (%s/s)", size_text(size, (double)bytes),
		 seconds < 1 ? 3 : 1, seconds, size_text(speed, rate(bytes, seconds)));
	return text;
}

static void add_link(json_t *json, struct voxshm_link *link, const char *verb)
{
	struct voxshm_counters counters;
	struct voxshm_status status;
	uint64_t messages;

	voxshm_link_counters(link, &counters);
	voxshm_link_status(link, &status);
	messages = strcmp(verb, "sent") == 0 ? counters.messages_sent : counters.messages_received;
	json_object_set_new(json, "messages", json_integer((json_int_t)messages));
	json_object_set_new(json, "doorbells", json_integer((json_int_t)counters.doorbells_rung));
	json_object_set_new(json, "sleeps", json_integer((json_int_t)counters.sleeps));
	json_object_set_new(json, "backend", json_string(voxshm_link_backend_name(link)));
	json_object_set_new(json, "format", json_string(format_text(voxshm_link_format(link))));
	json_object_set_new(json, "peer", report_peer(&status));
}

json_t *report_json(const struct report *report)
{
	char sum[DIGEST_TEXT];
	json_t *error = report->error ? report_text(report->error) : json_null();
	json_t *json = json_pack("{s:b, s:o, s:o, s:I, s:f, s:f, s:s?}",
				 "complete", !report->error, "error", error,
				 "name", report_text(report->name),
				 "bytes", (json_int_t)report->bytes, "seconds", report->seconds,
				 "bytes_per_second", rate(report->bytes, report->seconds),
				 "sha256", report->error ? NULL : digest_text(sum, report->sha256));

	if (report->link)
		add_link(json, report->link, report->verb);
	return json;
}

void report_line(FILE *stream, json_t *json)
{
	json_dumpf(json, stream, JSON_COMPACT);
	fputc('\n', stream);
	fflush(stream);
	json_decref(json);
}

void report_print(FILE *stream, const struct report *report, bool as_json)
{
	struct voxshm_counters counters;
	char text[RATE_TEXT], sum[DIGEST_TEXT];

	if (as_json) {
		report_line(stream, report_json(report));
		return;
	}
	if (report->error)
		return;
	voxshm_link_counters(report->link, &counters);
	fprintf(stream, "%s %s: %s\n", report->verb, report->name,
		rate_text(text, report->bytes, report->seconds));
	fprintf(stream, "  sha256 %s\n", digest_text(sum, report->sha256));
	fprintf(stream, "  %llu messages, %llu doorbells, %llu sleeps; %s backend, %s format\n",
		(unsigned long long)(counters.messages_sent + counters.messages_received),
		(unsigned long long)counters.doorbells_rung, (unsigned long long)counters.sleeps,
		voxshm_link_backend_name(report->link),
		format_text(voxshm_link_format(report->link)));
}
