// Calls a sample unusual that lies far from what is normal: from the mean of its metric before `since`.
// Begin with `learn`, which says what is normal, and with `UNUSUAL`, which says how far is too far.

import host from "forewright:plugin/host@1.0.0";
import { guard } from "./guard.js";

const UNUSUAL = 4; // standard deviations
const ENOUGH = 8; // samples to learn from
const MOST = 10_000; // anomalies in one answer

export const detect = {
  detect: guard(({ series, since }) => {
    host.log("info", `judges ${series.length} metrics`, []);
    const anomalies = series.flatMap((one) => spikes(one, since));
    anomalies.sort((a, b) => a.start - b.start);
    return anomalies.slice(0, MOST);
  }),
};

/** Each run of unusual samples from `since` on. */
function spikes({ metric, times, values }, since) {
  const normal = learn(values.filter((value, i) => times[i] < since && !Number.isNaN(value)));
  if (normal === null) return [];

  const found = [];
  let run = null;
  for (let i = 0; i < times.length; i++) {
    if (times[i] < since) continue;
    const z = Math.abs(values[i] - normal.mean) / normal.deviation;
    if (!(z > UNUSUAL)) {
      run = null; // so does NaN
      continue;
    }
    if (run === null) {
      run = { start: times[i], score: 0, kind: "spike", metrics: [metric] };
      found.push(run);
    }
    run.end = times[i];
    run.score = Math.max(run.score, 1 - UNUSUAL / z);
  }
  return found;
}

/** Mean and standard deviation; null where they cannot be told. */
function learn(values) {
  if (values.length < ENOUGH) return null;
  const mean = average(values);
  const variance = average(values.map((value) => (value - mean) ** 2));
  if (!Number.isFinite(mean) || !Number.isFinite(variance)) return null;
  // A metric that never changes still has a smallest difference that means something.
  const least = 1e-9 * (1 + Math.abs(mean));
  return { mean, deviation: Math.max(Math.sqrt(variance), least) };
}

function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
