// Pages follow one another by key until there are enough or there is no other.
import { describe, expect, it } from 'vitest';
import { pages } from './pages';

const LIST: Record<string, { items: number[]; next?: string | null }> = {
  '': { items: [1, 2], next: 'b' },
  b: { items: [3, 4], next: 'c' },
  c: { items: [5], next: null },
};
const load = ({ after = '' }: { after?: string }) => Promise.resolve(LIST[after]!);

describe('pages', () => {
  it.each([
    [1, [1, 2], 'b'],
    [2, [1, 2, 3, 4], 'c'],
    [3, [1, 2, 3, 4, 5], null],
    [9, [1, 2, 3, 4, 5], null],
  ])('%d of them', async (count, items, next) => expect(await pages(count, load)).toEqual({ items, next }));
});
