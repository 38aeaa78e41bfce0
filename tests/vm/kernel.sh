#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A Debian kernel to test with: image, headers, and the toolchain that belongs to
# them, unpacked below build/vm/KERNEL/root and installed nowhere.
#
#   tests/vm/kernel.sh KERNEL     KERNEL: 6.1, 6.12 or sid (or debug, see debug_kernel.sh)
#
# Then builds the module there, from a copy of kmod/, so that kernels share no
# object files:
#
#   build/vm/KERNEL/root          a root directory to build in (chroot)
#   build/vm/KERNEL/kmod          the copy
#   build/vm/KERNEL/voxshm.ko     the module
#   build/vm/KERNEL/vmlinuz       what QEMU boots
#   build/vm/KERNEL/release       its `uname -r`
#
# A root that is there is complete, since it gets its name last; remove it to
# fetch the kernel anew. VOXSHM_KMOD names another folder than kmod/.
set -euo pipefail
cd "$(dirname "$0")/../.."

kernel=${1:-}
case $kernel in
6.1) suite=bookworm ;;
6.12) suite=bookworm-backports ;;
sid) suite=sid ;;
debug) exec tests/vm/debug_kernel.sh ;;
*) echo "usage: $0 6.1|6.12|sid|debug" >&2; exit 2 ;;
esac
here=$PWD/build/vm/$kernel
source=$(realpath "${VOXSHM_KMOD:-kmod}")
mkdir -p "$here"
exec 9>"$here/lock"
flock 9

# Fetching --------------------------------------------------------------------

# The mirror that this machine gets Debian itself from, as "URI [signed-by]".
mirror() {
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -e $file ]] || continue
		awk -v RS= -F '\n' '{
			split("", field)
			for (i = 1; i <= NF; i++) {
				if ($i ~ /^#/ || !match($i, /:[ \t]*/))
					continue
				field[tolower(substr($i, 1, RSTART - 1))] = substr($i, RSTART + RLENGTH)
			}
			if (tolower(field["enabled"]) == "no" || " " field["types"] " " !~ / deb /)
				next
			split(field["uris"], uri, " ")
			print field["suites"] "\t" uri[1] "\t" field["signed-by"]
		}' "$file"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -e $file ]] || continue
		sed -nE 's/^deb +(\[([^]]*)\] +)?([^ ]+) +([^ ]+) .*/\4\t\3\t\2/p' "$file" |
			sed -E 's/\t[^\t]*signed-by=([^ \t]+)[^\t]*$/\t\1/; t; s/\t[^\t]*$/\t/'
	done
}

# Everything apt reads and writes is below $new/apt; of the machine's settings it
# keeps those on how to reach a mirror (Acquire), and the keys.
configure_apt() {
	local codename suites uri keys line main=
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	mkdir -p "$new/apt"
	while IFS=$'\t' read -r suites uri keys; do
		for line in $suites; do
			[[ $line == "$codename" ]] && main="${keys:+[signed-by=$keys] }$uri"
			[[ $line != "$codename"* ]] || echo "deb ${keys:+[signed-by=$keys] }$uri $line main"
		done
	done < <(mirror) >"$new/apt/sources.list"
	if [[ -z $main ]]; then
		echo "$0: no source of $codename in /etc/apt" >&2
		exit 1
	fi
	case $suite in
	"$codename") ;;
	"$codename"-*) echo "deb $main $suite main" >>"$new/apt/sources.list" ;;
	*) echo "deb $main $suite main" >"$new/apt/sources.list" ;;
	esac
	mkdir -p "$new"/apt/{lists,cache/archives,state}/partial
	: >"$new/apt/state/status"
	{
		apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets'
		[[ $suite != *-backports ]] || echo "APT::Default-Release \"$suite\";"
		cat <<-END
			Acquire::Retries "3";
			APT::Install-Recommends "false";
			APT::Sandbox::User "root";
			Dir::Etc::main "/dev/null";
			Dir::Etc::parts "/dev/null";
			Dir::Etc::sourcelist "$new/apt/sources.list";
			Dir::Etc::sourceparts "/dev/null";
			Dir::Etc::preferences "/dev/null";
			Dir::Etc::preferencesparts "/dev/null";
			Dir::State "$new/apt/state";
			Dir::State::status "$new/apt/state/status";
			Dir::State::lists "$new/apt/lists";
			Dir::Cache "$new/apt/cache";
		END
	} >"$new/apt/apt.conf"
	export APT_CONFIG=$new/apt/apt.conf
}

