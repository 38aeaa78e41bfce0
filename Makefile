# SPDX-License-Identifier: MIT
#
# voxshm: one make for the whole tree. Each folder's Makefile, included below,
# says what that folder builds, tests and installs; everything built goes to
# build/, or build/VARIANT/ for a variant (asan, tsan, clang, fickle, fuzz).

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:

VERSION := $(shell sed -n 's/^#define VOXSHM_VERSION_[A-Z]* //p' lib/include/voxshm.h | paste -sd.)
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR  ?= $(PREFIX)/share/man

OUT := build$(VARIANT:%=/%)
CFLAGS ?= -O2 -g
WERROR ?= -Werror

ifneq ($(filter clang fuzz,$(VARIANT)),)
CC := clang
else ifeq ($(origin CC),default)
CC := gcc
endif
comma := ,
space := $(subst ,, )
VARIANT_FLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-error
VARIANT_FLAGS_tsan := -O1 -fno-omit-frame-pointer -fsanitize=thread -Wno-error
VARIANT_FLAGS_clang :=
VARIANT_FLAGS_fickle := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=all -Wno-error -include tests/shared_hook.h -finstrument-functions \
	-finstrument-functions-exclude-file-list=tests/,kselftest,tools/,$(subst $(space),$(comma),$(filter-out lib/mappings.%,$(wildcard lib/*.[ch])))
VARIANT_FLAGS_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -Wno-error -include tests/shared_hook.h
ifneq ($(VARIANT),)
$(if $(filter undefined,$(origin VARIANT_FLAGS_$(VARIANT))),$(error VARIANT is one of: asan tsan clang fickle fuzz))
endif

WARNINGS := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wpointer-arith
OBJCOPY ?= objcopy
COMPILE = $(CC) -std=gnu11 -D_GNU_SOURCE= $(WARNINGS) -MMD -MP $(CPPFLAGS) $(CFLAGS) $(VARIANT_FLAGS_$(VARIANT))
LINK    = $(CC) $(CFLAGS) $(VARIANT_FLAGS_$(VARIANT)) $(LDFLAGS)

# One short line a step; V=1 shows the commands.
Q := $(if $(filter 1,$(V)),,@)
say = @printf '  %-7s %s\n' $(1) '$(2)'

.PHONY: all
all: ## build the library, the tool, the examples and (once set up) the man pages

# From the kernel's source: the test harness, and the script that makes man
# pages. Unpacked once, and not ours to commit.
KERNEL_SOURCE := /usr/src/linux-source-6.1.tar.xz
KSELFTEST     := build/kselftest
KERNEL_DOC    := $(KSELFTEST)/kernel-doc

include lib/Makefile tools/Makefile udev/Makefile tests/Makefile tests/interop/Makefile

# FLAGS is what each folder adds to its own files.
$(OUT)/%.o: %.c $(OUT)/compiler
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(FLAGS) -c -o $@ $<

$(addprefix $(KSELFTEST)/,kselftest.h kselftest_harness.h lib.mk kernel-doc) &:
	$(call say,UNPACK,$(KSELFTEST))
	$(Q)test -e $(KERNEL_SOURCE) || { echo 'Run tools/setup.sh check first.'; exit 1; }
	$(Q)mkdir -p $(KSELFTEST)
	$(Q)tar -xJf $(KERNEL_SOURCE) -C $(KSELFTEST) --touch --wildcards \
		--transform='s|.*/selftests/||;s|.*/scripts/||' \
		'*/tools/testing/selftests/kselftest.h' \
		'*/tools/testing/selftests/kselftest_harness.h' \
		'*/tools/testing/selftests/lib.mk' '*/tools/testing/selftests/kselftest/runner.sh' \
		'*/tools/testing/selftests/kselftest/prefix.pl' '*/scripts/kernel-doc'

# Holds the compiler and its flags, rewritten when they change: objects made
# by another compiler are never reused.
$(OUT)/compiler: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE) $(LDFLAGS)' | cmp -s - $@ || echo '$(COMPILE) $(LDFLAGS)' >$@

-include $(shell find $(OUT)/lib $(OUT)/tools $(OUT)/tests -name '*.d' 2>/dev/null)

.PHONY: setup demo install uninstall clean help FORCE
setup: ## install the packages that building and testing need
	$(Q)tools/setup.sh build check

demo: ## install what is missing, build, and show messages pass between processes
	$(Q)tools/setup.sh build
	$(Q)$(MAKE) --no-print-directory tools
	$(Q)$(TOOL) demo

install: install-lib install-tools install-man install-udev install-module ## install under PREFIX=/usr/local (DESTDIR= is put before it)
uninstall: uninstall-lib uninstall-tools uninstall-man uninstall-udev uninstall-module ## remove what install put there (the group voxshm stays)

# The module is for the kernel that runs, or the one that KDIR or KERNELRELEASE
# names: then it is not left out.
ifneq ($(KDIR)$(KERNELRELEASE),)
FOR_KERNEL := named
endif
ifeq ($(KERNELRELEASE),)
KERNELRELEASE := $(if $(KDIR),$(shell sed -n 's/^.define UTS_RELEASE "\(.*\)"/\1/p' \
	$(KDIR)/include/generated/utsrelease.h 2>/dev/null),$(shell uname -r))
endif
KDIR ?= /lib/modules/$(KERNELRELEASE)/build
KMOD_OUT ?= $(abspath build/kmod/$(KERNELRELEASE))
KMOD_DIR = $(DESTDIR)/lib/modules/$(KERNELRELEASE)
# The list that modprobe reads is the whole system's: not for a staging directory.
DEPMOD = $(if $(DESTDIR),echo '          run depmod $(KERNELRELEASE) where it ends up', \
	PATH=$$PATH:/usr/sbin:/sbin depmod $(KERNELRELEASE))

.PHONY: kmod install-module uninstall-module install-kmod uninstall-kmod
kmod: ## build the kernel module (KDIR= or KERNELRELEASE= name a kernel)
	$(call say,KMOD,$(KERNELRELEASE))
	$(Q)$(MAKE) $(if $(Q),-s) --no-print-directory -C kmod KDIR=$(KDIR) OUT=$(KMOD_OUT)

install-kmod: kmod ## install the module, so that modprobe finds it
	$(call say,INSTALL,voxshm.ko for $(KERNELRELEASE))
	$(Q)install -D -m 644 -t $(KMOD_DIR)/updates $(KMOD_OUT)/voxshm.ko
	$(Q)$(DEPMOD)

uninstall-kmod:
	$(call say,REMOVE,voxshm.ko of $(KERNELRELEASE))
	$(Q)rm -f $(KMOD_DIR)/updates/voxshm.ko
	$(Q)rmdir $(KMOD_DIR)/updates 2>/dev/null || true
	$(if $(DESTDIR),,$(Q)test ! -d $(KMOD_DIR) || $(DEPMOD))

# As part of the whole: without the module where it cannot be made or put.
may_install_kmod = [ -n '$(DESTDIR)' ] || [ "$$(id -u)" -eq 0 ]
install-module:
	$(Q)if [ -z '$(FOR_KERNEL)' ] && [ ! -e $(KDIR)/Makefile ]; then \
		echo '          without the module: no kernel headers at $(KDIR); install them, or name another kernel by KDIR='; \
	elif ! { $(may_install_kmod); }; then \
		echo '          without the module: only root can install it'; \
	else $(MAKE) --no-print-directory install-kmod; fi
uninstall-module:
	$(Q)if [ -e $(KMOD_DIR)/updates/voxshm.ko ] && { $(may_install_kmod); }; then \
		$(MAKE) --no-print-directory uninstall-kmod; fi

clean: ## remove everything built
	$(call say,CLEAN,build)
	$(Q)rm -rf build

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST:%.d=)
	@echo
	@echo '  VARIANT=asan|tsan|clang|fickle|fuzz  CC=  CFLAGS=  LDFLAGS=  PREFIX=  DESTDIR=  KDIR=  V=1 (show commands)'
