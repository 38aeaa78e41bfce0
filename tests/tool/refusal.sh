#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What cannot be done is refused with one sentence that says why and what to
# do next: exit status 1; 2 for wrong arguments.
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json

echo content >file
head -c 1000000 /dev/zero | tr '\0' x >large

# refused STATUS TEXT COMMAND...: exits so, with one line that has the text (and a hint at usage).
refused() {
	local status=$1 text=$2 got lines
	shift 2
	"$@" >refused.out 2>refused.err
	got=$?
	lines=1
	[[ $status -eq 1 ]] || lines=2
	[[ $got -eq $status && $(wc -l <refused.err) -eq $lines ]] || {
		echo "# exit status $got, not $status" >&2
		show refused.err
	} && says refused.err "$text"
}

refused 2 'there is no subcommand "fly"' voxshm fly
result $? "an unknown subcommand"
voxshm >none.out 2>none.err
[[ $? -eq 2 ]] && says none.err "Usage: voxshm SUBCOMMAND"
result $? "no subcommand"
refused 2 "there is no such option as --fly" voxshm send --fly @x file
result $? "an unknown option"
refused 2 "the option --timeout needs a value" voxshm send --timeout
result $? "an option without its value"
refused 2 "it takes an ADDRESS" voxshm send
result $? "send without an address"
refused 2 "it takes an ADDRESS" voxshm recv @x a b
result $? "recv with too much"
refused 2 "not both" voxshm send --message x @x file
result $? "send of a message and a file"
refused 2 '--format is native or vox, not "x"' voxshm recv --format x @x
result $? "an unknown format"
refused 2 '--backend is file, device or any, not "x"' voxshm recv --backend x @x
result $? "an unknown backend"
for number in 0 256 x -1 1x; do
	refused 2 "--max-guests is a number from 1 to 255" voxshm serve "--max-guests=$number"
	result $? "--max-guests $number"
done
for number in 0 4G 1.5 -1 99999999999999999999 x 1KK; do
	refused 2 "--ring-size takes a number of bytes" voxshm recv "--ring-size=$number" @x
	result $? "--ring-size $number"
done
for number in -1 x nan 1e30 1s ""; do
	refused 2 "--timeout is a number of seconds" voxshm send "--timeout=$number" @x file
	result $? "--timeout '$number'"
done
refused 2 "--timeout is a number of seconds" voxshm monitor --wait --timeout=x
result $? "monitor --timeout x"
refused 2 "--timeout goes with --wait" voxshm monitor --timeout 1
result $? "monitor --timeout without --wait"
refused 2 "it takes no arguments" voxshm monitor /dev/voxshm
result $? "monitor with an argument"
refused 1 "ring" voxshm recv --ring-size 7 @x out
result $? "a ring size that the library refuses"

for subcommand in "" serve send recv monitor demo; do
	# shellcheck disable=SC2086 # none, for the command itself
	voxshm $subcommand --help >help.out 2>help.err && says help.out "Usage: voxshm" && [[ ! -s help.err ]]
	result $? "voxshm $subcommand --help"
done
missing=$(for subcommand in serve send recv monitor demo; do voxshm $subcommand --help; done |
	grep -oE -- '--[a-z-]+' | sort -u | while read -r option; do
		grep -qF -- "${option//-/\\-}" "$sources/tools/man/voxshm.1" || echo "$option"
	done)
[[ -z $missing ]] || { echo "# not in the man page: $missing" >&2; false; }
result $? "every option of --help is in the man page"
[[ $(voxshm --version) == "voxshm $(sed -nE 's/^#define VOXSHM_VERSION_(MAJOR|MINOR|PATCH) //p' \
	"$sources/lib/include/voxshm.h" | paste -sd.)" ]]
result $? "voxshm --version is the header's"
voxshm --help >/dev/full 2>full.err
[[ $? -eq 1 ]] && says full.err "cannot write to standard output"
result $? "help that cannot be written is a failure"
timeout 60 "$VOXSHM" serve >/dev/full 2>full.err
[[ $? -eq 1 ]] && says full.err "cannot write to standard output"
result $? "serve ends when nobody can read what it tells"

new_address
refused 1 "no host listens on $address" voxshm send --timeout 0 "$address" file
result $? "an address where nobody listens"
refused 1 "no host listens on $PWD/nobody" voxshm send --timeout 0.05 "$PWD/nobody" file
result $? "a path that is not there"
voxshm send --json --timeout 0 "$address" file >send.out 2>/dev/null
[[ $(json complete <send.out) == false ]] && json error <send.out | grep -qF "no host listens"
result $? "an address where nobody listens, --json"
refused 1 "cannot read missing: No such file" voxshm send --timeout 0 "$address" missing
result $? "a file that is not there"
refused 1 ". is a folder" voxshm send --timeout 0 "$address" .
result $? "a folder to send"
refused 1 "file is there already" voxshm recv "$address" file
result $? "an output that exists"
[[ $(<file) == content ]]
result $? "an output that exists stays as it is"
refused 1 "is a folder" voxshm recv "$address" .
result $? "a folder to receive into"
refused 1 "cannot open the folder missing/" voxshm recv "$address" missing/out
result $? "an output in a folder that is not there"
refused 1 "cannot open the folder missing" voxshm serve --directory missing "$address"
result $? "serve into a folder that is not there"
refused 1 "exists and is not a socket" voxshm recv "$PWD/file" out
result $? "an address that is a file"
[[ $(<file) == content ]]
result $? "an address that is a file: the file stays"

