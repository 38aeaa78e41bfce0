#!/bin/bash
# Checks the protocol models of this folder with spin and prints TAP.
#
#   run.sh          the bounds of `make check` (about a minute, under 4 GiB)
#   run.sh --long   larger bounds as well (about ten minutes, up to 12 GiB)
#
# A case that must pass counts only when the search was complete and found nothing.  A case that
# must fail counts only when the violation found is the one that is expected of it.

# shellcheck disable=SC2086  # flags are words
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
memory_limit=3500
depth=4000000

# case NAME MODEL EXPECTED FLAGS...   EXPECTED: "pass", or the violation as pan reports it
names=() models=() expected=() flags=()
case_() {
	names+=("$1") models+=("$2") expected+=("$3")
	shift 3
	flags+=("$*")
}

old_bytes='assertion violated (cell\[position\]!=0)'
not_next='assertion violated (cell\[position\]'
invented='assertion violated (committed>0)'
stuck='invalid end state'
lost='assertion violated (i==2)'
missing='assertion violated (s==2)'
not_lost='assertion violated (((holder\[s\]==3)||(holder\[s\]==4))||(holder\[s\]==2))'
asleep='assertion violated (finished=='
ring7='-DCAPACITY=7 -DLONGEST=3'
ring8='-DCAPACITY=8 -DLONGEST=4'

case_ "vox_ring: original's writer with original's reader replays old bytes" \
	vox_ring "$old_bytes" $ring8 -DOLD_WRITER -DOLD_READER
case_ "vox_ring: our writer with our reader" vox_ring pass $ring8
case_ "vox_ring: our writer with original's reader" vox_ring pass $ring8 -DOLD_READER
case_ "vox_ring: original's writer with our reader" vox_ring pass $ring8 -DOLD_WRITER
case_ "vox_ring: our writer, reader that trusts the watermark only while write < read" \
	vox_ring pass $ring7 -DSIMPLE_READER
case_ "vox_ring: original's writer, reader that trusts the watermark only while write < read" \
	vox_ring pass $ring7 -DSIMPLE_READER -DOLD_WRITER
case_ "vox_ring: a wrap published in two stores fails with original's reader" \
	vox_ring "$not_next" $ring8 -DSPLIT_WRAP -DOLD_READER
case_ "vox_ring: a reader that wraps on a cached write index fails" \
	vox_ring "$old_bytes" $ring8 -DWRAP_FROM_CACHE
case_ "vox_ring: entries above half the capacity block both sides for ever" \
	vox_ring "$stuck" -DCAPACITY=8 -DLONGEST=5
case_ "vox_ring: reader killed between read = 0 and watermark = 0 leaves a tail that looks unread" \
	vox_ring "$old_bytes" $ring8 -DREADER_DIES
case_ "vox_ring: reader killed anywhere, recovery trusts the watermark only while write < read" \
	vox_ring pass $ring7 -DREADER_DIES -DSIMPLE_READER

case_ "native_ring: producer killed anywhere, exactly the committed entries are delivered" \
	native_ring pass
case_ "native_ring: grants abandoned or committed shorter, heads zeroed before the next commit" \
	native_ring pass -DABORT
case_ "native_ring: batches whose first header is stored last" \
	native_ring pass -DBATCH
case_ "native_ring: a producer that waits for room with a batch unpublished blocks both sides" \
	native_ring "$stuck" -DBATCH -DNO_FLUSH
case_ "native_ring: without zeroing old headers are taken for new" \
	native_ring "$invented" -DNO_ZEROING
case_ "native_ring: zeroing only the first line of an entry fails" \
	native_ring "$invented" -DZERO_FIRST_LINE_ONLY
case_ "native_ring: a wrap marker that stays fails" \
	native_ring 'assertion violated (head\[0\]!=0)' -DKEEP_MARKER
case_ "native_ring: storing read before the zeroing fails" \
	native_ring 'assertion violated' -DEARLY_GIVE_BACK
case_ "native_ring: an abandoned grant that is not zeroed fails" \
	native_ring "$invented" -DABORT -DDIRTY_ABORT
case_ "native_ring: zeroing after a shortened commit fails" \
	native_ring "$invented" -DABORT -DLATE_CLEAN
case_ "native_ring: without the spare line there is no place for the marker" \
	native_ring 'invalid array index' -DNO_SPARE_LINE
case_ "native_ring: (capacity - 1) / 2 in bytes, rounded up to lines, blocks both sides for ever" \
	native_ring "$stuck" -DLONGEST=4

case_ "vox_pool: allocator killed anywhere, no slot lost, doubled or freed twice" \
	vox_pool pass -DBY_LIVE=2 -DBY_DYING=1
