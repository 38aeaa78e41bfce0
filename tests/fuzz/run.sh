#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs fuzzers, and says by TAP what they found.
#
#   tests/fuzz/run.sh SECONDS [FUZZER...]      all of build/fuzz's, for so long in all
#
# Each begins with the inputs of seeds and what earlier runs have collected in
# build/fuzz/corpus/FUZZER; a race variant shares that of its fuzzer. What finds
# something is kept as build/fuzz/found/FUZZER-*, and replayed with
# build/fuzz/tests/fuzz/FUZZER FILE.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=$1
shift
programs=build/fuzz/tests/fuzz
corpus=build/fuzz/corpus
found=build/fuzz/found
if [[ $# -eq 0 ]]; then
	for program in "$programs"/*; do
		[[ -f $program && -x $program && $program != */seeds ]] && set -- "$@" "${program##*/}"
	done
fi
mkdir -p "$corpus" "$found"
"$programs/seeds" "$corpus"

each=$((seconds / $#))
[[ $each -gt 0 ]] || each=1
tests=0
failed=0
for fuzzer; do
	tests=$((tests + 1))
	inputs=$corpus/${fuzzer%_race}
	log=$found/$fuzzer.log
	status=0
	"$programs/$fuzzer" -max_total_time="$each" -max_len=600 -timeout=20 -rss_limit_mb=4000 \
		-print_final_stats=1 -artifact_prefix="$found/$fuzzer-" "$inputs" >"$log" 2>&1 || status=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
	# More than the seeds, or it has not fuzzed.
	if [[ $status -eq 0 && ${runs:-0} -gt $(find "$inputs" -name 'seed-*' | wc -l) ]]; then
		echo "ok $tests - $fuzzer finds nothing"
	else
		echo "not ok $tests - $fuzzer finds nothing"
		sed 's/^/# /' "$log" | tail -60
		failed=1
	fi
	echo "# $fuzzer: ${runs:-no} runs in $each s, ${rate:-0} a second"
done
echo "1..$tests"
exit "$failed"
