// What several worlds share.
import { Label } from "./host";
import { Numbers, Reader, Writer } from "./memory";

/** What an asset is, without what it measured. */
export class Asset {
  constructor(readonly id: string, readonly kind: string, readonly labels: Label[]) {}

  static read(from: Reader): Asset {
    return new Asset(from.text(), from.text(), from.list<Label>(4, Label.read));
  }
}

/** Samples of one metric: `times` rise strictly; `values` are as many, `NaN` where a sample told nothing. */
export class Series {
  constructor(readonly metric: string, readonly unit: string, readonly times: Numbers, readonly values: Numbers) {}

  static read(from: Reader): Series {
    return new Series(from.text(), from.text(), from.numbers(), from.numbers());
  }
}

/** Millimetres where it is a place, newtons where it is a force. */
export class Vec3 {
  constructor(readonly x: f64, readonly y: f64, readonly z: f64) {}

  static read(from: Reader): Vec3 {
    return new Vec3(from.f64(), from.f64(), from.f64());
  }

  static write(to: Writer, vector: Vec3): void {
    to.f64(vector.x);
    to.f64(vector.y);
    to.f64(vector.z);
  }
}

/** Bytes that the host keeps under their digest. */
export class ArtifactRef {
  constructor(readonly digest: string, readonly mediaType: string, readonly size: u32, readonly name: string) {}

  static read(from: Reader): ArtifactRef {
    return new ArtifactRef(from.text(), from.text(), from.u32(), from.text());
  }

  static write(to: Writer, artifact: ArtifactRef): void {
    to.text(artifact.digest);
    to.text(artifact.mediaType);
    to.u32(artifact.size);
    to.text(artifact.name);
  }
}

export function readText(from: Reader): string {
  return from.text();
}

export function writeText(to: Writer, text: string): void {
  to.text(text);
}

enum Failing { invalidInput, unavailable, unsupported, internal }

/** What a world's function answers: a value, or why there is none. */
export class Answer<T> {
  private constructor(private value: T | null, private failing: Failing, private why: string, private after: f64) {}

  static of<V>(value: V): Answer<V> {
    return new Answer<V>(value, Failing.internal, "", NaN);
  }

  /** The caller's fault. Never tried again. */
  static invalidInput<V>(why: string): Answer<V> {
    return new Answer<V>(null, Failing.invalidInput, why, NaN);
  }

  /** Not now. Tried again, not sooner than after so many milliseconds if they are given. */
  static unavailable<V>(after: f64 = NaN): Answer<V> {
    return new Answer<V>(null, Failing.unavailable, "", after);
  }

  /** Not for this plugin. The next one is asked, or the built-in. */
  static unsupported<V>(why: string): Answer<V> {
    return new Answer<V>(null, Failing.unsupported, why, NaN);
  }

  /** A fault of the plugin. Counts towards its quarantine. */
  static internal<V>(why: string): Answer<V> {
    return new Answer<V>(null, Failing.internal, why, NaN);
  }

  /** Lays the answer down and says where. No world's answer takes more than 72 bytes. */
  handOver(write: (to: Writer, value: T) => void): usize {
    const area = heap.alloc(72);
    const to = new Writer(area);
    const value = this.value;
    to.u8(value ? 0 : 1);
    to.align(8);
    if (value) {
      write(to, value);
      return area;
    }
    to.u8(<u8>this.failing);
    to.align(8);
    if (this.failing != Failing.unavailable) {
      to.text(this.why);
    } else {
      to.u8(isNaN(this.after) ? 0 : 1);
      to.f64(this.after);
    }
    return area;
  }
}
