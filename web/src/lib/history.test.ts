// A short past forgets what is old and stays in its box.
import { describe, expect, it } from 'vitest';
import { line, remember } from './history';

describe('the past', () => {
  it('forgets what is old', () => {
    const past = [{ at: 0, value: 1 }, { at: 50, value: 2 }];
    expect(remember(past, { at: 100, value: 3 }, 100)).toEqual([{ at: 50, value: 2 }, { at: 100, value: 3 }]);
  });
  it('keeps one value per moment', () => {
    expect(remember([{ at: 5, value: 1 }], { at: 5, value: 2 }, 100)).toEqual([{ at: 5, value: 2 }]);
  });
  it('is drawn from left to right, the greatest on top', () => {
    expect(line([{ at: 0, value: 0 }, { at: 50, value: 4 }, { at: 100, value: 2 }], 100, 20, 100)).toBe('0.0,19.0 50.0,1.0 100.0,10.0');
  });
  it('lies at the bottom when there is nothing', () => {
    expect(line([{ at: 0, value: 0 }], 100, 20, 100)).toBe('100.0,19.0');
    expect(line([], 100, 20, 100)).toBe('');
  });
});
