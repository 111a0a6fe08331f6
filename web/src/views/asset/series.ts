// Joins measured history and forecast of one metric into one chart.
import type { Schemas } from '../../api/client';
import type { Chart } from '../../lib/chart-types';
import { figure } from '../../lib/units';

/** Spans of history one can look at, hours. */
export const SPANS = [
  { hours: 1, text: '1 h' },
  { hours: 6, text: '6 h' },
  { hours: 24, text: '24 h' },
  { hours: 7 * 24, text: '7 d' },
  { hours: 30 * 24, text: '30 d' },
] as const;

/** About how many samples a first look should show. */
const FIRST_LOOK = 150;
/** More points than this cannot be told apart. */
const MOST_POINTS = 400;
const HOUR_MS = 3_600_000;

/** The shortest span that shows enough samples of a series. */
export function firstSpan(series: Schemas['SeriesView']): number {
  const hours = (new Date(series.last).getTime() - new Date(series.first).getTime()) / HOUR_MS;
  const wanted = (hours / Math.max(1, series.count - 1)) * FIRST_LOOK;
  const fitting = SPANS.find((span) => span.hours >= wanted) ?? SPANS[SPANS.length - 1]!;
  return fitting.hours;
}

/** What to ask the server for. */
export function rangeOf(series: Schemas['SeriesView'], hours: number): { from: string; to: string; step_ms?: number } {
  const last = new Date(series.last).getTime();
  const first = new Date(series.first).getTime();
  const from = Math.max(first, last - hours * HOUR_MS);
  const range = { from: new Date(from).toISOString(), to: new Date(last + 1).toISOString() };
  const interval = (last - first) / Math.max(1, series.count - 1);
  const step = Math.ceil((last - from) / MOST_POINTS);
  // Coarser than measured, or as measured.
  return step > interval * 1.5 ? { ...range, step_ms: step } : range;
}

const EMPTY: null[] = [];

/** The lines of a metric: history with its spread, then the quantiles ahead. */
export function chartOf(
  points: Schemas['BucketView'][],
  forecast: Schemas['ForecastView'] | undefined,
  at: string | undefined,
): Chart {
  const seconds = (time: string) => new Date(time).getTime() / 1_000;
  const history = points.map((point) => seconds(point.time));
  const begin = at === undefined ? 0 : seconds(at);
  const ahead = at === undefined || forecast === undefined ? [] : forecast.points;
  const later = ahead.map((point) => begin + (point.steps * (forecast?.step_ms ?? 0)) / 1_000);
  const last = points.at(-1);
  const lastX = history.at(-1) ?? 0;
  const shown = later.filter((x) => x > lastX).length;
  const skip = later.length - shown;
  const gap = later.slice(skip).map(() => null);
  const before = history.slice(0, -1).map(() => null);
  // The bands begin where the measurements end.
  const joint = shown > 0 && last !== undefined ? [last.mean] : last !== undefined ? [null] : EMPTY;
  const quantile = (name: 'p05' | 'p25' | 'p50' | 'p75' | 'p95') => [
    ...before,
    ...joint,
    ...ahead.slice(skip).map((point) => point[name]),
  ];
  return {
    x: [...history, ...later.slice(skip)],
    time: true,
    height: 270,
    lines: [
      { label: 'mean', values: [...points.map((p) => p.mean), ...gap], tone: 'main' },
      { label: 'max', values: [...points.map((p) => p.max), ...gap], tone: 'none' },
      { label: 'min', values: [...points.map((p) => p.min), ...gap], tone: 'none' },
      { label: 'p95', values: quantile('p95'), tone: 'none' },
      { label: 'p05', values: quantile('p05'), tone: 'none' },
      { label: 'p75', values: quantile('p75'), tone: 'none' },
      { label: 'p25', values: quantile('p25'), tone: 'none' },
      { label: 'p50', values: quantile('p50'), tone: 'second', dashed: true },
    ],
    bands: [
      { high: 1, low: 2, tone: 'main', percent: 22 },
      { high: 3, low: 4, tone: 'second', percent: 16 },
      { high: 5, low: 6, tone: 'second', percent: 26 },
    ],
    ...(shown > 0 ? { mark: { x: lastX, text: 'last sample' } } : {}),
    format: (value) => figure(value, 4),
  };
}
