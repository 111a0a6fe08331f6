// The world of a verifier: what it is given and what it answers.
import { Reader, Writer } from "./memory";
import { ArtifactRef, Vec3 } from "./types";

/** Where a scan lies: a point of it is turned by the unit quaternion (x, y, z, w), then moved. */
export class Pose {
  constructor(
    readonly x: f64,
    readonly y: f64,
    readonly z: f64,
    readonly w: f64,
    readonly translation: Vec3,
  ) {}

  static read(from: Reader): Pose {
    return new Pose(from.f64(), from.f64(), from.f64(), from.f64(), Vec3.read(from));
  }
}

/** Where the pixels of a calibrated image lie. */
export class Pixels {
  constructor(
    /** The middle of the first one. */
    readonly origin: Vec3,
    /** From one to the next in its row. */
    readonly right: Vec3,
    /** From one to the one below. */
    readonly down: Vec3,
  ) {}

  static read(from: Reader): Pixels {
    return new Pixels(Vec3.read(from), Vec3.read(from), Vec3.read(from));
  }
}

export class Observation {
  constructor(
    /** A scan (`model/ply`, millimetres) or an image (`image/png`). */
    readonly artifact: ArtifactRef,
    /** Where a scan lies, roughly, if it is known. */
    readonly pose: Pose | null,
    /** Where an image lies, if it is known. */
    readonly pixels: Pixels | null,
    /** Of one measured point, one standard deviation in millimetres; `NaN` where it is not known. */
    readonly uncertainty: f64,
  ) {}

  static read(from: Reader): Observation {
    const artifact = ArtifactRef.read(from);
    from.align(8);
    const placement = from.u8();
    from.align(8);
    // A placement takes as much room as the largest there is.
    const inside = from.take(9 * sizeof<f64>());
    return new Observation(
      artifact,
      placement == 1 ? Pose.read(inside) : null,
      placement == 2 ? Pixels.read(inside) : null,
      from.optional(),
    );
  }
}

export class Request {
  constructor(
    /** The mesh of the design (`model/stl`). */
    readonly expected: ArtifactRef,
    readonly observations: Observation[],
    /** How far a surface may be off, in millimetres. */
    readonly tolerance: f64,
  ) {}
}

export enum Disposition { accept, rework, reject, inconclusive }

export class Finding {
  constructor(
    /** A stable word, such as `layer_shift`. */
    readonly code: string,
    /** 0 to 1; from 0.5 on the part cannot be accepted. */
    readonly severity: f64,
    /** Where, in the frame of the design; null where the whole part is meant. */
    readonly at: Vec3 | null,
    readonly detail: string,
  ) {}

  static write(to: Writer, finding: Finding): void {
    const at = finding.at;
    to.text(finding.code);
    to.f64(finding.severity);
    to.u8(at ? 1 : 0);
    to.align(8);
    Vec3.write(to, at ? at : new Vec3(0, 0, 0));
    to.text(finding.detail);
  }
}

/** How far the part is from its design, in millimetres; positive is too much material. */
export class Deviation {
  constructor(
    readonly mean: f64,
    /** The one that is greatest without its sign. */
    readonly max: f64,
    /** Of the mean, one standard deviation. */
    readonly uncertainty: f64,
    /** The share of the surface that was seen. */
    readonly coverage: f64,
  ) {}

  static write(to: Writer, deviation: Deviation): void {
    to.f64(deviation.mean);
    to.f64(deviation.max);
    to.f64(deviation.uncertainty);
    to.f64(deviation.coverage);
  }
}

export class Report {
  constructor(
    readonly disposition: Disposition,
    /** 0 to 1. */
    readonly confidence: f64,
    /** At most 10,000. */
    readonly findings: Finding[],
    /** Where something was measured. */
    readonly deviation: Deviation | null,
  ) {}

  static write(to: Writer, report: Report): void {
    const deviation = report.deviation;
    to.u8(<u8>report.disposition);
    to.f64(report.confidence);
    to.list<Finding>(report.findings, 56, 8, Finding.write);
    to.u8(deviation ? 1 : 0);
    if (deviation) Deviation.write(to, deviation);
  }
}
