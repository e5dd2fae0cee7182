// Cuts a fragmented MP4 segment of one track into parts for LL-HLS: what a low-latency packager would have written, from a
// file made without one. Pure functions of bytes.

/** The boxes of `bytes` from `start` to `end`: type, where each begins, where its body begins, where it ends. */
export function boxesOf(bytes, start = 0, end = bytes.length) {
  const boxes = [];
  for (let at = start; at + 8 <= end;) {
    const small = bytes.readUInt32BE(at);
    const head = small === 1 ? 16 : 8;
    const size = small === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : small || end - at;
    if (size < head || at + size > end) throw new Error("a box that is cut off");
    boxes.push({ type: bytes.toString("latin1", at + 4, at + 8), start: at, body: at + head, end: at + size });
    at += size;
  }
  return boxes;
}

export function box(type, ...bodies) {
  const size = 8 + bodies.reduce((sum, body) => sum + body.length, 0);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(size);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, ...bodies]);
}

export function fullBox(type, version, flags, ...words) {
  const body = Buffer.alloc(4 + 4 * words.length);
  body.writeUInt32BE(((version << 24) | flags) >>> 0);
  words.forEach((word, at) => body.writeUInt32BE(word >>> 0, 4 + 4 * at));
  return box(type, body);
}

/** Reads the words of a full box whose flags say which optional ones are there. */
function reader(bytes, { body }) {
  const flags = bytes.readUInt32BE(body) & 0xffffff;
  const version = bytes[body];
  let at = body + 4;
  const u32 = () => bytes.readUInt32BE((at += 4) - 4);
  return { version, flags, u32, u64: () => u32() * 2 ** 32 + u32(), has: (flag) => (flags & flag) !== 0 };
}

/** The samples of a `traf`, with their bytes. */
export function samplesOf(bytes, moof, traf) {
  const inside = boxesOf(bytes, traf.body, traf.end);
  const find = (type) => inside.find((one) => one.type === type);
  const tfhd = reader(bytes, find("tfhd"));
  const track = tfhd.u32();
  if (tfhd.has(0x1)) tfhd.u64();
  if (tfhd.has(0x2)) tfhd.u32();
  const usual = [0x8, 0x10, 0x20].map((flag) => (tfhd.has(flag) ? tfhd.u32() : 0));
  const tfdt = reader(bytes, find("tfdt"));
  const decodedAt = tfdt.version === 1 ? tfdt.u64() : tfdt.u32();
  const samples = [];
  let place = moof.start;
  for (const run of inside.filter((one) => one.type === "trun")) {
    const trun = reader(bytes, run);
    const count = trun.u32();
    if (trun.has(0x1)) place = moof.start + trun.u32();
    const firstFlags = trun.has(0x4) ? trun.u32() : undefined;
    for (let at = 0; at < count; at += 1) {
      const [duration, size, flags] = [0x100, 0x200, 0x400].map((flag, of) =>
        trun.has(flag) ? trun.u32() : usual[of],
      );
      const offset = trun.has(0x800) ? trun.u32() : 0;
      const first = at === 0 && firstFlags !== undefined;
      samples.push({
        duration,
        flags: first ? firstFlags : flags,
        offset,
        data: bytes.subarray(place, (place += size)),
      });
    }
  }
  return { track, decodedAt, samples };
}

/**
 * One `moof` with its `mdat`. `more` gives further boxes of the `traf`, by where in the `moof` the first of them begins;
 * `padding` is so many bytes in the `mdat` that nobody plays.
 */
export function fragment(sequence, track, decodedAt, samples, { more = () => [], padding = 0 } = {}) {
  const DATA_OFFSET = 0x1;
  const EACH = 0x100 | 0x200 | 0x400 | 0x800;
  const words = samples.flatMap(({ duration, data, flags, offset }) => [duration, data.length, flags, offset]);
  const moof = (offset) => {
    const head = fullBox("mfhd", 0, 0, sequence);
    const traf = [
      // Offsets count from this moof.
      fullBox("tfhd", 0, 0x20000, track),
      fullBox("tfdt", 1, 0, Math.floor(decodedAt / 2 ** 32), decodedAt % 2 ** 32),
      fullBox("trun", 1, DATA_OFFSET | EACH, samples.length, offset, ...words),
    ];
    const place = traf.reduce((sum, one) => sum + one.length, 8 + head.length + 8);
    return box("moof", head, box("traf", ...traf, ...more(place)));
  };
  const { length } = moof(0);
  return Buffer.concat([moof(length + 8), box("mdat", ...samples.map(({ data }) => data), Buffer.alloc(padding))]);
}

/**
 * Cuts a segment that plays for `duration` seconds into parts of at most `target` seconds; `padding` makes each heavier by
 * so many bytes.
 * @param {Buffer} bytes
 * @returns {{ duration: number, bytes: Buffer, independent: boolean }[]}
 */
export function partsOf(bytes, duration, target, padding = 0) {
  const moofs = boxesOf(bytes).filter(({ type }) => type === "moof");
  const runs = moofs.map((moof) => {
    const trafs = boxesOf(bytes, moof.body, moof.end).filter(({ type }) => type === "traf");
    if (trafs.length !== 1)
      throw new Error("a segment with several tracks: parts need picture and sound in files apart");
    return samplesOf(bytes, moof, trafs[0]);
  });
  const [first] = runs;
  if (!first) throw new Error("not a segment of fragmented MP4: parts are made of those alone");
  const samples = runs.flatMap((run) => run.samples);
  const ticks = samples.reduce((sum, sample) => sum + sample.duration, 0);
  const most = (target * ticks) / duration;
  const cuts = [];
  let length = Infinity;
  for (const sample of samples) {
    // A hair of rounding is no part of its own.
    if (length + sample.duration > most * 1.0001) {
      cuts.push([]);
      length = 0;
    }
    cuts.at(-1).push(sample);
    length += sample.duration;
  }
  let { decodedAt } = first;
  return cuts.map((cut, at) => {
    const own = cut.reduce((sum, sample) => sum + sample.duration, 0);
    const part = fragment(at + 1, first.track, decodedAt, cut, { padding });
    decodedAt += own;
    // Flag 0x10000: not a sync sample.
    return { duration: (own * duration) / ticks, bytes: part, independent: (cut[0].flags & 0x10000) === 0 };
  });
}
