// LL-HLS: parts that go from viewer to viewer, and those that do not. One test after another: players that stay two seconds
// behind the origin stand still where others keep it, the browser and both cores busy.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

describe("LL-HLS", { timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  test("parts go from viewer to viewer where there is time for it", async (t) => {
    // Parts of 0.4 s, of which players stay 2.2 s behind the end: docs/players/hlsjs.md has what was measured.
    // The padding makes them those of a stream of 2 Mbit/s.
    const live = { window: 4, parts: 0.4, holdBack: 2.2, padding: 90_000 };
    const stage = await startStage({ t, root: CMAF, live });
    const options = { signal: stage.signal.url, integrity: "open", rate: 1 };
    const open = () => openPlayer(browser, PLAYERS["hls.js 1.7"], stage.src, options);
    const viewers = [await open(), await open(), await open()];
    const all = (look) => Promise.all(viewers.map(look));
    await all((viewer) => viewer.until("neighbours", ({ time, stats }) => time > 0 && stats.neighbours > 0));
    stage.origin.resetStats();
    const begun = await all((viewer) => viewer.look());
    const seen = await all((viewer, at) => viewer.until("a while", ({ time }) => time > begun[at].time + 10));
    const latencies = await all(({ page }) => page.evaluate(() => window.player.latency));
    const parts = stage.origin.count(/-\d+\.\d+\.m4s/);
    const gained = (name) => seen.reduce((sum, { stats }, at) => sum + stats[name] - begun[at].stats[name], 0);
    const said = JSON.stringify({ parts, http: gained("httpBytes"), viewer: gained("viewerBytes"), latencies });
    console.log(`LL-HLS: ${said}`);
    assert.ok(parts.requests > 20, said);
    assert.ok(gained("viewerBytes") > gained("httpBytes") / 2, said);
    // hls.js begins up to two segments further back than it means to, and stays there unless told to catch up.
    for (const latency of latencies) assert.ok(latency < live.holdBack + 5, said);
    for (const { stats } of seen) assert.ok(stats.stallMs <= 500, JSON.stringify(stats));
    await all((viewer) => viewer.close());
  });

  for (const [why, live, integrity] of [
    ["that are needed at once", { window: 4, parts: 0.4 }, "open"],
    ["that nobody signed", { window: 4, parts: 0.4, holdBack: 2.2 }, "signed"],
    // Two of them would have one number: tests/parts.test.mjs.
    ["half as long as their target", { window: 4, parts: 0.4, holdBack: 2.2, target: 0.8 }, "open"],
  ]) {
    test(`parts ${why} are the player's own`, async (t) => {
      const stage = await startStage({ t, root: CMAF, live, seed: integrity === "signed" });
      const options = { signal: stage.signal.url, key: stage.key.public, integrity, rate: 1 };
      const open = () => openPlayer(browser, PLAYERS["hls.js 1.7"], stage.src, options);
      const viewers = [await open(), await open()];
      const all = (look) => Promise.all(viewers.map(look));
      await all((viewer) => viewer.until("neighbours", ({ time, stats }) => time > 0 && stats.neighbours > 0));
      const begun = await all((viewer) => viewer.look());
      stage.origin.resetStats();
      const seen = await all((viewer, at) => viewer.until("a while", ({ time }) => time > begun[at].time + 8));
      for (const [at, { stats }] of seen.entries()) {
        assert.ok(stats.httpBytes > begun[at].stats.httpBytes, "parts are counted");
        assert.ok(stats.stallMs <= 500, JSON.stringify(stats));
      }
      const { paths } = stage.origin.stats();
      const parts = Object.entries(paths).filter(([name]) => /-\d+\.\d+\.m4s/.test(name));
      const twice = parts.filter(([, { requests }]) => requests === 2);
      assert.ok(parts.length > 15 && twice.length > parts.length / 2, JSON.stringify(paths));
      for (const [name, { requests }] of parts)
        assert.ok(requests <= 2, `${name}: ${requests} requests of two viewers`);
      const limit = (live.holdBack ?? 1.2) + 5;
      for (const latency of await all(({ page }) => page.evaluate(() => window.player.latency)))
        assert.ok(latency < limit);
      await all((viewer) => viewer.close());
    });
  }

  test("an origin that forgets a part: playback goes on", async (t) => {
    const live = { window: 4, parts: 0.4, holdBack: 2.2 };
    const stage = await startStage({ t, root: CMAF, live });
    const options = { signal: stage.signal.url, integrity: "open", rate: 1 };
    const viewer = await openPlayer(browser, PLAYERS["hls.js 1.7"], stage.src, options);
    await viewer.until("playback", ({ time }) => time > 0);
    stage.origin.setFault({ status: 404, match: /_0-\d+\.2\.m4s/, times: 1 });
    const { time } = await viewer.look();
    await until("the fault was met", () => stage.origin.count(/_0-\d+\.2\.m4s/).requests > 0);
    await viewer.until("playback beyond it", (seen) => seen.time > time + 6);
    await viewer.close();
  });
});
