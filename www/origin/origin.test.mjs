import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { livePlaylist, newestSequence, parseVod } from "./live.mjs";
import { startOrigin } from "./origin.mjs";
import { partsOf } from "./parts.mjs";

const VOD = [
  "#EXTM3U",
  "#EXT-X-VERSION:7",
  "#EXT-X-TARGETDURATION:2",
  "#EXT-X-MEDIA-SEQUENCE:0",
  "#EXT-X-PLAYLIST-TYPE:VOD",
  '#EXT-X-MAP:URI="init.mp4"',
  ...["a", "b", "c"].flatMap((name) => ["#EXTINF:2.000000,", `${name}.m4s`]),
  "#EXT-X-ENDLIST",
].join("\n");

let root;
before(async () => {
  root = await mkdtemp(path.join(tmpdir(), "headwater-origin-"));
  await writeFile(path.join(root, "index.m3u8"), VOD);
  await writeFile(path.join(root, "init.mp4"), "init");
  for (const name of ["a", "b", "c"]) await writeFile(path.join(root, `${name}.m4s`), name.repeat(100_000));
});
after(() => rm(root, { recursive: true }));

/** An origin that closes with the test. */
async function origin(t, options = {}) {
  const started = await startOrigin({ root, ...options });
  t.after(() => started.close());
  return started;
}

test("serves files with their type, CORS and ranges, and counts them", async (t) => {
  const served = await origin(t);
  const whole = await fetch(`${served.url}/a.m4s`);
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("content-type"), "video/iso.segment");
  assert.equal(whole.headers.get("access-control-allow-origin"), "*");
  assert.equal((await whole.arrayBuffer()).byteLength, 100_000);

  const part = await fetch(`${served.url}/a.m4s`, { headers: { range: "bytes=10-19" } });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get("content-range"), "bytes 10-19/100000");
  assert.equal(await part.text(), "a".repeat(10));

  const tail = await fetch(`${served.url}/a.m4s`, { headers: { range: "bytes=-5" } });
  assert.equal(tail.headers.get("content-range"), "bytes 99995-99999/100000");
  assert.equal((await fetch(`${served.url}/a.m4s`, { headers: { range: "bytes=100000-" } })).status, 416);

  const preflight = await fetch(`${served.url}/a.m4s`, {
    method: "OPTIONS",
    headers: { "access-control-request-headers": "range" },
  });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-headers"), "range");

  const stats = await (await fetch(`${served.url}/_stats`)).json();
  assert.deepEqual(stats.paths["/a.m4s"], { requests: 4, bytes: 100_015 });
  assert.deepEqual(served.count(".m4s"), { requests: 4, bytes: 100_015 });
});

test("never leaves its folder", async (t) => {
  const served = await origin(t);
  for (const name of ["/..%2f..%2fetc%2fpasswd", "/%2e%2e/x", "/a%00.m4s", "/%zz", "/missing.m4s"]) {
    assert.equal((await fetch(served.url + name)).status, 404, name);
  }
});

