#!/bin/bash
# SPDX-License-Identifier: MIT
#
# voxshm monitor tells what uevents say, and nothing else. In namespaces of its
# own: a sysfs that the test writes, /dev/null's node in the place of the
# device's, and uevents as udevd would send them. The real ones: tests/vm/udev.sh.
# shellcheck disable=SC2154 # the folders: of common.bash
inside() { unshare "${user[@]}" --mount --net "$@"; }
if [[ -z ${VOXSHM_TEST_INSIDE:-} ]]; then
	user=()
	[[ $EUID -eq 0 ]] || user=(--user --map-root-user)
	if ! inside true 2>/dev/null; then
		echo "1..0 # SKIP no namespaces are to be had here"
		exit 4
	fi
	VOXSHM_TEST_INSIDE=1 inside bash "$0"
	exit
fi
source "${BASH_SOURCE[0]%/*}/common.bash"
build_json
"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -I"$sources/tests" -o uevent "$here/uevent.c"

export SYSTEMD_DEVICE_VERIFY_SYSFS=0
set -e
mount -t tmpfs none /sys
mount -t tmpfs none /run
# A new /dev with a few of the old nodes. Nothing is mounted below the folder
# that the end removes, and nothing goes on if a mount fails: these are the
# machine's own places.
mkdir /run/dev
for name in null zero full; do
	: >/run/dev/$name
	mount --bind /dev/$name /run/dev/$name
done
mount --rbind /run/dev /dev
mkdir -p /run/udev/data /sys/class/misc /sys/devices/virtual/misc/voxshm /sys/module/voxshm/parameters
: >/run/udev/control
echo N >/sys/module/voxshm/parameters/uevents
ln -s ../../../../class/misc /sys/devices/virtual/misc/voxshm/subsystem
printf 'MAJOR=1\nMINOR=3\nDEVNAME=voxshm\n' >/sys/devices/virtual/misc/voxshm/uevent
set +e

load() {
	: >/dev/voxshm
	mount --bind /dev/null /dev/voxshm
	ln -s ../../devices/virtual/misc/voxshm /sys/class/misc/voxshm
	echo I:1 >/run/udev/data/c1:3
	./uevent add
}
unload() {
	rm /sys/class/misc/voxshm /run/udev/data/c1:3
	umount /dev/voxshm
	rm /dev/voxshm
	./uevent remove
}
module() { ./uevent change "VOXSHM_EVENT=$1" "VOXSHM_LABEL=$2" "VOXSHM_PEER=$3" "VOXSHM_PID=$4"; }

monitor() { # monitor OPTION...: in the background, as $monitor, and listening
	rm -f monitor.out
	env --default-signal=INT voxshm monitor "$@" >monitor.out 2>monitor.err &
	monitor=$!
	holds grep -qs . monitor.out
}
stop() { # its exit status in $status, within seconds
	kill "$@" $monitor
	wait $monitor
	status=$?
}
lines() { [[ $(wc -l <monitor.out) -ge $1 ]]; }

# All that may happen, and what is no news. The order of lines is that of events.
happen() {
	load
	./uevent add
	module created desk 0 101
	module ended desk 3 102
	module invented desk 3 103
	./uevent change
	./uevent change SYNTH_UUID=0 SYNTH_ARG_VOXSHM_EVENT=created
	module ended "" 255 104
	module removed desk 0 101
	unload
	./uevent remove
	echo Y >/sys/module/voxshm/parameters/uevents
	load
}

monitor
happen
holds lines 8
stop
cat >expected <<'EOF'
/dev/voxshm is not there
/dev/voxshm appeared; its module does not tell of segments and guests (uevents=0)
segment desk created by process 101
guest 3 of segment desk ended (process 102)
guest 255 of segment without a label ended (process 104)
segment desk of process 101 removed
/dev/voxshm disappeared
/dev/voxshm appeared
EOF
diff expected monitor.out >&2
result $? "each event is a line, and nothing else is"
[[ $status -eq 0 && ! -s monitor.err ]]
result $? "it ends well by SIGTERM"

monitor --json
stop -INT
[[ $status -eq 0 && $(json event <monitor.out) == present && $(json uevents <monitor.out) == true ]] ||
	show monitor.out
result $? "--json: the node is there; it ends well by SIGINT"

unload
echo N >/sys/module/voxshm/parameters/uevents
monitor --json
happen
holds lines 8
stop
[[ $(json event <monitor.out | paste -sd' ') == \
	"absent appeared created ended ended removed disappeared appeared" ]] || show monitor.out
result $? "--json: every line is JSON, with what happened"
[[ $(json node <monitor.out | sort | uniq -c | xargs) == "4 /dev/voxshm" &&
	$(json uevents <monitor.out | paste -sd' ') == "false true" &&
	$(json label <monitor.out | paste -sd,) == desk,desk,,desk &&
	$(json peer <monitor.out | paste -sd' ') == "3 255" &&
	$(json pid <monitor.out | paste -sd' ') == "101 102 104 101" ]] || show monitor.out
result $? "--json: all fields"

monitor
module created $'\e[31mred' 0 101
holds lines 2
stop
says monitor.out "segment _[31mred created"
result $? "no control character is printed"

voxshm monitor --wait --timeout 0 >wait.out 2>wait.err && [[ $(<wait.out) == "/dev/voxshm is there"* ]]
result $? "--wait: the node is there already"
unload
voxshm monitor --wait --timeout 0.1 >wait.out 2>wait.err
[[ $? -eq 1 && ! -s wait.out ]] && says wait.err "the module voxshm is not loaded"
result $? "--wait gives up after --timeout, and says what is missing"
voxshm monitor --wait --json >wait.out 2>wait.err &
monitor=$!
sleep 0.1
load
wait $monitor && [[ $(json event <wait.out) == present ]]
result $? "--wait ends when the node has come"
unload
voxshm monitor --wait >wait.out 2>wait.err &
monitor=$!
sleep 0.1
stop
[[ $status -eq 143 && ! -s wait.out ]]
result $? "--wait is stopped by a signal and ends by it"

timeout 60 "$VOXSHM" monitor >/dev/full 2>full.err
[[ $? -eq 1 ]] && says full.err "cannot write to standard output"
result $? "it ends when nobody can read what it tells"

finish
