// Segments and the catalogue from the origin, streamed. When and what to fetch is the engine's choice.

import type { Client as Core } from "#client";

import { FETCH_DONE, FETCH_FAILED, FETCH_HEAD } from "./told.js";

/** Where a segment lies, and how the page's player would ask for it. */
export interface SegmentRequest {
  url: string;
  /** The bytes of `url` that are the segment, from `start` to before `end`; all of it where there are none. */
  start?: number;
  end?: number;
  /** What such a request has besides: credentials, headers. */
  init?: RequestInit;
  /** Loads it the page's own way, where that is not a plain request (credentials, headers, another protocol). */
  load?(range: { start: number; end: number } | undefined, signal: AbortSignal): Promise<LoadedBytes>;
}

/** What `SegmentRequest.load` brings. */
export interface LoadedBytes {
  status: number;
  bytes: ArrayBuffer;
}

/** Calls into the client, one at a time. */
export type Enter = <T>(call: (core: Core) => T) => T | undefined;

/** Appended to a playlist's name to name its catalogue. */
const CATALOGUE_SUFFIX = ".catalogue";

/** The largest catalogue that the protocol knows. */
const MAX_CATALOGUE_LEN = 32 * 1024 * 1024;

export class Http {
  readonly #enter: Enter;
  readonly #fetches = new Map<number, { controller: AbortController; segment: string }>();

  constructor(enter: Enter) {
    this.#enter = enter;
  }

  /** Fetches a segment, or the bytes of it from `start` to before `end` where `end` is not 0. */
  fetch(fetch: number, segment: string, request: SegmentRequest | undefined, start: number, end: number): void {
    const controller = new AbortController();
    this.#fetches.set(fetch, { controller, segment });
    // Later, because the engine has not finished speaking.
    queueMicrotask(() => {
      this.#run(fetch, request, start, end, controller.signal)
        .catch(() => {
          if (!controller.signal.aborted)
            this.#enter((core) => {
              core.tell(FETCH_FAILED, fetch, 0, 0);
            });
        })
        .finally(() => {
          this.#fetches.delete(fetch);
          // What is left of a body that nobody wants.
          controller.abort();
        });
    });
  }

  /** Gives a request up. */
  abort(fetch: number): void {
    this.#fetches.get(fetch)?.controller.abort();
  }

  /** Whether a segment is being fetched. */
  isFetching(segment: string): boolean {
    return [...this.#fetches.values()].some((fetch) => fetch.segment === segment && !fetch.controller.signal.aborted);
  }

  /** Gives everything up. */
  close(): void {
    for (const { controller } of this.#fetches.values()) controller.abort();
  }

  /** The catalogue beside the playlist, empty where there is none. */
  async catalogue(source: string): Promise<Uint8Array> {
    try {
      const url = new URL(source);
      url.pathname += CATALOGUE_SUFFIX;
      const response = await fetch(url, { cache: "no-cache" });
      const tooLong = Number(response.headers.get("content-length")) > MAX_CATALOGUE_LEN;
      if (response.ok && !tooLong) return new Uint8Array(await response.arrayBuffer());
    } catch {
      // No catalogue over HTTP; peers may have it.
    }
    return new Uint8Array();
  }

  async #run(id: number, request: SegmentRequest | undefined, start: number, end: number, signal: AbortSignal) {
    if (!request) throw new Error("unknown segment");
    const base = request.start ?? 0;
    const last = end === 0 ? request.end : base + end;
    const range = last === undefined ? undefined : { start: base + start, end: last };
    if (request.load) {
      const { status, bytes } = await request.load(range, signal);
      if (this.#head(id, request, status, range, 0, signal)) this.#bytes(id, new Uint8Array(bytes), signal);
    } else {
      const headers = new Headers(request.init?.headers);
      if (range) headers.set("range", `bytes=${range.start}-${range.end - 1}`);
      const response = await fetch(request.url, { ...request.init, signal, headers });
      if (!this.#head(id, request, response.status, range, segmentLength(response, request), signal)) return;
      const reader = response.body?.getReader();
      for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
        if (!this.#bytes(id, piece.value, signal)) return;
      }
    }
    if (!signal.aborted)
      this.#enter((core) => {
        core.tell(FETCH_DONE, id, 0, 0);
      });
  }

  /** Reports the head of a response. Returns whether its body is of use. */
  #head(
    id: number,
    request: SegmentRequest,
    status: number,
    range: { start: number } | undefined,
    total: number,
    signal: AbortSignal,
  ): boolean {
    if (signal.aborted) return false;
    const partial = status === 206;
    // A whole file in answer to a part of it is right only where the file is the segment.
    if ((status !== 200 && !partial) || (!partial && request.end !== undefined) || (partial && !range)) {
      this.#enter((core) => {
        core.tell(FETCH_FAILED, id, status, 0);
      });
      return false;
    }
    this.#enter((core) => {
      core.tell(FETCH_HEAD, id, +partial, total);
    });
    return true;
  }

  #bytes(id: number, bytes: Uint8Array, signal: AbortSignal): boolean {
    return !signal.aborted && this.#enter((core) => core.fetchBytes(id, bytes)) === true;
  }
}

/** The length of the whole segment, 0 where the response does not say it. */
function segmentLength(response: Response, request: SegmentRequest): number {
  if (request.end !== undefined) return request.end - (request.start ?? 0);
  const { headers } = response;
  const text =
    response.status === 206 ? /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1] : headers.get("content-length");
  // The length of a compressed body is not that of the segment.
  return headers.has("content-encoding") ? 0 : Math.min(Number(text ?? 0), 0xffff_ffff);
}
