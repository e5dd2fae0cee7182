// Opens a page in N tabs of a Chromium without a window: more viewers for `cargo xtask demo --viewers N`.
//
//   CHROMIUM=path node www/origin/viewers.mjs URL N

import { chromium } from "playwright-core";

const [page, count] = [process.argv[2], Number(process.argv[3])];

/** Between two viewers, so that each finds the one before it ahead of itself. */
const STAGGER_MS = 3000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    // Root has no sandbox to offer, as in most containers.
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    "--autoplay-policy=no-user-gesture-required",
    // Tabs in the background play on.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--mute-audio",
  ],
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void browser.close());

for (let viewer = 1; viewer <= count && browser.isConnected(); viewer += 1) {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(page);
  await tab.evaluate(() => document.querySelector("headwater-video")?.video?.play());
  console.log(`viewer ${viewer} of ${count} is watching`);
  await new Promise((resolve) => setTimeout(resolve, STAGGER_MS));
}
