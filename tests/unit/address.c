// SPDX-License-Identifier: MIT
/* Addresses: paths and abstract names of UNIX sockets, up to their longest. */
#include <stddef.h>

#include "address.h"
#include "unit_test.h"

#define ROOM sizeof(((struct sockaddr_un *)NULL)->sun_path)

static const char *text_of(char *text, char first, size_t length)
{
	memset(text, 'x', length);
	text[0] = first;
	text[length] = '\0';
	return text;
}

TEST(empty_address_is_refused)
{
	static const char *const empty[] = { NULL, "", "@" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(empty); i++) {
		struct voxshm_error error = { "" };
		struct address address;

		EXPECT_EQ(address_parse(&address, empty[i], &error), -EINVAL);
		EXPECT_NE(error.text[0], '\0');
		EXPECT_EQ(address_parse(&address, empty[i], NULL), -EINVAL);
	}
}

TEST(path_is_terminated_and_an_abstract_name_is_not)
{
	struct address address;

	ASSERT_EQ(address_parse(&address, "/run/x", NULL), 0);
	EXPECT_TRUE(address.is_path);
	EXPECT_EQ(address.un.sun_family, AF_UNIX);
	EXPECT_EQ(memcmp(address.un.sun_path, "/run/x", 7), 0);
	EXPECT_EQ(address.size, offsetof(struct sockaddr_un, sun_path) + 7);
	ASSERT_EQ(address_parse(&address, "@name", NULL), 0);
	EXPECT_FALSE(address.is_path);
	EXPECT_EQ(memcmp(address.un.sun_path, "\0name", 5), 0);
	EXPECT_EQ(address.size, offsetof(struct sockaddr_un, sun_path) + 5);
}

TEST(address_is_taken_up_to_its_longest)
{
	char text[2 * ROOM];
	size_t length;

	for (length = 2; length < sizeof(text); length++) {
		struct voxshm_error error = { "" };
		struct address address;
		int expected = length < ROOM ? 0 : -ENAMETOOLONG;

		EXPECT_EQ(address_parse(&address, text_of(text, '/', length), &error), expected);
		EXPECT_EQ(error.text[0] != '\0', expected != 0);
		EXPECT_EQ(address_parse(&address, text_of(text, '@', length), NULL), expected);
		if (expected == 0)
			EXPECT_EQ(address.size, offsetof(struct sockaddr_un, sun_path) + length);
	}
}

/* The longest abstract name, really bound and reached. */
TEST(longest_abstract_name_can_be_bound_and_reached)
{
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct address address;
	char text[ROOM];

	text_of(text, '@', ROOM - 1);
	snprintf(text + 1, 32, "voxshm-test-%d-", (int)getpid());
	text[strlen(text)] = 'x';
	ASSERT_EQ(address_parse(&address, text, NULL), 0);
	ASSERT_EQ(bind(server, &address.any, address.size), 0);
	ASSERT_EQ(listen(server, 1), 0);
	EXPECT_EQ(connect(client, &address.any, address.size), 0);
	close(client);
	close(server);
}

TEST(longest_path_can_be_bound)
{
	char directory[] = "/tmp/voxshm-test-XXXXXX", text[ROOM];
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct address address;

	ASSERT_NE(mkdtemp(directory), NULL);
	text_of(text, '/', ROOM - 1);
	memcpy(text, directory, strlen(directory));
	text[strlen(directory)] = '/';
	ASSERT_EQ(address_parse(&address, text, NULL), 0);
	EXPECT_EQ(bind(server, &address.any, address.size), 0);
	EXPECT_EQ(unlink(text), 0);
	EXPECT_EQ(rmdir(directory), 0);
	close(server);
}

/* Neither a path that begins with a dot nor one that has an @ inside is abstract. */
TEST(only_a_leading_at_sign_means_abstract)
{
	struct address address;

	ASSERT_EQ(address_parse(&address, "./@name", NULL), 0);
	EXPECT_TRUE(address.is_path);
	ASSERT_EQ(address_parse(&address, "a@b", NULL), 0);
	EXPECT_TRUE(address.is_path);
	ASSERT_EQ(address_parse(&address, "@@", NULL), 0);
	EXPECT_FALSE(address.is_path);
}

TEST_HARNESS_MAIN
