// A line says which way it went and what it read, and no more than fits beside it.
import { describe, expect, it } from 'vitest';
import { marksOf, reads } from './trace';

const step = (line: number, values: Record<string, unknown>, taken?: boolean) => ({
  line, column: 1, what: 'if', text: '', values, ...(taken === undefined ? {} : { taken }),
});

describe('a trace', () => {
  it('tells the values a statement read', () => {
    expect(reads(step(1, { fps: 0.890282433, state: 'in_service', open_run: null }))).toBe('fps = 0.8903, state = "in_service", open_run = none');
  });
  it('cuts what is too much', () => {
    expect(reads(step(1, { a: 1, b: 2, c: 3, d: 4, e: 5 }))).toBe('a = 1, b = 2, c = 3, d = 4, …');
    expect(reads(step(1, { a: 'x'.repeat(99) })).length).toBeLessThan(60);
  });
  it('marks the way taken', () => {
    const marks = marksOf([step(18, { fps: 0.5 }, false), step(30, {}, true), step(31, {})]);
    expect([...marks]).toEqual([
      [18, { tone: 'on', note: 'no: fps = 0.5' }],
      [30, { tone: 'on', note: 'yes' }],
      [31, { tone: 'on', note: '' }],
    ]);
  });
  it('says what the statements of a line read together, and counts a loop', () => {
    expect(marksOf([step(2, { a: 1 }), step(2, { b: 2 })]).get(2)?.note).toBe('a = 1; b = 2');
    expect(marksOf(Array.from({ length: 5 }, (_, i) => step(2, { i }))).get(2)?.note).toBe('i = 4 (5 times)');
  });
});
