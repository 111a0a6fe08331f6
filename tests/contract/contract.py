"""Asks a running server everything that openapi/v1.json describes, and checks that it answers as described.

usage: BASE_URL=http://127.0.0.1:8600 TOKEN=… python tests/contract/contract.py [schemathesis option...]

The server should hold a finished demonstration (scripts/with-demo.sh starts one). Two walks: as a cell through what only
cells may do, then as the operator through everything else. Both follow the links of the document from answer to answer. An
operation none of whose requests got past authentication or found what it names fails the walk as well. Requests are drawn
with a fixed seed; the names of things that are there are mixed in, so that not every answer is 404.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE_URL = os.environ["BASE_URL"]
OPERATOR = os.environ["TOKEN"]
SEED = "1"
EXAMPLES = os.environ.get("EXAMPLES", "8")

CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
# It never ends, so it cannot be asked like the others; tests/stories listens to it.
ENDLESS = "/api/v1/events/stream"
CELLS_ONLY = r"^/api/v1/(leases/|cells/\{cell\}/(epochs|leases))"

# Makes what a finished demonstration has not: builds that wait, a proposed window, a question to a person, a dead letter.
WORKFLOW = """
fn run(event) {
    if event.wanted == "build" {
        return step("make", event.build);
    }
    if event.wanted == "failure" {
        return step("verify", #{ scan: "sha256:0", design: "nobody's" });
    }
    let risk = step("predict", #{ asset: event.asset, at: event.at });
    let slot = step("schedule", #{
        asset: event.asset, at: event.at, print_seconds: 3600.0,
        fps: risk.fps, remaining_life_hours: risk.remaining_life_hours
    });
    approval("technician", #{ window: slot.window }, "24h")
}
"""

POLICY = """
fn decide(facts) {
    #{ action: "monitor", reason: "revision %d" }
}
"""


def call(method, path, body=None, token=OPERATOR):
    request = urllib.request.Request(
        f"{BASE_URL}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(what, ask):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = ask()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"contract: {what} did not appear within 60 s")


def enrol(name):
    asked = call("POST", "/enrolments", {"name": name, "machine": {}})
    call("POST", f"/enrolments/{asked['code']}/approve")
    return asked


def connect(name):
    """A new cell with its token and connection."""
    asked = enrol(name)
    claimed = call("POST", f"/enrolments/{asked['code']}/token", {"claim_secret": asked["claim_secret"]})
    cell, token = claimed["cell"], claimed["token"]
    return cell, token, call("POST", f"/cells/{cell}/epochs", {}, token)["epoch"], asked


def upload_of(content, token=OPERATOR):
    """An upload of these bytes that has yet to be sent."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return call("POST", "/artifacts/uploads", {"digest": digest, "size_bytes": len(content)}, token)["id"]


def take_lease(cell, token, epoch, _):
    return call("POST", f"/cells/{cell}/leases", {"epoch": epoch}, token)


def prepare():
    """Adds what can be accepted, answered, leased and revoked; answers the names of what is there, and a cell's token."""
    decision = call("GET", "/decisions")["decisions"][0]
    asset, at = decision["asset"], decision["at"]
    run = decision["run"]
    build = call("GET", "/builds")["builds"][0]
    part = {name: build[name] for name in ("design", "gcode", "material", "printer")}
    part["gcode_size_bytes"] = build.get("gcode_size_bytes", 1)
    # Two revisions each, so that there is one to go back to.
    earlier = call("POST", "/workflows", {"name": "contract", "source": "fn run(event) { 1 }"})["revision"]
    revision = call("POST", "/workflows", {"name": "contract", "source": WORKFLOW})["revision"]
    policies = [call("POST", "/policies", {"name": "contract", "source": POLICY % n})["revision"] for n in range(3)]
    for n in range(6):
        call("PUT", f"/triggers/contract-{n}", {"cron": "0 3 1 1 *", "workflow": "contract", "paused": True})
    runs = [run]
    for wanted in ["build"] * 6 + ["window"] * 3 + ["failure"] * 3:
        event = {"wanted": wanted, "build": part, "asset": asset, "at": at}
        runs.append(call("POST", "/runs", {"workflow": "contract", "event": event})["id"])

    cells = [connect(f"contract-cell-{n}") for n in range(3)]
    cell, token, epoch, _ = cells[0]
    # A cell holds one lease at a time: the first is that of the cell that walks.
    leases = [wait_for("a build that waits", lambda one=one: take_lease(*one)) for one in cells]
    wait_for("three dead letters", lambda: len(call("GET", "/dead_letters")["dead_letters"]) >= 3)
    wait_for("three questions", lambda: len(call("GET", "/approvals?state=open")["approvals"]) >= 3)

    for name in ("contract-group", "contract-spare"):
        call("PUT", f"/heat_groups/{name}", {"max_heating": 100})
    spare = [call("POST", "/tokens", {"role": "agent", "name": f"spare-{n}"})["id"] for n in range(3)]
    codes = [enrol(f"spare-{n}")["code"] for n in range(2)]
    claimable = enrol("claimable")
    kept = call("GET", f"/artifacts?run={run}")["artifacts"][0]
    again = {"digest": kept["digest"], "size_bytes": kept["size_bytes"]}
    stored = call("POST", "/artifacts/uploads", again)["id"]
    codes += [call("POST", "/enrolments", {"name": f"asks-{n}"})["code"] for n in range(6)]

    def names(path, key, name="id"):
        return [row[name] for row in call("GET", path)[key]][:20]

    artifacts = call("GET", f"/artifacts?run={run}")["artifacts"]
    values = {
        "approvals": names("/approvals", "approvals"),
        "artifacts": [row["digest"] for row in artifacts][:20],
        "assets": [asset] + names("/assets", "assets")[:5],
        "builds": names("/builds", "builds"),
        "cells": [cell, "demo-cell"],
        "dead_letters": names("/dead_letters", "dead_letters"),
        "decisions": names("/decisions", "decisions"),
        "designs": names("/designs", "designs"),
        "enrolments": codes + [asked["code"] for _, _, _, asked in cells],
        "epochs": [epoch],
        "fences": sorted({lease["fence"] for lease in leases}),
        "heat_groups": ["contract-group", "contract-spare"],
        "leases": [lease["id"] for lease in leases],
        "localities": names("/localities", "localities"),
        "metrics": names(f"/telemetry/series?asset={asset}", "series", "metric"),
        "models": names("/models", "models"),
        "parts": names("/parts", "parts"),
        "policies": names("/policies", "policies", "name"),
        "policy_revisions": policies,
        "revised_policies": ["contract"],
        "revisions": [earlier, revision],
        "runs": runs,
        "technicians": names("/technicians", "technicians"),
        "tokens": spare,
        "triggers": [f"contract-{n}" for n in range(6)],
        "open_codes": [claimable["code"]],
        "open_secrets": [claimable["claim_secret"]],
        "offsets": [0],
        "uploads": [upload_of(b"%04d" % n * 1000) for n in range(6)],
        "doomed_uploads": [upload_of(b"doomed %d" % n) for n in range(6)],
        "stored_uploads": [stored],
        "windows": names("/windows", "windows"),
        "work_orders": names("/work_orders", "work_orders"),
        "workflows": ["contract"],
    }
    return values, cell, token


def settings(values, operations):
    """A schemathesis configuration that draws names from `values` most of the time."""
    bound = {}
    for path in operations:
        if "/uploads/" in path:
            continue
        room = path.split("/")[3]
        for parameter in ("id", "name", "code", "cell", "digest"):
            if f"{{{parameter}}}" in path and room in values:
                bound.setdefault(path, {})[f"path.{parameter}"] = room
    for path in operations:
        for parameter, name in (("query.asset", "assets"), ("query.run", "runs"), ("query.metric", "metrics")):
            wanted = parameter.split(".")[1]
            if any(q["name"] == wanted for q in operations[path].get("get", {}).get("parameters", [])):
                bound.setdefault(path, {})[parameter] = name
        if "/leases" in path:
            bound.setdefault(path, {})["body.epoch"] = "epochs"
        if path.startswith("/api/v1/leases/"):
            bound[path]["body.fence"] = "fences"
    bound["/api/v1/builds/{id}/resolve"]["body.fence"] = "fences"
    # The one enrolment whose token can be fetched needs the one secret that belongs to it.
    bound["/api/v1/enrolments/{code}/token"] = {"path.code": "open_codes", "body.claim_secret": "open_secrets"}
    bound["/api/v1/outcomes"]["body.asset"] = "assets"
    bound["/api/v1/cells/{cell}/rules"]["body.heat_group"] = "heat_groups"
    bound["/api/v1/runs"] = {"body.workflow": "workflows"}
    bound["/api/v1/triggers/{name}"]["body.workflow"] = "workflows"
    for path in operations:
        if path.startswith("/api/v1/policies/{name}/re"):
            bound[path]["path.name"] = "revised_policies"
        if path.startswith("/api/v1/policies/{name}/revisions/{digest}"):
            bound[path]["path.digest"] = "policy_revisions"
        if path.startswith("/api/v1/workflows/{name}/revisions/{digest}"):
            bound[path]["path.digest"] = "revisions"
    bound["/api/v1/policies/{name}/rollback"]["path.name"] = "revised_policies"
    for end in ("from", "to"):
        bound["/api/v1/workflows/{name}/migrate"][f"body.{end}"] = "revisions"

    lines = [
        # An operation that was asked only for what is not there, or without being let in, was not asked at all.
        "[warnings]",
        'display = ["missing_auth", "missing_test_data"]',
        "fail-on = true",
        # A stream of bytes that is no UTF-8 and names with NUL in them are what this is for.
        "[generation]",
        "allow-x00 = true",
        'database = "none"',
    ]
    for name, entries in values.items():
        if entries:
            lines += [f"[dictionaries.{name}]", f"values = {json.dumps(entries)}"]
    # What one operation does to an upload must not be in the way of the next.
    of_uploads = {
        "get_upload": {"path.id": "uploads"},
        "append_upload": {"path.id": "uploads", "header.upload-offset": "offsets"},
        "finish_upload": {"path.id": "stored_uploads"},
        "delete_upload": {"path.id": "doomed_uploads"},
    }
    entries = [("include-path", path, parameters) for path, parameters in bound.items()]
    entries += [("include-operation-id", name, parameters) for name, parameters in of_uploads.items()]
    for key, what, parameters in entries:
        lines += ["[[operations]]", f"{key} = {json.dumps(what)}"]
        for parameter, name in parameters.items():
            if values[name]:
                lines += [f'parameters."{parameter}" = {{ dictionary = "{name}", probability = 0.8 }}']
    lines += [
        # Following what it finds, it would revoke the token it speaks with.
        "[[operations]]",
        'include-operation-id = "revoke_token"',
        "phases.stateful.enabled = false",
        "phases.fuzzing.extra-data-sources.responses = false",
        "phases.coverage.extra-data-sources.responses = false",
        # Nothing here has diverged, so what pins a run refuses them all; its own tests pin one.
        "[[operations]]",
        'include-operation-id = "pin_run"',
        "warnings = false",
    ]
    return "\n".join(lines) + "\n"


def walk(title, config, token, phases, revisions, options):
    print(f"contract: {title}", flush=True)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(config),
        "run",
        str(ROOT / "openapi/v1.json"),
        *["--url", BASE_URL],
        *["--header", f"Authorization: Bearer {token}"],
        *["--checks", CHECKS],
        *["--phases", phases],
        *["--seed", SEED],
        *["--max-examples", EXAMPLES],
        *["--request-timeout", "30"],
        *["--suppress-health-check", "all"],
        "--no-shrink",
        "--no-color",
        "--continue-on-failure",
        *options,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(Path(__file__).parent), "PYTHONDONTWRITEBYTECODE": "1"}
    known = {"CONTRACT_REVISIONS": json.dumps(revisions)}
    return subprocess.run(command, env={**os.environ, **hooks, **known}, cwd=config.parent).returncode


def main():
    operations = json.loads((ROOT / "openapi/v1.json").read_text())["paths"]
    values, cell, cell_token = prepare()
    workflow, policy = values["revisions"][-1], values["policy_revisions"][-1]
    revisions = {"pin_run": workflow, "restart_run": workflow, "replay_policy": policy}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "schemathesis.toml"
        config.write_text(settings(values, operations))
        extra = sys.argv[1:]
        as_cell = walk(
            "as a cell, through what only cells may do",
            config,
            cell_token,
            "examples,coverage,fuzzing,stateful",
            revisions,
            ["--include-path-regex", CELLS_ONLY, *extra],
        )
        as_operator = walk(
            "as the operator, through everything",
            config,
            OPERATOR,
            "examples,coverage,fuzzing,stateful",
            revisions,
            ["--exclude-path", ENDLESS, "--exclude-path-regex", CELLS_ONLY, *extra],
        )
    # Had the token been revoked on the way, every later answer would have been an unsuspicious 401.
    call("GET", "/tokens")
    sys.exit(1 if as_cell or as_operator else 0)


main()
