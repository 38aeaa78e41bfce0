/* SPDX-License-Identifier: MIT */
/*
 * demo_guest.c - voxshm demo-guest: what the demo's guests do; see demo.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "demo.h"
#include "outgoing.h"

/* Straight into the receiver's sight, as a program would that makes its messages itself. */
static int send_number(struct voxshm_link *link, uint64_t number)
{
	uint32_t count = demo_count_words(number), i;
	size_t size = offsetof(struct demo_message, words) + count * sizeof(uint64_t);
	struct demo_message *message;
	struct voxshm_loan loan;
	int error;

	error = voxshm_loan(link, size, &loan, VOXSHM_FOREVER);
	if (error)
		return error;
	message = loan.data;
	message->number = number;
	for (i = 0; i < count; i++)
		message->words[i] = demo_word(number, i);
	message->checksum = demo_checksum(number, message->words, count);
	error = voxshm_commit(link, &loan, size, VOXSHM_FOREVER);
	if (error)
		voxshm_abort(link, &loan);
	return error;
}

static int send_messages(struct voxshm_link *link, uint64_t count, int fd, struct problem *problem)
{
	struct demo_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				      0);
	uint64_t number;
	int error;

	if (page == MAP_FAILED)
		return problem_set(problem, "cannot map the demo's page: %s", strerror(errno));
	for (number = 1; number <= count; number++) {
		error = send_number(link, number);
		if (error)
			return problem_set(problem, "cannot send: %s", strerror(-error));
		atomic_store(&page->sent, number);
	}
	return 0;
}

static int send_file(struct voxshm_link *link, const char *path, struct problem *problem)
{
	struct outgoing outgoing;
	struct source source;
	int result;

	if (source_open(&source, path, problem) < 0)
		return -1;
	result = outgoing_send(&outgoing, link, &source, false, problem);
	source_close(&source);
	return result;
}

static int wait_for_goodbye(struct voxshm_link *link, struct problem *problem)
{
	struct voxshm_view view;
	int error = voxshm_recv(link, &view, VOXSHM_FOREVER);

	if (error)
		return problem_set(problem, "the host is gone: %s", strerror(-error));
	voxshm_release(link, &view);
	return 0;
}

int cmd_demo_guest(int argc, char **argv)
{
	struct voxshm_link *link = NULL;
	struct voxshm_error error = { "" };
	struct problem problem;
	int result;

	result = voxshm_guest_inherit(&link, &error);
	if (result < 0)
		return fail("this is a part of voxshm demo, which starts it (%s)",
			    error.text[0] ? error.text : strerror(-result));
	if (argc == 3 && strcmp(argv[1], "file") == 0)
		result = send_file(link, argv[2], &problem);
	else if (argc == 4 && strcmp(argv[1], "messages") == 0)
		result = send_messages(link, strtoull(argv[2], NULL, 10), atoi(argv[3]), &problem);
	else
		result = problem_set(&problem, "it is told what to do by voxshm demo");
	if (result == 0)
		result = wait_for_goodbye(link, &problem);
	voxshm_link_close(link);
	return result < 0 ? fail("%s", problem.text) : EXIT_SUCCESS;
}
