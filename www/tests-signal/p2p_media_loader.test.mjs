// Viewers of p2p-media-loader in a real Chromium, as thousands of pages have them, with this server as their tracker: what
// one has loaded, the other gets from it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { startOrigin } from "../origin/origin.mjs";
import { until } from "../tests/harness/wait.mjs";
import { startServer } from "./server.mjs";

const HERE = import.meta.dirname;
const MODULES = path.join(HERE, "node_modules");
const STREAM = path.join(HERE, "../sample/hls/360p");
const SEGMENT = /\/seg-\d+\.m4s$/;

/** How long playing and exchanging may take on a machine that does other things as well. */
const PATIENCE_MS = 90_000;

const SCRIPTS = {
  "/hls.mjs": path.join(HERE, "../node_modules/hls.js/dist/hls.mjs"),
  "/p2p-media-loader-core.js": path.join(MODULES, "p2p-media-loader-core/dist/p2p-media-loader-core.es.min.js"),
  "/p2p-media-loader-hlsjs.js": path.join(MODULES, "p2p-media-loader-hlsjs/dist/p2p-media-loader-hlsjs.es.min.js"),
};

/** The page: hls.js with p2p-media-loader, whose counters the test reads. `core` and `hls` are their settings. */
const page = ({ source, tracker, core, hls }) => `<!doctype html><title>viewer</title><link rel="icon" href="data:," />
<script type="importmap">{"imports":{"p2p-media-loader-core":"/p2p-media-loader-core.js"}}</script>
<video muted autoplay></video>
<script type="module">
  import Hls from "/hls.mjs";
  import { HlsJsP2PEngine } from "/p2p-media-loader-hlsjs.js";
  window.seen = { http: 0, p2p: 0, uploaded: 0, segments: 0, peers: 0, errors: [] };
  const player = new (HlsJsP2PEngine.injectMixin(Hls))({
    ...${JSON.stringify(hls)},
    p2p: {
      core: {
        ...${JSON.stringify(core)},
        announceTrackers: ["${tracker}"],
        // The usual STUN servers are not reached from everywhere, and here all is on one machine.
        rtcConfig: { iceServers: [] },
      },
      onHlsJsCreated({ p2pEngine }) {
        p2pEngine.addEventListener("onChunkDownloaded", (bytes, from) => (seen[from === "p2p" ? "p2p" : "http"] += bytes));
        p2pEngine.addEventListener("onChunkUploaded", (bytes) => (seen.uploaded += bytes));
        p2pEngine.addEventListener("onSegmentLoaded", () => (seen.segments += 1));
        p2pEngine.addEventListener("onPeerConnect", () => (seen.peers += 1));
        p2pEngine.addEventListener("onTrackerError", ({ error }) => seen.errors.push(String(error)));
      },
    },
  });
  player.on(Hls.Events.ERROR, (_, { fatal, details }) => fatal && seen.errors.push(details));
  player.attachMedia(document.querySelector("video"));
  player.loadSource("${source}");
</script>`;

let server, origin, pages, browser;
const viewers = new Map();

before(async () => {
  server = await startServer();
  origin = await startOrigin({ root: STREAM });
  pages = createServer(async (request, response) => {
    const script = SCRIPTS[request.url];
    const body = script ? await readFile(script) : viewers.get(request.url);
    const type = script ? "text/javascript" : "text/html; charset=utf-8";
    response.writeHead(body ? 200 : 404, { "content-type": type }).end(body);
  });
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--autoplay-policy=no-user-gesture-required",
      "--disable-background-timer-throttling",
      "--disable-renderer-backgrounding",
      "--disable-backgrounding-occluded-windows",
      // Otherwise host candidates are mDNS names that nothing on a test machine resolves.
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
  });
});

after(async () => {
  await browser?.close();
  pages?.close();
  await origin?.close();
  await server?.stop();
});

/** Opens a viewer in a browser context of its own. */
async function open(name, core) {
  const source = `${origin.url}/index.m3u8`;
  viewers.set(`/${name}`, page({ source, tracker: server.tracker, core, hls: { maxBufferLength: 60 } }));
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(`http://127.0.0.1:${pages.address().port}/${name}`);
  const look = () => tab.evaluate(() => ({ ...window.seen, time: document.querySelector("video").currentTime }));
  return { look };
}

async function metric(name) {
  const text = await (await fetch(`http://${server.address}/metrics`)).text();
  return Number(new RegExp(`^headwater_signal_${name} (\\d+)$`, "m").exec(text)?.[1]);
}

test("two viewers of p2p-media-loader find each other here, and one plays what the other sends", async () => {
  const first = await open("first", { highDemandTimeWindow: 60 });
  const held = await until(
    "the first viewer has half a minute",
    async () => {
      const seen = await first.look();
      return seen.segments >= 15 && seen;
    },
    PATIENCE_MS,
  );
  assert.equal(held.p2p, 0);
  // The second takes only what it needs at once over HTTP.
  const second = await open("second", { highDemandTimeWindow: 1, httpDownloadTimeWindow: 1 });
  const got = await until(
    "the second viewer has got segments of the first",
    async () => {
      const seen = await second.look();
      return seen.p2p > 300_000 && seen.time > 2 && seen;
    },
    PATIENCE_MS,
  );
  const gave = await until(
    "the first viewer knows what it sent",
    async () => {
      const seen = await first.look();
      return seen.uploaded >= got.p2p && seen;
    },
    PATIENCE_MS,
  );
  assert.ok(gave.peers >= 1 && got.peers >= 1);
  assert.deepEqual([gave.errors, got.errors], [[], []]);
  assert.ok((await metric("tracker_offers_total")) >= 1 && (await metric("tracker_answers_total")) >= 1);
  // What came from the first was not asked of the origin: it sent no two copies of everything.
  const { requests } = origin.count(SEGMENT);
  const { segments } = await second.look();
  assert.ok(requests < gave.segments + segments, `${requests} requests for ${gave.segments} and ${segments} segments`);
});
