// The client's WASM as it is sent: a tenth smaller once it is compressed, because what is alike stands together.
//
// A function's code mixes instructions with numbers of local variables, places in memory, constants and so on; a compressor
// that knows nothing of WASM guesses each from the bytes before it, which are of other kinds. Here each kind is a stream of its
// own. The player puts them together again (`player/src/client/unpack.ts`), which takes some milliseconds.
//
// The file is a WASM module that holds one custom section: the length of each stream, then the streams, in the order of
// `STREAMS`. Hints of alignment are left out; they mean nothing to what is computed, and browsers do not look at them.

/** What the streams hold. `before` and `after` are the module's bytes around the section of code, whose bytes are the rest. */
export const STREAMS = [
  "before",
  "after",
  "instructions",
  "declared",
  "locals",
  "offsets",
  "integers",
  "long integers",
  "blocks",
  "branches",
  "calls",
  "rest",
];

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const NAME = "h";

const CODE_SECTION = 10;
const END = 0x0b;

function leb(value, least = 1) {
  const bytes = [];
  for (let rest = value; rest > 0 || bytes.length < least; rest = Math.floor(rest / 128))
    bytes.push((rest % 128) | 128);
  bytes[bytes.length - 1] &= 127;
  return bytes;
}

/** A custom section's head, of a length that does not depend on the section's. */
const headOf = (length) => [...MAGIC, 0, ...leb(length + 1 + NAME.length, 4), NAME.length, ...Buffer.from(NAME)];

/** Reads a module from its beginning on. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count) {
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** A number as it is written, and what it is. */
  number() {
    const from = this.at;
    while (this.bytes[this.at] > 127) this.at += 1;
    this.at += 1;
    const written = this.bytes.subarray(from, this.at);
    return { written, value: written.reduceRight((sum, byte) => sum * 128 + (byte & 127), 0) };
  }
}

/** How many numbers follow an instruction of the group 0xfc: conversions, then memory and tables. */
const numbersOf = (kind) => (kind < 8 ? 0 : kind > 14 || kind % 2 === 1 ? 1 : 2);

/** Instructions with one number, by the stream that it is in. */
const ONE = new Map(
  Object.entries({
    blocks: [0x02, 0x03, 0x04],
    branches: [0x0c, 0x0d],
    calls: [0x10],
    locals: [0x20, 0x21, 0x22],
    integers: [0x41],
    "long integers": [0x42],
    rest: [0x23, 0x24, 0x25, 0x26, 0x3f, 0x40, 0xd0, 0xd2],
  }).flatMap(([stream, codes]) => codes.map((code) => [code, stream])),
);

/** Instructions that stand alone. */
const isBare = (code) =>
  [0x00, 0x01, 0x05, END, 0x0f, 0x1a, 0x1b, 0xd1].includes(code) || (code >= 0x45 && code <= 0xc4);

/** Puts what follows an instruction where it belongs. */
function putNumbers(code, reader, put) {
  if (isBare(code)) return;
  const copy = (stream) => {
    const { written, value } = reader.number();
    put(stream, written);
    return value;
  };
  const copies = (stream, count) => {
    for (let at = 0; at < count; at += 1) copy(stream);
  };
  if (ONE.has(code)) copy(ONE.get(code));
  else if (code >= 0x28 && code <= 0x3e) {
    reader.number();
    copy("offsets");
  } else if (code === 0x0e) copies("branches", copy("branches") + 1);
  else if (code === 0x11) copies("rest", 2);
  else if (code === 0x1c) copies("rest", copy("rest"));
  else if (code === 0x43) put("rest", reader.take(4));
  else if (code === 0x44) put("rest", reader.take(8));
  else if (code === 0xfc) copies("rest", numbersOf(copy("rest")));
  else throw new Error(`the client has an instruction 0x${code.toString(16)} that www/pack.mjs does not know`);
}

function packFunction(reader, put) {
  const { value: length } = reader.number();
  const end = reader.at + length;
  const { written, value: groups } = reader.number();
  put("declared", written);
  // Pairs of how many and of which type.
  for (let at = 0; at < groups * 2; at += 1) put("declared", reader.number().written);
  while (reader.at < end) {
    const [code] = reader.take(1);
    put("instructions", [code]);
    putNumbers(code, reader, put);
  }
  if (reader.at !== end) throw new Error("www/pack.mjs has lost its place in a function of the client");
}

/** The file for a module. */
export function pack(wasm) {
  const streams = new Map(STREAMS.map((name) => [name, []]));
  const put = (stream, bytes) => {
    for (const byte of bytes) streams.get(stream).push(byte);
  };
  const reader = new Reader(wasm);
  put("before", reader.take(MAGIC.length));
  let around = "before";
  while (reader.at < wasm.length) {
    const from = reader.at;
    const [id] = reader.take(1);
    const { value: length } = reader.number();
    if (id !== CODE_SECTION) {
      reader.take(length);
      put(around, wasm.subarray(from, reader.at));
      continue;
    }
    around = "after";
    const { written, value: functions } = reader.number();
    put("declared", written);
    for (let at = 0; at < functions; at += 1) packFunction(reader, put);
  }
  const lengths = [...streams.values()].flatMap((stream) => leb(stream.length));
  const content = Buffer.from([...lengths, ...[...streams.values()].flat()]);
  return Buffer.concat([Buffer.from(headOf(content.length)), content]);
}
