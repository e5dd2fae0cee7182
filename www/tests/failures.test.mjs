// Whatever dies in mid-play, playback goes on: no stall over half a second, and it ends as it should.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { startSignal, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** A short buffer, so that what dies is missed before the end. */
const SHORT_BUFFER = { maxBufferLength: 8, maxMaxBufferLength: 8, backBufferLength: 0 };

const MAX_STALL_MS = 500;

describe("playback survives", { concurrency: 3, timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  async function watch(stage, count) {
    const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public };
    const open = async () => {
      const viewer = await browser.open(attributes, { rate: 1.5, hls: SHORT_BUFFER });
      await viewer.settles();
      return viewer;
    };
    return await Promise.all(Array.from({ length: count }, open));
  }

  async function endsWell(viewers) {
    await Promise.all(viewers.map((viewer) => viewer.ends(90_000)));
    for (const viewer of viewers) {
      const stalledMs = await viewer.stalledMs();
      assert.ok(stalledMs <= MAX_STALL_MS, `${stalledMs} ms: ${JSON.stringify(await viewer.stats())}`);
      assert.deepEqual(await viewer.seen("error"), []);
      await viewer.close();
    }
  }

  test("the death of the seed", async (t) => {
    const stage = await startStage({ t, seed: true });
    const viewers = await watch(stage, 2);
    for (const viewer of viewers) await viewer.counts("both neighbours", (stats) => stats.neighbours >= 2);
    await until("the seed is made use of", async () => {
      const all = await Promise.all(viewers.map((viewer) => viewer.stats()));
      return all.reduce((sum, stats) => sum + stats.seedBytes, 0) > 300_000;
    });
    await Promise.all(viewers.map((viewer) => viewer.playsTo(15)));
    await stage.seed.kill();
    await endsWell(viewers);
  });

  test("the death of the signalling server, whose heir brings the next viewer", async (t) => {
    const stage = await startStage({ t, seed: true });
    const viewers = await watch(stage, 2);
    for (const viewer of viewers) await viewer.counts("a viewer and a seed", (stats) => stats.neighbours >= 2);
    await Promise.all(viewers.map((viewer) => viewer.playsTo(10)));
    await stage.signal.kill();
    await Promise.all(viewers.map((viewer) => viewer.playsTo(16)));
    for (const viewer of viewers) {
      const stats = await viewer.stats();
      assert.ok(stats.neighbours >= 2, `neighbours were lost with the server: ${JSON.stringify(stats)}`);
    }
    const heir = await startSignal({ listen: stage.signal.address });
    t.after(heir.kill);
    const [late] = await watch(stage, 1);
    await late.counts("the late viewer has neighbours", (stats) => stats.neighbours >= 1);
    await endsWell([...viewers, late]);
  });

  test("an origin that fails now and then", async (t) => {
    const stage = await startStage({ t, seed: true });
    const viewers = await watch(stage, 1);
    await viewers[0].counts("a seed that sends", (stats) => stats.seedBytes > 0);
    // What peers hold is not asked of the origin, so that nobody sees this.
    stage.origin.setFault({ status: 503, match: "seg-" });
    await viewers[0].playsTo(20);
    stage.origin.behave();
    await endsWell(viewers);
  });
});
