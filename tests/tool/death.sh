#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A transfer that is cut short leaves nothing that looks whole, and both ends
# say what happened and fail.
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json

head -c 100000 /dev/urandom >piece
head -c 64M /dev/zero | tr '\0' x >large
mkfifo feed

# A transfer that has begun and waits for more: of a sender whose input stays open.
begin() { # begin [OPTION-OF-RECV]...
	new_address
	rm -rf out
	exec 3<>feed
	voxshm recv "$@" "$address" out >recv.out 2>recv.err 3<&- &
	receiver=$!
	voxshm send --timeout 60 "$address" <feed >send.out 2>send.err 3<&- &
	sender=$!
	cat piece >&3
	holds arrived || { echo "# the piece did not arrive" >&2; show recv.err send.err; }
}
arrived() {
	local size
	size=$(stat -c %s .voxshm-"$receiver"-*.part 2>/dev/null) && [[ $size -ge 100000 ]]
}
status_of() { # status_of PID: its exit status, in $status
	wait "$1" 2>/dev/null
	status=$?
}
nothing_left() { [[ ! -e out ]] && ! part_in .; }

begin --json
kill -KILL $sender
status_of $receiver
[[ $status -eq 1 ]]
result $? "the sender is killed: recv fails"
nothing_left
result $? "the sender is killed: nothing of the file stays"
says recv.err "before the end; out is not complete" && grep -qE "was killed by signal 9|died or was killed" recv.err
result $? "the sender is killed: recv says so"
[[ $(json complete <recv.out) == false && $(json sha256 <recv.out) == null &&
	$(json bytes <recv.out) == 100000 && $(json peer.state <recv.out) == died ]] || show recv.out
result $? "the sender is killed: --json says so"

begin
kill -TERM $sender
status_of $receiver
[[ $status -eq 1 ]] && nothing_left && says recv.err "the sender gave up: stopped by a signal"
result $? "the sender is stopped: recv says so and keeps nothing"
status_of $sender
[[ $status -eq 143 ]]
result $? "the sender is stopped: it ends by that signal"

begin
kill -TERM $receiver
status_of $sender
[[ $status -eq 1 ]] && says send.err "the receiver was stopped before the end"
result $? "the receiver is stopped: send fails and says so"
status_of $receiver
[[ $status -eq 143 ]] && nothing_left
result $? "the receiver is stopped: it ends by that signal and keeps nothing"

begin
kill -KILL $receiver
status_of $sender
[[ $status -eq 1 && ! -e out ]] && grep -qE "the receiver (was killed by signal 9|died or was killed)" send.err
result $? "the receiver is killed: send fails and says so"
wait $receiver 2>/dev/null
exec 3>&-

# A receiver whose output is stuck; so is then the sender, in the middle.
stuck() {
	new_address
	rm -f stuck
	mkfifo stuck
	exec 4<>stuck
	voxshm recv "$address" stuck >recv.out 2>recv.err 4<&- &
	receiver=$!
	voxshm send --timeout 60 "$address" large >send.out 2>send.err 4<&- &
	sender=$!
	read -r -N 1 -t 60 -u 4
}

stuck
echo >>large
cat <&4 >/dev/null 4>&- &
drain=$!
exec 4>&-
status_of $sender
[[ $status -eq 1 ]] && says send.err "the file changed while it was sent"
result $? "the file changes while it is sent: send fails and says so"
status_of $receiver
[[ $status -eq 1 ]] && says recv.err "the sender gave up: the file changed"
result $? "the file changes while it is sent: recv fails and says so"
kill $drain 2>/dev/null

stuck
exec 4<&-
status_of $receiver
[[ $status -eq 1 ]] && says recv.err "whoever read the output has gone"
result $? "the reader of the output goes: recv fails and says so"
status_of $sender
[[ $status -eq 1 ]] && says send.err "whoever read the output has gone"
result $? "the reader of the output goes: send is told"

stuck
kill -KILL $sender
cat <&4 >/dev/null 4>&- &
drain=$!
exec 4>&-
status_of $receiver
[[ $status -eq 1 ]]
result $? "the sender is killed while it waits for room: recv fails after what had come"
kill $drain 2>/dev/null

new_address
voxshm recv "$address" 2>recv.err | head -c 10 >/dev/null &
voxshm send --timeout 60 "$address" large >send.out 2>send.err
[[ $? -eq 1 ]] && says send.err "whoever read the output has gone"
result $? "standard output is closed by its reader"
wait

finish
