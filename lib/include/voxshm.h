/* SPDX-License-Identifier: MIT */
/*
 * voxshm - messages between processes through shared memory.
 *
 * One host process and up to 255 guest processes. Host and guest i are joined
 * by a link: two rings and a slot pool in memory that both have mapped. The
 * kernel is asked only to make a link, to sleep, and to learn of an end.
 *
 * Return values: 0 or a documented positive number on success, a negative
 * errno value on failure. Nothing is printed, nothing aborts, whatever the
 * peer does.
 *
 * Threads: a link has one sending thread and one receiving thread at a time;
 * different links are independent. A host belongs to one thread, and so do
 * its links while that thread is in a voxshm_host_*() call.
 *
 * Timeouts are in nanoseconds: 0 tries once, VOXSHM_FOREVER waits without
 * limit, anything else is the longest time to wait.
 */
#ifndef VOXSHM_H
#define VOXSHM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VOXSHM_API __attribute__((visibility("default")))

#define VOXSHM_VERSION_MAJOR 0
#define VOXSHM_VERSION_MINOR 1
#define VOXSHM_VERSION_PATCH 0

#define VOXSHM_FOREVER ((int64_t)-1)
#define VOXSHM_MAX_GUESTS 255u
#define VOXSHM_MAX_CLASSES 8u
#define VOXSHM_PEER_HOST 0u

struct voxshm_host;
struct voxshm_link;

/**
 * struct voxshm_error - a sentence for people about a call that failed
 * @text: what was wrong and where, without a newline; empty after success
 *
 * Calls that make or join something take a pointer to one (or NULL) and fill
 * it beside the negative errno that they return.
 */
struct voxshm_error {
	char text[256];
};

/**
 * enum voxshm_format - the layout of the shared memory
 * @VOXSHM_FORMAT_DEFAULT: the native format
 * @VOXSHM_FORMAT_NATIVE: a window per guest; the default
 * @VOXSHM_FORMAT_VOX: the layout of vox-shm 0.3.1, one slot pool for all
 */
enum voxshm_format {
	VOXSHM_FORMAT_DEFAULT = 0,
	VOXSHM_FORMAT_VOX = 7,
	VOXSHM_FORMAT_NATIVE = 8,
};

/**
 * enum voxshm_backend - where memory, doorbells and news of a death come from
 * @VOXSHM_BACKEND_DEFAULT: what VOXSHM_BACKEND in the environment says ("file",
 *	"device" or "any"), else the device where it is there, else files
 * @VOXSHM_BACKEND_FILE: memfds, sockets and pidfds; needs no module
 * @VOXSHM_BACKEND_DEVICE: /dev/voxshm
 * @VOXSHM_BACKEND_ANY: the device where it is there and lets us, else files
 *
 * A device that is there and refuses (no permission, another version) is an
 * error, so that nobody gets less than he counts on without knowing; only
 * VOXSHM_BACKEND_ANY does without it then. A guest takes what its host has, and
 * needs no access to the device. Guests that speak vox-shm 0.3.1, and a path in
 * the configuration, need the file backend.
 */
enum voxshm_backend {
	VOXSHM_BACKEND_DEFAULT = 0,
	VOXSHM_BACKEND_FILE = 1,
	VOXSHM_BACKEND_DEVICE = 2,
	VOXSHM_BACKEND_ANY = 3,
};

/**
 * struct voxshm_class - one size class of slots
 * @slot_size: bytes of one slot, native: a multiple of 64; classes are in
 *	ascending order of it
 * @slot_count: native: slots in each half pool; vox: slots in the shared pool
 */
struct voxshm_class {
	uint32_t slot_size;
	uint32_t slot_count;
};

/**
 * struct voxshm_config - what a host wants its segment to be
 * @struct_size: sizeof(struct voxshm_config); lets the struct grow
 * @format: the memory format
 * @backend: where the memory comes from
 * @max_guests: 1..255; 0 means 16
 * @ring_capacity: data bytes of one ring; native: a multiple of 64, at least
 *	192; vox: a multiple of 8, at least 72; 0 means 256 KiB
 * @max_payload: largest message in bytes; 0 means 1 GiB
 * @inline_threshold: entries up to this size travel inside the ring; 0 means 256
 * @max_mappings: payload mappings a sender may have open on a link; at most
 *	4096, on the device 1024, native on the file backend 256; 0 means 16
 * @heartbeat_interval: nanoseconds; 0 means no heartbeats
 * @num_classes: entries of @classes; 0 means a default set
 * @classes: size classes, ascending
 * @path: vox format on the file backend only, which it asks for: file to create
 *	for the segment (kept until voxshm_host_free()); NULL means memory without
 *	a name
 * @mode: permission bits of that file; 0 means 0600
 * @max_size: vox format only: bytes of the whole segment up to which
 *	voxshm_host_grow() may go; 0 means that it never grows
 *
 * Zero every field you do not set; VOXSHM_CONFIG_INIT does.
 */
