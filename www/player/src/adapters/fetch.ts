// For any other player: `const stream = segments({ signal, key }, video)`, then `stream.fetch(url)` in the place of
// `fetch(url)` for playlists, manifests and segments alike.

import type { HeadwaterOptions, HeadwaterStats } from "../headwater.js";
import { rangeOf, Stream } from "./stream.js";

const MANIFEST = /mpegurl|dash\+xml|\.m3u8$|\.mpd$/i;

/** What `segments` gives. */
export interface Segments {
  /** As the page's `fetch`, for what a player loads. Segments may come from peers; all else is the page's `fetch`. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>;
  /** Only segments: `start` is where on the player's timeline this one begins, where that is known. */
  fetchSegment(url: string | URL, init?: RequestInit & { start?: number }): Promise<ArrayBuffer>;
  /** The counters of what is playing. */
  stats(): HeadwaterStats;
  /** Leaves the swarm. */
  close(): void;
}

/** Loads a stream for a player that plays it in `video`. */
export function segments(options: HeadwaterOptions, video: HTMLMediaElement): Segments {
  const stream = new Stream(options);
  stream.attach(video);
  return {
    fetch: (url, init) => load(stream, new URL(url, document.baseURI).href, init),
    fetchSegment: async (url, { start, ...init } = {}) => {
      const response = await load(stream, new URL(url, document.baseURI).href, init, start);
      if (!response.ok) throw new Error(`the origin answered ${response.status} for ${response.url || String(url)}`);
      return await response.arrayBuffer();
    },
    stats: () => stream.stats(),
    close: () => {
      stream.close();
    },
  };
}

async function load(stream: Stream, url: string, init: RequestInit = {}, start?: number): Promise<Response> {
  const header = new Headers(init.headers).get("range");
  const range = rangeOf(header);
  const { credentials, headers } = init;
  stream.habits = { ...(headers && { headers }), ...(credentials && { credentials }) };
  const asked = stream.ask(url, range, start);
  if (asked) {
    const { signal } = init;
    signal?.throwIfAborted();
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener("abort", () => {
        asked.cancel();
        reject(signal.reason as Error);
      });
    });
    const whole = await Promise.race([asked.answer, aborted]);
    if (whole) return new Response(whole.bytes, { status: range ? 206 : 200 });
  }
  const requested = performance.now();
  const response = await fetch(url, init);
  if (!response.ok) return response;
  const firstByte = performance.now();
  const type = response.headers.get("content-type") ?? "";
  if (MANIFEST.test(type) || MANIFEST.test(new URL(url).pathname)) {
    stream.manifest(url, await response.clone().text(), response.url);
  } else if (stream.knows(url, range)) {
    const copy = response.clone();
    void copy.arrayBuffer().then(
      (bytes) => {
        stream.loaded(url, range, bytes, { requested, firstByte, complete: performance.now() });
      },
      () => undefined,
    );
  }
  return response;
}
