#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Do the fuzzers bite? Takes one check out of a copy of the library at a time,
# and the fuzzer that is named with it must find that.
#
#   tests/fuzz/mutants.sh [--quick] [WORD]      only mutants whose name contains it
#
# Each line below: the fuzzer, what is the matter, the file, how it is brought
# about (sed -E); after a header's name, the sources that use it. Those with a +
# are found within seconds: --quick.
set -euo pipefail
cd "$(dirname "$0")/../.."

mutants='
+native_link|slots have no bound|native/pool.h native/recv.c|s/ref->slot >= view->classes\[ref->class_index\]\.slot_count \|\|//
native_link|entries have no bound|native/ring.h native/recv.c native/ring.c|s/size > consumer->limit - consumer->cursor/false/
+native_link|a length is loaded twice|native/recv.c|/VIEW_SLOT \|/b;s/\.size = ref\.length,/.size = (uint32_t)(body_word(entry, 1) >> 32),/
native_link|the read index has no bound|native/ring.c|s/\|\| read >= producer->capacity/\&\& read > 0/
native_link|a slot is lent twice|native/pool.h native/recv.c|s/    view->classes\[ref->class_index\]\.borrowed\[ref->slot\]\)/    false)/
native_link|mappings have no bound|mappings.c|s/ref->length > mapping->memory\.size - ref->offset/false/
vox_link|entries have no bound|vox/entry.c|s/size > readable \|\|//
+vox_link|free slots have no bound|vox/pool.c|s/first >= class->slot_count/false/
vox_link|messages in slots have no bound|vox/pool.c|s/length <= slot_size - VOX_LENGTH_PREFIX/true/
vox_link|a walk need not end|vox/pool_search.c|s/ \|\| vox_bit_test\(search->listed, slot\)//
attach|parts have no bound|vox/geometry_read.c|s/size > geometry->total_size - offset/false/
attach|classes have no bound|vox/geometry_read.c|s/\|\| size > geometry->total_size - geometry->pool//
messages|descriptors stay open|backend_file.c|/^static void parse_fds/,/^}/s/close\(fd\);//
+messages|answers have no bound|bootstrap.c|s/\*length > BOOTSTRAP_MAX_PAYLOAD/false/
'

out=build/fuzz/mutants
objects=build/fuzz/tests/fuzz
limit=300
flags=(-std=gnu11 -D_GNU_SOURCE= -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
	-fsanitize=fuzzer-no-link -fsanitize=address -fsanitize=undefined -include tests/shared_hook.h -Ikmod/uapi)

# Builds the fuzzer with the files of one mutant in place of the library's.
build() { # build FUZZER FILES HOW
	local sources=$2 file object mutated=()
	rm -rf "$out"
	mkdir -p "$out"
	cp -r lib "$out/lib"
	file=${sources%% *}
	sed -i -E "$3" "$out/lib/$file"
	if cmp -s "lib/$file" "$out/lib/$file"; then
		echo "# nothing to change in $file any more"
		return 1
	fi
	for file in $sources; do
		[[ $file == *.c ]] || continue
		object=$out/${file//\//_}.o
		clang "${flags[@]}" -w -I"$out/lib/include" -I"$out/lib" -c -o "$object" "$out/lib/$file"
		mutated+=("$object")
	done
	clang -g -fsanitize=fuzzer -fsanitize=address -fsanitize=undefined -o "$out/fuzzer" "$objects/$1.o" \
		"$objects"/{fuzz,work}.o "${mutated[@]}" build/fuzz/libvoxshm-all.a -pthread -ludev
	"$objects/seeds" "$out/"
}

quick=
if [[ ${1:-} == --quick ]]; then
	quick=1
	shift
fi
tests=0
failed=0
while IFS='|' read -r fuzzer what files how; do
	[[ -z $quick || $fuzzer == +* ]] || continue
	fuzzer=${fuzzer#+}
	[[ -n $fuzzer && "$fuzzer: $what" == *"${1:-}"* ]] || continue
	tests=$((tests + 1))
	status=0
	start=$SECONDS
	build "$fuzzer" "$files" "$how" &&
		"$out/fuzzer" -seed=1 -max_total_time="$limit" -max_len=600 -timeout=20 \
			-rss_limit_mb=4000 -artifact_prefix="$out/" "$out/$fuzzer" >"$out/log" 2>&1 ||
		status=$?
	if [[ $status -ne 0 ]] && grep -qE 'not true|SUMMARY:' "$out/log" 2>/dev/null; then
		echo "ok $tests - $fuzzer notices when $what"
		echo "# after $((SECONDS - start)) s: $(grep -m1 -E 'not true|SUMMARY:' "$out/log")"
	else
		echo "not ok $tests - $fuzzer notices when $what"
		failed=1
	fi
done <<<"$mutants"
echo "1..$tests"
exit "$failed"
