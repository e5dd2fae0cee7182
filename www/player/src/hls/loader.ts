// hls.js's loader of fragments: the session's where it can, hls.js's own in everything else.

import type {
  FragmentLoaderContext,
  HlsConfig,
  Loader,
  LoaderCallbacks,
  LoaderConfiguration,
  LoaderContext,
  LoaderStats,
} from "hls.js";

import type { Timing } from "../client/client.js";
import type { Session } from "../session.js";
import { numbers, PARTS } from "./parts.js";

/** What a loader needs of a session. */
type AnySession = Pick<Session, "want" | "loaded">;
type FragmentLoader = Loader<FragmentLoaderContext>;
type Callbacks = LoaderCallbacks<FragmentLoaderContext>;

/** The class that hls.js makes a loader of for each fragment, bound to a session. */
export function loaderClass(session: AnySession): new (config: HlsConfig) => FragmentLoader {
  return class extends HeadwaterLoader {
    constructor(config: HlsConfig) {
      super(session, config);
    }
  };
}

class HeadwaterLoader implements FragmentLoader {
  readonly #session: AnySession;
  readonly #own: Loader<LoaderContext>;
  #cancel: (() => void) | undefined;
  #callbacks: Callbacks | undefined;
  context: FragmentLoaderContext | null = null;
  /** The page's own loader's, since hls.js keeps whatever object is here before it loads. */
  stats: LoaderStats;

  constructor(session: AnySession, config: HlsConfig) {
    this.#session = session;
    this.#own = new config.loader(config);
    this.stats = this.#own.stats;
  }

  load(context: FragmentLoaderContext, config: LoaderConfiguration, callbacks: Callbacks): void {
    this.context = context;
    this.#callbacks = callbacks;
    const alone = () => {
      this.#cancel = undefined;
      if (!this.#callbacks) return;
      reset(this.stats);
      this.#loadAlone(context, config, callbacks);
    };
    try {
      this.#cancel = this.#ask(context, alone);
    } catch (error) {
      console.warn("headwater: the session failed; playback goes on over HTTP", error);
    }
    if (!this.#cancel) alone();
  }

  abort(): void {
    const callbacks = this.#callbacks;
    if (!this.#giveUp()) {
      this.#own.abort();
    } else if (this.context) {
      this.stats.aborted = true;
      callbacks?.onAbort?.(this.stats, this.context, null);
    }
  }

  destroy(): void {
    this.#giveUp();
    this.context = null;
    this.#own.destroy();
  }

  getCacheAge(): number | null {
    return this.#own.getCacheAge?.() ?? null;
  }

  getResponseHeader(name: string): string | null {
    return this.#own.getResponseHeader?.(name) ?? null;
  }

  /** Forgets the session's answer. Returns whether one was awaited. */
  #giveUp(): boolean {
    const cancel = this.#cancel;
    this.#cancel = undefined;
    this.#callbacks = undefined;
    cancel?.();
    return cancel !== undefined;
  }

  #ask(context: FragmentLoaderContext, alone: () => void): (() => void) | undefined {
    const { frag, part } = context;
    const kind: string = frag.type;
    const named = nameOf(context);
    if (!named || !["main", "audio"].includes(kind) || context.responseType !== "arraybuffer") return undefined;
    const stats = this.stats;
    stats.loading.start = performance.now();
    return this.#session.want({
      ...named,
      start: (part ?? frag).start,
      audio: kind === "audio",
      deliver: (bytes, timing) => {
        this.#cancel = undefined;
        this.#deliver(context, bytes, timing);
      },
      alone,
      waiting: () => {
        stats.loading.start = performance.now();
      },
      progress: (bytes) => {
        stats.loading.first ||= performance.now();
        stats.loaded = bytes;
      },
    });
  }

  #deliver(context: FragmentLoaderContext, bytes: ArrayBuffer, timing: Timing): void {
    const callbacks = this.#callbacks;
    if (!callbacks) return;
    const { stats } = this;
    // It takes as long as is told, but ends now: what was here before it was asked for has not been slow.
    const end = performance.now();
    const late = end - timing.complete;
    stats.loading = { start: timing.requested + late, first: timing.firstByte + late, end };
    stats.loaded = stats.total = bytes.byteLength;
    stats.bwEstimate = (bytes.byteLength * 8000) / Math.max(1, end - stats.loading.first);
    callbacks.onProgress?.(stats, context, bytes, null);
    callbacks.onSuccess({ url: context.url, data: bytes, code: 200 }, stats, context, null);
  }

  /** As if Headwater were not there, but for looking at what came. */
  #loadAlone(context: FragmentLoaderContext, config: LoaderConfiguration, callbacks: Callbacks): void {
    const named = nameOf(context);
    const onSuccess: Callbacks["onSuccess"] = (response, stats, loaded, details) => {
      if (named && response.data instanceof ArrayBuffer) {
        const { start, first, end } = stats.loading;
        this.#session.loaded(named.playlist, named.sn, response.data, {
          requested: start,
          firstByte: first,
          complete: end,
        });
      }
      callbacks.onSuccess(response, stats, loaded, details);
    };
    // hls.js knows the context by what is in it; its type here is that of any loader.
    this.#own.load(context, config, { ...callbacks, onSuccess } as LoaderCallbacks<LoaderContext>);
  }
}

/** What the session calls a fragment or a part; nothing where it is no media. A part without a number is counted, and no more. */
function nameOf({ frag, part }: FragmentLoaderContext): { playlist: string; sn: number } | undefined {
  const { baseurl, sn } = frag;
  if (typeof sn !== "number") return undefined;
  if (!part) return { playlist: baseurl, sn };
  const number = numbers.get(part);
  return number === undefined ? { playlist: "", sn } : { playlist: baseurl + PARTS, sn: number };
}

function reset(stats: LoaderStats): void {
  stats.loading = { start: 0, first: 0, end: 0 };
  stats.loaded = 0;
}