struct voxshm_config {
	size_t struct_size;
	enum voxshm_format format;
	enum voxshm_backend backend;
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint32_t max_payload;
	uint32_t inline_threshold;
	uint32_t max_mappings;
	uint64_t heartbeat_interval;
	uint32_t num_classes;
	const struct voxshm_class *classes;
	const char *path;
	mode_t mode;
	uint64_t max_size;
};

#define VOXSHM_CONFIG_INIT { .struct_size = sizeof(struct voxshm_config) }

/**
 * enum voxshm_link_state - how far a link is in its life
 * @VOXSHM_LINK_WAITING: made, no guest has claimed it yet
 * @VOXSHM_LINK_ATTACHED: both ends are there
 * @VOXSHM_LINK_LEFT: the peer closed its end on purpose
 * @VOXSHM_LINK_DIED: the peer ended without saying so
 * @VOXSHM_LINK_FAILED: the peer broke the protocol; the link is of no more use
 */
enum voxshm_link_state {
	VOXSHM_LINK_WAITING,
	VOXSHM_LINK_ATTACHED,
	VOXSHM_LINK_LEFT,
	VOXSHM_LINK_DIED,
	VOXSHM_LINK_FAILED,
};

/**
 * enum voxshm_exit_kind - what is known of the end of a peer's process
 * @VOXSHM_EXIT_NONE: the process has not ended, as far as is known
 * @VOXSHM_EXIT_UNKNOWN: it has ended; how is not known (file backend: not a
 *	child of the host)
 * @VOXSHM_EXIT_CODE: it exited; the value is its exit code
 * @VOXSHM_EXIT_SIGNAL: a signal killed it; the value is the signal's number
 */
enum voxshm_exit_kind {
	VOXSHM_EXIT_NONE,
	VOXSHM_EXIT_UNKNOWN,
	VOXSHM_EXIT_CODE,
	VOXSHM_EXIT_SIGNAL,
};

/**
 * struct voxshm_status - the other end of a link
 * @state: see enum voxshm_link_state
 * @peer_id: 1..255 for a guest, 0 for the host
 * @epoch: number of this life of the peer slot; rises with each
 * @pid: the peer's process, 0 when not known
 * @uid: the peer's user
 * @gid: the peer's group
 * @exit_kind: see enum voxshm_exit_kind
 * @exit_value: exit code or signal number
 * @core_dumped: non-zero when the signal wrote a core
 * @reason: VOXSHM_LINK_FAILED: what the peer did wrong; else an empty string
 */
struct voxshm_status {
	enum voxshm_link_state state;
	uint32_t peer_id;
	uint32_t epoch;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	enum voxshm_exit_kind exit_kind;
	int exit_value;
	int core_dumped;
	const char *reason;
};

/**
 * struct voxshm_view - a received message, borrowed from shared memory
 * @data: the payload, read-only; NULL after release
 * @size: bytes of payload
 * @token: the library's
 * @kind: the library's
 *
 * The bytes stay until voxshm_release(). A hostile peer might change them
 * while you read: parse a copy (voxshm_recv_copy()) when you do not trust it.
 */
struct voxshm_view {
	const void *data;
	size_t size;
	uint64_t token;
	uint32_t kind;
};

/**
 * struct voxshm_loan - memory lent to the sender to write a message into
 * @data: where to write; NULL after commit or abort
 * @size: bytes that may be written, at least what was asked for
 * @token: the library's
 * @kind: the library's
 */
struct voxshm_loan {
	void *data;
	size_t size;
	uint64_t token;
	uint32_t kind;
};

/**
 * struct voxshm_counters - what a link has done since it was made
 * @messages_sent: messages committed
 * @bytes_sent: their payload bytes
 * @messages_received: messages received
 * @bytes_received: their payload bytes
 * @doorbells_rung: wake-ups given to the peer, one system call each
 * @sleeps: times this side slept, or its host put the link to sleep
 * @mappings_made: payload mappings created or renewed for sending
 */
