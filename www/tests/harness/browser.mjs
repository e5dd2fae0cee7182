// Viewers: pages with a <headwater-video>, each in a browser context of its own.

import { chromium } from "./engines.mjs";
import { startPages } from "./servers.mjs";
import { until } from "./wait.mjs";

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

/** What happens before a test can listen is kept. */
function noteEvents() {
  window.seen = [];
  for (const type of ["headwaterpeer", "error", "ended"]) {
    addEventListener(type, ({ detail }) => window.seen.push({ type, detail }), true);
  }
}

/** Starts a browser (see engines.mjs) and a server of its pages. */
export async function startBrowser(engine = chromium) {
  const browser = await engine();
  const pages = await startPages();
  let count = 0;

  /** Opens a page with this text, after `scripts` have run in it. */
  async function openText(text, scripts, headers = {}) {
    const opened = await browser.open(scripts.filter((script) => script !== undefined));
    const name = `/page-${++count}`;
    pages.headers.set(name, headers);
    pages.pages.set(name, `<!doctype html><title>page</title><link rel="icon" href="data:," />${text}`);
    await opened.page.goto(pages.url + name);
    return opened;
  }

  return {
    pages,
    /**
     * Opens a page with the element; `attributes` are the element's. `before` runs in the page before all else, `rate` is
     * the playback rate; `hls` gives the page an hls.js of its own with this configuration, and `Viewer.played`.
     */
    async open(attributes, { before, rate = 1, hls } = {}) {
      const given = Object.entries({ autoplay: "", muted: "", controls: "", ...attributes });
      const html = given.map(([key, value]) => `${key}="${escaped(value)}"`).join(" ");
      const script = hls ? notingPlayer(hls) : '<script type="module" src="/headwater.js"></script>';
      const text = `${script}<headwater-video ${html}></headwater-video>`;
      const viewer = new Viewer(await openText(text, [before, noteEvents]));
      if (rate !== 1)
        await viewer.run(
          (element, value) => void (element.video.defaultPlaybackRate = element.video.playbackRate = value),
          rate,
        );
      return viewer;
    },
    /** Opens a page of a test's own making: `html` is all that is in it, `headers` go with it. */
    async openPage(html, { before, headers } = {}) {
      return await openText(html, [before], headers);
    },
    async close() {
      await browser.close();
      await pages.close();
    },
  };
}

class Viewer {
  /** `messages` is what the page wrote to its console, `close` closes it and its context. */
  constructor({ page, messages, close }) {
    Object.assign(this, { page, messages, close });
  }

  /** Runs a function in the page with the element, once that is defined, and one argument. */
  async run(body, argument) {
    // Not by the page's frames: one in the background has none.
    const element = await until("the element is defined", async () => {
      const found = await this.page.evaluateHandle(() => {
        const element = document.querySelector("headwater-video");
        return element?.video ? element : null;
      });
      return found.asElement();
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

  /**
   * Resolves when playback has so many seconds ahead. `stalledMs` counts from then on: before, with a second or two, how fast
   * the machine is shows, and not what is tested.
   */
  async settles(seconds = 4) {
    await this.#wait(`${seconds} s ahead`, async () => {
      const { time, buffered } = await this.playback();
      return time > 0 && buffered - time >= seconds;
    });
    this.settled = await this.stats();
  }

  /** How long playback has stood still since it settled. */
  async stalledMs() {
    return (await this.stats()).stallMs - this.settled.stallMs;
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
