// One stream, for adapters of players that are seen only through their requests: playlists and manifests are read as they
// pass, so that a segment's URL says which one it is. What is not known here is the player's own.

import { type HeadwaterOptions, type HeadwaterStats, Session, type Timing } from "../headwater.js";
import type { ByteRange, Segment, Track } from "./manifest.js";
import { readManifest, type Units } from "./mpd.js";
import { readPlaylist } from "./playlist.js";
import { type IndexedFile, MAX_INDEX_BYTES, readIndex } from "./sidx.js";

/** A live manifest whose segments follow from the time is read again for a URL that is new, this often at most. */
const REREAD_EVERY_MS = 500;

/** A live HLS track's place on the player's timeline is corrected where it is off by more than this, in seconds. */
const OFF_S = 0.5;

/** How a player's own requests go: credentials and headers. */
export type RequestHabits = Pick<RequestInit, "credentials" | "headers">;

/** A segment that a player asks for. */
export interface Asked {
  /** The segment; `undefined` where the player must load it by itself. Never rejects. */
  readonly answer: Promise<{ bytes: ArrayBuffer; timing: Timing } | undefined>;
  /** The player does not want it any more. */
  readonly cancel: () => void;
}

/** What may be told while a segment is awaited. */
export interface Progress {
  /** It is waited for on purpose: this is not load time. */
  waiting?(): void;
  /** So much has come. */
  progress?(bytes: number): void;
}

interface Known extends Track {
  /** Names the track to the session. */
  id: string;
  segments: Segment[];
}

interface Found {
  track: Known;
  segment: Segment;
}

export class Stream {
  readonly #session: Session<Segment>;
  readonly #tracks = new Map<string, Known>();
  /** Media playlists that a master playlist names; `undefined` before there is one. */
  #listed: Map<string, boolean> | undefined;
  readonly #units: Units = new Map();
  #manifest: { text: string; url: string; live: boolean; readAt: number } | undefined;
  /** Tracks whose files' indexes are not read yet, by the files' URLs; what reads them, once something was asked of one. */
  readonly #unread = new Map<string, { track: Known; files: readonly IndexedFile[]; reading?: Promise<void> }>();
  readonly #closing = new AbortController();
  #opened = false;
  #habits: RequestHabits = {};
  #media: HTMLMediaElement | undefined;

  constructor(options: HeadwaterOptions) {
    this.#session = new Session<Segment>(options, {
      request: ({ url, range }) => ({ url, init: this.#habits, ...(range && { start: range.first, end: range.end }) }),
    });
  }

