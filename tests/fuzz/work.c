// SPDX-License-Identifier: MIT
/* work.c - see work.h. */
#include <string.h>

#include "work.h"

#define LOAN_BYTE 0x5a

/* What must hold ------------------------------------------------------------------------ */

bool work_is_within(const void *data, size_t size, const void *area, uint64_t area_size)
{
	uintptr_t begin = (uintptr_t)data, base = (uintptr_t)area;

	return begin >= base && size <= area_size && begin - base <= area_size - size;
}

static bool overlap(const void *left, size_t left_size, const void *right, size_t right_size)
{
	uintptr_t a = (uintptr_t)left, b = (uintptr_t)right;

	return left_size && right_size && a < b + right_size && b < a + left_size;
}

static void check_view(const struct work *work, const struct voxshm_view *view)
{
	const volatile uint8_t *bytes = view->data;
	unsigned int i;

	FUZZ_CHECK(view->size <= work->link->max_payload);
	FUZZ_CHECK(work->is_inside(work, view));
	/* A payload that is borrowed is never lent again. */
	for (i = 0; i < work->num_views; i++)
		FUZZ_CHECK(!overlap(view->data, view->size, work->views[i].data,
				    work->views[i].size));
	if (view->size) {
		(void)bytes[0];
		(void)bytes[view->size - 1];
	}
}

static void check_loan(const struct work *work, const struct work_loan *loan)
{
	unsigned int i;

	FUZZ_CHECK(loan->loan.size <= work->link->max_payload);
	for (i = 0; i < WORK_MAX_LOANS; i++)
		FUZZ_CHECK(&work->loans[i] == loan || !work->loans[i].open ||
			   !overlap(loan->loan.data, loan->loan.size, work->loans[i].loan.data,
				    work->loans[i].loan.size));
	memset(loan->loan.data, LOAN_BYTE, loan->loan.size);
}

void work_check(struct work *work, int ret)
{
	bool failed = link_state(work->link) == VOXSHM_LINK_FAILED;

	FUZZ_CHECK(failed == (atomic_load(&work->link->failure) != NULL));
	FUZZ_CHECK(failed || (ret != -EBADMSG && !work->failed));
	FUZZ_CHECK(fuzz_meddled || !failed);
	work->failed = failed;
}

static bool is_known_error(int ret)
{
	return ret == 0 || ret == -EAGAIN || ret == -EBADMSG || ret == -EMSGSIZE ||
	       ret == -EPIPE || ret == -ENOBUFS || ret == -ENOMEM;
}

/* Sending ----------------------------------------------------------------------------------- */

static uint8_t pattern(uint64_t number)
{
	return (uint8_t)(number * 7 + 1);
}

static bool is_too_slow(struct work *work, size_t size)
{
	if (size <= work->largest_slot)
		return false;
	if (!work->mappings_left)
		return true;
	work->mappings_left--;
	return false;
}

static void do_send(struct work *work, struct fuzz_input *input)
{
	static uint8_t payload[WORK_MAX_PAYLOAD + 2];
	size_t size = fuzz_take(input, 2);
	int ret;

	size = size >= 0xff00 ? WORK_MAX_PAYLOAD - 2 + size % 4 : size % 1200;
	if (is_too_slow(work, size))
		return;
	memset(payload, pattern(work->sent), size);
	ret = voxshm_try_send(work->link, payload, size);
	FUZZ_CHECK(is_known_error(ret));
	work->sent += ret == 0;
	work_check(work, ret);
}

static void do_send_batch(struct work *work, struct fuzz_input *input)
{
	uint8_t payloads[4][40];
	struct iovec messages[4];
	unsigned int i;
	int ret;

	for (i = 0; i < 4; i++) {
		memset(payloads[i], pattern(work->sent + i), sizeof(payloads[i]));
		messages[i] = (struct iovec){ payloads[i], fuzz_below(input, 40) };
	}
	ret = voxshm_send_batch(work->link, messages, 4, 0);
	FUZZ_CHECK(ret > 0 ? ret <= 4 : is_known_error(ret));
	work->sent += ret > 0 ? (uint64_t)ret : 0;
	work_check(work, ret);
}

static void do_loan(struct work *work, struct fuzz_input *input)
{
	struct work_loan *loan = &work->loans[fuzz_below(input, WORK_MAX_LOANS)];
	uint64_t what = fuzz_take(input, 2);
	int ret = 0;

	if (!loan->open) {
		if (is_too_slow(work, what % 2500))
			return;
		ret = voxshm_loan(work->link, what % 2500, &loan->loan, 0);
		FUZZ_CHECK(is_known_error(ret));
		loan->open = ret == 0;
		if (ret == 0)
			check_loan(work, loan);
	} else if (what % 4) {
		ret = voxshm_commit(work->link, &loan->loan, what % (loan->loan.size + 1), 0);
		FUZZ_CHECK(is_known_error(ret) || (ret == -EINVAL && work->release_may_fail));
		loan->open = ret != 0;
		work->sent += ret == 0;
	} else {
		voxshm_abort(work->link, &loan->loan);
		loan->open = false;
	}
	work_check(work, ret);
}

