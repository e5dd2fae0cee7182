// The demo's page of other players: each plays, and its counters are on the page.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";

import { startOrigin } from "../origin/origin.mjs";
import { startBrowser } from "./harness/browser.mjs";
import { CMAF, startStage } from "./harness/servers.mjs";
import { until } from "./harness/wait.mjs";

const WWW = path.resolve(import.meta.dirname, "..");

test("every player of the demo plays, and shows where its bytes came from", { timeout: 180_000 }, async (t) => {
  const stage = await startStage({ t });
  const files = await startOrigin({ root: WWW });
  t.after(() => files.close());
  const browser = await startBrowser();
  t.after(() => browser.close());
  const query = new URLSearchParams({
    src: stage.src,
    dash: `${files.url}/${path.relative(WWW, CMAF)}/stream.mpd`,
    key: stage.key.public,
    signal: stage.signal.url,
    lib: `${files.url}/node_modules/`,
  });
  const { page, close } = await browser.openPage("");
  t.after(close);
  const open = (player) => page.goto(`${browser.pages.url}/demo/players.html?${query}&player=${player}`);
  await open("hlsjs");
  const names = await page.$$eval("#players a", (links) =>
    links.map((link) => new URL(link.href).searchParams.get("player")),
  );
  assert.equal(names.length, 7);
  for (const name of names) {
    await open(name);
    await until(`${name} plays`, async () => {
      assert.equal(await page.textContent("#status"), "", name);
      return await page.evaluate(() => document.querySelector("#stage video")?.currentTime > 1);
    });
    await until(`${name} counts`, async () =>
      /from origin\s*[\d.]*[1-9]/.test(await page.$eval("#stats", (stats) => stats.shadowRoot.textContent)),
    );
  }
  await open("nobody");
  assert.match(await page.textContent("#status"), /no player "nobody"/);
});
