// The publisher's side of a test, a bench or the demo: an HTTP server of a folder that counts what it sends, can present
// VOD as live, and misbehaves on request. No dependency but Node.
//
//   node www/origin/origin.mjs --root DIR --port N [--live] [--window SEGMENTS] [--throttle BYTES_PER_S] [--delay MS]

import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { livePlaylist, lowLatencyPlaylist, newestPart, newestSequence, parseVod, partEnd, segmentOf } from "./live.mjs";
import { partsOf } from "./parts.mjs";

const TYPES = {
  ".m3u8": "application/vnd.apple.mpegurl",
  ".mpd": "application/dash+xml",
  ".m4s": "video/iso.segment",
  ".mp4": "video/mp4",
  ".m4a": "audio/mp4",
  ".ts": "video/mp2t",
  ".aac": "audio/aac",
  ".vtt": "text/vtt",
  ".key": "application/octet-stream",
  ".json": "application/json",
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
};

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "accept-ranges, content-length, content-range, date, etag",
  "timing-allow-origin": "*",
};

/** What one write sends while a throttle is set: small, so that responses share the rate evenly. */
const THROTTLED_WRITE = 16 * 1024;

/** Segments that stay available after they left a live window, in windows. */
const WINDOWS_KEPT = 4;

/** How far behind the end of a low-latency playlist players stay, in parts: the least that the specification allows. */
const HOLD_BACK_PARTS = 3;

/** Most that a request for what is not there yet waits, in seconds; one for what is further off is refused. */
const MOST_BLOCKED_S = 10;

/** How a path is chosen: everything, a part of the path, a pattern, or a function of the path. */
function matches(match, pathname) {
  if (match === undefined) return true;
  if (typeof match === "string") return pathname.includes(match);
  return match instanceof RegExp ? match.test(pathname) : match(pathname);
}

/** The one range of a `Range` header as [first, last]; undefined: send it all; null: cannot be satisfied. */
function parseRange(header, size) {
  const found = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!found || (found[1] === "" && found[2] === "")) return undefined;
  const first = found[1] === "" ? Math.max(0, size - Number(found[2])) : Number(found[1]);
  const last = found[1] === "" || found[2] === "" ? size - 1 : Math.min(size - 1, Number(found[2]));
  return first <= last ? [first, last] : null;
}

/** An origin under way. Made by `startOrigin`. */
class Origin {
  #server;
  #root;
  #live;
  #cacheControl;
  #paths = new Map();
  #faults = new Set();
  #delays = new Set();
  #rate = Infinity;
  #sendAt = 0;
  #observe;
  #answer;
  /** Parts of low-latency streams, by playlist. */
  #cut = new Map();

