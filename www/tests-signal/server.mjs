// Starts headwater-signal on a free port for a test.

import { spawn } from "node:child_process";
import path from "node:path";

const TARGET = path.resolve(import.meta.dirname, "../../target/debug");
const BINARY = process.env.HEADWATER_SIGNAL_BIN ?? path.join(TARGET, "headwater-signal");

/** How long the server may take to say that it listens. */
const READY_WITHIN_MS = 20_000;

/** A running server: its address, its WebTorrent URL, and how to stop it. */
export async function startServer(args = []) {
  const child = spawn(BINARY, ["--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (log = (log + text).slice(-20_000)));
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const address = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not ready in time\n${log}`)), READY_WITHIN_MS);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`ended with ${code}\n${log}`)));
    child.stdout.setEncoding("utf8").on("data", (text) => {
      const found = /listening on https?:\/\/(\S+)/.exec(text);
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    });
  });
  const stop = async () => {
    child.kill("SIGTERM");
    return exited;
  };
  return { address, tracker: `ws://${address}/announce`, stop, log: () => log };
}

/** Rejects when something that must happen does not. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
