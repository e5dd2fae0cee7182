// Every kind of stream, in every player that plays it: two viewers, of whom the second gets most of it from the first, and
// what must not be shared is not.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { startOrigin } from "../origin/origin.mjs";
import { startBrowser } from "./harness/browser.mjs";
import { CENC } from "./harness/cenc.mjs";
import { openPlayer, PLAYERS } from "./harness/players.mjs";
import { CMAF, signFolder, startStage } from "./harness/servers.mjs";
import * as streams from "./harness/streams.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

const HLS = ["hls.js 1.7", "Shaka with HLS", "Video.js with HLS"];
const DASH = ["Shaka with DASH", "dash.js", "Video.js with DASH"];

/** The first viewer has so much of sixteen seconds before the second comes. */
const AHEAD_S = 12;

/** What the second viewer keeps ahead. */
const SHORT_BUFFER_S = 6;

/** The second viewer's first segments are its own, which of sixteen seconds is much: so much at least comes from the first. */
const LEAST_SHARED = 0.15;

/** At twice the speed, six viewers at once on two cores, and some of them change tracks. */
const MAX_STALL_MS = 1000;

const base64 = (hex) => Buffer.from(hex, "hex").toString("base64url");

/** Keeps what the page sends to its peers and to the signalling server. */
function watchFrames() {
  window.sent = [];
  const keep = (data) => {
    if (typeof data === "string") window.sent.push(new TextEncoder().encode(data));
    else window.sent.push(new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength).slice());
  };
  for (const kind of [RTCDataChannel, WebSocket]) {
    const { send } = kind.prototype;
    kind.prototype.send = function (data) {
      keep(data);
      return send.call(this, data);
    };
  }
}

/** How many of the kept frames have these bytes in them, in any of the ways that keys are written. */
async function framesWith({ page }, bytes) {
  const spellings = [bytes, ...["hex", "base64", "base64url"].map((how) => Buffer.from(bytes.toString(how)))];
  return await page.evaluate(
    (given) => {
      const has = (frame, wanted) => {
        for (let at = frame.indexOf(wanted[0]); at !== -1; at = frame.indexOf(wanted[0], at + 1)) {
          if (wanted.every((byte, place) => frame[at + place] === byte)) return true;
        }
        return false;
      };
      return window.sent.filter((frame) => given.some((wanted) => has(frame, wanted))).length;
    },
    spellings.map((spelling) => [...spelling]),
  );
}

