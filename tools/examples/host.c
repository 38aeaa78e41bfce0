/* SPDX-License-Identifier: MIT */
/* Listens on an address; prints and answers the messages of one guest. */
#include <stdio.h>
#include <voxshm.h>

int main(int argc, char **argv)
{
	struct voxshm_host *host = NULL;
	struct voxshm_error error = { "" };
	struct voxshm_event event;
	struct voxshm_view view;

	if (argc != 2) {
		fprintf(stderr, "Usage: host ADDRESS\n");
		return 2;
	}
	if (voxshm_host_new(&host, NULL, &error) < 0 ||
	    voxshm_host_listen(host, argv[1], 0, NULL, NULL, &error) < 0) {
		fprintf(stderr, "host: %s\n", error.text);
		return 1;
	}
	while (voxshm_host_wait(host, &event, 1, VOXSHM_FOREVER) == 1) {
		if (event.type >= VOXSHM_EVENT_LEFT)	/* or died, or failed */
			break;
		if (event.type != VOXSHM_EVENT_READABLE || voxshm_try_recv(event.link, &view) < 0)
			continue;
		printf("%.*s\n", (int)view.size, (const char *)view.data);
		voxshm_release(event.link, &view);
		if (voxshm_try_send(event.link, "Hello, guest.", 13) < 0)
			break;
	}
	voxshm_host_free(host);
	return 0;
}
