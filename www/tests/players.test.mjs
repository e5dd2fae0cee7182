// What a page does with players other than hls.js: live streams, the background, going back to a page, giving up.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { tabs } from "./harness/engines.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { liveManifest, liveSegment } from "./harness/streams.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** A live stream of DASH is on the air since so long when the first viewer comes, in ms. */
const ON_AIR_MS = 12_000;

/** A viewer of a live stream is at most so far behind what it has loaded: players are told six seconds, or three segments of two. */
const LATE_S = 14;

/** A live stream that does not end, of HLS or DASH. */
async function liveStage(t, playlist) {
  if (playlist.endsWith("m3u8")) return await startStage({ t, root: CMAF, playlist, live: { window: 8 } });
  const startAt = Date.now() - ON_AIR_MS;
  const answer = async (pathname) => {
    if (pathname.endsWith(".mpd")) {
      const text = liveManifest(startAt);
      return { type: "application/dash+xml", size: Buffer.byteLength(text), text };
    }
    const number = Number(/seg-0-(\d+)/.exec(pathname)?.[1] ?? 0);
    if (number === 0) return undefined;
    // What is not made yet is not there.
    if (number * 2000 > Date.now() - startAt) return { status: 404 };
    const text = await liveSegment(number);
    return { type: "video/mp4", size: text.length, text };
  };
  return await startStage({ t, root: CMAF, playlist: "stream.mpd", answer });
}

describe("players", { concurrency: 2, timeout: SUITE_MS }, () => {
  let browser;
  let tabbed;

  before(async () => {
    [browser, tabbed] = [await startBrowser(), await startBrowser(tabs)];
  });
  after(async () => {
    await browser?.close();
    await tabbed?.close();
  });

  for (const name of [
    "hls.js 1.6 light",
    "Shaka with HLS",
    "Video.js with HLS",
    "Shaka with DASH",
    "dash.js",
    "Video.js with DASH",
  ]) {
    test(`a live stream goes from viewer to viewer: ${name}`, async (t) => {
      const player = { ...PLAYERS[name], buffer: 10 };
      const stage = await liveStage(t, player.playlist);
      const options = { signal: stage.signal.url, integrity: "open", rate: 1 };
      const open = () => openPlayer(browser, player, stage.src, options);
      const viewers = [await open(), await open()];
      const all = (look) => Promise.all(viewers.map(look));
      const met = await all((viewer) =>
        viewer.until("neighbours", ({ time, stats }) => time > 0 && stats?.neighbours > 0),
      );
      const seen = await all((viewer, at) => viewer.until("a while", ({ time }) => time > met[at].time + 15));
      const gained = seen.map(({ stats }, at) => {
        const since = Object.entries(stats).map(([what, count]) => [what, count - met[at].stats[what]]);
        return Object.fromEntries(since);
      });
      const ahead = seen.map(({ time, buffered }) => buffered - time);
      const said = JSON.stringify({ gained, ahead });
      console.log(`live: ${name}: ${said}`);
      const sum = (what) => gained.reduce((total, stats) => total + stats[what], 0);
      assert.ok(sum("viewerBytes") > sum("httpBytes") / 4, said);
      for (const { stallMs } of gained) assert.ok(stallMs <= 1000, said);
      for (const seconds of ahead) assert.ok(seconds < LATE_S, said);
      await all((viewer) => viewer.close());
    });
  }

  for (const name of ["Shaka with DASH", "dash.js", "Video.js with HLS"]) {
    test(`in the background it plays on and gives on, and shares again when one comes back to its page: ${name}`, async (t) => {
      const player = { ...PLAYERS[name], buffer: 6 };
      const stage = await startStage({ t, root: CMAF, playlist: player.playlist });
      const options = { signal: stage.signal.url, integrity: "open", rate: 1 };
      const first = await openPlayer(tabbed, player, stage.src, options);
      await first.until("playback", ({ time }) => time > 1);
      // What could never be heard rests in the background; to be heard takes the viewer's hand, once.
      await first.page.mouse.click(700, 500);
      await first.page.evaluate(() => void (document.querySelector("video").muted = false));
      const second = await openPlayer(tabbed, player, stage.src, options);
      assert.equal(await first.page.evaluate(() => document.visibilityState), "hidden");
      const hidden = await first.look();
      // Past all that it had when it was hidden.
      const later = await first.until("playback in the background", ({ time }) => time > hidden.buffered + 3);
      const met = await second.until("bytes of the hidden one", ({ stats }) => stats?.viewerBytes > 50_000);
      const said = JSON.stringify([hidden.stats, later.stats, met.stats]);
      console.log(`background: ${name}: ${said}`);
      assert.ok((await first.look()).stats.stallMs <= 1000, said);
      // Away and back: the page is as it was, or it is a new one, as the browser likes; either way it shares.
      await second.page.goto(`${tabbed.pages.url}/elsewhere`);
      await first.until("the other one has left", ({ stats }) => stats.neighbours === 0);
      await second.page.goBack();
      await second.page.evaluate(() => document.querySelector("video").play());
      await second.until("neighbours again", ({ stats }) => stats?.neighbours > 0);
      await Promise.all([first.close(), second.close()]);
    });
  }

  const end = {
    "hls.js 1.7": "window.player.destroy()",
    "Shaka with DASH": "window.attached.close(); await window.player.destroy()",
    "dash.js": "window.attached.close(); window.player.reset()",
    "Video.js with HLS": "window.attached.close(); if (!window.player.isDisposed()) window.player.dispose()",
  };
  for (const [name, script] of Object.entries(end)) {
    test(`a player that is ended, twice, leaves nothing open, and the page can play again: ${name}`, async (t) => {
      const player = PLAYERS[name];
      const stage = await startStage({ t, root: CMAF, playlist: player.playlist });
      const options = { signal: stage.signal.url, integrity: "open" };
      // The page's own script, to be run again by the test.
      const again = `
        window.begin = async () => {${player.script}
          if (typeof attached !== "undefined") window.attached = attached;
        };
        await window.begin();`;
      const spy = () => {
        window.open = new Set();
        const Real = window.RTCPeerConnection;
        window.RTCPeerConnection = class extends Real {
          constructor(configuration) {
            super(configuration);
            window.open.add(this);
          }
          close() {
            window.open.delete(this);
            super.close();
          }
        };
      };
      const other = await openPlayer(browser, player, stage.src, options);
      const viewer = await openPlayer(browser, { ...player, script: again }, stage.src, options, spy);
      await viewer.until("neighbours", ({ stats }) => stats?.neighbours > 0);
      const stop = () => viewer.page.evaluate(`(async () => { ${script}; ${script}; })()`);
      await stop();
      await until("nothing is open", () => viewer.page.evaluate(() => window.open.size === 0));
      await other.until("the viewer has left", ({ stats }) => stats.neighbours === 0);
      assert.deepEqual((await viewer.look().catch(() => ({ failures: [] }))).failures, []);
      if (name !== "Video.js with HLS") {
        // Video.js takes its element along.
        await viewer.page.evaluate(() => window.begin());
        await viewer.until("neighbours again", ({ stats }) => stats?.neighbours > 0);
        await stop();
      }
      assert.deepEqual(
        viewer.messages.filter((message) => message.startsWith("page error")),
        [],
      );
      await Promise.all([other.close(), viewer.close()]);
    });
  }
});
