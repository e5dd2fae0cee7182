// The arithmetic of `cargo xtask bench player`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { growthOf, slopeOf } from "./player/memory.mjs";
import { tasksOf } from "./player/tasks.mjs";

const MB = 1e6;

/** Two viewers, looked at every 5 s of a minute that is an hour; the second one's objects grow by `more` MB in all. */
const hour = (more) =>
  Array.from({ length: 12 }, (_, at) => ({
    at: (at + 1) * 5_000,
    viewers: [0, more].map((all) => ({ objects: 2 * MB + (all * MB * (at + 1)) / 12, buffers: 17 * MB, wasm: MB })),
  }));

test("memory that stays as it is has grown by nothing, and a viewer that leaks is not hidden by one that does not", () => {
  assert.equal(growthOf(hour(0)), 1);
  assert.equal(slopeOf(hour(0)), 0);
  assert.ok(growthOf(hour(12)) > 1.2);
  const slope = slopeOf(hour(12)) / MB;
  assert.ok(slope > 10 && slope < 14, `${slope} MB an hour of 12`);
});

test("a task is Headwater's where its script has a part in it, and takes the thread's time, not the clock's", () => {
  const main = { pid: 1, tid: 2 };
  const task = (ts, dur, tdur) => ({ ...main, ph: "X", name: "RunTask", ts, dur, tdur, args: {} });
  const call = (ts, url) => ({
    ...main,
    ph: "X",
    name: "FunctionCall",
    ts,
    dur: 10,
    tdur: 10,
    args: { data: { url } },
  });
  const events = [
    { ...main, ph: "M", name: "thread_name", args: { name: "CrRendererMain" } },
    task(0, 90_000, 60_000),
    call(10, "http://page/hls.mjs"),
    task(100_000, 30_000, 8_000),
    call(100_010, "http://page/headwater.js"),
    { ...task(200_000, 99_000, 99_000), tid: 3 },
  ];
  const tasks = tasksOf(events).map(({ ms, wall, ours }) => ({ ms, wall, ours }));
  assert.deepEqual(tasks, [
    { ms: 60, wall: 90, ours: false },
    { ms: 8, wall: 30, ours: true },
  ]);
});
