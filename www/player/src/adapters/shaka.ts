// Shaka Player 5, HLS and DASH: `attachHeadwater(player, { signal, key })` before `player.load(…)`.
//
// Shaka's schemes are the page's, not a player's. Ours asks for a segment where a player with Headwater wants one, and is
// Shaka's own in everything else.

import type { HeadwaterOptions, HeadwaterStats, Timing } from "../headwater.js";
import { rangeOf, Stream } from "./stream.js";

/** As much of Shaka as is used here; its compiled and its debug build have these names. */
export interface ShakaNamespace {
  net: {
    NetworkingEngine: {
      registerScheme(scheme: string, plugin: SchemePlugin, priority?: number, progress?: boolean): void;
      RequestType: { MANIFEST: number; SEGMENT: number };
      PluginPriority: { APPLICATION: number };
    };
    HttpFetchPlugin: { parse: SchemePlugin; isSupported(): boolean };
    HttpXHRPlugin?: { parse: SchemePlugin };
  };
  util: {
    AbortableOperation: new (promise: Promise<ShakaResponse>, abort: () => Promise<void>) => Operation;
  };
}

interface ShakaRequest {
  uris: string[];
  headers: Record<string, string>;
  allowCrossSiteCredentials: boolean;
}

interface ShakaResponse {
  uri: string;
  originalUri: string;
  data: ArrayBuffer | ArrayBufferView;
  headers: Record<string, string>;
  status?: number;
  timeMs?: number;
  fromCache?: boolean;
}

interface Operation {
  promise: Promise<ShakaResponse>;
  abort(): Promise<void>;
}

interface Context {
  segment?: { getStartTime(): number } | null;
}

type ProgressUpdated = (ms: number, bytes: number, remaining: number) => void;
type SchemePlugin = (
  uri: string,
  request: ShakaRequest,
  type: number,
  progress: ProgressUpdated,
  ...rest: unknown[]
) => Operation;

/** As much of a `shaka.Player` as is used here. */
export interface ShakaPlayer {
  getNetworkingEngine(): {
    registerRequestFilter(filter: (type: number, request: ShakaRequest, context?: Context) => void): void;
    unregisterRequestFilter(filter: (type: number, request: ShakaRequest, context?: Context) => void): void;
    registerResponseFilter(filter: (type: number, response: ShakaResponse) => void): void;
    unregisterResponseFilter(filter: (type: number, response: ShakaResponse) => void): void;
  } | null;
  getMediaElement(): HTMLMediaElement | null;
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

/** What `attachHeadwater` gives. */
export interface ShakaAttachment {
  /** The counters of what is playing. */
  stats(): HeadwaterStats;
  /** Leaves the swarm; the player plays on by itself. */
  close(): void;
}

interface Wanted {
  stream: Stream;
  start: number | undefined;
}

/** Requests of players with Headwater. */
const wanted = new WeakMap<ShakaRequest, Wanted>();
const registered = new WeakSet();

/** Lets a player's segments come from peers. Call it before `player.load`; `shaka` is the namespace that made it. */
export function attachHeadwater(
  player: ShakaPlayer,
  options: HeadwaterOptions,
  shaka?: ShakaNamespace,
): ShakaAttachment {
  const namespace = shaka ?? (globalThis as { shaka?: ShakaNamespace }).shaka;
  const engine = player.getNetworkingEngine();
  if (!namespace || !engine) throw new Error("Headwater needs Shaka's namespace and a player that is not destroyed");
  const { MANIFEST, SEGMENT } = namespace.net.NetworkingEngine.RequestType;
  register(namespace);
  let stream = new Stream(options);
  const onRequest = (type: number, request: ShakaRequest, context?: Context) => {
    if (type !== SEGMENT) return;
    stream.attach(player.getMediaElement());
    wanted.set(request, { stream, start: context?.segment?.getStartTime() });
  };
  const onResponse = (type: number, { uri, originalUri, data }: ShakaResponse) => {
    if (type !== MANIFEST) return;
    stream.attach(player.getMediaElement());
    stream.manifest(originalUri || uri, new TextDecoder().decode(data), uri);
  };
  const renew = () => {
    stream.close();
    stream = new Stream(options);
  };
  const close = () => {
    stream.close();
    engine.unregisterRequestFilter(onRequest);
    engine.unregisterResponseFilter(onResponse);
    player.removeEventListener("unloading", renew);
  };
  engine.registerRequestFilter(onRequest);
  engine.registerResponseFilter(onResponse);
  player.addEventListener("unloading", renew);
  return { stats: () => stream.stats(), close };
}

function register(shaka: ShakaNamespace): void {
  const { NetworkingEngine, HttpFetchPlugin, HttpXHRPlugin } = shaka.net;
  if (registered.has(NetworkingEngine)) return;
  registered.add(NetworkingEngine);
  const own = HttpFetchPlugin.isSupported() || !HttpXHRPlugin ? HttpFetchPlugin : HttpXHRPlugin;
  const { AbortableOperation } = shaka.util;
  const plugin: SchemePlugin = (uri, request, type, progress, ...rest) => {
    const alone = (onHeaders?: () => void) => {
      // Behind the progress comes who is told of the headers.
      const [received, ...others] = rest;
      const told = (...headers: unknown[]) => {
        onHeaders?.();
        if (typeof received === "function") (received as (...headers: unknown[]) => void)(...headers);
      };
      return own.parse(uri, request, type, progress, told, ...others);
    };
    const found = wanted.get(request);
    if (!found) return alone();
    wanted.delete(request);
    const load = new Load(uri, request, found, progress, alone);
    return new AbortableOperation(load.response, () => load.abort());
  };
  const priority = NetworkingEngine.PluginPriority.APPLICATION;
  for (const scheme of ["http", "https"]) NetworkingEngine.registerScheme(scheme, plugin, priority, true);
}

/** What Shaka's own plugin waits for between two words of progress: bytes, and milliseconds. */
const PROGRESS_BYTES = 16_000;
const PROGRESS_MS = 100;

/**
 * Tells how a load went as Shaka's own plugin would have: word by word, the wait for the first byte in the first of them. Of one
 * word for all Shaka takes a line with latency for a faster one. Gives back how long it took, in milliseconds.
 */
function tellProgress(progress: ProgressUpdated, total: number, { requested, firstByte, complete }: Timing): number {
  const transfer = Math.max(1, complete - firstByte);
  const latency = Math.max(0, firstByte - requested);
  const words = Math.max(1, Math.floor(Math.min(total / PROGRESS_BYTES, transfer / PROGRESS_MS)));
  for (let left = words - 1; left >= 0; left -= 1) {
    progress(transfer / words + (left === words - 1 ? latency : 0), total / words, (total / words) * left);
  }
  return latency + transfer;
}

/** One segment request: from the stream where it can, else Shaka's own. */
class Load {
  readonly response: Promise<ShakaResponse>;
  #abort: () => Promise<void> = () => Promise.resolve();

