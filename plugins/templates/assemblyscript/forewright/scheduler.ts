// The world of a scheduler: what it is given and what it answers.
import { Reader, Writer } from "./memory";
import { readText } from "./types";

export class Span {
  constructor(readonly start: f64, readonly end: f64) {}

  static read(from: Reader): Span {
    return new Span(from.f64(), from.f64());
  }
}

export class Worker {
  constructor(
    readonly id: string,
    readonly skills: string[],
    /** When they can work, in order, without overlaps. */
    readonly calendar: Span[],
  ) {}

  static read(from: Reader): Worker {
    return new Worker(from.text(), from.list<string>(4, readText), from.list<Span>(8, Span.read));
  }
}

export class Task {
  constructor(
    readonly id: string,
    readonly duration: f64,
    /** Every one of them, in one person. */
    readonly skills: string[],
    /** Tasks that have to be done before. */
    readonly after: string[],
    readonly earliest: f64,
    /** Ending later than this costs. */
    readonly due: f64,
    readonly costPerHourLate: f64,
    /** Assets that cannot be used meanwhile; two tasks that share one do not overlap. */
    readonly occupies: string[],
  ) {}

  static read(from: Reader): Task {
    return new Task(
      from.text(),
      from.f64(),
      from.list<string>(4, readText),
      from.list<string>(4, readText),
      from.f64(),
      from.f64(),
      from.f64(),
      from.list<string>(4, readText),
    );
  }
}

export class Slot {
  constructor(readonly task: string, readonly worker: string, readonly start: f64) {}

  static read(from: Reader): Slot {
    return new Slot(from.text(), from.text(), from.f64());
  }

  static write(to: Writer, slot: Slot): void {
    to.text(slot.task);
    to.text(slot.worker);
    to.f64(slot.start);
  }
}

export class Unplaced {
  constructor(readonly task: string, readonly reason: string) {}

  static write(to: Writer, unplaced: Unplaced): void {
    to.text(unplaced.task);
    to.text(unplaced.reason);
  }
}

export class Request {
  constructor(
    /** In the order of their ids, no two alike. */
    readonly tasks: Task[],
    readonly workers: Worker[],
    /** Taken as they are, neither moved nor listed again. */
    readonly agreed: Slot[],
  ) {}
}

/** Every task that is not agreed is in exactly one of the two lists. */
export class Plan {
  constructor(readonly slots: Slot[], readonly unplaced: Unplaced[]) {}

  static write(to: Writer, plan: Plan): void {
    to.list<Slot>(plan.slots, 24, 8, Slot.write);
    to.list<Unplaced>(plan.unplaced, 16, 4, Unplaced.write);
  }
}
