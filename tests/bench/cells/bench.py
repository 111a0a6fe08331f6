"""Measures what cells ask of a server: `make bench AREA=cells`.

usage: scripts/with-postgres.sh python3 tests/bench/cells/bench.py
FOREWRIGHT_BINARY names the binary to measure; without it a release build is made.
"""

import os
import subprocess
import sys

import artifact
import idle
import report


def fresh_database(name):
    cluster = os.environ["FOREWRIGHT_TEST_POSTGRES"]
    subprocess.run(["psql", "-qX", cluster, "-c", f"CREATE DATABASE {name}"], check=True, stdout=sys.stderr)
    return cluster.rsplit("/", 1)[0] + "/" + name


def main():
    report.binary()
    load = os.getloadavg()
    os.environ["DATABASE_URL"] = fresh_database("bench_cells")
    server = report.Server("serve")
    try:
        share, memory, late_ms, listening = idle.run(server)
    finally:
        server.stop()
    if listening != 1:
        sys.exit(f"bench: {listening} connections listen; there should be one for the process")
    print(f"idle: {share:.4f} of a core, {memory:.1f} MiB, wake p99 {report.percentile(late_ms, 0.99):.1f} ms", file=sys.stderr)
    os.environ["DATABASE_URL"] = fresh_database("bench_artifact")
    settings = [("FOREWRIGHT_SERVER_MAX_ARTIFACT_BYTES", str(artifact.SIZE))]
    server = report.Server("serve", settings=settings)
    try:
        growth, upload_s, download_s = artifact.run(server)
    finally:
        server.stop()
    figures = [
        (f"idle_cells_{idle.CELLS}_core_share", round(share, 4), "1"),
        (f"idle_cells_{idle.CELLS}_rss_mb", round(memory, 1), "MiB"),
        ("idle_cells_wake_p50_ms", round(report.percentile(late_ms, 0.5), 2), "ms"),
        ("idle_cells_wake_p99_ms", round(report.percentile(late_ms, 0.99), 2), "ms"),
        ("artifact_1gib_rss_growth_mb", round(growth, 1), "MiB"),
        ("artifact_1gib_upload_s", round(upload_s, 1), "s"),
        ("artifact_1gib_download_s", round(download_s, 1), "s"),
    ]
    if artifact.SIZE != 1024**3:
        figures = [(n.replace("1gib", f"{artifact.SIZE >> 20}mib"), v, u) for n, v, u in figures]
    report.write("cells", figures, load, binary=report.binary(), load_after=[round(x, 2) for x in os.getloadavg()])


main()
