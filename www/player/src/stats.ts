// <headwater-stats>: what a viewer's counters say, over or beside its video. A module of its own: pages without it load nothing.

import type { HeadwaterStats } from "./headwater.js";

/** What has counters: a `<headwater-video>`, or what an adapter's `attachHeadwater` gives. */
export interface StatsSource {
  stats(): HeadwaterStats;
}

/** How often the picture is drawn anew, and how many of its steps it goes back. */
const STEP_MS = 1000;
const STEPS = 60;

/** Most neighbours that are drawn; engines want fewer. */
const MAX_DRAWN = 24;

const WIDTH = 240;
const HEIGHT = 56;
const SVG = "http://www.w3.org/2000/svg";

/** Where bytes come from, in the order in which they are drawn on top of each other. */
const SOURCES = [
  { key: "viewerBytes", name: "viewers", colour: "#3fb27f" },
  { key: "seedBytes", name: "seeds", colour: "#5b8def" },
  { key: "httpBytes", name: "origin", colour: "#e0795a" },
] as const;

const STYLE = `
:host{display:inline-block;font:12px/1.4 system-ui,sans-serif;color:#fff;background:#000a;border-radius:6px;padding:6px 8px}
:host([hidden]){display:none}
:host([badge]) .more{display:none}
svg{display:block;width:${WIDTH}px;height:${HEIGHT}px;margin:4px 0}
.bar{display:flex;height:4px;border-radius:2px;overflow:hidden;background:#fff3;margin-top:4px}
.bar i{display:block}
dl{display:grid;grid-template-columns:auto 1fr;gap:0 8px;margin:0}
dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
dt::before{content:"";display:inline-block;width:8px;height:8px;border-radius:2px;margin-right:4px;background:var(--dot,#0000)}`;

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function drawn(name: string, attributes: Record<string, string | number>): Element {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** Where there is no DOM, as on a server that renders pages, the module can still be imported. */
const Base = (globalThis as Partial<typeof globalThis>).HTMLElement ?? (Object as unknown as typeof HTMLElement);

/** Counters of one video: bytes by source, neighbours, the last minute. With the attribute `badge` one line of it. */
export class HeadwaterStatsElement extends Base {
  /** Whose counters; otherwise the element whose id the attribute `for` gives, or the page's first `<headwater-video>`. */
  declare source: StatsSource | undefined;
  readonly #root: ShadowRoot;
  readonly #line = document.createElement("div");
  readonly #bar = document.createElement("div");
  readonly #more = document.createElement("div");
  readonly #steps: number[][] = [];
  #last: HeadwaterStats | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open" });
    this.#line.part.add("badge");
    this.#more.part.add("more");
    this.#bar.className = "bar";
    this.#more.className = "more";
    this.#dress();
    this.#root.append(this.#line, this.#bar, this.#more);
  }

  connectedCallback(): void {
    this.#timer = setInterval(() => {
      this.#draw();
    }, STEP_MS);
    this.#draw();
  }

  disconnectedCallback(): void {
    clearInterval(this.#timer);
  }

  /** A sheet that a policy against inline styles lets pass, where the browser has such sheets. */
  #dress(): void {
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      this.#root.adoptedStyleSheets = [sheet];
    } catch {
      const style = document.createElement("style");
      style.textContent = STYLE;
      this.#root.append(style);
    }
  }

  #find(): StatsSource | undefined {
    if (this.source) return this.source;
    const id = this.getAttribute("for");
    const found = id === null ? document.querySelector("headwater-video") : document.getElementById(id);
    // Before its script has run, the other element has no counters yet.
    return found && "stats" in found ? (found as Element & StatsSource) : undefined;
  }

  #draw(): void {
    const stats = this.#find()?.stats();
    if (!stats) return;
    const last = this.#last;
    // A new stream counts from zero.
    const begun = last && SOURCES.every(({ key }) => stats[key] >= last[key]) ? last : undefined;
    if (!begun) this.#steps.length = 0;
    else this.#steps.push(SOURCES.map(({ key }) => stats[key] - begun[key]));
    if (this.#steps.length > STEPS) this.#steps.shift();
    this.#last = stats;
    const all = SOURCES.reduce((sum, { key }) => sum + stats[key], 0);
    const saved = all > 0 ? Math.round(100 * (1 - stats.httpBytes / all)) : 0;
    const peers = `${stats.neighbours} ${stats.neighbours === 1 ? "neighbour" : "neighbours"}`;
    this.#line.textContent = `${saved} % from peers · ${peers} · ${megabytes(stats.uploadedBytes)} given`;
    this.#bar.replaceChildren(
      ...SOURCES.map(({ key, colour }) => {
        const part = document.createElement("i");
        part.style.cssText = `background:${colour};flex:${stats[key]}`;
        return part;
      }),
    );
    if (this.hasAttribute("badge")) return;
    this.#more.replaceChildren(this.#swarm(stats.neighbours, peers), this.#minute(), this.#list(stats));
  }

  /** This viewer and its neighbours. */
  #swarm(neighbours: number, label: string): Element {
    const picture = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": label,
    });
    const [x, y] = [WIDTH / 2, HEIGHT / 2];
    const count = Math.min(neighbours, MAX_DRAWN);
    for (let at = 0; at < count; at += 1) {
      const angle = (2 * Math.PI * at) / count;
      const [cx, cy] = [x + Math.cos(angle) * (x - 10), y + Math.sin(angle) * (y - 6)];
      picture.append(drawn("line", { x1: x, y1: y, x2: cx, y2: cy, stroke: "#fff6" }));
      picture.append(drawn("circle", { cx, cy, r: 4, fill: "#3fb27f" }));
    }
    picture.append(drawn("circle", { cx: x, cy: y, r: 6, fill: "#fff" }));
    return picture;
  }

  /** The last minute: bytes of each second by source, on top of each other. */
  #minute(): Element {
    const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "the last minute" });
    const most = Math.max(1, ...this.#steps.map((step) => step.reduce((sum, bytes) => sum + bytes, 0)));
    const width = WIDTH / STEPS;
    for (const [at, step] of this.#steps.entries()) {
      let y = HEIGHT;
      for (const [place, bytes] of step.entries()) {
        const height = (bytes / most) * HEIGHT;
        y -= height;
        const x = WIDTH - (this.#steps.length - at) * width;
        if (height > 0) picture.append(drawn("rect", { x, y, width, height, fill: SOURCES[place]?.colour ?? "" }));
      }
    }
    return picture;
  }

  #list(stats: HeadwaterStats): Element {
    const list = document.createElement("dl");
    const row = (name: string, value: string, colour = "") => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      if (colour) term.style.setProperty("--dot", colour);
      text.textContent = value;
      list.append(term, text);
    };
    for (const { key, name, colour } of SOURCES) row(`from ${name}`, megabytes(stats[key]), colour);
    row("given to viewers", megabytes(stats.uploadedBytes));
    row("first frame", `${Math.round(stats.startupMs)} ms`);
    row("stalls", `${stats.stalls} (${Math.round(stats.stallMs)} ms)`);
    return list;
  }
}

const registry = (globalThis as Partial<typeof globalThis>).customElements;
if (registry && !registry.get("headwater-stats")) registry.define("headwater-stats", HeadwaterStatsElement);

declare global {
  interface HTMLElementTagNameMap {
    "headwater-stats": HeadwaterStatsElement;
  }
}
