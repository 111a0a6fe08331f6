"""Calls a sample unusual that lies far from what is normal: from the mean of its metric before `since`.
Begin with `learn`, which says what is normal, and with `UNUSUAL`, which says how far is too far.
"""

import math
from typing import NamedTuple

from guard import guard
from wit_world import exports
from wit_world.exports.detect import Anomaly, Request
from wit_world.imports import host
from wit_world.imports.types import Series

UNUSUAL = 4  # standard deviations
ENOUGH = 8  # samples to learn from
MOST = 10_000  # anomalies in one answer


class Detect(exports.Detect):
    @guard
    def detect(self, request: Request) -> list[Anomaly]:
        host.log(host.Level.INFO, f"judges {len(request.series)} metrics", [])
        anomalies = [one for series in request.series for one in spikes(series, request.since)]
        anomalies.sort(key=lambda one: one.start)
        return anomalies[:MOST]


class Normal(NamedTuple):
    mean: float
    deviation: float


def spikes(series: Series, since: float) -> list[Anomaly]:
    """Each run of unusual samples from `since` on."""
    known = zip(series.times, series.values)
    normal = learn([value for time, value in known if time < since and not math.isnan(value)])
    if normal is None:
        return []

    found = []
    run = None
    for time, value in zip(series.times, series.values):
        if time < since:
            continue
        z = abs(value - normal.mean) / normal.deviation
        if not z > UNUSUAL:  # nor is NaN
            run = None
            continue
        if run is None:
            run = Anomaly(start=time, end=time, score=0.0, kind="spike", metrics=[series.metric])
            found.append(run)
        run.end = time
        run.score = max(run.score, 1 - UNUSUAL / z)
    return found


def learn(values: list[float]) -> Normal | None:
    """None where they are too few, or too great to compute with."""
    if len(values) < ENOUGH:
        return None
    mean = sum(values) / len(values)
    variance = sum((value - mean) * (value - mean) for value in values) / len(values)
    if not (math.isfinite(mean) and math.isfinite(variance)):
        return None
    # A metric that never changes still has a smallest difference that means something.
    return Normal(mean, max(math.sqrt(variance), 1e-9 * (1 + abs(mean))))
