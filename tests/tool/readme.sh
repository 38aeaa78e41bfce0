#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The programs in the README are those in tools/examples, compile as shown
# against an installed library, and do what they say.
set -uo pipefail

build=${BUILD:-build}
stage=$(mktemp -d)
trap 'kill %1 2>/dev/null; rm -rf "$stage"' EXIT
echo 1..4

# The nth block of C code in the README.
block() {
	awk -v wanted="$1" '/^```c$/ { n++; inside = 1; next } /^```$/ { inside = 0 }
		inside && n == wanted' README.md
}

number=0
result() {
	number=$((number + 1))
	if [[ $1 -eq 0 ]]; then echo "ok $number - $2"; else echo "not ok $number - $2"; fi
}

block 1 | cmp -s - tools/examples/host.c && block 2 | cmp -s - tools/examples/guest.c
result $? "the README shows the examples as they are"

make --no-print-directory -s install DESTDIR="$stage/root" PREFIX=/usr >"$stage/install.log" 2>&1
result $? "make install installs into a staging directory"

export PKG_CONFIG_PATH=$stage/root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage/root
(
	cd "$stage" || exit 1
	block_of() { (cd "$OLDPWD" && block "$1"); }
	block_of 1 >host.c
	block_of 2 >guest.c
	for program in host guest; do
		# shellcheck disable=SC2046 # the line from the README
		cc $program.c -o $program $(pkg-config --cflags --libs libvoxshm) || exit 1
	done
) 2>"$stage/compile.log"
status=$?
[[ $status -eq 0 ]] || sed 's/^/# /' "$stage/compile.log"
result $status "the README's programs compile with the line it shows"

export LD_LIBRARY_PATH=$stage/root/usr/lib
"$stage/host" "$stage/socket" >"$stage/host.out" 2>&1 &
for ((i = 0; i < 500; i++)); do
	[[ -S $stage/socket ]] && break
	sleep 0.01
done
answer=$("$stage/guest" "$stage/socket" "Hello, host." 2>&1)
wait %1
[[ $answer == "Hello, guest." && $(<"$stage/host.out") == "Hello, host." ]]
result $? "host and guest exchange their messages"