struct voxshm_counters {
	uint64_t messages_sent;
	uint64_t bytes_sent;
	uint64_t messages_received;
	uint64_t bytes_received;
	uint64_t doorbells_rung;
	uint64_t sleeps;
	uint64_t mappings_made;
};

/* Sending -------------------------------------------------------------- */

/**
 * voxshm_send() - send a message, waiting for room
 * @link: the link
 * @data: payload; copied before the call returns
 * @size: bytes of payload; 0 is a message too
 * @timeout: nanoseconds to wait for room
 *
 * For the sending thread. The peer's death ends the wait at once.
 *
 * Return: 0; -EMSGSIZE (larger than the segment's max_payload), -EAGAIN
 * (no room and @timeout is 0), -ETIMEDOUT, -EPIPE (the peer is gone),
 * -EBADMSG (the peer broke the protocol), -EINTR, -ENOMEM, -EMFILE or -EDQUOT
 * (a payload mapping could not be made). On failure nothing was sent.
 */
VOXSHM_API int voxshm_send(struct voxshm_link *link, const void *data, size_t size,
			   int64_t timeout);

/**
 * voxshm_try_send() - send a message if there is room now
 * @link: the link
 * @data: payload; copied before the call returns
 * @size: bytes of payload
 *
 * Like voxshm_send() with a timeout of 0.
 *
 * Return: 0, -EAGAIN, or any error of voxshm_send().
 */
VOXSHM_API int voxshm_try_send(struct voxshm_link *link, const void *data, size_t size);

/**
 * voxshm_send_batch() - send several messages for the price of one doorbell
 * @link: the link
 * @messages: one message each
 * @count: how many
 * @timeout: nanoseconds to wait for room for the first one
 *
 * Return: how many were sent, in order, at least 1 when @count is not 0; or
 * an error of voxshm_send(), when none was sent. Where the first n were sent
 * and the next one failed, n is returned and the error comes with the next
 * call that meets it.
 */
VOXSHM_API int voxshm_send_batch(struct voxshm_link *link, const struct iovec *messages,
				 unsigned int count, int64_t timeout);

/**
 * voxshm_loan() - borrow memory to write a message into
 * @link: the link
 * @size: bytes wanted
 * @loan: filled with the memory
 * @timeout: nanoseconds to wait for a slot or mapping
 *
 * It is shared memory, and the receiver reads what was written there. A few
 * cache lines are lent from private memory, and copied by the commit: that is
 * quicker. Any number of loans may be open; finish each with voxshm_commit() or
 * voxshm_abort(), in any order, before voxshm_link_close(). The memory stays
 * valid when the peer dies.
 *
 * Return: 0 or an error of voxshm_send().
 */
VOXSHM_API int voxshm_loan(struct voxshm_link *link, size_t size, struct voxshm_loan *loan,
			   int64_t timeout);

/**
 * voxshm_commit() - send what was written into a loan
 * @link: the link
 * @loan: an open loan of this link; closed on success
 * @size: bytes of payload, at most @loan->size
 * @timeout: nanoseconds to wait for room in the ring
 *
 * Return: 0, or -EINVAL (a loan that is not open, or @size too large), or an
 * error of voxshm_send(); on failure the loan stays open.
 */
VOXSHM_API int voxshm_commit(struct voxshm_link *link, struct voxshm_loan *loan, size_t size,
			     int64_t timeout);

/**
 * voxshm_abort() - give a loan back unsent
 * @link: the link
 * @loan: an open loan of this link; one that is not open is ignored
 */
VOXSHM_API void voxshm_abort(struct voxshm_link *link, struct voxshm_loan *loan);

/* Receiving ------------------------------------------------------------ */

/**
 * voxshm_recv() - receive a message as a borrowed view
 * @link: the link
 * @view: filled; give it back with voxshm_release()
 * @timeout: nanoseconds to wait for a message
 *
 * For the receiving thread. What the peer committed before it ended is
 * delivered first; then -EPIPE, and voxshm_link_status() tells how it ended.
 *
 * Return: 0; -EAGAIN (none, and @timeout is 0), -ETIMEDOUT, -EPIPE (the peer
 * is gone and all it sent was received), -EBADMSG (the peer broke the
 * protocol; the link is failed), -EINTR, -ENOMEM or -EMFILE (a payload mapping
 * could not be mapped: the message stays).
 */
