// One stream in one player, whichever player that is: the client's life, playlists, playhead, early segments, counters.
// Adapters (hls/) translate a player's own notions into this.

import {
  Client,
  type ClientEvent,
  type ClientOwner,
  type ClientStats,
  NOTHING,
  type Timing,
  type TrackName,
} from "./client/client.js";
import { AGAIN } from "./client/device.js";
import type { SegmentRequest } from "./client/http.js";
import { bufferedTo, onceShown, StallWatch } from "./media.js";
import { type HeadwaterOptions, peersArePossible, type Settings, settingsOf } from "./options.js";

/** How often the engine hears where the playhead is. */
const PLAYHEAD_EVERY_MS = 250;

/**
 * What the client, once it is there, can have from peers waits for it while there is enough to play: until the playhead is
 * so many times what the player's own loads have taken, and this many seconds, from it.
 */
const LOADS_KEPT_FREE = 2;
const KEPT_FREE_S = 1;

/** Bytes of what the player loaded before the client was there that are kept to be shared. */
const MAX_EARLY_BYTES = 16 * 1024 * 1024;

/** A segment whose start has moved by more than this on the timeline is handed over again, in seconds. */
const MOVED_S = 0.05;

/** A page that was not looked after for this long has slept: its neighbours have given it up. Hidden ones are, every minute. */
const ASLEEP_MS = 90_000;

/** A demand to which no byte came for this long, with nothing left to play, is the player's own again. */
const PATIENCE_MS = 8_000;

/** What a playlist says of a segment. */
export interface PlaylistSegment {
  readonly sn: number;
  readonly start: number;
  readonly duration: number;
}

/** What an adapter knows and the session does not. */
export interface Player<S extends PlaylistSegment> {
  /** How the player would ask for a segment. */
  request(segment: S): SegmentRequest;
}

/** A segment that the player wants. */
export interface Wanted {
  /** The URL by which the adapter named the playlist to `Session.playlist`. */
  playlist: string;
  sn: number;
  start: number;
  audio: boolean;
  /** The whole segment, a copy of its own. */
  deliver(bytes: ArrayBuffer, timing: Timing): void;
  /** The player must load it by itself. */
  alone(): void;
  /** It is still to be waited for, on purpose: this is not load time. */
  waiting(): void;
  /** So much has come. */
  progress(bytes: number): void;
}

/** What a page may count: bytes of segments by source, neighbours, and how playback went. */
export interface HeadwaterStats {
  /** Segment bytes from the origin, those that the player loaded by itself included. */
  httpBytes: number;
  /** Segment bytes from the publisher's seeds. */
  seedBytes: number;
  /** Segment bytes from other viewers. */
  viewerBytes: number;
  /** Segment bytes sent to other viewers. */
  uploadedBytes: number;
  /** Segment bytes that came from peers and were of no use. */
  wastedBytes: number;
  /** Segment bytes kept now, to be given to others. */
  heldBytes: number;
  /** Peers connected now. */
  neighbours: number;
  /** Times that playback stopped for want of data. */
  stalls: number;
  /** How long it stopped, in all. */
  stallMs: number;
  /** How long the first frame took; 0 before it is shown. */
  startupMs: number;
}

/** Something that happened between this viewer and its peers. */
export interface PeerEventDetail {
  kind: ClientEvent;
  /** The peer, where it is about one. */
  peer: string;
}

interface Track<S extends PlaylistSegment> {
  name: TrackName;
  live: boolean;
  segments: readonly S[];
  /** The swarm's numbers of segments, by the player's, where the page says them. */
  numbers: Map<number, number> | undefined;
  id: bigint | undefined;
  /** The last segment handed over, and where it was said to begin. */
  told: PlaylistSegment | undefined;
}

interface Early {
  playlist: string;
  sn: number;
  bytes: ArrayBuffer;
  timing: Timing;
}

interface Pending {
  wanted: Wanted;
  /** What has come, and when the last of it did. */
  bytes: number;
  moved: number;
  track: bigint | undefined;
  cancel: (() => void) | undefined;
}

/** Where the segment numbered `sn` is among ascending ones, -1 where it is not. Most numbers follow on each other. */
function placeOf(segments: readonly PlaylistSegment[], sn: number): number {
  const guess = sn - (segments[0]?.sn ?? 0);
  return segments[guess]?.sn === sn ? guess : segments.findIndex((segment) => segment.sn === sn);
}

/** Whether `start` is so many seconds ahead of a playhead that has something to play: not at start-up, nor after a seek. */
function isAhead(media: HTMLMediaElement, start: number, seconds: number): boolean {
  const position = media.currentTime;
  return bufferedTo(media.buffered, position) > position && start - position >= seconds;
}

