// Pages of a replay add up, whatever day or asset they are cut at.
import { describe, expect, it } from 'vitest';
import type { Schemas } from '../../api/client';
import { NOTHING, flippedTo, withPage } from './replay';

const page = (more: Partial<Schemas['ReplayPage']>): Schemas['ReplayPage'] => ({
  policy: 'p', revision: 'r', decisions: 10, flipped: 0, unreadable: 0, unreadable_first: [], pairs: [], assets: [], days: [], flips: [],
  operations: { decisions: 10, p50: 5, p99: 9, max: 9, budget: 100 }, ...more,
});

describe('a replay', () => {
  const both = [
    page({ total: 20, flipped: 1, pairs: [{ before: 'a', after: 'b', flipped: true, count: 1 }], assets: [{ asset: 'x', flips: 1 }], days: [{ day: '2026-01-02', outcome: 'a', before: 3, after: 2 }] }),
    page({ flipped: 4, pairs: [{ before: 'a', after: 'b', flipped: true, count: 2 }, { before: 'c', after: 'b', flipped: true, count: 9 }], assets: [{ asset: 'y', flips: 3 }, { asset: 'x', flips: 1 }],
      days: [{ day: '2026-01-02', outcome: 'a', before: 1, after: 1 }, { day: '2026-01-01', outcome: 'b', before: 0, after: 1 }], operations: { decisions: 10, p50: 1, p99: 50, max: 70, budget: 100 } }),
  ].reduce(withPage, NOTHING);

  it('adds up', () => {
    expect([both.total, both.decisions, both.flipped, both.worst]).toEqual([20, 20, 5, 70]);
  });
  it('puts what is most first', () => {
    expect(both.pairs.map(({ before, count }) => [before, count])).toEqual([['c', 9], ['a', 3]]);
    expect(both.assets).toEqual([{ asset: 'y', flips: 3 }, { asset: 'x', flips: 2 }]);
  });
  it('makes one of a day that is cut in two, and keeps the days in order', () => {
    expect(both.days).toEqual([{ day: '2026-01-01', outcome: 'b', before: 0, after: 1 }, { day: '2026-01-02', outcome: 'a', before: 4, after: 3 }]);
  });
});

it.each([
  [{ before: 'monitor', after: 'start replace_part' }, 'start replace part'],
  [{ before: 'start replace_part', after: 'start replace_part' }, 'start replace part with another event'],
])('tells what %j came to', (flip, said) => expect(flippedTo(flip)).toBe(said));