  constructor(
    uri: string,
    request: ShakaRequest,
    { stream, start }: Wanted,
    progress: ProgressUpdated,
    alone: (onHeaders?: () => void) => Operation,
  ) {
    const range = rangeOf(request.headers.Range);
    const { allowCrossSiteCredentials: credentials, headers } = request;
    stream.habits = credentials ? { headers, credentials: "include" } : { headers };
    // Shaka gives up a request that shows no sign of life.
    const alive = () => {
      progress(0, 0, 1);
    };
    let asked: ReturnType<Stream["ask"]>;
    try {
      asked = stream.ask(uri, range, start, { waiting: alive, progress: alive });
    } catch (error) {
      console.warn("headwater: the session failed; playback goes on over HTTP", error);
    }
    const byItself = async () => {
      const requested = performance.now();
      let firstByte: number | undefined;
      const operation = alone(() => {
        firstByte ??= performance.now();
      });
      this.#abort = () => operation.abort();
      const response = await operation.promise;
      const complete = performance.now();
      if (response.data instanceof ArrayBuffer && !response.fromCache) {
        stream.loaded(uri, range, response.data, { requested, firstByte: firstByte ?? requested, complete });
      }
      return response;
    };
    if (!asked) {
      this.response = byItself();
      return;
    }
    const { answer, cancel } = asked;
    this.response = new Promise((resolve, reject) => {
      this.#abort = () => {
        cancel();
        // The operation is over for Shaka as soon as it asks for that.
        reject(new Error("aborted"));
        return Promise.resolve();
      };
      void answer.then((whole) => {
        if (!whole) {
          byItself().then(resolve, reject);
          return;
        }
        const { bytes, timing } = whole;
        const timeMs = tellProgress(progress, bytes.byteLength, timing);
        resolve({ uri, originalUri: uri, data: bytes, headers: {}, status: 200, timeMs, fromCache: false });
      });
    });
  }

  abort(): Promise<void> {
    return this.#abort();
  }
}
