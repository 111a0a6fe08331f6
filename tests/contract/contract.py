"""Asks a running server everything that openapi/v1.json describes, and checks that it answers as described.

usage: BASE_URL=http://127.0.0.1:8600 TOKEN=… python tests/contract/contract.py [schemathesis option...]

The server should hold a finished demonstration (scripts/with-demo.sh starts one). Two walks with every check there is: as
a cell, with another one looking over its shoulder, through what only cells may do and what belongs to whom sent it; then as
the operator through everything else. Both follow the links of the document from answer to answer. An operation none of whose
requests got past authentication or found what it names fails the walk as well. Requests are drawn with a fixed seed; the
names of things that are there are mixed in, so that not every answer is 404.
"""

import base64
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
EXAMPLES = os.environ.get("EXAMPLES", "4")
# A walk along the links costs little, and only what is accepted leads on.
WALKS = "40"

# Far above what anything takes; it is to end all the same.
SLOWEST_S = "25"
# It never ends, so it cannot be asked like the others; tests/stories listens to it.
ENDLESS = "/api/v1/events/stream"
OF_CELLS = r"^/api/v1/(leases/|cells/\{cell\}/(epochs|leases)|artifacts/uploads/)"

# What fits its schema is to be accepted, except for what stands in the way elsewhere and is answered with one of these.
ELSEWHERE = ["2xx", "3xx", "401", "403", "404", "409", "429"]
# And except for rules no schema can tell: the status of the refusal, and the operations that have them.
RULES = {
    "400": [
        "get_range",  # it ends before it begins
        "remote_write",  # bytes that are no snappy, no protobuf
    ],
    "410": [
        "list_events",  # numbers of another history
    ],
    "413": [
        "create_upload",  # more than the setting `server.max_artifact_bytes`
    ],
    "422": [
        "append_upload",  # more bytes than announced
        "claim_cell_token",  # a secret that is not the one given out
        "finish_upload",  # bytes of another digest
        "get_range",  # more points than one answer holds
        "put_artifact",  # bytes of another digest
        "put_cell_rules",  # a time zone nobody knows, a span that ends before it begins
        "put_heat_group",  # a time zone nobody knows
        "put_kill_switch",  # a reason where it is to be on
        "put_part",  # a brief that cannot be read
        "put_plugin_settings",  # a name that no plugin has, a grant that reaches nowhere
        "put_policy",  # a script that does not compile
        "put_technician",  # a time zone nobody knows
        "put_trigger",  # a time table or a time zone that cannot be read, a workflow that is not there
        "put_workflow",  # a script that does not compile
        "replay_policy",  # a script that does not compile; a draft named twice or not at all
        "resolve_build",  # a scan of what is no finished part
        "restart_run",  # a position its journal has no call at
        "upload_plugin",  # bytes that are no plugin
    ],
}
# Items of a batch are judged one by one; what is wrong with them stands in the answer.
JUDGED_INSIDE = ["write_samples"]

