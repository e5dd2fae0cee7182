// Viewers whom no datagram may reach directly. ice="relay" with a real TURN server: they deliver the stream to each other
// through it, a seed gives it to them, and no address of theirs leaves. Without any UDP: a seed gives it over TCP.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, before, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { chromiumWithoutUdp } from "./harness/engines.mjs";
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

/** By what the page's connections go: [own, other's] candidate of each pair that is in use. */
async function waysOf({ page }) {
  return await page.evaluate(async () => {
    const ways = [];
    for (const connection of window.connections) {
      const stats = await connection.getStats();
      for (const transport of stats.values()) {
        const pair = transport.type === "transport" && stats.get(transport.selectedCandidatePairId);
        if (pair) ways.push([pair.localCandidateId, pair.remoteCandidateId].map((id) => stats.get(id)));
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

const kindsOf = (way) => way.map(({ candidateType }) => candidateType);

/** What the page told the signalling server. */
async function saidBy({ page }) {
  return (await page.evaluate(() => window.said)).join("\n");
}

async function tellsNoAddress(viewer) {
  const said = await saidBy(viewer);
  const kinds = new Set([...said.matchAll(/ typ (\w+)/g)].map(([, kind]) => kind));
  assert.deepEqual([...kinds], ["relay"]);
  // A relayed candidate may name the address that it stands for.
  for (const [, address] of said.matchAll(/ raddr (\S+)/g)) assert.match(address, /^(0\.0\.0\.0|::)$/);
  for (const address of addressesHere()) assert.ok(!said.includes(address), `${address} left in what was said`);
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
    for (const way of ways) assert.deepEqual(kindsOf(way), ["relay", "relay"]);
    await tellsNoAddress(viewer);
  }
  await Promise.all([first.close(), second.close()]);
});

test("a seed gives the stream to a viewer who may use the TURN server alone", { timeout: TEST_MS }, async (t) => {
  const turn = await startTurn(t);
  const stage = await startStage({ t, root: CMAF, turn, seed: true });
  const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public, ice: "relay" };
  const viewer = await browser.open(attributes, { before: spy, rate: 2 });
  await viewer.ends();
  const stats = await viewer.stats();
  assert.ok(stats.seedBytes > 300_000, JSON.stringify(stats));
  const ways = await waysOf(viewer);
  assert.ok(ways.length > 0);
  for (const [own] of ways) assert.equal(own.candidateType, "relay");
  await tellsNoAddress(viewer);
  await viewer.close();
});

test(
  "a seed gives the stream over TCP to a viewer whose network lets no UDP through",
  { timeout: TEST_MS },
  async (t) => {
    const closed = await startBrowser(chromiumWithoutUdp);
    t.after(closed.close);
    const stage = await startStage({ t, root: CMAF, seed: true, tcpPort: 0 });
    const attributes = { src: stage.src, signal: stage.signal.url, key: stage.key.public };
    const viewer = await closed.open(attributes, { before: spy, rate: 2 });
    await viewer.ends();
    const stats = await viewer.stats();
    assert.ok(stats.seedBytes > 300_000, JSON.stringify(stats));
    const ways = await waysOf(viewer);
    assert.ok(ways.length > 0);
    for (const way of ways)
      assert.deepEqual(
        way.map(({ protocol }) => protocol),
        ["tcp", "tcp"],
      );
    // No UDP that would have done as well.
    assert.doesNotMatch(await saidBy(viewer), /candidate:\S+ \d+ udp /i);
    await viewer.close();
  },
);