describe("streams", { concurrency: 3, timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  /** A folder that goes with the test. */
  async function folderFor(t) {
    const folder = await mkdtemp(path.join(tmpdir(), "headwater-stream-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    return folder;
  }

  /**
   * Two viewers of a stream, one after the other, to the end: what each saw last. `srcOf` gives each its URL; `act` is done
   * with the second as soon as it plays, and `begin` with each.
   */
  async function watch({ stage, player, options, srcOf = () => stage.src, spy, begin, act }) {
    const given = { signal: stage.signal.url, integrity: "open", ...options };
    // The second has a short buffer: the whole stream would be in a long one before it knows anyone.
    const buffers = [30, SHORT_BUFFER_S];
    const open = (at) => openPlayer(browser, { ...player, buffer: buffers[at] }, srcOf(at), given, spy);
    const first = await open(0);
    await begin?.(first);
    await first.until("the first viewer is well ahead", ({ buffered }) => buffered > AHEAD_S);
    const second = await open(1);
    await begin?.(second);
    await act?.(second);
    const viewers = [first, second];
    const ends = await Promise.all(viewers.map((viewer) => viewer.until("the end", ({ ended }) => ended)));
    return { viewers, ends };
  }

  /**
   * What holds of every stream: it came from the first viewer, nobody stalled, and the origin agrees, but for `slip` of one
   * copy: requests given up in mid-body.
   */
  function shared(name, { ends }, origins, media, slip) {
    const [{ stats: one }, { stats: other }] = ends;
    const said = JSON.stringify([one, other]);
    console.log(`${name}: ${JSON.stringify(other)}`);
    const copy = one.httpBytes + one.viewerBytes;
    assert.ok(other.viewerBytes > copy * LEAST_SHARED, said);
    assert.ok(one.uploadedBytes > 0, said);
    for (const { stallMs } of [one, other]) assert.ok(stallMs <= MAX_STALL_MS, said);
    if (slip === Infinity) return;
    const served = origins.reduce((sum, origin) => sum + origin.count(media).bytes, 0);
    assert.ok(served < copy * (2 - LEAST_SHARED / 2), `the origin sent ${served} bytes, of ${copy}: ${said}`);
    assert.ok(Math.abs(served - one.httpBytes - other.httpBytes) <= copy * slip, `the origin sent ${served}: ${said}`);
  }

  const close = ({ viewers }) => Promise.all(viewers.map((viewer) => viewer.close()));

  /** A stream that `make` makes, and the players that play it. */
  function kind(what, players, make, more = {}) {
    for (const name of players) {
      test(`${what}: ${name}`, async (t) => {
        const folder = await folderFor(t);
        const made = await make(folder);
        const stage = await startStage({ t, root: folder, playlist: made.playlist, answer: more.answer });
        const { begin, config = {}, act, spy } = more;
        const player = { ...PLAYERS[name], config: config[name] ?? {} };
        const told = { name, folder, made, stage };
        const run = await watch({ stage, player, begin: begin?.bind(null, told), act: act?.bind(null, told), spy });
        shared(`${what}: ${name}`, run, [stage.origin], made.media, more.slip?.[name] ?? 0.05);
        await more.check?.(run, told);
        await close(run);
      });
    }
  }

  kind("ranges of one file", HLS, streams.byteRanges);
  // VHS asks for the whole file to see what it is, and gives that up when it has seen enough.
  kind("files with an index", DASH, streams.indexed, { slip: { "Video.js with DASH": Infinity } });

  kind("several periods", DASH, streams.periods);

  kind("AES-128", HLS, streams.aes128, {
    spy: watchFrames,
    async check({ viewers }, { name, made, stage }) {
      const counts = async (bytes) => await Promise.all(viewers.map((viewer) => framesWith(viewer, bytes)));
      // That frames are watched is seen by the ciphertext.
      assert.ok(
        (await counts(made.ciphertext)).some((count) => count > 0),
        "no frame carried the ciphertext",
      );
      assert.deepEqual(await counts(made.key), [0, 0], "the key was told to a peer");
      assert.deepEqual(await counts(made.plaintext), [0, 0], "plaintext was told to a peer");
      assert.deepEqual(await counts(Buffer.from("secret.key")), [0, 0], "a peer was asked for the key");
      // VHS asks anew for each of the five segments.
      assert.equal(stage.origin.count("secret.key").requests, name.startsWith("Video.js") ? 10 : 2);
    },
  });

  const { key, kid } = CENC;
  kind("ClearKey", ["Shaka with DASH", "dash.js"], streams.clearKey, {
    spy: watchFrames,
    config: {
      "Shaka with DASH": { drm: { clearKeys: { [kid]: key } } },
      "dash.js": { protection: { "org.w3.clearkey": { clearkeys: { [base64(kid)]: base64(key) } } } },
    },
    async check({ viewers }, { made }) {
      const counts = async (bytes) => await Promise.all(viewers.map((viewer) => framesWith(viewer, bytes)));
      assert.ok(
        (await counts(made.ciphertext)).some((count) => count > 0),
        "no frame carried the ciphertext",
      );
      assert.deepEqual(await counts(Buffer.from(key, "hex")), [0, 0], "the key was told to a peer");
      for (const { page } of viewers) assert.ok(await page.evaluate(() => document.querySelector("video").mediaKeys));
    },
  });

  const english = {
    "hls.js 1.7": () => (window.player.audioTrack = window.player.audioTracks.findIndex(({ lang }) => lang === "en")),
    "Shaka with HLS": () => {
      const { player } = window;
      player.selectAudioTrack(player.getAudioTracks().find(({ language }) => language === "en"));
    },
    "Video.js with HLS": () => {
      for (const track of Array.from(window.player.audioTracks())) track.enabled = track.language === "en";
    },
  };
  const LOST = 0.3;
  kind("alternate audio", HLS, streams.alternateAudio, {
    // What was on its way of the first language is given up.
    slip: Object.fromEntries(HLS.map((name) => [name, LOST])),
    async begin({ name }, viewer) {
      await viewer.until("playback", ({ time }) => time > 0);
      await viewer.page.evaluate(english[name]);
    },
    check(_, { stage, name }) {
      const { bytes } = stage.origin.count(/en\/seg-2/);
      const copy = 109_005;
      assert.ok(bytes > 0 && bytes < copy * 1.8, `${name}: the origin sent ${bytes} bytes of the other language`);
    },
  });

  kind("subtitles", HLS, streams.subtitles, {
    async begin({ name }, viewer) {
      if (name === "Shaka with HLS") {
        await viewer.until("playback", ({ time }) => time > 0);
        // What is chosen while Shaka still chooses by itself is forgotten, and one choice now and then after it was active.
        await viewer.page.evaluate(() => {
          setInterval(() => {
            const [track] = window.player.getTextTracks();
            if (track && !track.active) window.player.selectTextTrack(track);
          }, 50);
        });
        const chosen = () => window.player.getTextTracks()[0]?.active;
        await until("its subtitles are chosen", () => viewer.page.evaluate(chosen));
      } else if (name === "Video.js with HLS") {
        await viewer.until("playback", ({ time }) => time > 0);
        await viewer.page.evaluate(() => {
          for (const track of Array.from(window.player.textTracks()))
            if (track.kind === "subtitles") track.mode = "showing";
        });
      }
      await viewer.page.evaluate(() => {
        window.lines = new Set();
        setInterval(() => {
          const { player } = window;
          const tracks =
            typeof player.textTracks === "function" ? player.textTracks() : document.querySelector("video").textTracks;
          const shown = Array.from(tracks).flatMap((track) => Array.from(track.activeCues ?? []));
          for (const cue of shown) window.lines.add(cue.text);
        }, 50);
      });
    },
    async check({ viewers }, { stage }) {
      for (const { page } of viewers) {
        const lines = await page.evaluate(() => [...window.lines]);
        const texts = await page.evaluate(() => JSON.stringify(window.player.getTextTracks?.()));
        assert.ok(lines.filter((line) => /^line \d$/.test(line)).length >= 4, `shown: ${lines}; ${texts}`);
      }
      // Each viewer has its words from the origin.
      assert.ok(stage.origin.count(/words-4/).requests >= 2);
    },
  });

  for (const name of HLS) {
    test(`an advertisement from another host: ${name}`, async (t) => {
      const folder = await folderFor(t);
      const adHost = await startOrigin({ root: folder });
      t.after(() => adHost.close());
      const { playlist, media } = await streams.advertisement(folder, adHost.url);
      const stage = await startStage({ t, root: folder, playlist });
      const run = await watch({ stage, player: PLAYERS[name] });
      shared(`advertisement: ${name}`, run, [stage.origin, adHost], media, 0.05);
      for (const { heights } of run.ends) assert.ok(heights[180] > 3 && heights[360] > 6, JSON.stringify(heights));
      await close(run);
    });
  }

  for (const [name, integrity] of [
    ["hls.js 1.7", "open"],
    ["hls.js 1.7", "signed"],
    ["Shaka with HLS", "signed"],
    ["Video.js with HLS", "open"],
  ]) {
    test(`advertisements of each viewer's own, ${integrity}: ${name}`, async (t) => {
      const folder = await folderFor(t);
      const { playlist, media, lists } = await streams.adsOfTheirOwn(folder);
      const answer = (pathname, query) => {
        if (!pathname.endsWith(playlist)) return undefined;
        const list = lists[query.get("viewer")];
        return { type: "application/vnd.apple.mpegurl", size: Buffer.byteLength(list), text: list };
      };
      const stage = await startStage({ t, root: folder, playlist, answer });
      // What is signed is the content, before it is cut for each.
      if (integrity === "signed") await signFolder(folder, stage.key);
      const options = { integrity, key: stage.key.public };
      const numberOf = "(url) => (/\\/seg-0-(\\d+)/.test(url) ? RegExp.$1 - 1 : undefined)";
      const player = { ...PLAYERS[name], script: `options.numberOf = ${numberOf};${PLAYERS[name].script}` };
      const run = await watch({ stage, player, srcOf: (at) => `${stage.src}?viewer=${at}`, options });
      const [{ heights: first }, { heights: second, stats }] = run.ends;
      const said = JSON.stringify([first, second, stats]);
      console.log(`advertisements of their own: ${name}: ${said}`);
      // A break of one segment, and one of three: two seconds each.
      assert.ok(Math.abs(first[180] - 2) < 1 && Math.abs(second[180] - 6) < 1.5, said);
      for (const { heights } of run.ends) assert.ok(Math.abs(heights[360] - 16) < 2, said);
      for (const [break_, count] of [
        [/\/one\/seg/, 1],
        [/\/other\/seg/, 3],
      ])
        assert.equal(stage.origin.count(break_).requests, count, "each has its own from the origin");
      assert.ok(stats.viewerBytes > stats.httpBytes / 2, said);
      assert.ok(stage.origin.count(media).requests < 14, "the content is shared");
      for (const {
        stats: { stallMs },
      } of run.ends)
        assert.ok(stallMs <= MAX_STALL_MS, said);
      await close(run);
    });
  }

  for (const name of ["hls.js 1.7", "Shaka with DASH", "dash.js", "Video.js with HLS"]) {
    test(`URLs signed for each viewer: ${name}`, async (t) => {
      const folder = await folderFor(t);
      const { media } = await streams.plain(folder);
      const playlist = PLAYERS[name].playlist.endsWith("mpd") ? "stream.mpd" : "media_0.m3u8";
      const seen = new Map();
      // As a CDN does it: what is listed carries the query of the list, and without one nothing is served.
      const answer = async (pathname, query) => {
        const token = query.get("token");
        if (pathname.endsWith(".catalogue") || pathname === "/favicon.ico") return undefined;
        if (!["viewer-0", "viewer-1"].includes(token)) return { status: 403 };
        seen.set(token, (seen.get(token) ?? 0) + 1);
        const signed = `?token=${token}`;
        if (!/\.(m3u8|mpd)$/.test(pathname)) return undefined;
        const listed = await readFile(path.join(folder, pathname), "utf8");
        const text = listed.replace(/[\w$%-]+\.(m4s|mp4)\b/g, (url) => url + signed);
        const type = pathname.endsWith("mpd") ? "application/dash+xml" : "application/vnd.apple.mpegurl";
        return { type, size: Buffer.byteLength(text), text };
      };
      const stage = await startStage({ t, root: folder, playlist, answer });
      const srcOf = (at) => `${stage.src}?token=viewer-${at}`;
      const run = await watch({ stage, player: PLAYERS[name], srcOf });
      shared(`signed URLs: ${name}`, run, [stage.origin], media, 0.05);
      assert.deepEqual([...seen.keys()].sort(), ["viewer-0", "viewer-1"]);
      await close(run);
    });
  }

  for (const name of ["hls.js 1.7", "dash.js", "Shaka with DASH", "Video.js with HLS"]) {
    test(`two CDNs with the same stream: ${name}`, async (t) => {
      const folder = await folderFor(t);
      const { media } = await streams.plain(folder);
      const playlist = PLAYERS[name].playlist.endsWith("mpd") ? "stream.mpd" : "media_0.m3u8";
      const stage = await startStage({ t, root: folder, playlist });
      await signFolder(folder, stage.key);
      const other = await startOrigin({ root: folder, host: "localhost" });
      t.after(() => other.close());
      const srcOf = (at) => (at === 0 ? stage.src : `${other.url}/${playlist}`);
      const run = await watch({
        stage,
        player: PLAYERS[name],
        srcOf,
        options: { integrity: "signed", key: stage.key.public },
      });
      shared(`two CDNs: ${name}`, run, [stage.origin, other], media, 0.05);
      assert.ok(other.count(media).bytes < stage.origin.count(media).bytes);
      await close(run);
    });
  }

  for (const name of ["hls.js 1.7", "Shaka with DASH", "dash.js", "Video.js with HLS"]) {
    test(`seeking and changes of speed: ${name}`, async (t) => {
      const player = PLAYERS[name];
      const stage = await startStage({ t, root: CMAF, playlist: player.playlist });
      const seek = (viewer, to) =>
        viewer.page.evaluate((time) => void (document.querySelector("video").currentTime = time), to);
      const speed = (viewer, rate) =>
        viewer.page.evaluate((value) => void (document.querySelector("video").playbackRate = value), rate);
      const act = async (viewer) => {
        await viewer.until("a neighbour", ({ stats }) => stats?.neighbours > 0);
        // dash.js 5.2 stands still now and then after a seek back at four times the speed, without Headwater as well.
        const back = name === "dash.js" ? [] : [[7, 4]];
        for (const [to, rate] of [[16, 1], ...back, [22, 2]]) {
          await speed(viewer, rate);
          await seek(viewer, to);
          await viewer.until(`playback after a seek to ${to} s`, ({ time }) => time > to + 1 && time < to + 8);
        }
      };
      const run = await watch({ stage, player, act });
      const [, { stats }] = run.ends;
      console.log(`seeking: ${name}: ${JSON.stringify(stats)}`);
      assert.ok(stats.viewerBytes > stats.httpBytes / 2, JSON.stringify(stats));
      await close(run);
    });
  }
});
