// LL-HLS: parts as segments of a track beside their playlist's. How they are numbered is in docs/protocol.md, "Names".

import type { LevelDetails, MediaFragment, Part } from "hls.js";

import type { PlaylistSegment, Session } from "../session.js";

/** A part, as a segment of the track of its playlist's parts. */
export interface PartSegment extends PlaylistSegment {
  readonly part: Part;
  readonly frag: MediaFragment;
}

/** Appended to a playlist's URL to name its parts, here alone. */
export const PARTS = "#parts";

/** A part that is not a segment's last is at least so much of the target (RFC 8216bis, 4.4.4.9). */
const LEAST = 0.85;

/**
 * A part that has to be played sooner than this after it is there, in seconds, is the player's own: its way through another
 * viewer would take what there is to spare, as measured (docs/players/hlsjs.md).
 */
const LEAST_SLACK_S = 1.3;

/** The numbers of parts whose playlist has been read. */
export const numbers = new WeakMap<Part, number>();

/**
 * Tells the session of the parts that a playlist lists, where they can be shared; the playlist's track is named `name`, and
 * `latency` is how far behind the end of it the player means to stay.
 */
export function tellParts(
  session: Pick<Session<PartSegment>, "playlist">,
  { url, live, partList, partTarget, partHoldBack, targetduration }: LevelDetails,
  name: string,
  latency: number | null,
): void {
  if (!partList || (latency ?? partHoldBack) - partTarget < LEAST_SLACK_S) return;
  // No segment has more: a target duration is rounded.
  const most = Math.ceil((targetduration + 0.5) / (LEAST * partTarget));
  // But for packagers that heed no target, or name none: two parts would have one number.
  if (!partTarget || partList.some(({ index }) => index >= most)) return;
  const parts = partList.map((part) => {
    const { fragment: frag, index, start, duration } = part;
    const sn = frag.sn * most + index;
    numbers.set(part, sn);
    return { sn, start, duration, part, frag };
  });
  // At the end of the path.
  session.playlist(url + PARTS, name.replace(/$|[?#]/, `@${most}$&`), live, parts);
}
