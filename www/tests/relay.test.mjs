// ice="relay" with a real TURN server: viewers deliver the stream to each other through it, and no address of theirs leaves.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, before, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { CMAF, startStage, startTurn } from "./harness/servers.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

let browser;

before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

/** Keeps what the page tells the signalling server, and the connections that it makes. */
function spy() {
  window.said = [];
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (text) {
    window.said.push(text);
    return send.call(this, text);
  };
  window.connections = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...given) {
      super(...given);
      window.connections.push(this);
    }
  };
}

/** By what kinds of candidates the page's connections go: [own, other's] of each pair that is in use. */
async function waysOf({ page }) {
  return await page.evaluate(async () => {
    const ways = [];
    for (const connection of window.connections) {
      const stats = await connection.getStats();
      for (const transport of stats.values()) {
        const pair = transport.type === "transport" && stats.get(transport.selectedCandidatePairId);
        if (pair) ways.push([pair.localCandidateId, pair.remoteCandidateId].map((id) => stats.get(id).candidateType));
      }
    }
    return ways;
  });
}

/** Addresses of this machine that a candidate would give away: the relays' own is 127.0.0.1. */
function addressesHere() {
  const all = Object.values(networkInterfaces()).flat();
  return all.filter(({ internal }) => !internal).map(({ address }) => address);
}

test("viewers reach each other through the TURN server alone, and tell no address", { timeout: TEST_MS }, async (t) => {
  const turn = await startTurn(t);
  const stage = await startStage({ t, root: CMAF, turn });
  const attributes = { src: stage.src, signal: stage.signal.url, integrity: "open", ice: "relay" };
  const first = await browser.open(attributes, { before: spy, hls: {} });
  await until("the first viewer is ahead", async () => (await first.playback()).buffered > 20);
  const second = await browser.open(attributes, { before: spy, rate: 2 });
  await second.ends();
  const stats = await second.stats();
  assert.ok(stats.viewerBytes > stats.httpBytes / 2, JSON.stringify(stats));
  assert.ok(stats.stallMs <= 500, JSON.stringify(stats));

  for (const viewer of [first, second]) {
    const ways = await waysOf(viewer);
    assert.ok(ways.length > 0);
    for (const way of ways) assert.deepEqual(way, ["relay", "relay"]);
    const said = (await viewer.page.evaluate(() => window.said)).join("\n");
    const kinds = new Set([...said.matchAll(/ typ (\w+)/g)].map(([, kind]) => kind));
    assert.deepEqual([...kinds], ["relay"]);
    // A relayed candidate may name the address that it stands for.
    for (const [, address] of said.matchAll(/ raddr (\S+)/g)) assert.match(address, /^(0\.0\.0\.0|::)$/);
    for (const address of addressesHere()) assert.ok(!said.includes(address), `${address} left in what was said`);
  }
  await Promise.all([first.close(), second.close()]);
});
