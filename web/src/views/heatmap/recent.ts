// The last few points of the metric that matters, for whoever points at a cell.
import { type Schemas, get } from '../../api/client';

/** What was measured last. */
export interface Recent {
  metric: string;
  values: number[];
}

const POINTS = 10;
/** Pointing at the same cell again within this time shows the same. */
const KEPT_MS = 20_000;
const kept = new Map<string, { at: number; recent: Promise<Recent | undefined> }>();

/** Fetches the last points of an asset in the sense of a layer. */
export function recentOf(asset: string, layer: Schemas['LayerView']): Promise<Recent | undefined> {
  const key = `${layer} ${asset}`;
  const known = kept.get(key);
  if (known !== undefined && Date.now() - known.at < KEPT_MS) return known.recent;
  const recent = load(asset, layer).catch(() => undefined);
  kept.set(key, { at: Date.now(), recent });
  return recent;
}

async function load(id: string, layer: Schemas['LayerView']): Promise<Recent | undefined> {
  const [asset, list] = await Promise.all([
    get('/api/v1/assets/{id}', { path: { id } }),
    get('/api/v1/telemetry/series', { query: { asset: id } }),
  ]);
  const wanted = layer === 'utilisation' ? 'utilisation' : asset.vibration_metric;
  const series = list.series.find(({ metric }) => metric === wanted) ?? list.series[0];
  if (series === undefined) return undefined;
  const [first, last] = [new Date(series.first).getTime(), new Date(series.last).getTime()];
  const interval = (last - first) / Math.max(1, series.count - 1);
  // Gaps are common: look a little further back than ten steady samples would need.
  const from = new Date(Math.max(first, last - interval * POINTS * 3)).toISOString();
  const to = new Date(last + 1).toISOString();
  const { points } = await get('/api/v1/telemetry/range', { query: { asset: id, metric: series.metric, from, to } });
  return { metric: series.metric, values: points.slice(-POINTS).map((point) => point.mean) };
}
