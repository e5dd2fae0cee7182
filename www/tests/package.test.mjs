// What pages get: an npm package that imports as it says, hashes that hold, and a player that a strict policy lets play.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { build } from "esbuild";

import { startBrowser } from "./harness/browser.mjs";
import { DIST, startStage } from "./harness/servers.mjs";
import { SUITE_MS, until } from "./harness/wait.mjs";

const run = promisify(execFile);
const PACKAGES = path.resolve(import.meta.dirname, "../node_modules");
const ENTRIES = ["", "/hls", "/shaka", "/dashjs", "/videojs", "/fetch", "/stats"];

/** Packs dist/ and installs it in a folder of its own, beside the packages of others that a page has. */
async function install(t) {
  const folder = await mkdtemp(path.join(tmpdir(), "headwater-npm-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder, DIST]);
  const [packed] = JSON.parse(stdout);
  await writeFile(path.join(folder, "package.json"), '{"private":true,"type":"module"}');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", path.join(folder, packed.filename)], {
    cwd: folder,
  });
  await symlink(path.join(PACKAGES, "hls.js"), path.join(folder, "node_modules/hls.js"));
  return { folder, packed, installed: path.join(folder, "node_modules/headwater-player") };
}

test("the npm package installs, has every file that it exports, and can be imported without a DOM", async (t) => {
  const { folder, packed, installed } = await install(t);
  const names = packed.files.map(({ path: name }) => name);
  assert.ok(!names.some((name) => name.startsWith("demo/") || name.endsWith(".br")), names.join());
  const imports = ENTRIES.map((entry) => `console.log(Object.keys(await import("headwater-player${entry}")).join());`);
  await writeFile(path.join(folder, "page.mjs"), imports.join("\n"));
  const { stdout: exported } = await run("node", ["page.mjs"], { cwd: folder });
  assert.match(exported, /HeadwaterVideo/);
  assert.equal(exported.match(/attachHeadwater/g).length, 3);
  const manifest = JSON.parse(await readFile(path.join(installed, "package.json"), "utf8"));
  for (const target of Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === "string" ? [entry] : Object.values(entry),
  )) {
    await readFile(path.join(installed, target));
  }
});

test("TypeScript knows what the npm package exports, and asks for nothing that is not in it", async (t) => {
  const { folder } = await install(t);
  await writeFile(
    path.join(folder, "page.ts"),
    `import Hls from "hls.js";
    import { hls, HeadwaterVideo, statsOf, type HeadwaterOptions } from "headwater-player";
    ${ENTRIES.map((entry, at) => `import * as entry${at} from "headwater-player${entry}";`).join("\n")}
    export const all = [${ENTRIES.map((_, at) => `entry${at}`).join()}];
    const options: HeadwaterOptions = { signal: "wss://signal.example/v1/signal", key: "key" };
    const player = new Hls({ ...hls(options), maxBufferLength: 20 });
    export const bytes: number | undefined = statsOf(player)?.viewerBytes;
    const element = document.createElement("headwater-video");
    element.addEventListener("headwaterpeer", ({ detail }) => detail.kind === "neighbour");
    export const more: number = element instanceof HeadwaterVideo ? element.stats().httpBytes + element.currentTime : 0;
    // @ts-expect-error: nothing has this name.
    element.stats().nothing;`,
  );
  for (const [module, resolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ]) {
    const given = `--noEmit --strict --target es2022 --lib es2022,dom,dom.iterable --module ${module}`;
    const flags = [...given.split(" "), "--moduleResolution", resolution, "page.ts"];
    const { stdout } = await run("node", [path.join(PACKAGES, "typescript/bin/tsc"), ...flags], { cwd: folder }).catch(
      (error) => error,
    );
    assert.equal(stdout, "", resolution);
  }
});

