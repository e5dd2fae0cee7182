// Bundles the web side into dist/: the player with the client's glue, hls.js, types, the demo and the dashboard, and .br/.gz beside them.
// `cargo xtask web` builds the WASM into generated/ first, and then calls this.
//
//   node build.mjs [--dev]

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

import { build } from "esbuild";
import { minify } from "terser";
import ts from "typescript";

import { slimGlue } from "./glue.mjs";
import { pack } from "./pack.mjs";

const WWW = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const DIST = path.join(WWW, "dist");
const ENTRY = path.join(WWW, "player/src/headwater.ts");

/** What most pages do not have: files of their own, beside the player, by the names of the package's entries. */
const MODULES = {
  shaka: "adapters/shaka",
  dashjs: "adapters/dashjs",
  videojs: "adapters/videojs",
  fetch: "adapters/fetch",
  stats: "stats",
};
const sourceOf = (module) => path.join(WWW, `player/src/${module}.ts`);
/** Folders of pages and of what they share: copied, and the scripts that pages name bundled. */
const PAGES = ["demo", "dashboard", "shared"];
const WASM = path.join(WWW, "generated/headwater_client_bg.wasm");
const NAMES = path.join(WWW, "generated/names.json");
const dev = process.argv.includes("--dev");

/** Below this a compressed copy saves no packet. */
const COMPRESS_FROM = 1024;

/** What compresses by itself already, and what npm would pack in every form. */
const INCOMPRESSIBLE = /\.(br|gz|md|png|jpg|webp|woff2)$/;

function fail(message) {
  console.error(`build.mjs: ${message}`);
  process.exit(1);
}

/** The files of this build: what else is found in dist/ afterwards is a leftover. */
const made = new Set([".mode"]);

/** Writes a file only where it changed, so that its compressed copies stay valid. */
async function put(name, bytes) {
  made.add(path.normalize(name));
  const file = path.join(DIST, name);
  const content = Buffer.from(bytes);
  if (existsSync(file) && (await readFile(file)).equals(content)) return;
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
}

const BROWSERS = {
  format: "esm",
  target: ["es2022", "chrome100", "firefox100", "safari15.4"],
  bundle: true,
  write: false,
  minify: !dev,
  sourcemap: dev ? "inline" : false,
  legalComments: "none",
  logLevel: "warning",
};

/** One bundled script. What esbuild leaves is looked at once more, which makes the download 4 % smaller. */
async function bundle(options) {
  const [{ text }] = (await build({ ...BROWSERS, ...options })).outputFiles;
  if (dev) return text;
  const compress = { ecma: 2022, keep_fargs: false, passes: 3, unsafe_arrows: true };
  const { code } = await minify(text, { ecma: 2022, module: true, compress, format: { comments: false } });
  if (code === undefined) fail("terser made nothing of a bundle");
  return code;
}

/** hls.js stays a file of its own: a page that has a player already never loads it. */
const hlsBeside = {
  name: "hls-beside",
  setup(bundler) {
    bundler.onResolve({ filter: /^hls\.js$/ }, () => ({ path: "./hls.mjs", external: true }));
  },
};

/** An adapter shares the page's one client with the element and with other adapters. */
const playerBeside = {
  name: "player-beside",
  setup(bundler) {
    bundler.onResolve({ filter: /^\.\.\/headwater\.js$/ }, () => ({ path: "./headwater.js", external: true }));
  },
};

const clientGlue = {
  name: "client-glue",
  setup(bundler) {
    bundler.onLoad({ filter: /headwater_client\.js$/ }, async ({ path: file }) => {
      const names = existsSync(NAMES) ? JSON.parse(await readFile(NAMES, "utf8")) : undefined;
      return { contents: slimGlue(await readFile(file, "utf8"), names) };
    });
  },
};

/** A hash as Subresource Integrity has it. */
function integrityOf(bytes) {
  return `sha384-${createHash("sha384").update(bytes).digest("base64")}`;
}

/** What a page may demand of each file, and dist/ as an npm package. */
async function npmPackage() {
  const { version } = JSON.parse(await readFile(path.join(WWW, "package.json"), "utf8"));
  const scripts = ["headwater.js", ...Object.keys(MODULES).map((name) => `headwater-${name}.js`)];
  const files = [...scripts, "hls.mjs", "headwater_client_bg.wasm"];
  const hashes = await Promise.all(
    files.map(async (name) => [name, integrityOf(await readFile(path.join(DIST, name)))]),
  );
  await put("sri.json", `${JSON.stringify(Object.fromEntries(hashes), undefined, 2)}\n`);
  const entry = (name) => ({ types: `./${name}.d.ts`, default: `./${name}.js` });
  const manifest = {
    name: "headwater-player",
    version,
    description: "Video that its viewers deliver to each other: <headwater-video>, and adapters for web players",
    license: "MIT OR Apache-2.0",
    repository: "github:headwater-p2p/headwater",
    type: "module",
    // The elements register themselves.
    sideEffects: ["./headwater.js", "./headwater-stats.js"],
    exports: {
      ".": entry("headwater"),
      "./hls": entry("headwater"),
      ...Object.fromEntries(Object.keys(MODULES).map((name) => [`./${name}`, entry(`headwater-${name}`)])),
      "./headwater_client_bg.wasm": "./headwater_client_bg.wasm",
      "./sri.json": "./sri.json",
      "./package.json": "./package.json",
    },
    files: [
      ...scripts,
      "*.d.ts",
      "types",
      "hls.mjs",
      "hls.LICENSE.txt",
      "headwater_client_bg.wasm",
      "sri.json",
      "README.md",
      "!**/*.br",
      "!**/*.gz",
    ],
    // Its types alone; the player brings its own.
    peerDependencies: { "hls.js": ">=1.6" },
    peerDependenciesMeta: { "hls.js": { optional: true } },
  };
  await put("package.json", `${JSON.stringify(manifest, undefined, 2)}\n`);
  await put("README.md", await readFile(path.join(WWW, "player/README.md")));
}

