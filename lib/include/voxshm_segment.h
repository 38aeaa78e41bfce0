/* SPDX-License-Identifier: MIT */
/*
 * voxshm_segment - the vox format piece by piece.
 *
 * A segment in the memory format of vox-shm 0.3.1: peers, rings and the slot
 * pool, without the doorbells, waiting and framing of a link. For programs
 * that look into a segment, that bring their own transport, or that speak
 * with vox-shm. Who only wants to send messages uses voxshm.h.
 *
 * One process creates the segment and is its host; others attach to it. A
 * segment object belongs to its process: its calls may be made from any
 * thread at any time, but voxshm_segment_free() only when no other is under
 * way, and where a comment says so. A ring object is for one thread.
 *
 * Return values: 0 or a documented positive number on success, a negative
 * errno value on failure. Nothing is printed, nothing aborts, whatever a peer
 * wrote. No call waits. A file that somebody truncates under a mapping ends
 * in SIGBUS, as with any mapped file; a segment without a path is sealed
 * against it.
 */
#ifndef VOXSHM_SEGMENT_H
#define VOXSHM_SEGMENT_H

#include <voxshm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct voxshm_segment;
struct voxshm_segment_ring;
struct voxshm_segment_unread;

/* Making and joining ---------------------------------------------------- */

/**
 * enum voxshm_segment_cleanup - what becomes of a segment's file
 * @VOXSHM_CLEANUP_MANUAL: it stays until the creator's voxshm_segment_free(),
 *	and after a crash until somebody removes it
 * @VOXSHM_CLEANUP_AUTO: it loses its name as soon as it is made; others attach
 *	by descriptor, and nothing is left behind by any crash
 */
enum voxshm_segment_cleanup {
	VOXSHM_CLEANUP_MANUAL = 0,
	VOXSHM_CLEANUP_AUTO = 1,
};

/**
 * struct voxshm_segment_config - what a segment should be
 * @struct_size: sizeof(struct voxshm_segment_config); lets the struct grow
 * @max_guests: 1..255; 0 means 16
 * @ring_capacity: data bytes of one ring, a multiple of 8, at least 72; 0
 *	means 256 KiB
 * @max_payload: largest message in bytes; 0 means 1 GiB
 * @inline_threshold: at most 65535; 0 means 256
 * @max_mappings: payload mappings per direction of a link, at most 4096; 0
 *	means 16
 * @num_classes: entries of @classes, at most VOXSHM_MAX_CLASSES; 0 means a
 *	default set
 * @heartbeat_interval: nanoseconds; 0 means no heartbeats
 * @classes: size classes, slot sizes ascending, sizes and counts not 0
 * @max_size: bytes that the segment may grow to; 0 means that it never grows
 * @path: file to create; NULL means memory without a name (a memfd)
 * @mode: permission bits of that file, whatever the umask; 0 means 0600
 * @cleanup: see enum voxshm_segment_cleanup
 *
 * Zero every field you do not set; VOXSHM_SEGMENT_CONFIG_INIT does.
 */
struct voxshm_segment_config {
	size_t struct_size;
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint32_t max_payload;
	uint32_t inline_threshold;
	uint32_t max_mappings;
	uint32_t num_classes;
	uint64_t heartbeat_interval;
	const struct voxshm_class *classes;
	uint64_t max_size;
	const char *path;
	mode_t mode;
	enum voxshm_segment_cleanup cleanup;
};

#define VOXSHM_SEGMENT_CONFIG_INIT { .struct_size = sizeof(struct voxshm_segment_config) }

/**
 * struct voxshm_segment_layout - where the parts of a segment lie, in bytes
 * @peer_table_offset: peer table
 * @ring_offset: ring pair of peer 1; guest to host first
 * @ring_stride: from one ring to the next; a pair is two of them
 * @pool_offset: slot pool
 * @pool_end: its end; all before it is as vox-shm 0.3.1 lays it out
 * @link_block_offset: link block of peer 1; 0 in a segment made by vox-shm
 * @link_block_stride: to the next peer's
 * @extent_offset: directory of the pool's further extents; 0 as above
 * @total_size: bytes of the segment at creation
 */
