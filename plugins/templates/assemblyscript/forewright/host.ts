// What every plugin may do without a grant.
import { Reader, Text, Writer, laidDown } from "./memory";

export enum Level { trace, debug, info, warn, error }

/** A name and a value: of an asset, of a line in the log, of a message. */
export class Label {
  constructor(readonly name: string, readonly value: string) {}

  static read(from: Reader): Label {
    return new Label(from.text(), from.text());
  }

  static write(to: Writer, label: Label): void {
    to.text(label.name);
    to.text(label.value);
  }
}

/** Writes to the plugin's own log. At most 32 fields a line. */
export function log(level: Level, message: string, fields: Label[] = []): void {
  const text = Text.of(message);
  hostLog(level, text.start, text.bytes, laidDown<Label>(fields, 16, 4, Label.write), fields.length);
}

/** Tells how far the call is, 0 to 1, and in which phase. True asks it to stop, as nobody waits for it any more. */
export function progress(share: f64, phase: string): bool {
  const text = Text.of(phase);
  return hostProgress(share, text.start, text.bytes);
}

/** The operator's settings for this plugin: a JSON object. */
export function config(): string {
  const area = heap.alloc(8);
  hostConfig(area);
  return new Reader(area).text();
}

/** The moment the call is about, in milliseconds since 1970. It stands still: a call has no other clock. */
@external("forewright:plugin/host@1.0.0", "now")
export declare function now(): f64;

/** Where all randomness of the call starts from. */
@external("forewright:plugin/host@1.0.0", "seed")
export declare function seed(): u32;

/** What `throw`, `assert` and a bad index come to: the reason stands in the log, and the call ends. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const reason = message ? message : "abort";
  const place = file ? ` (${file}:${line}:${column})` : "";
  log(Level.error, reason + place);
  unreachable();
}

@external("forewright:plugin/host@1.0.0", "log")
declare function hostLog(level: u32, message: usize, messageBytes: usize, fields: usize, fieldCount: usize): void;

@external("forewright:plugin/host@1.0.0", "progress")
declare function hostProgress(share: f64, phase: usize, phaseBytes: usize): bool;

@external("forewright:plugin/host@1.0.0", "config")
declare function hostConfig(area: usize): void;
