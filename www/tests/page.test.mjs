// What happens to pages: put in the background, left and come back to, asleep, offline, taken apart and put together again.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { tabs } from "./harness/engines.mjs";
import { CMAF, startSignal, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** A short buffer, so that there is always something to load. */
const SHORT_BUFFER = { maxBufferLength: 8, maxMaxBufferLength: 8 };

/** Longer than the session takes for sleep, in milliseconds. */
const NIGHT_MS = 8 * 3600 * 1000;

/** Notes which sockets and connections the page has open, and what it sends and asks for. */
function spy() {
  window.open = { sockets: new Set(), connections: new Set() };
  window.joins = [];
  window.sent = 0;
  window.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      window.joins.push(performance.now());
      window.open.sockets.add(this);
      this.addEventListener("close", () => window.open.sockets.delete(this));
    }
    send(text) {
      window.sent += 1;
      super.send(text);
    }
    close() {
      window.open.sockets.delete(this);
      super.close();
    }
  };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(configuration);
      window.open.connections.add(this);
    }
    close() {
      window.open.connections.delete(this);
      super.close();
    }
  };
}

const counted = ({ page }) =>
  page.evaluate(() => ({
    sockets: window.open.sockets.size,
    connections: window.open.connections.size,
    joins: window.joins.length,
    sent: window.sent,
  }));

/** What could never be heard rests in the background; to be heard takes the viewer's hand, once. */
async function turnUp(viewer) {
  await viewer.playsTo(1);
  await viewer.page.mouse.click(700, 500);
  await viewer.run(({ video }) => void (video.muted = false));
}

/** A hidden page's timers come once a second; Chromium spares pages that can be heard, other browsers do not. */
function slowTimers() {
  const { setTimeout: later, setInterval: often } = window;
  const second = () => Math.floor(performance.now() / 1000);
  const isHidden = () => document.visibilityState === "hidden";
  window.setTimeout = (call, ms = 0, ...given) => {
    const due = performance.now() + ms;
    return later(call, isHidden() ? Math.ceil(due / 1000) * 1000 - performance.now() : ms, ...given);
  };
  window.setInterval = (call, ms, ...given) => {
    let last = 0;
    return often(() => {
      if (isHidden() && second() === last) return;
      last = second();
      call(...given);
    }, ms);
  };
}

/** Leaves the page as soon as its first socket is made, while the client is still starting. */
function leaveAtOnce() {
  const Spied = window.WebSocket;
  window.WebSocket = class extends Spied {
    constructor(url) {
      super(url);
      window.WebSocket = Spied;
      queueMicrotask(() => {
        dispatchEvent(new Event("pagehide"));
        window.left = [window.open.sockets.size];
      });
    }
  };
}

/** Lets the test cut the sockets that there are off, as those of a network that is left: silently. */
function loseLink() {
  window.loseLink = () => {
    for (const socket of window.open.sockets) {
      socket.send = () => undefined;
      socket.onmessage = null;
    }
  };
}

/** A link that the test can change. */
function pretendLink() {
  window.device = Object.assign(new EventTarget(), { type: "wifi" });
  Object.defineProperty(navigator, "connection", { value: window.device });
}

/** How often a timer of 50 ms comes in a second of the page. */
const ticks = ({ page }) =>
  page.evaluate(async () => {
    let count = 0;
    const timer = setInterval(() => (count += 1), 50);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    clearInterval(timer);
    return count;
  });

