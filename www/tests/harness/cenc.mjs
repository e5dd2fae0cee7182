// Common encryption (ISO/IEC 23001-7, scheme "cenc") of fragmented MP4 with one H.264 track, as a packager does it.

import { createCipheriv } from "node:crypto";

import { box, boxesOf, fragment, fullBox, samplesOf } from "../../origin/parts.mjs";

/** The key of the encrypted stream, and its id. */
export const CENC = { key: "00112233445566778899aabbccddeeff", kid: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };

/** Of each NAL unit so much stays readable: its length, and more than its header. */
const CLEAR = 64;
const BLOCK = 16;
const IV_BYTES = 8;

/** Boxes on the way to the sample entry, and what lies before the boxes inside of each. */
const PATH = { moov: 0, trak: 0, mdia: 0, minf: 0, stbl: 0, stsd: 8 };

/** The visual sample entry's own fields. */
const ENTRY = 78;

/** The initialisation segment of what `encryptSegment` makes. */
export function encryptInit(init) {
  const rewrite = (bytes) =>
    Buffer.concat(
      boxesOf(bytes).map(({ type, start, body, end }) => {
        if (type === "avc1") return box("encv", bytes.subarray(body, end), protection());
        const before = PATH[type];
        if (before === undefined) return bytes.subarray(start, end);
        return box(type, bytes.subarray(body, body + before), rewrite(bytes.subarray(body + before, end)));
      }),
    );
  const entry = init.indexOf("avc1", init.indexOf("stsd"));
  if (entry < 0 || init.length < entry + ENTRY) throw new Error("no H.264 track to encrypt");
  return rewrite(init);
}

function protection() {
  const tenc = Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 0, 1, IV_BYTES]), Buffer.from(CENC.kid, "hex")]);
  const scheme = Buffer.concat([Buffer.alloc(4), Buffer.from("cenc"), Buffer.from([0, 1, 0, 0])]);
  return box("sinf", box("frma", Buffer.from("avc1")), box("schm", scheme), box("schi", box("tenc", tenc)));
}

/** Encrypts the samples of a segment; `number` makes their initialisation vectors differ from other segments'. */
export function encryptSegment(bytes, number) {
  const [moof] = boxesOf(bytes).filter(({ type }) => type === "moof");
  const [traf] = boxesOf(bytes, moof.body, moof.end).filter(({ type }) => type === "traf");
  const { track, decodedAt, samples } = samplesOf(bytes, moof, traf);
  const about = [];
  const encrypted = samples.map((sample, at) => {
    const iv = Buffer.alloc(2 * IV_BYTES);
    iv.writeUInt32BE(number + 1, 0);
    iv.writeUInt32BE(at, 4);
    const cipher = createCipheriv("aes-128-ctr", Buffer.from(CENC.key, "hex"), iv);
    const data = Buffer.from(sample.data);
    const pieces = [];
    for (let unit = 0; unit < data.length;) {
      const end = unit + 4 + data.readUInt32BE(unit);
      const hidden = Math.max(0, Math.floor((end - unit - CLEAR) / BLOCK) * BLOCK);
      cipher.update(data.subarray(end - hidden, end)).copy(data, end - hidden);
      pieces.push([end - unit - hidden, hidden]);
      unit = end;
    }
    const words = Buffer.alloc(IV_BYTES + 2 + 6 * pieces.length);
    iv.copy(words, 0, 0, IV_BYTES);
    words.writeUInt16BE(pieces.length, IV_BYTES);
    pieces.forEach(([clear, hidden], place) => {
      words.writeUInt16BE(clear, IV_BYTES + 2 + 6 * place);
      words.writeUInt32BE(hidden, IV_BYTES + 4 + 6 * place);
    });
    about.push(words);
    return { ...sample, data };
  });
  const more = (place) => {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(about.length);
    const WITH_SUBSAMPLES = Buffer.from([0, 0, 0, 2]);
    const senc = box("senc", WITH_SUBSAMPLES, count, ...about);
    const sizes = Buffer.from(about.map(({ length }) => length));
    const saiz = box("saiz", Buffer.alloc(5), count, sizes);
    // Where the first sample's words are.
    return [senc, saiz, fullBox("saio", 0, 0, 1, place + 16)];
  };
  return fragment(number + 1, track, decodedAt, encrypted, { more });
}
