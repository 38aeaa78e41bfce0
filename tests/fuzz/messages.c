// SPDX-License-Identifier: MIT
/*
 * messages.c - what comes over sockets: a guest's request to a host that
 * listens, a host's answer to a guest, and what the ends of a native link say
 * to each other on the file backend. Bytes and descriptors are the input's.
 * (The sockets of a vox link are vox_link.c's.)
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend.h"
#include "backend_file.h"
#include "host.h"
#include "native/native.h"
#include "vox/vox.h"
#include "work.h"

#define MAX_FDS 5u
#define MAX_MESSAGE 5000u

static const struct voxshm_class classes[] = { { 64, 2 } };

/* Descriptors to send ---------------------------------------------------------------------- */

/* Beside fuzz_file()'s: what a guest may be given, and what it may not. */
enum extra {
	EXTRA_NATIVE_MAIN = FUZZ_FILES,
	EXTRA_VOX_SEGMENT,
	EXTRA_SEQPACKET,
	EXTRA_STREAM,
	EXTRA_DGRAM,
	EXTRA_NULL,
	EXTRAS,
};

/* Files hold a segment of their kind; the sockets' other ends are closed. */
static int extras[EXTRAS];
static uint8_t *vox_image;
static size_t vox_size;

static int new_socket(int type)
{
	int fds[2];

	FUZZ_CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	close(fds[1]);
	return fds[0];
}

static int any_fd(uint32_t kind)
{
	return kind < FUZZ_FILES ? fuzz_file((enum fuzz_file)kind) : extras[kind];
}

/* Sends size bytes with count descriptors, as good as it goes. */
static void send_fds(int socket, const void *bytes, size_t size, const int *fds, unsigned int count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)bytes, size };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (count) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	}
	(void)!sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is_anywhere(const struct work *work, const struct voxshm_view *view)
{
	(void)work;
	(void)view;
	return true;
}

static unsigned int take_fds(struct fuzz_input *input, int *fds)
{
	unsigned int count = fuzz_below(input, MAX_FDS + 1), i;

	for (i = 0; i < count; i++)
		fds[i] = any_fd(fuzz_below(input, EXTRAS));
	return count;
}

/* Requests to a host --------------------------------------------------------------------------- */

#define ADDRESS "@voxshm-fuzz"

static struct voxshm_host *host;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static socklen_t address_size;

/* The session lies in memory, and has no byte too many. */
static int judge(void *data, const struct voxshm_caller *caller, struct voxshm_error *reason)
{
	uint8_t sum = 0;
	size_t i;

	(void)data;
	(void)reason;
	for (i = 0; i < caller->session_size; i++)
		sum += (uint8_t)caller->session[i];
	FUZZ_CHECK(caller->pid == getpid() && caller->session_size <= BOOTSTRAP_MAX_SESSION);
	return sum % 4 ? 0 : -EACCES;
}

static void open_host(void)
{
	struct voxshm_config config = {
		.struct_size = sizeof(config), .format = VOXSHM_FORMAT_NATIVE,
		.backend = VOXSHM_BACKEND_FILE, .max_guests = 2, .ring_capacity = 256,
		.max_payload = 1000, .num_classes = 1, .classes = classes, .max_mappings = 2,
	};
	int length;

	FUZZ_CHECK(voxshm_host_new(&host, &config, NULL) == 0);
	length = snprintf(address.sun_path, sizeof(address.sun_path), ADDRESS "-%d", getpid());
	FUZZ_CHECK(voxshm_host_listen(host, address.sun_path, 0, judge, NULL, NULL) == 0);
	address.sun_path[0] = '\0';
	address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length);
}

static void serve(int rounds)
{
	struct voxshm_event events[2];

	while (rounds--)
		FUZZ_CHECK(voxshm_host_wait(host, events, 2, 0) == 0);
}

