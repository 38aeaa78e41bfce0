/* SPDX-License-Identifier: MIT */
/*
 * userfault.c - a call whose argument lies on a page of userfaultfd stands still
 * in the middle, for as long as its caller likes. Everybody else goes on.
 */
#include <linux/userfaultfd.h>

#include "processes.h"

FIXTURE(userfault) {
	struct pair pair;	/* of the caller's segment */
	struct link ticket;
	int uffd;
	char *page;
};

FIXTURE_SETUP(userfault)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };

	pair_new(&self->pair);
	self->ticket = link_new(self->pair.segment);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (self->uffd >= 0 && ioctl(self->uffd, UFFDIO_API, &api) < 0) {
		close(self->uffd);
		self->uffd = -1;
	}
	self->page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	ASSERT_NE(MAP_FAILED, self->page);
}

FIXTURE_TEARDOWN(userfault)
{
	close(self->uffd);
	munmap(self->page, page_size());
	link_close(&self->ticket);
	pair_free(&self->pair);
}

#define USERFAULT struct __test_metadata *_metadata, FIXTURE_DATA(userfault) *self
#define NEED_USERFAULTFD() do {								\
	if (self->uffd < 0)								\
		SKIP(return, "no userfaultfd with write protection here");		\
} while (0)

struct stuck {
	int fd;
	unsigned long request;
	void *argument;
	int ret;
};

static void *makes_the_call(void *argument)
{
	struct stuck *stuck = argument;

	stuck->ret = call(stuck->fd, stuck->request, stuck->argument);
	return NULL;
}

static bool fault_came(int uffd)
{
	struct uffd_msg message;

	return readable_within(uffd, PATIENCE_MS) &&
	       read(uffd, &message, sizeof(message)) == sizeof(message) &&
	       message.event == UFFD_EVENT_PAGEFAULT;
}

/* Life goes on: on another segment, and on links of the same one. */
static void others_work(USERFAULT)
{
	int64_t start = now_ns();
	struct pair other;
	int i;

	for (i = 0; i < 3; i++) {
		pair_new(&other);
		EXPECT_EQ(0, ring(other.link.guest));
		EXPECT_NE(0, doorbell_wait(other.host_bell, PATIENCE_MS));
		EXPECT_EQ(0, grow(other.segment, page_size(), NULL));
		EXPECT_EQ(0, object_create(other.link.guest, 0, page_size()));
		EXPECT_EQ(0, detach(other.link.guest));
		EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(other.link.host));
		pair_free(&other);
	}
	EXPECT_EQ(0, ring(self->pair.link.guest));
	EXPECT_NE(0, doorbell_wait(self->pair.host_bell, PATIENCE_MS));
	EXPECT_EQ(0, ring(self->pair.link.host));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.host));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->pair.link.guest));
	EXPECT_EQ(0, object_create(self->pair.link.guest, 7, page_size()));
	EXPECT_EQ(0, object_create(self->pair.link.host, 7, page_size()));
	EXPECT_EQ(0, map_error(self->pair.link.guest, VOXSHM_OFFSET(VOXSHM_OBJECT_HOST + 7),
			       page_size(), PROT_READ, MAP_SHARED));
	EXPECT_EQ(0, object_drop(self->pair.link.guest, 7));
	EXPECT_EQ(0, object_drop(self->pair.link.host, 7));
	EXPECT_LT(now_ns() - start, PATIENCE_MS * MS);
}

/* On a segment whose host is not standing still itself. */
static void links_are_made(USERFAULT)
{
	struct link link = { -1, -1, 0, 0 };

	EXPECT_EQ(0, link_at(self->pair.segment, 0, &link));
	EXPECT_EQ(0, claim_with(link.guest, self->pair.guest_bell, NULL));
	link_close(&link);
}

