#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Measures the device beside what a kernel offers, in a virtual machine:
#
#   tests/vm/bench.sh [KERNEL] [ARGUMENT...]     KERNEL: 6.1 (without one), 6.12 or sid
#
# The machine is emulated, so only the ratios of rows say something. The
# ARGUMENTs are the benchmark's; without one: 64 bytes, sleeping, beside eventfd.
set -euo pipefail
cd "$(dirname "$0")/../.."

kernel=${1:-6.1}
shift || true
[[ $# -gt 0 ]] || set -- --sections pairs,syscalls --size 64 --rows sleeping,eventfd,futex
tests/vm/kernel.sh "$kernel"
echo "Linux $(<"build/vm/$kernel/release") starts in a virtual machine; the backend is the device."
status=1
while IFS= read -r line; do
	case $line in
	'##vm end command '*) status=${line##* } ;;
	'##vm '*) ;;
	*) printf '%s\n' "$line" ;;
	esac
done < <(tests/vm/boot.sh "$kernel" --command "/vm/bench/bench $*" build/bench/bench)
if [[ $status -ne 0 ]]; then
	echo "It failed; the kernel's log is build/vm/$kernel/console.log." >&2
fi
exit "$status"