struct voxshm_segment_layout {
	uint64_t peer_table_offset;
	uint64_t ring_offset;
	uint64_t ring_stride;
	uint64_t pool_offset;
	uint64_t pool_end;
	uint64_t link_block_offset;
	uint64_t link_block_stride;
	uint64_t extent_offset;
	uint64_t total_size;
};

/**
 * voxshm_segment_compute() - compute where the parts of a segment would lie
 * @config: the segment; NULL means all defaults
 * @layout: filled
 * @error: filled on failure, or NULL
 *
 * Return: 0; -EINVAL (a value out of range: @error says which); -EOVERFLOW
 * (the sizes do not fit into 63 bits, or the pool ends beyond 256 GiB).
 */
VOXSHM_API int voxshm_segment_compute(const struct voxshm_segment_config *config,
				      struct voxshm_segment_layout *layout,
				      struct voxshm_error *error);

/**
 * voxshm_segment_create() - make a segment and become its host
 * @segment: filled; free it with voxshm_segment_free()
 * @config: what it should be; NULL means all defaults
 * @error: filled on failure, or NULL
 *
 * Never touches a file that is there. All memory is allocated here, so that
 * running out of it is an error and not a SIGBUS later. The magic is written
 * last: who attaches too early is refused. On failure no file is left.
 *
 * Return: 0; -EINVAL or -EOVERFLOW as voxshm_segment_compute(); -EEXIST (the
 * path is taken), -EACCES, -ENOENT, -ENOSPC, -EFBIG (larger than the process
 * may make a file), -ENOMEM, -EMFILE, ...
 */
VOXSHM_API int voxshm_segment_create(struct voxshm_segment **segment,
				     const struct voxshm_segment_config *config,
				     struct voxshm_error *error);

/**
 * voxshm_segment_attach() - map the segment in a file
 * @segment: filled; free it with voxshm_segment_free()
 * @path: the file
 * @error: filled on failure, or NULL
 *
 * Every field of the header, every ring and the class table are checked
 * against the file's size and each other before anything is used. Segments
 * made by vox-shm 0.3.1 are welcome. Takes no peer slot; see
 * voxshm_segment_attach_peer() and voxshm_segment_claim_peer().
 *
 * Return: 0; -EBADMSG (not a valid segment: @error says what and where);
 * -ENOENT, -EACCES, -ENOMEM, -EMFILE, ...
 */
VOXSHM_API int voxshm_segment_attach(struct voxshm_segment **segment, const char *path,
				     struct voxshm_error *error);

/**
 * voxshm_segment_attach_fd() - map the segment behind a descriptor
 * @segment: filled; free it with voxshm_segment_free()
 * @fd: opened for reading and writing; duplicated, stays yours
 * @error: filled on failure, or NULL
 *
 * Return: as voxshm_segment_attach(); -EBADF.
 */
VOXSHM_API int voxshm_segment_attach_fd(struct voxshm_segment **segment, int fd,
					struct voxshm_error *error);

/**
 * voxshm_segment_free() - unmap a segment
 * @segment: the segment, or NULL
 *
 * Removes the file if it is this object's to remove; see
 * voxshm_segment_own_file(). Rings and slots of the segment must not be used
 * afterwards. Peer slots stay as they are.
 */
VOXSHM_API void voxshm_segment_free(struct voxshm_segment *segment);

/**
 * voxshm_segment_own_file() - decide who removes the file
 * @segment: the segment
 * @own: non-zero: voxshm_segment_free() removes the file; 0: it stays
 *
 * A creator's object owns the file with VOXSHM_CLEANUP_MANUAL, an attached
 * one does not. Without a path it makes no difference.
 */
VOXSHM_API void voxshm_segment_own_file(struct voxshm_segment *segment, int own);

/* What it is ------------------------------------------------------------ */

