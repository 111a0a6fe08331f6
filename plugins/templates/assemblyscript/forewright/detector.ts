// The world of a detector: what it is given and what it answers.
import { Writer } from "./memory";
import { Asset, Series, writeText } from "./types";

export class Request {
  constructor(
    readonly asset: Asset,
    /** Sorted by metric. */
    readonly series: Series[],
    /** What lies before this is there to learn what is normal. */
    readonly since: f64,
  ) {}
}

/** A span in which something is unusual; `start` is not after `end`. */
export class Anomaly {
  constructor(
    public start: f64,
    public end: f64,
    /** 0 to 1; the greater, the more unusual. */
    public score: f64,
    /** Such as `spike`, `drift`, `stuck`. */
    public kind: string,
    /** The metrics it shows in, strongest first, each once. */
    public metrics: string[],
  ) {}

  static write(to: Writer, anomaly: Anomaly): void {
    to.f64(anomaly.start);
    to.f64(anomaly.end);
    to.f64(anomaly.score);
    to.text(anomaly.kind);
    to.list<string>(anomaly.metrics, 8, 4, writeText);
  }
}
