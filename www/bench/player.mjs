// The bench of `cargo xtask bench player`: what Headwater costs a viewer's page, beside the same page over HTTP alone in the
// same run. Prints what was measured; its last line is JSON.
//
//   node www/bench/player.mjs --media DIR [--only start|tasks|cpu|memory] [--rounds N]

import { parseArgs } from "node:util";

import { benchCpu } from "./player/cpu.mjs";
import { benchMemory } from "./player/memory.mjs";
import { benchStart } from "./player/start.mjs";
import { benchTasks } from "./player/tasks.mjs";

const PARTS = { start: benchStart, tasks: benchTasks, cpu: benchCpu, memory: benchMemory };

const { values } = parseArgs({
  options: {
    media: { type: "string" },
    only: { type: "string" },
    rounds: { type: "string" },
  },
});
const rows = [];
for (const [name, part] of Object.entries(PARTS)) {
  if (values.only && values.only !== name) continue;
  console.log(`\n${name}`);
  rows.push(...(await part({ media: values.media, rounds: values.rounds && Number(values.rounds) })));
}
console.log(JSON.stringify(rows.map((row) => ({ ...row, value: Number(row.value.toFixed(3)) }))));
