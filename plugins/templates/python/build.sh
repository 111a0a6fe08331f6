#!/bin/sh
# Makes build/plugin.wasm of app.py, with $COMPONENTIZE_PY, the componentize-py in PATH, or one of the project's own.
set -eu
cd "$(dirname "$0")"
if [ -n "${COMPONENTIZE_PY:-}" ]; then
  tool=$COMPONENTIZE_PY
elif command -v componentize-py >/dev/null; then
  tool=componentize-py
else
  tool=.venv/bin/componentize-py
  if [ ! -x "$tool" ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --requirement requirements.txt
  fi
fi
mkdir -p build
"$tool" --wit-path wit componentize app -o build/plugin.wasm
