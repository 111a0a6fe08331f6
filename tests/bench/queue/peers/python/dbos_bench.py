"""DBOS: workflows of five steps that do nothing, one after the other. usage: dbos_bench.py workflow URL RUNS"""

import json
import sys
import time

from dbos import DBOS

_, _, url, runs = sys.argv
DBOS(
    config={
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        "run_admin_server": False,
    }
)


@DBOS.step()
def noop(n):
    return None


@DBOS.workflow()
def five(n):
    for step in range(5):
        noop(step)
    return "done"


DBOS.launch()
per_step_ms = []
for n in range(int(runs) + 3):
    began = time.perf_counter()
    assert five(n) == "done"
    if n >= 3:
        per_step_ms.append((time.perf_counter() - began) * 1000 / 5)
DBOS.destroy()
print(json.dumps({"per_step_ms": per_step_ms}))
