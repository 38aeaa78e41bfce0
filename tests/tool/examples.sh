#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The examples compile as the README says, by pkg-config alone, and talk.
source "${BASH_SOURCE[0]%/*}/common.bash"

export LD_LIBRARY_PATH=$build
flags="-I$sources/lib/include -L$build -lvoxshm"
! command -v pkg-config >/dev/null || flags=$(PKG_CONFIG_PATH=$build pkg-config --cflags --libs \
	--define-variable="includedir=$sources/lib/include" --define-variable="libdir=$build" libvoxshm)

for name in host guest; do
	# shellcheck disable=SC2086 # flags
	"${CC:-cc}" -std=c11 -Wall -Wextra -Werror -o $name "$sources/tools/examples/$name.c" $flags
	result $? "$name.c compiles with what pkg-config says"
done

new_address
./host "$address" >host.out 2>host.err &
host=$!
answered() { [[ $(./guest "$address" "Hello, host." 2>guest.err) == "Hello, guest." ]]; }
holds answered
result $? "the guest prints the host's answer"
wait $host && [[ $(<host.out) == "Hello, host." ]]
result $? "the host prints the guest's message, and ends when it has left"

./guest "$address" x 2>guest.err
[[ $? -eq 1 ]] && says guest.err "guest: no host answers at"
result $? "the guest says that no host is there"
./host 2>host.err
[[ $? -eq 2 ]] && says host.err "Usage: host ADDRESS"
result $? "the host says how it is used"

finish
