// Every player that has an adapter, playing the demo's stream: ?player=NAME. The code that is shown is the code that runs.

import type { StatsSource } from "../player/src/stats.js";
import { find, ownSignal } from "../shared/page.js";

/** A way of playing: what a page's author writes, with `video`, the `stage` that it is in, `src` and `options` given. */
interface Player {
  name: string;
  /** Which of the demo's streams it plays. */
  format: "hls" | "dash";
  /** A script that has to be there before, as `library` finds it. */
  library?: string;
  /** Style sheets, likewise. */
  styles?: string[];
  code: string;
}

const SHAKA = "shaka-player@5/dist/shaka-player.compiled.js";
const VIDEOJS = "video.js@8/dist/video.min.js";

const shaka = `const { attachHeadwater } = await import("../headwater-shaka.js");
const player = new shaka.Player();
await player.attach(video);
const attached = attachHeadwater(player, options);
await player.load(src);
return attached;`;

const videojs = (type: string) => `const { attachHeadwater } = await import("../headwater-videojs.js");
const player = videojs(video, { html5: { vhs: { overrideNative: true } } });
const attached = attachHeadwater(player, options);
player.src({ src, type: "${type}" });
return attached;`;

const PLAYERS: Record<string, Player> = {
  hlsjs: {
    name: "hls.js",
    format: "hls",
    code: `const { default: Hls } = await import(library("hls.js@1/dist/hls.mjs"));
const { hls, statsOf } = await import("../headwater.js");
const player = new Hls({ ...hls(options) });
player.loadSource(src);
player.attachMedia(video);
return { stats: () => statsOf(player) };`,
  },
  "shaka-hls": { name: "Shaka, HLS", format: "hls", library: SHAKA, code: shaka },
  "videojs-hls": { name: "Video.js, HLS", format: "hls", library: VIDEOJS, code: videojs("application/x-mpegURL") },
  shaka: { name: "Shaka, DASH", format: "dash", library: SHAKA, code: shaka },
  dashjs: {
    name: "dash.js",
    format: "dash",
    library: "dashjs@5/dist/modern/umd/dash.all.min.js",
    code: `const { attachHeadwater } = await import("../headwater-dashjs.js");
const player = dashjs.MediaPlayer().create();
const attached = attachHeadwater(player, options);
player.initialize(video, src, true);
return attached;`,
  },
  videojs: { name: "Video.js, DASH", format: "dash", library: VIDEOJS, code: videojs("application/dash+xml") },
  vidstack: {
    name: "Vidstack",
    format: "hls",
    styles: ["vidstack@1/player/styles/default/theme.css", "vidstack@1/player/styles/default/layouts/video.css"],
    code: `const { default: Hls } = await import(library("hls.js@1/dist/hls.mjs"));
const { hls, statsOf } = await import("../headwater.js");
await import(library("vidstack@1/cdn/with-layouts/vidstack.js"));
stage.innerHTML = \`
  <media-player autoplay muted playsinline>
    <media-provider></media-provider>
    <media-video-layout></media-video-layout>
  </media-player>\`;
const player = stage.querySelector("media-player");
const attached = { stats: () => undefined };
player.addEventListener("provider-change", ({ detail: provider }) => {
  if (provider?.type !== "hls") return;
  provider.library = Hls;
  provider.config = hls(options);
  provider.onInstance((instance) => (attached.stats = () => statsOf(instance)));
});
player.src = { src, type: "application/x-mpegurl" };
return attached;`,
  },
  "media-chrome": {
    name: "media-chrome",
    format: "hls",
    library: "media-chrome@4/dist/iife/index.js",
    code: `await import("../headwater.js");
stage.innerHTML = \`
  <media-controller>
    <headwater-video slot="media" autoplay muted playsinline></headwater-video>
    <media-loading-indicator slot="centered-chrome"></media-loading-indicator>
    <media-control-bar>
      <media-play-button></media-play-button>
      <media-seek-backward-button seekoffset="10"></media-seek-backward-button>
      <media-seek-forward-button seekoffset="10"></media-seek-forward-button>
      <media-time-range></media-time-range>
      <media-time-display showduration></media-time-display>
      <media-mute-button></media-mute-button>
      <media-volume-range></media-volume-range>
      <media-playback-rate-button></media-playback-rate-button>
      <media-pip-button></media-pip-button>
      <media-fullscreen-button></media-fullscreen-button>
    </media-control-bar>
  </media-controller>\`;
const player = stage.querySelector("headwater-video");
player.setAttribute("signal", options.signal);
if (options.key) player.setAttribute("key", options.key);
player.src = src;
return player;`,
  },
  fetch: {
    name: "a player of one's own",
    format: "hls",
    code: `const { segments } = await import("../headwater-fetch.js");
const stream = segments(options, video);
const text = async (url) => await (await stream.fetch(url)).text();
const lines = (list) => list.split("\\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
const media = new URL(lines(await text(src))[0], src);
const list = await text(media);
const init = /#EXT-X-MAP:URI="([^"]+)"/.exec(list)[1];
const source = new MediaSource();
video.src = URL.createObjectURL(source);
await new Promise((resolve) => (source.onsourceopen = resolve));
const buffer = source.addSourceBuffer(codecs);
void (async () => {
  for (const line of [init, ...lines(list)]) {
    buffer.appendBuffer(await stream.fetchSegment(new URL(line, media)));
    await new Promise((resolve) => (buffer.onupdateend = resolve));
  }
  source.endOfStream();
})();
return stream;`,
  },
};

