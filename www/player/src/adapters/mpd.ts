// DASH manifests (ISO/IEC 23009-1), as much of them as names segments. The numbers are those of docs/protocol.md, "Names".

import { type ByteRange, join, type Segment, type Track } from "./manifest.js";
import type { IndexedFile } from "./sidx.js";

/** What a live segment's place is rounded with: a part of a segment that no usual alignment falls on. */
const ROUNDING = 0.37;

/** How far back a live window without a depth goes, in seconds. */
const USUAL_DEPTH_S = 300;

/** Most segments of one representation: a day of one-second segments. */
const MAX_SEGMENTS = 100_000;

/** A manifest at some moment. */
export interface Manifest {
  live: boolean;
  tracks: Track[];
}

type Part = Omit<Segment, "sn">;

/** What is known of a representation. */
interface Found {
  audio: boolean;
  parts: Part[];
  files: IndexedFile[];
}

/** Times of a period, in seconds. */
interface Window {
  start: number;
  duration: number | undefined;
  /** What is available: from and to. */
  available: [number, number] | undefined;
}

/** The unit in which the segments of a live track are numbered, by its representation: once chosen, it stays. */
export type Units = Map<string, number>;

function seconds(text: string | null | undefined): number | undefined {
  const found = /^P(?:([\d.]+)Y)?(?:([\d.]+)M)?(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?$/.exec(
    text ?? "",
  );
  if (!found) return undefined;
  const [years = 0, months = 0, days = 0, hours = 0, minutes = 0, rest = 0] = found
    .slice(1)
    .map((part) => Number(part || 0));
  return (((years * 365 + months * 30 + days) * 24 + hours) * 60 + minutes) * 60 + rest;
}

function children(of: Element, name: string): Element[] {
  return [...of.children].filter((child) => child.localName === name);
}

/** An attribute of the innermost of these elements that has it. */
function inherited(elements: readonly Element[], name: string): string | undefined {
  return elements.map((element) => element.getAttribute(name)).find((value) => value !== null) ?? undefined;
}

/** The first of the base URLs: the others are the same content elsewhere. */
function baseOf(base: string, element: Element): string {
  const [given] = children(element, "BaseURL");
  return (given && join(base, given.textContent.trim())) ?? base;
}

/** Reads a manifest that came from `url`, as things are at `now` (ms since 1970); `undefined` where it is none. */
export function readManifest(text: string, url: string, units: Units, now = Date.now()): Manifest | undefined {
  const mpd = new DOMParser().parseFromString(text, "application/xml").documentElement;
  if (mpd.localName !== "MPD") return undefined;
  const live = mpd.getAttribute("type") === "dynamic";
  const base = baseOf(url, mpd);
  const began = Date.parse(mpd.getAttribute("availabilityStartTime") ?? "") || 0;
  const edge = (now - began) / 1000;
  const depth = seconds(mpd.getAttribute("timeShiftBufferDepth")) ?? USUAL_DEPTH_S;
  const whole = seconds(mpd.getAttribute("mediaPresentationDuration"));
  const periods = children(mpd, "Period");
  const found = new Map<string, Found>();
  let next = 0;
  for (const [place, period] of periods.entries()) {
    const start = seconds(period.getAttribute("start")) ?? next;
    const following = seconds(periods[place + 1]?.getAttribute("start"));
    const last = place + 1 === periods.length && whole !== undefined ? Math.max(0, whole - start) : undefined;
    const until = following === undefined ? last : following - start;
    const duration = seconds(period.getAttribute("duration")) ?? until;
    next = start + (duration ?? 0);
    const window: Window = { start, duration, available: live ? [edge - depth, edge] : undefined };
    addPeriod(baseOf(base, period), period, window, found);
  }
  const tracks = [...found].map(([id, { audio, parts, files }]): Track => {
    if (files.length > 0) return { name: { key: id }, audio, live, segments: [], files };
    const unit = live ? (units.get(id) ?? usualMs(parts)) : undefined;
    if (unit !== undefined) units.set(id, unit);
    const key = unit === undefined ? id : `${id}@${unit}`;
    return { name: { key }, audio, live, segments: numbered(parts, unit) };
  });
  return { live, tracks };
}

function addPeriod(periodBase: string, period: Element, window: Window, found: Map<string, Found>): void {
  for (const set of children(period, "AdaptationSet")) {
    const setBase = baseOf(periodBase, set);
    for (const representation of children(set, "Representation")) {
      const chain = [representation, set];
      const kind = (inherited(chain, "mimeType") ?? inherited(chain, "contentType") ?? "").split("/")[0] ?? "";
      const id = representation.getAttribute("id");
      // Text is small and pictures for a seek bar are no media: the player's own.
      if (id === null || ["text", "application", "image"].includes(kind)) continue;
      const base = baseOf(setBase, representation);
      const known = found.get(id) ?? { audio: kind === "audio", parts: [], files: [] };
      found.set(id, known);
      const elements = [representation, set, period];
      const parts = partsOf(elements, representation, window, base);
      if (parts.length === 0 && !window.available) known.files.push(...fileOf(elements, window, base));
      known.parts = known.parts.concat(parts).slice(0, MAX_SEGMENTS);
    }
  }
}

function partsOf(chain: readonly Element[], representation: Element, window: Window, base: string): Part[] {
  const all = (name: string) => chain.flatMap((element) => children(element, name).slice(0, 1));
  const templates = all("SegmentTemplate");
  if (templates.length > 0) return byTemplate(templates, representation, window, base);
  const [list] = all("SegmentList");
  return list ? byList(list, window, base) : [];
}

/** The file with an index that the segments are in (5.3.9.2), where they are. */
function fileOf(chain: readonly Element[], window: Window, base: string): IndexedFile[] {
  const bases = chain.flatMap((element) => children(element, "SegmentBase").slice(0, 1));
  const index = rangeOf(inherited(bases, "indexRange"));
  const number = (name: string, usual: number) => Number(inherited(bases, name) ?? usual);
  const offset = number("presentationTimeOffset", 0) / (number("timescale", 1) || 1);
  return index ? [{ url: base, index, offset: window.start - offset }] : [];
}

/** Reads `first-last`. */
function rangeOf(text: string | null | undefined): ByteRange | undefined {
  const found = /^(\d+)-(\d+)$/.exec(text ?? "");
  return found ? { first: Number(found[1]), end: Number(found[2]) + 1 } : undefined;
}

interface Timed {
  ticks: number;
  number: number;
  start: number;
  duration: number;
}

function byTemplate(templates: readonly Element[], representation: Element, window: Window, base: string): Part[] {
  const media = inherited(templates, "media");
  if (media === undefined) return [];
  const number = (name: string, usual: number) => Number(inherited(templates, name) ?? usual);
  const scale = number("timescale", 1) || 1;
  const offset = number("presentationTimeOffset", 0);
  const first = number("startNumber", 1);
  const timeline = templates.flatMap((template) => children(template, "SegmentTimeline"))[0];
  const timed = timeline
    ? byTimeline(timeline, scale, offset, first, window)
    : byDuration(number("duration", 0), scale, offset, first, number("availabilityTimeOffset", 0), window);
  return timed.flatMap(({ ticks, number: named, start, duration }) => {
    const url = join(base, fill(media, representation, named, ticks));
    return url ? [{ url, start, duration }] : [];
  });
}

function byTimeline(timeline: Element, scale: number, offset: number, first: number, window: Window): Timed[] {
  const all: Timed[] = [];
  const runs = children(timeline, "S");
  const attribute = (run: Element | undefined, name: string) => {
    const text = run?.getAttribute(name);
    return text == null ? undefined : Number(text);
  };
  let ticks = 0;
  let number = first;
  for (const [place, run] of runs.entries()) {
    ticks = attribute(run, "t") ?? ticks;
    number = attribute(run, "n") ?? number;
    const length = attribute(run, "d") ?? 0;
    const repeats = attribute(run, "r") ?? 0;
    const end = window.duration === undefined ? undefined : offset + Math.round(window.duration * scale);
    const until = attribute(runs[place + 1], "t") ?? end;
    // A negative count goes on to the next run, or to the end of the period.
    const open = until === undefined ? 1 : Math.ceil(Math.max(0, until - ticks) / Math.max(1, length));
    const count = repeats >= 0 ? repeats + 1 : open;
    for (let at = 0; at < count; at += 1) {
      if (all.length >= MAX_SEGMENTS || !(length > 0)) return all;
      all.push({ ticks, number, start: window.start + (ticks - offset) / scale, duration: length / scale });
      ticks += length;
      number += 1;
    }
  }
  return all;
}

function byDuration(
  duration: number,
  scale: number,
  offset: number,
  first: number,
  early: number,
  window: Window,
): Timed[] {
  const each = duration / scale;
  if (!(each > 0)) return [];
  const end = window.duration === undefined ? undefined : Math.ceil(window.duration / each - 1e-6);
  let [from, to] = [0, end ?? 0];
  if (window.available) {
    const [oldest, newest] = window.available;
    // A live segment is there once it has ended.
    const available = Math.floor((newest - window.start + (Number.isFinite(early) ? early : 0)) / each);
    from = Math.max(0, Math.floor((oldest - window.start) / each));
    to = Math.min(available, end ?? Infinity);
  }
  const count = Math.min(MAX_SEGMENTS, Math.max(0, to - from));
  return Array.from({ length: count }, (_, at): Timed => {
    const place = to - count + at;
    const ticks = offset + Math.round(place * duration);
    return { ticks, number: first + place, start: window.start + place * each, duration: each };
  });
}

function byList(list: Element, window: Window, base: string): Part[] {
  const scale = Number(list.getAttribute("timescale") ?? 1) || 1;
  const [timeline] = children(list, "SegmentTimeline");
  const each = list.hasAttribute("duration") ? Number(list.getAttribute("duration")) / scale : (window.duration ?? 0);
  const timed = timeline ? byTimeline(timeline, scale, 0, 1, window) : undefined;
  return children(list, "SegmentURL").flatMap((segment, place): Part[] => {
    const url = join(base, segment.getAttribute("media") ?? "");
    const time = timed ? timed[place] : { start: window.start + place * each, duration: each };
    if (!url || !time) return [];
    const range = rangeOf(segment.getAttribute("mediaRange"));
    return [{ url, start: time.start, duration: time.duration, ...(range && { range }) }];
  });
}

/** Fills a template's names in (5.3.9.4.4). What is no name stays as it is. */
function fill(template: string, representation: Element, number: number, time: number): string {
  const values: Record<string, string> = {
    RepresentationID: representation.getAttribute("id") ?? "",
    Number: String(number),
    Time: String(time),
    Bandwidth: representation.getAttribute("bandwidth") ?? "0",
  };
  return template.replace(/\$(\w*)(?:%0(\d+)d)?\$/g, (whole, name: string, width: string | undefined) => {
    if (name === "") return "$";
    const value = values[name];
    return value === undefined ? whole : value.padStart(Number(width ?? 1), "0");
  });
}

/** The duration in milliseconds that most segments have; of equally many, the longest. */
function usualMs(parts: readonly Part[]): number {
  const counts = new Map<number, number>();
  for (const { duration } of parts) {
    const ms = Math.max(1, Math.round(duration * 1000));
    counts.set(ms, (counts.get(ms) ?? 0) + 1);
  }
  let [usual, most] = [1, 0];
  for (const [ms, count] of counts) {
    if (count > most || (count === most && ms > usual)) [usual, most] = [ms, count];
  }
  return usual;
}

/** Numbers by place where the whole list is known, by time in `unit` milliseconds where only a window is. */
function numbered(parts: readonly Part[], unit: number | undefined): Segment[] {
  if (unit === undefined) return parts.map((part, sn) => ({ ...part, sn }));
  const numberOf = (time: number) => Math.floor(Math.max(0, (time * 1000) / unit + ROUNDING));
  const all: Segment[] = [];
  for (const part of parts) {
    const sn = numberOf(part.start);
    // One that ends in the unit it begins in would share its number with the next: it goes without.
    const ends = numberOf(part.start + part.duration);
    if (ends > sn && (all.at(-1)?.sn ?? -1) < sn) all.push({ ...part, sn });
  }
  return all;
}
