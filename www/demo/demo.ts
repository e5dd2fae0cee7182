// The demo page: fills in the element's attributes from the query string and draws its counters once a second.

import type { HeadwaterStats } from "../player/src/headwater.js";
import { find, ownSignal, SOURCES } from "../shared/page.js";

type Source = (typeof SOURCES)[number];
type Rates = Record<Source, number>;

/** Seconds that the graph shows, and the size of its drawing. */
const GRAPH_SECONDS = 60;
const GRAPH_WIDTH = 320;
const GRAPH_HEIGHT = 72;

const query = new URLSearchParams(location.search);
const rates: Rates[] = [];
let last: HeadwaterStats | undefined;

function bytes(count: number): string {
  if (count < 1_000) return `${count.toFixed(0)} B`;
  if (count < 1_000_000) return `${(count / 1_000).toFixed(0)} kB`;
  if (count < 1_000_000_000) return `${(count / 1_000_000).toFixed(1)} MB`;
  return `${(count / 1_000_000_000).toFixed(2)} GB`;
}

function seconds(ms: number): string {
  return ms < 1_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

function attributes(): Record<string, string> {
  const all: Record<string, string> = { src: query.get("src") ?? "/sample/master.m3u8", signal: ownSignal() };
  for (const name of ["signal", "key", "integrity", "swarm", "token"]) {
    const value = query.get(name);
    if (value) all[name] = value;
  }
  return all;
}

function snippet(all: Record<string, string>): string {
  const given = Object.entries(all).map(([name, value]) => `\n  ${name}="${value}"`);
  const script = new URL("../headwater.js", location.href).href;
  return `<script type="module" src="${script}"></script>\n<headwater-video controls${given.join("")}></headwater-video>`;
}

function draw(stats: HeadwaterStats): void {
  const totals: Rates = { viewer: stats.viewerBytes, seed: stats.seedBytes, http: stats.httpBytes };
  const total = totals.viewer + totals.seed + totals.http;
  find("offload").textContent = total > 0 ? ((100 * (totals.viewer + totals.seed)) / total).toFixed(0) : "0";
  for (const source of SOURCES) {
    find(source).textContent = bytes(totals[source]);
    const part = document.querySelector<HTMLElement>(`#bar .${source}`);
    if (part) part.style.flexGrow = String(totals[source]);
  }
  find("neighbours").textContent = String(stats.neighbours);
  find("uploaded").textContent = bytes(stats.uploadedBytes);
  find("startup").textContent = stats.startupMs > 0 ? seconds(stats.startupMs) : "–";
  find("stalls").textContent = stats.stalls > 0 ? `${stats.stalls} (${seconds(stats.stallMs)})` : "0";
  rates.push({
    viewer: Math.max(0, totals.viewer - (last?.viewerBytes ?? 0)),
    seed: Math.max(0, totals.seed - (last?.seedBytes ?? 0)),
    http: Math.max(0, totals.http - (last?.httpBytes ?? 0)),
  });
  rates.splice(0, rates.length - GRAPH_SECONDS);
  last = stats;
  drawGraph();
}

/** Bars of a second each, stacked: the origin's at the bottom, viewers' on top. */
function drawGraph(): void {
  const sums = rates.map(({ viewer, seed, http }) => viewer + seed + http);
  // The square root keeps a quiet stream visible beside the burst that fills the buffer.
  const scale = (value: number) => (GRAPH_HEIGHT - 4) * Math.sqrt(value / Math.max(1, ...sums));
  const width = GRAPH_WIDTH / GRAPH_SECONDS;
  const paths: Record<Source, string> = { viewer: "", seed: "", http: "" };
  for (const [at, rate] of rates.entries()) {
    const x = GRAPH_WIDTH - (rates.length - at) * width;
    let below = 0;
    for (const source of ["http", "seed", "viewer"] as const) {
      const [from, to] = [scale(below), scale(below + rate[source])];
      below += rate[source];
      if (to > from) paths[source] += `M${x} ${GRAPH_HEIGHT - from}h${width - 1}V${GRAPH_HEIGHT - to}h${1 - width}z`;
    }
  }
  for (const source of SOURCES) document.querySelector(`#graph .${source}`)?.setAttribute("d", paths[source]);
  find("rate").textContent = `${bytes(sums.at(-1) ?? 0)}/s`;
}

const given = attributes();
const player = document.querySelector("headwater-video");
for (const [name, value] of Object.entries(given)) player?.setAttribute(name, value);
find("snippet").textContent = snippet(given);
find("another").setAttribute("href", location.href);
find("players").setAttribute("href", `players.html${location.search}`);
find("copy").addEventListener("click", () => {
  void navigator.clipboard.writeText(snippet(given)).then(() => {
    find("copy").textContent = "Copied";
  });
});
player?.addEventListener("headwaterchange", () => {
  draw(player.stats());
});
