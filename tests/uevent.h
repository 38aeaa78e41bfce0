/* SPDX-License-Identifier: MIT */
/*
 * uevent.h - for the tests: a uevent of the device as udevd would send it to
 * those who listen. Only root (of a network namespace) is believed.
 */
#ifndef UEVENT_H
#define UEVENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* libudev's own format, in front of the properties; numbers in network order. */
struct uevent_header {
	char prefix[8];			/* "libudev" */
	uint32_t magic;
	uint32_t header_size;		/* host order, like the next two */
	uint32_t properties_offset;
	uint32_t properties_size;
	uint32_t subsystem_hash;
	uint32_t devtype_hash;
	uint32_t tags_high, tags_low;
};

#define UEVENT_MAGIC 0xfeedcafe
#define UEVENT_HASH_OF_MISC 0x4b1a4e75	/* MurmurHash2 */
#define UEVENT_GROUP_UDEV 2

static inline void uevent_property(char *text, size_t room, size_t *size, const char *property)
{
	size_t length = strlen(property) + 1;

	if (*size + length > room)
		return;
	memcpy(text + *size, property, length);
	*size += length;
}

/* action: "ACTION=add"; more: "KEY=value", ..., ended by NULL. Return: 0 or -errno. */
static inline int uevent_send(const char *action, const char *const *more)
{
	static const char *const common[] = {
		"DEVPATH=/devices/virtual/misc/voxshm", "SUBSYSTEM=misc", "DEVNAME=/dev/voxshm",
		"SEQNUM=1", "MAJOR=1", "MINOR=3", NULL,
	};
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = UEVENT_GROUP_UDEV };
	struct {
		struct uevent_header header;
		char properties[1024];
	} message = { 0 };
	size_t size = 0;
	int fd, i, ret = 0;

	uevent_property(message.properties, sizeof(message.properties), &size, action);
	for (i = 0; common[i]; i++)
		uevent_property(message.properties, sizeof(message.properties), &size, common[i]);
	for (; more && *more; more++)
		uevent_property(message.properties, sizeof(message.properties), &size, *more);
	message.header = (struct uevent_header){
		.prefix = "libudev", .magic = htonl(UEVENT_MAGIC),
		.header_size = sizeof(message.header),
		.properties_offset = sizeof(message.header),
		.properties_size = (uint32_t)size,
		.subsystem_hash = htonl(UEVENT_HASH_OF_MISC),
	};
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	/* ECONNREFUSED: nobody listens. */
	if (sendto(fd, &message, sizeof(message.header) + size, 0, (struct sockaddr *)&to,
		   sizeof(to)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

#endif
