// What a chart shows, told without the library that draws it.

/** How a line looks. */
export type Tone = 'main' | 'second' | 'faint' | 'none';

/** One line of a chart. */
export interface Line {
  label: string;
  values: (number | null)[];
  tone: Tone;
  dashed?: boolean;
  dots?: boolean;
  spanGaps?: boolean;
}

/** The area between two lines, by their numbers. */
export interface Band {
  high: number;
  low: number;
  tone: Tone;
  percent: number;
}

/** A whole chart. */
export interface Chart {
  /** Seconds since 1970, or plain numbers. */
  x: number[];
  time: boolean;
  height: number;
  lines: Line[];
  bands: Band[];
  /** A moment worth a vertical line. */
  mark?: { x: number; text: string };
  /** Lowest and highest value, where they are known. */
  range?: readonly [number, number];
  /** Leftmost and rightmost value, where they are known. */
  across?: readonly [number, number];
  /** How values are written. */
  format?: (value: number) => string;
  /** How what stands across is written, where it is no time. */
  formatAcross?: (value: number) => string;
}
