// The client's glue, as wasm-bindgen writes it, made smaller: a third of it is for browsers, servers and uses that are not ours.

/** What is cut out of the glue and what comes in its place. Each has to be there: else wasm-bindgen has changed. */
const CUTS = [
  // The player fetches and compiles the module. Chromium before 115 instantiates none of this size but asynchronously.
  [
    /async function __wbg_load[\s\S]*$/,
    `export async function initSync({ module }) {
      const { exports } = await WebAssembly.instantiate(module, __wbg_get_imports());
      // A load that was given up may come after all, when another has taken its place.
      if (wasm) return;
      wasm = exports;
      wasm.__wbindgen_start();
    }`,
  ],
  [/function __wbg_finalize_init[\s\S]*?\n}\n/, ""],
  // The client is freed by its owner.
  [/const ClientFinalization[\s\S]*?;\n/, ""],
  [/ClientFinalization\.register.*\n/, ""],
  [/ClientFinalization\.unregister.*\n/, ""],
  [/if \(Symbol\.dispose\).*\n/, ""],
  // A few short strings a page.
  [/let cachedTextDecoder[\s\S]*?\n}\n/, "const decodeText = (bytes) => new TextDecoder().decode(bytes);\n"],
  [/if \(!\('encodeInto' in[\s\S]*?\n}\n/, ""],
  [
    /function passStringToWasm0[\s\S]*?\n}\n/,
    "const passStringToWasm0 = (arg, malloc) => passArray8ToWasm0(cachedTextEncoder.encode(arg), malloc);\n",
  ],
];

const MODULE = '"./headwater_client_bg.js"';

function replaced(text, what, by) {
  const found = typeof what === "string" ? text.includes(what) : what.test(text);
  if (!found) throw new Error(`the client's glue has no ${what}: has wasm-bindgen changed it? see www/glue.mjs`);
  return text.replace(what, by);
}

/** The glue, smaller; `names` is what `wasm-opt --minify-imports-and-exports-and-modules` says, where it was asked. */
export function slimGlue(glue, names) {
  const text = CUTS.reduce((rest, [what, by]) => replaced(rest, what, by), glue);
  if (!names) return text;
  const exported = new Map(names.exports);
  const renamed = text.replace(/\bwasm\.(\w+)/g, (_, name) => {
    if (!exported.has(name)) throw new Error(`the client exports no ${name}: see www/glue.mjs`);
    return `wasm.${exported.get(name)}`;
  });
  const imported = names.imports.reduce((rest, [, from, to]) => replaced(rest, `${from}:`, `${to}:`), renamed);
  return replaced(imported, MODULE, "a");
}
