// Video.js 8, which plays HLS and DASH with VHS: `attachHeadwater(player, { signal, key })` before `player.src(…)`.

import type { HeadwaterOptions, HeadwaterStats, Timing } from "../headwater.js";
import { type Asked, rangeOf, Stream } from "./stream.js";

/** As much of a Video.js player as is used here. */
export interface VideoJsPlayer {
  on(type: string, listener: () => void): void;
  off(type: string, listener: () => void): void;
  tech(safety: boolean): { vhs?: { xhr: Xhr }; el(): Element };
}

interface XhrOptions {
  uri: string;
  requestType?: string;
  headers?: Record<string, string>;
  withCredentials?: boolean;
}

/** What VHS looks at in the answer to a request. */
interface XhrRequest extends EventTarget {
  uri?: string;
  abort(): void;
  aborted?: boolean;
  response?: unknown;
  responseText?: string;
  responseURL?: string;
  status?: number;
}

type Callback = (error: unknown, request: XhrRequest, ...rest: unknown[]) => void;
type Xhr = (options: XhrOptions, callback: Callback) => XhrRequest;

/** What `attachHeadwater` gives. */
export interface VideoJsAttachment {
  /** The counters of what is playing. */
  stats(): HeadwaterStats;
  /** Leaves the swarm; the player plays on by itself. */
  close(): void;
}

const MANIFESTS = ["hls-playlist", "dash-manifest"];
const SEGMENT = "segment";

/** Lets a player's segments come from peers. Call it before `player.src`. */
export function attachHeadwater(player: VideoJsPlayer, options: HeadwaterOptions): VideoJsAttachment {
  let stream = new Stream(options);
  let isClosed = false;
  // VHS says this for every new source, before it asks for anything.
  const take = () => {
    const tech = player.tech(true);
    if (!tech.vhs) return;
    stream.close();
    stream = new Stream(options);
    const current = stream;
    const own = tech.vhs.xhr;
    const attach = () => {
      const media = tech.el();
      if (media instanceof HTMLMediaElement) current.attach(media);
    };
    const xhr: Xhr = (request, callback) => {
      if (isClosed) return own(request, callback);
      if (request.requestType === SEGMENT) {
        attach();
        return loadSegment(current, own, request, callback);
      }
      if (!MANIFESTS.includes(request.requestType ?? "")) return own(request, callback);
      return own(request, (error, answer, ...rest) => {
        const { responseText, responseURL } = textOf(answer);
        if (!error && responseText) {
          attach();
          current.manifest(request.uri, responseText, responseURL ?? request.uri);
        }
        callback(error, answer, ...rest);
      });
    };
    // The hooks that pages set on it.
    tech.vhs.xhr = Object.assign(xhr, own);
  };
  player.on("xhr-hooks-ready", take);
  const close = () => {
    isClosed = true;
    stream.close();
    player.off("xhr-hooks-ready", take);
    player.off("dispose", close);
  };
  player.on("dispose", close);
  return { stats: () => stream.stats(), close };
}

/** An XMLHttpRequest for something else than text throws where it is asked for text. */
function textOf(answer: XhrRequest): { responseText?: string; responseURL?: string } {
  try {
    const { responseText, responseURL } = answer;
    return { ...(responseText && { responseText }), ...(responseURL && { responseURL }) };
  } catch {
    return {};
  }
}

function loadSegment(stream: Stream, own: Xhr, request: XhrOptions, callback: Callback): XhrRequest {
  const range = rangeOf(request.headers?.Range);
  const headers = request.headers ?? {};
  stream.habits = request.withCredentials ? { headers, credentials: "include" } : { headers };
  const alone = (listen?: (answer: XhrRequest) => void) => {
    const requested = performance.now();
    let firstByte: number | undefined;
    const answer = own(request, (error, finished, ...rest) => {
      if (!error && finished.response instanceof ArrayBuffer) {
        const timing = { requested, firstByte: firstByte ?? requested, complete: performance.now() };
        stream.loaded(request.uri, range, finished.response, timing);
      }
      callback(error, finished, ...rest);
    });
    const onFirst = () => {
      firstByte ??= performance.now();
    };
    answer.addEventListener("progress", onFirst);
    listen?.(answer);
    return answer;
  };
  let asked: Asked | undefined;
  try {
    asked = stream.ask(request.uri, range);
  } catch (error) {
    console.warn("headwater: the session failed; playback goes on over HTTP", error);
  }
  return asked ? new Answer(asked, request, alone, callback) : alone();
}

/** What VHS holds while a segment is on its way here: it listens to it, and may abort it. */
class Answer extends EventTarget implements XhrRequest {
  readonly uri: string;
  readonly requestType = SEGMENT;
  readonly responseType = "arraybuffer";
  readonly requestTime = Date.now();
  aborted = false;
  response: unknown = null;
  status = 0;
  statusCode = 0;
  responseTime = 0;
  roundTripTime = 0;
  bytesReceived = 0;
  bandwidth = 0;
  #abort: () => void;

  constructor(
    { answer, cancel }: Asked,
    { uri }: XhrOptions,
    alone: (listen: (answer: XhrRequest) => void) => unknown,
    callback: Callback,
  ) {
    super();
    this.uri = uri;
    this.#abort = () => {
      cancel();
      this.dispatchEvent(new Event("abort"));
      this.dispatchEvent(new Event("loadend"));
    };
    void answer.then((whole) => {
      if (this.aborted) return;
      if (whole) {
        this.#deliver(whole.bytes, whole.timing);
        callback(null, this, { statusCode: 200, headers: {}, url: uri });
        this.dispatchEvent(new Event("loadend"));
        return;
      }
      alone((inner) => {
        this.#abort = () => {
          inner.abort();
        };
        for (const type of ["progress", "loadend", "abort"]) {
          inner.addEventListener(type, (event) => {
            const { lengthComputable, loaded, total } = event as ProgressEvent;
            this.dispatchEvent(new ProgressEvent(type, { lengthComputable, loaded, total }));
          });
        }
      });
    });
  }

  abort(): void {
    if (this.aborted || this.status !== 0) return;
    this.aborted = true;
    this.#abort();
  }

  getAllResponseHeaders(): string {
    return "";
  }

  getResponseHeader(): null {
    return null;
  }

  #deliver(bytes: ArrayBuffer, { requested, complete }: Timing): void {
    this.response = bytes;
    this.status = this.statusCode = 200;
    this.responseTime = Date.now();
    this.roundTripTime = Math.max(1, complete - requested);
    this.bytesReceived = bytes.byteLength;
    this.bandwidth = Math.floor((bytes.byteLength / this.roundTripTime) * 8 * 1000);
  }
}
