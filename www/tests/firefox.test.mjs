// Firefox and Chromium in one swarm with a native seed: both play, and each gives to the other.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { chromium, firefox } from "./harness/engines.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

/** Too short for a viewer to have the whole stream before the next thing happens. */
const SHORT_BUFFER = { maxBufferLength: 8, maxMaxBufferLength: 8 };

let browsers;

before(async () => {
  browsers = await Promise.all([startBrowser(firefox), startBrowser(chromium)]);
});
after(() => Promise.all((browsers ?? []).map((browser) => browser.close())));

/** Plays to the end; what was counted. */
async function finish(viewer) {
  await viewer.ends(60_000);
  const stats = await viewer.stats();
  assert.ok(stats.stallMs <= 500, JSON.stringify(stats));
  assert.deepEqual(await viewer.seen("error"), []);
  return stats;
}

test("Firefox takes from a seed and gives to Chromium, which gives to Firefox", { timeout: TEST_MS }, async (t) => {
  const [inFirefox, inChromium] = browsers;
  const stage = await startStage({ t, root: CMAF, seed: true });
  const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public };

  const first = await inFirefox.open(attributes, { hls: {} });
  await first.playsTo(1);
  await until("Firefox is ahead", async () => (await first.playback()).buffered > 20);
  const second = await inChromium.open(attributes, { rate: 2, hls: SHORT_BUFFER });
  const all = [first, second];
  for (const viewer of all) await viewer.counts("each other and the seed", ({ neighbours }) => neighbours === 2);
  const fromSeed = await first.stats();
  assert.ok(fromSeed.seedBytes > fromSeed.httpBytes, JSON.stringify(fromSeed));
  await stage.seed.kill();
  const taken = await finish(second);
  assert.ok(taken.viewerBytes > taken.httpBytes, JSON.stringify(taken));
  assert.ok((await first.stats()).uploadedBytes >= taken.viewerBytes);
  await first.close();

  const third = await inFirefox.open(attributes, { rate: 2, hls: SHORT_BUFFER });
  const back = await third.counts("Chromium gives", (stats) => stats.viewerBytes > stats.httpBytes);
  await third.playsTo(2);
  assert.deepEqual(await third.seen("error"), []);
  assert.ok((await second.stats()).uploadedBytes >= back.viewerBytes);
  await Promise.all([second.close(), third.close()]);
});
