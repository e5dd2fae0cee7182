// hls.js alone: what both others are held against.

import Hls from "/hls.mjs";
import { bench, told } from "/bench/watch.mjs";

const player = new Hls();
let http = 0;
player.on(Hls.Events.FRAG_LOADED, (_, { frag, payload }) => {
  if (frag.sn !== "initSegment") http += payload.byteLength;
});
bench.bytes = () => ({ http, seed: 0, viewers: 0 });
bench.play(player, told.src);
