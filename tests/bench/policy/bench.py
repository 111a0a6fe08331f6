"""Measures policies: `make bench AREA=policy`; see README.md for what each figure means.

usage: bench.py [--only decide,journal,replay] [--rounds N] [--ms N] [--recorded N]
FOREWRIGHT_BINARY names the binary that `replay` asks; without it a release build is made.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cells"))

import report  # noqa: E402

HOUR_MS = 3_600_000
BEGAN_MS = 1_735_689_600_000


def built():
    """The program that asks the same rule of every engine; its peers are in no other build."""
    target = report.ROOT / "target/bench-policy"
    manifest = HERE / "Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", str(manifest)]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    return str(target / "release/bench-policy")


def decide(options, figures, detail):
    ran = subprocess.run([built(), str(options.rounds), str(options.ms)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"bench: bench-policy failed: {ran.stderr[-3000:]}")
    told = json.loads(ran.stdout)
    detail["decide"] = told
    told = told["told"]

    def median(name, field):
        return statistics.median(one[field] for one in told[name])

    whole = {name: median(name, "whole_cpu_ns") for name in told if not name.endswith("_threads")}
    ours = whole["forewright"]
    # Whichever way of regorus is the quicker.
    quicker = min("regorus_rvm", "regorus_interpreter", key=whole.get)
    detail["regorus"] = quicker
    figures["policy_decision_vs_regorus"] = (ours / whole[quicker], "ratio")
    figures["policy_decision_vs_regorus_interpreter"] = (ours / whole["regorus_interpreter"], "ratio")
    figures["policy_decision_vs_cel"] = (ours / whole["cel"], "ratio")
    figures["policy_decision_vs_raw_rhai"] = (ours / whole["rhai"], "ratio")
    for name, cpu_ns in whole.items():
        suffix = "" if name == "forewright" else f"_{name}"
        figures[f"policy_decision_us{suffix}"] = (cpu_ns / 1_000, "us")
    for name in ("regorus_rvm", "cel", "rhai"):
        figures[f"policy_run_us_{name}"] = (median(name, "run_cpu_ns") / 1_000, "us")
    for name in ("forewright", "regorus_rvm", "cel"):
        suffix = "" if name == "forewright" else f"_{name}"
        figures[f"policy_two_thread_scaling{suffix}"] = (median(f"{name}_threads", "scaling"), "ratio")
    figures["policy_two_thread_scaling_cpu"] = (median("forewright_threads", "scaling_cpu"), "ratio")


def journal(_, figures, detail):
    command = ["cargo", "run", "--release", "--locked", "--quiet", "-p", "workflows", "--example", "journal_replay"]
    ran = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"bench: journal_replay failed: {ran.stderr[-3000:]}")
    detail["journal"] = ran.stdout.strip()
    name, value, unit = ran.stdout.split()
    figures[name] = (float(value), unit)


def rule(threshold):
    return f"""fn decide(facts) {{
    let risk = facts.fps["7d"];
    if risk > {threshold} {{
        return #{{ action: "start", workflow: "replace_part", reason: `${{risk}}` }};
    }}
    #{{ action: "monitor", reason: `${{risk}}` }}
}}
"""


def risk(n):
    """The risk in the n-th record, spread over 0 to 1 without a pattern."""
    return (n * 7_919 % 10_007) / 10_007


def recorded(n, revision):
    """A decision of a rule with threshold 0.5, as the server records it."""
    at = BEGAN_MS + n * HOUR_MS
    facts = {
        **{"asset": f"fan-{n % 100}", "kind": "fan_tray", "locality": "hall", "state": "in_service"},
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 1_000)),
        "fps": {"1d": risk(n) / 4, "7d": risk(n), "30d": risk(n)},
        **{"fps_reasons": ["fan_rpm", "temperature"], "remaining_life_hours": None, "anomaly": 0.5},
        **{"utilisation": 0.5, "spare_capacity": 0.25, "dependents": 3, "critical_dependents": 1},
        **{"redundancy": None, "stand_in_possible": True, "stand_in_operational": False},
        **{"part": "fan_tray_bracket", "failure_mode": None, "outage_cost_per_hour": 120.0},
        **{"open_run": None, "cooling_down": False},
    }
    decision = {"action": "monitor", "reason": str(risk(n))}
    if risk(n) > 0.5:
        decision = {"action": "start", "workflow": "replace_part", "reason": str(risk(n))}
    texts = [json.dumps(facts), json.dumps(decision), decision["reason"]]
    return [f"{n:08}", facts["asset"], "p", revision, *texts, 20, 5, at]


def replay(options, figures, detail):
    """What a policy engineer waits for: `forewright policy replay` over all of them, with the flips it lists."""
    binary = report.binary()
    server = report.Server("up")
    try:
        stored = server.call("POST", "/policies", {"name": "p", "source": rule(0.5)})
        with sqlite3.connect(next(Path(server.folder.name).glob("data/*.sqlite")), timeout=60) as db:
            columns = "id, asset, policy, revision, facts, verdict, reason, operations, duration_us, at"
            rows = (recorded(n, stored["revision"]) for n in range(options.recorded))
            db.executemany(f"INSERT INTO decision ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.close()
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / "p.rhai"
            draft.write_text(rule(0.8), encoding="utf-8")
            command = [binary, "policy", "replay", str(draft), "--server", server.base, "--token", server.token, "--json"]
            for _ in range(5):
                began = time.monotonic()
                ran = subprocess.run(command, capture_output=True, text=True, check=False)
                seconds.append(time.monotonic() - began)
                if ran.returncode != 0:
                    sys.exit(f"bench: the replay failed: {ran.stderr}")
                told = json.loads(ran.stdout)
                flipped = [flip["decision"] for flip in told["flips"]]
                wanted = [f"{n:08}" for n in range(options.recorded) if 0.5 < risk(n) <= 0.8]
                if flipped != wanted or told["unreadable"]:
                    sys.exit(f"bench: {len(flipped)} flips instead of {len(wanted)}, {told['unreadable']} unreadable")
    finally:
        server.stop()
    detail["replay"] = {"binary": binary, "seconds": [round(one, 3) for one in seconds], "flipped": len(wanted)}
    figures[f"policy_replay_{options.recorded // 1_000}k_s"] = (statistics.median(seconds), "s")


PARTS = {"decide": decide, "journal": journal, "replay": replay}


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("--only", default=",".join(PARTS))
    asked.add_argument("--rounds", type=int, default=9)
    asked.add_argument("--ms", type=int, default=200)
    asked.add_argument("--recorded", type=int, default=100_000)
    options = asked.parse_args()
    figures, detail, load = {}, {}, os.getloadavg()
    for name in options.only.split(","):
        PARTS[name](options, figures, detail)
    figures = [(name, float(f"{value:.4g}"), unit) for name, (value, unit) in figures.items()]
    load_after = [round(x, 2) for x in os.getloadavg()]
    report.write("policy", figures, load, load_after=load_after, peers=versions(), detail=detail)


def versions():
    """What the lock file says of the peers and of what our scripts run on."""
    name, found = None, {}
    for line in (HERE / "Cargo.lock").read_text(encoding="utf-8").splitlines():
        if line.startswith("name = "):
            name = line.split('"')[1]
        elif line.startswith("version = ") and name in ("cel", "regorus", "rhai"):
            found[name] = line.split('"')[1]
    return found


if __name__ == "__main__":
    main()
