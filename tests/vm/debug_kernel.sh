#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A kernel that checks itself, for tests/vm/run.sh debug: Linux 6.1 from Debian's
# source package with lockdep, KASAN, UBSAN and fault injection (debug.config), and the
# module for it. Takes some ten minutes the first time.
#
#   build/vm/debug/linux          the kernel's tree
#   build/vm/debug/{kmod,voxshm.ko,vmlinuz,release}   as kernel.sh makes them
set -euo pipefail
cd "$(dirname "$0")/../.."

source=/usr/src/linux-source-6.1.tar.xz
here=$PWD/build/vm/debug
mkdir -p "$here"
exec 9>"$here/lock"
flock 9

build_kernel() {
	local new=$here/new
	rm -rf "$new"
	mkdir -p "$new"
	tar -xJf "$source" -C "$new" --strip-components=1
	cp tests/vm/debug.config "$new/debug.config"
	(
		cd "$new"
		make tinyconfig
		scripts/kconfig/merge_config.sh -m .config debug.config
		make olddefconfig
		make -j"$(nproc)" bzImage modules
	) >"$here/kernel.log" 2>&1 || { tail -20 "$here/kernel.log" >&2; return 1; }
	rm -rf "$here/linux"
	mv "$new" "$here/linux"
}

cmp -s tests/vm/debug.config "$here/linux/debug.config" || build_kernel
make --no-print-directory -s -C "$here/linux" kernelrelease >"$here/release"
ln -sfn linux/arch/x86/boot/bzImage "$here/vmlinuz"
make -C kmod KDIR="$here/linux" OUT="$here/kmod" >"$here/build.log" 2>&1 ||
	{ cat "$here/build.log" >&2; exit 1; }
cp "$here/kmod/voxshm.ko" "$here/voxshm.ko"
