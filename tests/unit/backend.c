// SPDX-License-Identifier: MIT
/* Which backend a host gets, and what is said of a device that cannot be had. */
#include <sys/stat.h>

#include "backend_device.h"
#include "error.h"
#include "unit_test.h"

/* Devices in every condition. */
static int there(struct voxshm_error *error)
{
	(void)error;
	return 0;
}

static int missing(struct voxshm_error *error)
{
	return error_set(error, -ENODEV, "no device");
}

static int forbidden(struct voxshm_error *error)
{
	return error_set(error, -EACCES, "no permission");
}

static int older(struct voxshm_error *error)
{
	return error_set(error, -EPROTONOSUPPORT, "another version");
}

static const struct backend devices[] = {
	{ .name = "there", .id = VOXSHM_BACKEND_DEVICE, .probe = there },
	{ .name = "missing", .id = VOXSHM_BACKEND_DEVICE, .probe = missing },
	{ .name = "forbidden", .id = VOXSHM_BACKEND_DEVICE, .probe = forbidden },
	{ .name = "older", .id = VOXSHM_BACKEND_DEVICE, .probe = older },
};

enum { THERE, MISSING, FORBIDDEN, OLDER, DEVICES };

/* What comes for each: FILE, DEVICE or the error. */
struct choice {
	enum voxshm_backend wanted;
	const char *environment;
	int outcome[DEVICES];
};

#define FILES ((int)VOXSHM_BACKEND_FILE)
#define DEVICE ((int)VOXSHM_BACKEND_DEVICE)
#define BY_DEFAULT { DEVICE, FILES, -EACCES, -EPROTONOSUPPORT }
#define DEVICE_ONLY { DEVICE, -ENODEV, -EACCES, -EPROTONOSUPPORT }
#define ANY { DEVICE, FILES, FILES, FILES }
#define FILES_ONLY { FILES, FILES, FILES, FILES }
#define NONE { -EINVAL, -EINVAL, -EINVAL, -EINVAL }

static const struct choice choices[] = {
	{ VOXSHM_BACKEND_DEFAULT, NULL, BY_DEFAULT },
	{ VOXSHM_BACKEND_DEFAULT, "", BY_DEFAULT },
	{ VOXSHM_BACKEND_DEFAULT, "file", FILES_ONLY },
	{ VOXSHM_BACKEND_DEFAULT, "device", DEVICE_ONLY },
	{ VOXSHM_BACKEND_DEFAULT, "any", ANY },
	{ VOXSHM_BACKEND_DEFAULT, "files", NONE },
	{ VOXSHM_BACKEND_DEFAULT, "DEVICE", NONE },
	{ VOXSHM_BACKEND_DEFAULT, "any ", NONE },
	{ VOXSHM_BACKEND_FILE, NULL, FILES_ONLY },
	{ VOXSHM_BACKEND_FILE, "device", FILES_ONLY },
	{ VOXSHM_BACKEND_FILE, "nonsense", FILES_ONLY },
	{ VOXSHM_BACKEND_DEVICE, NULL, DEVICE_ONLY },
	{ VOXSHM_BACKEND_DEVICE, "file", DEVICE_ONLY },
	{ VOXSHM_BACKEND_DEVICE, "any", DEVICE_ONLY },
	{ VOXSHM_BACKEND_ANY, NULL, ANY },
	{ VOXSHM_BACKEND_ANY, "device", ANY },
	{ (enum voxshm_backend)4, NULL, NONE },
	{ (enum voxshm_backend)-1, "file", NONE },
};

TEST(backend_is_what_was_asked_for_and_a_refusal_is_told)
{
	const struct backend *backend;
	struct voxshm_error error;
	size_t i, device;
	int ret;

	for (i = 0; i < ARRAY_SIZE(choices); i++) {
		if (choices[i].environment)
			setenv("VOXSHM_BACKEND", choices[i].environment, 1);
		else
			unsetenv("VOXSHM_BACKEND");
		for (device = 0; device < DEVICES; device++) {
			int expected = choices[i].outcome[device];

			backend = NULL;
			memset(&error, 'x', sizeof(error));
			error.text[0] = '\0';
			ret = backend_choose(choices[i].wanted, &devices[device], &backend,
					     &error);
			EXPECT_EQ(ret, expected < 0 ? expected : 0)
				TH_LOG("choice %zu, device %s", i, devices[device].name);
			EXPECT_EQ(error.text[0] != '\0', expected < 0)
				TH_LOG("choice %zu, device %s: '%s'", i, devices[device].name,
				       error.text);
			if (expected == FILES)
				EXPECT_EQ(backend, &file_backend);
			if (expected == DEVICE)
				EXPECT_EQ(backend, &devices[device]);
			/* Nobody has to want the sentence. */
			EXPECT_EQ(backend_choose(choices[i].wanted, &devices[device], &backend,
						 NULL), ret);
		}
	}
}

TEST(unknown_word_in_the_environment_is_quoted)
{
	const struct backend *backend;
	struct voxshm_error error = { "" };

	setenv("VOXSHM_BACKEND", "carrier pigeon", 1);
	EXPECT_EQ(backend_choose(VOXSHM_BACKEND_DEFAULT, &devices[THERE], &backend, &error),
		  -EINVAL);
	EXPECT_NE(strstr(error.text, "VOXSHM_BACKEND"), NULL);
	EXPECT_NE(strstr(error.text, "carrier pigeon"), NULL);
}

/* Opening ------------------------------------------------------------------------ */

/* Says what, where, and what to do; and leaves nothing open. */
static void expect_refused(struct __test_metadata *_metadata, const char *path, int expected,
			   const char *advice)
{
	struct voxshm_error error = { "" };
	int fds = count_fds();

	EXPECT_EQ(device_open(path, &error), expected)
		TH_LOG("%s: %s", path, error.text);
	EXPECT_NE(strstr(error.text, path), NULL)
		TH_LOG("'%s'", error.text);
	if (advice)
		EXPECT_NE(strstr(error.text, advice), NULL)
			TH_LOG("'%s'", error.text);
	EXPECT_EQ(device_open(path, NULL), expected);
	EXPECT_EQ(count_fds(), fds);
}

TEST(node_that_is_not_there_is_enodev)
{
	expect_refused(_metadata, "/nonexistent/voxshm", -ENODEV, NULL);
}

TEST(node_of_something_else_is_refused)
{
	char path[] = "/tmp/voxshm-test-XXXXXX";
	int fd = mkstemp(path);

	ASSERT_GE(fd, 0);
	expect_refused(_metadata, "/dev/null", -ENOTTY, "VOXSHM_BACKEND=any");
	expect_refused(_metadata, path, -ENOTTY, "VOXSHM_BACKEND=any");
	expect_refused(_metadata, "/tmp", -EISDIR, NULL);
	close(fd);
	unlink(path);
}

TEST(node_without_permission_is_eacces_with_advice)
{
	char path[] = "/tmp/voxshm-test-XXXXXX";
	int fd = mkstemp(path);
	uid_t user = geteuid();

	ASSERT_GE(fd, 0);
	ASSERT_EQ(fchmod(fd, 0), 0);
	if (user == 0)
		ASSERT_EQ(seteuid(65534), 0);
	expect_refused(_metadata, path, -EACCES, "VOXSHM_BACKEND=any");
	ASSERT_EQ(seteuid(user), 0);
	close(fd);
	unlink(path);
}

TEST_HARNESS_MAIN
