#!/bin/sh
# Runs a command beside a throw-away Postgres; its address is in FOREWRIGHT_TEST_POSTGRES.
# usage: scripts/with-postgres.sh COMMAND [ARG...]
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
folder=$(mktemp -d /tmp/forewright-postgres.XXXXXX)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# Postgres refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$folder"
    as() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }
else
    as() { "$@"; }
fi

stop() {
    as "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

cd "$folder"
as "$bin/initdb" -D "$folder/data" -U forewright --auth=trust -E UTF8 >/dev/null
as "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -o "-c listen_addresses=127.0.0.1 -p $port -k $folder -c max_connections=200" start >/dev/null
cd "$OLDPWD"
FOREWRIGHT_TEST_POSTGRES="postgres://forewright@127.0.0.1:$port/postgres"
export FOREWRIGHT_TEST_POSTGRES
"$@"
