#!/bin/sh
# Installs what the tests need, checks the tree, and runs the tests; the last line says how it went.
# usage: scripts/test.sh [all|guests|peers|chaos]
#   all     everything, with a short tier of what is long (the default)
#   guests  only plugins in every language, from `plugin new` to their tests; says how long each takes. Of Python only
#           the predictor, unless FOREWRIGHT_GUESTS=all
#   peers   only the tests that need other programs: CalculiX, admesh, PrusaSlicer
#   chaos   the long form of the fault tests: FOREWRIGHT_CHAOS_{KILLS,ZOMBIES,RESTARTS,TERMINATIONS,STEPS,EPISODES}
#           say how much of it (1000, 100, 50, 200, 200000 in 25), FOREWRIGHT_SEED which; bench-out/chaos.json has
#           what it came to
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp -d /tmp/forewright-test.XXXXXX)
trap 'rm -rf "$log"' EXIT
trap 'exit 130' INT TERM
begun=$(date +%s)
passed=0
failed=""

# Runs one part, shows what it says, and remembers whether it failed; `parts` counts what is no cargo test.
part() {
    what=$1
    shift
    at=$(date +%s)
    printf '\ntest: %s\n' "$what" >&2
    if { "$@" 2>&1 </dev/null || : >"$log/failed"; } | tee "$log/part" && [ ! -e "$log/failed" ]; then
        verdict=passed
    else
        verdict=FAILED
        rm -f "$log/failed"
        failed="$failed, $what"
    fi
    printf 'test: %s %s after %s s\n' "$what" "$verdict" "$(($(date +%s) - at))" >&2
    cat "$log/part" >>"$log/all"
    [ "$verdict" = FAILED ] || grep -q '^test result: ' "$log/part" || passed=$((passed + 1))
}

# Adds up what cargo's runners said, and the other parts; ends with their verdict.
finish() {
    tests=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$log/all")
    cargo_passed=$(printf '%s\n' "$tests" | awk '{ n += $1 } END { print n + 0 }')
    cargo_failed=$(printf '%s\n' "$tests" | awk '{ n += $2 } END { print n + 0 }')
    parts_failed=$(printf '%s' "$failed" | tr -cd ',' | wc -c)
    # A runner that failed has told its failures; one that did not get so far counts once.
    [ "$cargo_failed" -gt 0 ] || cargo_failed=$parts_failed
    if [ -n "$failed" ]; then
        echo "test: failed: ${failed#, }" >&2
        state=FAILED
    else
        state=ok
    fi
    printf 'test result: %s. %s passed; %s failed; 0 ignored; 0 measured; 0 filtered out; finished in %s.00s\n' \
        "$state" "$((cargo_passed + passed))" "$cargo_failed" "$(($(date +%s) - begun))"
    [ -z "$failed" ]
}

# The Node that scripts/install.sh brought, if the machine's own is too old.
PATH="$PWD/.tools/node/bin:$PATH"
export PATH

dashboard_units() {
    (cd web && npm run --silent check && npm run --silent test)
}

editor() {
    node --test editors/vscode/test/*.test.js
}

dashboard() {
    OUT="$PWD/web/test-results" node web/tests/dashboard.mjs
}

guests_units() {
    for manifest in plugins/guests/*/Cargo.toml; do
        CARGO_TARGET_DIR="$PWD/.tools/guests/rust-target" cargo test --locked --quiet --manifest-path "$manifest" || return 1
    done
}

# Compiling what a guest's compiler made takes ten times as long in a debug build.
guests() {
    cargo test --release --locked -p tests --test guests -- --include-ignored --nocapture --test-threads 2
}

case "${1:-all}" in
all)
    scripts/install.sh rust-build web postgres browser peers checks schemathesis
    part "make check" scripts/check.sh
    part "the dashboard builds" scripts/build-web.sh
    part "the dashboard's own tests" dashboard_units
    part "the editor extension's own tests" editor
    part "cargo test" scripts/with-postgres.sh cargo test --workspace --locked --no-fail-fast -- --include-ignored --skip from_new_to_tested
    part "the API answers as described, and the dashboard shows it" scripts/with-demo.sh "$0" beside-a-demo
    part "the API answers as described on Postgres" scripts/with-postgres.sh scripts/schemathesis.sh
    ;;
beside-a-demo)
    # Started by `all` with BASE_URL, TOKEN, RUN and ASSET. The dashboard first: afterwards the hall is full of fuzz.
    part "the dashboard in a browser" dashboard
    part "the API answers as described" scripts/schemathesis.sh
    ;;
guests)
    scripts/install.sh rust-build guests
    part "the shipped plugins' own tests" guests_units
    part "plugins in every language" guests
    ;;
peers)
    scripts/install.sh rust-build peers
    part "peers" cargo test --workspace --locked --test peers -- --include-ignored --nocapture
    ;;
chaos)
    scripts/install.sh rust-build web postgres queue-peers
    cargo build --release --locked --quiet --manifest-path tests/bench/queue/peers/rust/Cargo.toml \
        --target-dir .tools/queue-peers/rust
    export FOREWRIGHT_CHAOS_PEERS="$PWD/.tools/queue-peers"
    export FOREWRIGHT_KILLS="${FOREWRIGHT_KILLS:-50}"
    export FOREWRIGHT_CHAOS_KILLS="${FOREWRIGHT_CHAOS_KILLS:-1000}"
    export FOREWRIGHT_CHAOS_ZOMBIES="${FOREWRIGHT_CHAOS_ZOMBIES:-100}"
    export FOREWRIGHT_CHAOS_RESTARTS="${FOREWRIGHT_CHAOS_RESTARTS:-50}"
    export FOREWRIGHT_CHAOS_TERMINATIONS="${FOREWRIGHT_CHAOS_TERMINATIONS:-200}"
    export FOREWRIGHT_CHAOS_STEPS="${FOREWRIGHT_CHAOS_STEPS:-200000}"
    export FOREWRIGHT_CHAOS_EPISODES="${FOREWRIGHT_CHAOS_EPISODES:-25}"
    # A lease is taken back this soon after it ran out; the short form allows for a machine with other work.
    export FOREWRIGHT_RECOVERY_MS="${FOREWRIGHT_RECOVERY_MS:-2000}"
    mkdir -p bench-out
    export FOREWRIGHT_CHAOS_OUT="$PWD/bench-out"
    part "faults" scripts/with-postgres.sh cargo test --workspace --release --locked --test faults -- --include-ignored --nocapture
    ;;
*)
    echo "usage: scripts/test.sh [all|guests|peers|chaos]" >&2
    exit 2
    ;;
esac
finish
