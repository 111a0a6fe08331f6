// History and forecast meet where the measurements end.
import { describe, expect, it } from 'vitest';
import { chartOf, firstSpan, rangeOf } from './series';

const minute = (n: number) => new Date(Date.UTC(2026, 0, 5, 0, n)).toISOString();
const point = (n: number) => ({ time: minute(n), min: n - 1, max: n + 1, mean: n, count: 3 });
const series = { asset: 'a', metric: 'm', first: minute(0), last: minute(600), count: 601 };

describe('a chart of a metric', () => {
  const ahead = [5, 10].map((steps) => ({ steps, p05: 1, p25: 2, p50: 3, p75: 4, p95: 5 }));
  const forecast = { metric: 'm', step_ms: 60_000, model: 'ses', points: ahead };

  it('has lines of one length that join', () => {
    const chart = chartOf([point(0), point(1)], forecast, minute(1));
    for (const line of chart.lines) expect(line.values).toHaveLength(chart.x.length);
    expect(chart.x).toHaveLength(4);
    expect(chart.lines[7]!.values).toEqual([null, 1, 3, 3]);
    expect(chart.lines[0]!.values).toEqual([0, 1, null, null]);
  });

  it('leaves out what has been measured since', () => {
    const chart = chartOf([point(0), point(8)], forecast, minute(1));
    expect(chart.x).toHaveLength(3);
    expect(chart.lines[7]!.values).toEqual([null, 8, 3]);
  });

  it('stands without forecast or history', () => {
    expect(chartOf([point(0)], undefined, undefined).x).toHaveLength(1);
    expect(chartOf([], forecast, minute(1)).x).toHaveLength(2);
  });
});

describe('the span shown', () => {
  it('shows enough samples at first', () => expect(firstSpan(series)).toBe(6));
  it('asks for every sample while they can be told apart', () => {
    expect(rangeOf(series, 1).step_ms).toBeUndefined();
    expect(rangeOf({ ...series, count: 60_000 }, 6).step_ms).toBe(54_000);
  });
});
