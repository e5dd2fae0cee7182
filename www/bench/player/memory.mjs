// An hour of live in a minute: two viewers whose media clock runs sixty times as fast take a signed live stream of 1,800
// segments from each other and from the origin. Nothing is decoded; all else is what a page has: playlists, catalogue, data
// channels, the store, eviction. What the page holds afterwards must be what it held in the middle.

import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { startOrigin } from "../../origin/origin.mjs";
import { makeKey, startSignal } from "../../tests/harness/servers.mjs";
import { median } from "../figures.mjs";
import { startSigner } from "../stage.mjs";
import { startViewers } from "../viewers.mjs";

/** How much faster than life, and how long an hour lasts, in seconds. */
const SPEED = 60;
const HOUR = 3600 / SPEED;

const SEGMENT_S = 2;

/** Two chunks each, so that an hour is 230 MB a viewer: enough to fill the smallest device's budget many times. */
const SEGMENT_BYTES = 128 * 1024;

/** Segments that the playlist lists: ten seconds of the wall's. */
const WINDOW = 300;

/** How often the playlist changes, in milliseconds. */
const PUBLISH_EVERY = 250;

/** How often the page's memory is looked at, and since when, in milliseconds: the budget of 16 MiB is full after 5 s. */
const LOOK_EVERY = 2_500;
const WARM = 20_000;

/** A page may hold so much more at the end of the hour than in the middle of it. */
const MOST_GROWTH = 1.05;

/** What is not the store may grow by so much an hour, in MB: it would take days to matter. */
const MOST_MORE = 2;

/** A device that tells of little memory: its budget is the least there is. And WASM's memory is to be found. */
const DEVICE = () => {
  Object.defineProperty(Navigator.prototype, "deviceMemory", { get: () => 1 });
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (module, imports) => {
    const instance = await instantiate(module, imports);
    globalThis.wasmMemory = Object.values(instance.exports).find((one) => one instanceof WebAssembly.Memory);
    return instance;
  };
};

/** Publishes a segment's worth of noise whenever it is due, and the playlist of the newest. */
class Broadcast {
  #folder;
  #newest = -1;
  #begun = 0;
  #timer;

  constructor(folder) {
    this.#folder = folder;
  }