/** What is counted over all of a session's clients; the rest is as it is now. */
const SUMS = ["httpBytes", "seedBytes", "viewerBytes", "uploadedBytes", "wastedBytes"] as const;

/** Before: playback has not begun, or has been interrupted. Over: there is no client, and none will come. */
type Phase = "before" | "starting" | "running" | "over";

export class Session<S extends PlaylistSegment = PlaylistSegment> {
  readonly #options: HeadwaterOptions;
  readonly #player: Player<S>;
  readonly #tracks = new Map<string, Track<S>>();
  readonly #pending = new Set<Pending>();
  #settings: Settings | undefined;
  #phase: Phase = "before";
  /** Of the client that is there or begun: aborted to end it. */
  #life: AbortController | undefined;
  /** The viewer has not agreed yet. */
  #asking: boolean;
  /** Whether the viewer has been asked. */
  #asked = false;
  #client: Client | undefined;
  /** What clients counted that are no more. */
  #past: ClientStats = NOTHING;
  /** When it was last looked after, by the clock on the wall: the others stand still while a device sleeps. */
  #lookedAt = 0;
  #early: Early[] = [];
  #earlyBytes = 0;
  /** How long the slowest of the player's own loads took, in seconds; before the first, nothing can wait. */
  #slowest = Infinity;
  #httpBytes = 0;
  #watch: StallWatch | undefined;
  #listening: AbortController | undefined;
  #ticking: ReturnType<typeof setInterval> | undefined;
  /** Told of what happens between this viewer and its peers. */
  onpeer: ((detail: PeerEventDetail) => void) | undefined;
  /** When loading began, on the clock of `performance.now()`, where that was before the player was there. */
  begun: number | undefined;

  constructor(options: HeadwaterOptions, player: Player<S>) {
    this.#options = options;
    this.#player = player;
    this.#asking = options.consent !== undefined;
  }

