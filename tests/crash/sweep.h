/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - one operation, interrupted at every instruction in turn.
 *
 * With TEST_LONG at every one; else at CRASH_POINTS of them (default 12), the
 * first and the last among them, chosen by CRASH_SEED (default 1). What a sweep
 * did is printed as a comment line; a run that fails says where the victim was.
 *
 * On the device TEST_LONG adds to those points all that stand before a system call
 * or right behind one: between two of them a victim does not change what the kernel
 * knows of it, and what it does to memory is the same code as on the file backend.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "crash/audit.h"
#include "crash/operations.h"
#include "crash/victim.h"
#include <sys/mman.h>

#define DEFAULT_POINTS 12u
#define MOST_FAILURES 5u
#define MOST_TRIES 16u
#define MOST_WAYS 4u

/* What else happens. */
enum circumstance {
	ALONE,
	STOPPED,	/* the victim is stopped (SIGSTOP) a while before; the survivor goes on */
	RESUMED,	/* the same, but it is let go on to the end, and killed there */
	TOGETHER,	/* two die at once */
	BESIDE,		/* as RESUMED, and meanwhile another one dies and is buried */
	FORKED,		/* a child of the victim's lives on, with all its descriptors */
	LOADED,		/* another guest is busy all the time */
};

struct scene;

struct scenario {
	const char *victim;
	/* What all runs of a sweep share: made anew after a failed run. */
	bool (*open)(struct scene *scene);
	void (*close)(struct scene *scene);
	/*
	 * One run: the victim dies before instruction k of the trace. Or, when
	 * the trace is empty, it is recorded, and the victim dies after it.
	 */
	bool (*run)(struct scene *scene, uint32_t k);
};

struct scene {
	const struct scenario *scenario;
	const struct operation *op;
	enum circumstance circumstance;
	enum voxshm_format format;
	enum voxshm_backend backend;
	struct trace trace;
	void *data;			/* the scenario's */
	uint64_t seed;			/* of the run's messages */

	/* The sweep's results. */
	enum arrival arrival;		/* of the last run */
	unsigned int delivered;		/* of what the operation sends, in the last run */
	unsigned int most;		/* ... in any earlier run on this way */
	unsigned int runs, strayed, failures;
};

/* Small: what is rare in a large segment happens here. */
static inline struct voxshm_config scene_config(const struct scene *scene)
{
	static const struct voxshm_class native_classes[] = { { SLOT_SMALL, 8 },
							      { SLOT_LARGE, 2 } };
	static const struct voxshm_class vox_classes[] = { { SLOT_SMALL, 32 },
							   { SLOT_LARGE, 8 } };

	return (struct voxshm_config){
		.struct_size = sizeof(struct voxshm_config),
		.format = scene->format,
		.backend = scene->backend,
		.max_guests = 4,
		.ring_capacity = 896,	/* three large inline messages, and a fourth by a wrap */
		.max_payload = 2 * MIB,
		.max_mappings = 6,
		.num_classes = 2,
		.classes = scene->format == VOXSHM_FORMAT_VOX ? vox_classes : native_classes,
	};
}

/* What all sweeps of a program did, for its last line; in shared memory. */
struct sweep_totals {
	pid_t pid;		/* of the program itself */
	unsigned int sweeps, runs, strayed, failures;
	uint64_t instructions;
	int64_t longest_call;
	char longest_call_name[96];
};

static struct sweep_totals *sweep_totals;

static inline unsigned int environment_number(const char *name, unsigned int normal)
{
	const char *given = getenv(name);

	return given && *given ? (unsigned int)strtoul(given, NULL, 10) : normal;
}

static inline bool is_long(void)
{
	return amount(1) == 10;
}

static inline bool sweep_is_full(const struct scene *scene)
{
	return is_long() && scene->backend != VOXSHM_BACKEND_DEVICE;
}

static inline unsigned int sweep_points(void)
{
	unsigned int points = environment_number("CRASH_POINTS", DEFAULT_POINTS);

	return points < 2 ? 2 : points;
}

