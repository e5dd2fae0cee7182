// Without peers a stream plays as it would without Headwater, whatever the reason.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { startStage } from "./harness/servers.mjs";
import { SUITE_MS } from "./harness/wait.mjs";

/** Where a dead signalling server would be: a port that nothing listens on. */
const NOWHERE = "ws://127.0.0.1:9/v1/signal";

describe("a stream plays over HTTP", { concurrency: 4, timeout: SUITE_MS }, () => {
  let browser;
  let stage;

  before(async () => {
    stage = await startStage();
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await stage?.close();
  });

  async function playsOverHttp(attributes, options) {
    const viewer = await browser.open({ src: stage.src, ...attributes }, { rate: 2, ...options });
    await viewer.settles();
    await viewer.playsTo(12);
    // Seeking to the end and playing it out shows that nothing further on waits for peers either.
    await viewer.run(({ video }) => void (video.currentTime = video.duration - 6));
    await viewer.ends();
    const stats = await viewer.stats();
    assert.equal(stats.seedBytes + stats.viewerBytes, 0);
    assert.ok(stats.httpBytes > 500_000, `only ${stats.httpBytes} bytes were counted`);
    assert.ok(stats.startupMs > 0);
    // A machine that is short of time for decoding stalls for a moment, peers or no peers.
    assert.ok((await viewer.stalledMs()) <= 500, `${stats.stalls} stalls, ${stats.stallMs} ms`);
    assert.deepEqual(await viewer.seen("error"), []);
    await viewer.close();
  }

  const peers = () => ({ signal: stage.signal.url, key: stage.key.public });

  test("on a page that gives nothing but src", () => playsOverHttp({}));

  test("without WebRTC", () =>
    playsOverHttp(peers(), {
      before: () => {
        delete window.RTCPeerConnection;
        delete window.webkitRTCPeerConnection;
      },
    }));

  test("without WebAssembly", () => playsOverHttp(peers(), { before: () => void delete window.WebAssembly }));

  test("where the WASM cannot be loaded", () =>
    playsOverHttp(peers(), {
      before: () => {
        WebAssembly.compile = () => Promise.reject(new Error("not today"));
      },
    }));

  test("while the WASM is slow to come, from an origin that is slow as well", async (t) => {
    // What waits for the client must not wait for longer than the origin can make up for.
    const slow = await startStage({ t });
    slow.origin.setDelay(700, "seg-");
    await playsOverHttp(
      { src: slow.src, signal: slow.signal.url, key: slow.key.public },
      {
        rate: 1,
        before: () => {
          const compile = WebAssembly.compile.bind(WebAssembly);
          WebAssembly.compile = async (...given) => {
            await new Promise((resolve) => setTimeout(resolve, 6000));
            return await compile(...given);
          };
        },
      },
    );
  });

  test("without Ed25519", () =>
    playsOverHttp(peers(), {
      before: () => {
        SubtleCrypto.prototype.importKey = () => Promise.reject(new DOMException("no", "NotSupportedError"));
      },
    }));

  test("with a key that is none", () => playsOverHttp({ ...peers(), key: "not a key" }));

  test("with the key of another publisher", () => playsOverHttp({ ...peers(), key: "A".repeat(43) }));

  test("with the signalling server absent", () => playsOverHttp({ ...peers(), signal: NOWHERE }));

  test("with a signal attribute that is no URL", () => playsOverHttp({ ...peers(), signal: "http://[" }));

  test("where a trap ends the client", () =>
    playsOverHttp(peers(), {
      before: () => {
        const { parse } = JSON;
        // The first word of the signalling server makes the client do something impossible.
        JSON.parse = (text) => {
          const message = parse(text);
          if (message.type === "welcome")
            message.swarm_size = {
              valueOf: () => {
                throw new Error("trap");
              },
            };
          return message;
        };
      },
    }));
});

describe("a stream that is none", { concurrency: 4, timeout: SUITE_MS }, () => {
  let browser;
  let stage;

  before(async () => {
    stage = await startStage({ signal: false });
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await stage?.close();
  });

  async function showsAnError(src) {
    const viewer = await browser.open({ src });
    const [error] = (await browser.pages) && (await waitForError(viewer));
    assert.ok(error.detail.message.length > 0);
    const shown = await viewer.run((element) => {
      const message = element.shadowRoot.querySelector("[part=error]");
      return !message.hidden && message.textContent;
    });
    assert.match(shown, /cannot be played/);
    await viewer.close();
  }

  async function waitForError(viewer) {
    await viewer.page.waitForFunction(() => window.seen.some(({ type }) => type === "error"));
    return await viewer.seen("error");
  }

  test("tells of a playlist that is not there", () => showsAnError(`${stage.origin.url}/nothing.m3u8`));

  test("tells of a page of HTML in its place", () => {
    browser.pages.pages.set("/page.m3u8", "<!doctype html><title>404</title>");
    return showsAnError(`${browser.pages.url}/page.m3u8`);
  });

  test("tells of a playlist that is cut off", () => {
    browser.pages.pages.set("/cut.m3u8", "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-STREAM-INF:BANDW");
    return showsAnError(`${browser.pages.url}/cut.m3u8`);
  });
});
