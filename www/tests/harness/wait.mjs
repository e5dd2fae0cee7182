// Waiting for something to become true, with a deadline and a word about what was waited for.

import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 100;

/** Resolves with what `look` gives, as soon as that is truthy; rejects after `within` milliseconds. */
export async function until(what, look, within = 20_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited ${within / 1000} s in vain: ${what}`);
    await sleep(POLL_MS);
  }
}
