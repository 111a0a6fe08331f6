// A script's own first sentence.
import { expect, it } from 'vitest';
import { summary } from './summary';

it.each([
  ['// The allocation rule.\n//\n//   FPS > threshold?\n\nconst A = 1;', 'The allocation rule.'],
  ['// Replaces the part\n// of an asset. And more.\nfn run(e) {}', 'Replaces the part of an asset.'],
  ['// No full stop\nfn a() {}', 'No full stop'],
  ['fn a() {}\n// later', ''],
  ['', ''],
])('of %j', (source, said) => expect(summary(source)).toBe(said));
