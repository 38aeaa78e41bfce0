/* SPDX-License-Identifier: MIT */
/*
 * variants.h - the combinations of memory format and backend that every test
 * of a link or a host runs for, and the main() that picks among them.
 *
 * VOXSHM_TEST_FORMATS ("native", "vox", or both with a comma) and
 * VOXSHM_BACKEND ("file", "device", or "any" for both) restrict the run. A combination that
 * does not run is one SKIP line with its reason, and none of its tests is
 * listed: nothing passes that did not run.
 *
 * A word as the program's argument runs only tests whose name contains it.
 */
#ifndef VARIANTS_H
#define VARIANTS_H

#include <errno.h>
#include <kselftest_harness.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>
#include <voxshm.h>

#include "basics.h"

#define COMBINATIONS(X, argument) \
	X(argument, native_file, NATIVE, FILE, false) \
	X(argument, vox_file, VOX, FILE, false) \
	X(argument, native_device, NATIVE, DEVICE, false) \
	X(argument, vox_device, VOX, DEVICE, false)

/* For tests of one direction: "down" sends from the host, "up" from the guest. */
#define COMBINATIONS_BOTH_WAYS(X, argument) \
	X(argument, native_file_down, NATIVE, FILE, true) \
	X(argument, native_file_up, NATIVE, FILE, false) \
	X(argument, vox_file_down, VOX, FILE, true) \
	X(argument, vox_file_up, VOX, FILE, false) \
	X(argument, native_device_down, NATIVE, DEVICE, true) \
	X(argument, native_device_up, NATIVE, DEVICE, false) \
	X(argument, vox_device_down, VOX, DEVICE, true) \
	X(argument, vox_device_up, VOX, DEVICE, false)

/* The same for every fixture, so that main() can read it. */
struct variant_choice {
	enum voxshm_format format;
	enum voxshm_backend backend;
	bool from_host;
};

#define VARIANT_ADD(fixture, variant, format_name, backend_name, is_down)	\
	FIXTURE_VARIANT_ADD(fixture, variant)					\
	{									\
		.choice = {							\
			.format = VOXSHM_FORMAT_##format_name,			\
			.backend = VOXSHM_BACKEND_##backend_name,		\
			.from_host = is_down,					\
		},								\
	};

#define VARIANTS(fixture)							\
	FIXTURE_VARIANT(fixture) { struct variant_choice choice; };		\
	COMBINATIONS(VARIANT_ADD, fixture)

#define VARIANTS_BOTH_WAYS(fixture)						\
	FIXTURE_VARIANT(fixture) { struct variant_choice choice; };		\
	COMBINATIONS_BOTH_WAYS(VARIANT_ADD, fixture)

/* The start of a configuration in the variant's format and backend. */
#define CONFIG(variant, ...)							\
	((struct voxshm_config){ .struct_size = sizeof(struct voxshm_config),	\
				 .format = (variant)->choice.format,		\
				 .backend = (variant)->choice.backend, __VA_ARGS__ })

/* Which combinations run ----------------------------------------------------- */

static inline bool variant_in_list(const char *list, const char *word)
{
	size_t length = strlen(word);

	if (!list || !*list)
		return true;
	for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
		if (!strncmp(list, word, length) && (list[length] == ',' || !list[length]))
			return true;
	return false;
}

/* In a process of its own: a crash there must not end the run. */
static inline int variant_probe(enum voxshm_format format, enum voxshm_backend backend)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_host *host;
	int status = 0;
	pid_t pid;

	config.format = format;
	config.backend = backend;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(-voxshm_host_new(&host, &config, NULL) & 0x7f);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 0;
	return -WEXITSTATUS(status);
}

/* Return: NULL when the combination runs, else why not. */
static inline const char *variant_missing(enum voxshm_format format, enum voxshm_backend backend)
{
	static const char *known[2][3];
	static bool asked[2][3];
	int row = format == VOXSHM_FORMAT_VOX;
	const char *format_name = row ? "vox" : "native";
	const char *backend_name = backend == VOXSHM_BACKEND_FILE ? "file" : "device";
	const char *reason = NULL;
	int ret;

	if (asked[row][backend])
		return known[row][backend];
	if (!variant_in_list(getenv("VOXSHM_TEST_FORMATS"), format_name)) {
		reason = "not in VOXSHM_TEST_FORMATS";
	} else if (!variant_in_list(getenv("VOXSHM_BACKEND"), backend_name) &&
		   !variant_in_list(getenv("VOXSHM_BACKEND"), "any")) {
		reason = "not the backend of VOXSHM_BACKEND";
	} else {
		/* Any other failure is for the tests to find. */
		ret = variant_probe(format, backend);
		if (ret == -ENODEV)
			reason = "the backend is not there (ENODEV)";
		else if (ret == -ENOSYS)
			reason = "the library has no links of this format (ENOSYS)";
	}
	asked[row][backend] = true;
	known[row][backend] = reason;
	return reason;
}

