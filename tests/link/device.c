// SPDX-License-Identifier: MIT
/* device.c - what the library makes of /dev/voxshm alone: choice, claims, places, limits. */
#include "backend_device.h"
#include "link.h"
#include "processes.h"

FIXTURE(device)
{
	struct voxshm_host *host;
	struct inbox inbox;
	int fds_before;
};
FIXTURE_VARIANT(device) { struct variant_choice choice; };
VARIANT_ADD(device, native_device, NATIVE, DEVICE, false)
VARIANT_ADD(device, vox_device, VOX, DEVICE, false)

FIXTURE_SETUP(device)
{
	self->fds_before = count_fds();
	host_open(_metadata, &self->host, &CONFIG(variant, SMALL_CLASSES, .max_guests = 1));
	self->inbox.host = self->host;
}

FIXTURE_TEARDOWN(device)
{
	voxshm_host_free(self->host);
	EXPECT_EQ(self->fds_before, count_fds());
	EXPECT_FALSE(memory_leaks());
}

/* Choosing ------------------------------------------------------------------------ */

static const char *backend_of(enum voxshm_backend backend, enum voxshm_format format, int *ret)
{
	struct voxshm_config config = { .struct_size = sizeof(config), .backend = backend,
					.format = format };
	struct voxshm_error error = { "" };
	const char *name = "none";
	struct voxshm_host *host;

	*ret = voxshm_host_new(&host, &config, &error);
	REQUIRE((*ret < 0) == (*error.text != 0));
	if (*ret < 0)
		return name;
	name = voxshm_backend_name(host);
	voxshm_host_free(host);
	return name;
}

TEST_F(device, is_taken_where_it_is_there)
{
	enum voxshm_format format = variant->choice.format;
	int ret;

	unsetenv("VOXSHM_BACKEND");
	EXPECT_STREQ("device", backend_of(VOXSHM_BACKEND_DEFAULT, format, &ret));
	EXPECT_STREQ("device", backend_of(VOXSHM_BACKEND_ANY, format, &ret));
	EXPECT_STREQ("file", backend_of(VOXSHM_BACKEND_FILE, format, &ret));
	setenv("VOXSHM_BACKEND", "file", 1);
	EXPECT_STREQ("file", backend_of(VOXSHM_BACKEND_DEFAULT, format, &ret));
	setenv("VOXSHM_BACKEND", "any", 1);
	EXPECT_STREQ("device", backend_of(VOXSHM_BACKEND_DEFAULT, format, &ret));
}

TEST_F(device, without_permission_it_is_an_error_unless_anything_will_do)
{
	enum voxshm_format format = variant->choice.format;
	uid_t user = geteuid();
	int ret;

	unsetenv("VOXSHM_BACKEND");
	if (user || seteuid(65534) < 0)
		SKIP(return, "not root");
	if (access("/dev/voxshm", F_OK) == 0 && eaccess("/dev/voxshm", R_OK | W_OK) == 0) {
		REQUIRE_EQ(0, seteuid(user));
		SKIP(return, "everybody may open /dev/voxshm here");
	}
	EXPECT_STREQ("none", backend_of(VOXSHM_BACKEND_DEFAULT, format, &ret));
	EXPECT_EQ(-EACCES, ret);
	EXPECT_STREQ("none", backend_of(VOXSHM_BACKEND_DEVICE, format, &ret));
	EXPECT_EQ(-EACCES, ret);
	EXPECT_STREQ("file", backend_of(VOXSHM_BACKEND_ANY, format, &ret));
	setenv("VOXSHM_BACKEND", "any", 1);
	EXPECT_STREQ("file", backend_of(VOXSHM_BACKEND_DEFAULT, format, &ret));
	REQUIRE_EQ(0, seteuid(user));
}

/* The host needs the node; its guests do not, and may be anybody. */
static void guest_of_no_rights(struct voxshm_link *link, void *argument)
{
	REQUIRE_EQ(0, recv_pattern(link, 300000, 1, PATIENCE));
	REQUIRE_EQ(0, send_pattern(link, 300000, 2, PATIENCE));
	voxshm_link_close(link);
}

TEST_F(device, guests_need_no_access_to_it)
{
	struct voxshm_link *link;
	int ticket, status;
	pid_t pid;

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	pid = child_fork();
	if (pid == 0) {
		struct voxshm_link *end;

		REQUIRE_EQ(0, setresgid(65534, 65534, 65534));
		REQUIRE_EQ(0, setresuid(65534, 65534, 65534));
		REQUIRE_EQ(0, voxshm_guest_claim(&end, ticket, NULL));
		guest_of_no_rights(end, NULL);
		_exit(0);
	}
	close(ticket);
	ASSERT_EQ(0, send_pattern(link, 300000, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(link, 300000, 2, PATIENCE));
	status = child_wait(pid);
	EXPECT_EQ(0, status);
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_LEFT, link));
}

/* Claiming ------------------------------------------------------------------------ */

/* The invitation in a ticket, and a second one to the same place. */
static void open_ticket(struct __test_metadata *_metadata, int ticket,
			struct invitation *first, struct invitation *second)
{
	ASSERT_EQ(0, bootstrap_receive(ticket, first, clock_now(), NULL));
	ASSERT_TRUE(invitation_is_device(first));
	close(ticket);
	*second = *first;
	second->fds[INVITATION_END] = fcntl(first->fds[INVITATION_END], F_DUPFD_CLOEXEC, 0);
	ASSERT_LE(0, second->fds[INVITATION_END]);
}

