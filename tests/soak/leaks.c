// SPDX-License-Identifier: MIT
/* leaks.c - asks the crash tests' audit; see leaks.h. */
#include "crash/audit.h"
#include "soak/leaks.h"

#define MODULE_USERS "/sys/module/voxshm/refcnt"

static struct holdings at_first;
static long users_at_first;

/* Its count of open descriptors and mappings; -1: there is no module. */
static long module_users(void)
{
	FILE *file = fopen(MODULE_USERS, "re");
	long users = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &users) != 1)
		users = -1;
	fclose(file);
	return users;
}

void leaks_begin(void)
{
	/* The first look is what the C library allocates for looking. */
	at_first = holdings_now();
	at_first = holdings_now();
	users_at_first = module_users();
}

void leaks_less_descriptors(int count)
{
	at_first.fds -= count;
}

const char *leaks_find(void)
{
	*complaint = '\0';
	return holdings_same(&at_first) ? NULL : complaint;
}

const char *leaks_find_slots(const struct voxshm_host *host)
{
	*complaint = '\0';
	return audit_host(host, true) ? NULL : complaint;
}

long leaks_resident(void)
{
	return process_status("VmRSS:");
}

const char *leaks_find_in_module(void)
{
	int64_t until = now_ns() + PATIENCE;

	*complaint = '\0';
	while (module_users() != users_at_first && now_ns() < until)
		sleep_ms(5);
	holds(module_users() == users_at_first, "the module has %ld users, there were %ld",
	      module_users(), users_at_first);
	return *complaint ? complaint : NULL;
}