VOXSHM_API int voxshm_recv(struct voxshm_link *link, struct voxshm_view *view, int64_t timeout);

/**
 * voxshm_try_recv() - receive a message if there is one now
 * @link: the link
 * @view: filled
 *
 * Like voxshm_recv() with a timeout of 0; never makes a system call while
 * messages are there. When many calls in a row find nothing, now and then
 * one asks the kernel whether the peer still lives.
 *
 * Return: 0, -EAGAIN, or any error of voxshm_recv().
 */
VOXSHM_API int voxshm_try_recv(struct voxshm_link *link, struct voxshm_view *view);

/**
 * voxshm_recv_batch() - receive up to a number of messages
 * @link: the link
 * @views: filled in order
 * @count: how many @views has room for
 * @timeout: nanoseconds to wait for the first one
 *
 * Return: how many were received, at least 1 when @count is not 0; or an
 * error of voxshm_recv().
 */
VOXSHM_API int voxshm_recv_batch(struct voxshm_link *link, struct voxshm_view *views,
				 unsigned int count, int64_t timeout);

/**
 * voxshm_recv_copy() - receive a message into memory of your own
 * @link: the link
 * @data: where the payload goes
 * @size: bytes of room there
 * @timeout: nanoseconds to wait for a message
 *
 * The peer can change nothing of the copy.
 *
 * Return: bytes of payload; -EMSGSIZE (does not fit: the message stays, and
 * voxshm_recv() can take it); or an error of voxshm_recv().
 */
VOXSHM_API ssize_t voxshm_recv_copy(struct voxshm_link *link, void *data, size_t size,
				    int64_t timeout);

/**
 * voxshm_release() - give a view back
 * @link: the link it came from
 * @view: the view; its data becomes NULL
 *
 * For the receiving thread; in any order, also after the peer's end.
 *
 * Return: 0, or -EINVAL when the view is not a borrowed one.
 */
VOXSHM_API int voxshm_release(struct voxshm_link *link, struct voxshm_view *view);

/* Waiting -------------------------------------------------------------- */

#define VOXSHM_READABLE 1u
#define VOXSHM_WRITABLE 2u

/**
 * voxshm_link_fd() - a descriptor that becomes readable when there is news
 * @link: the link
 *
 * For poll(), epoll and io_uring. It belongs to the link: do not read or
 * close it. It tells only what voxshm_link_arm() has asked for, the peer's
 * end, and that the link has failed.
 *
 * Return: the descriptor, or -EMFILE, -ENFILE, -ENOMEM.
 */
VOXSHM_API int voxshm_link_fd(struct voxshm_link *link);

/**
 * voxshm_link_arm() - ask for the descriptor to become readable
 * @link: the link
 * @interest: VOXSHM_READABLE, VOXSHM_WRITABLE (room for the send that was
 *	last refused with -EAGAIN), or both
 *
 * Clears what the descriptor told of @interest, then looks. Call it before each
 * poll. The sending and the receiving thread may each arm for its own interest and
 * poll; what comes wakes both.
 *
 * Return: 0 when armed: nothing now, the descriptor will tell; else which of
 * @interest can be done now (the peer's end counts as both), and nothing was
 * armed; -EINVAL for an unknown bit.
 */
VOXSHM_API int voxshm_link_arm(struct voxshm_link *link, unsigned int interest);

/**
 * voxshm_link_set_spin() - how long to look before sleeping
 * @link: the link
 * @nanoseconds: the most time that one wait spends looking; 0 sleeps at once
 *
 * The default is 50 microseconds. After waits that were longer than twice that a
 * wait looks for less, down to a thirty-second; after a shorter one for all of it.
 * A wait learns of the peer's end when it has looked for so long.
 */
VOXSHM_API void voxshm_link_set_spin(struct voxshm_link *link, uint32_t nanoseconds);

/* The link itself ------------------------------------------------------ */

/**
 * voxshm_link_status() - tell about the other end
 * @link: the link
 * @status: filled
 *
 * Asks the kernel; for either thread of the link.
 */
VOXSHM_API void voxshm_link_status(struct voxshm_link *link, struct voxshm_status *status);

/**
 * voxshm_link_counters() - tell what the link has done
 * @link: the link
 * @counters: filled
 */
