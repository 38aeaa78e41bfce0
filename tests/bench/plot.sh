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

# The rows a plot shows, ours on top; all of them in one picture could not be told apart.
rows="two shared lines
flag and copied payload
memcpy alone
bare ring, index
bare ring, sequence
eventfd (no payload)
pipe
UNIX stream socket
ZeroMQ
iceoryx, spinning
vox-shm 0.3.1, Rust
voxshm copy, sleeping
voxshm copy, spin then sleep
voxshm loan, spinning
voxshm copy, spinning"

# Ours are thick and warm, the machine's limits grey and dashed, others thin and cold.
style() { # style ROW
	case $1 in
	"voxshm copy, spinning") echo 'lw 3 lc rgb "#d62728" pt 7' ;;
	"voxshm loan, spinning") echo 'lw 3 lc rgb "#ff7f0e" pt 5' ;;
	"voxshm copy, spin then sleep") echo 'lw 3 lc rgb "#c218a0" pt 13' ;;
	"voxshm copy, sleeping") echo 'lw 3 lc rgb "#7f3b08" pt 9' ;;
	"two shared lines") echo 'lw 2 dt 2 lc rgb "#000000" pt 1' ;;
	"flag and copied payload") echo 'lw 2 dt 2 lc rgb "#555555" pt 2' ;;
	"memcpy alone") echo 'lw 2 dt 2 lc rgb "#000000" pt 3' ;;
	"bare ring, index") echo 'lw 2 dt 4 lc rgb "#888888" pt 4' ;;
	"bare ring, sequence") echo 'lw 2 dt 3 lc rgb "#aaaaaa" pt 6' ;;
	"eventfd (no payload)") echo 'lw 1 lc rgb "#17becf" pt 8' ;;
	"pipe") echo 'lw 1 lc rgb "#2ca02c" pt 10' ;;
	"UNIX stream socket") echo 'lw 1 lc rgb "#1f77b4" pt 12' ;;
	"ZeroMQ") echo 'lw 1 lc rgb "#6b4fbb" pt 14' ;;
	"iceoryx, spinning") echo 'lw 1 lc rgb "#0b7a75" pt 15' ;;
	"vox-shm 0.3.1, Rust") echo 'lw 1 lc rgb "#4b8f29" pt 11' ;;
	"one message from each lies ready") echo 'lw 3 lc rgb "#ff7f0e" pt 5' ;;
	"round trip with one, others idle") echo 'lw 3 lc rgb "#1f77b4" pt 9' ;;
	*) echo 'lw 3 lc rgb "#d62728" pt 7' ;;
	esac
}

# One block of "place value" for each row that has figures: SECTIONS METRICS ROWS.
blocks() {
	local row
	while IFS= read -r row; do
		# A quoted row may hold commas, so its fields are counted from both ends.
		awk -v sections=" $1 " -v metrics=" $2 " -v row="$row" '
			{
				split($0, part, "\"")
				split(part[1], head, ",")
				count = split(part[3], tail, ",")
				if (part[2] != row || !index(sections, " " head[1] " ") ||
				    !index(metrics, " " tail[4] " "))
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

# The curves of a file of blocks.
curves() { # curves DATA
	local row index=0 separator=
	while IFS= read -r row; do
		row=${row//\"/}
		printf '%s"%s" index %d using 1:2 with linespoints %s title "%s"' \
			"$separator" "$1" "$index" "$(style "$row")" "$row"
		separator=', '
		index=$((index + 1))
	done < <(grep '^"' "$1")
}

# NAME TITLE XLABEL YLABEL XTICS SECTIONS METRICS ROWS
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
		plot $(curves "$data")
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
plot rate "One way, by size of message" "bytes" "messages a second" "$sizes" pairs rate "$rows"
plot rings "One way, 64 bytes, by size of ring" "bytes" "messages a second" "$rings" rings rate \
	"$rows"
plot guests "Cost of a message, by number of guests on one host" "guests" "ns" "$guests" \
	"guests host" "cost p50" "round trip with one, others idle
one message from each lies ready
one message from each in turn"
