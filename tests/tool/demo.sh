#!/bin/bash
# SPDX-License-Identifier: MIT
#
# voxshm demo shows what it says, checks it, and says so to programs too.
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json

voxshm demo >demo.out 2>demo.err
result $? "the demo ends well"
[[ ! -s demo.err ]]
result $? "and says nothing on standard error"
for text in "Backend: " "Guest 1 (process " "Guest 3 is killed (SIGKILL)" "Guest 3 was killed by signal 9" \
	"none is missing, and the last is whole" "takes its place: peer id 3 again, in epoch 2 after 1" "equal" \
	"Guest 2: all 200,000 messages are here" "is as it must be"; do
	says demo.out "$text"
	result $? "it says: $text"
done
[[ $(awk 'length($0) > 100' demo.out | wc -l) -eq 0 && $(wc -l <demo.out) -lt 25 ]]
result $? "it fits on a screen"

head -c 5000000 /dev/urandom >file
voxshm demo --json --file file >demo.json 2>demo.err
result $? "--json --file: ends well"
value() { json "$1" <demo.json; }
sum=$(sha256sum <file | cut -d' ' -f1)
[[ $(value ok) == true && $(value error) == null && $(value backend) =~ ^(file|device)$ ]]
result $? "--json: ok, backend"
[[ $(value file.sha256_sent) == "$sum" && $(value file.sha256_received) == "$sum" && $(value file.bytes) == 5000000 ]]
result $? "--json: the file's checksums"
[[ $(value messages.messages) == 200000 && $(value newcomer.messages) == 50000 ]]
result $? "--json: all messages"
[[ $(value killed.peer.state) == died && $(value killed.peer.signal) == 9 ]]
result $? "--json: the killed guest's end"
received=$(value killed.messages)
counted=$(value killed.sent_by_its_own_count)
[[ $received -ge $counted && $received -le $((counted + 1)) && $received -ge $(value killed.received_at_kill) ]]
result $? "--json: the killed guest's messages, to the last"
[[ $(value newcomer.peer.id) == "$(value killed.peer.id)" && $(value newcomer.peer.epoch) -gt $(value killed.peer.epoch) ]]
result $? "--json: the newcomer's place and epoch"

voxshm demo --json --backend file --file file >demo.json && [[ $(value backend) == file ]]
result $? "--backend file"
# Also where there is a device and we may not have it.
voxshm demo --json --backend any --file file >demo.json && [[ $(value backend) =~ ^(file|device)$ ]]
result $? "--backend any"

: >empty
voxshm demo --json --file empty >demo.json && [[ $(value file.bytes) == 0 ]]
result $? "an empty file"

has_format vox && {
	voxshm demo --json --format vox --file file >demo.json && [[ $(value format) == vox && $(value ok) == true ]]
	result $? "the vox format"
}

voxshm demo --json --file missing >demo.json 2>demo.err
[[ $? -eq 1 && $(value ok) == false ]] && says demo.err "choose another with --file"
result $? "a file that is not there"

voxshm demo-guest file x 2>guest.err
[[ $? -eq 1 ]] && says guest.err "a part of voxshm demo"
result $? "a guest of the demo without the demo"

finish