  async start() {
    await mkdir(this.#folder, { recursive: true });
    this.#begun = Date.now() - ((WINDOW * SEGMENT_S) / SPEED) * 1000;
    await this.#publish();
    const next = () => {
      this.#timer = setTimeout(() => void this.#publish().then(next), PUBLISH_EVERY);
    };
    next();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  get newest() {
    return this.#newest;
  }

  async #publish() {
    const due = Math.floor((((Date.now() - this.#begun) / 1000) * SPEED) / SEGMENT_S);
    while (this.#newest < due) {
      await writeFile(path.join(this.#folder, `seg-${this.#newest + 1}.m4s`), randomBytes(SEGMENT_BYTES));
      this.#newest += 1;
    }
    const oldest = Math.max(0, this.#newest - WINDOW + 1);
    const lines = ["#EXTM3U", "#EXT-X-VERSION:7", `#EXT-X-TARGETDURATION:${SEGMENT_S}`];
    lines.push(`#EXT-X-MEDIA-SEQUENCE:${oldest}`);
    for (let sn = oldest; sn <= this.#newest; sn += 1) lines.push(`#EXTINF:${SEGMENT_S},`, `seg-${sn}.m4s`);
    const file = path.join(this.#folder, "index.m3u8");
    await writeFile(`${file}.tmp`, `${lines.join("\n")}\n`);
    await rename(`${file}.tmp`, file);
  }
}

/** Bytes that a page holds, once the garbage is gone: objects, buffers outside of it, WASM's memory. */
async function held(viewer) {
  const cdp = await viewer.cdp();
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize = 0, embedderHeapUsedSize = 0 } = await cdp.send("Runtime.getHeapUsage");
  const wasm = await viewer.page.evaluate(() => globalThis.wasmMemory?.buffer.byteLength ?? 0);
  return { objects: usedSize + embedderHeapUsedSize, buffers: backingStorageSize, wasm };
}

const total = ({ objects, buffers, wasm }) => objects + buffers + wasm;
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

async function watch(browser, folder, lasts) {
  const signal = await startSignal();
  const origin = await startOrigin({ root: path.join(folder, "stream") });
  const broadcast = new Broadcast(path.join(folder, "stream"));
  const key = await makeKey(folder);
  let signer;
  try {
    await broadcast.start();
    signer = await startSigner(path.join(folder, "stream"), key, "index.m3u8");
    const told = { src: `${origin.url}/index.m3u8`, signal: signal.url, key: key.public };
    const speed = { speed: SPEED, segment: SEGMENT_S };
    for (const viewer of browser.viewers) await browser.open(viewer, "hour", { ...told, ...speed });
    await browser.all("both are neighbours", ({ details }) => details.neighbours > 0);
    const begun = Date.now();
    const samples = [];
    while (Date.now() - begun < lasts * 1000) {
      await sleep(LOOK_EVERY);
      const at = Date.now() - begun;
      const viewers = await Promise.all(browser.viewers.map(held));
      samples.push({ at, viewers });
      const text = viewers.map((one) => Object.values(one).map(megabytes).join(" + "));
      console.log(`  minute ${Math.round((at / 60_000) * SPEED)}: objects + buffers, WASM: ${text.join("; ")} MB`);
    }
    const reports = await browser.reports();
    return { samples, reports };
  } finally {
    await signer?.stop();
    broadcast.stop();
    await origin.close();
    await signal.kill();
  }
}

/** What counts, in the first and in the last third of what is seen of a viewer once it is warm. */
function thirdsOf(samples, viewer, of) {
  const values = samples.filter(({ at }) => at >= WARM).map(({ viewers }) => of(viewers[viewer]));
  const third = Math.max(1, Math.floor(values.length / 3));
  return [median(values.slice(0, third)), median(values.slice(-third))];
}

const everyViewer = (samples, look) => Math.max(...samples[0].viewers.map((_, viewer) => look(viewer)));

/** By how much more is held at the end than in the middle: the larger of the viewers'. */
export function growthOf(samples) {
  return everyViewer(samples, (viewer) => {
    const [middle, end] = thirdsOf(samples, viewer, total);
    return end / middle;
  });
}

/** Bytes by which what is not the store grows in an hour: the larger of the viewers'. */
export function slopeOf(samples) {
  const last = samples.at(-1).at;
  return everyViewer(samples, (viewer) => {
    const [middle, end] = thirdsOf(samples, viewer, ({ objects, wasm }) => objects + wasm);
    // From the middle of one third to that of the other.
    return ((end - middle) / ((((last - WARM) * 2) / 3) * SPEED)) * 3_600_000;
  });
}

/** `rounds` hours. */
export async function benchMemory({ rounds = 1 }) {
  const lasts = rounds * HOUR;
  const folder = await mkdtemp(path.join(process.env.HEADWATER_BENCH_DIR ?? tmpdir(), "headwater-hour-"));
  const browser = await startViewers(2, DEVICE);
  try {
    const { samples, reports } = await watch(browser, folder, lasts);
    for (const { bytes, details } of reports) {
      const sources = `${megabytes(bytes.http)} MB by HTTP, ${megabytes(bytes.viewers)} MB from the other`;
      console.log(
        `  ${details.segments} segments: ${sources}, ${details.late} late, ${megabytes(details.heldBytes)} MB kept`,
      );
    }
    const least = Math.min(...reports.map(({ details }) => details.segments));
    const sum = (source) => reports.reduce((all, { bytes }) => all + bytes[source], 0);
    const shared = sum("viewers") > sum("http") / 5;
    const rows = [
      {
        name: "memory after an hour of live against its middle",
        value: growthOf(samples),
        unit: "x",
        bar: MOST_GROWTH,
      },
      // What the catalogue says of an hour's segments is most of it, and has a bound of its own.
      { name: "objects and WASM, more after an hour", value: slopeOf(samples) / 1e6, unit: "MB", bar: MOST_MORE },
    ];
    // Two who shared nothing, or did not take the hour, say nothing.
    if (!shared) rows.push({ name: "the two viewers shared too little", value: 1, unit: "failures", bar: 0 });
    if (least < ((lasts * SPEED) / SEGMENT_S) * 0.9)
      rows.push({ name: `only ${least} segments came`, value: 1, unit: "failures", bar: 0 });
    return rows;
  } finally {
    await browser.close();
    await rm(folder, { recursive: true, force: true });
  }
}
