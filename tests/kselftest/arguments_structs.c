/* SPDX-License-Identifier: MIT */
/*
 * arguments_structs.c - calls on the wrong kind of descriptor, structs of other
 * lengths, bad pointers: the whole table of calls each time.
 */
#include "arguments.h"

enum kind { DEVICE_FD = 1, SEGMENT = 2, HOST = 4, GUEST = 8 };

static const struct entry {
	unsigned long request;
	int kinds;	/* whose call it is */
	bool answers;	/* has fields to write, and is refused when it cannot */
	bool reads;
} calls[] = {
	{ VOXSHM_IOC_INFO, DEVICE_FD | SEGMENT, true, false },
	{ VOXSHM_IOC_CREATE, DEVICE_FD | SEGMENT, false, true },
	{ VOXSHM_IOC_LINK, SEGMENT, true, true },
	{ VOXSHM_IOC_GROW, SEGMENT, true, true },
	{ VOXSHM_IOC_BIND, HOST, false, true },
	{ VOXSHM_IOC_CLAIM, GUEST, true, true },
	{ VOXSHM_IOC_STATUS, HOST | GUEST, true, false },
	{ VOXSHM_IOC_OBJECT_CREATE, HOST | GUEST, false, true },
	{ VOXSHM_IOC_OBJECT_DROP, HOST | GUEST, false, true },
	{ VOXSHM_IOC_DETACH, HOST | GUEST, false, true },
};

static int fd_of(FIXTURE_DATA(arguments) *self, enum kind kind)
{
	return kind == DEVICE_FD ? self->device : kind == SEGMENT ? self->pair.segment :
	       kind == HOST ? self->pair.link.host : self->pair.link.guest;
}

#define EACH_CALL(entry) \
	(const struct entry *entry = calls; entry < calls + ARRAY_SIZE(calls); entry++)
#define EACH_KIND(kind) (enum kind kind = DEVICE_FD; kind <= GUEST; kind = (enum kind)(kind << 1))

TEST_F_TIMEOUT(arguments, calls_of_another_kind_of_descriptor, 120)
{
	char argument[512];

	for EACH_CALL(entry) {
		for EACH_KIND(kind) {
			if (entry->kinds & kind)
				continue;
			memset(argument, 0, sizeof(argument));
			refused(_metadata, self, "wrong kind", ENOTTY, fd_of(self, kind),
				entry->request, argument, _IOC_SIZE(entry->request));
		}
	}
}

/* That the table above is right: each call is known where it belongs. */
TEST_F_TIMEOUT(arguments, calls_of_this_kind_of_descriptor, 120)
{
	char argument[512];
	int ret;

	for EACH_CALL(entry) {
		for EACH_KIND(kind) {
			if (!(entry->kinds & kind))
				continue;
			memset(argument, 0xff, sizeof(argument));
			ret = call(fd_of(self, kind), entry->request, argument);
			EXPECT_TRUE(entry->reads ? ret < 0 && ret != -ENOTTY : ret == 0)
				TH_LOG("call %lu: %d", _IOC_NR(entry->request), ret);
		}
	}
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
}

TEST_F_TIMEOUT(arguments, unknown_calls, 120)
{
	char argument[512] = { 0 };
	unsigned int number;

	for EACH_KIND(kind) {
		for (number = ARRAY_SIZE(calls); number < 256; number++)
			EXPECT_EQ(-ENOTTY, call(fd_of(self, kind),
						_IOWR(VOXSHM_IOC_MAGIC, number, char[64]),
						argument));
		EXPECT_EQ(-ENOTTY, call(fd_of(self, kind),
					_IOWR(VOXSHM_IOC_MAGIC + 1, 6, struct voxshm_ioc_status),
					argument));
		EXPECT_EQ(-ENOTTY, call(fd_of(self, kind), TCGETS, argument));
	}
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
}

static unsigned long with_size(unsigned long request, size_t size)
{
	return _IOC(_IOC_DIR(request), _IOC_TYPE(request), _IOC_NR(request), size);
}

