// Turns a VOD media playlist into an endless live one: a window that slides in wall time over the same files, looped.
// Pure functions of (playlist text, time): no files, no sockets, no clock.

/**
 * A parsed VOD media playlist.
 * @typedef {{ header: string[], segments: { tags: string[], duration: number, uri: string }[], seconds: number }} Vod
 */

/** Tags that a live playlist writes itself, or must not have. */
const OWN_TAGS =
  /^#EXT(M3U|-X-(MEDIA-SEQUENCE|DISCONTINUITY-SEQUENCE|PLAYLIST-TYPE|ENDLIST|PROGRAM-DATE-TIME|DISCONTINUITY)\b)/;

/**
 * Reads a media playlist. Returns undefined for a multivariant playlist and for one without segments.
 * @param {string} text
 * @returns {Vod | undefined}
 */
export function parseVod(text) {
  /** @type {Vod} */
  const vod = { header: [], segments: [], seconds: 0 };
  let tags = [];
  let duration;
  for (const line of text.split(/\r?\n/).map((raw) => raw.trim())) {
    if (line === "" || OWN_TAGS.test(line)) continue;
    if (line.startsWith("#EXTINF:")) {
      duration = Number.parseFloat(line.slice("#EXTINF:".length));
    } else if (line.startsWith("#")) {
      (vod.segments.length === 0 && duration === undefined ? vod.header : tags).push(line);
    } else if (duration !== undefined) {
      vod.segments.push({ tags, duration, uri: line });
      vod.seconds += duration;
      tags = [];
      duration = undefined;
    }
  }
  return vod.segments.length > 0 ? vod : undefined;
}

/** The VOD segment behind a live sequence number. */
export function segmentOf(vod, sequence) {
  return vod.segments[sequence % vod.segments.length];
}

/** Seconds after the start of the stream at which a sequence number begins. */
export function startOf(vod, sequence) {
  const loops = Math.floor(sequence / vod.segments.length);
  const within = vod.segments.slice(0, sequence % vod.segments.length);
  return within.reduce((sum, segment) => sum + segment.duration, loops * vod.seconds);
}

/**
 * The newest sequence number that is complete after `elapsed` seconds, or -1.
 * @param {Vod} vod
 * @param {number} elapsed
 */
export function newestSequence(vod, elapsed) {
  if (elapsed <= 0) return -1;
  const loops = Math.floor(elapsed / vod.seconds);
  let sequence = loops * vod.segments.length - 1;
  let end = loops * vod.seconds;
  for (const segment of vod.segments) {
    end += segment.duration;
    if (end > elapsed + 1e-6) break;
    sequence += 1;
  }
  return sequence;
}

/**
 * The live playlist after `elapsed` seconds.
 * @param {Vod} vod
 * @param {{ elapsed: number, window: number, startAt: number, nameOf: (sequence: number, uri: string) => string }} at
 *   `window` in segments, `startAt` in ms since the epoch, `nameOf` gives each sequence number its own URL
 */
export function livePlaylist(vod, { elapsed, window, startAt, nameOf }) {
  const newest = newestSequence(vod, elapsed);
  const oldest = Math.max(0, newest - window + 1);
  const loop = vod.segments.length;
  const wraps = (sequence) => sequence > 0 && sequence % loop === 0;
  const left = Math.floor(oldest / loop) - (wraps(oldest) ? 1 : 0);
  const lines = [
    "#EXTM3U",
    ...vod.header,
    `#EXT-X-MEDIA-SEQUENCE:${oldest}`,
    // Always written, also where it is 0: players that reload must see it grow from a known value.
    `#EXT-X-DISCONTINUITY-SEQUENCE:${left}`,
  ];
  for (let sequence = oldest; sequence <= newest; sequence += 1) {
    const segment = segmentOf(vod, sequence);
    // The files' timestamps start over with each loop.
    if (wraps(sequence)) lines.push("#EXT-X-DISCONTINUITY");
    if (wraps(sequence) || sequence === oldest) {
      lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(startAt + startOf(vod, sequence) * 1000).toISOString()}`);
    }
    lines.push(...segment.tags, `#EXTINF:${segment.duration.toFixed(6)},`, nameOf(sequence, segment.uri));
  }
  return lines.join("\n") + "\n";
}

