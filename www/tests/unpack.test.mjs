// The client's WASM on its way: packed by www/pack.mjs, put together again by the player.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";

import binaryen from "binaryen";
import { build } from "esbuild";

import { pack } from "../pack.mjs";
import { DIST } from "./harness/servers.mjs";

const WWW = path.resolve(import.meta.dirname, "..");

async function unpacker() {
  const entryPoints = [path.join(WWW, "player/src/client/unpack.ts")];
  const [{ text }] = (await build({ entryPoints, bundle: true, format: "esm", write: false })).outputFiles;
  return (await import(`data:text/javascript,${encodeURIComponent(text)}`)).unpack;
}

/** Every kind of instruction that the packer tells apart, in a function whose result says whether all came through. */
const EVERYTHING = `(module
  (memory 1)
  (data $passive "\\07\\00\\00\\00")
  (table $table 4 funcref)
  (elem (table $table) (i32.const 1) func $double)
  (type $unary (func (param i32) (result i32)))
  (global $global (mut i32) (i32.const 5))
  (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "run") (param $n i32) (result f64) (local $sum i32) (local $wide i64) (local $half f32)
    (memory.init $passive (i32.const 1024) (i32.const 0) (i32.const 4))
    (data.drop $passive)
    (memory.fill (i32.const 16) (i32.const 1) (i32.const 200))
    (memory.copy (i32.const 300) (i32.const 16) (i32.const 8))
    (local.set $sum (i32.load offset=1000 align=2 (i32.const 24)))
    (block $out
      (block $two
        (block $one (br_table $one $two $out (local.get $n)))
        (local.set $sum (i32.add (local.get $sum) (i32.const 100))))
      (local.set $sum (i32.add (local.get $sum) (i32.const -100000))))
    (loop $again
      (global.set $global (i32.sub (global.get $global) (i32.const 1)))
      (local.set $sum (call_indirect $table (type $unary) (local.get $sum) (i32.const 1)))
      (br_if $again (global.get $global)))
    (local.set $wide (i64.load align=4 (i32.const 300)))
    (local.set $half (f32.const 0.5))
    (drop (memory.grow (i32.const 1)))
    (if (ref.is_null (table.get $table (i32.const 0)))
      (then (local.set $sum (i32.add (local.get $sum) (memory.size)))))
    (drop (select (result funcref) (ref.null func) (ref.func $double) (local.get $n)))
    (f64.add
      (f64.add (f64.convert_i32_s (call $double (local.get $sum))) (f64.const 0.125))
      (f64.add (f64.promote_f32 (local.get $half)) (f64.convert_i32_s
        (i32.add (i32.trunc_sat_f64_s (f64.const 1e300)) (i32.wrap_i64 (i64.shr_u (local.get $wide) (i64.const 50)))))))))`;

const run = async (module, n) => (await WebAssembly.instantiate(module)).instance.exports.run(n);

test("a module with every kind of instruction computes the same once it is packed and put together again", async () => {
  const unpack = await unpacker();
  const parsed = binaryen.parseText(EVERYTHING);
  const { BulkMemory, MutableGlobals, NontrappingFPToInt, ReferenceTypes, SignExt } = binaryen.Features;
  parsed.setFeatures(BulkMemory | MutableGlobals | NontrappingFPToInt | ReferenceTypes | SignExt);
  const module = parsed.emitBinary();
  const packed = pack(module);
  assert.ok(WebAssembly.validate(packed), "what is sent is a module itself, as its name and its type say");
  const again = unpack(packed);
  for (const n of [0, 1, 2]) assert.equal(await run(again, n), await run(module, n));
  assert.notEqual(await run(again, 0), await run(again, 1));
});

test("the client is put together from what the player loads as it was built", async () => {
  const unpack = await unpacker();
  const built = await readFile(path.join(WWW, "generated/headwater_client_bg.wasm"));
  const again = unpack(await readFile(path.join(DIST, "headwater_client_bg.wasm")));
  assert.ok(WebAssembly.validate(again));
  const [before, after] = [built, again].map((bytes) => new WebAssembly.Module(bytes));
  assert.deepEqual(WebAssembly.Module.exports(after), WebAssembly.Module.exports(before));
  assert.deepEqual(WebAssembly.Module.imports(after), WebAssembly.Module.imports(before));
  assert.ok(pack(again).equals(pack(built)));
});

test("a file that is cut off comes to an end", async () => {
  const unpack = await unpacker();
  const whole = await readFile(path.join(DIST, "headwater_client_bg.wasm"));
  assert.equal(WebAssembly.validate(unpack(whole.subarray(0, whole.length / 2))), false);
});
