/* SPDX-License-Identifier: MIT */
/* external.c - see external.h. */
#include <jansson.h>
#include <math.h>
#include <sys/wait.h>

#include "external.h"

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool parse(const json_t *object, enum job job, struct external_result *result,
		  char *failure, size_t failure_size)
{
	const char *text = json_string_value(json_object_get(object, "unsupported"));

	if (text) {
		snprintf(failure, failure_size, "%s", text);
		return false;
	}
	text = json_string_value(json_object_get(object, "name"));
	snprintf(result->name, sizeof(result->name), "%s", text ? text : "");
	result->main = number(object, job == JOB_TRIPS ? "p50_ns" : "messages_per_second");
	result->tail[0] = number(object, "p99_ns");
	result->tail[1] = number(object, "p999_ns");
	result->tail[2] = number(object, "max_ns");
	if (isnan(result->main))
		snprintf(failure, failure_size, "its answer lacks the figure");
	return !isnan(result->main);
}

bool external_run(const char *program, enum job job, size_t size, double slice_ns,
		  struct external_result *result, char *failure, size_t failure_size)
{
	json_error_t error;
	json_t *object;
	char command[512];
	bool good;
	FILE *pipe;

	snprintf(command, sizeof(command), "timeout 30 %s %s %zu %d %d %d", program,
		 job == JOB_TRIPS ? "roundtrip" : "rate", size, pin_processor(0),
		 pin_processor(1), (int)(slice_ns / 1e6) + 1);
	fflush(NULL);
	pipe = popen(command, "r");
	if (!pipe) {
		snprintf(failure, failure_size, "%s", strerror(errno));
		return false;
	}
	object = json_loadf(pipe, JSON_DISABLE_EOF_CHECK, &error);
	good = pclose(pipe) == 0 && object;
	if (!good)
		snprintf(failure, failure_size, "it failed, or its answer is not JSON");
	else
		good = parse(object, job, result, failure, failure_size);
	json_decref(object);
	return good;
}

const char *external_name(const char *name)
{
	static const char *known[16];
	unsigned int i;

	for (i = 0; i < 16 && known[i]; i++)
		if (!strcmp(known[i], name))
			return known[i];
	if (i < 16)
		known[i] = strdup(name);
	return i < 16 && known[i] ? known[i] : "external";
}