/* The kernel cannot read the argument until we give it the page. */
static void stands_still_reading(USERFAULT, int fd, unsigned long request, const void *argument,
				 int expected)
{
	struct uffdio_register area = { .range = { (uintptr_t)self->page, page_size() },
					.mode = UFFDIO_REGISTER_MODE_MISSING };
	struct stuck stuck = { .fd = fd, .request = request, .argument = self->page };
	static char content[65536] __attribute__((aligned(4096)));
	struct uffdio_copy copy = { .dst = (uintptr_t)self->page, .src = (uintptr_t)content,
				    .len = page_size() };
	pthread_t thread;

	ASSERT_EQ(0, madvise(self->page, page_size(), MADV_DONTNEED));
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_REGISTER, &area));
	ASSERT_EQ(0, pthread_create(&thread, NULL, makes_the_call, &stuck));
	ASSERT_TRUE(fault_came(self->uffd))
		TH_LOG("call %lu", _IOC_NR(request));
	others_work(_metadata, self);
	links_are_made(_metadata, self);
	memset(content, 0, sizeof(content));
	memcpy(content, argument, _IOC_SIZE(request));
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_COPY, &copy));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(expected, stuck.ret)
		TH_LOG("call %lu", _IOC_NR(request));
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_UNREGISTER, &area.range));
}

TEST_F_TIMEOUT(userfault, calls_that_read_their_argument, 110)
{
	struct voxshm_ioc_create create = create_default();
	struct voxshm_ioc_link linked = { .peer_id = 0 };
	struct voxshm_ioc_grow grown = { .size = page_size() };
	struct voxshm_ioc_bind bind = { .eventfd = self->pair.host_bell };
	struct voxshm_ioc_claim claim = { .eventfd = self->pair.guest_bell };
	struct voxshm_ioc_object object = { .size = page_size(), .index = 1 };
	struct voxshm_ioc_drop drop = { .index = 1 };
	struct voxshm_ioc_detach end = { .flags = 0 };
	int device = device_open(O_RDWR);

	NEED_USERFAULTFD();
	ASSERT_GE(device, 0);
#define STANDS_STILL_READING(fd, request, argument) \
	stands_still_reading(_metadata, self, fd, request, argument, 0)
	STANDS_STILL_READING(device, VOXSHM_IOC_CREATE, &create);
	STANDS_STILL_READING(self->pair.segment, VOXSHM_IOC_LINK, &linked);
	STANDS_STILL_READING(self->pair.segment, VOXSHM_IOC_GROW, &grown);
	STANDS_STILL_READING(self->pair.link.host, VOXSHM_IOC_BIND, &bind);
	STANDS_STILL_READING(self->ticket.guest, VOXSHM_IOC_CLAIM, &claim);
	STANDS_STILL_READING(self->ticket.guest, VOXSHM_IOC_OBJECT_CREATE, &object);
	STANDS_STILL_READING(self->ticket.guest, VOXSHM_IOC_OBJECT_DROP, &drop);
	STANDS_STILL_READING(self->ticket.guest, VOXSHM_IOC_DETACH, &end);
	close(device);
}

/* The page can be read, and not written until we say so. */
static void protect(FIXTURE_DATA(userfault) *self, const void *argument, size_t size)
{
	struct uffdio_register area = { .range = { (uintptr_t)self->page, page_size() },
					.mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect on = { .range = area.range,
					  .mode = UFFDIO_WRITEPROTECT_MODE_WP };

	memset(self->page, 0, page_size());
	memcpy(self->page, argument, size);
	REQUIRE_EQ(0, ioctl(self->uffd, UFFDIO_REGISTER, &area));
	REQUIRE_EQ(0, ioctl(self->uffd, UFFDIO_WRITEPROTECT, &on));
}

static void unprotect(FIXTURE_DATA(userfault) *self)
{
	struct uffdio_range range = { (uintptr_t)self->page, page_size() };
	struct uffdio_writeprotect off = { .range = range, .mode = 0 };

	REQUIRE_EQ(0, ioctl(self->uffd, UFFDIO_WRITEPROTECT, &off));
	REQUIRE_EQ(0, ioctl(self->uffd, UFFDIO_UNREGISTER, &range));
}

static void stands_still_answering(USERFAULT, int fd, unsigned long request, const void *argument)
{
	struct stuck stuck = { .fd = fd, .request = request, .argument = self->page };
	pthread_t thread;

	protect(self, argument, _IOC_SIZE(request));
	ASSERT_EQ(0, pthread_create(&thread, NULL, makes_the_call, &stuck));
	ASSERT_TRUE(fault_came(self->uffd))
		TH_LOG("call %lu", _IOC_NR(request));
	others_work(_metadata, self);
	links_are_made(_metadata, self);
	unprotect(self);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, stuck.ret)
		TH_LOG("call %lu", _IOC_NR(request));
}