roundtrip large --force && roundtrip file --force
result $? "--force where there is nothing to replace"
new_address
voxshm recv --force "$address" out >recv.out 2>recv.err &
voxshm send --timeout 60 "$address" large >send.out 2>send.err
wait $! && cmp large out >&2
result $? "--force replaces an output"

# To a receiver that fails: sent STATUS SENDER-TEXT RECEIVER-TEXT FILE RECV-ARGUMENT...
sent() {
	local status=$1 sender_text=$2 receiver_text=$3 file=$4 receiver got
	shift 4
	new_address
	voxshm recv "$address" "$@" >recv.out 2>recv.err &
	receiver=$!
	voxshm send --timeout 60 "$address" "$file" >send.out 2>send.err
	got=$?
	wait $receiver
	[[ $got -eq $status && $? -eq $status ]] && says send.err "$sender_text" &&
		says recv.err "$receiver_text"
}
sent 1 "the receiver refused it: no space left" "no space left for the output" large /dev/full
result $? "no space left"

late() { # FILE appears while it is received
	mkfifo feed
	exec 3<>feed
	new_address
	voxshm recv "$address" late >recv.out 2>recv.err 3<&- &
	receiver=$!
	voxshm send --timeout 60 "$address" feed >send.out 2>send.err 3<&- &
	sender=$!
	cat large >&3
	holds part_in .
	echo mine >late
	exec 3<&-
	wait $sender
	[[ $? -eq 1 ]] && says send.err "late is there already" && [[ $(<late) == mine ]] &&
		! part_in .
}
late
result $? "an output that comes to exist meanwhile is not replaced"

# In the background as $server, and listening.
serve() { # serve OPTION...
	new_address
	listen_at "$address" "$@"
}
listen_at() { # listen_at ADDRESS OPTION...
	rm -f serve.out
	voxshm serve "${@:2}" "$1" >serve.out 2>serve.err &
	server=$!
	holds grep -qs listening serve.out
}

new_address
mkfifo other
exec 3<>other
voxshm recv "$address" single >recv.out 2>recv.err 3<&- &
voxshm send --timeout 60 "$address" other >first.out 2>first.err 3<&- &
sender=$!
echo first >&3
holds part_in .
refused 1 "takes one sender and has it already" voxshm send --timeout 0 "$address" file
result $? "a second sender to recv is refused, and told why"
exec 3<&-
wait $sender && [[ $(<single) == first ]]
result $? "a second sender to recv disturbs nobody"

mkdir guests
serve --max-guests 1 --directory guests
exec 3<>other
voxshm send --timeout 60 "$address" other >first.out 2>first.err 3<&- &
sender=$!
holds grep -qs attached serve.out
refused 1 "as many guests as it takes" voxshm send --timeout 0 "$address" file
result $? "one guest more than --max-guests"
refused 1 "another host listens on $address" voxshm recv "$address" out2
result $? "an address on which another host listens"
exec 3<&-
wait $sender
kill $server
wait $server
result $? "serve ends well by SIGTERM"

# As somebody else: root becomes nobody for it.
cp "$VOXSHM" stranger
stranger() { setpriv --reuid=65534 --regid=65534 --clear-groups ./stranger "$@"; }
if [[ $EUID -eq 0 ]] && stranger --version >/dev/null 2>&1; then
	chmod 644 file
	listen_at "$PWD/private" --once
	refused 1 "may not be reached" stranger send --timeout 0 "$PWD/private" file
	result $? "a path that the sender may not reach"
	voxshm send --message end "$PWD/private" && wait $server
	serve --once
	refused 1 "user 65534 may not send to user 0" stranger send --timeout 0 "$address" file
	result $? "a host that refuses a user says why"
	voxshm send --message end "$address" && wait $server && grep -q "^refused process .* 65534" serve.out
	result $? "serve tells whom it refused"
	mkdir in
	listen_at "$PWD/public" --once --any-user --directory in
	stranger send --timeout 60 "$PWD/public" file >send.out 2>send.err && wait $server && cmp file in/file
	result $? "--any-user lets everybody in"
else
	for name in "a path that the sender may not reach" "a host that refuses a user says why" \
		"serve tells whom it refused" "--any-user lets everybody in"; do
		skip "$name" "only root can become somebody else"
	done
fi

finish
