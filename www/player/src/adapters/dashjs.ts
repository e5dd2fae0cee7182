// dash.js 5: `attachHeadwater(player, { signal, key })` between `MediaPlayer().create()` and `player.initialize(…)`.

import type { HeadwaterOptions, HeadwaterStats, Timing } from "../headwater.js";
import { type Asked, rangeOf, Stream } from "./stream.js";

/** As much of a dash.js `MediaPlayerClass` as is used here. */
export interface DashPlayer {
  extend(name: string, extension: object, override: boolean): void;
  addResponseInterceptor(interceptor: (response: DashResponse) => Promise<DashResponse>): void;
  getVideoElement(): HTMLMediaElement;
  on(type: string, listener: () => void): void;
}

interface DashRequest {
  url: string;
  headers?: Record<string, string>;
  credentials?: string;
  customData: {
    request: { type: string; startTime?: number };
    onloadend?: () => void;
    onprogress?: (event: object) => void;
    onabort?: () => void;
    abort?: () => void;
  };
}

interface DashResponse {
  request: DashRequest;
  url?: string;
  status: number;
  statusText?: string;
  headers?: Record<string, string>;
  data?: unknown;
}

interface Loader {
  load: (request: DashRequest, response: DashResponse) => boolean;
  abort: () => void;
  reset: () => void;
  resetInitialSettings: () => void;
}

/** What `attachHeadwater` gives. */
export interface DashAttachment {
  /** The counters of what is playing. */
  stats(): HeadwaterStats;
  /** Leaves the swarm; the player plays on by itself. */
  close(): void;
}

const MPD = "MPD";
const SEGMENT = "MediaSegment";

/** Lets a player's segments come from peers. Call it before `player.initialize`. */
export function attachHeadwater(player: DashPlayer, options: HeadwaterOptions): DashAttachment {
  let stream = new Stream(options);
  let isClosed = false;
  const attach = () => {
    try {
      stream.attach(player.getVideoElement());
    } catch {
      // dash.js throws where there is none yet.
    }
  };
  player.addResponseInterceptor((response) => {
    const { request, data } = response;
    if (request.customData.request.type === MPD && typeof data === "string" && !isClosed) {
      attach();
      stream.manifest(request.url, data, response.url ?? request.url);
    }
    return Promise.resolve(response);
  });
  /** dash.js calls this with its own loader as `parent`, and puts our methods in the place of that one's. */
  function extension(this: { parent: Loader }) {
    const { load, abort, reset, resetInitialSettings } = this.parent;
    const own: Loader = { load, abort, reset, resetInitialSettings };
    const asked = new Set<Asked>();
    const giveUp = () => {
      for (const one of asked) one.cancel();
      asked.clear();
    };
    return {
      load(request: DashRequest, response: DashResponse) {
        if (request.customData.request.type !== SEGMENT || isClosed) return own.load(request, response);
        attach();
        return loadSegment(stream, own, asked, request, response);
      },
      abort() {
        giveUp();
        own.abort();
      },
      reset() {
        giveUp();
        own.reset();
      },
      resetInitialSettings() {
        giveUp();
        own.resetInitialSettings();
      },
    };
  }
  player.extend("XHRLoader", extension, true);
  // A new source in the same player.
  player.on("streamTeardownComplete", () => {
    stream.close();
    stream = new Stream(options);
  });
  return {
    stats: () => stream.stats(),
    close: () => {
      isClosed = true;
      stream.close();
    },
  };
}

function loadSegment(
  stream: Stream,
  own: Loader,
  all: Set<Asked>,
  request: DashRequest,
  response: DashResponse,
): boolean {
  const { customData } = request;
  const range = rangeOf(request.headers?.Range);
  const headers = request.headers ?? {};
  stream.habits = request.credentials === "include" ? { headers, credentials: "include" } : { headers };
  const alone = () => {
    const requested = performance.now();
    let firstByte: number | undefined;
    const { onloadend, onprogress } = customData;
    customData.onprogress = (event) => {
      firstByte ??= performance.now();
      onprogress?.(event);
    };
    customData.onloadend = () => {
      if (response.status >= 200 && response.status < 300 && response.data instanceof ArrayBuffer) {
        const timing = { requested, firstByte: firstByte ?? requested, complete: performance.now() };
        stream.loaded(request.url, range, response.data, timing);
      }
      onloadend?.();
    };
    return own.load(request, response);
  };
  let asked: Asked | undefined;
  try {
    asked = stream.ask(request.url, range, customData.request.startTime);
  } catch (error) {
    console.warn("headwater: the session failed; playback goes on over HTTP", error);
  }
  if (!asked) return alone();
  const { answer, cancel } = asked;
  const one = asked;
  all.add(one);
  customData.abort = () => {
    if (!all.delete(one)) return;
    cancel();
    customData.onabort?.();
  };
  void answer.then((whole) => {
    if (!all.delete(one)) return;
    if (!whole) {
      alone();
      return;
    }
    report(customData, whole.bytes.byteLength, whole.timing);
    Object.assign(response, { url: request.url, status: 200, statusText: "OK", headers: {}, data: whole.bytes });
    customData.onloadend?.();
  });
  return true;
}

/** Two steps: dash.js takes the first for the latency and measures from there. */
function report(
  { onprogress }: DashRequest["customData"],
  total: number,
  { requested, firstByte, complete }: Timing,
): void {
  const steps = [
    { loaded: 0, time: Math.max(0, firstByte - requested) },
    { loaded: total, time: Math.max(1, complete - firstByte) },
  ];
  for (const { loaded, time } of steps) onprogress?.({ lengthComputable: true, loaded, total, time });
}
