#!/bin/sh
# Builds build/plugin.wasm with `zig cc`, or with the clang that $CC names and its wasm-ld.
set -eu
cd "$(dirname "$0")"
if [ -n "${CC:-}" ]; then
    cc="$CC --target=wasm32"
elif command -v zig >/dev/null 2>&1; then
    cc="zig cc -target wasm32-freestanding"
elif python3 -c 'import ziglang' 2>/dev/null; then
    cc="python3 -m ziglang cc -target wasm32-freestanding"
else
    echo "build.sh: no compiler for WebAssembly; \`pip install ziglang\` brings one, or let CC name a clang that has lld" >&2
    exit 1
fi
mkdir -p build
# shellcheck disable=SC2086
$cc -O2 -g -nostdlib -Wl,--no-entry -Wall -Wextra -Wno-unused-parameter -I runtime -I bindings \
    plugin.c runtime/runtime.c bindings/plugin.c -o build/plugin.wasm
