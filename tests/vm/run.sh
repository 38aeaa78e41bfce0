#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Tests the module on a kernel in a virtual machine, as one TAP stream.
#
#   tests/vm/run.sh KERNEL [PROGRAM...]           KERNEL: 6.1, 6.12, sid or debug
#   tests/vm/run.sh KERNEL --shell [PROGRAM...]   a shell there instead
#
# Without a PROGRAM: tests/vm/udev.sh and all tests of tests/kselftest/,
# tests/link/ and tests/hostile/, except for what tests/vm/left-out names. A PROGRAM is a
# file of build/tests/ or tests/, with arguments if they stand in the same word:
#
#   tests/vm/run.sh 6.12 'build/tests/link/deaths native_device'
#
# Tests of their own are: loading the module, unloading it after everything, a
# kernel log without a warning, and for each program that it ran something, ended
# well and did not skip all.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

if [[ $# -lt 1 ]]; then
	sed -n '5,8s/^# *//p' "$0" >&2
	exit 2
fi
kernel=$1
shift

tests=0
failed=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	if [[ $1 -eq 0 ]]; then
		echo "ok $tests - $2"
	else
		echo "not ok $tests - $2"
		failed=1
	fi
}
finish() {
	echo "1..$tests"
	exit "$failed"
}

# The programs -----------------------------------------------------------------

default_programs() {
	local source name
	for source in tests/vm/udev.sh tests/{kselftest/*.c,kselftest/*.sh,link/*.c,hostile/*.c}; do
		[[ -f $source ]] || continue
		name=${source%.c}
		grep -q "^${name#tests/} " tests/vm/left-out && continue
		[[ $source == *.sh ]] && echo "$source" || echo "build/$name"
	done
}

# What the programs say -------------------------------------------------------

# The state of the program that runs.
begin() {
	program=$1
	listed=0
	passed=0
	skipped=0
	dropped=0
	wrong=0
	plan=
}

# A line "ok 3 - name # SKIP why", as kselftest_harness.h and shell scripts have it.
test_line() {
	local outcome=$1 name=$2
	listed=$((listed + 1))
	name=${name#- }
	if [[ $outcome == ok && $name =~ \#\ *SKIP ]]; then
		# The file backend has its turn without a virtual machine.
		if [[ $name =~ (native|vox)_file ]]; then
			dropped=$((dropped + 1))
			return
		fi
		skipped=$((skipped + 1))
	elif [[ $outcome == ok ]]; then
		passed=$((passed + 1))
	else
		wrong=$((wrong + 1))
	fi
	[[ $outcome == ok ]]
	result $? "$program: $name"
}

end() {
	local status=$1 seconds=$2
	echo "# $program: $passed passed, $wrong failed, $skipped skipped, $seconds s"
	if [[ $((listed - dropped)) -eq 0 ]]; then
		result 1 "$program: it runs a test"
	elif [[ $((passed + wrong)) -eq 0 ]]; then
		result 1 "$program: not everything is skipped"
	fi
	if [[ $status -eq 124 || $status -eq 137 ]]; then
		result 1 "$program: it ends in time"
	elif [[ $status -ne 0 && $wrong -eq 0 ]]; then
		result 1 "$program: it ends well, not with status $status"
	elif [[ -n $plan && $plan -ne $listed ]]; then
		result 1 "$program: it runs the $plan tests of its plan, not $listed"
	fi
	program=
}

control() {
	case $1 in
	load) result "$2" "vm: the module loads" ;;
	unload) result "$2" "vm: the module unloads when all are done" ;;
	begin) begin "$2" ;;
	end) end "$3" "$4" ;;
	'done') ended=1 ;;
	status) vm_status=$2 ;;
	esac
}

program=
ended=0
vm_status=1
flatten() {
	local line
	while IFS= read -r line; do
		line=${line%$'\r'}
		if [[ $line == '##vm '* ]]; then
			# shellcheck disable=SC2086 # words
			control ${line#"##vm "}
		elif [[ -n $program && $line =~ ^(ok|not\ ok)\ +[0-9]+\ *(.*)$ ]]; then
			test_line "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
		elif [[ $line =~ ^1\.\.([0-9]+) ]]; then
			plan=${BASH_REMATCH[1]}
			[[ $line =~ ^1\.\.[0-9]+$ ]] || echo "# $line"
		elif [[ ! $line =~ ^(TAP\ version|#\ +(RUN|OK|SKIP)\ |#\ (Starting|PASSED|Totals)|$) ]]; then
			echo "# ${line#\# }"
		fi
	done
}

# What must not be in the kernel's log. A program's own name stands after "====".
trouble='\bWARNING\b|\bBUG\b|\bOops\b|INFO: |lockdep|hung_task|soft lockup|hard LOCKUP|detected stall'
trouble+='|general protection|KASAN|KCSAN|UBSAN|refcount_t:|scheduling while atomic|kmemleak'
trouble+='|Kernel panic|page allocation failure|list_(add|del) corruption|Bad page'

kernel_log() {
	local lines=
	[[ ! -e $VM_LOG ]] || lines=$(tr -d '\r' <"$VM_LOG" | grep -vF '==== ' |
		grep -v 'RCU lockdep checking is enabled' | grep -E "$trouble")
	[[ -s $VM_LOG && -z $lines ]]
	result $? "vm: no warning in the kernel's log"
	# shellcheck disable=SC2001 # each line
	[[ -z $lines ]] || sed 's/^/# /' <<<"$lines"
	mv -f "$VM_LOG" "build/vm/$kernel/console.log"
}

if ! tests/vm/kernel.sh "$kernel"; then
	result 1 "vm: the module builds without a warning"
	finish
fi
if [[ ${1:-} == --shell ]]; then
	exec tests/vm/boot.sh "$kernel" "$@"
fi
result 0 "vm: the module builds without a warning"
[[ $# -gt 0 ]] || mapfile -t programs < <(default_programs)
[[ $# -eq 0 ]] || programs=("$@")
echo "# kernel $(<"build/vm/$kernel/release")"
# A name of its own: another run on this kernel may be under way.
export VM_LOG=build/vm/$kernel/console.$$.log
flatten < <(tests/vm/boot.sh "$kernel" "${programs[@]}")
[[ -z $program ]] || result 1 "$program: the machine outlives it"
[[ $ended -eq 1 && $vm_status -eq 0 ]]
result $? "vm: the machine ends by itself"
kernel_log
finish