TEST_F_TIMEOUT(arguments, structs_shorter_than_the_first_version, 120)
{
	char argument[512];

	for EACH_CALL(entry) {
		size_t sizes[] = { 0, 1, 4, _IOC_SIZE(entry->request) / 2,
				   _IOC_SIZE(entry->request) - 4,
				   _IOC_SIZE(entry->request) - 1 };
		size_t i;

		for EACH_KIND(kind) {
			if (!(entry->kinds & kind))
				continue;
			for (i = 0; i < ARRAY_SIZE(sizes); i++) {
				if (sizes[i] >= _IOC_SIZE(entry->request))
					continue;
				memset(argument, 0, sizeof(argument));
				refused(_metadata, self, "short", EINVAL, fd_of(self, kind),
					with_size(entry->request, sizes[i]), argument,
					sizeof(argument));
			}
		}
	}
}

TEST_F_TIMEOUT(arguments, longer_structs_with_something_in_them, 120)
{
	static char argument[1 << _IOC_SIZEBITS];
	static const size_t longest = (1 << _IOC_SIZEBITS) - 1;

	for EACH_CALL(entry) {
		size_t size = _IOC_SIZE(entry->request), places[] = { size, size + 7, longest - 1 };
		size_t i;
		enum kind kind;

		if (!entry->reads)
			continue;
		for (kind = DEVICE_FD; !(entry->kinds & kind); kind = (enum kind)(kind << 1))
			;
		for (i = 0; i < ARRAY_SIZE(places); i++) {
			memset(argument, 0, sizeof(argument));
			argument[places[i]] = 1;
			refused(_metadata, self, "long", E2BIG, fd_of(self, kind),
				with_size(entry->request, places[i] + 1), argument, 512);
		}
	}
}

TEST_F_TIMEOUT(arguments, longer_structs_of_zeros, 120)
{
	struct { struct voxshm_ioc_create call; char tail[64]; } create = {
		.call = create_default() };
	struct { struct voxshm_ioc_link call; char tail[64]; } link = { .call = { 0 } };
	struct { struct voxshm_ioc_grow call; char tail[64]; } grown = {
		.call = { .size = page_size() } };
	struct { struct voxshm_ioc_bind call; char tail[64]; } bind = {
		.call = { .eventfd = self->pair.host_bell } };
	struct { struct voxshm_ioc_claim call; char tail[64]; } claim = {
		.call = { .eventfd = self->pair.guest_bell } };
	struct { struct voxshm_ioc_object call; char tail[64]; } object = {
		.call = { .size = page_size(), .index = 3 } };
	struct { struct voxshm_ioc_drop call; char tail[64]; } drop = { .call = { .index = 3 } };
	struct { struct voxshm_ioc_detach call; char tail[64]; } end = { .call = { 0 } };

#define LONG_CALL(fd, request, argument) \
	EXPECT_EQ(0, call(fd, with_size(request, sizeof(argument)), &(argument)))
	LONG_CALL(self->device, VOXSHM_IOC_CREATE, create);
	LONG_CALL(self->device, VOXSHM_IOC_LINK, link);
	LONG_CALL(self->device, VOXSHM_IOC_GROW, grown);
	LONG_CALL(link.call.host_fd, VOXSHM_IOC_BIND, bind);
	LONG_CALL(link.call.guest_fd, VOXSHM_IOC_CLAIM, claim);
	LONG_CALL(link.call.host_fd, VOXSHM_IOC_OBJECT_CREATE, object);
	LONG_CALL(link.call.host_fd, VOXSHM_IOC_OBJECT_DROP, drop);
	LONG_CALL(link.call.guest_fd, VOXSHM_IOC_DETACH, end);
	EXPECT_EQ(1, link.call.peer_id);
	EXPECT_EQ(1, claim.call.pools);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(link.call.host_fd));
	close(link.call.host_fd);
	close(link.call.guest_fd);
	doorbell_drain(self->pair.host_bell);
	doorbell_drain(self->pair.guest_bell);
}

