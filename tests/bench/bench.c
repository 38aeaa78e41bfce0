/* SPDX-License-Identifier: MIT */
/*
 * bench - round trip and one-way rate of voxshm beside a pipe, a UNIX socket,
 * vox-shm 0.3.1 in Rust and the memory itself, between two pinned processes, in
 * one run.
 *
 * Every transport is a table of the same few operations; vox-shm is a program of
 * its own (tests/interop/src/bin/vox-shm-bench.rs), with both ends in Rust. All transports of a
 * size are measured in turn, several rounds, and the median is printed. The
 * sender writes and the receiver reads one word of each 64-byte line.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "voxshm.h"

#define ROUNDS 5
#define MAX_SIZE (1u << 20)
#define LINE 64u

static void die(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0 && cpu == 0)
		die("pinning", errno);
}

/* One word of each line. */
static void fill(void *data, size_t size, uint64_t value)
{
	size_t at;

	for (at = 0; at + sizeof(value) <= size; at += LINE)
		memcpy((char *)data + at, &value, sizeof(value));
}

static void check(const void *data, size_t size, uint64_t value)
{
	uint64_t found;
	size_t at;

	for (at = 0; at + sizeof(found) <= size; at += LINE) {
		memcpy(&found, (const char *)data + at, sizeof(found));
		if (found != value) {
			fprintf(stderr, "bench: a message came damaged\n");
			exit(1);
		}
	}
}

/* Transports ----------------------------------------------------------------- */

struct peer {
	struct voxshm_link *link;
	int in, out;
	_Atomic uint64_t *mine, *theirs;	/* shared lines */
	void *buffer;
};

struct transport {
	const char *name;
	/* Both ends before the fork, then the end of one process. */
	void (*open)(void);
	void (*join)(struct peer *peer, bool is_child);
	void (*close)(struct peer *peer);
	void (*send)(struct peer *peer, size_t size, uint64_t value);
	void (*recv)(struct peer *peer, size_t size, uint64_t value);
	size_t max_size;
	bool one_way;
};

static struct voxshm_host *host;
static struct voxshm_link *host_link;
static int ticket, fds[4];
static _Atomic uint64_t *lines;

static void voxshm_open(void)
{
	struct voxshm_config config = VOXSHM_CONFIG_INIT;
	struct voxshm_error error;
	const struct voxshm_class classes[] = { { 1 << 16, 64 }, { 1 << 20, 16 } };

	config.ring_capacity = 1 << 20;
	config.inline_threshold = 8192;
	config.num_classes = 2;
	config.classes = classes;
	if (voxshm_host_new(&host, &config, &error) ||
	    voxshm_host_ticket(host, &ticket, &host_link, &error)) {
		fprintf(stderr, "bench: %s\n", error.text);
		exit(1);
	}
}

static void voxshm_join(struct peer *peer, bool is_child)
{
	struct voxshm_error error;

	if (!is_child) {
		close(ticket);
		peer->link = host_link;
		return;
	}
	if (voxshm_guest_claim(&peer->link, ticket, &error)) {
		fprintf(stderr, "bench: %s\n", error.text);
		exit(1);
	}
}

static void voxshm_join_spinning(struct peer *peer, bool is_child)
{
	voxshm_join(peer, is_child);
	voxshm_link_set_spin(peer->link, 1000000000);
}

static void voxshm_close(struct peer *peer)
{
	if (peer->link == host_link)
		voxshm_host_free(host);
	else
		voxshm_link_close(peer->link);
}

static void copy_send(struct peer *peer, size_t size, uint64_t value)
{
	int ret;

	fill(peer->buffer, size, value);
	ret = voxshm_send(peer->link, peer->buffer, size, VOXSHM_FOREVER);
	if (ret)
		die("voxshm_send", ret);
}

static void loan_send(struct peer *peer, size_t size, uint64_t value)
{
	struct voxshm_loan loan;
	int ret;

	ret = voxshm_loan(peer->link, size, &loan, VOXSHM_FOREVER);
	if (ret)
		die("voxshm_loan", ret);
	fill(loan.data, size, value);
	ret = voxshm_commit(peer->link, &loan, size, VOXSHM_FOREVER);
	if (ret)
		die("voxshm_commit", ret);
}

