// HLS playlists (RFC 8216), as much of them as names segments: which tracks there are, and what each lists.

import { type ByteRange, join, type Segment } from "./manifest.js";

/** What a playlist says. */
export type Playlist =
  { kind: "master"; tracks: { url: string; audio: boolean }[] } | { kind: "media"; live: boolean; segments: Segment[] };

const ATTRIBUTE = /([A-Z0-9-]+)=("[^"]*"|[^",]*)/g;

function attributes(text: string): Map<string, string> {
  return new Map([...text.matchAll(ATTRIBUTE)].map(([, name = "", value = ""]) => [name, value.replaceAll('"', "")]));
}

/** `length[@offset]`; without an offset it begins where the one before ended. */
function rangeOf(text: string, before: ByteRange | undefined): ByteRange {
  const [length, offset] = text.split("@").map(Number);
  const first = offset ?? before?.end ?? 0;
  return { first, end: first + (length ?? 0) };
}

/** Reads a playlist that came from `url`; `undefined` where it is none. */
export function readPlaylist(text: string, url: string): Playlist | undefined {
  if (!text.startsWith("#EXTM3U")) return undefined;
  const tracks: { url: string; audio: boolean }[] = [];
  const segments: Segment[] = [];
  const variables = new Map<string, string>();
  let sn = 0;
  let start = 0;
  let duration: number | undefined;
  let range: ByteRange | undefined;
  let before: ByteRange | undefined;
  let isVariant = false;
  let isEnded = false;
  let isGap = false;
  for (const line of text.split(/\r?\n/)) {
    const [, tag, value = ""] = /^#(EXT[A-Z0-9-]*):?(.*)$/.exec(line) ?? [];
    const named = (name: string) =>
      name.replace(/\{\$([\w-]+)\}/g, (whole, key: string) => variables.get(key) ?? whole);
    switch (tag) {
      case "EXT-X-DEFINE": {
        const given = attributes(value);
        const parameter = given.get("QUERYPARAM");
        const found = parameter === undefined ? given.get("VALUE") : new URL(url).searchParams.get(parameter);
        variables.set(given.get("NAME") ?? parameter ?? "", found ?? "");
        break;
      }
      case "EXT-X-MEDIA": {
        const given = attributes(value);
        const track = join(url, named(given.get("URI") ?? ""));
        if (given.get("TYPE") === "AUDIO" && given.has("URI") && track) tracks.push({ url: track, audio: true });
        break;
      }
      case "EXT-X-STREAM-INF":
        isVariant = true;
        break;
      case "EXT-X-MEDIA-SEQUENCE":
        sn = Number(value);
        break;
      case "EXTINF":
        duration = Number.parseFloat(value);
        break;
      case "EXT-X-BYTERANGE":
        range = rangeOf(value, before);
        break;
      case "EXT-X-GAP":
        isGap = true;
        break;
      case "EXT-X-ENDLIST":
        isEnded = true;
        break;
      case undefined: {
        const name = line.trim();
        if (name === "" || name.startsWith("#")) break;
        const target = join(url, named(name));
        if (isVariant) {
          if (target) tracks.push({ url: target, audio: false });
          isVariant = false;
        } else if (duration !== undefined) {
          if (target && !isGap) segments.push({ sn, start, duration, url: target, ...(range && { range }) });
          sn += 1;
          start += duration;
          before = range;
          duration = range = undefined;
          isGap = false;
        }
      }
    }
  }
  return tracks.length > 0 ? { kind: "master", tracks } : { kind: "media", live: !isEnded, segments };
}
