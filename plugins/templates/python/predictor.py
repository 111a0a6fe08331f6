"""Says how likely each asset fails: the further one of its metrics has moved since it was first known, the sooner.
Begin with `judge`, which makes an outlook of a history, and with `drift`, which makes one number of a metric.
"""

import math
from typing import NamedTuple

from guard import guard
from wit_world import exports
from wit_world.exports.predict import Column, History, Outlook, Outlook_Declined, Outlook_Risk, Reason, Request, Risk
from wit_world.imports import host

DAY_MS = 86_400_000.0
MOST = 1_000.0


class Predict(exports.Predict):
    @guard
    def predict(self, request: Request) -> list[Outlook]:
        host.log(host.Level.INFO, f"judges {len(request.histories)} assets", [])
        return [judge(history, request.horizons) for history in request.histories]


class Drift(NamedTuple):
    """How far a metric has moved, relative to where it began."""

    metric: str
    last: float
    moved: float


def judge(history: History, horizons: list[float]) -> Outlook:
    drifts = [one for one in map(drift, history.columns) if one is not None]
    if not drifts:
        return Outlook_Declined("nothing was measured")

    strongest = max(drifts, key=lambda one: one.moved)
    worst = min(strongest.moved, MOST)
    failures_per_day = 0.001 + 0.01 * worst
    reason = Reason(
        metric=strongest.metric,
        feature="last",
        value=strongest.last,
        typical=math.nan,
        contribution=worst * DAY_MS,
    )
    probabilities = [probability(failures_per_day * horizon / DAY_MS) for horizon in horizons]
    return Outlook_Risk(Risk(probabilities, remaining_life=[], reasons=[reason]))


def probability(expected: float) -> float:
    return 1.0 if expected > 1e9 else expected / (1 + expected)


def drift(column: Column) -> Drift | None:
    """None if nothing of the metric is known."""
    known = [value for value in column.values if not math.isnan(value)]
    if not known:
        return None
    first, last = known[0], known[-1]
    moved = abs(last - first) / (abs(first) + 1)
    return Drift(column.metric, last, moved if math.isfinite(moved) else MOST)
