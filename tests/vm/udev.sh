#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A real systemd-udevd and the real module, in the virtual machine: the rule
# gives the node its group and mode, and voxshm monitor tells what happens.
# The module is loaded when this begins, and when it ends.
tests=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tests - $2"
		return
	fi
	echo "not ok $tests - $2"
	sed 's/^/# /' monitor.out monitor.err serve.err send.out udevd.log 2>/dev/null
}
# holds COMMAND...: true as soon as it succeeds, false after half a minute.
holds() {
	for _ in $(seq 300); do
		"$@" && return
		sleep 0.1
	done
	return 1
}
told() { grep -qE "$1" monitor.out; }

work=$(mktemp -d)
cd "$work" || exit 1
rmmod voxshm || exit 1
/usr/lib/systemd/systemd-udevd >udevd.log 2>&1 &
udevd=$!
holds test -S /run/udev/control
result $? "systemd-udevd runs"

voxshm monitor --json >monitor.out 2>monitor.err &
monitor=$!
voxshm monitor --wait --timeout 60 >wait.out 2>&1 &
waiter=$!
holds told '"absent"'
result $? "monitor tells that the node is not there"
voxshm monitor --wait --timeout 0.1 2>timeout.err
[ $? -eq 1 ] && grep -q "not loaded" timeout.err
result $? "a wait for the node gives up in time"

modprobe voxshm uevents=1
result $? "modprobe finds the module"
wait $waiter
status=$?
# At once: the wait is over only when udevd has set them.
found=$(stat -c '%U %G %a' /dev/voxshm)
[ $status -eq 0 ]
result $? "the wait for the node ends"
[ "$found" = "root voxshm 660" ] || echo "# it is $found"
[ "$found" = "root voxshm 660" ]
result $? "by then the node belongs to the group voxshm, with mode 660"
udevadm settle
[ "$(stat -c '%U %G %a %F' /dev/voxshm)" = "root voxshm 660 character special file" ]
result $? "and still when udevd has settled"
su alice -c 'exec 3<>/dev/voxshm' 2>su.err && ! su bob -c 'exec 3<>/dev/voxshm' 2>su.err
result $? "who is in the group may open it, and who is not may not"
holds told '"appeared".*"uevents":true'
result $? "monitor tells that the node came, and that the module tells"

# One guest, which comes and goes; host and guest as the tool has them.
voxshm serve --once --json --backend device @udev >serve.out 2>serve.err &
host=$!
holds grep -q listening serve.out
result $? "a host on the device"
voxshm send --timeout 20 --message hello @udev >send.out 2>&1
result $? "a guest on the device"
wait $host
guest=$(sed -nE '/"attached"/ s/.*"pid":([0-9]+).*/\1/p' serve.out)
line() { # line EVENT PID: that event with that process
	told "\"event\":\"$1\".*\"pid\":${2}[,}]"
}
holds line created $host
result $? "monitor tells that the host made a segment"
[ -n "$guest" ] && holds line ended "$guest"
result $? "and that its guest ended"
holds line removed $host
result $? "and that the segment was removed"
[ "$(grep -c '"ended"' monitor.out)" -eq 1 ]
result $? "and of no other guest"

echo 0 >/sys/module/voxshm/parameters/uevents
voxshm serve --once --backend device @udev >serve.out 2>&1 &
host=$!
holds grep -q listening serve.out
voxshm send --timeout 20 --message hello @udev >send.out 2>&1
wait $host
rmmod voxshm
result $? "rmmod"
holds told '"disappeared"'
result $? "monitor tells that the node went"
[ ! -e /dev/voxshm ]
result $? "the node is gone"
told "\"pid\":${host}[,}]"
[ $? -eq 1 ]
result $? "with uevents=0 nothing was told of segments and guests"

kill $monitor
wait $monitor
result $? "monitor ends well by SIGTERM"

modprobe voxshm && udevadm settle
kill $udevd
wait $udevd 2>/dev/null
rm -rf /run/udev
[ "$(stat -c '%G %a' /dev/voxshm)" = "voxshm 660" ]
result $? "the module is loaded again"
cd / && rm -rf "$work"
echo "1..$tests"
