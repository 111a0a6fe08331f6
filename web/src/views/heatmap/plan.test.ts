// Cells are found by pointer and by keys, also where a column is short.
import { describe, expect, it } from 'vitest';
import { type Cell, cellAt, layOut, neighbour } from './plan';

function cell(col: number, row: number, kind = 'fan_tray'): Cell {
  return { asset: `${kind}-${col}-${row}`, kind, row, col, value: 0.1, text: '10 %', level: 1, age_s: 5, confidence: 'high' };
}

const heatmap = {
  layer: 'utilisation' as const,
  now: '2026-01-05T00:00:00Z',
  unit: 'share',
  legend: [],
  columns: { '0': 'Rack 01', '3': 'Store' },
  cells: [cell(0, 0), cell(0, 1), cell(0, 7, 'server'), cell(3, 0)],
};

describe('a plan', () => {
  const plan = layOut(heatmap, 400);
  const at = (asset: string) => plan.cells.find((c) => c.cell.asset === asset)!;

  it('puts kinds apart and keeps columns in order', () => {
    expect(plan.groups.map((g) => g.text)).toEqual(['fan_tray', 'server']);
    expect(plan.titles.map((t) => t.text)).toEqual(['Rack 01', 'Store']);
    expect(at('server-0-7').y).toBeGreaterThan(at('fan_tray-0-1').y + 32 + 4);
    expect(plan.width).toBeLessThanOrEqual(400);
  });

  it('never makes cells too narrow to read', () => {
    expect(layOut(heatmap, 50).cells[0]!.width).toBeGreaterThanOrEqual(60);
  });

  it('finds cells by pointer', () => {
    const store = at('fan_tray-3-0');
    expect(cellAt(plan, store.x + 3, store.y + 3)).toBe(store);
    expect(cellAt(plan, -1, -1)).toBeUndefined();
  });

  it('finds cells by keys and stays at the edge', () => {
    const first = at('fan_tray-0-0');
    expect(neighbour(plan, first, 0, 1).cell.asset).toBe('fan_tray-0-1');
    expect(neighbour(plan, first, 1, 0).cell.asset).toBe('fan_tray-3-0');
    expect(neighbour(plan, first, -1, 0)).toBe(first);
    expect(neighbour(plan, at('server-0-7'), 1, 0).cell.asset).toBe('fan_tray-3-0');
  });
});
