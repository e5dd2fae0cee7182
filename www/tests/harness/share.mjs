// How much of what viewers watched came from peers: by their own counters, checked against the origin's.

import assert from "node:assert/strict";

/** A part of the segment bytes that the viewers' counters may be off by: requests given up in mid-body. */
const TOLERANCE = 0.03;

/** The share of all viewers' segment bytes that came over data channels, from 0 to 1. */
export function sharesOf(all) {
  const sum = (name) => all.reduce((total, stats) => total + stats[name], 0);
  const [http, seed, viewer] = [sum("httpBytes"), sum("seedBytes"), sum("viewerBytes")];
  const total = http + seed + viewer;
  return { peers: (seed + viewer) / total, seed: seed / total, viewer: viewer / total, http, total };
}

/** Checks that the origin sent what the viewers say that it did: nobody hides HTTP bytes. */
export function agreesWithOrigin(shares, origin) {
  const { bytes } = origin.count(/seg-/);
  const off = Math.abs(bytes - shares.http) / shares.total;
  assert.ok(off <= TOLERANCE, `the origin sent ${bytes} bytes of segments, the viewers counted ${shares.http}`);
}
