"""What the measurements of this folder share: a server of one's own, its processor time and memory, and the report."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def binary():
    """The binary that is measured: the one FOREWRIGHT_BINARY names, or a release build of this checkout."""
    if given := os.environ.get("FOREWRIGHT_BINARY"):
        return given
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", "forewright"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return str(Path(target) / "release/forewright")


class Server:
    """`forewright serve` (or `up`) with a data folder of its own; it is stopped and removed at the end."""

    def __init__(self, *command, settings=()):
        self.folder = tempfile.TemporaryDirectory(prefix="forewright-bench.")
        self.environment = {
            **os.environ,
            "FOREWRIGHT_SERVER_DATA": f"{self.folder.name}/data",
            "FOREWRIGHT_FLEET_TICK_S": "0",
            "FOREWRIGHT_LOG": "warn",
            **dict(settings),
        }
        self.log = open(f"{self.folder.name}/log", "w", encoding="utf-8")
        self.process = self.start(*command, "--listen", "127.0.0.1:0")
        self.token = None
        for line in self.process.stdout:
            if "shown this once: " in line:
                self.token = line.split("shown this once: ")[1].strip()
            if line.startswith("ready on "):
                self.base = line.removeprefix("ready on ").strip()
                return
        sys.exit(f"bench: the server did not become ready: {Path(self.log.name).read_text(encoding='utf-8')}")

    def start(self, *command):
        return subprocess.Popen(
            [binary(), *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def call(self, method, path, body=None, token="", raw=None, headers=()):
        """What the server answers, as JSON; a refusal ends the measurement."""
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(
            f"{self.base}/api/v1{path}",
            method=method,
            data=data,
            headers={
                "Authorization": f"Bearer {token or self.token}",
                "Content-Type": "application/json" if raw is None else "application/octet-stream",
                **dict(headers),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refusal:
            sys.exit(f"bench: {method} {path}: {refusal.code} {refusal.read().decode()}")
        return json.loads(text) if text else None

    def cpu_seconds(self):
        """Processor time it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, field="VmRSS"):
        """Resident memory (`VmRSS`) or the most there ever was (`VmHWM`), MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise KeyError(field)

    def forget_peak(self):
        """Begins `VmHWM` anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="utf-8")

    def stop(self):
        for process in (self.process,):
            process.terminate()
            process.wait(timeout=60)
        self.log.close()
        self.folder.cleanup()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def write(area, figures, load, **more):
    """Prints `name value unit` per figure, and writes them with what they were measured on."""
    report = {
        "figures": [{"name": name, "value": value, "unit": unit} for name, value, unit in figures],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {said('rustc', '--version')}",
        "load": [round(x, 2) for x in load],
        "commit": said("git", "rev-parse", "HEAD"),
        **more,
    }
    folder = ROOT / "bench-out"
    folder.mkdir(exist_ok=True)
    (folder / f"{area}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, value, unit in figures:
        print(name, value, unit)
