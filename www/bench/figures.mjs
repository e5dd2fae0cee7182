// From what was seen in a run to its figures. Pure.

export const median = (values) => {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return NaN;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

const sum = (values) => [...values].reduce((total, value) => total + value, 0);

/** Copies of these segments in what was sent: bytes sent by bytes that they have. */
function copiesOf(names, sent, sizes) {
  return sum(names.map((name) => sent.get(name) ?? 0)) / sum(names.map((name) => sizes.get(name)));
}

/**
 * Copies a segment that left the origin, the catalogue's bytes included: in the whole run, and of what was new after the
 * last viewer had joined.
 *
 * `joined` and `ended` are what had been sent at those moments. `fresh` names the segments that count as new, where the
 * stream is live: those that were published after the last join and early enough for everyone to load them; otherwise
 * they are those that nobody had asked for by then.
 */
export function copies({ joined, ended, sizes, fresh }) {
  const asked = [...ended.segments.keys()];
  const whole = copiesOf(asked, ended.segments, sizes) + ended.catalogue / sum(asked.map((name) => sizes.get(name)));
  const names = fresh?.names ?? asked.filter((name) => !joined.segments.has(name));
  if (names.length === 0) return { whole, after: NaN, segments: asked.length };
  const published = sum((fresh?.all ?? names).map((name) => sizes.get(name)));
  const after = copiesOf(names, ended.segments, sizes) + (ended.catalogue - joined.catalogue) / published;
  return { whole, after, catalogue: ended.catalogue, segments: asked.length };
}

/** Why a run is no result, or `undefined`. */
export function failureOf(kind, reports) {
  const idle = reports.filter(({ startupMs }) => !(startupMs > 0)).length;
  if (idle > 0) return `${idle} of ${reports.length} viewers never began to play`;
  const errors = reports.flatMap((report) => report.errors);
  if (errors.length > 0) return `fatal errors: ${errors.join(", ")}`;
  const fromPeers = sum(reports.map(({ bytes }) => bytes.viewers + bytes.seed));
  if (kind !== "http" && reports.length > 1 && fromPeers === 0) return "no byte came from a peer";
  return undefined;
}

/** A run's figures. */
export function figuresOf({ kind, reports, counted, cpuSeconds, viewerSeconds, behind }) {
  const bytes = (source) => sum(reports.map((report) => report.bytes[source]));
  const total = bytes("http") + bytes("seed") + bytes("viewers");
  return {
    kind,
    failure: failureOf(kind, reports),
    copies: counted.whole,
    copiesAfter: counted.after,
    startupMs: median(reports.map((report) => report.startupMs)),
    startups: reports.map((report) => Math.round(report.startupMs)),
    stalls: sum(reports.map((report) => report.stalls)),
    stallMs: sum(reports.map((report) => report.stallMs)),
    behindS: median(behind),
    cpu: cpuSeconds / viewerSeconds,
    shares: { http: bytes("http") / total, seed: bytes("seed") / total, viewers: bytes("viewers") / total },
    megabytes: total / 1e6,
    catalogueKb: counted.catalogue / 1000,
  };
}

/** Several runs of one kind as one: the median of each figure, all of the stalls. */
export function merged(runs) {
  const pick = (name) => median(runs.map((run) => run[name]));
  return {
    ...runs[0],
    failure: runs.map((run) => run.failure).find((failure) => failure !== undefined),
    copies: pick("copies"),
    copiesAfter: pick("copiesAfter"),
    startupMs: pick("startupMs"),
    stalls: sum(runs.map((run) => run.stalls)),
    stallMs: sum(runs.map((run) => run.stallMs)),
    behindS: pick("behindS"),
    cpu: pick("cpu"),
    shares: Object.fromEntries(
      ["http", "seed", "viewers"].map((name) => [name, median(runs.map((run) => run.shares[name]))]),
    ),
    runs: runs.length,
  };
}

/** How often samples are drawn anew for an interval. */
const DRAWS = 2_000;

/**
 * Between what two values the ratio of two medians lies, nine times in ten: of samples drawn anew from those that there are.
 * @param {number[]} of
 * @param {number[]} against
 */
export function ratioInterval(of, against) {
  const drawn = (values) => values.map(() => values[Math.floor(Math.random() * values.length)]);
  const ratios = Array.from({ length: DRAWS }, () => median(drawn(of)) / median(drawn(against)));
  ratios.sort((a, b) => a - b);
  return [ratios[Math.floor(DRAWS * 0.05)], ratios[Math.floor(DRAWS * 0.95)]];
}

/** The rows of a bench: `{ name, value, unit, bar }`, each at most its bar, of what was run and did not fail. */
export function rowsOf({ live, vod, seed }) {
  const rows = [];
  const atMost = (name, value, unit, bar) =>
    rows.push({ name, value: Number.isFinite(value) ? value : null, unit, bar });
  const ratio = (results, name) => results.headwater[name] / results.http[name];
  const compared = (results) => results?.headwater && results.http;
  for (const [name, results] of Object.entries({ live, vod, "live with a seed": seed })) {
    for (const [kind, { failure }] of Object.entries(results ?? {})) {
      if (failure !== undefined) atMost(`${name}: ${kind} did not work (${failure})`, 1, "failures", 0);
    }
  }
  if (live?.headwater) atMost("live: copies after the last join", live.headwater.copiesAfter, "copies", 1.15);
  if (compared(live)) atMost("live: start-up against HTTP only", ratio(live, "startupMs"), "x", 1.05);
  if (vod?.headwater) atMost("VOD: copies", vod.headwater.copies, "copies", 1.1);
  if (compared(vod)) atMost("VOD: start-up against HTTP only", ratio(vod, "startupMs"), "x", 1.05);
  if (compared(live)) atMost("live: CPU cores a viewer against HTTP only", ratio(live, "cpu"), "x", 1.1);
  if (compared(vod)) atMost("VOD: CPU cores a viewer against HTTP only", ratio(vod, "cpu"), "x", 1.1);
  if (live?.headwater) atMost("live: stalls", live.headwater.stalls, "stalls", 0);
  if (vod?.headwater) atMost("VOD: stalls", vod.headwater.stalls, "stalls", 0);
  if (seed?.headwater) {
    atMost(
      "live with a seed: viewers' copies from the origin after the last join",
      seed.headwater.copiesAfter,
      "copies",
      0.2,
    );
    atMost("live with a seed: stalls", seed.headwater.stalls, "stalls", 0);
  }
  return rows;
}
