// The bench of `cargo xtask bench browser`: the same stream for the same viewers over HTTP alone, with Headwater and with
// p2p-media-loader, one after the other. Prints what was measured; its last line is JSON.
//
//   node www/bench/bench.mjs --media DIR [--vs p2pml] [--viewers N] [--seconds S] [--runs N] [--only live|vod|seed]

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { copies, figuresOf, merged, rowsOf } from "./figures.mjs";
import { openStage } from "./stage.mjs";
import { table } from "./table.mjs";
import { TUNINGS } from "./p2pml.mjs";
import { startViewers } from "./viewers.mjs";

/** From one viewer to the next. */
const JOIN_EVERY_MS = 2_000;

/** How often viewers are looked at. */
const LOOK_EVERY_MS = 1_000;

/** What is published this near the end does not count: not everybody has had time to load it. */
const TAIL_MS = 6_000;

/** How much later than its length a VOD run may end. */
const PATIENCE_MS = 20_000;

const { values } = parseArgs({
  options: {
    media: { type: "string" },
    vs: { type: "string" },
    viewers: { type: "string", default: "6" },
    seconds: { type: "string", default: "120" },
    runs: { type: "string", default: "1" },
    only: { type: "string" },
    kinds: { type: "string" },
    tuning: { type: "string" },
    log: { type: "boolean", default: false },
  },
});
const options = {
  ...values,
  viewers: Number(values.viewers),
  seconds: Number(values.seconds),
  runs: Number(values.runs),
};

/** One run of one kind. */
async function run(kind, { live, seed, tuning }) {
  const { media, seconds } = options;
  const stage = await openStage({ media, live, seconds, signed: kind === "headwater" && !seed, seed });
  const browser = await startViewers(options.viewers);
  try {
    return await watched(kind, stage, browser, { live, tuning });
  } finally {
    await browser.close();
    await stage.close();
  }
}

async function watched(kind, stage, browser, { live, tuning }) {
  const told = {
    src: stage.src,
    signal: stage.signal.url,
    key: stage.key.public,
    tracker: `ws://${stage.signal.address}/announce`,
    settings: JSON.stringify(tuning ?? {}),
  };
  const cpuBefore = await browser.cpu();
  const cpuSeen = new Map(cpuBefore);
  const begunAt = Date.now();
  const opened = [];
  let joined;
  for (const [at, viewer] of browser.viewers.entries()) {
    await sleep(begunAt + at * JOIN_EVERY_MS - Date.now());
    if (at === browser.viewers.length - 1) joined = stage.sent();
    opened.push(Date.now());
    await browser.open(viewer, kind, told);
  }
  const lastJoin = opened.at(-1);
  const endAt = live ? begunAt + options.seconds * 1000 : lastJoin + options.seconds * 1000 + PATIENCE_MS;
  const behind = [];
  let reports;
  const endedAt = new Map();
  for (;;) {
    await sleep(LOOK_EVERY_MS);
    const now = Date.now();
    const answers = await Promise.all(browser.viewers.map((viewer) => viewer.report()));
    reports = answers.map((report) => report ?? { startupMs: 0, errors: [], bytes: { http: 0, seed: 0, viewers: 0 } });
    for (const [at, { shownAt, ended }] of reports.entries()) {
      if (shownAt && now > lastJoin + TAIL_MS) behind.push((now - shownAt) / 1000);
      if (ended && !endedAt.has(at)) endedAt.set(at, now);
    }
    // A process that is gone has used what it was last seen to have used.
    for (const [id, seconds] of await browser.cpu()) cpuSeen.set(id, seconds);
    if (now >= endAt || (!live && reports.every(({ ended }) => ended))) break;
  }
  const end = Date.now();
  const used = new Map([...cpuSeen].map(([id, seconds]) => [id, seconds - (cpuBefore.get(id) ?? 0)]));
  const cpuSeconds = [...used.values()].reduce((sum, seconds) => sum + seconds, 0);
  const viewerSeconds = opened.reduce((sum, at, index) => sum + (endedAt.get(index) ?? end) - at, 0) / 1000;
  const fresh = live && {
    names: stage.published(lastJoin, end - TAIL_MS),
    all: stage.published(lastJoin, end),
  };
  const counted = copies({ joined, ended: stage.sent(), sizes: await stage.sizes(), fresh: fresh || undefined });
  const notEnded = live ? 0 : reports.filter(({ ended }) => !ended).length;
  const result = figuresOf({ kind, reports, counted, cpuSeconds, viewerSeconds, behind });
  if (notEnded > 0) result.failure ??= `${notEnded} viewers did not come to the end`;
  result.seedCopies = stage.seedOrigin ? stage.seedOrigin.count(/seg-/).bytes : undefined;
  if (options.log) explain(stage, browser, reports, { begunAt, lastJoin, used });
  return result;
}

