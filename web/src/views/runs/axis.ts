// The time axis of a chart of spans: linear where something happens, folded where a run only waits.

/** From one moment to another, ms since 1970. */
export interface Span {
  from: number;
  to: number;
}

/** A stretch of the axis: its moments, and where they lie as shares of the whole axis. */
export interface Piece extends Span {
  start: number;
  end: number;
  folded: boolean;
}

/** A moment marked on the axis; without a text where its neighbour's needs the room. */
export interface Tick {
  at: number;
  share: number;
  text: string;
}

/** How much of the axis a folded stretch takes, and all of them together. */
const FOLD = 0.08;
const FOLDS = 0.4;
/** What takes less than this of the axis is not worth folding. */
const WORTH = 0.25;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28, 91, 182, 364].map((n) => n * DAY),
];

/** The axis over `whole`; with `fold`, long stretches that touch none of the `busy` spans are drawn short. */
export function axisOf(whole: Span, busy: readonly Span[], fold: boolean): Piece[] {
  const total = Math.max(1, whole.to - whole.from);
  const quiet = fold ? gaps(whole, busy).filter((gap) => (gap.to - gap.from) / total > WORTH) : [];
  const left = total - quiet.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  // Where nothing is left beside the folds there is nothing to gain from them.
  if (quiet.length === 0 || left < 1) {
    return [{ from: whole.from, to: whole.from + total, start: 0, end: 1, folded: false }];
  }
  const folded = Math.min(FOLD, FOLDS / quiet.length);
  const density = (1 - folded * quiet.length) / left;
  const pieces: Piece[] = [];
  let share = 0;
  const add = (from: number, to: number, width: number, isFold: boolean) => {
    if (to <= from) return;
    pieces.push({ from, to, start: share, end: share + width, folded: isFold });
    share += width;
  };
  let reached = whole.from;
  for (const gap of quiet) {
    add(reached, gap.from, (gap.from - reached) * density, false);
    add(gap.from, gap.to, folded, true);
    reached = gap.to;
  }
  add(reached, whole.from + total, (whole.from + total - reached) * density, false);
  return pieces;
}

/** Where a moment lies on the axis, 0–1; what is outside lies at its ends. */
export function place(axis: readonly Piece[], at: number): number {
  for (const { from, to, start, end } of axis) {
    if (at <= to) return start + (end - start) * Math.max(0, (at - from) / (to - from));
  }
  return 1;
}

/** Round moments for at most about `room` labels over the whole axis. */
export function ticks(axis: readonly Piece[], room: number): Tick[] {
  const open = axis.filter((piece) => !piece.folded);
  const shares = open.reduce((sum, piece) => sum + piece.end - piece.start, 0);
  const spans = open.reduce((sum, piece) => sum + piece.to - piece.from, 0);
  if (shares <= 0 || room < 1) return [];
  const wanted = spans / shares / room;
  const step = STEPS.find((candidate) => candidate >= wanted) ?? Math.ceil(wanted / DAY) * DAY;
  const found: Tick[] = [];
  let day = '';
  for (const piece of open) {
    for (let at = roundUp(piece.from, step); at <= piece.to; at += step) {
      const share = place([piece], at);
      const last = found.at(-1);
      if (last !== undefined && share - last.share < 0.7 / room) continue;
      const date = new Date(at).toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
      const crowded = last !== undefined && last.text.includes(',') && share - last.share < 1.4 / room;
      found.push({ at, share, text: crowded ? '' : written(at, step, date === day ? undefined : date) });
      day = date;
    }
  }
  return found;
}

/** The stretches of `whole` that touch none of the spans. */
function gaps(whole: Span, busy: readonly Span[]): Span[] {
  const found: Span[] = [];
  let reached = whole.from;
  for (const { from, to } of [...busy].sort((a, b) => a.from - b.from)) {
    if (from > reached) found.push({ from: reached, to: Math.min(from, whole.to) });
    reached = Math.max(reached, to);
  }
  if (reached < whole.to) found.push({ from: reached, to: whole.to });
  return found.filter((gap) => gap.to > gap.from);
}

/** The next round moment by the wall clock of whoever looks. */
function roundUp(at: number, step: number): number {
  const offset = new Date(at).getTimezoneOffset() * MINUTE;
  return Math.ceil((at - offset) / step) * step + offset;
}

function written(at: number, step: number, newDay: string | undefined): string {
  if (step >= DAY) return newDay ?? '';
  const time = new Date(at);
  const fine: Intl.DateTimeFormatOptions = step < MINUTE ? { second: '2-digit' } : {};
  const text = time.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', ...fine });
  const whole = step < SECOND ? `${text}.${String(time.getMilliseconds()).padStart(3, '0')}` : text;
  return newDay === undefined ? whole : `${newDay}, ${whole}`;
}
