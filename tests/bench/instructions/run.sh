#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Counts by callgrind the instructions of one send and one receive and compares
# them with those expected: more than a tenth above is a failure. run.sh PROGRAM
# speaks TAP; run.sh PROGRAM --print writes what a new file "expected" would hold.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"

few=100
many=1100
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Instructions inside the named calls, of so many messages.
count() {
	local operation=$1 size=$2 times=$3 calls=$4 call
	local toggles=()
	for call in ${calls//,/ }; do
		toggles+=("--toggle-collect=$call")
	done
	valgrind -q --tool=callgrind --callgrind-out-file="$scratch/out" "${toggles[@]}" \
		"$program" "$operation" "$size" "$times" >"$scratch/log" 2>&1 ||
		{ cat "$scratch/log" >&2; return 1; }
	awk '/^(summary|totals):/ { print $2; exit }' "$scratch/out"
}

# For one message, to a tenth: from the difference of a long and a short run.
per_message() {
	local operation=$1 size=$2 calls=$3 divide=1 long short
	[[ $operation != batch ]] || divide=16
	long=$(count "$operation" "$size" "$many" "$calls")
	short=$(count "$operation" "$size" "$few" "$calls")
	awk -v n=$(((many - few) * divide)) -v d=$((long - short)) 'BEGIN { printf "%.1f", d / n }'
}

if [[ ${2:-} == --print ]]; then
	grep '^#' expected
	while read -r operation size calls _; do
		[[ $operation == [a-z]* ]] || continue
		printf '%-6s %5s  %-44s %6s\n' "$operation" "$size" "$calls" \
			"$(per_message "$operation" "$size" "$calls")"
	done <expected
	exit 0
fi

number=0
while read -r operation size calls limit; do
	[[ $operation == [a-z]* ]] || continue
	number=$((number + 1))
	found=$(per_message "$operation" "$size" "$calls")
	verdict=ok
	awk -v found="$found" -v limit="$limit" \
		'BEGIN { exit !(found > 0 && found <= limit * 1.1) }' || verdict="not ok"
	echo "$verdict $number - $operation of $size bytes, $calls: $found instructions, $limit expected"
done <expected
echo "1..$number"
[[ $number -gt 0 ]]
