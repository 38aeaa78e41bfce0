/* SPDX-License-Identifier: MIT */
/*
 * arguments.h - a link, and calls on it that are refused: after each refusal the
 * argument, the descriptors and all that STATUS, INFO and fdinfo tell are as
 * before, and nobody's doorbell was signalled.
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "voxshm_test.h"

#define POISON	0x5a

FIXTURE(arguments) {
	struct pair pair;
	int device;
	struct snapshot before;
};

FIXTURE_SETUP(arguments)
{
	pair_new(&self->pair);
	self->device = device_open(O_RDWR);
	ASSERT_GE(self->device, 0);
	ASSERT_EQ(0, object_create(self->pair.link.host, 0, page_size()));
	ASSERT_EQ(0, object_create(self->pair.link.guest, 0, page_size()));
	doorbell_drain(self->pair.host_bell);
	doorbell_drain(self->pair.guest_bell);
	snapshot_take(&self->pair, &self->before);
}

FIXTURE_TEARDOWN(arguments)
{
	EXPECT_EQ(0, doorbell_take(self->pair.host_bell));
	EXPECT_EQ(0, doorbell_take(self->pair.guest_bell));
	pair_free(&self->pair);
	close(self->device);
}

#define ARGUMENTS struct __test_metadata *_metadata, FIXTURE_DATA(arguments) *self

/* Expects the call to fail with this error and to change nothing. */
static inline void refused(ARGUMENTS, const char *what, int error, int fd, unsigned long request,
		    void *argument, size_t size)
{
	char before[512];
	int ret;

	memcpy(before, argument, size);
	ret = call(fd, request, argument);
	EXPECT_EQ(-error, ret)
		TH_LOG("call %lu, %s", _IOC_NR(request), what);
	EXPECT_EQ(0, memcmp(before, argument, size))
		TH_LOG("call %lu, %s: the argument was changed", _IOC_NR(request), what);
	EXPECT_TRUE(snapshot_same(&self->pair, &self->before))
		TH_LOG("call %lu, %s: left something behind", _IOC_NR(request), what);
}

#endif /* ARGUMENTS_H */
