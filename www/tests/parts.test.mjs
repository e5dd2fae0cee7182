// How parts of LL-HLS playlists are numbered, without a browser: docs/protocol.md, "Parts".

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { transform } from "esbuild";

const source = await readFile(new URL("../player/src/hls/parts.ts", import.meta.url), "utf8");
const { code } = await transform(source, { loader: "ts", format: "esm" });
const { numbers, tellParts } = await import(`data:text/javascript,${encodeURIComponent(code)}`);

/** What the session hears of a playlist of segments 100 and 101, each of so many parts. */
function toldOf(partTarget, count) {
  const partList = [100, 101].flatMap((sn) =>
    Array.from({ length: count }, (_, index) => ({ fragment: { sn }, index, start: 0, duration: 2 / count })),
  );
  const told = [];
  const details = { url: "u", live: true, partList, partTarget, partHoldBack: 3, targetduration: 2 };
  tellParts({ playlist: (...given) => told.push(given) }, details, "https://o.example/720p.m3u8?a", null);
  assert.equal(partList.filter((part) => numbers.has(part)).length, told.length * partList.length);
  return told;
}

test("parts have numbers of their own, and the track the most of them in its name", () => {
  const [[url, name, live, parts]] = toldOf(0.4, 5);
  assert.deepEqual([url, name, live], ["u#parts", "https://o.example/720p.m3u8@8?a", true]);
  assert.deepEqual(
    parts.map(({ sn }) => sn),
    [800, 801, 802, 803, 804, 808, 809, 810, 811, 812],
  );
  assert.equal(toldOf(0.4, 8).length, 1, "as many as there may be");
});

test("parts that would have the number of another have none", () => {
  assert.deepEqual(toldOf(0.4, 9), []);
  assert.deepEqual(toldOf(0.8, 5), []);
  assert.deepEqual(toldOf(0, 5), [], "no target");
});