TEST_F(device, place_is_claimed_once)
{
	struct invitation first, second;
	struct voxshm_error error = { "" };
	struct voxshm_event event;
	struct voxshm_link *link;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	open_ticket(_metadata, ticket, &first, &second);
	EXPECT_EQ(0, device_claim(&first, &error))
		TH_LOG("%s", error.text);
	EXPECT_EQ(-EBUSY, device_claim(&second, &error));
	EXPECT_STRNE("", error.text);
	invitation_deinit(&second);
	/* That one failed is nothing to the other. */
	if (variant->choice.format == VOXSHM_FORMAT_NATIVE) {
		EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, link));
		EXPECT_EQ(0, voxshm_host_wait(self->host, &event, 1, 20 * MS));
		invitation_deinit(&first);
	} else {
		/* A vox guest has come when it has its place in the peer table, or has gone. */
		EXPECT_EQ(0, voxshm_host_wait(self->host, &event, 1, 20 * MS));
		invitation_deinit(&first);
		EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, link));
	}
	EXPECT_EQ(link, inbox_await(&self->inbox, VOXSHM_EVENT_LEFT, link));
}

TEST_F(device, place_that_the_host_has_closed_cannot_be_claimed)
{
	struct invitation first, second;
	struct voxshm_error error = { "" };
	struct voxshm_link *link;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	open_ticket(_metadata, ticket, &first, &second);
	voxshm_link_close(link);
	EXPECT_EQ(-EPIPE, device_claim(&first, &error));
	EXPECT_STRNE("", error.text);
	invitation_deinit(&first);
	invitation_deinit(&second);
}

TEST_F(device, claim_of_another_peers_place_is_refused)
{
	struct invitation first, second;
	struct voxshm_link *link;
	int ticket;

	ASSERT_EQ(0, voxshm_host_ticket(self->host, &ticket, &link, NULL));
	open_ticket(_metadata, ticket, &first, &second);
	first.peer_id = 2;
	EXPECT_EQ(-EPROTO, device_claim(&first, NULL));
	invitation_deinit(&first);
	invitation_deinit(&second);
}

static bool write_file(const char *directory, const char *name, const char *text)
{
	char path[192];
	int fd;
	bool done;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return done;
}

/* In a memory cgroup that the window does not fit into. */
TEST_F(device, guest_without_room_for_its_window_gets_enomem_and_lives)
{
	static const struct voxshm_class large[] = { { 65536, 256 } };
	struct voxshm_host *host;
	struct voxshm_link *link, *next_host, *next_guest;
	struct inbox inbox = { 0 };
	char cgroup[96];
	int ticket, status;
	pid_t pid;

	if (variant->choice.format == VOXSHM_FORMAT_VOX)
		SKIP(return, "the memory of a vox segment is its host's");
	snprintf(cgroup, sizeof(cgroup), "/sys/fs/cgroup/voxshm-test-%d", (int)getpid());
	if (mkdir(cgroup, 0755) < 0 || !write_file(cgroup, "memory.max", "8388608")) {
		rmdir(cgroup);
		SKIP(return, "no memory cgroups to be had here");
	}
	host_open(_metadata, &host, &CONFIG(variant, .max_guests = 2, .num_classes = 1,
					    .classes = large));
	inbox.host = host;
	ASSERT_EQ(0, voxshm_host_ticket(host, &ticket, &link, NULL));
	pid = child_fork();
	if (pid == 0) {
		struct voxshm_error error = { "" };
		struct voxshm_link *end = NULL;

		REQUIRE(write_file(cgroup, "cgroup.procs", "0"));
		REQUIRE_EQ(-ENOMEM, voxshm_guest_claim(&end, ticket, &error));
		REQUIRE(*error.text && !end);
		REQUIRE(write_file("/sys/fs/cgroup", "cgroup.procs", "0"));
		_exit(0);
	}
	close(ticket);
	status = child_wait(pid);
	EXPECT_EQ(0, status);
	/* It never came; and others may. */
	EXPECT_EQ(link, inbox_await(&inbox, VOXSHM_EVENT_DIED, link));
	EXPECT_EQ(0, inbox.seen[VOXSHM_EVENT_ATTACHED]);
	link_make(_metadata, host, &next_host, &next_guest);
	EXPECT_EQ(0, send_pattern(next_guest, 60000, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(next_host, 60000, 1, PATIENCE));
	voxshm_link_close(next_guest);
	voxshm_host_free(host);
	EXPECT_EQ(0, rmdir(cgroup));
}

/* Places -------------------------------------------------------------------------- */

/* The kernel knows nothing of protocols: the library has to give the place back. */
TEST_F(device, place_of_a_failed_link_is_free_while_its_guest_lives)
{
	struct voxshm_link *host_end, *guest_end, *next_host, *next_guest;
	struct voxshm_status status;

	link_make(_metadata, self->host, &host_end, &guest_end);
	ASSERT_EQ(host_end, inbox_await(&self->inbox, VOXSHM_EVENT_ATTACHED, host_end));
	link_fail(host_end, "a test says so");
	ASSERT_EQ(host_end, inbox_await(&self->inbox, VOXSHM_EVENT_FAILED, host_end));
	voxshm_link_status(guest_end, &status);
	EXPECT_EQ(VOXSHM_LINK_LEFT, status.state);
	/* In the vox format it has to let go of the pool first. */
	if (variant->choice.format == VOXSHM_FORMAT_VOX)
		voxshm_link_close(guest_end);
	link_make(_metadata, self->host, &next_host, &next_guest);
	EXPECT_EQ(0, send_pattern(next_guest, 300000, 1, PATIENCE));
	EXPECT_EQ(0, recv_pattern(next_host, 300000, 1, PATIENCE));
	if (variant->choice.format == VOXSHM_FORMAT_NATIVE)
		voxshm_link_close(guest_end);
	voxshm_link_close(next_guest);
}

LINK_TEST_MAIN(NULL)
