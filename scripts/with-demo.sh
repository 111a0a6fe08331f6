#!/bin/sh
# Runs a command beside a server that holds a finished demonstration of this machine.
# Its address is in BASE_URL, an operator's token in TOKEN, the run in RUN, the asset it was about in ASSET, the binary in
# BINARY.
# With DATABASE_URL set the server stores there, else in SQLite.
# usage: scripts/with-demo.sh COMMAND [ARG...]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
(cd "$root" && cargo build --quiet --locked --bin forewright)
binary="${CARGO_TARGET_DIR:-$root/target}/debug/forewright"
folder=$(mktemp -d /tmp/forewright-demo.XXXXXX)
server=""

stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

"$binary" demo --out "$folder/out" >"$folder/demo.log" 2>&1 </dev/null || {
    cat "$folder/demo.log" >&2
    exit 1
}
# It is asked without a token more often than a stranger may.
FOREWRIGHT_RATE_ANONYMOUS_PER_S=0 "$binary" up --data "$folder/out/data" --listen 127.0.0.1:0 >"$folder/up.out" 2>"$folder/up.err" </dev/null &
server=$!
tries=0
until grep -q '^ready on ' "$folder/up.out"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "with-demo: the server did not become ready" >&2
        cat "$folder/up.err" >&2
        exit 1
    fi
    sleep 0.1
done
BASE_URL=$(sed -n 's/^ready on //p' "$folder/up.out")
TOKEN=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["operator_token"])' "$folder/out/demo.json")
# The run and its asset stand in the decision that the demonstration made.
found=$(python3 - "$BASE_URL" "$TOKEN" <<'PYTHON'
import json, sys, urllib.request

request = urllib.request.Request(f"{sys.argv[1]}/api/v1/decisions", headers={"Authorization": f"Bearer {sys.argv[2]}"})
decision = json.load(urllib.request.urlopen(request))["decisions"][0]
print(decision["run"], decision["asset"])
PYTHON
)
RUN=${found% *}
ASSET=${found#* }
BINARY=$binary
export BASE_URL TOKEN RUN ASSET BINARY

status=0
"$@" || status=$?
if ! kill -0 "$server" 2>/dev/null; then
    echo "with-demo: the server died on the way" >&2
    status=1
fi
# What a server logs as an error is a failure nobody was told of.
if grep -a 'ERROR' "$folder/up.err" >&2; then
    echo "with-demo: the server logged errors" >&2
    status=1
fi
exit "$status"