TEST_F_TIMEOUT(userfault, calls_that_answer, 110)
{
	struct voxshm_ioc_info info = { .abi_version = 0 };
	struct voxshm_ioc_link linked = { .peer_id = 0 };
	struct voxshm_ioc_grow grown = { .size = page_size() };
	struct voxshm_ioc_claim claim = { .eventfd = self->pair.guest_bell };
	struct voxshm_ioc_status status = { .flags = 0 };

	NEED_USERFAULTFD();
#define STANDS_STILL_ANSWERING(fd, request, argument) \
	stands_still_answering(_metadata, self, fd, request, argument)
	STANDS_STILL_ANSWERING(self->pair.segment, VOXSHM_IOC_INFO, &info);
	STANDS_STILL_ANSWERING(self->pair.segment, VOXSHM_IOC_LINK, &linked);
	STANDS_STILL_ANSWERING(self->pair.segment, VOXSHM_IOC_GROW, &grown);
	STANDS_STILL_ANSWERING(self->ticket.guest, VOXSHM_IOC_CLAIM, &claim);
	STANDS_STILL_ANSWERING(self->ticket.guest, VOXSHM_IOC_STATUS, &status);
	STANDS_STILL_ANSWERING(self->ticket.host, VOXSHM_IOC_STATUS, &status);
}

/* A claimer that stands still is no guest yet; it is killed, and another one claims. */
static int claims_and_stands_still(int socket, void *argument)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct voxshm_ioc_claim claim = { .eventfd = doorbell_new() };
	FIXTURE_DATA(userfault) *self = argument;

	/* A userfaultfd is of the process that opened it. */
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	REQUIRE_EQ(0, ioctl(self->uffd, UFFDIO_API, &api));
	self->page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	protect(self, &claim, sizeof(claim));
	fd_send(socket, self->uffd);
	call(self->ticket.guest, VOXSHM_IOC_CLAIM, self->page);
	return 91;
}

TEST_F_TIMEOUT(userfault, a_claimer_that_stands_still_is_no_guest, 60)
{
	struct child child;
	int uffd;

	NEED_USERFAULTFD();
	child = child_start(claims_and_stands_still, self);
	uffd = fd_receive(child.socket);
	ASSERT_TRUE(fault_came(uffd));
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(self->ticket.host));
	EXPECT_EQ(-EBUSY, claim_with(self->ticket.guest, self->pair.guest_bell, NULL));
	EXPECT_EQ(0, ring(self->ticket.host));
	others_work(_metadata, self);
	EXPECT_EQ(SIGKILL, WTERMSIG(child_kill(&child)));
	close(uffd);
	EXPECT_EQ(VOXSHM_STATE_WAITING, state_beyond(self->ticket.host));
	EXPECT_EQ(0, claim_with(self->ticket.guest, self->pair.guest_bell, NULL));
	EXPECT_NE(0, doorbell_wait(self->pair.guest_bell, PATIENCE_MS));
	EXPECT_EQ(VOXSHM_STATE_ATTACHED, state_beyond(self->ticket.host));
}

TEST_F_TIMEOUT(userfault, the_host_ends_while_a_claimer_stands_still, 60)
{
	struct stuck stuck = { .fd = self->ticket.guest, .request = VOXSHM_IOC_CLAIM,
			       .argument = self->page };
	struct voxshm_ioc_claim claim = { .eventfd = self->pair.guest_bell };
	struct link again = { -1, -1, 0, 0 };
	pthread_t thread;

	NEED_USERFAULTFD();
	protect(self, &claim, sizeof(claim));
	ASSERT_EQ(0, pthread_create(&thread, NULL, makes_the_call, &stuck));
	ASSERT_TRUE(fault_came(self->uffd));
	EXPECT_EQ(0, detach(self->ticket.host));
	EXPECT_EQ(0, link_at(self->pair.segment, self->ticket.peer_id, &again));
	unprotect(self);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	/* Too late, or just in time to see the end: but no life after it. */
	EXPECT_TRUE(stuck.ret == 0 || stuck.ret == -EPIPE);
	EXPECT_EQ(VOXSHM_STATE_ENDED, state_beyond(self->ticket.guest));
	EXPECT_TRUE(hung_up(self->ticket.guest));
	EXPECT_GT(0, claim_with(self->ticket.guest, self->pair.guest_bell, NULL));
	link_close(&again);
}

VOXSHM_TEST_MAIN
