// Judges each asset by how far its metrics have moved since its part was new: the further, the sooner it fails.
// `judge` is the place to begin: it looks at one asset's history and says what to expect.
import { Level, log } from "./forewright/host";
import { Numbers } from "./forewright/memory";
import { Column, Declined, History, Outlook, Reason, Request, Risk } from "./forewright/predictor";
import { Answer } from "./forewright/types";

const DAY_MS: f64 = 86_400_000;
const MOST_MOVED: f64 = 1000;

/** One outlook per history, in their order. */
export function predict(request: Request): Answer<Outlook[]> {
  log(Level.info, `judges ${request.histories.length} assets`);
  const outlooks: Outlook[] = [];
  for (let i = 0; i < request.histories.length; i++) outlooks.push(judge(request.histories[i], request.horizons));
  return Answer.of<Outlook[]>(outlooks);
}

function judge(history: History, horizons: Numbers): Outlook {
  let reason: Drift | null = null;
  for (let i = 0; i < history.columns.length; i++) {
    const drift = driftOf(history.columns[i]);
    if (drift && (!reason || drift.moved > reason.moved)) reason = drift;
  }
  if (!reason) return new Declined("nothing was measured");

  // The more a metric has moved, the more of such parts fail each day.
  const rate = 0.001 + 0.01 * reason.moved;
  const probabilities: f64[] = [];
  for (let i = 0; i < horizons.length; i++) {
    const expected = (rate * horizons[i]) / DAY_MS;
    probabilities.push(expected > 1e9 ? 1 : expected / (1 + expected));
  }
  return new Risk(probabilities, [], [new Reason(reason.metric, "last", reason.last, NaN, reason.moved * DAY_MS)]);
}

class Drift {
  constructor(readonly metric: string, readonly last: f64, readonly moved: f64) {}
}

/** How far a metric has moved since the first row that is known, relative to where it was. */
function driftOf(column: Column): Drift | null {
  let first = NaN;
  let last = NaN;
  for (let i = 0; i < column.values.length; i++) {
    const value = column.values[i];
    if (isNaN(value)) continue;
    if (isNaN(first)) first = value;
    last = value;
  }
  if (isNaN(first)) return null;
  const moved = Math.abs(last - first) / (Math.abs(first) + 1);
  // Written so that what is no number becomes the most as well.
  return new Drift(column.metric, last, moved < MOST_MOVED ? moved : MOST_MOVED);
}
