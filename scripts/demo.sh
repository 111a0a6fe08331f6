#!/bin/sh
# The loop, once: install what is missing, build, run `forewright demo`, leave the results in demo-out/.
# usage: scripts/demo.sh [DATA]      DATA: a folder with cmapss/ in it; without it the source is this machine
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh rust-build web
scripts/build-web.sh
echo "demo: building the server (the first time takes a while)" >&2
cargo build --release --locked --bin forewright
binary="${CARGO_TARGET_DIR:-target}/release/forewright"
source=host
if [ -n "${1:-}" ]; then
    source="cmapss:$1/cmapss"
fi
exec "$binary" demo --source "$source" --out demo-out
