// hls.js: `new Hls(hls({ signal, key }))`. Listens to the player, names its tracks, and loads its fragments.

import type Hls from "hls.js";
import type { ErrorData, HlsConfig, HlsListeners, LevelDetails, LoaderContext, MediaFragment, Part } from "hls.js";

import type { LoadedBytes, SegmentRequest } from "../client/http.js";
import type { HeadwaterOptions } from "../options.js";
import { type HeadwaterStats, Session } from "../session.js";
import { loaderClass } from "./loader.js";
import { type PartSegment, tellParts } from "./parts.js";

/** What `new Hls` takes from Headwater. */
export type HlsPart = Pick<HlsConfig, "fLoader" | "cmcdController">;

type Loadable = MediaFragment | PartSegment;

const sessions = new WeakMap<object, Session<Loadable>>();

/** Configuration for one `new Hls(…)`: spread it beside your own. */
export function hls(options: HeadwaterOptions): HlsPart {
  let player: Hls | undefined;
  const session = new Session<Loadable>(options, { request: (fragment) => requestFor(fragment, player) });
  /** hls.js makes one of these for each player and hands itself over: the one way to meet it from its configuration. */
  class Attachment {
    readonly #listeners: Listeners;
    readonly #default: { destroy(): void } | undefined;

    constructor(owner: Hls) {
      player = owner;
      sessions.set(owner, session);
      // Where the page has asked for CMCD, the controller whose place this takes still does its work.
      const Default = (owner.constructor as typeof Hls).DefaultConfig.cmcdController;
      this.#default = Default && owner.config.cmcd ? new Default(owner) : undefined;
      this.#listeners = new Listeners(owner, session, options.integrity === "open" && !options.numberOf);
    }

    destroy(): void {
      this.#default?.destroy();
      this.#listeners.close();
      session.close();
      player = undefined;
    }
  }
  return {
    fLoader: loaderClass(session),
    cmcdController: Attachment as unknown as NonNullable<HlsConfig["cmcdController"]>,
  };
}

/** The counters of a player made with `hls(…)`. */
export function statsOf(player: Hls): HeadwaterStats | undefined {
  return sessions.get(player)?.stats();
}

/** The session of a player made with `hls(…)`. */
export function sessionOf(player: Hls): Session<Loadable> | undefined {
  return sessions.get(player);
}

/** What hls.js says, told to the session. Event names come from the page's hls.js, so that none need be imported. */
class Listeners {
  readonly #player: Hls;
  readonly #off: (() => void)[] = [];

  constructor(player: Hls, session: Session<Loadable>, open: boolean) {
    this.#player = player;
    const { Events } = player.constructor as typeof Hls;
    /** Fragments name their playlist by the URL that answered; the track is named by the one that the stream gives. */
    const tell = (details: LevelDetails, name = details.url) => {
      session.playlist(details.url, name, details.live, details.fragments);
      // Seeds sign whole segments: of a signed stream, no part could be believed. And a page numbers whole ones.
      if (open) tellParts(session, details, name, player.targetLatency);
    };
    this.#on(Events.MANIFEST_LOADING, (_, { url }) => {
      session.open(url);
    });
    this.#on(Events.MEDIA_ATTACHED, (_, { media }) => {
      session.attach(media);
    });
    this.#on(Events.MEDIA_DETACHING, () => {
      session.detach();
    });
    this.#on(Events.LEVEL_UPDATED, (_, { details, level }) => {
      tell(details, player.levels[level]?.uri);
    });
    this.#on(Events.AUDIO_TRACK_UPDATED, (_, { details, id }) => {
      tell(details, player.audioTracks[id]?.url);
    });
  }

  #on<E extends keyof HlsListeners>(event: E, listener: HlsListeners[E]): void {
    this.#player.on(event, listener);
    this.#off.push(() => {
      this.#player.off(event, listener);
    });
  }

  close(): void {
    for (const off of this.#off.splice(0)) off();
  }
}

function requestFor(segment: Loadable, player: Hls | undefined): SegmentRequest {
  const { part = null, frag = segment as MediaFragment } = segment as Partial<PartSegment>;
  const { url, byteRange } = part ?? frag;
  const [start, end] = byteRange;
  const request: SegmentRequest = { url };
  if (start !== undefined && end !== undefined) Object.assign(request, { start, end });
  const config = player?.config;
  const special = config && (config.xhrSetup ?? config.fetchSetup ?? isForeign(config, player));
  if (special) request.load = (range, signal) => loadWith(config, { url, frag, part }, range, signal);
  return request;
}

/** Whether the page has given hls.js a loader of its own. */
function isForeign(config: HlsConfig, player: Hls): boolean {
  return config.loader !== (player.constructor as typeof Hls).DefaultConfig.loader;
}

/** Loads with the loader that the page has configured, so that credentials, headers and the like are as it wants. */
function loadWith(
  config: HlsConfig,
  what: { url: string; frag: MediaFragment; part: Part | null },
  range: { start: number; end: number } | undefined,
  signal: AbortSignal,
): Promise<LoadedBytes> {
  return new Promise((resolve, reject) => {
    const loader = new config.loader(config);
    const fail = () => {
      loader.destroy();
      reject(new Error("the page's loader failed"));
    };
    signal.addEventListener("abort", fail, { once: true });
    const loadPolicy = { ...config.fragLoadPolicy.default, timeoutRetry: null, errorRetry: null };
    const once = { loadPolicy, timeout: loadPolicy.maxLoadTimeMs, maxRetry: 0, retryDelay: 0, maxRetryDelay: 0 };
    const context = {
      ...what,
      type: "media-fragment",
      responseType: "arraybuffer",
      ...(range && { rangeStart: range.start, rangeEnd: range.end }),
    };
    loader.load(context as unknown as LoaderContext, once, {
      onSuccess: ({ data, code }) => {
        signal.removeEventListener("abort", fail);
        loader.destroy();
        if (data instanceof ArrayBuffer) resolve({ status: code ?? (range ? 206 : 200), bytes: data });
        else fail();
      },
      onError: fail,
      onTimeout: fail,
    });
  });
}

/** How an error of hls.js reads to a viewer, and what went wrong for a developer. */
export function describe(data: ErrorData): string {
  const code = data.response?.code;
  return `${data.details}${code ? ` (HTTP ${code})` : ""}: ${data.error.message}`;
}