/* Receiving ------------------------------------------------------------------------------------ */

static bool is_expected(const struct work *work, const uint8_t *bytes, size_t size)
{
	size_t i;

	for (i = 0; !fuzz_meddled && i < size; i++)
		if (bytes[i] != pattern(work->received) && bytes[i] != LOAN_BYTE)
			return false;
	return true;
}

/* The view behind the others is a new one. */
static void received(struct work *work)
{
	const struct voxshm_view *view = &work->views[work->num_views];

	check_view(work, view);
	FUZZ_CHECK(is_expected(work, view->data, view->size));
	work->received++;
	work->num_views++;
}

static void do_recv(struct work *work)
{
	uint64_t loads = fuzz_loads;
	int ret;

	if (work->num_views == WORK_MAX_VIEWS)
		return;
	ret = voxshm_try_recv(work->link, &work->views[work->num_views]);
	FUZZ_CHECK(is_known_error(ret) && fuzz_loads - loads < work->max_loads);
	if (ret == 0)
		received(work);
	else if (!fuzz_meddled && work->peer)
		FUZZ_CHECK(work->received == work->peer->sent);
	work_check(work, ret);
}

static void do_recv_batch(struct work *work)
{
	unsigned int room = WORK_MAX_VIEWS - work->num_views, i;
	struct voxshm_view views[WORK_MAX_VIEWS];
	int ret;

	if (!room)
		return;
	ret = voxshm_recv_batch(work->link, views, room, 0);
	FUZZ_CHECK(ret > 0 ? ret <= (int)room : is_known_error(ret));
	for (i = 0; (int)i < ret; i++) {
		work->views[work->num_views] = views[i];
		received(work);
	}
	work_check(work, ret);
}

static void do_recv_copy(struct work *work, struct fuzz_input *input)
{
	size_t size = fuzz_take(input, 2);
	uint8_t *bytes = malloc(size);
	ssize_t ret = voxshm_recv_copy(work->link, bytes, size, 0);

	FUZZ_CHECK(ret >= 0 ? (size_t)ret <= size : is_known_error((int)ret));
	if (ret >= 0) {
		FUZZ_CHECK(is_expected(work, bytes, (size_t)ret));
		work->received++;
	}
	free(bytes);
	work_check(work, ret < 0 ? (int)ret : 0);
}

static void release(struct work *work, struct voxshm_view *view)
{
	int ret = voxshm_release(work->link, view);

	if (work->release_may_fail && fuzz_meddled && ret) {
		FUZZ_CHECK(ret == -EBADMSG);
		work_check(work, ret);
		return;
	}
	FUZZ_CHECK(ret == 0);
	FUZZ_CHECK(voxshm_release(work->link, view) == -EINVAL);
	work_check(work, 0);
}

static void do_release(struct work *work, struct fuzz_input *input)
{
	struct voxshm_view view;
	uint32_t which;

	if (!work->num_views)
		return;
	which = fuzz_below(input, work->num_views);
	view = work->views[which];
	work->views[which] = work->views[--work->num_views];
	release(work, &view);
}

/* Waiting ---------------------------------------------------------------------------------------- */

static void do_wait(struct work *work, struct fuzz_input *input)
{
	uint32_t interest = fuzz_below(input, 4);
	struct voxshm_status status;
	int ret;

	switch (fuzz_below(input, 3)) {
	case 0:
		/* As a wait does, without sleeping. */
		work->link->format->arm(work->link, interest);
		link_ready(work->link, interest);
		work->link->format->disarm(work->link, interest);
		break;
	case 1:
		ret = voxshm_link_arm(work->link, interest);
		FUZZ_CHECK(ret >= 0 && ret <= 3);
		break;
	default:
		voxshm_link_status(work->link, &status);
		FUZZ_CHECK((status.state == VOXSHM_LINK_FAILED) == (*status.reason != '\0'));
		break;
	}
	work_check(work, 0);
}

void work_do(struct work *work, struct fuzz_input *input, uint32_t kind)
{
	switch (kind) {
	case WORK_SEND ... WORK_SEND_BATCH - 1:
		do_send(work, input);
		break;
	case WORK_SEND_BATCH:
		do_send_batch(work, input);
		break;
	case WORK_RECV ... WORK_RECV_BATCH - 1:
		do_recv(work);
		break;
	case WORK_RECV_BATCH:
		do_recv_batch(work);
		break;
	case WORK_RECV_COPY:
		do_recv_copy(work, input);
		break;
	case WORK_RELEASE ... WORK_LOAN - 1:
		do_release(work, input);
		break;
	case WORK_LOAN ... WORK_WAIT - 1:
		do_loan(work, input);
		break;
	case WORK_WAIT:
		do_wait(work, input);
		break;
	}
}

void work_finish(struct work *work)
{
	unsigned int i;

	/* What is in hand stays good to the end, and can be given back. */
	while (work->num_views)
		release(work, &work->views[--work->num_views]);
	for (i = 0; i < WORK_MAX_LOANS; i++)
		if (work->loans[i].open)
			voxshm_abort(work->link, &work->loans[i].loan);
}
