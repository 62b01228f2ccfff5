// Reads a flat JSON object of numbers and of arrays of numbers, nested as they may be.

import { fail } from "./wasi";

/** The numbers of one member, in their order, and how many of its arrays held numbers themselves. */
export class Numbers {
  values: Array<f32> = [];
  rows: i32 = 0;
}

class Reader {
  at: i32 = 0;

  constructor(private what: string, private bytes: Uint8Array) {}

  /** The next byte that is not white space; 0 at the end. */
  peek(): u8 {
    while (this.at < this.bytes.length && this.bytes[this.at] <= 0x20) this.at++;
    return this.at < this.bytes.length ? this.bytes[this.at] : 0;
  }

  take(wanted: string): void {
    if (this.peek() != <u8>wanted.charCodeAt(0)) {
      fail(this.what + ": " + wanted + " is missing at byte " + this.at.toString());
    }
    this.at++;
  }

  name(): string {
    this.take('"');
    const first = this.at;
    while (this.at < this.bytes.length && this.bytes[this.at] != 0x22) this.at++;
    const name = String.UTF8.decodeUnsafe(this.bytes.dataStart + first, this.at - first);
    this.take('"');
    return name;
  }

  number(): f32 {
    this.peek();
    const first = this.at;
    while (this.at < this.bytes.length) {
      const byte = this.bytes[this.at]; // + - . 0…9 E e
      const known = byte == 0x2b || byte == 0x2d || byte == 0x2e || (byte | 0x20) == 0x65;
      if (!known && !(byte >= 0x30 && byte <= 0x39)) break;
      this.at++;
    }
    const text = String.UTF8.decodeUnsafe(this.bytes.dataStart + first, this.at - first);
    const value = <f32>parseFloat(text);
    if (!isFinite(value)) fail(this.what + ": no finite number at byte " + first.toString());
    return value;
  }

  into(numbers: Numbers): void {
    if (this.peek() != 0x5b) {
      numbers.values.push(this.number());
      return;
    }
    this.take("[");
    if (this.peek() != 0x5b) numbers.rows++;
    while (this.peek() != 0x5d) {
      this.into(numbers);
      if (this.peek() != 0x5d) this.take(",");
    }
    this.take("]");
  }
}

/** The members of the object in `bytes`; `what` is what an error calls it. */
export function parse(what: string, bytes: Uint8Array): Map<string, Numbers> {
  const members = new Map<string, Numbers>();
  const reader = new Reader(what, bytes);
  reader.take("{");
  while (reader.peek() != 0x7d) {
    const name = reader.name();
    reader.take(":");
    const numbers = new Numbers();
    reader.into(numbers);
    members.set(name, numbers);
    if (reader.peek() != 0x7d) reader.take(",");
  }
  return members;
}

/** The member of that name, or the end of the run. */
export function member(what: string, members: Map<string, Numbers>, name: string): Numbers {
  if (!members.has(name)) fail(what + ': "' + name + '" is missing');
  return members.get(name);
}
