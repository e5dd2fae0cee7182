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
function startOf(vod, sequence) {
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
