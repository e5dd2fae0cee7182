// The segment index of a file (ISO/IEC 14496-12, `sidx`): where its segments are.

import type { ByteRange, Segment } from "./manifest.js";

/** Most of a file that is loaded as its index: that of a day of one-second segments. */
export const MAX_INDEX_BYTES = 2 * 1024 * 1024;

/** A file with an index, as a manifest has it. */
export interface IndexedFile {
  url: string;
  /** Where the index is. */
  index: ByteRange;
  /** What is added to the file's own times. */
  offset: number;
}

const SIDX = 0x73696478;

/** Reads the index in `bytes`; `undefined` where there is none, or one of indexes. */
export function readIndex(bytes: ArrayBuffer, file: IndexedFile): Omit<Segment, "sn">[] | undefined {
  try {
    const view = new DataView(bytes);
    let box = 0;
    while (view.getUint32(box + 4) !== SIDX) {
      const length = view.getUint32(box);
      if (length < 8) return undefined;
      box += length;
    }
    let place = box + 8;
    const u32 = () => view.getUint32((place += 4) - 4);
    const u64 = () => u32() * 2 ** 32 + u32();
    const isLong = u32() >>> 24 > 0;
    u32(); // What it refers to.
    const scale = u32();
    let ticks = isLong ? u64() : u32();
    let first = file.index.first + box + view.getUint32(box) + (isLong ? u64() : u32());
    const count = u32() & 0xffff;
    const segments: Omit<Segment, "sn">[] = [];
    for (let at = 0; at < count; at += 1) {
      const [length, duration] = [u32(), u32()];
      u32(); // Access points.
      // The highest bit says that it is another index.
      if (length >>> 31) return undefined;
      const range = { first, end: first + length };
      segments.push({ url: file.url, start: file.offset + ticks / scale, duration: duration / scale, range });
      ticks += duration;
      first += length;
    }
    return segments;
  } catch {
    // It is cut off.
    return undefined;
  }
}
