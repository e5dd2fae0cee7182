// Pages of each player that has an adapter, as a page's author would write them.

import assert from "node:assert/strict";

import { until } from "./wait.mjs";

/** Playback at this speed halves the time that a test takes. */
const RATE = 2;

/**
 * What a page of each player does: `options` is Headwater's, `video` and `src` are what is played where, `config` is what a
 * test wants of the player besides, in its own terms, `buffer` how many seconds it is to keep.
 */
export const PLAYERS = {
  "hls.js 1.6": { playlist: "master.m3u8", script: hlsjs("hls16") },
  "hls.js 1.7": { playlist: "master.m3u8", script: hlsjs("hls17") },
  "hls.js 1.6 light": { playlist: "media_0.m3u8", script: hlsjs("hls16-light") },
  "hls.js 1.7 light": { playlist: "media_0.m3u8", script: hlsjs("hls17-light") },
  "Shaka with DASH": { playlist: "stream.mpd", library: "/lib/shaka.js", script: shaka() },
  "Shaka with HLS": { playlist: "master.m3u8", library: "/lib/shaka.js", script: shaka() },
  "dash.js": {
    playlist: "stream.mpd",
    library: "/lib/dash.js",
    script: `
      const { attachHeadwater } = await import("/headwater-dashjs.js");
      const player = (window.player = dashjs.MediaPlayer().create());
      const attached = attachHeadwater(player, options);
      player.on("error", ({ error }) => fail(error.message));
      player.initialize(video, src, true);
      player.updateSettings({ streaming: { buffer: { bufferTimeDefault: buffer, bufferTimeAtTopQuality: buffer } } });
      if (config.protection) player.setProtectionData(config.protection);
      window.stats = () => attached.stats();`,
  },
  "Video.js with HLS": { playlist: "master.m3u8", library: "/lib/video.js", script: videojs("application/x-mpegURL") },
  "Video.js with DASH": { playlist: "stream.mpd", library: "/lib/video.js", script: videojs("application/dash+xml") },
  Vidstack: {
    playlist: "master.m3u8",
    // Its build for pages without a bundler takes icons from a CDN, before all else.
    imports: { "https://cdn.jsdelivr.net/npm/media-icons@1.1.5/dist/cdn.js/+esm": "data:text/javascript," },
    script: `
      const { default: Hls } = await import("/lib/hls17.mjs");
      const { hls, statsOf } = await import("/headwater.js");
      await import("/lib/vidstack/vidstack.js");
      const player = document.createElement("media-player");
      Object.assign(player, { autoPlay: true, muted: true, playsInline: true });
      player.append(document.createElement("media-provider"));
      player.addEventListener("provider-change", ({ detail: provider }) => {
        if (provider?.type !== "hls") return;
        provider.library = Hls;
        provider.config = { ...hls(options), maxBufferLength: buffer, ...config };
        provider.onInstance((instance) => (window.stats = () => statsOf(instance)));
      });
      player.addEventListener("provider-setup", ({ detail: { video } }) => watch(video));
      player.addEventListener("hls-error", ({ detail }) => detail.fatal && fail(detail.details));
      video.replaceWith(player);
      player.src = { src, type: "application/x-mpegurl" };`,
  },
  "media-chrome around the element": {
    playlist: "master.m3u8",
    library: "/lib/media-chrome.js",
    script: `
      await import("/headwater.js");
      const player = document.createElement("headwater-video");
      for (const [name, value] of Object.entries(options)) player.setAttribute(name, value);
      for (const name of ["autoplay", "muted", "playsinline"]) player.toggleAttribute(name, true);
      player.slot = "media";
      player.addEventListener("error", ({ detail }) => detail && fail(detail.message));
      watch(player);
      const around = document.createElement("media-controller");
      around.innerHTML = "<media-control-bar><media-play-button></media-play-button></media-control-bar>";
      around.append(player);
      video.replaceWith(around);
      player.src = src;
      window.stats = () => player.stats();`,
  },
  "a player of the page's own": {
    playlist: "media_0.m3u8",
    script: `
      const { segments } = await import("/headwater-fetch.js");
      const stream = segments(options, video);
      window.stats = () => stream.stats();
      const source = new MediaSource();
      video.src = URL.createObjectURL(source);
      await new Promise((resolve) => (source.onsourceopen = resolve));
      const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.4d401f"');
      const list = await (await stream.fetch(src)).text();
      const urls = ["init-0.mp4", ...list.split("\\n").filter((line) => line.endsWith(".m4s"))];
      for (const url of urls) {
        const bytes = await stream.fetchSegment(new URL(url, src));
        buffer.appendBuffer(bytes);
        await new Promise((resolve) => (buffer.onupdateend = resolve));
      }
      source.endOfStream();`,
  },
};

