/* SPDX-License-Identifier: MIT */
/*
 * reception.c - a host that receives what guests send; see reception.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reception.h"

#define EVENTS 16
/* Messages taken from one guest before the others have their turn. */
#define TURN 64

static int admit(void *data, const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	struct reception *r = data;
	char text[320];

	if (!r->hosting.any_user && caller->uid != geteuid() && caller->uid != 0)
		snprintf(reason->text, sizeof(reason->text),
			 "user %u may not send to user %u; start the host with --any-user to let "
			 "everybody in", (unsigned int)caller->uid, (unsigned int)geteuid());
	else if (r->single && r->taken)
		snprintf(reason->text, sizeof(reason->text),
			 "this host takes one sender and has it already; try again later");
	else
		return 0;
	snprintf(text, sizeof(text), "process %d: %.255s", (int)caller->pid, reason->text);
	r->tell(r, NEWS_REFUSED, NULL, text, strlen(text));
	return -1;
}

int reception_open(struct reception *r, struct problem *problem)
{
	struct voxshm_error error = { 0 };
	/* Whom to let in, admit() decides. */
	mode_t mode = r->hosting.any_user ? 0666 : 0600;
	int result;

	r->wait = VOXSHM_FOREVER;
	if (r->hosting.any_user) {
		r->copy = malloc(TRANSFER_CHUNK);
		if (!r->copy)
			return problem_set(problem, "out of memory");
	}
	result = voxshm_host_new(&r->host, &r->hosting.config, &error);
	if (result < 0)
		return problem_set(problem, "cannot become a host: %s",
				   error.text[0] ? error.text : strerror(-result));
	result = voxshm_host_listen(r->host, r->address, mode, admit, r, &error);
	if (result == -EADDRINUSE)
		return problem_set(problem, "another host listens on %s; choose another address",
				   r->address);
	if (result < 0)
		return problem_set(problem, "%s; choose another address",
				   error.text[0] ? error.text : strerror(-result));
	return 0;
}

/* Return: 0 or -1 (out of memory). */
static int guest_new(struct reception *r, struct voxshm_link *link)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest || incoming_init(&guest->incoming) < 0) {
		free(guest);
		return -1;
	}
	guest->reception = r;
	guest->link = link;
	guest->next = r->guests;
	r->guests = guest;
	r->taken = true;
	voxshm_link_set_data(link, guest);
	voxshm_link_status(link, &guest->status);
	r->tell(r, NEWS_ATTACHED, guest, NULL, 0);
	return 0;
}

static void guest_free(struct guest *guest)
{
	incoming_deinit(&guest->incoming);
	voxshm_link_close(guest->link);
	free(guest);
}

/* Later events of those at hand may still name a guest that is over. */
static void guest_over(struct guest *guest)
{
	struct reception *r = guest->reception;

	voxshm_link_status(guest->link, &guest->status);
	guest->over = true;
	r->tell(r, NEWS_GONE, guest, NULL, 0);
}

static void sweep(struct reception *r)
{
	struct guest **place = &r->guests, *guest;

	while ((guest = *place)) {
		if (!guest->over) {
			place = &guest->next;
			continue;
		}
		*place = guest->next;
		guest_free(guest);
	}
}

/* A sender that does not take its result goes without: never wait for one. */
static void answer(struct guest *guest, enum incoming_step step)
{
	uint8_t message[INCOMING_RESULT_ROOM];
	size_t size = incoming_result(&guest->incoming, step, message);

	voxshm_try_send(guest->link, message, size);
}

/* The end, as voxshm_host_wait() told it. */
static void guest_ended(struct guest *guest)
{
	struct reception *r = guest->reception;
	char text[STATUS_TEXT];

	voxshm_link_status(guest->link, &guest->status);
	if (guest->incoming.active) {
		incoming_fail(&guest->incoming, "the sender %s before the end",
			      status_text(text, &guest->status));
		r->tell(r, NEWS_FAILED, guest, NULL, 0);
	}
	guest_over(guest);
}

