#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Draws the plots of a run: plot.sh FOLDER, which holds its results.csv.
set -euo pipefail

folder=$1
if ! command -v gnuplot >/dev/null; then
	echo "$0: no plots without gnuplot (tools/setup.sh bench installs it)" >&2
	exit 1
fi

# The rows a plot shows; all of them in one picture could not be told apart.
rows="two shared lines
flag and copied payload
bare ring, index
bare ring, sequence
voxshm copy, spinning
voxshm loan, spinning
voxshm copy, spin then sleep
voxshm copy, sleeping
eventfd (no payload)
pipe
UNIX stream socket
ZeroMQ
iceoryx, spinning"

# One block of "place value" for each row that has figures: SECTION METRIC ROWS.
blocks() {
	local row
	while IFS= read -r row; do
		# A quoted row may hold commas, so its fields are counted from both ends.
		awk -v section="$1" -v metric="$2" -v row="$row" '
			{
				split($0, part, "\"")
				split(part[1], head, ",")
				count = split(part[3], tail, ",")
				if (head[1] != section || part[2] != row || tail[4] != metric)
					next
				if (count < 6 || tail[6] == "")
					next
				if (!found++)
					printf "\"%s\"\n", row
				print tail[3], tail[6]
			}
			END { if (found) printf "\n\n" }' "$folder/results.csv"
	done <<<"$3"
}

# NAME TITLE XLABEL YLABEL XTICS SECTION METRIC ROWS
plot() {
	local data=$folder/$1.dat
	blocks "$6" "$7" "$8" >"$data"
	if [[ ! -s $data ]]; then
		rm -f "$data"
		return
	fi
	gnuplot <<-EOF
		set terminal svg size 900,540 dynamic font "sans,13" background "white"
		set output "$folder/$1.svg"
		set title "$2"
		set xlabel "$3"
		set ylabel "$4"
		set logscale x
		set logscale y
		set format y "%.0s %c"
		set xtics ($5)
		set grid
		set key outside right
		plot for [i=0:*] "$data" index i using 1:2 with linespoints linewidth 2 title columnheader(1)
	EOF
	rm -f "$data"
	echo "  PLOT    $folder/$1.svg"
}

sizes='"8" 8, "64" 64, "256" 256, "1 Ki" 1024, "4 Ki" 4096, "64 Ki" 65536, "1 Mi" 1048576'
rings='"16 Ki" 16384, "64 Ki" 65536, "256 Ki" 262144, "1 Mi" 1048576, "4 Mi" 4194304, "16 Mi" 16777216'
# gnuplot takes a label for a format.
tails='"0" 1, "50 %%" 2, "90 %%" 10, "99 %%" 100, "99.9 %%" 1000, "99.99 %%" 10000'
guests='"1" 1, "2" 2, "8" 8, "32" 32, "128" 128'

plot latency "Round trip of 64 bytes, by percentile" "so many are at least as fast" "ns" \
	"$tails" distribution ns "$rows"
plot roundtrip "Round trip, median, by size of message" "bytes" "ns" "$sizes" pairs p50 "$rows"
plot rate "One way, by size of message" "bytes" "messages a second" "$sizes" pairs rate \
	"$rows"$'\n'"memcpy alone"
plot rings "One way, 64 bytes, by size of ring" "bytes" "messages a second" "$rings" rings rate \
	"$rows"
plot guests "One message to the host, its loop included" "guests" "ns" "$guests" guests cost \
	"one message from each in turn"$'\n'"each guest a process"
