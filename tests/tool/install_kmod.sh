#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What make install puts into an empty root: a module that modprobe finds there,
# the kernel's header as programs include it, and what udev and systemd read;
# and that make uninstall takes all of it away.
# shellcheck disable=SC2154 # the folders: of common.bash
source "${BASH_SOURCE[0]%/*}/common.bash"
PATH=$PATH:/usr/sbin:/sbin

# The newest kernel whose headers are here; what depmod reads of it, but no module.
release=$(find /lib/modules -mindepth 1 -maxdepth 1 -exec test -e '{}/build/Makefile' \; -printf '%f\n' |
	sort -V | tail -n 1)
[[ -n $release ]]
result $? "there are kernel headers (tools/setup.sh kmod)"
root=$scratch/root
mkdir -p "$root/lib/modules/$release"
cp "/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/" 2>copy.err
(cd "$root" && find . ! -type d ! -name 'modules.*' | sort) >before

# In a make of its own: not one that a make check has told what to do.
make_root() {
	env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -C "$sources" PREFIX=/usr DESTDIR="$root" \
		KMOD_OUT="$scratch/kmod" "$@" >make.out 2>make.err || show make.out make.err
}

make_root install KERNELRELEASE="$release"
result $? "make install into an empty root"
[[ ! -e $root/lib/modules/$release/modules.dep ]] && says make.out "run depmod $release"
result $? "modprobe's list there is left to who owns it"
depmod -b "$root" "$release" 2>depmod.err
[[ $(modprobe -d "$root" -S "$release" --show-depends voxshm) == \
	"insmod $root/lib/modules/$release/updates/voxshm.ko"* ]]
result $? "modprobe finds the module there"
information() { modinfo -b "$root" -k "$release" -F "$1" voxshm; }
[[ $(information vermagic) == "$release "* && $(information license) == GPL* ]]
result $? "it is one for that kernel"
[[ $(information parm | cut -d: -f1 | sort | xargs) == "max_bytes max_links max_segments max_tickets uevents" ]]
result $? "it has the parameters that the README names"

for compiler in "-x c -std=c11" "-x c++ -std=c++17"; do
	# shellcheck disable=SC2086 # options
	echo '#include <linux/voxshm.h>' | ${CC:-cc} $compiler -pedantic -Wall -Wextra -Werror \
		-isystem "$root/usr/include" -fsyntax-only -
	result $? "the installed <linux/voxshm.h> stands alone, $compiler"
done

rules=$root/usr/lib/udev/rules.d/60-voxshm.rules
cmp "$sources/udev/60-voxshm.rules" "$rules" &&
	grep -qx voxshm "$root/usr/lib/modules-load.d/voxshm.conf"
result $? "the udev rule, and the module's name for the start of the system"
mkdir -p "$root/etc"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
systemd-sysusers --root="$root" 2>sysusers.err && grep -qE '^voxshm:[^:]*:[0-9]+:$' "$root/etc/group" ||
	show sysusers.err
result $? "systemd-sysusers makes the group"

# The node as udev's program for trying rules leaves it, in places of its own.
try_rule() {
	set -e
	mount --bind "$root/etc/group" /etc/group
	mount -t tmpfs none /etc/udev
	mount -t tmpfs none /sys
	mount -t tmpfs none /run
	mkdir /run/dev /etc/udev/rules.d
	mknod -m 666 /run/dev/null c 1 3
	mknod -m 600 /run/dev/voxshm c 1 3
	mount --bind /run/dev /dev
	cp "$rules" /etc/udev/rules.d
	mkdir -p /run/udev /sys/class/misc /sys/devices/virtual/misc/voxshm
	ln -s ../../../../class/misc /sys/devices/virtual/misc/voxshm/subsystem
	printf 'MAJOR=1\nMINOR=3\nDEVNAME=voxshm\n' >/sys/devices/virtual/misc/voxshm/uevent
	ln -s ../../devices/virtual/misc/voxshm /sys/class/misc/voxshm
	SYSTEMD_DEVICE_VERIFY_SYSFS=0 udevadm test --action=add /sys/class/misc/voxshm >udevadm.out 2>&1
	[[ $(stat -c '%U %G %a' /dev/voxshm) == "root voxshm 660" ]]
	! grep -E '60-voxshm.rules:[0-9]+ .*(nvalid|nknown|gnoring|ailed)' udevadm.out
}
if [[ $EUID -eq 0 ]]; then
	export -f try_rule
	export root rules
	unshare --mount --net bash -c try_rule || show udevadm.out
	result $? "udevadm finds no fault with the rule, and by it the node is root's, voxshm's, mode 660"
else
	skip "udevadm tries the rule" "only root can make a node"
fi

version=$(voxshm --version)
(source "$sources/kmod/dkms.conf" && [[ $PACKAGE_NAME == voxshm && $PACKAGE_VERSION == "${version#voxshm }" ]])
result $? "dkms.conf names the version of the library"

make_root uninstall KERNELRELEASE="$release"
rm -r "${root:?}/etc"
[[ $(cd "$root" && find . ! -type d ! -name 'modules.*' | sort) == "$(<before)" ]]
result $? "make uninstall leaves nothing of it"
depmod -b "$root" "$release" 2>depmod.err
! modprobe -d "$root" -S "$release" --show-depends voxshm >/dev/null 2>&1
result $? "nor does modprobe find the module then"

make_root install KERNELRELEASE=0.0-none 2>/dev/null
[[ $? -ne 0 ]] && grep -q "No kernel headers at" make.out make.err
result $? "a kernel that is named, but whose headers are not here, is an error"
(
	# As where the kernel that runs has no headers.
	mkdir none && printf '#!/bin/sh\necho 0.0-none\n' >none/uname && chmod +x none/uname
	PATH=$PWD/none:$PATH make_root install &&
		says make.out "without the module: no kernel headers at /lib/modules/0.0-none/build"
)
result $? "the module is left out, plainly, where the running kernel has no headers"

finish
