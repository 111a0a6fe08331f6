// The world of a predictor: what it is given and what it answers.
import { Numbers, Reader, Writer } from "./memory";
import { ArtifactRef, Asset } from "./types";

/** One metric on the grid of its history, `NaN` where nothing is known. */
export class Column {
  constructor(readonly metric: string, readonly unit: string, readonly values: Numbers) {}

  static read(from: Reader): Column {
    return new Column(from.text(), from.text(), from.numbers());
  }
}

/** What the part now in an asset lived through, on a regular grid. */
export class History {
  constructor(
    readonly asset: Asset,
    /** When that part was new; `NaN` where it is not known. */
    readonly installed: f64,
    /** The moment of the first row. */
    readonly start: f64,
    /** From one row to the next, in milliseconds. */
    readonly step: f64,
    /** Sorted by metric, all of one length. */
    readonly columns: Column[],
  ) {}

  static read(from: Reader): History {
    const asset = Asset.read(from);
    return new History(asset, from.optional(), from.f64(), from.f64(), from.list<Column>(4, Column.read));
  }
}

export class Request {
  constructor(
    /** All of one kind of asset. */
    readonly histories: History[],
    /** Milliseconds ahead of `now`, rising. */
    readonly horizons: Numbers,
    /** The trained model for assets of this kind, where there is one. */
    readonly model: ArtifactRef | null,
  ) {}
}

/** With a probability `p`, 0 to 1 exclusive, the remaining life ends within `after` milliseconds. */
export class Quantile {
  constructor(readonly p: f64, readonly after: f64) {}

  static write(to: Writer, quantile: Quantile): void {
    to.f64(quantile.p);
    to.f64(quantile.after);
  }
}

/** One metric's part in a score. */
export class Reason {
  constructor(
    readonly metric: string,
    /** Which statistic of it, such as `mean_5`. */
    readonly feature: string,
    readonly value: f64,
    /** What that is in assets that have a long life ahead; `NaN` where it cannot be told. */
    readonly typical: f64,
    /** Milliseconds of expected remaining life that it takes away. */
    readonly contribution: f64,
  ) {}

  static write(to: Writer, reason: Reason): void {
    to.text(reason.metric);
    to.text(reason.feature);
    to.f64(reason.value);
    to.f64(reason.typical);
    to.f64(reason.contribution);
  }
}

/** What is to be expected of one asset: a `Risk`, or `Declined`. */
export abstract class Outlook {
  abstract lay(to: Writer): void;

  static write(to: Writer, outlook: Outlook): void {
    outlook.lay(to);
  }
}

export class Risk extends Outlook {
  constructor(
    /** Of failing within each horizon asked for; never falls as the horizon grows. */
    readonly probabilities: f64[],
    /** Of the life that remains: `p` rising, `after` not falling; at most 64. */
    readonly remainingLife: Quantile[],
    /** Strongest first, at most 64. */
    readonly reasons: Reason[],
  ) {
    super();
  }

  lay(to: Writer): void {
    to.u8(0);
    to.numbers(this.probabilities);
    to.list<Quantile>(this.remainingLife, 16, 8, Quantile.write);
    to.list<Reason>(this.reasons, 40, 8, Reason.write);
  }
}

/** This asset cannot be told, the others can. */
export class Declined extends Outlook {
  constructor(readonly why: string) {
    super();
  }

  lay(to: Writer): void {
    to.u8(1);
    to.text(this.why);
  }
}