/** Who asked for which segment when, in seconds after it was published (live) or after the first viewer came. */
function explain(stage, browser, reports, { begunAt, lastJoin, used }) {
  const bySegment = new Map();
  for (const { at, pathname, range, agent } of stage.requests) {
    const name = pathname.split("/").at(-1);
    if (!/^seg-|catalogue$/.test(name)) continue;
    const sequence = Number(/^seg-(\d+)/.exec(name)?.[1]);
    const zero = stage.packager && name.startsWith("seg-") ? stage.packager.publishedAt(sequence) : begunAt;
    const who = agent.replace("bench-viewer-", "v");
    const bytes = range
      ? `[${range
          .replace("bytes=", "")
          .split("-")
          .map((n) => Math.round(n / 65536))
          .join("-")}]`
      : "";
    const late = at > lastJoin ? "" : "*";
    bySegment.set(name, [...(bySegment.get(name) ?? []), `${who}${bytes}@${((at - zero) / 1000).toFixed(2)}${late}`]);
  }
  for (const [name, who] of bySegment) console.log(`  ${name}: ${who.join(" ")}`);
  console.log(`  processor seconds: ${[...used].map(([id, seconds]) => `${id}: ${seconds.toFixed(2)}`).join(", ")}`);
  for (const [at, viewer] of browser.viewers.entries()) {
    console.log(`  v${viewer.name}: ${JSON.stringify({ ...reports[at], errors: undefined })}`);
    for (const message of viewer.messages.slice(-8)) console.log(`     ${message}`);
  }
}

/** What is run of each mode. */
function kindsOf() {
  if (options.kinds) return options.kinds.split(",");
  return ["http", "headwater", ...(options.vs === "p2pml" ? ["p2pml"] : [])];
}

const MODES = [
  { name: "live", live: true },
  { name: "vod", live: false },
  { name: "seed", live: true, seed: true },
];

const results = {};
for (const mode of MODES) {
  if (options.only && options.only !== mode.name) continue;
  const runs = {};
  for (let round = 0; round < options.runs; round += 1) {
    const kinds = mode.seed ? ["headwater"] : kindsOf();
    // Each goes first in its turn: a machine that warms up or tires favours nobody.
    for (let at = 0; at < kinds.length; at += 1) {
      const kind = kinds[(at + round) % kinds.length];
      const tuning = options.tuning ? JSON.parse(options.tuning) : TUNINGS[mode.name];
      console.log(`${mode.name}, ${kind}, run ${round + 1} of ${options.runs}`);
      const result = await run(kind, { ...mode, tuning });
      if (options.log) console.log(JSON.stringify(result));
      (runs[kind] ??= []).push(result);
    }
  }
  results[mode.name] = Object.fromEntries(Object.entries(runs).map(([kind, all]) => [kind, merged(all)]));
  console.log(table(mode.name, results[mode.name]));
}
console.log(JSON.stringify(rowsOf(results)));