fetch() {
	local new=$here/new package release deb
	rm -rf "$new"
	mkdir -p "$new/root"
	configure_apt
	apt-get -q update
	package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
	release=${package#linux-image-}
	# Newer kernels' image packages depend on one for vmlinuz and one for modules.
	if apt-cache show "linux-binary-$release" >/dev/null 2>&1; then
		package=linux-binary-$release
	fi
	# Nothing is installed here as far as this apt knows, so all that building
	# needs comes, down to the C library.
	(cd "$new/apt" && apt-get -q download "$package")
	apt-get -q -y --download-only install linux-headers-amd64 make \
		base-files bash coreutils dash findutils grep gzip mawk sed xz-utils
	for deb in "$new"/apt/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$new/root"
	done
	dpkg-deb --fsys-tarfile "$new"/apt/"$package"_*.deb |
		tar -x -O --wildcards '*/vmlinuz*' >"$new/root/vmlinuz"
	if [[ ! -s $new/root/vmlinuz ]]; then
		echo "$0: no vmlinuz in $package" >&2
		exit 1
	fi
	finish_root
	echo "$release" >"$new/root/release"
	rm -rf "$new/apt"
	mv "$new/root" "$here/root"
	rm -rf "$new"
}

# What the packages' own scripts would have done.
finish_root() {
	local dir
	for dir in bin sbin lib lib64; do
		[[ -e $new/root/$dir ]] || ln -s "usr/$dir" "$new/root/$dir"
	done
	[[ -e $new/root/usr/bin/awk ]] || ln -s mawk "$new/root/usr/bin/awk"
	mkdir -p "$new"/root/{dev,proc,tmp}
	touch "$new/root/dev/null"
}

# Building --------------------------------------------------------------------

# Runs a command there. The mounts (objtool looks at /proc) end with it. Whoever is
# not root is so in a user namespace of its own, where the system allows these.
in_root() {
	local namespaces=(--mount)
	[[ $EUID -eq 0 ]] || namespaces+=(--map-root-user)
	# shellcheck disable=SC2016 # for the inner shell
	unshare "${namespaces[@]}" -- sh -c '
		mount --rbind /proc "$0/proc" && mount --bind /dev/null "$0/dev/null" && exec chroot "$0" "$@" ||
		{ echo "The module is built in a chroot; this needs root."; exit 1; }
	' "$here/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

build() {
	local release copy=$here/root/kmod sum
	release=$(<"$here/root/release")
	sum=$(cd "$source" && find . -type f \( -name '*.[chS]' -o -name 'K*' -o -name 'Makefile' \) \
		-print0 | sort -z | xargs -0 sha256sum)
	[[ $sum != "$(cat "$here/built" 2>/dev/null)" ]] || return 0
	rm -rf "$copy" "$here/built"
	cp -r "$source" "$copy"
	find "$copy" \( -name '*.o' -o -name '*.ko' -o -name '*.mod*' -o -name '.*.cmd' \) -delete
	if ! in_root make -C "/usr/src/linux-headers-$release" M=/kmod modules >"$here/build.log" 2>&1; then
		cat "$here/build.log" >&2
		return 1
	fi
	# Not about the module: the kernel's compiler may be an update apart.
	if grep -v 'the compiler differs from' "$here/build.log" | grep -qi 'warning'; then
		cat "$here/build.log" >&2
		echo "$0: the module builds with warnings" >&2
		return 1
	fi
	cp "$copy/voxshm.ko" "$here/voxshm.ko.new"
	mv "$here/voxshm.ko.new" "$here/voxshm.ko"
	echo "$sum" >"$here/built"
}

[[ -d $here/root ]] || fetch >&2
cp "$here/root/release" "$here/release"
ln -sfn root/vmlinuz "$here/vmlinuz"
ln -sfn root/kmod "$here/kmod"
build
