/* SPDX-License-Identifier: MIT */
/*
 * native/segment.c - the main object and the peer slots: the host makes it,
 * guests join it.
 *
 * The host alone decides who is a peer, in private memory, and mirrors that
 * into the peer table for its guests and for observers to read.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "error.h"
#include "host.h"
#include "native/native.h"

static struct native_host *native_host(struct voxshm_host *host)
{
	return host->segment;
}

static void mirror_peer(struct native_host *segment, uint32_t peer_id, enum peer_state state)
{
	struct peer_entry *peer = native_peer(segment->main.base, peer_id);

	shared_store_u64(&peer->state_epoch, peer_word(state, segment->epoch[peer_id - 1]));
}

int native_host_init(struct voxshm_host *host, struct voxshm_error *error)
{
	const struct voxshm_config *config = &host->config;
	struct native_parameters parameters = {
		.max_guests = config->max_guests,
		.ring_capacity = config->ring_capacity,
		.max_payload = config->max_payload,
		.inline_threshold = config->inline_threshold,
		.max_mappings = config->max_mappings,
		.num_classes = config->num_classes,
		.heartbeat_interval = config->heartbeat_interval,
	};
	struct segment_needs needs = {
		.max_guests = config->max_guests,
		.max_mappings = config->max_mappings,
		.guest_bytes = mappings_bytes(config->max_mappings, config->max_payload),
	};
	struct native_host *segment;
	int ret;

	if (config->num_classes > VOXSHM_MAX_CLASSES)
		return error_set(error, -EINVAL, "num_classes is %u, above %u",
				 config->num_classes, VOXSHM_MAX_CLASSES);
	if (config->path)
		return error_set(error, -EINVAL, "path is set: the native format has no file");
	memcpy(parameters.classes, config->classes,
	       config->num_classes * sizeof(*config->classes));
	segment = calloc(1, sizeof(*segment));
	if (!segment)
		return -ENOMEM;
	ret = native_geometry(&segment->geometry, &parameters, error);
	if (ret)
		goto free_segment;
	needs.main_size = segment->geometry.main_size;
	needs.window_size = segment->geometry.window_size;
	ret = host->backend->segment_new(&segment->main, &needs, error);
	if (ret)
		goto free_segment;
	native_main_write(segment->main.base, &segment->geometry);
	ret = host->backend->main_seal(&segment->main);
	if (ret) {
		error_errno(error, ret, "cannot seal the segment's main object");
		goto free_main;
	}
	host->segment = segment;
	return 0;

free_main:
	memory_free(&segment->main);
free_segment:
	free(segment);
	return ret;
}

void native_host_goodbye(struct voxshm_host *host)
{
	shared_store_u32(&native_header(native_host(host)->main.base)->host_goodbye, 1);
}

void native_host_deinit(struct voxshm_host *host)
{
	struct native_host *segment = native_host(host);

	memory_free(&segment->main);
	free(segment);
	host->segment = NULL;
}

static uint32_t free_peer_id(const struct native_host *segment)
{
	uint32_t i;

	for (i = 0; i < segment->geometry.parameters.max_guests; i++)
		if (!segment->taken[i])
			return i + 1;
	return 0;
}

int native_host_link_new(struct voxshm_host *host, struct voxshm_link **link,
			 struct invitation *invitation, struct voxshm_error *error)
{
	struct native_host *segment = native_host(host);
	uint32_t peer_id = free_peer_id(segment);
	struct native_link *native;
	struct memory window;
	struct end *end;
	int ret;

	if (!peer_id)
		return error_set(error, -EUSERS, BOOTSTRAP_REASON_FULL);
	ret = host->backend->link_new(&segment->main, peer_id, segment->geometry.window_size,
				      &window, &end, invitation);
	if (ret)
		goto fail;
	ret = native_link_new(&native, &segment->geometry, NATIVE_HOST, &window, end);
	if (ret)
		goto free_end;
	segment->taken[peer_id - 1] = true;
	segment->epoch[peer_id - 1]++;
	native->link.peer_id = peer_id;
	native->link.epoch = segment->epoch[peer_id - 1];
	mirror_peer(segment, peer_id, PEER_RESERVED);
	invitation->peer_id = peer_id;
	*link = &native->link;
	return 0;

free_end:
	end->ops->free(end);
	memory_free(&window);
fail:
	return error_errno(error, ret, "cannot make a link with a window of %llu bytes",
			   (unsigned long long)segment->geometry.window_size);
}

void native_host_link_attached(struct voxshm_link *link)
{
	struct native_host *segment = native_host(link->host);
	struct peer_entry *peer = native_peer(segment->main.base, link->peer_id);

	shared_poke_u32(&peer->pid, (uint32_t)link->end->pid);
	mirror_peer(segment, link->peer_id, PEER_ATTACHED);
}

void native_host_link_ended(struct voxshm_link *link)
{
	struct native_host *segment = native_host(link->host);
	struct peer_entry *peer = native_peer(segment->main.base, link->peer_id);

	shared_poke_u32(&peer->pid, 0);
	mirror_peer(segment, link->peer_id, PEER_EMPTY);
	segment->taken[link->peer_id - 1] = false;
}

/* File backend: maps the main object; the invitation's descriptor becomes its own. */
static int map_main(struct invitation *invitation, struct voxshm_error *error)
{
	int fd = invitation->fds[INVITATION_SEGMENT], ret;
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_errno(error, -errno, "cannot look at the host's segment");
	ret = memory_map(&invitation->main, fd, (size_t)stat.st_size, PROT_READ);
	if (ret)
		return error_errno(error, ret, "cannot map the host's segment");
	invitation->fds[INVITATION_SEGMENT] = -1;
	return 0;
}

/* Reads the geometry from the host's main object, which then is not needed. */
static int read_main(const struct memory *main, struct native_geometry *geometry,
		     uint32_t peer_id, uint32_t *epoch, struct voxshm_error *error)
{
	int ret = native_main_read(main->base, main->size, geometry, error);

	if (ret)
		return ret;
	if (peer_id < 1 || peer_id > geometry->parameters.max_guests)
		return error_set(error, -EBADMSG, "peer id %u is not within 1..%u", peer_id,
				 geometry->parameters.max_guests);
	*epoch = peer_word_epoch(shared_load_u64(&native_peer(main->base, peer_id)->state_epoch));
	return 0;
}

int native_join(struct voxshm_link **link, struct invitation *invitation,
		struct voxshm_error *error)
{
	const struct backend *backend = invitation->end ? &device_backend : &file_backend;
	struct native_geometry geometry;
	struct native_link *native;
	struct memory window;
	struct end *end;
	uint32_t epoch = 0;
	int ret;

	ret = invitation->end ? 0 : map_main(invitation, error);
	if (ret == 0)
		ret = read_main(&invitation->main, &geometry, invitation->peer_id, &epoch, error);
	if (ret)
		return ret;
	ret = backend->claim(invitation, geometry.window_size, &window, &end);
	if (ret)
		return error_errno(error, ret, "cannot claim a link with a window of %llu bytes",
				   (unsigned long long)geometry.window_size);
	ret = native_link_new(&native, &geometry, NATIVE_GUEST, &window, end);
	if (ret)
		goto free_end;
	native->link.peer_id = invitation->peer_id;
	native->link.epoch = epoch;
	atomic_store(&native->link.state, VOXSHM_LINK_ATTACHED);
	*link = &native->link;
	return 0;

free_end:
	end->ops->free(end);
	memory_free(&window);
	return error_errno(error, ret, "cannot make the guest's end of a link");
}
