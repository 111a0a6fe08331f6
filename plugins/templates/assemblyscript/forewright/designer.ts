// The world of a designer: what it is given and what it answers.
import { Reader, Writer } from "./memory";
import { ArtifactRef, Asset, Vec3 } from "./types";

/** A box along the axes. */
export class Box {
  constructor(readonly min: Vec3, readonly max: Vec3) {}

  static read(from: Reader): Box {
    return new Box(Vec3.read(from), Vec3.read(from));
  }
}

/** What lies within `radius` of the line from `start` to `end`. */
export class Cylinder {
  constructor(readonly start: Vec3, readonly end: Vec3, readonly radius: f64) {}

  static read(from: Reader): Cylinder {
    return new Cylinder(Vec3.read(from), Vec3.read(from), from.f64());
  }
}

/** A place in or on a part: one of the two. */
export class Region {
  constructor(readonly box: Box | null, readonly cylinder: Cylinder | null) {}

  static read(from: Reader): Region {
    from.align(8);
    const isCylinder = from.u8();
    from.align(8);
    // A box takes as much room as a cylinder, which is the larger.
    const inside = from.take(7 * sizeof<f64>());
    return isCylinder ? new Region(null, Cylinder.read(inside)) : new Region(Box.read(inside), null);
  }
}

/** A force that acts on what of the part lies in a region. */
export class LoadCase {
  constructor(readonly name: string, readonly force: Vec3, readonly region: Region) {}

  static read(from: Reader): LoadCase {
    return new LoadCase(from.text(), Vec3.read(from), Region.read(from));
  }
}

export class Material {
  constructor(
    readonly name: string,
    /** Grams per cubic centimetre. */
    readonly density: f64,
    /** Young's modulus in megapascals. */
    readonly stiffness: f64,
    readonly poissonRatio: f64,
    /** In megapascals, along the layers. */
    readonly yieldStrength: f64,
    /** The same across them. */
    readonly yieldStrengthAcross: f64,
  ) {}

  static read(from: Reader): Material {
    from.align(8);
    return new Material(from.text(), from.f64(), from.f64(), from.f64(), from.f64(), from.f64());
  }
}

/** What the process can make. */
export class Process {
  constructor(
    readonly layerHeight: f64,
    /** The thinnest wall, in millimetres. */
    readonly minWall: f64,
    /** How far from the vertical a wall may lean without support, in degrees. */
    readonly maxOverhang: f64,
  ) {}

  static read(from: Reader): Process {
    return new Process(from.f64(), from.f64(), from.f64());
  }
}

export class Task {
  constructor(
    readonly asset: Asset,
    /** The present mesh of the part, where there is one. */
    readonly source: ArtifactRef | null,
    /** Nothing of the part may lie outside. */
    readonly envelope: Box,
    /** Must be solid. */
    readonly keepIn: Region[],
    /** Must stay empty. */
    readonly keepOut: Region[],
    /** Where the part is held. */
    readonly fixed: Region[],
    readonly loads: LoadCase[],
    readonly material: Material,
    readonly process: Process,
    /** In grams. */
    readonly maxMass: f64,
    readonly minSafetyFactor: f64,
  ) {}

  static read(from: Reader): Task {
    const asset = Asset.read(from);
    const hasSource = from.u8();
    const source = ArtifactRef.read(from);
    return new Task(
      asset,
      hasSource ? source : null,
      Box.read(from),
      from.list<Region>(8, Region.read),
      from.list<Region>(8, Region.read),
      from.list<Region>(8, Region.read),
      from.list<LoadCase>(8, LoadCase.read),
      Material.read(from),
      Process.read(from),
      from.f64(),
      from.f64(),
    );
  }
}

/** What the designer weighed; greater is better. */
export class Score {
  constructor(readonly name: string, readonly value: f64) {}

  static write(to: Writer, score: Score): void {
    to.text(score.name);
    to.f64(score.value);
  }
}

export class Candidate {
  constructor(
    /** A closed mesh (`model/stl`) in the frame of the task. */
    readonly mesh: ArtifactRef,
    /** In grams. */
    readonly mass: f64,
    /** Which way is up while it is built; of length 1. */
    readonly buildDirection: Vec3,
    /** At most 64. */
    readonly scores: Score[],
    readonly notes: string,
  ) {}

  static write(to: Writer, candidate: Candidate): void {
    ArtifactRef.write(to, candidate.mesh);
    to.f64(candidate.mass);
    Vec3.write(to, candidate.buildDirection);
    to.list<Score>(candidate.scores, 16, 8, Score.write);
    to.text(candidate.notes);
  }
}
