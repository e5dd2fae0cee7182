// What a viewer's processes use: all of Chromium's, the decoder's work included, by the viewers there are.

import { setTimeout as sleep } from "node:timers/promises";

import { median } from "../figures.mjs";
import { watching } from "./watching.mjs";

const ROUNDS = 2;
const VIEWERS = 4;

/** From one viewer to the next, until what follows is steady, and how long that is measured, in milliseconds. */
const JOIN_EVERY = 1_000;
const SETTLE = 6_000;
const MEASURED = 30_000;

/** Processor seconds by kind of process, and what the pages' main threads did. */
async function used(browser) {
  const types = {};
  for (const [name, seconds] of await browser.cpu()) {
    const type = name.split(" ")[0];
    types[type] = (types[type] ?? 0) + seconds;
  }
  const pages = await Promise.all(browser.viewers.map((viewer) => viewer.metrics()));
  const total = (name) => pages.reduce((sum, metrics) => sum + metrics[name], 0);
  return { ...types, "main threads": total("TaskDuration"), "scripts in them": total("ScriptDuration") };
}

async function measure(browser) {
  await sleep(SETTLE);
  const bytesNow = async () => {
    const reports = await browser.reports();
    return (source) => reports.reduce((sum, report) => sum + report.bytes[source], 0);
  };
  const [before, bytesBefore] = [await used(browser), await bytesNow()];
  const begun = performance.now();
  await sleep(MEASURED);
  const [after, bytesAfter] = [await used(browser), await bytesNow()];
  const viewerSeconds = ((performance.now() - begun) / 1000) * VIEWERS;
  const cores = Object.fromEntries(
    Object.entries(after).map(([name, seconds]) => [name, (seconds - (before[name] ?? 0)) / viewerSeconds]),
  );
  const bytes = (source) => bytesAfter(source) - bytesBefore(source);
  const share = bytes("viewers") / (bytes("viewers") + bytes("http"));
  const rate = bytes("viewers") / viewerSeconds;
  const { "main threads": main, "scripts in them": scripts, ...processes } = cores;
  const all = Object.values(processes).reduce((sum, one) => sum + one, 0);
  return { all, ...processes, main, scripts, share, rate };
}

export async function benchCpu({ media, rounds = ROUNDS }) {
  const seen = { http: [], headwater: [], bare: [] };
  const measureOf = async (kind, more) => {
    const result = await watching({ kind, media, viewers: VIEWERS, every: JOIN_EVERY, more }, measure);
    seen[kind].push(result);
    const { share, rate, ...cores } = result;
    const milli = Object.entries(cores).map(([name, value]) => `${name} ${(value * 1000).toFixed(1)}`);
    const peers = `${(rate / 1000).toFixed(0)} kB/s over data channels, ${(share * 100).toFixed(0)} %`;
    console.log(`  ${kind}: ms a second and viewer: ${milli.join(", ")}; ${peers}`);
    return result;
  };
  for (let round = 0; round < rounds; round += 1) {
    const kinds = round % 2 === 0 ? ["http", "headwater"] : ["headwater", "http"];
    for (const kind of kinds) await measureOf(kind);
    await measureOf("bare", { rate: seen.headwater.at(-1).rate });
  }
  const middle = (kind, name) => median(seen[kind].map((one) => one[name]));
  const ratio = (name, against) => middle("headwater", name) / middle(against, name);
  const own = (middle("headwater", "all") - middle("bare", "all")) / middle("http", "all");
  console.log(`  beyond what Chromium takes for as many bytes over bare data channels: ${(own * 100).toFixed(1)} %`);
  return [
    { name: "CPU of a viewer against HTTP only", value: ratio("all", "http"), unit: "x", bar: 1.1 },
    { name: "the same against HTTP and bare data channels", value: ratio("all", "bare"), unit: "x", bar: 1.1 },
    { name: "its renderer's main thread against HTTP only", value: ratio("main", "http"), unit: "x", bar: 1.1 },
  ];
}
