// A player without a picture: its clock runs at `speed`, and it loads what a player would, by `segments()`.

import { segments } from "/headwater-fetch.js";

const told = Object.fromEntries(new URLSearchParams(location.search));
const speed = Number(told.speed);
const seconds = Number(told.segment);

/** How far behind the newest segment it plays, how far ahead it loads, in segments, and how many at once. */
const BEHIND = 150;
const AHEAD = 100;
const AT_ONCE = 6;

/** How often it looks, and reads the playlist, in milliseconds. */
const LOOK_EVERY = 50;
const READ_EVERY = 250;

/** As much of a media element as Headwater looks at. */
class Media extends EventTarget {
  paused = true;
  ended = false;
  autoplay = false;
  playbackRate = speed;
  readyState = HTMLMediaElement.HAVE_ENOUGH_DATA;
  played = { length: 1 };
  #begun = 0;
  /** Where what is buffered without a gap ends. */
  end = 0;

  play() {
    this.#begun = performance.now();
    this.paused = false;
    for (const type of ["play", "playing"]) this.dispatchEvent(new Event(type));
    return Promise.resolve();
  }

  get currentTime() {
    return this.paused ? 0 : Math.max(0, ((performance.now() - this.#begun) / 1000) * speed);
  }

  get buffered() {
    return { length: this.end > 0 ? 1 : 0, start: () => 0, end: () => this.end };
  }
}

const media = new Media();
const stream = segments({ signal: told.signal, key: told.key }, media);
const report = { segments: 0, late: 0, errors: [] };
window.bench = {
  report: () => {
    const { httpBytes: http, seedBytes: seed, viewerBytes: viewers, neighbours, heldBytes } = stream.stats();
    return { errors: report.errors, bytes: { http, seed, viewers }, details: { ...report, neighbours, heldBytes } };
  },
};

let newest = -1;
/** The segment at which the timeline begins, the next to load, and those that have come out of turn. */
let first;
let next;
let whole;
const come = new Set();
let loading = 0;

async function read() {
  const text = await (await stream.fetch(told.src)).text();
  const begins = Number(/MEDIA-SEQUENCE:(\d+)/.exec(text)[1]);
  newest = begins + text.match(/#EXTINF/g).length - 1;
  first ??= whole = next = Math.max(begins, newest - BEHIND);
}

async function load(sn) {
  loading += 1;
  const start = (sn - first) * seconds;
  try {
    const bytes = await stream.fetchSegment(new URL(`seg-${sn}.m4s`, told.src), { start });
    if (bytes.byteLength > 0) report.segments += 1;
    if (start < media.currentTime) report.late += 1;
  } catch (error) {
    report.errors.push(error.message);
  }
  loading -= 1;
  come.add(sn);
  while (come.delete(whole)) whole += 1;
  media.end = (whole - first) * seconds;
  if (media.paused && media.end > 0) await media.play();
}

await read();
setInterval(() => void read(), READ_EVERY);
setInterval(() => {
  const most = first + media.currentTime / seconds + AHEAD;
  while (loading < AT_ONCE && next <= newest && next < most) {
    void load(next);
    next += 1;
  }
}, LOOK_EVERY);
