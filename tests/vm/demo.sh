#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Shows `voxshm demo` on the real module, in a virtual machine:
#
#   tests/vm/demo.sh [KERNEL]     KERNEL: 6.1 (without one), 6.12 or sid
set -euo pipefail
cd "$(dirname "$0")/../.."

kernel=${1:-6.1}
tests/vm/kernel.sh "$kernel"
echo "Linux $(<"build/vm/$kernel/release") starts in a virtual machine."
status=1
while IFS= read -r line; do
	case $line in
	'##vm end command '*) status=${line##* } ;;
	'##vm '*) ;;
	*) printf '%s\n' "$line" ;;
	esac
done < <(tests/vm/boot.sh "$kernel" --command 'voxshm demo')
if [[ $status -ne 0 ]]; then
	echo "It failed; the kernel's log is build/vm/$kernel/console.log." >&2
fi
exit "$status"
