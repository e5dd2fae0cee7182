// What an adapter's request for the index of a DASH file costs where the origin is none that gives one, without a browser.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { TEST_MS, until } from "./harness/wait.mjs";

/** What the film would come to; nobody may wait for that. */
const ENDLESS = 1 << 30;

/** The adapters' stream, with a session that only listens, and with a manifest that is read already. */
async function streamClass() {
  const stubs = {
    "../headwater.js": "export class Session { open() {} close() {} }",
    "./mpd.js": "export const readManifest = (text) => JSON.parse(text.slice(4));",
  };
  const stub = {
    name: "stub",
    setup(bundler) {
      bundler.onResolve({ filter: /headwater\.js$|mpd\.js$/ }, ({ path }) => ({ path, namespace: "stub" }));
      bundler.onLoad({ filter: /./, namespace: "stub" }, ({ path }) => ({ contents: stubs[path] }));
    },
  };
  const entryPoints = [fileURLToPath(new URL("../player/src/adapters/stream.ts", import.meta.url))];
  const [{ text }] = (await build({ entryPoints, bundle: true, format: "esm", write: false, plugins: [stub] }))
    .outputFiles;
  return (await import(`data:text/javascript,${encodeURIComponent(text)}`)).Stream;
}

const Stream = await streamClass();

/** A stream of one file, of which a segment has been asked for, and the request that this has led to. */
async function asked(t, answer) {
  // What it says of this names the module, which here is its own text.
  t.mock.method(console, "warn", () => undefined);
  const server = http.createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${server.address().port}/film.mp4`;
  const tracks = [
    { name: url, audio: false, live: false, segments: [], files: [{ url, index: { first: 0, end: 99 } }] },
  ];
  const stream = new Stream({});
  stream.manifest(`${url}.mpd`, `<MPD${JSON.stringify({ live: false, tracks })}`);
  const range = { first: 1000, end: 2000 };
  const come = once(server, "request");
  assert.equal(stream.ask(url, range), undefined);
  const [request, response] = await come;
  assert.equal(request.headers.range, "bytes=0-98");
  const ended = once(response, "close");
  answer(response);
  return { stream, knows: () => stream.knows(url, range), ended };
}

test("an origin that knows no ranges is not asked for the whole film", { timeout: TEST_MS }, async (t) => {
  const { knows, ended } = await asked(t, (response) => {
    response.writeHead(200, { "content-length": ENDLESS });
    response.write(Buffer.alloc(1000));
  });
  await ended;
  await until("segments are the player's own", () => !knows());
});

test("an index that does not come is given up with the stream", { timeout: TEST_MS }, async (t) => {
  const { stream, knows, ended } = await asked(t, () => undefined);
  assert.ok(knows());
  stream.close();
  await ended;
  await until("segments are the player's own", () => !knows());
});
