// Viewers deliver the sample to each other: how much of it, from whom, and that it plays to its end.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { startBrowser } from "./harness/browser.mjs";
import { startStage } from "./harness/servers.mjs";
import { agreesWithOrigin, sharesOf } from "./harness/share.mjs";
import { SUITE_MS } from "./harness/wait.mjs";

const STAGGER_MS = 3_000;
const ENDS_WITHIN_MS = 90_000;

describe("viewers deliver a stream to each other", { concurrency: 2, timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  async function stageFor(t, options) {
    const stage = await startStage({ t, ...options });
    return { stage, attributes: { src: stage.src, signal: stage.signal.url, key: stage.key.public } };
  }

  /** Plays to the end and closes all; what they counted. */
  async function finish(viewers) {
    await Promise.all(viewers.map((viewer) => viewer.ends(ENDS_WITHIN_MS)));
    const all = await Promise.all(viewers.map((viewer) => viewer.stats()));
    for (const viewer of viewers) assert.deepEqual(await viewer.seen("error"), []);
    await Promise.all(viewers.map((viewer) => viewer.close()));
    for (const { stalls, stallMs } of all) assert.ok(stallMs <= 500, `${stalls} stalls, ${stallMs} ms`);
    return all;
  }

  test("one viewer alone plays the sample to the end", async (t) => {
    const { stage, attributes } = await stageFor(t, {});
    const all = await finish([await browser.open(attributes)]);
    const shares = sharesOf(all);
    agreesWithOrigin(shares, stage.origin);
    assert.equal(shares.peers, 0);
  });

  test("three viewers and a seed: at least 60 % comes over data channels", async (t) => {
    const { stage, attributes } = await stageFor(t, { seed: true });
    const viewers = [];
    for (let at = 0; at < 3; at += 1) {
      // The stagger is the scenario, not a wait for something.
      if (at > 0) await sleep(STAGGER_MS);
      viewers.push(await browser.open(attributes, { rate: 2 }));
    }
    const shares = sharesOf(await finish(viewers));
    console.log(`three viewers and a seed: ${JSON.stringify(shares)}`);
    agreesWithOrigin(shares, stage.origin);
    assert.ok(shares.peers >= 0.6, JSON.stringify(shares));
    assert.ok(shares.viewer > 0, JSON.stringify(shares));
  });

  test("with the seed gone before the second viewer: at least 40 % comes from viewers", async (t) => {
    const { stage, attributes } = await stageFor(t, { seed: true });
    const first = await browser.open(attributes, { rate: 2 });
    await first.counts("the first viewer has the stream from the seed", (stats) => stats.seedBytes > 2_000_000);
    await stage.seed.kill();
    const viewers = [first];
    for (let at = 0; at < 2; at += 1) {
      await sleep(STAGGER_MS);
      viewers.push(await browser.open(attributes, { rate: 2 }));
    }
    const all = await finish(viewers);
    const shares = sharesOf(all);
    console.log(`seed gone: ${JSON.stringify(shares)}`);
    agreesWithOrigin(shares, stage.origin);
    assert.ok(shares.viewer >= 0.4, JSON.stringify(shares));
    assert.equal(all[1].seedBytes + all[2].seedBytes, 0);
  });

  test("two viewers of an unsigned stream, on pages with an hls.js of their own", async (t) => {
    const { stage } = await stageFor(t, {});
    const attributes = { src: stage.src, signal: stage.signal.url, integrity: "open" };
    const options = { rate: 2, hls: { startLevel: 1 } };
    const first = await browser.open(attributes, options);
    await first.playsTo(4);
    const second = await browser.open(attributes, options);
    const [, stats] = await finish([first, second]);
    assert.ok(stats.viewerBytes > stats.httpBytes, JSON.stringify(stats));
  });
});
