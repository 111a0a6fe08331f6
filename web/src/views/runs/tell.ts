// What a step did, in one line: read from what it gave back, never guessed.
import type { Schemas } from '../../api/client';
import { listAt, numberAt, textAt, field } from '../../lib/json';
import { bytes, duration, figure, percent, signed, span, words } from '../../lib/units';

type Step = Schemas['StepView'];

/** What each kind of step does, as people say it. */
const NAMES: Record<string, string> = {
  predict: 'Predict',
  allocate: 'Relieve',
  redesign: 'Redesign the part',
  simulate: 'Prove the design',
  slice: 'Slice',
  make: 'Make',
  verify: 'Measure and judge',
  schedule: 'Find a window',
  swap: 'Swap the part',
  notify: 'Tell',
  train: 'Train a model',
  record_outcome: 'Record what happened',
};

/** What a kind of step is called. */
export function stepName(kind: string): string {
  return NAMES[kind] ?? words(kind);
}

/** What came of a step, in one line; empty where nothing is known yet. */
export function tell(step: Step): string {
  const out = step.output;
  if (out === undefined || out === null) return '';
  switch (step.kind) {
    case 'predict': {
      const week = numberAt(out, 'fps', '7d');
      const left = numberAt(out, 'remaining_life_hours', 'p50');
      return sentence([
        week === undefined ? undefined : `fails within 7 days with ${percent(week)}`,
        left === undefined ? undefined : `${figure(left)} h of life left`,
      ]);
    }
    case 'allocate':
      return sentence([words(textAt(out, 'branch') ?? ''), textAt(out, 'reason')]);
    case 'redesign':
    case 'simulate': {
      const safety = numberAt(out, 'certificate', 'factor_of_safety');
      const needed = numberAt(out, 'certificate', 'required_fos');
      const mass = numberAt(out, 'certificate', 'mass_g');
      return sentence([
        safety === undefined ? undefined : `factor of safety ${figure(safety)} of ${figure(needed ?? 0)} required`,
        mass === undefined ? undefined : `${figure(mass)} g`,
        field(out, 'holds') === false ? 'does not hold' : undefined,
        field(out, 'agrees') === true ? 'the finished mesh confirms it' : undefined,
      ]);
    }
    case 'slice': {
      const seconds = numberAt(out, 'estimate', 'seconds');
      const layers = numberAt(out, 'estimate', 'layers');
      const filament = numberAt(out, 'estimate', 'filament_mm');
      const size = numberAt(out, 'gcode_size_bytes');
      return sentence([
        seconds === undefined ? undefined : `${duration(seconds)} to print`,
        layers === undefined ? undefined : `${layers} layers`,
        filament === undefined ? undefined : `${figure(filament / 1_000)} m of filament`,
        size === undefined ? undefined : bytes(size),
        textAt(out, 'lint') === 'clean' ? 'no safety violation' : undefined,
      ]);
    }
    case 'make':
      return sentence([textAt(out, 'build') === undefined ? undefined : `build \`${textAt(out, 'build')}\``, 'scanned']);
    case 'verify': {
      const peak = numberAt(out, 'peak_mm');
      const coverage = numberAt(out, 'coverage');
      return sentence([
        textAt(out, 'disposition'),
        peak === undefined ? undefined : `peak ${signed(peak, 3)} mm`,
        coverage === undefined ? undefined : `${percent(coverage)} seen`,
        words(textAt(listAt(out, 'reasons')[0], 'code') ?? ''),
      ]);
    }
    case 'schedule': {
      const [from, to] = [textAt(out, 'from'), textAt(out, 'to')];
      return sentence([
        from === undefined || to === undefined ? 'no window is possible yet' : span(from, to),
        textAt(out, 'technician'),
      ]);
    }
    case 'swap':
      return sentence([`${listAt(out, 'actions').length} actions carried out`]);
    case 'record_outcome':
      return sentence([words(textAt(out, 'kind') ?? ''), textAt(out, 'note')]);
    default:
      return '';
  }
}

/** Why a step failed, as the step says it. */
export function trouble(step: Step): string | undefined {
  if (step.error === undefined || step.error === null) return undefined;
  return textAt(step.error, 'message') ?? textAt(step.error, 'detail') ?? JSON.stringify(step.error);
}

/** What a parked step waits for, such as a build. */
export function waitsFor(step: Step): string | undefined {
  const text = step.waiting_for ?? '';
  if (text === '') return undefined;
  try {
    const wait: unknown = JSON.parse(text);
    const what = textAt(wait, 'for');
    if (what === undefined) return text;
    const id = textAt(wait, 'id');
    return id === undefined ? words(what) : `${words(what)} \`${id}\``;
  } catch {
    return text;
  }
}

function sentence(parts: (string | undefined)[]): string {
  const text = parts.filter((part) => part !== undefined && part !== '').join(' · ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}