VOXSHM_API void voxshm_link_counters(const struct voxshm_link *link,
				     struct voxshm_counters *counters);

/**
 * voxshm_link_max_payload() - the largest message the link takes
 * @link: the link
 *
 * Return: bytes.
 */
VOXSHM_API size_t voxshm_link_max_payload(const struct voxshm_link *link);

/**
 * voxshm_link_format() - the memory format the link speaks
 * @link: the link
 *
 * Return: VOXSHM_FORMAT_NATIVE or VOXSHM_FORMAT_VOX.
 */
VOXSHM_API enum voxshm_format voxshm_link_format(const struct voxshm_link *link);

/**
 * voxshm_link_set_data() - keep a pointer of yours with the link
 * @link: the link
 * @data: the pointer; the library never follows it
 */
VOXSHM_API void voxshm_link_set_data(struct voxshm_link *link, void *data);

/**
 * voxshm_link_data() - the pointer kept with the link
 * @link: the link
 *
 * Return: what voxshm_link_set_data() was given, or NULL.
 */
VOXSHM_API void *voxshm_link_data(const struct voxshm_link *link);

/**
 * voxshm_link_close() - leave, and free the link
 * @link: the link, or NULL
 *
 * The peer still receives what was sent, then learns that this end left.
 * Views and loans of the link must not be used afterwards. No call on the
 * link may be under way in another thread.
 */
VOXSHM_API void voxshm_link_close(struct voxshm_link *link);

/* Guest ---------------------------------------------------------------- */

/**
 * voxshm_guest_connect() - become a guest of the host at an address
 * @link: filled with the guest's end
 * @address: path of the host's UNIX socket, or "@name" for an abstract one
 * @session: a word for the host's accept function, at most 65535 bytes, or NULL
 * @timeout: nanoseconds to wait for the host to answer
 * @error: filled on failure, with the host's reason if it gave one; or NULL
 *
 * Does not wait for a host to come.
 *
 * Return: 0; -ENOENT or -ECONNREFUSED (no host there), -EACCES (refused),
 * -EUSERS (all guest places taken), -ETIMEDOUT, -EPROTO (the answer makes no
 * sense), -ENAMETOOLONG, -ENOMEM, ...
 */
VOXSHM_API int voxshm_guest_connect(struct voxshm_link **link, const char *address,
				    const char *session, int64_t timeout,
				    struct voxshm_error *error);

/**
 * voxshm_guest_claim() - become the guest that a ticket stands for
 * @link: filled with the guest's end
 * @ticket: descriptor from voxshm_host_ticket(); the link's own from now on,
 *	closed on failure as well
 * @error: filled on failure, or NULL
 *
 * Return: 0; -EPIPE (the host is gone), -EPROTO or -EBADMSG (not a ticket, or
 * a segment whose header is not valid), -EBUSY (device: another process has
 * claimed the place), -ENOMEM, ...
 */
VOXSHM_API int voxshm_guest_claim(struct voxshm_link **link, int ticket,
				  struct voxshm_error *error);

/**
 * voxshm_guest_inherit() - become the guest that voxshm_host_spawn() started
 * @link: filled with the guest's end
 * @error: filled on failure, or NULL
 *
 * The ticket's number is in the environment variable VOXSHM_TICKET, which
 * the call removes.
 *
 * Return: 0; -ENOENT (not spawned by a host); or an error of
 * voxshm_guest_claim().
 */
VOXSHM_API int voxshm_guest_inherit(struct voxshm_link **link, struct voxshm_error *error);

/* Host ----------------------------------------------------------------- */

/**
 * voxshm_host_new() - make a segment and become its host
 * @host: filled
 * @config: what it should be; NULL means all defaults
 * @error: filled on failure, or NULL
 *
 * Return: 0; -EINVAL (a value out of range: @error says which), -EEXIST (the
 * path is taken), -EACCES (also to the device), -ENOSPC, -ENOMEM, -EMFILE,
 * -ENODEV (the backend asked for is not there), -EPROTONOSUPPORT (the module is of
 * another version), -EDQUOT (a limit of the module), ...
 */
VOXSHM_API int voxshm_host_new(struct voxshm_host **host, const struct voxshm_config *config,
			       struct voxshm_error *error);

/**
 * voxshm_host_free() - say goodbye to all guests, free the host and its links
 * @host: the host, or NULL
 *
 * Spawned guests are not killed; those still running are left to the
 * caller's process to reap.
 */