test("a live window slides, wraps with a discontinuity, and names every sequence once", () => {
  const vod = parseVod(VOD);
  const nameOf = (sequence) => `seg-${sequence}.m4s`;
  const at = (elapsed) => livePlaylist(vod, { elapsed, window: 3, startAt: 0, nameOf });
  assert.equal(newestSequence(vod, 1.9), -1);
  assert.equal(newestSequence(vod, 2), 0);
  assert.equal(newestSequence(vod, 6), 2);
  assert.equal(newestSequence(vod, 8.1), 3);

  const before = at(6);
  assert.match(before, /#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n/);
  assert.doesNotMatch(before, /ENDLIST|PLAYLIST-TYPE|#EXT-X-DISCONTINUITY\n/);

  const across = at(8);
  assert.match(across, /#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n/);
  assert.match(across, /seg-2\.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:06\.000Z\n/);

  // The first listed segment is the wrap itself: its tag is still listed, so only the one before it has left.
  assert.match(at(12), /#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-DISCONTINUITY\n/);
  assert.match(at(14), /#EXT-X-MEDIA-SEQUENCE:4\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n/);
});

test("serves live segments under their own names, and none from the future", async (t) => {
  const served = await origin(t, { live: { window: 3, startAt: Date.now() - 8_500 } });
  const playlist = await (await fetch(`${served.url}/index.m3u8`)).text();
  assert.match(playlist, /seg-1\.m4s[^]*seg-2\.m4s[^]*seg-3\.m4s\n$/);
  assert.equal((await (await fetch(`${served.url}/seg-3.m4s`)).text())[0], "a");
  assert.equal((await (await fetch(`${served.url}/seg-2.m4s`)).text())[0], "c");
  assert.equal((await fetch(`${served.url}/seg-9.m4s`)).status, 404);
  assert.equal(await (await fetch(`${served.url}/init.mp4`)).text(), "init");
});

test("a live stream is one window old when it is first asked for", async (t) => {
  const served = await origin(t, { live: { window: 3 } });
  const playlist = await (await fetch(`${served.url}/index.m3u8`)).text();
  assert.match(playlist, /#EXT-X-MEDIA-SEQUENCE:0\n[^]*seg-2\.m4s\n$/);
});

test("fails, drops and delays on request, and recovers", async (t) => {
  const served = await origin(t);
  const end = served.setFault({ status: 500, match: "b.m4s" });
  assert.equal((await fetch(`${served.url}/b.m4s`)).status, 500);
  assert.equal((await fetch(`${served.url}/a.m4s`)).status, 200);
  end();
  assert.equal((await fetch(`${served.url}/b.m4s`)).status, 200);

  served.setFault({ status: 503, times: 1 });
  assert.equal((await fetch(`${served.url}/a.m4s`)).status, 503);
  assert.equal((await fetch(`${served.url}/a.m4s`)).status, 200);

  served.setFault({ status: 0 });
  await assert.rejects(fetch(`${served.url}/a.m4s`));
  served.behave();

  served.setDelay(150, /c\.m4s$/);
  const started = performance.now();
  await fetch(`${served.url}/c.m4s`);
  assert.ok(performance.now() - started >= 140);
});

test("a throttle is shared by all responses", async (t) => {
  const served = await origin(t);
  served.setThrottle(400_000);
  const started = performance.now();
  const bodies = await Promise.all(["a", "b"].map(async (name) => (await fetch(`${served.url}/${name}.m4s`)).text()));
  const seconds = (performance.now() - started) / 1000;
  assert.deepEqual(
    bodies.map((body) => body.length),
    [100_000, 100_000],
  );
  assert.ok(seconds > 0.4 && seconds < 1.5, `200 kB at 400 kB/s took ${seconds.toFixed(2)} s`);
});

/** The tests' half minute with picture and sound in files of their own. */
const CMAF = path.resolve(import.meta.dirname, "../tests/fixtures/cmaf");

/** The body of the one box of a type in fragmented MP4, at any depth that parts have it. */
const mediaOf = (bytes) => {
  const bodies = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32BE(at)) {
    if (bytes.toString("latin1", at + 4, at + 8) === "mdat")
      bodies.push(bytes.subarray(at + 8, at + bytes.readUInt32BE(at)));
  }
  return Buffer.concat(bodies);
};

test("parts of a segment are short, and together are the segment", async () => {
  for (const [name, duration] of [
    ["seg-0-001.m4s", 2],
    ["seg-2-001.m4s", 2.005667],
  ]) {
    const segment = await readFile(path.join(CMAF, name));
    const parts = partsOf(segment, duration, 0.4);
    assert.ok(parts.length >= 5);
    for (const part of parts) assert.ok(part.duration <= 0.4001, `${part.duration} s`);
    assert.equal(parts[0].independent, true);
    const sum = parts.reduce((seconds, part) => seconds + part.duration, 0);
    assert.ok(Math.abs(sum - duration) < 1e-6);
    assert.deepEqual(mediaOf(Buffer.concat(parts.map(({ bytes }) => bytes))), mediaOf(segment));
  }
  assert.throws(() => partsOf(Buffer.from("no segment at all"), 2, 0.4), /cut off/);
});

test("a low-latency playlist lists parts, and waits for what is asked of it", async (t) => {
  const served = await origin(t, { root: CMAF, live: { window: 4, parts: 0.4 } });
  const url = `${served.url}/media_0.m3u8`;
  const now = await (await fetch(url)).text();
  assert.match(now, /CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1\.200\n#EXT-X-PART-INF:PART-TARGET=0\.400\n/);
  assert.match(
    now,
    /URI="media_0-3\.4\.m4s"\n#EXTINF:2\.000000,\nmedia_0-3\.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="media_0-4\.0\.m4s"/,
  );
  // Three target durations of parts, no more.
  assert.doesNotMatch(now, /media_0-0\.0/);

  const next = await (await fetch(`${url}?_HLS_msn=4&_HLS_part=0`)).text();
  assert.match(next, /URI="media_0-4\.0\.m4s",INDEPENDENT=YES\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="media_0-4\.1\.m4s"/);
  const hinted = await fetch(`${served.url}/media_0-4.1.m4s`);
  assert.equal(hinted.status, 200);
  assert.match(await (await fetch(url)).text(), /URI="media_0-4\.1\.m4s"\n/);
  assert.equal((await fetch(`${url}?_HLS_msn=40`)).status, 400);
  assert.equal((await fetch(`${served.url}/media_0-40.0.m4s`)).status, 404);
});
