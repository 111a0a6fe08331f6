// What an explanation says of the lines of a script.
import type { Schemas } from '../../api/client';
import type { Mark } from '../../lib/source';
import { short } from '../../lib/json';
import { figure } from '../../lib/units';

type Step = Schemas['TraceStepView'];

/** More values, and longer ones, than these do not help beside a line. */
const VALUES = 4;
const LONGEST = 40;

/** What a statement read, `name = value` by name. */
export function reads(step: Step): string {
  const values = Object.entries(step.values);
  const said = values.slice(0, VALUES).map(([name, value]) => `${name} = ${written(value)}`);
  return values.length > VALUES ? `${said.join(', ')}, …` : said.join(', ');
}

/** The lines a decision came by: a condition says which way it went, the last pass counts. */
export function marksOf(steps: readonly Step[]): Map<number, Mark> {
  const marks = new Map<number, Mark>();
  const passes = new Map<number, number>();
  for (const step of steps) {
    const times = (passes.get(step.line) ?? 0) + 1;
    passes.set(step.line, times);
    const way = typeof step.taken === 'boolean' ? (step.taken ? 'yes' : 'no') : '';
    const note = [way, reads(step)].filter((part) => part !== '').join(': ');
    // Statements that share a line say more together than the last of them alone.
    const before = marks.get(step.line);
    const both = before !== undefined && before.note !== '' && note !== '' && !before.note.includes(note) ? `${before.note}; ${note}` : note || (before?.note ?? '');
    marks.set(step.line, { tone: 'on', note: times > 3 ? `${note} (${times} times)` : both });
  }
  return marks;
}

function written(value: unknown): string {
  if (typeof value === 'number') return figure(value, 4);
  if (value === null || value === undefined) return 'none';
  const text = typeof value === 'string' ? `"${value}"` : short(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
