// The client's WASM out of the file that it comes in. What that is, and why, is in www/pack.mjs.

/** Where the lengths of the streams stand in the file. */
const LENGTHS_AT = 15;

const CODE_SECTION = 10;

/** The streams, by their places in the file. */
const BEFORE = 0;
const AFTER = 1;
const INSTRUCTIONS = 2;
const DECLARED = 3;
const LOCALS = 4;
const OFFSETS = 5;
const INTEGERS = 6;
const LONG_INTEGERS = 7;
const BLOCKS = 8;
const BRANCHES = 9;
const CALLS = 10;
const REST = 11;

/** Which stream an instruction's numbers are in. */
function streamOf(code: number): number {
  if (code > 1 && code < 5) return BLOCKS;
  if (code > 11 && code < 15) return BRANCHES;
  if (code > 31 && code < 35) return LOCALS;
  if (code > 39 && code < 63) return OFFSETS;
  return code === 16 ? CALLS : code === 65 ? INTEGERS : code === 66 ? LONG_INTEGERS : REST;
}

/** How many numbers follow an instruction that says it by itself. */
function numbersOf(code: number): number {
  if (code === 17) return 2;
  return streamOf(code) !== REST ||
    (code > 34 && code < 39) ||
    code === 63 ||
    code === 64 ||
    code === 208 ||
    code === 210
    ? 1
    : 0;
}

/** An instruction that ends what it stands in; what is cut off comes to an end with it. */
const END = 11;

/** Most bytes that a length takes. */
const LENGTH_ROOM = 5;

/** The module in `file`. */
export function unpack(file: Uint8Array): Uint8Array<ArrayBuffer> {
  // No byte of it stands for more than two: an offset brings a hint of alignment along, a function its length.
  const out = new Uint8Array(file.length * 2);
  let end = 0;
  /** Where each stream is read next. */
  const at = [LENGTHS_AT];
  const copy = (stream: number, count: number) => {
    const from = at[stream] ?? 0;
    out.set(file.subarray(from, from + count), end);
    end += count;
    at[stream] = from + count;
  };
  const number = (stream: number) => {
    let from = at[stream] ?? 0;
    let value = 0;
    let next = 128;
    for (let shift = 0; next > 127; shift += 7) {
      next = out[end++] = file[from++] ?? END;
      value |= (next & 127) << shift;
    }
    at[stream] = from;
    return value;
  };
  const numbers = (stream: number, count: number) => {
    while (count-- > 0) number(stream);
  };
  /** Writes `content`, and its length before it. */
  const measured = (content: () => void) => {
    const start = end;
    end += LENGTH_ROOM;
    content();
    let length = end - start - LENGTH_ROOM;
    const from = start + LENGTH_ROOM;
    const to = end;
    end = start;
    for (; length > 127; length >>= 7) out[end++] = (length & 127) | 128;
    out[end++] = length;
    out.copyWithin(end, from, to);
    end += to - from;
  };
  const body = () => {
    numbers(DECLARED, number(DECLARED) * 2);
    let instructions = at[INSTRUCTIONS] ?? 0;
    for (let depth = 0; depth >= 0;) {
      const instruction = (out[end++] = file[instructions++] ?? END);
      const stream = streamOf(instruction);
      if (stream === BLOCKS) depth += 1;
      if (instruction === END) depth -= 1;
      if (stream === OFFSETS) out[end++] = 0;
      if (instruction === 14) numbers(BRANCHES, number(BRANCHES) + 1);
      else if (instruction === 28) numbers(REST, number(REST));
      else if (instruction === 67) copy(REST, 4);
      else if (instruction === 68) copy(REST, 8);
      else if (instruction === 252) {
        const kind = number(REST);
        numbers(REST, kind < 8 ? 0 : kind > 14 || kind % 2 === 1 ? 1 : 2);
      } else numbers(stream, numbersOf(instruction));
    }
    at[INSTRUCTIONS] = instructions;
  };

  const lengths = Array.from({ length: REST + 1 }, () => number(BEFORE));
  let from = at[BEFORE] ?? 0;
  for (const [stream, length] of lengths.entries()) {
    at[stream] = from;
    from += length;
  }
  end = 0;
  copy(BEFORE, lengths[BEFORE] ?? 0);
  out[end++] = CODE_SECTION;
  measured(() => {
    for (let functions = number(DECLARED); functions > 0; functions -= 1) measured(body);
  });
  copy(AFTER, lengths[AFTER] ?? 0);
  return out.subarray(0, end);
}
