#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The manual is whole and well formed. Run by make check-tool.
set -uo pipefail

tests=0
result() { # result STATUS NAME
	tests=$((tests + 1))
	[[ $1 -eq 0 ]] && echo "ok $tests - $2" || echo "not ok $tests - $2"
}

status=0
while read -r _ _ name; do
	[[ -e build/man/man3/${name%%@*}.3 ]] && continue
	echo "# no page for $name" >&2
	status=1
done < <(nm -D --defined-only "$BUILD/libvoxshm.so" | grep ' T ')
result "$status" "every exported function has a page"

status=0
for page in build/man/man[13]/*.[13]; do
	warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)
	[[ -n $warnings ]] || continue
	echo "$warnings" >&2
	status=1
done
result "$status" "every page formats without a warning"

status=0
while read -r name section; do
	[[ -e build/man/man$section/$name.$section ]] && continue
	echo "# a page refers to $name($section), which is not there" >&2
	status=1
done < <(sed -nE 's/.*(\.BR |\\fB)(voxshm\w*)(\\fP| )\(([13])\).*/\2 \4/p' build/man/man[13]/*.[13] | sort -u)
result "$status" "cross-references lead somewhere"

echo "1..$tests"
