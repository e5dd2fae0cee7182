// A live stream, a window that slides: it plays for a minute, and a late viewer is soon where the others are.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { startStage } from "./harness/servers.mjs";
import { sharesOf } from "./harness/share.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

const MINUTE_S = 60;

/** hls.js plays three target durations (of two seconds) behind the edge; this much more is a viewer that lags. */
const LATE_S = 10;

let browser;
let stage;

before(async () => {
  stage = await startStage({ live: { window: 8 }, seed: true });
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await stage?.close();
});

test("a live stream plays for a minute, and a late viewer catches up", { timeout: TEST_MS }, async () => {
  const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public };
  const open = () => browser.open(attributes, { hls: {} });
  const latency = (viewer) => viewer.page.evaluate(() => window.player.latency);
  const begun = (viewer) => until("playback", async () => (await viewer.stats()).startupMs > 0);
  const first = await open();
  await begun(first);
  const startedAt = (await first.playback()).time;
  const second = await open();
  await first.playsTo(startedAt + MINUTE_S / 2, MINUTE_S * 1000);

  const late = await open();
  await begun(late);
  const lateAt = (await late.playback()).time;
  await until("the late viewer is near the live edge", async () => (await latency(late)) < LATE_S);
  await first.playsTo(startedAt + MINUTE_S, MINUTE_S * 1000);
  await late.playsTo(lateAt + MINUTE_S / 3, MINUTE_S * 1000);

  const viewers = [first, second, late];
  const all = await Promise.all(viewers.map((viewer) => viewer.stats()));
  console.log(`live: ${JSON.stringify(sharesOf(all))} ${JSON.stringify(all)}`);
  for (const viewer of viewers) {
    assert.deepEqual(await viewer.seen("error"), []);
    assert.ok((await latency(viewer)) < LATE_S, `${await latency(viewer)} s behind the edge`);
  }
  for (const { stalls, stallMs } of all) assert.ok(stallMs <= 500, `${stalls} stalls, ${stallMs} ms`);
  assert.ok(sharesOf(all).peers > 0.3, JSON.stringify(all));
});
