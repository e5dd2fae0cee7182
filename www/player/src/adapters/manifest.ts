// What playlists and manifests of any kind come to: tracks, and where the segments of each lie.

import type { TrackName } from "../headwater.js";
import type { IndexedFile } from "./sidx.js";

/** A media segment. */
export interface Segment {
  /** Its number in the track, the same for everyone. */
  sn: number;
  /** Seconds on the presentation's timeline; that of a live HLS track begins anywhere. */
  start: number;
  duration: number;
  url: string;
  /** The bytes of `url` that it is, from `first` to before `end`; all of it where there are none. */
  range?: ByteRange;
}

export interface ByteRange {
  first: number;
  end: number;
}

/** A rendition. */
export interface Track {
  /** Names the track to every viewer: the URL of its playlist, or a key. */
  name: TrackName;
  audio: boolean;
  live: boolean;
  segments: Segment[];
  /** Files whose indexes name its segments; those are not among `segments` yet. */
  files?: readonly IndexedFile[];
}

/** A URL relative to another; nothing where it is none. */
export function join(base: string, url: string): string | undefined {
  try {
    return new URL(url, base).href;
  } catch {
    return undefined;
  }
}
