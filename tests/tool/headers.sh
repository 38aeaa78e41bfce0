#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The public headers stand alone in C and C++. The shared library exports what
# they declare and nothing else, prints nothing and has no global state. Run
# by make check-tool.
set -uo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	[[ $1 -eq 0 ]] && echo "ok $tests - $2" || echo "not ok $tests - $2"
}

for header in lib/include/*.h; do
	name=${header##*/}
	printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$name" "$name" >"$scratch/use.c"
	for standard in c11 c17; do
		gcc -std=$standard -pedantic -Wall -Wextra -Werror -Ilib/include -fsyntax-only "$scratch/use.c"
		result $? "$name alone, $standard"
	done
	for standard in c++11 c++17 c++20; do
		g++ -x c++ -std=$standard -pedantic -Wall -Wextra -Werror -Ilib/include -fsyntax-only "$scratch/use.c"
		result $? "$name alone, $standard"
	done
done

grep -hozP 'VOXSHM_API\s(?!__attribute__)[^;(]*?\K\w+(?=\()' lib/include/*.h | tr '\0' '\n' | sort >"$scratch/declared"
nm -D --defined-only "$BUILD/libvoxshm.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$scratch/exported"
diff "$scratch/declared" "$scratch/exported" >&2
result $? "exports what the headers declare, and nothing else"

nm -g --defined-only "$BUILD/libvoxshm.a" | awk 'NF == 3 { print $3 }' | sort >"$scratch/exported"
diff "$scratch/declared" "$scratch/exported" >&2
result $? "so does the static library"

# What would print, or end the process.
nm -D --undefined-only "$BUILD/libvoxshm.so" | awk '{ sub(/@.*/, "", $2); print $2 }' |
	grep -xE '_?v?(f|d)?printf(_chk)?|__(v?f?|d)printf_chk|f?puts|putchar|perror|psignal|error|warnx?|errx?|v?syslog|abort|_?_?exit|quick_exit|raise|kill|__assert_fail' >&2
[[ ${PIPESTATUS[2]} -eq 1 ]]
result $? "prints nothing and ends no process"

readelf -SW "$BUILD/libvoxshm.a" | sed 's/^ *\[ *[0-9]*\]//' |
	awk '$1 ~ /^\.(data|bss|tdata|tbss)$/ && $5 !~ /^0+$/ { print; found = 1 } END { exit found }' >&2
result $? "keeps nothing in global variables"

printf '#include <voxshm.h>\nint main() { voxshm_host_free(nullptr); }\n' >"$scratch/use.cc"
g++ -Ilib/include -o "$scratch/use" "$scratch/use.cc" "-L$BUILD" -lvoxshm &&
	LD_LIBRARY_PATH=$BUILD "$scratch/use"
result $? "a C++ program links with the shared library and runs"

echo "1..$tests"