case_ "vox_pool: the host sends as well, under the link's lock" \
	vox_pool pass -DBY_LIVE=1 -DBY_DYING=1 -DHOST_SENDS
case_ "vox_pool: a send that recovery does not exclude loses a slot" \
	vox_pool "$lost" -DHOST_SENDS -DNO_LINK_LOCK
case_ "vox_pool: an intent set after the pop loses a slot" vox_pool "$lost" -DLATE_INTENT
case_ "vox_pool: live intents not read again after the list was taken: a slot with two holders" \
	vox_pool 'assertion violated (holder\[s\]==2)' -DBY_LIVE=1 -DNO_RECHECK
case_ "vox_pool: freeing by a swap of the state alone frees another's slot" \
	vox_pool 'assertion violated (((holder\[s\]==3)||(holder\[s\]==4))' -DBY_LIVE=1 -DCAS_STATE_ONLY
case_ "vox_pool: a free_head without its counter corrupts the list" \
	vox_pool "$lost" -DBY_LIVE=1 -DBY_DYING=2 -DNO_COUNTER
case_ "vox_pool: an owner set after the state loses a slot" vox_pool "$lost" -DBY_LIVE=1 -DOWNER_LAST

case_ "sleep_words: one thread a side, eventfd, store buffers" \
	sleep_words pass -DSTORE_BUFFER
case_ "sleep_words: one thread a side, larger ring" \
	sleep_words pass -DSTORE_BUFFER -DROOM=2 -DMESSAGES=5
case_ "sleep_words: one thread a side, socket, store buffers" \
	sleep_words pass -DSTORE_BUFFER -DSOCKET
case_ "sleep_words: no barrier after publishing loses a wake-up" \
	sleep_words "$asleep" -DSTORE_BUFFER -DNO_PUBLISH_BARRIER
case_ "sleep_words: no barrier after setting the word loses a wake-up" \
	sleep_words "$asleep" -DSTORE_BUFFER -DNO_SLEEP_BARRIER
case_ "sleep_words: draining after the last look loses a wake-up" \
	sleep_words "$asleep" -DSTORE_BUFFER -DDRAIN_AFTER
case_ "sleep_words: two threads a side, leader and follower, one may give up" \
	sleep_words pass -DTWO_THREADS -DMESSAGES=2
case_ "sleep_words: two threads a side, each draining for itself, lose a wake-up" \
	sleep_words "$asleep" -DTWO_THREADS -DMESSAGES=2 -DNO_LOOK_AGAIN
case_ "sleep_words: forgetting \"look again\" after the last look loses a wake-up" \
	sleep_words "$asleep" -DTWO_THREADS -DMESSAGES=2 -DLATE_SAMPLE
case_ "sleep_words: draining what was left after the last look loses a wake-up" \
	sleep_words "$asleep" -DSTORE_BUFFER -DLATE_DRAIN
case_ "sleep_words: leaving the doorbell although somebody follows loses a wake-up" \
	sleep_words "$asleep" -DTWO_THREADS -DMESSAGES=2 -DLEFT_FOLLOWER
case_ "sleep_words: a leader that gives up without handing over loses a wake-up" \
	sleep_words "$asleep" -DTWO_THREADS -DMESSAGES=2 -DNO_HANDOVER

case_ "vox_search: a guest with two threads killed anywhere, others at work: every slot found" \
	vox_search pass -DBY_RECEIVER=1
case_ "vox_search: a successor uses the dead one's place while slots are still suspected" \
	vox_search pass -DBY_SUCCESSOR=1
case_ "vox_search: ... and a second guest is killed meanwhile" \
	vox_search pass -DPEER_DIES -DBY_SUCCESSOR=1
case_ "vox_search: the living one allocates more" vox_search pass -DBY_PEER=2
case_ "vox_search: living intents not read before the list is taken: a slot that somebody has" \
	vox_search "$not_lost" -DNO_FIRST_LOOK
case_ "vox_search: ... nor after" \
	vox_search 'assertion violated ((holder\[s\]==me)' -DNO_SECOND_LOOK
case_ "vox_search: {generation, state} not compared: a slot that was allocated meanwhile" \
	vox_search 'assertion violated  !(allocated\[s\])' -DNO_WORD_CHECK
case_ "vox_search: one intent word for both threads loses a slot" \
	vox_search "$missing" -DONE_INTENT -DBY_RECEIVER=1
case_ "vox_search: a suspect that is named, and forgotten, is lost" \
	vox_search "$missing" -DNOT_PARKED

