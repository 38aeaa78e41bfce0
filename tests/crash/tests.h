/* SPDX-License-Identifier: MIT */
/* tests.h - one test for each operation, for all combinations; see sweep.h. */
FIXTURE(crash)
{
	int unused;
};
VARIANTS_BOTH_WAYS(crash)

FIXTURE_SETUP(crash)
{
}

FIXTURE_TEARDOWN(crash)
{
}
static inline bool crash_sweep(const char *n,const struct variant_choice *c)
{
	struct scene scene = { .scenario=&guest_dies, .circumstance=CIRCUMSTANCE, .format=c->format, .backend=c->backend };
	for (size_t i=0;i<ARRAY_SIZE(link_operations);i++) if(!strcmp(link_operations[i].name,n)) scene.op=&link_operations[i];
	for (size_t i=0;i<ARRAY_SIZE(guest_operations);i++) if(!strcmp(guest_operations[i].name,n)) scene.op=&guest_operations[i];
	return sweep(&scene);
}
TEST_F_TIMEOUT(crash, send_inline, 600) { EXPECT_TRUE(crash_sweep("send_inline",&variant->choice)); }
static void __attribute__((constructor(101))) init_totals(void){sweep_totals=mmap(0,4096,3,MAP_SHARED|MAP_ANONYMOUS,-1,0);}
LINK_TEST_MAIN(NULL)
