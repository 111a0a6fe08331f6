#!/bin/sh
# Asks a running server everything openapi/v1.json describes; each answer has to be one it describes, none a failure.
# usage: scripts/schemathesis.sh [OPTION...]      against BASE_URL with TOKEN, or a server of its own that it stops again
#        that stores in SQLite, where DATABASE_URL says, or in the Postgres of scripts/with-postgres.sh, begun by that;
#        EXAMPLES bounds the requests per operation
# What is left out and why stands in tests/contract/contract.py.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh rust-build schemathesis
if [ -z "${BASE_URL:-}" ]; then
    if [ -n "${FOREWRIGHT_TEST_POSTGRES:-}" ]; then
        export DATABASE_URL="${DATABASE_URL:-$FOREWRIGHT_TEST_POSTGRES}"
    fi
    exec scripts/with-demo.sh "$PWD/scripts/schemathesis.sh" "$@"
fi
exec .tools/python/bin/python tests/contract/contract.py "$@"
