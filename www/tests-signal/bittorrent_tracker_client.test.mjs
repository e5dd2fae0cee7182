// The client of npm's bittorrent-tracker, with real WebRTC in Node: what every WebTorrent program does.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";

import wrtc from "@roamhq/wrtc";
import Client from "bittorrent-tracker";

import { startServer, within } from "./server.mjs";

const PATIENCE_MS = 20_000;

let server;
const clients = [];

before(async () => {
  server = await startServer();
});

after(async () => {
  await Promise.all(clients.map((client) => new Promise((resolve) => client.destroy(resolve))));
  await server.stop();
  // wrtc keeps threads.
  setTimeout(() => process.exit(), 500).unref();
});

function makeClient(infoHash, path = "/announce") {
  const client = new Client({
    infoHash,
    peerId: Buffer.from(`-WW0102-${randomBytes(6).toString("hex")}`),
    port: 6881,
    announce: [`ws://${server.address}${path}`],
    wrtc,
    // The usual STUN servers are not reached from everywhere, and here all is on one machine.
    rtcConfig: { iceServers: [] },
  });
  client.on("warning", (error) => assert.fail(`warning: ${error.message}`));
  client.on("error", (error) => assert.fail(`error: ${error.message}`));
  clients.push(client);
  return client;
}

const update = (client) => within(PATIENCE_MS, "update", once(client, "update")).then(([data]) => data);
const message = (peer) =>
  within(PATIENCE_MS, "data", once(peer, "data")).then(([data]) => Buffer.from(data).toString());

test("two clients find each other and exchange data over WebRTC", async () => {
  const infoHash = randomBytes(20);
  const first = makeClient(infoHash);
  first.start();
  assert.deepEqual(await update(first).then(({ complete, incomplete }) => [complete, incomplete]), [0, 1]);
  const firstPeer = once(first, "peer");
  const second = makeClient(infoHash, "/");
  const secondPeer = once(second, "peer");
  second.start();
  const [[one], [two]] = await within(PATIENCE_MS, "peers", Promise.all([firstPeer, secondPeer]));
  const got = [message(one), message(two)];
  for (const [peer, text] of [
    [one, "from the first"],
    [two, "from the second"],
  ]) {
    if (peer.connected) peer.send(text);
    else peer.once("connect", () => peer.send(text));
  }
  assert.deepEqual(await Promise.all(got), ["from the second", "from the first"]);
  one.destroy();
  two.destroy();
});

test("completed, update, scrape and stop are counted", async () => {
  const infoHash = randomBytes(20);
  const client = makeClient(infoHash);
  client.start({ left: 10 });
  assert.deepEqual(await update(client).then((data) => [data.complete, data.incomplete]), [0, 1]);
  client.complete();
  assert.deepEqual(await update(client).then((data) => [data.complete, data.incomplete]), [1, 0]);
  client.scrape();
  const [scraped] = await within(PATIENCE_MS, "scrape", once(client, "scrape"));
  assert.deepEqual([scraped.complete, scraped.incomplete, scraped.downloaded], [1, 0, 1]);
  client.stop();
  assert.deepEqual(await update(client).then((data) => [data.complete, data.incomplete]), [0, 0]);
});

test("several hashes are scraped at once", async () => {
  const hashes = [randomBytes(20), randomBytes(20)].map((hash) => hash.toString("hex"));
  const results = await within(
    PATIENCE_MS,
    "scrape",
    new Promise((resolve, reject) => {
      Client.scrape({ announce: server.tracker, infoHash: hashes, wrtc }, (error, data) =>
        error ? reject(error) : resolve(data),
      );
    }),
  );
  assert.deepEqual(Object.keys(results).sort(), [...hashes].sort());
  for (const hash of hashes) assert.equal(results[hash].complete, 0);
});