/** Target durations before the end of a low-latency playlist for which parts are listed (RFC 8216bis, 6.2.2). */
const LISTED_IN_PARTS = 3;

/** The longest segment of a playlist, rounded as its target duration is. */
function targetOf(vod) {
  return Math.max(...vod.segments.map(({ duration }) => Math.round(duration)));
}

/** When a part is complete, in seconds after the start of the stream. `parts` are those of the VOD's segments. */
export function partEnd(vod, parts, sequence, index) {
  const own = parts[sequence % vod.segments.length].slice(0, index + 1);
  return own.reduce((sum, part) => sum + part.duration, startOf(vod, sequence));
}

/** The newest part that is complete after `elapsed` seconds, as [sequence, index]; the index is -1 before the first. */
export function newestPart(vod, parts, elapsed) {
  const sequence = newestSequence(vod, elapsed) + 1;
  const count = parts[sequence % vod.segments.length].length;
  let index = -1;
  while (index + 1 < count && partEnd(vod, parts, sequence, index + 1) <= elapsed + 1e-6) index += 1;
  // The last part of a segment ends with it, but for a rounding.
  return [sequence, Math.min(index, count - 2)];
}

/**
 * The low-latency live playlist after `elapsed` seconds: what `livePlaylist` says, and the parts of what is newest.
 * @param {Vod} vod
 * @param {object} at as for `livePlaylist`, with `parts`: for each of the VOD's segments its parts' `duration` and
 *   `independent`; `target`: what no part is longer than; `holdBack`: how far behind the end players stay;
 *   `partNameOf`: gives each part its own URL
 */
export function lowLatencyPlaylist(vod, { parts, target, holdBack, partNameOf, ...at }) {
  const { elapsed, nameOf } = at;
  const [current, newest] = newestPart(vod, parts, elapsed);
  const oldestInParts = current - Math.ceil((LISTED_IN_PARTS * targetOf(vod)) / (vod.seconds / vod.segments.length));
  const loop = vod.segments.length;
  const linesOf = (sequence, count) =>
    parts[sequence % loop].slice(0, count).map(({ duration, independent }, index) => {
      const flag = independent ? ",INDEPENDENT=YES" : "";
      return `#EXT-X-PART:DURATION=${duration.toFixed(6)},URI="${partNameOf(sequence, index)}"${flag}`;
    });
  const names = new Map();
  for (let sequence = Math.max(0, oldestInParts); sequence < current; sequence += 1) {
    names.set(nameOf(sequence, segmentOf(vod, sequence).uri), linesOf(sequence, Infinity));
  }
  const lines = livePlaylist(vod, at).trimEnd().split("\n");
  // Parts come before the tags of the segment that they make up, from its #EXTINF on.
  const whole = lines.flatMap((line, place) => {
    const listed = line.startsWith("#EXTINF:") ? names.get(lines[place + 1]) : undefined;
    return listed ? [...listed, line] : [line];
  });
  const head = whole.findIndex((line) => line.startsWith("#EXT-X-MEDIA-SEQUENCE"));
  whole.splice(
    head,
    0,
    `#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=${holdBack.toFixed(3)}`,
    `#EXT-X-PART-INF:PART-TARGET=${target.toFixed(3)}`,
  );
  if (current > 0 && current % loop === 0) whole.push("#EXT-X-DISCONTINUITY");
  whole.push(...linesOf(current, newest + 1));
  whole.push(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${partNameOf(current, newest + 1)}"`);
  return whole.join("\n") + "\n";
}
