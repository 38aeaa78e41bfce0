/* SPDX-License-Identifier: MIT */
/*
 * json.c - for the tests: each line of standard input must be a JSON object;
 * prints the value at a dotted path (peer.pid) of those that have it.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_value(const json_t *value)
{
	if (json_is_string(value))
		puts(json_string_value(value));
	else
		json_dumpf(value, stdout, JSON_ENCODE_ANY), putchar('\n');
}

int main(int argc, char **argv)
{
	char *line = NULL, path[256], *key, *rest;
	size_t room = 0;
	json_error_t error;
	json_t *root;
	const json_t *value;

	if (argc != 2)
		return 2;
	while (getline(&line, &room, stdin) > 0) {
		root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
		if (!json_is_object(root)) {
			fprintf(stderr, "not a JSON object: %s\n", line);
			return 1;
		}
		snprintf(path, sizeof(path), "%s", argv[1]);
		value = root;
		for (key = strtok_r(path, ".", &rest); key; key = strtok_r(NULL, ".", &rest))
			value = json_object_get(value, key);
		if (value)
			print_value(value);
		json_decref(root);
	}
	free(line);
	return 0;
}
