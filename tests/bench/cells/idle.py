"""Five hundred cells that wait for work: what they cost while nothing happens, and how soon a build reaches one.

The cells are real connections that long-poll one `forewright serve` on Postgres. A wake-up is measured from before a
cell gives its build back, by opening a new connection, to the moment another of the waiting cells has its lease; so it
includes the call that gives it back.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import uuid

CELLS = int(os.environ.get("CELLS", "500"))
IDLE_S = float(os.environ.get("IDLE_S", "60"))
ROUNDS = int(os.environ.get("ROUNDS", "300"))
WAIT_S = 50

WORKFLOW = """
fn run(event) { step("make", event) }
"""


def order_a_build(server):
    """A run orders one build; the worker that carries it out is stopped again, since cells need none."""
    gcode = b"G28\nG1 X10 Y10 E1\n"
    digest = "sha256:" + hashlib.sha256(gcode).hexdigest()
    server.call("PUT", f"/artifacts/{digest}", raw=gcode)
    server.call("POST", "/workflows", {"name": "bench", "source": WORKFLOW})
    part = {"design": "d", "gcode": digest, "gcode_size_bytes": len(gcode), "material": "petg", "printer": "prusa_mk4"}
    server.call("POST", "/runs", {"workflow": "bench", "event": part})
    worker = server.start("work", "--queues", "runs,io")
    try:
        for _ in range(600):
            builds = server.call("GET", "/builds")["builds"]
            if builds:
                return
            time.sleep(0.1)
        sys.exit("bench: the build was not ordered within 60 s")
    finally:
        worker.terminate()
        worker.wait(timeout=60)


def enrol(server, name):
    asked = server.call("POST", "/enrolments", {"name": name, "machine": {}})
    server.call("POST", f"/enrolments/{asked['code']}/approve")
    claim = {"claim_secret": asked["claim_secret"]}
    granted = server.call("POST", f"/enrolments/{asked['code']}/token", claim)
    return granted["cell"], granted["token"]


class Cell:
    """One cell over one connection."""

    def __init__(self, server, name, token):
        self.address = server.base.removeprefix("http://")
        self.name, self.token, self.epoch = name, token, 0
        self.reader = self.writer = None

    async def call(self, path, body, headers=""):
        if self.writer is None:
            host, port = self.address.split(":")
            self.reader, self.writer = await asyncio.open_connection(host, int(port))
        data = json.dumps(body).encode()
        self.writer.write(
            f"POST /api/v1/cells/{self.name}/{path} HTTP/1.1\r\nhost: {self.address}\r\n"
            f"authorization: Bearer {self.token}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n{headers}\r\n".encode() + data
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length")), 0)
        text = await self.reader.readexactly(length)
        if status == 503:
            # As a cell does: 500 that come at once are more than a loaded machine answers in time.
            await asyncio.sleep(1)
            return await self.call(path, body, headers)
        if status >= 300:
            sys.exit(f"bench: {path}: {status} {text.decode()}")
        return json.loads(text) if text else None

    async def connect(self):
        self.epoch = (await self.call("epochs", {}))["epoch"]

    async def serve(self, leased):
        """Waits for builds, and gives each back when it is told to."""
        await asyncio.sleep(random.random() * 10)
        await self.connect()
        while True:
            headers = f"prefer: wait={WAIT_S}\r\nidempotency-key: {uuid.uuid4()}\r\n"
            lease = await self.call("leases", {"epoch": self.epoch}, headers)
            if lease is not None:
                give_back = asyncio.Event()
                leased.put_nowait((time.perf_counter(), give_back, self))
                await give_back.wait()
                await self.connect()


async def measure(server, tokens):
    leased = asyncio.Queue()
    cells = [Cell(server, name, token) for name, token in tokens]
    tasks = [asyncio.create_task(cell.serve(leased)) for cell in cells]
    _, give_back, holder = await leased.get()
    await asyncio.sleep(10)
    cpu, began = server.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    share = (server.cpu_seconds() - cpu) / (time.perf_counter() - began)
    listening = listeners()
    late_ms = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        give_back.set()
        at, give_back, holder = await leased.get()
        late_ms.append((at - began) * 1e3)
        await asyncio.sleep(0.05)
    memory = server.memory_mb()
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    return share, memory, late_ms, listening


def listeners():
    """Connections to this database that listen."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'"
    command = ["psql", "-XAtq", os.environ["DATABASE_URL"], "-c", sql]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run(server):
    order_a_build(server)
    tokens = [enrol(server, f"cell-{n}") for n in range(CELLS + 1)]
    return asyncio.run(measure(server, tokens))