static void view_recv(struct peer *peer, size_t size, uint64_t value)
{
	struct voxshm_view view;
	int ret;

	ret = voxshm_recv(peer->link, &view, VOXSHM_FOREVER);
	if (ret)
		die("voxshm_recv", ret);
	if (view.size != size)
		die("size", EBADMSG);
	check(view.data, size, value);
	voxshm_release(peer->link, &view);
}

static void pipe_open(void)
{
	if (pipe(fds) < 0 || pipe(fds + 2) < 0)
		die("pipe", errno);
}

static void pipe_join(struct peer *peer, bool is_child)
{
	peer->in = is_child ? fds[0] : fds[2];
	peer->out = is_child ? fds[3] : fds[1];
	close(is_child ? fds[1] : fds[0]);
	close(is_child ? fds[2] : fds[3]);
}

static void socket_open(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		die("socketpair", errno);
}

static void socket_join(struct peer *peer, bool is_child)
{
	peer->in = fds[is_child];
	peer->out = fds[is_child];
	close(fds[!is_child]);
}

static void fd_close(struct peer *peer)
{
	close(peer->in);
	if (peer->out != peer->in)
		close(peer->out);
}

static void fd_send(struct peer *peer, size_t size, uint64_t value)
{
	size_t done = 0;
	ssize_t ret;

	fill(peer->buffer, size, value);
	for (; done < size; done += (size_t)ret) {
		ret = write(peer->out, (char *)peer->buffer + done, size - done);
		if (ret <= 0)
			die("write", errno);
	}
}

static void fd_recv(struct peer *peer, size_t size, uint64_t value)
{
	size_t done = 0;
	ssize_t ret;

	for (; done < size; done += (size_t)ret) {
		ret = read(peer->in, (char *)peer->buffer + done, size - done);
		if (ret <= 0)
			die("read", errno);
	}
	check(peer->buffer, size, value);
}

/* The limit: two shared lines, one written by each side. */
static void lines_open(void)
{
	lines = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (lines == MAP_FAILED)
		die("mmap", errno);
}

static void lines_join(struct peer *peer, bool is_child)
{
	peer->mine = lines + (is_child ? 0 : 64);
	peer->theirs = lines + (is_child ? 64 : 0);
}

static void lines_close(struct peer *peer)
{
	(void)peer;
	munmap((void *)lines, 4096);
}

static void lines_send(struct peer *peer, size_t size, uint64_t value)
{
	(void)size;
	atomic_store_explicit(peer->mine, value + 1, memory_order_release);
}

static void lines_recv(struct peer *peer, size_t size, uint64_t value)
{
	(void)size;
	/* Values only rise: the next one may have come already. */
	while (atomic_load_explicit(peer->theirs, memory_order_acquire) < value + 1)
		__builtin_ia32_pause();
}

/* Without operations: measured by the program that VOX_SHM_BENCH_PROGRAM names. */
static const struct transport transports[] = {
	{ "two shared lines (limit)", lines_open, lines_join, lines_close, lines_send, lines_recv, LINE, false },
	{ "voxshm copy, spinning", voxshm_open, voxshm_join_spinning, voxshm_close, copy_send, view_recv, MAX_SIZE, true },
	{ "voxshm loan, spinning", voxshm_open, voxshm_join_spinning, voxshm_close, loan_send, view_recv, MAX_SIZE, true },
	{ "voxshm copy, default", voxshm_open, voxshm_join, voxshm_close, copy_send, view_recv, MAX_SIZE, true },
	{ "pipe", pipe_open, pipe_join, fd_close, fd_send, fd_recv, MAX_SIZE, true },
	{ "UNIX stream socket", socket_open, socket_join, fd_close, fd_send, fd_recv, MAX_SIZE, true },
	{ .name = "vox-shm 0.3.1, Rust", .max_size = MAX_SIZE, .one_way = true },
};

#define TRANSPORTS (sizeof(transports) / sizeof(*transports))

/* Measuring -------------------------------------------------------------------- */

