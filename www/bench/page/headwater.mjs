// hls.js with Headwater as a page would have it: no option but the server and the key.

import { hls, statsOf } from "/headwater.js";
import Hls from "/hls.mjs";
import { bench, told } from "/bench/watch.mjs";

const player = new Hls(hls({ signal: told.signal, key: told.key }));
bench.bytes = () => {
  const { httpBytes, seedBytes, viewerBytes } = statsOf(player);
  return { http: httpBytes, seed: seedBytes, viewers: viewerBytes };
};
bench.details = () => statsOf(player);
bench.play(player, told.src);
