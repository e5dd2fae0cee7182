// The settings of p2p-media-loader that did best here, found by trying; its defaults fetch every live segment everywhere.

export const TUNINGS = {
  /** At hls.js's own distance from the live edge. With a longer window more is fetched twice. */
  live: {
    hls: { liveSyncDurationCount: 3 },
    core: { highDemandTimeWindow: 0.8, httpDownloadInitialTimeoutMs: 500 },
  },
  vod: {
    hls: {},
    core: { highDemandTimeWindow: 3, httpDownloadTimeWindow: 30, httpDownloadInitialTimeoutMs: 500 },
  },
};
