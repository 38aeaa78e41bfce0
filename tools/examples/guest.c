/* SPDX-License-Identifier: MIT */
/* Connects to the host at an address, sends a message, prints the answer. */
#include <stdio.h>
#include <string.h>
#include <voxshm.h>

#define SECOND 1000000000

int main(int argc, char **argv)
{
	struct voxshm_link *link = NULL;
	struct voxshm_error error = { "" };
	struct voxshm_view view;
	int result;

	if (argc != 3) {
		fprintf(stderr, "Usage: guest ADDRESS MESSAGE\n");
		return 2;
	}
	if (voxshm_guest_connect(&link, argv[1], NULL, SECOND, &error) < 0) {
		fprintf(stderr, "guest: %s\n", error.text);
		return 1;
	}
	result = voxshm_send(link, argv[2], strlen(argv[2]), SECOND);
	if (result == 0)
		result = voxshm_recv(link, &view, SECOND);
	if (result == 0) {
		printf("%.*s\n", (int)view.size, (const char *)view.data);
		voxshm_release(link, &view);
	}
	voxshm_link_close(link);
	return result < 0;
}
