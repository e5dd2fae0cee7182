// The bench's arithmetic, and that what did not work is never taken for a result.

import assert from "node:assert/strict";
import { test } from "node:test";

import { copies, failureOf, median, merged, rowsOf } from "./figures.mjs";

const sizes = new Map([
  ["a", 100],
  ["b", 100],
  ["c", 100],
]);
const sent = (segments, catalogue = 0) => ({ segments: new Map(Object.entries(segments)), catalogue });

test("copies are bytes sent by bytes there are, the catalogue's included", () => {
  const counted = copies({ joined: sent({ a: 300 }), ended: sent({ a: 300, b: 150, c: 100 }, 30), sizes });
  assert.equal(counted.whole, 550 / 300 + 30 / 300);
  assert.equal(counted.after, 250 / 200 + 30 / 200);
});

test("of a live stream only what was published after the last join, and not at the very end, is new", () => {
  const fresh = { names: ["b"], all: ["b", "c"] };
  const counted = copies({ joined: sent({ a: 300 }, 10), ended: sent({ a: 600, b: 120 }, 30), sizes, fresh });
  assert.equal(counted.after, 120 / 100 + 20 / 200);
});

test("a segment that nobody fetched counts as no copy of it", () => {
  const fresh = { names: ["b", "c"], all: ["b", "c"] };
  assert.equal(copies({ joined: sent({}), ended: sent({ b: 100 }), sizes, fresh }).after, 0.5);
});

test("viewers that never play, fatal errors and a swarm without a byte from peers are failures", () => {
  const report = (change) => ({ startupMs: 1, errors: [], bytes: { http: 1, seed: 0, viewers: 1 }, ...change });
  assert.equal(failureOf("p2pml", [report(), report()]), undefined);
  assert.match(failureOf("http", [report(), report({ startupMs: 0 })]), /1 of 2 viewers never began/);
  assert.match(failureOf("p2pml", [report(), report({ errors: ["fragLoadError"] })]), /fragLoadError/);
  const alone = report({ bytes: { http: 1, seed: 0, viewers: 0 } });
  assert.match(failureOf("p2pml", [alone, alone]), /no byte came from a peer/);
  assert.equal(failureOf("http", [alone, alone]), undefined);
});

const run = (change) => ({
  copies: 1,
  copiesAfter: 1,
  startupMs: 400,
  stalls: 0,
  stallMs: 0,
  behindS: 7,
  cpu: 0.1,
  ...change,
});
const shares = { http: 1, seed: 0, viewers: 0 };

test("of several runs the median counts, and every stall", () => {
  const all = merged([
    run({ shares, copies: 3, stalls: 1 }),
    run({ shares, copies: 1 }),
    run({ shares, copies: 2, stalls: 1 }),
  ]);
  assert.equal(all.copies, 2);
  assert.equal(all.stalls, 2);
  assert.equal(merged([run({ shares }), run({ shares, failure: "it broke" })]).failure, "it broke");
  assert.equal(median([4, 1, NaN, 3]), 3);
});

test("what failed is a row of its own that misses its bar", () => {
  const live = { http: run(), headwater: run({ startupMs: 410 }), p2pml: run({ failure: "no byte came from a peer" }) };
  const rows = rowsOf({ live });
  const failed = rows.filter(({ unit, value, bar }) => unit === "failures" && value > bar);
  assert.deepEqual(
    failed.map(({ name }) => name),
    ["live: p2pml did not work (no byte came from a peer)"],
  );
  assert.equal(rows.find(({ name }) => name === "live: start-up against HTTP only").value, 410 / 400);
});

test("a figure that cannot be computed is none", () => {
  const rows = rowsOf({ live: { http: run(), headwater: run({ copiesAfter: NaN }) } });
  assert.equal(rows.find(({ name }) => name.includes("copies")).value, null);
});
