// hls.js with p2p-media-loader, by the settings in the address.

import { HlsJsP2PEngine } from "/p2pml/p2p-media-loader-hlsjs.es.min.js";
import Hls from "/hls.mjs";
import { bench, told } from "/bench/watch.mjs";

const settings = JSON.parse(told.settings);
const got = { http: 0, seed: 0, viewers: 0 };
const peers = new Set();
const Player = HlsJsP2PEngine.injectMixin(Hls);
const player = new Player({
  ...settings.hls,
  p2p: {
    core: { ...settings.core, announceTrackers: [told.tracker], rtcConfig: { iceServers: [] } },
    onHlsJsCreated({ p2pEngine }) {
      p2pEngine.addEventListener("onChunkDownloaded", (bytes, source) => {
        got[source === "p2p" ? "viewers" : "http"] += bytes;
      });
      p2pEngine.addEventListener("onPeerConnect", ({ peerId }) => peers.add(peerId));
    },
  },
});
bench.bytes = () => got;
bench.details = () => ({ neighbours: peers.size });
bench.play(player, told.src);
