#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs the Debian packages that are missing for a purpose:
#
#   tools/setup.sh build          to build the library and the tool
#   tools/setup.sh build check    and to run the tests
#   tools/setup.sh build kmod     to build and check the kernel module
#   tools/setup.sh build vm       to run the module in a virtual machine
#   tools/setup.sh build debug    to build a kernel that checks itself
#   tools/setup.sh build interop  to try the library with the original, in Rust
#   tools/setup.sh build bench    to measure beside other transports
#
# Does nothing, and needs no root, when all of them are there.
set -euo pipefail

# Each package with its reason.
build_packages="
gcc             the compiler
libc6-dev       the C library's headers
make            runs the Makefiles
libjansson-dev  the tool's --json output
libssl-dev      the tool's checksums (libcrypto)
libudev-dev     finding the module's device and waiting for it
"
check_packages="
linux-source-6.1  kselftest_harness.h for the tests, kernel-doc for the man pages
perl              runs kernel-doc, and prove, which runs the tests
clang             the second compiler, and the fuzzers'
libclang-rt-dev   its sanitizers and libFuzzer
g++               the public headers must compile as C++
valgrind          the unit tests again, watching memory
spin              the models of the algorithms
pkg-config        the line by which the README's programs are compiled
man-db            the man pages must format without a warning
udev              udevadm, which tries the rule
systemd           systemd-sysusers, which makes the group
"
kmod_packages="
linux-headers-amd64  what a kernel module is compiled against
kmod                 depmod, modprobe and modinfo: is the installed module found?
sparse               checks the kernel's own annotations
coccinelle           the kernel's semantic patches, which find common mistakes
"
vm_packages="
qemu-system-x86   the virtual machine
busybox-static    its shell and commands
udev              its device manager, to try the rule with
kmod              its modprobe, and depmod, which makes the list that modprobe reads
cpio              packs its file system
"
bench_packages="
gnuplot-nox                draws the plots
libzmq3-dev                a peer: ZeroMQ
libnng-dev                 a peer: nng
libiceoryx-binding-c-dev   a peer: Eclipse iceoryx
iceoryx                    its daemon
"
debug_packages="
linux-source-6.1  the kernel's source
bc                its build
bison             its configuration
flex              its configuration
libelf-dev        objtool, a part of its build
xz-utils          unpacks it
"

installed() {
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

missing=()
add_missing() {
	local package reason
	while read -r package reason; do
		[[ -n $package ]] || continue
		installed "$package" && continue
		missing+=("$package")
		printf '  %-17s %s\n' "$package" "$reason"
	done
}

# No package of Debian 12 is new enough for vox-shm 0.3.1.
require_cargo() {
	local needed=1.91 found
	if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
		echo "$0: there is no cargo: install Rust $needed or newer (rustup), then try again" >&2
		exit 1
	fi
	found=$(rustc --version | cut -d' ' -f2)
	if ! printf '%s\n' "$needed" "$found" | sort -VC; then
		echo "$0: cargo is too old: Rust is $found, and $needed or newer is needed (rustup)" >&2
		exit 1
	fi
}

[[ $# -gt 0 ]] || set -- build
for purpose; do
	case $purpose in
	build) add_missing <<<"$build_packages" ;;
	check) add_missing <<<"$check_packages" ;;
	kmod) add_missing <<<"$kmod_packages" ;;
	vm) add_missing <<<"$vm_packages" ;;
	debug) add_missing <<<"$debug_packages" ;;
	interop) require_cargo ;;
	bench) add_missing <<<"$bench_packages" ;;
	*) echo "usage: $0 [build] [check] [kmod] [vm] [debug] [interop] [bench]" >&2; exit 2 ;;
	esac
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
	if ! command -v sudo >/dev/null; then
		echo "$0: run as root, or install: ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; }

echo "Installing the packages above."
# A fresh machine has no package lists, and an old one may have stale ones.
apt install --no-install-recommends "${missing[@]}" 2>/dev/null ||
	{ apt update && apt install --no-install-recommends "${missing[@]}"; }