/**
 * struct voxshm_segment_info - what a segment is
 * @max_guests: peer slots
 * @ring_capacity: data bytes of one ring
 * @max_payload: largest message in bytes
 * @inline_threshold: with the default filled in
 * @max_mappings: per direction of a link; 0 in a segment made by vox-shm
 * @num_classes: size classes; see voxshm_segment_class()
 * @heartbeat_interval: nanoseconds; 0 means no heartbeats
 * @total_size: bytes at creation
 * @current_size: bytes now, as the host has published it
 * @mapped_size: bytes that this object has mapped
 * @max_size: bytes that it may grow to
 * @segment_id: random; 0 in a segment made by vox-shm
 * @num_extents: parts of the slot pool that this object knows
 * @is_host: non-zero in the object that created it
 * @is_plain: non-zero: made by vox-shm, without link blocks
 * @host_goodbye: non-zero: the host is leaving
 */
struct voxshm_segment_info {
	uint32_t max_guests;
	uint32_t ring_capacity;
	uint32_t max_payload;
	uint32_t inline_threshold;
	uint32_t max_mappings;
	uint32_t num_classes;
	uint64_t heartbeat_interval;
	uint64_t total_size;
	uint64_t current_size;
	uint64_t mapped_size;
	uint64_t max_size;
	uint64_t segment_id;
	uint32_t num_extents;
	int is_host;
	int is_plain;
	int host_goodbye;
};

/**
 * voxshm_segment_get_info() - tell what a segment is
 * @segment: the segment
 * @info: filled
 */
VOXSHM_API void voxshm_segment_get_info(const struct voxshm_segment *segment,
					struct voxshm_segment_info *info);

/**
 * voxshm_segment_get_layout() - tell where the parts of a segment lie
 * @segment: the segment
 * @layout: filled
 */
VOXSHM_API void voxshm_segment_get_layout(const struct voxshm_segment *segment,
					  struct voxshm_segment_layout *layout);

/**
 * voxshm_segment_class() - tell about a size class of an extent
 * @segment: the segment
 * @extent: 0 for the pool as created, then one for each growth
 * @index: 0 for the smallest class
 * @class_: filled
 * @free_slots: filled with the number of free slots, a moment ago; or NULL
 *
 * Return: 0 or -EINVAL (no such extent or class).
 */
VOXSHM_API int voxshm_segment_class(const struct voxshm_segment *segment, uint32_t extent,
				    uint32_t index, struct voxshm_class *class_,
				    uint32_t *free_slots);

/**
 * voxshm_segment_fd() - the descriptor of a segment's memory
 * @segment: the segment
 *
 * Return: the descriptor; it belongs to the segment.
 */
VOXSHM_API int voxshm_segment_fd(const struct voxshm_segment *segment);

/**
 * voxshm_segment_path() - the path of a segment's file
 * @segment: the segment
 *
 * Return: the path it was created at or attached by, or an empty string.
 */
VOXSHM_API const char *voxshm_segment_path(const struct voxshm_segment *segment);

/* Peers ----------------------------------------------------------------- */

/**
 * enum voxshm_peer_state - the life of a peer slot
 * @VOXSHM_PEER_EMPTY: free
 * @VOXSHM_PEER_ATTACHED: a guest is there
 * @VOXSHM_PEER_GOODBYE: it has left or died and was not recovered yet
 * @VOXSHM_PEER_RESERVED: kept for a guest that is being started
 */
enum voxshm_peer_state {
	VOXSHM_PEER_EMPTY = 0,
	VOXSHM_PEER_ATTACHED = 1,
	VOXSHM_PEER_GOODBYE = 2,
	VOXSHM_PEER_RESERVED = 3,
};

/**
 * struct voxshm_peer - a peer slot
 * @state: enum voxshm_peer_state, or a value that no honest peer wrote
 * @epoch: number of this life; rises when it is attached or reserved
 * @last_heartbeat: CLOCK_MONOTONIC nanoseconds, 0 when it never beat
 * @features: 0 for a vox-shm peer
 * @pid: as the peer says, 0 when it does not
 */
struct voxshm_peer {
	uint32_t state;
	uint32_t epoch;
	uint64_t last_heartbeat;
	uint32_t features;
	pid_t pid;
};

/**
 * voxshm_segment_peer() - tell about a peer slot
 * @segment: the segment
 * @peer: 1..max_guests
 * @info: filled
 *
 * Return: 0 or -EINVAL (no such peer).
 */
VOXSHM_API int voxshm_segment_peer(const struct voxshm_segment *segment, uint32_t peer,
				   struct voxshm_peer *info);