/* Return: whether the guest is still there. */
static bool guest_message(struct guest *guest, const void *data, size_t size)
{
	struct reception *r = guest->reception;
	enum incoming_step step = incoming_feed(&guest->incoming, &r->destination, data, size);

	switch (step) {
	case INCOMING_PLAIN:
		r->tell(r, NEWS_PLAIN, guest, data, size);
		return true;
	case INCOMING_BEGUN:
		r->tell(r, NEWS_BEGUN, guest, NULL, 0);
		return true;
	case INCOMING_MORE:
		r->tell(r, NEWS_MORE, guest, NULL, 0);
		return true;
	case INCOMING_STORED:
		answer(guest, step);
		r->tell(r, NEWS_STORED, guest, NULL, 0);
		return true;
	case INCOMING_FAILED:
		break;
	}
	if (!guest->incoming.gave_up)
		answer(guest, step);
	r->tell(r, NEWS_FAILED, guest, NULL, 0);
	return false;
}

/* One message. Return: 1, 0 when there is none (or an end to be told), -1: no more of it. */
static int guest_take(struct guest *guest)
{
	struct reception *r = guest->reception;
	struct voxshm_view view;
	ssize_t size;
	bool stays;

	if (r->copy) {
		size = voxshm_recv_copy(guest->link, r->copy, TRANSFER_CHUNK, 0);
		if (size == -EMSGSIZE) {
			incoming_fail(&guest->incoming, "a message of the sender is larger than "
				      "%u bytes", TRANSFER_CHUNK);
			answer(guest, INCOMING_FAILED);
			r->tell(r, NEWS_FAILED, guest, NULL, 0);
			return -1;
		}
		if (size < 0)
			return 0;
		return guest_message(guest, r->copy, (size_t)size) ? 1 : -1;
	}
	if (voxshm_try_recv(guest->link, &view) < 0)
		return 0;
	stays = guest_message(guest, view.data, view.size);
	voxshm_release(guest->link, &view);
	return stays ? 1 : -1;
}

static void guest_readable(struct guest *guest)
{
	struct reception *r = guest->reception;
	int left = TURN, more = 1;

	while (more > 0 && left-- && !r->done && !stop_signal())
		more = guest_take(guest);
	if (more < 0)
		guest_over(guest);
}

/* Return: 0 or -1 (out of memory). */
static int handle(struct reception *r, const struct voxshm_event *event)
{
	struct guest *guest = voxshm_link_data(event->link);

	if (event->type == VOXSHM_EVENT_ATTACHED)
		return guest_new(r, event->link);
	if (guest->over)
		return 0;
	if (event->type == VOXSHM_EVENT_READABLE)
		guest_readable(guest);
	else if (event->type != VOXSHM_EVENT_WRITABLE)
		guest_ended(guest);
	return 0;
}

int reception_run(struct reception *r, struct problem *problem)
{
	struct voxshm_event events[EVENTS];
	int count, i;

	while (!r->done && !stop_signal()) {
		count = voxshm_host_wait(r->host, events, EVENTS, r->wait);
		if (count < 0 && count != -EINTR)
			return problem_set(problem, "cannot wait for guests: %s", strerror(-count));
		for (i = 0; i < count && !r->done; i++)
			if (handle(r, &events[i]) < 0)
				return problem_set(problem, "out of memory");
		sweep(r);
	}
	return 0;
}

void reception_close(struct reception *r)
{
	struct guest *guest;

	while ((guest = r->guests)) {
		if (guest->incoming.active) {
			incoming_fail(&guest->incoming, "the receiver was stopped before the end");
			answer(guest, INCOMING_FAILED);
			r->tell(r, NEWS_FAILED, guest, NULL, 0);
		}
		r->guests = guest->next;
		guest_free(guest);
	}
	voxshm_host_free(r->host);
	r->host = NULL;
	free(r->copy);
	r->copy = NULL;
}
