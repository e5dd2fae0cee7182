// What a viewer may expect: to be asked, to give no more than was said, to keep its address and its keys to itself.

import assert from "node:assert/strict";
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { startBrowser } from "./harness/browser.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

/** Counts a page's sockets. */
function countSockets() {
  window.sockets = 0;
  window.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      window.sockets += 1;
    }
  };
}

/** Counts a page's sockets, and keeps its links, each of which may be made to say that nothing is heard over it. */
function noteLinks() {
  window.sockets = 0;
  window.links = [];
  window.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      window.sockets += 1;
    }
  };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    silent = false;
    constructor(...given) {
      super(...given);
      window.links.push(this);
    }
    get connectionState() {
      return this.silent ? "disconnected" : super.connectionState;
    }
  };
}

describe("a viewer", { concurrency: 3, timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  async function stageFor(t, options = {}) {
    const stage = await startStage({ t, root: CMAF, ...options });
    return { stage, attributes: { src: stage.src, signal: stage.signal.url, integrity: "open" } };
  }

  /** A viewer that is far enough ahead to have something to give. */
  async function openAhead(attributes, options) {
    const viewer = await browser.open(attributes, { hls: {}, ...options });
    await until("the first viewer is ahead", async () => (await viewer.playback()).buffered > 20);
    return viewer;
  }

  test("is asked first: nothing leaves for the signalling server before consent, and then sharing begins", async (t) => {
    const { attributes } = await stageFor(t);
    const first = await openAhead(attributes);
    const asked = await browser.open(
      { ...attributes, consent: "ask" },
      {
        hls: { maxBufferLength: 8, maxMaxBufferLength: 8 },
        before: countSockets,
      },
    );
    await asked.playsTo(6);
    assert.equal(await asked.page.evaluate(() => window.sockets), 0);
    const before = await asked.stats();
    assert.ok(before.httpBytes > 0 && before.viewerBytes === 0, JSON.stringify(before));
    await asked.run((element) => element.setAttribute("consent", "given"));
    await asked.counts("bytes come from the other viewer", (stats) => stats.viewerBytes > 0);
    const refused = await browser.open({ ...attributes, consent: "ask" });
    await refused.playsTo(1);
    await refused.run((element) => element.setAttribute("consent", "refused"));
    await refused.playsTo(8);
    const { viewerBytes, neighbours } = await refused.stats();
    assert.equal(viewerBytes + neighbours, 0);
    for (const viewer of [first, asked, refused]) await viewer.close();
  });

  for (const [what, cap, spare] of [
    ["with an upload cap of 0", { "upload-cap": "0" }, undefined],
    [
      "with save-data on",
      {},
      () => Object.defineProperty(navigator, "connection", { value: { saveData: true, addEventListener() {} } }),
    ],
    [
      "on a cellular link",
      {},
      () => Object.defineProperty(navigator, "connection", { value: { type: "cellular", addEventListener() {} } }),
    ],
    [
      "with a low battery",
      {},
      () => {
        const battery = Object.assign(new EventTarget(), { charging: false, level: 0.1 });
        navigator.getBattery = async () => battery;
      },
    ],
  ]) {
    test(`${what} gives nothing, and takes no harm`, async (t) => {
      const { attributes } = await stageFor(t);
      const mean = await openAhead({ ...attributes, ...cap }, { before: spare });
      const other = await browser.open(attributes, { rate: 2 });
      await other.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
      await other.ends();
      const [given, taken] = [await mean.stats(), await other.stats()];
      assert.equal(given.uploadedBytes, 0);
      assert.equal(taken.viewerBytes, 0);
      assert.ok(taken.stallMs <= 500, JSON.stringify(taken));
      await Promise.all([mean.close(), other.close()]);
    });
  }

  for (const [what, device, spare, stop] of [
    [
      "whose link turns cellular",
      () => {
        window.device = Object.assign(new EventTarget(), { type: "wifi" });
        Object.defineProperty(navigator, "connection", { value: window.device });
      },
      () => {
        window.device.type = "cellular";
        window.device.dispatchEvent(new Event("change"));
      },
      () => {
        window.device.type = "wifi";
        window.device.dispatchEvent(new Event("change"));
      },
    ],
    [
      "whose battery runs low",
      () => {
        window.device = Object.assign(new EventTarget(), { charging: false, level: 0.5 });
        navigator.getBattery = async () => window.device;
      },
      () => {
        window.device.level = 0.19;
        window.device.dispatchEvent(new Event("levelchange"));
      },
      () => {
        window.device.charging = true;
        window.device.dispatchEvent(new Event("chargingchange"));
      },
    ],
  ]) {
    test(`${what} gives nothing from then on, until that is over`, async (t) => {
      const { attributes } = await stageFor(t);
      const viewer = await openAhead(attributes, { before: device });
      const taker = async () => {
        const other = await browser.open(attributes, { rate: 2 });
        await other.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
        await other.playsTo(12);
        const { viewerBytes } = await other.stats();
        await other.close();
        return viewerBytes;
      };
      assert.ok((await taker()) > 0);
      await viewer.counts("the other one has gone", ({ neighbours }) => neighbours === 0);
      const { uploadedBytes: given } = await viewer.stats();
      assert.ok(given > 0);
      await viewer.page.evaluate(spare);
      // What it kept is gone with what it had promised: this says that it has begun anew.
      await viewer.counts("it has begun anew", ({ heldBytes }) => heldBytes === 0);
      // It loads the stream once more, and has that to give, if it were to give. A flush that comes while hls.js appends may
      // leave most of the buffer as it is: then there is another.
      const loadAgain = () =>
        until("it has something again", async () => {
          if ((await viewer.stats()).heldBytes > 300_000) return true;
          if ((await viewer.playback()).buffered < 20) return false;
          await viewer.run(({ video }) => {
            video.currentTime = 0;
            window.player.trigger("hlsBufferFlushing", { startOffset: 0, endOffset: Infinity, type: null });
          });
          return false;
        });
      await loadAgain();
      assert.equal(await taker(), 0);
      assert.equal((await viewer.stats()).uploadedBytes, given);
      await viewer.page.evaluate(stop);
      await loadAgain();
      assert.ok((await taker()) > 0);
      await viewer.close();
    });
  }

  test("whose page's hooks for consent fail, or never answer, watches over HTTP, and the console says so once", async (t) => {
    const { attributes } = await stageFor(t);
    const { page, messages, close } = await browser.openPage(
      `<script type="module">
        import { hls, statsOf } from "/headwater.js";
        import Hls from "/hls.mjs";
        const { src, ...options } = ${JSON.stringify(attributes)};
        const hooks = {
          throws: () => { throw new Error("no dialogue"); },
          rejects: () => Promise.reject(new Error("no answer")),
          waits: () => new Promise(() => undefined),
        };
        window.players = Object.entries(hooks).map(([name, hook]) => {
          const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true });
          document.body.append(video);
          let asked = 0;
          const consent = () => {
            asked += 1;
            return hook();
          };
          const player = new Hls(hls({ ...options, consent }));
          player.attachMedia(video);
          player.loadSource(src);
          return () => ({ name, asked, time: video.currentTime, ...statsOf(player) });
        });
      </script>`,
      { before: countSockets },
    );
    const seen = await until("all of them play", async () => {
      const now = await page.evaluate(() => window.players?.map((look) => look()) ?? []);
      return now.length === 3 && now.every(({ time }) => time > 6) && now;
    });
    for (const { asked, httpBytes, viewerBytes, neighbours } of seen) {
      assert.deepEqual([asked, httpBytes > 0, viewerBytes + neighbours], [1, true, 0], JSON.stringify(seen));
    }
    assert.equal(await page.evaluate(() => window.sockets), 0);
    const told = messages.filter((message) => message.includes("consent hook failed"));
    assert.equal(told.length, 2, messages.join("\n"));
    await close();
  });

  test("whose neighbours all fall silent while the server answers, as on another network, has them back soon", async (t) => {
    const { attributes } = await stageFor(t);
    const first = await openAhead(attributes);
    const moved = await browser.open(attributes, { before: noteLinks });
    await moved.counts("they are neighbours", ({ neighbours }) => neighbours === 1);
    // What is sent to an address that is not this device's any more is lost, and nobody says so.
    const before = await moved.page.evaluate(() => {
      for (const link of window.links) {
        link.silent = true;
        link.dispatchEvent(new Event("connectionstatechange"));
      }
      return { sockets: window.sockets, links: window.links.length };
    });
    await until("another link is up in place of the silent one, through another socket", () =>
      moved.page.evaluate(
        ({ sockets, links }) =>
          window.sockets > sockets &&
          window.links.slice(0, links).every(({ signalingState }) => signalingState === "closed") &&
          window.links.slice(links).some(({ connectionState }) => connectionState === "connected"),
        before,
      ),
    );
    await moved.counts("they are neighbours again", ({ neighbours }) => neighbours === 1);
    for (const viewer of [first, moved]) await viewer.close();
  });

  test("keeps no more for others than its device can spare", async (t) => {
    const root = await mkdtemp(path.join(tmpdir(), "headwater-large-"));
    t.after(() => rm(root, { recursive: true, force: true }));
    await cp(CMAF, root, { recursive: true });
    // A box that players skip: a mebibyte a segment, and more than thirty of them.
    const box = Buffer.alloc(1024 * 1024);
    box.writeUInt32BE(box.length, 0);
    box.write("free", 4);
    for (const name of await readdir(root)) {
      const file = path.join(root, name);
      if (name.endsWith(".m4s")) await writeFile(file, Buffer.concat([await readFile(file), box]));
    }
    const { attributes } = await stageFor(t, { root });
    const held = async (memory) => {
      const viewer = await browser.open(attributes, {
        rate: 4,
        before: `Object.defineProperty(navigator, "deviceMemory", { value: ${memory} })`,
      });
      await viewer.ends();
      const { heldBytes, httpBytes } = await viewer.stats();
      assert.ok(httpBytes > 30 * box.length, `${httpBytes} bytes were loaded`);
      await viewer.close();
      return heldBytes / box.length;
    };
    const [small, large] = [await held(0.5), await held(8)];
    assert.ok(small > 10 && small <= 16, `${small} MiB are kept of 16`);
    assert.ok(large > 24, `${large} MiB are kept of 128`);
  });

  test("gives no more than its cap", async (t) => {
    const { attributes } = await stageFor(t);
    // A tenth of what a second takes at twice the speed.
    const capped = await openAhead({ ...attributes, "upload-cap": "0.1" });
    const other = await browser.open(attributes, { rate: 2 });
    const since = Date.now();
    await other.ends();
    const seconds = (Date.now() - since) / 1000;
    const { uploadedBytes } = await capped.stats();
    // What the bucket held at the start comes on top: two chunks, and one that was under way.
    const most = seconds * 12_500 + 3 * 65_536;
    assert.ok(uploadedBytes > 0 && uploadedBytes <= most, `${uploadedBytes} bytes in ${seconds} s, ${most} at most`);
    await Promise.all([capped.close(), other.close()]);
  });

  test("in relay-only mode lets no address of its own out", async (t) => {
    const { attributes } = await stageFor(t);
    const spy = () => {
      window.said = [];
      const { send } = WebSocket.prototype;
      WebSocket.prototype.send = function (text) {
        window.said.push(text);
        return send.call(this, text);
      };
    };
    const hidden = await openAhead({ ...attributes, ice: "relay" }, { before: spy });
    const other = await browser.open(attributes, { rate: 2, before: spy });
    const said = (viewer) => viewer.page.evaluate(() => window.said);
    const isSignal = (text) => JSON.parse(text).type === "signal";
    await until("both have described themselves", async () =>
      (await Promise.all([hidden, other].map(said))).every((all) => all.some(isSignal)),
    );
    await other.ends();
    assert.ok(
      (await said(other)).some((text) => / typ host/.test(text)),
      "the other one's candidates are seen",
    );
    const leaks = (await said(hidden)).filter((text) =>
      / typ (host|srflx|prflx)|a=candidate:.* typ (?!relay)/.test(text),
    );
    assert.deepEqual(leaks, []);
    // There is no TURN server here, so that all is HTTP.
    assert.equal((await other.stats()).viewerBytes, 0);
    await Promise.all([hidden.close(), other.close()]);
  });

  test("of an encrypted stream shares what is encrypted, and its key with nobody", async (t) => {
    const root = await mkdtemp(path.join(tmpdir(), "headwater-aes-"));
    t.after(() => rm(root, { recursive: true, force: true }));
    const key = randomBytes(16);
    await cp(CMAF, root, { recursive: true });
    await writeFile(path.join(root, "secret.key"), key);
    for (const name of await readdir(root)) {
      const file = path.join(root, name);
      if (/^media_.*\.m3u8$/.test(name)) {
        const text = await readFile(file, "utf8");
        const tag = '#EXT-X-KEY:METHOD=AES-128,URI="secret.key"\n';
        // After the map, so that only segments are encrypted.
        await writeFile(file, text.replace(/(#EXT-X-MAP:.*\n)/, `$1${tag}`));
      } else if (/^seg-.*\.m4s$/.test(name)) {
        const iv = Buffer.alloc(16);
        iv.writeUInt32BE(Number(/(\d+)\.m4s$/.exec(name)[1]), 12);
        const cipher = createCipheriv("aes-128-cbc", key, iv);
        await writeFile(file, Buffer.concat([cipher.update(await readFile(file)), cipher.final()]));
      }
    }
    const { stage, attributes } = await stageFor(t, { root });
    const spy = () => {
      window.sent = [];
      const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const { send } = RTCDataChannel.prototype;
      RTCDataChannel.prototype.send = function (data) {
        window.sent.push(hex(new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength)));
        return send.call(this, data);
      };
    };
    const first = await openAhead(attributes, { before: spy });
    const second = await browser.open(attributes, { rate: 2, before: spy, hls: {} });
    await second.ends();
    const stats = await second.stats();
    assert.ok(stats.viewerBytes > stats.httpBytes / 2, JSON.stringify(stats));
    for (const viewer of [first, second]) {
      const sent = (await viewer.page.evaluate(() => window.sent)).join("|");
      assert.ok(sent.length > 0);
      assert.ok(!sent.includes(key.toString("hex")), "the key went to a peer");
    }
    assert.ok(stage.origin.count("secret.key").requests >= 2, "each viewer has the key from the origin");
    // What was played is what lies on the origin, decrypted.
    const played = await second.played();
    assert.ok(played.length > 20);
    const plain = new Map();
    for (const name of await readdir(CMAF)) {
      const bytes = await readFile(path.join(CMAF, name));
      plain.set(`/${name}`, createHash("sha256").update(bytes).digest("hex"));
    }
    assert.ok(played.every(({ path: name }) => plain.has(name)));
    await Promise.all([first.close(), second.close()]);
  });

  test("with a signed URL of its own shares with others that have theirs", async (t) => {
    const { stage, attributes } = await stageFor(t);
    const signed = (token) => ({ ...attributes, src: `${stage.src}?token=${token}` });
    const first = await openAhead(signed("one"));
    const second = await browser.open(signed("two"), { rate: 2 });
    await second.ends();
    const stats = await second.stats();
    assert.ok(stats.viewerBytes > stats.httpBytes / 2, JSON.stringify(stats));
    await Promise.all([first.close(), second.close()]);
  });
});
