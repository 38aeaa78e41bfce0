#!/bin/bash
# SPDX-License-Identifier: MIT
#
# That the benchmark runs: every section has figures, the files it leaves are
# whole, what it cannot do it says. What the figures are is not tested.
#
#   tests/bench/smoke.sh BENCH
set -uo pipefail
export LC_ALL=C

bench=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	[[ $1 -eq 0 ]] && echo "ok $tests - $2" || echo "not ok $tests - $2"
}

# The fields of a line of results.csv, of which one may be quoted: section, row, metric, median.
figures() {
	awk 'NR > 1 {
		split($0, part, "\"")
		split(part[1], head, ",")
		count = split(part[3], tail, ",")
		print head[1] "\t" part[2] "\t" tail[4] "\t" tail[6]
	}' "$scratch/out/results.csv"
}

"$bench" --quick --rounds 1 --size 64 --out "$scratch/out" >"$scratch/said" 2>"$scratch/progress"
status=$?
[[ $status -eq 0 ]] || cat "$scratch/said" "$scratch/progress" >&2
result $status "a quick run ends well"

for section in pairs rings guests idle life growth syscalls memory; do
	figures | awk -F'\t' -v section="$section" '
		$1 == section && $4 ~ /^-?[0-9.e+]+$/ { found++ } END { exit !found }'
	result $? "section $section has figures"
done

# A row of ours without a figure, or with none above 0, was not measured.
figures | awk -F'\t' '
	$1 == "pairs" && $2 ~ /^voxshm/ && ($3 == "p50" || $3 == "rate") {
		rows++
		if ($4 !~ /^[0-9]/ || $4 + 0 <= 0) { print > "/dev/stderr"; bad = 1 }
	}
	END { exit bad || rows < 8 }'
result $? "every row of ours is measured"

grep -q '^To reach' "$scratch/out/table.txt" && grep -q '^Round trip, median' "$scratch/out/table.txt"
result $? "the table has its parts, and what is to be reached"

"${CC:-cc}" -o "$scratch/json" tests/tool/json.c -ljansson
{ printf '{"records": '; tr -d '\n' <"$scratch/out/results.json"; echo '}'; } |
	"$scratch/json" records | grep -q '"median"'
result $? "the results are JSON"

tests/bench/plot.sh "$scratch/out" >"$scratch/said" 2>&1
status=$?
for plot in latency roundtrip rate rings guests; do
	grep -q '</svg>' "$scratch/out/$plot.svg" || status=1
done
[[ $status -eq 0 ]] || cat "$scratch/said" >&2
result "$status" "all plots are drawn"

"$bench" --size nonsense >"$scratch/said" 2>&1
[[ $? -eq 2 && $(<"$scratch/said") == *nonsense* ]]
result $? "an argument that is none is refused, and said which"

"$bench" --quick --rounds 1 --sections syscalls --out /proc/nowhere >"$scratch/said" 2>&1
[[ $? -eq 1 && $(<"$scratch/said") == *"cannot write to /proc/nowhere"* ]]
result $? "a folder that cannot be written is named"

echo "1..$tests"
