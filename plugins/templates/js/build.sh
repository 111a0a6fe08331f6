#!/bin/sh
# Makes build/plugin.wasm of plugin.js. $COMPONENTIZE_QJS may name another componentize-qjs than the project's own.
set -eu
cd "$(dirname "$0")"
tool=${COMPONENTIZE_QJS:-node_modules/.bin/componentize-qjs}
[ -n "${COMPONENTIZE_QJS:-}" ] || [ -x "$tool" ] || npm install --no-audit --no-fund
mkdir -p build
"$tool" --wit wit --js plugin.js --sync --opt-size -o build/plugin.wasm
