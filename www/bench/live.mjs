// A packager: lets the segments of a VOD playlist appear in a folder one by one, under a live playlist that slides.

import { copyFile, link, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";

import { parseVod } from "../origin/live.mjs";

/** The name of a live segment. */
export const segmentName = (sequence) => `seg-${sequence}.m4s`;

/** One live stream. */
export class Packager {
  #media;
  #folder;
  #window;
  #vod;
  #timer;
  #newest = -1;
  #startAt = 0;

  constructor({ media, folder, window }) {
    this.#media = media;
    this.#folder = folder;
    this.#window = window;
  }

  /** Publishes the first window, and from then on each segment when its last frame is over. */
  async start() {
    await mkdir(this.#folder, { recursive: true });
    this.#vod = parseVod(await readFile(path.join(this.#media, "index.m3u8"), "utf8"));
    await this.#place("init.mp4", "init.mp4");
    await writeFile(path.join(this.#folder, "master.m3u8"), await readFile(path.join(this.#media, "master.m3u8")));
    this.#startAt = Date.now() - this.#endOf(this.#window - 1);
    for (let sequence = 0; sequence < this.#window; sequence += 1) await this.#add();
    await this.#list();
    this.#next();
  }

  /** The newest segment there is. */
  get newest() {
    return this.#newest;
  }

  /** When a segment was published, in ms since the epoch. */
  publishedAt(sequence) {
    return this.#startAt + this.#endOf(sequence);
  }

  /** Publishes no more. */
  stop() {
    clearTimeout(this.#timer);
  }

  #endOf(sequence) {
    return this.#vod.segments.slice(0, sequence + 1).reduce((sum, { duration }) => sum + duration, 0) * 1000;
  }

  #next() {
    if (this.#newest + 1 >= this.#vod.segments.length) return;
    const wait = this.publishedAt(this.#newest + 1) - Date.now();
    this.#timer = setTimeout(() => {
      this.#add()
        .then(() => this.#list())
        .then(() => this.#next())
        .catch((error) => console.error(`packager: ${error.stack}`));
    }, wait);
  }

  async #add() {
    const sequence = this.#newest + 1;
    await this.#place(this.#vod.segments[sequence].uri, segmentName(sequence));
    this.#newest = sequence;
  }

  async #place(from, to) {
    const [source, target] = [path.join(this.#media, from), path.join(this.#folder, to)];
    await link(source, target).catch(() => copyFile(source, target));
  }

  async #list() {
    const oldest = Math.max(0, this.#newest - this.#window + 1);
    const begun = new Date(this.#startAt + this.#endOf(oldest - 1)).toISOString();
    const lines = [
      "#EXTM3U",
      ...this.#vod.header,
      `#EXT-X-MEDIA-SEQUENCE:${oldest}`,
      `#EXT-X-PROGRAM-DATE-TIME:${begun}`,
    ];
    for (let sequence = oldest; sequence <= this.#newest; sequence += 1) {
      lines.push(`#EXTINF:${this.#vod.segments[sequence].duration.toFixed(6)},`, segmentName(sequence));
    }
    const file = path.join(this.#folder, "index.m3u8");
    // As a whole, as packagers do: nobody reads half a playlist.
    await writeFile(`${file}.tmp`, `${lines.join("\n")}\n`);
    await rename(`${file}.tmp`, file);
  }
}
