// The choice of rendition stays honest: a player whose segments come from peers plays what it plays over HTTP alone, be its
// peers much faster than its origin or slower.

import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { startOrigin } from "../origin/origin.mjs";
import { startBrowser } from "./harness/browser.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startSignal } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** The renditions' heights; with their sound they take 17 and 39 kB/s. */
const SMALL = 180;
const LARGE = 360;

const PLAYED = ["hls.js 1.7", "Shaka with DASH", "dash.js"];

const SCENARIOS = {
  "a neighbour that has everything at once, on an origin between the renditions": {
    origin: 26_000,
    plays: SMALL,
    // Over HTTP alone, VHS stops for good on such an origin.
    players: PLAYED,
  },
  "a neighbour slower than the rendition, on an origin that is faster": {
    origin: 110_000,
    /** In Mbit/s: 36 kB/s. */
    uploadCap: 0.29,
    plays: LARGE,
    players: [...PLAYED, "Video.js with HLS"],
  },
  // Were the wait for the first byte taken for transfer, the line would seem too slow by half.
  "a neighbour that has everything at once, on an origin that is fast enough and far away": {
    origin: 110_000,
    delay: 900,
    plays: LARGE,
    players: ["hls.js 1.7", "dash.js"],
  },
  // Shaka takes it so by itself.
  "a neighbour that has everything at once, on an origin that is far away for a player that counts the way": {
    origin: 110_000,
    delay: 900,
    plays: SMALL,
    players: ["Shaka with DASH"],
  },
};

/** Players begin with what they assume of a line: what they play from here to there is what they have found. */
const SETTLED_S = 14;
const UNTIL_S = 26;
const SHARE = 0.9;

/**
 * A machine that is busy has the players measure another line than there is, over HTTP alone as well: Shaka then climbs to what
 * the origin cannot carry, or stays below. A viewer who is misled beside a neighbour is so each time.
 */
const ATTEMPTS = 3;

/** So little ahead, in seconds, that there are choices to be made until the end. */
const AHEAD = 8;

/** What a player must be told for that, and for choosing by what the line carries alone. */
const CONFIG = {
  "hls.js 1.7": { maxMaxBufferLength: AHEAD },
  "Video.js with HLS": { limitRenditionByPlayerDimensions: false },
};

describe("beside", { concurrency: 3, timeout: SUITE_MS }, () => {
  let browser;
  let media;

  before(async () => {
    browser = await startBrowser();
    media = (await readdir(CMAF)).filter((name) => name.startsWith("seg-")).sort();
  });
  after(() => browser?.close());

  /** A viewer that has every segment of every rendition, from an origin that is not slow, and plays by itself. */
  async function openLibrary({ url }, playlist, options) {
    const { page, messages, close } = await browser.openPage(`
      <video muted autoplay></video>
      <script type="module">
        const { segments } = await import("/headwater-fetch.js");
        const video = document.querySelector("video");
        const stream = segments(${JSON.stringify(options)}, video);
        const get = (name) => stream.fetchSegment(new URL(name, "${url}/"));
        await stream.fetch("${url}/${playlist}");
        if ("${playlist}".endsWith("m3u8")) for (const at of [0, 1, 2]) await stream.fetch("${url}/media_" + at + ".m3u8");
        const names = ${JSON.stringify(media)};
        const all = new Map(await Promise.all(names.map(async (name) => [name, await get(name)])));
        window.total = [...all.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
        const source = new MediaSource();
        video.src = URL.createObjectURL(source);
        await new Promise((resolve) => (source.onsourceopen = resolve));
        const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.4d401f"');
        const shown = names.filter((name) => name.startsWith("seg-0-")).map((name) => all.get(name));
        for (const bytes of [await get("init-0.mp4"), ...shown]) {
          buffer.appendBuffer(bytes);
          await new Promise((resolve) => (buffer.onupdateend = resolve));
        }
        window.stats = () => stream.stats();
      </script>`);
    await until("the library holds every segment", () =>
      page.evaluate(() => window.stats?.().heldBytes >= window.total),
    ).catch(async (error) => {
      const held = await page.evaluate(() => [window.total, window.stats?.()]);
      throw new Error(`${error.message}\n${JSON.stringify(held)}\n${messages.join("\n")}`);
    });
    return { close };
  }

  /** What both play: one over HTTP alone, and one beside the library. */
  async function play(name, { origin: rate, delay, uploadCap, plays }) {
    const player = { ...PLAYERS[name], buffer: AHEAD, config: CONFIG[name] };
    const servers = await Promise.all([startSignal(), ...[0, 1, 2].map(() => startOrigin({ root: CMAF }))]);
    const [signal, fast, lone, own] = servers;
    try {
      for (const origin of [lone, own]) {
        origin.setThrottle(rate);
        if (delay) origin.setDelay(delay);
      }
      // Named, since without a key the host is in the name.
      const peers = { signal: signal.url, integrity: "open", swarm: "abr" };
      const library = await openLibrary(fast, player.playlist, { ...peers, ...(uploadCap && { uploadCap }) });
      const open = (origin, options) =>
        openPlayer(browser, player, `${origin.url}/${player.playlist}`, { rate: 1, ...options });
      const viewers = await Promise.all([open(lone), open(own, peers)]);
      const seen = await Promise.all(
        viewers.map(async (viewer) => {
          const settled = await viewer.until("it has settled", ({ time }) => time > SETTLED_S);
          const then = await viewer.until("a while", ({ time }) => time > UNTIL_S, 180_000);
          const played = (then.heights[plays] ?? 0) - (settled.heights[plays] ?? 0);
          return { share: played / (then.time - settled.time), before: settled.heights, ...then };
        }),
      );
      await Promise.all([...viewers, library].map((page) => page.close()));
      return seen;
    } finally {
      await Promise.all(servers.map((server) => (server.kill ?? server.close).call(server)));
    }
  }

  for (const [beside, scenario] of Object.entries(SCENARIOS)) {
    for (const name of scenario.players) {
      test(`${beside}: ${name} plays the rendition that it plays over HTTP alone`, async () => {
        const said = [];
        while (said.length < ATTEMPTS) {
          const seen = await play(name, scenario);
          const [control, shared] = seen;
          said.push(JSON.stringify(seen.map(({ share, heights, stats }) => [share.toFixed(2), heights, stats])));
          console.log(`${name}, ${scenario.plays}p: ${said.at(-1)}`);
          // The slow one has no more to give.
          const brings = shared.stats.viewerBytes > shared.stats.httpBytes / 2;
          if (control.share > SHARE && shared.share > SHARE && brings) return;
        }
        assert.fail(`in ${ATTEMPTS} attempts: ${said.join("; ")}`);
      });
    }
  }
});
