// Real Chromium pages as viewers of the bench: JSON lines in, JSON lines out.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../../www/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const page = await (await browser.newContext()).newPage();
await page.exposeFunction("say", say);

await page.evaluate(() => {
  const viewers = new Map();
  window.order = {
    connect({ id }) {
      const connection = new RTCPeerConnection();
      const channel = connection.createDataChannel("headwater", { negotiated: true, id: 0 });
      channel.binaryType = "arraybuffer";
      const viewer = { connection, bytes: 0, last: 0, gap: 0 };
      viewers.set(id, viewer);
      channel.onopen = () => window.say({ is: "open", id });
      channel.onclose = () => window.say({ is: "closed", id });
      channel.onmessage = ({ data }) => {
        const now = performance.now();
        if (viewer.last) viewer.gap = Math.max(viewer.gap, now - viewer.last);
        viewer.last = now;
        viewer.bytes += data.byteLength;
      };
      connection.onicecandidate = ({ candidate }) => {
        if (!candidate) return;
        const { candidate: line, sdpMid, sdpMLineIndex } = candidate;
        const data = { kind: "candidate", candidate: line, sdp_mid: sdpMid, sdp_m_line_index: sdpMLineIndex };
        window.say({ is: "signal", id, data });
      };
    },
    async signal({ id, data }) {
      const viewer = viewers.get(id);
      if (!viewer) return;
      const { connection } = viewer;
      if (data.kind === "offer") {
        await connection.setRemoteDescription({ type: "offer", sdp: data.sdp });
        await connection.setLocalDescription();
        window.say({ is: "signal", id, data: { kind: "answer", sdp: connection.localDescription.sdp } });
      } else if (data.candidate) {
        await connection.addIceCandidate({ candidate: data.candidate, sdpMLineIndex: 0 });
      }
    },
    close({ id }) {
      viewers.get(id)?.connection.close();
      viewers.delete(id);
    },
    async baseline({ seconds }) {
      const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
      from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
      to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
      const [out, into] = [from, to].map((c) => c.createDataChannel("b", { negotiated: true, id: 0 }));
      let bytes = 0;
      into.onmessage = ({ data }) => (bytes += data.byteLength);
      into.binaryType = "arraybuffer";
      const piece = new Uint8Array(65_000);
      out.bufferedAmountLowThreshold = 512 * 1024;
      const fill = () => {
        while (out.readyState === "open" && out.bufferedAmount < 1024 * 1024) out.send(piece);
      };
      out.onopen = fill;
      out.onbufferedamountlow = fill;
      await from.setLocalDescription();
      await to.setRemoteDescription(from.localDescription);
      await to.setLocalDescription();
      await from.setRemoteDescription(to.localDescription);
      await new Promise((done) => setTimeout(done, 1500));
      const [began, before] = [performance.now(), bytes];
      await new Promise((done) => setTimeout(done, seconds * 1000));
      const rate = ((bytes - before) / (performance.now() - began)) * 1000;
      from.close();
      to.close();
      window.say({ is: "baseline", rate });
    },
  };
  setInterval(() => {
    for (const [id, viewer] of viewers) {
      if (!viewer.last) continue;
      const gap = Math.max(viewer.gap, performance.now() - viewer.last);
      window.say({ is: "bytes", id, bytes: viewer.bytes, gap_ms: gap });
      viewer.bytes = 0;
      viewer.gap = 0;
    }
  }, 100);
});

// One after the other: candidates must not overtake the description that they belong to.
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  await page.evaluate((given) => window.order[given.do](given), order);
}
await browser.close();
