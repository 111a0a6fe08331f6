#!/bin/sh
# Checks the tree and runs every test, the ones that need other programs too.
# usage: scripts/test.sh [all|peers|chaos]
#   all    what CI runs (the default)
#   peers  only the tests against CalculiX and admesh
#   chaos  the long form of the fault tests: 50 kills instead of 5
# Installs what is missing first; servers are started on free ports and stopped by their own pid.
set -eu
cd "$(dirname "$0")/.."
part=${1:-all}

say() { printf 'test: %s\n' "$*" >&2; }

peers() {
    scripts/install.sh rust-build peers
    cargo test --locked -p cad --test peers -- --include-ignored
}

chaos() {
    scripts/install.sh rust-build postgres
    FOREWRIGHT_KILLS=${FOREWRIGHT_KILLS:-50} scripts/with-postgres.sh \
        cargo test --locked -p tests --test faults -- --include-ignored --nocapture
}

all() {
    scripts/install.sh rust-build web postgres browser peers checks schemathesis
    scripts/build-web.sh
    say "the checks"
    scripts/check.sh
    say "the dashboard's own tests"
    scripts/web-tests.sh unit
    say "the API against its document"
    scripts/contract.sh
    say "the dashboard in a browser"
    scripts/web-tests.sh browser
    say "every test of the workspace"
    scripts/with-postgres.sh cargo test --workspace --locked -- --include-ignored
}

case "$part" in
all) all ;;
peers) peers ;;
chaos) chaos ;;
*)
    say "unknown part \`$part\`; say all, peers or chaos"
    exit 2
    ;;
esac
