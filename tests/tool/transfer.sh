#!/bin/bash
# SPDX-License-Identifier: MIT
#
# voxshm send and recv: what arrives is what was sent, whatever it is.
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json

# Bytes of every value, not repeating within a page.
head -c 4000000 /dev/urandom >random
printf %b "$(printf '\\x%02x' {0..255})" >every-byte
slice() { head -c "$1" random >"file-$1"; }

formats="native"
has_format vox && formats="native vox"

# Around the limits of inline messages (256), slots (1024, 8192, 65536) and DATA messages.
for format in $formats; do
	for size in 0 1 2 231 232 233 247 248 249 1007 1008 1009 8175 8176 8177 \
		65519 65520 65521 65536 131040 131041 1000000; do
		slice $size
		roundtrip "file-$size" --format "$format"
		result $? "$format: a file of $size bytes"
	done
	for options in "--max-payload 1024" "--ring-size 512" "--max-payload 70000 --ring-size 4096"; do
		# shellcheck disable=SC2086 # options with their values
		roundtrip random --format "$format" $options
		result $? "$format: a large file, $options"
	done
	roundtrip every-byte --format "$format"
	result $? "$format: a file with bytes of every value"
	roundtrip random --format "$format" --any-user
	result $? "$format: messages copied out"
	head -c 64M /dev/urandom >large
	roundtrip large --format "$format"
	result $? "$format: a file of 64 MiB"
	rm large
done

new_address
voxshm recv "$address" >out 2>recv.err &
head -c 20000000 /dev/zero | voxshm send --timeout 60 "$address" >send.out 2>send.err
status=$?
wait $! && [[ $status -eq 0 ]] && head -c 20000000 /dev/zero | cmp - out >&2
result $? "standard input to standard output"

says recv.err "received standard output: 19.1 MiB"
result $? "the summary goes to standard error when the file goes to standard output"

new_address
voxshm recv "$address" - <random >out 2>/dev/null &
voxshm send --timeout 60 "$address" - <random >send.out 2>send.err
wait $! && cmp random out >&2
result $? "- is standard input and standard output"

new_address
voxshm recv "$address" >out 2>/dev/null &
# Pieces of odd sizes: short reads at one end, short messages at the other.
{ for size in 1 2 3 4095 4097 70000 5; do head -c $size random; done; } >pieces
{ for size in 1 2 3 4095 4097 70000 5; do head -c $size random; sleep 0.01; done; } |
	voxshm send --timeout 60 "$address" >send.out 2>send.err
wait $! && cmp pieces out >&2
result $? "input that comes in pieces"

roundtrip /proc/version
result $? "a file that says that it is empty, but is not"

truncate -s 64M sparse
printf middle | dd of=sparse bs=1 seek=33000000 conv=notrunc status=none
roundtrip sparse && [[ $(stat -c %b out) -lt 4096 ]]
result $? "the holes of a sparse file are holes again"

cp random executable
chmod 750 executable
(umask 027 && roundtrip executable) && [[ $(stat -c %a out) == 750 ]]
result $? "permissions are kept, as far as the umask lets them"

mkfifo pipe
cat pipe >from-pipe &
reader=$!
new_address
voxshm recv "$address" pipe >/dev/null &
voxshm send --timeout 60 "$address" random >send.out 2>send.err
wait $! && wait $reader && cmp random from-pipe >&2
result $? "a named pipe is written to as it is"

new_address
voxshm recv "$PWD/socket" out2 >recv.out 2>recv.err &
voxshm send --timeout 60 "$PWD/socket" random >send.out 2>send.err
wait $! && cmp random out2 >&2 && [[ ! -e socket ]]
result $? "an address that is a path; it is gone afterwards"

roundtrip random
says send.out "sent random: 3.8 MiB" && says recv.out "received out: 3.8 MiB" &&
	says send.out "sha256 $(sha256sum <random | cut -d' ' -f1)"
result $? "the summary tells name, size and checksum"

new_address
voxshm recv --json "$address" json-copy >recv.out 2>recv.err &
receiver=$!
voxshm send --json --timeout 60 "$address" random >send.out 2>send.err &
sender=$!
wait $receiver && wait $sender
result $? "--json at both ends"

sum=$(sha256sum <random | cut -d' ' -f1)
fields() { # fields FILE PEER-ID PEER-PID
	[[ $(json complete <"$1") == true && $(json error <"$1") == null &&
		$(json bytes <"$1") == 4000000 && $(json sha256 <"$1") == "$sum" &&
		$(json messages <"$1") -gt 0 && $(json doorbells <"$1") -ge 0 &&
		$(json sleeps <"$1") -ge 0 && $(json format <"$1") == native &&
		$(json backend <"$1") =~ ^(file|device)$ && $(json peer.id <"$1") == "$2" &&
		$(json peer.pid <"$1") == "$3" ]] &&
		json seconds <"$1" | grep -q '^0\.\|^[1-9]' &&
		json bytes_per_second <"$1" | grep -q '^[1-9]' || show "$1"
}
fields send.out 0 "$receiver"
result $? "--json of send tells all fields"
fields recv.out 1 "$sender"
result $? "--json of recv tells all fields"

file=$(printf 'odd\xff\n"name')
cp random "$file"
new_address
voxshm recv --json "$address" "out-$file" >recv.out 2>recv.err &
voxshm send --json --timeout 60 "$address" "$file" >send.out 2>send.err
wait $! && cmp random "out-$file" >&2 && [[ $(json name <send.out) == 'odd__"name' ]]
result $? "--json stays JSON when a name is no text"

if command -v script >/dev/null; then
	new_address
	rm -f out
	voxshm recv "$address" out >recv.out 2>recv.err &
	script -qec "{ cat random; sleep 1.5; cat random; } | voxshm send --timeout 60 $address" terminal >/dev/null </dev/null
	wait
	grep -q '3.8 MiB  .*/s' terminal && says terminal "sent standard input: 7.6 MiB"
	result $? "progress is shown on a terminal after a second"
	[[ ! -s recv.err ]]
	result $? "but not where there is none"
else
	skip "progress is shown on a terminal after a second" "script is not installed"
fi

finish
