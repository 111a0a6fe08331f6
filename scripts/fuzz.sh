#!/bin/sh
# Fuzzes what strangers send: every target of plugins/fuzz for SECONDS (600), one after the other.
# usage: scripts/fuzz.sh [SECONDS] [TARGET…]
# What crashes is left in plugins/fuzz/artifacts/TARGET, what was learnt in plugins/fuzz/corpus/TARGET.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- manifest upload host_calls
scripts/install.sh rust-build
fuzz="$PWD/.tools/cargo-fuzz/bin/cargo-fuzz"
[ -x "$fuzz" ] || cargo install --quiet --locked --version 0.13.1 --root .tools/cargo-fuzz cargo-fuzz
# Coverage is the compiler's own; the toolchain that is there has it behind this name.
export RUSTC_BOOTSTRAP=1
cd plugins
for target in "$@"; do
    echo "fuzz: $target for $seconds s" >&2
    "$fuzz" run --sanitizer none "$target" -- -max_total_time="$seconds" -print_final_stats=1
done
