// Viewers: one headless Chromium, a context (and so a renderer process and a cache) for each viewer.
//
// One browser for all rather than one a viewer: a browser's own processes would be counted with each viewer, and any
// difference between what the pages do would drown in them.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

import { chromium } from "playwright-core";

import { FLAGS } from "../tests/harness/engines.mjs";
import { until } from "../tests/harness/wait.mjs";

const HERE = import.meta.dirname;
const ROOTS = {
  "/bench/": path.join(HERE, "page"),
  "/p2pml/": path.join(HERE, "node_modules/p2p-media-loader-hlsjs/dist"),
  "/p2pml-core/": path.join(HERE, "node_modules/p2p-media-loader-core/dist"),
  "/": path.resolve(HERE, "../dist"),
};
const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

const page = (kind) => `<!doctype html><meta charset="utf-8"><title>viewer</title><link rel="icon" href="data:,">
<script type="importmap">{"imports":{"p2p-media-loader-core":"/p2pml-core/p2p-media-loader-core.es.min.js"}}</script>
<video muted autoplay playsinline width="640" height="360"></video>
<script type="module" src="/bench/${kind}.mjs"></script>`;

/** Serves the pages: `/view/KIND`, the built player, and both libraries. */
async function startPages() {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://pages");
    if (pathname.startsWith("/view/")) {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page(path.basename(pathname)));
      return;
    }
    const prefix = Object.keys(ROOTS).find((name) => pathname.startsWith(name));
    readFile(path.join(ROOTS[prefix], path.normalize(`/${pathname.slice(prefix.length)}`))).then(
      (bytes) => response.writeHead(200, { "content-type": TYPES[path.extname(pathname)] ?? "text/plain" }).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

/** Starts a browser with so many empty pages, which `open` lets load one by one; `init` runs in each before all else. */
export async function startViewers(count, init) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: FLAGS, ignoreDefaultArgs: ["--mute-audio"] });
  const pages = await startPages();
  const system = await browser.newBrowserCDPSession();
  const viewers = [];
  let made = 0;
  const add = async () => {
    made += 1;
    // The name tells viewers apart in the origin's log.
    const context = await browser.newContext({ userAgent: `bench-viewer-${made}` });
    if (init) await context.addInitScript(init);
    return new Viewer(await context.newPage(), `${made}`);
  };
  while (viewers.length < count) viewers.push(await add());
  const reports = () => Promise.all(viewers.map((viewer) => viewer.report()));
  return {
    viewers,
    /** One viewer more, whom nobody counts. */
    add,
    /** Opens the page of a viewer; `told` is what it is told. */
    async open(viewer, kind, told) {
      await viewer.page.goto(`${pages.url}/view/${kind}?${new URLSearchParams(told)}`, { waitUntil: "commit" });
    },
    /** What every page measured. */
    reports,
    /** Resolves when the reports of all pages are as `holds` wants them. */
    async all(what, holds) {
      await until(what, async () => (await reports()).every((report) => report && holds(report)));
    },
    /** Processor seconds of all of the browser's processes, by what they are and their number. */
    async cpu() {
      const { processInfo } = await system.send("SystemInfo.getProcessInfo");
      return new Map(processInfo.map(({ type, id, cpuTime }) => [`${type} ${id}`, cpuTime]));
    },
    /** Records what the browser's threads do, until `traced` gives it. */
    async trace(categories) {
      await browser.startTracing(viewers[0].page, { categories });
    },
    async traced() {
      return JSON.parse((await browser.stopTracing()).toString()).traceEvents;
    },
    async close() {
      await browser.close();
      await pages.close();
    },
  };
}

class Viewer {
  constructor(page, name) {
    this.page = page;
    this.name = name;
    this.messages = [];
    page.on("console", (message) => this.messages.push(message.text()));
    page.on("pageerror", (error) => this.messages.push(`page error: ${error.message}`));
  }

  /** What the page measured. `undefined` before it is there. */
  async report() {
    return await this.page.evaluate(() => window.bench?.report());
  }

  /** Chromium's own protocol, for this page. */
  async cdp() {
    return (this.session ??= await this.page.context().newCDPSession(this.page));
  }

  /** What Chromium counts of the page, by name; durations are the main thread's processor seconds. */
  async metrics() {
    const cdp = await this.cdp();
    await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
    const { metrics } = await cdp.send("Performance.getMetrics");
    return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
  }

  async close() {
    await this.page.context().close();
  }
}
