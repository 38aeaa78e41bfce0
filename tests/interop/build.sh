#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds the program that drives the crates, exactly those of Cargo.lock, into
# the folder that is named. Fetches them the first time; after that it needs no
# network.
set -euo pipefail

target=$(realpath -m "$1")
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')

cargo fetch --quiet --locked --offline --target "$host" 2>/dev/null ||
	cargo fetch --locked --target "$host"
cargo build --quiet --locked --offline --release --target-dir "$target"
