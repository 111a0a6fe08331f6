#!/bin/sh
# Makes build/plugin.wasm of the Zig source. `forewright plugin build` runs this.
set -eu
cd "$(dirname "$0")"

if [ -n "${ZIG:-}" ]; then
  zig=$ZIG
elif command -v zig >/dev/null; then
  zig=zig
elif python3 -c 'import ziglang' 2>/dev/null; then
  zig='python3 -m ziglang'
else
  echo 'There is no Zig here: `pip install ziglang==0.17.1`, or set ZIG to where it is.' >&2
  exit 1
fi

# Zig changes from version to version; this is written for one.
case $($zig version) in
  0.17.*) ;;
  *) echo "This is Zig $($zig version), and the project is written for 0.17: \`pip install ziglang==0.17.1\`." >&2 ;;
esac

# The source is named for its world.
world=$(sed -n 's/^world = "\([a-z]*\)".*/\1/p' plugin.toml)
mkdir -p build
# With `-fstrip` the file is far smaller, and a trap's stack has no names.
exec $zig build-exe -target wasm32-freestanding -O safe -fno-entry -rdynamic -femit-bin=build/plugin.wasm "$world.zig"
