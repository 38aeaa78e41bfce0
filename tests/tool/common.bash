# SPDX-License-Identifier: MIT
#
# What the tests of the command share; each sources it first. They poll for
# what must come, and never trust in a pause.
set -uo pipefail
export LC_ALL=C

VOXSHM=$(realpath "${VOXSHM:-build/voxshm}")
sources=$(realpath "${BASH_SOURCE[0]%/*}/../..")
here=$sources/tests/tool
build=$(realpath "${BUILD:-build}")

scratch=$(mktemp -d)
chmod 755 "$scratch"
cd "$scratch" || exit 1
mkdir .bin
ln -s "$VOXSHM" .bin/voxshm
PATH=$scratch/.bin:$PATH

# Ends what the test itself has started.
cleanup() {
	local children
	# Not a child that a signal ends before it has become another program.
	[[ $BASHPID -eq $$ ]] || return
	children=$(jobs -p)
	# shellcheck disable=SC2086 # one argument each
	[[ -z $children ]] || kill -KILL $children 2>/dev/null
	cd / && rm -rf --one-file-system "$scratch"
}
trap cleanup EXIT

tests=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	[[ $1 -eq 0 ]] && echo "ok $tests - $2" || echo "not ok $tests - $2"
}
skip() { # skip NAME REASON
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}
finish() { echo "1..$tests"; }

# What a test saw when it failed.
show() { sed 's/^/# /' "$@" >&2; return 1; }

# holds COMMAND...: true as soon as it succeeds, false after a minute.
holds() {
	local deadline=$((SECONDS + 60))
	until "$@"; do
		[[ $SECONDS -lt $deadline ]] || return 1
		sleep 0.02
	done
}

# says FILE TEXT: the file holds the text; else it is shown.
says() { grep -qF -- "$2" "$1" || { echo "# not in $1: $2" >&2; show "$1"; }; }

# Is a file being received into the folder?
part_in() { compgen -G "$1/.voxshm-*.part" >/dev/null; }

# A fresh address in $address.
serial=0
new_address() {
	serial=$((serial + 1))
	address=@voxshm-test-$$-$serial
}

# json FIELD <lines: each line must be JSON; prints the field of those that have it.
build_json() {
	"${CC:-cc}" -o "$scratch/.json" "$here/json.c" -ljansson
}
json() { "$scratch/.json" "$1"; }

# roundtrip FILE [OPTION-OF-RECV]...: through send and recv, into the file "out".
roundtrip() {
	local file=$1 receiver status
	shift
	new_address
	rm -f out
	voxshm recv "$@" "$address" out >recv.out 2>recv.err &
	receiver=$!
	voxshm send --timeout 60 "$address" "$file" >send.out 2>send.err
	status=$?
	wait "$receiver" && [[ $status -eq 0 ]] || { show recv.err send.err; return 1; }
	cmp -- "$file" out >&2
}

has_format() { # has_format NAME
	new_address
	voxshm serve --once --format "$1" "$address" >"format-$1" 2>&1 &
	holds grep -qs . "format-$1"
	voxshm send --timeout 0 --message x "$address" 2>/dev/null
	wait $!
}