/**
 * voxshm_segment_reserve_peer() - keep a peer slot for a guest to be started
 * @segment: the segment
 *
 * Return: the peer id, 1..255; -EUSERS (all are taken).
 */
VOXSHM_API int voxshm_segment_reserve_peer(struct voxshm_segment *segment);

/**
 * voxshm_segment_release_peer() - give a reserved peer slot back unused
 * @segment: the segment
 * @peer: what voxshm_segment_reserve_peer() returned
 *
 * Return: 0; -EINVAL (no such peer), -ESTALE (it is not reserved).
 */
VOXSHM_API int voxshm_segment_release_peer(struct voxshm_segment *segment, uint32_t peer);

/**
 * voxshm_segment_claim_peer() - become the guest that a slot was reserved for
 * @segment: the segment
 * @peer: the reserved peer id
 *
 * Return: 0; -EINVAL (no such peer), -ESTALE (it is not reserved).
 */
VOXSHM_API int voxshm_segment_claim_peer(struct voxshm_segment *segment, uint32_t peer);

/**
 * voxshm_segment_attach_peer() - become a guest at any free peer slot
 * @segment: the segment
 *
 * Return: the peer id, 1..255; -EUSERS (all are taken).
 */
VOXSHM_API int voxshm_segment_attach_peer(struct voxshm_segment *segment);

/**
 * voxshm_segment_detach_peer() - say that a guest leaves
 * @segment: the segment
 * @peer: the guest
 *
 * The slot is free again when the host has called voxshm_segment_recover().
 *
 * Return: 0; -EINVAL (no such peer), -ESTALE (no guest is attached there).
 */
VOXSHM_API int voxshm_segment_detach_peer(struct voxshm_segment *segment, uint32_t peer);

/**
 * voxshm_segment_set_goodbye() - tell all guests that the host is leaving
 * @segment: the segment
 */
VOXSHM_API void voxshm_segment_set_goodbye(struct voxshm_segment *segment);

/**
 * voxshm_segment_beat() - write a guest's heartbeat
 * @segment: the segment
 * @peer: the guest
 * @now: CLOCK_MONOTONIC nanoseconds
 *
 * Return: 0 or -EINVAL (no such peer).
 */
VOXSHM_API int voxshm_segment_beat(struct voxshm_segment *segment, uint32_t peer, uint64_t now);

/**
 * voxshm_segment_is_stale() - is a guest's heartbeat overdue?
 * @segment: the segment
 * @peer: the guest
 * @now: CLOCK_MONOTONIC nanoseconds
 *
 * Overdue is more than twice the interval; never when that is 0. A guest that
 * has not beaten yet counts as if at time 0, and a vox-shm guest never beats:
 * ask a guest's process before you recover it.
 *
 * Return: 1 (overdue), 0, or -EINVAL (no such peer).
 */
VOXSHM_API int voxshm_segment_is_stale(const struct voxshm_segment *segment, uint32_t peer,
				       uint64_t now);

/* Recovery --------------------------------------------------------------- */

/**
 * voxshm_segment_recover() - make the slot of a guest that has ended free
 * @segment: the segment; the host's object
 * @peer: the guest
 * @unread: filled with what the guest had sent and the host had not read, in
 *	order, or NULL: that is dropped. Free it with
 *	voxshm_segment_unread_free()
 * @error: filled on failure, or NULL
 *
 * Only for a guest whose process is known to have ended, and when no ring of
 * this peer is in use here. Frees its slots, finds those that it was about to
 * take or give when it died, empties its rings, and makes the slot Empty.
 * Slots that living guests have, or that the host still holds, are not
 * touched. Where a living guest may have a slot in its hands, that slot is
 * looked at again with the next recovery. After it, ring all guests that wait
 * for a slot.
 *
 * Return: how many slots became free; -EINVAL (no such peer), -EPERM (not
 * the host's object), -ESTALE (the slot is empty), -ENOMEM (try again: the
 * slot stays in Goodbye).
 */
VOXSHM_API int voxshm_segment_recover(struct voxshm_segment *segment, uint32_t peer,
				      struct voxshm_segment_unread **unread,
				      struct voxshm_error *error);

