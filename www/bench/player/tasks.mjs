// The longest task of a page's main thread in which Headwater had a part, by the processor's time: on a machine that others
// share, the clock on the wall counts their work as well.

import { setTimeout as sleep } from "node:timers/promises";

import { watching } from "./watching.mjs";

const VIEWERS = 3;

/** From one viewer to the next, and how long all watch, in milliseconds. */
const JOIN_EVERY = 3_000;
const WATCHED = 12_000;

const CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "v8", "__metadata"];

/** What a task of interest has in it. */
const OURS = /headwater(_client_bg)?\.(js|wasm)/;

/** Tasks of main threads: milliseconds of processor, whether Headwater ran in it, and what took most of it. */
export function tasksOf(events) {
  const main = new Set(
    events
      .filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid}/${tid}`),
  );
  const threads = new Map([...main].map((key) => [key, []]));
  for (const event of events) if (event.ph === "X") threads.get(`${event.pid}/${event.tid}`)?.push(event);
  const tasks = [];
  for (const thread of threads.values()) {
    thread.sort((a, b) => a.ts - b.ts || b.dur - a.dur);
    let task;
    for (const event of thread) {
      if (/RunTask$/.test(event.name) && (!task || event.ts >= task.end)) {
        task = {
          ms: (event.tdur ?? event.dur) / 1000,
          wall: event.dur / 1000,
          end: event.ts + event.dur,
          ours: false,
          parts: [],
        };
        tasks.push(task);
      } else if (task && event.ts < task.end) {
        const url = event.args?.data?.url ?? event.args?.fileName ?? event.args?.data?.fileName ?? "";
        if (OURS.test(url)) task.ours = true;
        task.parts.push([event.name, (event.tdur ?? event.dur ?? 0) / 1000, url]);
      }
    }
  }
  return tasks;
}

async function run(kind, media) {
  const prepare = (browser) => browser.trace(CATEGORIES);
  const tasks = await watching({ kind, media, viewers: VIEWERS, every: JOIN_EVERY, prepare }, async (browser) => {
    await sleep(WATCHED);
    return tasksOf(await browser.traced());
  });
  return tasks.sort((a, b) => b.ms - a.ms);
}

function tell(title, tasks) {
  console.log(`  ${title}`);
  for (const { ms, wall, parts } of tasks.slice(0, 3)) {
    const most = parts.toSorted((a, b) => b[1] - a[1]).slice(0, 4);
    const text = most.map(([name, part, url]) => `${name} ${part.toFixed(1)}${url && ` (${url.split("/").at(-1)})`}`);
    console.log(`    ${ms.toFixed(1)} ms (${wall.toFixed(1)} by the clock): ${text.join(", ")}`);
  }
}

export async function benchTasks({ media }) {
  const http = await run("http", media);
  const headwater = await run("headwater", media);
  const ours = headwater.filter((task) => task.ours);
  if (ours.length === 0) throw new Error("no task had Headwater in it: has Chromium changed its traces?");
  tell("HTTP only, its longest tasks", http);
  tell("Headwater, the page's longest tasks", headwater);
  tell(`Headwater, the longest of ${ours.length} tasks that it had a part in`, ours);
  return [{ name: "longest main-thread task with Headwater in it", value: ours[0].ms, unit: "ms", bar: 50 }];
}