const FIRST = "hlsjs";

/** Where players of others come from, where the address names no other place. */
const CDN = "https://cdn.jsdelivr.net/npm/";

const query = new URLSearchParams(location.search);

/** A file of an npm package: of a folder without versions in it where the address names one, as `cargo xtask demo` does. */
function library(file: string): string {
  const folder = query.get("lib");
  return folder === null ? CDN + file : folder + file.replace(/@\d+/, "");
}

function style(href: string): void {
  const element = document.createElement("link");
  element.rel = "stylesheet";
  element.href = href;
  document.head.append(element);
}

function script(src: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = src;
    element.onload = () => {
      resolve();
    };
    element.onerror = () => {
      reject(new Error(`${src} cannot be loaded`));
    };
    document.head.append(element);
  });
}

/** This page with another player. */
function addressOf(player: string): string {
  const other = new URLSearchParams(query);
  other.set("player", player);
  return `?${other.toString()}`;
}

async function play(player: Player): Promise<void> {
  const src = query.get(player.format === "hls" ? "src" : "dash");
  if (!src) throw new Error(`the address names no ${player.format === "hls" ? "?src=" : "?dash="}: nothing to play`);
  const options = { signal: query.get("signal") ?? ownSignal(), key: query.get("key") ?? undefined };
  const video = document.createElement("video");
  Object.assign(video, { muted: true, autoplay: true, controls: true, playsInline: true });
  video.className = "video-js";
  find("stage").replaceChildren(video);
  for (const sheet of player.styles ?? []) style(library(sheet));
  if (player.library) await script(library(player.library));
  const codecs = query.get("codecs") ?? 'video/mp4; codecs="avc1.4d401f,mp4a.40.2"';
  const given = { video, stage: find("stage"), src, options, library, codecs };
  // The text that is shown is what runs, as a module of its own; "../" is this page's.
  const body = player.code.replaceAll('"../', `"${new URL("../", location.href).href}`);
  const text = `export default async ({ ${Object.keys(given).join(", ")} }) => {\n${body}\n};`;
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const { default: run } = (await import(url)) as { default: (all: typeof given) => Promise<StatsSource> };
  const source = await run(given);
  (find("stats") as HTMLElement & { source?: StatsSource }).source = source;
}

const asked = query.get("player") ?? FIRST;
const player = PLAYERS[asked];
for (const [name, { name: title }] of Object.entries(PLAYERS)) {
  const link = document.createElement("a");
  link.href = addressOf(name);
  link.textContent = title;
  if (name === asked) link.setAttribute("aria-current", "page");
  find("players").append(link);
}
find("another").setAttribute("href", location.href);
find("element").setAttribute("href", `./${location.search}`);
if (player) {
  find("code").textContent = player.code;
  play(player).catch((error: unknown) => {
    find("status").textContent = String(error);
  });
} else {
  find("status").textContent = `There is no player "${asked}": choose one above.`;
}