/**
 * voxshm_segment_unread_next() - take the next message that a dead guest left
 * @unread: from voxshm_segment_recover()
 * @data: filled with the payload, which stays until voxshm_segment_unread_free()
 * @size: filled with its bytes
 *
 * A message in a payload mapping is passed over: the mapping belongs to the
 * link.
 *
 * Return: 1; 0 when there is none any more.
 */
VOXSHM_API int voxshm_segment_unread_next(struct voxshm_segment_unread *unread,
					  const void **data, size_t *size);

/**
 * voxshm_segment_unread_free() - give the messages and their slots back
 * @unread: from voxshm_segment_recover(), or NULL; free it before its segment
 */
VOXSHM_API void voxshm_segment_unread_free(struct voxshm_segment_unread *unread);

/* Growth ------------------------------------------------------------------ */

/**
 * voxshm_segment_grow() - make the segment larger
 * @segment: the segment; the host's object
 * @new_size: bytes it shall have
 * @error: filled on failure, or NULL
 *
 * What is added becomes a further extent of the slot pool, with as many slots
 * of each class as fit, in the proportions of the first. Nothing that is
 * mapped moves. After it, ring all guests: they call voxshm_segment_remap().
 *
 * Return: 0; -EINVAL (smaller than it is), -EPERM (not the host's object),
 * -EFBIG (beyond max_size), -EBUSY (a vox-shm guest, which cannot follow, is
 * attached), -ENOSPC (no memory in the file system, or too many growths),
 * -ENOMEM.
 */
VOXSHM_API int voxshm_segment_grow(struct voxshm_segment *segment, uint64_t new_size,
				   struct voxshm_error *error);

/**
 * voxshm_segment_remap() - follow the host's growth
 * @segment: the segment
 *
 * Return: 1 (there was more), 0 (there was not); -EBADMSG (what the host
 * published makes no sense), -EFBIG (a vox-shm host grew it further than this
 * object left room for), -ENOMEM.
 */
VOXSHM_API int voxshm_segment_remap(struct voxshm_segment *segment);

/* Slots ------------------------------------------------------------------- */

/**
 * struct voxshm_slot - an allocated slot, as a frame names it
 * @class_index: its size class
 * @extent: its part of the pool
 * @slot: its number there
 * @generation: which allocation of it
 */
struct voxshm_slot {
	uint8_t class_index;
	uint8_t extent;
	uint32_t slot;
	uint32_t generation;
};

/**
 * voxshm_segment_slot_alloc() - take a slot
 * @segment: the segment
 * @owner: who takes it: the calling guest's peer id, or VOXSHM_PEER_HOST
 * @size: bytes needed; the smallest class that has one is taken
 * @slot: filled
 *
 * One thread at a time for one owner. Should the process die here, the host's
 * recovery finds the slot.
 *
 * Return: 0; -EAGAIN (none is free), -EMSGSIZE (larger than the largest
 * class), -EINVAL (no such owner), -EBADMSG (the pool was corrupted).
 */
VOXSHM_API int voxshm_segment_slot_alloc(struct voxshm_segment *segment, uint32_t owner,
					 uint32_t size, struct voxshm_slot *slot);

/**
 * voxshm_segment_slot_free() - give a slot back
 * @segment: the segment
 * @who: who gives it: the calling guest's peer id, or VOXSHM_PEER_HOST
 * @slot: the slot, own or received
 *
 * One thread at a time for one @who, the same as for
 * voxshm_segment_slot_alloc().
 *
 * Return: 0; -ESTALE (not allocated in that generation: freed before),
 * -EINVAL (no such slot or peer), -EBADMSG (the pool was corrupted), -EBUSY.
 */
VOXSHM_API int voxshm_segment_slot_free(struct voxshm_segment *segment, uint32_t who,
					const struct voxshm_slot *slot);

/**
 * voxshm_segment_slot_give() - make another peer the owner of a slot
 * @segment: the segment
 * @slot: an allocated slot of the caller's
 * @owner: the peer it is about to be sent to
 *
 * So that the slot comes back when that peer dies before it frees it.
 *
 * Return: 0; -ESTALE (not allocated in that generation), -EINVAL.
 */