TEST_F_TIMEOUT(arguments, longer_answers_are_zeroed, 120)
{
	struct { struct voxshm_ioc_info call; unsigned char tail[64]; } info;
	struct { struct voxshm_ioc_status call; unsigned char tail[64]; } status;
	size_t i;

	memset(&info, POISON, sizeof(info));
	memset(&status, POISON, sizeof(status));
	LONG_CALL(self->device, VOXSHM_IOC_INFO, info);
	LONG_CALL(self->pair.link.host, VOXSHM_IOC_STATUS, status);
	for (i = 0; i < sizeof(info.tail); i++)
		EXPECT_EQ(0, info.tail[i] | status.tail[i]);
	EXPECT_EQ(VOXSHM_ABI_VERSION, info.call.abi_version);
	EXPECT_EQ(0, info.call.reserved);
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, status.call.state);
	EXPECT_EQ(0, status.call.flags);
}

TEST_F_TIMEOUT(arguments, bad_pointers, 120)
{
	const size_t page = page_size();
	char *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	int fd;

	ASSERT_NE(MAP_FAILED, area);
	ASSERT_EQ(0, mprotect(area + page, page, PROT_NONE));
	for EACH_CALL(entry) {
		void *bad[] = { NULL, (void *)8, area + page, (void *)-8l, (void *)-4096l,
				area + page - _IOC_SIZE(entry->request) + 1, area + page - 1 };
		size_t i;

		for EACH_KIND(kind) {
			fd = fd_of(self, kind);
			for (i = 0; entry->kinds & kind && i < ARRAY_SIZE(bad); i++) {
				memset(area, 0, page);
				EXPECT_EQ(-EFAULT, call(fd, entry->request, bad[i]))
					TH_LOG("call %lu at %p", _IOC_NR(entry->request), bad[i]);
				EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
			}
		}
	}
	munmap(area, 2 * page);
}

/* Its arguments can be read, but no answer can be given. */
TEST_F_TIMEOUT(arguments, answers_that_cannot_be_given, 120)
{
	const size_t page = page_size();
	struct link link = link_new(self->pair.segment);
	struct voxshm_ioc_claim *claim = mmap(NULL, page, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct voxshm_ioc_link *again = (void *)claim;
	struct voxshm_ioc_grow *more = (void *)claim;
	uint32_t pool = POISON;

	ASSERT_NE(MAP_FAILED, (void *)claim);
	snapshot_take(&self->pair, &self->before);
	claim->eventfd = self->pair.guest_bell;
	ASSERT_EQ(0, mprotect(claim, page, PROT_READ));
	EXPECT_EQ(-EFAULT, call(link.guest, VOXSHM_IOC_CLAIM, claim));
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(link.host));

	EXPECT_EQ(0, mprotect(claim, page, PROT_READ | PROT_WRITE));
	memset(claim, 0, page);
	again->peer_id = 5;
	EXPECT_EQ(0, mprotect(claim, page, PROT_READ));
	EXPECT_EQ(-EFAULT, call(self->pair.segment, VOXSHM_IOC_LINK, again));

	EXPECT_EQ(0, mprotect(claim, page, PROT_READ | PROT_WRITE));
	memset(claim, 0, page);
	more->size = page;
	EXPECT_EQ(0, mprotect(claim, page, PROT_READ));
	EXPECT_EQ(-EFAULT, call(self->pair.segment, VOXSHM_IOC_GROW, more));
	EXPECT_EQ(-EFAULT, call(self->pair.segment, VOXSHM_IOC_INFO, more));
	EXPECT_EQ(-EFAULT, call(self->pair.link.host, VOXSHM_IOC_STATUS, more));
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before));
	EXPECT_EQ(0, doorbell_take(self->pair.guest_bell));

	/* All of it works afterwards, as if nothing had been tried. */
	EXPECT_EQ(0, claim_with(link.guest, self->pair.guest_bell, NULL));
	link_close(&link);
	EXPECT_EQ(0, link_at(self->pair.segment, 5, &link));
	EXPECT_EQ(0, grow(self->pair.segment, page, &pool));
	EXPECT_EQ(0, pool);
	link_close(&link);
	munmap(claim, page);
	doorbell_drain(self->pair.host_bell);
	doorbell_drain(self->pair.guest_bell);
}

VOXSHM_TEST_MAIN
