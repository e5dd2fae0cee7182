// The settings of p2p-media-loader that did best here, found by trying; its defaults fetch every live segment everywhere.

export const TUNINGS = {
  /** At hls.js's own distance from the live edge. */
  live: {
    hls: { liveSyncDurationCount: 3 },
    core: { highDemandTimeWindow: 2, httpDownloadTimeWindow: 6, httpDownloadInitialTimeoutMs: 500 },
  },
  vod: {
    hls: {},
    core: { highDemandTimeWindow: 3, httpDownloadTimeWindow: 30, httpDownloadInitialTimeoutMs: 500 },
  },
};