static inline uint64_t sweep_seed(void)
{
	return environment_number("CRASH_SEED", 1);
}

/* Is k among the points of this run? One of each stretch of equal length; some critical ones. */
static inline bool is_chosen(const struct scene *scene, uint32_t k, uint64_t seed)
{
	const struct trace *trace = &scene->trace;
	uint32_t points = sweep_points(), length = trace->length, stretch, begin, end;

	if (trace->critical[k] && mix(seed + k) % trace->num_critical < points / 2)
		return true;
	if (sweep_is_full(scene) || k == 0 || k == length - 1 || length <= points)
		return true;
	if (is_long() && trace->call[k])
		return true;
	stretch = (uint32_t)((uint64_t)k * points / length);
	begin = (uint32_t)(((uint64_t)stretch * length + points - 1) / points);
	end = (uint32_t)(((uint64_t)(stretch + 1) * length + points - 1) / points);
	return k == begin + mix(seed + stretch) % (end - begin);
}

static inline void sweep_print(const struct scene *scene, const char *delivery)
{
	static const char *const circumstances[] = {
		"alone", "stopped", "resumed", "together", "beside", "forked", "loaded",
	};

	printf("# %s of a %s %s, %s, %s: %u instructions, %u runs, %u strayed, %u failures%s\n",
	       scene->op->name, scene->format == VOXSHM_FORMAT_VOX ? "vox" : "native",
	       scene->scenario->victim, circumstances[scene->circumstance],
	       scene->backend == VOXSHM_BACKEND_DEVICE ? "device" : "file",
	       scene->trace.length ? scene->trace.length - 1 : 0, scene->runs, scene->strayed,
	       scene->failures, delivery);
	fflush(stdout);
	sweep_totals->sweeps++;
	sweep_totals->runs += scene->runs;
	sweep_totals->strayed += scene->strayed;
	sweep_totals->failures += scene->failures;
	sweep_totals->instructions += scene->trace.length ? scene->trace.length - 1 : 0;
	if (longest_call <= sweep_totals->longest_call)
		return;
	sweep_totals->longest_call = longest_call;
	snprintf(sweep_totals->longest_call_name, sizeof(sweep_totals->longest_call_name), "%s",
		 longest_call_name);
}

static inline void describe_failure(const struct scene *scene, uint32_t k)
{
	extern const char __executable_start;
	uint64_t place = k < scene->trace.length ? scene->trace.place[k] : 0;

	fprintf(stderr, "# %s before instruction %u of %u (0x%llx, program offset 0x%llx): %s\n",
		scene->op->name, k, scene->trace.length ? scene->trace.length - 1 : 0,
		(unsigned long long)place,
		(unsigned long long)(place - (uint64_t)(uintptr_t)&__executable_start), complaint);
}

/* One run, and on failure a fresh start. */
static inline bool sweep_run(struct scene *scene, uint32_t k)
{
	bool right;

	*complaint = '\0';
	scene->seed += 1u << 16;
	scene->delivered = 0;
	victim_set_alarm();
	right = scene->scenario->run(scene, k);
	victim_stop_alarm();
	scene->runs++;
	if (right)
		return true;
	describe_failure(scene, k);
	scene->failures++;
	scene->scenario->close(scene);
	*complaint = '\0';
	REQUIRE(scene->scenario->open(scene));
	return false;
}

/*
 * What comes from elsewhere at another time (a ring, the end of a wait) may lead
 * a victim another way: then another one is sent. When none goes this way, the
 * one that was recorded was the odd one, and the way is recorded anew.
 */
static inline bool sweep_point(struct scene *scene, uint32_t k)
{
	unsigned int tries, ways;

	for (ways = 0; ways < MOST_WAYS && k < scene->trace.length; ways++) {
		for (tries = 0; tries < MOST_TRIES; tries++) {
			if (!sweep_run(scene, k))
				return false;
			if (scene->arrival != STRAYED)
				return true;
		}
		trace_free(&scene->trace);
		scene->most = 0;
		if (!sweep_run(scene, 0))
			return false;
	}
	scene->strayed += k < scene->trace.length;
	return true;
}

