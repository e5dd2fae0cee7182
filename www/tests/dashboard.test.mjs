// The dashboard in a real browser, before the real server: what it shows of a swarm, and what it says where it may not.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "./harness/engines.mjs";
import { startSignal } from "./harness/servers.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

const SWARM = "KEY/video/a b.m3u8";
const secret = randomBytes(32);
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token as docs/signalling.md has it, good for an hour. */
function tokenOf(claims) {
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

/** Runs in the page: a viewer that has joined and said what it carried. */
function join([url, swarm, token, stats]) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.onerror = reject;
    socket.onopen = () => socket.send(JSON.stringify({ type: "join", version: 1, swarm, token }));
    socket.onmessage = () => {
      socket.send(JSON.stringify({ type: "stats", ...stats }));
      (window.sockets ??= []).push(socket);
      resolve();
    };
  });
}

let browser, folder, signal;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "headwater-dashboard-"));
  const keys = path.join(folder, "keys.json");
  await writeFile(keys, JSON.stringify({ keys: [{ kty: "oct", alg: "HS256", k: secret.toString("base64url") }] }));
  signal = await startSignal({ flags: ["--token-keys", keys] });
  browser = await chromium();
});
after(async () => {
  await browser?.close();
  await signal?.kill();
  await rm(folder, { recursive: true, force: true });
});

/** A page with the form filled in and sent. */
async function ask(t, token) {
  const { page, close } = await browser.open([]);
  t.after(close);
  await page.goto(`http://${signal.address}/dashboard/`);
  await page.fill("#names", SWARM);
  await page.fill("#token", token);
  await page.click("button");
  return page;
}

test("a publisher sees viewers come, and where their bytes came from", { timeout: TEST_MS }, async (t) => {
  const page = await ask(t, tokenOf({ swarm: SWARM, stats: true }));
  const text = (id) => page.textContent(id);
  await until("an empty swarm", async () => (await text("#viewers")) === "0");
  assert.equal(await text("#saved"), "–");
  const viewer = tokenOf({ swarm: SWARM });
  await page.evaluate(join, [signal.url, SWARM, viewer, { http_bytes: 1e6, viewer_bytes: 2.5e6, seed_bytes: 5e5 }]);
  await page.evaluate(join, [signal.url, SWARM, viewer, { http_bytes: 1e6, viewer_bytes: 5e6, neighbours: 1 }]);
  await until("both viewers and their bytes", async () => (await text("#saved")) === "80.0 %");
  assert.equal(await text("#viewers"), "2");
  assert.equal(await text("#spared"), "8.0 MB");
  assert.deepEqual(await page.$$eval("#swarms td", (cells) => cells.map((cell) => cell.textContent)), [
    SWARM,
    "2",
    "0",
    "0.5",
    "",
    "80.0 %",
  ]);
  assert.match(await page.$eval("#swarms .bar", (bar) => bar.title), /viewer: 7.5 MB, seed: 500 kB, http: 2.0 MB/);
  // The address may be kept and passed on: it names the swarm, and has no token.
  assert.equal(new URL(page.url()).hash, `#${encodeURIComponent(SWARM)}`);
  await page.reload();
  await until("the same after a reload", async () => (await text("#viewers")) === "0");
});

test("who may not look is told why", { timeout: TEST_MS }, async (t) => {
  for (const [token, why] of [
    [tokenOf({ swarm: SWARM }), /stats/],
    [tokenOf({ swarm: "another", stats: true }), /swarm/],
    [`${tokenOf({ swarm: SWARM, stats: true })}x`, /./],
    ["", /token/],
  ]) {
    const page = await ask(t, token);
    await page.waitForSelector("#status.wrong");
    assert.match(await page.textContent("#status"), why);
    assert.equal(await page.textContent("#swarms td:last-child"), "no figures");
  }
});

test("figures that are old say so, and go on when the server is back", { timeout: TEST_MS }, async (t) => {
  const page = await ask(t, tokenOf({ swarm: SWARM, stats: true }));
  await until("figures", async () => /Live/.test(await page.textContent("#status")));
  const keys = path.join(folder, "keys.json");
  await signal.kill();
  await page.waitForSelector("#swarms td.wrong");
  assert.match(await page.textContent("#swarms td:last-child"), /old/);
  signal = await startSignal({ listen: signal.address, flags: ["--token-keys", keys] });
  await until("figures again", async () => /Live/.test(await page.textContent("#status")));
  assert.equal(await page.$("#swarms td.wrong"), null);
});

test("an address that was cut in the middle of a character does not stop the page", { timeout: TEST_MS }, async (t) => {
  const { page, close } = await browser.open([]);
  t.after(close);
  await page.goto(`http://${signal.address}/dashboard/#${encodeURIComponent(SWARM)}&caf%C3`);
  await until("the names", async () => (await page.inputValue("#names")) === `${SWARM}\ncaf%C3`);
  await page.waitForSelector("#status.wrong");
});