static void check_parser(const uint8_t *bytes, size_t size)
{
	/* In memory of its own, where a byte too many shows. */
	uint8_t *copy = memcpy(malloc(size + !size), bytes, size);
	const char *session;
	size_t session_size;
	int ret;

	if (!size) {
		free(copy);
		return;
	}
	ret = bootstrap_parse_request(copy, size, &session, &session_size);
	FUZZ_CHECK(ret == 0 || ret == (int)size || ret == -EPROTO);
	if (ret > 0)
		FUZZ_CHECK(work_is_within(session, session_size, copy, size));
	free(copy);
}

static void fuzz_request(struct fuzz_input *input)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	uint8_t bytes[300];
	int fds[MAX_FDS];
	size_t size;

	FUZZ_CHECK(connect(fd, (struct sockaddr *)&address, address_size) == 0);
	while (input->left) {
		unsigned int count = take_fds(input, fds);

		size = fuzz_below(input, sizeof(bytes));
		if (size > 6 && fuzz_below(input, 2)) {
			memcpy(bytes, "RSH0", 4);
			bytes[4] = (uint8_t)(size - 6);
			bytes[5] = (uint8_t)((size - 6) >> 8);
			fuzz_take_bytes(input, bytes + 6, size - 6);
		} else {
			size = fuzz_take_bytes(input, bytes, size);
		}
		check_parser(bytes, size);
		send_fds(fd, bytes, size, fds, size ? count : 0);
		serve(2);
	}
	close(fd);
	/* Whom it let in has gone; nobody was ever told of one. */
	serve(4);
	FUZZ_CHECK(!host->links && !host->undrained);
}

/* Answers to a guest ------------------------------------------------------------------------------ */

