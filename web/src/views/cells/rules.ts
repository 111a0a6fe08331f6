// Rules of dispatch in words.
import type { Schemas } from '../../api/client';

/** The hours in which nothing new begins, a line for each. */
export function quietHours({ hours = [], time_zone = '' }: Schemas['QuietView']): string[] {
  const zone = time_zone === '' ? 'UTC' : time_zone;
  return hours.map(({ days = [], from, to }) => {
    const next = to <= from ? ' of the next day' : '';
    return `${days.length === 0 ? 'every day' : days.join(', ')} ${from}–${to}${next} (${zone})`;
  });
}
