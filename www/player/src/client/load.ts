// Loads the client's WASM, once a page.

import { initSync } from "#client";

import { unpack } from "./unpack.js";

/** A client that has not loaded after this is done without. */
const LOAD_WITHIN_MS = 8_000;

/** The hash of the module that this script was built with; put in by www/build.mjs. */
declare const WASM_INTEGRITY: string | undefined;

let loading: Promise<unknown> | undefined;

/** Loads the WASM; fails where it does not come in time. */
export function load(): Promise<unknown> {
  // A page that names the script's hash has named the module's with it.
  const integrity = typeof WASM_INTEGRITY === "string" ? { integrity: WASM_INTEGRITY } : {};
  const module = async () => {
    const response = await fetch(new URL("headwater_client_bg.wasm", import.meta.url), integrity);
    const file = new Uint8Array(await response.arrayBuffer());
    // Asynchronous in spite of its name and its type: www/glue.mjs.
    await Promise.resolve(initSync({ module: await WebAssembly.compile(unpack(file)) }));
  };
  loading ??= Promise.race([module(), late()]).catch((error: unknown) => {
    // The next player on the page may have more luck.
    loading = undefined;
    throw error;
  });
  return loading;
}

/** Fails when the WASM has not come for so long that playback should not wait for it any more. */
function late(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => {
      reject(new Error("the client did not load in time"));
    }, LOAD_WITHIN_MS);
  });
}