/* The echo of round trips, then the sink of the stream; its last word says done. */
static void child(const struct transport *transport, size_t size, unsigned int trips,
		  unsigned int messages)
{
	struct peer peer = { .buffer = malloc(MAX_SIZE) };
	unsigned int i;

	pin(1);
	transport->join(&peer, true);
	for (i = 0; i < trips; i++) {
		transport->recv(&peer, size, i);
		transport->send(&peer, size, i);
	}
	for (i = 0; i < messages; i++)
		transport->recv(&peer, size, i);
	transport->send(&peer, size, trips + messages);
	/* Until the parent has taken the last word. */
	transport->recv(&peer, size, trips + messages);
	transport->close(&peer);
	exit(0);
}

static void measure(const struct transport *transport, size_t size, unsigned int trips,
		    unsigned int messages, double *trip_ns, double *rate)
{
	struct peer peer = { .buffer = malloc(MAX_SIZE) };
	unsigned int i;
	double start;
	int status;
	pid_t pid;

	transport->open();
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork", errno);
	if (pid == 0)
		child(transport, size, trips, messages);
	transport->join(&peer, false);
	start = now();
	for (i = 0; i < trips; i++) {
		transport->send(&peer, size, i);
		transport->recv(&peer, size, i);
	}
	*trip_ns = (now() - start) / trips * 1e9;
	start = now();
	for (i = 0; i < messages; i++)
		transport->send(&peer, size, i);
	transport->recv(&peer, size, trips + messages);
	*rate = messages / (now() - start);
	transport->send(&peer, size, trips + messages);
	if (waitpid(pid, &status, 0) < 0 || status)
		die("the other process failed", ECHILD);
	transport->close(&peer);
	free(peer.buffer);
}

static const char *program(void)
{
	return getenv("VOX_SHM_BENCH_PROGRAM");
}

static void measure_program(size_t size, unsigned int trips, unsigned int messages,
			    double *trip_ns, double *rate)
{
	char command[4096];
	FILE *output;
	int found;

	snprintf(command, sizeof(command), "'%s' %zu %u %u", program(), size, trips, messages);
	output = popen(command, "re");
	if (!output)
		die("popen", errno);
	found = fscanf(output, "%lf %lf", trip_ns, rate);
	if (pclose(output) || found != 2)
		die(command, EPROTO);
}

static bool is_there(const struct transport *transport)
{
	return transport->open || program();
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static void bench_size(size_t size, unsigned int trips, unsigned int messages)
{
	double trip_ns[TRANSPORTS][ROUNDS], rate[TRANSPORTS][ROUNDS];
	unsigned int round, i;

	for (round = 0; round < ROUNDS; round++)
		for (i = 0; i < TRANSPORTS; i++)
			if (size > transports[i].max_size || !is_there(&transports[i]))
				continue;
			else if (transports[i].open)
				measure(&transports[i], size, trips,
					transports[i].one_way ? messages : 0,
					&trip_ns[i][round], &rate[i][round]);
			else
				measure_program(size, trips, messages, &trip_ns[i][round],
						&rate[i][round]);
	printf("\n%zu bytes\n  %-26s %14s %14s %12s\n", size, "", "round trip", "messages/s", "MB/s");
	for (i = 0; i < TRANSPORTS; i++) {
		if (size > transports[i].max_size)
			continue;
		if (!is_there(&transports[i])) {
			printf("  %-26s %14s\n", transports[i].name, "not measured");
			continue;
		}
		qsort(trip_ns[i], ROUNDS, sizeof(double), compare);
		qsort(rate[i], ROUNDS, sizeof(double), compare);
		printf("  %-26s %11.0f ns", transports[i].name, trip_ns[i][ROUNDS / 2]);
		if (transports[i].one_way)
			printf(" %14.0f %12.0f", rate[i][ROUNDS / 2],
			       rate[i][ROUNDS / 2] * (double)size / 1e6);
		printf("\n");
	}
}

int main(void)
{
	pin(0);
	printf("voxshm bench: medians of %d rounds, two processes on two cores\n", ROUNDS);
	if (!program())
		printf("vox-shm is not measured: VOX_SHM_BENCH_PROGRAM does not name its program\n");
	bench_size(64, 5000, 1000000);
	bench_size(1024, 5000, 500000);
	bench_size(65536, 2000, 20000);
	bench_size(MAX_SIZE, 500, 2000);
	return 0;
}
