#!/bin/sh
# Everything that can be said about the tree without running its tests: format, lints, docs, licences, spelling, drift.
# Goes through all of them and ends with what failed.
set -u
cd "$(dirname "$0")/.."
scripts/install.sh rust-build checks || exit 1
tools=".tools/python/bin"
failed=""

# Runs one check and remembers whether it failed.
check() {
    what=$1
    shift
    printf 'check: %s\n' "$what" >&2
    "$@" || failed="$failed, $what"
}

# What is built otherwise, and what is measured against, lives in workspaces of its own.
formats_beside() {
    for manifest in plugins/sdk/Cargo.toml plugins/fuzz/Cargo.toml plugins/guests/*/Cargo.toml \
        tests/bench/policy/Cargo.toml tests/bench/queue/peers/rust/Cargo.toml; do
        cargo fmt --manifest-path "$manifest" --check || return 1
    done
}

documentation() {
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --workspace --no-deps --locked --quiet
}

# cargo-deny fetches the advisory database with git; a machine that cannot reach it is told, not failed.
advisories() {
    if timeout 30 git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
        "$tools/cargo-deny" --log-level warn check advisories
    else
        echo "check: advisories left out: https://github.com/RustSec/advisory-db cannot be reached from here" >&2
    fi
}

# Prints a generated file again and compares it with the one that is checked in.
same_as() {
    file=$1
    remedy=$2
    shift 2
    made=$(mktemp)
    if "$@" >"$made" && diff -u "$file" "$made" | head -n 40 >&2 && cmp -s "$file" "$made"; then
        rm -f "$made"
    else
        rm -f "$made"
        echo "check: \`$file\` is not what the code says; run \`$remedy\`" >&2
        return 1
    fi
}

check "format" cargo fmt --all --check
check "format of the workspaces beside" formats_beside
check "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
check "documentation" documentation
check "licences, bans and sources" "$tools/cargo-deny" --log-level warn check licenses bans sources
check "advisories" advisories
check "spelling" "$tools/typos" --format brief
check "openapi/v1.json" same_as openapi/v1.json "make openapi" cargo run --quiet --locked --bin forewright -- openapi

if [ -n "$failed" ]; then
    echo "check: failed: ${failed#, }" >&2
    exit 1
fi
echo "check: all is well" >&2
