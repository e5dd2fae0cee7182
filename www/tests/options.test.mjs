// The swarm's name, where the page gives none: the cases of `SwarmName::derive` in crates/wire, which seeds use.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";

import { build } from "esbuild";

test("a viewer names its swarm as a seed does", async () => {
  const entryPoints = [path.resolve(import.meta.dirname, "../player/src/options.ts")];
  const [{ text }] = (await build({ entryPoints, bundle: true, format: "esm", write: false })).outputFiles;
  const { settingsOf } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
  const name = (source, options) => settingsOf(options, source, "https://page.example/dir/").swarm;
  const cases = [
    ["https://a.example/v/1.m3u8?token=x", { key: "K" }, "K/v/1.m3u8"],
    ["http://b.example:8080/v/1.m3u8#t=3", { key: "K old" }, "K/v/1.m3u8"],
    ["https://a.example/v/1.m3u8?x", { integrity: "open" }, "open/a.example/v/1.m3u8"],
    ["http://b.example:8080/v/1.m3u8", { integrity: "open" }, "open/b.example:8080/v/1.m3u8"],
    ["https://a.example", { key: "K" }, "K/"],
    ["../v/1.m3u8", { key: "K" }, "K/v/1.m3u8"],
    ["https://a.example/v/1.m3u8", { key: "K", swarm: "mine" }, "mine"],
    ["https://a.example/v/1.m3u8", { key: "K", swarm: "" }, "K/v/1.m3u8"],
  ];
  for (const [source, options, expected] of cases) assert.equal(name(source, options), expected);
});
