"""Measures the queue beside its peers and prints one figure a line; see README.md for what each figure means.

usage: bench.py FOLDER_OF_PEERS BENCH_BINARY [--jobs N] [--rounds N] [--seconds S]
FOREWRIGHT_TEST_POSTGRES names the cluster. Every program gets a fresh database of it each round.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HANDS = 64
RATES = [10, 50, 100, 300]


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def server_cpu_s(cluster):
    """CPU seconds of the whole Postgres cluster so far: the postmaster, its children, and those it has buried."""
    pid = said("psql", cluster, "-Atc", "SELECT pg_read_file('postmaster.pid', 0, 20)").split()[0]
    ticks = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if entry == pid:
                ticks += sum(map(int, fields[11:15]))
            elif fields[1] == pid:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, options):
        self.options = options
        self.cluster = os.environ["FOREWRIGHT_TEST_POSTGRES"]
        self.number = 0
        self.folder = tempfile.mkdtemp(prefix="forewright-bench.")
        python = os.path.join(options.peers, "python", "bin", "python")
        node = os.path.join(options.peers, "node", "node_modules", "node", "bin", "node")
        rust = os.path.join(options.peers, "rust", "release", "bench-queue-peers")
        peers = os.path.join(HERE, "peers")
        self.programs = {
            "forewright": [options.binary],
            "procrastinate": [python, os.path.join(peers, "python", "procrastinate_bench.py")],
            "dbos": [python, os.path.join(peers, "python", "dbos_bench.py")],
            # Node looks for packages beside the script, so these were copied to them.
            "pgboss": [node, os.path.join(options.peers, "node", "pgboss.mjs")],
            "graphile_worker": [node, os.path.join(options.peers, "node", "graphile.mjs")],
            "apalis_postgres": [rust, "apalis_postgres"],
            "awa": [rust, "awa"],
        }

    def sql(self, command):
        subprocess.run(["psql", self.cluster, "-qXc", command], check=True, capture_output=True)

    def told(self, program, mode, *numbers, sqlite=False):
        """Runs a program over a fresh database; its report, with the CPU seconds it and the database took."""
        self.number += 1
        name = f"bench_{os.getpid()}_{self.number}"
        if sqlite:
            url = f"sqlite:{self.folder}/{name}.db"
        else:
            self.sql(f"CREATE DATABASE {name}")
            self.sql("CHECKPOINT")
            url = f"{self.cluster.rsplit('/', 1)[0]}/{name}"
        server = server_cpu_s(self.cluster)
        before = os.times()
        ran = subprocess.run(
            [*self.programs[program], mode, url, *map(str, numbers)],
            capture_output=True,
            text=True,
            timeout=900,
        )
        after = os.times()
        if ran.returncode != 0:
            raise SystemExit(f"bench: {program} {mode} failed:\n{ran.stderr[-3000:]}")
        told = json.loads(ran.stdout.strip().splitlines()[-1])
        client = after[2] + after[3] - before[2] - before[3]
        told["cpu_s"] = client + (0 if sqlite else server_cpu_s(self.cluster) - server)
        if not sqlite:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")
        print(f"bench: {program} {mode}{' sqlite' if sqlite else ''}: " + short(told), file=sys.stderr)
        return told


def short(told):
    return ", ".join(
        f"{key} {statistics.median(value) if isinstance(value, list) else value:.2f}"
        for key, value in told.items()
        if value != [] and not isinstance(value, dict)
    )


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def throughput(bench, figures, detail):
    options = bench.options
    # A slow peer gets fewer jobs, so that its round lasts about as long as the others'.
    jobs = {
        "forewright": options.jobs,
        "pgboss": options.jobs,
        "graphile_worker": options.jobs,
        "awa": options.jobs,
        "apalis_postgres": max(200, options.jobs // 10),
        "procrastinate": max(200, options.jobs // 20),
    }
    rounds = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name in rounds:
            rounds[name].append(bench.told(name, "throughput", jobs[name], HANDS))
    sqlite = [
        bench.told("forewright", "throughput", max(500, options.jobs // 4), HANDS, sqlite=True)
        for _ in range(options.rounds)
    ]
    detail["throughput"] = rounds
    detail["throughput_sqlite"] = sqlite

    def wall(name):
        return statistics.median(one["jobs_per_s"] for one in rounds[name])

    def cpu(name):
        return statistics.median(one["jobs"] / one["cpu_s"] for one in rounds[name])

    for name in rounds:
        if name == "forewright":
            continue
        by_wall, by_cpu = wall("forewright") / wall(name), cpu("forewright") / cpu(name)
        figures[f"jobs_per_s_vs_{name}"] = (by_wall, "ratio")
        figures[f"jobs_per_cpu_s_vs_{name}"] = (by_cpu, "ratio")
        figures[f"jobs_per_s_{name}"] = (wall(name), "1/s")
    figures["jobs_per_s"] = (wall("forewright"), "1/s")
    figures["jobs_per_cpu_s"] = (cpu("forewright"), "1/s")
    figures["jobs_per_s_sqlite"] = (statistics.median(one["jobs_per_s"] for one in sqlite), "1/s")


def workflow(bench, figures, detail):
    ours, theirs, sqlite = [], [], []
    for _ in range(bench.options.rounds):
        ours.append(bench.told("forewright", "workflow", 30)["per_step_ms"])
        theirs.append(bench.told("dbos", "workflow", 30)["per_step_ms"])
        sqlite.append(bench.told("forewright", "workflow", 30, sqlite=True)["per_step_ms"])
    detail["workflow"] = {"forewright": ours, "dbos": theirs, "sqlite": sqlite}
    for name, share in [("p50", 0.5), ("p99", 0.99)]:
        mine, others, file = (
            statistics.median(quantile(one, share) for one in rounds)
            for rounds in (ours, theirs, sqlite)
        )
        figures[f"workflow_step_{name}_vs_dbos"] = (mine / others, "ratio")
        figures[f"workflow_step_{name}_ms"] = (mine, "ms")
        figures[f"workflow_step_{name}_ms_dbos"] = (others, "ms")
        figures[f"workflow_step_{name}_ms_sqlite"] = (file, "ms")


def pickup(bench, figures, detail):
    p99 = {rate: [] for rate in RATES}
    p50 = {rate: [] for rate in RATES}
    for _ in range(bench.options.rounds):
        for rate in RATES:
            told = bench.told("forewright", "pickup", rate, bench.options.seconds, HANDS)
            p99[rate].append(quantile(told["picked_up_ms"], 0.99))
            p50[rate].append(quantile(told["picked_up_ms"], 0.5))
    p99 = {rate: statistics.median(all) for rate, all in p99.items()}
    p50 = {rate: statistics.median(all) for rate, all in p50.items()}
    detail["pickup"] = {"p50_ms": p50, "p99_ms": p99}
    for rate in RATES:
        figures[f"pickup_p50_ms_{rate}_per_s"] = (p50[rate], "ms")
        figures[f"pickup_p99_ms_{rate}_per_s"] = (p99[rate], "ms")
    figures["pickup_p99_ms_worst_rate"] = (max(p99.values()), "ms")
    figures["pickup_p99_worst_over_best_rate"] = (max(p99.values()) / min(p99.values()), "ratio")


def bombs(bench, figures, detail):
    rounds = {"": [], "_sqlite": []}
    for _ in range(bench.options.rounds):
        for suffix, told in rounds.items():
            told.append(bench.told("forewright", "bombs", 10, bench.options.seconds, sqlite=bool(suffix)))
    detail["bombs"] = {suffix or "postgres": told for suffix, told in rounds.items()}
    for suffix, told in rounds.items():
        for name, share in [("p50", 0.5), ("p99", 0.99)]:
            quiet, beside = (
                statistics.median(quantile(one[when], share) for one in told)
                for when in ("quiet_ms", "beside_ms")
            )
            figures[f"neighbour_run_{name}_under_bombs{suffix}"] = (beside / quiet, "ratio")
            figures[f"neighbour_run_{name}_ms_quiet{suffix}"] = (quiet, "ms")
            figures[f"neighbour_run_{name}_ms_under_bombs{suffix}"] = (beside, "ms")


def recovery(bench, figures, detail):
    """A killed worker's 50 steps are in other hands, seconds after its lease of 10 s."""
    beyond = [bench.told("forewright", "recovery", 50)["beyond_lease_s"] for _ in range(bench.options.rounds)]
    detail["recovery_beyond_lease_s"] = beyond
    figures["recovery_s_beyond_lease"] = (max(beyond), "s")


