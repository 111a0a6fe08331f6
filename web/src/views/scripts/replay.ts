// A replay comes in pages; together they say what a draft would have changed.
import type { Schemas } from '../../api/client';
import { words } from '../../lib/units';

type Page = Schemas['ReplayPage'];
/** How often something was decided on a day. */
export type Day = Schemas['ReplayDayView'];

/** What is kept of the flips, so that a draft that changes everything does not fill the memory. */
const FLIPS = 500;

/** What is known after so many pages. */
export interface Replay {
  /** How many recorded decisions there are. */
  total: number;
  decisions: number;
  flipped: number;
  unreadable: number;
  unreadableFirst: string[];
  pairs: { before: string; after: string; flipped: boolean; count: number }[];
  assets: { asset: string; flips: number }[];
  days: Day[];
  flips: Schemas['FlipView'][];
  /** The most operations a decision took, and what one may take. */
  worst: number;
  budget: number;
}

/** Nothing replayed yet. */
export const NOTHING: Replay = {
  total: 0, decisions: 0, flipped: 0, unreadable: 0, unreadableFirst: [], pairs: [], assets: [], days: [], flips: [], worst: 0, budget: 0,
};

/** What is known with one more page. */
export function withPage(sum: Replay, page: Page): Replay {
  return {
    total: page.total ?? sum.total,
    decisions: sum.decisions + page.decisions,
    flipped: sum.flipped + page.flipped,
    unreadable: sum.unreadable + page.unreadable,
    unreadableFirst: [...sum.unreadableFirst, ...page.unreadable_first].slice(0, 20),
    pairs: added([...sum.pairs, ...page.pairs], (pair) => `${pair.before}\n${pair.after}`, (a, b) => ({ ...a, count: a.count + b.count })).sort(
      (a, b) => b.count - a.count,
    ),
    assets: added([...sum.assets, ...page.assets], (one) => one.asset, (a, b) => ({ ...a, flips: a.flips + b.flips })).sort(
      (a, b) => b.flips - a.flips,
    ),
    days: added([...sum.days, ...page.days], (day) => `${day.day}\n${day.outcome}`, (a, b) => ({ ...a, before: a.before + b.before, after: a.after + b.after })).sort(
      (a, b) => a.day.localeCompare(b.day) || a.outcome.localeCompare(b.outcome),
    ),
    flips: [...sum.flips, ...page.flips].slice(0, FLIPS),
    worst: Math.max(sum.worst, page.operations.max),
    budget: page.operations.budget,
  };
}

/** What a flip came to, in words: of two answers that are told alike, what they give the run differs. */
export function flippedTo({ before, after }: { before: string; after: string }): string {
  return before === after ? `${words(after)} with another event` : words(after);
}

/** Items of the same key made one. */
function added<T>(items: readonly T[], key: (item: T) => string, add: (a: T, b: T) => T): T[] {
  const byKey = new Map<string, T>();
  for (const item of items) {
    const known = byKey.get(key(item));
    byKey.set(key(item), known === undefined ? item : add(known, item));
  }
  return [...byKey.values()];
}
