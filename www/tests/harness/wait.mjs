// Waiting for something to become true, with a deadline and a word about what was waited for.

import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 100;

/**
 * Limits that only what hangs comes to, in milliseconds: machines differ by a factor of several, and one that is waited for
 * costs nothing where it is not reached. Of one wait, of a test, of a suite of them.
 */
const WAIT_MS = 60_000;
export const TEST_MS = 300_000;
export const SUITE_MS = 900_000;

/** Resolves with what `look` gives, as soon as that is truthy; rejects after `within` milliseconds. */
export async function until(what, look, within = WAIT_MS) {
  const deadline = Date.now() + within;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited ${within / 1000} s in vain: ${what}`);
    await sleep(POLL_MS);
  }
}
