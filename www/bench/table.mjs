// The figures of one mode side by side, as text.

const NAMES = { http: "HTTP only", headwater: "Headwater", p2pml: "p2p-media-loader" };
const TITLES = { live: "live", vod: "VOD", seed: "live, with one seed" };

const COLUMNS = [
  ["copies", ({ copies }) => copies.toFixed(2)],
  ["after last join", ({ copiesAfter }) => (Number.isFinite(copiesAfter) ? copiesAfter.toFixed(2) : "-")],
  ["start-up", ({ startupMs }) => `${startupMs.toFixed(0)} ms`],
  ["stalls", ({ stalls, stallMs }) => (stalls === 0 ? "0" : `${stalls} (${stallMs.toFixed(0)} ms)`)],
  ["behind live", ({ behindS }) => (Number.isFinite(behindS) ? `${behindS.toFixed(1)} s` : "-")],
  ["cores a viewer", ({ cpu }) => cpu.toFixed(3)],
  ["HTTP / seed / viewers", ({ shares }) => [shares.http, shares.seed, shares.viewers].map(percent).join(" / ")],
];

const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** A table with a line for each kind. */
export function table(mode, results) {
  const rows = [[TITLES[mode], ...COLUMNS.map(([title]) => title)]];
  for (const [kind, result] of Object.entries(results)) {
    rows.push([NAMES[kind], ...COLUMNS.map(([, format]) => format(result))]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd(),
  );
  for (const [kind, { failure }] of Object.entries(results)) {
    if (failure !== undefined) lines.push(`${NAMES[kind]} FAILED: ${failure}; its figures say nothing`);
  }
  return `\n${lines.join("\n")}\n`;
}
