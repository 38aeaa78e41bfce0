/* SPDX-License-Identifier: MIT */
/*
 * reception.h - a host that receives what guests send: recv and serve.
 *
 * The subcommand owns the reception and is told of all that happens in it.
 * The reception owns host, links and guests.
 *
 * A guest of the host's own user is trusted not to change a message while it
 * is read: its bytes go from shared memory straight to where they belong.
 * With any_user each message is copied out first.
 */
#ifndef RECEPTION_H
#define RECEPTION_H

#include "hosting.h"
#include "incoming.h"

struct reception;

/* One guest, from its attaching to its end. */
struct guest {
	struct reception *reception;
	struct voxshm_link *link;
	struct voxshm_status status;
	struct incoming incoming;
	bool over;		/* to be freed when the events at hand are handled */
	struct guest *next;
};

enum reception_news {
	NEWS_ATTACHED,
	NEWS_PLAIN,		/* a plain message, in data and size */
	NEWS_BEGUN,		/* a transfer: guest->incoming */
	NEWS_MORE,
	NEWS_STORED,
	NEWS_FAILED,
	NEWS_GONE,		/* guest->status says how */
	NEWS_REFUSED,		/* no guest; data is the sentence, size its length */
};

typedef void (*reception_tell)(struct reception *reception, enum reception_news news,
			       struct guest *guest, const void *data, size_t size);

struct reception {
	/* The subcommand's, before reception_open(). */
	const char *address;
	struct hosting hosting;
	struct destination destination;
	bool single;		/* let in one guest, then none */
	reception_tell tell;
	void *data;

	/* How long to wait at a time; may be changed while it runs. */
	int64_t wait;
	/* Set to end reception_run(). */
	bool done;

	struct voxshm_host *host;
	struct guest *guests;
	bool taken;		/* single: it came */
	uint8_t *copy;		/* any_user: room for one message */
};

/* Return: 0 or -1. */
int reception_open(struct reception *reception, struct problem *problem);
/* Until done or stopped by a signal. Return: 0 or -1. */
int reception_run(struct reception *reception, struct problem *problem);
/* Tells the guests that are left; transfers under way fail. */
void reception_close(struct reception *reception);

#endif