  /** The player's media element. */
  attach(media: HTMLMediaElement | null | undefined): void {
    if (!media || media === this.#media) return;
    this.#media = media;
    this.#session.attach(media);
  }

  /** How the player's requests go from now on. */
  set habits(habits: RequestHabits) {
    const headers = new Headers(habits.headers);
    // Which bytes is the engine's choice.
    headers.delete("range");
    this.#habits = { ...habits, headers };
  }

  stats(): HeadwaterStats {
    return this.#session.stats();
  }

  /** Leaves the swarm for good. */
  close(): void {
    this.#closing.abort();
    this.#session.close();
  }

  /** A playlist or a manifest passed: asked for as `url`, answered from `from`. */
  manifest(url: string, text: string, from = url): void {
    try {
      if (text.includes("<MPD")) this.#dash(url, text, from);
      else this.#hls(url, text, from);
    } catch (error) {
      console.warn("headwater: a playlist cannot be read; its segments come over HTTP", error);
    }
  }

  /**
   * Asks for the segment at `url`, where it is one; `start` is where the player shows it, where it says so. `undefined`
   * where the player must load it by itself; it should then hand it to `loaded`.
   */
  ask(url: string, range: ByteRange | undefined, start?: number, told: Progress = {}): Asked | undefined {
    const found = this.#find(url, range);
    if (!found) return undefined;
    this.#align(found, start);
    let answer: (value: { bytes: ArrayBuffer; timing: Timing } | undefined) => void = () => undefined;
    const answered = new Promise<{ bytes: ArrayBuffer; timing: Timing } | undefined>((resolve) => (answer = resolve));
    const { track, segment } = found;
    const cancel = this.#session.want({
      playlist: track.id,
      sn: segment.sn,
      start: segment.start,
      audio: track.audio,
      deliver: (bytes, timing) => {
        answer({ bytes, timing });
      },
      alone: () => {
        answer(undefined);
      },
      waiting: () => told.waiting?.(),
      progress: (bytes) => told.progress?.(bytes),
    });
    return cancel && { answer: answered, cancel };
  }

  /** Whether `loaded` has a use for what is at `url`. */
  knows(url: string, range: ByteRange | undefined): boolean {
    return this.#find(url, range) !== undefined || this.#unread.has(withoutHash(url));
  }

  /** The player loaded what is at `url` by itself: its bytes are counted and shared, where they are a segment. */
  loaded(url: string, range: ByteRange | undefined, bytes: ArrayBuffer, timing: Timing): void {
    const found = this.#find(url, range);
    if (found) {
      this.#session.loaded(found.track.id, found.segment.sn, bytes, timing);
      return;
    }
    // A segment of a file whose index is on its way; the player may do with the bytes what it likes.
    const reading = this.#unread.get(withoutHash(url))?.reading;
    const copy = reading && bytes.slice(0);
    void reading?.then(() => {
      const late = this.#find(url, range);
      if (late && copy) this.#session.loaded(late.track.id, late.segment.sn, copy, timing);
    });
  }

  #open(url: string): void {
    if (this.#opened) return;
    this.#opened = true;
    this.#session.open(url);
  }

  #hls(url: string, text: string, from: string): void {
    const playlist = readPlaylist(text, from);
    if (!playlist) return;
    this.#open(url);
    if (playlist.kind === "master") {
      this.#listed = new Map(playlist.tracks.map((track) => [track.url, track.audio]));
      return;
    }
    // Subtitles, and pictures for a seek bar, are the player's own.
    if (this.#listed && !this.#listed.has(url)) return;
    const before = this.#tracks.get(url);
    const { live, segments } = playlist;
    if (before) follow(before.segments, segments);
    this.#tell({ id: url, name: url, audio: this.#listed?.get(url) ?? false, live, segments });
  }

  #dash(url: string, text: string, from: string): void {
    const manifest = readManifest(text, from, this.#units);
    if (!manifest) return;
    this.#open(url);
    this.#manifest = { text, url: from, live: manifest.live, readAt: Date.now() };
    for (const { files, ...track } of manifest.tracks) {
      const known = { ...track, id: typeof track.name === "string" ? track.name : track.name.key };
      if (!files) this.#tell(known);
      else if (!this.#tracks.has(known.id)) {
        const unread = { track: known, files };
        for (const file of files) this.#unread.set(withoutHash(file.url), unread);
      }
    }
  }

  /** Reads the indexes of a track's files, which says what its segments are. */
  async #read(track: Known, files: readonly IndexedFile[]): Promise<void> {
    const { signal } = this.#closing;
    try {
      const indexes = await Promise.all(files.map((file) => loadIndex(file, { ...this.#habits, signal })));
      const segments = indexes.flat().map((segment, sn) => ({ ...segment, sn }));
      this.#tell({ ...track, segments });
    } catch (error) {
      if (!signal.aborted) {
        console.warn("headwater: the index of a file cannot be read; its segments come over HTTP", error);
      }
    } finally {
      for (const { url } of files) this.#unread.delete(withoutHash(url));
    }
  }

  #tell(track: Known): void {
    this.#tracks.set(track.id, track);
    if (track.segments.length > 0) this.#session.playlist(track.id, track.name, track.live, track.segments);
  }

  #find(url: string, range: ByteRange | undefined): Found | undefined {
    const plain = withoutHash(url);
    const found = this.#look(plain, range);
    if (found) return found;
    const unread = this.#unread.get(plain);
    if (unread) unread.reading ??= this.#read(unread.track, unread.files);
    const manifest = this.#manifest;
    if (!manifest?.live || Date.now() - manifest.readAt < REREAD_EVERY_MS) return undefined;
    // Time has passed: the same text may mean more segments.
    this.#dash(manifest.url, manifest.text, manifest.url);
    return this.#look(plain, range);
  }

  #look(url: string, range: ByteRange | undefined): Found | undefined {
    for (const track of this.#tracks.values()) {
      const segment = track.segments.find(
        (one) => one.url === url && one.range?.first === range?.first && one.range?.end === range?.end,
      );
      if (segment) return { track, segment };
    }
    return undefined;
  }

  /** A live HLS track's times begin anywhere; where the player asks for a segment tells where it is shown. */
  #align({ track, segment }: Found, start: number | undefined): void {
    if (!track.live || typeof track.name !== "string") return;
    const shown = start ?? (this.#media ? endOf(this.#media) : undefined);
    if (shown === undefined) return;
    const off = shown - segment.start;
    if (Math.abs(off) < OFF_S) return;
    for (const one of track.segments) one.start += off;
    this.#tell(track);
  }
}

/** Loads the index of a file: what players ask for as well, but each in a way of its own. */
async function loadIndex(file: IndexedFile, habits: RequestInit): Promise<Omit<Segment, "sn">[]> {
  const { url, index } = file;
  if (index.end - index.first > MAX_INDEX_BYTES) throw new Error(`an index of ${index.end - index.first} bytes`);
  const headers = new Headers(habits.headers);
  headers.set("range", `bytes=${index.first}-${index.end - 1}`);
  const response = await fetch(url, { ...habits, headers });
  const isPart = response.status === 206;
  // The whole film, where the origin knows no ranges.
  if (!isPart) await response.body?.cancel();
  const segments = isPart ? readIndex(await response.arrayBuffer(), file) : undefined;
  if (!segments) throw new Error(`no index at ${url} where its manifest says (status ${response.status})`);
  return segments;
}

/** Gives a refreshed list the times of the one before. */
function follow(before: readonly Segment[], after: readonly Segment[]): void {
  const known = new Map(before.map((segment) => [segment.sn, segment.start]));
  const anchor = after.find(({ sn }) => known.has(sn));
  const last = before.at(-1);
  const old = anchor ? known.get(anchor.sn) : last && last.start + last.duration;
  const off = (old ?? 0) - (anchor?.start ?? after[0]?.start ?? 0);
  for (const segment of after) segment.start += off;
}

/** The end of what is buffered at the playhead: where a player that plays on loads next. */
function endOf({ buffered, currentTime }: HTMLMediaElement): number | undefined {
  for (let at = 0; at < buffered.length; at += 1) {
    if (buffered.start(at) <= currentTime + OFF_S && buffered.end(at) >= currentTime) return buffered.end(at);
  }
  return undefined;
}

/** The URL without its fragment and without what CMCD adds to a query. */
function withoutHash(url: string): string {
  if (!url.includes("#") && !url.includes("CMCD=")) return url;
  const plain = new URL(url);
  plain.hash = "";
  plain.searchParams.delete("CMCD");
  return plain.href;
}

/** The one range of a `Range` header. */
export function rangeOf(header: string | null | undefined): ByteRange | undefined {
  const found = /^bytes=(\d+)-(\d+)$/.exec(header ?? "");
  return found ? { first: Number(found[1]), end: Number(found[2]) + 1 } : undefined;
}
