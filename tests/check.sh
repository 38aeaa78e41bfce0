#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs the parts of the check that are named (make check-NAME for each), all of
# them even if one fails, and says at the end how long each took. The part that
# needs cargo, which no package brings, is left out where there is none.
set -uo pipefail

jobs=()
[[ ${MAKEFLAGS:-} == *jobserver* ]] || jobs=("-j$(nproc)")

failed=0
report=
for part; do
	printf '\n== %s\n' "$part"
	start=$SECONDS
	if [[ $part == interop ]] && ! tools/setup.sh interop; then
		result="NOT RUN"
	elif "${MAKE:-make}" --no-print-directory "${jobs[@]}" "check-$part"; then
		result=ok
	else
		result=FAILED
		failed=1
	fi
	report+=$(printf '  %-10s %-7s %4d s' "$part" "$result" $((SECONDS - start)))$'\n'
done

printf '\n== summary\n%s  %-10s %-7s %4d s\n' "$report" total "" "$SECONDS"
exit "$failed"
