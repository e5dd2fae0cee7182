// Runs one test binary compiled to wasm32-wasip1: node wasi-test.mjs TEST.wasm REPOSITORY PACKAGE_FOLDER [test arguments]
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file, repository, packageFolder, ...rest] = process.argv.slice(2);
const wasi = new WASI({
  version: "preview1",
  args: [file, ...rest],
  env: {
    CARGO_MANIFEST_DIR: packageFolder,
    ...pick(process.env, /^PROPTEST_/),
  },
  // Tests may read their vectors, by the absolute path of compile time or relative to their package.
  preopens: { [repository]: repository, ".": packageFolder },
});
const instance = await WebAssembly.instantiate(
  await WebAssembly.compile(await readFile(file)),
  wasi.getImportObject(),
);
try {
  process.exitCode = wasi.start(instance);
} catch (error) {
  // A failed test panics, and a panic on this target ends the run with a trap.
  console.error(`the run ended early: ${error.message}`);
  process.exitCode = 101;
}

function pick(variables, pattern) {
  return Object.fromEntries(
    Object.entries(variables).filter(([name]) => pattern.test(name)),
  );
}
