// A native peer that flips bits: nothing of what it sends is played, it is banned, and playback goes on.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { SAMPLE, startHostile, startStage } from "./harness/servers.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

let browser;

before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

async function isTheOrigins({ path: name, sha256 }) {
  const bytes = await readFile(path.join(SAMPLE, name));
  assert.equal(sha256, createHash("sha256").update(bytes).digest("hex"), `${name} was played with other bytes`);
}

test("nothing of a hostile peer is played, it is banned, and playback goes on", { timeout: TEST_MS }, async (t) => {
  const stage = await startStage({ t, seed: true });
  await startHostile({ t, src: stage.src, signal: stage.signal.url, key: stage.key });
  const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public };
  const open = () => browser.open(attributes, { rate: 2, hls: { maxBufferLength: 10, maxMaxBufferLength: 10 } });
  const events = async (viewer) => (await viewer.seen("headwaterpeer")).map(({ detail }) => detail);
  const bannedBy = async (viewer) => (await events(viewer)).filter(({ kind }) => kind === "banned");

  const first = await open();
  await until("the hostile peer is banned", async () => (await bannedBy(first)).length > 0);
  // The second has an honest viewer to ask as well: whether it ever meets the liar's bytes is chance, playing them is not.
  const viewers = [first, await open()];
  for (const viewer of viewers) {
    await viewer.ends(60_000);
    const stats = await viewer.stats();
    assert.ok(stats.seedBytes + stats.viewerBytes > stats.httpBytes, `peers are of use: ${JSON.stringify(stats)}`);
    assert.ok(stats.stallMs <= 500, `${stats.stalls} stalls, ${stats.stallMs} ms`);
    assert.deepEqual(await viewer.seen("error"), []);

    const played = await viewer.played();
    assert.ok(new Set(played.map(({ sn }) => sn)).size >= 30, `${played.length} segments`);
    for (const segment of played) await isTheOrigins(segment);
  }

  const [{ peer }, ...others] = await bannedBy(first);
  assert.deepEqual(others, [], "the honest ones are not banned");
  const all = await events(first);
  const later = all.slice(all.findIndex(({ kind }) => kind === "banned") + 1);
  assert.ok(!later.some((event) => event.peer === peer), "the banned peer came back");
  assert.ok((await first.stats()).wastedBytes > 0);
  for (const viewer of viewers) await viewer.close();
});
