/* SPDX-License-Identifier: MIT */
/*
 * uevent.c - for the tests: sends a uevent of the device as udevd would.
 *
 *   uevent ACTION [KEY=VALUE]...
 */
#include <stdio.h>

#include "uevent.h"

int main(int argc, char **argv)
{
	char action[64];
	int result;

	if (argc < 2)
		return 2;
	snprintf(action, sizeof(action), "ACTION=%s", argv[1]);
	result = uevent_send(action, (const char *const *)argv + 2);
	if (result < 0)
		fprintf(stderr, "# cannot send a uevent: %s\n", strerror(-result));
	return result < 0;
}