describe("a page", { concurrency: 1, timeout: SUITE_MS }, () => {
  let browser;
  let tabbed;

  before(async () => {
    [browser, tabbed] = [await startBrowser(), await startBrowser(tabs)];
  });
  after(async () => {
    await browser?.close();
    await tabbed?.close();
  });

  async function stageFor(t, options) {
    const stage = await startStage({ t, ...options });
    return { stage, attributes: { src: stage.src, signal: stage.signal.url, key: undefined, integrity: "open" } };
  }

  const open = (where, { key: _, ...attributes }, options) =>
    where.open(attributes, { before: spy, hls: SHORT_BUFFER, ...options });

  test("in the background plays on and gives on, and makes up for nothing when it comes back", async (t) => {
    const { stage, attributes } = await stageFor(t, { root: CMAF });
    const first = await open(tabbed, attributes, { before: `(${spy})();(${slowTimers})();` });
    await turnUp(first);
    const second = await open(tabbed, attributes);
    assert.equal(await first.page.evaluate(() => document.visibilityState), "hidden");
    const [hiddenAt, given] = [(await first.playback()).time, (await first.stats()).uploadedBytes];
    // Past all that it had when it was hidden.
    await first.playsTo(hiddenAt + 12);
    const hidden = await first.stats();
    assert.ok((await ticks(first)) <= 3);
    assert.ok(hidden.uploadedBytes - given > 50_000, JSON.stringify({ given, hidden }));
    assert.ok(hidden.stallMs <= 500, JSON.stringify(hidden));
    await until("the other one has as much ahead as it wants", async () => {
      const { time, buffered } = await second.playback();
      return buffered - time >= SHORT_BUFFER.maxBufferLength;
    });
    const ahead = async () => (await first.playback()).buffered + (await second.playback()).buffered;
    const [before, loaded] = [await counted(first), await ahead()];
    stage.origin.resetStats();
    await first.page.bringToFront();
    const cameBack = (await first.playback()).time;
    await first.playsTo(cameBack + 4);
    const [now, { requests }] = [await counted(first), stage.origin.count(/seg-/)];
    const gained = (await ahead()) - loaded;
    // Sound and picture for every two seconds of media at most, and what is on its way to the two.
    assert.ok(requests <= gained + 4, `${requests} requests for ${gained} s of media`);
    assert.ok(now.sent - before.sent <= 4 && now.joins === before.joins, JSON.stringify({ before, now }));
    assert.ok((await first.stats()).stallMs <= 500);
    await Promise.all([first.close(), second.close()]);
  });

  test("that is left is kept by the browser with nothing open, and shares again when one goes back to it", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    const { page, close, ...viewer } = await open(tabbed, attributes);
    const stats = () => page.evaluate(() => document.querySelector("headwater-video").stats?.());
    const met = await until("they share", async () => {
      const now = await stats();
      return now?.viewerBytes > 100_000 && now;
    });
    await page.evaluate(() => {
      addEventListener("pagehide", () => (window.left = [window.open.sockets.size, window.open.connections.size]));
      addEventListener("pageshow", ({ persisted }) => (window.persisted = persisted));
    });
    await page.goto(`${tabbed.pages.url}/elsewhere`);
    await other.counts("the other one is alone", ({ neighbours }) => neighbours === 0);
    await page.goBack();
    const back = await page.evaluate(() => ({
      persisted: window.persisted,
      reasons: JSON.stringify(performance.getEntriesByType("navigation")[0].notRestoredReasons),
      left: window.left,
    }));
    // The test's own listener came later than the player's.
    assert.deepEqual(back, { persisted: true, reasons: "null", left: [0, 0] });
    const again = await until("they share again", async () => {
      const now = await stats();
      return now.viewerBytes > met.viewerBytes + 100_000 && now.neighbours === 1 && now;
    });
    assert.ok(again.httpBytes >= met.httpBytes, "what was counted stays");
    assert.ok(again.stallMs <= 500, JSON.stringify(again));
    assert.equal(viewer.messages.filter((text) => text.startsWith("page error")).length, 0);
    await Promise.all([close(), other.close()]);
  });

  test("that slept through a night joins anew, once", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    const viewer = await open(browser, attributes);
    await viewer.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    const [before, { viewerBytes }] = [await counted(viewer), await viewer.stats()];
    await viewer.page.evaluate((night) => {
      const { now } = Date;
      Date.now = () => now() + night;
    }, NIGHT_MS);
    await until("it has joined anew", async () => (await counted(viewer)).joins > before.joins);
    await viewer.counts(
      "they share again",
      (stats) => stats.neighbours === 1 && stats.viewerBytes > viewerBytes + 99_999,
    );
    const woken = await counted(viewer);
    assert.deepEqual(
      [woken.joins - before.joins, woken.sockets, woken.connections],
      [1, 1, 1],
      JSON.stringify({ before, woken }),
    );
    assert.ok((await viewer.stats()).stallMs <= 500);
    await Promise.all([viewer.close(), other.close()]);
  });

  test("that comes back online joins at once, whatever the back-off had come to, and its video went on", async (t) => {
    const { stage, attributes } = await stageFor(t, { root: CMAF });
    const first = await open(tabbed, attributes, { hls: { maxBufferLength: 12, maxMaxBufferLength: 12 } });
    await turnUp(first);
    await until("it has joined", async () => (await counted(first)).sent > 0);
    await stage.signal.kill();
    await first.page.setOfflineMode(true);
    await until("it has tried in vain", async () => (await counted(first)).joins >= 4);
    const heir = await startSignal({ listen: stage.signal.address });
    t.after(heir.kill);
    const { joins } = await counted(first);
    const since = await first.page.evaluate(() => {
      addEventListener("online", () => (window.online = performance.now()));
      return performance.now();
    });
    await first.page.setOfflineMode(false);
    await until("it has tried again", async () => (await counted(first)).joins > joins, 3_000);
    const waited = await first.page.evaluate(() => window.joins.at(-1) - window.online);
    assert.ok(since > 0 && waited >= 0 && waited < 1_500, `it waited ${waited} ms`);
    const second = await open(tabbed, attributes);
    await second.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    const { time } = await first.playback();
    await first.playsTo(time + 9);
    assert.deepEqual(await first.seen("error"), []);
    await Promise.all([first.close(), second.close()]);
  });

  test("whose network has changed without a word is found again by others", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    const viewer = await open(browser, attributes, { before: `(${spy})();(${loseLink})();` });
    await viewer.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    // Neither end hears of it: for the server this viewer is there as before.
    await viewer.page.evaluate(() => window.loseLink());
    await other.close();
    await viewer.counts("it is alone", ({ neighbours }) => neighbours === 0);
    const third = await open(browser, attributes);
    await viewer.counts("it has met the third", ({ neighbours }) => neighbours === 1);
    assert.deepEqual(await counted(viewer).then(({ joins, sockets }) => [joins, sockets]), [2, 1]);
    await Promise.all([viewer.close(), third.close()]);
  });

  test("whose element is taken out and put back leaves, and goes on where it was", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    const viewer = await open(browser, attributes);
    await viewer.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    await viewer.playsTo(6);
    // Moved within the page it has not left.
    await viewer.run((element) => {
      const place = document.createElement("div");
      document.body.append(place);
      place.append(element);
    });
    assert.equal((await viewer.stats()).neighbours, 1);
    const at = await viewer.run((element) => {
      window.element = element;
      element.remove();
      return element.video.currentTime;
    });
    await other.counts("the other one is alone", ({ neighbours }) => neighbours === 0);
    assert.deepEqual(await counted(viewer).then(({ sockets, connections }) => [sockets, connections]), [0, 0]);
    await viewer.page.evaluate(() => document.body.append(window.element));
    await viewer.counts("they are neighbours again", ({ neighbours }) => neighbours === 1);
    const { time } = await viewer.playback();
    assert.ok(time >= at - 1 && time < at + 20, `it left at ${at} s and goes on at ${time} s`);
    await viewer.playsTo(at + 3);
    await Promise.all([viewer.close(), other.close()]);
  });

  test("that is left while the client starts has nothing open, and shares when one goes back to it", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    // A browser that never tells of its battery is not waited for.
    const silent = "navigator.getBattery = () => new Promise(() => {});";
    const viewer = await open(browser, attributes, { before: `(${spy})();(${leaveAtOnce})();${silent}` });
    assert.deepEqual(await until("it was left", () => viewer.page.evaluate(() => window.left)), [0]);
    const { time } = await viewer.playback();
    await viewer.playsTo(time + 3);
    assert.equal((await counted(viewer)).joins, 1);
    await viewer.page.evaluate(() => dispatchEvent(new Event("pageshow")));
    await viewer.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    const { joins, sockets } = await counted(viewer);
    assert.deepEqual([joins, sockets], [2, 1]);
    await Promise.all([viewer.close(), other.close()]);
  });

  test("whose player gave its video up is still left, and still spares a link that turns cellular", async (t) => {
    const { attributes } = await stageFor(t);
    const other = await open(browser, attributes, { hls: {} });
    await other.playsTo(4);
    const viewer = await open(browser, attributes, { before: `(${spy})();(${pretendLink})();` });
    await viewer.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    // Before anything else of the page can run.
    const openAfter = (happens) =>
      viewer.page.evaluate(`(${happens})();[window.open.sockets.size, window.open.connections.size]`);
    const before = await counted(viewer);
    const spared = await openAfter(() => {
      window.player.detachMedia();
      window.device.type = "cellular";
      window.device.dispatchEvent(new Event("change"));
    });
    assert.deepEqual(spared, [0, 0]);
    await viewer.counts("it is in the swarm again", ({ neighbours }) => neighbours === 1);
    assert.equal((await counted(viewer)).joins, before.joins + 1);
    assert.deepEqual(await openAfter(() => dispatchEvent(new Event("pagehide"))), [0, 0]);
    await other.counts("the other one is alone", ({ neighbours }) => neighbours === 0);
    await viewer.page.evaluate(() => dispatchEvent(new Event("pageshow")));
    await other.counts("they are neighbours again", ({ neighbours }) => neighbours === 1);
    await Promise.all([viewer.close(), other.close()]);
  });

  test("whose src changes in mid-play leaves one swarm for the other, however often it changes", async (t) => {
    const [one, two] = await Promise.all([stageFor(t), stageFor(t)]);
    const others = await Promise.all([one, two].map(({ attributes }) => open(browser, attributes, { hls: {} })));
    await Promise.all(others.map((other) => other.playsTo(4)));
    const viewer = await open(browser, one.attributes);
    await others[0].counts("it is the first one's neighbour", ({ neighbours }) => neighbours === 1);
    await viewer.run(
      async (element, [[src, signal], [other, otherSignal]]) => {
        for (let turn = 0; turn < 10; turn += 1) {
          element.setAttribute("src", turn % 2 === 0 ? other : src);
          element.setAttribute("signal", turn % 2 === 0 ? otherSignal : signal);
          await new Promise((resolve) => setTimeout(resolve, 40 * turn));
        }
        element.setAttribute("signal", otherSignal);
        element.src = other;
      },
      [one, two].map(({ attributes: { src, signal } }) => [src, signal]),
    );
    await others[1].counts("it is the second one's neighbour", ({ neighbours }) => neighbours === 1);
    await others[0].counts("the first one is alone", ({ neighbours }) => neighbours === 0);
    await viewer.counts("it plays from the second one", ({ viewerBytes }) => viewerBytes > 100_000);
    const { sockets, connections } = await counted(viewer);
    assert.deepEqual([sockets, connections], [1, 1]);
    assert.deepEqual(await viewer.seen("error"), []);
    await Promise.all([viewer, ...others].map((each) => each.close()));
  });
});