static int changed_copy(struct fuzz_input *input, int original)
{
	int copy = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint64_t value = fuzz_take(input, 8);
	uint8_t bytes[8192] = { 0 };
	ssize_t size = pread(original, bytes, sizeof(bytes), 0);

	FUZZ_CHECK(copy >= 0 && size > 0 && write(copy, bytes, (size_t)size) == size);
	FUZZ_CHECK(pwrite(copy, &value, 8, fuzz_below(input, 300)) == 8);
	FUZZ_CHECK(fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	return copy;
}

static void say(struct fuzz_input *input, int socket)
{
	static const uint64_t sizes[] = { 4096, 1 << 20, FUZZ_FILE_SIZE, 0, 1ull << 40, 1000 };
	uint32_t how = fuzz_below(input, 128);
	struct { struct file_message message; uint8_t more[40]; } bytes = {
		.message.kind = how & 3,
		.message.map_id = fuzz_below(input, 3),
		.message.generation = fuzz_below(input, 4),
		.message.size = sizes[fuzz_below(input, 6)],
	};
	size_t size = sizeof(bytes.message);
	unsigned int count;
	int fds[MAX_FDS];

	if (how & 4)
		bytes.message.reserved = (uint32_t)fuzz_take(input, 1);
	if (how & 8)
		size = fuzz_below(input, sizeof(bytes));
	if (how & 16)
		fuzz_take_bytes(input, &bytes, size);
	count = how & 32 ? take_fds(input, fds) : bytes.message.kind == FILE_MESSAGE_OFFER;
	if (!(how & 32))
		fds[0] = fuzz_file((enum fuzz_file)(how & 64 ? fuzz_below(input, FUZZ_FILES) :
							       FUZZ_FILE_GOOD));
	send_fds(socket, &bytes, size, fds, count);
}

/* What the guest's host holds of a link. */
struct host_part {
	int doorbell, control;
};

/* A guest that was let in after all does what guests do; its host says anything. */
static void use_link(struct fuzz_input *input, struct voxshm_link *link,
		     const struct host_part *part)
{
	struct work work = { .link = link, .is_inside = is_anywhere, .max_loads = 10000,
			     .largest_slot = 60, .release_may_fail = true };

	fuzz_meddled = true;
	while (input->left) {
		switch (fuzz_below(input, 6)) {
		case 0:
			say(input, part->doorbell);
			break;
		case 1:
			say(input, part->control);
			break;
		case 2:
			link_drain(link);
			break;
		default:
			work_do(&work, input, fuzz_below(input, WORK_KINDS));
			break;
		}
	}
	work_finish(&work);
	voxshm_link_close(link);
}

/* The guest's descriptors, as a host of that format gives them. */
static void make_place(bool vox, struct host_part *part, int fds[MAX_FDS])
{
	int pair[2];

	FUZZ_CHECK(socketpair(AF_UNIX, (vox ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0,
			      pair) == 0);
	part->doorbell = pair[0];
	fds[0] = pair[1];
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
	part->control = pair[0];
	fds[1] = extras[vox ? EXTRA_VOX_SEGMENT : EXTRA_NATIVE_MAIN];
	fds[2] = vox ? pair[1] : fuzz_file(FUZZ_FILE_GOOD);
	fds[3] = pair[1];	/* not sent: closed with the others */
}

static size_t make_answer(struct fuzz_input *input, uint32_t how, uint8_t bytes[MAX_MESSAGE])
{
	struct {
		char magic[4];
		uint8_t status;
		uint32_t peer_id;
		uint16_t length;
	} __attribute__((packed)) header = { "RSP0", 0, 1, 0 };
	size_t size = 0, length;

	if (how & 8)
		header.status = (uint8_t)fuzz_take(input, 1);
	if (how & 16)
		header.peer_id = (uint32_t)fuzz_take(input, 4);
	if (how & 32)
		header.length = (uint16_t)fuzz_take(input, 2);
	if (!(how & 64)) {
		memcpy(bytes, &header, sizeof(header));
		size = sizeof(header);
	}
	if (how & 96) {
		length = fuzz_below(input, MAX_MESSAGE - sizeof(header));
		memset(bytes + size, 'x', length);
		fuzz_take_bytes(input, bytes + size, length < 40 ? length : 40);
		size += length;
	}
	return size;
}

static void fuzz_answer(struct fuzz_input *input)
{
	uint32_t how = fuzz_below(input, 128), changed = fuzz_below(input, 8);
	int place[MAX_FDS], fds[MAX_FDS], sockets[2], copy = -1, ret;
	struct voxshm_error error = { "" };
	uint8_t bytes[MAX_MESSAGE];
	struct voxshm_link *link;
	struct host_part part;
	unsigned int count = 3;
	size_t size;

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
	make_place(how & 4, &part, place);
	memcpy(fds, place, sizeof(fds));
	if (how & 1)
		fds[1] = copy = changed_copy(input, fds[1]);
	if (how & 2)
		count = take_fds(input, fds);
	if (changed < 3)
		fds[changed] = any_fd(fuzz_below(input, EXTRAS));
	size = make_answer(input, how, bytes);
	if (size)
		send_fds(sockets[0], bytes, size, fds, count);
	close(place[0]);
	close(place[3]);
	if (copy >= 0)
		close(copy);
	ret = voxshm_guest_claim(&link, sockets[1], &error);
	FUZZ_CHECK((ret == 0) == (link != NULL) && (ret == 0) == (*error.text == '\0'));
	if (ret == 0)
		use_link(input, link, &part);
	close(sockets[0]);
	close(part.doorbell);
	close(part.control);
}

/* Ends of a native link ------------------------------------------------------------------------------ */

static struct memory main_object;
static struct native_geometry geometry;

/* A frame that speaks of a mapping, so that what was offered is looked at. */
static void refer(struct fuzz_input *input, struct native_link *native)
{
	uint8_t *window = native->window.base;
	uint64_t offset = geometry.ring[NATIVE_GUEST] + sizeof(struct native_ring) +
			  native->consumer.cursor;
	struct mapping_ref ref = {
		.map_id = fuzz_below(input, 3), .map_generation = fuzz_below(input, 4),
		.offset = fuzz_below(input, 4), .length = (uint32_t)fuzz_take(input, 2),
	};

	memcpy(window + offset + FRAME_HEADER_SIZE, &ref, sizeof(ref));
	shared_store_u64((shared_u64 *)(void *)(window + offset),
			 frame_header(CACHE_LINE, FRAME_MAPPING_REF, 0));
}

static void fuzz_control(struct fuzz_input *input)
{
	struct invitation invitation;
	struct native_link *native;
	struct memory window;
	struct work work;
	struct end *end;
	int i;

	invitation_init(&invitation);
	FUZZ_CHECK(file_backend.link_new(&main_object, 1, geometry.window_size, &window, &end,
					 &invitation) == 0);
	FUZZ_CHECK(native_link_new(&native, &geometry, NATIVE_HOST, &window, end) == 0);
	work = (struct work){
		.link = &native->link, .is_inside = is_anywhere, .max_loads = 4096,
		.largest_slot = native_pool_largest(&native->pool),
	};
	fuzz_meddled = true;
	for (i = 0; input->left; i++) {
		switch (fuzz_below(input, 8)) {
		case 0 ... 2:
			say(input, invitation.fds[INVITATION_DOORBELL]);
			break;
		case 3:
			refer(input, native);
			break;
		case 4:
			link_drain(&native->link);
			break;
		default:
			work_do(&work, input, fuzz_below(input, WORK_KINDS));
			break;
		}
	}
	work_finish(&work);
	native_link_free(&native->link);
	invitation_deinit(&invitation);
}

/* -------------------------------------------------------------------------------------------------- */

static void make_segments(void)
{
	struct voxshm_segment_config config = {
		.struct_size = sizeof(config), .max_guests = 1, .ring_capacity = 128,
		.max_payload = 1000, .max_mappings = 2, .num_classes = 1, .classes = classes,
	};
	static const struct native_parameters parameters = {
		.max_guests = 2, .ring_capacity = 256, .max_payload = 1000, .max_mappings = 2,
		.num_classes = 1, .classes = { { 64, 2 } },
	};
	struct voxshm_segment *segment;

	FUZZ_CHECK(native_geometry(&geometry, &parameters, NULL) == 0);
	FUZZ_CHECK(memory_new(&main_object, "fuzz", geometry.main_size) == 0);
	native_main_write(main_object.base, &geometry);
	extras[EXTRA_NATIVE_MAIN] = main_object.fd;
	FUZZ_CHECK(voxshm_segment_create(&segment, &config, NULL) == 0);
	extras[EXTRA_VOX_SEGMENT] = dup(voxshm_segment_fd(segment));
	/* A guest may come there. */
	FUZZ_CHECK(voxshm_segment_reserve_peer(segment) == 1);
	vox_size = segment->file.size;
	vox_image = memcpy(malloc(vox_size), segment->file.base, vox_size);
	voxshm_segment_free(segment);
}

/* No input leaves anything to the next one. */
static void reset_vox_segment(void)
{
	FUZZ_CHECK(pwrite(extras[EXTRA_VOX_SEGMENT], vox_image, vox_size, 0) == (ssize_t)vox_size);
}

static void begin(void)
{
	int i;

	for (i = 0; i < FUZZ_FILES; i++)
		fuzz_file((enum fuzz_file)i);
	make_segments();
	extras[EXTRA_SEQPACKET] = new_socket(SOCK_SEQPACKET);
	extras[EXTRA_STREAM] = new_socket(SOCK_STREAM);
	extras[EXTRA_DGRAM] = new_socket(SOCK_DGRAM);
	extras[EXTRA_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	open_host();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parts[])(struct fuzz_input *) = {
		fuzz_request, fuzz_answer, fuzz_control,
	};
	struct fuzz_input input = { data, size };
	int fds;

	if (!host)
		begin();
	fds = fuzz_count_fds();
	fuzz_peer_begin();
	parts[fuzz_below(&input, 3)](&input);
	reset_vox_segment();
	FUZZ_CHECK(fuzz_count_fds() == fds);
	return 0;
}
