// A run's past as rows and bars: nothing is drawn that the journal and the steps do not say.
import { describe, expect, it } from 'vitest';
import type { Schemas } from '../../api/client';
import { busy, rowsOf, told } from './gantt';

const T0 = Date.parse('2026-11-25T21:00:00Z');
const at = (seconds: number) => new Date(T0 + seconds * 1_000).toISOString();

function entry(position: string, kind: string, asked: number, answered?: number, more: object = {}): Schemas['EntryView'] {
  const end = answered === undefined ? {} : { answered_at: at(answered) };
  return { position, kind, line: 7, input: {}, input_digest: 'sha256:0', recorded_at: at(asked), ...end, ...more } as Schemas['EntryView'];
}

function step(position: string, kind: string, more: object): Schemas['StepView'] {
  return { position, kind, state: 'done', attempt: 1, input: {}, progress: 1, phase: '', artifacts: {}, ...more };
}

describe('rows', () => {
  it('tell the queue apart from the work', () => {
    const [row] = rowsOf([entry('1', 'predict', 0, 9)], [step('1', 'predict', { started_at: at(4), ended_at: at(9) })], [], T0);
    expect(row?.bars).toEqual([
      { phase: 'queued', from: T0, to: T0 + 4_000 },
      { phase: 'working', from: T0 + 4_000, to: T0 + 9_000 },
    ]);
    expect(told(row!)).toBe('Predict, line 7: 4.0 s in the queue, 5.0 s at work; done');
  });

  it('go on until now while nothing has ended', () => {
    const rows = rowsOf(
      [entry('1', 'redesign', 0), entry('2', 'approval', 1, undefined, { input: { role: 'technician' } })],
      [step('1', 'redesign', { state: 'ready', started_at: undefined })],
      [],
      T0 + 60_000,
    );
    expect(rows.map((row) => [row.name, row.open, row.bars.map((bar) => [bar.phase, bar.to - T0])])).toEqual([
      ['Redesign the part', true, [['queued', 60_000]]],
      ['Yes of a technician', true, [['waiting', 60_000]]],
    ]);
  });

  it('show a build as parked until its cell starts', () => {
    const build = { position: '8', started_at: at(20) } as Schemas['BuildView'];
    const [row] = rowsOf([entry('8', 'make', 0, 50)], [step('8', 'make', { started_at: at(1), ended_at: at(50) })], [build], T0);
    expect(row?.bars.map((bar) => [bar.phase, (bar.to - bar.from) / 1_000])).toEqual([['queued', 1], ['waiting', 19], ['working', 30]]);
  });

  it('show a step that is given back as waiting, not as work', () => {
    const [row] = rowsOf([entry('1', 'notify', 0)], [step('1', 'notify', { state: 'ready', attempt: 2, started_at: at(1) })], [], T0 + 5_000);
    expect(row?.bars.at(-1)?.phase).toBe('waiting');
    expect(told(row!)).toContain('attempt 2');
  });

  it('leave out what took no time, keep a time-out apart from an answer', () => {
    const rows = rowsOf([entry('1', 'log', 3, 3), entry('2', 'wait_event', 4, 9, { outcome: { err: { code: 'timeout' } } })], [], [], T0);
    expect(rows.map((row) => row.state)).toEqual(['timed out']);
    expect(busy(rows)).toEqual([]);
  });

  it('keep steps whose journal lines are on another page', () => {
    const rows = rowsOf([], [step('2', 'slice', { started_at: at(1), ended_at: at(2) }), step('3', 'make', {})], [], T0);
    expect(rows.map((row) => row.position)).toEqual(['2']);
  });

  it('say what undoes something', () => {
    const [row] = rowsOf([entry('30', 'allocate', 0, 2, { undo: true })], [step('30', 'allocate', { started_at: at(1), ended_at: at(2) })], [], T0);
    expect(row?.name).toBe('Undo: Relieve');
  });

  it('call a refused part refused', () => {
    const verify = step('9', 'verify', { output: { disposition: 'reject' }, started_at: at(1), ended_at: at(2) });
    expect(rowsOf([], [verify], [], T0)[0]?.state).toBe('refused');
  });
});
