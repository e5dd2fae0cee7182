// What the page's media element tells: when playback began, how often it stalled, where the playhead is.

/** Pauses in playback for want of data, and how long the first frame took. */
export interface StallStats {
  /** From loading (or, where it waited for the viewer, from play) to the first frame that moves; 0 before it. */
  startupMs: number;
  stalls: number;
  stallMs: number;
}

/** Media between two parts of the buffer shorter than this does not stop a player. */
const MAX_GAP_S = 0.1;

/** With this much ahead, playback that stops waits for the decoder, not for data. */
const ENOUGH_S = 1;

/** Up to where media is buffered without a gap from `position` on. */
export function bufferedTo(buffered: TimeRanges, position: number): number {
  let end = position;
  for (let at = 0; at < buffered.length; at += 1) {
    if (buffered.start(at) <= end + MAX_GAP_S && buffered.end(at) > end) end = buffered.end(at);
  }
  return end;
}

/** A frame that is not shown within this, in milliseconds, is not waited for: there is no picture, or nobody to see it. */
const SHOWN_WITHIN_MS = 200;

/** Calls back, at least once, when `media` has shown its next frame. */
export function onceShown(media: Partial<HTMLVideoElement>, call: () => void): void {
  // The frame is about to be shown when the browser says so.
  media.requestVideoFrameCallback?.(() => setTimeout(call));
  setTimeout(call, SHOWN_WITHIN_MS);
}

/** Counts start-up and stalls of one element. A seek is no stall. */
export class StallWatch {
  readonly #media: HTMLMediaElement;
  readonly #listening = new AbortController();
  #since: number;
  #startupMs = 0;
  #stalls = 0;
  #stallMs = 0;
  #stalledAt = 0;
  #sought = false;

  /** `begun` is when loading began, where that was before now. */
  constructor(media: HTMLMediaElement, begun = performance.now()) {
    this.#media = media;
    this.#since = begun;
    const on = (types: string, listener: () => void) => {
      for (const type of types.split(" ")) media.addEventListener(type, listener, { signal: this.#listening.signal });
    };
    on("play", () => {
      if (this.#startupMs === 0 && !media.autoplay) this.#since = performance.now();
    });
    on("playing", () => {
      if (this.#startupMs === 0) this.#startupMs = performance.now() - this.#since;
      this.#sought = false;
    });
    on("seeking", () => {
      this.#sought = true;
      this.#end();
    });
    on("waiting", () => {
      const starved = bufferedTo(media.buffered, media.currentTime) - media.currentTime < ENOUGH_S;
      const stalled = starved && this.#startupMs > 0 && !this.#sought && !media.paused && !media.ended;
      if (!stalled || this.#stalledAt !== 0) return;
      this.#stalledAt = performance.now();
      this.#stalls += 1;
    });
    on("playing pause ended emptied error", () => {
      this.#end();
    });
  }

  get stats(): StallStats {
    const now = this.#stalledAt === 0 ? 0 : performance.now() - this.#stalledAt;
    return { startupMs: this.#startupMs, stalls: this.#stalls, stallMs: this.#stallMs + now };
  }

  /** Detaches every listener; what was counted stays. */
  close(): void {
    this.#end();
    this.#listening.abort();
  }

  #end(): void {
    if (this.#stalledAt === 0) return;
    this.#stallMs += performance.now() - this.#stalledAt;
    this.#stalledAt = 0;
  }

  /** The element that is watched. */
  get media(): HTMLMediaElement {
    return this.#media;
  }
}
