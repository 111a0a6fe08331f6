#!/bin/sh
# The dashboard's tests: `unit` needs Node alone, `browser` tells a story in Chromium on a finished demonstration.
# usage: scripts/web-tests.sh unit|browser
set -eu
cd "$(dirname "$0")/.."
if [ -x .tools/node/bin/node ]; then
    PATH="$PWD/.tools/node/bin:$PATH"
    export PATH
fi

unit() {
    cd web
    npm run --silent check
    npm run --silent test
}

browser() {
    cargo build --quiet --locked --bin forewright
    binary="${CARGO_TARGET_DIR:-target}/debug/forewright"
    out=$(mktemp -d)
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    source=host
    [ -d ../shared/data/cmapss ] && source=cmapss:../shared/data/cmapss
    FOREWRIGHT_SERVER_LISTEN="127.0.0.1:$port" "$binary" demo --source "$source" --out "$out" --keep &
    pid=$!
    trap 'kill -INT "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$out"' EXIT
    waited=0
    # The last thing a demonstration writes before it waits is that it is finished.
    until grep -q '"finished": true' "$out/demo.json" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || { echo "web-tests: the demonstration failed" >&2; exit 1; }
        waited=$((waited + 1))
        [ "$waited" -lt 600 ] || { echo "web-tests: the demonstration did not end" >&2; exit 1; }
        sleep 1
    done
    value() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
    BASE_URL="http://127.0.0.1:$port" TOKEN=$(value "$out/demo.json" operator_token) \
        RUN=$(value "$out/report.json" run) ASSET=$(value "$out/report.json" asset) \
        OUT="${SHOTS:-$out/pictures}" node web/tests/dashboard.mjs
}

case "${1:-}" in
unit) unit ;;
browser) browser ;;
*)
    echo "usage: scripts/web-tests.sh unit|browser" >&2
    exit 2
    ;;
esac