  constructor({ root, live, cacheControl = "no-store", observe, answer }) {
    this.#root = path.resolve(root);
    this.#live = live ? { window: 8, ...(live === true ? {} : live) } : undefined;
    this.#cacheControl = cacheControl;
    this.#observe = observe;
    this.#answer = answer;
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error) => {
        // A viewer that leaves in mid-response is no event; anything else is a bug to see.
        if (!response.destroyed) console.error(`origin: ${request.url}: ${error.stack}`);
        response.destroy();
      });
    });
    this.#server.keepAliveTimeout = 65_000;
  }

  async listen(host, port) {
    await new Promise((resolve, reject) => {
      this.#server.once("error", reject).listen(port, host, resolve);
    });
    /** The port it listens on. */
    this.port = this.#server.address().port;
    /** The address without a trailing slash. */
    this.url = `http://${host}:${this.port}`;
    return this;
  }

  /** Requests and body bytes since the start or the last reset: in total, and by path. */
  stats() {
    const paths = Object.fromEntries([...this.#paths].map(([name, counts]) => [name, { ...counts }]));
    return { requests: this.count().requests, bytes: this.count().bytes, paths };
  }

  /** Requests and bytes of the paths that match (a part of the path, a pattern or a function). */
  count(match) {
    const sum = { requests: 0, bytes: 0 };
    for (const [pathname, counts] of this.#paths) {
      if (!matches(match, pathname)) continue;
      sum.requests += counts.requests;
      sum.bytes += counts.bytes;
    }
    return sum;
  }

  /** Starts the counters from zero. */
  resetStats() {
    this.#paths.clear();
  }

  /**
   * Answers `status` instead (0: drops the connection) for `forMs`, for at most `times` requests, for paths that match.
   * Returns a function that ends it.
   */
  setFault({ status = 503, forMs = Infinity, times = Infinity, match } = {}) {
    const fault = { status, until: Date.now() + forMs, times, match };
    this.#faults.add(fault);
    return () => this.#faults.delete(fault);
  }

  /** Waits before it answers paths that match. Returns a function that ends it. */
  setDelay(ms, match) {
    const delay = { ms, match };
    this.#delays.add(delay);
    return () => this.#delays.delete(delay);
  }

  /** Limits what all responses together send, in bytes per second; without an argument lifts the limit. */
  setThrottle(bytesPerSecond = Infinity) {
    this.#rate = bytesPerSecond;
    this.#sendAt = 0;
  }

  /** Ends every fault, delay and throttle. */
  behave() {
    this.#faults.clear();
    this.#delays.clear();
    this.setThrottle();
  }

  /** Stops listening and drops every connection. */
  async close() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, "http://origin");
    for (const [name, value] of Object.entries(CORS)) response.setHeader(name, value);
    if (request.method === "OPTIONS") {
      response.setHeader("access-control-allow-methods", "GET, HEAD, OPTIONS");
      response.setHeader("access-control-allow-headers", request.headers["access-control-request-headers"] ?? "range");
      response.setHeader("access-control-max-age", "600");
      return void response.writeHead(204).end();
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return void response.writeHead(405, { allow: "GET, HEAD, OPTIONS" }).end();
    }
    if (pathname === "/_stats") {
      response.writeHead(200, { "content-type": TYPES[".json"], "cache-control": "no-store" });
      return void response.end(JSON.stringify(this.stats()));
    }
    const counts = this.#paths.get(pathname) ?? { requests: 0, bytes: 0 };
    this.#paths.set(pathname, counts);
    counts.requests += 1;
    this.#observe?.(pathname, request.headers);

    for (const delay of this.#delays) if (matches(delay.match, pathname)) await sleep(delay.ms);
    const fault = this.#takeFault(pathname);
    if (fault) {
      if (fault.status === 0) return void response.destroy();
      return void response.writeHead(fault.status, { "content-type": "text/plain" }).end(`fault ${fault.status}\n`);
    }

    const body = (await this.#answer?.(pathname, searchParams, request)) ?? (await this.#find(pathname, searchParams));
    if (body?.status) return void response.writeHead(body.status, { "content-type": "text/plain" }).end("refused\n");
    if (!body) return void response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
    await this.#send(request, response, body, counts);
  }

  #takeFault(pathname) {
    for (const fault of this.#faults) {
      if (Date.now() > fault.until || fault.times <= 0) this.#faults.delete(fault);
      else if (matches(fault.match, pathname)) {
        fault.times -= 1;
        return fault;
      }
    }
    return undefined;
  }

  /** What a path stands for: `{ type, size, etag, text }` or `{ type, size, etag, file }`. */
  async #find(pathname, asked) {
    let name;
    try {
      name = decodeURIComponent(pathname);
    } catch {
      return undefined;
    }
    let file = path.join(this.#root, path.normalize(name));
    if (name.includes("\0") || !(file + path.sep).startsWith(this.#root + path.sep)) return undefined;
    if (this.#live) {
      const live = await this.#findLive(file, asked);
      if (live?.text !== undefined || live?.status) return live;
      if (live?.gone) return undefined;
      file = live?.file ?? file;
    }
    let info = await stat(file).catch(() => undefined);
    if (info?.isDirectory()) {
      file = path.join(file, "index.html");
      info = await stat(file).catch(() => undefined);
    }
    if (!info?.isFile()) return undefined;
    const etag = `"${info.size.toString(16)}-${Math.floor(info.mtimeMs).toString(16)}"`;
    return { type: TYPES[path.extname(file)] ?? "application/octet-stream", size: info.size, etag, file };
  }

  /** A live playlist's text, or the file behind a live segment's own name (`index.m3u8` lists `seg-123.m4s`). */
  async #findLive(file, asked) {
    const { dir, name, ext } = path.parse(file);
    if (ext === ".m3u8") {
      const vod = await this.#vod(file);
      if (!vod) return undefined;
      const prefix = name === "index" ? "seg" : name;
      const nameOf = (sequence, uri) => `${prefix}-${sequence}${path.extname(uri)}`;
      const elapsed = this.#elapsed(vod);
      const text = this.#live.parts
        ? await this.#lowLatency(file, vod, asked, nameOf)
        : livePlaylist(vod, { ...this.#live, elapsed, nameOf });
      return text === undefined ? { status: 400 } : { type: TYPES[ext], size: Buffer.byteLength(text), text };
    }
    const found = /^(.+?)-(\d+)(?:\.(\d+))?$/.exec(name);
    const playlist = found && path.join(dir, `${found[1] === "seg" ? "index" : found[1]}.m3u8`);
    const vod = found && (await this.#vod(playlist));
    if (!vod) return undefined;
    const sequence = Number(found[2]);
    if (found[3] !== undefined) return await this.#findPart(playlist, vod, sequence, Number(found[3]));
    const newest = newestSequence(vod, this.#elapsed(vod));
    const oldest = newest - this.#live.window * (1 + WINDOWS_KEPT);
    if (sequence > newest || sequence < oldest) return { gone: true };
    return { file: path.resolve(dir, segmentOf(vod, sequence).uri) };
  }

  /** A low-latency playlist, once it has what was asked for (`_HLS_msn`, `_HLS_part`); nothing where that is far off. */
  async #lowLatency(file, vod, asked, nameOf) {
    const parts = await this.#parts(file, vod);
    const wanted = asked.get("_HLS_msn");
    if (wanted !== null) {
      const sequence = Number(wanted);
      const count = parts[sequence % vod.segments.length]?.length ?? 0;
      const index = Math.min(Number(asked.get("_HLS_part") ?? count - 1), count - 1);
      if (!(await this.#reached(vod, partEnd(vod, parts, sequence, index)))) return undefined;
    }
    const { parts: longest, holdBack = longest * HOLD_BACK_PARTS, target = longest } = this.#live;
    const partNameOf = (sequence, index) => nameOf(`${sequence}.${index}`, vod.segments[0].uri);
    const elapsed = this.#elapsed(vod);
    return lowLatencyPlaylist(vod, { ...this.#live, elapsed, nameOf, parts, target, holdBack, partNameOf });
  }

  /** A part; one that is only about to be (the hint of a playlist) once it is. */
  async #findPart(file, vod, sequence, index) {
    if (!this.#live.parts) return undefined;
    const parts = await this.#parts(file, vod);
    const part = parts[sequence % vod.segments.length][index];
    if (!part || !(await this.#reached(vod, partEnd(vod, parts, sequence, index)))) return { gone: true };
    const [current] = newestPart(vod, parts, this.#elapsed(vod));
    if (sequence < current - this.#live.window) return { gone: true };
    return { type: TYPES[".m4s"], size: part.bytes.length, text: part.bytes };
  }

  /** Resolves when the stream has run for so long; with false at once where that is far off. */
  async #reached(vod, seconds) {
    const left = seconds - this.#elapsed(vod);
    if (!(left <= MOST_BLOCKED_S)) return false;
    // Timers may be early.
    while (this.#elapsed(vod) < seconds) await sleep(Math.max(1, (seconds - this.#elapsed(vod)) * 1000));
    return true;
  }

  /** The parts of all segments that a playlist lists, cut when they are first asked for. */
  async #parts(file, vod) {
    const cut = async () => {
      const bytes = await Promise.all(vod.segments.map(({ uri }) => readFile(path.resolve(path.dirname(file), uri))));
      return bytes.map((segment, at) =>
        partsOf(segment, vod.segments[at].duration, this.#live.parts, this.#live.padding),
      );
    };
    if (!this.#cut.has(file)) this.#cut.set(file, cut());
    return await this.#cut.get(file);
  }

  async #vod(file) {
    const text = await readFile(file, "utf8").catch(() => undefined);
    return text === undefined ? undefined : parseVod(text);
  }

  /** Seconds the live stream has been running. By default it began one window before the first request. */
  #elapsed(vod) {
    this.#live.startAt ??= Date.now() - vod.segments[0].duration * this.#live.window * 1000;
    return (Date.now() - this.#live.startAt) / 1000;
  }

  async #send(request, response, body, counts) {
    response.setHeader("content-type", body.type);
    response.setHeader("cache-control", this.#cacheControl);
    response.setHeader("accept-ranges", "bytes");
    if (body.etag) {
      response.setHeader("etag", body.etag);
      if (request.headers["if-none-match"] === body.etag) return void response.writeHead(304).end();
    }
    const range = parseRange(request.headers.range, body.size);
    if (range === null) return void response.writeHead(416, { "content-range": `bytes */${body.size}` }).end();
    const [first, last] = range ?? [0, body.size - 1];
    response.setHeader("content-length", last - first + 1);
    if (range) response.setHeader("content-range", `bytes ${first}-${last}/${body.size}`);
    response.writeHead(range ? 206 : 200);
    if (request.method === "HEAD" || last < first) return void response.end();

    const pieces =
      body.text === undefined
        ? createReadStream(body.file, { start: first, end: last })
        : [Buffer.from(body.text).subarray(first, last + 1)];
    for await (const piece of pieces) {
      for (let at = 0; at < piece.length;) {
        const part = this.#rate === Infinity ? piece.subarray(at) : piece.subarray(at, at + THROTTLED_WRITE);
        await this.#pace(part.length);
        if (response.destroyed) return;
        counts.bytes += part.length;
        at += part.length;
        if (!response.write(part)) await drained(response);
      }
    }
    response.end();
  }

  /** Waits for these bytes' turn under the throttle. */
  async #pace(bytes) {
    if (this.#rate === Infinity) return;
    const now = performance.now();
    this.#sendAt = Math.max(now, this.#sendAt) + (bytes / this.#rate) * 1000;
    await sleep(this.#sendAt - now);
  }
}

/** Resolves when a response takes more, or is gone. */
function drained(response) {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
    if (response.destroyed) done();
  });
}

/**
 * Starts an origin on a folder.
 * @param {{ root: string, port?: number, host?: string, cacheControl?: string,
 *   live?: boolean | { window?: number, startAt?: number, parts?: number, holdBack?: number, padding?: number,
 *     target?: number },
 *   observe?: (pathname: string, headers: object) => void,
 *   answer?: (pathname: string, query: URLSearchParams, request: object) => object | undefined }} options
 *   `port` 0 takes a free one; `live` presents every media playlist as a sliding window of `window` segments (8) that
 *   began at `startAt` (ms since the epoch), as LL-HLS with parts of at most `parts` seconds where that is given, which
 *   players stay `holdBack` seconds behind, each heavier by `padding` bytes, where the playlist may
 *   lie that they are of at most `target`; `cacheControl` defaults to no-store, so that every request is counted;
 *   `observe` hears of each request; `answer` may answer it: `{ type, size, text }`, `{ status }` to refuse it.
 */
export async function startOrigin({ port = 0, host = "127.0.0.1", ...options }) {
  return await new Origin(options).listen(host, port);
}

async function main() {
  const number = (name, text) => {
    const value = Number(text);
    if (Number.isFinite(value) && value >= 0) return value;
    throw new Error(`--${name} needs a number, not "${text}"`);
  };
  const { values } = parseArgs({
    options: {
      root: { type: "string" },
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "0" },
      live: { type: "boolean", default: false },
      window: { type: "string", default: "8" },
      throttle: { type: "string" },
      delay: { type: "string" },
    },
  });
  if (!values.root) throw new Error("--root DIR is missing: the folder to serve");
  if (!(await stat(values.root).catch(() => undefined))?.isDirectory()) {
    throw new Error(`--root ${values.root} is not a folder`);
  }
  const origin = await startOrigin({
    root: values.root,
    host: values.host,
    port: number("port", values.port),
    live: values.live ? { window: number("window", values.window) } : undefined,
  });
  if (values.throttle) origin.setThrottle(number("throttle", values.throttle));
  if (values.delay) origin.setDelay(number("delay", values.delay));
  console.log(`origin listening on ${origin.url}`);
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void origin.close());
}

if (process.argv[1] && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) {
  main().catch((error) => {
    console.error(`origin: ${error.message}`);
    process.exitCode = 1;
  });
}