/* A later death never delivers less: the operation commits at one instruction. */
static inline bool check_delivery(struct scene *scene, uint32_t k, char *delivery, size_t room)
{
	size_t length = strlen(delivery);

	if (scene->arrival != ARRIVED)
		return true;
	if (scene->circumstance == RESUMED || scene->circumstance == BESIDE)
		scene->most = (unsigned int)strlen(scene->op->sends);
	if (scene->delivered < scene->most) {
		complain("%u messages of the operation were delivered, not %u as with an earlier "
			 "death", scene->delivered, scene->most);
		describe_failure(scene, k);
		scene->failures++;
		return false;
	}
	if (scene->delivered > scene->most)
		snprintf(delivery + length, room - length, "; %u delivered from %u on",
			 scene->delivered, k);
	scene->most = scene->delivered;
	return true;
}

/* Where two have something half done, it is tried with several points of the other one. */
static inline unsigned int repetitions(const struct scene *scene, uint32_t k)
{
	bool two = scene->circumstance == TOGETHER || scene->circumstance == BESIDE;

	if (!is_chosen(scene, k, sweep_seed()))
		return 0;
	return two && sweep_is_full(scene) && scene->trace.critical[k] ? 16 : 1;
}

static inline bool sweep(struct scene *scene)
{
	char delivery[128] = "";
	unsigned int i;
	uint32_t k;

	if (!scene->scenario->open(scene)) {
		fprintf(stderr, "# %s\n", complaint);
		return false;
	}
	sweep_run(scene, 0);	/* records */
	for (k = 0; k < scene->trace.length && scene->failures < MOST_FAILURES; k++)
		for (i = repetitions(scene, k); i > 0; i--)
			if (sweep_point(scene, k))
				check_delivery(scene, k, delivery, sizeof(delivery));
	if (scene->trace.length && scene->most != strlen(scene->op->sends) && !scene->failures) {
		fprintf(stderr, "# at the end %u messages were delivered of \"%s\"\n", scene->most,
			scene->op->sends);
		scene->failures++;
	}
	sweep_print(scene, delivery);
	scene->scenario->close(scene);
	k = scene->trace.length;
	trace_free(&scene->trace);
	return k && !scene->failures;
}

/* Programs ---------------------------------------------------------------------------- */

/* One sweep may take so many seconds. */
#define SWEEP_SECONDS 3600

#define COUNT_ONE(name) + 1

static inline const struct operation *find_operation(const struct operation *table, size_t count,
						     const char *name)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

static inline void print_totals(void)
{
	const struct sweep_totals *totals = sweep_totals;

	if (getpid() != totals->pid)
		return;
	printf("# seed %llu; %u sweeps of %llu instructions together, %u runs, %u strayed, "
	       "%u failures; the longest call of a survivor took %lld us: %s\n",
	       (unsigned long long)sweep_seed(), totals->sweeps,
	       (unsigned long long)totals->instructions, totals->runs, totals->strayed,
	       totals->failures, (long long)(totals->longest_call / 1000),
	       totals->longest_call_name);
}

static inline int crash_main(int argc, char **argv, const struct guest_program *programs)
{
	if (argc > 1 && !strcmp(argv[1], "--guest"))
		return variants_main(argc, argv, programs);
	sweep_totals = mmap(NULL, sizeof(*sweep_totals), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(sweep_totals != MAP_FAILED);
	sweep_totals->pid = getpid();
	atexit(print_totals);
	return variants_main(argc, argv, programs);
}

#define CRASH_TEST_MAIN(programs)							\
	static void __attribute__((constructor)) __constructor_order_last(void)		\
	{										\
		if (!__constructor_order)						\
			__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD;		\
	}										\
	int main(int argc, char **argv)							\
	{										\
		return crash_main(argc, argv, programs);				\
	}

#endif
