/* SPDX-License-Identifier: MIT */
/* vox/guest.c - becomes a guest of a vox host, ours or vox-shm's. */
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend_device.h"
#include "vox/device.h"

/* Has the host closed its end? */
static bool is_hung_up(const struct invitation *invitation)
{
	struct pollfd pollfd = {
		.fd = invitation->end ? device_end_fd(invitation->end) :
					invitation->fds[INVITATION_DOORBELL],
	};

	return poll(&pollfd, 1, 0) != 0;
}

/*
 * The invitation may be for a link that the host has closed, and the slot
 * reserved for somebody else since. The word is loaded first: while the host's
 * end is open after that, the word is of our life.
 */
static int claim(struct voxshm_segment *segment, const struct invitation *invitation,
		 uint32_t *epoch, struct voxshm_error *error)
{
	uint32_t peer = invitation->peer_id;
	uint64_t word;

	if (!vox_peer_exists(segment, peer))
		return error_set(error, -EBADMSG, "the segment has no peer %u", peer);
	word = shared_load_u64(&vox_peer(segment, peer)->state_epoch);
	if (is_hung_up(invitation) || vox_peer_claim_word(segment, peer, word))
		return error_set(error, -EPIPE, "peer %u is not reserved for this guest any more",
				 peer);
	*epoch = peer_word_epoch(word);
	return 0;
}

/* The guest's end over the invitation's sockets, which are taken out of it. */
static int socket_end_join(struct vox_end **end, struct voxshm_segment *segment, uint32_t epoch,
			   struct invitation *invitation)
{
	int doorbell = invitation->fds[INVITATION_DOORBELL];
	struct ucred host;
	socklen_t size = sizeof(host);
	int ret;

	ret = vox_end_new(end, segment, invitation->peer_id, epoch, false, doorbell,
			  invitation->fds[INVITATION_THIRD]);
	if (ret)
		return ret;
	invitation->fds[INVITATION_DOORBELL] = -1;
	invitation->fds[INVITATION_THIRD] = -1;
	(*end)->end.claimed = true;
	if (getsockopt(doorbell, SOL_SOCKET, SO_PEERCRED, &host, &size) == 0)
		end_set_peer(&(*end)->end, host.pid, host.uid, host.gid);
	return 0;
}

static int join_segment(struct voxshm_link **link, struct voxshm_segment *segment,
			struct invitation *invitation, struct voxshm_error *error)
{
	struct vox_link *vox;
	struct vox_end *end = NULL;
	uint32_t epoch = 0;
	int ret;

	ret = claim(segment, invitation, &epoch, error);
	if (ret)
		return ret;
	if (invitation->end)
		ret = vox_device_end_join(&end, segment, epoch, invitation);
	else
		ret = socket_end_join(&end, segment, epoch, invitation);
	if (ret)
		goto detach;
	ret = vox_link_new(&vox, segment, end);
	if (ret)
		goto detach;
	atomic_store(&vox->link.state, VOXSHM_LINK_ATTACHED);
	/* The host looks at the peer table when it is rung. */
	vox->link.end->ops->ring(vox->link.end);
	*link = &vox->link;
	return 0;

detach:
	voxshm_segment_detach_peer(segment, invitation->peer_id);
	if (end)
		end->end.ops->free(&end->end);
	return error_errno(error, ret, "cannot make the guest's end of a link");
}

/*
 * A file with a name may be anybody's, and is as safe as its permissions; one
 * without must be sealed, or its pages could be taken away from under us.
 */
static int check_sealed(int fd, struct voxshm_error *error)
{
	struct stat status;
	int seals;

	if (fstat(fd, &status) < 0)
		return error_errno(error, -errno, "cannot look at the host's segment");
	seals = fcntl(fd, F_GET_SEALS);
	if (status.st_nlink == 0 && (seals < 0 || !(seals & F_SEAL_SHRINK)))
		return error_set(error, -EBADMSG, "the host's segment could be truncated");
	return 0;
}

static int attach(struct voxshm_segment **segment, const struct invitation *invitation,
		  struct voxshm_error *error)
{
	int ret;

	if (invitation->end)
		return vox_device_attach(segment, invitation, error);
	if (vox_sockets_check(invitation->fds[INVITATION_DOORBELL],
			      invitation->fds[INVITATION_THIRD]))
		return error_set(error, -EPROTO, "the host's answer holds no vox sockets");
	ret = check_sealed(invitation->fds[INVITATION_SEGMENT], error);
	if (ret)
		return ret;
	return voxshm_segment_attach_fd(segment, invitation->fds[INVITATION_SEGMENT], error);
}

int vox_join(struct voxshm_link **link, struct invitation *invitation, struct voxshm_error *error)
{
	struct voxshm_segment *segment;
	int ret;

	ret = attach(&segment, invitation, error);
	if (ret)
		return ret;
	ret = join_segment(link, segment, invitation, error);
	if (ret)
		voxshm_segment_free(segment);
	return ret;
}