case "${1-}" in
'') ;;
--long)
	memory_limit=12000
	depth=20000000
	case_ "vox_ring (long): ours with ours, 10 cells" vox_ring pass -DCAPACITY=10 -DTAGS=3
	case_ "vox_ring (long): ours with original's reader" vox_ring pass -DCAPACITY=9 -DOLD_READER
	case_ "vox_ring (long): original's writer with ours" vox_ring pass -DCAPACITY=9 -DOLD_WRITER
	case_ "native_ring (long): batches, grants abandoned or shortened" \
		native_ring pass -DBATCH -DABORT
	case_ "native_ring (long): 8 lines" native_ring pass -DLINES=8 -DABORT -DTAGS=3
	case_ "native_ring (long): 9 lines" native_ring pass -DLINES=9 -DABORT
	case_ "vox_ring (long): ours with the simple reader" vox_ring pass -DCAPACITY=9 -DSIMPLE_READER
	case_ "vox_ring (long): original's writer with the simple reader, which may be killed" \
		vox_ring pass -DCAPACITY=9 -DSIMPLE_READER -DOLD_WRITER -DREADER_DIES
	case_ "vox_pool (long): the dying side allocates more" vox_pool pass -DBY_LIVE=1 -DBY_DYING=2
	case_ "vox_pool (long): the host sends more" vox_pool pass -DBY_LIVE=2 -DHOST_SENDS
	case_ "vox_pool (long): three slots" vox_pool pass -DSLOTS=3
	case_ "vox_pool (long): two and two" vox_pool pass -DBY_LIVE=2 -DBY_DYING=2
	case_ "vox_search (long): the host at work as well" vox_search pass -DBY_HOST=1
	case_ "vox_search (long): two threads killed, and a successor" \
		vox_search pass -DBY_RECEIVER=1 -DBY_SUCCESSOR=1
	case_ "vox_search (long): three slots" vox_search pass -DSLOTS=3 -DBY_PEER=2 -DBY_SENDER=2
	case_ "sleep_words (long): two threads, socket" \
		sleep_words pass -DTWO_THREADS -DMESSAGES=2 -DSOCKET
	case_ "sleep_words (long): two threads, store buffers" \
		sleep_words pass -DTWO_THREADS -DMESSAGES=2 -DSTORE_BUFFER
	;;
*)
	echo "usage: run.sh [--long]" >&2
	exit 2
	;;
esac

for tool in spin gcc; do
	if ! command -v "$tool" > /dev/null; then
		echo "1..0 # SKIP $tool is not installed"
		exit 0
	fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/voxshm-model.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# check MODEL EXPECTED FLAGS: sets verdict ("ok" or why not) and states
check() {
	local model=$1 want=$2 found optimise
	shift 2
	states=0
	rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run" || exit 1
	if ! spin "$@" -a "$here/$model.pml" > log 2>&1 || [ ! -s pan.c ]; then
		verdict="spin refused the model: $(head -n 1 log)"
		return
	fi
	[ "$want" = pass ] && optimise=-O2 || optimise=-O0
	if ! gcc $optimise -w -DSAFETY -DMEMLIM=$memory_limit -o pan pan.c > log 2>&1; then
		verdict="the verifier did not compile: $(grep -m 1 error log)"
		return
	fi
	./pan -m$depth -w23 > log 2>&1
	states=$(awk '/states, stored/ { print $1 }' log)
	found=$(sed -n 's/^pan:1: //p' log | head -n 1)
	if [ -z "$states" ]; then
		verdict="no result: $(head -n 1 log)"
	elif [ "$want" != pass ]; then
		if grep -q "$want" <<< "$found"; then
			verdict=ok
		else
			verdict="expected \"$want\", found \"${found:-nothing}\""
		fi
	elif [ -n "$found" ]; then
		verdict="found \"$found\""
	elif grep -qE 'max search depth|out of memory|memory limit|not completed|aborted' log; then
		verdict="the search was not complete"
	elif ! grep -q 'errors: 0$' log; then
		verdict="no clean result"
	else
		verdict=ok
	fi
}

echo "1..${#names[@]}"
failed=0
for k in "${!names[@]}"; do
	began=$SECONDS
	check "${models[k]}" "${expected[k]}" ${flags[k]}
	if [ "${expected[k]}" = pass ]; then
		outcome="complete, no violation"
	else
		outcome="violation found"
	fi
	if [ "$verdict" = ok ]; then
		echo "ok $((k + 1)) - ${names[k]} ($outcome)"
	else
		echo "not ok $((k + 1)) - ${names[k]}"
		echo "# $verdict"
		failed=1
	fi
	echo "# states ${states:-0}"
	echo "# seconds $((SECONDS - began))"
done
exit $failed