VOXSHM_API void voxshm_host_free(struct voxshm_host *host);

/**
 * struct voxshm_caller - who asks to become a guest
 * @pid: its process
 * @uid: its user
 * @gid: its group
 * @groups: its supplementary groups, as far as they are known
 * @num_groups: how many
 * @session: what it passed to voxshm_guest_connect(), not terminated
 * @session_size: bytes of it
 */
struct voxshm_caller {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t num_groups;
	const char *session;
	size_t session_size;
};

/**
 * typedef voxshm_accept_fn - decides on a walk-in guest
 * @data: what voxshm_host_listen() was given
 * @caller: who asks
 * @reason: on refusal, a sentence for the caller
 *
 * Return: 0 to accept, anything else to refuse.
 */
typedef int (*voxshm_accept_fn)(void *data, const struct voxshm_caller *caller,
				struct voxshm_error *reason);

/**
 * struct voxshm_allowed - who is let in, for voxshm_accept_listed()
 * @users: these users
 * @num_users: how many
 * @groups: and who is in one of these groups
 * @num_groups: how many
 */
struct voxshm_allowed {
	const uid_t *users;
	size_t num_users;
	const gid_t *groups;
	size_t num_groups;
};

/**
 * voxshm_accept_listed() - a voxshm_accept_fn that lets in who is listed
 * @data: a struct voxshm_allowed
 * @caller: who asks
 * @reason: filled on refusal
 *
 * Nobody else is let in, the host's own user and root neither.
 *
 * Return: 0 or -EACCES.
 */
VOXSHM_API int voxshm_accept_listed(void *data, const struct voxshm_caller *caller,
				    struct voxshm_error *reason);

/**
 * voxshm_host_listen() - let walk-in guests in
 * @host: the host
 * @address: path of the UNIX socket to make, or "@name" for an abstract one
 * @mode: permission bits of the path; 0 means 0600
 * @accept: asked for each guest: voxshm_accept_listed() or a function of your
 *	own; NULL lets in the host's own user and root
 * @data: handed to @accept
 * @error: filled on failure, or NULL
 *
 * A path left by a host that no longer lives is taken over; one that is in
 * use is not. The path is removed by voxshm_host_free().
 *
 * Return: 0, -EADDRINUSE, -EEXIST (not a socket), -EACCES, -ENAMETOOLONG,
 * -EBUSY (this host listens already), ...
 */
VOXSHM_API int voxshm_host_listen(struct voxshm_host *host, const char *address, mode_t mode,
				  voxshm_accept_fn accept, void *data,
				  struct voxshm_error *error);

/**
 * voxshm_host_spawn() - start a program as a guest
 * @host: the host
 * @path: the program, searched in PATH when it has no slash
 * @argv: its arguments, argv[0] first, ended by NULL
 * @link: filled with the host's end; it can be written to at once
 * @error: filled on failure, or NULL
 *
 * The child calls voxshm_guest_inherit(). The library reaps it: its exit
 * status is in the link's status. Signal dispositions and mask are reset
 * to their defaults in the child.
 *
 * Return: 0, -EUSERS (all guest places taken), -ENOENT, -EACCES, -ENOMEM,
 * -EMFILE, -EAGAIN (no more processes), ...
 */
VOXSHM_API int voxshm_host_spawn(struct voxshm_host *host, const char *path, char *const argv[],
				 struct voxshm_link **link, struct voxshm_error *error);

/**
 * voxshm_host_ticket() - make a link for a guest that you start yourself
 * @host: the host
 * @ticket: filled with a descriptor (close-on-exec) for voxshm_guest_claim()
 *	in the guest; yours to hand over, then to close
 * @link: filled with the host's end
 * @error: filled on failure, or NULL
 *
 * Return: 0, -EUSERS (all guest places taken), -EBUSY (too many ended links
 * are waiting to be closed), -ENOMEM, -EMFILE, ...
 */
VOXSHM_API int voxshm_host_ticket(struct voxshm_host *host, int *ticket,
				  struct voxshm_link **link, struct voxshm_error *error);

