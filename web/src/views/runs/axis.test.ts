// The axis keeps order, folds only what is quiet, and writes round moments with room between them.
import { describe, expect, it } from 'vitest';
import { axisOf, place, ticks } from './axis';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const T0 = Date.parse('2026-11-25T21:00:00Z');

describe('the axis', () => {
  const whole = { from: T0, to: T0 + 6 * HOUR };
  const work = [
    { from: T0, to: T0 + 60 * SECOND },
    { from: T0 + 6 * HOUR - SECOND, to: T0 + 6 * HOUR },
  ];

  it('is linear where folding is not wanted', () => {
    const axis = axisOf(whole, work, false);
    expect(place(axis, T0 + 3 * HOUR)).toBeCloseTo(0.5);
    expect(axis.every((piece) => !piece.folded)).toBe(true);
  });

  it('gives a minute of work more room than hours of waiting', () => {
    const axis = axisOf(whole, work, true);
    expect(axis.map((piece) => piece.folded)).toEqual([false, true, false]);
    expect(place(axis, T0 + 60 * SECOND)).toBeGreaterThan(0.85);
  });

  it('covers everything once and in order', () => {
    const axis = axisOf(whole, work, true);
    expect(axis[0]?.start).toBe(0);
    expect(axis.at(-1)?.end).toBeCloseTo(1);
    axis.slice(1).forEach((piece, i) => expect([piece.from, piece.start]).toEqual([axis[i]?.to, axis[i]?.end]));
    const places = Array.from({ length: 200 }, (_, i) => place(axis, T0 + (i / 200) * 6 * HOUR));
    expect([...places].sort((a, b) => a - b)).toEqual(places);
  });

  it.each([
    ['nothing is busy', []],
    ['everything is busy', [whole]],
    ['the quiet is short', [{ from: T0, to: T0 + 3 * HOUR }, { from: T0 + 3.5 * HOUR, to: T0 + 6 * HOUR }]],
  ])('folds nothing when %s', (_, busy) => {
    expect(axisOf(whole, busy, true)).toHaveLength(1);
  });

  it('never gives folds more than their part', () => {
    const busy = Array.from({ length: 3 }, (_, i) => ({ from: T0 + 2 * i * HOUR, to: T0 + 2 * i * HOUR + SECOND }));
    const folds = axisOf(whole, busy, true).filter((piece) => piece.folded);
    expect(folds).toHaveLength(3);
    expect(folds.reduce((sum, piece) => sum + piece.end - piece.start, 0)).toBeLessThanOrEqual(0.4);
  });

  it('holds what is outside at its ends', () => {
    const axis = axisOf(whole, work, true);
    expect([place(axis, T0 - HOUR), place(axis, T0 + 9 * HOUR)]).toEqual([0, 1]);
  });
});

describe('ticks', () => {
  it.each([1, 10, 90 * SECOND, HOUR, 30 * HOUR, 400 * HOUR, 20_000 * HOUR])('over %d ms keep apart and rise', (span) => {
    const axis = axisOf({ from: T0 + 123, to: T0 + 123 + span }, [], false);
    const found = ticks(axis, 8);
    expect(found.length).toBeLessThanOrEqual(9);
    found.slice(1).forEach((tick, i) => expect(tick.share - (found[i]?.share ?? 0)).toBeGreaterThan(0.08));
    if (span >= 10) expect(found.length).toBeGreaterThan(1);
  });

  it('are none inside a fold', () => {
    const busy = [{ from: T0, to: T0 + 10 * SECOND }, { from: T0 + 5 * HOUR, to: T0 + 5 * HOUR + 5 * SECOND }];
    const axis = axisOf({ from: T0, to: T0 + 5 * HOUR + 5 * SECOND }, busy, true);
    const fold = axis.find((piece) => piece.folded)!;
    for (const tick of ticks(axis, 10)) expect(tick.share <= fold.start || tick.share >= fold.end).toBe(true);
  });
});
