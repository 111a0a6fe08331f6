// Where the cells of a heatmap lie: columns are places, rows are assets, kinds stand apart.
import type { Schemas } from '../../api/client';

type Heatmap = Schemas['HeatmapView'];
export type Cell = Schemas['HeatmapCellView'];

/** A rectangle, CSS pixels. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A cell and where it lies. */
export interface Placed extends Box {
  cell: Cell;
  /** Place among the columns and rows that are there, from 0. */
  across: number;
  down: number;
}

/** A whole heatmap laid out. */
export interface Plan {
  width: number;
  height: number;
  titles: { text: string; box: Box }[];
  groups: { text: string; y: number }[];
  cells: Placed[];
}

const TITLE = 28;
const GROUP = 26;
const CELL_HEIGHT = 32;
const GAP = 4;
const NARROWEST = 62;

/** Lays a heatmap out in a width; it becomes wider where cells could not be read. */
export function layOut(heatmap: Heatmap, available: number): Plan {
  const columns = distinct([...Object.keys(heatmap.columns).map(Number), ...heatmap.cells.map((cell) => cell.col)]);
  const count = Math.max(1, columns.length);
  const width = Math.max(NARROWEST, Math.floor((available - GAP * (count - 1)) / count));
  const left = (across: number) => across * (width + GAP);

  const kindOf = new Map<number, string>();
  for (const cell of heatmap.cells) if (!kindOf.has(cell.row)) kindOf.set(cell.row, cell.kind);
  const groups: Plan['groups'] = [];
  const tops = new Map<number, number>();
  let y = TITLE;
  let above: string | undefined;
  for (const row of distinct(heatmap.cells.map((cell) => cell.row))) {
    const kind = kindOf.get(row) ?? '';
    if (kind !== above) {
      groups.push({ text: kind, y: y + GROUP - 9 });
      y += GROUP;
    }
    above = kind;
    tops.set(row, y);
    y += CELL_HEIGHT + GAP;
  }

  const rows = [...tops.keys()];
  const cells = heatmap.cells.map((cell) => {
    const [across, down] = [columns.indexOf(cell.col), rows.indexOf(cell.row)];
    return { cell, across, down, x: left(across), y: tops.get(cell.row) ?? 0, width, height: CELL_HEIGHT };
  });
  return {
    width: left(count - 1) + width,
    height: y,
    titles: columns.map((col, across) => ({
      text: heatmap.columns[String(col)] ?? '',
      box: { x: left(across), y: 0, width, height: TITLE },
    })),
    groups,
    cells,
  };
}

/** The cell under a point. */
export function cellAt(plan: Plan, x: number, y: number): Placed | undefined {
  return plan.cells.find((c) => x >= c.x && x < c.x + c.width && y >= c.y && y < c.y + c.height);
}

/** The nearest cell in a direction; the same one at the edge. */
export function neighbour(plan: Plan, from: Placed, across: -1 | 0 | 1, down: -1 | 0 | 1): Placed {
  let best = from;
  let nearest = Infinity;
  for (const other of plan.cells) {
    const [dx, dy] = [other.across - from.across, other.down - from.down];
    const [ahead, aside] = across !== 0 ? [dx * across, dy] : [dy * down, dx];
    if (ahead <= 0) continue;
    // Straight ahead before aside; a column that ends early is left to the nearest one.
    const distance = Math.abs(aside) * 1_000 + ahead;
    if (distance < nearest) [best, nearest] = [other, distance];
  }
  return best;
}

function distinct(values: number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}
