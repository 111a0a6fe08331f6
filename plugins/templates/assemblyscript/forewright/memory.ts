// How the host and a plugin hand values to each other: as bytes in the plugin's memory, laid out as the component model
// says. Nothing is ever freed: every call has a memory of its own, which is gone with the call.

/** The host makes room here for what it hands over. */
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (!size) return align;
  const block = heap.alloc(size);
  memory.copy(block, old, min(oldSize, size));
  return block;
}

export function textAt(start: usize, bytes: usize): string {
  return String.UTF8.decodeUnsafe(start, bytes);
}

/** Numbers where the host put them; they are read as those of an array are. */
@final
export class Numbers {
  constructor(private start: usize, readonly length: i32) {}

  @inline @operator("[]")
  at(index: i32): f64 {
    if (<u32>index >= <u32>this.length) throw new RangeError("Index out of range");
    return load<f64>(this.start + (<usize>index << 3));
  }
}

/** Reads fields in their order. A record in a list is as far from the next as its alignment asks for. */
@final
export class Reader {
  constructor(private at: usize) {}

  align(to: usize): void {
    this.at = (this.at + to - 1) & ~(to - 1);
  }

  /** What lies in the next so many bytes. */
  take(bytes: usize): Reader {
    const inside = new Reader(this.at);
    this.at += bytes;
    return inside;
  }

  u8(): u8 {
    return load<u8>(this.at++);
  }

  u32(): u32 {
    this.align(4);
    const value = load<u32>(this.at);
    this.at += 4;
    return value;
  }

  f64(): f64 {
    this.align(8);
    const value = load<f64>(this.at);
    this.at += 8;
    return value;
  }

  /** `NaN` stands for nothing. */
  optional(): f64 {
    this.align(8);
    const isSome = this.u8();
    const value = this.f64();
    return isSome ? value : NaN;
  }

  text(): string {
    const start = this.u32();
    return textAt(start, this.u32());
  }

  numbers(): Numbers {
    const start = this.u32();
    return new Numbers(start, this.u32());
  }

  bytes(): Uint8Array {
    const start = this.u32();
    const bytes = new Uint8Array(this.u32());
    memory.copy(bytes.dataStart, start, bytes.length);
    return bytes;
  }

  list<T>(align: usize, read: (from: Reader) => T): T[] {
    const start = this.u32();
    return listAt<T>(start, this.u32(), align, read);
  }
}

export function listAt<T>(start: usize, length: i32, align: usize, read: (from: Reader) => T): T[] {
  const items = new Array<T>(length);
  const from = new Reader(start);
  for (let i = 0; i < length; i++) {
    from.align(align);
    items[i] = read(from);
  }
  return items;
}

/** Writes fields in their order. */
@final
export class Writer {
  constructor(private at: usize) {}

  align(to: usize): void {
    this.at = (this.at + to - 1) & ~(to - 1);
  }

  u8(value: u8): void {
    store<u8>(this.at++, value);
  }

  u32(value: u32): void {
    this.align(4);
    store<u32>(this.at, value);
    this.at += 4;
  }

  f64(value: f64): void {
    this.align(8);
    store<f64>(this.at, value);
    this.at += 8;
  }

  text(value: string): void {
    const text = Text.of(value);
    this.span(text.start, text.bytes);
  }

  numbers(values: f64[]): void {
    this.span(values.length ? values.dataStart : sizeof<f64>(), values.length);
  }

  list<T>(items: T[], size: u32, align: usize, write: (to: Writer, item: T) => void): void {
    this.span(laidDown<T>(items, size, align, write), items.length);
  }

  private span(start: usize, length: u32): void {
    this.u32(<u32>start);
    this.u32(length);
  }
}

/** Where the items now lie as a list, each of `size` bytes. */
export function laidDown<T>(items: T[], size: u32, align: usize, write: (to: Writer, item: T) => void): usize {
  if (!items.length) return align;
  const start = heap.alloc(items.length * size);
  for (let i = 0; i < items.length; i++) write(new Writer(start + i * size), items[i]);
  return start;
}

/** A string as UTF-8. */
@final
export class Text {
  private constructor(readonly start: usize, readonly bytes: u32) {}

  static of(value: string): Text {
    const bytes = String.UTF8.byteLength(value);
    const start = heap.alloc(bytes);
    String.UTF8.encodeUnsafe(changetype<usize>(value), value.length, start);
    return new Text(start, bytes);
  }
}
