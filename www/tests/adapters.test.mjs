// Every player that has an adapter: two viewers of it deliver a stream to each other, and with everything that peers need
// broken it plays as it would without us.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { SUITE_MS } from "./harness/wait.mjs";

const NOWHERE = "ws://127.0.0.1:9/v1/signal";

describe("adapters", { concurrency: 3, timeout: SUITE_MS }, () => {
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
      const open = () => openPlayer(browser, player, stage.src, options);
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
      const viewer = await openPlayer(browser, player, stage.src, options, () => {
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
      });
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
