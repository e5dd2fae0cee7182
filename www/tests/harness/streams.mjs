// Streams of every kind, made from the tests' half minute (CMAF) and the sample: each `make` fills a folder, and says what
// to play in it and how its media files are named.

import { createCipheriv, randomBytes } from "node:crypto";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { CENC, encryptInit, encryptSegment } from "./cenc.mjs";
import { CMAF } from "./servers.mjs";

const TS = path.resolve(CMAF, "../../../sample/ts");

/** Segments that a stream has: sixteen seconds. */
const COUNT = 8;

/** All of them. */
const LOOP = 16;

const HEAD = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:4", "#EXT-X-PLAYLIST-TYPE:VOD"];
const END = "#EXT-X-ENDLIST\n";

const text = (folder, name, lines) => writeFile(path.join(folder, name), lines.flat().join("\n"));
const segmentName = (track, number) => `seg-${track}-${String(number).padStart(3, "0")}.m4s`;

/** The first segments of a track of the CMAF stream: bytes and seconds of each. */
async function segmentsOf(track, count = COUNT) {
  const playlist = await readFile(path.join(CMAF, `media_${track}.m3u8`), "utf8");
  const durations = [...playlist.matchAll(/#EXTINF:([\d.]+)/g)].map(([, seconds]) => Number(seconds)).slice(0, count);
  const read = (duration, at) =>
    readFile(path.join(CMAF, segmentName(track, at + 1))).then((bytes) => ({ bytes, duration }));
  const init = await readFile(path.join(CMAF, `init-${track}.mp4`));
  return { init, segments: await Promise.all(durations.map(read)) };
}

/** Copies a track's files; the lines of its segments in a playlist, each name after `before`. */
async function copyTrack(folder, track, before = "", range = [1, COUNT]) {
  const { segments } = await segmentsOf(track, range[1]);
  await copyFile(path.join(CMAF, `init-${track}.mp4`), path.join(folder, `init-${track}.mp4`));
  const lines = [`#EXT-X-MAP:URI="${before}init-${track}.mp4"`];
  for (let number = range[0]; number <= range[1]; number += 1) {
    const name = segmentName(track, number);
    await copyFile(path.join(CMAF, name), path.join(folder, name));
    lines.push(`#EXTINF:${segments[number - 1].duration},`, before + name);
  }
  return lines;
}

function master(...media) {
  const groups = media.map((line) => /TYPE=(\w+)/.exec(line)[1]);
  const uses = [...new Set(groups)].map((type) => `,${type}="g"`).join("");
  const codecs = groups.includes("AUDIO") ? "avc1.4d401f,mp4a.40.2" : "avc1.4d401f";
  return [
    "#EXTM3U",
    "#EXT-X-VERSION:7",
    ...media.map((line) => `#EXT-X-MEDIA:${line}`),
    `#EXT-X-STREAM-INF:BANDWIDTH=313897,RESOLUTION=640x360,CODECS="${codecs}"${uses}`,
    "media_0.m3u8\n",
  ];
}

/** HLS with a file for each rendition, of which segments are ranges. */
export async function byteRanges(folder) {
  for (const track of [0, 2]) {
    const { init, segments } = await segmentsOf(track);
    let at = init.length;
    // With and without an offset: the latter follows the one before.
    const lines = segments.map(({ bytes, duration }, place) => {
      const offset = place % 2 === 0 ? `@${at}` : "";
      at += bytes.length;
      return [`#EXTINF:${duration},`, `#EXT-X-BYTERANGE:${bytes.length}${offset}`, `all-${track}.mp4`];
    });
    await writeFile(
      path.join(folder, `all-${track}.mp4`),
      Buffer.concat([init, ...segments.map(({ bytes }) => bytes)]),
    );
    const map = `#EXT-X-MAP:URI="all-${track}.mp4",BYTERANGE="${init.length}@0"`;
    await text(folder, `media_${track}.m3u8`, [HEAD, map, ...lines, END]);
  }
  await text(folder, "master.m3u8", master('TYPE=AUDIO,GROUP-ID="g",NAME="a",DEFAULT=YES,URI="media_2.m3u8"'));
  return { playlist: "master.m3u8", media: /all-/ };
}

/** A `sidx` box of segments. */
function indexOf(segments, scale) {
  const words = [0, 1, scale, 0, 0, segments.length];
  for (const { bytes, duration } of segments) words.push(bytes.length, Math.round(duration * scale), 0x90000000);
  const box = Buffer.alloc(8 + 4 * words.length);
  box.writeUInt32BE(box.length);
  box.write("sidx", 4);
  words.forEach((word, at) => box.writeUInt32BE(word, 8 + 4 * at));
  return box;
}

/** A DASH manifest of files with an index each; `protection` is inside every adaptation set. */
async function indexedFiles(folder, tracks, protection = "") {
  const sets = tracks.map(async ({ name, init, segments, scale, attributes }, at) => {
    const index = indexOf(segments, scale);
    await writeFile(path.join(folder, name), Buffer.concat([init, index, ...segments.map(({ bytes }) => bytes)]));
    const last = init.length + index.length - 1;
    return `<AdaptationSet id="${at}" ${attributes[0]} subsegmentAlignment="true" subsegmentStartsWithSAP="1">${protection}
      <Representation id="${at}" ${attributes[1]}><BaseURL>${name}</BaseURL>
      <SegmentBase indexRange="${init.length}-${last}" timescale="${scale}"><Initialization range="0-${init.length - 1}"/></SegmentBase>
      </Representation></AdaptationSet>`;
  });
  await text(folder, "stream.mpd", [
    `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:cenc="urn:mpeg:cenc:2013" type="static"
      mediaPresentationDuration="PT16S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
      <Period start="PT0S">`,
    await Promise.all(sets),
    "</Period></MPD>\n",
  ]);
  return { playlist: "stream.mpd", media: /all-/ };
}

const VIDEO = [
  'contentType="video" mimeType="video/mp4"',
  'codecs="avc1.4d401f" bandwidth="260000" width="640" height="360"',
];
const AUDIO = [
  'contentType="audio" mimeType="audio/mp4" lang="en"',
  'codecs="mp4a.40.2" bandwidth="48608" audioSamplingRate="48000"',
];

/** DASH whose segments only the files' indexes name. */
export async function indexed(folder) {
  const tracks = [
    { name: "all-0.mp4", ...(await segmentsOf(0)), scale: 12800, attributes: VIDEO },
    { name: "all-2.mp4", ...(await segmentsOf(2)), scale: 48000, attributes: AUDIO },
  ];
  return await indexedFiles(folder, tracks);
}

/** DASH that is encrypted with a key for ClearKey (EME), in a file with an index. */
export async function clearKey(folder) {
  const { init, segments } = await segmentsOf(0);
  const encrypted = segments.map(({ bytes, duration }, at) => ({ bytes: encryptSegment(bytes, at), duration }));
  const uuid = CENC.kid.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  const protection = `
    <ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="cenc" cenc:default_KID="${uuid}"/>
    <ContentProtection schemeIdUri="urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e"/>`;
  const track = { name: "all-0.mp4", init: encryptInit(init), segments: encrypted, scale: 12800, attributes: VIDEO };
  return { ...(await indexedFiles(folder, [track], protection)), ciphertext: encrypted[5].bytes.subarray(-64) };
}

/** HLS of MPEG-TS, encrypted whole with AES-128. `plaintext` and `ciphertext` are pieces of one segment. */
export async function aes128(folder) {
  const key = randomBytes(16);
  const iv = randomBytes(16);
  await writeFile(path.join(folder, "secret.key"), key);
  const lines = [`#EXT-X-KEY:METHOD=AES-128,URI="secret.key",IV=0x${iv.toString("hex")}`];
  const found = {};
  for (let at = 0; at < 5; at += 1) {
    const name = `seg-00${at}.ts`;
    const plain = await readFile(path.join(TS, name));
    const cipher = createCipheriv("aes-128-cbc", key, iv);
    const encrypted = Buffer.concat([cipher.update(plain), cipher.final()]);
    await writeFile(path.join(folder, name), encrypted);
    lines.push("#EXTINF:4.0,", name);
    if (at === 3)
      Object.assign(found, { plaintext: plain.subarray(5000, 5064), ciphertext: encrypted.subarray(5000, 5064) });
  }
  await text(folder, "media_0.m3u8", [HEAD, lines, END]);
  return { playlist: "media_0.m3u8", media: /seg-/, key, ...found };
}

/** Two languages of sound, of which the second is not the usual one. */
export async function alternateAudio(folder) {
  await mkdir(path.join(folder, "en"));
  await text(folder, "media_0.m3u8", [HEAD, await copyTrack(folder, 0), END]);
  await text(folder, "media_2.m3u8", [HEAD, await copyTrack(folder, 2), END]);
  await text(folder, "en/media_2.m3u8", [HEAD, await copyTrack(path.join(folder, "en"), 2), END]);
  const language = (code, usual, url) =>
    `TYPE=AUDIO,GROUP-ID="g",NAME="${code}",LANGUAGE="${code}",AUTOSELECT=YES,DEFAULT=${usual},URI="${url}"`;
  const languages = [language("de", "YES", "media_2.m3u8"), language("en", "NO", "en/media_2.m3u8")];
  await text(folder, "master.m3u8", master(...languages));
  return { playlist: "master.m3u8", media: /seg-/ };
}

/** A rendition of subtitles, in segments of WebVTT. */
export async function subtitles(folder) {
  await text(folder, "media_0.m3u8", [HEAD, await copyTrack(folder, 0), END]);
  const lines = [];
  for (let at = 0; at < COUNT; at += 1) {
    const time = (seconds) => `00:00:${String(seconds).padStart(2, "0")}.000`;
    const cue = [`${time(at * 2)} --> ${time(at * 2 + 2)}`, `line ${at}`, ""];
    await text(folder, `words-${at}.vtt`, ["WEBVTT", "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000", "", ...cue]);
    lines.push("#EXTINF:2.0,", `words-${at}.vtt`);
  }
  await text(folder, "words.m3u8", [HEAD, lines, END]);
  const track = 'TYPE=SUBTITLES,GROUP-ID="g",NAME="en",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="words.m3u8"';
  await text(folder, "master.m3u8", master(track));
  return { playlist: "master.m3u8", media: /seg-/ };
}

/** Four segments, an advertisement of another size from `adHost`, and four more. */
export async function advertisement(folder, adHost) {
  await mkdir(path.join(folder, "ads"));
  const before = await copyTrack(folder, 0, "", [1, 3]);
  const ad = await copyTrack(path.join(folder, "ads"), 1, `${adHost}/ads/`, [9, 11]);
  const after = await copyTrack(folder, 0, "", [4, 6]);
  await text(folder, "media_0.m3u8", [HEAD, before, "#EXT-X-DISCONTINUITY", ad, "#EXT-X-DISCONTINUITY", after, END]);
  return { playlist: "media_0.m3u8", media: /seg-/ };
}

/** The beginning of the CMAF stream without its sound, as HLS and as DASH. */
export async function plain(folder) {
  await text(folder, "media_0.m3u8", [HEAD, await copyTrack(folder, 0), END]);
  await text(folder, "stream.mpd", [
    `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT16S"
      minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period start="PT0S">
      <AdaptationSet ${VIDEO[0]}><Representation id="0" ${VIDEO[1]}>
      <SegmentTemplate timescale="12800" duration="25600" startNumber="1" initialization="init-0.mp4"
        media="seg-0-$Number%03d$.m4s"/></Representation></AdaptationSet></Period></MPD>\n`,
  ]);
  return { playlist: "media_0.m3u8", media: /seg-/ };
}

/** Two periods of eight seconds, as a programme and what follows it: each counts its segments, and its time, from anew. */
export async function periods(folder) {
  for (const track of [0, 2]) await copyTrack(folder, track);
  const AUDIO = [
    'contentType="audio"',
    'mimeType="audio/mp4" codecs="mp4a.40.2" bandwidth="48608" audioSamplingRate="48000"',
  ];
  const half = COUNT / 2;
  const set = (track, scale, [kind, format], first) => `<AdaptationSet ${kind} segmentAlignment="true">
    <Representation id="${track}" ${format}><SegmentTemplate timescale="${scale}" duration="${2 * scale}"
      startNumber="${first}" presentationTimeOffset="${(first - 1) * 2 * scale}" initialization="init-${track}.mp4"
      media="seg-${track}-$Number%03d$.m4s"/></Representation></AdaptationSet>`;
  const period = (at) => `<Period id="p${at}" start="PT${2 * half * at}S" duration="PT${2 * half}S">
    ${set(0, 12800, VIDEO, 1 + half * at)}${set(2, 48000, AUDIO, 1 + half * at)}</Period>`;
  await text(folder, "stream.mpd", [
    `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT16S"
      minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011">${period(0)}${period(1)}</MPD>\n`,
  ]);
  return { playlist: "stream.mpd", media: /seg-/ };
}

/** The manifest of a live broadcast that began at `startAt`, in ms since the epoch, which segments of 2 s of the tests' half minute make up. */
export function liveManifest(startAt) {
  const at = (ms) => new Date(ms).toISOString();
  return `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT2S"
    availabilityStartTime="${at(startAt)}" publishTime="${at(Date.now())}" suggestedPresentationDelay="PT6S"
    timeShiftBufferDepth="PT16S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period start="PT0S">
    <AdaptationSet ${VIDEO[0]} segmentAlignment="true"><Representation id="0" ${VIDEO[1]}><SegmentTemplate
      timescale="12800" duration="25600" startNumber="1" initialization="init-0.mp4" media="seg-0-$Number%03d$.m4s"/>
    </Representation></AdaptationSet></Period>
    <UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="${at(Date.now())}"/></MPD>\n`;
}

/** A segment of that broadcast, by its number: the files' timestamps go on where the half minute begins anew. */
export async function liveSegment(number) {
  const [loop, place] = [Math.floor((number - 1) / LOOP), (number - 1) % LOOP];
  const bytes = await readFile(path.join(CMAF, segmentName(0, place + 1)));
  // Where in each box its time stands, which is 64 bits long in boxes of version 1.
  for (const [box, at] of [
    ["sidx", 16],
    ["tfdt", 8],
  ]) {
    const found = bytes.indexOf(box);
    if (found === -1) continue;
    if (bytes[found + 4] !== 1) throw new Error(`${box} of version ${bytes[found + 4]}`);
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(found + at) + BigInt(loop * LOOP * 25_600), found + at);
  }
  return bytes;
}

/**
 * Content alone in media_0.m3u8, and what a server of advertisements makes of it for each viewer: `lists` are its playlists,
 * in each of which a break is of another length, so that what follows it has other numbers.
 */
export async function adsOfTheirOwn(folder) {
  const before = await copyTrack(folder, 0, "", [1, 3]);
  const after = await copyTrack(folder, 0, "", [4, COUNT]);
  await text(folder, "media_0.m3u8", [HEAD, before, after.slice(1), END]);
  const lists = [];
  const cut = "#EXT-X-DISCONTINUITY";
  for (const [name, range] of [
    ["one", [9, 9]],
    ["other", [11, 13]],
  ]) {
    await mkdir(path.join(folder, name));
    const ad = await copyTrack(path.join(folder, name), 1, `${name}/`, range);
    lists.push([HEAD, before, cut, ad, cut, after, END].flat().join("\n"));
  }
  return { playlist: "media_0.m3u8", media: /seg-0-/, lists };
}
