// <headwater-video>: a <video> in a shadow root, hls.js, and Headwater between them.
//
// The shadow root keeps the page's own `video` rules and scripts away from it, and offers it back on purpose: as
// `::part(video)`, as the property `video`, and by its events and methods on the element itself.

import type Hls from "hls.js";
import type { ErrorData } from "hls.js";

import { NOTHING } from "./client/client.js";
import { describe, hls, sessionOf } from "./hls/adapter.js";
import { StallWatch } from "./media.js";
import type { HeadwaterOptions } from "./options.js";
import type { HeadwaterStats, PeerEventDetail } from "./session.js";

/** Attributes that a page gives the element and that belong to the <video>. */
const MEDIA_ATTRIBUTES = (
  "autopictureinpicture autoplay controls controlslist crossorigin disablepictureinpicture disableremoteplayback loop " +
  "muted playsinline poster preload"
).split(" ");

/** Attributes that say what is played. */
const OWN_ATTRIBUTES = ["src", "signal", "key", "integrity", "swarm", "token", "upload-cap", "ice"];

/** `consent="ask"`: all is HTTP until the page says `consent="given"` in its place. */
const CONSENT = "consent";

/** How often `headwaterchange` says that counters may have changed. */
const CHANGE_EVERY_MS = 1_000;

/** hls.js is asked to recover no more often than this, and no more often than so many times in a row. */
const RECOVER_EVERY_MS = 3_000;
const MAX_RECOVERIES = 4;

/** Recoveries count as in a row unless playback went well for this long between them. */
const RECOVERED_AFTER_MS = 30_000;

/** hls.js's word for where a stream begins by itself. */
const FROM_ITS_START = -1;

/** Until it is played, a video without `autoplay` loads no further than is needed to show its first frame. */
const FIRST_FRAME = { maxBufferLength: 1, maxMaxBufferLength: 1, maxBufferSize: 0 };

const HLS_TYPE = "application/vnd.apple.mpegurl";

const STYLE = `
:host{display:inline-block;position:relative;aspect-ratio:16/9;max-width:100%;background:#000}
:host([hidden]){display:none}
video{display:block;width:100%;height:100%}
p{position:absolute;inset:0;margin:0;display:grid;place-content:center;padding:1em;box-sizing:border-box;
color:#fff;background:#000c;font:1rem/1.5 system-ui,sans-serif;text-align:center}
p[hidden]{display:none}`;

/** What an `error` event of the element tells. */
export interface PlayerErrorDetail {
  /** What went wrong, for a person. */
  message: string;
  /** hls.js's `details`, or `"unsupported"`, or `"media"` where the browser's own player failed. */
  code: string;
}

/** A sheet that a policy against inline styles lets pass, where the browser has such sheets. */
function dress(root: ShadowRoot): void {
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
  } catch {
    const style = document.createElement("style");
    style.textContent = STYLE;
    root.append(style);
  }
}

/** Where there is no DOM, as on a server that renders pages, the module can still be imported. */
const Base = (globalThis as Partial<typeof globalThis>).HTMLElement ?? (Object as unknown as typeof HTMLElement);