/**
 * enum voxshm_event_type - what happened
 * @VOXSHM_EVENT_ATTACHED: a guest has claimed the link; once, and first
 * @VOXSHM_EVENT_READABLE: there are messages; told again until none is left
 * @VOXSHM_EVENT_WRITABLE: room for the send that was refused with -EAGAIN
 * @VOXSHM_EVENT_LEFT: the guest closed its end, and all it sent was received
 * @VOXSHM_EVENT_DIED: the guest ended without closing, and all it sent was received
 * @VOXSHM_EVENT_FAILED: the guest broke the protocol
 *
 * Of the last three one comes, once, and last: close the link then.
 */
enum voxshm_event_type {
	VOXSHM_EVENT_ATTACHED,
	VOXSHM_EVENT_READABLE,
	VOXSHM_EVENT_WRITABLE,
	VOXSHM_EVENT_LEFT,
	VOXSHM_EVENT_DIED,
	VOXSHM_EVENT_FAILED,
};

/**
 * struct voxshm_event - something happened on one link
 * @type: what
 * @link: where
 */
struct voxshm_event {
	enum voxshm_event_type type;
	struct voxshm_link *link;
};

/**
 * voxshm_host_wait() - wait for events of all guests
 * @host: the host
 * @events: filled
 * @count: how many @events has room for, at least 1
 * @timeout: nanoseconds to wait for the first one
 *
 * Walk-in guests are let in here; their link is first seen in
 * VOXSHM_EVENT_ATTACHED. Each such link is the caller's to close.
 *
 * Return: number of events; 0 when @timeout passed; -EINTR, -EINVAL.
 */
VOXSHM_API int voxshm_host_wait(struct voxshm_host *host, struct voxshm_event *events, int count,
				int64_t timeout);

/**
 * voxshm_host_arm() - make ready to poll voxshm_host_fd()
 * @host: the host
 *
 * Return: 0 when armed: nothing now, the descriptor will tell; 1 when
 * voxshm_host_wait() has something to tell now.
 */
VOXSHM_API int voxshm_host_arm(struct voxshm_host *host);

/**
 * voxshm_host_fd() - a descriptor that becomes readable when there is news
 * @host: the host
 *
 * For poll(), epoll and io_uring, after voxshm_host_arm(); then call
 * voxshm_host_wait() with a timeout of 0. It belongs to the host.
 *
 * Return: the descriptor.
 */
VOXSHM_API int voxshm_host_fd(const struct voxshm_host *host);

/**
 * voxshm_host_grow() - add slots to the pool that all guests of a vox segment share
 * @host: the host
 * @bytes: by how much the segment becomes larger: it is filled with slots in the
 *	proportions of the configuration's classes
 * @error: filled when it fails; may be NULL
 *
 * Nothing moves: views and loans stay where they are. Guests follow by
 * themselves, and those that wait for a slot go on. The thread of
 * voxshm_host_wait() calls it. A native link needs none of this: its memory is its own.
 *
 * Return: 0; -EOPNOTSUPP (the native format), -EFBIG (beyond the configuration's
 * max_size), -EINVAL (device: too little for a slot), -EBUSY (a vox-shm guest,
 * which cannot follow, is attached), -ENOSPC (grown too often, or the file system is
 * full), -EDQUOT, -ENOMEM. Then nothing has changed.
 */
VOXSHM_API int voxshm_host_grow(struct voxshm_host *host, uint64_t bytes,
				struct voxshm_error *error);

/**
 * voxshm_backend_name() - which backend a host got
 * @host: the host
 *
 * Return: "file" or "device".
 */
VOXSHM_API const char *voxshm_backend_name(const struct voxshm_host *host);

/**
 * voxshm_link_backend_name() - which backend a link runs on
 * @link: the link
 *
 * Return: "file" or "device".
 */
VOXSHM_API const char *voxshm_link_backend_name(const struct voxshm_link *link);

/**
 * voxshm_device_wait() - wait until /dev/voxshm is there
 * @timeout: nanoseconds to wait; 0 only looks
 * @error: filled on failure with what is missing, or NULL
 *
 * For a program that starts before the module is loaded. Where udevd runs, the
 * node has its final group and permissions when the call returns; whether they
 * let this process be a host is for voxshm_host_new() to say. Any thread may
 * call it. Uevents do not reach every container: there only @timeout ends the
 * wait, with one more look.
 *
 * Return: 0, -ETIMEDOUT (also with a @timeout of 0), -EINTR, -ENOMEM, -EMFILE, ...
 */
VOXSHM_API int voxshm_device_wait(int64_t timeout, struct voxshm_error *error);

#ifdef __cplusplus
}
#endif

#endif
