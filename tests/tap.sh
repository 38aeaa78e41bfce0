#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs one test for prove: with a time limit, under $TEST_UNDER if that is set
# (valgrind), what it said shown when it fails and kept in $TEST_LOGS.
# Having run no test at all is a failure.
set -uo pipefail

name=${1#build/}
log=${TEST_LOGS:-build/tests/log}/${name//\//-}
mkdir -p "${log%/*}"

# shellcheck disable=SC2086 # a command with its arguments
timeout --kill-after=5 "${TEST_SECONDS:-300}" ${TEST_UNDER:-} "$@" >"$log.out" 2>"$log.err"
status=$?

# kselftest.h's way to skip a whole program: exit status 4.
if [[ $status -eq 4 ]] && grep -qE '^1\.\.0 +# *SKIP' "$log.out"; then
	status=0
fi
if [[ $status -eq 124 || $status -eq 137 ]]; then
	echo "# $1 was stopped after ${TEST_SECONDS:-300} seconds" >>"$log.err"
fi
if ! grep -qE '^(not )?ok|^1\.\.0 +# *SKIP' "$log.out"; then
	echo "not ok 1 - $1 ran no test"
	echo 1..1
	[[ $status -ne 0 ]] || status=1
else
	cat "$log.out"
fi
if [[ $status -ne 0 ]] || grep -q '^not ok' "$log.out"; then
	grep -hvE '^ok |^# +(RUN|OK) ' "$log.out" "$log.err" >&2
fi
exit "$status"
