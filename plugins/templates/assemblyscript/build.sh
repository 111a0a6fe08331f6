#!/bin/sh
# Makes build/plugin.wasm of the AssemblyScript source. `forewright plugin build` runs this.
set -eu
cd "$(dirname "$0")"

if [ -z "${ASC:-}" ]; then
  ASC=node_modules/.bin/asc
  if [ ! -x "$ASC" ]; then
    if ! command -v npm >/dev/null; then
      echo 'There is no AssemblyScript here, and no npm to fetch it: install Node.js 20 or later.' >&2
      exit 1
    fi
    npm install --no-audit --no-fund >&2
  fi
fi

world=$(sed -n 's/^world = "\([a-z]*\)".*/\1/p' plugin.toml)
mkdir -p build
# `--debug` keeps the names of functions, for the stack of a trap.
exec $ASC "forewright/entry/$world.ts" --outFile build/plugin.wasm -O3 --debug --runtime stub \
  --use abort=forewright/host/abort --transform ./forewright/exports.js
