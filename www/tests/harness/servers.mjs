// The real servers, each on a free port, and the page that the viewers open.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";

import { startOrigin } from "../../origin/origin.mjs";
import { until } from "./wait.mjs";

const WWW = path.resolve(import.meta.dirname, "../..");
const TARGET = path.resolve(WWW, "../target/debug");

/** The built player. */
export const DIST = process.env.HEADWATER_DIST ?? path.join(WWW, "dist");

/** The bundled sample: a minute in two renditions. */
export const SAMPLE = path.join(WWW, "sample/hls");

/** Half a minute with sound in files of its own: stream.mpd and master.m3u8. */
export const CMAF = path.join(WWW, "tests/fixtures/cmaf");

const BINARIES = {
  signal: process.env.HEADWATER_SIGNAL_BIN ?? path.join(TARGET, "headwater-signal"),
  seed: process.env.HEADWATER_SEED_BIN ?? path.join(TARGET, "headwater-seed"),
  hostile: process.env.HEADWATER_HOSTILE_BIN ?? path.join(TARGET, "examples/hostile-peer"),
  turn: process.env.TURNSERVER ?? "/usr/bin/turnserver",
};

/** How long a server may take to say that it is ready. */
const READY_WITHIN_MS = 60_000;

/** Lines of a server's log that are kept for a failed test. */
const MAX_LOG_LINES = 200;