/** What of the <video> is the element's own too, so that scripts and media-chrome take it for one. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type, @typescript-eslint/no-unsafe-declaration-merging
export interface HeadwaterVideo extends Omit<HTMLVideoElement, keyof HTMLElement | "src" | "srcObject"> {}

/** A video that viewers deliver to each other. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class HeadwaterVideo extends Base {
  static readonly observedAttributes = [...MEDIA_ATTRIBUTES, ...OWN_ATTRIBUTES, CONSENT];

  /** See `HeadwaterOptions.numberOf`. Counts from the next `src` on, and may be set before this element's script is there. */
  declare numberOf: HeadwaterOptions["numberOf"];
  /** The media element that plays. */
  readonly video: HTMLVideoElement;
  readonly #message: HTMLElement;
  #hls: Hls | undefined;
  #session: ReturnType<typeof sessionOf>;
  /** Counts start-up and stalls where the browser plays HLS by itself. */
  #watch: StallWatch | undefined;
  #consent: ((given: boolean) => void) | undefined;
  /** Where playback was when it was unloaded. */
  #leftAt = FROM_ITS_START;
  /** What the attributes say is not what is loaded. */
  #isStale = true;
  #loaded = 0;
  #loading = false;
  #recoveries = 0;
  #recoveredAt = -Infinity;
  /** Listeners that what is loaded needs end with it. */
  #unloading = new AbortController();
  #changing: ReturnType<typeof setInterval> | undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    this.video = document.createElement("video");
    this.video.part.add("video");
    this.#message = document.createElement("p");
    this.#message.part.add("error");
    this.#message.role = "alert";
    this.#message.hidden = true;
    dress(root);
    const slot = document.createElement("slot");
    slot.hidden = true;
    root.append(this.video, this.#message, slot);
    // A page's own subtitles: a <video> in a shadow root sees none but its own children.
    // hls.js has tracks there as well, and those are its own.
    const copies = new Map<Element, Element>();
    slot.onslotchange = () => {
      for (const [track, copy] of copies) {
        if (track.parentNode !== this && copies.delete(track)) copy.remove();
      }
      for (const track of this.querySelectorAll(":scope>track")) {
        if (copies.has(track)) continue;
        const copy = track.cloneNode() as Element;
        copies.set(track, copy);
        this.video.append(copy);
      }
    };
    for (const handler in this.video) {
      const type = handler.slice(2);
      if (!handler.startsWith("on") || type === "error") continue;
      this.video.addEventListener(type, (event) => {
        // What media elements say stays in the shadow root, and so is said again; clicks and the like come out by themselves.
        if (!event.composed) this.dispatchEvent(new (event.constructor as typeof Event)(type, event));
      });
    }
    this.video.addEventListener("error", () => {
      // hls.js tells of its own errors better.
      const { error } = this.video;
      if (!this.#hls && error) this.#fail("media", error.message || `media error ${error.code}`);
    });
  }

  /** The URL of the playlist. */
  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(url: string) {
    this.setAttribute("src", url);
  }

  /** Bytes of segments by source, neighbours, and how playback went. */
  stats(): HeadwaterStats {
    const played = this.#watch?.stats ?? { stalls: 0, stallMs: 0, startupMs: 0 };
    return this.#session?.stats() ?? { ...NOTHING, ...played };
  }

  connectedCallback(): void {
    this.#changing = setInterval(() => this.dispatchEvent(new Event("headwaterchange")), CHANGE_EVERY_MS);
    // Moved to another place in the page, it plays on.
    if (this.#isStale) this.#reload();
  }

  disconnectedCallback(): void {
    clearInterval(this.#changing);
    // Where it is moved, it comes back at once.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#isStale = true;
      this.#unload();
    });
  }

  attributeChangedCallback(name: string, old: string | null, value: string | null): void {
    if (old === value) return;
    if (name === CONSENT) {
      if (value === "given") this.#consent?.(true);
      else if (value === "refused") this.#consent?.(false);
      return;
    }
    if (OWN_ATTRIBUTES.includes(name)) {
      this.#isStale = true;
      if (this.isConnected) this.#reload();
      if (name === "src") this.#leftAt = FROM_ITS_START;
      return;
    }
    if (value === null) this.video.removeAttribute(name);
    else this.video.setAttribute(name, value);
    // The attribute alone says what a video that is yet to be made begins with.
    if (name === "muted") this.video.muted = value !== null;
  }

  /** Loads what the attributes say now, once for any number of them that change together. */
  #reload(): void {
    if (this.#loading) return;
    this.#loading = true;
    // At once, as a <video> does it: a play() that comes next is for what is loaded then.
    this.#unload();
    queueMicrotask(() => {
      this.#loading = false;
      if (!this.isConnected) return;
      this.#isStale = false;
      if (this.src) {
        this.#load().catch((error: unknown) => {
          this.#fail("unsupported", error instanceof Error ? error.message : String(error));
        });
      }
    });
  }

  async #load(): Promise<void> {
    const load = ++this.#loaded;
    const begun = performance.now();
    const url = new URL(this.src, document.baseURI).href;
    const Player = (globalThis as { Hls?: typeof Hls }).Hls ?? (await import("hls.js")).default;
    if (load !== this.#loaded) return;
    if (!Player.isSupported()) {
      this.#playNatively();
      return;
    }
    const { autoplay, paused, preload } = this.video;
    // Who called play() while hls.js was on its way does not wait for another.
    const held = !autoplay && paused && preload !== "auto";
    const later = held && preload === "none";
    const player = new Player({
      ...hls(this.#options()),
      ...(held && FIRST_FRAME),
      autoStartLoad: !later,
      // As browsers that play HLS by themselves have it, so that controls show a live stream as one.
      liveDurationInfinity: true,
      startPosition: this.#leftAt,
    });
    this.#hls = player;
    this.#session = sessionOf(player);
    if (this.#session) {
      this.#session.begun = begun;
      this.#session.onpeer = (detail) => {
        this.dispatchEvent(new CustomEvent<PeerEventDetail>("headwaterpeer", { detail }));
      };
    }
    player.on(Player.Events.ERROR, (_, data) => {
      if (data.fatal) this.#recover(player, data);
    });
    if (held) {
      const start = () => {
        const { maxBufferLength, maxMaxBufferLength, maxBufferSize } = Player.DefaultConfig;
        Object.assign(player.config, { maxBufferLength, maxMaxBufferLength, maxBufferSize });
        if (later) player.startLoad(this.#leftAt);
      };
      this.video.addEventListener("play", start, { once: true, signal: this.#unloading.signal });
    }
    player.attachMedia(this.video);
    if (this.video.querySelector("source")) {
      // A ManagedMediaSource, which opens only where there is something to play elsewhere as well: the playlist itself.
      const source = document.createElement("source");
      source.type = HLS_TYPE;
      source.src = url;
      this.video.append(source);
      this.video.disableRemotePlayback = this.hasAttribute("disableremoteplayback");
    }
    player.loadSource(url);
  }

  #playNatively(): void {
    if (!this.video.canPlayType(HLS_TYPE)) {
      this.#fail("unsupported", "this browser can play no HLS");
      return;
    }
    this.#watch = new StallWatch(this.video);
    this.video.src = this.src;
  }

  #options(): HeadwaterOptions {
    const options: Record<string, string> = {};
    for (const name of OWN_ATTRIBUTES) {
      const value = this.getAttribute(name);
      if (value) options[name] = value;
    }
    if (options.src) options.src = new URL(options.src, document.baseURI).href;
    const { "upload-cap": cap, ...rest } = options;
    const all: HeadwaterOptions = { ...rest, ...(this.numberOf && { numberOf: this.numberOf }) };
    if (cap) all.uploadCap = Number(cap);
    if (this.getAttribute(CONSENT) === "ask") {
      all.consent = () =>
        new Promise((resolve) => {
          const now = this.getAttribute(CONSENT);
          if (now === "ask") this.#consent = resolve;
          else resolve(now === "given");
        });
    }
    return all;
  }

  #unload(): void {
    const { currentTime, readyState } = this.video;
    // Of a live stream, what is on air when it comes back; hls.js has it last as long as it is known, not for ever.
    if (readyState > 0) this.#leftAt = this.#hls?.latestLevelDetails?.live ? FROM_ITS_START : currentTime;
    this.#loaded += 1;
    this.#unloading.abort();
    this.#unloading = new AbortController();
    this.#message.hidden = true;
    this.#watch?.close();
    this.#hls?.destroy();
    if (this.video.hasAttribute("src")) {
      this.video.removeAttribute("src");
      this.video.load();
    }
    this.#hls = this.#session = this.#watch = this.#consent = undefined;
    this.#recoveries = 0;
  }

  /** A fatal error: what hls.js says can help is tried, a few times; else the viewer is told. */
  #recover(player: Hls, data: ErrorData): void {
    const status = data.response?.code ?? 0;
    // What the server refuses before there is anything to play, it refuses again.
    const refused = status >= 400 && status < 500 && this.video.readyState === HTMLMediaElement.HAVE_NOTHING;
    const hopeless = refused || data.details.startsWith("manifest") || player.levels.length === 0;
    const now = performance.now();
    if (now - this.#recoveredAt > RECOVERED_AFTER_MS) this.#recoveries = 0;
    const { type } = data as { type: string };
    const helps = type === "networkError" || type === "mediaError";
    if (hopeless || !helps || this.#recoveries >= MAX_RECOVERIES) {
      this.#fail(data.details, describe(data));
      return;
    }
    const retry = () => {
      clearTimeout(timer);
      removeEventListener("online", retry);
      if (this.#hls !== player) return;
      if (type === "mediaError") player.recoverMediaError();
      else player.startLoad();
    };
    let wait = RECOVERED_AFTER_MS;
    if (type === "networkError" && !navigator.onLine) {
      // A server on the same network may be there all the same, and `online` never come.
      addEventListener("online", retry, { signal: this.#unloading.signal });
    } else {
      wait = Math.max(0, this.#recoveredAt + RECOVER_EVERY_MS - now);
      this.#recoveries += 1;
      this.#recoveredAt = now + wait;
    }
    const timer = setTimeout(retry, wait);
  }

  #fail(code: string, message: string): void {
    this.#unload();
    this.#message.textContent = `This video cannot be played. ${message}`;
    this.#message.hidden = false;
    this.dispatchEvent(new CustomEvent<PlayerErrorDetail>("error", { detail: { code, message } }));
  }
}

type Media = Record<string, unknown>;

const { HTMLMediaElement: MediaElement, HTMLVideoElement: VideoElement } = globalThis as Partial<typeof globalThis>;
for (const { prototype } of [MediaElement, VideoElement].filter((found) => found !== undefined)) {
  for (const [name, descriptor] of Object.entries<PropertyDescriptor>(Object.getOwnPropertyDescriptors(prototype))) {
    if (name in HeadwaterVideo.prototype) continue;
    const value: unknown = descriptor.value;
    const isMethod = typeof value === "function";
    Object.defineProperty(
      HeadwaterVideo.prototype,
      name,
      isMethod || !("value" in descriptor)
        ? {
            configurable: true,
            get(this: HeadwaterVideo) {
              const media = this.video as unknown as Media;
              return isMethod ? (media[name] as () => unknown).bind(media) : media[name];
            },
            set(this: HeadwaterVideo, given: unknown) {
              (this.video as unknown as Media)[name] = given;
              // What a property says of a media element, its attribute says; `muted` is only what it begins with.
              const attribute = name.toLowerCase();
              if (name === "muted" || !MEDIA_ATTRIBUTES.includes(attribute)) return;
              const value = this.video.getAttribute(attribute);
              if (value === null) this.removeAttribute(attribute);
              else this.setAttribute(attribute, value);
            },
          }
        : { value },
    );
  }
}
