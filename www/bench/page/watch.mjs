// What every page of the bench measures of its own playback, whatever loads it: `window.bench`.

const video = document.querySelector("video");

/** With this much ahead, playback that stops waits for the decoder, not for data. */
const ENOUGH_S = 1;

const bench = {
  /** From the navigation to the first frame that moves. */
  startupMs: 0,
  /** From the navigation to the first frame that is shown. */
  firstFrameMs: 0,
  stalls: 0,
  stallMs: 0,
  errors: [],
  /** Bytes of segments by source. */
  bytes: () => ({ http: 0, seed: 0, viewers: 0 }),
  /** What else may explain a run. */
  details: () => ({}),
  player: undefined,
};
window.bench = bench;

let stalledAt = 0;
let sought = false;

function endStall() {
  if (stalledAt > 0) bench.stallMs += performance.now() - stalledAt;
  stalledAt = 0;
}

function ahead() {
  const { buffered, currentTime } = video;
  for (let at = 0; at < buffered.length; at += 1) {
    if (buffered.start(at) <= currentTime + 0.1 && buffered.end(at) > currentTime)
      return buffered.end(at) - currentTime;
  }
  return 0;
}

video.requestVideoFrameCallback?.((now) => {
  bench.firstFrameMs = now;
});
video.addEventListener("playing", () => {
  if (bench.startupMs === 0) bench.startupMs = performance.now();
  sought = false;
  endStall();
});
video.addEventListener("seeking", () => {
  sought = true;
  endStall();
});
video.addEventListener("waiting", () => {
  if (bench.startupMs === 0 || sought || video.ended || stalledAt > 0 || ahead() >= ENOUGH_S) return;
  bench.stalls += 1;
  stalledAt = performance.now();
});
video.addEventListener("ended", endStall);

/** What the page says when it is asked. */
bench.report = () => ({
  startupMs: bench.startupMs,
  firstFrameMs: bench.firstFrameMs,
  stalls: bench.stalls,
  stallMs: bench.stallMs + (stalledAt > 0 ? performance.now() - stalledAt : 0),
  errors: bench.errors,
  bytes: bench.bytes(),
  details: bench.details(),
  time: video.currentTime,
  ahead: ahead(),
  ended: video.ended,
  /** When what is shown now was on air, where the playlist says so. */
  shownAt: bench.player?.playingDate?.getTime() ?? null,
});

/** Plays a stream with a hls.js, whichever made it. */
bench.play = (player, src) => {
  bench.player = player;
  const { Events } = player.constructor;
  player.on(Events.ERROR, (_, { fatal, details }) => {
    if (fatal) bench.errors.push(details);
  });
  player.attachMedia(video);
  player.loadSource(src);
};

/** What the page was told in its address. */
export const told = Object.fromEntries(new URLSearchParams(location.search));
export { bench };