/** What was started and not stopped: a test that fails must leave no process behind that keeps the run alive. */
const running = new Set();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts a program, and resolves when it has printed a line that matches `ready`. */
async function start(name, args, ready) {
  const child = spawn(BINARIES[name], args, { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const log = [];
  const exited = new Promise((resolve) => {
    child.once("exit", resolve);
    child.once("error", resolve);
  }).finally(() => running.delete(child));
  const found = await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${name}: ${why}\n${log.join("\n")}`));
    const timer = setTimeout(fail, READY_WITHIN_MS, "not ready in time");
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`ended with ${code} before it was ready`));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        log.push(...text.trimEnd().split("\n"));
        log.splice(0, log.length - MAX_LOG_LINES);
        const line = ready.exec(text);
        if (line) {
          clearTimeout(timer);
          resolve(line);
        }
      });
    }
  });
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    await exited;
  };
  return { found, log, exited, stop, kill: () => stop("SIGKILL") };
}

/** `headwater-signal`, with `flags` of a test's own; `listen` for a second one in the place of the first. */
export async function startSignal({ listen = "127.0.0.1:0", flags = [] } = {}) {
  const server = await start(
    "signal",
    ["--listen", listen, ...flags],
    /^headwater-signal listening on http:\/\/(\S+)/m,
  );
  const address = server.found[1];
  return { ...server, address, url: `ws://${address}/v1/signal` };
}

/** A UDP port that nobody has. */
async function freePort() {
  const socket = createSocket("udp4");
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

/** coturn, as docs/hosting.md sets it up, for peers on this machine. */
export async function startTurn(t) {
  const secret = randomBytes(16).toString("hex");
  const port = await freePort();
  const folder = await mkdtemp(path.join(tmpdir(), "headwater-turn-"));
  const given = {
    "listening-ip": "127.0.0.1",
    "relay-ip": "127.0.0.1",
    "listening-port": port,
    realm: "headwater.test",
    "static-auth-secret": secret,
    userdb: path.join(folder, "turndb"),
    pidfile: path.join(folder, "pid"),
    "log-file": "stdout",
  };
  const flags = [
    "-n",
    "--use-auth-secret",
    "--fingerprint",
    "--no-tls",
    "--no-dtls",
    "--no-cli",
    "--allow-loopback-peers",
  ];
  const args = [...flags, ...Object.entries(given).map(([name, value]) => `--${name}=${value}`)];
  const server = await start("turn", args, /IO method \(admin thread\)/);
  t.after(async () => {
    await server.kill();
    await rm(folder, { recursive: true, force: true });
  });
  return { ...server, secret, url: `turn:127.0.0.1:${port}?transport=udp` };
}

/** A key pair: the file for a seed, the text for a page. */
export async function makeKey(folder) {
  const file = path.join(folder, "publisher.key");
  const child = spawn(BINARIES.seed, ["keygen", file], { stdio: "ignore" });
  const code = await new Promise((resolve, reject) => child.once("exit", resolve).once("error", reject));
  if (code !== 0) throw new Error(`headwater-seed keygen ended with ${code}`);
  return { file, public: (await readFile(`${file}.pub`, "utf8")).trim() };
}

/** Writes the catalogues of a folder beside its playlists. */
export async function signFolder(folder, key) {
  const child = spawn(BINARIES.seed, ["sign", folder, "--key", key.file], { stdio: "ignore" });
  const code = await new Promise((resolve, reject) => child.once("exit", resolve).once("error", reject));
  if (code !== 0) throw new Error(`headwater-seed sign ended with ${code}`);
}

/** `headwater-seed run` on a playlist; `tcpPort` 0 for any that is free. */
export async function startSeed({ src, signal, key, uploadCap, tcpPort }) {
  const cap = uploadCap ? ["--upload-cap", String(uploadCap)] : [];
  const tcp = tcpPort === undefined ? [] : ["--tcp-port", String(tcpPort)];
  const args = ["run", "--src", src, "--signal", signal, "--key", key.file, ...cap, ...tcp];
  return await start("seed", args, /^headwater-seed serving/m);
}

/** The native peer that lies. Its arguments are those of a seed. */
export async function startHostile({ t, src, signal, key }) {
  // With "=", because a key may begin with "-".
  const args = ["--src", src, "--signal", signal, `--key=${key.public}`];
  const hostile = await start("hostile", args, /^hostile-peer ready/m);
  t.after(hostile.kill);
  return hostile;
}

/**
 * An origin, a signalling server and a key of a test's own; `close` ends them and removes what they left, and is called
 * when the test `t` is over, where there is one.
 */
export async function startStage({
  t,
  live,
  seed = false,
  uploadCap,
  tcpPort,
  signal: withSignal = true,
  turn,
  root = SAMPLE,
  playlist = "master.m3u8",
  answer,
} = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "headwater-test-"));
  const origin = await startOrigin({ root, live, answer });
  const flags = turn ? ["--turn", turn.url, "--turn-secret", turn.secret] : [];
  const signal = withSignal ? await startSignal({ flags }) : undefined;
  const key = await makeKey(folder);
  const src = `${origin.url}/${playlist}`;
  const stage = { origin, signal, key, src, seed: undefined };
  stage.close = async () => {
    await stage.seed?.kill();
    await signal?.kill();
    await origin.close();
    await rm(folder, { recursive: true, force: true });
  };
  t?.after(stage.close);
  if (seed) {
    stage.seed = await startSeed({ src, signal: signal.url, key, uploadCap, tcpPort });
    if (!live) {
      await until("the seed has the whole stream", () => stage.seed.log.join().includes("the whole stream is here"));
    }
    // From now on the origin counts what viewers take alone.
    origin.resetStats();
  }
  return stage;
}

const TYPES = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** Players of others, by the path at which pages find them. */
const LIBRARIES = {
  "/lib/hls16.mjs": "hls16/dist/hls.mjs",
  "/lib/hls16-light.mjs": "hls16/dist/hls.light.mjs",
  "/lib/hls17.mjs": "hls.js/dist/hls.mjs",
  "/lib/hls17-light.mjs": "hls.js/dist/hls.light.mjs",
  "/lib/shaka.js": "shaka-player/dist/shaka-player.compiled.js",
  "/lib/dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
  "/lib/video.js": "video.js/dist/video.min.js",
  "/lib/media-chrome.js": "media-chrome/dist/iife/index.js",
  // A folder: its files import each other.
  "/lib/vidstack/": "vidstack/cdn/",
};

/**
 * A server of the built player and of pages given as text: `pages.set("/name", html)`; `headers` of a page, by its name,
 * go with it.
 */
export async function startPages() {
  const headers = new Map();
  const pages = new Map();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://pages");
    const page = pages.get(pathname);
    if (page !== undefined) {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", ...headers.get(pathname) }).end(page);
      return;
    }
    const found = Object.keys(LIBRARIES).find(
      (name) => pathname === name || (name.endsWith("/") && pathname.startsWith(name)),
    );
    const file = found
      ? path.join(WWW, "node_modules", path.normalize(pathname).replace(found, LIBRARIES[found]))
      : path.join(DIST, path.normalize(pathname));
    readFile(file).then(
      (bytes) => response.writeHead(200, { "content-type": TYPES[path.extname(pathname)] ?? "text/html" }).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { pages, headers, url: `http://127.0.0.1:${server.address().port}`, close };
}
