// The dashboard: what a publisher's swarms do now, from the server's statistics. Names are kept in the address (after the #,
// which no server sees), the token in this tab's session.

import { find, SOURCES } from "../shared/page.js";
import { follow, type SwarmStats } from "./feed.js";

const TOKEN = "headwater-stats-token";

/** Points of the drawing: one for so many milliseconds, however many swarms tell of themselves; two hours are kept. */
const POINT_EVERY_MS = 2_000;
const MAX_POINTS = 3_600;
const WIDTH = 720;
const HEIGHT = 140;

/** Swarms that one page watches: a browser opens six connections to a server of HTTP/1.1. */
const MAX_SWARMS = 6;

interface Row {
  stats: SwarmStats | undefined;
  readonly cells: HTMLTableCellElement[];
}

const rows = new Map<string, Row>();
const points: { at: number; viewers: number; share: number }[] = [];
let watching = new AbortController();

function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  for (; count >= 1_000 && at < units.length - 1; at += 1) count /= 1_000;
  return `${count.toFixed(at > 0 && count < 100 ? 1 : 0)} ${units[at] ?? ""}`;
}

const fromPeers = (stats: SwarmStats) => stats.seed_bytes + stats.viewer_bytes;
const all = (stats: SwarmStats) => fromPeers(stats) + stats.http_bytes;
const percent = (part: number, whole: number) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function say(text: string, wrong = false): void {
  const status = find("status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

function addRow(swarm: string): Row {
  const line = document.createElement("tr");
  const cells = Array.from({ length: 6 }, () => line.insertCell());
  const row: Row = { stats: undefined, cells };
  if (cells[0]) cells[0].textContent = swarm;
  find("swarms").append(line);
  rows.set(swarm, row);
  return row;
}

function drawRow({ stats, cells }: Row): void {
  if (!stats) return;
  const [, viewers, seeds, neighbours, sources, share] = cells;
  const members = stats.viewers + stats.seeds;
  for (const [cell, text] of [
    [viewers, String(stats.viewers)],
    [seeds, String(stats.seeds)],
    [neighbours, members > 0 ? (stats.neighbours / members).toFixed(1) : "–"],
    [share, percent(fromPeers(stats), all(stats))],
  ] as const) {
    if (cell) cell.textContent = text;
  }
  share?.classList.remove("wrong");
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.title = SOURCES.map((source) => `${source}: ${bytes(stats[`${source}_bytes`])}`).join(", ");
  for (const source of SOURCES) {
    const part = document.createElement("i");
    part.className = source;
    part.style.flexGrow = String(stats[`${source}_bytes`]);
    bar.append(part);
  }
  sources?.replaceChildren(bar);
}

function drawTotals(): void {
  const known = [...rows.values()].flatMap(({ stats }) => (stats ? [stats] : []));
  const sum = (of: (stats: SwarmStats) => number) => known.reduce((total, stats) => total + of(stats), 0);
  const [peers, whole, viewers] = [sum(fromPeers), sum(all), sum((stats) => stats.viewers)];
  find("saved").textContent = percent(peers, whole);
  find("viewers").textContent = viewers.toLocaleString("en");
  find("seeds").textContent = sum((stats) => stats.seeds).toLocaleString("en");
  find("spared").textContent = bytes(peers);
  const [now, last] = [Date.now(), points.at(-1)];
  const figures = { viewers, share: whole > 0 ? peers / whole : 0 };
  if (last && now - last.at < POINT_EVERY_MS) Object.assign(last, figures);
  else points.push({ at: now, ...figures });
  if (points.length > MAX_POINTS) points.shift();
  drawCourse();
}

function drawCourse(): void {
  const [first, last] = [points[0], points.at(-1)];
  if (!first || !last) return;
  const minutes = (last.at - first.at) / 60_000;
  find("since").textContent = minutes < 1 ? "just now" : `${minutes.toFixed(0)} min ago`;
  const most = Math.max(1, ...points.map(({ viewers }) => viewers));
  const span = Math.max(1, last.at - first.at);
  const path = (of: (point: (typeof points)[number]) => number) =>
    points
      .map((point, at) => {
        const x = (WIDTH * (point.at - first.at)) / span;
        return `${at === 0 ? "M" : "L"}${x.toFixed(1)} ${(HEIGHT - 2 - (HEIGHT - 4) * of(point)).toFixed(1)}`;
      })
      .join("");
  document.querySelector("#course .viewers")?.setAttribute(
    "d",
    path(({ viewers }) => viewers / most),
  );
  document.querySelector("#course .share")?.setAttribute(
    "d",
    path(({ share }) => share),
  );
}

function watch(names: readonly string[], token: string): void {
  watching.abort();
  watching = new AbortController();
  rows.clear();
  points.length = 0;
  find("swarms").replaceChildren();
  const { signal } = watching;
  const asked = names.slice(0, MAX_SWARMS);
  say(asked.length < names.length ? `Watching the first ${MAX_SWARMS} of ${names.length} swarms` : "Connecting …");
  for (const name of asked) {
    const row = addRow(name);
    void follow(name, token, signal, {
      stats(stats) {
        row.stats = stats;
        drawRow(row);
        drawTotals();
        say(`Live, ${new Date().toLocaleTimeString()}`);
      },
      trouble(why, final) {
        // What was said last stays to be seen, marked as old.
        const share = row.cells.at(-1);
        if (share) {
          share.textContent = row.stats ? `${share.textContent.replace(/ \(old\)$/, "")} (old)` : "no figures";
          share.classList.add("wrong");
        }
        say(final ? `${name}: ${why}` : why, true);
      },
    });
  }
}

/** A name from the address, which anybody may have cut or typed. */
function nameOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const names = find("names") as HTMLTextAreaElement;
const token = find("token") as HTMLInputElement;

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = names.value.split("\n").flatMap((line) => line.trim() || []);
  sessionStorage.setItem(TOKEN, token.value.trim());
  history.replaceState(undefined, "", `#${asked.map(encodeURIComponent).join("&")}`);
  watch(asked, token.value.trim());
});

token.value = sessionStorage.getItem(TOKEN) ?? "";
const kept = location.hash.slice(1).split("&").filter(Boolean).map(nameOf);
names.value = kept.join("\n");
if (kept.length > 0) watch(kept, token.value);
