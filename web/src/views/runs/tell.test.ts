// A line about a step says what the step gave back, and nothing else.
import { describe, expect, it } from 'vitest';
import type { Schemas } from '../../api/client';
import { stepName, tell, trouble, waitsFor } from './tell';

function step(kind: string, output?: unknown, error?: unknown): Schemas['StepView'] {
  return { position: '1', kind, state: 'done', attempt: 1, input: {}, output, error, progress: 1, phase: '', artifacts: {} } as Schemas['StepView'];
}

describe('a step', () => {
  it.each([
    ['predict', { fps: { '7d': 0.41 }, remaining_life_hours: { p50: 96 } }, 'Fails within 7 days with 41 % · 96 h of life left'],
    ['verify', { disposition: 'reject', peak_mm: -0.8, coverage: 0.97, reasons: [{ code: 'missing_feature' }] }, 'Reject · peak −0.8 mm · 97 % seen · missing feature'],
    ['slice', { estimate: { seconds: 4_000, layers: 90 }, lint: 'clean' }, '67 min to print · 90 layers · no safety violation'],
    ['schedule', { window: null }, 'No window is possible yet'],
    ['verify', {}, ''],
    ['redesign', undefined, ''],
    ['somebody_elses', { a: 1 }, ''],
  ])('of kind %s given %j says %s', (kind, output, text) => expect(tell(step(kind, output))).toBe(text));

  it('has a name also when nobody knows its kind', () => expect(stepName('paint_it')).toBe('paint it'));
  it.each([
    ['{"for":"build","id":"b-1"}', 'build `b-1`'],
    ['{"for":"kill_switch"}', 'kill switch'],
    ['somebody', 'somebody'],
    [undefined, undefined],
  ])('parked with %j waits for %j', (waiting_for, said) => expect(waitsFor({ ...step('make'), waiting_for })).toBe(said));
  it('tells why it failed', () => {
    expect(trouble(step('make', undefined, { message: 'jam' }))).toBe('jam');
    expect(trouble(step('make'))).toBeUndefined();
  });
});
