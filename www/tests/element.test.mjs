// <headwater-video> is to scripts what <video> is: attributes, properties, methods, events, parts, tracks. And it loads no more
// than it is asked to.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** What wrappers of media elements pass on, as media-chrome needs it: the events, those of Safari left out, and the attributes. */
const EVENTS = (
  "abort canplay canplaythrough durationchange emptied encrypted ended error loadeddata loadedmetadata loadstart pause " +
  "play playing progress ratechange seeked seeking stalled suspend timeupdate volumechange waiting waitingforkey resize " +
  "enterpictureinpicture leavepictureinpicture"
).split(" ");
const ATTRIBUTES = (
  "autopictureinpicture disablepictureinpicture disableremoteplayback autoplay controls controlslist crossorigin loop muted " +
  "playsinline poster preload"
).split(" ");

/** The sample's segments last two seconds; a first one and what goes with it. */
const A_SEGMENT = 250_000;

describe("the element", { concurrency: 2, timeout: SUITE_MS }, () => {
  let browser;
  let stage;

  before(async () => {
    [browser, stage] = [await startBrowser(), await startStage()];
  });
  after(async () => {
    await browser?.close();
    await stage?.close();
  });

  const page = async (body, options) => {
    const opened = await browser.openPage(`<script type="module" src="/headwater.js"></script>${body}`, options);
    await opened.page.waitForFunction(() => customElements.get("headwater-video"));
    return opened;
  };

  test("shows what stands inside it only where its script does not run", async () => {
    const body = '<headwater-video><a href="/film.mp4">Download the film</a></headwater-video>';
    for (const [opened, shown] of [
      [await browser.openPage(body), true],
      [await page(body), false],
    ]) {
      assert.equal(await opened.page.isVisible("a"), shown);
      await opened.close();
    }
  });

  test("has the attributes, properties, methods and constants of a video", async () => {
    const { page: tab, close } = await page("<headwater-video></headwater-video>");
    const seen = await tab.evaluate((attributes) => {
      const [element, native] = [document.querySelector("headwater-video"), document.createElement("video")];
      const names = new Set();
      for (let from = HTMLVideoElement.prototype; from !== HTMLElement.prototype; from = Object.getPrototypeOf(from)) {
        for (const name of Object.getOwnPropertyNames(from)) names.add(name);
      }
      const differ = [...names].filter(
        (name) => name !== "constructor" && typeof element[name] !== typeof native[name],
      );
      const lost = attributes.filter((name) => {
        element.setAttribute(name, "");
        return !element.video.hasAttribute(name);
      });
      const kept = attributes.filter((name) => {
        element.removeAttribute(name);
        return element.video.hasAttribute(name);
      });
      // What a property says its attribute says, as on a video.
      const unreflected = Object.entries({
        autoplay: true,
        controls: true,
        loop: true,
        playsInline: true,
        poster: "p.png",
        preload: "none",
        crossOrigin: "anonymous",
        disablePictureInPicture: true,
        disableRemotePlayback: true,
      }).filter(([name, value]) => {
        element[name] = native[name] = value;
        const attribute = name.toLowerCase();
        return element.getAttribute(attribute) !== native.getAttribute(attribute) || element[name] !== native[name];
      });
      element.muted = true;
      element.volume = 0.5;
      element.playbackRate = 1.5;
      const { muted, volume, playbackRate } = element.video;
      const parts = [...element.shadowRoot.querySelectorAll("[part]")].map(({ part }) => part.value);
      const attribute = element.hasAttribute("muted");
      return { count: names.size, differ, lost, kept, unreflected, muted, attribute, volume, playbackRate, parts };
    }, ATTRIBUTES);
    assert.ok(seen.count > 50);
    const { differ, lost, kept, unreflected } = seen;
    assert.deepEqual({ differ, lost, kept, unreflected }, { differ: [], lost: [], kept: [], unreflected: [] });
    assert.deepEqual([seen.muted, seen.attribute, seen.volume, seen.playbackRate], [true, false, 0.5, 1.5]);
    assert.deepEqual(seen.parts, ["video", "error"]);
    await close();
  });

  test("says what the video in it says, once, as an event of the same kind", async () => {
    const { page: tab, close } = await page("<headwater-video></headwater-video>");
    const seen = await tab.evaluate((events) => {
      const element = document.querySelector("headwater-video");
      const missed = [];
      for (const type of events) {
        const all = [];
        element.addEventListener(type, (event) => all.push(event));
        const Kind = type === "encrypted" ? MediaEncryptedEvent : Event;
        // These two bubble, and still do not leave a shadow root.
        const bubbles = type.endsWith("pictureinpicture");
        element.video.dispatchEvent(new Kind(type, { bubbles, initDataType: "cenc", initData: new ArrayBuffer(4) }));
        // An error has to be there to be told of.
        if (type === "error") continue;
        const [heard] = all;
        const told = type !== "encrypted" || (heard?.initDataType === "cenc" && heard.initData.byteLength === 4);
        if (all.length !== 1 || heard.target !== element || heard.bubbles !== bubbles || !told) missed.push(type);
      }
      // A click comes out by itself, once.
      let clicks = 0;
      element.addEventListener("click", () => (clicks += 1));
      element.video.dispatchEvent(new MouseEvent("click", { bubbles: true, composed: true }));
      if (clicks !== 1) missed.push(`${clicks} clicks`);
      return missed;
    }, EVENTS);
    assert.deepEqual(seen, []);
    await close();
  });

  test("shows the page's own subtitles, those that come later too", async () => {
    browser.pages.pages.set("/words.vtt", "WEBVTT\n\n00:00.000 --> 00:10.000\nhello\n");
    const { page: tab, close } = await page(
      `<headwater-video src="${stage.src}"><track kind="subtitles" src="/words.vtt" srclang="en" default /></headwater-video>`,
    );
    const cues = () =>
      tab.evaluate(() => [...document.querySelector("headwater-video").textTracks].map((track) => track.cues?.length));
    await until("its words are there", async () => (await cues())[0] === 1);
    await tab.evaluate(() => {
      const track = Object.assign(document.createElement("track"), {
        kind: "subtitles",
        srclang: "de",
        src: "/words.vtt",
      });
      document.querySelector("headwater-video").append(track);
    });
    await until("both are there", async () => (await cues()).length === 2);
    const left = await tab.evaluate(async () => {
      const element = document.querySelector("headwater-video");
      // As hls.js does it for a stream's own subtitles.
      element.video.append(Object.assign(document.createElement("track"), { id: "of the stream" }));
      const [first] = element.video.textTracks;
      const changed = () =>
        new Promise((resolve) => element.shadowRoot.querySelector("slot").addEventListener("slotchange", resolve));
      const added = changed();
      element.append(document.createElement("p"));
      await added;
      const kept = element.video.textTracks[0] === first;
      const removed = changed();
      element.querySelector("track").remove();
      await removed;
      return [kept, ...[...element.video.querySelectorAll("track")].map(({ id, srclang }) => id || srclang)];
    });
    assert.deepEqual(left, [true, "de", "of the stream"]);
    await close();
  });

  for (const preload of ["metadata", "none"]) {
    test(`with preload=${preload} plays on when play() comes with src, before the player is there`, async () => {
      const { page: tab, close } = await page(`<headwater-video muted preload="${preload}"></headwater-video>`);
      const look = () => tab.evaluate(() => document.querySelector("headwater-video").currentTime);
      // The second time hls.js is there at once, and something is playing.
      for (const src of [stage.src, `${stage.src}?again`]) {
        const played = tab.evaluate((url) => {
          const element = document.querySelector("headwater-video");
          element.src = url;
          return element.play();
        }, src);
        await played;
        await until("it has begun anew", async () => (await look()) < 3);
        await until("it plays on beyond the first segments", async () => (await look()) > 6);
      }
      await close();
    });
  }

  test("goes on where it was when its token is renewed, and a live stream with what is on air", async (t) => {
    const live = await startStage({ t, live: { window: 8 }, signal: false });
    const renewed = async (src, at, past) => {
      const { page: tab, close } = await page(`<headwater-video autoplay muted src="${src}"></headwater-video>`);
      const look = () => tab.evaluate(() => document.querySelector("headwater-video").currentTime);
      await until("it plays", async () => (await look()) > 0.5);
      if (at !== undefined)
        await tab.evaluate((time) => (document.querySelector("headwater-video").currentTime = time), at);
      await until("it plays from there", async () => (await look()) > past);
      const before = await tab.evaluate(() => {
        const element = document.querySelector("headwater-video");
        const { currentTime } = element;
        element.setAttribute("token", "renewed");
        window.times = [];
        element.video.addEventListener("playing", () => window.times.push(element.currentTime), { once: true });
        return currentTime;
      });
      const [after] = await until("it plays again", () => tab.evaluate(() => window.times.length > 0 && window.times));
      await until("it plays on", async () => (await look()) > after + 3);
      await close();
      return { before, after };
    };
    const { before, after } = await renewed(stage.src, 20, 21);
    assert.ok(Math.abs(after - before) < 1, `it left at ${before} s and went on at ${after} s`);
    // Past the end of what a player that comes anew sees as 16 seconds from 0.
    await renewed(live.src, undefined, 17);
  });

  test("without autoplay loads a segment and no more before it is played, with preload=none nothing", async () => {
    const attributes = { src: stage.src, signal: stage.signal.url, integrity: "open" };
    const open = (more) =>
      page(
        `<headwater-video muted ${Object.entries({ ...attributes, ...more })
          .map(([name, value]) => `${name}="${value}"`)
          .join(" ")}></headwater-video>`,
      );
    const look = (tab) =>
      tab.evaluate(() => {
        const element = document.querySelector("headwater-video");
        const { buffered, readyState: state, src } = element.video;
        const end = buffered.length > 0 ? buffered.end(0) : 0;
        // What hls.js gives the video to play says that hls.js is there.
        return { ...element.stats(), state, end, there: src.startsWith("blob:") };
      });
    for (const [preload, most] of [
      ["metadata", A_SEGMENT],
      ["none", 0],
    ]) {
      const { page: tab, close } = await open({ preload });
      const quiet = await until("it has come to rest", async () => {
        const before = await look(tab);
        await new Promise((resolve) => setTimeout(resolve, 1500));
        const now = await look(tab);
        const ready = preload === "none" ? before.there : before.state >= 2;
        return ready && now.httpBytes === before.httpBytes && now;
      });
      assert.ok(quiet.httpBytes <= most && quiet.end <= 4 && quiet.neighbours === 0, JSON.stringify(quiet));
      await tab.evaluate(() => document.querySelector("headwater-video").play());
      const played = await until("it plays with a buffer as long as ever", async () => {
        const now = await look(tab);
        return now.end > 15 && now;
      });
      assert.ok(played.startupMs > 0 && played.stalls === 0, JSON.stringify(played));
      await close();
    }
  });

  test("with autoplay is in the swarm as soon as it can play, though it may not play by itself", async () => {
    const refused = () => {
      // As a browser that lets nothing play by itself.
      addEventListener("loadedmetadata", ({ target }) => target.pause(), true);
      HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("no gesture", "NotAllowedError"));
    };
    const attributes = { src: stage.src, signal: stage.signal.url, integrity: "open" };
    const helper = await browser.open(attributes);
    await helper.playsTo(4);
    const viewer = await browser.open(attributes, { before: refused });
    await viewer.counts("what is ahead comes from the other viewer", ({ viewerBytes }) => viewerBytes > 300_000);
    const seen = await viewer.run(({ paused, played }) => [paused, played.length]);
    assert.deepEqual(seen, [true, 0]);
    await viewer.close();
    await helper.close();
  });

  test("plays through a ManagedMediaSource, and leaves the playlist itself to AirPlay", async () => {
    const managed = () => {
      const { MediaSource, SourceBuffer } = window;
      window.ManagedMediaSource = class ManagedMediaSource extends MediaSource {
        streaming = true;
        constructor() {
          super();
          window.source = this;
          this.addEventListener("sourceopen", () => {
            // As its specification has it: it opens only where playback elsewhere is off, or has something to play.
            const { video } = document.querySelector("headwater-video");
            const elsewhere = [...video.querySelectorAll("source")].some(
              ({ type }) => type !== "" && type !== "video/mp4",
            );
            window.mayOpen = video.disableRemotePlayback || elsewhere;
          });
        }
        stream(on) {
          this.streaming = on;
          this.dispatchEvent(new Event(on ? "startstreaming" : "endstreaming"));
        }
      };
      window.ManagedSourceBuffer = SourceBuffer;
      delete window.MediaSource;
    };
    const attributes = { src: stage.src, signal: stage.signal.url, integrity: "open" };
    const short = { maxBufferLength: 6, maxMaxBufferLength: 6 };
    const viewer = await browser.open(attributes, { before: managed, hls: short });
    const { page: tab } = viewer;
    await viewer.run(() => undefined);
    const look = () =>
      tab.evaluate(() => {
        const { video } = document.querySelector("headwater-video");
        const sources = [...video.querySelectorAll("source")].map(({ src, type }) => [
          src.replace(/^blob:.*/, "blob:"),
          type,
        ]);
        const end = video.buffered.length > 0 ? video.buffered.end(0) : 0;
        const { currentTime: time, disableRemotePlayback: alone } = video;
        return {
          time,
          end,
          alone,
          sources,
          mayOpen: window.mayOpen,
          stats: document.querySelector("headwater-video").stats(),
        };
      });
    const playing = await until("it plays", async () => {
      const now = await look();
      return now.time > 3 && now;
    });
    assert.equal(playing.sources[0][0], "blob:");
    assert.deepEqual(playing.sources[1], [stage.src, "application/vnd.apple.mpegurl"]);
    assert.deepEqual([playing.mayOpen, playing.alone], [true, false]);
    // The browser says when it wants media: not before is any loaded.
    await tab.evaluate(() => window.source.stream(false));
    await until("nothing is on its way any more", () =>
      tab.evaluate(() =>
        Object.values(window.player.inFlightFragments).every(({ state }) => /IDLE|STOPPED/.test(state)),
      ),
    );
    const { end } = await look();
    await until("it has played some of it", async () => (await look()).time > playing.time + 3);
    assert.equal((await look()).end, end);
    await tab.evaluate(() => window.source.stream(true));
    await until("it loads again", async () => (await look()).end > end);
    await viewer.close();
  });
});
