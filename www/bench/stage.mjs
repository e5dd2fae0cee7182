// What one run needs besides viewers: the stream in a folder of its own, its origin, the signalling server, keys, the
// signer or a seed.

import { spawn } from "node:child_process";
import { link, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { startOrigin } from "../origin/origin.mjs";
import { makeKey, startSeed, startSignal } from "../tests/harness/servers.mjs";
import { until } from "../tests/harness/wait.mjs";
import { Packager, segmentName } from "./live.mjs";

/** Segments that a live playlist lists. */
const WINDOW = 8;

const SEGMENT = /\/(seg-\d+\.m4s)$/;
const CATALOGUE = /\.catalogue$/;

/** The bench's stream, made by xtask: 2 s segments. */
const SEGMENT_S = 2;

/** The part of the media that a run of so many seconds plays, as VOD. */
async function placeVod(media, folder, seconds) {
  await mkdir(folder, { recursive: true });
  const text = await readFile(path.join(media, "index.m3u8"), "utf8");
  const lines = text.split("\n");
  const ends = lines.flatMap((line, at) => (line.endsWith(".m4s") ? [at] : []));
  const count = Math.min(ends.length, Math.floor(seconds / SEGMENT_S));
  const kept = [...lines.slice(0, ends[count - 1] + 1), "#EXT-X-ENDLIST", ""];
  await writeFile(path.join(folder, "index.m3u8"), kept.join("\n"));
  await writeFile(path.join(folder, "master.m3u8"), await readFile(path.join(media, "master.m3u8")));
  const names = kept.filter((line) => line.endsWith(".m4s"));
  for (const name of [...names, "init.mp4"]) await link(path.join(media, name), path.join(folder, name));
  return names;
}

/**
 * Starts `headwater-seed sign --watch` on a folder; resolves when the catalogue is there. The swarm is named by its usual
 * name, which a folder alone does not tell: so viewers may pass the catalogue on.
 */
export async function startSigner(folder, key, playlist = "master.m3u8") {
  const swarm = `${key.public}/${playlist}`;
  const args = ["sign", folder, "--key", key.file, `--swarm=${swarm}`, "--watch"];
  const child = spawn(process.env.HEADWATER_SEED_BIN, args, { stdio: ["ignore", "ignore", "pipe"] });
  const log = [];
  child.stderr.setEncoding("utf8").on("data", (text) => log.push(text));
  const file = path.join(folder, `${playlist}.catalogue`);
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  try {
    await until("the signer's catalogue", () => stat(file).catch(() => undefined));
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${log.join("")}`, { cause: error });
  }
  return { stop };
}

/**
 * A stage for one run.
 * @param {{ media: string, live: boolean, seconds: number, signed: boolean, seed: boolean }} options
 */
export async function openStage({ media, live, seconds, signed, seed }) {
  const base = process.env.HEADWATER_BENCH_DIR ?? tmpdir();
  const folder = await mkdtemp(path.join(base, "headwater-bench-"));
  const root = path.join(folder, "stream");
  const closers = [() => rm(folder, { recursive: true, force: true })];
  const close = async () => {
    for (const closer of closers.reverse()) await closer();
  };
  try {
    const requests = [];
    const packager = live ? new Packager({ media, folder: root, window: WINDOW }) : undefined;
    if (packager) await packager.start();
    else await placeVod(media, root, seconds);
    closers.push(() => packager?.stop());
    const observe = (pathname, headers) => {
      requests.push({ at: Date.now(), pathname, range: headers.range, agent: headers["user-agent"] ?? "" });
    };
    const origin = await startOrigin({ root, observe });
    closers.push(() => origin.close());
    const signal = await startSignal();
    closers.push(() => signal.kill());
    const key = await makeKey(folder);
    if (signed) {
      const signer = await startSigner(root, key);
      closers.push(signer.stop);
    }
    const stage = { origin, signal, key, packager, requests, src: `${origin.url}/master.m3u8`, close, SEGMENT_S };
    if (seed) {
      // An origin of its own, so that what the seed pulls is counted apart from what viewers take.
      const own = await startOrigin({ root });
      closers.push(() => own.close());
      const running = await startSeed({ src: `${own.url}/master.m3u8`, signal: signal.url, key });
      closers.push(() => running.kill());
      stage.seedOrigin = own;
      await until("the seed has the window", () => own.count(SEGMENT).requests >= 1);
    }
    /** What the origin has sent: bytes of each segment by its name, and of the catalogue. */
    stage.sent = () => {
      const segments = new Map();
      for (const [name, { bytes }] of Object.entries(origin.stats().paths)) {
        const found = SEGMENT.exec(name);
        if (found) segments.set(found[1], bytes);
      }
      return { segments, catalogue: origin.count((name) => CATALOGUE.test(name)).bytes, at: Date.now() };
    };
    /** The size of each segment that there is. */
    stage.sizes = async () => {
      const names = (await readdir(root)).filter((name) => SEGMENT.test(`/${name}`));
      return new Map(await Promise.all(names.map(async (name) => [name, (await stat(path.join(root, name))).size])));
    };
    /** The segments published between two moments. */
    stage.published = (from, to) => {
      const names = [];
      for (let sequence = 0; packager && sequence <= packager.newest; sequence += 1) {
        const at = packager.publishedAt(sequence);
        if (at >= from && at <= to) names.push(segmentName(sequence));
      }
      return names;
    };
    return stage;
  } catch (error) {
    await close();
    throw error;
  }
}
