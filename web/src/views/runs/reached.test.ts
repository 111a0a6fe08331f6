// A line is marked by what became of the calls it made.
import { describe, expect, it } from 'vitest';
import type { Schemas } from '../../api/client';
import { reached } from './reached';

const call = (line: number | undefined, answered: boolean, outcome: unknown = { ok: null }): Schemas['EntryView'] =>
  ({
    position: '1', kind: 'make', input: {}, input_digest: '', recorded_at: '', outcome,
    ...(line === undefined ? {} : { line }), ...(answered ? { answered_at: '2026-01-01T00:00:00Z' } : {}),
  }) as Schemas['EntryView'];

describe('a line', () => {
  it.each([
    ['answered once', [call(3, true)], { tone: 'on', note: '' }],
    ['answered twice, refused once', [call(3, true), call(3, true, { err: {} })], { tone: 'on', note: '2 times, 1 refused' }],
    ['open', [call(3, true), call(3, false, undefined)], { tone: 'stop', note: 'waits: Make' }],
  ])('%s', (_, entries, mark) => expect(reached(entries).get(3)).toEqual(mark));

  it('is not marked without a number', () => expect(reached([call(undefined, true)]).size).toBe(0));
});
