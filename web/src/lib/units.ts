// Numbers as people read them: units, ages, spans, moments.

const MINUTE_S = 60;
const HOUR_S = 3_600;
const DAY_S = 86_400;

/** A share as per cent; small ones keep a digit, because 0.4 % and 0 % are different news. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.1) return '<0.1 %';
  if (value < 10 && value > -10) return `${value.toFixed(1)} %`;
  return `${value.toFixed(0)} %`;
}

/** How long ago, coarsely. */
export function age(seconds: number): string {
  if (seconds < 5) return 'just now';
  return `${coarse(seconds)} ago`;
}

/** A time to come or gone by, coarsely. */
export function distance(seconds: number): string {
  if (Math.abs(seconds) < MINUTE_S) return 'now';
  return seconds > 0 ? `in ${coarse(seconds)}` : age(-seconds);
}

/** How long something took, to two figures. */
export function duration(seconds: number): string {
  if (seconds < 0.0995) return `${Math.round(seconds * 1_000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 2 * MINUTE_S) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / MINUTE_S);
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
  return `${(seconds / DAY_S).toFixed(1)} d`;
}

/** Hours of life left, coarsely. */
export function life(hours: number): string {
  if (hours < 48) return `${figure(hours, 2)} h`;
  return `${figure(hours / 24, 2)} d`;
}

/** A number to so many figures, without powers of ten where people do not expect them. */
export function figure(value: number, figures = 3): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  if (magnitude >= 9 || magnitude < -4) return value.toExponential(figures - 1).replace('e', ' × 10^').replace('+', '');
  const digits = Math.max(0, Math.min(6, figures - 1 - magnitude));
  const text = value.toLocaleString('en', { maximumFractionDigits: digits, useGrouping: magnitude >= 4 });
  return text.replace('-', '−');
}

/** A number with its sign. */
export function signed(value: number, figures = 2): string {
  return value > 0 ? `+${figure(value, figures)}` : figure(value, figures);
}

/** A size. */
export function bytes(size: number): string {
  if (size < 1_000) return `${size} B`;
  if (size < 1_000_000) return `${figure(size / 1_000)} kB`;
  return `${figure(size / 1_000_000)} MB`;
}

/** An amount of money. */
export function money(amount: number, currency: string): string {
  try {
    return amount.toLocaleString('en', { style: 'currency', currency });
  } catch {
    return `${amount.toFixed(2)} ${currency}`;
  }
}

/** Day and time of a moment, in the time zone of whoever looks. */
export function moment(time: string): string {
  return new Date(time).toLocaleString('en-GB', {
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    hour: '2-digit',
    minute: '2-digit',
  });
}

/** Time of day to the second. */
export function clockTime(time: string): string {
  return new Date(time).toLocaleTimeString('en-GB');
}

/** A span of time, the day said once. */
export function span(from: string, to: string): string {
  const end = new Date(to);
  const same = new Date(from).toDateString() === end.toDateString();
  const until = same ? end.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' }) : moment(to);
  return `${moment(from)} – ${until}`;
}

/** Seconds from one moment to another. */
export function between(from: string, to: string | number): number {
  return (new Date(to).getTime() - new Date(from).getTime()) / 1_000;
}

/** The first figures of a digest: enough to tell two apart by eye. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, 10);
}

/** `in_service` as people write it. */
export function words(name: string): string {
  return name.replace(/[_.]/g, ' ').replace(/\s+/g, ' ').trim();
}

/** The same with a capital, for titles. */
export function title(name: string): string {
  const text = words(name);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Units that end the names of metrics, as people write them. */
const UNITS: [string, string][] = [
  ['_mm_s', 'mm/s'],
  ['_percent', '%'],
  ['_celsius', '°C'],
  ['_bytes_per_s', 'B/s'],
  ['_per_s', '1/s'],
  ['_bytes', 'B'],
  ['_rpm', '1/min'],
  ['_hz', 'Hz'],
  ['_kw', 'kW'],
  ['_pa', 'Pa'],
  ['_ms', 'ms'],
  ['_mm', 'mm'],
  ['_c', '°C'],
  ['_a', 'A'],
  ['_v', 'V'],
  ['_w', 'W'],
  ['_s', 's'],
];

/** A metric as people write it: the unit that ends its name stands apart. */
export function metricName(metric: string): string {
  const found = UNITS.find(([ending]) => metric.endsWith(ending) && metric.length > ending.length);
  if (found === undefined) return words(metric);
  return `${words(metric.slice(0, -found[0].length))}, ${found[1]}`;
}

function coarse(seconds: number): string {
  const value = Math.abs(seconds);
  if (value < MINUTE_S) return `${Math.round(value)} s`;
  if (value < 90 * MINUTE_S) return `${Math.round(value / MINUTE_S)} min`;
  if (value < 2 * DAY_S) return `${Math.round(value / HOUR_S)} h`;
  return `${Math.round(value / DAY_S)} d`;
}
