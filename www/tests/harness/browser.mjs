// Viewers: pages with a <headwater-video> in headless Chromium, each in a browser context of its own.

import { chromium } from "playwright-core";

import { startPages } from "./servers.mjs";
import { until } from "./wait.mjs";

/** Without the last one, host candidates are mDNS names that nothing on a test machine resolves. */
export const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

/** A page that brings its own hls.js, which notes the hash of every segment that it is given. */
function notingPlayer(config) {
  return `<script type="module">
    import Hls from "/hls.mjs";
    window.played = [];
    window.Hls = class extends Hls {
      constructor(given) {
        super({ ...given, ...${JSON.stringify(config)} });
        window.player = this;
        this.on(Hls.Events.FRAG_LOADED, async (_, { frag, payload }) => {
          if (frag.sn === "initSegment") return;
          const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", payload.slice(0)));
          const sha256 = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
          window.played.push({ path: new URL(frag.url).pathname, sn: frag.sn, sha256 });
        });
      }
    };
    await import("/headwater.js");
  </script>`;
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;");

/** Starts a browser and a server of its pages. */
export async function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: FLAGS, ignoreDefaultArgs: ["--mute-audio"] });
  const pages = await startPages();
  let count = 0;
  return {
    pages,
    /**
     * Opens a page with the element; `attributes` are the element's. `before` runs in the page before all else, `rate` is
     * the playback rate; `hls` gives the page an hls.js of its own with this configuration, and `Viewer.played`.
     */
    async open(attributes, { before, rate = 1, hls } = {}) {
      const context = await browser.newContext();
      const page = await context.newPage();
      const messages = [];
      page.on("console", (message) => messages.push(message.text()));
      page.on("pageerror", (error) => messages.push(`page error: ${error.message}`));
      if (before) await page.addInitScript(before);
      // What happens before a test can listen is kept.
      await page.addInitScript(() => {
        window.seen = [];
        for (const type of ["headwaterpeer", "error", "ended"]) {
          addEventListener(type, ({ detail }) => window.seen.push({ type, detail }), true);
        }
      });
      const name = `/viewer-${++count}`;
      const given = Object.entries({ autoplay: "", muted: "", controls: "", ...attributes });
      const html = given.map(([key, value]) => `${key}="${escaped(value)}"`).join(" ");
      pages.pages.set(
        name,
        `<!doctype html><title>viewer</title><link rel="icon" href="data:," />
         ${hls ? notingPlayer(hls) : '<script type="module" src="/headwater.js"></script>'}
         <headwater-video ${html}></headwater-video>`,
      );
      await page.goto(pages.url + name);
      const viewer = new Viewer(page, messages);
      if (rate !== 1)
        await viewer.run(
          (element, value) => void (element.video.defaultPlaybackRate = element.video.playbackRate = value),
          rate,
        );
      return viewer;
    },
    /** Opens a page of a test's own making: `html` is all that is in it, `headers` go with it. */
    async openPage(html, { before, headers = {} } = {}) {
      const context = await browser.newContext();
      const page = await context.newPage();
      const messages = [];
      page.on("console", (message) => messages.push(message.text()));
      page.on("pageerror", (error) => messages.push(`page error: ${error.message}`));
      if (before) await page.addInitScript(before);
      const name = `/page-${++count}`;
      pages.headers.set(name, headers);
      pages.pages.set(name, `<!doctype html><title>page</title><link rel="icon" href="data:," />${html}`);
      await page.goto(pages.url + name);
      return { page, messages, close: () => context.close() };
    },
    async close() {
      await browser.close();
      await pages.close();
    },
  };
}

class Viewer {
  constructor(page, messages) {
    this.page = page;
    /** What the page wrote to its console. */
    this.messages = messages;
  }

  /** Runs a function in the page with the element, once that is defined, and one argument. */
  async run(body, argument) {
    const element = await this.page.waitForFunction(() => {
      const found = document.querySelector("headwater-video");
      return found?.video ? found : null;
    });
    return await element.evaluate(body, argument);
  }

  /** The element's counters. */
  async stats() {
    return await this.run((element) => element.stats());
  }

  /** Where playback is. */
  async playback() {
    return await this.run(({ video }) => ({
      time: video.currentTime,
      ended: video.ended,
      paused: video.paused,
      buffered: video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) : 0,
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
    }));
  }

  /** Events of a type that the page has seen. */
  async seen(type) {
    return await this.page.evaluate((wanted) => window.seen.filter((event) => event.type === wanted), type);
  }

  /** The segments that hls.js was given, with their hashes; for pages with an hls.js of their own. */
  async played() {
    return await this.page.evaluate(() => window.played);
  }

  /** Resolves when playback has come to `time`. */
  async playsTo(time, within) {
    return await this.#wait(`playback at ${time} s`, async () => (await this.playback()).time >= time, within);
  }

  /** Resolves when playback has ended. */
  async ends(within) {
    return await this.#wait("the end of playback", async () => (await this.playback()).ended, within);
  }

  /** Resolves when the counters are as `holds` wants them. */
  async counts(what, holds, within) {
    return await this.#wait(
      what,
      async () => {
        const stats = await this.stats();
        return holds(stats) && stats;
      },
      within,
    );
  }

  /** Closes the page and its context. */
  async close() {
    await this.page.context().close();
  }

  async #wait(what, look, within) {
    try {
      return await until(what, look, within);
    } catch (error) {
      const [playback, stats] = await Promise.all([this.playback(), this.stats()]);
      const log = this.messages.slice(-20).join("\n");
      throw new Error(`${error.message}\n${JSON.stringify({ playback, stats })}\n${log}`, { cause: error });
    }
  }
}
