// Quiet hours say which days, until when, and by whose clock.
import { expect, it } from 'vitest';
import { quietHours } from './rules';

it.each([
  [{ time_zone: 'Europe/Berlin', hours: [{ days: ['fri', 'sat'] as ('fri' | 'sat')[], from: '22:00', to: '06:00' }] }, ['fri, sat 22:00–06:00 of the next day (Europe/Berlin)']],
  [{ hours: [{ from: '12:00', to: '13:00' }] }, ['every day 12:00–13:00 (UTC)']],
  [{}, []],
])('%j', (quiet, lines) => expect(quietHours(quiet)).toEqual(lines));
