// The scale keeps its promises for every kind of colour vision, by simulation.
import { describe, expect, it } from 'vitest';
import { LEVELS, type Rgb, contrast, inkOn, levelColour, linear, luminance } from './colour';

// Machado, Oliveira and Fernandes 2009, severity 1.0, on linear light.
const SEEN_BY = {
  everybody: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

/** CIE L*a*b* (D65) of a colour as somebody sees it. */
function lab(colour: Rgb, matrix: readonly number[]): [number, number, number] {
  const light = colour.map(linear);
  const at = (i: number) => matrix[i] ?? 0;
  const seen = [0, 3, 6].map((row) =>
    Math.min(1, Math.max(0, light.reduce((sum, value, i) => sum + at(row + i) * value, 0))),
  ) as [number, number, number];
  const [r, g, b] = seen;
  const f = (t: number) => (t > 216 / 24389 ? Math.cbrt(t) : (24389 / 27 / 116) * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const levels = Array.from({ length: LEVELS }, (_, level) => levelColour(level));

describe('the levels of a heatmap', () => {
  it.each(Object.entries(SEEN_BY))('rise in lightness and stay apart for %s', (_, matrix) => {
    const seen = levels.map((colour) => lab(colour, matrix));
    for (let i = 1; i < seen.length; i += 1) {
      const [before, after] = [seen[i - 1]!, seen[i]!];
      expect(after[0]).toBeGreaterThan(before[0]);
      expect(Math.hypot(after[0] - before[0], after[1] - before[1], after[2] - before[2])).toBeGreaterThan(10);
    }
  });

  it('carry text of at least 4.5 : 1', () => {
    for (const ground of levels) expect(contrast(inkOn(ground), ground)).toBeGreaterThanOrEqual(4.5);
  });

  it('are measured like WCAG does', () => {
    expect(luminance([255, 255, 255])).toBeCloseTo(1, 6);
    expect(contrast([0, 0, 0], [255, 255, 255])).toBeCloseTo(21, 6);
  });
});
