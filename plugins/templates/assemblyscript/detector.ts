// Calls a sample unusual that lies far from what its metric did before `since`.
// `look` is the place to begin: it looks at one metric and adds what is unusual to the anomalies.
import { Anomaly, Request } from "./forewright/detector";
import { Level, log } from "./forewright/host";
import { Answer, Series } from "./forewright/types";

/** With fewer samples nobody can say what is normal. */
const LEAST_SAMPLES = 8;
/** Standard deviations from the mean. */
const USUAL: f64 = 4;
const MOST_ANOMALIES = 10_000;

/** In the order of their starts, at most 10,000. */
export function detect(request: Request): Answer<Anomaly[]> {
  log(Level.info, `looks at ${request.series.length} metrics`);
  const anomalies: Anomaly[] = [];
  for (let i = 0; i < request.series.length; i++) look(request.series[i], request.since, anomalies);
  anomalies.sort((a, b) => i32(a.start > b.start) - i32(a.start < b.start));
  return Answer.of<Anomaly[]>(anomalies.slice(0, MOST_ANOMALIES));
}

function look(series: Series, since: f64, anomalies: Anomaly[]): void {
  let known = 0;
  while (known < series.times.length && series.times[known] < since) known++;
  const normal = normalOf(series, known);
  if (!normal) return;

  let open: Anomaly | null = null;
  for (let i = known; i < series.times.length; i++) {
    const distance = Math.abs(series.values[i] - normal.mean) / normal.deviation;
    if (!(distance > USUAL)) {
      // A usual sample, or one that told nothing.
      open = null;
      continue;
    }
    if (!open) {
      open = new Anomaly(series.times[i], series.times[i], 0, "spike", [series.metric]);
      anomalies.push(open);
    }
    open.end = series.times[i];
    open.score = Math.max(open.score, 1 - USUAL / distance);
  }
}

class Normal {
  constructor(readonly mean: f64, readonly deviation: f64) {}
}

/** What is normal in the first `known` samples, or null where that cannot be told. */
function normalOf(series: Series, known: i32): Normal | null {
  let count = 0;
  let sum: f64 = 0;
  for (let i = 0; i < known; i++) {
    const value = series.values[i];
    if (isNaN(value)) continue;
    count++;
    sum += value;
  }
  if (count < LEAST_SAMPLES) return null;
  const mean = sum / count;

  let squares: f64 = 0;
  for (let i = 0; i < known; i++) {
    const value = series.values[i];
    if (!isNaN(value)) squares += (value - mean) * (value - mean);
  }
  const variance = squares / count;
  if (!isFinite(mean) || !isFinite(variance)) return null;
  // What never moved would make the least tremor unusual.
  return new Normal(mean, Math.max(Math.sqrt(variance), 1e-9 * (1 + Math.abs(mean))));
}
