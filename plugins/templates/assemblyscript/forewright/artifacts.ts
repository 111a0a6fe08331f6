// Capability: bytes by digest, in pieces of at most 1 MiB. A plugin that uses it has `artifacts` in the `[capabilities]`
// of its plugin.toml.
import { Reader, Text } from "./memory";
import { Answer, ArtifactRef } from "./types";

export enum Refusal { denied, quota, notFound, invalid, conflict, unavailable }

/** Why a capability has no answer. */
export class CapabilityError {
  constructor(readonly refusal: Refusal, readonly why: string) {}

  static read(from: Reader): CapabilityError {
    const refusal = <Refusal>from.u8();
    if (refusal == Refusal.notFound) return new CapabilityError(refusal, "not found");
    if (refusal == Refusal.conflict) return new CapabilityError(refusal, "a conflict");
    return new CapabilityError(refusal, from.text());
  }

  /** What a plugin answers that cannot go on without. */
  answer<T>(): Answer<T> {
    if (this.refusal == Refusal.denied || this.refusal == Refusal.quota) return Answer.unsupported<T>(this.why);
    if (this.refusal == Refusal.invalid) return Answer.internal<T>(this.why);
    return Answer.unavailable<T>();
  }
}

/** What a capability answers: look at `error` before you take the `value`. */
export class Granted<T> {
  constructor(private given: T | null, readonly error: CapabilityError | null) {}

  get value(): T {
    return this.given!;
  }
}

/** Opens what the call was given or has made itself. */
export function open(artifact: ArtifactRef): Granted<ArtifactReader> {
  const digest = Text.of(artifact.digest);
  const mediaType = Text.of(artifact.mediaType);
  const name = Text.of(artifact.name);
  const area = heap.alloc(AREA);
  hostOpen(
    digest.start, digest.bytes,
    mediaType.start, mediaType.bytes,
    artifact.size,
    name.start, name.bytes,
    area,
  );
  return granted<ArtifactReader>(area, (from) => new ArtifactReader(from.u32()));
}

/** A name is a file's, without a folder. */
export function create(name: string, mediaType: string): Granted<ArtifactWriter> {
  const nameText = Text.of(name);
  const mediaTypeText = Text.of(mediaType);
  const area = heap.alloc(AREA);
  hostCreate(nameText.start, nameText.bytes, mediaTypeText.start, mediaTypeText.bytes, area);
  return granted<ArtifactWriter>(area, (from) => new ArtifactWriter(from.u32()));
}

@final
export class ArtifactReader {
  constructor(private handle: u32) {}

  get size(): u32 {
    return hostSize(this.handle);
  }

  /** Shorter at the end, empty beyond it. */
  read(offset: u32, most: u32): Granted<Uint8Array> {
    const area = heap.alloc(AREA);
    hostRead(this.handle, offset, most, area);
    return granted<Uint8Array>(area, (from) => from.bytes());
  }

  close(): void {
    hostDropReader(this.handle);
  }
}

/** Ends with `finish`, or with `discard`, which takes its bytes with it. */
@final
export class ArtifactWriter {
  constructor(private handle: u32) {}

  /** Answers an error, or null. */
  append(chunk: Uint8Array): CapabilityError | null {
    const area = heap.alloc(AREA);
    hostAppend(this.handle, chunk.dataStart, chunk.length, area);
    const from = new Reader(area);
    const isError = from.u8();
    from.align(4);
    return isError ? CapabilityError.read(from) : null;
  }

  finish(): Granted<ArtifactRef> {
    const area = heap.alloc(AREA);
    hostFinish(this.handle, area);
    return granted<ArtifactRef>(area, ArtifactRef.read);
  }

  discard(): void {
    hostDropWriter(this.handle);
  }
}

/** Room for the greatest answer: a byte that tells whether it is an error, and an `ArtifactRef`. */
const AREA = 32;

function granted<T>(area: usize, read: (from: Reader) => T): Granted<T> {
  const from = new Reader(area);
  const isError = from.u8();
  from.align(4);
  return isError ? new Granted<T>(null, CapabilityError.read(from)) : new Granted<T>(read(from), null);
}

@external("forewright:plugin/artifacts@1.0.0", "open")
declare function hostOpen(
  digest: usize, digestBytes: u32,
  mediaType: usize, mediaTypeBytes: u32,
  size: u32,
  name: usize, nameBytes: u32,
  area: usize,
): void;

@external("forewright:plugin/artifacts@1.0.0", "create")
declare function hostCreate(name: usize, nameBytes: u32, mediaType: usize, mediaTypeBytes: u32, area: usize): void;

@external("forewright:plugin/artifacts@1.0.0", "[method]reader.size")
declare function hostSize(reader: u32): u32;

@external("forewright:plugin/artifacts@1.0.0", "[method]reader.read")
declare function hostRead(reader: u32, offset: u32, most: u32, area: usize): void;

@external("forewright:plugin/artifacts@1.0.0", "[resource-drop]reader")
declare function hostDropReader(reader: u32): void;

@external("forewright:plugin/artifacts@1.0.0", "[method]writer.append")
declare function hostAppend(writer: u32, chunk: usize, bytes: u32, area: usize): void;

@external("forewright:plugin/artifacts@1.0.0", "[static]writer.finish")
declare function hostFinish(writer: u32, area: usize): void;

@external("forewright:plugin/artifacts@1.0.0", "[resource-drop]writer")
declare function hostDropWriter(writer: u32): void;
