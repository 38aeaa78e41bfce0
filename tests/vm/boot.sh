#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a kernel of kernel.sh in QEMU (emulated: no KVM, no network, two CPUs),
# with a file system in memory that holds busybox, udev, the module, the voxshm
# command and the programs named, and shows on standard output what they say.
#
#   boot.sh KERNEL PROGRAM...         runs each PROGRAM; "##vm " lines between them
#   boot.sh KERNEL --shell PROGRAM... a shell there, the programs in /vm; Ctrl-A x kills it
#   boot.sh KERNEL --command TEXT     runs the text as a shell script there
#
# A PROGRAM is a file of build/tests/ or tests/, with arguments if they stand in
# the same word. The kernel's log becomes $VM_LOG, or build/vm/KERNEL/console.log.
#
# VM_SECONDS limits each program (120), VM_TOTAL_SECONDS the machine (600);
# VOXSHM_TEST_SLOW tells the tests how slow the machine is (8), VOXSHM_BACKEND
# the programs of link/ and soak/ which backend to use (device).
set -euo pipefail
cd "$(dirname "$0")/../.."

kernel=$1
shift
mode=tests
case ${1:-} in
--shell) mode=shell; shift ;;
--command) mode='command'; command=$2; shift 2 ;;
esac
here=build/vm/$kernel
release=$(<"$here/release")

work=$(mktemp -d "$here/run.XXXXXX")
tree=$work/tree
finish() {
	[[ ! -e $work/console.log ]] || mv -f "$work/console.log" "${VM_LOG:-$here/console.log}"
	rm -rf "$work"
}
trap finish EXIT

# The file system --------------------------------------------------------------

# A file at its place, and the shared libraries that it needs.
add() { # add FILE [PLACE]
	local file library
	file=$(realpath "$1")
	install -D "$file" "$tree${2:-$1}"
	[[ $(head -c 4 "$file") == $'\x7fELF' ]] || return 0
	for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
		[[ -e $tree$library ]] || install -D "$(realpath "$library")" "$tree$library"
	done
}

base() {
	local dir name
	mkdir -p "$tree"/{dev,etc,proc,root,run,sys,tmp,vm,usr/bin,usr/sbin,usr/lib,usr/lib64}
	for dir in bin sbin lib lib64; do
		ln -s "usr/$dir" "$tree/$dir"
	done
	add "$(command -v busybox)" /usr/bin/busybox
	for name in $(busybox --list | grep -vx busybox); do
		ln -s busybox "$tree/usr/bin/$name"
	done
	# The real ones, where busybox is not as good. Its shell is not: that runs its
	# own commands rather than those in the PATH.
	for name in bash dash timeout udevadm kmod; do
		rm -f "$tree/usr/bin/$name"
		add "$(command -v "$name")" "/usr/bin/$name"
	done
	ln -sf dash "$tree/usr/bin/sh"
	for name in modprobe insmod rmmod lsmod modinfo; do
		ln -sf kmod "$tree/usr/bin/$name"
	done
	mkdir -p "$tree/usr/lib/systemd"
	ln -s ../../bin/udevadm "$tree/usr/lib/systemd/systemd-udevd"
	install -D tests/vm/init "$tree/init"
}

users() {
	cat >"$tree/etc/passwd" <<-END
		root:x:0:0::/root:/bin/sh
		alice:x:1000:1000:in group voxshm:/tmp:/bin/sh
		bob:x:1001:1001:not in it:/tmp:/bin/sh
		nobody:x:65534:65534::/tmp:/bin/sh
	END
	cat >"$tree/etc/group" <<-END
		root:x:0:
		voxshm:x:990:alice
		alice:x:1000:
		bob:x:1001:
		nogroup:x:65534:
	END
}

module() {
	local modules=$tree/usr/lib/modules/$release
	install -D -m 644 "$here/voxshm.ko" "$modules/updates/voxshm.ko"
	# Nothing else is there; depmod misses the lists of what is.
	touch "$modules"/modules.{order,builtin,builtin.modinfo}
	depmod -b "$tree/usr" "$release"
	for name in udev/*.rules; do
		[[ ! -e $name ]] || install -D -m 644 "$name" "$tree/usr/lib/udev/rules.d/${name##*/}"
	done
}

programs() {
	local words file name
	for words; do
		file=${words%% *}
		name=${file#build/}
		name=${name#tests/}
		add "$file" "/vm/$name"
		echo "$name${words#"$file"}" >>"$tree/vm/list"
	done
}

mkdir -p "$tree"
base
users
module
: >"$tree/vm/list"
programs "$@"
[[ ! -x build/voxshm ]] || add build/voxshm /usr/bin/voxshm
[[ $mode != 'command' ]] || echo "$command" >"$tree/vm/command"
cat >"$tree/vm/settings" <<-END
	VM_MODE=$mode
	VM_SECONDS=${VM_SECONDS:-120}
	LINK_BACKEND=${VOXSHM_BACKEND:-device}
	export VOXSHM_TEST_SLOW=${VOXSHM_TEST_SLOW:-8} TEST_LONG=${TEST_LONG:-}
	export CRASH_POINTS=${CRASH_POINTS:-} CRASH_SEED=${CRASH_SEED:-}
END
(cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initramfs"
rm -rf "$tree"

# The machine ------------------------------------------------------------------

if [[ $mode == shell ]]; then
	serial=(-serial mon:stdio -serial null)
else
	serial=(-serial "file:$work/console.log" -chardev "stdio,id=results,signal=off" -serial chardev:results)
	exec </dev/null
fi
status=0
# With idle=poll a processor that waits needs no thread of QEMU to be woken, which
# takes a millisecond: tests that sleep and wake run twenty times as fast.
timeout --foreground -k 5 "${VM_TOTAL_SECONDS:-600}" qemu-system-x86_64 \
	-accel tcg,thread=multi -cpu max -smp 2 -m 2G -nodefaults -display none -no-reboot \
	"${serial[@]}" -kernel "$here/vmlinuz" -initrd "$work/initramfs" \
	-append "console=ttyS0 loglevel=7 panic=-1 panic_on_warn=0 mitigations=off idle=poll" || status=$?
[[ $mode != tests ]] || echo "##vm status $status"
exit "$status"
