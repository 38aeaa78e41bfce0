#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Makes the tables of README.md from what the programs said:
#
#   for program in build/tests/crash/*; do TEST_LONG=1 $program; done | tests/crash/figures.sh
set -euo pipefail

sed -n 's/^# \([a-z_]*\) of a \([a-z]*\) \([a-z]*\), \([a-z]*\), \([a-z]*\): \([0-9]*\) instructions, \([0-9]*\) runs, \([0-9]*\) strayed, \([0-9]*\) failures.*/\1 \2-\3 \4-\5 \6 \7 \8 \9/p' |
awk '
{
	if (!($1 in seen)) { seen[$1] = 1; order[++count] = $1 }
	if ($4 > most[$1, $2]) most[$1, $2] = $4
	if (!($3 in swept)) { circumstance[++circumstances] = $3; swept[$3] = 0 }
	swept[$3] += $4; runs[$3] += $5; strayed[$3] += $6; failures[$3] += $7; sweeps[$3]++
}
function cell(operation, victim) {
	return (operation, victim) in most ? most[operation, victim] : ""
}
END {
	print "| circumstance, backend | sweeps | instructions | runs | strayed | failures |"
	print "|---|---:|---:|---:|---:|---:|"
	for (i = 1; i <= circumstances; i++) {
		c = circumstance[i]
		name = c; sub("-", ", ", name)
		printf "| %s | %d | %d | %d | %d | %d |\n", name, sweeps[c], swept[c], runs[c], strayed[c], failures[c]
		all_sweeps += sweeps[c]; all += swept[c]; all_runs += runs[c]
		all_strayed += strayed[c]; all_failures += failures[c]
	}
	printf "| all | %d | %d | %d | %d | %d |\n\n", all_sweeps, all, all_runs, all_strayed, all_failures
	print "| operation | native guest | native host | vox guest | vox host | vox segment |"
	print "|---|---:|---:|---:|---:|---:|"
	for (i = 1; i <= count; i++)
		printf "| %s | %s | %s | %s | %s | %s |\n", order[i], cell(order[i], "native-guest"),
			cell(order[i], "native-host"), cell(order[i], "vox-guest"),
			cell(order[i], "vox-host"), cell(order[i], "vox-segment")
}'
