#!/bin/sh
# Measures an area: one line per figure on stdout (name value unit), the same in bench-out/AREA.json.
# usage: scripts/bench.sh AREA
#   newcomer   a clone of the last commit in a new folder: CPU minutes of a clean release build, seconds of `make demo`
#              and of `make test`, each from an empty target folder; what is installed already stays installed
#   cells      500 idle cells on Postgres (processor, memory, wake-up), and 1 GiB of artifact over 20 cut connections
#   queue      jobs per second, time per workflow step and pick-up of the queue beside its peers on one Postgres; see
#              tests/bench/queue/README.md. More words go to its bench.py: make bench AREA="queue --rounds 3"
#   policy     a warm decision beside regorus and cel, on one thread and two, and what replays take; see
#              tests/bench/policy/README.md. More words go to its bench.py: make bench AREA="policy --only decide"
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC2086
set -- ${1:-} # the words of AREA
case "${1:-}" in
newcomer) ;;
cells)
    scripts/install.sh rust-build postgres
    exec scripts/with-postgres.sh python3 tests/bench/cells/bench.py
    ;;
queue)
    shift
    scripts/install.sh postgres queue-peers
    cargo build --release --locked --quiet -p bench-queue
    cargo build --release --locked --quiet --manifest-path tests/bench/queue/peers/rust/Cargo.toml \
        --target-dir .tools/queue-peers/rust
    mkdir -p bench-out
    exec scripts/with-postgres.sh python3 tests/bench/queue/bench.py .tools/queue-peers target/release/bench-queue "$@"
    ;;
policy)
    shift
    scripts/install.sh rust-build
    command -v python3 >/dev/null 2>&1 || scripts/install.sh checks
    exec python3 tests/bench/policy/bench.py "$@"
    ;;
"")
    echo "bench: name an area: make bench AREA=newcomer" >&2
    exit 2
    ;;
*)
    echo "bench: there is no area \`$1\`; there is: newcomer cells queue policy" >&2
    exit 2
    ;;
esac
command -v python3 >/dev/null 2>&1 || scripts/install.sh checks
mkdir -p bench-out
exec python3 - "$1" <<'PYTHON'
import json, os, platform, resource, subprocess, sys, tempfile, time

area = sys.argv[1]
load = os.getloadavg()


def timed(clone, *command):
    """Seconds and CPU seconds of a command in a clone, its target folder inside it."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
    subprocess.run(command, check=True, cwd=clone, env=environment, stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu


def cloned(folder, name):
    clone = os.path.join(folder, name, "forewright")
    subprocess.run(["git", "clone", "--quiet", os.getcwd(), clone], check=True)
    # Data sets that lie beside this checkout lie beside the clone.
    shared = os.path.abspath("../shared")
    if os.path.isdir(shared):
        os.symlink(shared, os.path.join(folder, name, "shared"))
    return clone


with tempfile.TemporaryDirectory(prefix="forewright-bench.") as folder:
    clone = cloned(folder, "build")
    timed(clone, "scripts/build-web.sh")
    # What is downloaded is no part of this figure.
    timed(clone, "cargo", "fetch", "--locked", "--quiet")
    _, build_cpu = timed(clone, "cargo", "build", "--release", "--locked", "--bin", "forewright")
    demo_wall, _ = timed(cloned(folder, "demo"), "make", "demo")
    test_wall, _ = timed(cloned(folder, "test"), "make", "test")

figures = [
    {"name": "clean_release_build_cpu_min", "value": round(build_cpu / 60, 2), "unit": "min"},
    {"name": "demo_from_clone_s", "value": round(demo_wall), "unit": "s"},
    {"name": "test_from_clone_s", "value": round(test_wall), "unit": "s"},
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
