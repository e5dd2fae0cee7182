// How long the first frame takes: alone, and joining viewers that are watching already.

import { median, ratioInterval } from "../figures.mjs";
import { openStage } from "../stage.mjs";
import { startViewers } from "../viewers.mjs";
import { until } from "../../tests/harness/wait.mjs";

/** A first frame takes from 200 to 400 ms here by chance alone: the ratio of two medians of ten is anything from 0.8 to 1.25. */
const ROUNDS = 60;

/** Who watches already where a viewer joins. */
const WATCHING = 2;

/** Of the live stream; more than what all loads take. */
const SECONDS = 130;

const KINDS = ["http", "headwater"];

/** One load in a browser context of its own, with an empty cache: milliseconds to the first frame. */
async function load(browser, kind, told) {
  const viewer = await browser.add();
  await browser.open(viewer, kind, told);
  const report = await until("a first frame", async () => {
    const seen = await viewer.report();
    return seen?.firstFrameMs > 0 && seen;
  });
  await viewer.close();
  return report.firstFrameMs;
}

/** The first frames of both kinds, one after the other and each first in its turn. */
async function compare(browser, told, rounds) {
  const seen = { http: [], headwater: [] };
  for (const kind of KINDS) await load(browser, kind, told);
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? KINDS : KINDS.toReversed();
    for (const kind of order) seen[kind].push(await load(browser, kind, told));
  }
  return seen;
}

function row(name, { http, headwater }) {
  for (const [kind, values] of Object.entries({ http, headwater })) {
    console.log(`  ${name}, ${kind}: median ${median(values).toFixed(0)} ms of ${values.map(Math.round).join(" ")}`);
  }
  const value = median(headwater) / median(http);
  const between = ratioInterval(headwater, http).map((ratio) => ratio.toFixed(2));
  console.log(`  ${name}: ${value.toFixed(3)} x, nine times in ten between ${between.join(" and ")}`);
  return { name: `first frame against HTTP only, ${name}`, value, unit: "x", bar: 1.05 };
}

export async function benchStart({ media, rounds = ROUNDS }) {
  const rows = [];
  for (const live of [false, true]) {
    const stage = await openStage({ media, live, seconds: SECONDS, signed: true });
    const browser = await startViewers(live ? WATCHING : 0);
    const told = { src: stage.src, signal: stage.signal.url, key: stage.key.public };
    try {
      for (const viewer of browser.viewers) await browser.open(viewer, "headwater", told);
      const met = ({ details }) => details.neighbours >= WATCHING - 1;
      await browser.all("those who watch already are neighbours", met);
      rows.push(row(live ? "joining a swarm" : "alone", await compare(browser, told, rounds)));
    } finally {
      await browser.close();
      await stage.close();
    }
  }
  return rows;
}
