/* SPDX-License-Identifier: MIT */
/* vox/guest.c - becomes a guest of a vox host, ours or vox-shm's. */
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vox/vox.h"

/* Has the host closed its end? */
static bool is_hung_up(int doorbell)
{
	struct pollfd pollfd = { .fd = doorbell };

	return poll(&pollfd, 1, 0) != 0;
}

/*
 * The invitation may be for a link that the host has closed, and the slot
 * reserved for somebody else since. The word is loaded first: while the host's
 * end is open after that, the word is of our life.
 */
static int claim(struct voxshm_segment *segment, uint32_t peer, int doorbell, uint32_t *epoch,
		 struct voxshm_error *error)
{
	uint64_t word;

	if (!vox_peer_exists(segment, peer))
		return error_set(error, -EBADMSG, "the segment has no peer %u", peer);
	word = shared_load_u64(&vox_peer(segment, peer)->state_epoch);
	if (is_hung_up(doorbell) || vox_peer_claim_word(segment, peer, word))
		return error_set(error, -EPIPE, "peer %u is not reserved for this guest any more",
				 peer);
	*epoch = peer_word_epoch(word);
	return 0;
}

static int join_segment(struct voxshm_link **link, struct voxshm_segment *segment,
			const struct invitation *invitation, struct voxshm_error *error)
{
	int doorbell = invitation->fds[INVITATION_DOORBELL];
	int control = invitation->fds[INVITATION_THIRD];
	struct ucred host;
	socklen_t size = sizeof(host);
	struct vox_link *vox;
	struct vox_end *end;
	uint32_t epoch = 0;
	int ret;

	ret = claim(segment, invitation->peer_id, doorbell, &epoch, error);
	if (ret)
		return ret;
	ret = vox_end_new(&end, segment, invitation->peer_id, epoch, false, doorbell, control);
	if (ret)
		goto detach;
	end->end.claimed = true;
	if (getsockopt(doorbell, SOL_SOCKET, SO_PEERCRED, &host, &size) == 0)
		end_set_peer(&end->end, host.pid, host.uid, host.gid);
	ret = vox_link_new(&vox, segment, end);
	if (ret)
		goto free_end;
	atomic_store(&vox->link.state, VOXSHM_LINK_ATTACHED);
	/* The host looks at the peer table when it is rung. */
	vox->link.end->ops->ring(vox->link.end);
	*link = &vox->link;
	return 0;

free_end:
	vox_end_abandon(end);
detach:
	voxshm_segment_detach_peer(segment, invitation->peer_id);
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

int vox_join(struct voxshm_link **link, const struct invitation *invitation,
	     struct voxshm_error *error)
{
	struct voxshm_segment *segment;
	int ret;

	if (vox_sockets_check(invitation->fds[INVITATION_DOORBELL],
			      invitation->fds[INVITATION_THIRD]))
		return error_set(error, -EPROTO, "the host's answer holds no vox sockets");
	ret = check_sealed(invitation->fds[INVITATION_SEGMENT], error);
	if (ret)
		return ret;
	ret = voxshm_segment_attach_fd(&segment, invitation->fds[INVITATION_SEGMENT], error);
	if (ret)
		return ret;
	ret = join_segment(link, segment, invitation, error);
	if (ret) {
		voxshm_segment_free(segment);
		return ret;
	}
	close(invitation->fds[INVITATION_SEGMENT]);
	return 0;
}