async function modules() {
  for (const [name, module] of Object.entries(MODULES)) {
    await put(`headwater-${name}.js`, await bundle({ entryPoints: [sourceOf(module)], plugins: [playerBeside] }));
  }
}

async function player() {
  if (!existsSync(ENTRY)) fail(`the player's entry www/player/src/headwater.ts does not exist: write it first`);
  if (!existsSync(WASM)) fail(`www/generated/headwater_client_bg.wasm does not exist: run \`cargo xtask web\``);
  const packed = pack(await readFile(WASM));
  const define = { WASM_INTEGRITY: JSON.stringify(integrityOf(packed)) };
  await put("headwater.js", await bundle({ entryPoints: [ENTRY], plugins: [hlsBeside, clientGlue], define }));
  await put("headwater_client_bg.wasm", packed);
}

async function hls() {
  const text = await readFile(path.join(WWW, "node_modules/hls.js/dist/hls.min.mjs"), "utf8");
  await put("hls.mjs", text.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "\n"));
  await put("hls.LICENSE.txt", await readFile(path.join(WWW, "node_modules/hls.js/LICENSE")));
}

/** Declarations of the player's modules in dist/types/, and headwater.d.ts that re-exports the entry's. */
async function types() {
  const root = path.join(WWW, "player/src");
  const { config } = ts.readConfigFile(path.join(WWW, "tsconfig.json"), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, WWW);
  const program = ts.createProgram([ENTRY, ...Object.values(MODULES).map(sourceOf)], {
    ...options,
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    // `cargo xtask test` checks types; here only declarations are wanted.
    noCheck: true,
    rootDir: root,
  });
  const emitted = new Map();
  program.emit(undefined, (name, text) => void emitted.set(path.relative(root, path.resolve(name)), text));
  // A name of this folder's own, which means nothing where the package is installed.
  const core = "client/core";
  const declared = await readFile(path.join(WWW, "generated/headwater_client.d.ts"), "utf8");
  // Which only the newest libraries declare.
  await put(`types/${core}.d.ts`, declared.replace(/^.*Symbol\.dispose.*\n/gm, ""));
  for (const [name, text] of emitted) {
    const here = path.posix.relative(path.posix.dirname(name), `${core}.js`);
    await put(path.join("types", name), text.replaceAll('"#client"', `"./${here}"`));
  }
  await put("headwater.d.ts", `export * from "./types/headwater.js";\n`);
  for (const [name, module] of Object.entries(MODULES)) {
    await put(`headwater-${name}.d.ts`, `export * from "./types/${module}.js";\n`);
  }
}

/** Copies a folder of pages; bundles its *.ts, in which the player is an import of "../headwater.js" at run time. */
async function pages(folder) {
  const from = path.join(WWW, folder);
  const entries = await readdir(from, { recursive: true, withFileTypes: true });
  const html = entries.filter(({ name }) => name.endsWith(".html"));
  const texts = await Promise.all(html.map(({ name }) => readFile(path.join(from, name), "utf8")));
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    const name = path.join(folder, path.relative(from, file));
    if (!name.endsWith(".ts")) {
      await put(name, await readFile(file));
      continue;
    }
    // What none of them names is part of another.
    if (!texts.some((text) => text.includes(`src="${entry.name.replace(/\.ts$/, ".js")}"`))) continue;
    const script = await bundle({ entryPoints: [file], external: ["../headwater.js"] });
    await put(name.replace(/\.ts$/, ".js"), script);
  }
}

const squeeze = {
  ".br": (bytes) =>
    promisify(brotliCompress)(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: dev ? 5 : 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  ".gz": (bytes) => promisify(gzip)(bytes, { level: 9 }),
};

/** Writes the compressed copies, and removes what is left of earlier builds. */
async function compress() {
  for (const name of await readdir(DIST, { recursive: true })) {
    const file = path.join(DIST, name);
    const info = await stat(file);
    if (!info.isFile()) continue;
    if (!made.has(name.replace(/\.(br|gz)$/, ""))) await rm(file);
    if (!made.has(name) || INCOMPRESSIBLE.test(name)) continue;
    for (const [suffix, compressor] of Object.entries(squeeze)) {
      const copy = file + suffix;
      if (info.size < COMPRESS_FROM) {
        await rm(copy, { force: true });
        continue;
      }
      const isFresh = existsSync(copy) && (await stat(copy)).mtimeMs >= info.mtimeMs;
      if (!isFresh) await writeFile(copy, await compressor(await readFile(file)));
    }
  }
}

/** A mode's compressed copies are not the other's. */
async function forgetOtherMode() {
  const marker = path.join(DIST, ".mode");
  const mode = dev ? "dev" : "release";
  const before = existsSync(marker) ? await readFile(marker, "utf8") : undefined;
  if (before !== mode) await rm(DIST, { recursive: true, force: true });
  await mkdir(DIST, { recursive: true });
  await writeFile(marker, mode);
}

await forgetOtherMode();
await Promise.all([player(), modules(), hls(), types(), ...PAGES.map(pages)]);
await npmPackage();
await compress();
