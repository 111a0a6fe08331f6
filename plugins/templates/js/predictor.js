// Says how likely each asset fails: the further one of its metrics has moved since it was first known, the sooner.
// Begin with `judge`, which makes an outlook of a history, and with `drift`, which makes one number of a metric.

import host from "forewright:plugin/host@1.0.0";
import { guard } from "./guard.js";

const DAY_MS = 86_400_000;
const MOST = 1_000;

export const predict = {
  predict: guard(({ histories, horizons }) => {
    host.log("info", `judges ${histories.length} assets`, []);
    return histories.map((history) => judge(history, horizons));
  }),
};

function judge({ columns }, horizons) {
  const drifts = columns.map(drift).filter((one) => one !== null);
  if (drifts.length === 0) return { tag: "declined", val: "nothing was measured" };

  const strongest = drifts.reduce((most, one) => (one.moved > most.moved ? one : most));
  const worst = Math.min(strongest.moved, MOST);
  const failuresPerDay = 0.001 + 0.01 * worst;
  const probabilities = horizons.map((horizon) => {
    const expected = (failuresPerDay * horizon) / DAY_MS;
    return expected > 1e9 ? 1 : expected / (1 + expected);
  });
  const reason = {
    metric: strongest.metric,
    feature: "last",
    value: strongest.last,
    typical: NaN,
    contribution: worst * DAY_MS,
  };
  return { tag: "risk", val: { probabilities, remainingLife: [], reasons: [reason] } };
}

/** How far a metric has moved, relative to where it began; null if nothing of it is known. */
function drift({ metric, values }) {
  const known = (value) => !Number.isNaN(value);
  const first = values.find(known);
  if (first === undefined) return null;
  const last = values.findLast(known);
  const moved = Math.abs(last - first) / (Math.abs(first) + 1);
  return { metric, last, moved: Number.isFinite(moved) ? moved : MOST };
}
