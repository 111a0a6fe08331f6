// What was seen lately of something that is only known now: a short past, kept by whoever looks.

/** A value and when it was seen, ms. */
export interface Seen {
  at: number;
  value: number;
}

/** The past with one more value, without what is older than `keepMs`; a value at a moment already known replaces it. */
export function remember(past: readonly Seen[], seen: Seen, keepMs: number): Seen[] {
  const kept = past.filter(({ at }) => at > seen.at - keepMs && at < seen.at);
  return [...kept, seen];
}

/** The past as points of a polyline in a box, oldest left, the greatest value or `least` on top. */
export function line(past: readonly Seen[], width: number, height: number, keepMs: number, least = 1): string {
  const newest = past.at(-1);
  if (newest === undefined) return '';
  const top = Math.max(least, ...past.map(({ value }) => value));
  return past
    .map(({ at, value }) => {
      const x = width * (1 - (newest.at - at) / keepMs);
      const y = 1 + (height - 2) * (1 - value / top);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(' ');
}
