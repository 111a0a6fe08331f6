#!/bin/sh
# Measures an area: one line per figure on stdout (name value unit), the same in bench-out/AREA.json.
# usage: scripts/bench.sh AREA
#   newcomer   CPU minutes of a clean release build, in a target folder of its own
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in
newcomer) ;;
"")
    echo "bench: name an area: make bench AREA=newcomer" >&2
    exit 2
    ;;
*)
    echo "bench: there is no area \`$1\`; there is: newcomer" >&2
    exit 2
    ;;
esac
scripts/install.sh rust-build web
scripts/build-web.sh
# What is downloaded is no part of the figure.
cargo fetch --locked --quiet
mkdir -p bench-out
exec python3 - "$1" <<'PYTHON'
import json, os, platform, resource, subprocess, sys, tempfile, time

area = sys.argv[1]
load = os.getloadavg()
# The shell that became this process had children of its own.
before = resource.getrusage(resource.RUSAGE_CHILDREN)
began = time.monotonic()
with tempfile.TemporaryDirectory(prefix="forewright-bench.") as target:
    command = ["cargo", "build", "--release", "--locked", "--bin", "forewright", "--target-dir", target]
    subprocess.run(command, check=True, stdout=sys.stderr)
spent = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = [
    {
        "name": "clean_release_build_cpu_min",
        "value": round((spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime) / 60, 2),
        "unit": "min",
    },
    {"name": "clean_release_build_wall_min", "value": round((time.monotonic() - began) / 60, 2), "unit": "min"},
]


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


report = {
    "figures": figures,
    "machine": f"{platform.machine()}, {os.cpu_count()} cores, {said('rustc', '--version')}",
    "load": [round(x, 2) for x in load],
    "commit": said("git", "rev-parse", "HEAD"),
}
with open(f"bench-out/{area}.json", "w") as file:
    json.dump(report, file, indent=2)
    file.write("\n")
for figure in figures:
    print(figure["name"], figure["value"], figure["unit"])
PYTHON
