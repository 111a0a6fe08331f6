// How far a script came: the lines its journal names, with what became of their calls.
import type { Schemas } from '../../api/client';
import { field } from '../../lib/json';
import type { Mark } from '../../lib/source';
import { waitName } from './gantt';

/** The lines that asked for something; where a call has no answer, the script waits. */
export function reached(entries: readonly Schemas['EntryView'][]): Map<number, Mark> {
  const byLine = new Map<number, Schemas['EntryView'][]>();
  for (const entry of entries) {
    if (typeof entry.line === 'number') byLine.set(entry.line, [...(byLine.get(entry.line) ?? []), entry]);
  }
  return new Map([...byLine].map(([line, calls]) => [line, markOf(calls)]));
}

function markOf(calls: readonly Schemas['EntryView'][]): Mark {
  const open = calls.filter((call) => !call.answered_at);
  if (open.length > 0) return { tone: 'stop', note: `waits: ${open.map(waitName).join(', ')}` };
  const failed = calls.filter((call) => field(call.outcome, 'err') !== undefined).length;
  const times = calls.length === 1 ? '' : `${calls.length} times`;
  return { tone: 'on', note: [times, failed === 0 ? '' : `${failed} refused`].filter((part) => part !== '').join(', ') };
}
