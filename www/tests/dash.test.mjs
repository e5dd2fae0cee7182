// DASH with a native seed: what the seed calls a segment is what players call it, so that signed bytes reach them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { SUITE_MS } from "./harness/wait.mjs";

describe("of a DASH stream that a seed has signed", { concurrency: 3, timeout: SUITE_MS }, () => {
  let browser;
  let stage;

  before(async () => {
    browser = await startBrowser();
    stage = await startStage({ root: CMAF, playlist: "stream.mpd", seed: true });
  });
  after(async () => {
    await browser?.close();
    await stage?.close();
  });

  for (const name of ["Shaka with DASH", "dash.js", "Video.js with DASH"]) {
    test(`${name} takes most from peers`, async () => {
      const options = { signal: stage.signal.url, key: stage.key.public };
      const viewer = await openPlayer(browser, PLAYERS[name], stage.src, options);
      const { stats } = await viewer.until("the end", ({ ended }) => ended);
      console.log(`${name}: ${JSON.stringify(stats)}`);
      assert.ok(stats.seedBytes + stats.viewerBytes > stats.httpBytes, JSON.stringify(stats));
      assert.ok(stats.seedBytes > 0, JSON.stringify(stats));
      assert.ok(stats.stallMs <= 500, JSON.stringify(stats));
      await viewer.close();
    });
  }
});
