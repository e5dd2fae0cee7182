// What the pages of documentation tell web developers to write, run as it stands there: only hosts and the key are put in.

import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { CMAF, SAMPLE, signFolder, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

const REPO = path.resolve(import.meta.dirname, "../..");

/** A stream for those that play HLS, and one that is DASH as well. */
const ROOTS = { hls: SAMPLE, dash: CMAF };

const VIDEO = '<video id="video" class="video-js" muted width="320" height="180"></video>';

/**
 * Pages: `file` is where the lines are, `around` what the reader's page has already, `counters` how a test sees theirs (in the
 * scope of what is written there), `media` what is played.
 */
const PAGES = {
  "the element": { file: "www/player/README.md", media: "headwater-video" },
  "getting started": { file: "docs/getting-started.md", media: "headwater-video" },
  "hls.js": { file: "docs/players/hlsjs.md", around: VIDEO, counters: "statsOf(player)" },
  "Shaka Player": {
    file: "docs/players/shaka.md",
    around: `<script src="/lib/shaka.js"></script>${VIDEO}`,
    counters: "attached.stats()",
  },
  "dash.js": {
    file: "docs/players/dashjs.md",
    around: `<script src="/lib/dash.js"></script>${VIDEO}`,
    counters: "attached.stats()",
  },
  "Video.js": {
    file: "docs/players/videojs.md",
    around: `<script src="/lib/video.js"></script>${VIDEO}`,
    counters: "attached.stats()",
  },
  Vidstack: {
    file: "docs/players/vidstack.md",
    around: '<script type="module" src="/lib/vidstack/vidstack.js"></script>',
    media: "media-player",
    // As it is told to the console.
    logs: true,
  },
  "media-chrome": { file: "docs/players/media-chrome.md", media: "headwater-video" },
};

/** Names by which modules find those that the reader has from npm. */
const IMPORTS = {
  "hls.js": "/lib/hls17.mjs",
  // Icons, which Vidstack's build for pages without a bundler takes from a CDN before all else.
  "https://cdn.jsdelivr.net/npm/media-icons@1.1.5/dist/cdn.js/+esm": "data:text/javascript,",
};

/** The first block of code for a page that is in a file, and its language. */
async function blockOf(file) {
  const text = await readFile(path.join(REPO, file), "utf8");
  const found = /^( *)```(js|html)\n([^]*?)^ *```$/m.exec(text);
  assert.ok(found, `${file} has no lines for a page`);
  return { language: found[2], code: found[3] };
}

describe("as the documentation says it", { concurrency: 2, timeout: SUITE_MS }, () => {
  let browser;
  let stage;
  let folder;

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "headwater-docs-"));
    for (const [name, root] of Object.entries(ROOTS)) await cp(root, path.join(folder, name), { recursive: true });
    stage = await startStage({ root: folder });
    for (const name of Object.keys(ROOTS)) await signFolder(path.join(folder, name), stage.key);
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await stage?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** With the hosts and the key of this test, all of which have to be there to be replaced. */
  function filled(code) {
    const { url } = stage.origin;
    const put = [
      [/https:\/\/signal\.example\/|http:\/\/localhost:8800\//, "/"],
      [/wss:\/\/signal\.example\/v1\/signal|ws:\/\/localhost:8800\/v1\/signal/, stage.signal.url],
      [/PUBLIC_KEY|THE KEY THAT WAS PRINTED/, stage.key.public],
    ];
    let text = code;
    for (const [from, to] of put) {
      assert.match(text, from);
      text = text.replace(from, to);
    }
    return text
      .replace(/(\/video|http:\/\/localhost:8801)\/master\.m3u8/, `${url}/hls/master.m3u8`)
      .replace("/video/stream.mpd", `${url}/dash/stream.mpd`)
      .replace("/video/720p.m3u8", `${url}/hls/360p/index.m3u8`)
      .replace("https://cdn.jsdelivr.net/npm/media-chrome@4", "/lib/media-chrome.js");
  }

  /** The page that a reader has then. */
  async function pageOf({ file, around = "", counters }) {
    const { language, code } = await blockOf(file);
    const text = filled(code);
    const seen = counters ? `window.stats = () => ${counters};` : "";
    return `<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>${around}
      ${language === "html" ? text : `<script type="module">${text}\n${seen}</script>`}`;
  }

  const look = ({ page }, { logs, media = "video" }) =>
    page.evaluate(
      ({ name, fromLog }) => {
        const player = document.querySelector(name);
        const inner = player?.querySelector("video") ?? player;
        const ahead = inner?.buffered?.length ? inner.buffered.end(inner.buffered.length - 1) : 0;
        const stats = fromLog ? window.logged : (window.stats ?? player?.stats?.bind(player))?.();
        return { time: inner?.currentTime ?? 0, ahead, stats, failures: window.failures };
      },
      { name: media, fromLog: logs === true },
    );

  /** A viewer who presses play. */
  async function open(page) {
    const viewer = await browser.openPage(await pageOf(page), {
      before: () => {
        const { log } = console;
        console.log = (...said) => {
          [window.logged] = said;
          log(...said);
        };
        window.failures = [];
        for (const type of ["error", "unhandledrejection"])
          addEventListener(type, ({ message, reason }) => window.failures.push(String(message ?? reason)));
      },
    });
    await until("there is something to press", () =>
      viewer.page.evaluate((name) => {
        const player = document.querySelector(name);
        if (!player?.play) return false;
        player.muted = true;
        return player.play().then(
          () => true,
          () => false,
        );
      }, page.media ?? "video"),
    );
    return viewer;
  }

  for (const [name, page] of Object.entries(PAGES)) {
    test(`${name}: one viewer plays, and the next has it from there`, async () => {
      const viewers = [await open(page)];
      try {
        const told = async (viewer) => JSON.stringify([await look(viewer, page), viewer.messages.slice(-10)]);
        const wait = (what, viewer, holds) =>
          until(what, async () => {
            const seen = await look(viewer, page);
            return holds(seen) && seen;
          }).catch(async (error) => {
            throw new Error(`${error.message}\n${await told(viewer)}`, { cause: error });
          });
        await wait("playback, well ahead", viewers[0], ({ time, ahead }) => time > 1 && ahead > 8);
        viewers.push(await open(page));
        const seen = await wait("bytes of the first viewer", viewers[1], ({ stats }) => stats?.viewerBytes > 0);
        console.log(`${name}: ${JSON.stringify(seen)}`);
        assert.deepEqual(seen.failures, []);
      } finally {
        await Promise.all(viewers.map((viewer) => viewer.close()));
      }
    });
  }

  test("any other player: what is listed comes through our fetch", async () => {
    const { code } = await blockOf("docs/players/fetch.md");
    const first = (await readFile(path.join(SAMPLE, "360p/index.m3u8"), "utf8"))
      .split("\n")
      .find((line) => /^[^#]/.test(line));
    const text = filled(code).replace("/video/seg-1.m4s", `${stage.origin.url}/hls/360p/${first}`);
    const viewer = await browser.openPage(`${VIDEO}<script type="module">${text}
      window.seen = [playlist.startsWith("#EXTM3U"), bytes.byteLength, stream.stats().httpBytes];</script>`);
    const [isPlaylist, length] = await until("it has run", () => viewer.page.evaluate(() => window.seen));
    assert.ok(isPlaylist && length === (await readFile(path.join(SAMPLE, "360p", first))).byteLength);
    await viewer.close();
  });
});
