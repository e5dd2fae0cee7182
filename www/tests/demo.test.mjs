// The demo's page of other players: each plays, and its counters are on the page. What media-chrome's controls do to the element.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { startOrigin } from "../origin/origin.mjs";
import { startBrowser } from "./harness/browser.mjs";
import { CMAF, SAMPLE, signFolder, startStage } from "./harness/servers.mjs";
import { TEST_MS, until } from "./harness/wait.mjs";

const WWW = path.resolve(import.meta.dirname, "..");

test("every player of the demo plays, and shows where its bytes came from", { timeout: TEST_MS }, async (t) => {
  const root = await mkdtemp(path.join(tmpdir(), "headwater-demo-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  await cp(SAMPLE, root, { recursive: true });
  const stage = await startStage({ t, root });
  await signFolder(root, stage.key);
  const files = await startOrigin({ root: WWW });
  t.after(() => files.close());
  const browser = await startBrowser();
  t.after(() => browser.close());
  const query = new URLSearchParams({
    src: stage.src,
    dash: `${files.url}/${path.relative(WWW, CMAF)}/stream.mpd`,
    key: stage.key.public,
    signal: stage.signal.url,
    lib: `${files.url}/node_modules/`,
  });
  const { page, close } = await browser.openPage("");
  t.after(close);
  const open = (player) => page.goto(`${browser.pages.url}/demo/players.html?${query}&player=${player}`);
  await open("hlsjs");
  const names = await page.$$eval("#players a", (links) =>
    links.map((link) => new URL(link.href).searchParams.get("player")),
  );
  assert.equal(names.length, 9);
  for (const name of names) {
    await open(name);
    await until(`${name} plays`, async () => {
      assert.equal(await page.textContent("#status"), "", name);
      return await page.evaluate(() => document.querySelector("#stage :is(video, headwater-video)")?.currentTime > 1);
    });
    await until(`${name} counts`, async () =>
      /from origin\s*[\d.]*[1-9]/.test(await page.$eval("#stats", (stats) => stats.shadowRoot.textContent)),
    );
  }
  // Another viewer of it, in players whose pages the other tests do not have.
  await open("vidstack");
  const counters = (at) => at.$eval("#stats", (stats) => stats.shadowRoot.textContent);
  await until("the first viewer is in the swarm", async () =>
    page.evaluate(() => document.querySelector("#stage video")?.currentTime > 5),
  );
  const other = await browser.openPage("");
  t.after(other.close);
  await other.page.goto(`${browser.pages.url}/demo/players.html?${query}&player=media-chrome`);
  await until("bytes come from the viewer with Vidstack to the one with media-chrome", async () =>
    /from viewers\s*[\d.]*[1-9]/.test(await counters(other.page)),
  );
  await open("nobody");
  assert.match(await page.textContent("#status"), /no player "nobody"/);
});

/** Controls of media-chrome around an element with these attributes. */
async function openControls(browser, attributes) {
  const controls =
    "play-button mute-button volume-range seek-backward-button seek-forward-button time-range time-display";
  const more = "playback-rate-button live-button fullscreen-button";
  const bar = `${controls} ${more}`.split(" ").map((name) => `<media-${name} id="${name}"></media-${name}>`);
  const { page } = await browser.openPage(`
    <style>media-controller { width: 900px; aspect-ratio: 16 / 9 }</style>
    <script type="module" src="/headwater.js"></script>
    <script src="/lib/media-chrome.js"></script>
    <media-controller>
      <headwater-video slot="media" autoplay muted playsinline ${attributes}></headwater-video>
      <media-control-bar>${bar.join("")}</media-control-bar>
    </media-controller>`);
  /** Resolves with what the element and the controls are once that is as `holds` wants it. */
  const seen = (what, holds) =>
    until(what, async () => {
      const now = await lookAt(page);
      return holds(now) && now;
    });
  return { page, seen };
}

/** What the element is, and what the controls say that it is. */
function lookAt(page) {
  return page.evaluate(() => {
    const [media] = document.getElementsByTagName("headwater-video");
    const { currentTime, paused, muted, volume, playbackRate, duration } = media;
    const said = (id, name) => document.getElementById(id).getAttribute(name);
    return {
      ...{ currentTime, paused, muted, volume, playbackRate, duration },
      full: document.fullscreenElement?.localName,
      saysPaused: said("play-button", "mediapaused") !== null,
      saysVolume: said("mute-button", "mediavolumelevel"),
      saysRate: Number(said("playback-rate-button", "mediaplaybackrate")),
      saysTime: Number(said("time-range", "mediacurrenttime")),
      saysDuration: Number(said("time-range", "mediaduration")),
      saysFull: said("fullscreen-button", "mediaisfullscreen") !== null,
      saysLive: said("live-button", "mediatimeislive") !== null,
      buffered: said("time-range", "mediabuffered"),
    };
  });
}

test("media-chrome's controls work on the element, and show what it does", { timeout: TEST_MS }, async (t) => {
  const stage = await startStage({ t, signal: false });
  const browser = await startBrowser();
  t.after(() => browser.close());
  const { page, seen } = await openControls(browser, `src="${stage.src}"`);
  const click = (id, at) => page.click(`#${id}`, at && { position: at });

  await seen("it plays, and the controls know", ({ currentTime, saysPaused, saysTime, buffered }) => {
    return currentTime > 1 && saysTime > 0 && !saysPaused && buffered;
  });
  assert.ok(Math.abs((await lookAt(page)).saysDuration - 60) < 1);
  await click("play-button");
  await seen("it is paused", ({ paused, saysPaused }) => paused && saysPaused);

  await click("mute-button");
  await seen("it has sound", ({ muted, saysVolume }) => !muted && saysVolume === "high");
  const { width, height } = await (await page.$("#volume-range")).boundingBox();
  await click("volume-range", { x: width * 0.4, y: height / 2 });
  await seen("it is softer", ({ volume, saysVolume }) => volume > 0.1 && volume < 0.7 && saysVolume !== "high");

  const range = await (await page.$("#time-range")).boundingBox();
  await click("time-range", { x: range.width / 2, y: range.height / 2 });
  const half = await seen("it is in the middle", ({ currentTime }) => Math.abs(currentTime - 30) < 4);
  await click("seek-backward-button");
  await seen("it went back", ({ currentTime }) => Math.abs(half.currentTime - 30 - currentTime) < 1);
  await click("seek-forward-button");
  await seen("and forth", ({ currentTime }) => Math.abs(half.currentTime - currentTime) < 1);

  await click("playback-rate-button");
  await seen("it is faster", ({ playbackRate, saysRate }) => playbackRate > 1 && saysRate === playbackRate);
  await click("play-button");
  await seen("it plays on", ({ paused, currentTime }) => !paused && currentTime > half.currentTime + 1);

  await click("fullscreen-button");
  await seen("it is as large as the screen", ({ full, saysFull }) => full === "media-controller" && saysFull);
  await click("fullscreen-button");
  await seen("and no more", ({ full, saysFull }) => !full && !saysFull);
});

test(
  "media-chrome shows a live stream as live, and its button goes back to the end",
  { timeout: TEST_MS },
  async (t) => {
    const stage = await startStage({ t, live: { window: 8 }, signal: false });
    const browser = await startBrowser();
    t.after(() => browser.close());
    const { page, seen } = await openControls(browser, `src="${stage.src}"`);
    const live = await seen("it is at the end", ({ currentTime, saysLive }) => currentTime > 1 && saysLive);
    assert.equal(live.duration, Infinity);
    await page.evaluate(() => {
      const [media] = document.getElementsByTagName("headwater-video");
      media.currentTime = media.seekable.start(0) + 1;
    });
    const late = await seen("it is not", ({ saysLive }) => !saysLive);
    await page.click("#live-button");
    await seen("it is again", ({ saysLive, currentTime }) => saysLive && currentTime > late.currentTime + 8);
  },
);