/** hls.js of the build in this file of /lib. */
function hlsjs(build) {
  return `
      const { default: Hls } = await import("/lib/${build}.mjs");
      const { hls, statsOf } = await import("/headwater.js");
      const player = (window.player = new Hls({ ...hls(options), maxBufferLength: buffer, ...config }));
      player.on(Hls.Events.ERROR, (_, data) => data.fatal && fail(data.details));
      player.loadSource(src);
      player.attachMedia(video);
      window.stats = () => statsOf(player);`;
}

function shaka() {
  return `
      const { attachHeadwater } = await import("/headwater-shaka.js");
      shaka.polyfill.installAll();
      const player = (window.player = new shaka.Player());
      await player.attach(video);
      player.configure({ streaming: { bufferingGoal: buffer }, ...config });
      player.addEventListener("error", ({ detail }) => fail("shaka " + detail.code));
      const attached = attachHeadwater(player, options);
      window.stats = () => attached.stats();
      await player.load(src);`;
}

function videojs(type) {
  return `
      const { attachHeadwater } = await import("/headwater-videojs.js");
      window.videojs.Vhs.GOAL_BUFFER_LENGTH = buffer;
      const player = (window.player = window.videojs(video, { html5: { vhs: { overrideNative: true, ...config } } }));
      const attached = attachHeadwater(player, options);
      player.on("error", () => fail(player.error().message));
      player.src({ src, type: "${type}" });
      window.stats = () => attached.stats();`;
}

/** Opens a page in which this player plays `src`; `options` are Headwater's, `before` runs in it before all else. */
export async function openPlayer(browser, player, src, options, before) {
  return new PlayerPage(await browser.openPage(html(player, src, options), { before }));
}

function html({ library, imports, script, config = {}, buffer = 30 }, src, { rate = RATE, ...options }) {
  return `
    ${imports ? `<script type="importmap">${JSON.stringify({ imports })}</script>` : ""}
    ${library ? `<script src="${library}"></script>` : ""}
    <video id="video" class="video-js" muted autoplay playsinline width="320" height="180"></video>
    <script type="module">
      window.failures = [];
      const fail = (what) => window.failures.push(String(what));
      const video = document.querySelector("video");
      // How long each height of picture was played, in seconds.
      window.heights = {};
      const watch = (video) => {
        video.defaultPlaybackRate = video.playbackRate = ${rate};
        video.addEventListener("loadeddata", () => (video.playbackRate = ${rate}));
        let last = 0;
        video.addEventListener("timeupdate", () => {
          const { currentTime: time, videoHeight: height } = video;
          if (time > last && time - last < 1) window.heights[height] = (window.heights[height] ?? 0) + time - last;
          last = time;
        });
      };
      watch(video);
      const options = ${JSON.stringify(options)};
      const buffer = ${buffer};
      const config = ${JSON.stringify(config)};
      const src = ${JSON.stringify(src)};
      try {${script}
      } catch (error) {
        fail(error.stack);
      }
    </script>`;
}

/** A page with a player in it. */
class PlayerPage {
  constructor({ page, messages, close }) {
    Object.assign(this, { page, messages, close });
  }

  async look() {
    return await this.page.evaluate(() => {
      const video = document.querySelector("headwater-video, video");
      const { currentTime: time, ended, paused, playbackRate, readyState } = video;
      const buffered = video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) : 0;
      const { failures, heights } = window;
      return { time, ended, paused, playbackRate, readyState, buffered, failures, heights, stats: window.stats?.() };
    });
  }

  /** Where hls.js is, in whatever it does. */
  async #inside() {
    return await this.page.evaluate(() => {
      const { networkControllers, bufferController } = window.player ?? {};
      const states = networkControllers?.map(({ state, fragCurrent }) => [state, fragCurrent?.sn]);
      const { mediaSource, tracks = {} } = bufferController ?? {};
      const buffers = Object.entries(tracks).map(([type, { ended, ending, buffer }]) => {
        const { updating, buffered } = buffer ?? {};
        return [type, { ended, ending, updating, to: buffered?.length ? buffered.end(buffered.length - 1) : 0 }];
      });
      return { states, source: mediaSource?.readyState, duration: mediaSource?.duration, buffers };
    });
  }

  /** Resolves with what is seen as soon as `holds`. */
  async until(what, holds, within = 60_000) {
    try {
      return await until(
        what,
        async () => {
          const seen = await this.look();
          assert.deepEqual(seen.failures, [], what);
          return holds(seen) && seen;
        },
        within,
      );
    } catch (error) {
      const seen = JSON.stringify([await this.look(), await this.#inside()]);
      throw new Error(`${error.message}\n${seen}\n${this.messages.slice(-20).join("\n")}`, { cause: error });
    }
  }
}