#define VARIANT_SKIP(unused, variant, format_name, backend_name, is_down)		\
	TEST(variant)									\
	{										\
		SKIP(return, #variant ": %s",						\
		     variant_missing(VOXSHM_FORMAT_##format_name,			\
				     VOXSHM_BACKEND_##backend_name));			\
	}
COMBINATIONS(VARIANT_SKIP, )

#define VARIANT_SKIP_OBJECT(list, variant, format_name, backend_name, is_down)		\
	{ &_##variant##_object,								\
	  { VOXSHM_FORMAT_##format_name, VOXSHM_BACKEND_##backend_name, is_down } },

static inline bool variant_runs(const struct variant_choice *choice)
{
	return !variant_missing(choice->format, choice->backend);
}

/* Takes what does not run out of the harness's lists. */
static inline void variants_select(const char *word)
{
	static const struct {
		struct __test_metadata *test;
		struct variant_choice choice;
	} skips[] = { COMBINATIONS(VARIANT_SKIP_OBJECT, ) };
	struct __fixture_variant_metadata **variant;
	struct __fixture_metadata *fixture;
	struct __test_metadata **test;
	bool drop;
	size_t i;

	for (fixture = __fixture_list; fixture; fixture = fixture->next) {
		bool had_variants = fixture->variant;

		for (variant = &fixture->variant; *variant;) {
			if (variant_runs((*variant)->data))
				variant = &(*variant)->next;
			else
				*variant = (*variant)->next;
		}
		if (had_variants && !fixture->variant)
			fixture->tests = NULL;
		for (test = &fixture->tests; *test;) {
			drop = word && !strstr((*test)->name, word);
			for (i = 0; i < ARRAY_SIZE(skips); i++)
				if (skips[i].test == *test)
					drop = variant_runs(&skips[i].choice);
			if (drop)
				*test = (*test)->next;
			else
				test = &(*test)->next;
		}
	}
}

/* What holds for one backend alone --------------------------------------------- */

static inline bool link_is_on_device(const struct voxshm_link *link)
{
	return !strcmp(voxshm_link_backend_name(link), "device");
}

/* How did the peer end? The file backend knows it only of the host's own children. */
static inline bool knows_every_exit(const struct voxshm_link *link)
{
	return link_is_on_device(link);
}

/* Does a large payload need a descriptor on its way? */
static inline bool mappings_take_descriptors(const struct voxshm_link *link)
{
	return !link_is_on_device(link);
}

/* Can a vox segment have a name? */
static inline bool variant_has_paths(const struct variant_choice *choice)
{
	return choice->format == VOXSHM_FORMAT_VOX && choice->backend == VOXSHM_BACKEND_FILE;
}

/* The most payload mappings of one side that there can be. */
static inline uint32_t variant_max_mappings(const struct variant_choice *choice)
{
	if (choice->backend == VOXSHM_BACKEND_DEVICE)
		return 1024;
	return choice->format == VOXSHM_FORMAT_NATIVE ? 256 : 4096;
}

/* main ----------------------------------------------------------------------- */

/* What a test's program does when it is started again as a guest. */
struct guest_program {
	const char *name;
	int (*run)(int argc, char **argv);
};

static inline int variants_main(int argc, char **argv, const struct guest_program *programs)
{
	struct __fixture_metadata *fixture;
	struct __test_metadata *test;
	struct rlimit limit;

	if (argc > 2 && !strcmp(argv[1], "--guest")) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (; programs && programs->name; programs++)
			if (!strcmp(programs->name, argv[2]))
				return programs->run(argc - 2, argv + 2);
		return 96;
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	variants_select(argc > 1 ? argv[1] : NULL);
	for (fixture = __fixture_list; fixture; fixture = fixture->next)
		for (test = fixture->tests; test; test = test->next)
			test->timeout *= (int)slowness();
	return test_harness_run(argc, argv);
}

#define LINK_TEST_MAIN(programs)							\
	static void __attribute__((constructor)) __constructor_order_last(void)		\
	{										\
		if (!__constructor_order)						\
			__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD;		\
	}										\
	int main(int argc, char **argv)							\
	{										\
		return variants_main(argc, argv, programs);				\
	}

#endif
