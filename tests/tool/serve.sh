#!/bin/bash
# SPDX-License-Identifier: MIT
#
# voxshm serve: many guests, files into a folder and nowhere else, whatever
# the sender says.
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json
${CC:-cc} -std=gnu11 -D_GNU_SOURCE -I"$sources/lib/include" -I"$sources/tools" -o hostile \
	"$here/hostile.c" "$sources/tools/digest.c" "$build/libvoxshm.a" -lcrypto -ludev -pthread

head -c 3000000 /dev/urandom >large
mkdir in

serve() { # serve OPTION...: in the background, as $server
	new_address
	rm -f serve.out
	voxshm serve "$@" "$address" >serve.out 2>serve.err &
	server=$!
}
finished() { # the server has stopped by itself or is stopped now; its status in $status
	wait $server
	status=$?
}
stop() {
	kill $server
	finished
}

serve --directory in
voxshm send --timeout 60 "$address" large >send.out 2>send.err && cmp large in/large >&2
result $? "a file is stored under its name"
head -c 1000 large >small
voxshm send --timeout 60 "$address" small >send.out 2>send.err && cmp small in/small >&2
result $? "so is the next one"
voxshm send --timeout 60 "$address" small >send.out 2>send.err
[[ $? -eq 1 ]] && says send.err "small is there already"
result $? "a name that is taken is refused"
voxshm send --timeout 60 "$address" - <small >send.out 2>send.err && cmp small in/unnamed >&2
result $? "standard input is stored as unnamed"
stop
[[ $status -eq 0 ]] && says serve.out "guest 1 attached: process" && says serve.out "guest 1 left" &&
	says serve.out "guest 1: stored large: 2.9 MiB" &&
	says serve.out "guest 1: did not store small: small is there already"
result $? "serve tells who came, what came, and who left"

serve --directory in --force
voxshm send --timeout 60 "$address" small >send.out 2>send.err && cmp small in/small >&2
result $? "--force replaces"
stop

rm -rf in && mkdir in
serve --directory in
senders=
for i in 1 2 3 4; do
	{ cat large && echo "$i"; } >"many-$i"
	voxshm send --timeout 60 "$address" "many-$i" >"send-$i.out" 2>"send-$i.err" &
	senders+=" $!"
done
# shellcheck disable=SC2086 # one argument each
wait $senders
status=0
for i in 1 2 3 4; do
	cmp "many-$i" "in/many-$i" >&2 || status=1
done
result $status "several guests at a time"
stop

serve --json --directory in
voxshm send --timeout 60 --message 'one "two" three' "$address"
result $? "a message is sent"
voxshm send --timeout 60 "$address" large >/dev/null
voxshm send --timeout 60 "$address" large >/dev/null 2>&1
holds grep -q '"failed"' serve.out
stop
[[ $(json event <serve.out | sort -u | paste -sd' ') == "attached failed gone listening message stored" ]] ||
	show serve.out
result $? "--json: every line is JSON, with what happened"
[[ $(json text <serve.out) == 'one "two" three' ]]
result $? "--json: the text of a message"

serve --once
voxshm send --timeout 60 --message $'colour: \e[31mred\a' "$address"
finished
[[ $status -eq 0 ]] && says serve.out 'guest 1: colour: .[31mred.'
result $? "a message is printed, but no control characters; --once ends with its guest"

serve --once
voxshm send --timeout 60 "$address" large >send.out 2>send.err
[[ $? -eq 1 ]] && says send.err "this host stores no files; start it with --directory"
result $? "without --directory files are refused"
finished
[[ $status -eq 1 ]]
result $? "--once fails when what came was not stored"

mkfifo feed
serve --once --directory in
exec 3<>feed
voxshm send --timeout 60 "$address" feed >send.out 2>send.err 3<&- &
sender=$!
echo some >&3
holds grep -qs attached serve.out
kill -KILL $sender
finished
exec 3<&-
[[ $status -eq 1 ]] && grep -qE "guest 1 (was killed by signal 9|died or was killed)" serve.out
result $? "serve tells that a guest was killed"
wait $sender 2>/dev/null

serve --directory in
exec 3<>feed
voxshm send --timeout 60 "$address" feed >send.out 2>send.err 3<&- &
sender=$!
echo some >&3
holds part_in in
stop
exec 3<&-
wait $sender
[[ $? -eq 1 ]] && says send.err "the receiver was stopped" && ! part_in in
result $? "a server that is stopped in the middle tells the sender, and keeps nothing"

rm -f serve.out
voxshm serve --directory in >serve.out 2>serve.err &
server=$!
holds grep -qs "voxshm send @" serve.out
address=$(sed -n 's/.*voxshm send \(@[^ ]*\) FILE/\1/p' serve.out)
voxshm send --timeout 60 "$address" small >send.out 2>send.err
result $? "without ADDRESS a name is chosen, and told"
stop

# Names that a hostile sender might choose; each lands in the folder, or nowhere.
rm -rf in && mkdir in && echo mine >victim && ln -s ../victim in/link
name_test() { # name_test NAME STORED-AS
	serve --once --directory in
	./hostile "$address" "" "$1" >hostile.out
	finished
	[[ -f in/$2 && $(<"in/$2") == four && $(<victim) == mine && ! -e evil ]] || { show serve.out; ls -A in >&2; false; }
	result $? "the name ${1@Q} is stored as $2"
	rm -f "in/$2"
}
name_test ../evil evil
name_test /tmp/../../evil evil
name_test .. _.
name_test . _
name_test "" unnamed
name_test a/ unnamed
name_test .bashrc _bashrc
name_test $'new\nline' new_line
name_test $'\e[2Jclear' '_[2Jclear'
name_test $'\xff\xfe' __
name_test $'\xe2\x80\xaegnp.exe' ___gnp.exe
name_test 'Übermut' 'Übermut'
serve --once --directory in
./hostile "$address" "" link >hostile.out
[[ $? -eq 1 && $(<victim) == mine ]] && says hostile.out "link is there already"
result $? "a name that is a symbolic link is not followed"
finished

serve --once --directory in --force
./hostile "$address" "" link >hostile.out && [[ $(<victim) == mine && ! -L in/link && $(<in/link) == four ]]
result $? "--force replaces a symbolic link, not what it leads to"
finished
rm -f in/*

for fault in mode size reserved name-size long-name zero-in-name short-begin more less gap type data-reserved \
	tiny begin-twice no-bytes again abort-size sum total end-reserved short-end; do
	serve --once --directory in
	./hostile "$address" $fault >hostile.out
	refused=$?
	finished
	[[ $refused -eq 1 && $status -eq 1 && -z $(ls -A in) ]] &&
		says hostile.out "does not keep to the rules" || show serve.out
	result $? "a sender that breaks the rules is refused: $fault"
done

serve --once --directory in
./hostile "$address" abort >hostile.out
finished
[[ -z $(ls -A in) ]] && says serve.out 'the sender gave up: .[31mred.'
result $? "a hostile reason is printed without control characters"

serve --once --any-user --directory in
./hostile "$address" large >hostile.out
[[ $? -eq 1 ]] && says hostile.out "larger than 65536 bytes"
result $? "--any-user: a message that is too large to be copied is refused"
finished

finish
