/* SPDX-License-Identifier: MIT */
/* address.c - see address.h. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "address.h"
#include "error.h"

int address_parse(struct address *address, const char *text, struct voxshm_error *error)
{
	size_t length = text ? strlen(text) : 0;

	if (length == 0 || (text[0] == '@' && length == 1))
		return error_set(error, -EINVAL, "the address is empty");
	if (length >= sizeof(address->un.sun_path))
		return error_set(error, -ENAMETOOLONG, "the address is longer than %zu bytes",
				 sizeof(address->un.sun_path) - 1);
	memset(address, 0, sizeof(*address));
	address->un.sun_family = AF_UNIX;
	memcpy(address->un.sun_path, text, length);
	address->is_path = text[0] != '@';
	address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length +
				    (address->is_path ? 1 : 0));
	if (!address->is_path)
		address->un.sun_path[0] = '\0';
	return 0;
}