test("sri.json has the hash of every file, and the script that of its module", async () => {
  const hashes = JSON.parse(await readFile(path.join(DIST, "sri.json"), "utf8"));
  for (const [name, hash] of Object.entries(hashes)) {
    const bytes = await readFile(path.join(DIST, name));
    assert.equal(hash, `sha384-${createHash("sha384").update(bytes).digest("base64")}`, name);
  }
  const script = await readFile(path.join(DIST, "headwater.js"), "utf8");
  assert.ok(script.includes(hashes["headwater_client_bg.wasm"]));
});

describe("on one page", { concurrency: 2, timeout: SUITE_MS }, () => {
  let browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  const element = (src, options) =>
    `<headwater-video autoplay muted src="${src}" ${Object.entries(options)
      .map(([name, value]) => `${name}="${value}"`)
      .join(" ")}></headwater-video>`;

  test("a strict policy lets viewers share, as the README says it", async (t) => {
    const readme = await readFile(path.join(DIST, "README.md"), "utf8");
    const stage = await startStage({ t });
    // The policy that the README gives, with this test's hosts in it.
    const [, given] = /```text\s+(Content-Security-Policy:[^`]*)```/.exec(readme);
    const policy = given
      .replace(/^Content-Security-Policy:\s*/, "")
      .replace(/\s+/g, " ")
      .replaceAll("https://signal.example", "'self'")
      .replaceAll("wss://signal.example", stage.signal.url)
      .replaceAll("https://video.example", stage.origin.url)
      .trim();
    const integrity = JSON.parse(await readFile(path.join(DIST, "sri.json"), "utf8"))["headwater.js"];
    const html = `<script type="module" src="/headwater.js" integrity="${integrity}" crossorigin></script>
      ${element(stage.src, { signal: stage.signal.url, integrity: "open" })}`;
    const headers = { "content-security-policy": policy };
    const open = () => browser.openPage(html, { headers });
    const look = ({ page }) =>
      page.evaluate(() => {
        const player = document.querySelector("headwater-video");
        const { width } = player.video.getBoundingClientRect();
        return { time: player.currentTime, width, host: player.getBoundingClientRect().width, ...player.stats() };
      });
    const first = await open();
    await until("the first viewer plays", async () => (await look(first)).time > 8);
    const second = await open();
    const seen = await until("bytes move viewer to viewer", async () => {
      const now = await look(second);
      return now.viewerBytes > 100_000 && now;
    });
    assert.equal(seen.width, seen.host, "the element's own style is applied");
    const refusals = [...first.messages, ...second.messages].filter((text) => /Content.Security|Refused/i.test(text));
    // hls.js tries a worker made of a blob, and goes on without; the icon is the harness's.
    const own = refusals.filter((text) => !/worker|image 'data:,'/i.test(text));
    assert.deepEqual(own, []);
    await Promise.all([first.close(), second.close()]);
  });

  test("a bundle of the npm package lets viewers share, with the module beside it", async (t) => {
    const { folder } = await install(t);
    const stage = await startStage({ t });
    const options = { signal: stage.signal.url, integrity: "open" };
    await writeFile(
      path.join(folder, "page.js"),
      `import Hls from "hls.js";
      import { hls, statsOf } from "headwater-player";
      const player = new Hls(hls(${JSON.stringify(options)}));
      player.loadSource("${stage.src}");
      player.attachMedia(document.querySelector("video"));
      window.stats = () => statsOf(player);`,
    );
    const bundled = await build({
      absWorkingDir: folder,
      entryPoints: ["page.js"],
      bundle: true,
      minify: true,
      format: "esm",
      splitting: true,
      outdir: "out",
      write: false,
      logLevel: "silent",
    });
    for (const { path: file, text } of bundled.outputFiles) {
      const name = `/${path.basename(file)}`;
      browser.pages.pages.set(name, text);
      browser.pages.headers.set(name, { "content-type": "text/javascript" });
    }
    const html = '<video muted autoplay></video><script type="module" src="/page.js"></script>';
    const open = () => browser.openPage(html);
    const first = await open();
    await until("the first viewer plays", () =>
      first.page.evaluate(() => document.querySelector("video").currentTime > 8),
    );
    const second = await open();
    await until("bytes move viewer to viewer", () =>
      second.page.evaluate(() => window.stats?.()?.viewerBytes > 100_000),
    );
    await Promise.all([first.close(), second.close()]);
  });

  test("the counters of a video are shown beside it, and in one line", async (t) => {
    const stage = await startStage({ t });
    const options = { signal: stage.signal.url, integrity: "open" };
    const helper = await browser.open({ src: stage.src, ...options });
    await helper.playsTo(8);
    const { page, close } = await browser.openPage(`<script type="module" src="/headwater.js"></script>
      <script type="module" src="/headwater-stats.js"></script>
      <headwater-stats for="main"></headwater-stats><headwater-stats badge></headwater-stats>
      ${element(stage.src, options).replace("<headwater-video", '<headwater-video id="main"')}`);
    const look = () =>
      page.evaluate(() => {
        const [whole, badge] = [...document.querySelectorAll("headwater-stats")].map(({ shadowRoot }) => shadowRoot);
        const stats = document.querySelector("headwater-video").stats?.();
        const line = badge.querySelector("[part=badge]").textContent;
        const rows = [...whole.querySelectorAll("dd")].map(({ textContent }) => textContent);
        const drawn = [...whole.querySelectorAll("svg")].map((svg) => svg.querySelectorAll("circle, rect").length);
        return { stats, line, rows, drawn, shown: badge.querySelectorAll("svg").length };
      });
    const seen = await until("what came from the other viewer is shown", async () => {
      const now = await look();
      return (
        now.stats?.viewerBytes > 100_000 && now.rows[0] === `${(now.stats.viewerBytes / 1e6).toFixed(1)} MB` && now
      );
    });
    assert.match(seen.line, /^[1-9]\d? % from peers · 1 neighbour · 0\.0 MB given$/);
    // The viewer itself and its neighbour; some seconds in which something came.
    assert.equal(seen.drawn[0], 2);
    assert.ok(seen.drawn[1] > 0);
    assert.equal(seen.shown, 0, "the badge is one line");
    if (process.env.HEADWATER_SHOT) await page.screenshot({ path: process.env.HEADWATER_SHOT });
    await Promise.all([close(), helper.close()]);
  });

  test("several players share one client and stay apart; each is a media element to scripts", async (t) => {
    const [one, other] = await Promise.all([startStage({ t }), startStage({ t })]);
    const html = `<script type="module" src="/headwater.js"></script>
      ${element(one.src, { signal: one.signal.url, integrity: "open" })}
      ${element(other.src, { signal: other.signal.url, integrity: "open" })}`;
    const helper = await browser.open({ src: one.src, signal: one.signal.url, integrity: "open" });
    await helper.playsTo(8);
    const { page, close } = await browser.openPage(html);
    const look = () =>
      page.evaluate(() =>
        [...document.querySelectorAll("headwater-video")].map((player) => ({
          ...player.stats(),
          time: player.currentTime,
          duration: player.duration,
          buffered: player.buffered.length,
          paused: player.paused,
        })),
      );
    const [left, right] = await until("both play, and one has a neighbour", async () => {
      const seen = await look();
      return seen.every(({ time }) => time > 6) && seen[0].viewerBytes > 0 && seen;
    });
    assert.equal(right.viewerBytes, 0, "the other stream's viewers are not this one's");
    for (const seen of [left, right]) assert.ok(seen.duration > 59 && seen.buffered === 1 && !seen.paused);
    const set = await page.evaluate(async () => {
      const [player] = document.querySelectorAll("headwater-video");
      player.pause();
      player.volume = 0.25;
      player.muted = true;
      player.currentTime = 30;
      await new Promise((resolve) => player.addEventListener("seeked", resolve, { once: true }));
      return [player.video.paused, player.video.volume, player.video.muted, player.video.currentTime];
    });
    assert.deepEqual(set, [true, 0.25, true, 30]);
    const loads = await page.evaluate(() =>
      performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".wasm")),
    );
    assert.equal(loads.length, 1, "the module is loaded once a page");
    await Promise.all([close(), helper.close()]);
  });
});
