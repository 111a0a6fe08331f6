// What people read is what was meant.
import { describe, expect, it } from 'vitest';
import { age, bytes, distance, duration, figure, life, percent, metricName, shortDigest, signed, title } from './units';

describe('units', () => {
  it.each([
    [0, '0.0 %'],
    [0.0004, '<0.1 %'],
    [0.004, '0.4 %'],
    [0.0999, '10.0 %'],
    [0.41, '41 %'],
    [1, '100 %'],
  ])('writes the share %d as %s', (share, text) => expect(percent(share)).toBe(text));

  it.each([
    [2, 'just now'],
    [45, '45 s ago'],
    [600, '10 min ago'],
    [7_200, '2 h ago'],
    [5 * 86_400, '5 d ago'],
  ])('tells the age of %d seconds as %s', (seconds, text) => expect(age(seconds)).toBe(text));

  it.each([
    [3_600 * 5, 'in 5 h'],
    [-3_600 * 5, '5 h ago'],
    [20, 'now'],
  ])('tells the distance of %d seconds as %s', (seconds, text) => expect(distance(seconds)).toBe(text));

  it.each([
    [0.0123, '12 ms'],
    [1.26, '1.3 s'],
    [61, '61 s'],
    [3_599, '60 min'],
    [9_000, '2 h 30 min'],
    [3 * 86_400, '3.0 d'],
  ])('tells %d seconds as %s', (seconds, text) => expect(duration(seconds)).toBe(text));

  it.each([
    [0, '0'],
    [1234.5, '1235'],
    [12_345, '12,345'],
    [0.012345, '0.0123'],
    [-2.5, '−2.5'],
    [1.5e12, '1.50 × 10^12'],
    [Number.NaN, 'NaN'],
  ])('writes %d as %s', (value, text) => expect(figure(value)).toBe(text));

  it.each([
    ['vibration_mm_s', 'vibration, mm/s'],
    ['bearing_temp_c', 'bearing temp, °C'],
    ['cpu_utilisation', 'cpu utilisation'],
    ['T24', 'T24'],
    ['_c', 'c'],
  ])('names the metric %s as %s', (metric, text) => expect(metricName(metric)).toBe(text));

  it('keeps signs, sizes, lives and names readable', () => {
    expect(signed(0.25)).toBe('+0.25');
    expect(bytes(1_234_567)).toBe('1.23 MB');
    expect(life(12)).toBe('12 h');
    expect(life(240)).toBe('10 d');
    expect(shortDigest('sha256:0123456789abcdef')).toBe('0123456789');
    expect(title('stood_in')).toBe('Stood in');
  });
});
