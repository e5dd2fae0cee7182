// Every player that has an adapter: two viewers of it deliver a stream to each other, and with everything that peers need
// broken it plays as it would without us.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { until } from "./harness/wait.mjs";

/** Playback at this speed halves the time that a test takes. */
const RATE = 2;

const NOWHERE = "ws://127.0.0.1:9/v1/signal";

/** What a page of each player does: `options` is Headwater's, `video` and `src` are what is played where. */
const PLAYERS = {
  "hls.js 1.6": { playlist: "master.m3u8", script: hlsjs("hls16") },
  "hls.js 1.6 light": { playlist: "media_0.m3u8", script: hlsjs("hls16-light") },
  "hls.js 1.7 light": { playlist: "media_0.m3u8", script: hlsjs("hls17-light") },
  "Shaka with DASH": { playlist: "stream.mpd", library: "/lib/shaka.js", script: shaka() },
  "Shaka with HLS": { playlist: "master.m3u8", library: "/lib/shaka.js", script: shaka() },
  "dash.js": {
    playlist: "stream.mpd",
    library: "/lib/dash.js",
    script: `
      const { attachHeadwater } = await import("/headwater-dashjs.js");
      const player = dashjs.MediaPlayer().create();
      const attached = attachHeadwater(player, options);
      player.on("error", ({ error }) => fail(error.message));
      player.initialize(video, src, true);
      player.updateSettings({ streaming: { buffer: { bufferTimeDefault: 30, bufferTimeAtTopQuality: 30 } } });
      window.stats = () => attached.stats();`,
  },
  "Video.js with HLS": { playlist: "master.m3u8", library: "/lib/video.js", script: videojs("application/x-mpegURL") },
  "Video.js with DASH": { playlist: "stream.mpd", library: "/lib/video.js", script: videojs("application/dash+xml") },
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
      const player = new Hls(hls(options));
      player.on(Hls.Events.ERROR, (_, data) => data.fatal && fail(data.details));
      player.loadSource(src);
      player.attachMedia(video);
      window.stats = () => statsOf(player);`;
}

function shaka() {
  return `
      const { attachHeadwater } = await import("/headwater-shaka.js");
      shaka.polyfill.installAll();
      const player = new shaka.Player();
      await player.attach(video);
      player.configure({ streaming: { bufferingGoal: 30 } });
      player.addEventListener("error", ({ detail }) => fail("shaka " + detail.code));
      const attached = attachHeadwater(player, options);
      window.stats = () => attached.stats();
      await player.load(src);`;
}

function videojs(type) {
  return `
      const { attachHeadwater } = await import("/headwater-videojs.js");
      const player = window.videojs(video, { html5: { vhs: { overrideNative: true } } });
      const attached = attachHeadwater(player, options);
      player.on("error", () => fail(player.error().message));
      player.src({ src, type: "${type}" });
      window.stats = () => attached.stats();`;
}

function html({ library, script }, src, options) {
  return `
    ${library ? `<script src="${library}"></script>` : ""}
    <video id="video" class="video-js" muted autoplay playsinline width="320" height="180"></video>
    <script type="module">
      window.failures = [];
      const fail = (what) => window.failures.push(String(what));
      const video = document.querySelector("video");
      video.defaultPlaybackRate = video.playbackRate = ${RATE};
      video.addEventListener("loadeddata", () => (video.playbackRate = ${RATE}));
      const options = ${JSON.stringify(options)};
      const src = ${JSON.stringify(src)};
      try {${script}
      } catch (error) {
        fail(error.stack);
      }
    </script>`;
}

class Viewer {
  constructor({ page, messages, close }) {
    Object.assign(this, { page, messages, close });
  }

  async look() {
    return await this.page.evaluate(() => {
      const video = document.querySelector("video");
      const { currentTime: time, ended, playbackRate, readyState } = video;
      const buffered = video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) : 0;
      return { time, ended, playbackRate, readyState, buffered, failures: window.failures, stats: window.stats?.() };
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
      const seen = JSON.stringify(await this.look());
      throw new Error(`${error.message}\n${seen}\n${this.messages.slice(-20).join("\n")}`, { cause: error });
    }
  }
}

describe("adapters", { concurrency: 3, timeout: 200_000 }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  for (const [name, player] of Object.entries(PLAYERS)) {
    const { playlist } = player;

    test(`${name}: viewers deliver the stream to each other`, async (t) => {
      const stage = await startStage({ t, root: CMAF, playlist });
      const options = { signal: stage.signal.url, integrity: "open" };
      const open = async () => new Viewer(await browser.openPage(html(player, stage.src, options)));
      const first = await open();
      await first.until("the first viewer is well ahead", ({ time, buffered }) => time > 4 && buffered > 20);
      const second = await open();
      const ends = await Promise.all([first, second].map((viewer) => viewer.until("the end", ({ ended }) => ended)));
      const [one, other] = ends.map(({ stats }) => stats);
      console.log(`${name}: ${JSON.stringify(other)}`);
      assert.ok(other.viewerBytes > other.httpBytes / 2, JSON.stringify([one, other]));
      assert.ok(one.uploadedBytes > 0, JSON.stringify([one, other]));
      for (const { stallMs } of [one, other]) assert.ok(stallMs <= 500, JSON.stringify([one, other]));
      await Promise.all([first.close(), second.close()]);
    });

    test(`${name}: with everything broken it plays as without us`, async (t) => {
      const stage = await startStage({ t, root: CMAF, playlist, signal: false });
      const options = { signal: NOWHERE, integrity: "open" };
      const viewer = new Viewer(
        await browser.openPage(html(player, stage.src, options), {
          before: () => {
            window.RTCPeerConnection = class {
              constructor() {
                throw new Error("not today");
              }
            };
            window.WebSocket = class {
              constructor() {
                throw new Error("not today");
              }
            };
          },
        }),
      );
      const { stats } = await viewer.until("the end", ({ ended }) => ended);
      assert.equal(stats.viewerBytes + stats.seedBytes, 0);
      assert.ok(stats.stallMs <= 500, JSON.stringify(stats));
      // Each segment once, and all of them counted.
      const { paths } = stage.origin.stats();
      const segments = Object.entries(paths).filter(([path]) => path.includes("seg-"));
      for (const [path, { requests }] of segments) assert.ok(requests === 1, `${path}: ${requests} requests`);
      const bytes = segments.reduce((sum, [, counted]) => sum + counted.bytes, 0);
      assert.ok(Math.abs(bytes - stats.httpBytes) <= bytes * 0.03, `${bytes} served, ${stats.httpBytes} counted`);
      await viewer.close();
    });
  }
});
