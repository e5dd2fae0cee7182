// The choice of rendition stays honest: on a slow origin, a player whose segments come from a peer plays what it would have
// played over HTTP alone.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";

/** Enough for the small rendition with its sound (17 kB/s), too little for the large one (39 kB/s). */
const BYTES_PER_S = 26_000;

/** Players begin with what they assume of a line: what they play after a while is what they have found. */
const UNTIL_S = 24;
const SHARE = 0.6;

describe("on a slow origin", { concurrency: 3, timeout: 150_000 }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  for (const name of ["hls.js 1.6", "Shaka with DASH", "dash.js"]) {
    test(`${name} plays the same rendition with a peer as over HTTP alone`, async (t) => {
      const player = PLAYERS[name];
      const stage = async (options) => {
        const made = await startStage({ t, root: CMAF, playlist: player.playlist, ...options });
        made.origin.setThrottle(BYTES_PER_S);
        return made;
      };
      const [lone, shared] = await Promise.all([stage({ signal: false }), stage()]);
      const open = (where, options) => openPlayer(browser, player, where.src, { rate: 1, ...options });
      const peers = { signal: shared.signal.url, integrity: "open" };

      const [alone, first] = await Promise.all([open(lone), open(shared, peers)]);
      await first.until("the first viewer has something to give", ({ time }) => time > 12);
      const second = await open(shared, peers);
      const viewers = [alone, first, second];
      const seen = await Promise.all(viewers.map((viewer) => viewer.until("a while", ({ time }) => time > UNTIL_S)));
      const [control, , { stats }] = seen;
      const said = JSON.stringify(seen.map(({ heights, stats: counted }) => [heights, counted.viewerBytes]));
      console.log(`${name}: ${said}`);
      assert.ok(stats.viewerBytes > stats.httpBytes, JSON.stringify(stats));
      const shareOf = ({ heights, time }) => (heights[180] ?? 0) / time;
      assert.ok(shareOf(control) > SHARE, `the scenario does not hold: ${said}`);
      for (const other of seen) assert.ok(shareOf(other) > SHARE, said);
      await Promise.all(viewers.map((viewer) => viewer.close()));
    });
  }
});
