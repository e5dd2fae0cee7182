// The browsers that tests run in: `open(scripts)` gives a page in a context of its own, in which `scripts` run before all else.

import { chromium as playwright } from "playwright-core";
import puppeteer from "puppeteer-core";

/** Without the last one, host candidates are mDNS names that nothing on a test machine resolves. */
export const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

/** Pages write here what a failed test shows. */
function listen(page) {
  const messages = [];
  page.on("console", (message) => messages.push(message.text()));
  page.on("pageerror", (error) => messages.push(`page error: ${error.message}`));
  return messages;
}

/** What a browser is for the tests: `context` opens a new one, `prepare` has a page run a script before all else. */
function engine(browser, context, prepare) {
  return {
    async open(scripts) {
      const own = await context();
      const page = await own.newPage();
      const messages = listen(page);
      for (const script of scripts) await prepare(page, script);
      return { page, messages, close: () => own.close() };
    },
    close: () => browser.close(),
  };
}

/** Headless Chromium, over its own protocol; `flags` besides those that all have. */
export async function chromium(flags = []) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const args = [...FLAGS, ...flags];
  const browser = await playwright.launch({ executablePath, args, ignoreDefaultArgs: ["--mute-audio"] });
  return engine(
    browser,
    () => browser.newContext(),
    (page, script) => page.addInitScript(script),
  );
}

/** Chromium in a network that lets no UDP through: it opens no UDP socket for WebRTC, not even to a relay. */
export async function chromiumWithoutUdp() {
  return await chromium(["--webrtc-ip-handling-policy=disable_non_proxied_udp"]);
}

/** Host candidates are mDNS names without the first two, which nothing on a test machine resolves. */
const FIREFOX_PREFERENCES = {
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  "media.peerconnection.ice.loopback": true,
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
};

/** Headless Firefox, over WebDriver BiDi. */
export async function firefox() {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: FIREFOX_PREFERENCES,
  });
  return engine(
    browser,
    () => browser.createBrowserContext(),
    (page, script) => page.evaluateOnNewDocument(script),
  );
}

/** What puppeteer and `FLAGS` ask of Chromium that no viewer's browser is asked for. */
const FORGIVING = [
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

/**
 * Chromium as a viewer has it: pages are tabs of one window, of which one is in front; the timers of the others are slowed
 * down; a page that is left is kept for going back; only what is muted plays by itself.
 */
export async function tabs() {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [...FLAGS.filter((flag) => !FORGIVING.includes(flag)), "--autoplay-policy=document-user-activation-required"],
    ignoreDefaultArgs: ["--disable-back-forward-cache", "--mute-audio", ...FORGIVING],
  });
  return {
    async open(scripts) {
      const page = await browser.newPage();
      const messages = listen(page);
      for (const script of scripts) await page.evaluateOnNewDocument(script);
      return { page, messages, close: () => page.close() };
    },
    close: () => browser.close(),
  };
}
