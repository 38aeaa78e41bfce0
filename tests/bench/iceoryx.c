/* SPDX-License-Identifier: MIT */
/*
 * iceoryx.c - peer: Eclipse iceoryx, written into its chunks in place, spinning.
 *
 * Its daemon hands out the memory; the first pair to need it starts one, and it
 * ends with the bench. Its queues are as long as they can be, and a publisher
 * waits for a slow subscriber, as nothing may be lost.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "loops.h"

#if __has_include(<iceoryx_binding_c/publisher.h>)
#include <iceoryx_binding_c/enums.h>
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>

#define QUEUE 256
#define DAEMON "/usr/bin/iox-roudi"
#define JOIN_MS 10000

struct iceoryx_side {
	iox_pub_storage_t publisher_storage;
	iox_sub_storage_t subscriber_storage;
	iox_pub_t publisher;
	iox_sub_t subscriber;
};

/* Starts the daemon and waits until it says that it is ready. */
static const char *iceoryx_prepare(void)
{
	static pid_t daemon;
	char said[4096] = "";
	size_t size = 0;
	ssize_t ret = 0;
	int fds[2];

	if (daemon)
		return NULL;
	if (access(DAEMON, X_OK) < 0 || pipe(fds) < 0)
		return "not installed (iceoryx)";
	daemon = fork();
	if (daemon == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		execl(DAEMON, DAEMON, "-l", "off", "-m", "off", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (!strstr(said, "ready") && size < sizeof(said) - 1) {
		ret = read(fds[0], said + size, sizeof(said) - 1 - size);
		if (ret <= 0)
			return "its daemon does not start";
		size += (size_t)ret;
	}
	return NULL;
}

static const char *iceoryx_join(struct side *side)
{
	struct iceoryx_side *state = calloc(1, sizeof(*state));
	iox_pub_options_t pub;
	iox_sub_options_t sub;
	char name[64];
	int i;

	if (!state)
		return "no memory";
	side->state = state;
	iox_set_loglevel(Iceoryx_LogLevel_Off);
	snprintf(name, sizeof(name), "voxshm-bench-%d", (int)getpid());
	iox_runtime_init(name);
	snprintf(name, sizeof(name), "%d", (int)(side->leads ? getpid() : getppid()));
	iox_pub_options_init(&pub);
	pub.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	state->publisher = iox_pub_init(&state->publisher_storage, "voxshm-bench", name,
					side->leads ? "there" : "back", &pub);
	iox_sub_options_init(&sub);
	sub.queueCapacity = QUEUE;
	sub.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	state->subscriber = iox_sub_init(&state->subscriber_storage, "voxshm-bench", name,
					 side->leads ? "back" : "there", &sub);
	for (i = 0; i < JOIN_MS; i++) {
		if (iox_sub_get_subscription_state(state->subscriber) == SubscribeState_SUBSCRIBED &&
		    iox_pub_has_subscribers(state->publisher))
			return NULL;
		usleep(1000);
	}
	return "publisher and subscriber did not find each other";
}

static void iceoryx_close(struct side *side)
{
	struct iceoryx_side *state = side->state;

	iox_sub_deinit(state->subscriber);
	iox_pub_deinit(state->publisher);
	iox_runtime_shutdown();
}

static inline void iceoryx_send(struct side *side, uint64_t value)
{
	struct iceoryx_side *state = side->state;
	void *chunk;

	/* All chunks may be on their way. */
	while (iox_pub_loan_chunk(state->publisher, &chunk, (uint32_t)side->size) !=
	       AllocationResult_SUCCESS)
		spin_pause();
	payload_fill(chunk, side->size, value);
	iox_pub_publish_chunk(state->publisher, chunk);
}

static inline void iceoryx_recv(struct side *side, uint64_t value)
{
	struct iceoryx_side *state = side->state;
	const void *chunk;

	while (iox_sub_take_chunk(state->subscriber, &chunk) != ChunkReceiveResult_SUCCESS)
		spin_pause();
	payload_check(side, chunk, value);
	iox_sub_release_chunk(state->subscriber, chunk);
}

DEFINE_TRIPS(iceoryx, iceoryx_send, iceoryx_recv)
DEFINE_STREAM(iceoryx, iceoryx_send, iceoryx_recv)

const struct transport peer_iceoryx = {
	.name = "iceoryx, spinning", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.prepare = iceoryx_prepare, .join = iceoryx_join, .close = iceoryx_close,
	USE_TRIPS(iceoryx), USE_STREAM(iceoryx),
};

#else

static const char *not_there(struct side *side)
{
	(void)side;
	return "not installed (libiceoryx-binding-c-dev, iceoryx)";
}

const struct transport peer_iceoryx = {
	.name = "iceoryx, spinning", .family = "peer", .jobs = JOB_TRIPS | JOB_STREAM,
	.open = not_there,
};

#endif
