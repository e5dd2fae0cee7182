// Pairing by country with a real database, for viewers behind a proxy that tells their addresses.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";

import WebSocket from "ws";

import { startServer, within } from "./server.mjs";

const DATABASES = path.join(import.meta.dirname, "node_modules/@ip-location-db/geo-whois-asn-country-mmdb");
const PATIENCE_MS = 10_000;

/** Networks of universities, in two countries for many years. */
const GERMAN = (n) => `141.${20 + n}.1.1`;
const JAPANESE = (n) => `133.${5 + n}.1.1`;

let server;
const sockets = [];

before(async () => {
  const files = ["ipv4", "ipv6"].map((family) => path.join(DATABASES, `geo-whois-asn-country-${family}.mmdb`));
  server = await startServer(["--geo-db", files.join(","), "--trusted-proxy", "127.0.0.0/8"]);
});

after(async () => {
  for (const socket of sockets) socket.terminate();
  await server.stop();
});

/** Joins as from an address; resolves to the peer's id and those it is told to connect to. */
async function join(address, want) {
  const socket = new WebSocket(`ws://${server.address}/v1/signal`, { headers: { "x-forwarded-for": address } });
  sockets.push(socket);
  const told = [];
  const joined = new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("open", () =>
      socket.send(JSON.stringify({ type: "join", version: 1, swarm: "geo", role: "viewer", want })),
    );
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

test("most neighbours are of the viewer's own country, and some are not", async () => {
  const countries = new Map();
  for (let n = 0; n < 12; n += 1) {
    countries.set((await join(GERMAN(n), 0)).id, "DE");
    countries.set((await join(JAPANESE(n), 0)).id, "JP");
  }
  for (const [address, own] of [
    [GERMAN(40), "DE"],
    [JAPANESE(40), "JP"],
  ]) {
    const { told } = await join(address, 8);
    const near = told.filter((id) => countries.get(id) === own).length;
    assert.equal(near, 6, `${near} of ${told.length} are of ${own}`);
  }
});
