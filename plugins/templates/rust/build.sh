#!/bin/sh
# Builds the plugin's core module, build/plugin.wasm.
#
# FOREWRIGHT_WASM_CARGO names a cargo that builds std itself, for machines where rustup cannot bring the target.
set -eu
cd "$(dirname "$0")"
target=wasm32-unknown-unknown
std=$(rustc --print target-libdir --target "$target" 2>/dev/null || true)

if [ -n "$std" ] && [ -d "$std" ]; then
  cargo build --release --target "$target"
elif [ -n "${FOREWRIGHT_WASM_CARGO:-}" ]; then
  "$FOREWRIGHT_WASM_CARGO" build --release --target "$target" -Zbuild-std=std,panic_abort
else
  echo "Rust has no standard library for $target here: rustup target add $target" >&2
  exit 1
fi

mkdir -p build
cp "${CARGO_TARGET_DIR:-target}/$target/release/plugin.wasm" build/plugin.wasm
