// SPDX-License-Identifier: MIT
/*
 * seeds.c - writes the inputs that the fuzzers begin with.
 *
 *   seeds DIRECTORY          in a folder there for each fuzzer
 *
 * Every string of bytes is a program for a fuzzer; these are honest ones, ones
 * that go wrong at one place, inputs that once found something, and noise.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "work.h"

#define MAX_SEED 600u
#define NOISE 48u

static const char *directory, *fuzzer;
static unsigned int written;

struct seed {
	uint8_t bytes[MAX_SEED];
	size_t size;
};

static void put(struct seed *seed, unsigned int value)
{
	FUZZ_CHECK(seed->size < MAX_SEED);
	seed->bytes[seed->size++] = (uint8_t)value;
}

static void put_size(struct seed *seed, unsigned int size)
{
	put(seed, size & 0xff);
	put(seed, size >> 8);
}

static void save(const struct seed *seed)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s/seed-%03u", directory, fuzzer, written++);
	file = fopen(path, "we");
	FUZZ_CHECK(file && fwrite(seed->bytes, 1, seed->size, file) == seed->size);
	FUZZ_CHECK(fclose(file) == 0);
}

static void begin(const char *name)
{
	char path[512];

	fuzzer = name;
	written = 0;
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FUZZ_CHECK(mkdir(path, 0777) == 0 || errno == EEXIST);
}

/* splitmix64: the same in every run. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t value = *state += 0x9e3779b97f4a7c15ull;

	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static void save_noise(uint64_t random)
{
	unsigned int i;

	for (i = 0; i < NOISE; i++) {
		struct seed seed = { .size = 0 };
		size_t size = 30 + random_next(&random) % 300;

		while (seed.size < size)
			put(&seed, (unsigned int)(random_next(&random) >> 56));
		save(&seed);
	}
}

/* Inputs that once found something; tell what. */
struct finding {
	const char *fuzzer;
	const uint8_t bytes[16];
	size_t size;
};

static const struct finding findings[] = {
	/* A mapping was lost when the receiver sent one after the sender's end. */
	{ "vox_link", { 0x02, 0x41, 0x1c, 0xa3, 0x5c, 0xa3, 0x00, 0x41, 0x28, 0x0a }, 10 },
};

static void save_findings(void)
{
	struct seed seed;
	size_t i;

	for (i = 0; i < sizeof(findings) / sizeof(*findings); i++) {
		if (strcmp(findings[i].fuzzer, fuzzer) != 0)
			continue;
		seed.size = findings[i].size;
		memcpy(seed.bytes, findings[i].bytes, seed.size);
		save(&seed);
	}
}

/* Links ------------------------------------------------------------------------------ */

/* How the links' fuzzers name what one end does: native_link.c, vox_link.c. */
typedef unsigned int name_fn(bool host, unsigned int kind);

static unsigned int native_name(bool host, unsigned int kind)
{
	return kind << 1 | host;
}

static unsigned int vox_name(bool host, unsigned int kind)
{
	return kind | host << 6;
}

/* Sends messages of a size, receives them, gives them back in order or not. */
static void save_traffic(unsigned int first, name_fn *name, bool from_host, unsigned int size,
			 bool in_order)
{
	struct seed seed = { .size = 0 };
	unsigned int round, i;

	put(&seed, first);
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 3; i++) {
			put(&seed, name(from_host, WORK_SEND));
			put_size(&seed, size + round);
		}
		for (i = 0; i < 3; i++)
			put(&seed, name(!from_host, WORK_RECV));
		for (i = 0; i < 3; i++) {
			put(&seed, name(!from_host, WORK_RELEASE));
			put(&seed, in_order ? 0 : 2 - i);
		}
		put(&seed, name(from_host, WORK_WAIT));
		put(&seed, 3);
		put(&seed, round);
	}
	save(&seed);
}

/* Loans, of which some are committed, and what comes of them. */
static void save_loans(unsigned int first, name_fn *name, bool from_host)
{
	struct seed seed = { .size = 0 };
	unsigned int i;

	put(&seed, first);
	for (i = 0; i < 24; i++) {
		put(&seed, name(from_host, WORK_LOAN));
		put(&seed, i % 5);
		put_size(&seed, 61 * i);
		put(&seed, name(!from_host, i % 2 ? WORK_RECV_BATCH : WORK_RECV_COPY));
		if (i % 2 == 0)
			put_size(&seed, 2000);
	}
	save(&seed);
}

/* After some traffic, each hostile kind once with each of some arguments. */
static void save_hostile(unsigned int first, name_fn *name, unsigned int kind, uint64_t random)
{
	unsigned int variant, i;

	for (variant = 0; variant < 6; variant++) {
		struct seed seed = { .size = 0 };
		bool host = variant % 2;

		put(&seed, first);
		for (i = 0; i < 12; i++) {
			put(&seed, name(!host, WORK_SEND));
			put_size(&seed, 40 * i);
			put(&seed, name(host, WORK_RECV));
			put(&seed, name(host, WORK_RELEASE));
			put(&seed, 0);
			if (i < 4)
				continue;
			put(&seed, name(host, kind));
			put(&seed, variant);
			put(&seed, (unsigned int)random_next(&random) & 7);
			put_size(&seed, (unsigned int)random_next(&random) & 0xffff);
		}
		save(&seed);
	}
}

static void save_links(const char *name, name_fn *kind_name, unsigned int firsts)
{
	static const unsigned int sizes[] = { 0, 20, 50, 100, 300, 1100 };
	unsigned int first, i;

	begin(name);
	for (first = 0; first < firsts; first++) {
		for (i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++)
			save_traffic(first, kind_name, i & 1, sizes[i / 2], first & 1);
		save_loans(first, kind_name, true);
		save_loans(first, kind_name, false);
	}
	for (i = WORK_KINDS; i < 32; i++)
		save_hostile(i % firsts, kind_name, i, i);
	save_findings();
	save_noise(firsts);
}

/* ---------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seeds DIRECTORY\n");
		return 2;
	}
	directory = argv[1];
	save_links("native_link", native_name, 6);
	save_links("vox_link", vox_name, 4);
	begin("attach");
	save_findings();
	save_noise(1);
	begin("messages");
	save_findings();
	save_noise(2);
	return 0;
}
