#!/bin/sh
# Builds the dashboard into web/dist, where the server embeds it. Does nothing if no source is newer.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh web
if [ -x .tools/node/bin/node ]; then
    PATH="$PWD/.tools/node/bin:$PATH"
    export PATH
fi
newest=$(find web openapi/v1.json -path web/node_modules -prune -o -path web/dist -prune -o -type f -newer web/dist/index.html -print 2>/dev/null | head -n 1)
if [ -f web/dist/index.html ] && [ -z "$newest" ]; then
    exit 0
fi
echo "web: building the dashboard" >&2
cd web
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --silent --no-audit --no-fund
fi
npm run --silent build
# cargo does not see that an embedded folder changed.
touch ../server/src/dashboard.rs
