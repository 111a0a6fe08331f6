"""Times claims beside many finished steps, and beside a transaction that stays open while steps come and go.

usage: claims.py BENCH_BINARY [--finished N] [--minutes M]
FOREWRIGHT_TEST_POSTGRES names the cluster. The figures `claim_p99_at_10m_finished` and `claim_p99_after_30min_reader` are
printed only for 10 million steps and 30 minutes; smaller runs print what they measured under other names.
"""

import argparse
import json
import os
import subprocess
import sys

CLAIMS = 300
HANDS = 64
FINISHED = """
INSERT INTO run (id, workflow, revision, state, event, seed, started_at, ended_at)
SELECT 'bulk-' || n, 'bench', 'none', 'succeeded', 'null', 0, 0, 0 FROM generate_series(0, {last} / 100) AS n;
INSERT INTO step (id, run_id, position, kind, queue, run_at, state, attempt, max_attempts, fence, backoff_ms,
    input, created_at, started_at, ended_at, share_done, phase)
SELECT 'bulk-' || n, 'bulk-' || n / 100, (n % 100)::text, 'noop', 'io', 0, 'done', 1, 8, 1, 1000,
    'null', 0, 0, 0, 1, '' FROM generate_series({first}, {last}) AS n;
"""


class Bench:
    def __init__(self, binary):
        self.binary = binary
        self.cluster = os.environ["FOREWRIGHT_TEST_POSTGRES"]

    def fresh(self, name):
        self.sql(self.cluster, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.sql(self.cluster, f"CREATE DATABASE {name}")
        return f"{self.cluster.rsplit('/', 1)[0]}/{name}"

    def sql(self, url, command):
        subprocess.run(["psql", url, "-qX", "-v", "ON_ERROR_STOP=1", "-c", command], check=True, capture_output=True)

    def told(self, *arguments):
        ran = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True)
        if ran.returncode != 0:
            raise SystemExit(f"claims: {arguments} failed:\n{ran.stderr[-3000:]}")
        return json.loads(ran.stdout.strip().splitlines()[-1])

    def p99(self, url):
        return p99(self.told("claims", url, CLAIMS)["claim_ms"])


def p99(times):
    return sorted(times)[int(0.99 * len(times))]


def beside_finished(bench, count):
    """Claims in a database with `count` finished steps over claims in an empty one, measured in turns."""
    empty, full = bench.fresh("claims_empty"), bench.fresh("claims_full")
    bench.p99(empty), bench.p99(full)
    for first in range(0, count, 1_000_000):
        last = min(count, first + 1_000_000) - 1
        text = FINISHED.format(first=first, last=last)
        if first:
            text = text.split(";", 1)[1]
        else:
            text = text.replace(f"{last} / 100", f"{count - 1} / 100")
        bench.sql(url=full, command=text)
    bench.sql(full, "VACUUM ANALYZE step")
    rounds = [(bench.p99(empty), bench.p99(full)) for _ in range(5)]
    for one in rounds:
        print(f"claims: empty {one[0]:.2f} ms, beside {count} finished {one[1]:.2f} ms", file=sys.stderr)
    return sorted(full / empty for empty, full in rounds)[2]


def beside_reader(bench, minutes):
    """Claims of the last tenth of the time over those of the first, with a transaction open all the while and steps at
    60 % of the rate that the same machine reached just before."""
    url = bench.fresh("claims_reader")
    best = max(bench.told("throughput", url, 10_000, HANDS)["jobs_per_s"] for _ in range(3))
    # psql waits for its input with its transaction open.
    reader = subprocess.Popen(["psql", url, "-qX"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    reader.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM step;\n")
    reader.stdin.flush()
    told = bench.told("steady", url, 0.6 * best, minutes * 60, HANDS)
    if reader.poll() is not None:
        raise SystemExit("claims: the reader's transaction did not stay open")
    reader.stdin.close()
    reader.wait()
    tenth = minutes * 6
    first = [took for at, took in told["claim_ms"] if at < tenth]
    last = [took for at, took in told["claim_ms"] if at >= 9 * tenth]
    before, after = p99(first), p99(last)
    print(
        f"claims: best {best:.0f} steps/s, then {told['jobs_per_s']:.0f} for {minutes} min, {told['jobs']} steps, at most "
        f"{told['most_behind']} behind; p99 {before:.2f} ms in the first tenth, {after:.2f} ms in the last",
        file=sys.stderr,
    )
    return after / before


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("binary")
    asked.add_argument("--finished", type=int, default=1_000_000)
    asked.add_argument("--minutes", type=float, default=3)
    options = asked.parse_args()
    bench = Bench(options.binary)
    full = options.finished == 10_000_000
    name = "claim_p99_at_10m_finished" if full else f"claim_p99_at_{options.finished}_finished"
    print(name, f"{beside_finished(bench, options.finished):.3g}", "ratio", flush=True)
    full = options.minutes >= 30
    name = "claim_p99_after_30min_reader" if full else f"claim_p99_after_{options.minutes:g}min_reader"
    print(name, f"{beside_reader(bench, options.minutes):.3g}", "ratio")


main()
