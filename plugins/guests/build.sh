#!/bin/sh
# Builds the core module of the plugin in this folder, build/plugin.wasm.
# usage: sh ../build.sh NAME      NAME: the library's, as cargo writes it
#
# FOREWRIGHT_WASM_CARGO names a cargo that builds std itself, for machines where rustup cannot bring the target.
set -eu
target=wasm32-unknown-unknown
std=$(rustc --print target-libdir --target "$target" 2>/dev/null || true)

if [ -n "$std" ] && [ -d "$std" ]; then
  cargo build --release --locked --target "$target"
elif [ -n "${FOREWRIGHT_WASM_CARGO:-}" ]; then
  "$FOREWRIGHT_WASM_CARGO" build --release --locked --target "$target" -Zbuild-std=std,panic_abort
else
  echo "Rust has no standard library for $target here: rustup target add $target" >&2
  exit 1
fi

mkdir -p build
cp "${CARGO_TARGET_DIR:-target}/$target/release/$1.wasm" build/plugin.wasm