VOXSHM_API int voxshm_segment_slot_give(struct voxshm_segment *segment,
					const struct voxshm_slot *slot, uint32_t owner);

/**
 * voxshm_segment_slot_data() - the bytes of a slot
 * @segment: the segment
 * @slot: an allocated slot
 * @size: filled with the slot's bytes, or NULL
 *
 * A message in a slot begins with its length: 4 bytes, little-endian.
 *
 * Return: the bytes, or NULL when there is no such slot.
 */
VOXSHM_API void *voxshm_segment_slot_data(struct voxshm_segment *segment,
					  const struct voxshm_slot *slot, size_t *size);

/* Rings ------------------------------------------------------------------- */

/**
 * enum voxshm_ring_direction - which ring of a peer
 * @VOXSHM_GUEST_TO_HOST: the guest produces, the host consumes
 * @VOXSHM_HOST_TO_GUEST: the host produces, the guest consumes
 */
enum voxshm_ring_direction {
	VOXSHM_GUEST_TO_HOST = 0,
	VOXSHM_HOST_TO_GUEST = 1,
};

/**
 * enum voxshm_ring_role - which end of a ring
 * @VOXSHM_PRODUCER: grants and commits
 * @VOXSHM_CONSUMER: reads and releases
 */
enum voxshm_ring_role {
	VOXSHM_PRODUCER = 0,
	VOXSHM_CONSUMER = 1,
};

/**
 * voxshm_segment_ring_open() - take one end of a ring of a peer
 * @ring: filled; free it with voxshm_segment_ring_close()
 * @segment: the segment
 * @peer: 1..max_guests
 * @direction: which ring
 * @role: which end of it
 *
 * In all processes together, one object at a time may have one end. It goes
 * on where the last one stopped.
 *
 * Return: 0; -EINVAL (no such peer, direction or role), -ENOMEM, -EBADMSG
 * (the ring was corrupted).
 */
VOXSHM_API int voxshm_segment_ring_open(struct voxshm_segment_ring **ring,
					struct voxshm_segment *segment, uint32_t peer,
					enum voxshm_ring_direction direction,
					enum voxshm_ring_role role);

/**
 * voxshm_segment_ring_close() - let go of an end of a ring
 * @ring: the end, or NULL; a grant that was not committed leaves nothing
 */
VOXSHM_API void voxshm_segment_ring_close(struct voxshm_segment_ring *ring);

/**
 * voxshm_segment_ring_grant() - find contiguous room
 * @ring: a producer's end
 * @size: bytes, a multiple of 4, at least 8, at most (capacity - 1) / 2
 * @data: filled with where to write; stays until the commit or the next grant
 *
 * Changes nothing that the consumer sees.
 *
 * Return: 0; -EAGAIN (no room), -EMSGSIZE, -EINVAL, -EBADMSG (the consumer
 * broke the protocol).
 */
VOXSHM_API int voxshm_segment_ring_grant(struct voxshm_segment_ring *ring, uint32_t size,
					 void **data);

/**
 * voxshm_segment_ring_commit() - let the consumer see what was written
 * @ring: a producer's end with a grant
 * @size: bytes, a multiple of 4, at least 8, at most what was granted
 *
 * In one step: a death before it leaves nothing, after it everything.
 *
 * Return: 0 or -EINVAL.
 */
VOXSHM_API int voxshm_segment_ring_commit(struct voxshm_segment_ring *ring, uint32_t size);

/**
 * voxshm_segment_ring_read() - look at what has come
 * @ring: a consumer's end
 * @data: filled with where it is, in shared memory
 *
 * Return: contiguous bytes, all of them whole commits; 0 when there are none;
 * -EINVAL, -EBADMSG (the producer broke the protocol).
 */
VOXSHM_API ssize_t voxshm_segment_ring_read(struct voxshm_segment_ring *ring,
					    const void **data);

/**
 * voxshm_segment_ring_release() - give bytes back to the producer
 * @ring: a consumer's end
 * @size: bytes from the start of what was read, a multiple of 4
 *
 * Return: 0 or -EINVAL (more than what was read).
 */
VOXSHM_API int voxshm_segment_ring_release(struct voxshm_segment_ring *ring, uint32_t size);

#ifdef __cplusplus
}
#endif

#endif