def versions(bench):
    pip = said(os.path.join(bench.options.peers, "python", "bin", "python"), "-m", "pip", "freeze")
    known = dict(line.split("==") for line in pip.splitlines() if "==" in line)
    found = {name: known.get(name) for name in ("procrastinate", "dbos")}
    for name in ("pg-boss", "graphile-worker", "node"):
        path = os.path.join(bench.options.peers, "node", "node_modules", name, "package.json")
        with open(path) as file:
            found[name] = json.load(file)["version"]
    with open(os.path.join(HERE, "peers", "rust", "Cargo.lock")) as file:
        locked = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', file.read()))
    found |= {name: locked[name] for name in ("apalis-postgres", "awa")}
    settings = "SELECT version() || ', fsync ' || current_setting('fsync') || ', synchronous_commit ' || "
    settings += "current_setting('synchronous_commit')"
    found["postgres"] = said("psql", bench.cluster, "-Atc", settings)
    return found


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("peers")
    asked.add_argument("binary")
    asked.add_argument("--jobs", type=int, default=10_000)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=int, default=10)
    asked.add_argument("--only", default="throughput,workflow,pickup,recovery,bombs")
    bench = Bench(asked.parse_args())
    figures, detail, load = {}, {}, [os.getloadavg()]
    parts = {
        "throughput": throughput,
        "workflow": workflow,
        "pickup": pickup,
        "recovery": recovery,
        "bombs": bombs,
    }
    for name in bench.options.only.split(","):
        parts[name](bench, figures, detail)
        load.append(os.getloadavg())
    shutil.rmtree(bench.folder)
    report = {
        "figures": [
            {"name": name, "value": float(f"{value:.4g}"), "unit": unit}
            for name, (value, unit) in figures.items()
        ],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {said('rustc', '--version')}",
        "load": [[round(x, 2) for x in one] for one in load],
        "commit": said("git", "-C", HERE, "rev-parse", "HEAD"),
        "peers": versions(bench),
        "rounds": bench.options.rounds,
        "hands": HANDS,
        "detail": detail,
    }
    os.makedirs("bench-out", exist_ok=True)
    with open("bench-out/queue.json", "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    for figure in report["figures"]:
        print(figure["name"], figure["value"], figure["unit"])


main()
