// Viewers of a live stream that came one after the other, all of whom play.

import { setTimeout as sleep } from "node:timers/promises";

import { openStage } from "../stage.mjs";
import { startViewers } from "../viewers.mjs";

/** Of the stream; more than what is measured takes. */
const SECONDS = 130;

/**
 * What `look` gives of a browser in which so many viewers of a kind play, `every` milliseconds between their joins. `prepare`
 * comes before the first of them; pages are told what is `more`.
 */
export async function watching({ kind, media, viewers, every, prepare, more }, look) {
  const stage = await openStage({ media, live: true, seconds: SECONDS, signed: kind === "headwater" });
  const browser = await startViewers(viewers);
  const told = { src: stage.src, signal: stage.signal.url, key: stage.key.public, ...more };
  try {
    await prepare?.(browser);
    for (const viewer of browser.viewers) {
      await browser.open(viewer, kind, told);
      await sleep(every);
    }
    await browser.all("everyone plays", ({ firstFrameMs }) => firstFrameMs > 0);
    return await look(browser);
  } finally {
    await browser.close();
    await stage.close();
  }
}