# Makes what a finished demonstration has not: builds that wait, a proposed window, a question to a person, a dead letter.
WORKFLOW = """
fn run(event) {
    if event.wanted == "build" {
        return step("make", event.build);
    }
    if event.wanted == "failure" {
        return step("verify", #{ scan: "sha256:0", design: "nobody's" });
    }
    if event.wanted == "act" {
        return step("act", #{ plugin: "contract", input: #{ n: event.n } });
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


# An action that says `{"done":true}`, as a compiler makes one: memory, `cabi_realloc`, and a `run` that answers where that text
# lies.
ACTION = (
    "AGFzbQEAAAABCQFgBH9/f38BfwMDAgAABQMBAAEGBwF/AUGACAsHOwMGbWVtb3J5AgAMY2FiaV9yZWFsbG9jAAAfZm9yZXdyaWdodDpwbHVnaW4v"
    "YWN0QDEuMC4wI3J1bgABCj8CKgAjACMAIANqJAACQANAIwA/AEGAgARsTQ0BQRBAAEF/RgRAAAsMAAsLCxIAQQhBEDYCAEEMQQ02AgBBAAsLEwEA"
    "QRALDXsiZG9uZSI6dHJ1ZX0="
)
MANIFEST = """
name = "contract"
version = "%s"
world = "action"
interface = "forewright:plugin@1"
[action]
input = {}
output = {}
[build]
module = "action.wasm"
"""
PLUGIN_VERSIONS = [f"1.0.{n}" for n in range(6)]


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


def upload_plugins():
    """Versions of a plugin: the first serves, the others are compared with it."""
    binary = os.environ.get("BINARY", "forewright")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "action.wasm").write_bytes(base64.b64decode(ACTION))
        for version in PLUGIN_VERSIONS:
            (folder / "plugin.toml").write_text(MANIFEST % version)
            subprocess.run([binary, "plugin", "build", "-o", "plugin.wasm"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            request = urllib.request.Request(
                f"{BASE_URL}/api/v1/plugins?unsigned=true",
                data=(folder / "plugin.wasm").read_bytes(),
                headers={"Authorization": f"Bearer {OPERATOR}", "Content-Type": "application/wasm"},
            )
            urllib.request.urlopen(request, timeout=30).close()

    def checked():
        states = [row["state"] for row in call("GET", "/plugins?plugin=contract")["plugins"]]
        return len(states) == len(PLUGIN_VERSIONS) and all(state == "shadow" for state in states)

    wait_for("plugins that are checked", checked)
    call("POST", f"/plugins/contract/versions/{PLUGIN_VERSIONS[0]}/promote")
    for n in range(3):
        call("PUT", f"/plugin_keys/contract-{n}", {"public_key": f"{n:02x}" * 32})


def plugin_calls():
    """Calls of the version that serves, once there are some."""
    path = f"/plugins/contract/versions/{PLUGIN_VERSIONS[0]}/calls"
    return [row["id"] for row in call("GET", path)["calls"]]


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
    upload_plugins()
    runs = [run]
    for n in range(3):
        runs.append(call("POST", "/runs", {"workflow": "contract", "event": {"wanted": "act", "n": n}})["id"])
    for wanted in ["build"] * 6 + ["window"] * 3 + ["failure"] * 3:
        event = {"wanted": wanted, "build": part, "asset": asset, "at": at}
        runs.append(call("POST", "/runs", {"workflow": "contract", "event": event})["id"])

    cells = [connect(f"contract-cell-{n}") for n in range(3)]
    cell, token, epoch, _ = cells[0]
    # A cell holds one lease at a time: the first is that of the cell that walks.
    leases = [wait_for("a build that waits", lambda one=one: take_lease(*one)) for one in cells]
    wait_for("three dead letters", lambda: len(call("GET", "/dead_letters")["dead_letters"]) >= 3)
    wait_for("three questions", lambda: len(call("GET", "/approvals?state=open")["approvals"]) >= 3)

    wait_for("three calls of a plugin", lambda: len(plugin_calls()) >= 3)

    for name in ("contract-group", "contract-spare"):
        call("PUT", f"/heat_groups/{name}", {"max_heating": 100})
    spare = [call("POST", "/tokens", {"role": "agent", "name": f"spare-{n}"})["id"] for n in range(3)]
    codes = [enrol(f"spare-{n}")["code"] for n in range(2)]
    claimable = enrol("claimable")
    kept = call("GET", f"/artifacts?run={run}")["artifacts"][0]
    again = {"digest": kept["digest"], "size_bytes": kept["size_bytes"]}
    stored = call("POST", "/artifacts/uploads", again, token)["id"]
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
        "plugin_calls": plugin_calls(),
        "plugin_keys": [f"contract-{n}" for n in range(3)],
        "plugin_versions": PLUGIN_VERSIONS,
        "plugins": ["contract"],
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
        "uploads": [upload_of(b"%04d" % n * 1000, token) for n in range(6)],
        "doomed_uploads": [upload_of(b"doomed %d" % n, token) for n in range(6)],
        "stored_uploads": [stored],
        "windows": names("/windows", "windows"),
        "work_orders": names("/work_orders", "work_orders"),
        "workflows": ["contract"],
    }
    return values, [token for _, token, _, _ in cells]


def as_peers(folder, tokens):
    """Lets the first of these speak, and asks as each other one for what the first has sent."""
    names = [f"cell-{n}" for n, _ in enumerate(tokens)]
    known = folder / "peers.json"
    speakers = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for name, token in zip(names, tokens)
    ]
    known.write_text(json.dumps({"auth": speakers}))
    return [
        "[auth.wfc]",
        f"path = {json.dumps(str(known))}",
        f"user = {json.dumps(names[0])}",
        f"peers = {json.dumps(names)}",
    ]


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
        if "{plugin}" in path:
            bound.setdefault(path, {})["path.plugin"] = "plugins"
        if "{version}" in path:
            bound.setdefault(path, {})["path.version"] = "plugin_versions"
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
        f"max-examples = {EXAMPLES}",
        "[phases.stateful.generation]",
        'mode = "positive"',
        f"max-examples = {WALKS}",
        "[checks]",
        f"max_response_time = {SLOWEST_S}",
        "[checks.positive_data_acceptance]",
        f"expected-statuses = {json.dumps(ELSEWHERE)}",
        # Whichever refusal it is.
        "[checks.negative_data_rejection]",
        'expected-statuses = ["4xx"]',
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
    for name in sorted({name for names in RULES.values() for name in names}):
        accepted = ELSEWHERE + [status for status, names in RULES.items() if name in names]
        lines += ["[[operations]]", f'include-operation-id = "{name}"']
        lines += [f"checks.positive_data_acceptance.expected-statuses = {json.dumps(accepted)}"]
    for name in JUDGED_INSIDE:
        lines += ["[[operations]]", f'include-operation-id = "{name}"']
        lines += ['checks.negative_data_rejection.expected-statuses = ["200", "4xx"]']
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
        # The digests the coverage phase makes up name no scan, and no dictionary reaches its bodies; the stories end builds.
        "[[operations]]",
        'include-operation-id = "complete_build"',
        "warnings = false",
        "[[operations]]",
        'include-operation-id = "resolve_build"',
        "warnings = false",
    ]
    return "\n".join(lines) + "\n"


def walk(title, config, known, options):
    print(f"contract: {title}", flush=True)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(config),
        "run",
        str(ROOT / "openapi/v1.json"),
        *["--url", BASE_URL],
        *["--checks", "all"],
        *["--phases", "examples,coverage,fuzzing,stateful"],
        *["--seed", SEED],
        *["--request-timeout", "30"],
        *["--suppress-health-check", "all"],
        "--no-shrink",
        "--no-color",
        "--continue-on-failure",
        *options,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(Path(__file__).parent), "PYTHONDONTWRITEBYTECODE": "1"}
    known = {"CONTRACT_KNOWN": json.dumps(known)}
    return subprocess.run(command, env={**os.environ, **hooks, **known}, cwd=config.parent).returncode


def main():
    operations = json.loads((ROOT / "openapi/v1.json").read_text())["paths"]
    values, cells = prepare()
    workflow, policy = values["revisions"][-1], values["policy_revisions"][-1]
    known = {
        "pin_run": {"revision": workflow},
        "restart_run": {"revision": workflow},
        "replay_policy": {"revision": policy},
        "complete_build": {"scan": values["artifacts"][0]},
    }
    extra = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        told = settings(values, operations)
        cell, operator = folder / "cell.toml", folder / "operator.toml"
        cell.write_text("\n".join(as_peers(folder, cells[:2])) + "\n" + told)
        operator.write_text(told)
        as_cell = walk("as a cell", cell, known, ["--include-path-regex", OF_CELLS, *extra])
        as_operator = walk(
            "as the operator",
            operator,
            known,
            [
                *["--header", f"Authorization: Bearer {OPERATOR}"],
                *["--exclude-path", ENDLESS, "--exclude-path-regex", OF_CELLS],
                *extra,
            ],
        )
    # Had the token been revoked on the way, every later answer would have been an unsuspicious 401.
    call("GET", "/tokens")
    sys.exit(1 if as_cell or as_operator else 0)


main()