  /** The player opens a stream. Without a usable source or without peers the session only counts. */
  open(source: string): void {
    this.#settings = settingsOf(this.#options, this.#options.src ?? source, document.baseURI);
    if (!this.#settings || !peersArePossible(this.#settings)) this.#give();
  }

  /** The player has a media element. */
  attach(media: HTMLMediaElement): void {
    this.detach();
    this.#watch = new StallWatch(media, this.begun);
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const tell = () => {
      this.#tick();
    };
    for (const type of ["play", "pause", "seeking", "seeked", "waiting", "ratechange", "ended"]) {
      media.addEventListener(type, tell, { signal });
    }
    const begin = () => {
      // The first frame is there; the client takes what time is left over.
      if (this.#phase === "before" && this.#settings && !this.#asked) onceShown(media, () => void this.#agree());
    };
    media.addEventListener("playing", begin, { signal });
    const ready = () => {
      // What plays by itself as soon as it may is loaded from now on, whether that is soon or not.
      if (media.autoplay) begin();
      // With `autoplay`, Firefox waits for ten seconds to play, while segments wait for the client, which waits for playback.
      const waits = media.autoplay && media.paused && media.played.length === 0;
      if (waits && media.readyState < HTMLMediaElement.HAVE_ENOUGH_DATA) media.play().catch(() => undefined);
    };
    media.addEventListener("canplay", ready, { signal });
    this.#lookedAt = Date.now();
    this.#ticking = setInterval(tell, PLAYHEAD_EVERY_MS);
    if (!media.paused && media.readyState > HTMLMediaElement.HAVE_CURRENT_DATA) begin();
  }

  /** The player gives its media element up. */
  detach(): void {
    this.#watch?.close();
    this.#listening?.abort();
    clearInterval(this.#ticking);
  }

  /** Leaves the swarm for good. */
  close(): void {
    this.#give();
    this.detach();
  }

  /**
   * A playlist was loaded or refreshed: all that is in it, ascending. `url` names it here; `track` names the track for
   * everyone, by the playlist's URL or, where a track has none, by its key.
   */
  playlist(url: string, track: TrackName, live: boolean, segments: readonly S[]): void {
    const known = this.#tracks.get(url) ?? {
      name: track,
      live,
      segments,
      numbers: undefined,
      id: undefined,
      told: undefined,
    };
    known.live = live;
    known.segments = segments;
    if (this.#options.numberOf) this.#number(known, this.#options.numberOf);
    this.#tracks.set(url, known);
    this.#tell(known);
  }

  /** Gives segments the numbers that the page says, and leaves out those that have none. */
  #number(track: Track<S>, numberOf: (url: string) => number | undefined): void {
    const numbers = (track.numbers = new Map<number, number>());
    const found: S[] = [];
    for (const segment of track.segments) {
      const sn = numberOf(this.#player.request(segment).url) ?? -1;
      // What comes again or goes back would be taken for what had the number before.
      if (!Number.isSafeInteger(sn) || sn <= (found.at(-1)?.sn ?? -1)) continue;
      numbers.set(segment.sn, sn);
      // The player's own says all else, now and when it changes.
      found.push(Object.create(segment, { sn: { value: sn } }) as S);
    }
    track.segments = found;
  }

  /** The swarm's number of a segment that the player calls `sn` in this playlist; `undefined` where it is not the swarm's. */
  #numberIn(playlist: string, sn: number): number | undefined {
    const track = this.#tracks.get(playlist);
    return track?.numbers ? track.numbers.get(sn) : track && sn;
  }

  /**
   * Asks the client for a segment, or lets it wait until there is one. Returns a function that takes the request back;
   * `undefined` where the player must load it by itself.
   */
  want(asked: Wanted): (() => void) | undefined {
    const media = this.#watch?.media;
    const sn = this.#numberIn(asked.playlist, asked.sn);
    if (this.#phase === "over" || this.#asking || !media || sn === undefined) return undefined;
    // A playlist that the client was told nothing of: it lists no segment, or none that is the swarm's.
    if (this.#client && this.#tracks.get(asked.playlist)?.id === undefined) return undefined;
    const wanted = { ...asked, sn };
    if (this.#phase !== "running" && !this.#canWait(media, wanted)) return undefined;
    const pending: Pending = { wanted, bytes: 0, moved: performance.now(), track: undefined, cancel: undefined };
    this.#pending.add(pending);
    this.#demand(pending);
    return () => {
      this.#pending.delete(pending);
      pending.cancel?.();
    };
  }

  /** The player loaded a segment by itself: the bytes are counted, and shared; the engine learns how fast the origin is. */
  loaded(playlist: string, number: number, bytes: ArrayBuffer, timing: Timing): void {
    this.#httpBytes += bytes.byteLength;
    const seconds = (timing.complete - timing.requested) / 1000;
    this.#slowest = this.#slowest === Infinity ? seconds : Math.max(this.#slowest, seconds);
    const sn = this.#numberIn(playlist, number);
    if (this.#phase === "over" || sn === undefined) return;
    if (this.#earlyBytes + bytes.byteLength > MAX_EARLY_BYTES) return;
    // A copy: the player hands its own to a worker.
    this.#early.push({ playlist, sn, bytes: bytes.slice(0), timing });
    this.#earlyBytes += bytes.byteLength;
    this.#adopt();
  }

  stats(): HeadwaterStats {
    const counted = { ...(this.#client?.stats() ?? NOTHING) };
    for (const name of SUMS) counted[name] += this.#past[name];
    counted.httpBytes += this.#httpBytes;
    return { ...counted, ...(this.#watch?.stats ?? { stalls: 0, stallMs: 0, startupMs: 0 }) };
  }

  /** Starts where the viewer agrees; nothing waits for the answer. */
  async #agree(): Promise<void> {
    if (this.#asked || this.#phase === "over") return;
    this.#asked = true;
    const { consent } = this.#options;
    if (consent) {
      let agrees = false;
      try {
        agrees = await consent();
      } catch (error) {
        console.warn("headwater: the page's consent hook failed, which is a no", error);
      }
      if (!agrees) {
        this.#give();
        return;
      }
      this.#asking = false;
    }
    await this.#start();
  }

  async #start(): Promise<void> {
    if (this.#phase !== "before" || !this.#settings) return;
    this.#phase = "starting";
    const life = (this.#life = new AbortController());
    const { signal } = life;
    signal.addEventListener("abort", () => {
      // Later, because the engine may be speaking.
      queueMicrotask(() => {
        if (life !== this.#life) return;
        // It was not ended from here: it failed, or the device has changed.
        if (signal.reason === AGAIN) this.#renew();
        else this.#give();
      });
    });
    // Whoever goes back to the page finds it as it was, where nothing of it is still connected.
    const leave = () => {
      this.#rest();
      const back = () => {
        this.#resume();
      };
      addEventListener("pageshow", back, { once: true });
    };
    addEventListener("pagehide", leave, { signal });
    const owner: ClientOwner = {
      position: () => this.#position(),
      request: (track, seq) => this.#request(track, seq),
      event: (kind, peer) => this.onpeer?.({ kind, peer: peer.toString(16).padStart(16, "0") }),
    };
    // No WASM here, or the page's policy forbids it: the stream plays as it would without us.
    const client = await Client.start(this.#settings, owner, life).catch(() => undefined);
    if (signal.aborted) return;
    if (!client) {
      this.#give();
      return;
    }
    this.#client = client;
    this.#phase = "running";
    for (const track of this.#tracks.values()) this.#tell(track);
    this.#tick();
    this.#adopt();
    for (const pending of this.#pending) this.#demand(pending);
  }

  /** There will be no client (any more): everything is the player's own. */
  #give(): void {
    this.#rest();
    this.#phase = "over";
    this.#early = [];
  }

  /** There is no client for now, and nothing that is open: everything is the player's own. */
  #rest(): void {
    const life = this.#life;
    this.#life = undefined;
    life?.abort();
    this.#past = this.stats();
    this.#past.httpBytes -= this.#httpBytes;
    this.#client = undefined;
    if (this.#phase !== "over") this.#phase = "before";
    for (const track of this.#tracks.values()) track.id = track.told = undefined;
    const pending = [...this.#pending];
    this.#pending.clear();
    for (const { wanted } of pending) wanted.alone();
  }

  /** Another client takes the place of this one. */
  #renew(): void {
    this.#rest();
    this.#resume();
  }

  /** Begins anew, where it had begun. */
  #resume(): void {
    if (this.#asked && !this.#asking) void this.#start();
  }

  #demand(pending: Pending): void {
    const { wanted } = pending;
    const client = this.#client;
    if (!client) return;
    const track = this.#tracks.get(wanted.playlist);
    if (track?.id === undefined) {
      this.#alone(pending);
      return;
    }
    pending.track = track.id;
    pending.cancel = client.demand(track.id, wanted.sn, wanted.audio, {
      deliver: (bytes, timing) => {
        if (this.#pending.delete(pending)) wanted.deliver(bytes, timing);
      },
      fail: () => {
        this.#alone(pending);
      },
    });
  }

  #alone(pending: Pending): void {
    if (this.#pending.delete(pending)) pending.wanted.alone();
  }

  /** Whether there is enough to play for this segment to wait for the client. */
  #canWait(media: HTMLMediaElement, { start }: Wanted): boolean {
    const free = (KEPT_FREE_S + LOADS_KEPT_FREE * this.#slowest) * Math.max(1, media.playbackRate);
    return isAhead(media, start, free);
  }

  #request(track: bigint, seq: number): SegmentRequest | undefined {
    for (const { id, segments } of this.#tracks.values()) {
      if (id !== track) continue;
      const segment = segments[placeOf(segments, seq)];
      if (segment) return this.#player.request(segment);
    }
    return undefined;
  }

  /** Hands over what the engine does not know of a track yet. */
  #tell(track: Track<S>): void {
    const [first] = track.segments;
    if (!this.#client || !first) return;
    track.id ??= this.#client.track(track.name);
    const { told } = track;
    const place = told ? placeOf(track.segments, told.sn) : -1;
    const again = track.segments[place];
    const moved = told && (!again || Math.abs(again.start - told.start) > MOVED_S);
    const fresh = told && !moved ? track.segments.slice(place + 1) : track.segments;
    const flat = new Float64Array(fresh.flatMap(({ sn, start, duration }) => [sn, start, duration]));
    this.#client.playlist(track.id, track.live, first.sn, flat);
    const last = track.segments.at(-1);
    track.told = last && { sn: last.sn, start: last.start, duration: last.duration };
  }

  #adopt(): void {
    if (!this.#client) return;
    for (const { playlist, sn, bytes, timing } of this.#early.splice(0)) {
      this.#client.measured(bytes.byteLength, timing);
      const id = this.#tracks.get(playlist)?.id;
      if (id !== undefined) this.#client.adopt(id, sn, bytes);
    }
    this.#earlyBytes = 0;
  }

  #position(): number | undefined {
    const isLive = [...this.#tracks.values()].some((track) => track.live);
    return isLive ? undefined : Math.floor(this.#watch?.media.currentTime ?? 0);
  }

  #tick(): void {
    const media = this.#watch?.media;
    if (!media) return;
    const now = Date.now();
    if (this.#client && now - this.#lookedAt > ASLEEP_MS) this.#renew();
    this.#lookedAt = now;
    const position = media.currentTime;
    const end = bufferedTo(media.buffered, position);
    this.#client?.playhead(position, end, media.paused || media.ended ? 0 : media.playbackRate);
    for (const pending of this.#pending) this.#look(pending, media, end);
  }

  /** How a wanted segment is coming along. */
  #look(pending: Pending, media: HTMLMediaElement, end: number): void {
    const { wanted, track } = pending;
    if (track === undefined || !this.#client) {
      if (this.#canWait(media, wanted)) wanted.waiting();
      else this.#alone(pending);
      return;
    }
    const { bytes, fetching } = this.#client.progress(track, wanted.sn);
    if (bytes > 0) wanted.progress(bytes);
    else if (!fetching) wanted.waiting();
    if (bytes > pending.bytes) pending.moved = performance.now();
    pending.bytes = bytes;
    const starving = end - media.currentTime < MOVED_S && !media.paused;
    if (starving && !fetching && performance.now() - pending.moved > PATIENCE_MS) {
      pending.cancel?.();
      this.#alone(pending);
    }
  }
}
