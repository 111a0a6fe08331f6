// What a run did when, row by row: the journal says when it asked, the steps say when somebody worked.
import type { Schemas } from '../../api/client';
import { listAt, textAt } from '../../lib/json';
import { duration } from '../../lib/units';
import type { Span } from './axis';
import { stepName } from './tell';

/** What passes while a call is open: nobody has taken it, somebody is at it, or it is parked until something happens. */
export type Phase = 'queued' | 'working' | 'waiting';

/** A stretch of one phase. */
export interface Bar extends Span {
  phase: Phase;
}

/** One call of the script that took time. */
export interface Row {
  position: string;
  name: string;
  line: number | undefined;
  bars: Bar[];
  /** As a step stands, or `waiting` and `done` for what is no step. */
  state: string;
  attempt: number;
  open: boolean;
}

type Entry = Schemas['EntryView'];
type Step = Schemas['StepView'];
type Build = Schemas['BuildView'];

/** How each phase is told in words. */
export const PHASES: Record<Phase, string> = { queued: 'in the queue', working: 'at work', waiting: 'waiting' };

/** The rows of a run in the order of its calls; what took no time is left to the journal. */
export function rowsOf(entries: readonly Entry[], steps: readonly Step[], builds: readonly Build[], now: number): Row[] {
  const byPosition = new Map(steps.map((step) => [step.position, step]));
  const rows = entries.flatMap((entry) => {
    const step = byPosition.get(entry.position);
    byPosition.delete(entry.position);
    if (step !== undefined) return [stepRow(step, entry, builds, now)];
    return entry.answered_at === entry.recorded_at ? [] : [waitRow(entry, now)];
  });
  // The journal may be a page of a longer one; the steps are all there.
  const rest = [...byPosition.values()].filter((step) => step.started_at).map((step) => stepRow(step, undefined, builds, now));
  return [...rows, ...rest].sort((a, b) => beginning(a) - beginning(b));
}

/** When a row begins, ms. */
export function beginning(row: Row): number {
  return row.bars[0]?.from ?? 0;
}

/** The spans in which a run does not just wait. */
export function busy(rows: readonly Row[]): Span[] {
  return rows.flatMap((row) => row.bars.filter((bar) => bar.phase !== 'waiting'));
}

/** How long a row spent in a phase, s. */
export function spent(row: Row, phase: Phase): number {
  return row.bars.filter((bar) => bar.phase === phase).reduce((sum, bar) => sum + bar.to - bar.from, 0) / 1_000;
}

/** A row in words. */
export function told(row: Row): string {
  const parts = (Object.keys(PHASES) as Phase[])
    .filter((phase) => row.bars.some((bar) => bar.phase === phase))
    .map((phase) => `${duration(spent(row, phase))} ${PHASES[phase]}`);
  const tries = row.attempt > 1 ? `, attempt ${row.attempt}` : '';
  return `${row.name}${row.line === undefined ? '' : `, line ${row.line}`}: ${parts.join(', ')}${tries}; ${row.state}`;
}

function stepRow(step: Step, entry: Entry | undefined, builds: readonly Build[], now: number): Row {
  const asked = entry === undefined ? undefined : ms(entry.recorded_at);
  const begun = step.started_at ? ms(step.started_at) : undefined;
  const ended = step.ended_at ? ms(step.ended_at) : undefined;
  const until = ended ?? now;
  const bars: Bar[] = [];
  if (asked !== undefined) bars.push({ phase: 'queued', from: asked, to: begun ?? until });
  if (begun !== undefined) bars.push(...afterClaim(step, { from: begun, to: until }, builds));
  return {
    position: step.position,
    name: entry?.undo ? `Undo: ${stepName(step.kind)}` : stepName(step.kind),
    line: entry?.line ?? undefined,
    bars: bars.filter((bar) => bar.to > bar.from || bar.phase === 'working'),
    state: judged(step),
    attempt: step.attempt,
    open: ended === undefined && asked !== undefined,
  };
}

/** What passed since the first claim. */
function afterClaim(step: Step, whole: Span, builds: readonly Build[]): Bar[] {
  const build = builds.find((one) => one.position === step.position);
  // A build is ordered at once; until its cell starts, the step is parked, and then the cell works.
  if (build !== undefined) {
    const started = build.started_at ? Math.min(whole.to, Math.max(whole.from, ms(build.started_at))) : whole.to;
    return [
      { phase: 'waiting', from: whole.from, to: started },
      ...(build.started_at ? [{ phase: 'working' as const, from: started, to: whole.to }] : []),
    ];
  }
  // Parked, or given back to be tried again.
  const idle = step.state === 'ready' || (step.waiting_for ?? '') !== '';
  return [{ phase: idle ? 'waiting' : 'working', ...whole }];
}

function waitRow(entry: Entry, now: number): Row {
  const from = ms(entry.recorded_at);
  const answered = entry.answered_at ? ms(entry.answered_at) : undefined;
  return {
    position: entry.position,
    name: waitName(entry),
    line: entry.line ?? undefined,
    bars: [{ phase: 'waiting', from, to: answered ?? now }],
    state: answered === undefined ? 'waiting' : textAt(entry.outcome, 'err', 'code') === 'timeout' ? 'timed out' : 'done',
    attempt: 1,
    open: answered === undefined,
  };
}

/** What is waited for. */
export function waitName(entry: Pick<Entry, 'kind' | 'input'>): string {
  switch (entry.kind) {
    case 'approval':
      return `Yes of a ${textAt(entry.input, 'role') ?? 'person'}`;
    case 'sleep':
      return 'Sleep';
    case 'wait_event':
      return `Event ${textAt(entry.input, 'name') ?? ''}`.trim();
    case 'wait_any':
      return `First of ${listAt(entry.input, 'positions').length || 'several'}`;
    default:
      return stepName(entry.kind);
  }
}

/** The state as it is judged: a rejected part is no success although the step is done. */
export function judged(step: Step): string {
  const disposition = textAt(step.output, 'disposition');
  return step.state === 'done' && disposition !== undefined && disposition !== 'accept' ? 'refused' : step.state;
}

const ms = (time: string) => new Date(time).getTime();
