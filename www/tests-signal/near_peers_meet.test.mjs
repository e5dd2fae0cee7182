// Pairing by country with a real database, for viewers behind a proxy that tells their addresses; the database is replaced while the
// server runs.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import WebSocket from "ws";

import { startServer, within } from "./server.mjs";

const DATABASES = path.join(import.meta.dirname, "node_modules/@ip-location-db/geo-whois-asn-country-mmdb");
const PATIENCE_MS = 10_000;

/** Files are looked at every five seconds. */
const RELOAD_MS = 20_000;

const database = (family) => path.join(DATABASES, `geo-whois-asn-country-${family}.mmdb`);

/** Networks of universities, in two countries for many years. */
const GERMAN = (n) => `141.${20 + n}.1.1`;
const JAPANESE = (n) => `133.${5 + n}.1.1`;

const start = (files) => startServer(["--geo-db", files.join(","), "--trusted-proxy", "127.0.0.0/8"]);

let server;
const sockets = [];

before(async () => {
  server = await start(["ipv4", "ipv6"].map(database));
});

after(async () => {
  for (const socket of sockets) socket.terminate();
  await server.stop();
});

/** Joins as from an address; resolves to the peer's id and those it is told to connect to. */
async function join(address, want, swarm = "geo", on = server) {
  const socket = new WebSocket(`ws://${on.address}/v1/signal`, { headers: { "x-forwarded-for": address } });
  sockets.push(socket);
  const told = [];
  const joined = new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("open", () => socket.send(JSON.stringify({ type: "join", version: 1, swarm, role: "viewer", want })));
    let id;
    socket.on("message", (data) => {
      const message = JSON.parse(data.toString());
      if (message.type === "welcome") id = message.peer;
      if (message.type === "connect") told.push(message.peer);
      if (id && told.length >= want) resolve({ id, told });
    });
  });
  return within(PATIENCE_MS, `join from ${address}`, joined);
}

/** Fills a swarm from both countries; resolves to how many of a newcomer's eight neighbours are of its own. */
async function nearOfEight(swarm, on) {
  const countries = new Map();
  for (let n = 0; n < 12; n += 1) {
    countries.set((await join(GERMAN(n), 0, swarm, on)).id, "DE");
    countries.set((await join(JAPANESE(n), 0, swarm, on)).id, "JP");
  }
  const near = [];
  for (const [address, own] of [
    [GERMAN(40), "DE"],
    [JAPANESE(40), "JP"],
  ]) {
    const { told } = await join(address, 8, swarm, on);
    near.push(told.filter((id) => countries.get(id) === own).length);
  }
  return near;
}

test("most neighbours are of the viewer's own country, and some are not", async () => {
  assert.deepEqual(await nearOfEight("geo", server), [6, 6]);
});

test("a database is replaced while the server runs, and a broken one is not taken", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "headwater-geo-"));
  const file = path.join(folder, "geo.mmdb");
  const replace = (content) => {
    fs.writeFileSync(`${file}.new`, content);
    fs.renameSync(`${file}.new`, file);
  };
  // To begin with, it knows other addresses only.
  fs.copyFileSync(database("ipv6"), file);
  const other = await start([file]);
  const says = async (words) => {
    while (!other.log().includes(words)) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  try {
    replace(fs.readFileSync(database("ipv4")));
    await within(RELOAD_MS, "the new database is read", says("read again"));
    assert.deepEqual(await nearOfEight("new", other), [6, 6]);
    replace("nothing of the kind");
    await within(RELOAD_MS, "the broken database is seen", says("keeping what was read before"));
    assert.deepEqual(await nearOfEight("kept", other), [6, 6]);
  } finally {
    for (const socket of sockets.splice(0)) socket.terminate();
    await other.stop();
    fs.rmSync(folder, { recursive: true });
  }
});
