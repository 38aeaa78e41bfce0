/* SPDX-License-Identifier: MIT */
/* address.h - where a host listens: the path of a UNIX socket, or "@name". */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "voxshm.h"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_un un;
	};
	socklen_t size;
	bool is_path;
};

/* Return: 0, -EINVAL (empty), -ENAMETOOLONG. */
int address_parse(struct address *address, const char *text, struct voxshm_error *error);

#endif
